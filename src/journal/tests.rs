//! What both kinds of journals promise, and what damage does to them.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;

/// A service manager.
#[derive(Debug, Default)]
struct Keeper(Mutex<HashMap<String, OwnedFd>>);

impl FdKeeper for Keeper {
    fn store(&self, name: &str, file: BorrowedFd<'_>) {
        let file = file.try_clone_to_owned().expect("a descriptor");
        self.0.lock().expect("no panic").insert(name.to_owned(), file);
    }

    fn take(&self, name: &str) -> Option<OwnedFd> {
        let held = self.0.lock().expect("no panic");
        held.get(name).map(|file| file.as_fd().try_clone_to_owned().expect("a descriptor"))
    }

    fn remove(&self, name: &str) {
        self.0.lock().expect("no panic").remove(name);
    }
}

fn places() -> (TempDir, [Place; 2]) {
    let folder = TempDir::new().expect("a folder");
    let disk = Place::Disk(folder.path().join("state"));
    (folder, [Place::Memory(Arc::new(Keeper::default())), disk])
}

fn reopened(place: &Place) -> (Vec<Vec<u8>>, Option<Found>, Box<dyn JournalSink>) {
    let mut opened = open(place, "plant", 1000).expect("a journal");
    let mut pieces = Vec::new();
    let found = opened.read(|piece| {
        pieces.push(piece.to_vec());
        Ok(())
    });
    (pieces, found, opened.into_sink())
}

fn begin(sink: &mut dyn JournalSink, snapshot: &[&[u8]]) {
    sink.rewrite(&mut |write| snapshot.iter().try_for_each(|piece| write(piece)))
        .expect("room on the disk");
}

fn sync(sink: &mut dyn JournalSink) {
    if let Some(syncing) = sink.syncing() {
        syncing().expect("a disk that works");
    }
}

#[test]
fn what_was_written_is_found_again() {
    let (_folder, places) = places();
    for place in places {
        let (pieces, found, mut sink) = reopened(&place);
        assert_eq!((pieces.len(), found), (0, None), "the first life");
        begin(&mut *sink, &[b"all", b"there is"]);
        sink.write(b"one").expect("room");
        sink.write(b"two").expect("room");
        drop(sink);
        // no goodbye: as after kill -9
        let (pieces, found, mut sink) = reopened(&place);
        assert_eq!(pieces, [&b"all"[..], b"there is", b"one", b"two"]);
        let found = found.expect("there was one");
        assert!(found.is_of_this_boot && found.damage.is_none());
        begin(&mut *sink, &[b"again"]);
        sync(&mut *sink);
        drop(sink);
        assert_eq!(reopened(&place).0, [b"again"]);
    }
}

#[test]
fn a_snapshot_takes_the_place_of_what_was_before_and_loses_nothing_meanwhile() {
    let (_folder, places) = places();
    for place in places {
        let (_, _, mut sink) = reopened(&place);
        begin(&mut *sink, &[b"0"]);
        for number in 1..200u8 {
            sink.write(&[number; 20]).expect("room");
        }
        assert!(sink.is_long());
        begin(&mut *sink, &[b"short"]);
        assert!(!sink.is_long());
        sink.write(b"after").expect("room");
        // before the snapshot is in its place, and after
        for is_synced in [false, true] {
            if is_synced {
                sync(&mut *sink);
            }
            let pieces = reopened(&place).0;
            assert_eq!(pieces.last().map(Vec::as_slice), Some(&b"after"[..]));
            let is_new = pieces.len() == 2;
            assert!(is_new || !is_synced, "{place:?} {}", pieces.len());
            assert!(is_new || pieces.len() == 201);
        }
        sink.write(b"more").expect("room");
        assert_eq!(reopened(&place).0, [&b"short"[..], b"after", b"more"]);
    }
}

#[test]
fn a_snapshot_that_fails_leaves_the_journal_as_it_was() {
    let (_folder, places) = places();
    for place in places {
        let (_, _, mut sink) = reopened(&place);
        begin(&mut *sink, &[b"0"]);
        sink.write(b"1").expect("room");
        let failed = sink.rewrite(&mut |write| {
            write(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(failed.is_err());
        sink.write(b"2").expect("room");
        sync(&mut *sink);
        assert_eq!(reopened(&place).0, [b"0", b"1", b"2"]);
    }
}

#[test]
fn a_journal_is_used_up_to_the_damage_and_set_aside() {
    let (_folder, [_, place]) = places();
    let (_, _, mut sink) = reopened(&place);
    begin(&mut *sink, &[b"all"]);
    sink.write(b"one").expect("room");
    sink.write(b"two").expect("room");
    drop(sink);
    let Place::Disk(folder) = &place else { panic!("it is on disk") };
    let path = folder.join("journal-plant.log");
    let whole = fs::read(&path).expect("a journal");
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).expect("room");
        let (pieces, found, _) = reopened(&place);
        assert!(pieces.len() < 3);
        let is_whole_piece = found.expect("there was one").damage.is_none();
        assert_eq!(!is_whole_piece, folder.join("journal-plant.damaged").exists(), "{end}");
        if !is_whole_piece {
            let aside = fs::read(folder.join("journal-plant.damaged")).expect("set aside");
            assert_eq!(aside, &whole[..end]);
            fs::remove_file(folder.join("journal-plant.damaged")).expect("it is there");
        }
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).expect("room");
        let (pieces, found, _) = reopened(&place);
        let is_padding = (36..40).contains(&at);
        assert_eq!(found.expect("there was one").damage.is_none(), is_padding, "{at}");
        assert!(pieces.len() < 3 || is_padding);
        assert!(pieces.iter().zip([b"all", b"one", b"two"]).all(|(piece, sound)| piece == sound));
    }
}

#[test]
fn records_without_sense_are_damage() {
    let (_folder, places) = places();
    for place in places {
        let (_, _, mut sink) = reopened(&place);
        begin(&mut *sink, &[b"all"]);
        sink.write(b"one").expect("room");
        drop(sink);
        let mut opened = open(&place, "plant", 1000).expect("a journal");
        let mut count = 0;
        let found = opened.read(|_| {
            count += 1;
            if count == 2 { Err(BadRecord { at: 0 }) } else { Ok(()) }
        });
        let damage = found.expect("there was one").damage;
        assert!(matches!(damage, Some(Damage::Records { .. })), "{damage:?}");
    }
}

#[test]
fn a_session_that_is_no_more_leaves_nothing() {
    let (_folder, places) = places();
    for place in places {
        let (_, _, mut sink) = reopened(&place);
        begin(&mut *sink, &[b"all"]);
        sink.discard();
        drop(sink);
        assert!(reopened(&place).1.is_none());
    }
}

#[test]
fn what_a_memfd_no_longer_needs_is_given_back() {
    let keeper = Arc::new(Keeper::default());
    let place = Place::Memory(keeper.clone() as Arc<dyn FdKeeper>);
    let (_, _, mut sink) = reopened(&place);
    begin(&mut *sink, &[b"all"]);
    for _ in 0..100 {
        sink.write(&[7; 64 * 1024]).expect("room");
    }
    begin(&mut *sink, &[b"all"]);
    let file = File::from(keeper.take("journal-plant").expect("it is held"));
    let metadata = file.metadata().expect("a file");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&metadata);
    assert!(metadata.len() > 6 << 20 && blocks * 512 < 64 * 1024, "{blocks} blocks");
    let mut first = [0; 4];
    file.read_exact_at(&mut first, 8192).expect("a hole");
    assert_eq!(first, [0; 4]);
}
