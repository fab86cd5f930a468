//! Random clickstreams by seed, for the tests of sessions and of folding.

use std::borrow::Cow;

use dce::config::SessionRules;
use dce::types::{ClickKind, EventTime};
use dce::wire::click::ClickEvent;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

pub(crate) fn rng(seed: u64) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(seed)
}

/// Rules that reach no limit.
pub(crate) fn wide_rules() -> SessionRules {
    SessionRules {
        gap_ms: 100_000,
        allowed_lateness_ms: 10_000,
        future_max_ms: 300_000,
        duration_max_ms: 1_000_000_000_000,
        events_max: 1_000_000,
        open_max: 16,
        revisable_max: 1_000,
        revisions_max: 1_000_000,
        provisional_every_events: 0,
    }
}

/// A click of a stream, with what the session rules and the fake model look at.
#[derive(Debug, Clone)]
pub(crate) struct Click {
    pub id: String,
    pub customer: String,
    pub time: i64,
    pub kind: ClickKind,
    pub channel: &'static str,
    pub balance: f64,
}

impl Click {
    pub(crate) fn event(&self) -> ClickEvent<'_> {
        let is_login = self.kind == ClickKind::Login;
        ClickEvent {
            event_id: Cow::Borrowed(&self.id),
            customer_id: Some(Cow::Borrowed(&self.customer)),
            event_time: EventTime::parse(self.time).unwrap(),
            kind: self.kind,
            name: if self.time % 3 == 0 { "home".into() } else { format!("page-{}", self.time % 7).into() },
            channel: Some(Cow::Borrowed(self.channel)),
            session_id: None,
            device_id: None,
            context: if is_login { vec![("balance".into(), self.balance)] } else { Vec::new() },
            attributes: if is_login { Vec::new() } else { vec![("amount".into(), self.time.to_string().into())] },
        }
    }

    /// The order of a session.
    pub(crate) fn order(&self) -> (i64, u8, &str) {
        let rank = match self.kind {
            ClickKind::Login => 0,
            ClickKind::Logout => 2,
            ClickKind::PageView | ClickKind::Action => 1,
        };
        (self.time, rank, &self.id)
    }
}

/// `count` clicks of two customers on two channels, in order; `step` gives the time from one to the next.
pub(crate) fn stream(rng: &mut Pcg64Mcg, count: usize, mut step: impl FnMut(&mut Pcg64Mcg) -> i64) -> Vec<Click> {
    let mut time = 0;
    let mut clicks: Vec<Click> = (0..count)
        .map(|n| {
            time += step(rng);
            let kind = [
                ClickKind::Login,
                ClickKind::Logout,
                ClickKind::PageView,
                ClickKind::PageView,
                ClickKind::Action,
                ClickKind::Action,
            ];
            Click {
                id: format!("e{n:03}"),
                customer: format!("c{}", rng.random_range(0..2)),
                time,
                kind: kind[rng.random_range(0..kind.len())],
                channel: ["web", "app"][rng.random_range(0..2)],
                balance: f64::from(rng.random_range(0..5_000)),
            }
        })
        .collect();
    clicks.sort_by(|a, b| a.order().cmp(&b.order()));
    clicks
}

/// Steps of seconds, with pauses that end sessions.
pub(crate) fn pauses(rng: &mut Pcg64Mcg) -> i64 {
    match rng.random_range(0..5) {
        0 => 0,
        4 => [30_000, 150_000][rng.random_range(0..2)] + rng.random_range(0..9_000),
        _ => rng.random_range(1..4_000),
    }
}

/// The same clicks out of order by less than `lateness_ms`, some of them twice.
pub(crate) fn shuffled(rng: &mut Pcg64Mcg, clicks: &[Click], lateness_ms: i64) -> Vec<Click> {
    let mut arrivals: Vec<(i64, &Click)> =
        clicks.iter().map(|click| (click.time + rng.random_range(0..lateness_ms), click)).collect();
    arrivals.sort_by_key(|(at, _)| *at);
    let mut dirty = Vec::new();
    for (_, click) in arrivals {
        dirty.push(click.clone());
        if rng.random_range(0..10) == 0 {
            dirty.push(click.clone());
        }
    }
    dirty
}

/// Whether some silence on a key lies within a lateness of the gap: there the order of arrival may decide.
pub(crate) fn has_silence_near_the_gap(clicks: &[Click], rules: &SessionRules) -> bool {
    let (gap, lateness) = (rules.gap_ms as i64, rules.allowed_lateness_ms as i64);
    let mut last = std::collections::HashMap::new();
    clicks.iter().any(|click| {
        let before = last.insert((&click.customer, click.channel), click.time).unwrap_or(click.time);
        (click.time - before - gap).abs() <= lateness
    })
}
