//! `fastport send`.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastport_client::Client;
use fastport_client::files::{FileSource, SendError, SendProgress, Sending, pack_directory};
use fastport_wire::control::ErrorCode;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Interrupt;
use super::arguments::{Common, Send};
use super::exit::{Failure, Outcome, TIMED_OUT};
use super::link::{self, connect, tell_of_link};
use super::progress::{Bar, Bars};
use super::publish::forever;

pub(super) async fn run(send: Send, common: Common) -> Outcome {
    check(&send)?;
    let mut options = link::options(&common)?;
    let url = options.target.to_string();
    options.close_timeout = link::CLOSE_TIMEOUT;
    let mut interrupt = Interrupt::new()?;
    let client = tokio::select! {
        connected = connect(options) => connected?,
        () = interrupt.come() => return Err(Failure::interrupted()),
    };
    let mut tasks = JoinSet::new();
    let work = send_all(&client, &send, &url, &mut tasks);
    let done = tokio::select! {
        done = within(send.timeout, work) => done,
        () = interrupt.come() => Err(Failure::interrupted()),
        () = forever(tell_of_link(&client, &url)) => Ok(()),
    };
    // what was offered is taken back, and that is said, before the link ends: else it would be a link lost
    tasks.shutdown().await;
    client.close().await.unwrap_or_default();
    done
}

fn check(send: &Send) -> Outcome {
    let inputs = send.files.iter().filter(|path| is_input(path)).count();
    if inputs > 1 || (inputs == 1 && send.files.len() > 1) {
        return Err(Failure::usage("- is standard input, and goes alone"));
    }
    if send.called.is_some() && send.files.len() > 1 {
        return Err(Failure::usage("--as is for one file"));
    }
    Ok(())
}

/// Sends all files, a few at a time; the first failure is what the tool ends with, when the others
/// are through.
async fn send_all(
    client: &Client,
    send: &Send,
    url: &str,
    tasks: &mut JoinSet<Outcome>,
) -> Outcome {
    let bars = Bars::new(send.quiet);
    let mut done = Ok(());
    for path in &send.files {
        if tasks.len() >= AT_ONCE
            && let Some(ended) = tasks.join_next().await
        {
            done = done.and(outcome(ended));
        }
        let one = One {
            client: client.clone(),
            path: path.clone(),
            name: send.called.clone(),
            topic: send.topic.clone(),
            url: url.to_owned(),
            receivers: send.receivers,
            patience: send.patience,
            bars: bars.clone(),
        };
        tasks.spawn(one.send());
    }
    while let Some(ended) = tasks.join_next().await {
        done = done.and(outcome(ended));
    }
    done
}

fn outcome(ended: Result<Outcome, tokio::task::JoinError>) -> Outcome {
    ended.map_err(|error| Failure::internal(error.to_string()))?
}

/// A file on its way.
struct One {
    client: Client,
    path: PathBuf,
    name: Option<String>,
    topic: String,
    url: String,
    receivers: u32,
    patience: Duration,
    bars: Bars,
}

impl One {
    async fn send(self) -> Outcome {
        let source = self.source().await?;
        let shown = self.path.display().to_string();
        let size = source.size();
        let name = source.name().to_string();
        let mut sending = self
            .client
            .send_file(&self.topic, source)
            .await
            .map_err(|error| self.failure(&error))?;
        let bar = self.bars.bar(&format!("{name}: waiting for a receiver"), size, 0);
        let progress = sending.progress();
        let sent = tokio::select! {
            sent = sending.deliver(self.receivers, self.patience) => sent,
            () = show(progress.clone(), &bar, &self.bars, &name) => Ok(()),
        };
        sent.map_err(|error| self.failure(&error))?;
        let SendProgress { has_all, .. } = *progress.borrow();
        let whom = if has_all == 1 { "1 receiver has" } else { "receivers have" };
        let count = if has_all == 1 { String::new() } else { format!("{has_all} ") };
        self.bars.note(format_args!("{shown}: {count}{whom} it, {}", bar.rate(size)));
        drop::<Sending>(sending);
        Ok(())
    }

    /// Reads what is to be sent once, so that receivers can check it and go on with it.
    async fn source(&self) -> Result<FileSource, Failure> {
        let path = self.path.clone();
        let opened = tokio::task::spawn_blocking(move || open(&path));
        let opened = opened.await.map_err(|error| Failure::internal(error.to_string()))?;
        let Opened { file, size, is_directory, left_out } =
            opened.map_err(|error| Failure::file(self.path.display(), error))?;
        if left_out > 0 {
            let shown = self.path.display();
            let text = format_args!("{shown}: {left_out} links or devices in it are left out");
            self.bars.note(text);
        }
        let name = match (&self.name, is_input(&self.path)) {
            (Some(name), _) => name.clone(),
            (None, true) => "stdin".to_owned(),
            (None, false) => name_of(&self.path)?,
        };
        let bar = self.bars.bar(&format!("{name}: reading"), size, 0);
        let (tell, mut told) = mpsc::channel(1);
        // a report that finds no room is followed by others
        let reading =
            FileSource::read(file, &name, move |at| tell.try_send(at).unwrap_or_default());
        let reading = async {
            let shown = async {
                while let Some(at) = told.recv().await {
                    bar.set(at);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                read = reading => read,
                () = shown => Err(SendError::Internal),
            }
        };
        let source = reading.await.map_err(|error| self.failure(&error))?;
        Ok(if is_directory { source.as_directory() } else { source })
    }

    fn failure(&self, error: &SendError) -> Failure {
        Failure::send(&self.url, &self.path.display().to_string(), &self.topic, error)
    }
}

/// Shows how far a file is, for as long as it is watched.
async fn show(mut progress: watch::Receiver<SendProgress>, bar: &Bar, bars: &Bars, name: &str) {
    let (mut declined, mut failed) = (0, 0);
    loop {
        let now = progress.borrow_and_update().clone();
        let first = now.receivers.first().copied();
        bar.set(first.unwrap_or(0));
        let others = now.receivers.len().saturating_sub(1);
        bar.say(match (first, others) {
            (None, _) => format!("{name}: waiting"),
            (Some(_), 0) => name.to_owned(),
            (Some(_), others) => format!("{name} and {others} more"),
        });
        if now.declined > declined {
            bars.note(format_args!(
                "{name}: a receiver does not take it{}",
                because(now.last_code)
            ));
        }
        if now.failed > failed {
            bars.note(format_args!("{name}: a receiver gave up{}", because(now.last_code)));
        }
        (declined, failed) = (now.declined, now.failed);
        if progress.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn because(code: Option<ErrorCode>) -> String {
    match code {
        Some(ErrorCode::NoSpace) => ": its disk is full".to_owned(),
        Some(ErrorCode::Conflict) => ": it has a file of that name".to_owned(),
        Some(ErrorCode::Damaged) => {
            ": what it got is not what was offered; did the file change?".to_owned()
        }
        Some(ErrorCode::PayloadTooLong) => ": it is too long for it".to_owned(),
        Some(ErrorCode::Unavailable) => ": it took nothing for too long".to_owned(),
        Some(code) => format!(": {code}"),
        None => String::new(),
    }
}

/// What is to be sent, as a file that can be read at any place.
struct Opened {
    file: File,
    size: u64,
    is_directory: bool,
    left_out: u64,
}

fn open(path: &Path) -> io::Result<Opened> {
    if is_input(path) {
        let mut file = unnamed()?;
        let size = io::copy(&mut io::stdin().lock(), &mut file)?;
        return Ok(Opened { file, size, is_directory: false, left_out: 0 });
    }
    let about = path.metadata()?;
    if about.is_dir() {
        let mut file = unnamed()?;
        let left_out = pack_directory(path, &mut file)?;
        let size = file.metadata()?.len();
        return Ok(Opened { file, size, is_directory: true, left_out });
    }
    if !about.is_file() {
        return Err(io::Error::other("neither a file nor a directory; use - for a pipe"));
    }
    let file = File::open(path)?;
    Ok(Opened { file, size: about.len(), is_directory: false, left_out: 0 })
}

/// A file without a name, in TMPDIR or /var/tmp: what it holds is to be on disk and not in memory.
fn unnamed() -> io::Result<File> {
    let folder = std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
    let name = format!(".fastport-{:016x}", getrandom::u64().map_err(io::Error::other)?);
    let path = folder.join(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn name_of(path: &Path) -> Result<String, Failure> {
    // `.` and `..` have names, too
    let whole = path.canonicalize().map_err(|error| Failure::file(path.display(), error))?;
    let name = whole.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| {
        Failure::usage(format!("{}: --as says what receivers call it", path.display()))
    })?;
    Ok(name.to_owned())
}

fn is_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

async fn within(time: Option<Duration>, work: impl Future<Output = Outcome>) -> Outcome {
    match time {
        None => work.await,
        Some(time) => tokio::time::timeout(time, work).await.unwrap_or_else(|_| {
            let text = format!(
                "not received by as many as there should be within {} s; is anybody receiving on \
                 that topic?",
                time.as_secs_f32()
            );
            Err(Failure::new(TIMED_OUT, text))
        }),
    }
}

/// Files offered at once: a relay lets a peer have 8 by default.
const AT_ONCE: usize = 4;
