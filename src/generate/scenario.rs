//! The world changes at a given moment, so that drift can be seen: names, layout, or what customers want.

use super::calendar::DAY_MS;
use super::random::real;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Four pages get new names.
    PageRename,
    /// New home pages, and with them new habits.
    LayoutChange,
    /// Bad news about the bank: everyone comes, to look and to move money; fades within two weeks.
    Shock,
}

impl Change {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "page-rename" => Some(Self::PageRename),
            "layout-change" => Some(Self::LayoutChange),
            "shock" => Some(Self::Shock),
            _ => None,
        }
    }
}

/// A change and its moment, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    pub change: Change,
    pub at: i64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct World(pub(super) Vec<Scenario>);

const RENAMED: [(&str, &str); 4] = [
    ("transactions", "activity"),
    ("balance", "account_overview"),
    ("payments", "pay_and_transfer"),
    ("statement_download", "document_download"),
];

impl World {
    fn since(&self, change: Change, at: i64) -> Option<i64> {
        let moments = self.0.iter().filter(|scenario| scenario.change == change && scenario.at <= at);
        moments.map(|scenario| scenario.at).max().map(|moment| at - moment)
    }

    pub(super) fn name(&self, name: &'static str, at: i64) -> &'static str {
        if self.0.is_empty() || self.since(Change::PageRename, at).is_none() {
            return name;
        }
        RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new)
    }

    pub(super) fn layout(&self, at: i64) -> usize {
        usize::from(self.since(Change::LayoutChange, at).is_some())
    }

    /// How strongly a shock is felt: 1 when it comes, 0 after two weeks.
    pub(super) fn shock(&self, at: i64) -> f64 {
        self.since(Change::Shock, at).map_or(0.0, |ms| (1.0 - real(ms) / real(14 * DAY_MS)).max(0.0))
    }
}
