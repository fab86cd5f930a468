//! The counts of one segment while its window is open: plain numbers, for speed. `[pure]`

use std::collections::BTreeMap;
use std::sync::Arc;

use super::histogram::Histogram;
use super::vectors::Distance;
use super::window::count;
use crate::types::CloseReason;
use crate::wire::glance::Glance;

/// Powers of two that are told apart.
const POWERS: usize = 16;
/// Models, and dimensions, of one segment and window that are told apart.
const MODELS_MAX: usize = 16;
const DIMENSIONS_MAX: usize = 8;
const HOUR_MS: i64 = 3_600_000;

#[derive(Debug, Clone, Default)]
pub struct Counted {
    pub shifts: Histogram,
    pub late: u64,
    customers: u64,
    cold_start: u64,
    model_changed: u64,
    no_vector: u64,
    closed: u64,
    revised: u64,
    gated: u64,
    events: u64,
    unknown_events: u64,
    close: [u64; CloseReason::ALL.len()],
    length: [u64; POWERS],
    stale: [u64; POWERS],
    delay: [u64; POWERS],
    models: Vec<(Arc<str>, u64)>,
    dimensions: Vec<(usize, u64)>,
}

impl Counted {
    /// A settled record, whether or not its customer is counted.
    pub fn record(&mut self, glance: &Glance<'_>, is_revision: bool, delay_ms: i64, model: &Arc<str>) {
        self.of_model(model, 1);
        if is_revision {
            self.revised += 1;
            return;
        }
        self.of_dimension(glance.embedding.dimension, 1);
        self.closed += 1;
        self.gated += u64::from(glance.gate < 0.5);
        self.events += u64::from(glance.event_count);
        self.unknown_events += u64::from(glance.unknown_count.min(glance.event_count));
        self.length[power(i64::from(glance.event_count))] += 1;
        self.delay[power(delay_ms / 1_000)] += 1;
        let reason = CloseReason::ALL.iter().position(|r| Some(r.as_str()) == glance.close_reason.as_deref());
        if let Some(reason) = reason {
            self.close[reason] += 1;
        }
        if let (Some(before), Some(closed_at)) = (glance.previous_as_of, glance.closed_at) {
            self.stale[power(closed_at.saturating_sub(before) / HOUR_MS)] += 1;
        }
    }

    /// The customer's first session of the window.
    pub fn customer(&mut self, glance: &Glance<'_>, distance: Distance) {
        self.customers += 1;
        match distance {
            Distance::Of(shift) => self.shifts.record(shift).expect("what is no distance was told apart"),
            Distance::NoVector => self.no_vector += 1,
            Distance::None if glance.cold_start => self.cold_start += 1,
            Distance::None => self.model_changed += 1,
        }
    }

    pub fn customers(&self) -> u64 {
        self.customers
    }

    pub fn has_customers(&self) -> bool {
        self.customers > 0
    }

    /// That of most records; the first by name of several.
    pub fn model(&self) -> Option<Arc<str>> {
        let most = self.models.iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
        most.map(|(model, _)| Arc::clone(model))
    }

    pub fn merge(&mut self, other: &Self) {
        self.shifts.merge(&other.shifts);
        let numbers = [
            (&mut self.late, other.late),
            (&mut self.customers, other.customers),
            (&mut self.cold_start, other.cold_start),
            (&mut self.model_changed, other.model_changed),
            (&mut self.no_vector, other.no_vector),
            (&mut self.closed, other.closed),
            (&mut self.revised, other.revised),
            (&mut self.gated, other.gated),
            (&mut self.events, other.events),
            (&mut self.unknown_events, other.unknown_events),
        ];
        for (number, more) in numbers {
            *number += more;
        }
        let lists: [(&mut [u64], &[u64]); 4] = [
            (&mut self.close, &other.close),
            (&mut self.length, &other.length),
            (&mut self.stale, &other.stale),
            (&mut self.delay, &other.delay),
        ];
        for (list, more) in lists {
            for (number, more) in list.iter_mut().zip(more) {
                *number += more;
            }
        }
        for (model, records) in &other.models {
            self.of_model(model, *records);
        }
        for (dimension, records) in &other.dimensions {
            self.of_dimension(*dimension, *records);
        }
    }

    fn of_dimension(&mut self, dimension: usize, records: u64) {
        if let Some((_, number)) = self.dimensions.iter_mut().find(|(known, _)| *known == dimension) {
            *number += records;
        } else if self.dimensions.len() < DIMENSIONS_MAX {
            self.dimensions.push((dimension, records));
        }
    }

    fn of_model(&mut self, model: &Arc<str>, records: u64) {
        if let Some((_, number)) = self.models.iter_mut().find(|(known, _)| known == model) {
            *number += records;
        } else if self.models.len() < MODELS_MAX {
            self.models.push((Arc::clone(model), records));
        }
    }

    /// By the names of [`count`]; what is 0 is not there.
    pub fn counts(&self) -> BTreeMap<Arc<str>, u64> {
        let single = [
            (count::CUSTOMERS, self.customers),
            (count::COLD_START, self.cold_start),
            (count::MODEL_CHANGED, self.model_changed),
            (count::NO_VECTOR, self.no_vector),
            (count::CLOSED, self.closed),
            (count::REVISED, self.revised),
            (count::GATED, self.gated),
            (count::LATE, self.late),
            (count::EVENTS, self.events),
            (count::UNKNOWN_EVENTS, self.unknown_events),
        ];
        let mut counts: BTreeMap<Arc<str>, u64> =
            single.into_iter().filter(|(_, number)| *number > 0).map(|(name, number)| (name.into(), number)).collect();
        let mut list = |prefix: &str, numbers: &[u64], name: &dyn Fn(usize) -> String| {
            for (place, number) in numbers.iter().enumerate().filter(|(_, number)| **number > 0) {
                counts.insert(format!("{prefix}{}", name(place)).into(), *number);
            }
        };
        list(count::CLOSE, &self.close, &|place| CloseReason::ALL[place].as_str().to_owned());
        for (prefix, powers) in
            [(count::LENGTH, &self.length), (count::STALE, &self.stale), (count::DELAY, &self.delay)]
        {
            list(prefix, powers, &|place| place.to_string());
        }
        for (dimension, records) in &self.dimensions {
            counts.insert(format!("{}{dimension}", count::DIMENSION).into(), *records);
        }
        counts
    }
}

/// 0 for up to 1, then the largest p with 2^p ≤ number.
fn power(number: i64) -> usize {
    let number = u64::try_from(number).unwrap_or(0).max(1);
    (number.ilog2() as usize).min(POWERS - 1)
}
