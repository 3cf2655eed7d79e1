//! A message as text: for people, as JSON, as SenML, or as it is.

use std::fmt::Write as _;
use std::io::{self, Write};

use fastport_client::{Delivery, GapCause};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Schema, json, senml};

use super::exit::note;
use super::readings;

/// What is printed of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `topic payload`
    Human,
    /// One JSON object a line.
    Json,
    /// One SenML pack a line, of readings only.
    Senml,
    /// The payload as it is, and nothing else.
    Raw,
}

/// Prints messages.
pub(super) struct Printer<W> {
    out: W,
    form: Form,
    /// something was left out, and the person was told
    has_noted: bool,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, form: Form) -> Self {
        Self { out, form, has_noted: false }
    }

    /// Prints a message; whether it had something to print.
    pub(super) fn message(&mut self, message: &Delivery) -> io::Result<bool> {
        match self.form {
            Form::Human => {
                writeln!(self.out, "{} {}", message.topic, human(message))?;
            }
            Form::Json => {
                let delivery = json::Delivery {
                    topic: &message.topic,
                    flags: message.flags,
                    payload: &message.payload,
                    time: message.unix_ms,
                    schema: message.schema.as_deref(),
                };
                writeln!(self.out, "{}", delivery.to_json())?;
            }
            Form::Senml => match pack(message) {
                Some(pack) => writeln!(self.out, "{pack}")?,
                None => {
                    self.note_left_out(&message.topic);
                    return Ok(false);
                }
            },
            Form::Raw => self.out.write_all(&message.payload)?,
        }
        Ok(true)
    }

    /// Tells of messages that did not come: in the stream of JSON, and to the person.
    pub(super) fn gap(
        &mut self,
        topic: Option<&str>,
        count: u64,
        cause: GapCause,
    ) -> io::Result<()> {
        let of = topic.map_or_else(String::new, |topic| format!(" on {topic}"));
        note(format_args!("gap: {count} messages{of} did not come ({})", cause.name()));
        if self.form == Form::Json {
            writeln!(self.out, "{}", json::gap_to_json(topic, count, cause))?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn note_left_out(&mut self, topic: &str) {
        if !std::mem::replace(&mut self.has_noted, true) {
            note(format_args!("{topic}: no readings; such messages are left out with --senml"));
        }
    }
}

fn pack(message: &Delivery) -> Option<String> {
    if !message.flags.contains(DataFlags::READINGS) || message.flags.contains(DataFlags::SEALED) {
        return None;
    }
    let schema = Schema::decode(message.schema.as_deref()?).ok()?;
    senml::to_json(&schema, &message.topic, &message.payload, message.unix_ms).ok()
}

fn human(message: &Delivery) -> String {
    let payload = &message.payload[..];
    if message.flags.contains(DataFlags::SEALED) {
        return format!("(sealed, {} bytes)", payload.len());
    }
    if message.flags.contains(DataFlags::READINGS)
        && let Some(schema) = &message.schema
        && let Some(text) = readings::show(schema, payload)
    {
        return text;
    }
    match std::str::from_utf8(payload) {
        Ok(text) => harmless(text),
        Err(_) => hex(payload),
    }
}

/// Without what a terminal would act upon.
fn harmless(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && c != '\t' {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::from("0x");
    for byte in bytes {
        // a String takes all that is written to it
        write!(out, "{byte:02x}").unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8], flags: DataFlags, schema: Option<&[u8]>) -> Delivery {
        Delivery {
            topic: "a/b".into(),
            payload: payload.to_vec().into(),
            flags,
            sealed_by: None,
            unix_ms: Some(1_700_000_000_000),
            schema: schema.map(Into::into),
        }
    }

    fn print(form: Form, message: &Delivery) -> String {
        let mut out = Vec::new();
        Printer::new(&mut out, form).message(message).expect("a Vec takes all");
        String::from_utf8(out).expect("these payloads are text")
    }

    #[test]
    fn people_read_text_readings_and_hexadecimal() {
        let schema = &b"\x20\xfe\x03Cel"[..];
        for (payload, flags, schema, shown) in [
            (&b"Hello!"[..], DataFlags::NONE, None, "a/b Hello!\n"),
            (b"two\nlines \x1b[31m", DataFlags::NONE, None, "a/b two\\nlines \\u{1b}[31m\n"),
            (b"\xff\x00", DataFlags::NONE, None, "a/b 0xff00\n"),
            (b"\xb2\x21", DataFlags::READINGS, Some(schema), "a/b 21.37 Cel\n"),
            (b"\xb2\x21", DataFlags::READINGS, None, "a/b 0xb221\n"),
            (b"xyz", DataFlags::SEALED, None, "a/b (sealed, 3 bytes)\n"),
            (b"", DataFlags::NONE, None, "a/b \n"),
        ] {
            assert_eq!(print(Form::Human, &message(payload, flags, schema)), shown);
        }
    }

    #[test]
    fn scripts_read_json_senml_or_the_payload() {
        let readings = message(b"\xb2\x21", DataFlags::READINGS, Some(b"\x20\xfe\x03Cel"));
        let pack = print(Form::Senml, &readings);
        let pack: serde_json::Value = serde_json::from_str(&pack).expect("JSON");
        assert_eq!(pack[0]["bn"], "a/b");
        let text = message(b"Hello!", DataFlags::KEEP, None);
        assert_eq!(print(Form::Senml, &text), "");
        assert_eq!(print(Form::Raw, &text), "Hello!");
        let object: serde_json::Value =
            serde_json::from_str(&print(Form::Json, &text)).expect("JSON");
        assert_eq!((&object["topic"], &object["data"]), (&"a/b".into(), &"Hello!".into()));
        assert_eq!(object["time"], 1_700_000_000_000u64);
    }
}
