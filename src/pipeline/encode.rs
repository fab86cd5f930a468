//! Sessions to vectors, in well-packed batches. Session contents → session vectors.
//!
//! Every row of a batch gives the same bits as alone (a promise of [`Model`]), so how sessions are batched shows in the
//! time that it takes and nowhere else.

use hashbrown::HashMap;
use ndarray::{Array1, Array2, Array3, s};

use crate::model::features::{self, EventFeatures};
use crate::model::{Model, ModelError};
use crate::types::EventTime;

/// The content of a session (or of the newest part of an open one), ready for the encoder: rows in the session's order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionInput {
    /// T × F ids.
    pub fields: Vec<u32>,
    /// T × N numbers, column 0 the logarithm of the time since the event before.
    pub numbers: Vec<f32>,
    /// T, at least 1.
    pub length: usize,
}

impl SessionInput {
    /// Adds an event behind the last. `previous` is the time of the event before it in the session, which need not be
    /// in this input.
    pub fn push(&mut self, event: &EventFeatures, time: EventTime, previous: Option<EventTime>) {
        self.fields.extend_from_slice(&event.fields);
        self.numbers.push(previous.map_or(0.0, |previous| features::seconds_since(previous, time)));
        self.numbers.extend_from_slice(&event.numbers);
        self.length += 1;
    }
}

/// New events at the end of an open session, for the step graph.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenInput {
    /// Names the open session; its jobs stand in order.
    pub session: u64,
    /// The input is the whole session, since something earlier changed (or it is new): begin with a hidden state of zeros.
    pub restart: bool,
    pub input: SessionInput,
}

/// The most sessions in one run of a graph. More gain nothing and leave the caches.
const BATCH_ROWS_MAX: usize = 256;
/// The most events in one run, padding included; a session that is longer runs alone.
const BATCH_EVENTS_MAX: usize = 8192;

/// Gives the sessions' vectors in the sessions' order.
pub fn encode(model: &mut dyn Model, sessions: &[SessionInput]) -> Result<Vec<Box<[f32]>>, ModelError> {
    let mut order: Vec<usize> = (0..sessions.len()).collect();
    order.sort_by_key(|session| sessions[*session].length);
    let mut vectors = vec![Box::default(); sessions.len()];
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(batch_len(rest, sessions));
        rest = later;
        let encoded = encode_batch(model, batch, sessions)?;
        for (session, row) in batch.iter().zip(encoded.rows()) {
            vectors[*session] = row.iter().copied().collect();
        }
    }
    Ok(vectors)
}

/// How many of the sessions, which are sorted by length, go into the next run.
fn batch_len(sorted: &[usize], sessions: &[SessionInput]) -> usize {
    // Lengths of one batch have the same power of two above them.
    let longest = sessions[sorted[0]].length.next_power_of_two();
    let fits = |(rows, session): (usize, &usize)| {
        let length = sessions[*session].length;
        length <= longest && rows < BATCH_ROWS_MAX && (rows == 0 || (rows + 1) * length <= BATCH_EVENTS_MAX)
    };
    sorted.iter().enumerate().take_while(|(rows, session)| fits((*rows, *session))).count()
}

fn encode_batch(model: &mut dyn Model, batch: &[usize], sessions: &[SessionInput]) -> Result<Array2<f32>, ModelError> {
    let shape = model.shape();
    let events = batch.iter().map(|session| sessions[*session].length).max().unwrap_or(0);
    let mut fields = Array3::zeros((batch.len(), events, shape.fields));
    let mut numbers = Array3::zeros((batch.len(), events, shape.numbers));
    let mut lengths = Array1::zeros(batch.len());
    for (row, session) in batch.iter().enumerate() {
        let session = &sessions[*session];
        require_whole(session, model);
        let slots = fields.slice_mut(s![row, ..session.length, ..]);
        slots.into_iter().zip(&session.fields).for_each(|(slot, id)| *slot = i64::from(*id));
        let slots = numbers.slice_mut(s![row, ..session.length, ..]);
        slots.into_iter().zip(&session.numbers).for_each(|(slot, number)| *slot = *number);
        lengths[row] = i32::try_from(session.length).expect("sessions are bounded by events_max");
    }
    model.encode(fields, numbers, lengths)
}

/// One open session's way through the step graph.
struct Chain {
    session: u64,
    /// Places in the jobs, in order.
    jobs: Vec<usize>,
    events: usize,
    /// Place in `jobs` of the job whose event comes next, and that event's place in it.
    job: usize,
    event: usize,
}

/// Takes each open session on by its jobs' events and gives for each job the session's vector after the job's last
/// event. `hidden` holds the hidden states between calls: that of each session after its last job. The caller removes
/// sessions that have closed. After an error `hidden` is as it was.
pub fn encode_open(
    model: &mut dyn Model,
    hidden: &mut HashMap<u64, Box<[f32]>>,
    jobs: &[OpenInput],
) -> Result<Vec<Box<[f32]>>, ModelError> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut places: HashMap<u64, usize> = HashMap::new();
    for (place, job) in jobs.iter().enumerate() {
        require_whole(&job.input, model);
        let chain = *places.entry(job.session).or_insert(chains.len());
        if chain == chains.len() {
            chains.push(Chain { session: job.session, jobs: Vec::new(), events: 0, job: 0, event: 0 });
        }
        chains[chain].jobs.push(place);
        chains[chain].events += job.input.length;
    }
    // Longest first: those that still go on are always the first rows.
    chains.sort_by_key(|chain| std::cmp::Reverse(chain.events));
    let mut vectors = vec![Box::default(); jobs.len()];
    let mut ends = Vec::with_capacity(chains.len());
    for cohort in chains.chunks_mut(BATCH_ROWS_MAX) {
        run_cohort(model, hidden, jobs, cohort, &mut vectors, &mut ends)?;
    }
    hidden.extend(ends);
    Ok(vectors)
}

/// Wave by wave: the next event of every session that has one, in one run of the graph.
fn run_cohort(
    model: &mut dyn Model,
    before: &HashMap<u64, Box<[f32]>>,
    jobs: &[OpenInput],
    cohort: &mut [Chain],
    vectors: &mut [Box<[f32]>],
    ends: &mut Vec<(u64, Box<[f32]>)>,
) -> Result<(), ModelError> {
    let shape = model.shape();
    let mut hidden = Array2::zeros((cohort.len(), shape.hidden));
    for (chain, mut row) in cohort.iter().zip(hidden.rows_mut()) {
        if !jobs[chain.jobs[0]].restart {
            let known = before.get(&chain.session).expect("a session that goes on has a hidden state");
            row.iter_mut().zip(known).for_each(|(slot, value)| *slot = *value);
        }
    }
    let mut alive = cohort.len();
    while alive > 0 {
        let mut fields = Array2::zeros((alive, shape.fields));
        let mut numbers = Array2::zeros((alive, shape.numbers));
        for (row, chain) in cohort[..alive].iter().enumerate() {
            let job = &jobs[chain.jobs[chain.job]];
            if chain.event == 0 && job.restart {
                hidden.row_mut(row).fill(0.0);
            }
            let ids = &job.input.fields[chain.event * shape.fields..][..shape.fields];
            fields.row_mut(row).iter_mut().zip(ids).for_each(|(slot, id)| *slot = i64::from(*id));
            let values = &job.input.numbers[chain.event * shape.numbers..][..shape.numbers];
            numbers.row_mut(row).iter_mut().zip(values).for_each(|(slot, value)| *slot = *value);
        }
        let (hidden_out, session) = model.encode_step(fields, numbers, hidden)?;
        for (row, chain) in cohort[..alive].iter_mut().enumerate() {
            chain.event += 1;
            if chain.event == jobs[chain.jobs[chain.job]].input.length {
                vectors[chain.jobs[chain.job]] = session.row(row).iter().copied().collect();
                chain.job += 1;
                chain.event = 0;
            }
            if chain.job == chain.jobs.len() {
                ends.push((chain.session, hidden_out.row(row).iter().copied().collect()));
            }
        }
        let still = cohort[..alive].iter().take_while(|chain| chain.job < chain.jobs.len()).count();
        hidden = if still == alive { hidden_out } else { hidden_out.slice(s![..still, ..]).to_owned() };
        alive = still;
    }
    Ok(())
}

fn require_whole(input: &SessionInput, model: &dyn Model) {
    let shape = model.shape();
    assert!(input.length > 0, "a session has an event");
    assert_eq!(input.fields.len(), input.length * shape.fields, "fields are T × F");
    assert_eq!(input.numbers.len(), input.length * shape.numbers, "numbers are T × N");
}
