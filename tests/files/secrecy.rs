//! What of a sealed file the relay has in its memory while it passes it on: no byte of its content, not its
//! name, and not the key.

use std::fs;
use std::path::Path;

use crate::memory::{find_in_memory, key_and_digits};
use crate::scene::{
    Proxy, Tool, folder_on_disk, names as names_in, plain, seal_keys, wait_for_part,
    wait_for_receivers,
};
use crate::support::folder;

#[test]
fn the_relay_has_neither_content_nor_name_nor_key_of_a_sealed_file_in_its_memory() {
    let (_daemon_folder, daemon) = plain();
    let from = folder();
    let keys = seal_keys(from.path());
    // slow, so that both are under way for as long as it takes to look
    let proxy = Proxy::start_slow(&daemon.address("tcp"), LINE);
    let url = format!("tcp://{}", proxy.address);
    let seal = ["--seal", keys.as_str()];
    let names = ["a-name-that-is-not-sealed.bin", "a-name-that-is-sealed.bin"];
    let mut under_way = Vec::new();
    for (at, (name, content)) in names.into_iter().zip([PLAIN, SEALED]).enumerate() {
        let source = from.path().join(name);
        fs::write(&source, content.repeat(LENGTH / content.len())).expect("the folder is ours");
        let to = folder_on_disk();
        let topic = ["files/plain", "files/sealed"][at];
        let more = if at == 1 { &seal[..] } else { &[] };
        let (dir, source) = (text(to.path()), text(&source));
        let receiver = Tool::start(&url, &[&["recv", topic, "--dir", dir], more].concat());
        wait_for_receivers(&daemon, 1 + 2 * at as u64);
        let sender = Tool::start(&daemon.url("tcp"), &[&["send", source, topic], more].concat());
        wait_for_part(to.path(), 1);
        under_way.push((sender, receiver, to));
    }
    let (key, digits) = key_and_digits(Path::new(&keys));
    let [plain_name, sealed_name] = names.map(str::as_bytes);
    let wanted = [PLAIN, plain_name, SEALED, sealed_name, &key, digits.as_bytes(), SHORT_OF_SEALED];
    let found = find_in_memory(daemon.pid(), &wanted);
    for (_, _, to) in &under_way {
        let mut left = names_in(to.path());
        left.retain(|name| name.ends_with(".part"));
        assert_eq!(left.len(), 1, "it was under way all the time");
    }
    let expected = [true, true, false, false, false, false, false];
    assert_eq!(found, expected, "what is not sealed is found, and no more");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

const PLAIN: &[u8] = b"what all may read, again and again; ";
const SEALED: &[u8] = b"what none but members may ever read, again and again; ";
/// Shorter than two blocks of the cipher.
const SHORT_OF_SEALED: &[u8] = b"none but members may";
/// Bytes of each file.
const LENGTH: usize = 4_000_000;
/// Bytes a second of each receiver.
const LINE: f64 = 100_000.0;
