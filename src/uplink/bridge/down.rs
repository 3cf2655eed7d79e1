//! What comes from the central instance, in its order, until it is published here.

use std::collections::{HashMap, VecDeque};

use fastport_core::client;
use fastport_wire::control::ErrorCode;
use fastport_wire::frame::DataFlags;

use super::Notice;
use crate::config::Lane;
use crate::uplink::rules::Rules;

/// A message for the local session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The topic's name here.
    pub topic: Box<str>,
    /// The schema of its readings.
    pub schema: Option<Box<[u8]>>,
    /// Counted, keep, sealed, readings.
    pub flags: DataFlags,
    /// What was published.
    pub payload: Box<[u8]>,
}

/// Something that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Coming {
    /// To be published.
    Message(Message),
    /// Of a topic that no rule brings down on this lane.
    Unwanted {
        /// It has its place among the counted.
        is_counted: bool,
    },
}

#[derive(Default)]
pub(super) struct Down {
    queue: VecDeque<Coming>,
    bytes: usize,
    asked: HashMap<u32, Box<str>>,
}

impl Down {
    /// Notes which request subscribes to a filter.
    pub(super) fn asked(&mut self, request: u32, filter: &str) {
        self.asked.insert(request, filter.into());
    }

    /// A request failed; if it was one of these, what people should know.
    pub(super) fn refused(&mut self, request: u32, code: Option<ErrorCode>) -> Option<Notice> {
        let filter = self.asked.remove(&request)?;
        Some(Notice::FilterRefused { filter, code })
    }

    pub(super) fn take(&mut self, rules: &Rules, lane: Lane, message: &client::Message<'_>) {
        let is_counted = message.flags.contains(DataFlags::COUNTED);
        let carried = rules.down(message.topic).filter(|carried| carried.rule.lane == lane);
        let Some(carried) = carried else {
            self.queue.push_back(Coming::Unwanted { is_counted });
            return;
        };
        self.bytes += message.payload.len() + OVERHEAD;
        self.queue.push_back(Coming::Message(Message {
            topic: carried.name.into(),
            schema: message.schema.map(Box::from),
            flags: message.flags,
            payload: message.payload.into(),
        }));
    }

    pub(super) fn next(&self) -> Option<&Coming> {
        self.queue.front()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first is dealt with; whether it was counted.
    pub(super) fn done(&mut self) -> Option<bool> {
        Some(match self.queue.pop_front()? {
            Coming::Unwanted { is_counted } => is_counted,
            Coming::Message(message) => {
                self.bytes -= message.payload.len() + OVERHEAD;
                message.flags.contains(DataFlags::COUNTED)
            }
        })
    }
}

/// What a message weighs beside its payload.
const OVERHEAD: usize = 128;
