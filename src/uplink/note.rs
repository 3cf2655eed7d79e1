//! How the counts of a lane at the central instance follow from those in the local session.
//!
//! Kept with the local session's state, so that a lane goes on where it was whatever of the two
//! daemons was away in between.

use fastport_core::session::Note as Words;

/// A lane's epoch at a central instance, and what its counts there differ by. The numbers wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Note {
    /// The link epoch; 0: there was none yet. Its low 16 bits tell the central instance's URL.
    pub epoch: u64,
    /// The count there of what goes up, less the one here.
    pub up: u64,
    /// The count here of what came down, less the one there.
    pub down: u64,
    /// How long there was no link; see `Retry::level`.
    pub level: u64,
}

/// What the local session has of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Local {
    /// Counted frames that the lane has acknowledged.
    pub acked: u64,
    /// Counted frames that the lane has got or will get.
    pub total: u64,
    /// Counted frames that the lane has published.
    pub taken: u64,
}

impl Note {
    /// A new epoch at that central instance.
    #[must_use]
    pub(super) fn begin(url: &str, random: u64, local: &Local) -> Self {
        let epoch = (random & !URL_BITS) | mark(url);
        // 0 stands for none
        let epoch = if epoch & !URL_BITS == 0 { epoch | (URL_BITS + 1) } else { epoch };
        Self { epoch, ..Self::default() }.restarted(local)
    }

    /// As the local session keeps it.
    #[must_use]
    pub(super) fn from_words(words: Words) -> Self {
        let [epoch, up, down, level] = words;
        Self { epoch, up, down, level }
    }

    /// As the local session keeps it.
    #[must_use]
    pub(super) fn to_words(self) -> Words {
        [self.epoch, self.up, self.down, self.level]
    }

    /// Whether there is an epoch, and it is of that central instance.
    #[must_use]
    pub(super) fn is_of(&self, url: &str) -> bool {
        self.epoch != 0 && self.epoch & URL_BITS == mark(url)
    }

    /// The central instance counts from 0: what is acknowledged here it has, what was published here
    /// it has sent.
    #[must_use]
    pub(super) fn restarted(self, local: &Local) -> Self {
        Self { up: local.acked.wrapping_neg(), down: local.taken, ..self }
    }

    /// How much of what came down is published here, by the count there.
    #[must_use]
    pub(super) fn taken(&self, local: &Local) -> u64 {
        local.taken.wrapping_sub(self.down)
    }

    /// The count here of what has count `central` there.
    #[must_use]
    pub(super) fn up_here(&self, central: u64) -> u64 {
        central.wrapping_sub(self.up)
    }

    /// The count there of what has count `local` here.
    #[must_use]
    pub(super) fn up_there(&self, local: u64) -> u64 {
        local.wrapping_add(self.up)
    }
}

/// FNV-1a, folded to 16 bits: it tells a few URLs apart, and is the same after an upgrade.
fn mark(url: &str) -> u64 {
    let hash = url.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) & URL_BITS
}

const URL_BITS: u64 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_of_one_central_instance() {
        let local = Local { acked: 5, total: 9, taken: 2 };
        let note = Note::begin("tcp://a:1", 0, &local);
        assert!(note.is_of("tcp://a:1") && !note.is_of("tcp://b:1"));
        assert!(!Note::default().is_of("tcp://a:1"));
    }

    #[test]
    fn counts_there_follow_from_those_here() {
        let local = Local { acked: 5, total: 9, taken: 2 };
        let note = Note::begin("tcp://a:1", 1 << 40, &local);
        assert_eq!((note.up_there(5), note.up_there(9)), (0, 4));
        assert_eq!(note.up_here(4), 9);
        assert_eq!(note.taken(&local), 0);
        assert_eq!(note.taken(&Local { taken: 7, ..local }), 5);
    }
}
