//! The paths that a source file names. A reader of tokens, not of Rust: enough to tell code from
//! comments and strings, to open `use` groups, to follow inline modules and `#[cfg(test)]`.

/// What a file names and declares.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) named: Vec<Named>,
    /// Modules in files of their own: `mod name;`.
    pub(crate) declared: Vec<Declared>,
    /// There is code beside such declarations.
    pub(crate) has_items: bool,
    /// The line of a `#[path]` attribute: the module's file is not where its name says.
    pub(crate) moved: Option<usize>,
}

/// One path, a `use` group opened into its members.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    /// Inline modules around it.
    pub(crate) inside: Vec<String>,
    pub(crate) line: usize,
    /// Compiled for tests only.
    pub(crate) test: bool,
    /// `as` follows.
    pub(crate) renamed: bool,
}

#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) inside: Vec<String>,
    pub(crate) test: bool,
}

impl Source {
    pub(crate) fn parse(text: &str) -> Self {
        let mut tokens = tokens(text);
        mark_tests(&mut tokens);
        let mut reader = Reader { tokens: &tokens, found: Self::default(), blocks: Vec::new() };
        let mut at = 0;
        while at < tokens.len() {
            at = reader.step(at);
        }
        reader.found
    }
}

#[derive(Debug)]
struct Token {
    /// A word, or one character of punctuation (`::` is one token).
    text: String,
    line: usize,
    test: bool,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c == '_' || c.is_alphabetic())
    }
}

struct Reader<'a> {
    tokens: &'a [Token],
    found: Source,
    /// The open braces, with the name where one opens an inline module.
    blocks: Vec<Option<String>>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    fn inside(&self) -> Vec<String> {
        self.blocks.iter().flatten().cloned().collect()
    }

    /// Takes what starts at `at`; returns where the next thing starts.
    fn step(&mut self, at: usize) -> usize {
        if let Some(end) = attribute_end(self.tokens, at) {
            if self.tokens[at..end]
                .windows(2)
                .any(|two| two[0].text == "path" && two[1].text == "=")
            {
                self.found.moved = Some(self.tokens[at].line);
            }
            // an attribute is a path too: #[tokio::test]
            for inner in at..end {
                if self.starts_path(inner) {
                    self.path(inner, Vec::new());
                }
            }
            return end;
        }
        match self.text(at) {
            "mod" if self.text(at + 2) == ";" => {
                self.found.declared.push(Declared {
                    name: self.text(at + 1).to_owned(),
                    inside: self.inside(),
                    test: self.tokens[at].test,
                });
                return at + 3;
            }
            "mod" if self.text(at + 2) == "{" => {
                self.found.has_items = true;
                self.blocks.push(Some(self.text(at + 1).to_owned()));
                return at + 3;
            }
            "{" => self.blocks.push(None),
            "}" => {
                self.blocks.pop();
            }
            "pub" => return at + 1,
            "(" if at > 0 && self.text(at - 1) == "pub" => return self.after_visibility(at),
            _ if self.starts_path(at) => {
                self.found.has_items = true;
                return self.path(at, Vec::new());
            }
            _ => {}
        }
        self.found.has_items = true;
        at + 1
    }

    /// `(crate)`, `(super)`, `(in path)`: always an ancestor, so it names nobody else.
    fn after_visibility(&self, at: usize) -> usize {
        match self.text(at + 1) {
            "crate" | "super" | "self" | "in" => {
                (at..self.tokens.len()).find(|&i| self.text(i) == ")").map_or(at + 1, |end| end + 1)
            }
            _ => at + 1, // the field of a tuple struct
        }
    }

    fn starts_path(&self, at: usize) -> bool {
        if !self.tokens[at].is_word() || KEYWORDS.contains(&self.text(at)) {
            return false;
        }
        let before = |n: usize| at.checked_sub(n).map_or("", |i| self.text(i));
        match before(1) {
            // a field or a method, unless it is the end of a range
            "." => before(2) == ".",
            // the rest of a path, unless nothing stands before the `::`
            "::" => {
                let word = at.checked_sub(2).is_some_and(|i| self.tokens[i].is_word());
                !(word && !KEYWORDS.contains(&before(2)) || before(2) == ">")
            }
            _ => true,
        }
    }

    /// Takes a path or a tree of a `use`, below `path`; returns where it ends.
    fn path(&mut self, mut at: usize, mut path: Vec<String>) -> usize {
        let line = self.tokens[at].line;
        let test = self.tokens[at].test;
        if self.text(at) == "::" {
            at += 1;
        }
        loop {
            match self.text(at) {
                "{" => return self.group(at + 1, &path),
                "*" => path.push("*".to_owned()),
                _ => path.push(self.text(at).to_owned()),
            }
            at += 1;
            let more = self.tokens.get(at + 1).is_some_and(Token::is_word)
                || matches!(self.text(at + 1), "{" | "*");
            if self.text(at) != "::" || !more {
                break;
            }
            at += 1;
        }
        let renamed = self.text(at) == "as";
        self.found.named.push(Named { path, inside: self.inside(), line, test, renamed });
        at
    }

    fn group(&mut self, mut at: usize, path: &[String]) -> usize {
        while at < self.tokens.len() && self.text(at) != "}" {
            if self.text(at) == "as" {
                at += 2;
                continue;
            }
            let member = self.tokens[at].is_word() || matches!(self.text(at), "::" | "*" | "{");
            at = if member { self.path(at, path.to_vec()) } else { at + 1 };
        }
        at + 1
    }
}

/// Marks what `#[cfg(test)]` keeps out of the shipped build. A `cfg` with `not` in it is taken as
/// shipped: better one finding too many.
fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        let Some(end) = attribute_end(tokens, at) else {
            at += 1;
            continue;
        };
        let words: Vec<_> = tokens[at..end].iter().map(|token| token.text.as_str()).collect();
        let whole_file = words[1] == "!";
        let is_cfg = words.get(if whole_file { 3 } else { 2 }) == Some(&"cfg");
        if is_cfg && words.contains(&"test") && !words.contains(&"not") {
            let until = if whole_file { tokens.len() } else { item_end(tokens, end) };
            tokens[at..until].iter_mut().for_each(|token| token.test = true);
        }
        at = end;
    }
}

/// Behind the `]` of the attribute that starts at `at`, if one does.
fn attribute_end(tokens: &[Token], at: usize) -> Option<usize> {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let open = if text(at + 1) == "!" { at + 2 } else { at + 1 };
    if text(at) != "#" || text(open) != "[" {
        return None;
    }
    let mut depth = 0;
    for i in open..tokens.len() {
        match text(i) {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i + 1);
        }
    }
    None
}

/// Behind the item, statement, field or variant that starts at `at`, further attributes included.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while let Some(end) = attribute_end(tokens, at) {
        at = end;
    }
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let mut word = at;
    if text(word) == "pub" {
        word += 1;
        if text(word) == "(" {
            word = (word..tokens.len()).find(|&i| text(i) == ")").map_or(word, |i| i + 1);
        }
    }
    let ends_at_comma = !ITEM_WORDS.contains(&text(word));
    let mut depth = 0_usize;
    for i in at..tokens.len() {
        match text(i) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth == 0 => return i,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            "," if depth == 0 && ends_at_comma => return i + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest);
        let (token, after) = rest.split_at(length);
        let is_text = matches!(token.as_bytes(), [b'/', b'/' | b'*', ..]) || has_quote(token);
        if !first.is_whitespace() && !is_text {
            let word = token.strip_prefix("r#").unwrap_or(token);
            tokens.push(Token { text: word.to_owned(), line, test: false });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

fn has_quote(token: &str) -> bool {
    token.contains(['"', '\''])
}

/// The length in bytes of the token, comment, string or white space that `rest` starts with.
fn token_length(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with("::") {
        return 2;
    }
    if let Some(length) = string_length(rest) {
        return length;
    }
    if let Some(after) = rest.strip_prefix('\'') {
        return quote_length(after) + 1;
    }
    let raw = rest.strip_prefix("r#").unwrap_or(rest);
    let is_part = |c: char| c == '_' || c.is_alphanumeric();
    let word = raw.find(|c| !is_part(c)).unwrap_or(raw.len());
    if word > 0 {
        return rest.len() - raw.len() + word;
    }
    rest.chars().next().map_or(0, char::len_utf8)
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let step = match rest.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// `"…"`, `b"…"`, `c"…"`, `r"…"`, `r#"…"#` and the like.
fn string_length(rest: &str) -> Option<usize> {
    let prefix = ["", "b", "c", "r", "br", "cr"];
    let (before, after) = prefix.iter().find_map(|prefix| {
        let after = rest.strip_prefix(prefix)?;
        let fences = after.len() - after.trim_start_matches('#').len();
        let is_string = after[fences..].starts_with('"') && (fences == 0 || prefix.ends_with('r'));
        is_string.then_some((prefix.len() + fences + 1, &after[fences + 1..]))
    })?;
    let is_raw = rest[..before].contains('r');
    if is_raw {
        let close = format!("\"{}", "#".repeat(rest[..before].matches('#').count()));
        return Some(after.find(&close).map_or(rest.len(), |at| before + at + close.len()));
    }
    let mut escaped = false;
    let end = after.char_indices().find(|&(_, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    Some(end.map_or(rest.len(), |(at, _)| before + at + 1))
}

/// The length behind a `'`: of a character with its closing quote, or of a lifetime.
fn quote_length(after: &str) -> usize {
    let mut characters = after.char_indices();
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((_, escaped))) => {
            let skip = 1 + escaped.len_utf8();
            after[skip..].find('\'').map_or(after.len(), |at| skip + at + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => after.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(after.len()),
    }
}

/// What an item starts with; anything else behind a `#[cfg]` is a field, a variant or a statement.
const ITEM_WORDS: &[&str] = &[
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "macro_rules",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "union",
    "unsafe",
    "use",
];

/// Words that no path starts with.
const KEYWORDS: &[&str] = &[
    "as", "async", "await", "break", "const", "continue", "dyn", "else", "enum", "extern", "fn",
    "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref",
    "return", "static", "struct", "trait", "type", "unsafe", "use", "where", "while", "yield",
];
