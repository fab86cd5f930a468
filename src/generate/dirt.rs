//! What happens between the click and the topic: disorder, duplicates, lost logouts, gateways that lag. It has a
//! randomness of its own, so the same seed with other dirt is the same clicks in another order of arrival.

use super::calendar::SECOND_MS;
use super::random::{Random, mix, real, unit_of, whole};
use super::walk::Step;
use crate::types::ClickKind;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dirt {
    /// Arrivals are late by up to this, each for itself.
    pub shuffle_ms: i64,
    /// Share of the arrivals that are.
    pub shuffle_share: f64,
    /// Share of events that arrive twice.
    pub duplicate: f64,
    /// Share of logouts that never arrive.
    pub drop_logout: f64,
    /// Share of customers whose every event passes a gateway that lags, and by how much.
    pub lag_customers: f64,
    pub lag_ms: i64,
}

impl Dirt {
    pub const CLEAN: Self =
        Self { shuffle_ms: 0, shuffle_share: 1.0, duplicate: 0.0, drop_logout: 0.0, lag_customers: 0.0, lag_ms: 0 };

    pub(super) fn lag(&self, key: u64) -> i64 {
        if unit_of(mix(key, 300)) < self.lag_customers { self.lag_ms } else { 0 }
    }

    /// When each step arrives: (arrival, index of the step), in order of arrival.
    pub(super) fn arrivals(&self, random: &mut Random, steps: &[Step], lag_ms: i64) -> Vec<(i64, u32)> {
        let mut arrivals = Vec::with_capacity(steps.len());
        let window = if self.shuffle_ms > 0 { self.shuffle_ms } else { 5 * SECOND_MS };
        for (index, step) in (0u32..).zip(steps) {
            if step.page.spec().kind == ClickKind::Logout && random.chance(self.drop_logout) {
                continue;
            }
            let late = if random.chance(self.shuffle_share) { whole(real(self.shuffle_ms) * random.unit()) } else { 0 };
            let at = step.at + lag_ms + TRANSPORT_MS + late;
            arrivals.push((at, index));
            if random.chance(self.duplicate) {
                arrivals.push((at + whole(real(window - late) * random.unit()), index));
            }
        }
        arrivals.sort_unstable();
        arrivals
    }
}

/// From the customer's device to the topic, at the least.
pub(super) const TRANSPORT_MS: i64 = 40;
