//! What frames say, in the JSON of text messages, and the other way round.

use std::collections::BTreeMap;

use fastport_core::time::NOT_KNOWN;
use fastport_wire::control::{self, Control, ErrorCode};
use fastport_wire::field::MAX_BODY;
use fastport_wire::json::{Delivery, JsonMessage, gap_to_json, to_json};
use fastport_wire::{Frame, TopicId, WireError};

use super::framing::opcode;
use super::unsent::Unsent;

/// What a message that has no frames is answered: its request, or 0, and the code.
pub(super) type NoFrames = (u32, ErrorCode);

/// What is needed to say in JSON what frames say.
#[derive(Default)]
pub(super) struct Json {
    topics: BTreeMap<TopicId, Topic>,
    clock: Option<u64>,
}

struct Topic {
    name: Box<str>,
    schema: Option<Box<[u8]>>,
}

impl Json {
    /// Puts what the first of `frames` says into `unsent`; the length of that frame, or 0 where there
    /// is none.
    pub(super) fn say_first(&mut self, frames: &[u8], unsent: &mut Unsent) -> usize {
        let Ok(Some((frame, length))) = Frame::decode(frames, MAX_BODY) else { return 0 };
        if matches!(frame, Frame::Ping { .. }) {
            // browsers answer it by themselves
            unsent.push_message(opcode::PING, &[]);
        } else if let Some(text) = self.text_of(&frame) {
            unsent.push_message(opcode::TEXT, text.as_bytes());
        }
        length
    }

    fn text_of(&mut self, frame: &Frame<'_>) -> Option<String> {
        match *frame {
            Frame::Control(body) => Control::decode(body).ok().map(|message| to_json(&message)),
            Frame::Data { flags, topic, payload } => {
                let Topic { name: topic, schema } = self.topics.get(&topic)?;
                let (time, schema) = (self.clock, schema.as_deref());
                Some(Delivery { topic, payload, flags, time, schema }.to_json())
            }
            Frame::Time { unix_ms } => {
                self.clock = Some(unix_ms).filter(|&it| it != NOT_KNOWN);
                None
            }
            Frame::Topic { id, name, schema } => {
                let topic = Topic { name: name.into(), schema: schema.map(Box::from) };
                self.topics.insert(id, topic);
                None
            }
            Frame::Gap { topic, count, cause } => {
                let topic = topic.and_then(|id| self.topics.get(&id)).map(|topic| &*topic.name);
                Some(gap_to_json(topic, count, cause))
            }
            // acknowledgements have no place in JSON: requests are answered
            _ => None,
        }
    }
}

/// The frame that a text message stands for.
pub(super) fn frame_of_json(text: &str) -> Result<Vec<u8>, NoFrames> {
    let message = JsonMessage::parse(text).map_err(|error| (0, code_of(error)))?;
    let whose = |error| (message.request().unwrap_or(0), code_of(error));
    if let Some(taken) = message.acknowledged() {
        let ack = Frame::Ack { taken, durable: None, central: None, repeat: false };
        return encode(&ack).map_err(whose);
    }
    let control = message.as_control().map_err(whose)?;
    let mut body = vec![0; text.len() + control::BODY_ROOM];
    let length = control.encode(&mut body).map_err(whose)?;
    encode(&Frame::Control(body.get(..length).unwrap_or_default())).map_err(whose)
}

fn code_of(error: WireError) -> ErrorCode {
    match error {
        WireError::UnknownOp(_) => ErrorCode::UnknownMessage,
        WireError::BadControl => ErrorCode::BadControl,
        _ => ErrorCode::BadJson,
    }
}

fn encode(frame: &Frame<'_>) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_message_is_answered_by_its_name_and_to_its_request() {
        for (text, owed) in [
            (r#"{"op":"dance","request":7}"#, (7, ErrorCode::UnknownMessage)),
            (r#"{"op":"dance"}"#, (0, ErrorCode::UnknownMessage)),
            (r#"{"op":"open","request":7}"#, (7, ErrorCode::BadControl)),
            (r#"{"op":"emit","data":""}"#, (0, ErrorCode::BadControl)),
            (r#"{"op":"open","request":"7"}"#, (0, ErrorCode::BadJson)),
            ("[]", (0, ErrorCode::BadJson)),
        ] {
            assert_eq!(frame_of_json(text), Err(owed), "{text}");
        }
    }

    #[test]
    fn an_emit_becomes_a_frame() {
        let text = r#"{"op":"emit","topic":"chat/room1","data":"Hello!"}"#;
        let frame = frame_of_json(text).expect("a message");
        let Ok(Some((Frame::Control(body), _))) = Frame::decode(&frame, 64) else {
            panic!("{frame:x?}");
        };
        let Ok(Control::Emit(emit)) = Control::decode(body) else { panic!("{body:x?}") };
        assert_eq!((emit.topic, emit.data), ("chat/room1", &b"Hello!"[..]));
    }
}
