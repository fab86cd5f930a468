//! Logging set-up: lines for people or for programs, to standard error, filtered by level. librdkafka's lines come along.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat, LogLevel};

/// From here on the process logs. Once a process; the second call is an error.
pub fn start(log: &Log, colours: bool) -> Result<(), TryInitError> {
    subscriber(log, colours, std::io::stderr).try_init()
}

fn subscriber<W>(log: &Log, colours: bool, writer: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    tracing_subscriber::registry().with(filter(log)).with(lines)
}

fn filter(log: &Log) -> Targets {
    let targets = log.targets.iter().map(|(target, level)| (target.clone(), level_filter(*level)));
    Targets::new().with_default(level_filter(log.level)).with_targets(targets)
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
