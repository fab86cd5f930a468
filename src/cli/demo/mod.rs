//! `dce demo`: the real pipeline on a broker inside this process, fed by a generated bank at a steady rate, with a live
//! view. The broker is librdkafka's mock cluster: it neither isolates readers from open transactions nor remembers
//! offsets, and it keeps 5 MiB a partition, so the generator waits for the reader.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal as _, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use super::run::{load_model, worker_settings};
use super::{Frame, stop_on_signals};
use crate::config::{Config, FlagSetting};
use crate::drift::page;
use crate::generate::live::{Live, LiveParams, LiveRecord};
use crate::generate::partition_of;
use crate::health::Health;
use crate::http::{self, HttpError, Shown};
use crate::kafka::client::{ClientSettings, Consumer, ConsumerEvents};
use crate::pipeline::worker::{self, Watch};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::{EpochStats, Metrics};
use crate::types::RejectReason;
use crate::wire::avro::Schemas;
use crate::wire::drift::AlertState;
use crate::wire::embedding::{CustomerEmbedding, EmbeddingKind};
use drift::Drift;

mod drift;

const PARTITIONS: u32 = 4;
/// Produced and not yet committed at the most: far below the 5 MiB that the broker keeps a partition.
const AHEAD_MAX: u64 = 10_000;
/// How long the end waits for the last records to be committed.
const DRAIN_MAX_MS: u64 = 20_000;
const LOOK: Duration = Duration::from_millis(200);
/// Seconds, where nobody says.
const SECONDS: u64 = 90;
/// The parts of the time after which the monitor has learned, and the bank renames its pages.
const LEARNED: f64 = 0.5;
const RENAMED: f64 = 0.6;
/// It learns and renames no later than this, however long the demo is.
const LEARNED_MS_MAX: u64 = 45_000;
const RENAMED_MS_MAX: u64 = 54_000;
/// Embeddings shown.
const SHOWN: usize = 8;
/// Latencies kept for the percentiles.
const LATENCIES_MAX: usize = 5_000_000;

const EXAMPLES: &str = "Examples:
  dce demo                                         a minute and a half at 1,000 clicks a second
  dce demo --seconds 1800                          for as long as somebody looks at the page
  dce demo --rate 20000 --seconds 60               as fast as this machine may go
  dce demo --events 2000 --json                    for programs: one object a line
  dce demo --set session.gap=2m --seed 7           other rules, another bank";

/// Show the pipeline at work: a broker inside, a generated bank, a live view.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// End after so many clicks.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// End after so many seconds [default: 90, or as --events needs].
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Clicks a second, 1 to 50000.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    rate: u32,
    /// The same seed gives the same bank.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What the view shows, written by the threads.
#[derive(Default)]
struct Seen {
    /// When the first click was made; `None` before the pipeline is ready.
    began_ms: Option<u64>,
    produced: u64,
    records: u64,
    sessions: u64,
    revisions: u64,
    embeddings: u64,
    duplicates: u64,
    rejects: BTreeMap<&'static str, u64>,
    open_sessions: BTreeMap<i32, u64>,
    customers: BTreeMap<i32, u64>,
    /// Produce to commit, in milliseconds.
    latencies_ms: Vec<u32>,
    last: VecDeque<CustomerEmbedding>,
    /// When the pages were renamed.
    renamed_ms: Option<u64>,
    drift: drift::Told,
    failure: Option<String>,
}

impl Seen {
    /// What was until now was the past, and is not counted.
    fn begin(&mut self, now: u64) {
        *self = Self {
            began_ms: Some(now),
            open_sessions: std::mem::take(&mut self.open_sessions),
            customers: std::mem::take(&mut self.customers),
            failure: self.failure.take(),
            ..Self::default()
        };
    }
}

type Shared = Arc<Mutex<Seen>>;

fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let cluster = MockCluster::new(1).map_err(|error| anyhow!("the broker inside cannot be made: {error}"))?;
    let config = demo_config(frame, &cluster.bootstrap_servers())?;
    frame.start_logs(&config)?;
    let topics = &config.topics;
    for topic in topics.written().into_iter().chain([topics.clickstream.as_str()]) {
        let partitions = i32::try_from(PARTITIONS).unwrap_or(1);
        cluster.create_topic(topic, partitions, 1).map_err(|error| anyhow!("topic {topic}: {error}"))?;
    }
    let mut model = load_model(frame, &config)?;
    let clock = Clock::start();
    let (generating, working) = (stop_on_signals()?, Stop::new());
    let metrics = Arc::new(Metrics::new());
    let all_health: Arc<[Health]> = Arc::new([Health::new(clock.uptime())]);
    let health = &all_health[0];
    let seen = Shared::default();
    let drift = Drift::new(topics.embeddings_live.as_deref().unwrap_or_default(), clock.wall_ms());
    let wants_view = !frame.json;
    let shown = Shown { clock, health: Arc::clone(&all_health), metrics: Arc::clone(&metrics) };
    let server = if wants_view { serve_page(&config, shown, &drift)? } else { None };
    if wants_view {
        frame.output.line(INTRODUCTION)?;
        if let Some(server) = &server {
            frame.output.line(format!("The monitor's page: http://{}", server.address()))?;
        }
    }
    let times = Times::of(arguments);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let generator =
            named("generator", scope, || generate(arguments, &config, clock, &seen, (health, &generating)))?;
        let reader = named("reader", scope, || read(&config, clock, &seen, (drift, times), &working))?;
        let pipeline =
            named("worker", scope, || work(&config, &mut model, clock, &seen, (health, &metrics, &working)))?;
        let shown =
            show(arguments, frame, clock, &seen, &generating, || generator.is_finished() || pipeline.is_finished());
        generating.stop();
        drain(clock, &seen, &pipeline);
        working.stop();
        for thread in [generator, reader, pipeline] {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        shown
    })?;
    summary(frame, clock, &lock(&seen))
}

const INTRODUCTION: &str = "\
dce demo: a generated bank's clicks → sessions → embeddings, through the real pipeline and model.
The broker is inside this process: it shows readers what is not yet committed, and forgets offsets; a real Kafka does neither.";

/// Where the page cannot be served at its usual place, it is at another.
fn serve_page(config: &Config, shown: Shown, drift: &Drift) -> anyhow::Result<Option<http::Server>> {
    let Some(listen) = config.monitor.listen else { return Ok(None) };
    let routes = || page::routes(drift.board(), shown.clock);
    match http::serve(listen, shown.clone(), routes()) {
        Err(HttpError::InUse { mut address }) => {
            address.set_port(0);
            Ok(Some(http::serve(address, shown.clone(), routes())?))
        }
        served => Ok(Some(served?)),
    }
}

/// When what happens, in milliseconds since the first click.
#[derive(Debug, Clone, Copy)]
struct Times {
    learned: u64,
    renamed: u64,
}

impl Times {
    fn of(arguments: &Arguments) -> Self {
        let all = arguments.seconds.unwrap_or(SECONDS) as f64 * 1000.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a time")]
        let at = |part: f64, max: u64| ((all * part) as u64).min(max);
        Self { learned: at(LEARNED, LEARNED_MS_MAX), renamed: at(RENAMED, RENAMED_MS_MAX) }
    }
}

fn named<'s, T: Send + 's>(
    name: &str,
    scope: &'s std::thread::Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> anyhow::Result<std::thread::ScopedJoinHandle<'s, T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).context("no thread can be started")
}

/// A bank's day in seconds: forgotten sessions close while one looks.
fn demo_config(frame: &Frame, bootstrap: &str) -> anyhow::Result<Config> {
    let set = |key, value: &str| FlagSetting { flag: "demo", key, value: value.to_owned() };
    Ok(frame.config(vec![
        set("kafka.bootstrap", bootstrap),
        set("app.id", "dce-demo"),
        set("session.gap", "30s"),
        set("session.allowed_lateness", "5s"),
        set("session.idle_after", "10s"),
        set("provisional.every_events", "5"),
        set("http.listen", "off"),
        set("encoding", "json"),
        set("registry.url", ""),
        set("log.level", "warn,rdkafka=error"),
    ])?)
}

/// Clicks at a steady rate, whatever the pipeline does, but never far ahead of it.
fn generate(
    arguments: &Arguments,
    config: &Config,
    clock: Clock,
    seen: &Shared,
    (health, stop): (&Health, &Stop),
) -> anyhow::Result<()> {
    // A group takes seconds to form; no click waits for that.
    while health.readiness(clock.uptime()).is_err() {
        if stop.wait(Duration::from_millis(5)) {
            return Ok(());
        }
    }
    let client = ClientSettings::from(&config.kafka);
    let producer: ThreadedProducer<DefaultProducerContext> =
        ThreadedProducer::from_config_and_context(&client.plain_producer(), DefaultProducerContext)?;
    let send = |click: &LiveRecord| -> anyhow::Result<()> {
        let partition = partition_of(click.key.as_deref().unwrap_or_default(), PARTITIONS);
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&config.topics.clickstream);
        record.partition = i32::try_from(partition).ok();
        record.key = click.key.as_deref();
        record.payload = Some(&click.value);
        record.timestamp = Some(clock.wall_ms());
        producer.send(record).map_err(|(error, _)| anyhow!("the broker inside takes no click: {error}"))
    };
    // Whether the pipeline comes near; false where it is over.
    let keep_near = |sent: u64, ahead_max: u64| {
        while sent.saturating_sub(lock(seen).records) > ahead_max {
            if stop.wait(Duration::from_millis(2)) {
                return false;
            }
        }
        true
    };
    let start_ms = clock.wall_ms() - history_ms(arguments);
    let params = LiveParams::new(arguments.seed, f64::from(arguments.rate), start_ms);
    let mut bank = Live::new(params);
    let mut sent = 0;
    let mut next = bank.next();
    // Until it is the present.
    while arguments.events.is_none() && next.due_ms < clock.wall_ms() {
        send(&next)?;
        sent += 1;
        if !keep_near(sent, AHEAD_MAX) {
            return Ok(());
        }
        next = bank.next();
    }
    if !keep_near(sent, 0) {
        return Ok(());
    }
    lock(seen).begin(clock.uptime().0);
    let (events_max, times) = (arguments.events.unwrap_or(u64::MAX), Times::of(arguments));
    let mut produced = 0;
    while produced < events_max && !stop.is_stopped() {
        let since_ms = clock.uptime().0 - lock(seen).began_ms.unwrap_or(0);
        if since_ms >= times.renamed && lock(seen).renamed_ms.is_none() {
            lock(seen).renamed_ms = Some(since_ms);
        }
        let early_ms = u64::try_from(next.due_ms - clock.wall_ms()).unwrap_or(0);
        if early_ms > 0 && stop.wait(Duration::from_millis(early_ms)) {
            break;
        }
        if !keep_near(produced, AHEAD_MAX - 1) {
            return Ok(());
        }
        if lock(seen).renamed_ms.is_some() {
            next.value = renamed(&next.value);
        }
        send(&next)?;
        produced += 1;
        lock(seen).produced = produced;
        next = bank.next();
    }
    producer.flush(Duration::from_secs(10))?;
    Ok(())
}

/// All pages and actions have new names, as after a relaunch.
fn renamed(click: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = br#""name":""#;
    let Some(at) = click.windows(NAME.len()).position(|part| part == NAME) else { return click.to_vec() };
    let (before, after) = click.split_at(at + NAME.len());
    [before, b"new_", after].concat()
}

/// So much of the bank's past comes first, as fast as it goes: embeddings of customers who are new move farther than others,
/// and a bank is not of new ones. Where somebody counts the clicks, there is none.
fn history_ms(arguments: &Arguments) -> i64 {
    const MS_MAX: i64 = 600_000;
    const CLICKS_MAX: i64 = 600_000;
    if arguments.events.is_some() { 0 } else { MS_MAX.min(CLICKS_MAX * 1000 / i64::from(arguments.rate)) }
}

fn work(
    config: &Config,
    model: &mut crate::model::onnx::OnnxModel,
    clock: Clock,
    seen: &Shared,
    (health, metrics, stop): (&Health, &Metrics, &Stop),
) -> anyhow::Result<()> {
    let mut committed = |stats: &EpochStats| count(&mut lock(seen), stats, clock.wall_ms());
    let mut watch = Watch { clock, health, metrics, committed: &mut committed };
    let mut settings = worker_settings(config);
    // The mock cluster does not answer a waiting fetch when a record comes, only when its time is over.
    settings.source.client.consumer.insert("fetch.wait.max.ms".to_owned(), "2".to_owned());
    let outcome = worker::run(&settings, model, &mut watch, stop);
    if let Err(error) = &outcome {
        lock(seen).failure = Some(error.to_string());
    }
    Ok(outcome?)
}

fn count(seen: &mut Seen, stats: &EpochStats, now_ms: i64) {
    seen.records += stats.records;
    seen.duplicates += stats.duplicates;
    seen.sessions += stats.closed.iter().sum::<u64>();
    seen.revisions += stats.embeddings[EmbeddingKind::SessionRevised as usize];
    seen.embeddings += stats.embeddings.iter().sum::<u64>();
    for reason in RejectReason::ALL {
        let rejects = stats.rejects[reason as usize];
        if rejects > 0 {
            *seen.rejects.entry(reason.as_str()).or_default() += rejects;
        }
    }
    for partition in &stats.partitions {
        seen.open_sessions.insert(partition.partition, partition.open_sessions);
        seen.customers.insert(partition.partition, partition.customers);
    }
    let latency = |since: &i64| u32::try_from(now_ms.saturating_sub(*since)).unwrap_or(0);
    if seen.latencies_ms.len() < LATENCIES_MAX {
        seen.latencies_ms.extend(stats.cause_timestamps_ms.iter().map(latency));
    }
}

/// A reader of the live topic, as a fraud team has one, and the monitor.
fn read(
    config: &Config,
    clock: Clock,
    seen: &Shared,
    (mut drift, times): (Drift, Times),
    stop: &Stop,
) -> anyhow::Result<()> {
    let Some(topic) = &config.topics.embeddings_live else { return Ok(()) };
    let client = ClientSettings::from(&config.kafka).reader("dce-demo-reader", 4 << 10);
    let consumer = Consumer::from_config_and_context(&client, ConsumerEvents::default())?;
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(PARTITIONS).unwrap_or(1) {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let schemas = Schemas::released();
    while !stop.is_stopped() {
        let message = consumer.poll(Duration::from_millis(50));
        let since_ms = lock(seen).began_ms.map_or(0, |began| clock.uptime().0 - began);
        if drift.advance(clock.wall_ms()) {
            lock(seen).drift.clone_from(&drift.told);
        }
        if since_ms >= times.learned && drift.told.judged.is_none() {
            drift.learn(clock.wall_ms());
            lock(seen).drift.clone_from(&drift.told);
        }
        let Some(Ok(message)) = message else { continue };
        // A null value is an erasure.
        let Some(value) = message.payload() else { continue };
        drift.record(value, message.timestamp().to_millis().unwrap_or(0), message.partition(), &schemas);
        let record = CustomerEmbedding::decode(value, &schemas)?;
        let mut seen = lock(seen);
        seen.last.push_front(record);
        seen.last.truncate(SHOWN);
    }
    Ok(())
}

/// The live view, until the time or the clicks are over.
fn show(
    arguments: &Arguments,
    frame: &Frame,
    clock: Clock,
    seen: &Shared,
    stop: &Stop,
    is_ended: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let is_terminal = std::io::stdout().is_terminal() && !frame.json;
    let seconds = arguments.seconds.or(if arguments.events.is_some() { None } else { Some(SECONDS) });
    let (mut lines_drawn, mut last_line, mut before) = (0, 0, (clock.uptime().0, 0, 0));
    loop {
        let is_over = stop.wait(LOOK) || is_ended();
        let now = clock.uptime().0;
        let begun = lock(seen).began_ms.unwrap_or(now);
        if is_over || seconds.is_some_and(|s| now - begun >= s * 1000) || lock(seen).failure.is_some() {
            return Ok(());
        }
        if is_terminal {
            let view = view(&lock(seen), now - begun, &mut before, now);
            let mut out = frame.output.lock();
            if lines_drawn > 0 {
                write!(out, "\x1b[{lines_drawn}A\x1b[J")?;
            }
            write!(out, "{view}")?;
            out.flush()?;
            lines_drawn = view.lines().count();
        } else if !frame.json && now - begun >= 5_000 && now - last_line >= 5_000 {
            last_line = now;
            let seen = lock(seen);
            let open: u64 = seen.open_sessions.values().sum();
            frame.output.line(format!(
                "{:>4} s  {} clicks, {} sessions closed, {open} open, {} embeddings; {}",
                (now - begun) / 1000,
                seen.records,
                seen.sessions,
                seen.embeddings,
                monitor_says(&seen)
            ))?;
        }
    }
}

fn view(seen: &Seen, elapsed_ms: u64, before: &mut (u64, u64, u64), now: u64) -> String {
    use std::fmt::Write as _;
    let (since, records, embeddings) = *before;
    let per_second = |now_count: u64, then: u64| (now_count - then) * 1000 / (now - since).max(1);
    let rates = (per_second(seen.records, records), per_second(seen.embeddings, embeddings));
    if now - since >= 1_000 {
        *before = (now, seen.records, seen.embeddings);
    }
    let latency = percentiles(&seen.latencies_ms[seen.latencies_ms.len().saturating_sub(20_000)..]);
    let sum = |of: &BTreeMap<i32, u64>| of.values().sum::<u64>();
    let mut text = format!(
        "\n  {:>3} s   {:>6} clicks/s   {:>5} embeddings/s   {:>6} open sessions   {:>6} customers\n  latency from click to commit: p50 {} ms, p99 {} ms\n\n",
        elapsed_ms / 1000,
        rates.0,
        rates.1,
        sum(&seen.open_sessions),
        sum(&seen.customers),
        latency[0],
        latency[1],
    );
    text += "  customer           seq  kind             events  cause       shift to the last settled one\n";
    for record in &seen.last {
        let shift = record.cosine_shift.map_or("first".to_owned(), |shift| format!("{shift:.4} {}", bar(shift)));
        _ = writeln!(
            text,
            "  {:<17} {:>4}  {:<15}  {:>6}  {:<10}  {shift}",
            record.customer_id,
            record.sequence,
            record.kind.as_str(),
            record.cause.event_count,
            record.cause.close_reason.map_or("open", |reason| reason.as_str()),
        );
    }
    let rejects: Vec<String> = seen.rejects.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    _ = writeln!(
        text,
        "\n  rejected: {}   duplicates: {}",
        if rejects.is_empty() { "none".into() } else { rejects.join(", ") },
        seen.duplicates
    );
    _ = writeln!(text, "  {}", monitor_says(seen));
    text
}

/// In a line.
fn monitor_says(seen: &Seen) -> String {
    let renamed = if seen.renamed_ms.is_some() { "the bank has renamed its pages; " } else { "" };
    match (&seen.drift.alert, seen.drift.judged) {
        (Some(alert), _) if alert.state == AlertState::Firing => format!("{renamed}ALERT {}", alert.summary),
        (Some(_), _) => format!("{renamed}monitor: the alert is over"),
        (None, Some(windows)) => format!("{renamed}monitor: {windows} windows are as usual"),
        (None, None) => "monitor: learns what is usual".to_owned(),
    }
}

/// A shift of 0 to 1 in ten steps; more is as full.
fn bar(shift: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10")]
    let full = (shift.clamp(0.0, 1.0) * 10.0).round() as usize;
    "█".repeat(full) + &"·".repeat(10 - full)
}

/// p50, p99 and p99.9 by nearest rank; zeros of nothing.
fn percentiles(latencies_ms: &[u32]) -> [u32; 3] {
    let mut sorted = latencies_ms.to_vec();
    sorted.sort_unstable();
    [500, 990, 999].map(|permille| {
        let rank = (sorted.len() * permille).div_ceil(1000);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    })
}

/// Waits until all that was produced is committed.
fn drain(clock: Clock, seen: &Shared, pipeline: &std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>) {
    let begun = clock.uptime().0;
    let waiting = Stop::new();
    let is_done = || {
        let seen = lock(seen);
        seen.records >= seen.produced
    };
    while !is_done() && !pipeline.is_finished() && clock.uptime().0 - begun < DRAIN_MAX_MS {
        _ = waiting.wait(Duration::from_millis(20));
    }
}

fn summary(frame: &Frame, clock: Clock, seen: &Seen) -> anyhow::Result<()> {
    let [p50, p99, p999] = percentiles(&seen.latencies_ms);
    let rejects: u64 = seen.rejects.values().sum();
    let open: u64 = seen.open_sessions.values().sum();
    if frame.json {
        let row = json!({
            "events": seen.records, "sessions": seen.sessions, "embeddings": seen.embeddings, "rejects": rejects,
            "latency_ms": {"p50": p50, "p99": p99, "p999": p999}, "revisions": seen.revisions,
            "duplicates": seen.duplicates, "rejects_by_reason": seen.rejects, "open_sessions": open,
            "alerts": seen.drift.opened, "renamed_ms": seen.renamed_ms,
            "alert": seen.drift.alert.as_ref().map(|alert| alert.summary.as_str()),
            "seconds": clock.uptime().0.saturating_sub(seen.began_ms.unwrap_or(0)) / 1000,
        });
        frame.output.line(row)?;
    } else {
        let by_reason: Vec<String> = seen.rejects.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        frame.output.line(format!(
            "\n{} clicks in, all committed: {} sessions closed ({} revised, {open} still open), {} embeddings out.\n\
             {rejects} clicks rejected ({}), {} duplicates left out.\n\
             Latency from click to committed embedding: p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms.",
            seen.records,
            seen.sessions,
            seen.revisions,
            seen.embeddings,
            by_reason.join(", "),
            seen.duplicates,
        ))?;
        if seen.drift.judged.is_some() {
            frame.output.line(monitor_says(seen))?;
        }
    }
    if seen.records < seen.produced {
        return Err(anyhow!(
            "{} of {} clicks were not committed within {DRAIN_MAX_MS} ms",
            seen.produced - seen.records,
            seen.produced
        ));
    }
    Ok(())
}
