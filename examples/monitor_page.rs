//! The monitor's page over made-up windows, the same each time but for when they end: to look at, and for the tests of it.
//! `cargo run --example monitor_page -- [drift|quiet|empty|one|standby|restoring|away] [ADDRESS]`; each Enter adds a window, and the
//! end of input ends it.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made-up numbers of known size")]

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use dce::drift::board::{About, Board, Reference, Role, Status};
use dce::drift::histogram::Histogram;
use dce::drift::page;
use dce::drift::statistics::Shift;
use dce::health::Health;
use dce::http::{self, Shown};
use dce::telemetry::Clock;
use dce::telemetry::metrics::Metrics;
use dce::wire::drift::{AlertState, Companion, DriftAlert, DriftWindow, MovedBin, Outcome, ReferenceKind};

const WINDOW_MS: i64 = 300_000;
const HOUR_MS: i64 = 12 * WINDOW_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A name as an attacker would send it with his clicks.
const HOSTILE: &str = "label.app=<img src=x onerror=\"document.title='owned'\">&amp;\u{202e}gpj.exe";

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let scene = arguments.next().unwrap_or_else(|| "drift".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let clock = Clock::start();
    let board = Arc::new(Board::new(About {
        window_ms: WINDOW_MS,
        false_alarm_days: 30.0,
        source: "customer-embeddings".to_owned(),
        instance: "monitor-1".to_owned(),
    }));
    let end = (clock.wall_ms() - 2 * 60_000).div_euclid(WINDOW_MS) * WINDOW_MS;
    let role = match scene.as_str() {
        "drift" | "quiet" => {
            fill(&board, end, scene == "drift");
            Role::Active
        }
        "one" => {
            let all = Made { windows: 1, ..Made::new("all", 850.0) };
            board.windows(all.windows(end, None).into_iter().map(|window| DriftWindow {
                outcome: Outcome::NoReference,
                reference: None,
                reference_count: 0,
                scores: BTreeMap::new(),
                thresholds: BTreeMap::new(),
                ..window
            }));
            Role::Active
        }
        "empty" => Role::Active,
        "standby" => Role::Standby,
        "restoring" => Role::Restoring,
        "away" => {
            fill(&board, end, false);
            Role::Standby
        }
        other => anyhow::bail!("no scene is named {other}: drift, quiet, empty, one, standby, restoring, away"),
    };
    let away_ms = (scene == "away").then(|| clock.wall_ms() - 90_000);
    let say = move |board: &Board| {
        let lag = (role == Role::Active).then_some(1_240);
        let newest_record_ms = (role == Role::Active).then(|| clock.wall_ms() - 4_000);
        board.status(Status { role, newest_record_ms, lag, away_ms, at_ms: clock.wall_ms() });
    };
    say(&board);
    let health: Arc<[Health]> = [Health::new(clock.uptime())].into();
    health[0].ready();
    let shown = Shown { clock, health, metrics: Arc::new(Metrics::new()) };
    let server = http::serve(listen.parse().context("HOST:PORT")?, shown, page::routes(Arc::clone(&board), clock))?;
    println!("http://{}/", server.address());
    let speaker = Arc::clone(&board);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(2));
            say(&speaker);
        }
    });
    for (number, line) in (1..).zip(std::io::stdin().lines()) {
        line?;
        let all = Made { windows: 1, ..Made::new("all", 850.0) };
        board.windows(all.windows(end + number * WINDOW_MS, None));
    }
    Ok(())
}

/// What a segment's customers do.
#[derive(Debug, Clone)]
struct Made {
    name: &'static str,
    /// Customers in a window, in the mean of a day.
    customers: f64,
    windows: i64,
    /// From its newest window back to where its distances are so much larger, and how many windows.
    factor: f64,
    moved: i64,
    /// Windows of a stuck encoder: where they begin, back from the newest, and how many.
    stuck: (i64, i64),
}

impl Made {
    fn new(name: &'static str, customers: f64) -> Self {
        Self { name, customers, windows: 3 * DAY_MS / WINDOW_MS, factor: 1.0, moved: 0, stuck: (0, 0) }
    }

    fn windows(&self, end: i64, alert: Option<&DriftAlert>) -> Vec<DriftWindow> {
        let mut random = Random(self.name.bytes().fold(7, |seed, byte| seed.wrapping_mul(31) + u64::from(byte)));
        let reference = random.histogram(40_000, 1.0, 0.004);
        let mut worst_before = BTreeMap::new();
        let mut windows = Vec::new();
        for back in (1..=self.windows).rev() {
            let start = end - back * WINDOW_MS;
            let hour = (start.rem_euclid(DAY_MS)) as f64 / HOUR_MS as f64;
            let busy = 1.0 - 0.75 * ((hour - 15.0) / 24.0 * std::f64::consts::TAU).cos().mul_add(-0.5, 0.5);
            let customers = random.around(self.customers * busy * 1.5);
            let factor = if back <= self.moved { self.factor } else { 1.0 };
            let is_stuck = back <= self.stuck.0 && back > self.stuck.0 - self.stuck.1;
            let shifts = random.histogram(customers, factor, if is_stuck { 0.06 } else { 0.004 });
            let model = if back > 2 * DAY_MS / WINDOW_MS { "bank@2" } else { "bank@3" };
            let since_model = 2 * DAY_MS / WINDOW_MS - back;
            let has_reference = !(0..24).contains(&since_model);
            let mut window =
                self.window(start, &shifts, has_reference.then_some(&reference), &mut worst_before, windows.len());
            let unknown = if back <= self.moved { 0.21 } else { 0.005 };
            let events = customers * 14;
            let counts = [
                ("customers", customers + customers / 11),
                ("cold_start", customers / 11),
                ("closed", customers + customers / 4),
                ("gated", customers / 40),
                ("revised", customers / 90),
                ("events", events),
                ("unknown_events", (events as f64 * unknown * (0.8 + 0.4 * random.unit())) as u64),
                ("reject.decode", if back <= self.moved { events / 300 } else { events / 4_000 }),
            ];
            window.counts = counts.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.into(), n)).collect();
            window.model = Some(model.into());
            window.alert =
                alert.filter(|alert| alert.opened_at <= start + WINDOW_MS).map(|alert| Arc::clone(&alert.id));
            if back == DAY_MS / WINDOW_MS + 40 {
                window.outcome = Outcome::Insufficient;
                window.scores.clear();
            }
            windows.push(window);
        }
        windows
    }

    /// Judged roughly: the thresholds are a little above the highest scores of the first day.
    fn window(
        &self,
        start: i64,
        shifts: &Histogram,
        reference: Option<&Histogram>,
        highest: &mut BTreeMap<&'static str, f64>,
        number: usize,
    ) -> DriftWindow {
        let mut window = DriftWindow {
            segment: self.name.into(),
            window_start: start,
            window_end: start + WINDOW_MS,
            model: None,
            outcome: Outcome::NoReference,
            reference: None,
            reference_count: 0,
            zero: shifts.zero(),
            buckets: shifts.filled().collect(),
            counts: BTreeMap::new(),
            scores: BTreeMap::new(),
            thresholds: BTreeMap::new(),
            effects: BTreeMap::new(),
            breaches: Vec::new(),
            readings: BTreeMap::new(),
            pins_end: 0,
            alert: None,
        };
        let Some(reference) = reference else { return window };
        window.reference = Some(ReferenceKind::SameHour);
        window.reference_count = reference.len();
        for (key, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            window.readings.extend(shifts.quantile(share).map(|value| (key.into(), value)));
            window.readings.extend(reference.quantile(share).map(|value| (format!("{key}_before").into(), value)));
        }
        let Some(shift) = Shift::of(shifts, reference).filter(|_| shifts.len() >= 60) else {
            window.outcome = Outcome::Insufficient;
            return window;
        };
        let root = (shifts.len() as f64).sqrt();
        let scores = [
            ("w1_log", shift.w1_log * root, shift.w1_log),
            ("exceedance", (shift.exceedance - shift.tail).max(0.0) * root, shift.exceedance / shift.tail.max(1e-4)),
            ("zero", (shift.zero - shift.zero_before).abs() * root, shift.zero - shift.zero_before),
        ];
        window.outcome = Outcome::Ok;
        for (name, score, effect) in scores {
            let highest = highest.entry(name).or_insert(0.0);
            if number < 280 {
                *highest = highest.max(score * 1.12);
            }
            window.scores.insert(name.into(), score);
            window.thresholds.insert(name.into(), *highest);
            window.effects.insert(name.into(), effect);
            let is_effect = match name {
                "w1_log" => effect >= 0.0953,
                "exceedance" => effect >= 1.5,
                _ => effect >= 0.01,
            };
            if number >= 280 && score > *highest && is_effect {
                window.outcome = Outcome::Breach;
                window.breaches.push(name.into());
            }
        }
        window
    }
}

/// Three days of a bank: a change of the model two days ago, a stuck encoder yesterday, and, where `drifts`, an app whose
/// pages got new names an hour ago.
fn fill(board: &Board, end: i64, drifts: bool) {
    let moved = if drifts { 11 } else { 0 };
    let open = drifts.then(|| opened("label.app=8.2.0", end - 11 * WINDOW_MS, end));
    let all = drifts.then(|| opened("all", end - 9 * WINDOW_MS, end));
    let segments = [
        Made { factor: 1.34, moved, stuck: (330, 9), ..Made::new("all", 1_450.0) },
        Made { factor: 1.12, moved, ..Made::new("channel=web", 600.0) },
        Made { factor: 1.45, moved, stuck: (330, 9), ..Made::new("channel=mobile", 850.0) },
        Made { windows: 2 * DAY_MS / WINDOW_MS, factor: 1.34, moved, ..Made::new("model=bank@3", 1_450.0) },
        Made::new("label.country=de", 620.0),
        Made::new("label.country=at", 310.0),
        Made::new("label.country=li", 45.0),
        Made::new("label.app=8.1.0", 240.0),
        Made { factor: 1.9, moved, windows: 7 * HOUR_MS / WINDOW_MS * 7, ..Made::new("label.app=8.2.0", 420.0) },
        Made::new(HOSTILE, 130.0),
    ];
    for made in segments {
        let alert = [&open, &all].into_iter().flatten().find(|alert| alert.segment.as_ref() == made.name);
        board.windows(made.windows(end, alert));
        let reference = Random(1).histogram(40_000, 1.0, 0.004);
        let reference =
            Reference { kind: ReferenceKind::SameHour, zero: reference.zero(), buckets: reference.filled().collect() };
        board.references([(Arc::from(made.name), reference)]);
    }
    board.alert(resolved("channel=mobile", end - 330 * WINDOW_MS));
    board.alert(resolved(HOSTILE, end - 700 * WINDOW_MS));
    for alert in [open, all].into_iter().flatten() {
        board.alert(alert);
    }
}

fn opened(segment: &str, since: i64, end: i64) -> DriftAlert {
    DriftAlert {
        id: format!("{segment}/{since}").into(),
        segment: segment.into(),
        state: AlertState::Firing,
        statistic: "w1_log".into(),
        since,
        opened_at: since + 2 * WINDOW_MS,
        updated_at: end,
        resolved_at: None,
        breaches: 10,
        value: 9.1,
        threshold: 1.9,
        effect: 0.64,
        customers: 512,
        model: Some("bank@3".into()),
        reference: Some(ReferenceKind::SameHour),
        reference_count: 40_000,
        summary: format!(
            "{}: embeddings move farther than usual: the median is 0.049, usually 0.026 (×1.90); 512 customers a window \
             against the same hour of past weeks; at the same time values in events that the model does not know: 21 %, \
             before 0.50 %",
            if segment == "all" { "all customers" } else { segment }
        ),
        moved: vec![
            MovedBin { low: 0.0442, high: 0.0884, share: 0.27, share_before: 0.11 },
            MovedBin { low: 0.0055, high: 0.0156, share: 0.09, share_before: 0.28 },
            MovedBin { low: 0.177, high: 0.5, share: 0.13, share_before: 0.05 },
        ],
        companions: vec![
            Companion {
                input: "unknown_share".to_owned(),
                value: 0.21,
                before: 0.005,
                score: 61.0,
                words: "values in events that the model does not know: 21 %, before 0.50 %".to_owned(),
            },
            Companion {
                input: "reject_share.decode".to_owned(),
                value: 0.0033,
                before: 0.00025,
                score: 8.2,
                words: "clicks rejected (decode): 0.33 %, before 0.025 %".to_owned(),
            },
        ],
    }
}

fn resolved(segment: &str, since: i64) -> DriftAlert {
    DriftAlert {
        state: AlertState::Resolved,
        statistic: "zero".into(),
        updated_at: since + 15 * WINDOW_MS,
        resolved_at: Some(since + 15 * WINDOW_MS),
        breaches: 9,
        effect: 0.056,
        summary: format!(
            "{segment}: 6.0 % of the embeddings did not move at all, usually 0.40 %; 810 customers a window"
        ),
        moved: vec![MovedBin { low: 0.0, high: 0.0, share: 0.06, share_before: 0.004 }],
        companions: Vec::new(),
        ..opened(segment, since, since)
    }
}

/// `SplitMix64`: the same on every machine.
struct Random(u64);

impl Random {
    /// In (0, 1).
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((mixed ^ (mixed >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (self.unit() * std::f64::consts::TAU).cos()
    }

    fn around(&mut self, mean: f64) -> u64 {
        (mean + mean.sqrt() * self.normal()).max(0.0) as u64
    }

    fn histogram(&mut self, customers: u64, factor: f64, zero_share: f64) -> Histogram {
        let mut histogram = Histogram::default();
        for _ in 0..customers {
            let kind = self.unit();
            let jumps = kind > 0.92;
            let distance = if kind < zero_share {
                0.0
            } else if jumps {
                (-1.9 + 0.6 * self.normal()).exp() * factor.sqrt()
            } else {
                (-3.7 + 0.55 * self.normal()).exp() * factor
            };
            histogram.record(distance.min(2.0)).expect("it lies between 0 and 2");
        }
        histogram
    }
}
