//! `fastport recv`.

use std::collections::HashMap;
use std::path::Path;

use fastport_client::Client;
use fastport_client::files::{
    FileEvent, FileName, Place, ReceiveError, ReceiveOptions, Receiving, WhenExists,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Interrupt;
use super::arguments::{Common, Receive};
use super::exit::{Failure, Outcome, TIMED_OUT};
use super::link::{self, connect, tell_of_link};
use super::progress::{Bar, Bars};
use super::publish::forever;

pub(super) async fn run(receive: Receive, common: Common) -> Outcome {
    let place = place(&receive)?;
    let mut options = link::options(&common)?;
    let url = options.target.to_string();
    options.close_timeout = link::CLOSE_TIMEOUT;
    let deadline = receive.timeout.map(|time| Instant::now() + time);
    let mut interrupt = Interrupt::new()?;
    let begun = async {
        let client = connect(options).await?;
        let mut options = ReceiveOptions::new(place);
        options.when_exists = receive.when_exists.map_or(WhenExists::Number, Into::into);
        options.size_max = receive.max_size.unwrap_or(u64::MAX);
        let receiving = client.receive_files(&receive.topic, options).await;
        let receiving =
            receiving.map_err(|error| Failure::request(&url, &receive.topic, &error))?;
        Ok((client, receiving))
    };
    let (client, mut receiving) = tokio::select! {
        begun = begun => begun?,
        () = interrupt.come() => return Err(Failure::interrupted()),
    };
    let done = tokio::select! {
        done = receive_all(&client, &mut receiving, &receive, &url) => done,
        // whoever receives for ever and stops has what they wanted
        () = interrupt.come() => match receive.count {
            None => Ok(()),
            Some(_) => Err(Failure::interrupted()),
        },
        () = forever(tell_of_link(&client, &url)) => Ok(()),
        () = until(deadline) => Err(Failure::new(
            TIMED_OUT,
            format!("{url}: fewer than {} files in time", receive.count.unwrap_or(0)),
        )),
    };
    drop(receiving);
    // so that senders hear that the last file is here
    client.close().await.unwrap_or_default();
    done
}

fn place(receive: &Receive) -> Result<Place, Failure> {
    if receive.dir.as_os_str() == "-" {
        return Ok(Place::Output);
    }
    if !Path::new(&receive.dir).is_dir() {
        let shown = receive.dir.display();
        return Err(Failure::file(shown, "no such directory; --dir says where files go"));
    }
    Ok(Place::Folder(receive.dir.clone()))
}

/// Receives until there are enough files, or there will be no more. One that fails does not end the
/// others, but is what the tool ends with.
async fn receive_all(
    client: &Client,
    receiving: &mut Receiving,
    receive: &Receive,
    url: &str,
) -> Outcome {
    let bars = Bars::new(receive.quiet);
    let mut shown: HashMap<FileName, JoinSet<()>> = HashMap::new();
    let mut left = receive.count;
    let mut done = Ok(());
    while left != Some(0) {
        let Some(event) = receiving.next().await else { break };
        match event {
            FileEvent::Begun { name, size, progress } => {
                let bar = bars.bar(name.as_str(), size, *progress.borrow());
                let mut task = JoinSet::new();
                task.spawn(show(progress, bar));
                shown.insert(name, task);
                continue;
            }
            FileEvent::Finished { name, size, path, was_here } => {
                shown.remove(&name);
                let shown =
                    path.map_or_else(|| name.to_string(), |path| path.display().to_string());
                let how = if was_here { ", which was here already" } else { "" };
                bars.note(format_args!("{shown}: {size} bytes{how}"));
            }
            FileEvent::Failed { name, error } => {
                if let Ok(name) = FileName::parse(&name) {
                    shown.remove(&name);
                }
                if matches!(error, ReceiveError::Ended(_)) {
                    continue;
                }
                let failure = Failure::receive(url, &name, &error);
                match receive.count {
                    // the first is told at the end
                    Some(_) if done.is_ok() => done = Err(failure),
                    _ => failure.report(),
                }
            }
        }
        if let Some(left) = &mut left {
            *left -= 1;
        }
    }
    match client.ended() {
        Some(error) if left != Some(0) => Err(Failure::connect(url, &error)),
        _ => done,
    }
}

/// Shows how far a file is, as long as that changes.
async fn show(mut progress: watch::Receiver<u64>, bar: Bar) {
    loop {
        bar.set(*progress.borrow_and_update());
        if progress.changed().await.is_err() {
            return;
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
