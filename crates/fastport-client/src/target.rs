//! Where a relay is: a transport and an address, written as a URL.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// How frames travel to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over plain TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// A Unix domain socket on this machine.
    Unix,
}

impl Transport {
    /// The scheme of its URLs.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    /// The port where a URL names none; 0 for a Unix domain socket.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 7470,
            Self::Ws => 7471,
            Self::Tls => 7472,
            Self::Wss => 7473,
            Self::Unix => 0,
        }
    }

    /// Whether TLS protects what is sent.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    fn from_scheme(scheme: &str) -> Option<Self> {
        [Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Unix]
            .into_iter()
            .find(|transport| transport.scheme().eq_ignore_ascii_case(scheme))
    }
}

/// Why a text is no [`Target`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// No `scheme:` in front.
    NoScheme,
    /// A scheme that is none of tcp, tls, ws, wss, unix.
    UnknownScheme(String),
    /// Nothing where the host should be, or characters that no host name has.
    BadHost(String),
    /// The port is not a number from 1 to 65535.
    BadPort(String),
    /// A path, where the transport has none; or none, where it needs one.
    BadPath(String),
    /// Something before an `@`: secrets do not belong into URLs.
    Secret,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme => f.write_str(
                "no scheme; write tcp://HOST, tls://HOST, ws://HOST/PATH, wss://HOST/PATH or \
                 unix:/PATH",
            ),
            Self::UnknownScheme(scheme) => {
                write!(f, "unknown scheme {scheme}; known are tcp, tls, ws, wss, unix")
            }
            Self::BadHost(host) => write!(f, "{host:?} is no host name or address"),
            Self::BadPort(port) => write!(f, "{port:?} is no port (1 to 65535)"),
            Self::BadPath(path) => write!(f, "the path {path:?} does not fit the scheme"),
            Self::Secret => f.write_str("names and passwords do not belong into the URL"),
        }
    }
}

impl std::error::Error for TargetError {}

/// Where a relay is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    transport: Transport,
    /// without brackets; empty for Unix
    host: String,
    port: u16,
    /// of the WebSocket or the Unix domain socket
    path: String,
}

impl Target {
    /// Reads `tcp://host:port`, `tls://host:port`, `ws://host:port/path`, `wss://host:port/path` or
    /// `unix:/path`. Without a port it is [`Transport::default_port`]; an IPv6 address stands in
    /// brackets.
    ///
    /// # Errors
    /// [`TargetError`] for the first thing that is wrong.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = url.split_once(':').ok_or(TargetError::NoScheme)?;
        let looks_like_a_port = rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        let Some(transport) = Transport::from_scheme(scheme) else {
            let is_address = looks_like_a_port || scheme.is_empty() || scheme.contains(['.', '[']);
            return Err(match is_address {
                true => TargetError::NoScheme,
                false => TargetError::UnknownScheme(scheme.to_owned()),
            });
        };
        if transport == Transport::Unix {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return match path.starts_with('/') && !path.contains('\0') {
                true => Ok(Self { transport, host: String::new(), port: 0, path: path.to_owned() }),
                false => Err(TargetError::BadPath(path.to_owned())),
            };
        }
        let rest = rest.strip_prefix("//").ok_or(TargetError::NoScheme)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(TargetError::Secret);
        }
        let (host, port) = split_authority(authority)?;
        let port = match port {
            None => transport.default_port(),
            Some(text) => text
                .parse()
                .ok()
                .filter(|&port| port != 0 && !text.starts_with('+'))
                .ok_or_else(|| TargetError::BadPort(text.to_owned()))?,
        };
        let path = match transport {
            Transport::Ws | Transport::Wss => web_path(path)?,
            _ if path.is_empty() || path == "/" => String::new(),
            _ => return Err(TargetError::BadPath(path.to_owned())),
        };
        Ok(Self { transport, host: host.to_owned(), port, path })
    }

    /// How frames travel.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The host's name or address, without brackets; empty for a Unix domain socket.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 for a Unix domain socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of the Unix domain socket.
    pub(crate) fn socket_path(&self) -> PathBuf {
        PathBuf::from(&self.path)
    }
}

impl fmt::Display for Target {
    /// The URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, host, port, path } = self;
        match transport {
            Transport::Unix => write!(f, "unix:{path}"),
            _ if host.contains(':') => write!(f, "{}://[{host}]:{port}{path}", transport.scheme()),
            _ => write!(f, "{}://{host}:{port}{path}", transport.scheme()),
        }
    }
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(crate) fn split_authority(authority: &str) -> Result<(&str, Option<&str>), TargetError> {
    let bad = || TargetError::BadHost(authority.to_owned());
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or_else(bad)?;
        let is_v6 = matches!(address.parse(), Ok(IpAddr::V6(_)));
        return match (is_v6, port.strip_prefix(':'), port) {
            (true, Some(port), _) => Ok((address, Some(port))),
            (true, None, "") => Ok((address, None)),
            _ => Err(bad()),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_host = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    match is_host && !port.is_some_and(|port| port.contains(':')) {
        true => Ok((host, port)),
        false => Err(bad()),
    }
}

fn web_path(path: &str) -> Result<String, TargetError> {
    let is_clean = path.bytes().all(|byte| byte.is_ascii_graphic()) && !path.contains('#');
    match path {
        _ if !is_clean => Err(TargetError::BadPath(path.to_owned())),
        "" => Ok("/".to_owned()),
        path if path.starts_with('?') => Ok(format!("/{path}")),
        path => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_url_is_read_and_written_back_whole() {
        for (url, whole) in [
            ("tcp://gateway", "tcp://gateway:7470"),
            ("tcp://127.0.0.1:9", "tcp://127.0.0.1:9"),
            ("TLS://gateway.example.org/", "tls://gateway.example.org:7472"),
            ("ws://gateway", "ws://gateway:7471/"),
            ("ws://gateway:80/fast/port?x=1", "ws://gateway:80/fast/port?x=1"),
            ("wss://gateway?x", "wss://gateway:7473/?x"),
            ("tcp://[::1]:7470", "tcp://[::1]:7470"),
            ("tls://[fe80::1]", "tls://[fe80::1]:7472"),
            ("unix:/run/fastport/socket", "unix:/run/fastport/socket"),
            ("unix:///run/fastport/socket", "unix:/run/fastport/socket"),
        ] {
            let target = Target::parse(url).expect(url);
            assert_eq!(target.to_string(), whole);
            assert_eq!(Target::parse(whole), Ok(target));
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let bad_host = |text: &str| TargetError::BadHost(text.to_owned());
        let bad_port = |text: &str| TargetError::BadPort(text.to_owned());
        let bad_path = |text: &str| TargetError::BadPath(text.to_owned());
        for (url, error) in [
            ("", TargetError::NoScheme),
            ("gateway", TargetError::NoScheme),
            ("gateway:7470", TargetError::NoScheme),
            ("192.168.1.7:7470", TargetError::NoScheme),
            ("[::1]:7470", TargetError::NoScheme),
            ("tcp:gateway", TargetError::NoScheme),
            ("mqtt://gateway", TargetError::UnknownScheme("mqtt".to_owned())),
            ("tcp://", bad_host("")),
            ("tcp://:7470", bad_host(":7470")),
            ("tcp://a b", bad_host("a b")),
            ("tcp://::1", bad_host("::1")),
            ("tcp://[gateway]", bad_host("[gateway]")),
            ("tcp://[::1]7", bad_host("[::1]7")),
            ("tcp://gateway:", bad_port("")),
            ("tcp://gateway:0", bad_port("0")),
            ("tcp://gateway:65536", bad_port("65536")),
            ("tcp://gateway:+1", bad_port("+1")),
            ("tcp://gateway/path", bad_path("/path")),
            ("ws://gateway/#part", bad_path("/#part")),
            ("unix:relative", bad_path("relative")),
            ("wss://user:word@gateway/", TargetError::Secret),
        ] {
            assert_eq!(Target::parse(url), Err(error), "{url}");
        }
    }
}
