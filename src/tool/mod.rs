//! The command-line tool: a client for people and scripts. What it does and its exit codes are in
//! `docs/tool.md`.

mod arguments;
mod bench;
mod exit;
mod generate;
mod key;
mod link;
mod progress;
mod publish;
mod readings;
mod receive;
mod seal;
mod secret;
mod send;
mod session;
mod show;
mod status;
mod subscribe;
#[cfg(feature = "uplink")]
mod uplink;
#[cfg(not(feature = "uplink"))]
mod without_uplink;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::arguments::{Arguments, Command, UplinkAction};
use self::exit::{Failure, Outcome, USAGE};
#[cfg(not(feature = "uplink"))]
use self::without_uplink as uplink;

/// Runs the tool with these arguments, the program's name first; the code to exit with.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // a closed terminal cannot be told
            error.print().unwrap_or_default();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code())
        }
    }
}

fn execute(arguments: Arguments) -> Outcome {
    let Arguments { common, command } = arguments;
    match command {
        Command::Key(key) => return key::run(&key, &common),
        Command::Passwd(passwd) => return session::set_password(&passwd, &common),
        Command::Completions(completions) => return generate::completions(&completions),
        Command::Man(man) => return generate::man(&man),
        Command::Session(session) if session.as_remote().is_none() => {
            return session::edit(&session);
        }
        Command::Uplink(ref uplink) => {
            if let UplinkAction::Test(test) = &uplink.action {
                return uplink::test(test);
            }
        }
        _ => {}
    }
    // one thread drives the link; this one may wait for a slow terminal
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("no runtime: {error}")))?;
    let done = runtime.block_on(async {
        match command {
            Command::Pub(publish) => publish::run(publish, common).await,
            Command::Sub(subscribe) => subscribe::run(subscribe, common).await,
            Command::Send(send) => send::run(send, common).await,
            Command::Recv(receive) => receive::run(receive, common).await,
            Command::Session(session) => match session.as_remote() {
                Some(create) => session::create_remote(create, common).await,
                None => Ok(()),
            },
            Command::Status(status) => status::run(&status, common).await,
            Command::Uplink(uplink) => match uplink.action {
                UplinkAction::Status(status) => uplink::status(&status, common).await,
                UplinkAction::Test(_) => Ok(()),
            },
            Command::Bench(bench) => bench::run(bench, common).await,
            _ => Ok(()),
        }
    });
    end(runtime);
    done
}

/// A thread may wait for standard input for ever: it is left behind.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_millis(100));
}

/// SIGINT and SIGTERM, caught from here on.
struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    fn new() -> Result<Self, Failure> {
        let catch =
            |kind| signal(kind).map_err(|error| Failure::internal(format!("no signals: {error}")));
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: catch(interrupt)?, terminate: catch(terminate)? })
    }

    /// Waits for one. Cancel-safe.
    async fn come(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
