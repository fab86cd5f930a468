//! What a window is compared with: counts of the same hour of the week in past weeks, of the past 24 hours while there are no
//! weeks, or what somebody pinned. `[pure]`
//!
//! A segment's past is kept in slots of half an hour, the newest five weeks of each half hour of the week, packed:
//! about half a kilobyte a slot, so that a segment takes at most a megabyte however many customers there are. Weeks are UTC's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::histogram::Histogram;
use super::window::{Window, count};
use crate::wire::drift::ReferenceKind;

const SLOT_MS: i64 = 30 * 60 * 1000;
const SLOTS_PER_WEEK: i64 = 7 * 48;
const WEEK_MS: i64 = SLOTS_PER_WEEK * SLOT_MS;
/// One more than are ever used: the newest may be this week's.
const WEEKS_KEPT: usize = 5;
/// Nothing older is compared with.
const WEEKS_OLD: i64 = 10;
/// A half hour with fewer distances is compared with the ones before and after, too.
const DISTANCES_WANTED: u64 = 1000;
/// Slots of the warm-up, and the fewest that make one.
const DAY_SLOTS: i64 = 48;
const WARMUP_SLOTS_MIN: usize = 12;

/// Counts to compare with.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    pub kind: ReferenceKind,
    pub shifts: Histogram,
    /// Windows in it. 0 of a pinned one, which is not divided into windows.
    pub windows: u64,
    /// Weeks in it; 0 where it is no [`ReferenceKind::SameHour`].
    pub weeks: usize,
    /// By the names of [`super::window::count`]: the mean of a window. Empty for a pinned one.
    pub counts: BTreeMap<Arc<str>, f64>,
    /// Where in the week a window began, in milliseconds, and its customers in the mean; ascending. Empty for a pinned one.
    customers: Vec<(i64, f64)>,
}

impl Reference {
    pub fn pinned(shifts: Histogram) -> Self {
        let kind = ReferenceKind::Pinned;
        Self { kind, shifts, windows: 0, weeks: 0, counts: BTreeMap::new(), customers: Vec::new() }
    }

    /// How many customers a window should have: the mean of those that began up to two windows before or after it. Numbers grow
    /// and fall within the hour. `None` where there are none.
    pub fn customers(&self, window: &Window) -> Option<f64> {
        if self.kind == ReferenceKind::Warmup {
            return self.counts.get(count::CUSTOMERS).copied();
        }
        let reach = 2 * (window.end_ms - window.start_ms);
        let near = self.customers.iter().filter(|(start, _)| {
            let apart = (window.start_ms - start).rem_euclid(WEEK_MS);
            apart <= reach || WEEK_MS - apart <= reach
        });
        let (sum, windows) = near.fold((0.0, 0.0), |(sum, windows), (_, mean)| (sum + mean, windows + 1.0));
        (windows > 0.0).then(|| sum / windows)
    }
}

/// Half an hour's counts, packed.
#[derive(Debug, Clone)]
struct Slot {
    /// Half hours since 1970.
    at: i64,
    windows: u64,
    /// Milliseconds from the half hour's start to the window's, and its customers; ascending.
    customers: Vec<(i64, u64)>,
    /// Zeros, then by filled bucket: how many buckets farther than the one before, and the count.
    shifts: Box<[u8]>,
    /// By name: its place in [`Names`], and the count.
    counts: Box<[u8]>,
}

/// The names of counts, each once. They come from a closed set, and the reasons of rejects.
#[derive(Debug, Clone, Default)]
pub struct Names {
    all: Vec<Arc<str>>,
    places: BTreeMap<Arc<str>, u64>,
}

/// More names than any window has; the counts of others are left out of the means.
const NAMES_MAX: usize = 1000;

impl Names {
    fn place(&mut self, name: &Arc<str>) -> Option<u64> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        if self.all.len() >= NAMES_MAX {
            return None;
        }
        let place = self.all.len() as u64;
        self.all.push(Arc::clone(name));
        self.places.insert(Arc::clone(name), place);
        Some(place)
    }

    fn name(&self, place: u64) -> Option<&Arc<str>> {
        self.all.get(usize::try_from(place).ok()?)
    }
}

/// One segment's past.
#[derive(Debug, Clone)]
pub struct Past {
    /// By half hour of the week, ascending in time.
    weeks: Vec<VecDeque<Slot>>,
}

impl Default for Past {
    fn default() -> Self {
        Self { weeks: (0..SLOTS_PER_WEEK).map(|_| VecDeque::new()).collect() }
    }
}

impl Past {
    /// Windows come in order of time.
    pub fn add(&mut self, window: &Window, names: &mut Names) {
        let at = slot_of(window.start_ms);
        let slots = &mut self.weeks[place_of(at)];
        let (mut sum, mut customers) = (Sum::default(), Vec::new());
        if slots.back().is_some_and(|slot| slot.at == at)
            && let Some(slot) = slots.pop_back()
        {
            sum.add(&slot);
            customers = slot.customers;
        }
        customers.push((window.start_ms - at * SLOT_MS, window.count(count::CUSTOMERS)));
        sum.windows += 1;
        sum.shifts.merge(&window.shifts);
        for (name, count) in &window.counts {
            if let Some(place) = names.place(name) {
                *sum.counts.entry(place).or_default() += count;
            }
        }
        slots.push_back(sum.packed(at, customers));
        while slots.len() > WEEKS_KEPT {
            slots.pop_front();
        }
    }

    /// The half hour of a moment in up to `weeks_max` past weeks; `None` where there is
    /// none in `weeks_min`.
    pub fn same_hour(&self, start_ms: i64, weeks_min: usize, weeks_max: usize, names: &Names) -> Option<Reference> {
        let at = slot_of(start_ms);
        let here: Vec<&Slot> = self.weeks_of(at, weeks_max).collect();
        if here.len() < weeks_min.max(1) {
            return None;
        }
        let mut sum = Sum::default();
        here.iter().for_each(|slot| sum.add(slot));
        // The nearer in time the better, if only there are enough.
        if sum.shifts.len() < DISTANCES_WANTED {
            [at - 1, at + 1].into_iter().flat_map(|near| self.weeks_of(near, weeks_max)).for_each(|slot| sum.add(slot));
        }
        let mut reference = sum.reference(ReferenceKind::SameHour, here.len(), names);
        reference.customers = self.customers(at, weeks_max);
        Some(reference)
    }

    /// The same half hour of the newest past weeks.
    fn weeks_of(&self, at: i64, weeks_max: usize) -> impl Iterator<Item = &Slot> {
        // Not of this week, whose half hours may just have passed.
        let past = self.weeks[place_of(at)].iter().rev().filter(move |slot| at - slot.at >= SLOTS_PER_WEEK / 2);
        past.filter(move |slot| at - slot.at <= WEEKS_OLD * SLOTS_PER_WEEK).take(weeks_max)
    }

    fn customers(&self, at: i64, weeks_max: usize) -> Vec<(i64, f64)> {
        let mut sums: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for near in [at - 1, at, at + 1] {
            for (offset_ms, customers) in self.weeks_of(near, weeks_max).flat_map(|slot| &slot.customers) {
                let (windows, sum) = sums.entry(near * SLOT_MS + offset_ms).or_default();
                *windows += 1;
                *sum += customers;
            }
        }
        sums.into_iter().map(|(start_ms, (windows, sum))| (start_ms, sum as f64 / windows as f64)).collect()
    }

    /// The 24 hours before, but for the newest, which may not be whole yet.
    pub fn warmup(&self, start_ms: i64, names: &Names) -> Option<Reference> {
        let at = slot_of(start_ms);
        let mut sum = Sum::default();
        let mut slots = 0;
        for near in at - DAY_SLOTS..at - 2 {
            if let Some(slot) = self.weeks[place_of(near)].iter().find(|slot| slot.at == near) {
                sum.add(slot);
                slots += 1;
            }
        }
        (slots >= WARMUP_SLOTS_MIN).then(|| sum.reference(ReferenceKind::Warmup, 0, names))
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[derive(Debug, Clone, Default)]
struct Sum {
    windows: u64,
    shifts: Histogram,
    counts: BTreeMap<u64, u64>,
}

impl Sum {
    fn add(&mut self, slot: &Slot) {
        self.windows += slot.windows;
        let mut shifts = Unpacked(&slot.shifts);
        let zero = shifts.next().unwrap_or(0);
        let mut bucket = 0;
        let filled = std::iter::from_fn(|| {
            bucket += usize::try_from(shifts.next()?).ok()?;
            Some((bucket, shifts.next()?))
        });
        self.shifts.merge(&Histogram::of(zero, filled).expect("it was packed from a histogram"));
        let mut counts = Unpacked(&slot.counts);
        while let (Some(place), Some(count)) = (counts.next(), counts.next()) {
            *self.counts.entry(place).or_default() += count;
        }
    }

    fn packed(&self, at: i64, customers: Vec<(i64, u64)>) -> Slot {
        let mut shifts = Vec::new();
        pack(&mut shifts, self.shifts.zero());
        let mut before = 0;
        for (bucket, count) in self.shifts.filled() {
            pack(&mut shifts, (bucket - before) as u64);
            pack(&mut shifts, count);
            before = bucket;
        }
        let mut counts = Vec::new();
        for (place, count) in &self.counts {
            pack(&mut counts, *place);
            pack(&mut counts, *count);
        }
        Slot { at, windows: self.windows, customers, shifts: shifts.into(), counts: counts.into() }
    }

    fn reference(self, kind: ReferenceKind, weeks: usize, names: &Names) -> Reference {
        let mean = |count: u64| count as f64 / self.windows as f64;
        let named =
            self.counts.iter().filter_map(|(place, count)| Some((Arc::clone(names.name(*place)?), mean(*count))));
        let counts = named.collect();
        Reference { kind, counts, shifts: self.shifts, windows: self.windows, weeks, customers: Vec::new() }
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn pack(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

struct Unpacked<'a>(&'a [u8]);

impl Iterator for Unpacked<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let length = self.0.iter().position(|byte| *byte < 0x80)? + 1;
        let (number, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)))
    }
}

/// Half hours since 1970.
pub fn slot_of(start_ms: i64) -> i64 {
    start_ms.div_euclid(SLOT_MS)
}

fn place_of(slot: i64) -> usize {
    usize::try_from(slot.rem_euclid(SLOTS_PER_WEEK)).expect("less than a week's slots, and not negative")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::window::Segment;
    use super::*;

    const WIDTH_MS: i64 = 5 * 60 * 1000;

    fn window(start_ms: i64, shifts: Histogram) -> Window {
        let counts = BTreeMap::from([(Arc::from(count::CUSTOMERS), shifts.len()), (Arc::from("close.GAP"), 2)]);
        let end_ms = start_ms + WIDTH_MS;
        Window { segment: Segment::all(), start_ms, end_ms, model: None, shifts, counts, is_partial: false }
    }

    fn of(bucket: usize, count: u64) -> Histogram {
        Histogram::of(1, [(bucket, count)]).expect("a bucket")
    }

    #[test]
    fn the_same_half_hour_of_four_past_weeks_is_compared_with() {
        let (mut past, mut names) = (Past::default(), Names::default());
        for (week, bucket) in (0..7).zip(100..) {
            past.add(&window(week * WEEK_MS + WIDTH_MS, of(bucket, 3000)), &mut names);
        }
        let found = past.same_hour(7 * WEEK_MS, 2, 4, &names).expect("there are weeks");
        assert_eq!((found.weeks, found.windows, found.shifts.zero()), (4, 4, 4));
        assert_eq!(found.shifts.filled().collect::<Vec<_>>(), [(103, 3000), (104, 3000), (105, 3000), (106, 3000)]);
        assert_eq!(found.counts["close.GAP"], 2.0);
        let counted = |start_ms| found.customers(&window(start_ms, Histogram::default()));
        assert_eq!(counted(7 * WEEK_MS), Some(3001.0));
        assert_eq!(counted(7 * WEEK_MS + 4 * WIDTH_MS), None, "too far in time");
        // Of this week's, and of a time long ago, nothing.
        assert_eq!(past.same_hour(6 * WEEK_MS + WIDTH_MS, 2, 4, &names).map(|found| found.weeks), Some(4));
        assert_eq!(past.same_hour(20 * WEEK_MS, 1, 4, &names), None);
        assert_eq!(past.same_hour(7 * WEEK_MS + SLOT_MS, 1, 4, &names), None);
    }

    #[test]
    fn a_warm_up_is_of_the_day_before() {
        let (mut past, mut names) = (Past::default(), Names::default());
        for slot in 0..100 {
            past.add(&window(slot * SLOT_MS, of(100, 10)), &mut names);
        }
        let found = past.warmup(100 * SLOT_MS, &names).expect("a day");
        assert_eq!(found.windows, 46, "but for the newest hour");
        assert_eq!(past.warmup(10 * SLOT_MS, &names), None, "half a day at least");
    }

    #[test]
    fn a_segment_takes_a_megabyte_at_the_most() {
        let (mut past, mut names) = (Past::default(), Names::default());
        let wide = Histogram::of(9, (20..220).map(|bucket| (bucket, 100))).expect("each once");
        for slot in 0..8 * SLOTS_PER_WEEK {
            past.add(&window(slot * SLOT_MS, wide.clone()), &mut names);
        }
        let slots = past.weeks.iter().flatten();
        let bytes: usize =
            slots.clone().map(|slot| slot.shifts.len() + slot.counts.len() + 6 * 16 + size_of::<Slot>()).sum();
        assert_eq!(slots.count(), 5 * 336);
        assert!(bytes < 1_100_000, "{bytes}");
    }

    proptest! {
        #[test]
        fn numbers_are_packed_and_unpacked(numbers in proptest::collection::vec(prop_oneof![0..300_u64, any::<u64>()], 0..20)) {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|number| pack(&mut bytes, *number));
            prop_assert_eq!(Unpacked(&bytes).collect::<Vec<_>>(), numbers);
        }

        /// Against all windows kept, and searched.
        #[test]
        fn packed_slots_say_what_the_windows_say(given in proptest::collection::vec((0..6_i64, -3..9_i64, 0..241_usize, 1..900_u64), 1..40)) {
            let mut starts: Vec<_> = given.into_iter().map(|(week, at, bucket, n)| (week * WEEK_MS + at * WIDTH_MS, bucket, n)).collect();
            starts.sort_by_key(|(start_ms, ..)| *start_ms);
            starts.dedup_by_key(|(start_ms, ..)| *start_ms);
            let windows: Vec<Window> = starts.into_iter().map(|(start_ms, bucket, n)| window(start_ms, of(bucket, n))).collect();
            let (mut past, mut names) = (Past::default(), Names::default());
            windows.iter().for_each(|window| past.add(window, &mut names));
            let now_ms = 6 * WEEK_MS;
            let slots = |near: i64| {
                let slots = windows.iter().map(|window| slot_of(window.start_ms)).filter(|slot| (slot - near) % SLOTS_PER_WEEK == 0);
                let mut slots: Vec<i64> = slots.collect();
                slots.dedup();
                slots.split_off(slots.len().saturating_sub(4))
            };
            let at = slot_of(now_ms);
            let here = slots(at);
            let sum = |slots: &[i64]| {
                let mut sum = Histogram::default();
                windows.iter().filter(|window| slots.contains(&slot_of(window.start_ms))).for_each(|window| sum.merge(&window.shifts));
                sum
            };
            let mut truth = sum(&here);
            if truth.len() < DISTANCES_WANTED {
                truth = sum(&[here.clone(), slots(at - 1), slots(at + 1)].concat());
            }
            let found = past.same_hour(now_ms, 1, 4, &names);
            prop_assert_eq!(found.map(|found| (found.shifts, found.weeks)), (!here.is_empty()).then_some((truth, here.len())));
        }
    }
}
