//! An alert in one sentence, for whoever is woken. `[pure]`

use super::companions::percent;
use super::histogram::Histogram;
use super::reference::Reference;
use super::statistics::Shift;
use super::verdict::{Score, Statistic};
use crate::wire::drift::{DriftAlert, ReferenceKind};

/// What a sentence is made of.
#[derive(Debug)]
pub struct Told<'a> {
    pub alert: &'a DriftAlert,
    pub worst: &'a Score,
    /// Distances of the windows in breach.
    pub now: &'a Histogram,
    pub against: &'a Reference,
}

/// `embeddings of channel=web move farther than usual: half of the customers more than 0.031 (usually 0.022, ×1.4); …`
pub fn summary(told: &Told<'_>) -> String {
    let whose = if told.alert.segment.as_ref() == "all" { "all customers" } else { told.alert.segment.as_ref() };
    let mut text = format!("{whose}: {}", what(told));
    let than = match told.alert.reference {
        Some(ReferenceKind::SameHour) => "the same hour of past weeks",
        Some(ReferenceKind::Warmup) => "the day before",
        Some(ReferenceKind::Pinned) => "the pinned reference",
        None => "before",
    };
    text.push_str(&format!("; {} customers a window against {than}", told.alert.customers));
    if let Some(companion) = told.alert.companions.first() {
        text.push_str(&format!("; at the same time {}", companion.words));
    }
    text
}

fn what(told: &Told<'_>) -> String {
    let (now, before) = (told.now, &told.against.shifts);
    let shift = Shift::of(now, before);
    match (told.worst.statistic, shift) {
        (Statistic::Exceedance, Some(shift)) => format!(
            "{} of the embeddings moved farther than {}, usually {}",
            percent(shift.exceedance),
            distance(shift.tail_bound),
            percent(shift.tail)
        ),
        (Statistic::Zero, _) => {
            let share = |histogram: &Histogram| histogram.zero() as f64 / (histogram.len().max(1)) as f64;
            let (zero, zero_before) = (share(now), share(before));
            if zero >= zero_before {
                format!("{} of the embeddings did not move at all, usually {}", percent(zero), percent(zero_before))
            } else {
                format!("only {} of the embeddings did not move, usually {}", percent(zero), percent(zero_before))
            }
        }
        (Statistic::Volume, _) => {
            let usual = told.against.shifts.len() as f64 / told.against.windows.max(1) as f64;
            format!("{} embeddings a window, usually {usual:.0}", told.alert.customers)
        }
        (Statistic::Creep, _) => format!("embeddings have slowly come to move {}", farther(now, before)),
        (Statistic::W1Log | Statistic::Exceedance, _) => format!("embeddings move {}", farther(now, before)),
    }
}

/// `farther than usual: the median is 0.031, usually 0.022 (×1.4)`
fn farther(now: &Histogram, before: &Histogram) -> String {
    let quantile = |histogram: &Histogram, share| histogram.quantile(share).unwrap_or(0.0);
    let (mut name, mut q, mut was) = ("median", quantile(now, 0.5), quantile(before, 0.5));
    let ratio = |q: f64, was: f64| if was > 0.0 { q / was } else { f64::INFINITY };
    let far = |ratio: f64| ratio.max(1.0 / ratio.max(f64::MIN_POSITIVE));
    let (tail, tail_was) = (quantile(now, 0.9), quantile(before, 0.9));
    if far(ratio(tail, tail_was)) > far(ratio(q, was)) {
        (name, q, was) = ("90th percentile", tail, tail_was);
    }
    let direction = if q >= was { "farther" } else { "less far" };
    format!("{direction} than usual: the {name} is {}, usually {} (×{:.2})", distance(q), distance(was), ratio(q, was))
}

fn distance(distance: f64) -> String {
    match distance {
        0.1.. => format!("{distance:.2}"),
        0.01..0.1 => format!("{distance:.3}"),
        0.001..0.01 => format!("{distance:.4}"),
        _ => format!("{distance:.1e}"),
    }
}
