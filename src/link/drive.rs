//! What all links do alike: carry bytes between a socket and a seat in the hub.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fastport_core::session::{Ask, Gone};
use fastport_wire::control::{self, ByeReason, Control, ErrorCode};
use fastport_wire::{Frame, field, frame};
use tokio::time::Sleep;
use tracing::debug;

use super::door::{Door, Presence};
use super::given::{Given, Wrote};
use super::handshake::Admitted;
use super::packing::Packing;
use super::pending::Pending;
use crate::guard::{Meters, Visit};
use crate::hub::Seat;
use crate::supervise::turn::{self, Part};

/// How a transport carries frames once the handshake is done.
pub(super) trait Carrier {
    /// Writes from the front of `bytes`, which begins where the last write ended.
    fn poll_write(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> (usize, Written);

    /// Reads once, and hands what came to `desk`.
    fn poll_read(&mut self, desk: &mut Desk, door: &Door, cx: &mut Context<'_>) -> Poll<Turn>;

    /// Writes a last frame and ends the transport in its own way; where it `waits`, until the peer
    /// has ended it, too.
    fn close(self, last: Option<&[u8]>, waits: bool)
    -> impl Future<Output = io::Result<()>> + Send;
}

/// What became of bytes to write.
pub(super) enum Written {
    All,
    Part,
    Failed(io::Error),
}

/// What one look at input or output came to.
pub(super) enum Turn {
    Moved,
    Idle,
    Over(Event),
}

/// What ends a link's run, for a moment or for good.
pub(super) enum Event {
    Asked(Vec<Ask>),
    Finished,
    Replaced,
}

impl From<Gone> for Event {
    fn from(_: Gone) -> Self {
        Self::Replaced
    }
}

/// Carries a link from its WELCOME to its last byte: all that an idle link has in memory here. Not an
/// async block: that would hold what becomes of its parts side by side. What is rare is boxed.
pub(super) enum Drive<C> {
    Open(Open<C>),
    /// A question is answered, and the link goes on; or it is over, and is closed.
    Busy(Pin<Box<dyn Future<Output = Option<Open<C>>> + Send>>),
    Over,
}

/// A link in its session.
pub(super) struct Open<C> {
    desk: Desk,
    carrier: C,
    door: Presence,
    visit: Visit,
}

impl<C: Carrier + Send + 'static> Drive<C> {
    pub(super) fn new(door: Arc<Door>, carrier: C, admitted: Admitted, visit: Visit) -> Self {
        let desk = Desk {
            seat: admitted.seat,
            pending: Pending::new(admitted.input, door.hub.budget()),
            is_local: admitted.is_local,
            is_fresh: true,
            is_blocked: false,
            is_registered: false,
            timer: None,
            extra: Extra::new(admitted.meters, admitted.packs, &door),
        };
        Self::Open(Open { desk, carrier, door: Presence::new(door), visit })
    }
}

impl<C: Carrier + Unpin + Send + 'static> Future for Drive<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        turn::run(Part::Link, || self.poll_turn(cx))
    }
}

impl<C: Carrier + Unpin + Send + 'static> Drive<C> {
    fn poll_turn(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Open(Open { desk, carrier, door, .. }) => {
                    let event = ready!(desk.poll_drive(carrier, door, cx));
                    if let Self::Open(open) = mem::replace(&mut *self, Self::Over) {
                        *self = Self::Busy(Box::pin(open.handle(event)));
                    }
                }
                Self::Busy(busy) => match ready!(busy.as_mut().poll(cx)) {
                    Some(open) => *self = Self::Open(open),
                    None => *self = Self::Over,
                },
                Self::Over => return Poll::Ready(()),
            }
        }
    }
}

impl<C: Carrier + Send> Open<C> {
    async fn handle(self, event: Event) -> Option<Self> {
        let last = match event {
            Event::Asked(asks) => {
                for ask in &asks {
                    self.door.answer(&self.desk.seat, self.desk.is_local, ask).await;
                }
                return Some(self);
            }
            Event::Finished => None,
            Event::Replaced => Some(bye(ByeReason::Replaced)),
        };
        let Self { desk, carrier, door, visit } = self;
        // the peer may come back while this link still says goodbye
        drop(desk);
        close(&door, carrier, last).await;
        drop(visit);
        None
    }
}

/// Ends a link's transport, within a time.
async fn close<C: Carrier>(door: &Door, carrier: C, last: Option<Vec<u8>>) {
    let place = door.goodbye();
    let closing = carrier.close(last.as_deref(), place.is_some());
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    debug!(in_order = closed.is_ok_and(|closed| closed.is_ok()), "link closed");
}

/// A link's side towards the hub.
pub(super) struct Desk {
    seat: Seat,
    pub(super) pending: Pending,
    /// The link stays on this machine.
    is_local: bool,
    /// The pending bytes came with the handshake and were not looked at.
    is_fresh: bool,
    /// The pending bytes wait for room at a reader, for an answer, or for the others' turn.
    is_blocked: bool,
    is_registered: bool,
    timer: Option<Box<Timer>>,
    extra: Option<Box<Extra>>,
}

/// What few links have.
struct Extra {
    meters: Option<Meters>,
    /// The peer takes PACK frames, as this link does.
    packing: Option<Box<Packing>>,
}

impl Extra {
    fn new(meters: Option<Meters>, packs: bool, door: &Door) -> Option<Box<Self>> {
        let packing = packs.then(|| Packing::try_new(door.hub.budget())).flatten();
        let is_wanted = meters.is_some() || packing.is_some();
        is_wanted.then(|| Box::new(Self { meters, packing: packing.map(Box::new) }))
    }
}

enum Timer {
    /// The peer sent too much in too short a time: it is not read.
    Slowed(Pin<Box<Sleep>>),
    /// The last bytes go out, or the time for that runs out.
    Closing(Pin<Box<Sleep>>),
}

impl Desk {
    /// Moves what can be moved.
    ///
    /// Cancel-safe: between polls all is in the session, in `pending`, or in the carrier.
    fn poll_drive<C: Carrier>(
        &mut self,
        carrier: &mut C,
        door: &Door,
        cx: &mut Context<'_>,
    ) -> Poll<Event> {
        if !self.is_registered {
            self.seat.register(cx.waker());
            self.is_registered = true;
        }
        for _ in 0..TURNS {
            let wrote = self.poll_output(carrier, door, cx);
            if let Turn::Over(event) = wrote {
                return Poll::Ready(event);
            }
            match self.poll_input(carrier, door, cx) {
                Turn::Over(event) => return Poll::Ready(event),
                // it asked what takes a while, or waits for a reader: others first
                Turn::Moved if self.is_blocked => break,
                Turn::Idle if matches!(wrote, Turn::Idle) => return Poll::Pending,
                Turn::Idle | Turn::Moved => {}
            }
        }
        // others want to be served too
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_output<C: Carrier>(
        &mut self,
        carrier: &mut C,
        door: &Door,
        cx: &mut Context<'_>,
    ) -> Turn {
        let packing = self.extra.as_mut().and_then(|extra| extra.packing.as_mut());
        let wrote = match packing {
            None => self.seat.write_with(|output| {
                let (written, state) = carrier.poll_write(output.bytes, cx);
                (written, Wrote { written, state, is_last: output.is_last })
            }),
            Some(packing) => packing.poll_output(&self.seat, carrier, cx),
        };
        let Wrote { written, state, is_last } = match wrote {
            Ok(wrote) => wrote,
            Err(gone) => return Turn::Over(gone.into()),
        };
        door.status().bytes_out.add(written as u64);
        match state {
            Written::All if is_last => return Turn::Over(Event::Finished),
            Written::Failed(error) => {
                debug!(%error, "link lost in writing");
                return Turn::Over(Event::Finished);
            }
            Written::Part if is_last && self.is_overdue(cx) => return Turn::Over(Event::Finished),
            Written::All | Written::Part => {}
        }
        if written > 0 { Turn::Moved } else { Turn::Idle }
    }

    /// Whether the time for the last bytes has run out; it begins now if it has not.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        if !matches!(self.timer.as_deref(), Some(Timer::Closing(_))) {
            let sleep = tokio::time::sleep(CLOSE_TIMEOUT);
            self.timer = Some(Box::new(Timer::Closing(Box::pin(sleep))));
        }
        let Some(Timer::Closing(sleep)) = self.timer.as_deref_mut() else { return false };
        sleep.as_mut().poll(cx).is_ready()
    }

    fn poll_input<C: Carrier>(
        &mut self,
        carrier: &mut C,
        door: &Door,
        cx: &mut Context<'_>,
    ) -> Turn {
        match self.timer.as_deref_mut() {
            Some(Timer::Slowed(sleep)) => {
                while sleep.as_mut().poll(cx).is_ready() {
                    let pause = meters(&self.extra).map_or(0, |meters| {
                        // what was read may have cost more than one pause
                        meters.spend(door.hub.clock().mono(), 0, 0)
                    });
                    if pause == 0 {
                        self.timer = None;
                        return Turn::Moved;
                    }
                    self.seat.hold_off();
                    *sleep = Box::pin(tokio::time::sleep(Duration::from_millis(pause)));
                }
                return Turn::Idle;
            }
            Some(Timer::Closing(_)) => return Turn::Idle,
            None => {}
        }
        if self.is_blocked || self.is_fresh {
            return self.retry_pending(door);
        }
        match carrier.poll_read(self, door, cx) {
            Poll::Pending => Turn::Idle,
            Poll::Ready(turn) => turn,
        }
    }

    /// Hands over what is pending, with `more` behind it: part of a frame longer than usual.
    pub(super) fn handle_long(&mut self, more: &[u8], door: &Door) -> Turn {
        if self.pending.extend(more).is_err() {
            return self.out_of_memory();
        }
        let head = frame::head(self.pending.bytes(), field::MAX_BODY);
        if head.is_ok_and(|head| head.is_none_or(|head| head.total() > self.pending.bytes().len()))
        {
            return Turn::Moved;
        }
        self.retry_pending(door)
    }

    fn retry_pending(&mut self, door: &Door) -> Turn {
        let bytes = self.pending.take();
        let (was_blocked, before) = (self.is_blocked, self.done_of_pack());
        self.is_fresh = false;
        let turn = self.handle(&bytes, door);
        let is_same = self.pending.bytes().len() == bytes.len() && self.done_of_pack() == before;
        match turn {
            // what waited still waits
            Turn::Moved if was_blocked && is_same => Turn::Idle,
            turn => turn,
        }
    }

    fn done_of_pack(&self) -> usize {
        let packing = self.extra.as_ref().and_then(|extra| extra.packing.as_ref());
        packing.map_or(0, |packing| packing.done())
    }

    /// Hands bytes to the hub; the rest of them is pending.
    pub(super) fn handle(&mut self, bytes: &[u8], door: &Door) -> Turn {
        let packing = self.extra.as_mut().and_then(|extra| extra.packing.as_mut());
        let given = match packing {
            None => self.seat.handle_bytes(bytes).map(Given::plain),
            Some(packing) => packing.handle(&self.seat, bytes),
        };
        let Given { taken, weight } = match given {
            Ok(given) => given,
            Err(gone) => return Turn::Over(gone.into()),
        };
        let progress = taken.progress;
        self.is_blocked = progress.is_blocked || progress.pauses;
        let rest = bytes.get(progress.consumed..).unwrap_or_default();
        if self.pending.set(rest).is_err() {
            return self.out_of_memory();
        }
        if let Some(meters) = meters(&self.extra) {
            let now = door.hub.clock().mono();
            let pause = meters.spend(now, progress.messages.into(), weight as u64);
            if pause > 0 {
                door.status().slowed.add(1);
                let sleep = tokio::time::sleep(Duration::from_millis(pause));
                self.timer = Some(Box::new(Timer::Slowed(Box::pin(sleep))));
            }
        }
        if taken.asks.is_empty() { Turn::Moved } else { Turn::Over(Event::Asked(taken.asks)) }
    }

    /// Whether handed-over bytes wait, and not for more of them.
    #[cfg(feature = "websocket")]
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Answers what could not be made a frame; `false`: not before the peer reads its other answers.
    #[cfg(feature = "websocket")]
    pub(super) fn refuse(&self, request: u32, code: ErrorCode) -> bool {
        self.seat.refuse(request, code)
    }

    /// Ends the peer for a fault of its transport.
    pub(super) fn fail(&self, code: ErrorCode, text: &str) -> Turn {
        self.seat.close_for_error(code, text);
        Turn::Moved
    }

    fn out_of_memory(&self) -> Turn {
        self.fail(ErrorCode::Unavailable, "no memory for a frame's start")
    }
}

fn meters(extra: &Option<Box<Extra>>) -> Option<&Meters> {
    extra.as_ref().and_then(|extra| extra.meters.as_ref())
}

/// The frame that says goodbye.
fn bye(reason: ByeReason) -> Vec<u8> {
    let message = control::Bye { code: reason.number(), retry: None, ..Default::default() };
    let mut body = [0; 32];
    let length = Control::from(message).encode(&mut body).unwrap_or_default();
    let frame = Frame::Control(body.get(..length).unwrap_or_default());
    let mut bytes = vec![0; field::MAX_HEAD + length];
    let length = frame.encode(&mut bytes).unwrap_or_default();
    bytes.truncate(length);
    bytes
}

/// Reads and writes of one link before the others' turn.
const TURNS: usize = 16;
/// For the last bytes and for closing in order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
