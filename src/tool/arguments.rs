//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use fastport_client::files::WhenExists;
use fastport_client::{Past, Tier};

/// Publish, subscribe and look after a fastPort relay.
#[derive(Debug, Parser)]
#[command(name = "fastport", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Where the relay is and who to be there.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Common {
    /// Where the relay is: tcp://HOST[:PORT], tls://, ws://HOST[:PORT]/PATH, wss:// or unix:/PATH
    #[arg(long, global = true, env = "FASTPORT_URL", default_value = "tcp://127.0.0.1:7470")]
    pub(super) url: String,
    /// The session to join
    #[arg(long, global = true, env = "FASTPORT_SESSION", default_value = "demo")]
    pub(super) session: String,
    /// Whose credential to show
    #[arg(long, global = true, value_name = "ID")]
    pub(super) id: Option<String>,
    /// What to be called among the peers; replaces another client of the same --id and name
    #[arg(long, global = true)]
    pub(super) name: Option<String>,
    /// File with the password of --id
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["key_file", "ask_password"])]
    pub(super) password_file: Option<PathBuf>,
    /// Ask for the password of --id at the terminal
    #[arg(long, global = true, conflicts_with = "key_file")]
    pub(super) ask_password: bool,
    /// File with the device key of --id: 64 hexadecimal digits
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
    /// Trust the authorities in this PEM file instead of those the system trusts
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Client certificate, PEM; without password and key it is the proof of who you are
    #[arg(long, global = true, value_name = "FILE", requires = "cert_key")]
    pub(super) cert: Option<PathBuf>,
    /// Key of the client certificate, PEM
    #[arg(long, global = true, value_name = "FILE", requires = "cert")]
    pub(super) cert_key: Option<PathBuf>,
    /// Let the password go unprotected over a network where nobody can listen in
    #[arg(long, global = true)]
    pub(super) allow_plain_password: bool,
    /// Go on trying for so long when the relay cannot be reached at first [default: one attempt of
    /// 10 s]
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub(super) connect_timeout: Option<Duration>,
    /// End when the link is lost instead of connecting again
    #[arg(long, global = true)]
    pub(super) no_reconnect: bool,
    #[command(flatten)]
    pub(super) seal: Seal,
}

/// What is sealed end to end, and with what.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sealing")]
pub(super) struct Seal {
    /// Seal what is published and open what comes, with the keys in this file (fastport key new --seal)
    #[arg(id = "seal", long = "seal", global = true, value_name = "FILE")]
    pub(super) keys: Option<PathBuf>,
    /// Seal these topics only, several if need be; nothing unsealed is taken on them [default: #]
    #[arg(id = "seal-topic", long = "seal-topic", global = true, value_name = "FILTER")]
    pub(super) topics: Vec<String>,
    /// The session in which messages are sealed, where an uplink brings them from one of another name
    /// [default: that of --session]
    #[arg(id = "seal-session", long = "seal-session", global = true, value_name = "NAME")]
    pub(super) session: Option<String>,
    /// The levels that an uplink puts before topics, as gateways/+: they are sealed without them
    #[arg(id = "seal-prefix", long = "seal-prefix", global = true, value_name = "LEVELS")]
    pub(super) prefix: Option<String>,
    /// Where this sender's counters are kept [default: FILE of --seal, with .senders behind]
    #[arg(id = "seal-state", long = "seal-state", global = true, value_name = "FOLDER")]
    pub(super) state: Option<PathBuf>,
    /// How many messages of a sender may overtake one [default: 1024]
    #[arg(id = "seal-window", long = "seal-window", global = true, value_name = "N")]
    pub(super) window: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Publish messages
    Pub(Publish),
    /// Print messages as they come
    Sub(Subscribe),
    /// Send files and directories to those who receive on a topic
    Send(Send),
    /// Receive the files that are sent on a topic
    Recv(Receive),
    /// Create, list and remove sessions
    Session(Session),
    /// Make device keys, and keys to seal with
    Key(Key),
    /// Set the password of an identity in the credentials file
    Passwd(Passwd),
    /// Print the relay's figures
    Status(Status),
    /// Look at what goes to a central instance and back
    Uplink(Uplink),
    /// Measure throughput and delay through the relay
    Bench(Bench),
    /// Print the completions for a shell
    Completions(Completions),
    /// Write the man pages into a directory
    Man(Man),
}

#[derive(Debug, Args)]
pub(super) struct Publish {
    /// The topic, such as plant/boiler/temperature
    pub(super) topic: String,
    /// What to publish; without it, all of standard input
    #[arg(allow_hyphen_values = true)]
    pub(super) payload: Option<String>,
    /// Publish each line of standard input as a message
    #[arg(long, conflicts_with = "payload")]
    pub(super) lines: bool,
    /// Send again after a reconnect until the relay has it
    #[arg(long)]
    pub(super) counted: bool,
    /// Let the relay keep it as the topic's last value
    #[arg(long)]
    pub(super) keep: bool,
    /// End only when all messages are there (implies --counted)
    #[arg(long, value_name = "WHERE")]
    pub(super) wait: Option<Where>,
    /// Give up waiting after this time, with exit code 124
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "wait")]
    pub(super) timeout: Option<Duration>,
    #[command(flatten)]
    pub(super) readings: Readings,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Readings (PAYLOAD or each line is a number)")]
pub(super) struct Readings {
    /// Their unit, as in SenML (RFC 8428): Cel, %RH, V, W ...
    #[arg(long)]
    pub(super) unit: Option<String>,
    /// Decimal places of kind int: -2 for hundredths [default: 0]
    #[arg(long, allow_hyphen_values = true)]
    pub(super) scale: Option<i8>,
    /// How they are coded [default: int]
    #[arg(long)]
    pub(super) kind: Option<Kind>,
}

/// Where messages have to be.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Where {
    /// In the relay's memory
    Taken,
    /// On the relay's disk
    Durable,
    /// At the central instance
    Central,
}

impl Where {
    pub(super) const fn tier(self) -> Tier {
        match self {
            Self::Taken => Tier::Taken,
            Self::Durable => Tier::Durable,
            Self::Central => Tier::Central,
        }
    }
}

/// How readings are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Exact decimals
    Int,
    /// Single precision
    F32,
    /// Double precision
    F64,
    /// true or false
    Bool,
}

#[derive(Debug, Args)]
pub(super) struct Subscribe {
    /// Which topics: + stands for one level, a final # for any number
    #[arg(required = true, value_name = "FILTER")]
    pub(super) filters: Vec<String>,
    /// One JSON object a line
    #[arg(long, group = "form")]
    pub(super) json: bool,
    /// Readings as SenML packs, one a line; other messages are left out
    #[arg(long, group = "form")]
    pub(super) senml: bool,
    /// Payloads only, one after another as they are
    #[arg(long, group = "form")]
    pub(super) raw: bool,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    /// Begin with the last N messages of each topic, or those of the last AGE (30s, 10m, 2h, 1d)
    #[arg(long, value_name = "N|AGE", value_parser = past)]
    pub(super) history: Option<Past>,
    /// Begin without the topics' last values
    #[arg(long, conflicts_with = "history")]
    pub(super) no_last: bool,
    /// Give up waiting for --count messages after this time, with exit code 124
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "count")]
    pub(super) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Send {
    /// Files and directories; - for standard input
    #[arg(required = true, num_args = 1.., value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The topic to offer them on
    #[arg(required = true)]
    pub(super) topic: String,
    /// What receivers call it, where that is not the file's own name
    #[arg(long = "as", value_name = "NAME")]
    pub(super) called: Option<String>,
    /// End when so many receivers have each file, and none is at it any more
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) receivers: u32,
    /// Then leave a receiver behind that takes nothing for so long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1m")]
    pub(super) patience: Duration,
    /// Give up after this time, with exit code 124 [default: wait for receivers]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Receive {
    /// The topic, or a filter of topics
    pub(super) topic: String,
    /// Where files go; - for standard output
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
    /// End after so many files
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    /// What to do where there is a file of the same name [default: number]
    #[arg(long, value_name = "WHAT")]
    pub(super) when_exists: Option<Exists>,
    /// Take no file that is longer, in bytes
    #[arg(long, value_name = "BYTES")]
    pub(super) max_size: Option<u64>,
    /// Give up waiting for --count files after this time, with exit code 124
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "count")]
    pub(super) timeout: Option<Duration>,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// What to do where there is a file of the same name.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Exists {
    /// Give the new one a number: name (1).ext
    Number,
    /// Put the new one in its place
    Replace,
    /// Decline the new one
    Decline,
}

impl From<Exists> for WhenExists {
    fn from(exists: Exists) -> Self {
        match exists {
            Exists::Number => Self::Number,
            Exists::Replace => Self::Replace,
            Exists::Decline => Self::Decline,
        }
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Session {
    #[command(subcommand)]
    pub(super) action: SessionAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionAction {
    /// Create a session
    Create(SessionCreate),
    /// List the sessions of the credentials file and their identities
    List(SessionList),
    /// Remove a session and its identities
    Remove(SessionRemove),
}

impl Session {
    /// What to ask of a running relay, if that is meant.
    pub(super) fn as_remote(&self) -> Option<&SessionCreate> {
        match &self.action {
            SessionAction::Create(create) if create.remote => Some(create),
            _ => None,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct SessionCreate {
    /// Its name
    pub(super) new: String,
    /// Ask the running relay (--url) to make it, where its configuration lets peers do so
    #[arg(long)]
    pub(super) remote: bool,
    /// Its first identity [default: user]
    #[arg(long, value_name = "ID")]
    pub(super) user: Option<String>,
    /// File with the first identity's password; with --user alone you are asked at the terminal
    #[arg(long, value_name = "FILE", conflicts_with = "open")]
    pub(super) user_password_file: Option<PathBuf>,
    /// Without a password: open to all who reach the relay (with --remote)
    #[arg(long, requires = "remote")]
    pub(super) open: bool,
    #[command(flatten)]
    pub(super) file: CredentialsFile,
    #[command(flatten)]
    pub(super) access: Access,
}

#[derive(Debug, Args)]
pub(super) struct SessionList {
    #[command(flatten)]
    pub(super) file: CredentialsFile,
}

#[derive(Debug, Args)]
pub(super) struct SessionRemove {
    /// Its name
    pub(super) old: String,
    #[command(flatten)]
    pub(super) file: CredentialsFile,
}

/// The file that the relay reads its identities from.
#[derive(Debug, Clone, Args)]
pub(super) struct CredentialsFile {
    /// The relay's credentials file
    #[arg(long, value_name = "FILE", default_value = CREDENTIALS)]
    pub(super) credentials: PathBuf,
}

/// What an identity may do; %d stands for its name.
#[derive(Debug, Clone, Args)]
pub(super) struct Access {
    /// What the identity may publish on, several times if need be [default: what it may now, or #]
    #[arg(long, value_name = "FILTER")]
    pub(super) publish: Vec<String>,
    /// What the identity may read, several times if need be [default: what it may now, or # and
    /// $board/#]
    #[arg(long, value_name = "FILTER")]
    pub(super) subscribe: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(subcommand)]
    pub(super) action: KeyAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyAction {
    /// Make a key: 32 random bytes, as 64 hexadecimal digits in a file that only its owner reads;
    /// with --id, give it to that identity of --session in the credentials file; with --seal FILE alone,
    /// one to seal with
    New(KeyNew),
    /// Add a new key to the file of --seal: it opens, and does not seal yet
    Add,
    /// Have another key of the file of --seal do the sealing
    Use(KeyId),
    /// Remove a key that does not seal from the file of --seal
    Remove(KeyId),
    /// Print the ids of the keys in the file of --seal, that of the one that seals first
    List,
}

#[derive(Debug, Args)]
pub(super) struct KeyId {
    /// The key's id, as `fastport key list` prints it
    pub(super) key: String,
}

#[derive(Debug, Args)]
pub(super) struct KeyNew {
    /// The file to write; it must not exist. Left out: that of --seal, and the key is for sealing
    pub(super) file: Option<PathBuf>,
    /// The identity is a gateway, which passes on what others gave it
    #[arg(long)]
    pub(super) gateway: bool,
    #[command(flatten)]
    pub(super) credentials: CredentialsFile,
    #[command(flatten)]
    pub(super) access: Access,
}

#[derive(Debug, Args)]
pub(super) struct Passwd {
    #[command(flatten)]
    pub(super) file: CredentialsFile,
    #[command(flatten)]
    pub(super) access: Access,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// As the relay gives it: one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Uplink {
    #[command(subcommand)]
    pub(super) action: UplinkAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum UplinkAction {
    /// Print how it stands with the relay's uplink
    Status(UplinkStatus),
    /// Print what the rules of the configuration make of a topic, in both directions
    Test(UplinkTest),
}

#[derive(Debug, Args)]
pub(super) struct UplinkStatus {
    /// As the relay gives it: one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct UplinkTest {
    /// The topic, by its name on this side
    pub(super) topic: String,
    /// The relay's configuration
    #[arg(long, value_name = "FILE", env = "FASTPORT_CONFIG", default_value = CONFIG)]
    pub(super) config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// Messages of the throughput run
    #[arg(long, default_value_t = 200_000)]
    pub(super) messages: u64,
    /// Bytes of a payload, at least 16
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(16..))]
    pub(super) size: u32,
    /// Subscribers, each with a link of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) subscribers: u32,
    /// Messages a second in the delay run
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rate: u32,
    /// Seconds of the delay run; 0: none
    #[arg(long, default_value_t = 3)]
    pub(super) seconds: u32,
    /// Publish counted, to subscribers that hold the publisher back rather than lose a message
    #[arg(long)]
    pub(super) counted: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    pub(super) shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// The directory; without it, the main page goes to standard output
    #[arg(action = ArgAction::Set)]
    pub(super) directory: Option<PathBuf>,
}

/// A number with a unit: `500ms`, `30s`, `10m`, `2h`, `1d`; without a unit, seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(format!("{unit:?} is no unit of time; known are ms, s, m, h, d")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("must be over 0, and less than for ever".to_owned()),
    }
}

fn past(text: &str) -> Result<Past, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let count = text.parse().map_err(|_| format!("{text:?} is no number of messages"))?;
        return Ok(Past { count: Some(count), age: None });
    }
    duration(text).map(|age| Past { count: None, age: Some(age) })
}

/// Where packages put it.
const CONFIG: &str = "/etc/fastport/gateway.toml";
/// Where packages put it.
const CREDENTIALS: &str = "/etc/fastport/credentials.toml";

const EXIT_CODES: &str = "Exit codes: 0 done, 64 wrong usage, 65 bad data, 69 relay unreachable or \
lost, 70 bug, 74 file error, 77 refused by the relay, 124 out of time, 130 interrupted.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_and_pasts_have_these_forms() {
        for (text, millis) in
            [("5", 5000), ("1.5s", 1500), ("250ms", 250), ("2m", 120_000), ("1d", 86_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "x", "5 s", "-1", "5w", "1.2.3", "0.0000000001"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(past("10"), Ok(Past { count: Some(10), age: None }));
        let age = Some(Duration::from_secs(600));
        assert_eq!(past("10m"), Ok(Past { count: None, age }));
        assert!(past("ten").is_err());
    }

    #[test]
    fn no_argument_takes_a_secret() {
        for secret in ["--password=x", "--key=x", "--token=x"] {
            let parsed = Arguments::try_parse_from(["fastport", "status", secret]);
            assert!(parsed.is_err(), "{secret}");
        }
    }
}
