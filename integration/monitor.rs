//! `dce monitor` on a real Kafka: a shift in the last hours of weeks that were quiet is told once, to everybody, whichever of two
//! monitors is killed; and its windows are, record by record, those of an engine that nobody disturbs.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dce::config::Encoding;
use dce::drift::collect::Cut;
use dce::drift::engine::{Engine, usual_rule};
use dce::drift::histogram::Histogram;
use dce::drift::window::{Segment, Window};
use dce::kafka::Deadline;
use dce::types::{CloseReason, CustomerId, EventTime, ModelId, OpenedBy, Position};
use dce::wire::avro::Schemas;
use dce::wire::drift::{AlertState, DriftAlert, DriftWindow, decode, encode};
use dce::wire::embedding::{Cause, CustomerEmbedding, EmbeddingKind};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::harness::{Bed, Click, Dce, WAIT};
use crate::pipeline::get;

const MINUTE_MS: i64 = 60_000;
const WIDTH_MS: i64 = 10 * MINUTE_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEKS: i64 = 3;
const CUSTOMERS: u32 = 400;
const DAYS_ASKED: u64 = 30;

fn cut() -> Cut {
    Cut {
        width_ms: WIDTH_MS,
        lateness_ms: 2 * MINUTE_MS,
        future_ms: 5 * MINUTE_MS,
        segments_max: 100,
        customers_max: (4 << 20) / 2,
    }
}

fn now_ms() -> i64 {
    dce::telemetry::Clock::start().wall_ms()
}

/// Between 0 and 2, most of them small; farther by `factor`.
fn distance(random: &mut Pcg64Mcg, factor: f64) -> f64 {
    let sum: f64 = (0..6).map(|_| random.random_range(-1.0..1.0_f64)).sum();
    (0.02 * sum.exp() * factor).min(2.0)
}

/// Weeks of quiet windows, as the monitor published them.
fn past(random: &mut Pcg64Mcg, until: i64) -> Vec<DriftWindow> {
    let mut engine = Engine::new(cut(), usual_rule(DAYS_ASKED as f64));
    let mut records = Vec::new();
    let mut start = until - WEEKS * 7 * DAY_MS;
    while start < until {
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
            end_ms: start + WIDTH_MS,
            model: Some("bank@1".into()),
            shifts: shifts.clone(),
            counts: counts.clone(),
            is_partial: false,
        });
        records.extend(engine.judge(&windows, &[]).windows);
        start += WIDTH_MS;
    }
    records
}

/// A day of embeddings, each with when it is published; from `shifted` on all move farther, and their clicks are strange.
fn day(random: &mut Pcg64Mcg, from: i64, to: i64, shifted: i64) -> Vec<(i64, i32, CustomerEmbedding)> {
    let mut all = Vec::new();
    let mut start = from;
    while start + WIDTH_MS <= to {
        for number in 0..CUSTOMERS {
            let closed_at = start + random.random_range(0..WIDTH_MS);
            let is_shifted = closed_at >= shifted;
            let factor = if is_shifted { 1.6 } else { 1.0 };
            let made = embedding(
                number,
                closed_at,
                distance(random, factor),
                if is_shifted { 4 } else { u32::from(number % 20 == 0) },
            );
            all.push((closed_at + random.random_range(100..3_000), i32::try_from(number % 2).unwrap(), made));
        }
        start += WIDTH_MS;
    }
    all.sort_by_key(|(published, _, _)| *published);
    all
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

/// A receiver of posts, which refuses the first few.
struct Receiver {
    url: String,
    bodies: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    fn refusing(first: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bodies);
        std::thread::spawn(move || {
            for (place, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { continue };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut request, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    request.push_str(&line);
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap_or_default();
                let is_refused = place < first;
                let answer = if is_refused { "503 Service Unavailable" } else { "200 OK" };
                drop(write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
                if !is_refused {
                    kept.lock().unwrap().push((request, String::from_utf8_lossy(&body).into_owned()));
                }
            }
        });
        Self { url, bodies }
    }

    fn got(&self) -> Vec<(String, String)> {
        self.bodies.lock().unwrap().clone()
    }
}

struct Names {
    embeddings: String,
    rejected: String,
    windows: String,
    alerts: String,
    references: String,
    customers: String,
    app: String,
}

impl Names {
    fn make(bed: &Bed) -> Self {
        // For ever: their records are stamped in the past.
        let forever = [("retention.ms", "-1")];
        Self {
            embeddings: bed.topic_of("embeddings", 2, &forever),
            rejected: bed.topic_of("rejected", 2, &forever),
            windows: bed.topic_of("windows", 1, &forever),
            alerts: bed.topic_of("alerts", 1, &forever),
            references: bed.topic_of("references", 1, &forever),
            customers: bed.topic_of("customers", 1, &forever),
            app: bed.name("monitored"),
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
            "monitor.window=10m".to_owned(),
            "monitor.listen=127.0.0.1:0".to_owned(),
        ]
        .into_iter()
        .flat_map(|setting| ["--set".to_owned(), setting])
        .collect()
    }

    fn dce(&self, bed: &Bed, arguments: &[&str], more: &[String]) -> Dce {
        let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        all.extend(self.settings());
        all.extend(more.iter().cloned());
        bed.dce(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Ran to its end, and said.
    fn says(&self, bed: &Bed, arguments: &[&str]) -> String {
        let mut dce = self.dce(bed, arguments, &[]);
        let status = dce.wait();
        assert!(status.success(), "{arguments:?}: {}", dce.last_words());
        dce.said()
    }
}

fn records<R: serde::de::DeserializeOwned>(bed: &Bed, topic: &str) -> Vec<R> {
    bed.read_bytes(topic).iter().map(|value| decode(value).expect("a record of the monitor")).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Deadline::after(WAIT * 2);
    while !is_so() {
        assert!(!deadline.passed(), "{what}: not in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The windows and the alerts that an engine gives which reads all of it, undisturbed.
fn undisturbed(
    past: &[DriftWindow],
    day: &[(i64, i32, CustomerEmbedding)],
    until: i64,
) -> (Vec<DriftWindow>, Vec<DriftAlert>) {
    let mut engine = Engine::new(cut(), usual_rule(DAYS_ASKED as f64));
    for window in past {
        engine.remember(window).unwrap();
    }
    engine.collector.begin(past.last().unwrap().window_end);
    let schemas = Schemas::released();
    for (published, partition, embedding) in day {
        let mut value = Vec::new();
        embedding.encode_into(Encoding::Json, &mut value).unwrap();
        engine.collector.record(&value, *published, *partition, &schemas);
    }
    let judged = engine.close(until);
    let alerts = judged.iter().flat_map(|judged| judged.alerts.clone()).collect();
    (judged.into_iter().flat_map(|judged| judged.windows).collect(), alerts)
}

#[test]
fn a_shift_is_told_once_whichever_monitor_is_killed() {
    let bed = Bed::new("monitor");
    let names = Names::make(&bed);
    let mut random = Pcg64Mcg::seed_from_u64(7);
    // The last window that can be closed by now ends here; the first one of the day is just within the 24 hours.
    let end = (now_ms() - 3 * MINUTE_MS).div_euclid(WIDTH_MS) * WIDTH_MS;
    let begin = end - 22 * HOUR_MS;
    let past = past(&mut random, begin);
    let day = day(&mut random, begin, end, end - 3 * HOUR_MS);
    let value = |bytes: Vec<u8>| Some(String::from_utf8(bytes).unwrap());
    bed.produce(
        &names.windows,
        past.iter().map(|window| Click {
            value: value(encode(window)),
            timestamp_ms: Some(window.window_end + 2 * MINUTE_MS),
            ..Click::new(0, &window.segment, "")
        }),
    );
    bed.produce(
        &names.embeddings,
        day.iter().map(|(published, partition, embedding)| {
            let mut bytes = Vec::new();
            embedding.encode_into(Encoding::Json, &mut bytes).unwrap();
            Click {
                value: value(bytes),
                timestamp_ms: Some(*published),
                ..Click::new(*partition, embedding.customer_id.as_str(), "")
            }
        }),
    );
    let (alertmanager, webhook) = (Receiver::refusing(1), Receiver::refusing(2));
    let told = [
        format!("monitor.alertmanager={}", alertmanager.url),
        format!("monitor.webhook={}", webhook.url),
        "monitor.link=https://dce.example/monitor".to_owned(),
    ];
    let told: Vec<String> = told.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();

    let mut first = names.dce(&bed, &["monitor"], &told);
    first.until_said("this monitor is the active one");
    let mut second = names.dce(&bed, &["monitor"], &told);
    let published = || bed.read_bytes(&names.windows).len() - past.len();
    until("some windows are published", || published() > 20);
    first.kill();
    second.until_said("this monitor is the active one");
    let (expected, expected_alerts) = undisturbed(&past, &day, end + 2 * MINUTE_MS);
    until("all windows are published", || published() >= expected.len());

    let got: Vec<DriftWindow> = records(&bed, &names.windows);
    let got = &got[past.len()..past.len() + expected.len()];
    let place = got.iter().zip(&expected).position(|(got, expected)| got != expected);
    assert_eq!(place.map(|place| (&got[place], &expected[place])), None, "windows differ");

    let alerts: Vec<DriftAlert> = records(&bed, &names.alerts);
    let within: Vec<DriftAlert> = alerts.into_iter().filter(|alert| alert.updated_at <= end).collect();
    assert_eq!(within, expected_alerts);
    let opened: Vec<&DriftAlert> = within.iter().filter(|alert| alert.updated_at == alert.opened_at).collect();
    let segments: Vec<&str> = opened.iter().map(|alert| alert.segment.as_ref()).collect();
    assert_eq!(
        segments,
        ["all", "channel=web", "model=bank@1"],
        "{:?}",
        opened.iter().map(|a| &a.summary).collect::<Vec<_>>()
    );
    assert!(opened[0].opened_at <= end - 3 * HOUR_MS + 3 * WIDTH_MS, "within 3 windows: {:?}", opened[0]);
    assert!(opened[0].companions.iter().any(|companion| companion.input == "unknown_share"), "{:?}", opened[0]);
    assert!(within.iter().all(|alert| alert.state == AlertState::Firing));

    let headers = bed.read_with_headers(&names.alerts).remove(0).headers;
    assert_eq!(headers["ce_type"], "dce.drift.alert.opened.v1");
    assert_eq!((headers["ce_specversion"].as_str(), headers["content-type"].as_str()), ("1.0", "application/json"));

    until("the webhook is told", || webhook.got().len() >= 3);
    until("Alertmanager is told", || !alertmanager.got().is_empty());
    let page = second.address();
    until("the page shows it", || get(&page, "/api/now").contains("channel=web"));
    let events: Vec<serde_json::Value> =
        webhook.got().iter().map(|(_, body)| serde_json::from_str(body).expect("JSON")).collect();
    let ids: Vec<&str> = events.iter().map(|event| event["subject"].as_str().unwrap()).collect();
    assert_eq!(ids, ["all", "channel=web", "model=bank@1"], "each once");
    assert!(events.iter().all(|event| event["type"] == "dce.drift.alert.opened.v1"));
    let (request, body) = alertmanager.got().remove(0);
    assert!(request.starts_with("POST /api/v2/alerts "), "{request}");
    let posted: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(posted[0]["labels"]["segment"], "all");
    assert_eq!(posted[0]["generatorURL"], "https://dce.example/monitor");

    let explained = names.says(&bed, &["monitor", "explain", "all"]);
    assert!(explained.contains("firing") && explained.contains("breach"), "{explained}");
    let replayed = names.says(&bed, &["monitor", "replay", "--set", "monitor.false_alarm_every=60d"]);
    assert!(replayed.contains("3 alerts would have been told"), "{replayed}");

    // A pin is taken while it runs; what is compared with it is the shifted state, which is well then.
    let pinned =
        names.says(&bed, &["monitor", "pin", "--from", &(begin - DAY_MS).to_string(), "--to", &begin.to_string()]);
    assert!(pinned.contains("all is compared with 57600 distances"), "{pinned}");
    second.signal("TERM");
    assert!(second.wait().success(), "{}", second.last_words());
}
