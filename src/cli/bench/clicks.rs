//! The bench's input: a generated bank's clicks, as records of a topic in both encodings.

use std::sync::Arc;

use crate::config::Encoding;
use crate::generate::{Bank, Dirt, Params, Record, partition_of};
use crate::wire::click::Input;

/// Customers of the bank: enough that most sessions are of somebody who was not there just before.
const CUSTOMERS: u32 = 20_000;

/// A record of the input.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) partition: i32,
    pub(super) key: Arc<str>,
    pub(super) value: Box<[u8]>,
    pub(super) timestamp_ms: i64,
}

/// The clicks of a somewhat dirty bank that opened so many days ago, in order of arrival.
pub(super) fn clicks(events: u64, now_ms: i64) -> Vec<Record> {
    let days = Bank::days_for(CUSTOMERS, events);
    let dirt = Dirt { shuffle_ms: 5_000, shuffle_share: 0.1, duplicate: 0.01, drop_logout: 0.1, ..Dirt::CLEAN };
    #[expect(clippy::cast_possible_truncation, reason = "days of milliseconds")]
    let start = now_ms - ((days + 2.0) * 86_400_000.0) as i64;
    let params =
        Params { customers: CUSTOMERS, start, days, open_end: true, events_max: Some(events), dirt, ..Params::new(1) };
    Bank::new(params).collect()
}

/// The same clicks as bytes; partitioned as Java's producers do.
pub(super) fn encoded(clicks: &[Record], encoding: Encoding, partitions: usize) -> Vec<Raw> {
    let partitions = u32::try_from(partitions).expect("few partitions");
    let raw = |Record { click, record_time }: &Record| {
        let mut value = Vec::new();
        let written = Input::Click(click.event().expect("after 1970")).encode_into(encoding, &mut value);
        written.expect("the bank's numbers are finite");
        let partition = partition_of(click.customer_id.as_bytes(), partitions);
        Raw {
            partition: i32::try_from(partition).expect("few partitions"),
            key: Arc::clone(&click.customer_id),
            value: value.into(),
            timestamp_ms: *record_time,
        }
    };
    clicks.iter().map(raw).collect()
}
