//! `dce monitor`: the sidecar that watches how far embeddings move, and what people do with what it wrote: `pin`, `replay`,
//! `explain`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::signals::Signals;
use super::{Frame, moments};
use crate::config::Config;
use crate::drift::board::{About, Board};
use crate::drift::collect::Cut;
use crate::drift::engine::usual_rule;
use crate::drift::notify::Receivers;
use crate::drift::page;
use crate::drift::run::{self, MonitorSettings, Watch};
use crate::health::Health;
use crate::http::{self, Shown};
use crate::kafka::client::ClientSettings;
use crate::kafka::conform::Role;
use crate::kafka::follow::{self, Lookup, Visit};
use crate::kafka::topics::{self, Inspector};
use crate::telemetry::Clock;
use crate::telemetry::metrics::Metrics;
use crate::wire::drift::{self, DriftWindow};

mod pin;
mod replay;
mod explain;

/// How long the broker may take to answer.
const WAIT: Duration = Duration::from_secs(15);
/// Customers of one window, over all partitions.
const CUSTOMERS_MAX: usize = 4 << 20;

const EXAMPLES: &str = "Examples:
  dce monitor --create-topics                      watch the embeddings of localhost:9092
  dce monitor --set monitor.alertmanager=http://alertmanager:9093
  dce monitor replay --from 14d --set monitor.false_alarm_every=7d
                                                   what would have been told, had seven days been asked
  dce monitor explain all                          the alert on all customers, window by window
  dce monitor pin --from 2h --accept               what is now is how it is to be

The page answers on monitor.listen, 127.0.0.1:9465 by default. Several of one app.id: one is active, the others stand by.";

/// Watch how far embeddings move, and tell when that shifts, until SIGTERM.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<MonitorCommand>,
    /// Create the topics that the monitor writes, where they are missing.
    #[arg(long)]
    create_topics: bool,
}

#[derive(Debug, clap::Subcommand)]
enum MonitorCommand {
    /// Compare with windows of the past from now on, whatever comes later.
    Pin(pin::Arguments),
    /// Judge stored windows again by the settings of now, and say what would have been told.
    Replay(replay::Arguments),
    /// Show an alert window by window: what moved, and what moved with it.
    Explain(explain::Arguments),
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    match &arguments.command {
        Some(MonitorCommand::Pin(arguments)) => pin::run(arguments, frame),
        Some(MonitorCommand::Replay(arguments)) => replay::run(arguments, frame),
        Some(MonitorCommand::Explain(arguments)) => explain::run(arguments, frame),
        None => watch(arguments, frame),
    }
}

fn watch(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    frame.start_logs(&config)?;
    let signals = Signals::listen()?;
    let clock = Clock::start();
    let client = ClientSettings::from(&config.kafka);
    let asked = signals.before_the_start(|| {
        if arguments.create_topics {
            create_topics(&config, &client)?;
        }
        settings(&config, &client)
    });
    let Some(settings) = asked.transpose()? else { return Ok(()) };
    let board = Arc::new(board(&config));
    let health: Arc<[Health]> = Arc::new([Health::new(clock.uptime())]);
    let metrics = Arc::new(Metrics::of_monitor(ms(config.monitor.window)));
    let shown = Shown { clock, health: Arc::clone(&health), metrics: Arc::clone(&metrics) };
    let _server = config
        .monitor
        .listen
        .map(|listen| http::serve(listen, shown, page::routes(Arc::clone(&board), clock)))
        .transpose()?;
    Ok(run::run(&settings, Watch { clock, health: &health[0], board: &board, metrics: &metrics }, &signals.stop)?)
}

fn create_topics(config: &Config, client: &ClientSettings) -> anyhow::Result<()> {
    let roles = Role::of_monitor(&config.monitor.topics);
    let specs = roles.map(|(role, name)| role.spec(name, 1, None, config.session.future_max_ms));
    let created = topics::create(client, &specs, WAIT).context("creating topics")?;
    if !created.is_empty() {
        tracing::info!(topics = ?created, "topics created");
    }
    Ok(())
}

pub(super) fn board(config: &Config) -> Board {
    Board::new(About {
        window_ms: ms(config.monitor.window),
        false_alarm_days: config.monitor.false_alarm_every.as_secs_f64() / 86_400.0,
        source: config.topics.embeddings.clone(),
        instance: config.app.instance.clone(),
    })
}

pub(super) fn settings(config: &Config, client: &ClientSettings) -> anyhow::Result<MonitorSettings> {
    let monitor = &config.monitor;
    let inspector = Inspector::new(client)?;
    let rejected = &config.topics.rejected;
    let has_rejected = inspector.describe(rejected, WAIT)?.is_some();
    if !has_rejected {
        tracing::warn!(topic = rejected, "there is no such topic: reject rates are not watched");
    }
    Ok(MonitorSettings {
        client: client.clone(),
        group: monitor.group_id(&config.app.id),
        embeddings: config.topics.embeddings.clone(),
        rejected: has_rejected.then(|| rejected.clone()),
        topics: monitor.topics.clone(),
        registry: config.registry.clone(),
        cut: Cut {
            width_ms: ms(monitor.window),
            lateness_ms: ms(monitor.lateness),
            future_ms: i64::try_from(config.session.future_max_ms).unwrap_or(i64::MAX / 4),
            segments_max: monitor.segments_max,
            customers_max: CUSTOMERS_MAX,
        },
        rule: usual_rule(monitor.false_alarm_every.as_secs_f64() / 86_400.0),
        receivers: Receivers {
            alertmanagers: monitor.alertmanagers.clone(),
            webhook: monitor.webhook.clone(),
            monitor: config.app.id.clone(),
            link: monitor.link.clone(),
        },
    })
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Which stored windows are looked at.
#[derive(Debug, clap::Args)]
struct Span {
    /// Windows that start then or later: a time, or a span before now such as 14d.
    #[arg(long, value_name = "TIME", value_parser = moments::argument)]
    from: Option<i64>,
    /// Windows that start before then.
    #[arg(long, value_name = "TIME", value_parser = moments::argument)]
    to: Option<i64>,
}

/// The stored windows of the span that are wanted, in the order of time; and how many could not be read.
fn stored_windows(
    config: &Config,
    client: &ClientSettings,
    span: &Span,
    wanted: impl Fn(&DriftWindow) -> bool,
) -> anyhow::Result<(Vec<DriftWindow>, u64)> {
    let topic = &config.monitor.topics.windows;
    let group = config.monitor.group_id(&config.app.id);
    let lookup = Lookup::new(client, &group)?;
    let mut extents = lookup.extents(topic, &[0], WAIT)?;
    if let Some(from) = span.from {
        // A window is published after its end.
        extents = lookup.since(topic, &extents, from, WAIT)?;
    }
    let (mut windows, mut unreadable) = (Vec::new(), 0);
    follow::scan(client, &group, topic, &extents, |message| {
        match message.value().map(drift::decode::<DriftWindow>) {
            Some(Ok(window)) => {
                let is_in = span.from.is_none_or(|from| window.window_start >= from)
                    && span.to.is_none_or(|to| window.window_start < to);
                if is_in && wanted(&window) {
                    windows.push(window);
                }
            }
            Some(Err(_)) => unreadable += 1,
            None => {}
        }
        Ok::<_, anyhow::Error>(Visit::Next)
    })?;
    Ok((windows, unreadable))
}
