//! Two topics beside each other, record by record: lost, duplicated, different or out of order.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Bed, Got};

/// Embeddings may differ by so much; on one kind of machine they do not differ at all.
const TOLERANCE: f64 = 1e-5;
/// Differing records that are shown.
const SHOWN: usize = 5;
/// Of each.
const SHOWN_CHARS: usize = 160;

#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Compared.
    pub records: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// In content, or in their customer's order.
    pub different: u64,
    pub first: Vec<String>,
}

impl Difference {
    pub(super) fn wrong(&self) -> u64 {
        self.lost + self.duplicated + self.different
    }

    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.different += other.different;
        self.first.extend(other.first);
        self.first.truncate(SHOWN);
    }

    fn show(&mut self, what: &str, record: &Got) {
        if self.first.len() < SHOWN {
            let record: String = format!("{record:?}").chars().take(SHOWN_CHARS).collect();
            self.first.push(format!("{what}: {record}"));
        }
    }
}

/// What names a record in both runs, and how many of its name came before it: a tombstone has no more than its key.
type Name = (i32, String, usize);

/// By name, and each key's names in order.
fn named(records: Vec<Got>) -> (BTreeMap<Name, Got>, BTreeMap<String, Vec<Name>>) {
    let (mut by_name, mut orders) = (BTreeMap::new(), BTreeMap::<String, Vec<Name>>::new());
    let mut counts = BTreeMap::<(i32, String), usize>::new();
    for record in records {
        let key = record.key.clone().unwrap_or_default();
        let value: Value = record.value.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let field = |name: &str| value[name].to_string();
        // A rejected record's place in the input stands in its headers.
        let offset = record.headers.get("dce-source-offset").cloned().unwrap_or_else(|| field("source_offset"));
        let cause = [offset, field("session_uid"), field("revision"), field("kind"), field("sequence")].join(" ");
        let name = (record.partition, format!("{key} {cause}"));
        let count = counts.entry(name.clone()).or_default();
        let name = (name.0, name.1, *count);
        *count += 1;
        orders.entry(key).or_default().push(name.clone());
        by_name.insert(name, record);
    }
    (by_name, orders)
}

pub(super) fn topics(bed: &Bed, want: &str, found: &str) -> Difference {
    let (want, want_orders) = named(bed.read_with_headers(want));
    let (found, found_orders) = named(bed.read_with_headers(found));
    let mut difference = Difference { records: want.len() as u64, ..Difference::default() };
    for (name, want) in &want {
        match found.get(name) {
            None => {
                difference.lost += 1;
                difference.show("lost", want);
            }
            Some(found) if !is_same(want, found) => {
                difference.different += 1;
                difference.show("wanted", want);
                difference.show("found", found);
            }
            Some(_) => {}
        }
    }
    for (name, record) in found.iter().filter(|(name, _)| !want.contains_key(*name)) {
        difference.duplicated += 1;
        difference.show(&format!("not wanted, {name:?}"), record);
    }
    let is_whole = difference.wrong() == 0;
    for (key, order) in want_orders.iter().filter(|(key, order)| is_whole && found_orders.get(*key) != Some(*order)) {
        difference.different += 1;
        difference.first.push(format!("another order of {key}: wanted {order:?}, found {:?}", found_orders.get(key)));
    }
    difference
}

fn is_same(want: &Got, found: &Got) -> bool {
    if want.headers != found.headers {
        return false;
    }
    let json = |got: &Got| got.value.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    match (json(want), json(found)) {
        (Some(Value::Object(mut want)), Some(Value::Object(mut found))) => {
            for value in [&mut want, &mut found] {
                value.remove("emitted_at");
            }
            want.len() == found.len()
                && want.iter().all(|(name, want)| found.get(name).is_some_and(|f| is_near(want, f)))
        }
        _ => want.value == found.value,
    }
}

fn is_near(want: &Value, found: &Value) -> bool {
    match (want, found) {
        (Value::Array(want), Value::Array(found)) => {
            want.len() == found.len() && want.iter().zip(found).all(|(want, found)| is_near(want, found))
        }
        (Value::Number(want), Value::Number(found)) if want.is_f64() => {
            let (want, found) = (want.as_f64().unwrap_or_default(), found.as_f64().unwrap_or(f64::INFINITY));
            (want - found).abs() <= TOLERANCE
        }
        (want, found) => want == found,
    }
}
