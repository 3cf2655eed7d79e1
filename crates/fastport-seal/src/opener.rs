//! Opening the messages of all senders.

use crate::content::Content;
use crate::error::OpenError;
use crate::head::{Head, MESSAGE_HEAD, Shape};
use crate::key::{KeyId, PLACE, Scope, SenderId};
use crate::senders::{Known, Senders};
use crate::stream::StreamOpener;
use crate::suite::{BLOCK, OpeningSuite, TAG};

/// What may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// What did not come before: live messages.
    New,
    /// What came before as well: the answer to a question about the past. It is noted that it came.
    Any,
}

/// What was in a sealed message.
#[derive(Debug)]
pub struct Opened<'b> {
    /// Its content, in the buffer that it came in, [`MESSAGE_HEAD`] bytes from its beginning.
    pub plain: &'b mut [u8],
    /// With which key it was sealed.
    pub key: KeyId,
    /// Who says to have sealed it: a member of the session. Members can claim to be each other.
    pub sender: SenderId,
    /// Its number among the sender's.
    pub counter: u64,
}

/// Opens a sealed payload in place: `content` is where and as what it came, `scopes` are the keys at
/// hand in this session. A sender whose first message this is becomes known.
///
/// # Errors
/// [`OpenError`]; nothing was decrypted then. Of several things that are wrong it names the first of
/// length, format, key, session, topic; and where changed bits in the head are all that is wrong,
/// [`OpenError::Altered`].
pub fn open<'b, S: Senders>(
    scopes: &[Scope],
    senders: &mut S,
    content: Content<'_>,
    freshness: Freshness,
    buffer: &'b mut [u8],
) -> Result<Opened<'b>, OpenError> {
    let (front, rest) =
        buffer.split_first_chunk_mut::<MESSAGE_HEAD>().ok_or(OpenError::Truncated)?;
    let length = rest.len().checked_sub(TAG).ok_or(OpenError::Truncated)?;
    let (body, tag) = rest.split_at_mut(length);
    let came = Came { front, head: Head::decode(front), body, tag };

    let (scope, place, shape) = came.belongs(scopes, content).map_err(|error| {
        let is_authentic = scopes.iter().any(|scope| came.is_authentic_but_head(scope, content));
        if is_authentic { OpenError::Altered } else { error }
    })?;
    came.authenticate(scope, &place, senders)?;

    let Head { key, sender, counter, .. } = came.head;
    let known = senders.find(key, sender).ok_or(OpenError::TooManySenders)?;
    match freshness {
        Freshness::New => known.window.take(counter)?,
        Freshness::Any => known.window.note(counter),
    }
    known.suite.decrypt(counter, body);
    Ok(Opened { plain: &mut body[..shape.plain(length)], key, sender, counter })
}

/// Opens what the offer of a stream says of it, as [`open`] does with [`Content::offer`], and gives
/// what opens the stream's chunks.
///
/// # Errors
/// [`OpenError`].
pub fn open_offer<'b, S: Senders>(
    scopes: &[Scope],
    senders: &mut S,
    topic: &str,
    freshness: Freshness,
    buffer: &'b mut [u8],
) -> Result<(Opened<'b>, StreamOpener), OpenError> {
    let opened = open(scopes, senders, Content::offer(topic), freshness, buffer)?;
    let scope = scopes.iter().find(|scope| scope.key == opened.key);
    let keys =
        scope.ok_or(OpenError::UnknownKey(opened.key))?.stream(opened.sender, opened.counter);
    Ok((opened, StreamOpener::new(&keys)))
}

/// A sealed message as it came.
struct Came<'a> {
    front: &'a [u8; MESSAGE_HEAD],
    head: Head,
    body: &'a [u8],
    tag: &'a [u8],
}

impl Came<'_> {
    /// Whether it says to belong here, with which key; and its place and shape.
    fn belongs<'s>(
        &self,
        scopes: &'s [Scope],
        content: Content<'_>,
    ) -> Result<(&'s Scope, [u8; PLACE], Shape), OpenError> {
        let shape = Shape::decode([self.front[0], self.front[1]], self.body.len())?;
        let with_key = || scopes.iter().filter(|scope| scope.key == self.head.key);
        if with_key().next().is_none() {
            return Err(OpenError::UnknownKey(self.head.key));
        }
        let scope = with_key().find(|scope| scope.session == self.head.session);
        let scope = scope.ok_or(OpenError::OtherSession)?;
        let place = scope.place(content);
        if !place.starts_with(&self.head.hint) {
            return Err(OpenError::OtherTopic);
        }
        Ok((scope, place, shape))
    }

    fn authenticate<S: Senders>(
        &self,
        scope: &Scope,
        place: &[u8; PLACE],
        senders: &mut S,
    ) -> Result<(), OpenError> {
        let Head { key, sender, .. } = self.head;
        let check = |suite: &OpeningSuite| {
            let is_authentic = suite.is_authentic(&[place, self.front], self.body, self.tag);
            is_authentic.then_some(()).ok_or(OpenError::Altered)
        };
        if let Some(known) = senders.find(key, sender) {
            return check(&known.suite);
        }
        let known = Known::new(scope, sender, senders.bits());
        check(&known.suite)?;
        senders.add(known).then_some(()).ok_or(OpenError::TooManySenders)
    }

    /// Whether it is authentic if its head says what it should: then it does belong here, and the
    /// head was changed on the way.
    fn is_authentic_but_head(&self, scope: &Scope, content: Content<'_>) -> bool {
        if !self.body.len().is_multiple_of(BLOCK) {
            return false;
        }
        let place = scope.place(content);
        let (key, session, hint) = (scope.key, scope.session, [place[0], place[1]]);
        let blocks = (self.body.len() / BLOCK).to_le_bytes()[0];
        let shape = Shape { pad: self.front[0] & 0x0f, blocks };
        let front = Head { key, session, hint, ..self.head }.encode(shape.encode());
        let suite = OpeningSuite::new(&scope.sender(self.head.sender));
        suite.is_authentic(&[&place, &front], self.body, self.tag)
    }
}
