//! A link whose lane has rows on disk: they go first, and what the local session has goes behind them,
//! on disk where memory would not do.

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
            && let Some(end) = drain.is_sent()
        {
            drain.filler = None;
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
                drain.filler = None;
                self.reenter()?;
            }
        }
        Ok(())
    }

    fn carry_rows(&mut self, drain: &mut Drain, now: Instant) -> Result<bool, Why> {
        let mut allowance = self.allowance();
        let mut has_moved = false;
        while let Some(row) = drain.rows.front() {
            if allowance == 0 {
                break;
            }
            match self.bridge.carry_row(self.state.clock.now(), row)? {
                RowStep::Sent(bytes) => {
                    self.state.flow.sent(bytes);
                    allowance = allowance.saturating_sub(bytes);
                    drain.rows.pop_front();
                    has_moved = true;
                }
                RowStep::Waits => break,
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

    /// Reads what the local session has, where it has much, and has it put on disk.
    fn gather(&mut self, drain: &mut Drain) -> Result<bool, Why> {
        let Some(seat) = self.state.seat.as_ref().filter(|_| self.can_spill) else {
            return Ok(false);
        };
        let here = tokio::time::Instant::now();
        if drain.filler.is_none() {
            if here < self.state.next_gather || drain.is_early() {
                return Ok(false);
            }
            self.state.next_gather = here + BETWEEN;
            let Some(counts) = seat.counts() else { return Ok(false) };
            // it is draining: there are rows
            let is_due = self.state.commit.is_due(here, true, counts.total > counts.acked);
            if counts.held < self.place.outbox() / 2 && !is_due {
                return Ok(false);
            }
            self.state.commit.done();
            let filler = Filler::new(Arc::clone(self.rules), self.max_age, counts.acked);
            drain.filler = Some(filler);
        }
        let is_busy = drain.is_busy();
        let Some(filler) = &mut drain.filler else { return Ok(false) };
        let mut has_moved = false;
        while !filler.is_full() {
            let fetched = seat.write_with(|output| {
                let taken = filler.take(output.bytes);
                (taken, taken)
            });
            let Ok(taken) = fetched else { return Err(Why::Here(super::LOCAL_OVER)) };
            if taken == 0 {
                break;
            }
            has_moved = true;
        }
        if !filler.is_empty() && !is_busy {
            let count = filler.count();
            let acked = seat.counts().map_or(count, |counts| counts.acked);
            let batch = filler.take_batch(acked, seat.marks(count));
            drain.append(batch, self.place.clone());
            has_moved = true;
        }
        Ok(has_moved)
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

/// Between looks at how much waits in memory.
const BETWEEN: Duration = Duration::from_millis(100);
