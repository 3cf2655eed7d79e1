//! What lies on disk for the central instance: row by row, before what the local session has.

use std::sync::Arc;

use fastport_core::client::{Client, PublishError};
use fastport_core::time::{NOT_KNOWN, Now};
use fastport_wire::Topic;
use fastport_wire::frame::DataFlags;

use super::up::{Asked, FRAME, Known, Route, Up};
use super::{Ended, Task};
use crate::uplink::figures::LaneFigures;
use crate::uplink::spool::{Body, Row, Stamp};

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::uplink) enum RowStep {
    /// It is on its way, for so many bytes.
    Sent(usize),
    /// It waits for an answer or for room.
    Waits,
    /// The central instance does not take it.
    Refused,
}

impl Up {
    pub(super) fn meet_row(&mut self, client: &mut Client, task: &Task, row: &Row) {
        let topic = match &row.body {
            Body::Message { topic, .. } => topic,
            Body::Gap { topic: Some(topic), .. } => topic,
            Body::Gap { topic: None, .. } => return,
        };
        if self.rows.contains_key(&*topic.name) {
            return;
        }
        if self.rows.len() >= MOST_ROW_TOPICS {
            // asked again where they come again
            self.rows.retain(|_, known| matches!(known.route, Route::Opening));
        }
        self.open_row(client, task, &topic.name, topic.schema.as_deref());
    }

    fn open_row(&mut self, client: &mut Client, task: &Task, name: &str, schema: Option<&[u8]>) {
        let carried = Topic::parse(name).ok().and_then(|topic| task.rules.up(topic));
        // rules may be others than when it was taken; it goes up as it was promised
        let there = carried.map_or_else(|| task.rules.central_name(name), |carried| carried.name);
        let route = if Topic::parse(&there).is_ok() {
            let request = client.open_topic(&there, schema, task.tier());
            self.opening.insert(request, Asked::Row(name.into()));
            Route::Opening
        } else {
            Route::Refused
        };
        let known = Known { route, name: there.into(), schema: schema.map(Box::from) };
        self.rows.insert(name.into(), known);
    }

    pub(super) fn carry_row(
        &mut self,
        client: &mut Client,
        task: &Task,
        figures: &Arc<LaneFigures>,
        now: Now,
        row: &Row,
    ) -> Result<RowStep, Ended> {
        let (topic, is_message) = match &row.body {
            Body::Message { topic, .. } => (topic, true),
            Body::Gap { topic: Some(topic), .. } => (topic, false),
            Body::Gap { topic: None, .. } => return Ok(RowStep::Sent(0)),
        };
        let known = self.rows.get(&*topic.name);
        let is_as_before = known.is_some_and(|known| {
            !is_message || known.schema == topic.schema.as_deref().map(Box::from)
        });
        if !is_as_before {
            self.open_row(client, task, &topic.name, topic.schema.as_deref());
        }
        let id = match self.rows.get(&*topic.name).map(|known| &known.route) {
            Some(Route::Open(id)) => *id,
            Some(Route::Opening) => return Ok(RowStep::Waits),
            // what is lost of a topic that cannot be named is in the figures
            _ if !is_message => return Ok(RowStep::Sent(0)),
            _ => return Ok(RowStep::Refused),
        };
        match &row.body {
            Body::Gap { count, cause, .. } => {
                if task.relays {
                    client.tell_gap(id, *count, *cause);
                }
                Ok(RowStep::Sent(FRAME))
            }
            Body::Message { flags, stamp, payload, .. } => {
                let known = match stamp {
                    Stamp::Unix(stamp) | Stamp::Boot(stamp) => now.known(*stamp),
                    Stamp::OtherBoot { .. } => None,
                };
                let clock = task.relays.then_some(known.unwrap_or(NOT_KNOWN));
                let is_counted = flags.contains(DataFlags::COUNTED);
                match client.publish_on(id, clock, *flags, payload) {
                    Ok(counted) if is_counted && counted != row.central_count => {
                        Err(Ended::Astray { expected: row.central_count, counted })
                    }
                    Ok(_) => {
                        figures.messages_up.add(1);
                        figures.payload_up.add(payload.len() as u64);
                        Ok(RowStep::Sent(payload.len() + FRAME))
                    }
                    Err(PublishError::TooLong) => Ok(RowStep::Refused),
                    Err(PublishError::Full | PublishError::NotOpen) => Ok(RowStep::Waits),
                }
            }
        }
    }
}

/// Topics of rows that are remembered.
const MOST_ROW_TOPICS: usize = 4096;
