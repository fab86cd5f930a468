//! The bank as records of a topic: key, bytes and times. Takes the arguments, gives one record at a time; no clock and no
//! client here.

use anyhow::Context as _;

use super::Format;
use crate::config::Encoding;
use crate::generate::{Bank, Click, Label, Live, LiveParams, Params, write_json};
use crate::wire;
use crate::wire::avro::Schemas;
use crate::wire::click::Input;

/// The record that comes next. Its bytes are in the buffer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    /// `None` on a broken record alone.
    pub(super) key: Option<Vec<u8>>,
    /// When it is to be sent; `None`: as soon as can be.
    pub(super) due_ms: Option<i64>,
    /// The record's own.
    pub(super) timestamp_ms: i64,
}

#[derive(Debug)]
pub(super) struct Feed {
    source: Source,
    format: Format,
    schemas: Schemas,
    sent: u64,
}

#[derive(Debug)]
enum Source {
    /// `pace`: the first due time and records a second.
    Bank {
        bank: Bank,
        pace: Option<(i64, f64)>,
    },
    Live {
        live: Live,
        records_max: Option<u64>,
    },
}

impl Feed {
    pub(super) fn bank(params: Params, format: Format) -> Self {
        Self::new(Source::Bank { bank: Bank::new(params), pace: None }, format)
    }

    pub(super) fn live(params: LiveParams, records_max: Option<u64>, format: Format) -> Self {
        Self::new(Source::Live { live: Live::new(params), records_max }, format)
    }

    fn new(source: Source, format: Format) -> Self {
        Self { source, format, schemas: Schemas::released(), sent: 0 }
    }

    /// At a rate the first record is due at `start_ms`. The live bank has its own times from the beginning.
    pub(super) fn paced(mut self, start_ms: i64, rate: Option<f64>) -> Self {
        if let Source::Bank { pace, .. } = &mut self.source {
            *pace = rate.map(|rate| (start_ms, rate));
        }
        self
    }

    /// The record's bytes replace what is in `value`.
    pub(super) fn next(&mut self, value: &mut Vec<u8>) -> anyhow::Result<Option<Next>> {
        value.clear();
        let next = match &mut self.source {
            Source::Bank { bank, pace } => {
                let Some(record) = bank.next() else { return Ok(None) };
                match self.format {
                    Format::Json => write_json(&mut *value, &record.click, None, None)?,
                    Format::Avro => avro(&record.click, value)?,
                }
                let key = Some(record.click.customer_id.as_bytes().to_vec());
                let due_ms = pace.map(|(start, rate)| start + due_after(self.sent, rate));
                Next { key, due_ms, timestamp_ms: record.record_time }
            }
            Source::Live { live, records_max } => {
                if records_max.is_some_and(|max| self.sent >= max) {
                    return Ok(None);
                }
                let record = live.next();
                *value = record.value;
                if self.format == Format::Avro {
                    // What is broken so that it cannot be read stays the bytes that it is.
                    let read = wire::decode(value, &self.schemas).ok().map(|input| {
                        let mut avro = Vec::with_capacity(value.len());
                        input.encode_into(Encoding::Avro, &mut avro).map(|()| avro)
                    });
                    if let Some(avro) = read.transpose().context("a click of the bank cannot be written")? {
                        *value = avro;
                    }
                }
                Next { key: record.key, due_ms: Some(record.due_ms), timestamp_ms: record.due_ms }
            }
        };
        self.sent += 1;
        Ok(Some(next))
    }

    /// The labels of the sessions whose last event has gone out since the last call.
    pub(super) fn take_labels(&mut self) -> Vec<Label> {
        match &mut self.source {
            Source::Bank { bank, .. } => bank.take_labels(),
            Source::Live { live, .. } => live.take_labels(),
        }
    }

    /// Sessions that have begun so far.
    pub(super) fn sessions(&self) -> u64 {
        match &self.source {
            Source::Bank { bank, .. } => bank.sessions(),
            Source::Live { live, .. } => live.sessions().0,
        }
    }
}

/// Milliseconds from the start to the due time of the n-th record, counted from 0; never carries a rounding on.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "records lie below 2^53; the cast saturates"
)]
fn due_after(n: u64, rate: f64) -> i64 {
    (n as f64 * 1000.0 / rate) as i64
}

fn avro(click: &Click, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let event = click.event().context("an event time before 1970")?;
    Input::Click(event).encode_into(Encoding::Avro, out).context("a click of the bank cannot be written")
}

/// A label as a record of a topic: the columns of `labels.csv` by name.
pub(super) fn label_json(label: &Label) -> String {
    serde_json::json!({
        "task": label.task,
        "customer_id": &*label.customer_id,
        "session_id": label.session_id.as_deref(),
        "event_time": label.event_time,
        "label": &*label.label,
        "split": label.split,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut feed: Feed) -> Vec<(Next, Vec<u8>)> {
        let mut value = Vec::new();
        let mut records = Vec::new();
        while let Some(next) = feed.next(&mut value).unwrap() {
            records.push((next, value.clone()));
        }
        records
    }

    fn small() -> Params {
        Params { customers: 20, events_max: Some(400), ..Params::new(3) }
    }

    #[test]
    fn avro_says_what_json_says() {
        let schemas = Schemas::released();
        let live = |format| Feed::live(LiveParams { broken: 0.05, ..LiveParams::new(1, 50.0, 0) }, Some(2000), format);
        let bank = |format| Feed::bank(small(), format);
        for (json, avro, is_dirty) in
            [(bank(Format::Json), bank(Format::Avro), false), (live(Format::Json), live(Format::Avro), true)]
        {
            let mut unreadable = 0;
            for ((next, json), (other, avro)) in all(json).into_iter().zip(all(avro)) {
                assert_eq!(next, other);
                match (wire::decode(&json, &schemas), wire::decode(&avro, &schemas)) {
                    (Ok(Input::Click(mut json)), Ok(Input::Click(mut avro))) => {
                        // A map has no order.
                        json.attributes.sort();
                        avro.attributes.sort();
                        json.context.sort_by(|a, b| a.0.cmp(&b.0));
                        avro.context.sort_by(|a, b| a.0.cmp(&b.0));
                        assert_eq!(json, avro);
                    }
                    (Err(_), Err(_)) => {
                        assert_eq!(json, avro, "broken bytes stay as they are");
                        unreadable += 1;
                    }
                    (json, avro) => panic!("{json:?} is not {avro:?}"),
                }
            }
            assert!(unreadable < 100);
            assert_eq!(unreadable > 0, is_dirty, "the bank is clean and the live one is not");
        }
    }

    #[test]
    fn due_times_rise_by_the_rate_and_carry_no_rounding_on() {
        let due = |rate| -> Vec<i64> {
            let records = all(Feed::bank(small(), Format::Json).paced(1000, Some(rate)));
            records.iter().map(|(next, _)| next.due_ms.unwrap()).collect()
        };
        let at_300 = due(300.0);
        assert_eq!(at_300[..7], [1000, 1003, 1006, 1010, 1013, 1016, 1020]);
        assert_eq!(at_300[300], 2000);
        assert_eq!(due(0.5)[3], 7000);
        assert!(all(Feed::bank(small(), Format::Json)).iter().all(|(next, _)| next.due_ms.is_none()));
    }

    #[test]
    fn the_live_bank_has_labels_of_whole_sessions() {
        let params = LiveParams { takeovers: 0.1, keep_labels: true, ..LiveParams::new(1, 200.0, 1_000_000) };
        let mut feed = Feed::live(params, Some(20_000), Format::Json);
        let (mut value, mut labels) = (Vec::new(), Vec::new());
        while feed.next(&mut value).unwrap().is_some() {
            labels.extend(feed.take_labels());
        }
        let owner = labels.iter().filter(|label| label.task == "owner").count();
        let stolen = labels.iter().filter(|label| label.is_stolen()).count();
        assert!(owner as u64 <= feed.sessions() && owner > 1000, "{owner} of {}", feed.sessions());
        assert!((owner / 20..owner / 5).contains(&stolen), "{stolen} of {owner}");
    }
}
