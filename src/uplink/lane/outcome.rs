//! What became of a link or an attempt: what it means for the next one, and what people are told.

use std::time::{Duration, Instant};

use fastport_client::{ConnectError, Fault};
use fastport_wire::control::{ByeReason, ErrorCode};
use tracing::{debug, info, warn};

use super::Carrier;
use crate::uplink::figures::Failure;
use crate::uplink::retry::Cause;
use crate::uplink::run::Why;

impl Carrier<'_> {
    /// What a failure is, and what it means for the next attempt.
    pub(super) fn judge(&mut self, why: &Why) -> (Failure, Cause) {
        match why {
            Why::Connect(error) => self.judge_error(error),
            Why::Silent(_) => (Failure::Silent, Cause::Network),
            Why::OtherState { .. } => {
                self.astray += 1;
                // what was on its way when the last link ended may have come by then
                self.renews = self.astray > 1;
                (Failure::Refused, Cause::Trouble)
            }
            Why::Astray { .. } => {
                self.astray += 1;
                // the counts of both sides are asked for again; a new epoch is the last way out
                self.renews = self.astray >= MOST_ASTRAY;
                (Failure::Here, Cause::Trouble)
            }
            Why::NoStore | Why::BadPack(_) => (Failure::Refused, Cause::Trouble),
            Why::Here(_) => (Failure::Here, Cause::Trouble),
            Why::Return => (Failure::Bye, Cause::Return),
            Why::SetAside => (Failure::Here, Cause::Switch),
            Why::Spill | Why::Stop => (Failure::Bye, Cause::Switch),
        }
    }

    fn judge_error(&mut self, error: &ConnectError) -> (Failure, Cause) {
        let failure = match error {
            ConnectError::Resolve { .. } => Failure::Name,
            ConnectError::Unreachable(_) => Failure::Unreachable,
            ConnectError::TimedOut(_) => Failure::TimedOut,
            ConnectError::Tls { .. }
            | ConnectError::WebSocket { .. }
            | ConnectError::Proxy { .. } => Failure::Transport,
            ConnectError::Fault(Fault::Bye { .. }) => Failure::Bye,
            ConnectError::Fault(_) | ConnectError::PasswordInClear(_) => Failure::Refused,
            ConnectError::Lost(_) | ConnectError::Hangup => Failure::Lost,
            _ => Failure::Here,
        };
        if let ConnectError::Fault(Fault::Refused { code: Some(ErrorCode::Unexpected), .. }) = error
            && std::mem::take(&mut self.relays)
        {
            warn!(
                lane = self.lane.name(),
                "the central instance takes no times and gaps from this gateway: it goes on without"
            );
            return (failure, Cause::Switch);
        }
        if let ConnectError::Fault(Fault::Refused { code: Some(ErrorCode::BadAck), .. }) = error {
            self.renews = true;
        }
        let is_network = match error {
            ConnectError::Fault(Fault::Bye { reason, .. }) => {
                !matches!(reason, Some(ByeReason::Removed | ByeReason::Replaced))
            }
            ConnectError::Fault(_) => false,
            ConnectError::Internal => false,
            error => !error.is_fatal(),
        };
        let cause = match error.retry_after() {
            Some(hint) => Cause::Asked(hint),
            None if error.is_fatal() => {
                // its files may be others by then
                if let Some(way) = self.ways.get_mut(self.choice.at()) {
                    *way = None;
                }
                Cause::Fatal
            }
            None if is_network => Cause::Network,
            None => Cause::Trouble,
        };
        (failure, cause)
    }

    /// Tells people once of each kind of trouble; what goes on is counted.
    pub(super) fn report(
        &mut self,
        why: &Why,
        (failure, cause): (Failure, Cause),
        held: Option<Duration>,
        is_stable: bool,
    ) {
        if matches!(why, Why::Spill) {
            info!(lane = self.lane.name(), "more comes than goes: the rest waits on disk");
            return;
        }
        if matches!(why, Why::Return) {
            info!(lane = self.lane.name(), "the favourite central instance is back");
            return;
        }
        self.figures.note_failure(failure);
        let error = describe(why);
        let now = Instant::now();
        let mut told = self.told.get_mut(self.choice.at());
        let before = told.as_ref().and_then(|told| **told).filter(|_| !is_stable);
        let is_news = before.is_none_or(|told| told.failure != failure && now - told.at >= QUIET);
        let url = {
            let mut state = self.figures.state();
            state.error = Some(error.clone());
            if is_news || held.is_some() {
                state.since = Some(now);
            }
            state.url.clone()
        };
        let lane = self.lane.name();
        if !is_news {
            debug!(lane, %url, %error, "no uplink");
            return;
        }
        let is_short = held.is_some() && !is_stable && cause != Cause::Switch;
        let was_link = is_short || before.is_some_and(|told| told.was_link);
        if let Some(told) = &mut told {
            **told = Some(Told { failure, at: now, was_link });
        }
        match held {
            Some(held) => warn!(lane, %url, %error, seconds = held.as_secs(), "uplink lost"),
            None => warn!(lane, %url, %error, "no uplink; trying again"),
        }
    }
}

/// What people were told of a central instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) failure: Failure,
    pub(super) at: Instant,
    /// There was a link, and it did not hold: until one holds, another is no news.
    pub(super) was_link: bool,
}

fn describe(why: &Why) -> String {
    match why {
        Why::Connect(error) => error.to_string(),
        Why::BadPack(error) => {
            format!("the central instance does not follow the protocol: {error}")
        }
        Why::Silent(after) => format!("nothing came for {} s", after.as_secs_f32()),
        Why::OtherState { taken, least, most } => format!(
            "it has {taken} messages of this lane, where {least} to {most} can be: another state"
        ),
        Why::Astray { expected, counted } => {
            format!("our bug: message {expected} of the lane would have been counted as {counted}")
        }
        Why::NoStore => "it stores nothing (central.enabled there, or uplink.wait_for = \"taken\" \
                         here)"
            .to_owned(),
        Why::Here(text) => (*text).to_owned(),
        Why::Return => "another is there".to_owned(),
        Why::Spill => "more comes than goes".to_owned(),
        Why::SetAside => "the spool was damaged and is another one now".to_owned(),
        Why::Stop => "the daemon ends".to_owned(),
    }
}

/// So often in a row before a new epoch is begun.
const MOST_ASTRAY: u32 = 3;
/// Between lines in the log about other kinds of one outage.
const QUIET: Duration = Duration::from_secs(60);
