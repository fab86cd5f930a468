//! The bank to the settings' clickstream topic, open loop: each record has a due time, and one that is sent late keeps it
//! in a header, so that whoever measures from there counts the waiting too. The producer is idempotent: each record is
//! stored once and in order, or the command fails and says why.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use super::feed::{Feed, label_json};
use super::{Args, Draft, live_params, params};
use crate::cli::{Frame, stop_on_signals};
use crate::generate::{Label, partition_of};
use crate::kafka::client::ClientSettings;
use crate::kafka::topics::{self, Inspector};
use crate::stop::Stop;
use crate::telemetry::Clock;

/// Milliseconds since the epoch, as decimal text.
const DUE_HEADER: &str = "dce-due-ms";
/// How long the broker may take to answer at the start.
const BROKER_WAIT: Duration = Duration::from_secs(15);
/// How long after a signal the last records may take to be stored.
const FLUSH_AFTER_STOP: Duration = Duration::from_secs(10);
/// Between two looks at the labels and the view, in records.
const LOOK_EVERY: u64 = 256;
const LOG_EVERY_MS: i64 = 10_000;

type Sender = ThreadedProducer<Deliveries>;

pub(super) fn run(args: &Args, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    frame.start_logs(&config)?;
    let settings = ClientSettings::from(&config.kafka);
    let topic = &config.topics.clickstream;
    let inspector = Inspector::new(&settings)?;
    let clicks = Topic::find(&inspector, topic, &settings, "dce topics create, or dce run --create-topics")?;
    let labels_topic = args.labels_topic.as_deref().map(|name| {
        let make = format!(
            "kafka-topics.sh --bootstrap-server {} --create --topic {name} --partitions {}",
            settings.bootstrap, clicks.partitions
        );
        Topic::find(&inspector, name, &settings, &make)
    });
    let labels_topic = labels_topic.transpose()?;
    drop(inspector);
    if !args.live
        && let Some(kept) = topics::check_kept(&settings, topic, BROKER_WAIT)?
    {
        tracing::warn!(
            topic,
            retention = kept.text,
            "records have the times of the bank: what is older than the topic keeps goes soon"
        );
    }
    let mut labels = args.labels.clone().map(Draft::create).transpose()?;
    if let Some(draft) = &mut labels {
        draft.head()?;
    }
    let stop = stop_on_signals()?;
    let wall = Wall::start();
    let sender = Sender::from_config_and_context(&settings.plain_producer(), Deliveries::new(wall))
        .context("the Kafka client cannot be made")?;
    // Connected before the first record is due: neither that nor the making of the bank is a lateness of the broker's.
    sender.client().fetch_metadata(Some(topic), BROKER_WAIT).with_context(|| format!("topic {topic}"))?;
    let feed = match args.rate.filter(|_| args.live) {
        Some(rate) => Feed::live(live_params(args, rate, wall.now_ms()), args.events, args.format),
        None => Feed::bank(params(args)?, args.format),
    };
    let began_ms = wall.now_ms();
    let feed = feed.paced(began_ms, args.rate);
    tracing::info!(topic, partitions = clicks.partitions, rate = args.rate, "records begin");
    let mut run = Run {
        clicks,
        labels_topic,
        labels,
        sender,
        wall,
        stop,
        bar: bar(args.events, frame.json),
        began_ms,
        sent_ms: began_ms,
        logged_ms: began_ms,
        said: Said::default(),
    };
    run.send_all(feed)?;
    run.finish(args, frame)
}

/// The wall clock at the start, and steady from there on.
#[derive(Debug, Clone, Copy)]
struct Wall {
    clock: Clock,
    start_ms: i64,
}

impl Wall {
    fn start() -> Self {
        let clock = Clock::start();
        Self { clock, start_ms: clock.wall_ms() }
    }

    fn now_ms(&self) -> i64 {
        self.start_ms.saturating_add_unsigned(self.clock.uptime().0)
    }
}

/// A topic that is there.
struct Topic {
    name: String,
    partitions: u32,
}

impl Topic {
    fn find(inspector: &Inspector, name: &str, settings: &ClientSettings, make: &str) -> anyhow::Result<Self> {
        let partitions = inspector
            .describe(name, BROKER_WAIT)?
            .with_context(|| format!("topic {name} does not exist on {}: make it with {make}", settings.bootstrap))?;
        Ok(Self { name: name.to_owned(), partitions: u32::try_from(partitions).context("too many partitions")? })
    }

    /// As Java's default partitioner chooses it, said by us: clients of several kinds must agree.
    fn partition(&self, key: &[u8]) -> i32 {
        i32::try_from(partition_of(key, self.partitions)).unwrap_or(0)
    }
}

/// What went out so far.
#[derive(Debug, Default)]
struct Said {
    records: u64,
    labels: u64,
    sessions: u64,
    sessions_stolen: u64,
    /// How far behind its due time a record was handed to the client, at the most.
    late_max_ms: Option<i64>,
    stopped: bool,
}

struct Run {
    clicks: Topic,
    labels_topic: Option<Topic>,
    labels: Option<Draft>,
    sender: Sender,
    wall: Wall,
    stop: Stop,
    bar: ProgressBar,
    began_ms: i64,
    /// When the last record was handed to the client.
    sent_ms: i64,
    logged_ms: i64,
    said: Said,
}

impl Run {
    fn send_all(&mut self, mut feed: Feed) -> anyhow::Result<()> {
        let mut value = Vec::with_capacity(512);
        while !self.stop.is_stopped() && !self.sender.context().has_failed() {
            let Some(next) = feed.next(&mut value)? else { break };
            if let Some(due_ms) = next.due_ms {
                let early_ms = u64::try_from(due_ms - self.wall.now_ms()).unwrap_or(0);
                // Whoever waits has time to look.
                if early_ms > 20 {
                    self.look(&mut feed)?;
                }
                if early_ms > 0 && self.stop.wait(Duration::from_millis(early_ms)) {
                    break;
                }
                let late_ms = (self.wall.now_ms() - due_ms).max(0);
                self.said.late_max_ms = self.said.late_max_ms.max(Some(late_ms));
            }
            let mut record: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(&self.clicks.name, self.sender.context().mark(next.due_ms));
            record.partition = Some(self.clicks.partition(next.key.as_deref().unwrap_or_default()));
            record.key = next.key.as_deref();
            record.payload = Some(&value);
            record.timestamp = Some(next.timestamp_ms);
            record.headers = next.due_ms.map(|due_ms| {
                let text = due_ms.to_string();
                OwnedHeaders::new_with_capacity(1).insert(Header { key: DUE_HEADER, value: Some(&text) })
            });
            if !self.hand_over(record)? {
                break;
            }
            self.said.records += 1;
            if self.said.records.is_multiple_of(LOOK_EVERY) {
                self.look(&mut feed)?;
            }
        }
        self.sent_ms = self.wall.now_ms();
        self.look(&mut feed)
    }

    /// Waits for room. False: the stop was asked for, or a record before it failed.
    fn hand_over(&self, mut record: BaseRecord<'_, [u8], [u8], usize>) -> anyhow::Result<bool> {
        loop {
            let Err((error, unsent)) = self.sender.send(record) else { return Ok(true) };
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                bail!("the Kafka client takes no record: {error}");
            }
            if self.stop.wait(Duration::from_millis(1)) || self.sender.context().has_failed() {
                return Ok(false);
            }
            record = unsent;
        }
    }

    /// Labels go out, and the view moves.
    fn look(&mut self, feed: &mut Feed) -> anyhow::Result<()> {
        for label in feed.take_labels() {
            self.said.sessions_stolen += u64::from(label.is_stolen());
            if let Some(draft) = &mut self.labels {
                draft.row(&label)?;
            }
            self.send_label(&label)?;
        }
        self.said.sessions = feed.sessions();
        self.bar.set_position(self.said.records);
        let now_ms = self.wall.now_ms();
        if self.bar.is_hidden() && now_ms - self.logged_ms >= LOG_EVERY_MS {
            self.logged_ms = now_ms;
            let (stored, late_max_ms) = (self.sender.context().stored(), self.said.late_max_ms);
            tracing::info!(records = self.said.records, stored, late_max_ms, "records go out");
        }
        Ok(())
    }

    fn send_label(&mut self, label: &Label) -> anyhow::Result<()> {
        let Some(topic) = &self.labels_topic else { return Ok(()) };
        let (key, value) = (label.customer_id.as_bytes(), label_json(label));
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(&topic.name, Deliveries::LABEL);
        record.partition = Some(topic.partition(key));
        record.key = Some(key);
        record.payload = Some(value.as_bytes());
        record.timestamp = Some(label.event_time);
        if self.hand_over(record)? {
            self.said.labels += 1;
        }
        Ok(())
    }

    /// Waits until all is stored, and says what was done.
    fn finish(mut self, args: &Args, frame: &Frame) -> anyhow::Result<()> {
        self.said.stopped = self.stop.is_stopped();
        let mut left_ms = i64::try_from(FLUSH_AFTER_STOP.as_millis()).unwrap_or(i64::MAX);
        while self.sender.in_flight_count() > 0 && left_ms > 0 {
            let before = self.wall.now_ms();
            // An error is its time that is over.
            _ = self.sender.flush(Duration::from_millis(200));
            if self.stop.is_stopped() || self.sender.context().has_failed() {
                left_ms -= self.wall.now_ms() - before;
            }
        }
        self.bar.finish_and_clear();
        let deliveries = self.sender.context();
        let (stored, failed) = (deliveries.stored(), deliveries.failed.load(Ordering::Relaxed));
        let all = self.said.records + self.said.labels;
        if let Some(failure) = deliveries.failure() {
            bail!("{failed} of {all} records were not stored, the first one: {failure}");
        }
        if stored < all {
            bail!("{} of {all} records were not acknowledged within {FLUSH_AFTER_STOP:?} of the stop", all - stored);
        }
        if let Some(draft) = self.labels.take() {
            draft.publish()?;
        }
        self.print(args, frame)
    }

    fn print(&self, args: &Args, frame: &Frame) -> anyhow::Result<()> {
        let Self { said, clicks, .. } = self;
        // At a rate the sending counts; without one, what the broker took.
        let end_ms = if args.rate.is_some() { self.sent_ms } else { self.wall.now_ms() };
        let milliseconds = (end_ms - self.began_ms).max(1);
        #[expect(clippy::cast_precision_loss, reason = "records and milliseconds lie below 2^53")]
        let (seconds, rate) = (milliseconds as f64 / 1e3, said.records as f64 * 1e3 / milliseconds as f64);
        let stored_late_max_ms = said.late_max_ms.map(|_| self.sender.context().late_max_ms.load(Ordering::Relaxed));
        if frame.json {
            return Ok(frame.output.line(serde_json::json!({
                "what": "summary",
                "topic": clicks.name,
                "partitions": clicks.partitions,
                "records": said.records,
                "labels": said.labels,
                "sessions": said.sessions,
                "sessions_stolen": said.sessions_stolen,
                "seconds": seconds,
                "rate": rate,
                "rate_wanted": args.rate,
                "late_max_ms": said.late_max_ms,
                "stored_late_max_ms": stored_late_max_ms,
                "stopped": said.stopped,
            }))?);
        }
        let mut text = format!(
            "{} records to {} ({} partitions) in {seconds:.1} s, {rate:.0} a second",
            said.records, clicks.name, clicks.partitions
        );
        if let (Some(late), Some(stored)) = (said.late_max_ms, stored_late_max_ms) {
            text += &format!("; after its due time the latest one was sent {late} ms, stored {stored} ms");
        }
        text += &format!("; {} sessions ({} of them a thief's)", said.sessions, said.sessions_stolen);
        if let Some(topic) = &self.labels_topic {
            text += &format!(", {} labels to {}", said.labels, topic.name);
        }
        if said.stopped {
            text += "; stopped by a signal";
        }
        Ok(frame.output.line(text)?)
    }
}

fn bar(events: Option<u64>, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match events {
        Some(events) => {
            (ProgressBar::new(events), "{bar:30} {human_pos} of {human_len} records, {per_sec}, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} records, {per_sec}, {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
    bar.set_style(ProgressStyle::with_template(template).expect("a template of this file is a template"));
    bar
}

/// What became of the records, written by the client's own thread.
struct Deliveries {
    wall: Wall,
    stored: AtomicU64,
    failed: AtomicU64,
    late_max_ms: AtomicI64,
    failure: Mutex<Option<String>>,
}

impl Deliveries {
    /// What a record carries through the client: nothing, or one more than the milliseconds from the start to its due time.
    const LABEL: usize = 0;

    fn new(wall: Wall) -> Self {
        Self {
            wall,
            stored: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            late_max_ms: AtomicI64::new(0),
            failure: Mutex::new(None),
        }
    }

    fn mark(&self, due_ms: Option<i64>) -> usize {
        due_ms.and_then(|due_ms| usize::try_from(due_ms - self.wall.start_ms + 1).ok()).unwrap_or(Self::LABEL)
    }

    fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) > 0
    }

    fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What it copes with by itself is of no interest here: what it does not is an error of a record.
        use RDKafkaLogLevel::{Alert, Critical, Emerg, Error};
        if matches!(level, Emerg | Alert | Critical | Error) {
            tracing::warn!(target: "rdkafka", facility, "{message}");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "rdkafka", %error, reason, "client error");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, mark: usize) {
        match result {
            Ok(_) => {
                if let Some(due) = mark.checked_sub(1).and_then(|due| i64::try_from(due).ok()) {
                    let late_ms = self.wall.now_ms() - self.wall.start_ms - due;
                    self.late_max_ms.fetch_max(late_ms, Ordering::Relaxed);
                }
                self.stored.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, message)) => {
                let way_out = match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::InvalidTimestamp | RDKafkaErrorCode::InvalidRecord) => {
                        ": its time may lie too far ahead of the broker's clock; let the bank begin earlier with --start"
                    }
                    Some(_) | None => "",
                };
                let failure = format!("{}/{}: {error}{way_out}", message.topic(), message.partition());
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
