//! From a new link to the session: HELLO, the answer to CHALLENGE, and what WELCOME means for what was
//! sent before.

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::Frame;
use fastport_wire::control::{self, Method, WhenFull, features};
use fastport_wire::frame::DataFlags;

use super::{Client, Event, Fault, Options, Orphan, Phase, Secret};
use crate::proof::{self, NONCE_BYTES, Side, Transcript};
use crate::session::push_control;
use crate::time::{CLOCK_FLOOR_MS, Instant};

impl Client {
    /// There is a link: begins the handshake. `nonce` is fresh random bytes.
    pub fn connected(&mut self, now: Instant, nonce: [u8; NONCE_BYTES]) {
        self.prologue.clear();
        self.streams.lose_link();
        if core::mem::take(&mut self.is_epoch_lost) {
            // those that are still here are published again, in another
            self.options.epoch = epoch_from(&nonce);
            (self.taken, self.confirmed) = (0, 0);
        }
        // what was not confirmed comes again
        self.taken = self.reported();
        let options = &self.options;
        let some = |text: &'_ str| (!text.is_empty()).then(|| Box::<str>::from(text));
        let (identity, name) = (some(&options.identity), some(&options.name));
        let method = match options.secret {
            Secret::None => Method::Open,
            Secret::Password(_) => Method::Password,
            Secret::Key(_) => Method::DeviceKey,
            Secret::Certificate => Method::Certificate,
        };
        let hello = control::Hello {
            version: control::VERSION,
            session: &options.session,
            method: Some(method.number()),
            identity: identity.as_deref(),
            nonce: (method == Method::DeviceKey).then_some(&nonce),
            epoch: options.epoch,
            taken: Some(self.taken),
            flags: Some(options.flags),
            when_full: options.when_full.map(WhenFull::number),
            keepalive: options.keepalive,
            linger: Some(options.linger),
            name: name.as_deref(),
            ..Default::default()
        };
        push_control(&mut self.prologue, &hello.into());
        self.phase = Phase::ExpectWelcome { nonce, relay_nonce: None };
        (self.heard, self.is_asked, self.clock) = (now, false, None);
        self.told_clock = None;
        // HELLO said what was taken
        (self.ack_due, self.unacked_weight, self.asked_at) = (None, 0, 0);
        // a relay that says nothing is found out by the caller's deadline for connecting
        self.keepalive_ms = 0;
    }

    pub(super) fn answer(
        &mut self,
        challenge: &control::Challenge<'_>,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<(), Fault> {
        let relay_nonce = challenge.nonce.unwrap_or_default();
        let options = &self.options;
        let proof: Box<[u8]> = match (Method::from_number(challenge.method), &options.secret) {
            (Some(Method::Password), Secret::Password(password)) => password.clone(),
            (Some(Method::DeviceKey), Secret::Key(key)) => {
                let transcript = transcript(options, &nonce, relay_nonce);
                Box::from(proof::prove(key, Side::Peer, &transcript))
            }
            _ => return Err(Fault::WrongMethod),
        };
        push_control(
            &mut self.prologue,
            &control::Proof { proof: &proof, ..Default::default() }.into(),
        );
        self.phase = Phase::ExpectWelcome { nonce, relay_nonce: Some(relay_nonce.into()) };
        Ok(())
    }

    pub(super) fn check_relay(&self, welcome: &control::Welcome<'_>) -> Result<(), Fault> {
        let Secret::Key(key) = &self.options.secret else { return Ok(()) };
        let Phase::ExpectWelcome { nonce, relay_nonce: Some(relay_nonce) } = &self.phase else {
            return Err(Fault::RelayNotProven);
        };
        let transcript = transcript(&self.options, nonce, relay_nonce);
        let is_proven =
            proof::verify(key, Side::Relay, &transcript, welcome.proof.unwrap_or_default());
        if is_proven { Ok(()) } else { Err(Fault::RelayNotProven) }
    }

    pub(super) fn begin(
        &mut self,
        welcome: &control::Welcome<'_>,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        self.phase = Phase::Ready;
        self.packs = welcome.flags.unwrap_or(0) & self.options.flags & features::PACKS != 0;
        self.keepalive_ms = u64::from(welcome.keepalive.unwrap_or(0)) * 1000;
        self.payload_limit = usize::try_from(welcome.payload_limit).unwrap_or(usize::MAX);
        let continues = self.options.continues.take().is_some();
        if welcome.resumed && continues {
            // nothing is published before the first WELCOME
            self.outbox.start_at(welcome.taken);
            self.published = welcome.taken;
        } else if welcome.resumed {
            let resumed = self.outbox.resume(&mut self.buffers, &mut self.ledger, welcome.taken);
            if resumed.is_err() {
                self.is_epoch_lost = true;
                return Err(Fault::BadAck);
            }
        } else {
            self.start_over();
        }
        let resumed = welcome.resumed;
        let (taken, payload_limit) = (welcome.taken, welcome.payload_limit);
        let clock = welcome.clock.filter(|&clock| clock >= CLOCK_FLOOR_MS);
        tell(Event::Welcome { resumed, taken, payload_limit, clock });
        if welcome.resumed {
            let taken = self.before_epoch + welcome.taken;
            tell(Event::Acked { taken, durable: self.before_epoch, central: self.before_epoch });
        }
        self.ask_again(resumed);
        self.offer_again();
        Ok(())
    }

    /// The relay knows nothing of this client: what it does not have is set aside until its topics
    /// are open again.
    fn start_over(&mut self) {
        let messages = self.outbox.take_messages(&mut self.buffers);
        let mut rest = &messages[..];
        let mut orphans = Vec::new();
        while let Ok(Some((Frame::Data { flags, topic, payload }, length))) =
            Frame::decode(rest, fastport_wire::field::MAX_BODY)
        {
            rest = rest.get(length..).unwrap_or_default();
            let open = self.open.iter().find(|(_, open)| open.id == Some(topic));
            if let Some((name, _)) = open {
                orphans.push(Orphan { topic: (&**name).into(), flags, payload: payload.into() });
            }
        }
        // those that were orphans before are not in the count of published messages
        let is_counted = |orphan: &&Orphan| orphan.flags.contains(DataFlags::COUNTED);
        let counted = orphans.iter().filter(is_counted).count() as u64;
        // and are older
        self.orphans.extend(orphans);
        self.published -= counted;
        self.before_epoch = self.published;
        (self.taken, self.confirmed) = (0, 0);
        self.names.clear();
        for open in self.open.values_mut() {
            (open.id, open.has_failed) = (None, false);
        }
    }
}

/// An epoch as random as the nonce, and short enough for numbers of 53 bits.
fn epoch_from(nonce: &[u8; NONCE_BYTES]) -> u64 {
    nonce.iter().take(8).fold(0, |epoch, &byte| epoch << 8 | u64::from(byte)) >> 11
}

fn transcript<'a>(options: &'a Options, nonce: &'a [u8], relay_nonce: &'a [u8]) -> Transcript<'a> {
    Transcript {
        session: &options.session,
        identity: &options.identity,
        epoch: options.epoch,
        peer_nonce: nonce,
        relay_nonce,
    }
}
