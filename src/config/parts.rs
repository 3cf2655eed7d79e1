//! Parts that a build can be without (`[features]` of `Cargo.toml`), and what of a configuration needs them.

use super::Tables;
use super::error::FaultKind;
use super::listen::ListenKind;
use super::read::Findings;

/// A part that a build can be without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Listeners and links over TLS.
    Tls,
    /// Listeners and links over WebSocket.
    WebSocket,
    /// The uplink, with its spool.
    Uplink,
    /// The role of a central instance.
    Central,
}

impl Part {
    /// Whether this build has it.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::Tls => cfg!(feature = "tls"),
            Self::WebSocket => cfg!(feature = "websocket"),
            Self::Uplink => cfg!(feature = "uplink"),
            Self::Central => cfg!(feature = "central"),
        }
    }

    /// What this build has no …, and the smallest feature set that has it.
    pub(super) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Tls => ("TLS", "edge"),
            Self::WebSocket => ("WebSocket", "edge"),
            Self::Uplink => ("uplink", "edge"),
            Self::Central => ("role of a central instance", "central"),
        }
    }
}

/// Reports what needs a part for which `is_there` says no.
pub(super) fn check(tables: &Tables, is_there: impl Fn(Part) -> bool, findings: &mut Findings<'_>) {
    for (key, part) in needs(tables) {
        if !is_there(part) {
            findings.report(&key, FaultKind::NotBuilt(part));
        }
    }
}

/// The keys that need a part, and which.
fn needs(tables: &Tables) -> Vec<(String, Part)> {
    let mut needs = Vec::new();
    for (index, listen) in tables.listen.iter().enumerate() {
        let parts: &[Part] = match listen.kind() {
            Some(ListenKind::Tls) => &[Part::Tls],
            Some(ListenKind::WebSocket) => &[Part::WebSocket],
            Some(ListenKind::WebSocketTls) => &[Part::Tls, Part::WebSocket],
            Some(ListenKind::Tcp | ListenKind::Unix) | None => &[],
        };
        needs.extend(parts.iter().map(|part| (format!("listen[{index}].kind"), *part)));
    }
    if tables.uplink.is_on() {
        needs.push(("uplink.central".to_owned(), Part::Uplink));
    }
    if tables.central.enabled {
        needs.push(("central.enabled".to_owned(), Part::Central));
    }
    needs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::read;
    use super::*;

    #[test]
    fn a_key_of_a_part_that_is_not_built_in_is_refused_where_it_stands() {
        let text = "[[listen]]\nkind = \"websocket-tls\"\n[[listen]]\nkind = \"unix\"\n\
                    [uplink]\ncentral = [\"tcp://a\"]\n[central]\nenabled = true\n";
        let mut tables = Tables::default();
        let mut findings =
            read::read(text, Path::new("gateway.toml"), BTreeMap::new(), &mut tables);
        check(&tables, |part| part == Part::WebSocket, &mut findings);
        let said: Vec<String> = findings.into_faults().iter().map(ToString::to_string).collect();
        let of_set = |set| format!("use a build of the feature set `{set}`");
        assert_eq!(
            said,
            [
                format!(
                    "gateway.toml:2:8: listen[0].kind: this build has no TLS; {}",
                    of_set("edge")
                ),
                format!(
                    "gateway.toml:6:11: uplink.central: this build has no uplink; {}",
                    of_set("edge")
                ),
                format!(
                    "gateway.toml:8:11: central.enabled: this build has no role of a central \
                     instance; {}",
                    of_set("central")
                ),
            ]
        );
    }

    #[test]
    fn the_defaults_need_nothing_that_is_not_built_in() {
        for (key, part) in needs(&Tables::default()) {
            assert!(part.is_built_in(), "{key}");
        }
    }
}
