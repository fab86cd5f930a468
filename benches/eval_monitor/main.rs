//! The monitor's judge on streams whose distances the real pipeline gave: how often it is wrong, how soon it tells.
//!
//! `make eval-monitor`, which makes the folder of `--bank`; the last line is one JSON object.
#![expect(clippy::print_stdout, reason = "an evaluation for people")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "small numbers"
)]

mod bank;
mod dump;
mod stream;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bank::{Bank, Change, DAY_MS};
use dce::drift::engine::usual_rule;
use dce::drift::histogram::Histogram;
use dce::drift::judge::Judge;
use dce::drift::verdict::Statistic;
use dump::Dump;
use serde_json::json;
use stream::{Event, Random, SMALL, Stream, WINDOW_MS};
use watch::{Counts, Watch};

/// A Monday.
const START_MS: i64 = 1_767_571_200_000;
/// The banks' first day, and the days that are settled; scenarios begin in their middle.
const BANK_MS: i64 = 1_767_225_600_000;
const SETTLED: (i64, i64) = (28, 49);
const AFTER: (i64, i64) = (39, 41);
/// Of each stream: not counted, counted.
const TRAINING_DAYS: i64 = 21;
const QUIET_DAYS: i64 = 35;
const FORTNIGHT_MS: i64 = 14 * DAY_MS;
/// One stream in so many creeps, for so many days.
const CREEPING_ONE_IN: u64 = 10;
const CREEP_DAYS: i64 = 60;
/// Windows after an event.
const TWO_HOURS: usize = 24;

struct Arguments {
    bank: PathBuf,
    streams: u64,
    days: f64,
    /// Where windows for the peers go.
    windows: Option<PathBuf>,
}

fn arguments() -> Arguments {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str| given.iter().position(|word| word == name).and_then(|at| given.get(at + 1)).cloned();
    let number = |name: &str, otherwise: f64| value(name).map_or(otherwise, |text| text.parse().expect("a number"));
    Arguments {
        bank: value("--bank").map_or_else(|| "target/eval-monitor".into(), PathBuf::from),
        streams: number("--streams", 200.0) as u64,
        days: number("--days", 30.0),
        windows: value("--windows").map(PathBuf::from),
    }
}

fn read(folder: &Path, scenario: &str, days: (i64, i64)) -> Bank {
    Bank::read(&folder.join(scenario).join("emb.ndjson"), BANK_MS, days.0, days.1)
}

fn main() {
    let arguments = arguments();
    let quiet = read(&arguments.bank, "quiet", SETTLED);
    let before = read(&arguments.bank, "quiet", AFTER);
    let changed: Vec<(&str, Change)> = ["page-rename", "layout-change", "shock", "swapped-inputs"]
        .into_iter()
        .map(|name| (name, Change::between(&before, &read(&arguments.bank, name, AFTER))))
        .collect();
    for (name, change) in &changed {
        println!("{name}: the median's distance times {:.3}, numbers times {:.2}", change.median, change.number);
    }
    println!("{} distances of {} customers", quiet.bins.iter().map(Vec::len).sum::<usize>(), quiet.customers);

    let mut counts = Counts::default();
    let mut delays: BTreeMap<&str, Vec<Option<usize>>> = BTreeMap::new();
    let mut dump = arguments.windows.as_deref().map(Dump::create);
    let (mut creeping, mut quiet_fortnights, mut alerts_before) = (Vec::new(), 0, 0);
    for seed in 0..arguments.streams {
        let mut stream = Stream::new(&quiet, seed + 1);
        let mut watch = Watch::new(Judge::new(usual_rule(arguments.days)));
        let end_ms = quiet_time(&mut stream, &mut watch, &mut counts);
        let fortnight_ms = START_MS + TRAINING_DAYS * DAY_MS + FORTNIGHT_MS;
        let alerts = counts.alerts_at.split_off(alerts_before);
        quiet_fortnights += u32::from(!alerts.iter().any(|at| *at < fortnight_ms));
        counts.alerts_at.extend(alerts);
        alerts_before = counts.alerts_at.len();
        if seed % CREEPING_ONE_IN == 0 {
            creeping.push(creep(stream.clone(), watch.clone(), end_ms));
        }
        let (stream, watch, onset_ms) = until_onset(stream, watch, end_ms);
        if let Some(dump) = dump.as_mut().filter(|_| seed < dump::STREAMS) {
            dump.write(seed, &stream, onset_ms, &made());
        }
        events(&stream, &watch, onset_ms, &changed, &mut delays);
    }
    counts.print(arguments.days);
    for (name, delays) in &delays {
        print_delays(name, delays);
    }
    println!("{quiet_fortnights} of {} fortnights without an alarm", arguments.streams);
    print_creeping(&creeping);
    let median = |name: &str| delays.get(name).and_then(|delays| quantile(delays, 0.5));
    let result = json!({
        "false_alarm_interval_ratio": counts.ratio(arguments.days),
        "delay_windows": {
            "jumpers_3pct": median("jumpers_3pct"),
            "frozen_3pct": median("frozen_3pct"),
            "all_up_30pct": median("all_up_30pct"),
            "segment_doubled": median("segment_doubled"),
        },
        "within_2_windows": {
            "jumpers_3pct": within(&delays["jumpers_3pct"], 2),
            "frozen_3pct": within(&delays["frozen_3pct"], 2),
            "all_up_30pct": within(&delays["all_up_30pct"], 2),
            "segment_doubled": within(&delays["segment_doubled"], 2),
        },
    });
    println!("{result}");
}

/// Nothing happens; a week is pinned before it counts.
fn quiet_time(stream: &mut Stream, watch: &mut Watch, counts: &mut Counts) -> i64 {
    let mut at = START_MS;
    let mut week = Vec::new();
    for day in 0..TRAINING_DAYS + QUIET_DAYS {
        watch.is_counted = day >= TRAINING_DAYS;
        for _ in 0..DAY_MS / WINDOW_MS {
            let windows = stream.windows(at, &Event::default());
            if (TRAINING_DAYS - 7..TRAINING_DAYS).contains(&day) {
                week.resize_with(windows.len(), Histogram::default);
                week.iter_mut().zip(&windows).for_each(|(sum, window)| sum.merge(&window.shifts));
            }
            watch.judge(&windows, counts);
            at += WINDOW_MS;
            if at == START_MS + TRAINING_DAYS * DAY_MS {
                watch.pin(&windows, &week, at);
            }
        }
    }
    counts.days += QUIET_DAYS as f64;
    at
}

/// Distances grow by one per cent a day: the day on which an alert opens on `all`, and what told.
fn creep(mut stream: Stream, mut watch: Watch, now_ms: i64) -> Option<(i64, Statistic)> {
    watch.is_counted = false;
    watch.close();
    let mut ignored = Counts::default();
    (0..CREEP_DAYS * DAY_MS / WINDOW_MS).find_map(|window| {
        let days = (window * WINDOW_MS) as f64 / DAY_MS as f64;
        let event = Event { ln_all: libm::log(1.01) * days, ..Event::default() };
        let opened = watch.judge(&stream.windows(now_ms + window * WINDOW_MS, &event), &mut ignored);
        opened.iter().find(|(segment, _)| *segment == 0).map(|(_, statistic)| (days as i64 + 1, *statistic))
    })
}

fn print_creeping(creeping: &[Option<(i64, Statistic)>]) {
    let mut days: Vec<i64> = creeping.iter().flatten().map(|(day, _)| *day).collect();
    days.sort_unstable();
    let by_creep = creeping.iter().flatten().filter(|(_, statistic)| *statistic == Statistic::Creep).count();
    println!(
        "1 % more a day: told in {} of {} streams, median day {:?}, latest {:?}; {by_creep} by the creep",
        days.len(),
        creeping.len(),
        days.get(days.len() / 2),
        days.last()
    );
}

/// What happens to streams: those of the bar first.
fn made() -> [(&'static str, Event<'static>); 9] {
    [
        ("jumpers_3pct", Event { jumping: 0.03, ..Event::default() }),
        ("frozen_3pct", Event { frozen: 0.03, ..Event::default() }),
        ("all_up_30pct", Event { ln_all: libm::log(1.3), ..Event::default() }),
        ("segment_doubled", Event { ln_small: libm::log(2.0), ..Event::default() }),
        ("jumpers_1pct", Event { jumping: 0.01, ..Event::default() }),
        ("all_up_15pct", Event { ln_all: libm::log(1.15), ..Event::default() }),
        ("frozen_all", Event { frozen: 1.0, ..Event::default() }),
        ("flash_sale", Event { ln_number: libm::log(2.5), ..Event::default() }),
        ("number_halved", Event { ln_number: libm::log(0.5), ..Event::default() }),
    ]
}

/// On to a time of the next day at which about 850 customers come.
fn until_onset(mut stream: Stream, mut watch: Watch, now_ms: i64) -> (Stream, Watch, i64) {
    let mut random = Random(stream.random.0);
    let moments: Vec<i64> = (0..DAY_MS / WINDOW_MS)
        .map(|window| now_ms + window * WINDOW_MS)
        .filter(|at| (800.0..900.0).contains(&stream.number(*at)))
        .collect();
    let onset_ms = moments[random.below(moments.len())];
    watch.is_counted = false;
    let mut ignored = Counts::default();
    let mut at = now_ms;
    while at < onset_ms {
        let windows = stream.windows(at, &Event::default());
        watch.judge(&windows, &mut ignored);
        at += WINDOW_MS;
    }
    (stream, watch, onset_ms)
}

/// Each from where the stream stands, as if the others had never been.
fn events<'a>(
    stream: &Stream,
    watch: &Watch,
    onset_ms: i64,
    changed: &'a [(&'a str, Change)],
    delays: &mut BTreeMap<&'a str, Vec<Option<usize>>>,
) {
    for (name, event) in made() {
        let delay = delay(stream.clone(), watch.clone(), onset_ms, &event, name == "segment_doubled");
        delays.entry(name).or_default().push(delay);
    }
    for (name, change) in changed {
        let event = Event { change: Some(&change.buckets), ln_number: libm::log(change.number), ..Event::default() };
        let delay = delay(stream.clone(), watch.clone(), onset_ms, &event, false);
        delays.entry(name).or_default().push(delay);
    }
}

/// The window after the event, counted from 1, in which an alert opens.
fn delay(mut stream: Stream, mut watch: Watch, onset_ms: i64, event: &Event<'_>, only_small: bool) -> Option<usize> {
    let mut ignored = Counts::default();
    watch.close();
    (0..TWO_HOURS).find_map(|window| {
        let windows = stream.windows(onset_ms + window as i64 * WINDOW_MS, event);
        let opened = watch.judge(&windows, &mut ignored);
        let is_it = opened.iter().any(|(segment, _)| !only_small || *segment == SMALL);
        is_it.then_some(window + 1)
    })
}

fn quantile(delays: &[Option<usize>], share: f64) -> Option<usize> {
    let mut sorted: Vec<usize> = delays.iter().map(|delay| delay.unwrap_or(usize::MAX)).collect();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * share).ceil() as usize).max(1) - 1;
    sorted.get(at).copied().filter(|delay| *delay != usize::MAX)
}

fn within(delays: &[Option<usize>], windows: usize) -> f64 {
    delays.iter().flatten().filter(|delay| **delay <= windows).count() as f64 / delays.len() as f64
}

fn print_delays(name: &str, delays: &[Option<usize>]) {
    let within = |windows: usize| within(delays, windows) * 100.0;
    let told = |share| quantile(delays, share).map_or_else(|| "–".to_owned(), |windows| windows.to_string());
    println!(
        "{name:<16} within 2 windows {:5.1} %, 2 hours {:5.1} %; windows until told: median {}, 95 % {}",
        within(2),
        within(TWO_HOURS),
        told(0.5),
        told(0.95)
    );
}
