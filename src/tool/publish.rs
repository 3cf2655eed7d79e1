//! `fastport pub`.

use std::time::Duration;

use fastport_client::{Client, DataFlags, OpenOptions, Publisher, Tier};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::Interrupt;
use super::arguments::{Common, Publish};
use super::exit::{Failure, Outcome, TIMED_OUT};
use super::link::{self, connect, tell_of_link};
use super::readings::Coder;

pub(super) async fn run(publish: Publish, common: Common) -> Outcome {
    let coder = Coder::new(&publish.readings, publish.payload.as_deref())?;
    let mut options = link::options(&common)?;
    let url = options.target.to_string();
    // what is published is waited for at the end, however long that takes, or as long as was said
    options.close_timeout = publish.timeout.unwrap_or(link::CLOSE_TIMEOUT);
    let mut interrupt = Interrupt::new()?;
    let client = tokio::select! {
        connected = connect(options) => connected?,
        () = interrupt.come() => return Err(Failure::interrupted()),
    };
    let work = async {
        let sent = send(&client, &publish, coder.as_ref(), &url).await;
        // what was sent before the one that failed goes out all the same
        let closed = client.clone().close().await;
        sent?;
        closed.map_err(|left| Failure::undelivered(&url, left))
    };
    tokio::select! {
        done = work => done,
        () = interrupt.come() => {
            client.clone().close().await.map_err(|left| Failure::undelivered(&url, left))?;
            Err(Failure::interrupted())
        }
        () = forever(tell_of_link(&client, &url)) => Ok(()),
    }
}

async fn send(client: &Client, publish: &Publish, coder: Option<&Coder>, url: &str) -> Outcome {
    let tier = publish.wait.map(|wait| wait.tier());
    let schema = coder.map(Coder::encode_schema).transpose()?;
    let publisher = client
        .open(&publish.topic, OpenOptions { schema, tier })
        .await
        .map_err(|error| Failure::request(url, &publish.topic, &error))?;
    let sender = Sender { publisher, coder, flags: flags(publish), url };
    match (&publish.payload, publish.lines) {
        (Some(payload), _) => sender.send(payload.as_bytes()).await?,
        (None, false) => sender.send(&read_all().await?).await?,
        (None, true) => sender.send_lines().await?,
    }
    match tier {
        Some(tier) => wait(&sender.publisher, tier, publish.timeout, url).await,
        None => Ok(()),
    }
}

struct Sender<'a> {
    publisher: Publisher,
    coder: Option<&'a Coder>,
    flags: DataFlags,
    url: &'a str,
}

impl Sender<'_> {
    async fn send(&self, payload: &[u8]) -> Outcome {
        let coded = match self.coder {
            None => None,
            Some(coder) => {
                let text = std::str::from_utf8(payload)
                    .map_err(|_| Failure::data("what should be a number is not even UTF-8"))?;
                Some(coder.encode(text)?)
            }
        };
        let payload = coded.as_deref().unwrap_or(payload);
        self.publisher
            .publish(payload, self.flags)
            .await
            .map_err(|error| Failure::publish(self.url, self.publisher.topic(), &error))
    }

    async fn send_lines(&self) -> Outcome {
        let mut input = BufReader::with_capacity(LINES_BUFFER, tokio::io::stdin());
        let mut line = Vec::new();
        let mut number = 0u64;
        loop {
            line.clear();
            let read = input.read_until(b'\n', &mut line).await.map_err(input_error)?;
            if read == 0 {
                return Ok(());
            }
            number += 1;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            self.send(&line).await.map_err(|failure| failure.at_line(number))?;
        }
    }
}

async fn wait(publisher: &Publisher, tier: Tier, timeout: Option<Duration>, url: &str) -> Outcome {
    let acknowledged = publisher.wait(tier);
    let done = match timeout {
        None => acknowledged.await,
        Some(time) => tokio::time::timeout(time, acknowledged).await.map_err(|_| {
            let seconds = time.as_secs_f32();
            let text = format!("{url}: not acknowledged as {tier} within {seconds} s");
            Failure::new(TIMED_OUT, text)
        })?,
    };
    done.map_err(|error| Failure::wait(url, &error))
}

fn flags(publish: &Publish) -> DataFlags {
    let if_set = |is_set: bool, flag| if is_set { flag } else { DataFlags::NONE };
    let is_counted = publish.counted || publish.wait.is_some();
    let has_readings = publish.readings.unit.is_some()
        || publish.readings.scale.is_some()
        || publish.readings.kind.is_some();
    if_set(is_counted, DataFlags::COUNTED)
        .with(if_set(publish.keep, DataFlags::KEEP))
        .with(if_set(has_readings, DataFlags::READINGS))
}

async fn read_all() -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    let limit = fastport_wire::field::MAX_BODY as u64;
    tokio::io::stdin().take(limit).read_to_end(&mut all).await.map_err(input_error)?;
    Ok(all)
}

fn input_error(error: std::io::Error) -> Failure {
    Failure::file("standard input", error)
}

/// Does what `telling` does, and does not end with it: the work ends by itself, with a reason.
pub(super) async fn forever(telling: impl Future<Output = ()>) {
    telling.await;
    std::future::pending().await
}

const LINES_BUFFER: usize = 64 * 1024;
