//! `dce monitor` on a real Kafka: what it tells, whoever is killed and whatever is away, against an engine that nobody disturbs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dce::config::Encoding;
use dce::drift::collect::Cut;
use dce::drift::engine::{Engine, usual_rule};
use dce::drift::histogram::Histogram;
use dce::drift::window::{Segment, Window};
use dce::kafka::Deadline;
use dce::types::{CloseReason, CustomerId, EventTime, ModelId, OpenedBy, Position};
use dce::wire::avro::Schemas;
use dce::wire::drift::{DriftAlert, DriftWindow, decode, encode};
use dce::wire::embedding::{Cause, CustomerEmbedding, EmbeddingKind};
use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use crate::harness::{Bed, Click, Dce, WAIT};

mod receiver;
mod shift;
mod takeover;
pub(crate) mod live;
mod away;
mod dashboard;

pub(crate) const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEKS: i64 = 3;
/// Of a window.
const CUSTOMERS: u32 = 400;
const DAYS_ASKED: u64 = 30;

/// How the monitor of a test cuts, and how far apart its windows of the past are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    width_ms: i64,
    lateness_ms: i64,
    step_ms: i64,
}

impl Pace {
    /// Hours in a moment: all of it is over.
    const PAST: Self = Self { width_ms: 10 * MINUTE_MS, lateness_ms: 2 * MINUTE_MS, step_ms: 10 * MINUTE_MS };
    /// A window a minute.
    pub(crate) const LIVE: Self = Self { width_ms: MINUTE_MS, lateness_ms: 0, step_ms: 10 * MINUTE_MS };

    fn cut(self) -> Cut {
        Cut {
            width_ms: self.width_ms,
            lateness_ms: self.lateness_ms,
            future_ms: 5 * MINUTE_MS,
            segments_max: 100,
            customers_max: (4 << 20) / 2,
        }
    }

    /// When the last window began that is over by now.
    pub(crate) fn last_end(self, now_ms: i64) -> i64 {
        (now_ms - self.lateness_ms - MINUTE_MS).div_euclid(self.width_ms) * self.width_ms
    }
}

pub(crate) fn now_ms() -> i64 {
    dce::telemetry::Clock::start().wall_ms()
}

/// Between 0 and 2, most of them small; farther by `factor`.
fn distance(random: &mut Pcg64Mcg, factor: f64) -> f64 {
    let sum: f64 = (0..6).map(|_| random.random_range(-1.0..1.0_f64)).sum();
    (0.02 * sum.exp() * factor).min(2.0)
}

/// Weeks of quiet windows, as the monitor published them.
pub(crate) fn past(random: &mut Pcg64Mcg, pace: Pace, until: i64) -> Vec<DriftWindow> {
    let mut engine = Engine::new(pace.cut(), usual_rule(DAYS_ASKED as f64));
    let mut records = Vec::new();
    let mut start = until - pace.width_ms - WEEKS * 7 * DAY_MS;
    while start + pace.step_ms <= until - pace.width_ms {
        start += pace.step_ms;
        let mut shifts = Histogram::default();
        for _ in 0..CUSTOMERS {
            shifts.record(distance(random, 1.0)).unwrap();
        }
        let count = |name: &str, number: u32| (Arc::from(name), u64::from(number));
        let counts = BTreeMap::from([
            count("customers", CUSTOMERS),
            count("closed", CUSTOMERS),
            count("events", 10 * CUSTOMERS),
            count("unknown_events", CUSTOMERS / 20),
            count("dimension.2", CUSTOMERS),
        ]);
        let windows = ["all", "channel=web", "model=bank@1"].map(|segment| Window {
            segment: Segment(segment.into()),
            start_ms: start,
            end_ms: start + pace.width_ms,
            model: Some("bank@1".into()),
            shifts: shifts.clone(),
            counts: counts.clone(),
            is_partial: false,
        });
        records.extend(engine.judge(&windows, &[]).windows);
    }
    records
}

/// An embedding, when it is published, and in which partition.
type Published = (i64, i32, CustomerEmbedding);

/// Embeddings of whole windows; in `shifted` all move farther, and their clicks are strange.
pub(crate) fn day(random: &mut Pcg64Mcg, pace: Pace, span: Range<i64>, shifted: Range<i64>) -> Vec<Published> {
    let mut all = Vec::new();
    let mut start = span.start;
    while start + pace.width_ms <= span.end {
        for number in 0..CUSTOMERS {
            let closed_at = start + random.random_range(0..pace.width_ms);
            let published = closed_at + random.random_range(100..3_000).min(start + pace.width_ms - 1 - closed_at);
            all.push((published, partition(number), moved(random, number, closed_at, shifted.contains(&closed_at))));
        }
        start += pace.width_ms;
    }
    all.sort_by_key(|(published, _, _)| *published);
    all
}

fn partition(customer: u32) -> i32 {
    i32::try_from(customer % 2).unwrap()
}

fn moved(random: &mut Pcg64Mcg, number: u32, closed_at: i64, is_shifted: bool) -> CustomerEmbedding {
    let (factor, unknown) = if is_shifted { (1.6, 4) } else { (1.0, u32::from(number.is_multiple_of(20))) };
    embedding(number, closed_at, distance(random, factor), unknown)
}

fn embedding(number: u32, closed_at: i64, shift: f64, unknown: u32) -> CustomerEmbedding {
    let time = |ms: i64| EventTime::parse(ms).unwrap();
    CustomerEmbedding {
        customer_id: CustomerId::parse(&format!("c{number}")).unwrap(),
        sequence: u64::try_from(closed_at).unwrap(),
        kind: EmbeddingKind::SessionClosed,
        embedding: vec![0.6, 0.8],
        model: ModelId::parse("bank@1").unwrap(),
        cosine_shift: Some(shift),
        gate: 1.0,
        previous_as_of: Some(time(closed_at - HOUR_MS)),
        scores: BTreeMap::new(),
        cold_start: false,
        cause: Cause {
            session_uid: format!("{number}-{closed_at}").into(),
            revision: 0,
            session_id: None,
            device_id: None,
            channel: Some("web".into()),
            session_start: time(closed_at - MINUTE_MS),
            session_end: time(closed_at),
            closed_at: Some(time(closed_at)),
            opened_by: OpenedBy::Login,
            close_reason: Some(CloseReason::Logout),
            event_count: 10,
            unknown_count: unknown,
        },
        labels: BTreeMap::new(),
        as_of: time(closed_at),
        emitted_at: closed_at,
        source: Position { partition: 0, offset: 0 },
    }
}

pub(crate) struct Names {
    pub(crate) embeddings: String,
    rejected: String,
    pub(crate) windows: String,
    pub(crate) alerts: String,
    references: String,
    customers: String,
    app: String,
    pace: Pace,
}

impl Names {
    pub(crate) fn make(bed: &Bed, pace: Pace) -> Self {
        Self::with(bed, pace, 2, &[])
    }

    /// With other settings of the alerts' topic, and of the embeddings' so many partitions.
    fn with(bed: &Bed, pace: Pace, partitions: usize, of_alerts: &[(&'static str, &str)]) -> Self {
        // For ever: their records are stamped in the past.
        let forever = [("retention.ms", "-1")];
        Self {
            embeddings: bed.topic_of("embeddings", partitions, &forever),
            rejected: bed.topic_of("rejected", 2, &forever),
            windows: bed.topic_of("windows", 1, &forever),
            alerts: bed.topic_of("alerts", 1, if of_alerts.is_empty() { &forever } else { of_alerts }),
            references: bed.topic_of("references", 1, &forever),
            customers: bed.topic_of("customers", 1, &forever),
            app: bed.name("monitored"),
            pace,
        }
    }

    fn settings(&self) -> Vec<String> {
        [
            format!("app.id={}", self.app),
            format!("topics.embeddings={}", self.embeddings),
            format!("topics.rejected={}", self.rejected),
            format!("topics.drift_windows={}", self.windows),
            format!("topics.drift_alerts={}", self.alerts),
            format!("topics.drift_references={}", self.references),
            format!("topics.drift_customers={}", self.customers),
            format!("monitor.window={}m", self.pace.width_ms / MINUTE_MS),
            format!("monitor.lateness={}m", self.pace.lateness_ms / MINUTE_MS),
            "monitor.listen=127.0.0.1:0".to_owned(),
        ]
        .into_iter()
        .flat_map(|setting| ["--set".to_owned(), setting])
        .collect()
    }

    pub(crate) fn dce(&self, bed: &Bed, arguments: &[&str], more: &[String]) -> Dce {
        let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        all.extend(self.settings());
        all.extend(more.iter().cloned());
        bed.dce(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Windows of the past, and embeddings.
    pub(crate) fn produce(&self, bed: &Bed, past: &[DriftWindow], embeddings: &[Published]) {
        let value = |bytes: Vec<u8>| Some(String::from_utf8(bytes).unwrap());
        let windows = past.iter().map(|window| Click {
            value: value(encode(window)),
            timestamp_ms: Some(window.window_end + self.pace.lateness_ms),
            ..Click::new(0, &window.segment, "")
        });
        bed.produce(&self.windows, windows);
        let embeddings = embeddings.iter().map(|(published, partition, embedding)| Click {
            value: value(json(embedding)),
            timestamp_ms: Some(*published),
            ..Click::new(*partition, embedding.customer_id.as_str(), "")
        });
        bed.produce(&self.embeddings, embeddings);
    }

    /// A monitor that was away believes the records alone, until one is of now.
    fn produce_of_now(&self, bed: &Bed) {
        self.produce(bed, &[], &[(now_ms(), 0, embedding(0, now_ms(), 0.02, 0))]);
    }

    /// Ran to its end, and said.
    fn says(&self, bed: &Bed, arguments: &[&str]) -> String {
        let mut dce = self.dce(bed, arguments, &[]);
        let status = dce.wait();
        assert!(status.success(), "{arguments:?}: {}", dce.last_words());
        dce.said()
    }
}

fn json(embedding: &CustomerEmbedding) -> Vec<u8> {
    let mut bytes = Vec::new();
    embedding.encode_into(Encoding::Json, &mut bytes).unwrap();
    bytes
}

pub(crate) fn records<R: serde::de::DeserializeOwned>(bed: &Bed, topic: &str) -> Vec<R> {
    bed.read_bytes(topic).iter().map(|value| decode(value).expect("a record of the monitor")).collect()
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Deadline::after(WAIT * 3);
    while !is_so() {
        assert!(!deadline.passed(), "{what}: not in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The windows and the alerts that an engine gives which reads all of it, undisturbed.
fn undisturbed(pace: Pace, past: &[DriftWindow], day: &[Published], until: i64) -> (Vec<DriftWindow>, Vec<DriftAlert>) {
    let mut engine = Engine::new(pace.cut(), usual_rule(DAYS_ASKED as f64));
    for window in past {
        engine.remember(window).unwrap();
    }
    engine.collector.begin(past.last().unwrap().window_end);
    let schemas = Schemas::released();
    for (published, partition, embedding) in day {
        engine.collector.record(&json(embedding), *published, *partition, &schemas);
    }
    let judged = engine.close(until);
    let alerts = judged.iter().flat_map(|judged| judged.alerts.clone()).collect();
    (judged.into_iter().flat_map(|judged| judged.windows).collect(), alerts)
}
