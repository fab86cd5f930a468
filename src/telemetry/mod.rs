//! What operators see: logs, metrics, and the clock that both need. [`names`] lists every metric; the pure stages return
//! counts, and the worker hands them over once an epoch.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::types::Uptime;

pub mod logs;
pub mod names;
pub mod metrics;

/// The process's clocks. Copies count from the same start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "one of the two places that look at the clock; others are given it")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// For waiting: monotonic.
    pub fn uptime(&self) -> Uptime {
        Uptime(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// For `emitted_at` and lags: milliseconds since the Unix epoch by the wall clock, which may jump.
    #[expect(clippy::disallowed_methods, reason = "one of the two places that look at the clock; others are given it")]
    pub fn wall_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}
