//! Which web pages may open a WebSocket: a browser sends the page's origin and lets any page ask,
//! so a daemon on loopback would be open to every site its user visits.

use std::net::IpAddr;

use super::schema::{Problem, Raw, Value, quoted};

/// The pages that may connect. Programs that are no browser send no origin and are always let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// Those that the board itself served: whose host is `localhost` or a loopback address.
    #[default]
    Loopback,
    /// All.
    Any,
    /// Those, and no others.
    Only(Vec<Origin>),
}

impl Origins {
    /// Whether a page may connect; `origin` is the request's `Origin` header.
    #[must_use]
    pub fn allows(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::Any => true,
            Self::Loopback => is_loopback(origin),
            Self::Only(list) => list.iter().any(|allowed| allowed.is(origin)),
        }
    }

    /// As the list that the configuration has.
    pub(crate) fn to_entries(&self) -> Vec<OriginEntry> {
        match self {
            Self::Loopback => Vec::new(),
            Self::Any => vec![OriginEntry::Any],
            Self::Only(list) => list.iter().cloned().map(OriginEntry::One).collect(),
        }
    }

    pub(crate) fn from_entries(entries: &[OriginEntry]) -> Self {
        let mut list = Vec::new();
        for entry in entries {
            match entry {
                OriginEntry::Any => return Self::Any,
                OriginEntry::One(origin) => list.push(origin.clone()),
            }
        }
        if list.is_empty() { Self::Loopback } else { Self::Only(list) }
    }
}

/// A web origin as browsers send it: `https://example.org`, `http://192.168.1.5:8080`, or `null`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(Box<str>);

impl Origin {
    /// The only way to make one; none for a text that no browser sends.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let origin = text.to_ascii_lowercase();
        (origin == "null" || split(&origin).is_some()).then(|| Self(origin.into()))
    }

    fn is(&self, header: &str) -> bool {
        self.0.eq_ignore_ascii_case(header)
    }
}

/// An entry of `origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OriginEntry {
    Any,
    One(Origin),
}

impl Value for OriginEntry {
    const EXPECTED: &'static str = r#"an origin as "https://example.org" or "http://192.168.1.5:8080", without a path; or "*""#;

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        match raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))? {
            "*" => Ok(Self::Any),
            text => Origin::parse(text)
                .map(Self::One)
                .ok_or_else(|| Problem::bad(format!("{text:?} is not {}", Self::EXPECTED))),
        }
    }

    fn toml(&self) -> String {
        match self {
            Self::Any => quoted('*'),
            Self::One(origin) => quoted(&origin.0),
        }
    }
}

fn is_loopback(origin: &str) -> bool {
    let Some(host) = split(origin) else { return false };
    let host = host.to_ascii_lowercase();
    // browsers resolve names under .localhost to loopback themselves (RFC 6761, 6.3)
    if host == "localhost" || host.ends_with(".localhost") {
        return true;
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
}

/// The host of `scheme://host[:port]`; none for anything else.
fn split(origin: &str) -> Option<&str> {
    let (scheme, rest) = origin.split_once("://")?;
    let scheme_fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || !scheme.bytes().all(scheme_fits) {
        return None;
    }
    // an IPv6 address has colons of its own, in brackets
    let host_end = rest.find(']').map_or(0, |end| end + 1);
    let (host, port) = match rest[host_end..].find(':') {
        Some(colon) => (&rest[..host_end + colon], Some(&rest[host_end + colon + 1..])),
        None => (rest, None),
    };
    let host_fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    let port_fits = port.is_none_or(|port| {
        port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    (!host.is_empty() && host.bytes().all(host_fits) && port_fits).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_only_pages_from_the_board_connect() {
        let origins = Origins::Loopback;
        for allowed in [
            None,
            Some("http://localhost"),
            Some("http://localhost:8080"),
            Some("http://LOCALHOST:8080"),
            Some("https://app.localhost"),
            Some("http://127.0.0.1:3000"),
            Some("http://127.9.9.9"),
            Some("http://[::1]:3000"),
        ] {
            assert!(origins.allows(allowed), "{allowed:?}");
        }
        for refused in [
            "null",
            "",
            "http://example.org",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org",
            "http://128.0.0.1",
            "http://[::2]",
            "http://evil@localhost",
            "http://localhost/path",
            "http://localhost:port",
            "localhost",
            "http://",
        ] {
            assert!(!origins.allows(Some(refused)), "{refused:?}");
        }
    }

    #[test]
    fn a_list_lets_in_those_alone() {
        let listed = Origin::parse("https://Example.org:8443").expect("a well-formed origin");
        let origins = Origins::Only(vec![listed]);
        assert!(origins.allows(Some("https://example.org:8443")));
        assert!(origins.allows(None));
        for refused in ["https://example.org", "http://example.org:8443", "http://localhost"] {
            assert!(!origins.allows(Some(refused)), "{refused}");
        }
    }

    #[test]
    fn a_star_lets_in_all() {
        let origins = Origins::from_entries(&[OriginEntry::Any]);
        assert!(origins.allows(Some("https://anything.example")));
        assert!(origins.allows(Some("null")));
    }
}
