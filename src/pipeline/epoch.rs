//! One epoch: records in, one result out. Calls the stages in order: decode, sessionize, encode, fold.
//!
//! Which records leave, in what order and with what sequence, is a function of the input records of each partition
//! alone; how they are cut into epochs changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::SessionRules;
use crate::model::features::FeatureSpec;
use crate::model::{Model, ModelError};
use crate::pipeline::customer::{self, Customers, Settled, Work};
use crate::pipeline::decode::{self, Decoded, Refusal};
use crate::pipeline::encode::{self, OpenInput, SessionInput};
use crate::pipeline::log::{LogError, StateRecord};
use crate::pipeline::partitions::{Partitions, Standing};
use crate::pipeline::rest::{Beyond, BeyondError};
use crate::pipeline::session::{Arrival, Change, Partition, Step};
use crate::pipeline::source::{Record, Trace};
use crate::types::{CustomerId, CustomerRef, Moment, Position, RejectReason, ResumeAt};
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
    /// For the log of the state, each partition's in order.
    pub state: Vec<StateRecord>,
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

/// What an epoch needs to know beside the records.
#[derive(Debug, Clone)]
pub struct Terms {
    pub rules: SessionRules,
    /// The attributes that go on the records.
    pub labels: Vec<Arc<str>>,
    /// Somebody takes the session summaries, which name each event: [`Body::Session`].
    pub summaries: bool,
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

/// What ends an epoch: its partitions are unusable then.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A customer's own record.
    #[error("the state of a customer cannot be read: {0}")]
    Log(#[from] LogError),
    #[error(transparent)]
    Beyond(#[from] BeyondError),
}

/// Records that are read together, before their customers are looked for; ...
const CHUNK_RECORDS: usize = 512;
/// ... and about so many bytes of them: what is read of some takes many times as much.
const CHUNK_BYTES: usize = 1 << 20;

/// Runs one epoch over records of opened partitions. An error leaves the partitions unusable: drop them.
pub fn run<'a>(
    partitions: &mut Partitions,
    beyond: &mut dyn Beyond,
    model: &mut dyn Model,
    schemas: &Schemas,
    terms: &Terms,
    records: impl IntoIterator<Item = Record<'a>>,
    mut done: impl FnMut(Phase),
) -> Result<EpochResult, EpochError> {
    let mut epoch = Epoch::begin(partitions, model, terms);
    let mut records = records.into_iter();
    // Decoding depends on the record alone, so it may be ahead of the sessions.
    let mut chunk: Vec<(Record<'a>, Result<Decoded<'a>, Refusal>)> = Vec::with_capacity(CHUNK_RECORDS);
    loop {
        let mut bytes = 0;
        while chunk.len() < CHUNK_RECORDS && bytes < CHUNK_BYTES {
            let Some(record) = records.next() else { break };
            bytes += record.value.map_or(0, <[u8]>::len);
            chunk.push((record, decode::decode(&record, schemas, &terms.rules)));
        }
        if chunk.is_empty() {
            break;
        }
        let good = || chunk.iter().filter_map(|(record, read)| Some((record.position.partition, read.as_ref().ok()?)));
        epoch.partitions.approach(good().filter_map(|(partition, read)| Some((partition, read.login()?))));
        epoch.bring(beyond, good().filter_map(|(partition, read)| Some((partition, read.customer()?))))?;
        for (record, read) in &chunk {
            epoch.take(record, read);
        }
        chunk.clear();
    }
    done(Phase::Sessionize);
    epoch.finish(model, done)
}

/// The record that an input came from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub position: Position,
    pub timestamp_ms: Option<i64>,
    pub trace: Trace<'a>,
}

/// An epoch in the making: inputs in order, then [`Epoch::finish`].
#[derive(Debug)]
pub struct Epoch<'e> {
    partitions: &'e mut Partitions,
    features: FeatureSpec,
    state_len: usize,
    terms: &'e Terms,
    /// Of each partition of which there was an input.
    resume: BTreeMap<i32, ResumeAt>,
    failed: Option<LogError>,
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
    pub fn begin(partitions: &'e mut Partitions, model: &dyn Model, terms: &'e Terms) -> Self {
        partitions.sessions.values_mut().for_each(|sessions| sessions.keep_event_ids(terms.summaries));
        Self {
            partitions,
            features: model.features().clone(),
            state_len: model.shape().state,
            terms,
            resume: BTreeMap::new(),
            failed: None,
            work: Vec::new(),
            plain: Vec::new(),
            traces: BTreeMap::new(),
            timestamps: Vec::new(),
            duplicates: 0,
            records: 0,
            steps: Vec::new(),
        }
    }

    /// Has the states of the customers of the next inputs in memory.
    pub fn bring<'c>(
        &mut self,
        beyond: &mut dyn Beyond,
        customers: impl Iterator<Item = (i32, CustomerRef<'c>)>,
    ) -> Result<(), BeyondError> {
        self.partitions.bring(beyond, customers)
    }

    fn take(&mut self, record: &Record<'_>, read: &Result<Decoded<'_>, Refusal>) {
        self.records += 1;
        let Record { position, timestamp_ms, trace, .. } = *record;
        let origin = Origin { position, timestamp_ms, trace };
        let refusal = match read {
            Ok(Decoded::Click { customer, click }) => match self.click(origin, *customer, click) {
                Ok(()) => return,
                Err(RejectReason::Duplicate) => {
                    self.duplicates += 1;
                    return;
                }
                Err(reason) => (reason, self.why(reason, position), "session"),
            },
            Ok(Decoded::Tick(time)) => return self.tick(origin, (*time).into()),
            Ok(Decoded::Erase { customer }) => return self.erase(origin, *customer),
            Err(refused) => {
                self.comes(origin);
                (refused.reason, refused.detail.clone(), "decode")
            }
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
        customer: CustomerRef<'_>,
        click: &ClickEvent<'_>,
    ) -> Result<(), RejectReason> {
        self.comes(origin);
        if self.stand(origin, customer) == Standing::Past {
            self.tick(origin, click.event_time.into());
            return Ok(());
        }
        let mut steps = std::mem::take(&mut self.steps);
        let Self { partitions, features, terms, .. } = self;
        let arrival = Arrival::new(customer, click, features, &terms.labels);
        let outcome = sessions(partitions, origin).push(arrival, &mut steps);
        self.queue(origin, steps, Some(customer));
        outcome
    }

    /// Stream time moves alone.
    pub fn tick(&mut self, origin: Origin<'_>, time: Moment) {
        self.comes(origin);
        let mut steps = std::mem::take(&mut self.steps);
        sessions(self.partitions, origin).tick(time, &mut steps);
        self.queue(origin, steps, None);
    }

    pub fn erase(&mut self, origin: Origin<'_>, customer: CustomerRef<'_>) {
        self.comes(origin);
        if self.stand(origin, customer) == Standing::Past {
            return;
        }
        let mut steps = std::mem::take(&mut self.steps);
        sessions(self.partitions, origin).erase(customer, &mut steps);
        self.queue(origin, steps, None);
        self.emit(origin, Body::Erased(customer.into()));
    }

    /// An input, whatever becomes of it.
    fn comes(&mut self, origin: Origin<'_>) {
        let Position { partition, offset } = origin.position;
        self.resume.insert(partition, origin.position.resume_after());
        if let Some(sessions) = self.partitions.sessions.get_mut(&partition) {
            sessions.arrives(offset, self.terms.emitted_at);
        }
    }

    /// Has the customer's state in its place, unless the record is in it already.
    fn stand(&mut self, origin: Origin<'_>, customer: CustomerRef<'_>) -> Standing {
        let Position { partition, offset } = origin.position;
        self.partitions.stand(partition, customer, offset, self.state_len).unwrap_or_else(|error| {
            self.failed.get_or_insert(error);
            Standing::Past
        })
    }

    fn next_order(&mut self, origin: Origin<'_>) -> usize {
        self.timestamps.push(origin.timestamp_ms);
        self.timestamps.len() - 1
    }

    fn emit(&mut self, origin: Origin<'_>, body: Body) {
        let order = self.next_order(origin);
        let Origin { position, timestamp_ms, trace } = origin;
        let traceparent = trace.text().map(Box::from);
        self.plain.push((order, Output { cause: position, timestamp_ms, traceparent, body }));
    }

    /// Takes the steps over as work, and their list as scratch.
    fn queue(&mut self, origin: Origin<'_>, mut steps: Vec<Step>, own: Option<CustomerRef<'_>>) {
        let Origin { position: source, trace, .. } = origin;
        for step in steps.drain(..) {
            let order = self.next_order(origin);
            if let Change::Fold { session, .. } | Change::Provisional { session, .. } = &step.what
                && own == Some(session.customer.by_ref())
                && let Some(trace) = trace.text()
            {
                self.traces.insert(order, Box::from(trace));
            }
            self.work.push(Work { partition: source.partition, order, source, step, vector: None });
        }
        self.steps = steps;
    }

    /// Encodes and folds what the inputs caused.
    pub fn finish(mut self, model: &mut dyn Model, done: impl FnMut(Phase)) -> Result<EpochResult, EpochError> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
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
            let body = Body::Embedding(settled.embedding);
            let timestamp_ms = self.timestamps[settled.order];
            outputs.push(Output { cause, timestamp_ms, traceparent: traceparent.clone(), body });
            if let Some(summary) = settled.summary {
                let body = Body::Session(summary);
                outputs.push(Output { cause, timestamp_ms, traceparent, body });
            }
        }
        outputs.extend(plain.map(|(_, output)| output));
        let mut state = Vec::new();
        for (partition, resume) in &self.resume {
            state.append(&mut self.partitions.settle(*partition, resume.0, emitted_at, false));
        }
        self.partitions.trim();
        let resume = self.resume.into_iter().collect();
        Ok(EpochResult { outputs, resume, duplicates: self.duplicates, records: self.records, state })
    }
}

fn sessions<'p>(partitions: &'p mut Partitions, origin: Origin<'_>) -> &'p mut Partition {
    let sessions = partitions.sessions.get_mut(&origin.position.partition);
    sessions.expect("the source gives records of opened partitions only")
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
            Change::Provisional { session, restart } => {
                let (inputs, of) = open.entry(work.partition).or_default();
                let input = std::mem::take(&mut session.input);
                inputs.push(OpenInput { session: session.serial, restart: *restart, input });
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
