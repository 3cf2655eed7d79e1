//! Where log lines go, and in which form.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{LogFormat, LogLevel};

/// Changes the level of a running log.
#[derive(Debug, Clone)]
pub struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl LevelHandle {
    /// Logs from `level` on.
    pub fn set(&self, level: LogLevel) {
        // refused only when the log itself is gone
        self.0.reload(filter(level)).unwrap_or_default();
    }
}

/// Starts the log: one line an event on standard error.
///
/// # Errors
/// When a log was started before.
pub fn start(
    format: LogFormat,
    level: LogLevel,
) -> Result<LevelHandle, tracing_subscriber::util::TryInitError> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
        // colours belong to whoever looks
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init()?,
    }
    Ok(LevelHandle(handle))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
