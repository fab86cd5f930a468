//! Each stage alone, in this process and without Kafka, in nanoseconds an event: the pipeline's own code over the same
//! clicks, and the encoder beside ONNX Runtime alone on its best shape.

use std::collections::BTreeMap;

use ndarray::{Array1, Array3};

use super::clicks::Raw;
use super::measure::{median, settled_resident_bytes, timed};
use crate::config::{Encoding, SessionRules};
use crate::model::{Model, ModelError};
use crate::pipeline::decode::{self, Decoded};
use crate::pipeline::encode::{SessionInput, encode};
use crate::pipeline::epoch::{self, Body, EpochError, Output, Terms};
use crate::pipeline::partitions::Partitions;
use crate::pipeline::rest::Nothing;
use crate::pipeline::session::{Arrival, Change, Partition, Step};
use crate::pipeline::source::{Record, Trace};
use crate::types::{Moment, Position};
use crate::wire::avro::Schemas;

/// As a consumer would give them.
pub(super) fn records(raws: &[Raw]) -> Vec<Record<'_>> {
    records_from(raws, &mut BTreeMap::new())
}

/// The same, from those offsets on.
pub(super) fn records_from<'r>(raws: &'r [Raw], offsets: &mut BTreeMap<i32, i64>) -> Vec<Record<'r>> {
    let mut records = Vec::with_capacity(raws.len());
    for raw in raws {
        let next = offsets.entry(raw.partition).or_default();
        records.push(Record {
            position: Position { partition: raw.partition, offset: *next },
            timestamp_ms: Some(raw.timestamp_ms),
            key: Some(raw.key.as_bytes()),
            value: Some(&raw.value),
            trace: Trace::None,
        });
        *next += 1;
    }
    records
}

/// Nanoseconds a record to decode and check it.
pub(super) fn decoding(records: &[Record<'_>], schemas: &Schemas, rules: &SessionRules, rounds: usize) -> f64 {
    let run = || {
        timed(|| {
            for record in records {
                std::hint::black_box(decode::decode(record, schemas, rules).is_ok());
            }
        })
    };
    median((0..rounds).map(|_| run()).collect()) * 1e9 / records.len() as f64
}

/// Nanoseconds an event to cut sessions, its features included, without decoding; and the sessions that closed.
pub(super) fn sessionizing(
    records: &[Record<'_>],
    model: &dyn Model,
    schemas: &Schemas,
    rules: &SessionRules,
    rounds: usize,
) -> (f64, Vec<SessionInput>) {
    let mut seconds = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..rounds {
        sessions.clear();
        let mut partitions: BTreeMap<i32, Partition> = BTreeMap::new();
        let mut clicks = Vec::with_capacity(records.len());
        for record in records {
            if let Ok(Decoded::Click { customer, click }) = decode::decode(record, schemas, rules) {
                clicks.push((record.position.partition, customer, click));
            }
        }
        let mut steps: Vec<Step> = Vec::new();
        seconds.push(timed(|| {
            for (partition, customer, click) in &clicks {
                let sessions = partitions.entry(*partition).or_insert_with(|| Partition::new(rules.clone()));
                _ = sessions.push(Arrival::new(*customer, click, model.features(), &[]), &mut steps);
            }
        }));
        sessions.extend(steps.into_iter().filter_map(|step| match step.what {
            Change::Fold { session, .. } if session.sequence.is_some() => Some(session.input),
            _ => None,
        }));
    }
    (median(seconds) * 1e9 / records.len() as f64, sessions)
}

/// Whole epochs in memory: nanoseconds an event, and the last epochs' outputs.
pub(super) fn epochs(
    records: &[Record<'_>],
    model: &mut dyn Model,
    terms: &Terms,
    epoch_events: usize,
    partitions: usize,
) -> Result<(f64, Vec<Output>), EpochError> {
    let schemas = Schemas::released();
    let mut states = Partitions::default();
    for partition in 0..partitions {
        states.open(i32::try_from(partition).unwrap_or(0), &terms.rules);
    }
    let mut outputs = Vec::new();
    let mut failed = None;
    let seconds = timed(|| {
        for records in records.chunks(epoch_events) {
            match epoch::run(&mut states, &mut Nothing, model, &schemas, terms, records.iter().copied(), |_| ()) {
                Ok(result) => outputs = result.outputs,
                Err(error) => failed = Some(error),
            }
        }
    });
    failed.map_or(Ok((seconds * 1e9 / records.len() as f64, outputs)), Err)
}

/// Nanoseconds to write an embedding, and its bytes.
pub(super) fn writing(outputs: &[Output], encoding: Encoding, rounds: usize) -> (f64, f64) {
    let mut buffer = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    let seconds = timed(|| {
        for output in std::iter::repeat_n(outputs, rounds).flatten() {
            if let Body::Embedding(record) = &output.body {
                buffer.clear();
                drop(record.encode_into(encoding, &mut buffer));
                count += 1;
                bytes += buffer.len();
            }
        }
    });
    (seconds * 1e9 / f64::from(count), bytes as f64 / f64::from(count))
}

/// The encoder stage over sessions as they come, beside one shape of the graph alone, turn by turn: events a second of
/// both, and the median of their ratio. The shape is the one that is best by its median: the best of each round would be
/// a shape's luck.
pub(super) fn encoding(
    model: &mut dyn Model,
    sessions: &[SessionInput],
    epoch_sessions: usize,
    rounds: usize,
) -> Result<(f64, f64, f64), ModelError> {
    const SHAPES: [(usize, usize); 6] = [(32, 8), (32, 16), (64, 8), (64, 16), (128, 8), (128, 16)];
    let events: usize = sessions.iter().map(|session| session.length).sum();
    let (mut stage, mut alone) = (Vec::new(), SHAPES.map(|_| Vec::new()));
    for _ in 0..rounds {
        for ((rows, length), speeds) in SHAPES.into_iter().zip(&mut alone) {
            speeds.push(shape_alone(model, rows, length)?);
        }
        let mut failed = None;
        let seconds = timed(|| {
            for some in sessions.chunks(epoch_sessions) {
                failed = encode(model, some).err().or(failed.take());
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        stage.push(events as f64 / seconds);
    }
    let best = alone.into_iter().max_by(|a, b| median(a.clone()).total_cmp(&median(b.clone()))).unwrap_or_default();
    let ratio = stage.iter().zip(&best).map(|(stage, alone)| stage / alone).collect();
    Ok((median(stage), median(best), median(ratio)))
}

/// Events a second of one shape, without padding; the inputs are ready before the clock starts.
fn shape_alone(model: &mut dyn Model, rows: usize, events: usize) -> Result<f64, ModelError> {
    let shape = model.shape();
    let fields = Array3::from_elem((rows, events, shape.fields), 1);
    let numbers = Array3::from_elem((rows, events, shape.numbers), 0.5);
    let length = Array1::from_elem(rows, i32::try_from(events).unwrap_or(1));
    let runs = (16_384 / (rows * events)).max(1);
    let inputs: Vec<_> = (0..runs).map(|_| (fields.clone(), numbers.clone(), length.clone())).collect();
    let mut failed = None;
    let seconds = timed(|| {
        for (fields, numbers, length) in inputs {
            failed = model.encode(fields, numbers, length).err().or(failed.take());
        }
    });
    failed.map_or(Ok((runs * rows * events) as f64 / seconds), Err)
}

/// Bytes of memory of a customer at rest: one session long ago, all frozen. With what the design allows:
/// 4 (H + E) + the id + 24 for the one remembered key.
pub(super) fn customer_bytes(model: &mut dyn Model, terms: &Terms, customers: u32) -> Result<(f64, f64), EpochError> {
    use crate::types::{ClickKind, CustomerRef, EventTime, ResumeAt};
    use crate::wire::click::ClickEvent;
    let mut states = Partitions::default();
    states.open(0, &terms.rules);
    let before = settled_resident_bytes();
    let mut id_bytes = 0;
    let mut n = 0;
    while n < customers {
        let mut epoch = epoch::Epoch::begin(&mut states, model, terms);
        for _ in 0..1_000 {
            let id = format!("customer-{n:08}");
            id_bytes = id.len();
            let at = 1_000_000 + i64::from(n) * 10;
            for (step, kind) in (0..).zip([ClickKind::Login, ClickKind::PageView, ClickKind::Logout]) {
                let event = ClickEvent {
                    event_id: format!("{n}-{step}").into(),
                    customer_id: None,
                    event_time: EventTime::parse(at + step).expect("after 1970"),
                    kind,
                    name: "home".into(),
                    channel: Some("web".into()),
                    session_id: Some(format!("s-{n}").into()),
                    device_id: None,
                    context: Vec::new(),
                    attributes: Vec::new(),
                };
                let position = Position { partition: 0, offset: i64::from(n) };
                let origin = epoch::Origin { position, timestamp_ms: None, trace: Trace::None };
                let customer = CustomerRef::parse(&id).expect("short");
                _ = epoch.click(origin, customer, &event);
            }
            n += 1;
        }
        epoch.finish(model, |_| ())?;
    }
    let mut epoch = epoch::Epoch::begin(&mut states, model, terms);
    let position = Position { partition: 0, offset: ResumeAt(i64::from(n)).0 };
    epoch.tick(
        epoch::Origin { position, timestamp_ms: None, trace: Trace::None },
        Moment::from(EventTime::parse(1 << 41).expect("after 1970")),
    );
    epoch.finish(model, |_| ())?;
    let bytes = (settled_resident_bytes() - before) / f64::from(customers);
    let shape = model.shape();
    let allowed = (4 * (shape.state + shape.embedding) + id_bytes + 24) as f64;
    std::hint::black_box(&states);
    Ok((bytes, allowed))
}
