//! What the relay's frames mean.

use alloc::boxed::Box;

use fastport_wire::control::{self, ByeReason, Control, ErrorCode};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId, WireError};

use super::{Client, Event, Fault, MESSAGE_WEIGHT, Message, Name, Phase};
use crate::time::NOT_KNOWN;

impl Client {
    pub(super) fn handle_frame(
        &mut self,
        frame: &Frame<'_>,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        if let Frame::Control(body) = *frame {
            let message = match Control::decode(body) {
                Ok(message) => message,
                // a newer relay may say what this client does not know
                Err(WireError::UnknownOp(_)) => return Ok(()),
                Err(error) => return Err(Fault::Wire(error)),
            };
            return self.handle_control(&message, tell);
        }
        if !self.is_ready() {
            return Err(Fault::Unexpected);
        }
        match *frame {
            Frame::Data { flags, topic, payload } => {
                self.handle_data(topic, flags, payload, tell)?;
            }
            Frame::Ack { taken, durable, central, .. } => {
                self.handle_ack(taken, durable, central, tell)?;
            }
            Frame::Time { unix_ms } => self.clock = Some(unix_ms).filter(|&it| it != NOT_KNOWN),
            Frame::Ping { token } => {
                // it may ask for this, and not for a sign of life
                if self.unacked_weight > 0 {
                    self.send_ack();
                }
                self.push(&Frame::Pong { token });
            }
            Frame::Pong { token } => tell(Event::Pong { token }),
            Frame::Topic { id, name, schema } => {
                let schema = schema.map(Box::from);
                self.names.insert(id, Name { name: name.into(), schema });
            }
            Frame::Gap { topic, count, cause } => {
                let topic = topic.and_then(|id| self.names.get(&id)).map(|topic| &*topic.name);
                tell(Event::Gap { topic, count, cause });
            }
            Frame::Chunk { .. } => self.handle_chunk(frame, tell),
            Frame::Credit { stream, bytes } => self.handle_credit(stream, bytes, tell),
            _ => {}
        }
        Ok(())
    }

    fn handle_data(
        &mut self,
        id: TopicId,
        flags: DataFlags,
        payload: &[u8],
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        let Some(topic) = self.names.get(&id) else { return Err(Fault::Unexpected) };
        if flags.contains(DataFlags::COUNTED) {
            self.taken += 1;
            if !self.options.confirms {
                self.unacked_weight += payload.len() + MESSAGE_WEIGHT;
            }
        }
        tell(Event::Message(Message {
            topic: &topic.name,
            schema: topic.schema.as_deref(),
            id,
            flags,
            payload,
            unix_ms: self.clock,
        }));
        Ok(())
    }

    fn handle_ack(
        &mut self,
        taken: u64,
        durable: Option<u64>,
        central: Option<u64>,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        self.outbox
            .acknowledge(&mut self.buffers, &mut self.ledger, taken)
            .map_err(|_| Fault::BadAck)?;
        let number = |count: u64| self.before_epoch + count.min(taken);
        tell(Event::Acked {
            taken: number(taken),
            durable: number(durable.unwrap_or(taken)),
            central: number(central.unwrap_or(taken)),
        });
        Ok(())
    }

    fn handle_control(
        &mut self,
        message: &Control<'_>,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        match (message, &self.phase) {
            (Control::Challenge(challenge), Phase::ExpectWelcome { relay_nonce: None, nonce }) => {
                let nonce = *nonce;
                self.answer(challenge, nonce)
            }
            (Control::Welcome(welcome), Phase::ExpectWelcome { .. }) => {
                self.check_relay(welcome)?;
                self.begin(welcome, tell)
            }
            (Control::Ok(ok), Phase::Ready) => {
                self.finish(ok.request, ok.id.and_then(TopicId::new), tell);
                let id = ok.id.and_then(TopicId::new);
                tell(Event::Done { request: ok.request, id, count: ok.count, text: ok.text });
                Ok(())
            }
            (Control::Error(error), _) => self.handle_error(error, tell),
            (Control::Bye(bye), _) => {
                let reason = ByeReason::from_number(bye.code);
                Err(Fault::Bye { reason, retry_ms: bye.retry })
            }
            (
                Control::Offer(_) | Control::Accept(_) | Control::Decline(_) | Control::Cancel(_),
                Phase::Ready,
            ) => {
                self.handle_stream(message, tell);
                Ok(())
            }
            _ => Err(Fault::Unexpected),
        }
    }

    fn handle_error(
        &mut self,
        error: &control::Error<'_>,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        let code = ErrorCode::from_number(error.code);
        let Some(request) = error.request else {
            let text = error.text.map(Box::from);
            return Err(Fault::Refused { code, text, retry_ms: error.retry });
        };
        self.finish(request, None, tell);
        tell(Event::Failed { request, code, text: error.text });
        Ok(())
    }
}
