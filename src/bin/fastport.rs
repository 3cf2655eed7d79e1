//! `fastport`, the command-line tool.

fn main() {}
