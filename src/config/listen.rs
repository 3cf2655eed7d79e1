//! `[[listen]]`: where peers connect.

use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::error::FaultKind;
use super::origin::{OriginEntry, Origins};
use super::parts::Part;
use super::read::Findings;
use super::schema::{Fields, Reload, Visit};
use super::value::{Mode, words};

/// One place where peers connect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is documented on `ListenTable`, the variants here")]
pub enum Listen {
    /// Plain TCP.
    Tcp { address: SocketAddr },
    /// TLS over TCP.
    Tls { address: SocketAddr, tls: Tls },
    /// WebSocket over plain TCP.
    WebSocket { address: SocketAddr, origins: Origins },
    /// WebSocket over TLS.
    WebSocketTls { address: SocketAddr, origins: Origins, tls: Tls },
    /// A Unix socket.
    Unix { path: PathBuf, mode: Mode, group: Option<String> },
}

impl Listen {
    /// What peers connect by.
    #[must_use]
    pub const fn kind(&self) -> ListenKind {
        match self {
            Self::Tcp { .. } => ListenKind::Tcp,
            Self::Tls { .. } => ListenKind::Tls,
            Self::WebSocket { .. } => ListenKind::WebSocket,
            Self::WebSocketTls { .. } => ListenKind::WebSocketTls,
            Self::Unix { .. } => ListenKind::Unix,
        }
    }

    /// The address, of all but Unix sockets.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match *self {
            Self::Tcp { address }
            | Self::Tls { address, .. }
            | Self::WebSocket { address, .. }
            | Self::WebSocketTls { address, .. } => Some(address),
            Self::Unix { .. } => None,
        }
    }

    /// What there is without a configuration: TCP, and WebSocket where it is built in, for programs on
    /// the board.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        let at = |kind: ListenKind| SocketAddr::from((Ipv4Addr::LOCALHOST, kind.default_port()));
        let tcp = Self::Tcp { address: at(ListenKind::Tcp) };
        let origins = Origins::Loopback;
        let web = Self::WebSocket { address: at(ListenKind::WebSocket), origins };
        let has_web = Part::WebSocket.is_built_in();
        iter::once(tcp).chain(has_web.then_some(web)).collect()
    }
}

/// The certificates of a TLS listener. The files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The listener's certificate, then those that lead to its root.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Whether peers show certificates.
    pub client_auth: ClientAuth,
}

/// Whether peers show certificates, and the authorities that may have issued them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "`ca` is the file with the authorities' certificates")]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They may; those that do not prove themselves otherwise.
    Optional { ca: PathBuf },
    /// They have to.
    Required { ca: PathBuf },
}

words! {
    /// What peers connect by.
    ListenKind {
        /// Plain TCP.
        Tcp = "tcp",
        /// TLS over TCP.
        Tls = "tls",
        /// WebSocket over plain TCP.
        WebSocket = "websocket",
        /// WebSocket over TLS.
        WebSocketTls = "websocket-tls",
        /// A Unix socket.
        Unix = "unix",
    }
    /// The word for a [`ClientAuth`].
    ClientAuthWord {
        /// See [`ClientAuth::None`].
        None = "none",
        /// See [`ClientAuth::Optional`].
        Optional = "optional",
        /// See [`ClientAuth::Required`].
        Required = "required",
    }
}

impl ListenKind {
    /// The port where clients look when they are told none; 0 for Unix sockets.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 7470,
            Self::WebSocket => 7471,
            Self::Tls => 7472,
            Self::WebSocketTls => 7473,
            Self::Unix => 0,
        }
    }

    const fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::WebSocketTls)
    }

    const fn has_origins(self) -> bool {
        matches!(self, Self::WebSocket | Self::WebSocketTls)
    }
}

/// `[[listen]]` as it is written: every key of every kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListenTable {
    kind: Option<ListenKind>,
    address: Option<SocketAddr>,
    origins: Option<Vec<OriginEntry>>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    client_auth: Option<ClientAuthWord>,
    path: Option<PathBuf>,
    mode: Option<Mode>,
    group: Option<String>,
}

impl Fields for ListenTable {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::{Live, Restart};
        visit.key("kind", Restart, &mut self.kind);
        visit.key("address", Restart, &mut self.address);
        visit.key("origins", Live, &mut self.origins);
        visit.key("certificate", Live, &mut self.certificate);
        visit.key("key", Live, &mut self.key);
        visit.key("client_ca", Live, &mut self.client_ca);
        visit.key("client_auth", Restart, &mut self.client_auth);
        visit.key("path", Restart, &mut self.path);
        visit.key("mode", Restart, &mut self.mode);
        visit.key("group", Restart, &mut self.group);
    }

    fn label(&self) -> Option<String> {
        let address = self.address.map(|address| address.to_string());
        address.or_else(|| self.path.as_ref().map(|path| path.display().to_string()))
    }
}

impl ListenTable {
    pub(crate) const fn kind(&self) -> Option<ListenKind> {
        self.kind
    }

    /// The listener at `at` (as `listen[0]`); none, and the reason reported, when keys are missing
    /// or do not go together. Relative paths begin at `base`.
    pub(crate) fn build(
        self,
        at: &str,
        base: &Path,
        findings: &mut Findings<'_>,
    ) -> Option<Listen> {
        let Some(kind) = self.kind else {
            let words = r#"say "tcp", "tls", "websocket", "websocket-tls" or "unix""#;
            findings.report(&format!("{at}.kind"), FaultKind::Missing(words.into()));
            return None;
        };
        let misplaced = self.misplaced(kind);
        for &(key, only) in &misplaced {
            let text = format!("a listener of kind {:?} has none; only {only} do", kind.name());
            findings.report(&format!("{at}.{key}"), FaultKind::Conflict(text));
        }
        if !misplaced.is_empty() {
            return None;
        }
        if kind == ListenKind::Unix {
            let Some(path) = self.path else {
                let text = r#"where the socket is made, as "/run/fastport/peers.sock""#;
                findings.report(&format!("{at}.path"), FaultKind::Missing(text.into()));
                return None;
            };
            let mode = self.mode.unwrap_or(DEFAULT_MODE);
            return Some(Listen::Unix { path: base.join(path), mode, group: self.group });
        }
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, kind.default_port()));
        let address = self.address.unwrap_or(loopback);
        let origins = Origins::from_entries(self.origins.as_deref().unwrap_or_default());
        if !kind.has_tls() {
            return Some(match kind {
                ListenKind::WebSocket => Listen::WebSocket { address, origins },
                _ => Listen::Tcp { address },
            });
        }
        let tls = self.build_tls(at, base, findings)?;
        Some(match kind {
            ListenKind::WebSocketTls => Listen::WebSocketTls { address, origins, tls },
            _ => Listen::Tls { address, tls },
        })
    }

    /// The keys that are set but that a listener of that kind does not have.
    fn misplaced(&self, kind: ListenKind) -> Vec<(&'static str, &'static str)> {
        let unix = kind == ListenKind::Unix;
        let (tls, web, sockets) = ("the TLS kinds", "the WebSocket kinds", "Unix sockets");
        [
            ("address", "the TCP, TLS and WebSocket kinds", self.address.is_some() && unix),
            ("origins", web, self.origins.is_some() && !kind.has_origins()),
            ("certificate", tls, self.certificate.is_some() && !kind.has_tls()),
            ("key", tls, self.key.is_some() && !kind.has_tls()),
            ("client_ca", tls, self.client_ca.is_some() && !kind.has_tls()),
            ("client_auth", tls, self.client_auth.is_some() && !kind.has_tls()),
            ("path", sockets, self.path.is_some() && !unix),
            ("mode", sockets, self.mode.is_some() && !unix),
            ("group", sockets, self.group.is_some() && !unix),
        ]
        .into_iter()
        .filter_map(|(key, only, misplaced)| misplaced.then_some((key, only)))
        .collect()
    }

    fn build_tls(self, at: &str, base: &Path, findings: &mut Findings<'_>) -> Option<Tls> {
        let path = |path: PathBuf| base.join(path);
        for (key, set) in [("certificate", &self.certificate), ("key", &self.key)] {
            if set.is_none() {
                let text = "a TLS listener needs certificate and key, PEM files".to_owned();
                findings.report(&format!("{at}.{key}"), FaultKind::Missing(text));
            }
        }
        let auth = self.client_auth.unwrap_or(ClientAuthWord::None);
        let client_auth = match (auth, self.client_ca.map(path)) {
            (ClientAuthWord::None, None) => ClientAuth::None,
            (ClientAuthWord::Optional, Some(ca)) => ClientAuth::Optional { ca },
            (ClientAuthWord::Required, Some(ca)) => ClientAuth::Required { ca },
            (ClientAuthWord::None, Some(_)) => {
                let text = r#"has no effect while client_auth is "none"; set that to "optional" or "required""#;
                findings.report(&format!("{at}.client_ca"), FaultKind::Conflict(text.into()));
                return None;
            }
            (_, None) => {
                let text = "the PEM file with the authorities of peers' certificates".to_owned();
                findings.report(&format!("{at}.client_ca"), FaultKind::Missing(text));
                return None;
            }
        };
        let (certificate, key) = (self.certificate.map(path)?, self.key.map(path)?);
        Some(Tls { certificate, key, client_auth })
    }
}

impl From<&Listen> for ListenTable {
    fn from(listen: &Listen) -> Self {
        let mut table =
            Self { kind: Some(listen.kind()), address: listen.address(), ..Self::default() };
        match listen {
            Listen::Tcp { .. } => {}
            Listen::Tls { tls, .. } => table.show_tls(tls),
            Listen::WebSocket { origins, .. } => table.origins = Some(origins.to_entries()),
            Listen::WebSocketTls { origins, tls, .. } => {
                table.origins = Some(origins.to_entries());
                table.show_tls(tls);
            }
            Listen::Unix { path, mode, group } => {
                table.path = Some(path.clone());
                table.mode = Some(*mode);
                table.group.clone_from(group);
            }
        }
        table
    }
}

impl ListenTable {
    fn show_tls(&mut self, tls: &Tls) {
        self.certificate = Some(tls.certificate.clone());
        self.key = Some(tls.key.clone());
        let (word, ca) = match &tls.client_auth {
            ClientAuth::None => (ClientAuthWord::None, None),
            ClientAuth::Optional { ca } => (ClientAuthWord::Optional, Some(ca)),
            ClientAuth::Required { ca } => (ClientAuthWord::Required, Some(ca)),
        };
        self.client_auth = Some(word);
        self.client_ca = ca.cloned();
    }
}

/// Whether both cannot be bound at once.
pub(crate) fn clash(a: &Listen, b: &Listen) -> bool {
    match (a, b) {
        (Listen::Unix { path: a, .. }, Listen::Unix { path: b, .. }) => a == b,
        _ => match (a.address(), b.address()) {
            // port 0 is a free port, chosen by the system
            (Some(a), Some(b)) if a.port() == b.port() && a.port() != 0 => {
                let wild = a.ip().is_unspecified() || b.ip().is_unspecified();
                a.ip() == b.ip() || (wild && a.is_ipv4() == b.is_ipv4())
            }
            _ => false,
        },
    }
}

/// Owner and group: who may connect is then a matter of group membership.
const DEFAULT_MODE: Mode = Mode::new(0o660);
