//! The one seam of this program: a wire protocol as a client speaks it.
//!
//! A `Protocol` is sans-I/O: it appends bytes to send to a buffer and walks bytes that were
//! received. The drivers (`link`, and the blocking threads of the latency scenario) own the
//! sockets, and `codec` puts the transport between both. To measure one more relay, implement
//! `Protocol`, add it to `ProtocolKind` and to `with_protocol!`, and describe the relay in
//! `peers.toml`.

pub mod fastport;
pub mod mqtt;
pub mod nats;
pub mod raw;

use std::fmt;
use std::str::FromStr;

use crate::transport::TransportKind;

/// What one received frame meant to a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The relay accepted the connection.
    Connected,
    /// The relay confirmed the last subscription.
    Subscribed,
    /// A message of a subscription.
    Delivery { payload: &'a [u8] },
    /// The relay made the topic ready that was declared last, under this number.
    Declared(u32),
    /// The relay acknowledged so many more of our publishes.
    Acked(u64),
}

/// The peer sent something that this client does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolError(pub String);

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ProtocolError {}

/// A client's side of one connection of one protocol.
///
/// Topics and filters are given in one canonical form, levels parted by `/`, with `+` for one
/// level and `#` for the rest; each protocol maps them to its own.
pub trait Protocol: Send + 'static {
    /// A topic made ready for publishing on this connection.
    type Topic: Clone + Send + 'static;

    /// Appends what a client sends first. The driver waits for `Event::Connected`.
    fn connect(&mut self, client_id: &str, out: &mut Vec<u8>);

    /// Appends a subscription. The driver waits for `Event::Subscribed`.
    fn subscribe(&mut self, filter: &str, out: &mut Vec<u8>);

    /// Prepares a topic. `None` where the protocol has a registration, which is then in `out`: the
    /// driver waits for `Event::Declared` and hands its number to `declared`.
    fn declare(&mut self, topic: &str, out: &mut Vec<u8>) -> Option<Self::Topic>;

    /// The topic that the relay gave this number.
    fn declared(&mut self, _number: u32) -> Option<Self::Topic> {
        None
    }

    /// Appends one publish.
    fn encode_publish(&mut self, topic: &Self::Topic, payload: &[u8], out: &mut Vec<u8>);

    /// Walks every whole frame in `input`, tells `sink` what each meant, appends replies that the
    /// protocol demands (acknowledgements, pongs), and returns how many bytes it used up.
    fn parse(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, ProtocolError>;

    /// Called once for all that one read brought: appends acknowledgements that cover many messages.
    fn after_read(&mut self, _replies: &mut Vec<u8>) {}

    /// Whether the relay acknowledges each publish with `Event::Acked`.
    fn acks_publishes(&self) -> bool {
        false
    }

    /// Whether what is on the way ends with its acknowledgement, as the protocol has it; otherwise
    /// with its delivery, and `may_publish` bounds what is not acknowledged.
    fn acks_end_flight(&self) -> bool {
        self.acks_publishes()
    }

    /// Whether the client holds another message until it is acknowledged.
    fn may_publish(&self) -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProtocolKind {
    MqttQos0,
    MqttQos1,
    Nats,
    Raw,
    Fastport(Flavour),
}

/// The ways in which fastPort is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flavour {
    pub transport: TransportKind,
    /// Payloads are readings packed under a schema.
    pub readings: bool,
    /// Publishes and deliveries are counted and acknowledged.
    pub counted: bool,
}

impl Flavour {
    /// What the tables call fastPort's plain figure.
    pub const PLAIN_TCP: Flavour =
        Flavour { transport: TransportKind::Tcp, readings: false, counted: false };
}

impl ProtocolKind {
    /// Every protocol that is spoken here.
    pub fn all() -> Vec<ProtocolKind> {
        use ProtocolKind::{Fastport, MqttQos0, MqttQos1, Nats, Raw};
        let mut all = vec![MqttQos0, MqttQos1, Nats, Raw];
        for transport in TransportKind::ALL {
            for (readings, counted) in [(false, false), (false, true), (true, false), (true, true)]
            {
                all.push(Fastport(Flavour { transport, readings, counted }));
            }
        }
        all
    }

    /// The transport under it.
    pub fn transport(self) -> TransportKind {
        match self {
            ProtocolKind::Fastport(flavour) => flavour.transport,
            _ => TransportKind::Tcp,
        }
    }

    /// Whether publishes and deliveries are acknowledged.
    pub fn is_counted(self) -> bool {
        match self {
            ProtocolKind::MqttQos1 => true,
            ProtocolKind::Fastport(flavour) => flavour.counted,
            _ => false,
        }
    }

    /// Whether payloads are packed readings.
    pub fn has_readings(self) -> bool {
        matches!(self, ProtocolKind::Fastport(Flavour { readings: true, .. }))
    }

    pub fn name(self) -> String {
        match self {
            ProtocolKind::MqttQos0 => "mqtt-qos0".into(),
            ProtocolKind::MqttQos1 => "mqtt-qos1".into(),
            ProtocolKind::Nats => "nats".into(),
            ProtocolKind::Raw => "raw".into(),
            ProtocolKind::Fastport(Flavour { transport, readings, counted }) => format!(
                "fastport-{}{}{}",
                transport.name(),
                if readings { "-readings" } else { "" },
                if counted { "-counted" } else { "" },
            ),
        }
    }
}

impl FromStr for ProtocolKind {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        ProtocolKind::all()
            .into_iter()
            .find(|k| k.name() == s)
            .ok_or_else(|| format!("no protocol named {s:?}"))
    }
}

impl fmt::Display for ProtocolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Runs `$body` with `$new` bound to a maker (`Fn() -> impl Protocol`) of the named protocol.
#[macro_export]
macro_rules! with_protocol {
    ($kind:expr, $new:ident => $body:expr) => {{
        use $crate::protocol::ProtocolKind;
        use $crate::protocol::fastport::Fastport;
        use $crate::protocol::mqtt::{Mqtt, Qos};
        use $crate::protocol::nats::Nats;
        use $crate::protocol::raw::Raw;
        match $kind {
            ProtocolKind::Fastport(flavour) => {
                let $new = move || Fastport::new(flavour);
                $body
            }
            ProtocolKind::MqttQos0 => {
                let $new = || Mqtt::new(Qos::AtMostOnce);
                $body
            }
            ProtocolKind::MqttQos1 => {
                let $new = || Mqtt::new(Qos::AtLeastOnce);
                $body
            }
            ProtocolKind::Nats => {
                let $new = Nats::new;
                $body
            }
            ProtocolKind::Raw => {
                let $new = Raw::new;
                $body
            }
        }
    }};
}

#[cfg(test)]
pub mod testing {
    use super::{Event, Protocol};

    fn note(event: Event<'_>) -> String {
        match event {
            Event::Connected => "C".into(),
            Event::Subscribed => "S".into(),
            Event::Acked(n) => format!("A{n}"),
            Event::Declared(number) => format!("T{number}"),
            Event::Delivery { payload } => format!("D{payload:?}"),
        }
    }

    /// Everything that `wire` meant, and the replies; it must be whole frames.
    pub fn events<P: Protocol>(proto: &mut P, wire: &[u8]) -> (Vec<String>, Vec<u8>) {
        let (mut seen, mut replies) = (Vec::new(), Vec::new());
        let used = proto.parse(wire, &mut replies, &mut |e| seen.push(note(e))).unwrap();
        assert_eq!(used, wire.len());
        proto.after_read(&mut replies);
        (seen, replies)
    }

    /// Parsing in two pieces, cut anywhere, gives what parsing in one piece gives.
    pub fn assert_split_safe<P: Protocol>(new: impl Fn() -> P, wire: &[u8]) {
        let whole = events(&mut new(), wire);
        for cut in 0..wire.len() {
            let mut proto = new();
            let (mut seen, mut replies) = (Vec::new(), Vec::new());
            let used =
                proto.parse(&wire[..cut], &mut replies, &mut |e| seen.push(note(e))).unwrap();
            assert!(used <= cut);
            let rest =
                proto.parse(&wire[used..], &mut replies, &mut |e| seen.push(note(e))).unwrap();
            assert_eq!(used + rest, wire.len());
            assert_eq!((seen, replies), whole, "cut at {cut}");
        }
    }
}
