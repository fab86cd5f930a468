//! The metrics, counted per epoch and given in Prometheus's text format. A worker hands over [`EpochStats`] after each
//! commit; what must go on rising while nothing commits is computed when it is asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::names::{self, Kind, METRICS, Metric};
use crate::types::{CloseReason, EventTime, RejectReason, ResumeAt};
use crate::wire::drift::{DriftAlert, DriftWindow};
use crate::wire::embedding::{CustomerEmbedding, EmbeddingKind};

pub mod monitor;
#[cfg(test)]
mod monitor_tests;
#[cfg(test)]
mod tests;

/// Bounds of the histograms of seconds: close together where the budgets of latency lie.
const SECONDS: [f64; 19] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
const RECORDS: [f64; 13] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6];

/// Samples that wait for their buckets at the most.
const SAMPLES_MAX: usize = 100_000;
/// Its records and its five phases.
const SAMPLES_OF_AN_EPOCH: usize = 6;

/// What one committed epoch did.
#[derive(Debug, Clone, Default)]
pub struct EpochStats {
    /// All of them, rejected ones and duplicates included.
    pub records: u64,
    pub duplicates: u64,
    pub erasures: u64,
    /// By `RejectReason as usize`; that of duplicates stays 0.
    pub rejects: [u64; RejectReason::ALL.len()],
    /// By `CloseReason as usize`.
    pub closed: [u64; CloseReason::ALL.len()],
    /// By `EmbeddingKind as usize`.
    pub embeddings: [u64; EMBEDDING_KINDS.len()],
    /// Timestamps of the records that caused the embeddings, in milliseconds; of those that have one.
    pub cause_timestamps_ms: Vec<i64>,
    pub phases: PhaseTimes,
    /// The partitions that had records in it.
    pub partitions: Vec<PartitionStats>,
}

const EMBEDDING_KINDS: [EmbeddingKind; 3] =
    [EmbeddingKind::Provisional, EmbeddingKind::SessionClosed, EmbeddingKind::SessionRevised];

/// How long each part of an epoch took.
#[derive(Debug, Clone, Copy, Default)]
pub struct PhaseTimes {
    /// For records.
    pub wait: Duration,
    /// Decoding included.
    pub sessionize: Duration,
    pub encode: Duration,
    /// Reading the embeddings and heads included.
    pub fold: Duration,
    pub commit: Duration,
}

/// How a partition stands after an epoch.
#[derive(Debug, Clone, Copy)]
pub struct PartitionStats {
    pub partition: i32,
    pub resume: ResumeAt,
    /// `None` before the first accepted event.
    pub stream_time: Option<EventTime>,
    pub open_sessions: u64,
    pub customers: u64,
}

impl EpochStats {
    pub fn reject(&mut self, reason: RejectReason) {
        self.rejects[reason as usize] += 1;
    }

    /// Counts the record, and the session that closed or was revised with it.
    pub fn embedding(&mut self, record: &CustomerEmbedding, cause_timestamp_ms: Option<i64>) {
        self.embeddings[record.kind as usize] += 1;
        self.cause_timestamps_ms.extend(cause_timestamp_ms);
        if let (EmbeddingKind::SessionClosed, Some(reason)) = (record.kind, record.cause.close_reason) {
            self.closed[reason as usize] += 1;
        }
    }
}

/// Why an epoch was dropped, to be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortCause {
    /// Partitions were taken away.
    Rebalance,
    /// The broker refused the transaction.
    Broker,
    /// The producer was fenced, or is broken.
    Fatal,
    /// Nobody can say whether it was committed.
    UnknownOutcome,
    /// The local store is damaged.
    Store,
}

impl AbortCause {
    pub const ALL: [Self; 5] = [Self::Rebalance, Self::Broker, Self::Fatal, Self::UnknownOutcome, Self::Store];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rebalance => "rebalance",
            Self::Broker => "broker",
            Self::Fatal => "fatal",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Store => "local_store",
        }
    }
}

/// How a request to the schema registry went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryAnswer {
    Found,
    /// The registry itself says that there is none.
    Unknown,
    /// It cannot be read by, or was not taken.
    Unusable,
    /// The login.
    Refused,
    Away,
}

impl RegistryAnswer {
    pub const ALL: [Self; 5] = [Self::Found, Self::Unknown, Self::Unusable, Self::Refused, Self::Away];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Unknown => "unknown",
            Self::Unusable => "unusable",
            Self::Refused => "refused",
            Self::Away => "away",
        }
    }
}

/// All metrics of one process, as one of its workers counts them, and as the endpoint shows them.
pub struct Metrics {
    /// Counted from 0.
    worker: usize,
    series: Arc<Series>,
}

/// What the workers share.
struct Series {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    records: Counter,
    duplicates: Counter,
    erasures: Counter,
    ticks_sent: Counter,
    rejects: [Counter; RejectReason::ALL.len()],
    closed: [Counter; CloseReason::ALL.len()],
    revised: Counter,
    embeddings: [Counter; EMBEDDING_KINDS.len()],
    epochs: Counter,
    aborted: [Counter; AbortCause::ALL.len()],
    epoch_records: Histogram,
    wait: Histogram,
    sessionize: Histogram,
    encode: Histogram,
    fold: Histogram,
    commit: Histogram,
    record_to_commit: Histogram,
    partitions_restoring: Gauge,
    restore_remaining: Gauge,
    at_rest: Gauge,
    at_rest_bytes: Gauge,
    store_bytes: Gauge,
    store_reads: Counter,
    registry_answers: [Counter; RegistryAnswer::ALL.len()],
    registry_waiting: Gauge,
    /// How many were recorded since they were last folded into buckets, about.
    samples: AtomicUsize,
    /// What each worker said last of what is shown as a sum.
    workers: Mutex<BTreeMap<usize, OfWorker>>,
    /// Of what is assigned now: a partition that another process has must not be shown here.
    partitions: Mutex<BTreeMap<i32, Partition>>,
    /// In a monitor's process; then there is no worker, and its series are not shown.
    monitor: Option<Mutex<monitor::Series>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct OfWorker {
    partitions_restoring: usize,
    restore_remaining: u64,
    at_rest: u64,
    at_rest_bytes: usize,
    waits_for_registry: bool,
}

#[derive(Debug)]
struct Partition {
    /// Whose it is. One that was thrown out of the group may hear of it after the next one has the partition.
    worker: usize,
    /// By the wall clock.
    committed_ms: i64,
    consumer_lag: Option<u64>,
    /// Records of the outputs, and for how long the same transaction was seen to be open.
    undecided: Option<(u64, Duration)>,
    last: Option<PartitionStats>,
}

impl Metrics {
    /// Of the first worker. Every series that is not a partition's is there from the start, at 0, so that its first increase
    /// is seen.
    pub fn new() -> Self {
        Self { worker: 0, series: Arc::new(Series::new(None)) }
    }

    /// Of a monitor with windows of that width.
    pub fn of_monitor(window_ms: i64) -> Self {
        Self { worker: 0, series: Arc::new(Series::new(Some(seconds_between(0, window_ms)))) }
    }

    /// Windows that were just published.
    pub fn drift_windows(&self, windows: &[DriftWindow]) {
        self.monitor(|series| windows.iter().for_each(|window| series.window(window)));
    }

    /// A window that was published before this process began.
    pub fn drift_past(&self, window: &DriftWindow) {
        self.monitor(|series| series.standing(window));
    }

    /// An alert that was just opened, changed or resolved.
    pub fn drift_alert(&self, alert: &DriftAlert) {
        self.monitor(|series| series.alert(alert));
    }

    /// As an alert stood before this process began.
    pub fn drift_alert_past(&self, alert: &DriftAlert) {
        self.monitor(|series| series.alert_standing(alert));
    }

    /// What the monitor does; the newest record's time is that of its publishing.
    pub fn drift_status(&self, is_active: bool, newest_record_ms: Option<i64>, lag: Option<u64>) {
        self.monitor(|series| series.status(is_active, newest_record_ms, lag));
    }

    /// Distances computed again, in all since the start.
    pub fn drift_checked(&self, checked: u64, mismatched: u64) {
        self.monitor(|series| series.checked(checked.saturating_sub(mismatched), mismatched));
    }

    /// An attempt to tell somebody of alerts.
    pub fn drift_told(&self, receiver: monitor::Receiver, is_sent: bool) {
        self.monitor(|series| series.told(receiver, is_sent));
    }

    fn monitor(&self, change: impl FnOnce(&mut monitor::Series)) {
        if let Some(series) = &self.series.monitor {
            change(&mut series.lock().expect("nothing panics under this lock"));
        }
    }

    /// The same, for another worker of the process to count by.
    #[must_use]
    pub fn of_worker(&self, worker: usize) -> Self {
        Self { worker, series: Arc::clone(&self.series) }
    }

    /// Where the model runs, once it is known.
    pub fn inference_device(&self, device: &str) {
        let key = Key::from_parts(names::INFERENCE_DEVICE_INFO, vec![Label::new("device", device.to_owned())]);
        self.series.recorder.register_gauge(&key, &METADATA).set(1.0);
    }

    /// The worker has the partition from now (wall clock) on; its state may already be known.
    pub fn assigned(&self, partition: i32, now_ms: i64) {
        let worker = self.worker;
        let it = Partition { worker, committed_ms: now_ms, consumer_lag: None, undecided: None, last: None };
        self.series.partitions().insert(partition, it);
    }

    /// To all workers of the process.
    pub fn assigned_partitions(&self) -> Vec<i32> {
        self.series.partitions().keys().copied().collect()
    }

    /// Its series vanish: they are another worker's to show.
    pub fn revoked(&self, partition: i32) {
        self.series.partitions().retain(|number, it| *number != partition || it.worker != self.worker);
    }

    /// How a partition stands that was restored, or moved without a commit of its own.
    pub fn restored(&self, stats: PartitionStats) {
        if let Some(partition) = self.mine(&mut self.series.partitions(), stats.partition) {
            partition.last = Some(stats);
        }
    }

    /// Partitions whose state is being read, and the offsets that are left to read.
    pub fn restoring(&self, partitions: usize, remaining: u64) {
        self.say(|it| (it.partitions_restoring, it.restore_remaining) = (partitions, remaining));
    }

    /// Customers at rest, and the bytes that they take of memory.
    pub fn at_rest(&self, customers: u64, bytes: usize) {
        self.say(|it| (it.at_rest, it.at_rest_bytes) = (customers, bytes));
    }

    /// Bytes of the files of the process's local store, and customers that this worker looked for in it since the last call.
    pub fn local_store(&self, bytes: Option<u64>, reads: u64) {
        if let Some(bytes) = bytes {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            self.series.store_bytes.set(bytes as f64);
        }
        self.series.store_reads.increment(reads);
    }

    /// Into a silent partition.
    pub fn tick_sent(&self) {
        self.series.ticks_sent.increment(1);
    }

    /// Once an epoch, when its transaction is committed at `now_ms` (wall clock).
    pub fn epoch_committed(&self, stats: &EpochStats, now_ms: i64) {
        let series = &*self.series;
        series.epochs.increment(1);
        series.records.increment(stats.records);
        series.duplicates.increment(stats.duplicates);
        series.erasures.increment(stats.erasures);
        let counted = (series.rejects.iter().zip(&stats.rejects))
            .chain(series.closed.iter().zip(&stats.closed))
            .chain(series.embeddings.iter().zip(&stats.embeddings));
        for (counter, count) in counted {
            counter.increment(*count);
        }
        series.revised.increment(stats.embeddings[EmbeddingKind::SessionRevised as usize]);
        #[expect(clippy::cast_precision_loss, reason = "an epoch is far below 2^53 records")]
        series.epoch_records.record(stats.records as f64);
        series.wait.record(stats.phases.wait);
        series.sessionize.record(stats.phases.sessionize);
        series.encode.record(stats.phases.encode);
        series.fold.record(stats.phases.fold);
        series.commit.record(stats.phases.commit);
        for timestamp_ms in &stats.cause_timestamps_ms {
            series.record_to_commit.record(seconds_between(*timestamp_ms, now_ms).max(0.0));
        }
        series.bound_samples(stats);
        let mut partitions = series.partitions();
        for stats in &stats.partitions {
            // One that was revoked meanwhile is gone; its commit was lawful all the same.
            if let Some(partition) = self.mine(&mut partitions, stats.partition) {
                partition.committed_ms = now_ms;
                partition.last = Some(*stats);
            }
        }
    }

    pub fn epoch_aborted(&self, cause: AbortCause) {
        self.series.aborted[cause as usize].increment(1);
    }

    pub fn registry_answered(&self, answer: RegistryAnswer) {
        self.series.registry_answers[answer as usize].increment(1);
    }

    pub fn registry_waiting(&self, waits: bool) {
        self.say(|it| it.waits_for_registry = waits);
    }

    /// As the client last saw it.
    pub fn consumer_lag(&self, partition: i32, records: u64) {
        if let Some(partition) = self.mine(&mut self.series.partitions(), partition) {
            partition.consumer_lag = Some(records);
        }
    }

    /// Of all outputs at that partition number: what is undecided, and for how long the same transaction has been open.
    pub fn undecided(&self, partition: i32, records: u64, held_up: Duration) {
        if let Some(partition) = self.series.partitions().get_mut(&partition) {
            partition.undecided = Some((records, held_up));
        }
    }

    /// All metrics in Prometheus's text format, as they are at `now_ms` (wall clock).
    pub fn render(&self, now_ms: i64) -> String {
        let mut text = self.series.handle.render();
        self.monitor(|series| series.render(&mut text));
        let partitions = self.series.partitions();
        for metric in METRICS.iter().filter(|metric| is_partitions(metric)) {
            let values = partitions
                .iter()
                .filter_map(|(number, partition)| Some((number, partition.value(metric.name, now_ms)?)));
            let mut values = values.peekable();
            if values.peek().is_some() {
                _ = write!(text, "# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, metric.help, metric.kind.as_str());
            }
            for (number, value) in values {
                _ = writeln!(text, "{}{{partition=\"{number}\"}} {value}", metric.name);
            }
        }
        text
    }

    fn mine<'p>(&self, partitions: &'p mut BTreeMap<i32, Partition>, partition: i32) -> Option<&'p mut Partition> {
        partitions.get_mut(&partition).filter(|it| it.worker == self.worker)
    }

    /// Changes what this worker says, and shows the sum of all.
    #[expect(clippy::cast_precision_loss, reason = "offsets, counts and bytes are far below 2^53")]
    fn say(&self, change: impl FnOnce(&mut OfWorker)) {
        let series = &*self.series;
        let mut workers = series.workers.lock().expect("nothing panics under this lock");
        change(workers.entry(self.worker).or_default());
        let sum = |of: fn(&OfWorker) -> f64| workers.values().map(of).sum::<f64>();
        series.partitions_restoring.set(sum(|it| it.partitions_restoring as f64));
        series.restore_remaining.set(sum(|it| it.restore_remaining as f64));
        series.at_rest.set(sum(|it| it.at_rest as f64));
        series.at_rest_bytes.set(sum(|it| it.at_rest_bytes as f64));
        series.registry_waiting.set(sum(|it| f64::from(u8::from(it.waits_for_registry))));
    }
}

impl Series {
    /// Of a worker, or of a monitor with windows of so many seconds.
    fn new(monitor_window_s: Option<f64>) -> Self {
        let recorder = recorder();
        let handle = recorder.handle();
        // What a monitor does not do is not shown as 0.
        let shows = |name: &str| monitor_window_s.is_none() || names::OF_BOTH.contains(&name);
        let counter = |name, label| match shows(name) {
            true => recorder.register_counter(&key(name, label), &METADATA),
            false => Counter::noop(),
        };
        let histogram = |name, label| match shows(name) {
            true => recorder.register_histogram(&key(name, label), &METADATA),
            false => Histogram::noop(),
        };
        let gauge = |name| match shows(name) {
            true => recorder.register_gauge(&key(name, None), &METADATA),
            false => Gauge::noop(),
        };
        let phase = |phase| histogram(names::EPOCH_PHASE_SECONDS, Some(("phase", phase)));
        let version = Some(("version", env!("CARGO_PKG_VERSION")));
        recorder.register_gauge(&key(names::BUILD_INFO, version), &METADATA).set(1.0);
        Self {
            handle,
            records: counter(names::RECORDS, None),
            duplicates: counter(names::DUPLICATES, None),
            erasures: counter(names::ERASURES, None),
            ticks_sent: counter(names::TICKS_SENT, None),
            rejects: RejectReason::ALL.map(|reason| {
                let goes_to_the_topic = reason != RejectReason::Duplicate;
                if goes_to_the_topic {
                    counter(names::REJECTS, Some(("reason", reason.as_str())))
                } else {
                    Counter::noop()
                }
            }),
            closed: CloseReason::ALL.map(|reason| counter(names::SESSIONS_CLOSED, Some(("reason", reason.as_str())))),
            revised: counter(names::SESSIONS_REVISED, None),
            embeddings: EMBEDDING_KINDS.map(|kind| counter(names::EMBEDDINGS, Some(("kind", kind.as_str())))),
            epochs: counter(names::EPOCHS, None),
            aborted: AbortCause::ALL.map(|cause| counter(names::EPOCHS_ABORTED, Some(("cause", cause.as_str())))),
            epoch_records: histogram(names::EPOCH_RECORDS, None),
            wait: phase("wait"),
            sessionize: phase("sessionize"),
            encode: phase("encode"),
            fold: phase("fold"),
            commit: phase("commit"),
            record_to_commit: histogram(names::RECORD_TO_COMMIT_SECONDS, None),
            partitions_restoring: gauge(names::PARTITIONS_RESTORING),
            restore_remaining: gauge(names::RESTORE_REMAINING_OFFSETS),
            at_rest: gauge(names::CUSTOMERS_AT_REST),
            at_rest_bytes: gauge(names::CUSTOMERS_AT_REST_BYTES),
            store_bytes: gauge(names::LOCAL_STORE_BYTES),
            store_reads: counter(names::LOCAL_STORE_READS, None),
            registry_answers: RegistryAnswer::ALL
                .map(|answer| counter(names::REGISTRY_ANSWERS, Some(("answer", answer.as_str())))),
            registry_waiting: gauge(names::REGISTRY_WAITING),
            samples: AtomicUsize::new(0),
            workers: Mutex::new(BTreeMap::new()),
            partitions: Mutex::new(BTreeMap::new()),
            monitor: monitor_window_s.map(|seconds| Mutex::new(monitor::Series::new(seconds))),
            recorder,
        }
    }

    /// Folds the samples into the histograms' buckets where nobody scrapes, before they pile up.
    fn bound_samples(&self, stats: &EpochStats) {
        let new = stats.cause_timestamps_ms.len() + SAMPLES_OF_AN_EPOCH;
        if self.samples.fetch_add(new, Ordering::Relaxed) + new >= SAMPLES_MAX {
            self.samples.store(0, Ordering::Relaxed);
            self.handle.run_upkeep();
        }
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<i32, Partition>> {
        self.partitions.lock().expect("nothing panics under this lock")
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Partition {
    /// The value of one of the partitions' metrics; `None` where it is not known yet.
    #[expect(clippy::cast_precision_loss, reason = "offsets and counts are far below 2^53")]
    fn value(&self, name: &str, now_ms: i64) -> Option<f64> {
        match name {
            names::PARTITION_LAST_COMMIT_AGE_SECONDS => Some(seconds_between(self.committed_ms, now_ms).max(0.0)),
            names::PARTITION_CONSUMER_LAG_RECORDS => self.consumer_lag.map(|records| records as f64),
            names::PARTITION_UNDECIDED_RECORDS => self.undecided.map(|(records, _)| records as f64),
            names::PARTITION_UNDECIDED_SECONDS => self.undecided.map(|(_, held_up)| held_up.as_secs_f64()),
            names::PARTITION_EVENT_TIME_LAG_SECONDS => Some(seconds_between(self.last?.stream_time?.ms(), now_ms)),
            names::PARTITION_COMMITTED_OFFSET => Some(self.last?.resume.0 as f64),
            names::PARTITION_OPEN_SESSIONS => Some(self.last?.open_sessions as f64),
            names::PARTITION_CUSTOMERS => Some(self.last?.customers as f64),
            _ => None,
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("dce", Level::INFO, None);

fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
        let bounds: &[f64] = if metric.name.ends_with("_seconds") { &SECONDS } else { &RECORDS };
        let matcher = Matcher::Full(metric.name.to_owned());
        builder = builder.set_buckets_for_metric(matcher, bounds).expect("there are bounds");
    }
    let recorder = builder.build_recorder();
    for metric in METRICS.iter().filter(|metric| !is_partitions(metric)) {
        let name = KeyName::from_const_str(metric.name);
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, metric.help.into()),
            Kind::Gauge => recorder.describe_gauge(name, None, metric.help.into()),
            Kind::Histogram => recorder.describe_histogram(name, None, metric.help.into()),
        }
    }
    recorder
}

fn key(name: &'static str, label: Option<(&'static str, &'static str)>) -> Key {
    match label {
        Some((label, value)) => Key::from_parts(name, vec![Label::from_static_parts(label, value)]),
        None => Key::from_static_name(name),
    }
}

fn is_partitions(metric: &Metric) -> bool {
    metric.labels.iter().any(|(label, _)| *label == "partition")
}

#[expect(clippy::cast_precision_loss, reason = "a hundred thousand years in milliseconds are below 2^53")]
fn seconds_between(from_ms: i64, to_ms: i64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / 1000.0
}
