//! How long an epoch is gathered while the one before it is being committed. What the last epochs took → time to spare.
//!
//! ```text
//! commit(N)      ├──────────────────────────┤
//! epoch N+1      ├ gather ─────────┤ compute ┤ submit
//! ```
//! It cannot be submitted before that one is committed. Cut sooner, it would wait for nothing, and what comes meanwhile for
//! the one after it; cut later, the sink would wait for it.

use std::time::Duration;

use crate::kafka::Deadline;

/// How much of an average the newest epoch is: a slow one is forgotten within a dozen.
const NEWEST: u32 = 8;

/// When a collection ends. It also ends, with what it has, at a rebalance.
#[derive(Debug, Clone, Copy)]
pub struct CollectLimits {
    pub events_max: usize,
    /// Of keys and values; may be passed by the records of one call to the client.
    pub bytes_max: usize,
    /// After the first record; where it has come since the last collection, after that.
    pub wait_max: Duration,
    /// For the first record.
    pub idle_max: Duration,
    /// While an epoch is under way: this long in any case.
    pub spare: Option<Spare>,
}

impl CollectLimits {
    /// How long further records are waited for, with so many collected and `deadline` for what they wait themselves.
    pub(super) fn left(&self, deadline: Deadline, records: usize) -> Duration {
        deadline.remaining().max(self.spare.map_or(Duration::ZERO, |spare| spare.left(records)))
    }
}

/// What the last epochs took, on average.
#[derive(Debug, Default)]
pub struct Pace {
    commit: Option<Duration>,
    /// To compute, a record.
    each: Option<Duration>,
}

impl Pace {
    pub fn computed(&mut self, records: u64, took: Duration) {
        if let Ok(records) = u32::try_from(records)
            && records > 0
        {
            note(&mut self.each, took / records);
        }
    }

    pub fn committed(&mut self, took: Duration) {
        note(&mut self.commit, took);
    }

    /// Of an epoch that is gathered while the one that is submitted now is being committed.
    pub fn spare(&self) -> Spare {
        Spare { until: Deadline::after(self.commit.unwrap_or_default()), each: self.each.unwrap_or_default() }
    }
}

/// One that took far longer says little of the next: it counts as twice the average.
fn note(average: &mut Option<Duration>, took: Duration) {
    *average = Some(average.map_or(took, |average| (average * (NEWEST - 1) + took.min(average * 2)) / NEWEST));
}

/// Time to gather that costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Spare {
    /// When the epoch before is likely to be committed.
    until: Deadline,
    each: Duration,
}

impl Spare {
    /// Before so many records must be computed.
    pub fn left(&self, records: usize) -> Duration {
        let compute = self.each.saturating_mul(u32::try_from(records).unwrap_or(u32::MAX));
        self.until.remaining().saturating_sub(compute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(1_000);

    #[test]
    fn nothing_is_known_at_first() {
        assert_eq!(Pace::default().spare().left(0), Duration::ZERO);
    }

    #[test]
    fn what_computing_takes_is_left_for_it() {
        let mut pace = Pace::default();
        pace.committed(LONG);
        pace.computed(1_000, MS * 4_000);
        let spare = pace.spare();
        assert!(spare.left(0) > LONG - MS * 10_000, "{spare:?}");
        assert!(spare.left(100_000) <= LONG - MS * 400_000, "{spare:?}");
        assert!(spare.left(100_000) > LONG - MS * 410_000, "{spare:?}");
        assert_eq!(spare.left(250_000), Duration::ZERO);
        assert_eq!(spare.left(usize::MAX), Duration::ZERO);
    }

    #[test]
    fn one_slow_epoch_is_soon_forgotten() {
        let mut pace = Pace::default();
        for took in [MS * 8, MS * 8, LONG] {
            pace.committed(took);
        }
        assert_eq!(pace.commit, Some(MS * 9), "as if it had taken twice the 8 ms");
        (0..12).for_each(|_| pace.committed(MS * 8));
        assert!(pace.commit < Some(MS * 8 + MS / 4), "{pace:?}");
        // Where all are slow from now on, it is known soon, too.
        (0..40).for_each(|_| pace.committed(MS * 160));
        assert!(pace.commit > Some(MS * 140), "{pace:?}");
    }

    #[test]
    fn an_epoch_of_no_record_says_nothing_of_records() {
        let mut pace = Pace::default();
        pace.computed(0, LONG);
        assert_eq!(pace.each, None);
    }
}
