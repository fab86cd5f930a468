//! What is usual for a customer, learnt from the stream itself, and what is not. Takes records in their order,
//! prints a line a flag.
#![allow(clippy::print_stdout, reason = "a program of its own")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]

use std::collections::{HashMap, HashSet};

use dce::wire::embedding::CustomerEmbedding;

const ALWAYS: f64 = 0.99; // Beyond this quantile of the usual distances a session is flagged,
const NEW_DEVICE: f64 = 0.5; // and beyond this one if the customer was never seen with its device.
const OWN_MIN: usize = 20; // With so many distances a customer is measured by his own, else by everybody's.
const ALL_MIN: usize = 200; // Before nothing is usual.
const DISTANCES_MAX: usize = 2000;

#[derive(Default)]
pub(crate) struct Customer {
    sequence: u64,
    last: Option<CustomerEmbedding>, // The last settled one.
    distances: Vec<f64>,             // Between settled ones, in order of size.
    devices: HashSet<String>,
}

#[derive(Default)]
pub(crate) struct Detector {
    pub(crate) customers: HashMap<String, Customer>,
    all: HashMap<i32, Vec<f64>>, // By partition: what is flagged does not depend on how a reader mixes them.
    pub(crate) compared: HashMap<String, bool>, // Sessions, and whether a label says that they are a thief's.
    pub(crate) flagged: HashMap<String, &'static str>,
    pub(crate) gaps: u64,
    pub(crate) repeats: u64,
}

impl Detector {
    /// `is_stolen`: what a label says, for the score alone.
    pub(crate) fn see(&mut self, partition: i32, record: &CustomerEmbedding, is_stolen: bool) {
        let (id, sequence) = (record.customer_id.as_str(), record.sequence);
        let customer = self.customers.entry(id.to_owned()).or_default();
        if customer.sequence > 0 && sequence <= customer.sequence {
            self.repeats += 1; // Read committed there is none; another reader keeps the first.
            return println!("repeat customer={id} sequence={sequence}");
        }
        if customer.sequence > 0 && sequence > customer.sequence + 1 {
            self.gaps += 1;
            println!("gap customer={id} sequence={sequence} after {}", customer.sequence);
        }
        customer.sequence = sequence;
        let device = record.cause.device_id.as_deref().unwrap_or("").to_owned();
        let all = self.all.entry(partition).or_default();
        // Vectors of two models cannot be compared, and a cold start has nothing before it.
        let last = customer.last.as_ref().filter(|last| last.model == record.model && !record.cold_start);
        let distance = last.map(|last| distance(&last.embedding, &record.embedding));
        if let Some(distance) = distance.filter(|_| all.len() >= ALL_MIN) {
            let is_new = !customer.devices.contains(&device);
            let usual = if customer.distances.len() >= OWN_MIN { &customer.distances } else { &*all };
            let limit = quantile(usual, if is_new { NEW_DEVICE } else { ALWAYS });
            let (uid, as_of) = (record.cause.session_uid.to_string(), record.as_of.ms());
            *self.compared.entry(uid.clone()).or_default() |= is_stolen;
            let why = match (record.gate < 0.5, distance > limit, is_new) {
                (true, ..) => "gate", // The model itself kept the session out of the state.
                (false, true, true) => "new-device",
                (false, true, false) => "distance",
                (false, false, _) => "",
            };
            if !why.is_empty() && !self.flagged.contains_key(&uid) {
                print!("flag customer={id} session={uid} distance={distance:.4} limit={limit:.4}");
                println!(" as_of={as_of} device={device} why={why}");
                self.flagged.insert(uid, why);
            }
        }
        if record.kind.is_settled() && record.gate >= 0.5 {
            if let Some(distance) = distance {
                learn(&mut customer.distances, distance);
                learn(all, distance);
            }
            customer.last = Some(record.clone());
            customer.devices.insert(device);
        }
    }

    /// Against the labels: how often flags are right, and how many thefts they find.
    pub(crate) fn score(&self) {
        let share = |part: usize, of: usize| format!("{part} of {of} ({:.4})", part as f64 / of.max(1) as f64);
        let stolen = self.compared.values().filter(|stolen| **stolen).count();
        println!("base rate: {} sessions", share(stolen, self.compared.len()));
        for why in ["any", "distance", "gate", "new-device"] {
            let flagged: Vec<_> = self.flagged.iter().filter(|(_, by)| why == "any" || **by == why).collect();
            let right = flagged.iter().filter(|(uid, _)| self.compared[*uid]).count();
            println!("why={why}: precision {}, recall {}", share(right, flagged.len()), share(right, stolen));
        }
    }
}

/// 1 − cosine; the vectors have unit length.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    1.0 - a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
}

fn learn(distances: &mut Vec<f64>, distance: f64) {
    distances.insert(distances.partition_point(|other| *other < distance), distance);
    if distances.len() > DISTANCES_MAX {
        *distances = distances.iter().copied().step_by(2).collect(); // Its quantiles stay, and what is new weighs more.
    }
}

fn quantile(distances: &[f64], share: f64) -> f64 {
    distances[(distances.len() as f64 * share) as usize]
}
