//! `fastportd`: the order of start-up.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use fastport::app::{self, App, Settings, Source};
use fastport::arguments::{Arguments, HELP, Task};
use fastport::config::BoardFile;
use fastport::config::boards::MODEL_FILE;
use fastport::log;
use fastport::supervise::inherited::Inherited;
// C's pow, so that libm is not loaded
use fastport_pow as _;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(arguments) => arguments,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    match arguments.task {
        Task::Help => return print(HELP),
        Task::Version => return print(concat!("fastportd ", env!("CARGO_PKG_VERSION"), "\n")),
        Task::Serve | Task::Check | Task::PrintConfig => {}
    }
    let model = arguments.board_model.as_deref().unwrap_or(Path::new(MODEL_FILE));
    let board = arguments.board.as_deref().map(|name| BoardFile::choose(name, model)).transpose();
    let board = match board {
        Ok(board) => board,
        Err(error) => return fail(EXIT_CONFIG, &error),
    };
    let source = Source { path: arguments.config, board };
    let settings = match source.load() {
        Ok(settings) => settings,
        Err(error) => return fail(EXIT_CONFIG, &error),
    };
    match arguments.task {
        Task::PrintConfig => return print(&settings.config.to_toml()),
        Task::Check => return print("the configuration is right\n"),
        _ => {}
    }
    match serve(source, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_UNAVAILABLE, error.as_ref()),
    }
}

fn serve(source: Source, settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let level = log::start(settings.config.daemon.log.format, settings.config.daemon.log.level)?;
    // numbers that were handed over must not be given to other files
    let inherited = Inherited::from_environment();
    app::raise_open_files(settings.config.limits.peers);
    let has_file = source.path.is_some();
    let runtime = match settings.config.daemon.workers {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        workers => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers.into())
            .enable_all()
            .build()?,
    };
    runtime.block_on(async {
        let app = App::start(source, settings, level, inherited)?;
        if !has_file || std::io::stdout().is_terminal() {
            // who does not read it does not need it
            print(&hint(&app.urls()));
        }
        Ok(app.run().await?)
    })
}

fn hint(urls: &[String]) -> String {
    let listening: String = urls.iter().map(|url| format!("    {url}\n")).collect();
    format!(
        "fastportd {} listens on\n{listening}\
         Try it, in another terminal:\n\
         \x20   fastport sub '$board/#' --senml          this machine's own sensors\n\
         \x20   fastport sub 'chat/#'                    whatever comes\n\
         \x20   fastport pub chat/room1 'Hello!'         and something comes\n\
         (the tool is target/debug/fastport after `make run`)\n",
        env!("CARGO_PKG_VERSION"),
    )
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    // nowhere else to say it
    writeln!(std::io::stderr(), "fastportd: {error}").unwrap_or_default();
    ExitCode::from(code)
}

/// What shells and most programs use for wrong arguments.
const EXIT_USAGE: u8 = 2;
/// `EX_CONFIG` of sysexits: something in the configuration is wrong.
const EXIT_CONFIG: u8 = 78;
/// `EX_UNAVAILABLE` of sysexits: a socket or a file could not be had.
const EXIT_UNAVAILABLE: u8 = 69;
