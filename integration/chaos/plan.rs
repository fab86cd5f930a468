//! What a seed says: which faults, when, to whom and for how long, and the clicks that come meanwhile.

use std::time::Duration;

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::{PARTITIONS, SESSION_TIMEOUT};
use crate::harness::Click;
use crate::pipeline::dce_says;

/// Workers that there can be at once.
pub(super) const SLOTS: usize = 3;
/// Clicks, so that epochs are a few records and commits follow one another.
const RATE_A_SECOND: u128 = 400;
/// Between a fault and the next.
const GAP_MS: std::ops::Range<u64> = 300..4_000;
/// Around what a fault does by its nature: a start, a rebalance.
const SETTLING: Duration = Duration::from_millis(1_500);

/// What is done to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// `kill -9`, and another process at once.
    Kill,
    /// `kill -9`, and another process later.
    KillAndWait,
    /// SIGSTOP for less than the session timeout.
    Freeze,
    /// SIGSTOP for longer: its partitions are somebody else's when it wakes.
    Zombie,
    /// SIGTERM, and another process.
    Restart,
    /// One worker more, or one less by SIGTERM.
    Scale,
    /// `kill -9` of the broker.
    BrokerKill,
    /// SIGSTOP of the broker, at times for longer than the session timeout.
    BrokerFreeze,
    /// All workers at once.
    KillAll,
    /// Ended by SIGTERM or `kill -9`, and its local state is deleted before another process begins.
    DiskLost,
    /// The same, and the file written last is cut.
    DiskTorn,
    /// The same, with random bytes in a file, and files that nobody knows.
    DiskGarbage,
    /// The same, and the local state is one of earlier.
    DiskOld,
}

pub(super) const FAULTS: [Fault; 13] = [
    Fault::Kill,
    Fault::KillAndWait,
    Fault::Freeze,
    Fault::Zombie,
    Fault::Restart,
    Fault::Scale,
    Fault::BrokerKill,
    Fault::BrokerFreeze,
    Fault::KillAll,
    Fault::DiskLost,
    Fault::DiskTorn,
    Fault::DiskGarbage,
    Fault::DiskOld,
];

#[derive(Debug)]
pub(super) struct Step {
    /// Since the beginning.
    pub at: Duration,
    pub fault: Fault,
    /// The worker, where it is one's.
    pub slot: usize,
    /// Until it is over: until the next process starts, or the frozen one goes on.
    pub hold: Duration,
    /// Stopped while the group has offsets that no transaction has decided.
    pub is_aimed: bool,
}

/// Each kind in turn, in an order of the seed's, so that a short run has many. A worker that still suffers from a fault gets
/// no other, but for `KillAll`; other workers and the broker do meanwhile.
pub(super) fn steps(seed: u64, count: usize, kinds: &[Fault]) -> Vec<Step> {
    assert!(!kinds.is_empty(), "KINDS names no fault");
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut steps = Vec::with_capacity(count);
    let (mut order, mut now) = (Vec::new(), SETTLING * 2);
    let mut free_at = [Some(now), Some(now), None];
    let mut broker_free_at = now;
    while steps.len() < count {
        if order.is_empty() {
            order.extend_from_slice(kinds);
            order.shuffle(&mut rng);
        }
        let fault = order.pop().expect("filled above");
        now += Duration::from_millis(rng.random_range(GAP_MS));
        let hold = hold(fault, &mut rng);
        let is_aimed = rng.random_bool(0.5) && is_of_one_worker(fault);
        let (first, draw) = (free_at.iter().flatten().min().copied(), rng.random_range(0..SLOTS));
        match fault {
            Fault::BrokerKill | Fault::BrokerFreeze => now = now.max(broker_free_at),
            Fault::KillAll => {}
            _ => now = now.max(first.expect("a worker at least")),
        }
        let turn = |slot: &usize| (slot + draw) % SLOTS;
        let mut slot = (0..SLOTS).map(|slot| turn(&slot)).find(|slot| free_at[*slot].is_some_and(|at| at <= now));
        match fault {
            Fault::BrokerKill => broker_free_at = now + hold + SETTLING * 2,
            Fault::BrokerFreeze => broker_free_at = now + hold + SETTLING,
            Fault::KillAll => free_at = free_at.map(|at| at.map(|_| now + SETTLING)),
            Fault::Scale => {
                if let Some(absent) = free_at.iter().position(Option::is_none) {
                    slot = Some(absent);
                    free_at[absent] = Some(now + SETTLING);
                } else if let Some(slot) = slot {
                    free_at[slot] = None;
                }
            }
            _ => {
                let slot = slot.expect("one is free by now");
                free_at[slot] = Some(now + hold + SETTLING);
            }
        }
        steps.push(Step { at: now, fault, slot: slot.unwrap_or(0), hold, is_aimed });
    }
    steps
}

fn is_of_one_worker(fault: Fault) -> bool {
    matches!(fault, Fault::Kill | Fault::KillAndWait | Fault::Freeze | Fault::Zombie)
}

fn hold(fault: Fault, rng: &mut Pcg64Mcg) -> Duration {
    let timeout = u64::try_from(SESSION_TIMEOUT.as_millis()).expect("short");
    let over = timeout + 500..timeout + 3_000;
    let ms = match fault {
        Fault::KillAndWait => 500..6_000,
        Fault::Freeze => 100..4_000,
        Fault::Zombie => over,
        Fault::BrokerKill => 0..2_000,
        Fault::BrokerFreeze if rng.random_bool(0.2) => over,
        Fault::BrokerFreeze => 200..3_000,
        _ => return Duration::ZERO,
    };
    Duration::from_millis(rng.random_range(ms))
}

/// For as long as the steps take: sessions with and without ids, late, twice, out of order, never logged out; a few
/// erasures, and bytes that are no click.
pub(super) fn clicks(seed: u64, steps: &[Step]) -> Vec<Click> {
    let last = steps.last().map_or(Duration::ZERO, |step| step.at + SETTLING);
    let events = last.as_millis() * RATE_A_SECOND / 1_000;
    let bank = format!("generate --seed={seed} --customers={} --events={events} --takeovers=0.1", 100 + events / 40);
    let dirt = "--shuffle=30 --duplicate=0.05 --drop-logout=0.2 --lag-customers 0.1 600";
    let arguments = format!("{bank} --partitions={PARTITIONS} {dirt}");
    let lines = dce_says(&arguments.split(' ').collect::<Vec<_>>());
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut clicks = Vec::new();
    for line in lines.lines() {
        let click = Click::of_line(line);
        let (partition, time) = (click.partition, click.timestamp_ms);
        let customer = click.key.clone().unwrap_or_default();
        clicks.push(click);
        let other = match rng.random_range(0..400) {
            0 => Click { value: None, ..Click::new(partition, &customer, "") },
            1 => Click::new(partition, &customer, "no click"),
            _ => continue,
        };
        clicks.push(Click { timestamp_ms: time, ..other });
    }
    clicks
}

/// Gives each at its time. Whoever writes them is slower only where the broker is.
pub(super) fn paced(clicks: Vec<Click>) -> impl Iterator<Item = Click> {
    let start = std::time::Instant::now();
    (0_u64..).zip(clicks).map(move |(number, click)| {
        let due = Duration::from_micros(number * 1_000_000 / u64::try_from(RATE_A_SECOND).expect("small"));
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        click
    })
}

/// A session of a customer of its own in each partition, and a record that is no click: what comes through all topics.
pub(super) fn markers(name: &str) -> impl Iterator<Item = Click> {
    (0..PARTITIONS).flat_map(move |partition| {
        let customer = format!("{name}-{partition}");
        let [login, logout] = ["LOGIN", "LOGOUT"].map(|kind| {
            format!(
                r#"{{"event_id":"{customer}-{kind}","customer_id":"{customer}","event_time":1000000,"kind":"{kind}","name":"x"}}"#
            )
        });
        [login, logout, "no click".to_owned()]
            .map(|value| Click { timestamp_ms: Some(2_000_000), ..Click::new(partition, &customer, &value) })
    })
}

#[test]
fn a_seed_says_the_same_each_time() {
    let (once, again) = (steps(7, 200, &FAULTS), steps(7, 200, &FAULTS));
    assert_eq!(format!("{once:?}"), format!("{again:?}"));
    assert!(once.is_sorted_by_key(|step| step.at));
    for kind in FAULTS {
        assert!(once.iter().filter(|step| step.fault == kind).count() >= 200 / 13);
    }
}
