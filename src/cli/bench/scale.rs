//! What an event costs where customers or partitions are few, and where they are many: whole epochs without a model, in
//! memory, with all that the log of the state is told. All customers were there before; some hundred are at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::clicks::Raw;
use super::measure::timed;
use super::stages;
use crate::config::Encoding;
use crate::model::Model;
use crate::pipeline::epoch::{self, Body, Epoch, EpochError, Origin, Output, Terms};
use crate::pipeline::log::LogError;
use crate::pipeline::logged::Logged;
use crate::pipeline::partitions::Partitions;
use crate::pipeline::rest::Nothing;
use crate::pipeline::source::{Record, Trace};
use crate::types::{ClickKind, CustomerRef, EventTime, Moment, Position};
use crate::wire::avro::Schemas;
use crate::wire::click::{ClickEvent, Input};

/// Who visits at any moment.
const SEATS: u32 = 500;
/// Clicks of a visit, LOGIN and LOGOUT included.
const VISIT: u32 = 12;
/// Between two clicks, in event time: a visit takes a minute.
const STEP_MS: i64 = 10;
/// Without a divisor that a number of customers has: visitors are far from one another in memory.
const SCATTER: u64 = 7_368_787;
/// Of the first visit; all that fills the bank is over by then.
const OPENS_MS: i64 = 1 << 41;

/// Customers and partitions, and the bank's state with them.
pub(super) struct Bank {
    customers: u32,
    partitions: u32,
    states: Partitions,
    /// Of each partition, the next one.
    offsets: BTreeMap<i32, i64>,
    /// Of all partitions.
    clicks: u32,
}

impl Bank {
    /// Everybody has been there once and is at rest.
    pub(super) fn open(
        model: &mut dyn Model,
        terms: &Terms,
        (customers, partitions): (u32, u32),
    ) -> Result<Self, EpochError> {
        const TOGETHER: u32 = 10_000;
        let mut states = Partitions::default();
        for partition in 0..partitions {
            begin(&mut states, number(partition), terms, model.shape().state)?;
        }
        let mut bank = Self { customers, partitions, states, offsets: BTreeMap::new(), clicks: 0 };
        for first in (0..customers).step_by(TOGETHER as usize) {
            let mut epoch = Epoch::begin(&mut bank.states, model, terms);
            for customer in first..customers.min(first + TOGETHER) {
                for (step, kind) in (0..).zip([ClickKind::Login, ClickKind::Logout]) {
                    let time_ms = 1_000_000 + i64::from(customer) * STEP_MS + step;
                    let partition = number(customer % partitions);
                    let origin = origin(&mut bank.offsets, partition);
                    let name = name(customer);
                    let id = CustomerRef::parse(&name).expect("short");
                    let taken = epoch.click(origin, id, &click(&name, (customer, kind, time_ms), step));
                    assert!(taken.is_ok(), "each click is one of a session");
                }
            }
            epoch.finish(model, |_| ())?;
        }
        let mut epoch = Epoch::begin(&mut bank.states, model, terms);
        for partition in 0..partitions {
            let origin = origin(&mut bank.offsets, number(partition));
            epoch.tick(origin, Moment::from(EventTime::parse(OPENS_MS - 1).expect("after 1970")));
        }
        epoch.finish(model, |_| ())?;
        Ok(bank)
    }

    /// Nanoseconds an event, over so many more.
    pub(super) fn run(
        &mut self,
        model: &mut dyn Model,
        terms: &Terms,
        (events, epoch_events): (u32, usize),
    ) -> Result<f64, EpochError> {
        let mut raws: Vec<Raw> = (0..events).map(|_| self.next_click()).collect();
        // At full load a fetch brings much of each partition at once.
        raws.sort_by_key(|raw| raw.partition);
        let records: Vec<Record<'_>> = stages::records_from(&raws, &mut self.offsets);
        let schemas = Schemas::released();
        let mut failed = None;
        let seconds = timed(|| {
            for records in records.chunks(epoch_events) {
                let records = records.iter().copied();
                let result = epoch::run(&mut self.states, &mut Nothing, model, &schemas, terms, records, |_| ());
                match result {
                    Ok(result) => assert!(result.outputs.iter().all(is_embedding), "each click is one of a session"),
                    Err(error) => failed = Some(error),
                }
            }
        });
        failed.map_or(Ok(seconds * 1e9 / f64::from(events)), Err)
    }

    /// The seats' clicks in turn. They come and go at different times, so that somebody always does.
    fn next_click(&mut self) -> Raw {
        let seat = self.clicks % SEATS;
        let at = self.clicks / SEATS + seat;
        let visit = at / VISIT * SEATS + seat;
        let kind = match at % VISIT {
            0 => ClickKind::Login,
            last if last == VISIT - 1 => ClickKind::Logout,
            _ => ClickKind::PageView,
        };
        #[expect(clippy::cast_possible_truncation, reason = "below the number of customers")]
        let customer = (u64::from(visit) * SCATTER % u64::from(self.customers)) as u32;
        let time_ms = OPENS_MS + i64::from(self.clicks) * STEP_MS;
        self.clicks += 1;
        let (name, mut value) = (name(customer), Vec::new());
        let written =
            Input::Click(click(&name, (visit, kind, time_ms), i64::from(at))).encode_into(Encoding::Json, &mut value);
        written.expect("it has no numbers");
        Raw {
            partition: number(customer % self.partitions),
            key: Arc::from(name),
            value: value.into(),
            timestamp_ms: time_ms,
        }
    }
}

fn is_embedding(output: &Output) -> bool {
    matches!(output.body, Body::Embedding(_))
}

fn begin(states: &mut Partitions, partition: i32, terms: &Terms, state_len: usize) -> Result<(), LogError> {
    states.restore(partition, &terms.rules, state_len, Logged::new(0, false))?;
    states.redone(partition);
    Ok(())
}

fn origin(offsets: &mut BTreeMap<i32, i64>, partition: i32) -> Origin<'static> {
    let next = offsets.entry(partition).or_default();
    let position = Position { partition, offset: *next };
    *next += 1;
    Origin { position, timestamp_ms: None, trace: Trace::None }
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).expect("few partitions")
}

fn name(customer: u32) -> String {
    format!("customer-{customer:08}")
}

fn click(name: &str, (visit, kind, time_ms): (u32, ClickKind, i64), step: i64) -> ClickEvent<'_> {
    ClickEvent {
        event_id: format!("{visit}-{step}-{time_ms}").into(),
        customer_id: Some(name.into()),
        event_time: EventTime::parse(time_ms).expect("after 1970"),
        kind,
        name: "home".into(),
        channel: Some("web".into()),
        session_id: Some(format!("s-{visit}").into()),
        device_id: Some("a device".into()),
        context: Vec::new(),
        attributes: Vec::new(),
    }
}
