//! What this package seals, an implementation of other hands opens, and the reverse: `sealing.py`,
//! over Python's `cryptography`.

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use fastport_seal::{
    CHUNK_HEAD, Content, Few, Freshness, SessionKey, open_offer, sealed_chunk_len,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use self::support::{SCRIPT, hex, open_first, python, seal, sealer, to_hex};

#[test]
fn the_vectors_are_what_the_second_implementation_writes() {
    let output = Command::new(python()).args([SCRIPT, "compare"]).output().expect("Python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run `make test`, which installs what it needs: {said}");
}

/// One case, and what is asked of the other side about it.
struct Case {
    question: Value,
    expected: Value,
}

/// Asks all at once: starting Python takes longer than the rest.
fn ask(cases: &[Case]) {
    let mut child = Command::new(python())
        .args([SCRIPT, "answer"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let questions: String = cases.iter().map(|case| format!("{}\n", case.question)).collect();
    let mut stdin = child.stdin.take().expect("piped");
    // it answers while it reads
    let writer = std::thread::spawn(move || stdin.write_all(questions.as_bytes()));
    let output = child.wait_with_output().expect("it ends with its input");
    writer.join().expect("no panic").expect("it reads to the end");
    let answers = String::from_utf8(output.stdout).expect("JSON");
    assert_eq!(answers.lines().count(), cases.len(), "every question is answered");
    for (case, answer) in cases.iter().zip(answers.lines()) {
        let answer: Value = serde_json::from_str(answer).expect("JSON");
        assert_eq!(answer, case.expected, "{}", case.question);
    }
}

/// Two hundred values of a strategy, the same with every run.
fn some<S: Strategy>(strategy: S) -> Vec<S::Value> {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let value = |_| strategy.new_tree(&mut runner).expect("no filters").current();
    (0..200).map(value).collect()
}

#[test]
fn messages_of_one_are_those_of_the_other() {
    let strategy = (
        any::<[u8; 32]>(),
        "[a-z]{1,12}",
        any::<[u8; 8]>(),
        0u64..1 << 47,
        ("[a-zäöü]{1,20}(/[a-z0-9]{1,5}){0,3}", any::<bool>()),
        proptest::collection::vec(any::<u8>(), 0..3000),
    );
    let mut cases = Vec::new();
    for (key, session, sender, counter, (topic, readings), plain) in some(strategy) {
        let schema: &[u8] = if readings { b"\x24\xfe\x03Cel" } else { b"" };
        let content = match readings {
            true => Content::readings(&topic, schema),
            false => Content::message(&topic),
        };
        let scope = SessionKey::new(key).scope(&session);
        let sealed =
            seal(&mut sealer(&scope, fastport_seal::SenderId(sender), counter), content, &plain);
        assert_eq!(open_first(&[scope], content, &sealed).as_ref(), Ok(&plain));
        let mut question = json!({
            "key": to_hex(&key), "session": session, "sender": to_hex(&sender), "counter": counter,
            "kind": if readings { "readings" } else { "message" }, "topic": topic,
            "schema": to_hex(schema), "sealed": to_hex(&sealed),
        });
        cases.push(Case {
            question: question.clone(),
            expected: json!({ "plain": to_hex(&plain) }),
        });
        let object = question.as_object_mut().expect("made so above");
        object.remove("sealed");
        object.insert("plain".to_owned(), to_hex(&plain).into());
        cases.push(Case { question, expected: json!({ "sealed": to_hex(&sealed) }) });
    }
    ask(&cases);
}

#[test]
fn chunks_of_one_are_those_of_the_other() {
    let key = [0x5a; 32];
    let scope = SessionKey::new(key).scope("home");
    let mut sealer = sealer(&scope, support::SENDER, 99);
    let mut offer = [0; 64];
    let (sealed, chunks) = sealer.seal_offer("files", &mut offer, 0).expect("reserved");
    let mut senders = Few::<1, 1>::new();
    let offer = &mut offer[..sealed.len];
    let (_, mut opener) = open_offer(&[scope], &mut senders, "files", Freshness::New, offer)
        .expect("as it was sealed");
    let mut cases = Vec::new();
    let plain = proptest::collection::vec(any::<u8>(), 0..3000);
    for (offset, last, plain) in some((0u64..1 << 60, any::<bool>(), plain)) {
        let mut buffer = vec![0; sealed_chunk_len(plain.len())];
        buffer[CHUNK_HEAD..][..plain.len()].copy_from_slice(&plain);
        chunks
            .seal_chunk(offset, last, &mut buffer, plain.len())
            .expect("the buffer is long enough");
        let sealed = to_hex(&buffer);
        opener.resume_at(offset);
        assert_eq!(opener.open_chunk(offset, last, &mut buffer), Ok(&mut plain.clone()[..]));
        let question = json!({
            "key": to_hex(&key), "session": "home", "sender": to_hex(&support::SENDER.0),
            "counter": 99, "offset": offset, "last": last, "sealed": sealed,
        });
        cases.push(Case { question, expected: json!({ "plain": to_hex(&plain) }) });
    }
    ask(&cases);
    assert_eq!(hex("00ff"), [0, 255]);
}
