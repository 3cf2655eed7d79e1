//! Which readers' wildcard filters select a topic: asked once, when the topic appears.

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::{Filter, Topic};
use hashbrown::HashMap;

/// A tree of filter levels. Its size is that of the filters in it; empty branches are cut.
#[derive(Debug, Default)]
pub struct Matcher {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    levels: HashMap<Box<str>, Node>,
    any_level: Option<Box<Node>>,
    /// readers whose filter ends here
    here: Vec<u32>,
    /// readers whose filter ends here with `#`
    below: Vec<u32>,
}

impl Node {
    fn is_empty(&self) -> bool {
        let is_leaf = self.levels.is_empty() && self.any_level.is_none();
        is_leaf && self.here.is_empty() && self.below.is_empty()
    }
}

impl Matcher {
    /// Adds a reader's filter; each pair of them once.
    pub fn insert(&mut self, filter: Filter<'_>, reader: u32) {
        let mut node = &mut self.root;
        for level in filter.as_str().split('/') {
            node = match level {
                "#" => {
                    node.below.push(reader);
                    return;
                }
                "+" => node.any_level.get_or_insert_default(),
                _ => node.levels.entry(level.into()).or_default(),
            };
        }
        node.here.push(reader);
    }

    /// Takes a reader's filter out.
    pub fn remove(&mut self, filter: Filter<'_>, reader: u32) {
        let levels: Vec<&str> = filter.as_str().split('/').collect();
        remove(&mut self.root, &levels, reader);
    }

    /// Calls `found` for each reader whose filter selects `topic`, once for each such filter.
    pub fn for_each(&self, topic: Topic<'_>, mut found: impl FnMut(u32)) {
        let levels: Vec<&str> = topic.as_str().split('/').collect();
        visit(&self.root, &levels, !topic.is_reserved(), &mut found);
    }
}

fn remove(node: &mut Node, levels: &[&str], reader: u32) {
    let forget = |readers: &mut Vec<u32>| {
        if let Some(at) = readers.iter().position(|&other| other == reader) {
            readers.swap_remove(at);
        }
    };
    match levels.split_first() {
        None => forget(&mut node.here),
        Some((&"#", _)) => forget(&mut node.below),
        Some((&"+", rest)) => {
            let Some(child) = &mut node.any_level else { return };
            remove(child, rest, reader);
            if child.is_empty() {
                node.any_level = None;
            }
        }
        Some((&level, rest)) => {
            let Some(child) = node.levels.get_mut(level) else { return };
            remove(child, rest, reader);
            if child.is_empty() {
                node.levels.remove(level);
            }
        }
    }
}

/// As deep as a topic has levels: at most 16.
fn visit(node: &Node, levels: &[&str], wildcards: bool, found: &mut impl FnMut(u32)) {
    if wildcards {
        node.below.iter().copied().for_each(&mut *found);
    }
    let Some((&level, rest)) = levels.split_first() else {
        node.here.iter().copied().for_each(found);
        return;
    };
    if let Some(child) = node.any_level.as_ref().filter(|_| wildcards) {
        visit(child, rest, true, found);
    }
    if let Some(child) = node.levels.get(level) {
        visit(child, rest, true, found);
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use proptest::prelude::*;

    use super::*;

    fn level() -> impl Strategy<Value = String> {
        prop_oneof![Just("+".into()), "[ab]", "\\$[ab]"]
    }

    proptest! {
        #[test]
        fn it_finds_what_the_filters_select_one_by_one(
            filters in proptest::collection::vec(
                (proptest::collection::vec(level(), 1..4), any::<bool>()), 0..20),
            topic in "\\$?[ab](/[ab]){0,3}",
            removed in proptest::collection::vec(any::<bool>(), 20),
        ) {
            let texts: Vec<String> = filters.into_iter()
                .map(|(levels, hash)| levels.join("/") + if hash { "/#" } else { "" })
                .collect();
            let mut matcher = Matcher::default();
            for (reader, text) in (0..).zip(&texts) {
                matcher.insert(Filter::parse(text).expect("well formed"), reader);
            }
            let mut expected = Vec::new();
            for ((reader, text), &is_removed) in (0..).zip(&texts).zip(&removed) {
                let filter = Filter::parse(text).expect("well formed");
                if is_removed {
                    matcher.remove(filter, reader);
                } else if filter.matches(Topic::parse(&topic).expect("well formed")) {
                    expected.push(reader);
                }
            }
            let mut found = Vec::new();
            matcher.for_each(Topic::parse(&topic).expect("well formed"), |reader| found.push(reader));
            found.sort_unstable();
            prop_assert_eq!(found, expected);
            if removed.iter().all(|&is_removed| is_removed) {
                prop_assert!(matcher.root.is_empty());
            }
        }
    }
}
