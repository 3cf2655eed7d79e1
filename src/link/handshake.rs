//! A link's first moments: HELLO to WELCOME, under a deadline.

use std::io;
use std::time::Duration;

use fastport_core::handshake::{self, Credential, Handshake, Hello, Refusal, Step};
use fastport_core::proof::NONCE_BYTES;
use fastport_core::session::Admission;
use fastport_core::time::Instant;
use fastport_wire::control::{ErrorCode, features};
use fastport_wire::field::kind;
use fastport_wire::{Frame, frame};
use tracing::debug;
use zeroize::Zeroizing;

use super::door::{Door, Permit};
use super::packing;
use crate::guard::{Meters, Origin, Visit};
use crate::hub::Seat;

/// How a transport carries the frames of a handshake.
pub(super) trait Frames {
    /// Appends what comes next to `input`: at least one byte.
    async fn receive(&mut self, input: &mut Vec<u8>) -> Result<(), Failure>;

    /// Whether the peer speaks in frames, and not in JSON.
    fn are_frames(&self) -> bool {
        true
    }

    /// Sends whole frames.
    async fn send(&mut self, frames: &[u8]) -> io::Result<()>;
}

/// A peer that is in, and the bytes that came behind its handshake.
pub(super) struct Admitted {
    pub(super) seat: Seat,
    pub(super) input: Vec<u8>,
    pub(super) meters: Option<Meters>,
    /// Whether the link stays on this machine.
    pub(super) is_local: bool,
    /// PACK frames go both ways.
    pub(super) packs: bool,
}

/// Takes a link to its place in a session; `None`: it was refused, or is gone.
pub(super) async fn shake(
    door: &Door,
    frames: &mut impl Frames,
    origin: &Origin,
    permit: &Permit,
    visit: &Visit,
) -> Option<Admitted> {
    let attempt = attempt(door, frames, origin, visit);
    let outcome = tokio::time::timeout_at(permit.until, attempt).await;
    let refusal = match outcome {
        Ok(Ok(admitted)) => return Some(admitted),
        Ok(Err(Failure::Link(error))) => {
            debug!(%origin, %error, "link lost in its handshake");
            return None;
        }
        Ok(Err(Failure::Refused(refusal))) => {
            door.status().refused.add(1);
            if refusal.code == ErrorCode::NotAuthenticated {
                door.status().wrong_proofs.add(1);
                door.gate.note_wrong_proof(origin, door.hub.clock().mono());
            }
            refusal
        }
        Err(_) => {
            door.status().handshake_timeouts.add(1);
            Refusal::because(ErrorCode::HandshakeTimeout)
        }
    };
    door.note_refusal(origin, refusal.code);
    // a peer that does not read this has no use for it
    let until = permit.until + TELL_TIMEOUT;
    let told = tokio::time::timeout_at(until, frames.send(&refusal.to_frame())).await;
    debug!(%origin, told = told.is_ok_and(|sent| sent.is_ok()), "refusal sent");
    None
}

/// Why a handshake comes to nothing.
pub(super) enum Failure {
    /// The link was lost.
    Link(io::Error),
    /// The peer is to be told.
    Refused(Refusal),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Link(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn attempt(
    door: &Door,
    frames: &mut impl Frames,
    origin: &Origin,
    visit: &Visit,
) -> Result<Admitted, Failure> {
    let mut input = Vec::new();
    let mut handshake = Handshake::new();
    let mut expects_key_proof = false;
    loop {
        let body = next_control(frames, &mut input).await?;
        if !visit.has_place() {
            let retry_ms = Some(RETRY_ADDRESS_MS);
            return Err(Refusal { code: ErrorCode::LimitReached, retry_ms }.into());
        }
        if expects_key_proof {
            // now, not when it was asked for: devices that come back together wait for each other
            door.gate.begin_proof(origin, door.hub.clock().mono())?;
        }
        let mut step = handshake.handle_control(&body)?;
        loop {
            step = match step {
                Step::Identify => {
                    let credential = door.gate.identify(hello(&handshake)?, origin)?;
                    expects_key_proof = matches!(credential, Credential::Key { .. });
                    handshake.identified(credential, nonce()?)?
                }
                Step::CheckPassword(password) => {
                    let password = Zeroizing::new(password.into_vec());
                    let (hello, now) = (hello(&handshake)?, door.hub.clock().mono());
                    let rights = door.gate.check_password(hello, origin, now, password).await?;
                    handshake.checked(rights)?
                }
                Step::Send(bytes) => {
                    frames.send(&bytes).await?;
                    break;
                }
                Step::Admit(session, mut admission) => {
                    let now = door.hub.clock().mono();
                    if expects_key_proof {
                        door.gate.note_right_proof(origin, now);
                    }
                    let is_named = !admission.identity.is_empty();
                    if is_named && !door.gate.has_identity(&session, &admission.identity) {
                        return Err(Refusal::because(ErrorCode::NotAuthenticated).into());
                    }
                    pace(door, &session, &admission, now)?;
                    let meters = door.gate.meters(&session, &admission.identity, origin, now);
                    // for all others it would be work for nothing
                    let may_pack = admission.rights.is_gateway() && frames.are_frames();
                    if !packing::IS_BUILT_IN || !may_pack {
                        admission.flags &= !features::PACKS;
                    }
                    let packs = admission.flags & features::PACKS != 0;
                    let seat = door.hub.attach(&session, *admission)?;
                    let is_local = origin.is_local();
                    return Ok(Admitted { seat, input, meters, is_local, packs });
                }
            };
        }
    }
}

/// Gateways come back one after the other, however many there are.
fn pace(door: &Door, session: &str, peer: &Admission, now: Instant) -> Result<(), Refusal> {
    if !peer.rights.is_gateway() {
        return Ok(());
    }
    let paced = door.gate.pace(session, &peer.identity, &peer.name, now);
    door.status().central.paced.add(u64::from(paced.is_err()));
    paced
}

/// The body of the next CONTROL frame; what came behind it stays in `input`.
async fn next_control(frames: &mut impl Frames, input: &mut Vec<u8>) -> Result<Vec<u8>, Failure> {
    loop {
        let found = frame::split(input, handshake::MAX_BODY).map_err(Refusal::from)?;
        let Some((head, body)) = found else {
            frames.receive(input).await?;
            continue;
        };
        if head.kind() == kind::PADDING {
            input.drain(..head.total());
            continue;
        }
        let body = match Frame::from_parts(head, body).map_err(Refusal::from)? {
            Frame::Control(body) => body.to_vec(),
            _ => return Err(Refusal::because(ErrorCode::Unexpected).into()),
        };
        input.drain(..head.total());
        return Ok(body);
    }
}

fn hello(handshake: &Handshake) -> Result<&Hello, Refusal> {
    handshake.hello().ok_or(Refusal::because(ErrorCode::Unexpected))
}

fn nonce() -> Result<[u8; NONCE_BYTES], Refusal> {
    let mut nonce = [0; NONCE_BYTES];
    // without randomness nobody can be let in safely
    getrandom::fill(&mut nonce).map_err(|_| Refusal::because(ErrorCode::Unavailable))?;
    Ok(nonce)
}

/// A link of the same address may end before.
const RETRY_ADDRESS_MS: u32 = 5_000;
/// For telling a peer that its time is over: the socket's buffer has room, but for those who mean
/// ill.
const TELL_TIMEOUT: Duration = Duration::from_millis(100);
