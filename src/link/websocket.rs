//! WebSocket links (RFC 6455), for browsers: a binary message holds whole frames, a text message one
//! JSON message. A peer whose first message is text gets everything as text.
//!
//! Of tungstenite it uses the HTTP request alone. Messages are read in the thread's scratch buffer and
//! written from the outbox, so that an idle link owns no buffer, and what a slow one holds is
//! charged to the memory budget.

mod framing;
mod json;
mod region;
mod unsent;
mod upgrade;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use fastport_core::budget::Budget;
use fastport_core::handshake::Refusal;
use fastport_wire::control::ErrorCode;
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tracing::debug;

use self::framing::{Piece, Reader, SentHead, Violation, opcode};
use self::json::{Json, NoFrames, frame_of_json};
use self::region::Region;
use self::unsent::Unsent;
use self::upgrade::{tell_why, upgrade};
use super::door::{Door, Permit};
use super::drive::{Carrier, Desk, Drive, Event, Turn, Written};
use super::handshake::{Failure, Frames, shake};
use super::pending::Pending;
use super::stream::{SCRATCH, SCRATCH_BYTES, end};
use crate::config::Origins;
use crate::guard::{Origin, Visit};

/// Takes a link from its HTTP request into its session; `None`: it is over.
pub(super) async fn enter<T>(
    door: Arc<Door>,
    mut io: T,
    origin: Origin,
    permit: Permit,
    visit: Visit,
    origins: Arc<Origins>,
) -> Option<Drive<WebSocketLink<T>>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrade = Box::pin(upgrade(&mut io, &origins));
    match tokio::time::timeout_at(permit.until, upgrade).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            door.status().transport_errors.add(1);
            debug!(%origin, %error, "WebSocket upgrade failed");
            let told = Box::pin(tell_why(&mut io, &error));
            let told = tokio::time::timeout_at(permit.until, told).await;
            debug!(%origin, told = told.is_ok_and(|told| told.is_ok()), "upgrade refused");
            return None;
        }
        Err(_) => {
            door.status().handshake_timeouts.add(1);
            return None;
        }
    }
    // no byte is lost between the two: a peer that sends before it has the answer was refused
    // JSON text with base64 in it is longer than the frame it stands for
    let longest_text = door.hub.payload_max().saturating_mul(2).saturating_add(MESSAGE_ROOM);
    let mut link = WebSocketLink::new(io, longest_text, door.hub.budget());
    let Some(admitted) = shake(&door, &mut link, &origin, &permit, &visit).await else {
        // the refusal is written; what is left of the time is for its arrival
        let closed = tokio::time::timeout_at(permit.until, link.close(None, true)).await;
        debug!(%origin, in_order = closed.is_ok(), "refused link closed");
        return None;
    };
    Some(Drive::new(door, link, admitted, visit))
}

pub(super) struct WebSocketLink<T> {
    io: T,
    reader: Reader,
    /// Bytes that came and were not read: a frame's start, or what is behind a text message that
    /// waits.
    raw: Pending,
    /// `raw` may hold more than a frame's start: it is looked at before anything is read.
    is_raw_ready: bool,
    /// The text message that has not all come.
    text: Pending,
    longest_text: usize,
    unsent: Unsent,
    /// Bytes of the outbox's next frame that belong to a message that was begun.
    begun: usize,
    /// The payload of a ping that is not answered.
    ping: Option<Box<[u8]>>,
    /// The peer speaks JSON.
    json: Option<Box<Json>>,
    has_spoken: bool,
    /// It sent text when it was last read.
    sends_text: bool,
    /// An answer that waits until the peer reads its other ones.
    owed: Option<NoFrames>,
    close_code: Option<[u8; 2]>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> WebSocketLink<T> {
    fn new(io: T, longest_text: usize, budget: &Arc<Budget>) -> Self {
        Self {
            io,
            reader: Reader::default(),
            raw: Pending::new(Vec::new(), budget),
            is_raw_ready: false,
            text: Pending::new(Vec::new(), budget),
            longest_text,
            unsent: Unsent::new(budget),
            begun: 0,
            ping: None,
            json: None,
            has_spoken: false,
            sends_text: false,
            owed: None,
            close_code: None,
        }
    }

    /// Takes a part of a text message; the message, when that was its last.
    fn take_text(&mut self, part: &[u8], is_last: bool) -> Result<Option<Vec<u8>>, ErrorCode> {
        let held = self.text.bytes().len();
        if held + part.len() > self.longest_text {
            return Err(ErrorCode::FrameTooLong);
        }
        if is_last && held == 0 {
            return Ok(Some(part.to_vec()));
        }
        self.text.extend(part).map_err(|_| ErrorCode::Unavailable)?;
        Ok(is_last.then(|| self.text.take()))
    }

    /// Reads what came in a handshake, up to a message's end; whether there is something in `input`
    /// that was not there before.
    fn read_handshake(
        &mut self,
        bytes: &mut [u8],
        at: &mut usize,
        input: &mut Vec<u8>,
    ) -> Result<bool, Failure> {
        loop {
            match self.next_piece(bytes, at)? {
                Piece::Nothing => return Ok(false),
                Piece::Pong => {}
                Piece::Ping(payload) => self.note_ping(bytes, payload),
                Piece::Close(payload) => {
                    self.note_close(bytes, payload);
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                Piece::Message { at, is_text, is_last } => {
                    if !std::mem::replace(&mut self.has_spoken, true) && is_text {
                        self.json = Some(Box::default());
                    }
                    let part = bytes.get(at).unwrap_or_default();
                    let before = input.len();
                    if !is_text {
                        input.extend_from_slice(part);
                    } else if let Some(text) =
                        self.take_text(part, is_last).map_err(Refusal::because)?
                    {
                        let frame = self.frame_of_text(&text)?;
                        input.extend(frame.map_err(|(_, code)| Refusal::because(code))?);
                    }
                    // what is in there begins with a frame
                    if is_last && Region::of(input).ends_inside_a_frame(input) {
                        return Err(Refusal::because(ErrorCode::BadFrame).into());
                    }
                    if input.len() > before {
                        return Ok(true);
                    }
                }
            }
        }
    }

    #[inline]
    fn next_piece(&mut self, bytes: &mut [u8], at: &mut usize) -> io::Result<Piece> {
        self.reader.next(bytes, at).map_err(|Violation| {
            self.close_code = Some(PROTOCOL_ERROR);
            io::Error::new(io::ErrorKind::InvalidData, "not WebSocket as a server may get it")
        })
    }

    /// The frame that a text message stands for.
    fn frame_of_text(&mut self, text: &[u8]) -> io::Result<Result<Vec<u8>, NoFrames>> {
        match std::str::from_utf8(text) {
            Ok(text) => Ok(frame_of_json(text)),
            Err(error) => {
                self.close_code = Some(NO_TEXT);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    fn note_ping(&mut self, bytes: &[u8], payload: Range<usize>) {
        // RFC 6455, section 5.5.3: of several the last is enough
        self.ping = Some(bytes.get(payload).unwrap_or_default().into());
    }

    fn note_close(&mut self, bytes: &[u8], payload: Range<usize>) {
        self.close_code = bytes.get(payload).and_then(|payload| payload.first_chunk().copied());
    }

    /// Hands over what is in `buffer`: up to `start` the start of a frame that waits at the desk where
    /// it is not `is_long`, behind it what the peer sent.
    fn digest(
        &mut self,
        buffer: &mut [u8],
        start: usize,
        is_long: bool,
        desk: &mut Desk,
        door: &Door,
    ) -> Turn {
        let mut region = Region::behind(desk, start, is_long);
        let (mut at, mut has_handed) = (start, false);
        self.sends_text = false;
        self.is_raw_ready = false;
        let turn = loop {
            let piece = match self.next_piece(buffer, &mut at) {
                Ok(piece) => piece,
                Err(error) => {
                    debug!(%error, "link lost in reading");
                    break region.hand_over_and_end(buffer, desk, door);
                }
            };
            match piece {
                Piece::Nothing if region.is_empty() && has_handed => break Turn::Moved,
                // any byte is a sign of life
                Piece::Nothing => break region.hand_over(buffer, desk, door),
                Piece::Pong => {}
                Piece::Ping(payload) => self.note_ping(buffer, payload),
                Piece::Close(payload) => {
                    self.note_close(buffer, payload);
                    break region.hand_over_and_end(buffer, desk, door);
                }
                Piece::Message { at, is_text: false, is_last } => {
                    region.append(buffer, at);
                    if is_last && region.ends_inside_a_frame(buffer) {
                        break match region.hand_over(buffer, desk, door) {
                            Turn::Over(Event::Asked(_)) | Turn::Moved | Turn::Idle => {
                                desk.fail(ErrorCode::BadFrame, "a message ends inside a frame")
                            }
                            over => over,
                        };
                    }
                }
                Piece::Message { at: part, is_text: true, is_last } => {
                    self.sends_text = true;
                    let mut turn = Turn::Moved;
                    if !region.is_void() {
                        turn = region.hand_over(buffer, desk, door);
                    }
                    let part = buffer.get(part).unwrap_or_default();
                    let waits = desk.is_blocked() || !matches!(turn, Turn::Moved);
                    match self.handle_text(part, is_last, waits, desk, door) {
                        Turn::Moved => {}
                        over => turn = over,
                    }
                    region = Region::at(at);
                    has_handed |= is_last;
                    let is_held_up = desk.is_blocked() || self.owed.is_some();
                    if is_held_up || !matches!(turn, Turn::Moved) {
                        self.is_raw_ready = at < buffer.len();
                        break turn;
                    }
                }
            }
        };
        let rest = buffer.get(at..).unwrap_or_default();
        let is_held = !rest.is_empty() || !self.raw.bytes().is_empty();
        if is_held && self.raw.set(rest).is_err() {
            return desk.fail(ErrorCode::Unavailable, "no memory for a message's start");
        }
        turn
    }

    /// Hands over a text message, when all of it is there; where it `waits`, behind what else does.
    fn handle_text(
        &mut self,
        part: &[u8],
        is_last: bool,
        waits: bool,
        desk: &mut Desk,
        door: &Door,
    ) -> Turn {
        let text = match self.take_text(part, is_last) {
            Ok(Some(text)) => text,
            Ok(None) => return Turn::Moved,
            Err(code) => return desk.fail(code, "a text message that is too long"),
        };
        // what it was charged with goes back
        self.text.set(&[]).unwrap_or_default();
        match self.frame_of_text(&text) {
            Ok(Ok(frame)) if waits => match desk.pending.extend(&frame) {
                Ok(()) => Turn::Moved,
                Err(_) => desk.fail(ErrorCode::Unavailable, "no memory for a message"),
            },
            Ok(Ok(frame)) => {
                desk.pending.expect(frame.len());
                desk.handle(&frame, door)
            }
            Ok(Err(owed)) => {
                self.owed = Some(owed);
                Turn::Moved
            }
            Err(error) => {
                debug!(%error, "link lost in reading");
                Turn::Over(Event::Finished)
            }
        }
    }

    /// Writes what was begun.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.bytes().is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, self.unsent.bytes()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes from the front of whole frames, or of the rest of one that was begun; how much of them
    /// is done with. What of it the socket did not take is in `unsent`.
    fn poll_frames(&mut self, frames: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.begun > 0 {
            let rest = frames.get(..self.begun).unwrap_or(frames);
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun -= written;
            return Poll::Ready(Ok(written));
        }
        if let Some(json) = &mut self.json {
            return Poll::Ready(Ok(say(json, frames, &mut self.unsent)));
        }
        let payload = frames.get(..self.share(frames)).unwrap_or_default();
        if payload.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let head = SentHead::new(opcode::BINARY, payload.len());
        let head = head.as_bytes();
        let written = ready!(poll_write_both(&mut self.io, head, payload, cx))?;
        let Some(of_payload) = written.checked_sub(head.len()) else {
            self.unsent.push(head.get(written..).unwrap_or_default());
            self.unsent.push(payload);
            return Poll::Ready(Ok(payload.len()));
        };
        if of_payload > 0 && whole_frames(payload, 1) == payload.len() {
            // a frame that was begun stays where it is until it is written
            self.begun = payload.len() - of_payload;
            return Poll::Ready(Ok(of_payload));
        }
        self.unsent.push(payload.get(of_payload..).unwrap_or_default());
        Poll::Ready(Ok(payload.len()))
    }

    /// How much of `frames` to put into one message: whole frames, and not more than could be held
    /// if the socket does not take them.
    fn share(&self, frames: &[u8]) -> usize {
        if frames.len() <= SMALL {
            return frames.len();
        }
        let can_hold = self.unsent.has_room(frames.len().min(MESSAGE_BYTES));
        let most = if can_hold { MESSAGE_BYTES } else { SMALL };
        if frames.len() <= most { frames.len() } else { whole_frames(frames, most) }
    }

    /// Writes all of `unsent`, and what answers a ping.
    async fn send_unsent(&mut self) -> io::Result<()> {
        if let Some(ping) = self.ping.take() {
            self.unsent.push_message(opcode::PONG, &ping);
        }
        poll_fn(|cx| self.poll_unsent(cx)).await?;
        self.io.flush().await
    }
}

/// Says frames in JSON, until there is enough of it.
fn say(json: &mut Json, frames: &[u8], unsent: &mut Unsent) -> usize {
    let mut said = 0;
    while unsent.bytes().is_empty() || (unsent.is_charged() && unsent.bytes().len() < TEXT_BYTES) {
        match json.say_first(frames.get(said..).unwrap_or_default(), unsent) {
            0 => break,
            length => said += length,
        }
    }
    said
}

/// Writes a message's head and its payload with one call; how much of both together.
fn poll_write_both<T: AsyncWrite + Unpin>(
    io: &mut T,
    head: &[u8],
    payload: &[u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut io = Pin::new(io);
    let written = if payload.len() > SMALL && io.is_write_vectored() {
        ready!(io.as_mut().poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(payload)]))?
    } else {
        ready!(SCRATCH.with_borrow_mut(|scratch| {
            let payload = payload.get(..scratch.len() - head.len()).unwrap_or(payload);
            let (front, rest) = scratch.split_at_mut(head.len());
            front.copy_from_slice(head);
            rest[..payload.len()].copy_from_slice(payload);
            io.as_mut().poll_write(cx, &scratch[..head.len() + payload.len()])
        }))?
    };
    Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
}

impl<T: AsyncRead + AsyncWrite + Unpin> Frames for WebSocketLink<T> {
    fn are_frames(&self) -> bool {
        self.json.is_none()
    }

    async fn receive(&mut self, input: &mut Vec<u8>) -> Result<(), Failure> {
        loop {
            let mut bytes = self.raw.take();
            let mut at = 0;
            let has_more = self.read_handshake(&mut bytes, &mut at, input)?;
            let rest = bytes.get(at..).unwrap_or_default();
            self.raw.set(rest).map_err(|_| Refusal::because(ErrorCode::Unavailable))?;
            self.is_raw_ready = !rest.is_empty();
            if has_more {
                return Ok(());
            }
            self.send_unsent().await?;
            let mut buffer = [0; 512];
            let length = self.io.read(&mut buffer).await?;
            if length == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let read = buffer.get(..length).unwrap_or_default();
            self.raw.extend(read).map_err(|_| Refusal::because(ErrorCode::Unavailable))?;
        }
    }

    async fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        let mut said = 0;
        while let Some(rest) = frames.get(said..).filter(|rest| !rest.is_empty()) {
            match &mut self.json {
                Some(json) => said += say(json, rest, &mut self.unsent).max(1),
                None => {
                    self.unsent.push_message(opcode::BINARY, rest);
                    said = frames.len();
                }
            }
        }
        self.send_unsent().await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carrier for WebSocketLink<T> {
    fn poll_write(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> (usize, Written) {
        let mut written = 0;
        loop {
            if self.begun == 0
                && let Some(ping) = self.ping.take()
            {
                self.unsent.push_message(opcode::PONG, &ping);
            }
            match self.poll_unsent(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return (written, Written::Failed(error)),
                Poll::Pending => return (written, Written::Part),
            }
            let rest = bytes.get(written..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match self.poll_frames(rest, cx) {
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(length)) => written += length,
                Poll::Ready(Err(error)) => return (written, Written::Failed(error)),
                Poll::Pending => return (written, Written::Part),
            }
        }
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Ok(())) => (written, Written::All),
            Poll::Ready(Err(error)) => (written, Written::Failed(error)),
            Poll::Pending => (written, Written::Part),
        }
    }

    fn poll_read(&mut self, desk: &mut Desk, door: &Door, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Some((request, code)) = self.owed {
            // room comes by writing, and reading is tried again after it
            if !desk.refuse(request, code) {
                return Poll::Pending;
            }
            self.owed = None;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            // a frame longer than half the scratch buffer is put together beside it
            let is_long = desk.pending.bytes().len() > SCRATCH_BYTES / 2;
            let start = if is_long { 0 } else { desk.pending.copy_to(&mut scratch[..]) };
            let held = self.raw.copy_to(scratch.get_mut(start..).unwrap_or_default());
            let mut end = start + held;
            if !self.is_raw_ready {
                let most = if self.sends_text { TEXT_READ } else { READ };
                let room = desk.pending.room(held + most).saturating_sub(held);
                let mut buffer = ReadBuf::new(scratch.get_mut(end..end + room).unwrap_or_default());
                let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
                let length = buffer.filled().len();
                if let Err(error) = &read {
                    debug!(%error, "link lost in reading");
                }
                if read.is_err() || length == 0 {
                    return Poll::Ready(Turn::Over(Event::Finished));
                }
                door.status().bytes_in.add(length as u64);
                end += length;
            }
            let bytes = scratch.get_mut(..end).unwrap_or_default();
            Poll::Ready(self.digest(bytes, start, is_long, desk, door))
        })
    }

    async fn close(mut self, last: Option<&[u8]>, waits: bool) -> io::Result<()> {
        // nothing can be said inside a message
        if self.begun == 0 {
            if let Some(last) = last {
                self.send(last).await?;
            }
            let code = self.close_code.as_ref().map_or(&[][..], |code| &code[..]);
            self.unsent.push_message(opcode::CLOSE, code);
            self.send_unsent().await?;
        }
        // RFC 6455, section 7.1.1: the server ends the connection under it
        end(&mut self.io, waits).await
    }
}

/// The length of the whole frames at the front of `bytes`: of the first, and of those behind it up to
/// about `most` bytes.
fn whole_frames(bytes: &[u8], most: usize) -> usize {
    let mut length = 0;
    while length < most {
        let Some(rest) = bytes.get(length..) else { break };
        let Ok(Some((head, _))) = frame::split(rest, MAX_BODY) else { break };
        length += head.total();
    }
    length
}

/// A message's share of the link, so that a slow one is not filled with one message for long.
const MESSAGE_BYTES: usize = 256 * 1024;
/// Up to here copying costs less than a second vector, and what a slow peer makes its link hold
/// needs no memory to be there before.
const SMALL: usize = 4096;
/// JSON that is made before it is written.
const TEXT_BYTES: usize = 16 * 1024;
/// One read: both what is pending and what is raw fit into the scratch buffer.
const READ: usize = SCRATCH_BYTES / 2 - 256;
/// One read of a peer that sends text, each message of which is handled for itself.
const TEXT_READ: usize = 4096;
/// Names and numbers of a text message beside its payload.
const MESSAGE_ROOM: usize = 4096;
/// Codes of RFC 6455, section 7.4.1.
const PROTOCOL_ERROR: [u8; 2] = 1002_u16.to_be_bytes();
const NO_TEXT: [u8; 2] = 1007_u16.to_be_bytes();
