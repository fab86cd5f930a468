//! The inputs that changed together with the distances: an alert's usual first causes. `[pure]`

use super::reference::Reference;
use super::window::{Window, count};
use crate::wire::drift::Companion;

/// Standard errors from what the reference makes expect.
const SCORE_MIN: f64 = 5.0;
/// And by so much, as a ratio of the shares: counts of clicks come in bursts, whose spread is wider than a coin's.
const RATIO_MIN: f64 = 1.25;
/// Of an alert.
const NAMED_MAX: usize = 5;

/// A share of something among something, in a window or a reference.
#[derive(Debug, Clone, Copy)]
struct Share {
    part: u64,
    all: u64,
}

impl Share {
    /// `None` where there is nothing of which it could be a share.
    fn value(self) -> Option<f64> {
        (self.all > 0).then(|| self.part as f64 / self.all as f64)
    }
}

/// What changed, the clearest first.
pub fn of(window: &Window, against: &Reference) -> Vec<Companion> {
    let mut found = Vec::new();
    // A share of the sum of some counts.
    let mut share = |input: &str, what: &str, part: &str, all: &[&str]| {
        let now = Share { part: window.count(part), all: all.iter().map(|name| window.count(name)).sum() };
        let before =
            Share { part: sum_before(against, part), all: all.iter().map(|name| sum_before(against, name)).sum() };
        found.extend(changed(input, what, now, before));
    };
    let closed = [count::CLOSED];
    share("unknown_share", "values in events that the model does not know", count::UNKNOWN_EVENTS, &[count::EVENTS]);
    share("cold_start_share", "customers without an embedding before", count::COLD_START, &[count::CUSTOMERS]);
    share("no_vector_share", "embeddings that are no unit vectors", count::NO_VECTOR, &[count::CUSTOMERS]);
    share("gated_share", "sessions kept out of the customer's state", count::GATED, &closed);
    share("revised_share", "revisions a closed session", count::REVISED, &closed);
    share(
        "late_share",
        "records published too late for their window",
        count::LATE,
        &[count::LATE, count::CLOSED, count::REVISED],
    );
    let names: std::collections::BTreeSet<&str> =
        window.counts.keys().chain(against.counts.keys()).map(AsRef::as_ref).collect();
    for name in names {
        if let Some(reason) = name.strip_prefix(count::REJECT) {
            let what = format!("clicks rejected ({reason})");
            share(&format!("reject_share.{reason}"), &what, name, &[name, count::EVENTS]);
        } else if let Some(reason) = name.strip_prefix(count::CLOSE) {
            share(&format!("close_share.{reason}"), &format!("sessions closed by {reason}"), name, &closed);
        } else if let Some(power) = name.strip_prefix(count::LENGTH).and_then(|power| power.parse::<u32>().ok()) {
            let what = format!("sessions of {}", range(power, "events"));
            share(&format!("length_share.{power}"), &what, name, &closed);
        } else if let Some(power) = name.strip_prefix(count::STALE).and_then(|power| power.parse::<u32>().ok()) {
            let what = format!("customers whose embedding was {} old", range(power, "h"));
            share(&format!("stale_share.{power}"), &what, name, &closed);
        } else if let Some(power) = name.strip_prefix(count::DELAY).and_then(|power| power.parse::<u32>().ok()) {
            let what = format!("embeddings published {} after the session closed", range(power, "s"));
            share(&format!("delay_share.{power}"), &what, name, &closed);
        }
    }
    found.sort_by(|a, b| b.score.abs().total_cmp(&a.score.abs()).then_with(|| a.input.cmp(&b.input)));
    found.truncate(NAMED_MAX);
    found
}

/// Over all windows of the reference.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean times a number is a sum of counts")]
fn sum_before(against: &Reference, name: &str) -> u64 {
    let mean = against.counts.get(name).copied().unwrap_or(0.0);
    (mean * against.windows as f64).round() as u64
}

fn range(power: u32, unit: &str) -> String {
    let (low, high) = (1_u64 << power.min(62), (2_u64 << power.min(62)) - 1);
    match power {
        0 => format!("at most 1 {unit}"),
        15.. => format!("{low} {unit} or more"),
        _ => format!("{low} to {high} {unit}"),
    }
}

/// By the normal approximation of a share's spread, with what the reference knows of it.
fn changed(input: &str, what: &str, now: Share, before: Share) -> Option<Companion> {
    let (value, was) = (now.value()?, before.value()?);
    let pooled = (now.part + before.part) as f64 / (now.all + before.all) as f64;
    let spread = (pooled * (1.0 - pooled) * (1.0 / now.all as f64 + 1.0 / before.all as f64)).sqrt();
    if spread <= 0.0 {
        return None;
    }
    let score = (value - was) / spread;
    let ratio = (value.max(was)) / value.min(was).max(f64::MIN_POSITIVE);
    // A share near 1 changes by what is left of it.
    let rest = (1.0 - value.min(was)) / (1.0 - value.max(was)).max(f64::MIN_POSITIVE);
    let is_clear = score.abs() >= SCORE_MIN && ratio.max(rest) >= RATIO_MIN;
    is_clear.then(|| Companion {
        input: input.to_owned(),
        value,
        before: was,
        score,
        words: format!("{what}: {}, before {}", percent(value), percent(was)),
    })
}

/// With two digits that say something.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "none".to_owned(),
        ..0.1 => format!("{percent:.3} %"),
        ..1.0 => format!("{percent:.2} %"),
        ..10.0 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}
