//! One epoch: records in, one result out. Calls the stages in order: decode, sessionize, encode, fold.
//!
//! Which records leave, in what order and with what sequence, is a function of the input records of each partition
//! alone; how they are cut into epochs changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::config::SessionRules;
use crate::model::features::FeatureSpec;
use crate::model::{Model, ModelError};
use crate::pipeline::customer::{self, Customers, Settled, Work};
use crate::pipeline::decode::{self, Decoded, Refusal};
use crate::pipeline::encode::{self, OpenInput, SessionInput};
use crate::pipeline::session::{Arrival, Change, Partition, Step, TagsSeen};
use crate::pipeline::source::Record;
use crate::types::{CustomerId, EventTime, Moment, Position, RejectReason, ResumeAt};
use crate::wire::avro::Schemas;
use crate::wire::click::ClickEvent;
use crate::wire::embedding::{CustomerEmbedding, SessionSummary};

/// What an epoch gives: everything that must be committed together.
#[derive(Debug, Default)]
pub struct EpochResult {
    /// In the order in which they leave.
    pub outputs: Vec<Output>,
    /// For each partition that was read, where to go on.
    pub resume: Vec<(i32, ResumeAt)>,
    /// Events that changed nothing, counted and not published.
    pub duplicates: u64,
    /// All records of the epoch.
    pub records: u64,
}

#[derive(Debug)]
pub struct Output {
    /// The record that caused it; outputs go to its partition number.
    pub cause: Position,
    /// Of that record, in milliseconds; `None` where the topic has none.
    pub timestamp_ms: Option<i64>,
    /// Of that record, where it is the same customer's.
    pub traceparent: Option<Box<[u8]>>,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    /// To the live topic where provisional ones are wanted, and a settled one to the table.
    Embedding(Box<CustomerEmbedding>),
    Session(Box<SessionSummary>),
    Reject(Box<Reject>),
    /// Tombstones to the table and the live topic.
    Erased(CustomerId),
}

/// A record that became no part of a session, with its bytes as they came.
#[derive(Debug)]
pub struct Reject {
    pub reason: RejectReason,
    /// What exactly was wrong, for a person.
    pub detail: String,
    /// `decode` or `session`.
    pub stage: &'static str,
    pub key: Option<Box<[u8]>>,
    pub value: Option<Box<[u8]>>,
    pub timestamp_ms: Option<i64>,
}

/// What one worker holds of its partitions: the sessionizers and the customers.
#[derive(Debug, Default)]
pub struct Partitions {
    sessions: BTreeMap<i32, Partition>,
    customers: BTreeMap<i32, Customers>,
    /// Saves work and decides nothing.
    tags: TagsSeen,
}

impl Partitions {
    /// Begins a partition from nothing; one that is there already is dropped.
    pub fn open(&mut self, partition: i32, rules: &SessionRules) {
        self.sessions.insert(partition, Partition::new(rules.clone()));
        self.customers.insert(partition, Customers::default());
    }

    pub fn close(&mut self, partition: i32) {
        self.sessions.remove(&partition);
        self.customers.remove(&partition);
    }

    pub fn sessions(&self) -> &BTreeMap<i32, Partition> {
        &self.sessions
    }

    pub fn customers(&self) -> &BTreeMap<i32, Customers> {
        &self.customers
    }
}

/// What an epoch needs to know beside the records.
#[derive(Debug, Clone)]
pub struct Terms {
    pub rules: SessionRules,
    /// The attributes that go on the records.
    pub labels: Vec<Arc<str>>,
    /// Wall clock in milliseconds, for the records' `emitted_at` alone.
    pub emitted_at: i64,
}

/// What has just been done of an epoch; who calls may look at the clock then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Decoding included.
    Sessionize,
    Encode,
    /// Reading the embeddings included.
    Fold,
}

/// Runs one epoch over records of opened partitions. An error leaves the partitions unusable: drop them.
pub fn run<'a>(
    partitions: &mut Partitions,
    model: &mut dyn Model,
    schemas: &Schemas,
    terms: &Terms,
    records: impl IntoIterator<Item = Record<'a>>,
    mut done: impl FnMut(Phase),
) -> Result<EpochResult, ModelError> {
    let records: Vec<Record<'a>> = records.into_iter().collect();
    let features = model.features().clone();
    let mut reader = Reader { schemas, terms, features: features.clone(), tags: std::mem::take(&mut partitions.tags) };
    let mut epoch = Epoch::begin(partitions, features, terms);
    let mut resume: BTreeMap<i32, ResumeAt> = BTreeMap::new();
    for record in &records {
        resume.insert(record.position.partition, record.position.resume_after());
    }
    if records.len() < READ_AHEAD_MIN {
        for record in &records {
            epoch.take(record, reader.read(record));
        }
    } else {
        read_ahead(&records, &mut reader, |record, read| epoch.take(record, read));
    }
    epoch.partitions.tags = reader.tags;
    done(Phase::Sessionize);
    let mut result = epoch.finish(model, done)?;
    result.resume = resume.into_iter().collect();
    Ok(result)
}

/// With fewer records a second thread costs more than it saves.
const READ_AHEAD_MIN: usize = 2_000;
/// Records that are handed over together, and how often that may be ahead.
const READ_AHEAD_CHUNK: usize = 512;
const READ_AHEAD_CHUNKS: usize = 4;

/// What a record asks for, ready for its session.
enum Read {
    Click(Arrival),
    Tick(EventTime),
    Erase(CustomerId),
    Refused(Refusal),
}

/// Reads records: depends on the record alone, so it may be ahead of the sessions.
struct Reader<'e> {
    schemas: &'e Schemas,
    terms: &'e Terms,
    features: FeatureSpec,
    tags: TagsSeen,
}

impl Reader<'_> {
    fn read(&mut self, record: &Record<'_>) -> Read {
        match decode::decode(record, self.schemas, &self.terms.rules) {
            Ok(Decoded::Click { customer, click }) => {
                let labels = &self.terms.labels;
                Read::Click(Arrival::sharing(customer, &click, &self.features, labels, &mut self.tags))
            }
            Ok(Decoded::Tick(time)) => Read::Tick(time),
            Ok(Decoded::Erase { customer }) => Read::Erase(customer),
            Err(refused) => Read::Refused(refused),
        }
    }
}

/// Reads on a second thread, a few chunks ahead, while the first one takes what is read: in order.
fn read_ahead(records: &[Record<'_>], reader: &mut Reader<'_>, mut take: impl FnMut(&Record<'_>, Read)) {
    let (sender, chunks) = sync_channel::<Vec<Read>>(READ_AHEAD_CHUNKS);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for chunk in records.chunks(READ_AHEAD_CHUNK) {
                let read = chunk.iter().map(|record| reader.read(record)).collect();
                if sender.send(read).is_err() {
                    return;
                }
            }
        });
        for chunk in records.chunks(READ_AHEAD_CHUNK) {
            // A reader that panicked ends the scope with its panic.
            let Ok(read) = chunks.recv() else { return };
            for (record, read) in chunk.iter().zip(read) {
                take(record, read);
            }
        }
    });
}

/// The record that an input came from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub position: Position,
    pub timestamp_ms: Option<i64>,
    pub traceparent: Option<&'a [u8]>,
}

/// An epoch in the making: inputs in order, then [`Epoch::finish`].
#[derive(Debug)]
pub struct Epoch<'e> {
    partitions: &'e mut Partitions,
    features: FeatureSpec,
    terms: &'e Terms,
    work: Vec<Work>,
    /// The outputs that need no model, with their place in the order.
    plain: Vec<(usize, Output)>,
    /// Of the customers whose own record caused something, by place in the order.
    traces: BTreeMap<usize, Box<[u8]>>,
    /// Of the record behind each place in the order.
    timestamps: Vec<Option<i64>>,
    duplicates: u64,
    records: u64,
    steps: Vec<Step>,
}

impl<'e> Epoch<'e> {
    pub fn begin(partitions: &'e mut Partitions, features: FeatureSpec, terms: &'e Terms) -> Self {
        Self {
            partitions,
            features,
            terms,
            work: Vec::new(),
            plain: Vec::new(),
            traces: BTreeMap::new(),
            timestamps: Vec::new(),
            duplicates: 0,
            records: 0,
            steps: Vec::new(),
        }
    }

    fn take(&mut self, record: &Record<'_>, read: Read) {
        self.records += 1;
        let Record { position, timestamp_ms, traceparent, .. } = *record;
        let origin = Origin { position, timestamp_ms, traceparent };
        let refusal = match read {
            Read::Click(arrival) => match self.arrive(origin, arrival) {
                Ok(()) => return,
                Err(RejectReason::Duplicate) => {
                    self.duplicates += 1;
                    return;
                }
                Err(reason) => (reason, self.why(reason, position), "session"),
            },
            Read::Tick(time) => return self.tick(origin, time.into()),
            Read::Erase(customer) => return self.erase(origin, customer),
            Read::Refused(refused) => (refused.reason, refused.detail, "decode"),
        };
        let (reason, detail, stage) = refusal;
        let reject = Reject {
            reason,
            detail,
            stage,
            key: record.key.map(Box::from),
            value: record.value.map(Box::from),
            timestamp_ms: record.timestamp_ms,
        };
        self.emit(origin, Body::Reject(Box::new(reject)));
    }

    fn why(&self, reason: RejectReason, position: Position) -> String {
        match reason {
            RejectReason::Late => {
                let stream_time = self.partitions.sessions[&position.partition].stream_time().ms().unwrap_or(0);
                format!("not after what is already frozen on its session key; stream time {stream_time} ms")
            }
            RejectReason::Full => format!(
                "its session is closed and takes no more: {} events (session.events_max) or {} changes (session.revisions_max)",
                self.terms.rules.events_max, self.terms.rules.revisions_max
            ),
            RejectReason::Decode
            | RejectReason::Key
            | RejectReason::Customer
            | RejectReason::Future
            | RejectReason::Duplicate => String::new(),
        }
    }

    /// A click, decoded and found good.
    pub fn click(
        &mut self,
        origin: Origin<'_>,
        customer: CustomerId,
        click: &ClickEvent<'_>,
    ) -> Result<(), RejectReason> {
        let (features, labels) = (&self.features, &self.terms.labels);
        let arrival = Arrival::sharing(customer, click, features, labels, &mut self.partitions.tags);
        self.arrive(origin, arrival)
    }

    fn arrive(&mut self, origin: Origin<'_>, arrival: Arrival) -> Result<(), RejectReason> {
        let customer = arrival.customer.clone();
        let mut steps = std::mem::take(&mut self.steps);
        let outcome = self.sessions(origin).push(arrival, &mut steps);
        self.queue(origin, steps, Some(&customer));
        outcome
    }

    /// Stream time moves alone.
    pub fn tick(&mut self, origin: Origin<'_>, time: Moment) {
        let mut steps = std::mem::take(&mut self.steps);
        self.sessions(origin).tick(time, &mut steps);
        self.queue(origin, steps, None);
    }

    pub fn erase(&mut self, origin: Origin<'_>, customer: CustomerId) {
        let mut steps = std::mem::take(&mut self.steps);
        self.sessions(origin).erase(&customer, &mut steps);
        self.queue(origin, steps, None);
        self.emit(origin, Body::Erased(customer));
    }

    fn sessions(&mut self, origin: Origin<'_>) -> &mut Partition {
        let partition = origin.position.partition;
        self.partitions.sessions.get_mut(&partition).expect("the source gives records of opened partitions only")
    }

    fn next_order(&mut self, origin: Origin<'_>) -> usize {
        self.timestamps.push(origin.timestamp_ms);
        self.timestamps.len() - 1
    }

    fn emit(&mut self, origin: Origin<'_>, body: Body) {
        let order = self.next_order(origin);
        let Origin { position, timestamp_ms, traceparent } = origin;
        let traceparent = traceparent.map(Box::from);
        self.plain.push((order, Output { cause: position, timestamp_ms, traceparent, body }));
    }

    /// Takes the steps over as work, and their list as scratch.
    fn queue(&mut self, origin: Origin<'_>, mut steps: Vec<Step>, own: Option<&CustomerId>) {
        let Origin { position: source, traceparent, .. } = origin;
        for step in steps.drain(..) {
            let order = self.next_order(origin);
            if let Change::Fold { session, .. } | Change::Provisional { session, .. } = &step.what
                && let Some(trace) = traceparent.filter(|_| own == Some(&session.customer))
            {
                self.traces.insert(order, Box::from(trace));
            }
            self.work.push(Work { partition: source.partition, order, source, step, vector: None });
        }
        self.steps = steps;
    }

    /// Encodes and folds what the inputs caused.
    pub fn finish(mut self, model: &mut dyn Model, done: impl FnMut(Phase)) -> Result<EpochResult, ModelError> {
        let emitted_at = self.terms.emitted_at;
        let settled = settle(model, &mut self.partitions.customers, self.work, emitted_at, done)?;
        let mut outputs = Vec::with_capacity(self.plain.len() + 2 * settled.len());
        let mut plain = self.plain.into_iter().peekable();
        for settled in settled {
            while let Some((_, output)) = plain.next_if(|(order, _)| *order < settled.order) {
                outputs.push(output);
            }
            let cause = settled.embedding.source;
            let traceparent = self.traces.remove(&settled.order);
            let body = Body::Embedding(Box::new(settled.embedding));
            let timestamp_ms = self.timestamps[settled.order];
            outputs.push(Output { cause, timestamp_ms, traceparent: traceparent.clone(), body });
            if let Some(summary) = settled.summary {
                let body = Body::Session(Box::new(summary));
                outputs.push(Output { cause, timestamp_ms, traceparent, body });
            }
        }
        outputs.extend(plain.map(|(_, output)| output));
        Ok(EpochResult { outputs, resume: Vec::new(), duplicates: self.duplicates, records: self.records })
    }
}

/// Encodes the sessions of the work, which stands in order, and folds them into the customers.
pub fn settle(
    model: &mut dyn Model,
    customers: &mut BTreeMap<i32, Customers>,
    mut work: Vec<Work>,
    emitted_at: i64,
    mut done: impl FnMut(Phase),
) -> Result<Vec<Settled>, ModelError> {
    encode_work(model, customers, &mut work)?;
    done(Phase::Encode);
    let settled = customer::fold(model, customers, work, emitted_at)?;
    done(Phase::Fold);
    Ok(settled)
}

/// Gives each session of the work its vector. Whole sessions of all partitions share their batches.
fn encode_work(
    model: &mut dyn Model,
    customers: &mut BTreeMap<i32, Customers>,
    work: &mut [Work],
) -> Result<(), ModelError> {
    let (mut whole, mut whole_of): (Vec<SessionInput>, Vec<usize>) = Default::default();
    let mut open: BTreeMap<i32, (Vec<OpenInput>, Vec<usize>)> = BTreeMap::new();
    for (at, work) in work.iter_mut().enumerate() {
        match &mut work.step.what {
            Change::Fold { session, .. } if session.sequence.is_some() => {
                whole.push(std::mem::take(&mut session.input));
                whole_of.push(at);
            }
            Change::Provisional { input, .. } => {
                let empty =
                    OpenInput { session: input.session, restart: input.restart, input: SessionInput::default() };
                let (inputs, of) = open.entry(work.partition).or_default();
                inputs.push(std::mem::replace(input, empty));
                of.push(at);
            }
            Change::Fold { .. }
            | Change::Unfold { .. }
            | Change::Freeze { .. }
            | Change::Forget { .. }
            | Change::Erase { .. } => {}
        }
    }
    for (vector, at) in encode::encode(model, &whole)?.into_iter().zip(whole_of) {
        work[at].vector = Some(vector);
    }
    for (partition, (inputs, of)) in open {
        let hidden = &mut customers.entry(partition).or_default().hidden;
        for (vector, at) in encode::encode_open(model, hidden, &inputs)?.into_iter().zip(of) {
            work[at].vector = Some(vector);
        }
    }
    for work in work.iter() {
        let Some(customers) = customers.get_mut(&work.partition) else { continue };
        match &work.step.what {
            Change::Fold { session, .. } => _ = customers.hidden.remove(&session.serial),
            Change::Erase { open } => open.iter().for_each(|serial| _ = customers.hidden.remove(serial)),
            Change::Provisional { .. } | Change::Unfold { .. } | Change::Freeze { .. } | Change::Forget { .. } => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Bank, Dirt, Params, write_json};
    use crate::model::fake::FakeModel;

    /// Large epochs are read ahead on a second thread, small ones are not.
    #[test]
    fn reading_ahead_changes_nothing() {
        let dirt = Dirt { shuffle_ms: 20_000, duplicate: 0.05, ..Dirt::CLEAN };
        let params = Params { customers: 40, events_max: Some(5_000), open_end: true, dirt, ..Params::new(3) };
        let mut clicks: Vec<(Vec<u8>, String, i64)> = Bank::new(params)
            .map(|record| {
                let mut value = Vec::new();
                write_json(&mut value, &record.click, None, None).unwrap();
                (value, record.click.customer_id.to_string(), record.record_time)
            })
            .collect();
        clicks[17].0.truncate(9);
        clicks[4_000].1 = "nobody".to_owned();
        let records: Vec<Record<'_>> = (0..)
            .zip(&clicks)
            .map(|(offset, (value, key, time))| Record {
                position: Position { partition: 0, offset },
                timestamp_ms: Some(*time),
                key: Some(key.as_bytes()),
                value: (offset != 3_000).then_some(value),
                traceparent: None,
            })
            .collect();
        let run_in = |size: usize| {
            let rules = crate::config::Config::load(&crate::config::Layers::default()).unwrap().session;
            let terms = Terms { rules, labels: vec!["segment".into()], emitted_at: 0 };
            let (mut partitions, mut model) = (Partitions::default(), FakeModel::small());
            partitions.open(0, &terms.rules);
            let mut said = Vec::new();
            for chunk in records.chunks(size) {
                let chunk = chunk.iter().copied();
                let result = run(&mut partitions, &mut model, &Schemas::released(), &terms, chunk, |_| ()).unwrap();
                said.extend(result.outputs.iter().map(|output| format!("{output:?}")));
            }
            said
        };
        let small = run_in(READ_AHEAD_MIN - 1);
        assert!(small.len() > 500, "{}", small.len());
        assert_eq!(run_in(5_000), small);
        assert_eq!(run_in(2_500), small);
    }
}
