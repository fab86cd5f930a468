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
    /// In units that people read: w1_log, the share, the ratio; finite.
    pub effect: f64,
    /// Beyond both the threshold and the effect's floor.
    pub is_breach: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub outcome: Outcome,
    pub reference: Option<ReferenceKind>,
    /// Distances in the reference.
    pub reference_count: u64,
    /// Windows that were put together to have customers enough, this one the last; 1 where it is enough itself.
    pub windows: u32,
    /// May wake somebody: not in the warm-up.
    pub pages: bool,
    /// Start of the first of the windows that make the breach.
    pub since_ms: Option<i64>,
    /// Those that could be computed.
    pub scores: Vec<Score>,
}
