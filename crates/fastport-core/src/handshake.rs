//! From a link's first byte to a place in a session: HELLO, CHALLENGE, PROOF.
//!
//! It holds no buffer and knows no credential: the caller looks those up, checks passwords (which
//! takes long) and gives the answers.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use fastport_wire::WireError;
use fastport_wire::control::{self, Control, ErrorCode, Method, WhenFull};

use crate::proof::{self, KEY_BYTES, NONCE_BYTES, Side, Transcript};
use crate::rights::Rights;
use crate::session::{Admission, own, push_control};

/// The most bytes a frame of a handshake may have behind its length.
pub const MAX_BODY: usize = 1024;
/// The most bytes of a session's, an identity's or a peer's name.
pub const MAX_NAME: usize = 64;
/// What a peer of another version is told.
const VERSIONS: &str = "this relay speaks version 2";
/// What passes by itself does so within seconds.
const RETRY_MS: u32 = 5000;

/// What a peer said in its HELLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The session it wants to join.
    pub session: Box<str>,
    /// How it will prove who it is.
    pub method: Method,
    /// Whose credential it will prove to have; empty: none.
    pub identity: Box<str>,
    /// What it calls itself; empty: nothing.
    pub name: Box<str>,
    nonce: [u8; NONCE_BYTES],
    epoch: u64,
    taken: u64,
    flags: u32,
    when_full: Option<WhenFull>,
    keepalive: Option<u32>,
    linger: Option<u32>,
}

/// What the caller found for a HELLO.
#[derive(Clone)]
pub enum Credential {
    /// No proof is needed, or the link has already given it (a client certificate).
    Granted {
        /// Whose certificate it is; empty: nothing was proven, and what the peer calls itself in its
        /// HELLO is nobody's name.
        identity: Box<str>,
        /// What the peer may do.
        rights: Arc<Rights>,
    },
    /// A password; whether it is right is asked later, see [`Step::CheckPassword`].
    Password,
    /// A key both sides should have. Without rights, it belongs to nobody: the peer learns no more
    /// than that its proof was wrong.
    Key {
        /// The key.
        key: [u8; KEY_BYTES],
        /// What its holder may do.
        rights: Option<Arc<Rights>>,
    },
}

/// What the caller should do next.
#[derive(Debug)]
pub enum Step {
    /// Look up the credential for [`Handshake::hello`]; answer by [`Handshake::identified`].
    Identify,
    /// Write this and wait for the peer.
    Send(Vec<u8>),
    /// Check the password for [`Handshake::hello`]; answer by [`Handshake::checked`].
    CheckPassword(Box<[u8]>),
    /// Let the peer into the session of that name.
    Admit(Box<str>, Box<Admission>),
}

/// The peer is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: ErrorCode,
    /// Milliseconds after which trying again may help.
    pub retry_ms: Option<u32>,
}

impl Refusal {
    /// A refusal for that reason. Trying again may help only against what passes by itself.
    #[must_use]
    pub const fn because(code: ErrorCode) -> Self {
        let passes = matches!(code, ErrorCode::HandshakeTimeout | ErrorCode::Unavailable);
        Self { code, retry_ms: if passes { Some(RETRY_MS) } else { None } }
    }

    /// The frame that says it.
    #[must_use]
    pub fn to_frame(self) -> Vec<u8> {
        let mut out = Vec::new();
        let (code, retry) = (self.code.number(), self.retry_ms);
        let text = matches!(self.code, ErrorCode::BadVersion).then_some(VERSIONS);
        push_control(&mut out, &control::Error { code, text, retry, ..Default::default() }.into());
        out
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::because(match error {
            WireError::TooLong => ErrorCode::FrameTooLong,
            WireError::BadControl => ErrorCode::BadControl,
            WireError::UnknownOp(_) => ErrorCode::UnknownMessage,
            _ => ErrorCode::BadFrame,
        })
    }
}

/// See the module's text.
#[derive(Default)]
pub struct Handshake {
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    ExpectHello,
    ExpectCredential(Hello),
    ExpectPassword(Hello),
    ExpectVerdict(Hello),
    ExpectKeyProof(Hello, Box<KeyCheck>),
    Done,
}

struct KeyCheck {
    key: [u8; KEY_BYTES],
    rights: Option<Arc<Rights>>,
    relay_nonce: [u8; NONCE_BYTES],
}

impl Handshake {
    /// A handshake of which nothing has come.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The HELLO, once it has come.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        match &self.state {
            State::ExpectCredential(hello)
            | State::ExpectPassword(hello)
            | State::ExpectVerdict(hello)
            | State::ExpectKeyProof(hello, _) => Some(hello),
            State::ExpectHello | State::Done => None,
        }
    }

    /// Takes the body of a CONTROL frame.
    ///
    /// # Errors
    /// [`Refusal`]: tell the peer and close its link.
    pub fn handle_control(&mut self, body: &[u8]) -> Result<Step, Refusal> {
        let message = Control::decode(body)?;
        match (core::mem::replace(&mut self.state, State::Done), message) {
            (State::ExpectHello, Control::Hello(hello)) => {
                self.state = State::ExpectCredential(check_hello(&hello)?);
                Ok(Step::Identify)
            }
            (State::ExpectPassword(hello), Control::Proof(proof)) => {
                self.state = State::ExpectVerdict(hello);
                Ok(Step::CheckPassword(proof.proof.into()))
            }
            (State::ExpectKeyProof(hello, check), Control::Proof(proof)) => {
                check_key(hello, &check, proof.proof)
            }
            _ => Err(Refusal::because(ErrorCode::Unexpected)),
        }
    }

    /// Takes what was found for the HELLO; `relay_nonce` is fresh random bytes.
    ///
    /// # Errors
    /// [`Refusal`]: tell the peer and close its link.
    pub fn identified(
        &mut self,
        credential: Credential,
        relay_nonce: [u8; NONCE_BYTES],
    ) -> Result<Step, Refusal> {
        let State::ExpectCredential(hello) = core::mem::replace(&mut self.state, State::Done)
        else {
            return Err(Refusal::because(ErrorCode::Unexpected));
        };
        let (method, nonce) = match credential {
            Credential::Granted { identity, .. } if own::is_reserved(&identity) => {
                return Err(Refusal::because(ErrorCode::NotAuthenticated));
            }
            Credential::Granted { identity, rights } => {
                return Ok(Hello { identity, ..hello }.admit(rights, None));
            }
            Credential::Password => {
                self.state = State::ExpectPassword(hello);
                (Method::Password, None)
            }
            Credential::Key { key, rights } => {
                let check = Box::new(KeyCheck { key, rights, relay_nonce });
                self.state = State::ExpectKeyProof(hello, check);
                (Method::DeviceKey, Some(&relay_nonce[..]))
            }
        };
        let mut out = Vec::new();
        let method = method.number();
        push_control(&mut out, &control::Challenge { method, nonce, ..Default::default() }.into());
        Ok(Step::Send(out))
    }

    /// Takes the verdict over a password: rights when it was right.
    ///
    /// # Errors
    /// [`Refusal`]: tell the peer and close its link.
    pub fn checked(&mut self, rights: Option<Arc<Rights>>) -> Result<Step, Refusal> {
        match (core::mem::replace(&mut self.state, State::Done), rights) {
            (State::ExpectVerdict(hello), Some(rights)) => Ok(hello.admit(rights, None)),
            _ => Err(Refusal::because(ErrorCode::NotAuthenticated)),
        }
    }
}

impl Hello {
    fn admit(self, rights: Arc<Rights>, proof: Option<[u8; proof::PROOF_BYTES]>) -> Step {
        let admission = Admission {
            identity: self.identity,
            name: self.name,
            rights,
            epoch: self.epoch,
            taken: self.taken,
            flags: self.flags,
            when_full: self.when_full,
            keepalive: self.keepalive,
            linger: self.linger,
            proof,
            own: None,
        };
        Step::Admit(self.session, Box::new(admission))
    }
}

fn check_hello(hello: &control::Hello<'_>) -> Result<Hello, Refusal> {
    if hello.version != control::VERSION {
        return Err(Refusal::because(ErrorCode::BadVersion));
    }
    let bad = Refusal::because(ErrorCode::BadControl);
    let method = hello.method.map_or(Some(Method::Open), Method::from_number).ok_or(bad)?;
    let when_full = match hello.when_full {
        None => None,
        Some(number) => Some(WhenFull::from_number(number).ok_or(bad)?),
    };
    let nonce = match (hello.nonce, method) {
        (Some(nonce), _) => nonce.try_into().map_err(|_| bad)?,
        (None, Method::DeviceKey) => return Err(bad),
        (None, _) => [0; NONCE_BYTES],
    };
    let names = [hello.session, hello.identity.unwrap_or(""), hello.name.unwrap_or("")];
    if names.iter().any(|name| name.len() > MAX_NAME || name.chars().any(char::is_control)) {
        return Err(bad);
    }
    let [session, identity, name] = names.map(Box::from);
    if own::is_reserved(&identity) {
        return Err(Refusal::because(ErrorCode::NotAuthenticated));
    }
    Ok(Hello {
        session,
        method,
        identity,
        name,
        nonce,
        epoch: hello.epoch,
        taken: hello.taken.unwrap_or(0),
        flags: hello.flags.unwrap_or(0),
        when_full,
        keepalive: hello.keepalive,
        linger: hello.linger,
    })
}

fn check_key(hello: Hello, check: &KeyCheck, proof: &[u8]) -> Result<Step, Refusal> {
    let transcript = Transcript {
        session: &hello.session,
        identity: &hello.identity,
        epoch: hello.epoch,
        peer_nonce: &hello.nonce,
        relay_nonce: &check.relay_nonce,
    };
    let is_right = proof::verify(&check.key, Side::Peer, &transcript, proof);
    let answer = proof::prove(&check.key, Side::Relay, &transcript);
    match (is_right, &check.rights) {
        (true, Some(rights)) => {
            let rights = Arc::clone(rights);
            Ok(hello.admit(rights, Some(answer)))
        }
        _ => Err(Refusal::because(ErrorCode::NotAuthenticated)),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];
    const RELAY_NONCE: [u8; NONCE_BYTES] = [2; NONCE_BYTES];

    fn body(message: Control<'_>) -> Vec<u8> {
        let mut body = alloc::vec![0; 512];
        let length = message.encode(&mut body).expect("512 bytes are enough");
        body.truncate(length);
        body
    }

    fn hello() -> control::Hello<'static> {
        control::Hello {
            version: control::VERSION,
            session: "plant",
            identity: Some("sensor-17"),
            method: Some(Method::DeviceKey.number()),
            nonce: Some(&[1; NONCE_BYTES]),
            epoch: 7,
            ..Default::default()
        }
    }

    fn proof_over(relay_nonce: &[u8], key: &[u8; KEY_BYTES]) -> [u8; proof::PROOF_BYTES] {
        let transcript = Transcript {
            session: "plant",
            identity: "sensor-17",
            epoch: 7,
            peer_nonce: &[1; NONCE_BYTES],
            relay_nonce,
        };
        proof::prove(key, Side::Peer, &transcript)
    }

    fn challenged(rights: Option<Arc<Rights>>) -> Handshake {
        let mut handshake = Handshake::new();
        let step = handshake.handle_control(&body(hello().into()));
        assert!(matches!(step, Ok(Step::Identify)));
        let step = handshake.identified(Credential::Key { key: KEY, rights }, RELAY_NONCE);
        assert!(matches!(step, Ok(Step::Send(_))));
        handshake
    }

    fn prove(handshake: &mut Handshake, proof: &[u8]) -> Result<Step, Refusal> {
        handshake.handle_control(&body(control::Proof { proof, ..Default::default() }.into()))
    }

    #[test]
    fn a_device_that_has_the_key_gets_in_and_a_proof_of_the_relay() {
        let mut handshake = challenged(Some(Arc::new(Rights::everything())));
        let step = prove(&mut handshake, &proof_over(&RELAY_NONCE, &KEY));
        let Ok(Step::Admit(_, admission)) = step else { panic!("{step:?}") };
        assert_eq!(&*admission.identity, "sensor-17");
        assert!(admission.proof.is_some());
    }

    #[test]
    fn a_wrong_proof_a_replayed_one_and_an_unknown_device_look_the_same() {
        let refused = |rights: bool, proof: &[u8]| {
            let rights = rights.then(|| Arc::new(Rights::everything()));
            let step = prove(&mut challenged(rights), proof);
            assert!(
                matches!(step, Err(Refusal { code: ErrorCode::NotAuthenticated, .. })),
                "{step:?}"
            );
        };
        refused(true, &proof_over(&RELAY_NONCE, &[8; KEY_BYTES]));
        refused(true, &proof_over(&[9; NONCE_BYTES], &KEY));
        refused(false, &proof_over(&RELAY_NONCE, &KEY));
        refused(true, &[]);
    }

    #[test]
    fn what_was_not_proven_is_not_the_peers_identity() {
        for granted in ["", "tablet"] {
            let mut handshake = Handshake::new();
            let open = control::Hello { method: None, nonce: None, ..hello() };
            assert!(handshake.handle_control(&body(open.into())).is_ok());
            let rights = Arc::new(Rights::everything());
            let credential = Credential::Granted { identity: granted.into(), rights };
            let step = handshake.identified(credential, RELAY_NONCE);
            let Ok(Step::Admit(_, admission)) = step else { panic!("{step:?}") };
            assert_eq!(&*admission.identity, granted);
        }
    }

    #[test]
    fn nobody_from_outside_is_one_of_the_daemons_own() {
        let refused = Some(ErrorCode::NotAuthenticated);
        let own = control::Hello { identity: Some("$uplink"), ..hello() };
        let step = Handshake::new().handle_control(&body(own.into()));
        assert_eq!(step.err().map(|refusal| refusal.code), refused);
        let mut handshake = Handshake::new();
        assert!(handshake.handle_control(&body(hello().into())).is_ok());
        let rights = Arc::new(Rights::everything());
        let credential = Credential::Granted { identity: "$store".into(), rights };
        let step = handshake.identified(credential, RELAY_NONCE);
        assert_eq!(step.err().map(|refusal| refusal.code), refused);
    }

    #[test]
    fn a_refusal_says_whether_to_come_back_and_in_which_version() {
        let said = |code| {
            let frame = Refusal::because(code).to_frame();
            let (head, body) =
                fastport_wire::frame::split(&frame, 512).ok().flatten().expect("one");
            assert_eq!(head.total(), frame.len());
            let Ok(Control::Error(error)) = Control::decode(body) else { panic!("{body:x?}") };
            assert_eq!((error.request, error.code), (None, code.number()));
            (error.retry.is_some(), error.text.map(alloc::string::String::from))
        };
        assert_eq!(said(ErrorCode::NotAuthenticated), (false, None));
        assert_eq!(said(ErrorCode::HandshakeTimeout), (true, None));
        assert_eq!(said(ErrorCode::Unavailable), (true, None));
        let (comes_back, text) = said(ErrorCode::BadVersion);
        assert!(
            !comes_back && text.is_some_and(|text| text.contains(&control::VERSION.to_string()))
        );
    }

    #[test]
    fn a_proof_works_once() {
        let mut handshake = challenged(Some(Arc::new(Rights::everything())));
        let proof = proof_over(&RELAY_NONCE, &KEY);
        assert!(prove(&mut handshake, &proof).is_ok());
        let again = prove(&mut handshake, &proof);
        assert!(matches!(again, Err(Refusal { code: ErrorCode::Unexpected, .. })));
    }

    #[test]
    fn each_fault_of_a_hello_has_its_name() {
        let long = "x".repeat(65);
        for (hello, code) in [
            (control::Hello { version: 1, ..hello() }, ErrorCode::BadVersion),
            (control::Hello { method: Some(9), ..hello() }, ErrorCode::BadControl),
            (control::Hello { nonce: None, ..hello() }, ErrorCode::BadControl),
            (control::Hello { nonce: Some(&[1; 15]), ..hello() }, ErrorCode::BadControl),
            (control::Hello { when_full: Some(9), ..hello() }, ErrorCode::BadControl),
            (control::Hello { session: &long, ..hello() }, ErrorCode::BadControl),
        ] {
            let step = Handshake::new().handle_control(&body(hello.into()));
            assert!(matches!(step, Err(refusal) if refusal.code == code), "{step:?}");
        }
        let early = control::Proof { proof: &[0; 32], ..Default::default() };
        let step = Handshake::new().handle_control(&body(early.into()));
        assert!(matches!(step, Err(Refusal { code: ErrorCode::Unexpected, .. })));
        let step = Handshake::new().handle_control(b"\xff");
        assert!(matches!(step, Err(Refusal { code: ErrorCode::BadControl, .. })));
    }
}
