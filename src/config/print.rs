//! The configuration as TOML, complete with defaults.

use std::fmt::Write as _;

use super::schema::{Fields, Reload, Scalar, Tables, Visit};

/// `fields` as TOML that reads as equal fields.
pub(crate) fn print(fields: &mut dyn Fields) -> String {
    let mut table = Printer { path: String::new(), values: String::new(), tables: String::new() };
    fields.fields(&mut table);
    table.values + &table.tables
}

/// One table. Values come before tables: behind a header they would be that table's.
struct Printer {
    path: String,
    values: String,
    tables: String,
}

impl Printer {
    fn print_inner(&mut self, header: &str, path: String, fields: &mut dyn Fields) {
        let mut inner = Self { path, values: String::new(), tables: String::new() };
        fields.fields(&mut inner);
        let out = &mut self.tables;
        // a table of tables needs no header of its own, an entry of a list does
        if !inner.values.is_empty() || header.starts_with("[[") {
            out.push('\n');
            out.push_str(header);
            out.push('\n');
            out.push_str(&inner.values);
        }
        out.push_str(&inner.tables);
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

impl Visit for Printer {
    fn key(&mut self, name: &'static str, _: Reload, value: &mut dyn Scalar) {
        if let Some(value) = value.toml() {
            writeln!(self.values, "{name} = {value}").expect("a String takes all that is written");
        }
    }

    fn table(&mut self, name: &'static str, fields: &mut dyn Fields) {
        let path = self.path_of(name);
        self.print_inner(&format!("[{path}]"), path, fields);
    }

    fn tables(&mut self, name: &'static str, _: Reload, list: &mut dyn Tables) {
        let path = self.path_of(name);
        let mut empty = true;
        list.each(&mut |fields| {
            empty = false;
            self.print_inner(&format!("[[{path}]]"), path.clone(), fields);
        });
        // no list means the built-in one; an empty list means none
        if empty {
            writeln!(self.values, "{name} = []").expect("a String takes all that is written");
        }
    }
}
