//! Whose turn it is, of the streams that have chunks for one link.

use alloc::collections::VecDeque;

/// The streams with something to write, each once; they take turns by the chunk.
#[derive(Debug, Default)]
pub struct Lane {
    turns: VecDeque<u32>,
    /// the one of which a chunk is begun: it is at the front
    is_begun: bool,
    /// what is being written is of the one at the front
    is_writing: bool,
}

/// What a link may write of its streams next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The stream.
    pub stream: u32,
    /// Only the rest of the chunk that is begun.
    pub is_rest: bool,
    /// No other waits.
    pub is_alone: bool,
}

impl Lane {
    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// A stream that had nothing to write has something.
    pub fn enter(&mut self, stream: u32) {
        self.turns.push_back(stream);
    }

    /// A stream has nothing to write any more.
    pub fn leave(&mut self, stream: u32) {
        if self.turns.front() == Some(&stream) {
            (self.is_begun, self.is_writing) = (false, false);
        }
        self.turns.retain(|&waiting| waiting != stream);
    }

    /// Whether a chunk is begun: its rest goes before all else on the link.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whose turn it is; what is written next is of that stream.
    pub fn begin(&mut self) -> Option<Turn> {
        let &stream = self.turns.front()?;
        self.is_writing = true;
        Some(Turn { stream, is_rest: self.is_begun, is_alone: self.turns.len() == 1 })
    }

    /// What is written next is of no stream.
    pub fn pass(&mut self) {
        self.is_writing = false;
    }

    /// The stream that was being written, if one was.
    pub fn take_writing(&mut self) -> Option<u32> {
        core::mem::take(&mut self.is_writing).then(|| self.turns.front().copied()).flatten()
    }

    /// What was to be written of the stream at the front is written, all or in part: a chunk is
    /// begun, or it is the others' turn.
    pub fn end(&mut self, is_begun: bool) {
        self.is_begun = is_begun;
        if !is_begun && self.turns.len() > 1 {
            self.turns.rotate_left(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_take_turns_and_a_chunk_that_is_begun_is_finished() {
        let mut lane = Lane::default();
        lane.enter(1);
        lane.enter(2);
        assert_eq!(lane.begin(), Some(Turn { stream: 1, is_rest: false, is_alone: false }));
        assert_eq!(lane.take_writing(), Some(1));
        lane.end(true);
        assert_eq!(lane.begin(), Some(Turn { stream: 1, is_rest: true, is_alone: false }));
        lane.end(false);
        assert_eq!(lane.begin().map(|turn| turn.stream), Some(2));
        lane.leave(2);
        assert_eq!(lane.take_writing(), None, "that one is no more");
        assert_eq!(lane.begin(), Some(Turn { stream: 1, is_rest: false, is_alone: true }));
        lane.pass();
        assert_eq!(lane.take_writing(), None);
    }
}
