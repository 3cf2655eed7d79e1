//! Changing the credentials file: by the tool, beside people's editors.
//!
//! It promises: comments and order stay; the file is at each moment the old or the new one, whole;
//! two tools do not undo each other's work; what the daemon would refuse is not written.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};
use zeroize::Zeroizing;

use super::credentials::{
    Credentials, IdentityRecord, IdentityTable, MAX_FILE_BYTES, SessionRecord, SessionTable,
};
use super::secret_file::read_secret;
use crate::config::schema::{Fields, Reload, Scalar, Tables, Visit};
use crate::config::{ConfigError, SessionName};

/// A credentials file that is being changed. Nobody else with an editor changes it meanwhile;
/// nothing is written before [`Editor::save`].
#[derive(Debug)]
pub struct Editor {
    path: PathBuf,
    /// Of the file that is there.
    old: Option<Owner>,
    document: DocumentMut,
    /// Holds the lock until it is closed.
    directory: File,
}

impl Editor {
    /// Opens the file at `path`, or an empty one when there is none, and waits at most `wait` for
    /// another editor to finish.
    ///
    /// # Errors
    /// [`EditError`]: also when the file is not one the daemon would load.
    pub fn open(path: &Path, wait: Duration) -> Result<Self, EditError> {
        // a rename would put a file in the place of a symbolic link, not of what it leads to
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(EditError::io("find", path, error)),
        };
        let directory = lock_directory_of(&path, wait)?;
        let (text, old) = match fs::metadata(&path) {
            Ok(metadata) => {
                let text = read_secret(&path, MAX_FILE_BYTES).map_err(EditError::Refused)?;
                let (user, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
                (text, Some(Owner { user, group, mode: mode & 0o777 }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (Zeroizing::new(HEADER.to_owned()), None)
            }
            Err(error) => return Err(EditError::io("read", &path, error)),
        };
        Credentials::parse(&text, &path).map_err(EditError::Refused)?;
        let document = text.parse().map_err(|_| EditError::inline("the file"))?;
        Ok(Self { path, old, document, directory })
    }

    /// Adds a session.
    ///
    /// # Errors
    /// [`EditError::AlreadyThere`].
    pub fn add_session(&mut self, session: &SessionRecord) -> Result<(), EditError> {
        let name = session.name.as_str();
        let list = self.list("session")?;
        if list.iter().any(|table| text_of(table, "name") == Some(name)) {
            return Err(EditError::AlreadyThere(format!("session {name}")));
        }
        self.push("session", &mut SessionTable::from(session))
    }

    /// Removes a session of this file and its identities; says how many those were.
    ///
    /// # Errors
    /// [`EditError::NotThere`].
    pub fn remove_session(&mut self, name: &SessionName) -> Result<usize, EditError> {
        let name = name.as_str();
        if self.remove("session", |table| text_of(table, "name") == Some(name))? == 0 {
            return Err(EditError::NotThere(format!("session {name}")));
        }
        self.remove("identity", |table| text_of(table, "session") == Some(name))
    }

    /// Adds an identity.
    ///
    /// # Errors
    /// [`EditError::AlreadyThere`].
    pub fn add_identity(&mut self, identity: &IdentityRecord) -> Result<(), EditError> {
        let (session, id) = (identity.session.as_str(), identity.id.as_str());
        let list = self.list("identity")?;
        if list.iter().any(|table| is_identity(table, session, id)) {
            return Err(EditError::AlreadyThere(format!("identity {id} of session {session}")));
        }
        self.push("identity", &mut IdentityTable::from(identity))
    }

    /// Puts `identity` in the place of the one of its session and name; what people wrote around it
    /// stays.
    ///
    /// # Errors
    /// [`EditError::NotThere`].
    pub fn replace_identity(&mut self, identity: &IdentityRecord) -> Result<(), EditError> {
        let (session, id) = (identity.session.as_str(), identity.id.as_str());
        let list = self.list("identity")?;
        let Some(table) = list.iter_mut().find(|table| is_identity(table, session, id)) else {
            return Err(EditError::NotThere(format!("identity {id} of session {session}")));
        };
        set_keys(table, &mut IdentityTable::from(identity));
        Ok(())
    }

    /// Removes an identity.
    ///
    /// # Errors
    /// [`EditError::NotThere`].
    pub fn remove_identity(&mut self, session: &str, id: &str) -> Result<(), EditError> {
        match self.remove("identity", |table| is_identity(table, session, id))? {
            0 => Err(EditError::NotThere(format!("identity {id} of session {session}"))),
            _ => Ok(()),
        }
    }

    /// Writes the file. A new one is for its owner alone (0600); an old one keeps owner and mode.
    ///
    /// # Errors
    /// [`EditError`]; the old file is then untouched.
    pub fn save(self) -> Result<(), EditError> {
        let text = Zeroizing::new(self.document.to_string());
        Credentials::parse(&text, &self.path).map_err(EditError::Refused)?;
        let beside = beside(&self.path);
        let written = self.write(&beside, &text).and_then(|()| fs::rename(&beside, &self.path));
        if let Err(error) = written {
            // what is left of a new file has secrets; where it was not made, none is left
            return Err(match fs::remove_file(&beside) {
                Err(left) if left.kind() != ErrorKind::NotFound => {
                    EditError::io("remove", &beside, left)
                }
                _ => EditError::io("write", &self.path, error),
            });
        }
        // without it the rename may be undone by a power cut, though the tool said it is done
        self.directory.sync_all().map_err(|error| EditError::io("sync", &self.path, error))
    }

    fn write(&self, beside: &Path, text: &str) -> io::Result<()> {
        match fs::remove_file(beside) {
            // of an editor that was killed: we have the lock, so nobody is writing it
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        if let Some(old) = &self.old {
            let now = file.metadata()?;
            if (now.uid(), now.gid()) != (old.user, old.group) {
                fchown(&file, Some(old.user), Some(old.group))?;
            }
            // after the owner: changing that may take permissions away
            file.set_permissions(Permissions::from_mode(old.mode))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    fn list(&mut self, key: &'static str) -> Result<&mut ArrayOfTables, EditError> {
        // `session = []` is an empty list of either kind
        let item = self.document.get(key).and_then(Item::as_array);
        if item.is_some_and(toml_edit::Array::is_empty) {
            self.document.remove(key);
        }
        let new_list = || Item::ArrayOfTables(ArrayOfTables::new());
        let item = self.document.entry(key).or_insert_with(new_list);
        item.as_array_of_tables_mut().ok_or_else(|| EditError::inline(key))
    }

    fn push(&mut self, key: &'static str, fields: &mut dyn Fields) -> Result<(), EditError> {
        let mut table = Table::new();
        set_keys(&mut table, fields);
        // in a file of nothing but comments they stand behind its last table, of which there is none
        if !self.document.iter().any(|(_, item)| !is_empty_list(item)) {
            let comments = self.document.trailing().as_str().unwrap_or_default().to_owned();
            self.document.set_trailing("");
            table.decor_mut().set_prefix(comments);
        }
        self.list(key)?.push(table);
        Ok(())
    }

    /// Removes the entries that `select` selects; says how many.
    fn remove(
        &mut self,
        key: &'static str,
        select: impl Fn(&Table) -> bool,
    ) -> Result<usize, EditError> {
        let list = self.list(key)?;
        let before = list.len();
        let mut kept_comments = Vec::new();
        for table in list.iter().filter(|table| select(table)) {
            let comment = detached_comment(table);
            if !comment.is_empty() {
                kept_comments.push((table.position(), comment));
            }
        }
        list.retain(|table| !select(table));
        let removed = before - list.len();
        if list.is_empty() {
            self.document.remove(key);
        }
        for (position, comment) in kept_comments.into_iter().rev() {
            self.put_before_next(position, &comment);
        }
        Ok(removed)
    }

    /// Puts `comment` before the first table after `position`, or at the end.
    fn put_before_next(&mut self, position: Option<isize>, comment: &str) {
        let lists = self.document.iter_mut().filter_map(|(_, item)| match item {
            Item::ArrayOfTables(list) => Some(list),
            _ => None,
        });
        let later =
            lists.flat_map(ArrayOfTables::iter_mut).filter(|table| table.position() > position);
        if let Some(table) = later.min_by_key(|table| table.position()) {
            let prefix = format!("{comment}{}", prefix_of(table));
            table.decor_mut().set_prefix(prefix);
            return;
        }
        let trailing = self.document.trailing().as_str().unwrap_or_default();
        let trailing = format!("{comment}{trailing}");
        self.document.set_trailing(trailing);
    }
}

/// Why a credentials file was not changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum EditError {
    /// The file, as it is or as it would become, is not one the daemon loads.
    Refused(ConfigError),
    /// Somebody else is changing it.
    Busy(PathBuf),
    /// The session or identity exists.
    AlreadyThere(String),
    /// The session or identity does not exist.
    NotThere(String),
    /// A list is written as `key = [{…}]`, where comments and order could not be kept.
    Inline(&'static str),
    /// The machine's fault.
    Io {
        /// What was tried: "read", "write".
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl EditError {
    fn io(doing: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), error }
    }

    const fn inline(key: &'static str) -> Self {
        Self::Inline(key)
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{error}"),
            Self::Busy(path) => {
                write!(f, "{}: somebody else is changing it; try again", path.display())
            }
            Self::AlreadyThere(what) => write!(f, "{what} exists already"),
            Self::NotThere(what) => write!(f, "there is no {what} in the file"),
            Self::Inline(key) => {
                write!(f, "{key} is written in one line; write [[{key}]] tables, or edit by hand")
            }
            Self::Io { doing, path, error } => {
                write!(f, "{}: cannot {doing}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for EditError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// To whom a file belongs and who may read it.
#[derive(Debug)]
struct Owner {
    user: u32,
    group: u32,
    mode: u32,
}

/// Locks the directory rather than the file, which each change replaces by another.
fn lock_directory_of(path: &Path, wait: Duration) -> Result<File, EditError> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let opened = File::open(directory).map_err(|error| EditError::io("open", directory, error))?;
    let begun = Instant::now();
    loop {
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(opened),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < wait => {
                // the tool has nothing else to do, and the lock no way to wait for it so long
                std::thread::park_timeout(TRY_AGAIN);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(EditError::Busy(path.to_owned())),
            Err(error) => return Err(EditError::io("lock", directory, error.into())),
        }
    }
}

/// Where the new file is written: in the same directory, so that renaming is one step.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn is_empty_list(item: &Item) -> bool {
    item.as_array_of_tables().is_some_and(ArrayOfTables::is_empty)
}

fn text_of<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str()
}

fn is_identity(table: &Table, session: &str, id: &str) -> bool {
    text_of(table, "session") == Some(session) && text_of(table, "id") == Some(id)
}

fn prefix_of(table: &Table) -> &str {
    table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default()
}

/// The comments before a table that do not belong to it: an empty line is between.
fn detached_comment(table: &Table) -> String {
    let prefix = prefix_of(table);
    let end = prefix.rfind("\n\n").map_or(0, |gap| gap + 1);
    let comment = &prefix[..end];
    if comment.contains('#') { comment.to_owned() } else { String::new() }
}

/// Sets the keys of `table` to what `fields` have, and removes those that are not set.
fn set_keys(table: &mut Table, fields: &mut dyn Fields) {
    fields.fields(&mut Setter(table));
}

struct Setter<'a>(&'a mut Table);

impl Visit for Setter<'_> {
    fn key(&mut self, name: &'static str, _: Reload, value: &mut dyn Scalar) {
        let text = value.toml().map(Zeroizing::new);
        let value = text
            .map(|text| text.parse::<toml_edit::Value>().expect("a value prints itself as TOML"));
        match (value, self.0.get_mut(name).and_then(Item::as_value_mut)) {
            (Some(new), Some(old)) => {
                // the comment behind the old value stays
                let decor = old.decor().clone();
                *old = new;
                *old.decor_mut() = decor;
            }
            (Some(new), None) => {
                self.0.insert(name, Item::Value(new));
            }
            (None, _) => {
                self.0.remove(name);
            }
        }
    }

    fn table(&mut self, _: &'static str, _: &mut dyn Fields) {}

    fn tables(&mut self, _: &'static str, _: Reload, _: &mut dyn Tables) {}
}

const HEADER: &str = "\
# Who may join which session of fastportd, and what they may do there.
# The format is in docs/credentials.md. This file has secrets: keep it at mode 0640 or 0600.

";
const TRY_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;
    use crate::config::TopicFilter;
    use crate::guard::{Credential, DeviceKey, FilterTemplate, IdentityName, PasswordHash};

    const FILE: &str = "\
# the house

# people
[[session]]
name = \"home\" # ours

# --- devices ---

# in the cellar
[[identity]] # replaced in May
session = \"home\"
id = \"pump\" # the big one
key = \"0000000000000000000000000000000000000000000000000000000000000000\" # old key
publish = [\"pump/#\"]

[[session]]
name = \"garden\"

[[identity]]
session = \"garden\"
id = \"pump\"
certificate_name = \"pump\"
# the end
";

    fn name(text: &str) -> SessionName {
        SessionName::parse(text).expect("tests use session names")
    }

    fn identity(session: &str, id: &str) -> IdentityRecord {
        let filter = |text| FilterTemplate::parse(text).expect("tests use filters");
        IdentityRecord {
            session: name(session),
            id: IdentityName::parse(id).expect("tests use names"),
            credential: Credential::Key(DeviceKey::from_hex(&"1".repeat(64)).expect("64 digits")),
            publish: vec![filter("sensors/%d/#")],
            subscribe: vec![],
            gateway: false,
        }
    }

    struct Place {
        _directory: tempfile::TempDir,
        path: PathBuf,
    }

    impl Place {
        fn empty() -> Self {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path().join("credentials.toml");
            Self { _directory: directory, path }
        }

        fn with(text: &str) -> Self {
            let place = Self::empty();
            fs::write(&place.path, text).expect("written");
            fs::set_permissions(&place.path, Permissions::from_mode(0o640)).expect("ours");
            place
        }

        fn open(&self) -> Editor {
            Editor::open(&self.path, Duration::ZERO).expect("nobody else has it")
        }

        fn edit(&self, edit: impl FnOnce(&mut Editor)) -> String {
            let mut editor = self.open();
            edit(&mut editor);
            editor.save().expect("what the tests write is accepted");
            fs::read_to_string(&self.path).expect("it was written")
        }

        fn mode(&self) -> u32 {
            fs::metadata(&self.path).expect("it is there").mode() & 0o777
        }
    }

    #[test]
    fn a_new_file_says_what_it_is_and_is_for_its_owner() {
        let place = Place::empty();
        let text = place.edit(|editor| {
            editor.add_session(&SessionRecord::closed(name("home"))).expect("new");
            editor.add_identity(&identity("home", "pump")).expect("new");
            editor.add_identity(&identity("home", "lamp")).expect("new");
        });
        let one = "1".repeat(64);
        let entry = |id| {
            format!(
                "[[identity]]\nsession = \"home\"\nid = \"{id}\"\nkey = \"{one}\"\n\
                 publish = [\"sensors/%d/#\"]\nsubscribe = []\n"
            )
        };
        let expected =
            format!("{HEADER}[[session]]\nname = \"home\"\n\n{}\n{}", entry("pump"), entry("lamp"));
        assert_eq!(text, expected);
        assert_eq!(place.mode(), 0o600);
        assert!(Credentials::load(&place.path).expect("ours").identity("home", "lamp").is_some());
    }

    #[test]
    fn a_gateway_is_written_as_one_and_read_as_one() {
        let place = Place::empty();
        let record = IdentityRecord { gateway: true, ..identity("home", "cellar") };
        let text = place.edit(|editor| editor.add_identity(&record).expect("new"));
        assert!(text.ends_with("subscribe = []\ngateway = true\n"), "{text}");
        let credentials = Credentials::load(&place.path).expect("ours");
        let rights = |id| credentials.identity("home", id).map(|of| of.rights.is_gateway());
        assert_eq!((rights("cellar"), rights("pump")), (Some(true), None));
    }

    #[test]
    fn nothing_edited_is_nothing_changed() {
        let place = Place::with(FILE);
        assert_eq!(place.edit(|_| {}), FILE);
        assert_eq!(place.mode(), 0o640);
    }

    #[test]
    fn a_replaced_credential_keeps_the_comments_around_it() {
        let place = Place::with(FILE);
        let hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\
                    $nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let mut record = identity("home", "pump");
        let key = FILE.replace(&"0".repeat(64), &"1".repeat(64));
        let key = key.replace("pump/#\"]", "sensors/%d/#\"]\nsubscribe = []");
        let text = place.edit(|editor| editor.replace_identity(&record).expect("it is there"));
        assert_eq!(text, key);
        record.credential = Credential::Password(PasswordHash::parse(hash).expect("a hash"));
        let text = place.edit(|editor| editor.replace_identity(&record).expect("it is there"));
        assert!(!text.contains("key ="), "{text}");
        assert!(text.contains(&format!("password = \"{hash}\"")), "{text}");
        assert!(text.contains("id = \"pump\" # the big one"), "{text}");
        assert!(text.contains("certificate_name"), "the other session's pump stays: {text}");
    }

    #[test]
    fn what_is_removed_takes_its_own_comment_and_no_other() {
        let place = Place::with(FILE);
        let text = place.edit(|editor| editor.remove_identity("home", "pump").expect("there"));
        let expected = "\
# the house

# people
[[session]]
name = \"home\" # ours

# --- devices ---

[[session]]
name = \"garden\"

[[identity]]
session = \"garden\"
id = \"pump\"
certificate_name = \"pump\"
# the end
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_session_takes_its_identities_with_it() {
        let place = Place::with(FILE);
        let text = place.edit(|editor| {
            assert_eq!(editor.remove_session(&name("home")).ok(), Some(1));
        });
        assert!(text.starts_with("# the house\n"), "{text}");
        assert!(!text.contains("home") && text.contains("garden"), "{text}");
        let text = place.edit(|editor| {
            assert_eq!(editor.remove_session(&name("garden")).ok(), Some(1));
            let again = editor.remove_session(&name("garden"));
            assert!(matches!(again, Err(EditError::NotThere(_))));
        });
        assert!(text.contains("# the house") && text.contains("# the end"), "{text}");
        assert!(!text.contains("[["), "{text}");
        // and it can be filled again
        let text = place.edit(|editor| editor.add_identity(&identity("home", "a")).expect("new"));
        assert!(text.find("# the house") < text.find("[[identity]]"), "{text}");
    }

    #[test]
    fn what_is_there_is_not_added_and_what_is_not_is_not_changed() {
        let place = Place::with(FILE);
        let mut editor = place.open();
        let home = SessionRecord::closed(name("home"));
        let message = |result: Result<(), EditError>| result.expect_err("refused").to_string();
        assert_eq!(message(editor.add_session(&home)), "session home exists already");
        assert_eq!(
            message(editor.add_identity(&identity("home", "pump"))),
            "identity pump of session home exists already"
        );
        let nobody = "there is no identity lamp of session home in the file";
        assert_eq!(message(editor.replace_identity(&identity("home", "lamp"))), nobody);
        assert_eq!(message(editor.remove_identity("home", "lamp")), nobody);
        editor.save().expect("nothing changed");
        assert_eq!(fs::read_to_string(&place.path).ok().as_deref(), Some(FILE));
    }

    #[test]
    fn what_the_daemon_would_refuse_is_not_written() {
        let place = Place::with(FILE);
        let mut editor = place.open();
        let mut record = identity("home", "a/b");
        editor.add_identity(&record).expect("new");
        let error = editor.save().expect_err("a/b cannot stand for %d").to_string();
        assert!(error.contains("an id with /, + or # cannot stand for %d"), "{error}");
        assert_eq!(fs::read_to_string(&place.path).ok().as_deref(), Some(FILE));
        let mut editor = place.open();
        record.publish.clear();
        editor.add_identity(&record).expect("new");
        editor.save().expect("without %d any id will do");
    }

    #[test]
    fn two_editors_do_not_undo_each_other() {
        let place = Place::empty();
        let mut first = place.open();
        let second = Editor::open(&place.path, Duration::ZERO);
        assert!(matches!(second, Err(EditError::Busy(_))));
        first.add_session(&SessionRecord::closed(name("a"))).expect("new");
        let path = place.path.clone();
        let waiting = std::thread::spawn(move || {
            let mut second = Editor::open(&path, Duration::from_secs(60)).expect("in its turn");
            second.add_session(&SessionRecord::closed(name("b"))).expect("new");
            second.save().expect("a good file");
        });
        first.save().expect("a good file");
        waiting.join().expect("the second editor was done");
        let both = Credentials::load(&place.path).expect("a good file").sessions;
        assert_eq!(both.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn an_editor_that_was_killed_leaves_nothing_in_the_way() {
        let place = Place::with(FILE);
        let left = beside(&place.path);
        fs::write(&left, "half a fi").expect("written");
        place.edit(|editor| editor.add_identity(&identity("home", "lamp")).expect("new"));
        assert!(!left.exists());
        assert_eq!(place.mode(), 0o640);
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let place = Place::with(FILE);
        let link = place.path.with_file_name("link");
        std::os::unix::fs::symlink(&place.path, &link).expect("linked");
        let mut editor = Editor::open(&link, Duration::ZERO).expect("nobody else has it");
        editor.add_session(&SessionRecord::closed(name("a"))).expect("new");
        editor.save().expect("a good file");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(Credentials::load(&place.path).expect("a good file").sessions.len(), 3);
    }

    #[test]
    fn files_that_cannot_be_edited_well_are_not_edited() {
        let place = Place::with("session = [{ name = 'a' }]");
        let added = place.open().add_session(&SessionRecord::closed(name("b")));
        let message = added.expect_err("an inline list").to_string();
        assert_eq!(
            message,
            "session is written in one line; write [[session]] tables, or edit by hand"
        );
        let place = Place::with("session = []\n");
        let text = place.edit(|e| e.add_session(&SessionRecord::closed(name("b"))).expect("new"));
        assert_eq!(text.trim(), "[[session]]\nname = \"b\"");
        fs::set_permissions(&place.path, Permissions::from_mode(0o644)).expect("ours");
        let error = Editor::open(&place.path, Duration::ZERO).expect_err("open to all");
        assert!(matches!(error, EditError::Refused(ConfigError::Exposed { .. })));
        let place = Place::with("x = 1");
        let error = Editor::open(&place.path, Duration::ZERO).expect_err("not credentials");
        assert!(error.to_string().contains("unknown key"), "{error}");
    }

    #[test]
    fn every_session_that_can_be_made_loads_again() {
        let filters: Vec<_> =
            iter::once("a \"b\\/#").map(|f| TopicFilter::parse(f).expect("a filter")).collect();
        let record = SessionRecord {
            name: name("made"),
            open: Some(true),
            open_from: Some(crate::config::OpenFrom::Any),
            publish: Some(filters.clone()),
            subscribe: Some(filters),
        };
        let place = Place::empty();
        place.edit(|editor| editor.add_session(&record).expect("new"));
        assert_eq!(Credentials::load(&place.path).expect("a good file").sessions, [record]);
    }
}
