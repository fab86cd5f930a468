//! Windows to verdicts: each segment's window against its reference, by thresholds from the monitor's own past. `[pure]`
//!
//! ```text
//! window ─▸ enough customers? ─▸ scores against the reference ─▸ beyond threshold and floor, in k of m? ─▸ verdict
//!              └ put together up to an hour        ▲                        ▲
//!                    past windows, an hour later ──┴── past scores, by day ─┘   neither grows while an alert is open
//! ```
//! The verdicts are a function of the windows, the pins and the alerts in their order, bit for bit. A segment takes at most about a
//! megabyte: half an hour's counts of 5 weeks, packed; hourly maxima of scores of 4 weeks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::creep::Creep;
use super::histogram::Histogram;
use super::reference::{Names, Past, Reference, slot_of};
use super::score::{self, Measured};
use super::threshold::{self, Maxima, Season};
use super::verdict::{Score, Statistic, Told, Verdict};
use super::window::{Segment, Window, count};
use crate::wire::drift::{DriftReference, Outcome, ReferenceKind};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A window becomes part of references and thresholds so much later, if no alert has opened since.
const ADMISSION_MS: i64 = 60 * 60 * 1000;
/// Segments without a score for so long take no part of the budget.
const BUDGET_DAYS: i64 = 7;
/// Segments without a window for so long are forgotten.
const FORGET_DAYS: i64 = 70;
/// So many windows in a row with another model are a change of the model.
const MODEL_WINDOWS: u32 = 3;
/// The statistics that are calibrated on the past: all but the creep.
const CALIBRATED: usize = 4;
const KINDS: usize = 3;

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// At most one false alarm in so many days, over all segments and statistics.
    pub false_alarm_days: f64,
    /// So many windows in breach …
    pub breaches: usize,
    /// … of the last so many.
    pub of: usize,
    /// Distances that a window of `all` needs, and of another segment.
    pub customers_min: u64,
    pub segment_customers_min: u64,
    /// Windows are put together up to this time to have so many.
    pub merge_max_ms: i64,
    /// Weeks that the same hour of the week needs, and takes at most.
    pub weeks_min: usize,
    pub weeks_max: usize,
    /// Smaller effects are no breach, however certain. Wasserstein-1 of ln(distance): 0.0953 is 10 %.
    pub w1_log_min: f64,
    /// How many times as many beyond the reference's 99th percentile.
    pub exceedance_ratio_min: f64,
    /// How much greater the share of distances of exactly 0.
    pub zero_share_min: f64,
    /// How many times as many customers, or as few.
    pub volume_ratio_min: f64,
}

impl Rule {
    fn is_effect(&self, statistic: Statistic, effect: f64) -> bool {
        match statistic {
            Statistic::W1Log | Statistic::Creep => effect >= self.w1_log_min,
            Statistic::Exceedance => effect >= self.exceedance_ratio_min,
            Statistic::Zero => effect >= self.zero_share_min,
            Statistic::Volume => effect >= self.volume_ratio_min || effect * self.volume_ratio_min <= 1.0,
        }
    }

    fn customers_min(&self, segment: &Segment) -> u64 {
        if segment.is_all() { self.customers_min } else { self.segment_customers_min }
    }
}

/// All segments' pasts.
#[derive(Debug, Clone)]
pub struct Judge {
    rule: Rule,
    lines: BTreeMap<Segment, Line>,
    names: Names,
    /// Of the newest window; thresholds are fitted when it turns.
    day: Option<i64>,
    /// Days between false alarms of one segment.
    days_each: f64,
}

/// One segment.
#[derive(Debug, Clone, Default)]
struct Line {
    past: Past,
    model: Option<Arc<str>>,
    /// Windows in a row with another model.
    other_model: u32,
    pinned: Option<Pinned>,
    is_alarmed: bool,
    /// Windows that wait to be enough together.
    pending: Vec<Pending>,
    /// Ends where the last window ended.
    end_ms: Option<i64>,
    kind: Option<ReferenceKind>,
    recent: Recent,
    /// Against the same hour of the week while there are too few weeks to tell: thresholds grow before they are needed.
    rehearsal: Recent,
    waiting: VecDeque<Waiting>,
    seasons: [[Season; CALIBRATED]; KINDS],
    maxima: [[Maxima; CALIBRATED]; KINDS],
    thresholds: [[Option<f64>; CALIBRATED]; KINDS],
    /// By half hour: this one and the two before.
    cached: BTreeMap<i64, Option<Arc<Reference>>>,
    scored_day: Option<i64>,
    seen_day: Option<i64>,
}

#[derive(Debug, Clone)]
struct Pinned {
    model: Option<Arc<str>>,
    reference: Arc<Reference>,
    creep: Creep,
}

#[derive(Debug, Clone)]
struct Pending {
    start_ms: i64,
    shifts: Histogram,
}

/// Windows put together.
struct Group {
    shifts: Histogram,
    middle_ms: i64,
    windows: u32,
    is_enough: bool,
}

/// The last m scores of each statistic: when, whether in breach, how large in units of the usual.
#[derive(Debug, Clone, Default)]
struct Recent([VecDeque<(i64, bool, f64)>; CALIBRATED]);

impl Recent {
    /// Gives the k-th largest of the last m; `None` where there are not so many.
    fn push(&mut self, start_ms: i64, score: &Score, scale: f64, rule: &Rule) -> Option<f64> {
        let last = &mut self.0[score.statistic as usize];
        last.push_back((start_ms, score.is_breach, score.value / scale));
        while last.len() > rule.of {
            last.pop_front();
        }
        let mut values: Vec<f64> = last.iter().map(|(_, _, value)| *value).collect();
        values.sort_by(|one, two| two.total_cmp(one));
        values.get(rule.breaches - 1).copied()
    }

    /// The start of the earliest breach, if there are k of m and the newest is one.
    fn since(&self, statistic: Statistic, rule: &Rule) -> Option<i64> {
        let last = &self.0[statistic as usize];
        let mut breaches = last.iter().filter(|(_, is_breach, _)| *is_breach);
        let first = breaches.next()?.0;
        (last.back()?.1 && 1 + breaches.count() >= rule.breaches).then_some(first)
    }
}

/// A window on its way into the past.
#[derive(Debug, Clone)]
struct Waiting {
    window: Window,
    peaks: Vec<Peak>,
}

#[derive(Debug, Clone, Copy)]
struct Peak {
    kind: ReferenceKind,
    statistic: Statistic,
    value: f64,
    /// The k-th largest of the last m, in units of the usual.
    peak: Option<f64>,
}

impl Judge {
    pub fn new(rule: Rule) -> Self {
        assert!(rule.breaches >= 1 && rule.breaches <= rule.of, "k of m: {} of {}", rule.breaches, rule.of);
        let days_each = rule.false_alarm_days;
        Self { rule, lines: BTreeMap::new(), names: Names::default(), day: None, days_each }
    }

    /// Windows of one start, each of another segment; starts ascend. A segment without customers has a window, too, once it was
    /// seen: an empty one. The verdicts stand in the windows' order.
    pub fn judge(&mut self, windows: &[Window]) -> Vec<Verdict> {
        windows.iter().map(|window| self.step(window, None)).collect()
    }

    /// A window that was judged before, with its scores, in the order in which it was judged. [`Self::set_alarm`] is told in
    /// between as it was then.
    pub fn remember(&mut self, window: &Window, verdict: &Verdict) {
        self.step(window, Some(verdict));
    }

    /// From now on. The days from before `pinned_at` have no part in the creep.
    pub fn pin(&mut self, pinned: &DriftReference) {
        let Some(shifts) = Histogram::of(pinned.zero, pinned.buckets.iter().copied()) else { return };
        let line = self.lines.entry(Segment(Arc::clone(&pinned.segment))).or_default();
        if pinned.accepts {
            line.restart();
            line.is_alarmed = false;
        }
        let creep = Creep::new(shifts.clone(), pinned.pinned_at);
        let reference = Reference::pinned(shifts);
        line.pinned = Some(Pinned { model: pinned.model.clone(), reference: reference.into(), creep });
        line.cached.clear();
    }

    pub fn unpin(&mut self, segment: &Segment) {
        if let Some(line) = self.lines.get_mut(segment) {
            line.pinned = None;
            line.cached.clear();
        }
    }

    /// What the segment's window of that start is compared with as things stand.
    pub fn reference(&self, segment: &Segment, start_ms: i64) -> Option<Arc<Reference>> {
        let line = self.lines.get(segment)?;
        match line.cached.get(&slot_of(start_ms)) {
            Some(reference) => reference.clone(),
            None => line.find(start_ms, &self.rule, &self.names),
        }
    }

    /// An alert is open on the segment: its windows, the hour before included, stay out of references and thresholds. Told after
    /// each start's verdicts, and with every remembered window.
    pub fn set_alarm(&mut self, segment: &Segment, is_open: bool) {
        if let Some(line) = self.lines.get_mut(segment) {
            line.is_alarmed = is_open;
            if is_open {
                line.waiting.clear();
            }
        }
    }

    /// What somebody pinned, which the creep is measured by.
    pub fn pinned(&self, segment: &Segment) -> Option<Arc<Reference>> {
        Some(Arc::clone(&self.lines.get(segment)?.pinned.as_ref()?.reference))
    }

    fn step(&mut self, window: &Window, remembered: Option<&Verdict>) -> Verdict {
        let day = window.start_ms.div_euclid(DAY_MS);
        if self.day.is_none_or(|before| before < day) {
            self.day = Some(day);
            self.turn(day);
        }
        let line = self.lines.entry(window.segment.clone()).or_default();
        line.seen_day = Some(day);
        let verdict = line.step(window, remembered, &self.rule, &mut self.names, self.days_each);
        if !verdict.scores.is_empty() {
            line.scored_day = Some(day);
        }
        verdict
    }

    /// Fits the thresholds to the pasts as they are at a day's first window.
    fn turn(&mut self, day: i64) {
        self.lines
            .retain(|_, line| line.pinned.is_some() || line.seen_day.is_none_or(|seen| day - seen <= FORGET_DAYS));
        let scored = |line: &&Line| line.scored_day.is_some_and(|scored| day - scored <= BUDGET_DAYS);
        let segments = self.lines.values().filter(scored).count().max(1);
        self.days_each = self.rule.false_alarm_days * segments as f64;
        for kind in 0..KINDS {
            for (statistic, (floor, share)) in FLOORS.iter().zip(SHARES).enumerate() {
                let chance = share / (24.0 * self.days_each);
                let all = self.lines.values().map(|line| &line.maxima[kind][statistic]);
                let pooled = threshold::threshold(all, chance);
                for line in self.lines.values_mut() {
                    let maxima = &line.maxima[kind][statistic];
                    let own = maxima.is_enough().then(|| threshold::threshold(std::iter::once(maxima), chance));
                    line.thresholds[kind][statistic] = own.unwrap_or(pooled).map(|found| found.max(*floor));
                }
            }
        }
    }
}

/// Of the false alarms that were asked for: W1Log, Exceedance, Zero, Volume; the rest is the creep's. Zeros hardly come by chance,
/// and numbers have to double to count, so that little is enough for them.
const SHARES: [f64; CALIBRATED] = [0.45, 0.3, 0.05, 0.1];
const CREEP_SHARE: f64 = 0.1;

/// No threshold is below: of a past without any distance of 0, say, nothing can be read.
const FLOORS: [f64; CALIBRATED] = [1.2, 2.0, 2.5, 2.0];

impl Line {
    fn restart(&mut self) {
        self.past.clear();
        self.pending.clear();
        self.waiting.clear();
        self.kind = None;
        self.recent = Recent::default();
        self.rehearsal = Recent::default();
        self.cached.clear();
    }

    /// A few windows in a row, for at night one customer may be most of the records.
    fn follow_model(&mut self, window: &Window) {
        let Some(model) = &window.model else { return };
        match &self.model {
            Some(before) if before == model => self.other_model = 0,
            Some(_) if self.other_model + 1 < MODEL_WINDOWS => self.other_model += 1,
            Some(_) => {
                self.restart();
                (self.model, self.other_model) = (Some(Arc::clone(model)), 0);
            }
            None => {
                self.model = Some(Arc::clone(model));
                self.cached.clear();
            }
        }
    }

    fn find(&self, start_ms: i64, rule: &Rule, names: &Names) -> Option<Arc<Reference>> {
        let same_hour = self.past.same_hour(start_ms, rule.weeks_min, rule.weeks_max, names);
        if let Some(same_hour) = same_hour.filter(|reference| !reference.shifts.is_empty()) {
            return Some(same_hour.into());
        }
        let pinned = self.pinned.as_ref().filter(|pinned| pinned.model == self.model);
        if let Some(pinned) = pinned {
            return Some(Arc::clone(&pinned.reference));
        }
        self.past.warmup(start_ms, names).filter(|reference| !reference.shifts.is_empty()).map(Arc::new)
    }

    fn reference(&mut self, start_ms: i64, rule: &Rule, names: &Names) -> Option<Arc<Reference>> {
        let slot = slot_of(start_ms);
        if !self.cached.contains_key(&slot) {
            let found = self.find(start_ms, rule, names);
            self.cached.retain(|cached, _| slot - cached <= 2);
            self.cached.insert(slot, found);
        }
        self.cached.get(&slot).and_then(Clone::clone)
    }

    fn step(
        &mut self,
        window: &Window,
        remembered: Option<&Verdict>,
        rule: &Rule,
        names: &mut Names,
        days_each: f64,
    ) -> Verdict {
        if self.end_ms != Some(window.start_ms) {
            self.pending.clear();
        }
        self.end_ms = Some(window.end_ms);
        self.follow_model(window);
        if window.is_partial {
            self.pending.clear();
            return insufficient(1);
        }
        let group = self.group(window, rule);
        let reference = self.reference(group.middle_ms, rule, names);
        let kind = remembered.map_or(reference.as_ref().map(|reference| reference.kind), |verdict| verdict.reference);
        if self.kind != kind {
            self.recent = Recent::default();
            self.kind = kind;
        }

        let mut peaks = self.rehearse(window, &group, kind, rule, names);
        let mut scores = match remembered {
            Some(verdict) => verdict.scores.iter().map(|score| rejudged(score, rule)).collect(),
            None => self.scores(window, &group, reference.as_deref(), rule),
        };
        if let Some(kind) = kind {
            for score in scores.iter().filter(|score| (score.statistic as usize) < CALIBRATED) {
                let scale = self.seasons[kind as usize][score.statistic as usize].scale(window.start_ms);
                let peak = self.recent.push(window.start_ms, score, scale, rule);
                peaks.push(Peak { kind, statistic: score.statistic, value: score.value, peak });
            }
        }
        let remembered_creep = remembered.and_then(|verdict| verdict.score(Statistic::Creep));
        scores.retain(|score| score.statistic != Statistic::Creep);
        scores.extend(self.creep(window, remembered_creep, rule, days_each));

        let told = self.told(window, &scores, rule);
        let outcome = match (&told, &kind) {
            (Some(_), _) => Outcome::Breach,
            (None, _) if !group.is_enough => Outcome::Insufficient,
            (None, None) => Outcome::NoReference,
            (None, Some(_)) => Outcome::Ok,
        };
        self.wait(window, peaks, names);
        Verdict {
            outcome,
            reference: kind,
            reference_count: reference.as_ref().map_or(0, |reference| reference.shifts.len()),
            windows: group.windows,
            pages: told.is_some_and(|told| told.statistic == Statistic::Creep || kind != Some(ReferenceKind::Warmup)),
            scores,
            told,
        }
    }

    fn group(&mut self, window: &Window, rule: &Rule) -> Group {
        let (start_ms, end_ms) = (window.start_ms, window.end_ms);
        self.pending.push(Pending { start_ms, shifts: window.shifts.clone() });
        self.pending.retain(|pending| end_ms - pending.start_ms <= rule.merge_max_ms.max(end_ms - start_ms));
        let mut shifts = Histogram::default();
        for pending in &self.pending {
            shifts.merge(&pending.shifts);
        }
        let first_ms = self.pending.first().map_or(start_ms, |pending| pending.start_ms);
        let windows = u32::try_from(self.pending.len()).unwrap_or(u32::MAX);
        let is_enough = shifts.len() >= rule.customers_min(&window.segment);
        if is_enough {
            self.pending.clear();
        }
        Group { shifts, middle_ms: first_ms + (start_ms - first_ms) / 2, windows, is_enough }
    }

    fn scores(&mut self, window: &Window, group: &Group, reference: Option<&Reference>, rule: &Rule) -> Vec<Score> {
        let Some(reference) = reference else { return Vec::new() };
        let (thresholds, seasons) = (&self.thresholds[reference.kind as usize], &self.seasons[reference.kind as usize]);
        let measured = measure(window, group, reference);
        let score = |measured: Measured| {
            let Measured { statistic, value, effect } = measured;
            let scale = seasons[statistic as usize].scale(window.start_ms);
            let threshold = thresholds[statistic as usize].map(|threshold| threshold * scale);
            rejudged(&Score { statistic, value, threshold, effect, is_breach: false }, rule)
        };
        measured.into_iter().map(score).collect()
    }

    fn rehearse(
        &mut self,
        window: &Window,
        group: &Group,
        kind: Option<ReferenceKind>,
        rule: &Rule,
        names: &Names,
    ) -> Vec<Peak> {
        if kind == Some(ReferenceKind::SameHour) {
            self.rehearsal = Recent::default();
            return Vec::new();
        }
        let Some(reference) = self.past.same_hour(group.middle_ms, 1, rule.weeks_max, names) else { return Vec::new() };
        let kind = ReferenceKind::SameHour;
        let peak = |measured: Measured| {
            let Measured { statistic, value, effect } = measured;
            let score = Score { statistic, value, threshold: None, effect, is_breach: false };
            let scale = self.seasons[kind as usize][statistic as usize].scale(window.start_ms);
            let peak = self.rehearsal.push(window.start_ms, &score, scale, rule);
            Peak { kind, statistic, value, peak }
        };
        measure(window, group, &reference).into_iter().map(peak).collect()
    }

    fn creep(&mut self, window: &Window, remembered: Option<&Score>, rule: &Rule, days_each: f64) -> Option<Score> {
        let pinned = self.pinned.as_mut().filter(|pinned| pinned.model == self.model)?;
        let found = pinned.creep.add(window.start_ms, &window.shifts, rule.w1_log_min, days_each / CREEP_SHARE);
        if let Some(score) = remembered {
            pinned.creep.resume(score.value, score.effect);
            return Some(*score);
        }
        let (value, effect) = found?;
        let score = Score {
            statistic: Statistic::Creep,
            value,
            threshold: Some(days_each / CREEP_SHARE),
            effect,
            is_breach: false,
        };
        Some(rejudged(&score, rule))
    }

    fn told(&self, window: &Window, scores: &[Score], rule: &Rule) -> Option<Told> {
        let mut farthest: Option<(f64, Told)> = None;
        for score in scores.iter().filter(|score| score.is_breach) {
            let statistic = score.statistic;
            let since_ms = match statistic {
                Statistic::Creep => window.start_ms,
                Statistic::W1Log | Statistic::Exceedance | Statistic::Zero | Statistic::Volume => {
                    let Some(since_ms) = self.recent.since(statistic, rule) else { continue };
                    since_ms
                }
            };
            let beyond = score.threshold.map_or(0.0, |threshold| score.value / threshold);
            if farthest.as_ref().is_none_or(|(most, _)| beyond > *most) {
                farthest = Some((beyond, Told { statistic, since_ms }));
            }
        }
        farthest.map(|(_, told)| told)
    }

    fn wait(&mut self, window: &Window, peaks: Vec<Peak>, names: &mut Names) {
        if !self.is_alarmed {
            self.waiting.push_back(Waiting { window: window.clone(), peaks });
        }
        while self.waiting.front().is_some_and(|first| window.start_ms - first.window.start_ms >= ADMISSION_MS) {
            let Some(Waiting { window: admitted, peaks }) = self.waiting.pop_front() else { break };
            self.past.add(&admitted, names);
            for Peak { kind, statistic, value, peak } in peaks {
                self.seasons[kind as usize][statistic as usize].add(admitted.start_ms, value);
                if let Some(peak) = peak {
                    self.maxima[kind as usize][statistic as usize].add(admitted.start_ms, peak);
                }
            }
        }
    }
}

fn measure(window: &Window, group: &Group, reference: &Reference) -> Vec<Measured> {
    let mut measured = if group.is_enough { score::shape(&group.shifts, &reference.shifts) } else { Vec::new() };
    if window.segment.has_own_numbers() {
        let expected = reference.customers(window).unwrap_or(0.0);
        measured.extend(score::volume(window.count(count::CUSTOMERS), expected, reference.windows));
    }
    measured
}

fn rejudged(score: &Score, rule: &Rule) -> Score {
    let is_beyond = score.threshold.is_some_and(|threshold| score.value > threshold);
    Score { is_breach: is_beyond && rule.is_effect(score.statistic, score.effect), ..*score }
}

fn insufficient(windows: u32) -> Verdict {
    Verdict {
        outcome: Outcome::Insufficient,
        reference: None,
        reference_count: 0,
        windows,
        pages: false,
        scores: Vec::new(),
        told: None,
    }
}
