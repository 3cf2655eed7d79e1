//! What a changed configuration changes, and when.

use std::collections::BTreeMap;
use std::fmt;

use super::Config;
use super::schema::{Fields, Reload, Scalar, Tables, Visit};

/// What a new configuration changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// What takes effect at once, without dropping a peer. (Peers of a session that is no more are
    /// told so.)
    pub live: Vec<Change>,
    /// What takes effect with the next start.
    pub restart: Vec<Change>,
}

impl Changes {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }
}

/// A key whose value changes. Entries of lists are called by name or address: `session(home).open`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key's path.
    pub key: String,
    /// Its value in TOML; none: not set.
    pub old: Option<String>,
    /// The same in the new configuration.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (old, new) = (self.old.as_deref(), self.new.as_deref());
        write!(f, "{}: {} -> {}", self.key, old.unwrap_or("not set"), new.unwrap_or("not set"))
    }
}

impl Config {
    /// What changes when `new` takes the place of this one.
    #[must_use]
    pub fn changes_on_reload(&self, new: &Self) -> Changes {
        let (old, new) = (flatten(&mut self.to_tables()), flatten(&mut new.to_tables()));
        let mut changes = Changes::default();
        let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
        for (key, value) in old.iter().chain(added) {
            let (before, after) = (old.get(key), new.get(key));
            let reload = match (before, after) {
                (Some(_), Some(_)) => value.reload,
                // where there was nothing, or will be nothing, the entry comes or goes
                _ => value.entry.unwrap_or(value.reload),
            };
            let text = |value: Option<&Flat>| value.map(|value| value.text.clone());
            let change = Change { key: key.clone(), old: text(before), new: text(after) };
            if change.old == change.new {
                continue;
            }
            match reload {
                Reload::Live => changes.live.push(change),
                Reload::Restart => changes.restart.push(change),
            }
        }
        changes
    }
}

/// A key's value, when a change of it takes effect, and when its entry comes or goes.
pub(crate) struct Flat {
    pub(crate) text: String,
    pub(crate) reload: Reload,
    entry: Option<Reload>,
}

/// Every key that is set, by path.
pub(crate) fn flatten(fields: &mut dyn Fields) -> BTreeMap<String, Flat> {
    let mut flat = Flattener { path: String::new(), entry: None, keys: BTreeMap::new() };
    fields.fields(&mut flat);
    flat.keys
}

struct Flattener {
    path: String,
    entry: Option<Reload>,
    keys: BTreeMap<String, Flat>,
}

impl Flattener {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn inside(&mut self, path: String, entry: Option<Reload>, fields: &mut dyn Fields) {
        let outer = (std::mem::replace(&mut self.path, path), self.entry);
        self.entry = entry;
        fields.fields(self);
        (self.path, self.entry) = outer;
    }
}

impl Visit for Flattener {
    fn key(&mut self, name: &'static str, reload: Reload, value: &mut dyn Scalar) {
        let (path, entry) = (self.path_of(name), self.entry);
        if let Some(text) = value.toml() {
            self.keys.insert(path, Flat { text, reload, entry });
        }
    }

    fn table(&mut self, name: &'static str, fields: &mut dyn Fields) {
        self.inside(self.path_of(name), self.entry, fields);
    }

    fn tables(&mut self, name: &'static str, reload: Reload, list: &mut dyn Tables) {
        let path = self.path_of(name);
        let mut index = 0;
        list.each(&mut |fields| {
            let label = fields.label().unwrap_or_else(|| index.to_string());
            self.inside(format!("{path}({label})"), Some(reload), fields);
            index += 1;
        });
    }
}
