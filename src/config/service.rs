//! What a service manager says of the daemon's folders (systemd.exec(5)): where its state goes, and
//! where its secrets are.

use std::path::{Path, PathBuf};

use super::Tables;
use super::error::FaultKind;
use super::read::Findings;
use super::schema::{self, Fields, Reload, Scalar, Visit};

/// The folders that the service manager made.
#[derive(Debug, Default)]
pub(super) struct Folders {
    state: Option<PathBuf>,
    credentials: Option<PathBuf>,
}

impl Folders {
    /// Takes note of a variable of the environment, if it names one of them.
    pub(super) fn note(&mut self, name: &str, value: &str) {
        // several are separated by colons; the first is the daemon's own
        let first = value.split(':').next().filter(|folder| !folder.is_empty()).map(PathBuf::from);
        match name {
            "STATE_DIRECTORY" => self.state = first,
            "CREDENTIALS_DIRECTORY" => self.credentials = first,
            _ => {}
        }
    }

    /// Puts them where the configuration leaves the place open, or names it by its variable.
    pub(super) fn apply(self, tables: &mut Tables, findings: &mut Findings<'_>) {
        let mut expand = Expand { folders: &self, path: String::new(), findings };
        tables.fields(&mut expand);
        if tables.daemon.state.is_none() {
            tables.daemon.state = self.state;
        }
    }
}

/// Replaces the variable at the beginning of paths.
struct Expand<'a, 'f> {
    folders: &'a Folders,
    /// of the table
    path: String,
    findings: &'a mut Findings<'f>,
}

impl Expand<'_, '_> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn inside(&mut self, path: String, fields: &mut dyn Fields) {
        let outer = std::mem::replace(&mut self.path, path);
        fields.fields(self);
        self.path = outer;
    }
}

impl Visit for Expand<'_, '_> {
    fn key(&mut self, name: &'static str, _: Reload, value: &mut dyn Scalar) {
        let Some(path) = value.path() else { return };
        let Ok(rest) = path.strip_prefix(Path::new(VARIABLE)) else { return };
        match &self.folders.credentials {
            Some(folder) => *path = folder.join(rest),
            None => {
                let text = format!(
                    "{VARIABLE} is not set; have systemd start the daemon, with LoadCredential= for \
                     this file, or give its whole path"
                );
                self.findings.report(&self.path_of(name), FaultKind::BadValue(text));
            }
        }
    }

    fn table(&mut self, name: &'static str, fields: &mut dyn Fields) {
        self.inside(self.path_of(name), fields);
    }

    fn tables(&mut self, name: &'static str, _: Reload, list: &mut dyn schema::Tables) {
        let path = self.path_of(name);
        let mut index = 0;
        list.each(&mut |fields| {
            self.inside(format!("{path}[{index}]"), fields);
            index += 1;
        });
    }
}

/// As it is written in paths.
const VARIABLE: &str = "$CREDENTIALS_DIRECTORY";
