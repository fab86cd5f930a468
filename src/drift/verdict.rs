//! How one window of one segment stands against its reference. `[pure]`

use crate::wire::drift::{Outcome, ReferenceKind};

/// What is measured between a window and its reference, and alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statistic {
    /// Wasserstein-1 of ln(distance).
    W1Log,
    /// Share beyond the reference's 99th percentile.
    Exceedance,
    /// Share of distances of exactly 0.
    Zero,
    /// How many customers.
    Volume,
    /// The slow one, against the pinned reference, valid at any moment.
    Creep,
}

impl Statistic {
    pub const ALL: [Self; 5] = [Self::W1Log, Self::Exceedance, Self::Zero, Self::Volume, Self::Creep];

    /// The key in a record's maps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::W1Log => "w1_log",
            Self::Exceedance => "exceedance",
            Self::Zero => "zero",
            Self::Volume => "volume",
            Self::Creep => "creep",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|statistic| statistic.as_str() == text)
    }
}

/// One statistic of one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    pub statistic: Statistic,
    /// Scaled by the number of customers, so that windows of all sizes compare.
    pub value: f64,
    /// `None` while there is no calibration.
    pub threshold: Option<f64>,
    /// In units that people read, finite: of W1Log and Creep the distance itself; of Exceedance and Volume the ratio to the
    /// reference; of Zero the share less the reference's.
    pub effect: f64,
    /// This window is beyond both the threshold and the effect's floor.
    pub is_breach: bool,
}

/// What a breach is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The one that is farthest beyond its threshold.
    pub statistic: Statistic,
    /// Start of the earliest of the windows in breach that made it one.
    pub since_ms: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub outcome: Outcome,
    pub reference: Option<ReferenceKind>,
    /// Distances in the reference.
    pub reference_count: u64,
    /// Windows that were put together to have customers enough, this one the last; 1 where it is enough itself. Of an
    /// INSUFFICIENT one: the windows that wait to be enough; where they are an hour's, they will not be.
    pub windows: u32,
    /// May wake somebody: a breach, and not of the warm-up.
    pub pages: bool,
    /// Those that could be computed.
    pub scores: Vec<Score>,
    /// Of a breach alone; not in the record of a window.
    pub told: Option<Told>,
}

impl Verdict {
    pub fn score(&self, statistic: Statistic) -> Option<&Score> {
        self.scores.iter().find(|score| score.statistic == statistic)
    }
}
