//! Stored windows, judged again by the settings of now, with the pins that counted for them then. Holds what references and
//! thresholds need, and the windows of one time. `[pure]`
//!
//! ```text
//!   70 days before     from                          to
//!   ▸ remembered ──────▸ judged again, window by window ▸
//! ```

use super::engine::{Engine, Judged};
use super::packed::unpack;
use crate::wire::drift::DriftWindow;

/// Which windows are judged again.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// By when they start; `None`: from the first on, which then has no past.
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
    /// Others are left out.
    pub width_ms: i64,
}

impl Span {
    /// When the first window that is judged again begins at the earliest.
    pub fn first_ms(&self) -> Option<i64> {
        let from = self.from_ms?;
        let start = from.div_euclid(self.width_ms) * self.width_ms;
        Some(if start < from { start + self.width_ms } else { start })
    }
}

/// All segments' windows of one time: as they were stored, and as they are judged now, in the same order.
#[derive(Debug)]
pub struct Compared {
    pub stored: Vec<DriftWindow>,
    pub now: Judged,
}

#[derive(Debug)]
pub struct Again {
    engine: Engine,
    span: Span,
    /// Those of one start that have come so far.
    together: Vec<DriftWindow>,
    /// Windows that are not judged: of another width, out of order, or not to be read.
    pub left_out: u64,
}

impl Again {
    /// The engine knows the pins, and the alerts that were open when the span begins.
    pub fn new(engine: Engine, span: Span) -> Self {
        Self { engine, span, together: Vec::new(), left_out: 0 }
    }

    /// The next record of the topic. Gives the windows before it where it is of a later time.
    pub fn record(&mut self, record: DriftWindow) -> Option<Compared> {
        let start = record.window_start;
        let last = self.together.first().map_or(i64::MIN, |first| first.window_start);
        if record.window_end.checked_sub(start) != Some(self.span.width_ms) || start < last {
            self.left_out += 1;
            return None;
        }
        if self.span.first_ms().is_some_and(|first| start < first) {
            self.left_out += u64::from(self.engine.remember(&record).is_err());
            return None;
        }
        if self.span.to_ms.is_some_and(|to| start >= to) {
            return None;
        }
        let before = if start > last { self.end() } else { None };
        self.together.push(record);
        before
    }

    /// The last ones.
    pub fn end(&mut self) -> Option<Compared> {
        let mut stored = std::mem::take(&mut self.together);
        let mut windows = Vec::with_capacity(stored.len());
        stored.retain(|record| match unpack(record) {
            Ok((window, _)) => {
                windows.push(window);
                true
            }
            Err(_) => {
                self.left_out += 1;
                false
            }
        });
        let pins_end = stored.first()?.pins_end;
        Some(Compared { now: self.engine.judge_with(&windows, &[], pins_end), stored })
    }
}
