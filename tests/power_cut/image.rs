//! Files as a loss of power leaves them.

use std::collections::BTreeMap;

use crate::Random;
use crate::trace::Event;

/// Files that a disk could have.
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// Which of the images of one moment are looked at.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) synced: bool,
    pub(crate) some: bool,
}

/// What a disk was told: what it has for sure, and what it may have.
#[derive(Default)]
pub(crate) struct Disk {
    files: BTreeMap<String, File>,
    begun: usize,
    done: usize,
    /// changes of what it has for sure
    synced: u64,
}

#[derive(Default, Clone)]
struct File {
    /// after the last sync
    safe: Vec<u8>,
    /// since then, in order
    since: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Disk {
    /// Steps of the workload that were begun, and that came to their end.
    pub(crate) fn steps_begun(&self) -> usize {
        self.begun
    }

    pub(crate) fn steps_done(&self) -> usize {
        self.done
    }

    /// Grows when it has something else for sure than before.
    pub(crate) fn synced(&self) -> u64 {
        self.synced
    }

    pub(crate) fn take(&mut self, event: &Event) {
        self.synced += u64::from(!matches!(
            event,
            Event::Write { .. } | Event::Truncate { .. } | Event::StepBegun(_) | Event::StepDone(_)
        ));
        match event {
            Event::Create { name } => drop(self.files.entry(name.clone()).or_default()),
            Event::Write { name, at, bytes } => {
                let change = Change::Write { at: *at, bytes: bytes.clone() };
                self.files.entry(name.clone()).or_default().since.push(change);
            }
            Event::Truncate { name, length } => {
                let file = self.files.entry(name.clone()).or_default();
                file.since.push(Change::Truncate(*length));
            }
            Event::Sync { name } => {
                let Some(file) = self.files.get_mut(name) else { return };
                for change in std::mem::take(&mut file.since) {
                    change.apply(&mut file.safe);
                }
            }
            // a journal keeps the order of these
            Event::Unlink { name } => drop(self.files.remove(name)),
            Event::Rename { from, to } => {
                if let Some(file) = self.files.remove(from) {
                    self.files.insert(to.clone(), file);
                }
            }
            Event::StepBegun(step) => self.begun = *step,
            Event::StepDone(step) => self.done = *step,
        }
    }

    /// All that was written; if that is wanted, nothing that was not synced, or some of it, in any order; the
    /// last write torn.
    pub(crate) fn images(&self, random: &mut Random, wanted: Wanted) -> Vec<Image> {
        let mut images = vec![self.image("all", &mut |_| Fate::Whole)];
        if wanted.synced {
            images.push(self.image("only what was synced", &mut |_| Fate::Lost));
        }
        if !wanted.some || self.files.values().all(|file| file.since.is_empty()) {
            return images;
        }
        images.push(self.image("some", &mut |_| match random.below(4) {
            0 => Fate::Lost,
            1 => Fate::Torn { sectors: random.next() },
            _ => Fate::Whole,
        }));
        let sectors = random.next();
        let torn = &mut |is_last| if is_last { Fate::Torn { sectors } } else { Fate::Whole };
        images.push(self.image("the last one torn", torn));
        images
    }

    /// All that was written, and one to three bits of it flipped.
    pub(crate) fn flipped(&self, random: &mut Random) -> Image {
        let mut image = self.image("", &mut |_| Fate::Whole);
        for _ in 0..=random.below(3) {
            // half of them where the messages are not: heads and inner pages are few
            let total: usize = image.files.values().map(Vec::len).sum();
            let mut at = random.below(total.max(1));
            for (name, bytes) in &mut image.files {
                if let Some(byte) = bytes.get_mut(at) {
                    let bit = random.below(8);
                    *byte ^= 1 << bit;
                    image.name = format!("{} bit {bit} of {name}[{at}]", image.name);
                    break;
                }
                at -= bytes.len();
            }
        }
        image
    }

    fn image(&self, name: &str, fate: &mut dyn FnMut(bool) -> Fate) -> Image {
        let mut files = BTreeMap::new();
        for (file, content) in &self.files {
            let mut bytes = content.safe.clone();
            for (place, change) in content.since.iter().enumerate() {
                let is_last = place + 1 == content.since.len();
                change.come_to(fate(is_last), &mut bytes);
            }
            files.insert(file.clone(), bytes);
        }
        Image { name: name.to_owned(), files }
    }
}

/// What becomes of a change that was not synced.
enum Fate {
    Whole,
    Lost,
    /// of its sectors those with a bit here
    Torn {
        sectors: u64,
    },
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => put(file, *at, bytes),
            Self::Truncate(length) => file.resize(*length, 0),
        }
    }

    fn come_to(&self, fate: Fate, file: &mut Vec<u8>) {
        match (fate, self) {
            (Fate::Lost, _) => {}
            (Fate::Torn { sectors }, Self::Write { at, bytes }) => {
                let mut from = 0;
                while from < bytes.len() {
                    let sector = (at + from) / SECTOR;
                    let to = bytes.len().min((sector + 1) * SECTOR - at);
                    if sectors >> (sector % 64) & 1 == 1 {
                        put(file, at + from, &bytes[from..to]);
                    }
                    from = to;
                }
            }
            _ => self.apply(file),
        }
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
