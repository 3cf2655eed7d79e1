//! `fastport session` and `fastport passwd`: the credentials file, or a session of a running relay.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::arguments::{
    Access, Common, Passwd, Session, SessionAction, SessionCreate, SessionList, SessionRemove,
};
use super::exit::{DATA, FILE, Failure, Outcome, note};
use super::link::{self, connect};
use super::secret;
use crate::config::{ConfigError, SessionName};
use crate::guard::{
    Credential, Credentials, DeviceKey, EditError, Editor, FilterTemplate, IdentityName,
    IdentityRecord, PasswordHash, SessionRecord,
};

/// Changes or shows the credentials file.
pub(super) fn edit(session: &Session) -> Outcome {
    match &session.action {
        SessionAction::Create(create) => self::create(create),
        SessionAction::List(list) => self::list(list),
        SessionAction::Remove(remove) => self::remove(remove),
    }
}

/// Sets the password of an identity, and makes the identity where there is none.
pub(super) fn set_password(passwd: &Passwd, common: &Common) -> Outcome {
    let Some(id) = &common.id else {
        return Err(Failure::usage("--id says whose password it is"));
    };
    let whose = format!("{id} in session {}", common.session);
    let password = match &common.password_file {
        Some(path) => secret::password(path)?,
        None => secret::ask_new(&whose)?,
    };
    let credential = Credential::Password(hash(&password)?);
    let path = &passwd.file.credentials;
    put_identity(path, &common.session, id, credential, &passwd.access, false)?;
    tell_of_reload(format_args!("{whose} has a new password"));
    Ok(())
}

/// Gives an identity a key, and makes the identity where there is none.
pub(super) fn add_key(
    path: &Path,
    session: &str,
    id: &str,
    key: &DeviceKey,
    access: &Access,
    gateway: bool,
) -> Outcome {
    put_identity(path, session, id, Credential::Key(key.clone()), access, gateway)?;
    tell_of_reload(format_args!("{id} in session {session} has the key"));
    Ok(())
}

/// Asks a running relay to make a session.
pub(super) async fn create_remote(create: &SessionCreate, common: Common) -> Outcome {
    let identity = create.user.as_deref();
    let password = match create.open {
        true => None,
        false => Some(first_password(create, identity.unwrap_or(FIRST))?),
    };
    let options = link::options(&common)?;
    let url = options.target.to_string();
    let client = connect(options).await?;
    let password = password.as_deref().map(Vec::as_slice);
    let made = client.create_session(&create.new, identity, password).await;
    // nothing was published
    client.close().await.unwrap_or_default();
    made.map_err(|error| Failure::request(&url, &create.new, &error))
}

fn create(create: &SessionCreate) -> Outcome {
    let name = session_name(&create.new)?;
    let path = &create.file.credentials;
    let has_user = create.user.is_some() || create.user_password_file.is_some();
    let user = create.user.as_deref().unwrap_or(FIRST);
    // before the file is locked: a person types slowly
    let credential = match has_user {
        true => Some(Credential::Password(hash(&first_password(create, user)?)?)),
        false => None,
    };
    let mut editor = open(path)?;
    editor.add_session(&SessionRecord::closed(name)).map_err(edit_error)?;
    if let Some(credential) = credential {
        let record = record(&create.new, user, credential, Filters::of(&create.access)?)?;
        editor.add_identity(&record).map_err(edit_error)?;
    }
    editor.save().map_err(edit_error)?;
    let next = match has_user {
        true => String::new(),
        false => format!(
            "; nobody can join yet: fastport passwd --session {name} --id ID",
            name = create.new
        ),
    };
    tell_of_reload(format_args!("session {} is in {}{next}", create.new, path.display()));
    Ok(())
}

fn list(list: &SessionList) -> Outcome {
    let path = &list.file.credentials;
    let credentials = Credentials::load(path).map_err(|error| config_error(&error))?;
    let mut sessions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for session in &credentials.sessions {
        sessions.entry(session.name.as_str()).or_default();
    }
    for (session, identity) in credentials.identities() {
        let method = identity.credential.method();
        let shown = format!("{} ({method})", identity.id);
        sessions.entry(session.as_str()).or_default().push(shown);
    }
    let mut text = String::new();
    for (session, identities) in sessions {
        // a String takes all that is written to it
        writeln!(text, "{session}").unwrap_or_default();
        for identity in identities {
            writeln!(text, "    {identity}").unwrap_or_default();
        }
    }
    let mut out = io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

fn remove(remove: &SessionRemove) -> Outcome {
    let name = session_name(&remove.old)?;
    let mut editor = open(&remove.file.credentials)?;
    let identities = editor.remove_session(&name).map_err(edit_error)?;
    editor.save().map_err(edit_error)?;
    tell_of_reload(format_args!("session {name} is gone, with {identities} identities"));
    Ok(())
}

/// Puts an identity into the file; one that is there keeps what it may do, and stays a gateway if it
/// is one.
fn put_identity(
    path: &Path,
    session: &str,
    id: &str,
    credential: Credential,
    access: &Access,
    gateway: bool,
) -> Outcome {
    let mut editor = open(path)?;
    let changed = match Filters::in_file(path, session, id)? {
        Some(filters) => {
            let filters = filters.changed_by(access)?.with_gateway(gateway);
            editor.replace_identity(&record(session, id, credential, filters)?)
        }
        None => {
            let filters = Filters::of(access)?.with_gateway(gateway);
            editor.add_identity(&record(session, id, credential, filters)?)
        }
    };
    changed.map_err(edit_error)?;
    editor.save().map_err(edit_error)
}

/// What an identity may do.
struct Filters {
    publish: Vec<FilterTemplate>,
    subscribe: Vec<FilterTemplate>,
    gateway: bool,
}

impl Filters {
    /// As the command line says, or everything.
    fn of(access: &Access) -> Result<Self, Failure> {
        let all = |said: &[String], all: &[&str]| match said {
            [] => templates(all.iter().copied()),
            said => templates(said.iter().map(String::as_str)),
        };
        let publish = all(&access.publish, &["#"])?;
        let subscribe = all(&access.subscribe, &["#", "$board/#"])?;
        Ok(Self { publish, subscribe, gateway: false })
    }

    /// As the file has them for that identity. The file was found sound before.
    fn in_file(path: &Path, session: &str, id: &str) -> Result<Option<Self>, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file(path.display(), error)),
        };
        let file: toml::Table =
            text.parse().map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
        let identities = file.get("identity").and_then(toml::Value::as_array);
        let is_it = |table: &&toml::Value| {
            let is =
                |key: &str, text: &str| table.get(key).and_then(toml::Value::as_str) == Some(text);
            is("session", session) && is("id", id)
        };
        let Some(table) = identities.and_then(|all| all.iter().find(is_it)) else {
            return Ok(None);
        };
        let list = |key: &str| {
            let items = table.get(key).and_then(toml::Value::as_array).into_iter().flatten();
            templates(items.filter_map(toml::Value::as_str))
        };
        let gateway = table.get("gateway").and_then(toml::Value::as_bool) == Some(true);
        Ok(Some(Self { publish: list("publish")?, subscribe: list("subscribe")?, gateway }))
    }

    /// The same, of a gateway if it was one or is to be one.
    fn with_gateway(self, gateway: bool) -> Self {
        Self { gateway: self.gateway || gateway, ..self }
    }

    /// With what the command line says in the place of what was.
    fn changed_by(mut self, access: &Access) -> Result<Self, Failure> {
        if !access.publish.is_empty() {
            self.publish = templates(access.publish.iter().map(String::as_str))?;
        }
        if !access.subscribe.is_empty() {
            self.subscribe = templates(access.subscribe.iter().map(String::as_str))?;
        }
        Ok(self)
    }
}

fn templates<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<FilterTemplate>, Failure> {
    let parse = |text: &'a str| {
        FilterTemplate::parse(text).map_err(|error| Failure::usage(format!("{text}: {error}")))
    };
    texts.map(parse).collect()
}

fn record(
    session: &str,
    id: &str,
    credential: Credential,
    filters: Filters,
) -> Result<IdentityRecord, Failure> {
    let id = IdentityName::parse(id).ok_or_else(|| {
        Failure::usage(format!(
            "{id:?} is no identity's name: 1 to 64 bytes of text, no $ in front"
        ))
    })?;
    let Filters { publish, subscribe, gateway } = filters;
    let session = session_name(session)?;
    Ok(IdentityRecord { session, id, credential, publish, subscribe, gateway })
}

fn session_name(text: &str) -> Result<SessionName, Failure> {
    SessionName::parse(text).ok_or_else(|| {
        Failure::usage(format!(
            "{text:?} is no session's name: 1 to 64 letters, digits, '_', '.', '-'"
        ))
    })
}

fn first_password(create: &SessionCreate, user: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match &create.user_password_file {
        Some(path) => secret::password(path),
        None => secret::ask_new(&format!("{user} in session {}", create.new)),
    }
}

fn hash(password: &[u8]) -> Result<PasswordHash, Failure> {
    PasswordHash::new(password).map_err(|error| Failure::data(error.to_string()))
}

fn open(path: &Path) -> Result<Editor, Failure> {
    Editor::open(path, LOCK_WAIT).map_err(edit_error)
}

fn edit_error(error: EditError) -> Failure {
    match error {
        EditError::Refused(error) => config_error(&error),
        EditError::Io { .. } | EditError::Busy(_) => Failure::new(FILE, error.to_string()),
        _ => Failure::new(DATA, error.to_string()),
    }
}

fn config_error(error: &ConfigError) -> Failure {
    match error {
        ConfigError::Unreadable { .. } => Failure::new(FILE, error.to_string()),
        _ => Failure::new(DATA, error.to_string()),
    }
}

fn tell_of_reload(what: std::fmt::Arguments<'_>) {
    note(format_args!("{what}; a running fastportd sees it at its next reload (SIGHUP)"));
}

/// Whose password CREATE-SESSION sets where no identity is said.
const FIRST: &str = "user";
/// For another tool that changes the file.
const LOCK_WAIT: Duration = Duration::from_secs(5);
