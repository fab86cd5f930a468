//! Clocks, counters of the kernel, medians, and the table that all this ends in.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// Looks until the memory stands still, how far apart, and what is asked for before each.
const SETTLE_LOOKS: u32 = 10;
const SETTLE_LOOK: Duration = Duration::from_millis(600);
const SETTLE_BYTES: usize = 16 << 20;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time; nothing else is decided by it")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Seconds that the work takes.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let begun = now();
    std::hint::black_box(work());
    begun.elapsed().as_secs_f64()
}

/// Seconds of CPU that this process has used, by the kernel's count of hundredths; 0 where there is no /proc.
pub(super) fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, which may hold anything, ends with the last bracket.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Bytes of memory that this process holds; 0 where there is no /proc.
pub(super) fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

/// The same once the allocator has given back what was freed: it does so a second late, and only when it is asked for more.
pub(super) fn settled_resident_bytes() -> f64 {
    let mut last = f64::INFINITY;
    for _ in 0..SETTLE_LOOKS {
        std::thread::sleep(SETTLE_LOOK);
        drop(std::hint::black_box(vec![1_u8; SETTLE_BYTES]));
        let now = resident_bytes();
        if (last - now).abs() <= now / 1_000.0 {
            return now;
        }
        last = now;
    }
    last
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Of sorted values, the one that `share` of them do not exceed.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// How fast something went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speed {
    /// Records a second.
    pub(super) per_s: f64,
    /// CPU of this process a record, the client's threads included, in nanoseconds.
    pub(super) cpu_ns: f64,
}

/// The median of each.
pub(super) fn median_speed(speeds: &[Speed]) -> Speed {
    Speed {
        per_s: median(speeds.iter().map(|speed| speed.per_s).collect()),
        cpu_ns: median(speeds.iter().map(|speed| speed.cpu_ns).collect()),
    }
}

/// Rounded to three significant digits, for the JSON.
pub(super) fn short(value: f64) -> Value {
    if value == 0.0 || !value.is_finite() {
        return Value::from(if value == 0.0 { 0.0 } else { f64::NAN });
    }
    let scale = 10f64.powf(2.0 - value.abs().log10().floor());
    Value::from((value * scale).round() / scale)
}

/// What the bench has found: lines for people as it goes, one object at the end.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) json: Map<String, Value>,
}

impl Report {
    pub(super) fn number(&mut self, key: &str, value: f64) {
        self.json.insert(key.to_owned(), short(value));
    }
}

/// Thousands with a unit: `412 k/s`, `1.3 M/s`.
pub(super) fn rate(per_s: f64) -> String {
    match per_s {
        r if r >= 1e6 => format!("{:.2} M/s", r / 1e6),
        r if r >= 1e4 => format!("{:.0} k/s", r / 1e3),
        r if r >= 1e3 => format!("{:.1} k/s", r / 1e3),
        r => format!("{r:.0}/s"),
    }
}
