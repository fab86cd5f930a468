//! Whether a record's vector is one, and whether its `cosine_shift` is true: for a sample of the customers, by a hash of
//! their ids, the distance is computed anew from the vectors themselves. `[pure]`

use std::sync::Arc;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::histogram::DISTANCE_MAX;
use crate::wire::avro::Schemas;
use crate::wire::embedding::CustomerEmbedding;
use crate::wire::glance::Glance;

/// One customer in so many is checked.
const SAMPLE: u64 = 256;
/// So many of them at one time.
const SAMPLED_MAX: usize = 8_192;
/// Models whose dimension is remembered.
const MODELS_MAX: usize = 64;
/// Of the difference between the record's distance and ours: vectors are published with 24 bits.
const TOLERANCE: f64 = 1e-5;
/// Of a unit vector's sum of squares from 1.
const LENGTH_TOLERANCE: f64 = 1e-3;

/// What a record says of its customer's move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distance {
    /// In [0, 2].
    Of(f64),
    /// Nothing to compare with: the first one, or another model than before.
    None,
    /// Not of unit length, not finite, of another dimension than the model's others, or a distance that is none.
    NoVector,
}

impl Distance {
    pub fn shift(self) -> Option<f64> {
        match self {
            Self::Of(shift) => Some(shift),
            Self::None | Self::NoVector => None,
        }
    }
}

/// How many distances were computed anew, and how many of them are not what the record says. Since the start of the process:
/// what was before is known for whom it has seen alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Check {
    pub checked: u64,
    pub mismatched: u64,
}

#[derive(Debug, Default)]
pub struct Vectors {
    check: Check,
    dimensions: HashMap<String, usize>,
    /// The last settled vector of those in the sample.
    last: HashMap<String, (Arc<str>, Vec<f32>)>,
}

impl Vectors {
    pub fn check(&self) -> Check {
        self.check
    }

    /// Takes every settled record, in each customer's order.
    pub fn distance(&mut self, glance: &Glance<'_>, value: &[u8], schemas: &Schemas) -> Distance {
        let measured = glance.embedding;
        // Not a number is within no tolerance.
        let is_unit = (measured.squares - 1.0).abs() <= LENGTH_TOLERANCE;
        if !is_unit || !self.is_models_dimension(&glance.model, measured.dimension) {
            self.last.remove(&*glance.customer_id);
            return Distance::NoVector;
        }
        let is_sampled = xxh3_64_with_seed(glance.customer_id.as_bytes(), 1).is_multiple_of(SAMPLE);
        let ours = if is_sampled { self.recompute(value, schemas) } else { None };
        match glance.cosine_shift {
            None => Distance::None,
            // 1 − cos of vectors of 24 bits may lie a little outside.
            Some(shift) if (-TOLERANCE..=DISTANCE_MAX + TOLERANCE).contains(&shift) => {
                if let Some(ours) = ours {
                    self.check.checked += 1;
                    self.check.mismatched += u64::from((ours - shift).abs() > TOLERANCE);
                }
                Distance::Of(shift.clamp(0.0, DISTANCE_MAX))
            }
            Some(_) => Distance::NoVector,
        }
    }

    /// What most of a model's vectors were; until it is said, the first one counts.
    pub fn set_dimension(&mut self, model: &str, dimension: usize) {
        if self.dimensions.len() >= MODELS_MAX && !self.dimensions.contains_key(model) {
            self.dimensions.clear();
        }
        self.dimensions.insert(model.to_owned(), dimension);
    }

    fn is_models_dimension(&mut self, model: &str, dimension: usize) -> bool {
        if let Some(known) = self.dimensions.get(model) {
            return *known == dimension;
        }
        self.set_dimension(model, dimension);
        true
    }

    /// The distance from the customer's vector before, where that is known and of the same model.
    fn recompute(&mut self, value: &[u8], schemas: &Schemas) -> Option<f64> {
        let now = CustomerEmbedding::decode(value, schemas).ok()?;
        let id = now.customer_id.as_str();
        let model: Arc<str> = now.model.as_str().into();
        let before = self.last.get(id).filter(|(known, _)| *known == model);
        let distance = before.map(|(_, before)| one_less_cosine(before, &now.embedding));
        if self.last.contains_key(id) || self.last.len() < SAMPLED_MAX {
            self.last.insert(id.to_owned(), (model, now.embedding));
        }
        distance
    }
}

fn one_less_cosine(one: &[f32], two: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    1.0 - dot(one, two) / (dot(one, one) * dot(two, two)).sqrt()
}
