//! `fastport`, the command-line tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    fastport::tool::run(std::env::args_os())
}
