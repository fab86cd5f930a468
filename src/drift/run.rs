//! Drives the monitor: stands by until the lease is held, reads the past back, then reads, closes windows and publishes, each
//! window with its alerts in one transaction. Decides nothing: [`Engine`] does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::board::{Board, Role, Status};
use super::collect::Cut;
use super::engine::{Engine, Judged};
use super::judge::Rule;
use super::notify::{Alertmanagers, Receivers, cloud_event};
use super::past::{self, Resume, WAIT};
use super::reach::Reach;
use super::reader::{Source, Stream};
use super::steady::Steady;
use super::tell;
use crate::config::{DriftTopics, Registry};
use crate::health::Health;
use crate::kafka::bulk::{Bulk, BulkError, Piece};
use crate::kafka::client::ClientSettings;
use crate::kafka::follow::{Lookup, LookupError};
use crate::kafka::lease::{Lease, LeaseError};
use crate::kafka::reader::ReadError;
use crate::kafka::topics::{Inspector, TopicError};
use crate::registry::{RegistryError, Resolver};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::monitor::Receiver;
use crate::wire::drift::{DriftAlert, encode};

/// For so long back windows are counted at a first start: what the table keeps uncompacted.
const FIRST_MS: i64 = 24 * 3_600_000;
/// Records stamped earlier than `session.future_max` before a window by no more than this may belong to it.
const EARLY_MS: i64 = 10 * 60_000;
/// Clocks of those who publish may be behind ours by so much.
const GUARD_MS: i64 = 2_000;
const TURN: Duration = Duration::from_millis(100);
/// How long a failed session waits before it begins again, doubled up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the monitor is told.
#[derive(Debug, Clone)]
pub struct MonitorSettings {
    pub client: ClientSettings,
    /// The consumer group, and the transactional id.
    pub group: String,
    pub embeddings: String,
    /// `None`: reject rates are not watched.
    pub rejected: Option<String>,
    pub topics: DriftTopics,
    pub registry: Option<Registry>,
    /// `customers_max` is of all partitions together.
    pub cut: Cut,
    pub rule: Rule,
    pub receivers: Receivers,
}

/// Who looks on.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'a> {
    pub clock: Clock,
    pub health: &'a Health,
    pub board: &'a Board,
    pub metrics: &'a Metrics,
}

#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] BulkError),
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("topic {topic} has {partitions} partitions and must have one: what is in it is in the order of time")]
    Partitions { topic: String, partitions: usize },
    #[error("topic {topic} does not exist; {fix}")]
    Missing { topic: String, fix: &'static str },
    #[error("topic {topic} has {partitions} partitions now, and {read} are read")]
    Grown { topic: String, read: usize, partitions: usize },
}

impl MonitorError {
    /// Whether it is the settings' fault, which no waiting mends.
    fn is_for_good(&self) -> bool {
        matches!(self, Self::Partitions { .. } | Self::Missing { .. } | Self::Thread(_))
    }
}

/// Why a session as the active one ended.
enum Ended {
    Stopped,
    LeaseLost,
}

/// Runs until `stop`. What fails is begun again, from what was published.
pub fn run(settings: &MonitorSettings, watch: Watch<'_>, stop: &Stop) -> Result<(), MonitorError> {
    check_topics(settings)?;
    let mut lease = Lease::join(&settings.client, &settings.group, &settings.topics.references)?;
    let mut reach = Reach::new(watch.clock.wall_ms());
    let (mut failures, mut was_active) = (0_u32, false);
    while !stop.is_stopped() {
        watch.health.progress(watch.clock.uptime(), "stand by");
        let is_held = lease.is_held(TURN)?;
        let is_there = reach.look(&lease, watch.clock, watch.health);
        if !is_held || !is_there {
            if is_there {
                // One that stands by is as it should be.
                watch.health.ready();
                // Another one knows better.
                if std::mem::take(&mut was_active) {
                    watch.board.clear();
                }
            }
            status(watch, Role::Standby, &reach, None);
            continue;
        }
        tracing::info!(group = settings.group, "this monitor is the active one");
        was_active = true;
        match active(settings, watch, (&mut lease, &mut reach), stop) {
            Ok(Ended::Stopped) => break,
            Ok(Ended::LeaseLost) => {
                failures = 0;
                tracing::info!(group = settings.group, "this monitor is not the active one any more");
            }
            Err(error) if error.is_for_good() => return Err(error),
            Err(error @ MonitorError::Grown { .. }) => {
                failures = 0;
                tracing::warn!(%error, "the monitor begins again from what it has published");
            }
            Err(error) => {
                failures += 1;
                watch.health.not_ready(error.to_string());
                tracing::error!(%error, failures, "the monitor begins again from what it has published");
                wait_as_member(
                    AGAIN.1.min(AGAIN.0 * 2_u32.saturating_pow(failures.min(10) - 1)),
                    (&mut lease, &mut reach),
                    watch,
                    stop,
                )?;
            }
        }
    }
    Ok(())
}

/// A member that says nothing for long is thrown out.
fn wait_as_member(
    wait: Duration,
    (lease, reach): (&mut Lease, &mut Reach),
    watch: Watch<'_>,
    stop: &Stop,
) -> Result<(), MonitorError> {
    let until = watch.clock.uptime().0 + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    while !stop.is_stopped() && watch.clock.uptime().0 < until {
        lease.is_held(TURN)?;
        reach.look(lease, watch.clock, watch.health);
        status(watch, Role::Restoring, reach, None);
        watch.health.progress(watch.clock.uptime(), "wait to begin again");
    }
    Ok(())
}

const PIPELINES: &str = "it is the pipeline's: dce topics create";

fn missing(topic: &str, fix: &'static str) -> MonitorError {
    MonitorError::Missing { topic: topic.to_owned(), fix }
}

fn check_topics(settings: &MonitorSettings) -> Result<(), MonitorError> {
    let inspector = Inspector::new(&settings.client)?;
    let topics = &settings.topics;
    for topic in [&topics.windows, &topics.alerts, &topics.references, &topics.customers] {
        match inspector.describe(topic, WAIT)? {
            Some(1) => {}
            Some(partitions) => return Err(MonitorError::Partitions { topic: topic.clone(), partitions }),
            None => return Err(missing(topic, "start with --create-topics, or dce topics create")),
        }
    }
    if inspector.describe(&settings.embeddings, WAIT)?.is_none() {
        return Err(missing(&settings.embeddings, PIPELINES));
    }
    Ok(())
}

/// One session as the active one.
fn active(
    settings: &MonitorSettings,
    watch: Watch<'_>,
    (lease, reach): (&mut Lease, &mut Reach),
    stop: &Stop,
) -> Result<Ended, MonitorError> {
    watch.health.not_ready("reading the monitor's own past");
    status(watch, Role::Restoring, reach, None);
    // First: it ends what a predecessor left open, and whoever still believes to be active cannot write any more.
    let mut bulk = Bulk::new(&settings.client, &settings.group, &settings.topics.windows)?;
    let lookup = Lookup::new(&settings.client, &settings.group)?;
    let now_ms = watch.clock.wall_ms();
    let partitions = lookup.partitions(&settings.embeddings, WAIT)?;
    let customers_max = settings.cut.customers_max / partitions.max(1);
    let mut engine = Engine::new(Cut { customers_max, ..settings.cut.clone() }, settings.rule.clone());
    let resume = past::restore(settings, &lookup, &mut engine, watch, now_ms, || {
        watch.health.progress(watch.clock.uptime(), "read the past");
        drop(lease.is_held(Duration::ZERO));
        !stop.is_stopped()
    })?;
    // Older windows are not whole any more: the table is compacted.
    let oldest = (now_ms - FIRST_MS).div_euclid(settings.cut.width_ms) * settings.cut.width_ms + settings.cut.width_ms;
    engine.collector.begin(resume.from_ms.unwrap_or(oldest).max(oldest));
    if stop.is_stopped() {
        return Ok(Ended::Stopped);
    }
    let _webhook = tell::webhook(settings, &lookup, lease, watch.metrics)?;
    let mut references = Source::from(settings, &settings.topics.references, resume.references_end)?;
    let mut session = Session::open(settings, watch, engine, &lookup, resume)?;
    session.tell();
    loop {
        if stop.is_stopped() {
            return Ok(Ended::Stopped);
        }
        if !lease.is_held(Duration::ZERO)? {
            return Ok(Ended::LeaseLost);
        }
        watch.health.progress(watch.clock.uptime(), "read");
        session.read(stop)?;
        references.pins(&mut session.engine)?;
        if reach.look(lease, watch.clock, watch.health) {
            for judged in session.close()? {
                publish(settings, &mut bulk, &judged)?;
                session.published(judged);
            }
        }
        session.status(reach);
    }
}

/// A reading engine, and what it tells.
struct Session<'a> {
    watch: Watch<'a>,
    engine: Engine,
    embeddings: Stream,
    rejected: Option<Stream>,
    resolver: Resolver,
    alertmanagers: Option<Alertmanagers>,
    /// The newest state of each segment's alert.
    recent: BTreeMap<Arc<str>, DriftAlert>,
    steady: Steady,
    refused: u64,
    said_ms: u64,
}

impl<'a> Session<'a> {
    fn open(
        settings: &MonitorSettings,
        watch: Watch<'a>,
        engine: Engine,
        lookup: &Lookup,
        resume: Resume,
    ) -> Result<Self, MonitorError> {
        let cut = &settings.cut;
        let first_ms = engine.collector.next_close_ms() - cut.lateness_ms - cut.width_ms;
        let since_ms = first_ms.saturating_sub(cut.future_ms.saturating_add(EARLY_MS));
        let stream = |topic: &str| -> Result<Stream, MonitorError> {
            let partitions = lookup.partitions(topic, WAIT)?;
            let partitions: Vec<i32> = (0..i32::try_from(partitions).unwrap_or(i32::MAX)).collect();
            Stream::open(settings, lookup, topic, &partitions, since_ms)
        };
        let (now_ms, uptime) = (watch.clock.wall_ms(), watch.clock.uptime().0);
        let begun = |end_ms: i64| Steady::begun(end_ms + cut.lateness_ms, cut.width_ms, uptime);
        let rejected = settings.rejected.as_deref().map(stream).transpose()?;
        let receivers = &settings.receivers;
        let alertmanagers = (!receivers.alertmanagers.is_empty())
            .then(|| {
                let told = tell::attempts(watch.metrics, Receiver::Alertmanager);
                Alertmanagers::start(receivers, watch.clock, told).map_err(MonitorError::Thread)
            })
            .transpose()?;
        Ok(Self {
            embeddings: stream(&settings.embeddings)?,
            rejected,
            resolver: Resolver::new(settings.registry.as_ref())?,
            watch,
            engine,
            alertmanagers,
            recent: resume.alerts,
            steady: resume.from_ms.map_or_else(|| Steady::new(now_ms, uptime), begun),
            refused: 0,
            said_ms: 0,
        })
    }

    /// What comes within a turn.
    fn read(&mut self, stop: &Stop) -> Result<(), MonitorError> {
        let (engine, resolver, watch) = (&mut self.engine, &mut self.resolver, self.watch);
        let now_ms = watch.clock.wall_ms();
        self.embeddings.next(TURN, now_ms, |message, published_ms| {
            let Some(value) = message.value() else { return };
            let waited = resolver.prepare([value], stop, &mut |_| {
                watch.health.progress(watch.clock.uptime(), "wait for the schema registry");
                false
            });
            // Stopped: it is read again at the next start.
            if waited.is_ok() {
                engine.collector.record(value, published_ms, message.partition(), resolver.schemas());
            }
        })?;
        engine.collector.partial_before(self.embeddings.whole_from_ms());
        if let Some(rejected) = &mut self.rejected {
            rejected.next(Duration::ZERO, now_ms, |message, published_ms| {
                let reason = message.header(c"dce-reason").and_then(|reason| std::str::from_utf8(reason).ok());
                engine.collector.reject(reason.unwrap_or("unknown"), published_ms);
            })?;
        }
        Ok(())
    }

    /// The windows that are over, once all that was published before is read.
    fn close(&mut self) -> Result<Vec<Judged>, MonitorError> {
        let due_ms = self.engine.collector.next_close_ms();
        let (now_ms, uptime) = (self.watch.clock.wall_ms(), self.watch.clock.uptime().0);
        let believed_ms = self.steady.believed_ms(now_ms, uptime, self.embeddings.newest_ms());
        if believed_ms.min(now_ms - GUARD_MS) < due_ms {
            self.watch.health.ready();
            return Ok(Vec::new());
        }
        // What is asked at a time that is not believed says nothing of that time.
        let now_ms = now_ms.min(believed_ms);
        let mut until_ms = self.embeddings.read_until(due_ms + GUARD_MS, now_ms)?;
        if let Some(rejected) = &mut self.rejected {
            until_ms = until_ms.min(rejected.read_until(due_ms + GUARD_MS, now_ms)?);
        }
        // Clocks of those who publish may be behind ours.
        Ok(self.engine.close(until_ms.saturating_sub(GUARD_MS).min(believed_ms)))
    }

    /// It is in the topics: now others may see it.
    fn published(&mut self, judged: Judged) {
        let board = self.watch.board;
        let references = self.engine.shown_references(&judged.windows);
        for alert in &judged.alerts {
            tracing::warn!(alert = %alert.id, state = ?alert.state, summary = alert.summary, "drift alert");
            board.alert(alert.clone());
            self.watch.metrics.drift_alert(alert);
            self.recent.insert(Arc::clone(&alert.segment), alert.clone());
        }
        self.watch.metrics.drift_windows(&judged.windows);
        board.windows(judged.windows);
        board.references(references);
        if !judged.alerts.is_empty() {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let Some(alertmanagers) = &self.alertmanagers else { return };
        let ended = self.recent.values().filter(|alert| alert.resolved_at.is_some());
        alertmanagers.set(self.engine.firing().chain(ended).cloned().collect());
    }

    fn status(&mut self, reach: &Reach) {
        const EVERY_MS: u64 = 1_000;
        let now = self.watch.clock.uptime().0;
        if now.saturating_sub(self.said_ms) >= EVERY_MS {
            self.said_ms = now;
            let refused = self.engine.collector.refused();
            if refused > self.refused {
                tracing::warn!(records = refused - self.refused, "records of a time far ahead are left out");
                self.refused = refused;
            }
            let check = self.engine.collector.check();
            self.watch.metrics.drift_checked(check.checked, check.mismatched);
            status(self.watch, Role::Active, reach, Some(&self.embeddings));
        }
    }
}

/// One window of all segments, with what it changed: there whole, or not at all.
fn publish(settings: &MonitorSettings, bulk: &mut Bulk, judged: &Judged) -> Result<(), MonitorError> {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let topics = &settings.topics;
    let mut add = |topic: &str, key: &str, value: Vec<u8>, headers: &[(&str, &str)]| {
        bulk.add(&Piece { topic, partition: 0, key: key.as_bytes(), value: Some(&value), headers })
    };
    for window in &judged.windows {
        add(&topics.windows, &window.segment, encode(window), &[JSON])?;
    }
    for alert in &judged.alerts {
        let event = cloud_event(alert, &settings.receivers.monitor);
        let names = event.each_ref().map(|(name, _)| format!("ce_{name}"));
        let mut headers = vec![JSON];
        headers.extend(names.iter().zip(&event).map(|(name, (_, value))| (name.as_str(), value.as_str())));
        add(&topics.alerts, &alert.segment, encode(alert), &headers)?;
    }
    for customer in &judged.customers {
        add(&topics.customers, &customer.customer_id, encode(customer), &[JSON])?;
    }
    Ok(bulk.commit()?)
}

fn status(watch: Watch<'_>, role: Role, reach: &Reach, read: Option<&Stream>) {
    let (newest_record_ms, lag) = (read.and_then(Stream::newest_ms), read.and_then(Stream::lag));
    let (away_ms, at_ms) = (reach.away_ms(), watch.clock.wall_ms());
    watch.board.status(Status { role, newest_record_ms, lag, away_ms, at_ms });
    watch.metrics.drift_status(role == Role::Active, newest_record_ms, lag);
}
