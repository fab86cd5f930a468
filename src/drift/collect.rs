//! Records of the embeddings topic → windows. Which window a record counts in is a function of the record alone, so that the
//! same topic gives the same windows whatever the order in which its partitions are read and however often reading began
//! anew. `[pure]`
//!
//! - By its `closed_at`, if it was published (the record's own timestamp) before the window's end and the lateness;
//! - else it is late, and counted as that in the window in which it was published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

use super::counted::Counted;
use super::vectors::{Check, Vectors};
use super::window::{Segment, Window, count};
use crate::wire::avro::Schemas;
use crate::wire::glance::Glance;

/// How records are cut into windows. Milliseconds.
#[derive(Debug, Clone)]
pub struct Cut {
    pub width_ms: i64,
    pub lateness_ms: i64,
    /// A `closed_at` further beyond the record's timestamp is refused.
    pub future_ms: i64,
    /// Segments beside `all`; of more the largest are kept, the rest is `(other)`.
    pub segments_max: usize,
    /// Customers of one window and partition; more are counted, without their distances.
    pub customers_max: usize,
}

/// Values of one dimension that are told apart within one window, in multiples of the segments that are kept.
const VALUES_A_SEGMENT: usize = 8;
/// What all values beyond are called.
const OTHER: &str = "(other)";
/// A segment without a customer for so long is forgotten.
const FORGOTTEN_MS: i64 = 7 * 24 * 3_600_000;
/// Windows lie no further ahead of the first open one.
const AHEAD_MS: i64 = 48 * 3_600_000;
/// The largest distances of a window that are kept with their customers.
const FARTHEST: usize = 100;
const REASONS_MAX: usize = 32;
/// The dimension of the models' segments.
const MODEL: &str = "model";

/// A customer whose embedding moved far.
#[derive(Debug, Clone, PartialEq)]
pub struct Far {
    pub customer_id: String,
    pub sequence: u64,
    pub session_uid: String,
    pub model: Arc<str>,
    pub channel: Option<String>,
    pub cosine_shift: f64,
    pub closed_at: i64,
    pub gate: f32,
}

/// All segments of one window, `all` first, then by name; with the customers that moved farthest, the farthest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    pub windows: Vec<Window>,
    pub farthest: Vec<Far>,
}

/// A window that is being counted.
#[derive(Debug, Default)]
struct Open {
    /// Hashes of the customers that were counted, by partition.
    customers: BTreeMap<i32, HashSet<u64>>,
    segments: HashMap<String, Counted>,
    rejects: BTreeMap<String, u64>,
    bad: BTreeMap<&'static str, u64>,
    /// Customers beyond the limit.
    over: u64,
    farthest: Farthest,
}

#[derive(Debug)]
pub struct Collector {
    cut: Cut,
    /// Start of the first window that is not closed.
    from_ms: i64,
    /// Windows that start before it were not seen whole.
    whole_from_ms: i64,
    open: BTreeMap<i64, Open>,
    /// The segments that have windows, and the start of the last one with a customer.
    known: BTreeMap<Arc<str>, i64>,
    vectors: Vectors,
    models: HashMap<String, Arc<str>>,
    /// Records that no window takes: too far ahead.
    refused: u64,
    scratch: String,
}

impl Collector {
    /// Counts windows from 1970 on, or from where [`Self::begin`] says.
    pub fn new(cut: Cut) -> Self {
        assert!(cut.width_ms > 0, "a window has a width");
        Self {
            from_ms: 0,
            cut,
            whole_from_ms: 0,
            open: BTreeMap::new(),
            known: BTreeMap::new(),
            vectors: Vectors::default(),
            models: HashMap::new(),
            refused: 0,
            scratch: String::new(),
        }
    }

    /// The first window is the one that starts there, or next.
    pub fn begin(&mut self, from_ms: i64) {
        self.from_ms = from_ms.div_euclid(self.cut.width_ms) * self.cut.width_ms;
        if self.from_ms < from_ms {
            self.from_ms += self.cut.width_ms;
        }
    }

    /// Windows that start before then are not seen whole.
    pub fn partial_before(&mut self, whole_from_ms: i64) {
        self.whole_from_ms = whole_from_ms.max(self.whole_from_ms);
    }

    /// When the first open window can be closed.
    pub fn next_close_ms(&self) -> i64 {
        self.from_ms + self.cut.width_ms + self.cut.lateness_ms
    }

    /// A window was closed before.
    pub fn remember(&mut self, window: &Window) {
        let last = self.known.entry(Arc::clone(&window.segment.0)).or_insert(window.start_ms);
        if window.count(count::CUSTOMERS) > 0 {
            *last = window.start_ms.max(*last);
        }
        self.learn_dimension(window);
    }

    fn learn_dimension(&mut self, window: &Window) {
        let model = window.segment.as_str().strip_prefix(MODEL).and_then(|rest| rest.strip_prefix('='));
        if let (Some(model), Some(dimension)) = (model, window.dimension()) {
            self.vectors.set_dimension(model, dimension);
        }
    }

    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Distances computed anew.
    pub fn check(&self) -> Check {
        self.vectors.check()
    }

    /// A record of the embeddings topic; a tombstone is none.
    pub fn record(&mut self, value: &[u8], published_ms: i64, partition: i32, schemas: &Schemas) {
        let Ok(glance) = Glance::decode(value, schemas) else { return self.bad("decode", published_ms) };
        let is_revision = match &*glance.kind {
            "SESSION_CLOSED" => false,
            "SESSION_REVISED" => true,
            "PROVISIONAL" => return,
            _ => return self.bad("kind", published_ms),
        };
        let Some(closed_at) = glance.closed_at.filter(|closed_at| *closed_at >= 0) else {
            return self.bad("time", published_ms);
        };
        if closed_at > published_ms.saturating_add(self.cut.future_ms) {
            return self.bad("time", published_ms);
        }
        // Of late ones too: the next distance begins there.
        let distance = self.vectors.distance(&glance, value, schemas);
        let start = self.start_of(closed_at);
        if published_ms >= start.saturating_add(self.cut.width_ms + self.cut.lateness_ms) {
            return self.late(&glance, published_ms);
        }
        if !self.is_open(start) {
            return;
        }
        let model = self.model(&glance.model);
        let open = self.open.entry(start).or_default();
        let is_counted = !is_revision && {
            let seen = open.customers.entry(partition).or_default();
            let room = seen.len() < self.cut.customers_max;
            let hash = xxh3_64(glance.customer_id.as_bytes());
            let is_new = if room { seen.insert(hash) } else { !seen.contains(&hash) };
            open.over += u64::from(is_new && !room);
            is_new && room
        };
        let delay_ms = published_ms - closed_at;
        for_segments(&glance, &mut self.scratch, |name| {
            let values_max = self.cut.segments_max * VALUES_A_SEGMENT;
            let counted = counted(&mut open.segments, name, values_max);
            counted.record(&glance, is_revision, delay_ms, &model);
            if is_counted {
                counted.customer(&glance, distance);
            }
        });
        if let (true, Some(shift)) = (is_counted, distance.shift()) {
            open.farthest.offer(&glance, shift, closed_at, &model);
        }
    }

    /// A record of the topic of rejected clicks.
    pub fn reject(&mut self, reason: &str, published_ms: i64) {
        let start = self.start_of(published_ms);
        if !self.is_open(start) {
            return;
        }
        let rejects = &mut self.open.entry(start).or_default().rejects;
        let reason = if rejects.len() < REASONS_MAX || rejects.contains_key(reason) { reason } else { OTHER };
        *rejects.entry(reason.to_owned()).or_default() += 1;
    }

    /// Closes all windows whose lateness has passed by then: the caller knows that all records published before are here.
    pub fn close(&mut self, until_ms: i64) -> Vec<Closed> {
        let mut all = Vec::new();
        while self.next_close_ms() <= until_ms {
            let open = self.open.remove(&self.from_ms);
            if open.is_some() || !self.known.is_empty() {
                all.push(self.closed(open.unwrap_or_default()));
            }
            self.from_ms += self.cut.width_ms;
        }
        all
    }

    fn closed(&mut self, mut open: Open) -> Closed {
        let start = self.from_ms;
        self.known.retain(|name, last| name.as_ref() == Segment::ALL || start - *last <= FORGOTTEN_MS);
        self.choose_segments(&mut open.segments);
        let mut names: BTreeSet<Arc<str>> = self.known.keys().cloned().collect();
        names.remove(Segment::ALL);
        let mut windows = Vec::with_capacity(names.len() + 1);
        for name in std::iter::once(Arc::from(Segment::ALL)).chain(names) {
            let mut counted = open.segments.remove(name.as_ref()).unwrap_or_default();
            if counted.has_customers() {
                self.known.insert(Arc::clone(&name), start);
            } else if name.as_ref() == Segment::ALL {
                self.known.entry(Arc::clone(&name)).or_insert(start);
            }
            let mut counts = counted.counts();
            if name.as_ref() == Segment::ALL {
                counts.extend(open.rejects.iter().map(|(why, n)| (format!("{}{why}", count::REJECT).into(), *n)));
                counts.extend(open.bad.iter().map(|(why, n)| (format!("{}{why}", count::BAD).into(), *n)));
                counts.extend((open.over > 0).then(|| (count::OVER.into(), open.over)));
            }
            let window = Window {
                segment: Segment(name),
                start_ms: start,
                end_ms: start + self.cut.width_ms,
                model: counted.model(),
                shifts: std::mem::take(&mut counted.shifts),
                counts,
                is_partial: start < self.whole_from_ms,
            };
            self.learn_dimension(&window);
            windows.push(window);
        }
        Closed { windows, farthest: open.farthest.done() }
    }

    /// Segments that have windows already keep them; of the others the largest get one, as far as there is room. What is left
    /// is counted together, by dimension.
    fn choose_segments(&mut self, segments: &mut HashMap<String, Counted>) {
        let mut new: Vec<(bool, u64, String)> = segments
            .iter()
            .filter(|(name, _)| name.as_str() != Segment::ALL && !self.known.contains_key(name.as_str()))
            .map(|(name, counted)| (name.starts_with("label."), counted.customers(), name.clone()))
            .collect();
        // Channels and models first: there are few, and labels may have any number of values.
        new.sort_by(|a, b| (a.0, b.1, &a.2).cmp(&(b.0, a.1, &b.2)));
        for (_, _, name) in new {
            let is_rest = name == format!("{}={OTHER}", dimension(&name));
            if is_rest || self.known.len() <= self.cut.segments_max {
                self.known.insert(name.into(), self.from_ms);
                continue;
            }
            let rest = format!("{}={OTHER}", dimension(&name));
            let counted = segments.remove(&name).expect("it was in there");
            segments.entry(rest.clone()).or_default().merge(&counted);
            self.known.entry(rest.into()).or_insert(self.from_ms);
        }
    }

    fn late(&mut self, glance: &Glance<'_>, published_ms: i64) {
        let start = self.start_of(published_ms);
        if !self.is_open(start) {
            return;
        }
        let open = self.open.entry(start).or_default();
        for_segments(glance, &mut self.scratch, |name| {
            counted(&mut open.segments, name, self.cut.segments_max * VALUES_A_SEGMENT).late += 1;
        });
    }

    fn bad(&mut self, why: &'static str, published_ms: i64) {
        let start = self.start_of(published_ms);
        if self.is_open(start) {
            *self.open.entry(start).or_default().bad.entry(why).or_default() += 1;
        }
    }

    /// Not closed, and not further ahead than anything can be that is to be believed.
    fn is_open(&mut self, start: i64) -> bool {
        if start > self.from_ms.saturating_add(AHEAD_MS) {
            self.refused += 1;
            return false;
        }
        start >= self.from_ms
    }

    fn start_of(&self, ms: i64) -> i64 {
        ms.div_euclid(self.cut.width_ms) * self.cut.width_ms
    }

    fn model(&mut self, name: &str) -> Arc<str> {
        if let Some(model) = self.models.get(name) {
            return Arc::clone(model);
        }
        // Hostile names shall not stay.
        if self.models.len() >= 1_000 {
            self.models.clear();
        }
        let model: Arc<str> = name.into();
        self.models.insert(name.to_owned(), Arc::clone(&model));
        model
    }
}

/// `all`, then each that the record is part of.
fn for_segments(glance: &Glance<'_>, scratch: &mut String, mut each: impl FnMut(&str)) {
    each(Segment::ALL);
    let mut named = |dimension: [&str; 2], value: &str| {
        scratch.clear();
        scratch.extend([dimension[0], dimension[1], "=", value]);
        each(scratch);
    };
    if let Some(channel) = &glance.channel {
        named(["channel", ""], channel);
    }
    named([MODEL, ""], &glance.model);
    for (name, value) in &glance.labels.0 {
        named(["label.", name], value);
    }
}

/// What stands before the first `=`.
fn dimension(segment: &str) -> &str {
    segment.split_once('=').map_or(segment, |(dimension, _)| dimension)
}

/// Of the segment; of `(other)` of its dimension, where there are very many.
fn counted<'s>(segments: &'s mut HashMap<String, Counted>, name: &str, values_max: usize) -> &'s mut Counted {
    if segments.contains_key(name) {
        return segments.get_mut(name).expect("it is there");
    }
    let name = if segments.len() < values_max || name == Segment::ALL {
        name.to_owned()
    } else {
        format!("{}={OTHER}", dimension(name))
    };
    segments.entry(name).or_default()
}

/// Those that moved farthest, up to [`FARTHEST`] and some that wait to be cut off.
#[derive(Debug, Default)]
struct Farthest {
    kept: Vec<Far>,
    /// Nothing below it can be among them.
    floor: f64,
}

impl Farthest {
    fn offer(&mut self, glance: &Glance<'_>, shift: f64, closed_at: i64, model: &Arc<str>) {
        if shift <= 0.0 || shift < self.floor {
            return;
        }
        self.kept.push(Far {
            customer_id: glance.customer_id.to_string(),
            sequence: glance.sequence,
            session_uid: glance.session_uid.to_string(),
            model: Arc::clone(model),
            channel: glance.channel.as_deref().map(str::to_owned),
            cosine_shift: shift,
            closed_at,
            gate: glance.gate,
        });
        if self.kept.len() >= 2 * FARTHEST {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.kept
            .sort_by(|a, b| b.cosine_shift.total_cmp(&a.cosine_shift).then_with(|| a.customer_id.cmp(&b.customer_id)));
        self.kept.truncate(FARTHEST);
        if self.kept.len() == FARTHEST {
            self.floor = self.kept[FARTHEST - 1].cosine_shift;
        }
    }

    fn done(mut self) -> Vec<Far> {
        self.cut();
        self.kept
    }
}
