//! The numbers in control messages, and their names in JSON, configuration and logs.

/// Declares a closed set of numbers with names for JSON, and the ways to and from both.
macro_rules! numbers {
    ($( $(#[$doc:meta])* $name:ident { $( $(#[$item_doc:meta])* $item:ident = $number:literal, $text:literal; )* } )*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $( $(#[$item_doc])* $item = $number, )* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[ $( Self::$item, )* ];

            /// The one of that number.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $( $number => Some(Self::$item), )* _ => None }
            }

            /// Its number on the wire.
            #[must_use]
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// Its name in JSON, configuration and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$item => $text, )* }
            }

            /// The one of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $( $text => Some(Self::$item), )* _ => None }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }
    )* };
}

numbers! {
    /// How a peer proves who it is.
    Method {
        /// Not at all: the session is open to all who reach it.
        Open = 0, "open";
        /// A password.
        Password = 1, "password";
        /// A 32-byte key both sides have; mutual.
        DeviceKey = 2, "device-key";
        /// The certificate of the TLS connection.
        Certificate = 3, "certificate";
    }
    /// What happens to a message when the outbox it should go into is full.
    WhenFull {
        /// The oldest messages are dropped.
        DropOldest = 0, "drop-oldest";
        /// Only the newest message of each topic is kept.
        Latest = 1, "latest";
        /// Counted messages wait, and their publisher is slowed; others are dropped.
        Hold = 2, "hold";
        /// The reader's link is closed.
        Close = 3, "close";
    }
    /// Where a counted frame has to be before its publisher may forget it.
    Tier {
        /// In the relay's memory.
        Taken = 0, "taken";
        /// On the relay's disk.
        Durable = 1, "durable";
        /// Held by the central instance.
        Central = 2, "central";
    }
    /// What went wrong.
    ErrorCode {
        /// A frame is not well formed.
        BadFrame = 1, "bad-frame";
        /// A frame is longer than allowed.
        FrameTooLong = 2, "frame-too-long";
        /// A control message is not of a known shape.
        BadControl = 3, "bad-control";
        /// A control message that the relay does not know.
        UnknownMessage = 4, "unknown-message";
        /// JSON that is not a message.
        BadJson = 5, "bad-json";
        /// A message that may not come now.
        Unexpected = 6, "unexpected";
        /// No version in common.
        BadVersion = 7, "bad-version";
        /// The handshake took too long.
        HandshakeTimeout = 8, "handshake-timeout";
        /// The proof was wrong, or there is no such session or identity.
        NotAuthenticated = 9, "not-authenticated";
        /// The method may not be used on this link, or for this session.
        MethodNotAllowed = 10, "method-not-allowed";
        /// The identity may not do this.
        Forbidden = 11, "forbidden";
        /// A topic or filter is not well formed.
        BadTopic = 12, "bad-topic";
        /// A topic id that the peer has not opened, or a stream that is not there.
        UnknownId = 13, "unknown-id";
        /// A payload is over the session's limit.
        PayloadTooLong = 14, "payload-too-long";
        /// An ACK for more than was sent, or for less than before.
        BadAck = 15, "bad-ack";
        /// A limit on peers, topics, subscriptions or sessions is reached.
        LimitReached = 16, "limit-reached";
        /// Too much in too short a time.
        RateLimited = 17, "rate-limited";
        /// The session does not promise that tier.
        TierNotOffered = 18, "tier-not-offered";
        /// The thing exists already, or differs from what exists.
        Conflict = 19, "conflict";
        /// The relay cannot do this now.
        Unavailable = 20, "unavailable";
        /// A schema or readings payload is not well formed.
        BadReadings = 21, "bad-readings";
        /// A payload is not sealed, in a session that takes sealed ones only.
        Unsealed = 22, "unsealed";
        /// The receiver of a stream has no room for it.
        NoSpace = 23, "no-space";
        /// What came of a stream is not what was offered.
        Damaged = 24, "damaged";
    }
    /// Why a link is closed in good order.
    ByeReason {
        /// The sender is done.
        Done = 0, "done";
        /// The relay stops or restarts.
        ShuttingDown = 1, "shutting-down";
        /// A newer link of the same peer took its place.
        Replaced = 2, "replaced";
        /// The link was silent for too long.
        Silent = 3, "silent";
        /// The reader was too slow (policy `close`).
        TooSlow = 4, "too-slow";
        /// The session or the identity is no more.
        Removed = 5, "removed";
        /// After an ERROR that says why.
        AfterError = 6, "after-error";
    }
}

/// HELLO's `flags`.
pub mod features {
    /// Send TIME frames before data.
    pub const TIME: u32 = 0x1;
    /// Send the count of durable frames in ACKs.
    pub const ACK_DURABLE: u32 = 0x2;
    /// Send the count of frames at the central instance in ACKs.
    pub const ACK_CENTRAL: u32 = 0x4;
    /// Send OFFERs of streams on the topics that the peer reads.
    pub const STREAMS: u32 = 0x8;
    /// PACK frames may be sent: by the relay where HELLO has it, by both where WELCOME has it, too.
    pub const PACKS: u32 = 0x10;
}

/// SUBSCRIBE's `flags`.
pub mod options {
    /// Do not send the peer what it published itself.
    pub const NO_LOCAL: u32 = 0x1;
    /// Do not send topics' last values at the start.
    pub const NO_LAST: u32 = 0x2;
}

/// OFFER's `flags`.
pub mod offers {
    /// The stream is a tar archive of a directory of that name.
    pub const DIRECTORY: u32 = 0x1;
    /// The stream is sealed end to end.
    pub const SEALED: u32 = 0x4;
}
