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
    let level = level_filter(log.level);
    // It says which files it opens.
    let quiet = if log.level == LogLevel::Info { LevelFilter::WARN } else { level };
    Targets::new().with_default(level).with_target("lsm_tree", quiet).with_targets(targets)
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use expect_test::{Expect, expect};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged, without its timestamps.
    fn check(log: &Log, say: impl FnOnce(), expected: Expect) {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(log, false, move || writer.clone()), say);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let without_time = |line: &str| {
            let (before, rest) = line.split_once('2').expect("a timestamp");
            let (_, after) = rest.split_once('Z').expect("it is in UTC");
            format!("{before}{}\n", after.trim_start())
        };
        expected.assert_eq(&text.lines().map(without_time).collect::<String>());
    }

    fn say() {
        tracing::info!(target: "dce::pipeline", partition = 3, "assigned");
        tracing::debug!(target: "dce::pipeline", "not shown");
        tracing::debug!(target: "dce::http", path = "/live", "asked");
        tracing::info!(target: "rdkafka::client", "not shown");
        tracing::warn!(target: "rdkafka::client", error = %"broker away", "trouble");
    }

    fn log(format: LogFormat) -> Log {
        let targets = vec![("dce::http".to_owned(), LogLevel::Debug), ("rdkafka".to_owned(), LogLevel::Warn)];
        Log { level: LogLevel::Info, targets, format }
    }

    #[test]
    fn text_lines_are_filtered_by_level_and_part() {
        check(
            &log(LogFormat::Text),
            say,
            expect![[r#"
            INFO dce::pipeline: assigned partition=3
            DEBUG dce::http: asked path="/live"
            WARN rdkafka::client: trouble error=broker away
        "#]],
        );
    }

    #[test]
    fn json_lines_are_one_object_each() {
        check(
            &log(LogFormat::Json),
            say,
            expect![[r#"
                {"timestamp":"","level":"INFO","message":"assigned","partition":3,"target":"dce::pipeline"}
                {"timestamp":"","level":"DEBUG","message":"asked","path":"/live","target":"dce::http"}
                {"timestamp":"","level":"WARN","message":"trouble","error":"broker away","target":"rdkafka::client"}
            "#]],
        );
    }

    #[test]
    fn off_says_nothing() {
        check(&Log { level: LogLevel::Off, targets: Vec::new(), format: LogFormat::Text }, say, expect![[""]]);
    }
}
