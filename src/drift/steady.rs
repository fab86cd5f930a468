//! Whether the wall clock is to be believed. One that has jumped closes windows whose records are still to come: then nothing is
//! closed, until it is back or has been so for ten minutes.
//!
//! A monitor that begins goes by when its last window was published. Whether it was away since or the clock has jumped it cannot
//! know: it believes what the records say, which others have stamped, and closes no window that was due after the newest.

const JUMP_MS: i64 = 60_000;
const BELIEVED_MS: u64 = 600_000;

#[derive(Debug)]
pub struct Steady {
    wall_ms: i64,
    /// Milliseconds, when it was so late on the wall.
    uptime: u64,
    /// So much more may have passed, or less.
    slack_ms: i64,
    /// Nothing is known but when the last window was published.
    is_begun: bool,
    jumped: Option<u64>,
}

impl Steady {
    pub fn new(wall_ms: i64, uptime: u64) -> Self {
        Self { wall_ms, uptime, slack_ms: 0, is_begun: false, jumped: None }
    }

    /// The last window was published at that time or, where all went well, within the width of the next one.
    pub fn begun(published_ms: i64, width_ms: i64, uptime: u64) -> Self {
        Self { slack_ms: width_ms, is_begun: true, ..Self::new(published_ms, uptime) }
    }

    /// What was due by then may be closed. `newest_ms`: the newest record's timestamp.
    pub fn believed_ms(&mut self, wall_ms: i64, uptime: u64, newest_ms: Option<i64>) -> i64 {
        let passed = i64::try_from(uptime.saturating_sub(self.uptime)).unwrap_or(i64::MAX);
        let ahead_ms = wall_ms.saturating_sub(self.wall_ms.saturating_add(passed));
        let is_steady = ahead_ms >= -JUMP_MS && ahead_ms <= JUMP_MS.saturating_add(self.slack_ms);
        let is_confirmed = self.is_begun && newest_ms.is_some_and(|newest| (wall_ms - newest).abs() <= JUMP_MS);
        let is_old = self.jumped.is_some_and(|since| uptime.saturating_sub(since) >= BELIEVED_MS);
        if is_steady || is_confirmed || is_old {
            *self = Self::new(wall_ms, uptime);
            return wall_ms;
        }
        if self.jumped.is_none() {
            self.jumped = Some(uptime);
            if self.is_begun {
                tracing::warn!(
                    ahead_ms,
                    "the last window is old: for now windows are closed up to the newest record alone"
                );
            } else {
                tracing::error!(wall_ms, "the clock on the wall has jumped: no window is closed for now");
            }
        }
        if self.is_begun { newest_ms.unwrap_or(i64::MIN) } else { i64::MIN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_believed_after_a_while_alone() {
        let mut steady = Steady::new(1_000_000, 0);
        let mut holds = |wall_ms, uptime| steady.believed_ms(wall_ms, uptime, Some(wall_ms)) == wall_ms;
        assert!(holds(1_060_000, 60_500));
        assert!(!holds(4_700_000, 70_000), "an hour ahead, and so are the records of the same machine");
        assert!(holds(1_080_000, 80_000), "and back");
        assert!(!holds(4_700_000, 90_000));
        assert!(!holds(5_200_000, 590_000));
        assert!(holds(5_300_000, 690_000), "it has been so for ten minutes");
        assert!(holds(5_310_000, 700_000));
        assert!(!holds(1_700_000, 710_000), "backwards");
    }

    const HOUR_MS: i64 = 3_600_000;
    const WIDTH_MS: i64 = 300_000;

    #[test]
    fn one_that_begins_while_the_clock_is_wrong_closes_what_records_prove_alone() {
        let mut steady = Steady::begun(0, WIDTH_MS, 5_000);
        assert_eq!(steady.believed_ms(HOUR_MS, 5_100, None), i64::MIN, "no record says that it is so late");
        assert_eq!(steady.believed_ms(HOUR_MS + 900, 6_000, Some(20_000)), 20_000);
        assert_eq!(steady.believed_ms(HOUR_MS + 300_000, 305_000, Some(310_000)), 310_000);
        assert_eq!(steady.believed_ms(310_000, 315_000, Some(310_000)), 310_000, "it is set right");
        assert_eq!(steady.believed_ms(HOUR_MS, 316_000, Some(HOUR_MS)), i64::MIN, "from now on it is watched");
    }

    #[test]
    fn one_that_was_away_goes_on_as_soon_as_it_has_read_what_came_meanwhile() {
        let mut steady = Steady::begun(0, WIDTH_MS, 5_000);
        assert_eq!(steady.believed_ms(HOUR_MS, 5_000, Some(HOUR_MS / 2)), HOUR_MS / 2, "halfway");
        assert_eq!(steady.believed_ms(HOUR_MS + 1_000, 6_000, Some(HOUR_MS - 500)), HOUR_MS + 1_000);
        // Where nobody comes at night.
        let mut steady = Steady::begun(0, WIDTH_MS, 5_000);
        assert_eq!(steady.believed_ms(HOUR_MS, 5_000, None), i64::MIN);
        assert_eq!(steady.believed_ms(HOUR_MS + 600_000, 605_000, None), HOUR_MS + 600_000);
        // As it is after every restart.
        let mut steady = Steady::begun(0, WIDTH_MS, 5_000);
        assert_eq!(steady.believed_ms(WIDTH_MS + 30_000, 5_000, None), WIDTH_MS + 30_000);
    }
}
