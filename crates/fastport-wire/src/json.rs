//! Control messages as JSON objects with named keys, for WebSocket text messages and scripts; and
//! deliveries and gaps in the same form, for peers that speak JSON only.
//!
//! The keys are the names of [`Fields`], with these differences, made for people:
//! - `op` is a name of [`Control::OPS`]; `code`, `method`, `when_full` and `tier` are names (their
//!   numbers are understood too);
//! - bytes are base64 with padding, but a password can be `password` (text, instead of `proof`), and
//!   a payload is `data` (a string is its UTF-8 bytes, any other JSON value its own text without
//!   white space) or `data64`;
//! - each bit of `flags` has a key of its own: `counted`, `keep`, `sealed` (emit), `times`,
//!   `ack_durable`, `ack_central`, `streams` (hello), `no_local`, `no_last` (subscribe), `directory`,
//!   `sealed` (offer).
//!
//! Any text gives a message or [`WireError::BadJson`]. How deep it nests does not matter.

use core::fmt;
use std::borrow::ToOwned;
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::WireError;
use crate::control::{
    ByeReason, Control, ErrorCode, Fields, Method, Tier, VERSION, WhenFull, features, offers,
    options,
};
use crate::field::data_flag;
use crate::frame::{DataFlags, GapCause};
use crate::{Schema, senml};

/// The `op` that [`JsonMessage::as_control`] reports for a name that is not known here. No message
/// has this number.
pub const UNKNOWN_OP: u8 = 0xff;

/// The `op` of the one message that only JSON has: what an ACK frame says, for peers without frames.
pub const ACK: &str = "ack";

/// One message as it came, its names resolved and its bytes decoded.
pub struct JsonMessage {
    keys: Keys,
    op: u8,
    code: Option<u8>,
    method: Option<u8>,
    when_full: Option<u8>,
    tier: Option<u8>,
    flags: Option<u32>,
    proof: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
}

/// Without what could be a secret.
impl fmt::Debug for JsonMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Keys { op, request, .. } = &self.keys;
        f.debug_struct("JsonMessage")
            .field("op", op)
            .field("request", request)
            .finish_non_exhaustive()
    }
}

impl JsonMessage {
    /// Reads one message. Keys that are not known are ignored; `null` is as good as no key, but for
    /// `data`, where it is the payload `null`.
    ///
    /// # Errors
    /// [`WireError::BadJson`]: not one object; a value of the wrong type; a name that is not known;
    /// a key twice; `data` with `data64`, or `password` with `proof`.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        // serde would take an array for an object's values in order
        if !text.trim_start_matches(WHITE_SPACE).starts_with('{') {
            return Err(WireError::BadJson);
        }
        let mut keys: Keys = serde_json::from_str(text).map_err(|_| WireError::BadJson)?;
        let op = Control::OPS.iter().find(|(name, _)| *name == keys.op);
        let op = op.map_or(UNKNOWN_OP, |&(_, number)| number);
        let code = if op == BYE {
            number_of(keys.code.as_ref(), |name| ByeReason::from_name(name).map(ByeReason::number))
        } else {
            number_of(keys.code.as_ref(), |name| ErrorCode::from_name(name).map(ErrorCode::number))
        }?;
        Ok(Self {
            op,
            code,
            method: number_of(keys.method.as_ref(), |name| {
                Method::from_name(name).map(Method::number)
            })?,
            when_full: number_of(keys.when_full.as_ref(), |name| {
                WhenFull::from_name(name).map(WhenFull::number)
            })?,
            tier: number_of(keys.tier.as_ref(), |name| Tier::from_name(name).map(Tier::number))?,
            flags: keys.all_flags(op),
            proof: keys.proof_bytes()?,
            data: keys.payload()?,
            keys,
        })
    }

    /// The message's `op` as it came.
    #[must_use]
    pub fn op(&self) -> &str {
        &self.keys.op
    }

    /// The message's `request`: whom to answer also when [`JsonMessage::as_control`] refuses it.
    #[must_use]
    pub const fn request(&self) -> Option<u32> {
        self.keys.request
    }

    /// What `{"op":"ack","taken":n}` says: how many counted deliveries its sender has. `None` for
    /// any other message.
    #[must_use]
    pub fn acknowledged(&self) -> Option<u64> {
        if self.keys.op == ACK { self.keys.taken } else { None }
    }

    /// The message as the fields of a control message; `op` is [`UNKNOWN_OP`] where its name is not
    /// known.
    #[must_use]
    pub fn as_fields(&self) -> Fields<'_> {
        let keys = &self.keys;
        Fields {
            op: self.op,
            request: keys.request,
            session: keys.session.as_deref(),
            topic: keys.topic.as_deref(),
            id: keys.id,
            code: self.code,
            text: keys.text.as_deref(),
            version: keys.version,
            method: self.method,
            identity: keys.identity.as_deref(),
            nonce: keys.nonce.as_ref().map(Base64::bytes),
            proof: self.proof.as_deref(),
            epoch: keys.epoch,
            taken: keys.taken,
            flags: self.flags,
            when_full: self.when_full,
            keepalive: keys.keepalive,
            count: keys.count,
            age: keys.age,
            schema: keys.schema.as_ref().map(Base64::bytes),
            data: self.data.as_deref(),
            clock: keys.clock,
            payload_limit: keys.payload_limit,
            retry: keys.retry,
            name: keys.name.as_deref(),
            size: keys.size,
            offset: keys.offset,
            digest: keys.digest.as_ref().map(Base64::bytes),
            tier: self.tier,
            linger: keys.linger,
            resumed: keys.resumed,
            stream: keys.stream,
        }
    }

    /// The message. What a page need not say is assumed: a HELLO without `version` and `epoch` is of
    /// this version and of no epoch to come back to; a request without `request` has number 0.
    ///
    /// # Errors
    /// [`WireError::UnknownOp`] of [`UNKNOWN_OP`]; [`WireError::BadControl`] when a field it must
    /// have is not there.
    pub fn as_control(&self) -> Result<Control<'_>, WireError> {
        let mut fields = self.as_fields();
        match fields.op {
            HELLO => {
                fields.version = fields.version.or(Some(VERSION));
                fields.epoch = fields.epoch.or(Some(0));
            }
            op if REQUESTS.contains(&op) => fields.request = fields.request.or(Some(0)),
            _ => {}
        }
        Control::from_fields(&fields)
    }
}

/// Writes a control message as one JSON object.
#[must_use]
pub fn to_json(message: &Control<'_>) -> String {
    let fields = message.to_fields();
    let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
    let base64 = |bytes: Option<&[u8]>| bytes.map(|bytes| Base64(bytes.to_vec()));
    let (data, data64) = fields.data.map_or((None, None), split_payload);
    let mut keys = Keys {
        op: message.name().to_owned(),
        request: fields.request,
        session: owned(fields.session),
        topic: owned(fields.topic),
        id: fields.id,
        code: named(fields.code, |number| {
            if fields.op == BYE {
                ByeReason::from_number(number).map(ByeReason::name)
            } else {
                ErrorCode::from_number(number).map(ErrorCode::name)
            }
        }),
        text: owned(fields.text),
        version: fields.version,
        method: named(fields.method, |number| Method::from_number(number).map(Method::name)),
        identity: owned(fields.identity),
        nonce: base64(fields.nonce),
        proof: base64(fields.proof),
        epoch: fields.epoch,
        taken: fields.taken,
        when_full: named(fields.when_full, |number| {
            WhenFull::from_number(number).map(WhenFull::name)
        }),
        keepalive: fields.keepalive,
        count: fields.count,
        age: fields.age,
        schema: base64(fields.schema),
        data,
        data64,
        clock: fields.clock,
        payload_limit: fields.payload_limit,
        retry: fields.retry,
        name: owned(fields.name),
        size: fields.size,
        offset: fields.offset,
        digest: base64(fields.digest),
        tier: named(fields.tier, |number| Tier::from_number(number).map(Tier::name)),
        linger: fields.linger,
        resumed: fields.resumed,
        stream: fields.stream,
        ..Keys::default()
    };
    keys.set_flags(fields.op, fields.flags);
    text_of(&keys)
}

/// A message on its way to a peer that speaks JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// UTF-8 goes as `data`, always a string; all else as `data64`.
    pub payload: &'a [u8],
    /// Each as a key of its own where set: `counted`, `keep`, `sealed`, `readings`.
    pub flags: DataFlags,
    /// When the relay took it, in milliseconds since 1970-01-01T00:00:00Z.
    pub time: Option<u64>,
    /// The schema of the topic's readings: they are given as a SenML pack (RFC 8428) beside the
    /// payload.
    pub schema: Option<&'a [u8]>,
}

impl Delivery<'_> {
    /// As one JSON object: `{"op":"data","topic":…,"data":…,"counted":true,"time":…}`. Readings whose
    /// schema is known and fits have a SenML pack as `senml`, an array of records.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            op: &'static str,
            topic: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            data64: Option<String>,
            #[serde(skip_serializing_if = "is_false")]
            counted: bool,
            #[serde(skip_serializing_if = "is_false")]
            keep: bool,
            #[serde(skip_serializing_if = "is_false")]
            sealed: bool,
            #[serde(skip_serializing_if = "is_false")]
            readings: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            time: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            senml: Option<Box<RawValue>>,
        }
        let data = core::str::from_utf8(self.payload).ok();
        text_of(&Object {
            op: "data",
            topic: self.topic,
            data,
            data64: if data.is_none() { Some(STANDARD.encode(self.payload)) } else { None },
            counted: self.flags.contains(DataFlags::COUNTED),
            keep: self.flags.contains(DataFlags::KEEP),
            sealed: self.flags.contains(DataFlags::SEALED),
            readings: self.flags.contains(DataFlags::READINGS),
            time: self.time,
            senml: self.senml(),
        })
    }

    fn senml(&self) -> Option<Box<RawValue>> {
        let schema = self.schema.filter(|_| self.flags.contains(DataFlags::READINGS))?;
        let schema = Schema::decode(schema).ok()?;
        let pack = senml::to_json(&schema, self.topic, self.payload, self.time).ok()?;
        RawValue::from_string(pack).ok()
    }
}

/// Messages that will not come, for a peer that speaks JSON: of one topic, or with `None` of
/// several. `{"op":"gap","topic":…,"count":n,"cause":"overflow"}`.
#[must_use]
pub fn gap_to_json(topic: Option<&str>, count: u64, cause: GapCause) -> String {
    #[derive(Serialize)]
    struct Object<'a> {
        op: &'static str,
        topic: Option<&'a str>,
        count: u64,
        cause: &'static str,
    }
    text_of(&Object { op: "gap", topic, count, cause: cause.name() })
}

/// Bytes as base64 text: standard alphabet, with padding.
struct Base64(Vec<u8>);

impl Base64 {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// A number that has a name; a newer side may send one that has none here.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum NameOrNumber {
    Name(String),
    Number(u8),
}

/// Declares the keys after `op`: all optional, left out where there is nothing to say.
macro_rules! keys {
    ($( $key:ident : $kind:ty, )*) => {
        /// The keys as they stand in the text, in the order in which they are written.
        #[derive(Default, Serialize, Deserialize)]
        struct Keys {
            op: String,
            $(
                #[serde(default, skip_serializing_if = "Option::is_none")]
                $key: Option<$kind>,
            )*
            #[serde(default, deserialize_with = "also_null", skip_serializing_if = "Option::is_none")]
            data: Option<Box<RawValue>>,
        }
    };
}

keys! {
    request: u32,
    session: String,
    topic: String,
    id: u32,
    code: NameOrNumber,
    text: String,
    version: u8,
    method: NameOrNumber,
    identity: String,
    nonce: Base64,
    proof: Base64,
    password: String,
    epoch: u64,
    taken: u64,
    flags: u32,
    counted: bool,
    keep: bool,
    sealed: bool,
    times: bool,
    ack_durable: bool,
    ack_central: bool,
    streams: bool,
    directory: bool,
    no_local: bool,
    no_last: bool,
    when_full: NameOrNumber,
    keepalive: u32,
    count: u64,
    age: u64,
    schema: Base64,
    data64: Base64,
    clock: u64,
    payload_limit: u32,
    retry: u32,
    name: String,
    size: u64,
    offset: u64,
    digest: Base64,
    tier: NameOrNumber,
    linger: u32,
    resumed: bool,
    stream: u32,
}

impl Keys {
    fn all_flags(&mut self, op: u8) -> Option<u32> {
        flag_keys(op).iter().fold(self.flags, |flags, &(key, flag)| match key(self) {
            Some(true) => Some(flags.unwrap_or(0) | flag),
            _ => flags,
        })
    }

    fn set_flags(&mut self, op: u8, flags: Option<u32>) {
        let Some(mut rest) = flags else { return };
        for &(key, flag) in flag_keys(op) {
            if rest & flag != 0 {
                *key(self) = Some(true);
                rest &= !flag;
            }
        }
        if rest != 0 || flags == Some(0) {
            self.flags = Some(rest);
        }
    }

    fn proof_bytes(&self) -> Result<Option<Vec<u8>>, WireError> {
        match (&self.proof, &self.password) {
            (Some(_), Some(_)) => Err(WireError::BadJson),
            (Some(Base64(bytes)), None) => Ok(Some(bytes.clone())),
            (None, password) => Ok(password.as_ref().map(|text| text.as_bytes().to_vec())),
        }
    }

    fn payload(&self) -> Result<Option<Vec<u8>>, WireError> {
        match (&self.data64, &self.data) {
            (Some(_), Some(_)) => Err(WireError::BadJson),
            (Some(Base64(bytes)), None) => Ok(Some(bytes.clone())),
            (None, Some(data)) if data.get().starts_with('"') => {
                let text: String =
                    serde_json::from_str(data.get()).map_err(|_| WireError::BadJson)?;
                Ok(Some(text.into_bytes()))
            }
            (None, data) => Ok(data.as_ref().map(|data| compact(data.get()))),
        }
    }
}

/// The flags of that message which have keys of their own.
fn flag_keys(op: u8) -> &'static [FlagKey] {
    match op {
        HELLO => &[
            (|keys| &mut keys.times, features::TIME),
            (|keys| &mut keys.ack_durable, features::ACK_DURABLE),
            (|keys| &mut keys.ack_central, features::ACK_CENTRAL),
            (|keys| &mut keys.streams, features::STREAMS),
        ],
        SUBSCRIBE => &[
            (|keys| &mut keys.no_local, options::NO_LOCAL),
            (|keys| &mut keys.no_last, options::NO_LAST),
        ],
        OFFER => &[
            (|keys| &mut keys.directory, offers::DIRECTORY),
            (|keys| &mut keys.sealed, offers::SEALED),
        ],
        EMIT => &[
            (|keys| &mut keys.counted, data_flag::COUNTED as u32),
            (|keys| &mut keys.keep, data_flag::KEEP as u32),
            (|keys| &mut keys.sealed, data_flag::SEALED as u32),
        ],
        _ => &[],
    }
}

type FlagKey = (fn(&mut Keys) -> &mut Option<bool>, u32);

/// For `data`: `null` is a value, not an absent key.
fn also_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

fn number_of(
    key: Option<&NameOrNumber>,
    number_of_name: impl Fn(&str) -> Option<u8>,
) -> Result<Option<u8>, WireError> {
    match key {
        None => Ok(None),
        Some(NameOrNumber::Number(number)) => Ok(Some(*number)),
        Some(NameOrNumber::Name(name)) => number_of_name(name).map(Some).ok_or(WireError::BadJson),
    }
}

fn named(number: Option<u8>, name_of: impl Fn(u8) -> Option<&'static str>) -> Option<NameOrNumber> {
    number.map(|number| {
        name_of(number)
            .map_or(NameOrNumber::Number(number), |name| NameOrNumber::Name(name.to_owned()))
    })
}

/// A payload as `data` or as `data64`.
fn split_payload(payload: &[u8]) -> (Option<Box<RawValue>>, Option<Base64>) {
    match core::str::from_utf8(payload).ok().and_then(|text| to_raw_value(text).ok()) {
        Some(data) => (Some(data), None),
        None => (None, Some(Base64(payload.to_vec()))),
    }
}

/// A JSON value's text without the white space between its tokens.
fn compact(json: &str) -> Vec<u8> {
    let (mut in_string, mut is_escaped) = (false, false);
    let mut keep = |byte: u8| {
        if in_string {
            in_string = byte != b'"' || is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            return true;
        }
        in_string = byte == b'"';
        !WHITE_SPACE.contains(&char::from(byte))
    };
    json.bytes().filter(|&byte| keep(byte)).collect()
}

fn text_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("keys are strings and no value here can fail to be written")
}

// serde names the signature
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What JSON calls white space.
const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

// the messages of which some key means something of its own
const HELLO: u8 = 0;
const SUBSCRIBE: u8 = 6;
const OFFER: u8 = 9;
const BYE: u8 = 15;
const EMIT: u8 = 17;
/// The messages that must have a number for their answer: open, subscribe, unsubscribe, history,
/// create-session, status.
const REQUESTS: [u8; 6] = [4, SUBSCRIBE, 7, 8, 13, 18];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::{Emit, Open, Subscribe};

    fn error_of(text: &str) -> Option<WireError> {
        JsonMessage::parse(text).and_then(|message| message.as_control().map(drop)).err()
    }

    fn payload_of(text: &str) -> Vec<u8> {
        let message = JsonMessage::parse(text).expect(text);
        let fields = message.as_fields();
        fields.data.expect("the message has a payload").to_vec()
    }

    #[test]
    fn the_numbers_named_here_are_those_of_the_messages() {
        for (number, name) in [
            (HELLO, "hello"),
            (SUBSCRIBE, "subscribe"),
            (OFFER, "offer"),
            (BYE, "bye"),
            (EMIT, "emit"),
        ] {
            assert!(Control::OPS.contains(&(name, number)));
        }
        assert!(!Control::OPS.iter().any(|&(name, number)| number == UNKNOWN_OP || name == ACK));
    }

    #[test]
    fn a_message_is_published_with_three_keys() {
        let message = JsonMessage::parse(r#"{"op":"emit","topic":"chat/room1","data":"Hello!"}"#);
        let message = message.expect("well formed");
        let expected = Emit { topic: "chat/room1", data: b"Hello!", ..Emit::default() };
        assert_eq!(message.as_control(), Ok(Control::Emit(expected)));
    }

    #[test]
    fn flags_are_keys_of_their_own() {
        let text =
            r#"{"op":"emit","topic":"a","data":"","counted":true,"keep":true,"sealed":false}"#;
        let message = JsonMessage::parse(text).expect("well formed");
        let expected = Emit { topic: "a", flags: Some(3), ..Emit::default() };
        assert_eq!(message.as_control(), Ok(Control::Emit(expected)));
        let message = Control::Subscribe(Subscribe {
            request: 1,
            topic: "#",
            flags: Some(options::NO_LAST),
            ..Subscribe::default()
        });
        assert_eq!(
            to_json(&message),
            r##"{"op":"subscribe","request":1,"topic":"#","no_last":true}"##
        );
    }

    #[test]
    fn data_is_any_json_value() {
        for (data, payload) in [
            (r#""a \"b\" \u00e9""#, "a \"b\" é"),
            (
                r#"{ "b" : [ 1.0 , 1e2 ] , "a" : "x  \" y\\" }"#,
                r#"{"b":[1.0,1e2],"a":"x  \" y\\"}"#,
            ),
            ("12345678901234567890123", "12345678901234567890123"),
            (" null ", "null"),
            ("true", "true"),
        ] {
            let text = std::format!(r#"{{"op":"emit","topic":"a","data":{data}}}"#);
            assert_eq!(payload_of(&text), payload.as_bytes(), "{text}");
        }
        assert_eq!(payload_of(r#"{"op":"emit","topic":"a","data64":"AP8="}"#), [0, 0xff]);
    }

    #[test]
    fn a_password_is_text() {
        let message =
            JsonMessage::parse(r#"{"op":"proof","password":"señal"}"#).expect("well formed");
        assert_eq!(message.as_fields().proof, Some("señal".as_bytes()));
    }

    #[test]
    fn numbers_with_names_are_understood_by_both() {
        for code in [r#""shutting-down""#, "1"] {
            let text = std::format!(r#"{{"op":"bye","code":{code}}}"#);
            assert_eq!(JsonMessage::parse(&text).expect(&text).as_fields().code, Some(1));
        }
        let message = JsonMessage::parse(r#"{"op":"error","code":"bad-frame","more":[{}]}"#);
        let message = message.expect("well formed");
        let control = message.as_control().expect("complete");
        assert_eq!(to_json(&control), r#"{"op":"error","code":"bad-frame"}"#);
    }

    #[test]
    fn an_ack_is_a_message_of_its_own() {
        let message = JsonMessage::parse(r#"{"op":"ack","taken":9}"#).expect("well formed");
        assert_eq!(message.acknowledged(), Some(9));
        let other = JsonMessage::parse(r#"{"op":"hello","taken":9}"#).expect("well formed");
        assert_eq!(other.acknowledged(), None);
    }

    #[test]
    fn each_fault_has_its_name() {
        for text in [
            "",
            "7",
            "[]",
            r#"["status",1]"#,
            "{",
            "{}",
            r#"{"op":4}"#,
            r#"{"op":"status","request":"1"}"#,
            r#"{"op":"status","request":-1}"#,
            r#"{"op":"status","request":1.5}"#,
            r#"{"op":"status","request":4294967296}"#,
            r#"{"op":"status","op":"status"}"#,
            r#"{"op":"status"} x"#,
            r#"{"op":"emit","data":"","data64":""}"#,
            r#"{"op":"emit","data64":"AA"}"#,
            r#"{"op":"emit","data64":"A_-="}"#,
            r#"{"op":"emit","data":"\ud800"}"#,
            r#"{"op":"emit","keep":1}"#,
            r#"{"op":"proof","password":"a","proof":""}"#,
            r#"{"op":"error","code":"no-such"}"#,
            r#"{"op":"error","code":256}"#,
            r#"{"op":"hello","nonce":[1]}"#,
        ] {
            assert_eq!(error_of(text), Some(WireError::BadJson), "{text}");
        }
        assert_eq!(error_of(r#"{"op":"subscribe","request":1}"#), Some(WireError::BadControl));
        assert_eq!(error_of(r#"{"op":"dance"}"#), Some(WireError::UnknownOp(UNKNOWN_OP)));
    }

    #[test]
    fn what_a_page_need_not_say_is_assumed() {
        let message = JsonMessage::parse(r#"{"op":"hello","session":"demo"}"#).expect("JSON");
        let Ok(Control::Hello(hello)) = message.as_control() else { panic!("{message:?}") };
        assert_eq!((hello.version, hello.epoch, hello.session), (VERSION, 0, "demo"));
        let message = JsonMessage::parse(r##"{"op":"subscribe","topic":"#"}"##).expect("JSON");
        let Ok(Control::Subscribe(subscribe)) = message.as_control() else { panic!("{message:?}") };
        assert_eq!(subscribe.request, 0);
    }

    #[test]
    fn depth_is_harmless() {
        for key in ["data", "else", "op", "code"] {
            for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
                let deep = open.repeat(200_000) + "1" + &close.repeat(200_000);
                let text = std::format!(r#"{{"op":"emit","topic":"a","{key}":{deep}}}"#);
                let unfinished = &text[..text.len() / 2];
                assert_eq!(error_of(unfinished), Some(WireError::BadJson));
                let is_taken = JsonMessage::parse(&text).is_ok();
                assert_eq!(is_taken, matches!(key, "data" | "else"), "{key} {open}");
            }
        }
    }

    #[test]
    fn deliveries_and_gaps_have_this_text() {
        let text = Delivery {
            topic: "a/b",
            payload: b"hi \"x\"",
            flags: DataFlags::COUNTED.with(DataFlags::KEEP),
            time: Some(1_700_000_000_000),
            schema: None,
        };
        assert_eq!(
            text.to_json(),
            r#"{"op":"data","topic":"a/b","data":"hi \"x\"","counted":true,"keep":true,"time":1700000000000}"#
        );
        let bytes = Delivery {
            topic: "a",
            payload: &[0xff],
            flags: DataFlags::READINGS,
            time: None,
            schema: None,
        };
        assert_eq!(bytes.to_json(), r#"{"op":"data","topic":"a","data64":"/w==","readings":true}"#);
        assert_eq!(
            gap_to_json(None, 3, GapCause::Overflow),
            r#"{"op":"gap","topic":null,"count":3,"cause":"overflow"}"#
        );
        assert_eq!(
            gap_to_json(Some("a"), 1, GapCause::LinkLost),
            r#"{"op":"gap","topic":"a","count":1,"cause":"link-lost"}"#
        );
    }

    #[test]
    fn an_optional_field_left_out_is_not_written() {
        let open = Control::Open(Open { request: 1, topic: "a", ..Open::default() });
        assert_eq!(to_json(&open), r#"{"op":"open","request":1,"topic":"a"}"#);
    }

    prop_compose! {
        /// Fields of any values, so that of every message each field is tried.
        fn any_fields()(
            op in 0u8..19, request: u32, texts: [std::string::String; 5], numbers: [Option<u32>; 8],
            small: [Option<u8>; 5], large: [Option<u64>; 7], bytes: [Option<Vec<u8>>; 4],
            data: Vec<u8>, resumed: bool,
        ) -> (u8, u32, [std::string::String; 5], [Option<u32>; 8], [Option<u8>; 5], [Option<u64>; 7],
              [Option<Vec<u8>>; 4], Vec<u8>, bool) {
            (op, request, texts, numbers, small, large, bytes, data, resumed)
        }
    }

    proptest! {
        #[test]
        fn every_message_comes_back(
            (op, request, texts, numbers, small, large, bytes, data, resumed) in any_fields(),
        ) {
            let [session, topic, text, identity, name] = &texts;
            let fields = Fields {
                op,
                request: Some(request),
                session: Some(session),
                topic: Some(topic),
                id: Some(numbers[0].unwrap_or(1)),
                code: Some(small[0].unwrap_or(1)),
                text: Some(text),
                version: Some(small[1].unwrap_or(2)),
                method: Some(small[2].unwrap_or(0)),
                identity: Some(identity),
                nonce: bytes[0].as_deref(),
                proof: Some(bytes[1].as_deref().unwrap_or_default()),
                epoch: Some(large[0].unwrap_or(0)),
                taken: Some(large[1].unwrap_or(0)),
                flags: numbers[1],
                when_full: small[3],
                keepalive: numbers[2],
                count: large[2],
                age: large[3],
                schema: bytes[2].as_deref(),
                data: Some(&data),
                clock: large[4],
                payload_limit: Some(numbers[3].unwrap_or(0)),
                retry: numbers[4],
                name: Some(name),
                size: large[5],
                offset: large[6],
                digest: bytes[3].as_deref(),
                tier: small[4],
                linger: numbers[5],
                resumed: Some(resumed),
                stream: numbers[7],
            };
            let control = Control::from_fields(&fields).expect("all required fields are there");
            let json = to_json(&control);
            let message = JsonMessage::parse(&json).expect("what was written is well formed");
            prop_assert_eq!(message.as_control(), Ok(control), "{}", json);
        }

        #[test]
        fn any_text_gives_a_message_or_an_error(text in ".{0,200}") {
            let _ = error_of(&text);
        }

        #[test]
        fn any_object_gives_a_message_that_comes_back_or_an_error(
            op in "emit|hello|open|bye|ack|none",
            keys in proptest::collection::btree_map(
                "topic|data|data64|request|code|flags|keep|session|version|epoch|x",
                "null|true|-?[0-9]{1,12}|\"[a-zA-Z0-9+/=]{0,8}\"|\\[ *[0-9]\\]|\\{\\}", 0..8,
            ),
        ) {
            let keys: std::string::String =
                keys.iter().map(|(key, value)| std::format!(r#","{key}":{value}"#)).collect();
            let text = std::format!(r#"{{"op":"{op}"{keys}}}"#);
            let Ok(message) = JsonMessage::parse(&text) else { return Ok(()) };
            let Ok(control) = message.as_control() else { return Ok(()) };
            let json = to_json(&control);
            let again = JsonMessage::parse(&json).expect("what was written is well formed");
            prop_assert_eq!(again.as_control(), Ok(control));
        }
    }
}
