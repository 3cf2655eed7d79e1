//! A link whose lane has rows on disk: they go first, and what the local session has goes behind them,
//! on disk where memory would not do. What does not ask for delivery has no place in their order: it goes at once.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fastport_core::time::Instant;
use fastport_wire::Frame;

use super::{Run, Why, local};
use crate::hub::Seat;
use crate::uplink::bridge::RowStep;
use crate::uplink::drain::{Drain, News};
use crate::uplink::filler::{Filler, MOST_BATCH};

impl Run<'_> {
    /// What is to be done for the rows on disk; whether something was.
    pub(super) fn drain(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<bool, Why> {
        let Some(mut drain) = self.drain.take() else { return Ok(false) };
        let done = self.drain_with(&mut drain, now, cx);
        if !drain.is_over() || self.bridge.is_draining() {
            self.drain = Some(drain);
        }
        done
    }

    fn drain_with(
        &mut self,
        drain: &mut Drain,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<bool, Why> {
        let mut has_moved = false;
        if !std::mem::replace(&mut self.state.has_begun_drain, true) {
            drain.begin(self.bridge.has_of_backlog());
        }
        while let Poll::Ready(news) = drain.poll(cx) {
            has_moved = true;
            self.note(drain, news)?;
        }
        if drain.is_stale() {
            return Err(Why::SetAside);
        }
        has_moved |= self.carry_rows(drain, now)?;
        if self.bridge.is_draining() {
            has_moved |= self.gather(drain)?;
        }
        if !drain.is_busy() {
            let passed = self.state.flow.passed();
            drain.start(self.bridge.held(), !self.bridge.is_draining(), passed);
            // its first poll notes whom to wake
            has_moved |= drain.is_busy();
        }
        if self.bridge.is_draining()
            && drain.fresh() == 0
            && let Some(end) = drain.is_sent()
        {
            (drain.filler, drain.is_gathering) = (None, false);
            self.go_live(end, cx)?;
            has_moved = true;
        }
        Ok(has_moved)
    }

    fn note(&mut self, drain: &mut Drain, news: News) -> Result<(), Why> {
        match news {
            News::Confirmed(confirmed) => {
                for confirmed in &confirmed {
                    self.place.confirm_row(&confirmed.publisher, confirmed.count);
                }
            }
            News::Rows => drain.rows.iter().for_each(|row| self.bridge.meet_row(row)),
            News::Moved(count) => {
                let Some(seat) = &self.state.seat else { return Ok(()) };
                // the rows speak for them now
                drop(seat.take_marks(count));
                acknowledge(seat, count)?;
            }
            News::Failed => {}
            // what was read is read again, on another link of the local session
            News::NotMoved => {
                self.state.next_append = tokio::time::Instant::now() + PAUSE;
                (drain.filler, drain.is_gathering) = (None, false);
                self.reenter()?;
            }
        }
        Ok(())
    }

    fn carry_rows(&mut self, drain: &mut Drain, now: Instant) -> Result<bool, Why> {
        let mut allowance = self.allowance();
        let mut has_moved = false;
        // its topic is not open yet
        let mut only_rows = false;
        while let Some((row, is_fresh)) = drain.next(only_rows) {
            if allowance == 0 {
                break;
            }
            match self.bridge.carry_row(self.state.clock.now(), row)? {
                RowStep::Sent(bytes) => {
                    self.state.flow.sent(bytes);
                    allowance = allowance.saturating_sub(bytes);
                    drain.next_done(is_fresh);
                    has_moved = true;
                }
                RowStep::Waits if is_fresh => only_rows = true,
                RowStep::Waits => break,
                RowStep::Refused if is_fresh => {
                    self.figures.refused_up.add(1);
                    drain.next_done(is_fresh);
                    has_moved = true;
                }
                RowStep::Refused => {
                    if drain.is_first_alone() {
                        self.figures.refused_up.add(1);
                        drain.refuse_first();
                        has_moved = true;
                    }
                    break;
                }
            }
        }
        self.ask(now);
        Ok(has_moved)
    }

    /// Reads what the local session has: what does not ask for delivery goes before the rows, and the
    /// rest is put on disk where there is much of it or it has waited for long enough.
    fn gather(&mut self, drain: &mut Drain) -> Result<bool, Why> {
        drain.take_fresh();
        if !self.can_spill || drain.is_early() || drain.is_sent().is_some() {
            return Ok(false);
        }
        if !drain.is_gathering {
            self.look_behind(drain);
            drain.take_fresh();
        }
        let Some(seat) = &self.state.seat else { return Ok(false) };
        let mut has_moved = false;
        while let Some(filler) = drain.filler.as_mut().filter(|filler| !filler.is_full()) {
            let fetched = seat.write_with(|output| {
                let taken = filler.take(output.bytes);
                (taken, taken)
            });
            drain.take_fresh();
            match fetched {
                Ok(0) => break,
                Ok(_) => has_moved = true,
                Err(_) => return Err(Why::Here(super::LOCAL_OVER)),
            }
        }
        has_moved |= self.append(drain);
        Ok(has_moved)
    }

    /// Looks now and then whether it is time to put on disk what waits.
    fn look_behind(&mut self, drain: &mut Drain) {
        let counts = self.state.seat.as_ref().and_then(Seat::counts);
        let Some(counts) = counts else { return };
        let here = tokio::time::Instant::now();
        if drain.filler.is_some() && here < self.state.next_gather {
            return;
        }
        self.state.next_gather = here + BETWEEN;
        // it is draining: there are rows
        let is_due = self.state.commit.is_due(here, true, counts.total > counts.acked);
        drain.is_gathering = is_due || counts.held >= self.place.outbox() / 2;
        drain
            .filler
            .get_or_insert_with(|| Filler::new(Arc::clone(self.rules), self.max_age, counts.acked));
    }

    /// Puts on disk what was read, where it is time for that.
    fn append(&mut self, drain: &mut Drain) -> bool {
        let is_busy = drain.is_busy();
        let (Some(seat), Some(filler)) = (&self.state.seat, &mut drain.filler) else {
            return false;
        };
        drain.is_gathering |= filler.is_full();
        let is_early = tokio::time::Instant::now() < self.state.next_append;
        if !drain.is_gathering || filler.is_empty() || is_busy || is_early {
            return false;
        }
        self.state.commit.done();
        let count = filler.count();
        let acked = seat.counts().map_or(count, |counts| counts.acked);
        let batch = filler.take_batch(acked, seat.marks(count));
        drain.append(batch, self.place.clone());
        true
    }

    /// From here on the local session's frames go up as they come.
    fn go_live(&mut self, end: u64, cx: &mut Context<'_>) -> Result<(), Why> {
        self.reenter()?;
        let Some(seat) = &self.state.seat else { return Ok(()) };
        seat.register(cx.waker());
        let counts = seat.counts().ok_or(Why::Here(super::LOCAL_OVER))?;
        self.bridge.go_live(end, local(&counts));
        self.tell_local().map(|_| ())
    }

    /// Another link of the local session: it gives again what is not acknowledged.
    fn reenter(&mut self) -> Result<(), Why> {
        self.state.seat = None;
        self.state.unsaid.clear();
        let entered = self.place.enter(self.state.random);
        self.state.seat = Some(entered.map_err(|_| Why::Here(super::NO_PLACE))?);
        Ok(())
    }
}

impl Filler {
    fn is_full(&self) -> bool {
        self.bytes() >= MOST_BATCH
    }
}

/// Acknowledges counted frames to the local session.
pub(in crate::uplink) fn acknowledge(seat: &Seat, taken: u64) -> Result<(), Why> {
    let frame = Frame::Ack { taken, durable: None, central: None, repeat: false };
    let mut bytes = vec![0; frame.encoded_len()];
    let length = frame.encode(&mut bytes).unwrap_or_default();
    let bytes = bytes.get(..length).unwrap_or_default();
    seat.handle_bytes(bytes).map(|_| ()).map_err(|_| Why::Here(super::LOCAL_OVER))
}

/// Before the disk is given again what it had no room for.
const PAUSE: Duration = Duration::from_secs(1);
/// Between looks at how much waits in memory.
const BETWEEN: Duration = Duration::from_millis(100);
