//! The paths that a message takes through fastPort, each ready to be run as often as one likes:
//! criterion times them (`benches/`), the guard counts their instructions (`src/bin/guard`).
//!
//! A path promises that what it measures is right: before it is measured all messages are looked at,
//! whether they arrive, once and in order, and afterwards the sums are. There is no I/O in any of
//! them, no clock and no chance.

pub mod outbox;
pub mod rig;
pub mod route;
pub mod wire;

/// One path.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// Its name, also in the file of budgets.
    pub name: &'static str,
    /// What is routed, decoded or appended, and how.
    pub about: &'static str,
    make: fn() -> Box<dyn Work>,
}

impl Path {
    /// What its name begins with: the part of the work that it belongs to.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.name.split('-').next().unwrap_or(self.name)
    }

    /// Sets the path up.
    #[must_use]
    pub fn make(&self) -> Box<dyn Work> {
        (self.make)()
    }
}

/// A path that is set up.
pub trait Work {
    /// Does the path's work once: what is measured.
    fn round(&mut self);

    /// Messages, or readings, that one round brings to their readers: what is divided by.
    fn messages(&self) -> u64;

    /// Does some rounds, looking at each message; call it before the first round.
    ///
    /// # Panics
    /// When a message is missing, out of order or too many.
    fn verify(&mut self);

    /// Looks at the sums of `rounds` rounds since [`Work::verify`].
    ///
    /// # Panics
    /// When they are not what that many rounds make.
    fn check(&self, rounds: u64);
}

/// All paths.
pub fn all() -> impl DoubleEndedIterator<Item = Path> {
    [wire::PATHS, route::PATHS, outbox::PATHS].into_iter().flatten().copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_path_brings_all_of_its_messages() {
        for path in all() {
            let mut work = path.make();
            work.verify();
            (0..5).for_each(|_| work.round());
            work.check(5);
        }
    }

    #[test]
    fn no_two_paths_have_the_same_name() {
        let names: BTreeSet<_> = all().map(|path| path.name).collect();
        assert_eq!(names.len(), all().count());
    }
}
