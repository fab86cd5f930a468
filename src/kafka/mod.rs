//! Everything that everyone who talks to a broker shares: settings of the clients, classes of errors, topics, and the
//! few calls into librdkafka that rdkafka does not wrap. Knows brokers, topics and bytes; nothing about clicks.

use std::time::{Duration, Instant};

pub mod raw;
pub mod rights;
pub mod client;
pub mod errors;
pub mod fence;
pub mod topics;
pub mod reader;
pub mod follow;
pub mod admin;
pub mod conform;
pub mod append;
pub mod resend;
pub mod bulk;
pub mod lease;

/// Between two questions, where a broker is not ready for them yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Until when a call to a broker may wait: for waiting, never for data.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    begun: Instant,
    wait: Duration,
}

impl Deadline {
    pub fn after(wait: Duration) -> Self {
        Self { begun: now(), wait }
    }

    pub fn elapsed(&self) -> Duration {
        now().saturating_duration_since(self.begun)
    }

    pub fn remaining(&self) -> Duration {
        self.wait.saturating_sub(self.elapsed())
    }

    pub fn passed(&self) -> bool {
        self.remaining().is_zero()
    }
}

#[expect(clippy::disallowed_methods, reason = "a broker is waited for by the clock; no result depends on it")]
fn now() -> Instant {
    Instant::now()
}
