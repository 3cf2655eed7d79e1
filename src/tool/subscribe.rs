//! `fastport sub`.

use std::io::{self, BufWriter};

use fastport_client::{Client, Incoming, SubscribeOptions, Subscription};
use tokio::time::Instant;

use super::Interrupt;
use super::arguments::{Common, Subscribe};
use super::exit::{Failure, Outcome, TIMED_OUT};
use super::link::{self, connect, tell_of_link};
use super::publish::forever;
use super::seal::{self, Refusals};
use super::show::{Form, Printer};

pub(super) async fn run(subscribe: Subscribe, common: Common) -> Outcome {
    let mut options = link::options(&common)?;
    let url = options.target.to_string();
    options.close_timeout = link::CLOSE_TIMEOUT;
    let deadline = subscribe.timeout.map(|time| Instant::now() + time);
    let mut interrupt = Interrupt::new()?;
    let begun = async {
        let client = connect(options).await?;
        let subscription = begin(&client, &subscribe, &url).await?;
        Ok((client, subscription))
    };
    let (client, mut subscription) = tokio::select! {
        begun = begun => begun?,
        () = interrupt.come() => return Err(Failure::interrupted()),
    };
    let work = print(&client, &mut subscription, &subscribe, &url);
    let done = tokio::select! {
        done = work => done,
        // whoever follows for ever and stops has what they wanted
        () = interrupt.come() => match subscribe.count {
            None => Ok(()),
            Some(_) => Err(Failure::interrupted()),
        },
        () = forever(tell_of_link(&client, &url)) => Ok(()),
        () = until(deadline) => Err(Failure::new(
            TIMED_OUT,
            format!("{url}: fewer than {} messages in time", subscribe.count.unwrap_or(0)),
        )),
    };
    drop(subscription);
    seal::sum_up(&client);
    // nothing was published
    client.close().await.unwrap_or_default();
    done
}

async fn begin(client: &Client, subscribe: &Subscribe, url: &str) -> Result<Subscription, Failure> {
    let options = SubscribeOptions {
        past: subscribe.history.unwrap_or_default(),
        no_last: subscribe.no_last,
        ..SubscribeOptions::default()
    };
    let filters: Vec<&str> = subscribe.filters.iter().map(String::as_str).collect();
    client
        .subscribe_all(&filters, options)
        .await
        .map_err(|error| Failure::request(url, &filters.join(" "), &error))
}

/// Prints until there are enough messages, or there will be no more.
async fn print(
    client: &Client,
    subscription: &mut Subscription,
    subscribe: &Subscribe,
    url: &str,
) -> Outcome {
    let form = match () {
        () if subscribe.json => Form::Json,
        () if subscribe.senml => Form::Senml,
        () if subscribe.raw => Form::Raw,
        () => Form::Human,
    };
    let mut printer = Printer::new(BufWriter::with_capacity(OUTPUT, io::stdout()), form);
    let mut left = subscribe.count;
    let mut refusals = Refusals::default();
    while left != Some(0) {
        let incoming = match subscription.try_next() {
            Some(incoming) => incoming,
            None => {
                // nothing more at hand: show what there is
                printer.flush().map_err(|error| Failure::output(&error))?;
                match subscription.next().await {
                    Some(incoming) => incoming,
                    None => break,
                }
            }
        };
        let printed = match incoming {
            Incoming::Message(message) => printer.message(&message),
            Incoming::Gap { topic, count, cause } => {
                printer.gap(topic.as_deref(), count, cause).map(|()| false)
            }
            Incoming::NotOpened { topic, cause } => {
                refusals.note(&topic, cause);
                Ok(false)
            }
        };
        if printed.map_err(|error| Failure::output(&error))?
            && let Some(left) = &mut left
        {
            *left -= 1;
        }
    }
    printer.flush().map_err(|error| Failure::output(&error))?;
    match client.ended() {
        Some(error) if left != Some(0) => Err(Failure::connect(url, &error)),
        _ => Ok(()),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Bytes that go to standard output at once.
const OUTPUT: usize = 64 * 1024;
