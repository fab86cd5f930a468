//! Whether Kafka answers: who waits for a broker is not to be taken for one that stands by.

use std::time::Duration;

use jiff::Timestamp;

use crate::health::Health;
use crate::kafka::lease::Lease;
use crate::telemetry::Clock;

const EVERY_MS: u64 = 5_000;
const WAIT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Reach {
    /// Milliseconds since the start.
    asked: Option<u64>,
    heard_ms: i64,
    /// Why there was no answer the last time.
    why: Option<String>,
}

impl Reach {
    pub fn new(now_ms: i64) -> Self {
        Self { asked: None, heard_ms: now_ms, why: None }
    }

    /// Asks where it is time to, and says whether there was an answer the last time; if not, so does the health.
    pub fn look(&mut self, lease: &Lease, clock: Clock, health: &Health) -> bool {
        if self.asked.is_none_or(|asked| clock.uptime().0.saturating_sub(asked) >= EVERY_MS) {
            match lease.reach(WAIT) {
                Ok(()) => {
                    self.heard_ms = clock.wall_ms();
                    if self.why.take().is_some() {
                        tracing::info!("Kafka answers again");
                    }
                }
                Err(why) => {
                    if self.why.is_none() {
                        tracing::warn!(why, "Kafka does not answer");
                    }
                    self.why = Some(why);
                }
            }
            self.asked = Some(clock.uptime().0);
        }
        if let Some(why) = &self.why {
            let since = Timestamp::from_millisecond(self.heard_ms).map_or_else(|_| String::new(), |at| at.to_string());
            health.not_ready(format!("Kafka has not answered since {since}: {why}"));
        }
        self.why.is_none()
    }

    /// Since when there is no answer.
    pub fn away_ms(&self) -> Option<i64> {
        self.why.as_ref().map(|_| self.heard_ms)
    }
}
