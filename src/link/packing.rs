//! PACK frames on the link of a peer that takes them: what it writes is packed, what it reads
//! unpacked, between the hub and the transport. All other links know nothing of it.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::Context;

use fastport_core::budget::Budget;
use fastport_core::session::Gone;
use fastport_pack::{BATCH, PackError, Packer, Part, first_part, unpack};
use fastport_wire::control::ErrorCode;

use super::drive::{Carrier, Written};
use super::given::{Given, Wrote};
use crate::hub::Seat;

/// Whether this build reads and writes them.
pub(super) const IS_BUILT_IN: bool = true;

/// Both directions of one link.
pub(super) struct Packing {
    packer: Packer,
    /// Bytes out of the PACK that waits first which are done with.
    done: usize,
    charged: usize,
    budget: Arc<Budget>,
}

impl Packing {
    /// For a link whose first frame to the peer, WELCOME, says that both take them.
    /// `None`: this build has none.
    pub(super) fn try_new(budget: &Arc<Budget>) -> Option<Self> {
        let packer = Packer::after_first();
        Some(Self { packer, done: 0, charged: 0, budget: Arc::clone(budget) })
    }

    /// How far the first PACK that waits is done with.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// Writes the peer's output, a batch at most. The session is not locked while it is packed.
    pub(super) fn poll_output<C: Carrier>(
        &mut self,
        seat: &Seat,
        carrier: &mut C,
        cx: &mut Context<'_>,
    ) -> Result<Wrote, Gone> {
        if !self.packer.output().is_empty() {
            let (written, state) = self.write(carrier, cx);
            if !self.packer.output().is_empty() {
                let is_last = seat.write_with(|output| (0, output.is_last))?;
                return Ok(Wrote { written, state, is_last });
            }
        }
        let most = self.room();
        let Self { packer, .. } = self;
        let (wrote, is_taken) = seat.write_with(|output| {
            let taken = packer.take(output.bytes, most);
            let is_last = output.is_last && taken == output.bytes.len();
            if taken > 0 {
                let wrote = Wrote { written: 0, state: Written::All, is_last };
                return (taken, (wrote, true));
            }
            let direct = packer.direct(output.bytes);
            let bytes = output.bytes.get(..direct).unwrap_or_default();
            let (written, state) = carrier.poll_write(bytes, cx);
            packer.passed(output.bytes, written);
            let is_last = output.is_last && direct == output.bytes.len();
            (written, (Wrote { written, state, is_last }, false))
        })?;
        if !is_taken {
            self.give_back();
            return Ok(wrote);
        }
        self.packer.pack();
        let (written, state) = self.write(carrier, cx);
        Ok(Wrote { written, state, is_last: wrote.is_last })
    }

    fn write<C: Carrier>(&mut self, carrier: &mut C, cx: &mut Context<'_>) -> (usize, Written) {
        let (written, state) = carrier.poll_write(self.packer.output(), cx);
        self.packer.advance(written);
        match state {
            Written::All if !self.packer.output().is_empty() => (written, Written::Part),
            state => {
                if self.packer.output().is_empty() {
                    self.give_back();
                }
                (written, state)
            }
        }
    }

    /// How much to take at most: as much as may be held should the transport not take it.
    fn room(&mut self) -> usize {
        if self.charged == 0 && self.budget.try_take(BATCH) {
            self.charged = BATCH;
        }
        if self.charged > 0 { BATCH } else { SMALL }
    }

    fn give_back(&mut self) {
        self.budget.give_back(std::mem::take(&mut self.charged));
    }

    /// Hands over what the peer sent.
    pub(super) fn handle(&mut self, seat: &Seat, bytes: &[u8]) -> Result<Given, Gone> {
        let mut given = Given::default();
        while let Some(rest) = bytes.get(given.taken.progress.consumed..) {
            let goes_on = match first_part(rest) {
                Ok(Part::Beginning) => break,
                Ok(Part::Frames(frames)) => {
                    let taken = seat.handle_bytes(frames)?;
                    let consumed = taken.progress.consumed;
                    given.add(taken, consumed);
                    given.goes_on() && consumed == frames.len()
                }
                Ok(Part::Pack { body, total }) => {
                    match self.handle_pack(seat, body, total, &mut given)? {
                        Ok(goes_on) => goes_on,
                        Err(error) => return Ok(refuse(seat, error, bytes.len(), given)),
                    }
                }
                Err(error) => return Ok(refuse(seat, error, bytes.len(), given)),
            };
            if !goes_on {
                break;
            }
        }
        if given.taken.progress.is_blocked {
            look_ahead(seat, bytes.get(given.taken.progress.consumed..).unwrap_or_default());
        }
        Ok(given)
    }

    /// Hands over what is left of a PACK; whether what is behind it may follow.
    fn handle_pack(
        &mut self,
        seat: &Seat,
        body: &[u8],
        total: usize,
        given: &mut Given,
    ) -> Result<Result<bool, PackError>, Gone> {
        UNPACKED.with_borrow_mut(|frames| {
            if let Err(error) = unpack(body, frames) {
                return Ok(Err(error));
            }
            let taken = seat.handle_bytes(frames.get(self.done..).unwrap_or_default())?;
            self.done += taken.progress.consumed;
            let is_done = self.done >= frames.len();
            given.add(taken, if is_done { total } else { 0 });
            if is_done {
                self.done = 0;
            } else if given.goes_on() {
                // whole frames are taken or wait for something
                return Ok(Err(PackError::Cut));
            }
            Ok(Ok(is_done && given.goes_on()))
        })
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn refuse(seat: &Seat, error: PackError, length: usize, mut given: Given) -> Given {
    let code = match error {
        PackError::TooLong(_) => ErrorCode::FrameTooLong,
        _ => ErrorCode::BadFrame,
    };
    seat.close_for_error(code, &error.to_string());
    given.taken.progress.consumed = length;
    given
}

/// An ACK behind what waits may be what makes room.
fn look_ahead(seat: &Seat, bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let length = match first_part(rest) {
            Ok(Part::Frames(frames)) => {
                seat.look_ahead(frames);
                frames.len()
            }
            Ok(Part::Pack { body, total }) => UNPACKED.with_borrow_mut(|frames| {
                if unpack(body, frames).is_ok() {
                    seat.look_ahead(frames);
                }
                total
            }),
            // what is wrong with it is said when it has its turn
            Ok(Part::Beginning) | Err(_) => return,
        };
        rest = rest.get(length..).unwrap_or_default();
    }
}

thread_local! {
    /// What PACKs of all links of the thread hold, for as long as it is handed over.
    static UNPACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Taken at once where the budget has no room.
const SMALL: usize = 4096;
