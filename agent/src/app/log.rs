//! Logging, to standard error: the service manager takes it from there.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

/// Sets the process's log up. A second call does nothing.
///
/// Dependencies log from `warn` on only: below that they describe bytes, and this process's own
/// lines are the ones that are known to hold no value.
pub fn init(config: &Log) {
    let level = match config.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("edge_secrets_agent", level);
    let registry = tracing_subscriber::registry().with(targets);
    let text = layer().with_writer(std::io::stderr).with_target(false);
    // A log that is set up already stays: only tests come here twice.
    match config.format {
        LogFormat::Text => registry.with(text.with_ansi(false)).try_init().ok(),
        LogFormat::Json => registry
            .with(text.json().flatten_event(true))
            .try_init()
            .ok(),
    };
}
