//! `vectors/sealing.json`, both ways.

mod support;

use fastport_seal::{
    CHUNK_HEAD, ChunkError, Content, Few, Freshness, Scope, SenderId, SessionKey, StreamOpener,
    StreamSealer, open_offer, sealed_chunk_len,
};
use serde_json::Value;

use self::support::{VECTORS, hex, home, name, open_first, seal, sealer, to_hex};

fn vectors() -> Value {
    let text = std::fs::read_to_string(VECTORS).expect("the vectors are in the repository");
    serde_json::from_str(&text).expect("JSON")
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().expect("a list")
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().expect("a text")
}

fn scope(vector: &Value) -> Scope {
    let key: [u8; 32] = hex(text(vector, "key")).try_into().expect("32 bytes");
    SessionKey::new(key).scope(text(vector, "session"))
}

fn sender(vector: &Value) -> SenderId {
    SenderId(hex(text(vector, "sender")).try_into().expect("8 bytes"))
}

#[test]
fn a_key_and_its_session_are_named_as_the_vectors_say() {
    let keys = &vectors()["keys"];
    let key: [u8; 32] = hex(text(keys, "key")).try_into().expect("32 bytes");
    assert_eq!(SessionKey::new(key).id().to_string(), text(keys, "key_id"));
    let sealed = seal(&mut sealer(&home(), support::SENDER, 0), Content::message("a"), b"");
    assert_eq!(to_hex(&sealed[4..6]), text(keys, "session_id"));
}

#[test]
fn every_message_seals_to_these_bytes_and_opens_to_this_text() {
    for vector in list(&vectors(), "messages") {
        let (topic, schema) = (text(vector, "topic"), hex(text(vector, "schema")));
        let content = match text(vector, "kind") {
            "message" => Content::message(topic),
            "readings" => Content::readings(topic, &schema),
            _ => Content::offer(topic),
        };
        let counter = vector["counter"].as_u64().expect("a number");
        let (scope, plain) = (scope(vector), hex(text(vector, "plain")));
        let mut sealer = sealer(&scope, sender(vector), counter);
        let sealed = seal(&mut sealer, content, &plain);
        assert_eq!(to_hex(&sealed), text(vector, "sealed"), "{vector}");
        assert_eq!(open_first(&[scope], content, &sealed), Ok(plain), "{vector}");
    }
}

/// The stream of the vectors, from both ends.
fn stream(vectors: &Value) -> (StreamSealer, StreamOpener) {
    let stream = &vectors["stream"];
    let scope = scope(stream);
    let mut sealer = sealer(&scope, sender(stream), stream["counter"].as_u64().expect("a number"));
    let mut offer = [0; 64];
    let (sealed, chunks) =
        sealer.seal_offer("files", &mut offer, 2).expect("counters are reserved");
    let mut senders = Few::<1, 1>::new();
    let offer = &mut offer[..sealed.len];
    let opened = open_offer(&[scope], &mut senders, "files", Freshness::New, offer);
    (chunks, opened.expect("as it was sealed").1)
}

#[test]
fn every_chunk_seals_to_these_bytes_and_opens_to_this_text() {
    let vectors = vectors();
    let (sealer, mut opener) = stream(&vectors);
    for vector in list(&vectors["stream"], "chunks") {
        let offset = vector["offset"].as_u64().expect("a number");
        let (last, plain) = (vector["last"] == true, hex(text(vector, "plain")));
        let mut buffer = vec![0; sealed_chunk_len(plain.len())];
        buffer[CHUNK_HEAD..][..plain.len()].copy_from_slice(&plain);
        let length = sealer.seal_chunk(offset, last, &mut buffer, plain.len());
        assert_eq!(
            (length, to_hex(&buffer)),
            (Ok(buffer.len()), text(vector, "sealed").to_owned())
        );
        opener.resume_at(offset);
        assert_eq!(opener.open_chunk(offset, !last, &mut buffer), Err(ChunkError::Altered));
        assert_eq!(opener.open_chunk(offset, last, &mut buffer), Ok(&mut plain.clone()[..]));
        assert_eq!(opener.finish().is_ok(), last);
    }
}

#[test]
fn what_is_refused_is_called_by_the_name_of_what_is_wrong() {
    for vector in list(&vectors()["refused"], "messages") {
        let content = Content::message("boiler/temperature");
        let error = open_first(&[home()], content, &hex(text(vector, "sealed")));
        assert_eq!(error.map_err(name), Err(text(vector, "error")), "{vector}");
    }
}
