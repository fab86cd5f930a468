//! Alerts as the monitor keeps them, and how many were false.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bank::{DAY_MS, is_weekend};
use dce::drift::histogram::Histogram;
use dce::drift::judge::Judge;
use dce::drift::verdict::Statistic;
use dce::drift::window::Window;
use dce::wire::drift::{DriftReference, Outcome};

/// Windows in a row without a breach that end an alert.
const CLEAN: u32 = 6;

/// Of the false alarms that were asked for.
const SHARES: [(&str, f64); 4] = [("w1_log", 0.45), ("exceedance", 0.3), ("zero", 0.05), ("volume", 0.1)];

/// What quiet streams gave.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) days: f64,
    /// By segment.
    alerts: BTreeMap<usize, u32>,
    /// When each opened.
    pub(crate) alerts_at: Vec<i64>,
    /// By what told first.
    told: BTreeMap<&'static str, u32>,
    /// Beyond the threshold in k of m, whatever the effect, by statistic.
    beyond: BTreeMap<&'static str, u32>,
    /// Windows by outcome.
    outcomes: BTreeMap<String, u32>,
}

impl Counts {
    /// Days between false alarms, measured by asked.
    pub(crate) fn ratio(&self, asked_days: f64) -> f64 {
        self.days / f64::from(self.alerts.values().sum::<u32>()) / asked_days
    }

    pub(crate) fn print(&self, asked_days: f64) {
        let all = self.alerts.values().sum::<u32>();
        println!(
            "{} false alarms in {} days: one in {:.1}, asked one in {asked_days}",
            all,
            self.days,
            self.days / f64::from(all)
        );
        println!("by segment {:?}, by statistic {:?}", self.alerts, self.told);
        for (statistic, beyond) in &self.beyond {
            let each = asked_days / SHARES.iter().find(|(name, _)| name == statistic).map_or(1.0, |(_, share)| *share);
            let days = self.days / f64::from(*beyond);
            println!(
                "{statistic}: beyond its threshold {beyond} times: once in {days:.0} days, asked once in {each:.0}: {:.2}",
                days / each
            );
        }
        let weekends = self.alerts_at.iter().filter(|at| is_weekend(**at)).count();
        println!("{weekends} of them on weekends, which are 2 days in 7; outcomes {:?}", self.outcomes);
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Watch {
    judge: Judge,
    lines: Vec<Line>,
    pub(crate) is_counted: bool,
}

#[derive(Debug, Clone, Default)]
struct Line {
    is_open: bool,
    clean: u32,
    beyond: BTreeMap<&'static str, Episode>,
}

/// Beyond a threshold in 2 of 3, until 6 are not.
#[derive(Debug, Clone, Default)]
struct Episode {
    last: [bool; 3],
    is_open: bool,
    clean: u32,
}

impl Episode {
    /// Whether one begins.
    fn add(&mut self, is_beyond: bool) -> bool {
        self.last = [self.last[1], self.last[2], is_beyond];
        let is_told = is_beyond && self.last.iter().filter(|beyond| **beyond).count() >= 2;
        self.clean = if is_told { 0 } else { self.clean + 1 };
        let begins = is_told && !self.is_open;
        self.is_open = is_told || self.is_open && self.clean < CLEAN;
        begins
    }
}

impl Watch {
    pub(crate) fn new(judge: Judge) -> Self {
        Self { judge, lines: Vec::new(), is_counted: false }
    }

    pub(crate) fn pin(&mut self, windows: &[Window], pasts: &[Histogram], at_ms: i64) {
        for (window, past) in windows.iter().zip(pasts) {
            self.judge.pin(&DriftReference {
                segment: Arc::clone(&window.segment.0),
                model: None,
                from: at_ms - 7 * DAY_MS,
                to: at_ms,
                pinned_at: at_ms,
                accepts: false,
                zero: past.zero(),
                buckets: past.filled().collect(),
            });
        }
    }

    pub(crate) fn close(&mut self) {
        for line in &mut self.lines {
            line.is_open = false;
        }
    }

    /// Gives the alerts that open: of which segment, about what.
    pub(crate) fn judge(&mut self, windows: &[Window], counts: &mut Counts) -> Vec<(usize, Statistic)> {
        let verdicts = self.judge.judge(windows);
        self.lines.resize_with(windows.len(), Line::default);
        let mut opened = Vec::new();
        for (segment, (window, verdict)) in windows.iter().zip(&verdicts).enumerate() {
            let line = &mut self.lines[segment];
            if self.is_counted {
                *counts.outcomes.entry(format!("{:?}", verdict.outcome)).or_default() += 1;
                for score in &verdict.scores {
                    let Some(threshold) = score.threshold else { continue };
                    let name = score.statistic.as_str();
                    if line.beyond.entry(name).or_default().add(score.value > threshold) {
                        *counts.beyond.entry(name).or_default() += 1;
                    }
                }
            }
            match verdict.outcome {
                Outcome::Breach if verdict.pages => {
                    line.clean = 0;
                    if !line.is_open {
                        line.is_open = true;
                        let statistic = verdict.told.expect("a breach tells").statistic;
                        opened.push((segment, statistic));
                        if self.is_counted {
                            counts.alerts_at.push(window.start_ms);
                            *counts.alerts.entry(segment).or_default() += 1;
                            *counts.told.entry(statistic.as_str()).or_default() += 1;
                        }
                    }
                }
                Outcome::Ok => {
                    line.clean += 1;
                    line.is_open &= line.clean < CLEAN;
                }
                Outcome::Breach | Outcome::Insufficient | Outcome::NoReference => {}
            }
            self.judge.set_alarm(&window.segment, line.is_open);
        }
        opened
    }
}
