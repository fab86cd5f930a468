//! From clicks to the numbers that the graphs take: vocabulary ids, logarithms, calendar, context. `[pure]`
//!
//! Everything is computed in f64 by `libm` and rounded to f32 once, so that every machine gives the same bits:
//! the C library's logarithms and sines do not.

use std::borrow::Cow;
use std::f64::consts::TAU;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::types::{EventTime, fnv1a64};
use crate::wire::click::ClickEvent;

/// The features of one event, without the time since the event before, which depends on its neighbours.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventFeatures {
    /// One id a categorical field, as in the contract.
    pub fields: Vec<u32>,
    /// The manifest's numbers, normalised; column 0 of the graph's input is not among them.
    pub numbers: Vec<f32>,
    /// One of its values fell into a bucket for unknown names. A missing value never makes it so.
    pub unknown: bool,
}

/// Where a categorical value is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Name,
    Kind,
    Channel,
    DeviceId,
    /// The value of this key.
    Attribute(Box<str>),
}

impl Source {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "name" => Some(Self::Name),
            "kind" => Some(Self::Kind),
            "channel" => Some(Self::Channel),
            "device_id" => Some(Self::DeviceId),
            _ => {
                let key = text.strip_prefix("attributes.").filter(|key| !key.is_empty());
                key.map(|key| Self::Attribute(key.into()))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("name"),
            Self::Kind => f.write_str("kind"),
            Self::Channel => f.write_str("channel"),
            Self::DeviceId => f.write_str("device_id"),
            Self::Attribute(key) => write!(f, "attributes.{key}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    Identity,
    /// sign(x) · ln(1 + |x|)
    Log1p,
}

/// How a number is brought to the size that the graphs were trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    pub transform: Transform,
    pub mean: f64,
    /// Finite and not 0.
    pub scale: f64,
}

/// A categorical field of an event.
#[derive(Debug, Clone)]
pub struct Field {
    source: Source,
    known: HashMap<Box<str>, u32>,
    buckets: u32,
}

/// A number of an event, out of the attribute of this name.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    pub attribute: Box<str>,
    pub scaling: Scaling,
}

/// A number of the customer, out of a LOGIN's context.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    pub name: Box<str>,
    pub scaling: Scaling,
}

/// How a bundle turns events, contexts and times into numbers. Clones share it: each epoch takes one.
#[derive(Debug, Clone)]
pub struct FeatureSpec {
    fields: Arc<[Field]>,
    numbers: Arc<[Number]>,
    context: Arc<[Context]>,
    zone: TimeZone,
}

/// What is normalised lies in ± this.
const CLIP: f64 = 8.0;
const DAY_MS: i64 = 86_400_000;
const HOUR_MS: f64 = 3_600_000.0;

impl FeatureSpec {
    pub fn new(fields: Vec<Field>, numbers: Vec<Number>, context: Vec<Context>, zone: TimeZone) -> Self {
        Self { fields: fields.into(), numbers: numbers.into(), context: context.into(), zone }
    }

    /// No fields, no numbers, no context: for the sessionizer without a model.
    pub fn none() -> Self {
        Self::new(Vec::new(), Vec::new(), Vec::new(), TimeZone::UTC)
    }

    /// Columns of `fields`: F.
    pub fn fields_len(&self) -> usize {
        self.fields.len()
    }

    /// Columns of `numbers`, the time since the event before included: N.
    pub fn numbers_len(&self) -> usize {
        1 + self.numbers.len()
    }

    /// Columns of `context`: C.
    pub fn context_len(&self) -> usize {
        2 * self.context.len()
    }

    /// How many ids a field has, padding included.
    pub fn ids_len(&self, field: usize) -> u32 {
        self.fields[field].ids_len()
    }

    pub fn event(&self, event: &ClickEvent<'_>) -> EventFeatures {
        let mut features = EventFeatures::default();
        self.event_over(event, &mut features);
        features
    }

    /// The same in the memory of other features.
    pub fn event_over(&self, event: &ClickEvent<'_>, features: &mut EventFeatures) {
        let EventFeatures { fields, numbers, unknown } = features;
        *unknown = false;
        fields.clear();
        fields.extend(self.fields.iter().map(|field| field.id(event, unknown)));
        let number = |column: &Number| column.scaling.apply(decimal(last(&event.attributes, &column.attribute)?)?);
        numbers.clear();
        numbers.extend(self.numbers.iter().map(|column| number(column).unwrap_or(0.0)));
    }

    /// Values, then masks. Of a name that comes twice the last value counts.
    pub fn context(&self, values: &[(Cow<'_, str>, f64)]) -> Box<[f32]> {
        let mut columns = vec![0.0; self.context_len()];
        let (scaled, masks) = columns.split_at_mut(self.context.len());
        for (column, feature) in self.context.iter().enumerate() {
            let value = values.iter().rev().find(|(name, _)| **name == *feature.name);
            if let Some(value) = value.and_then(|(_, value)| feature.scaling.apply(*value)) {
                scaled[column] = value;
                masks[column] = 1.0;
            }
        }
        columns.into()
    }

    /// The context of a session that has no LOGIN.
    pub fn no_context(&self) -> Box<[f32]> {
        vec![0.0; self.context_len()].into()
    }

    /// Sine and cosine of the time of day, then of the day of week, by the wall clock of the bundle's time zone.
    /// Beyond the year 9999, where time zones end, by UTC.
    pub fn calendar(&self, ms: i64) -> [f32; 4] {
        let offset_s = match Timestamp::from_millisecond(ms) {
            Ok(timestamp) => self.zone.to_offset(timestamp).seconds(),
            Err(_) => 0,
        };
        let local = i128::from(ms) + i128::from(offset_s) * 1000;
        let of_day = local.rem_euclid(i128::from(DAY_MS));
        // 1 January 1970 was a Thursday: 3 where Monday is 0.
        let weekday = (local.div_euclid(i128::from(DAY_MS)) + 3).rem_euclid(7);
        let day = TAU * of_day as f64 / DAY_MS as f64;
        let week = TAU * weekday as f64 / 7.0;
        [rounded(libm::sin(day)), rounded(libm::cos(day)), rounded(libm::sin(week)), rounded(libm::cos(week))]
    }
}

/// Column 0 of `numbers`: ln(1 + seconds) from the event before to this one.
pub fn seconds_since(previous: EventTime, this: EventTime) -> f32 {
    let ms = this.ms().saturating_sub(previous.ms()).max(0);
    rounded(libm::log1p(ms as f64 / 1000.0))
}

/// `gap` and `ahead`: ln(1 + hours).
pub fn hours(ms: u64) -> f32 {
    rounded(libm::log1p(ms as f64 / HOUR_MS))
}

impl Field {
    /// `known` in the vocabulary's order, each once; `buckets` is 1 or more.
    pub fn new(source: Source, known: &[impl AsRef<str>], buckets: u32) -> Self {
        assert!(buckets > 0, "an unknown name needs a bucket");
        let known: HashMap<Box<str>, u32> =
            known.iter().zip(1..).map(|(name, id)| (name.as_ref().into(), id)).collect();
        Self { source, known, buckets }
    }

    fn ids_len(&self) -> u32 {
        1 + self.known_len() + self.buckets
    }

    fn known_len(&self) -> u32 {
        u32::try_from(self.known.len()).expect("the manifest bounds vocabularies")
    }

    fn id(&self, event: &ClickEvent<'_>, unknown: &mut bool) -> u32 {
        let value = match &self.source {
            Source::Name => &event.name,
            Source::Kind => event.kind.as_str(),
            Source::Channel => event.channel.as_deref().unwrap_or(""),
            Source::DeviceId => event.device_id.as_deref().unwrap_or(""),
            Source::Attribute(key) => last(&event.attributes, key).unwrap_or(""),
        };
        if let Some(id) = self.known.get(value) {
            return *id;
        }
        *unknown |= !value.is_empty();
        let bucket = fnv1a64(value.as_bytes()) % u64::from(self.buckets);
        self.known_len() + 1 + u32::try_from(bucket).expect("below a u32")
    }
}

impl Scaling {
    /// Of what is no number, nothing.
    fn apply(&self, value: f64) -> Option<f32> {
        if !value.is_finite() {
            return None;
        }
        let transformed = match self.transform {
            Transform::Identity => value,
            Transform::Log1p => libm::copysign(libm::log1p(value.abs()), value),
        };
        Some(rounded(((transformed - self.mean) / self.scale).clamp(-CLIP, CLIP)))
    }
}

/// A decimal number such as -12.5 or 3e4; the words that Rust reads as numbers (inf, nan) are none.
fn decimal(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Of a key that comes twice the last value counts, as in JSON.
fn last<'a>(attributes: &'a [(Cow<'_, str>, Cow<'_, str>)], key: &str) -> Option<&'a str> {
    attributes.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &**value)
}

#[expect(clippy::cast_possible_truncation, reason = "the one rounding of the contract")]
fn rounded(number: f64) -> f32 {
    number as f32
}
