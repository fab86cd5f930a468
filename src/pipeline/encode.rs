//! Sessions to vectors, in well-packed batches. Session contents → session vectors.
//!
//! Every row of a batch gives the same bits as alone (a promise of [`Model`]), so how sessions are batched shows in the
//! time that it takes and nowhere else.

use hashbrown::HashMap;
use ndarray::{Array1, Array2, Array3, s};

use crate::model::features;
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
    /// With room for so many events of so many fields and numbers, the time since the event before not counted.
    pub fn with_room(events: usize, fields: usize, numbers: usize) -> Self {
        let (fields, numbers) = (Vec::with_capacity(events * fields), Vec::with_capacity(events * (1 + numbers)));
        Self { fields, numbers, length: 0 }
    }

    /// Adds an event's [`features::EventFeatures`] behind the last. `previous` is the time of the event before it in the
    /// session, which need not be in this input.
    pub fn push(
        &mut self,
        fields: impl IntoIterator<Item = u32>,
        numbers: impl IntoIterator<Item = f32>,
        time: EventTime,
        previous: Option<EventTime>,
    ) {
        self.fields.extend(fields);
        self.numbers.push(previous.map_or(0.0, |previous| features::seconds_since(previous, time)));
        self.numbers.extend(numbers);
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

/// How sessions are packed into runs of the graph. The figures behind it: docs/decisions/0002-batching-by-length.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// The most sessions in one run.
    pub rows_max: usize,
    /// The most events in one run, padding included; a session that is longer runs alone.
    pub events_max: usize,
    /// What a run costs beside its events, counted in events: padding is taken where it saves more than it adds.
    pub run_events: usize,
}

impl Packing {
    pub const BEST: Self = Self { rows_max: 256, events_max: 1024, run_events: 16 };

    /// How many sessions a run of this length takes.
    fn rows(self, length: usize) -> usize {
        (self.events_max / length).clamp(1, self.rows_max)
    }

    /// Divides sessions, given by their lengths from the longest to the shortest, into runs: the sizes of the runs.
    fn runs(self, lengths: &[usize]) -> Vec<usize> {
        // Sessions of one length stay together; the last group is a sentinel.
        let mut groups: Vec<(usize, usize)> = Vec::new();
        for (place, length) in lengths.iter().enumerate() {
            if groups.last().is_none_or(|(_, last)| last != length) {
                groups.push((place, *length));
            }
        }
        groups.push((lengths.len(), 0));
        // The cheapest way to the start of each group, and the group at which its last batch begins.
        let mut ways = vec![(usize::MAX, 0); groups.len()];
        ways[0] = (0, 0);
        for first in 0..groups.len() - 1 {
            let (start, longest) = groups[first];
            let mut padding = 0;
            for next in first + 1..groups.len() {
                let (end, length) = groups[next];
                let rows = end - start;
                let cost = ways[first].0 + rows * longest + rows.div_ceil(self.rows(longest)) * self.run_events;
                if cost < ways[next].0 {
                    ways[next] = (cost, first);
                }
                // A batch of a few groups saves a few runs at most.
                padding += groups.get(next + 1).map_or(0, |(after, _)| (after - end) * (longest - length));
                if padding > (next - first) * self.run_events {
                    break;
                }
            }
        }
        let mut runs = Vec::new();
        let mut group = groups.len() - 1;
        while group > 0 {
            let first = ways[group].1;
            let (start, longest) = groups[first];
            let rows = groups[group].0 - start;
            let count = rows.div_ceil(self.rows(longest));
            // As even as it goes.
            runs.extend((0..count).map(|run| (rows + run) / count));
            group = first;
        }
        runs.reverse();
        runs
    }
}

/// The most open sessions that take a step together.
const STEP_ROWS_MAX: usize = 256;

/// Gives the sessions' vectors in the sessions' order.
pub fn encode(model: &mut dyn Model, sessions: &[SessionInput]) -> Result<Vec<Box<[f32]>>, ModelError> {
    encode_packed(model, sessions, Packing::BEST)
}

/// [`encode`] with another packing: the same bits, in another time.
pub fn encode_packed(
    model: &mut dyn Model,
    sessions: &[SessionInput],
    packing: Packing,
) -> Result<Vec<Box<[f32]>>, ModelError> {
    let mut order: Vec<usize> = (0..sessions.len()).collect();
    order.sort_by_key(|session| std::cmp::Reverse(sessions[*session].length));
    let lengths: Vec<usize> = order.iter().map(|session| sessions[*session].length).collect();
    let mut vectors = vec![Box::default(); sessions.len()];
    let mut rest = order.as_slice();
    for rows in packing.runs(&lengths) {
        let (batch, later) = rest.split_at(rows);
        rest = later;
        let encoded = encode_batch(model, batch, sessions)?;
        for (session, row) in batch.iter().zip(encoded.rows()) {
            vectors[*session] = row.to_vec().into();
        }
    }
    Ok(vectors)
}

fn encode_batch(model: &mut dyn Model, batch: &[usize], sessions: &[SessionInput]) -> Result<Array2<f32>, ModelError> {
    let shape = model.shape();
    let rows = batch.len();
    let events = batch.first().map_or(0, |longest| sessions[*longest].length);
    let mut fields = vec![0; rows * events * shape.fields];
    let mut numbers = vec![0.0; rows * events * shape.numbers];
    let mut lengths = Vec::with_capacity(rows);
    for (row, session) in batch.iter().enumerate() {
        let session = &sessions[*session];
        require_whole(session, model);
        let slots = &mut fields[row * events * shape.fields..][..session.fields.len()];
        slots.iter_mut().zip(&session.fields).for_each(|(slot, id)| *slot = i64::from(*id));
        numbers[row * events * shape.numbers..][..session.numbers.len()].copy_from_slice(&session.numbers);
        lengths.push(i32::try_from(session.length).expect("sessions are bounded by events_max"));
    }
    let fields = Array3::from_shape_vec((rows, events, shape.fields), fields).expect("made so");
    let numbers = Array3::from_shape_vec((rows, events, shape.numbers), numbers).expect("made so");
    model.encode(fields, numbers, Array1::from(lengths))
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
    for cohort in chains.chunks_mut(STEP_ROWS_MAX) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::device::Device;
    use crate::model::fake::FakeModel;
    use crate::model::onnx::OnnxModel;
    use crate::model::tests::{runtime, shipped_bundles, tiny_bundle};

    /// A session of this length; the seed makes its events.
    fn session(model: &dyn Model, length: usize, seed: u64) -> SessionInput {
        let mut random = seed;
        let mut draw = |below: u32| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(random >> 33).unwrap() % below
        };
        let mut input = SessionInput { length, ..SessionInput::default() };
        for _ in 0..length {
            input.fields.extend((0..model.shape().fields).map(|field| 1 + draw(model.features().ids_len(field) - 1)));
            input.numbers.extend((0..model.shape().numbers).map(|_| draw(4000) as f32 / 1000.0));
        }
        input
    }

    fn bits(vectors: &[Box<[f32]>]) -> Vec<Vec<u32>> {
        vectors.iter().map(|vector| vector.iter().map(|value| value.to_bits()).collect()).collect()
    }

    fn one_at_a_time(model: &mut dyn Model, sessions: &[SessionInput]) -> Vec<Box<[f32]>> {
        sessions.iter().flat_map(|session| encode(model, std::slice::from_ref(session)).unwrap()).collect()
    }

    fn lengths() -> impl Strategy<Value = Vec<usize>> {
        // Many short ones, some long ones, as in life.
        prop::collection::vec(prop_oneof![4 => 1..6_usize, 2 => 1..40_usize, 1 => 1..300_usize], 0..60)
    }

    fn packings() -> impl Strategy<Value = Packing> {
        let packing = |(rows_max, events_max, run_events)| Packing { rows_max, events_max, run_events };
        (1..40_usize, 1..400_usize, 0..200_usize).prop_map(packing)
    }

    proptest! {
        #[test]
        fn runs_take_all_sessions_within_the_limits(mut lengths in lengths(), packing in packings()) {
            lengths.sort_by_key(|length| std::cmp::Reverse(*length));
            let (mut start, mut padding) = (0, 0);
            let runs = packing.runs(&lengths);
            for rows in &runs {
                prop_assert!(*rows == 1 || *rows <= packing.rows_max && rows * lengths[start] <= packing.events_max);
                padding += lengths[start..start + rows].iter().map(|length| lengths[start] - length).sum::<usize>();
                start += rows;
            }
            prop_assert_eq!(start, lengths.len());
            // Never worse than without padding.
            let exact = Packing { run_events: 0, ..packing }.runs(&lengths).len();
            prop_assert!(padding + runs.len() * packing.run_events <= exact * packing.run_events);
        }

        #[test]
        fn how_sessions_are_packed_shows_nowhere(lengths in lengths(), packing in packings(), seed: u64) {
            let mut model = FakeModel::small();
            let session = |(length, n): (&usize, u64)| session(&model, *length, seed ^ n);
            let sessions: Vec<SessionInput> = lengths.iter().zip(0..).map(session).collect();
            let alone = bits(&one_at_a_time(&mut model, &sessions));
            prop_assert_eq!(&bits(&encode(&mut model, &sessions).unwrap()), &alone);
            prop_assert_eq!(&bits(&encode_packed(&mut model, &sessions, packing).unwrap()), &alone);
        }

        /// `cuts`: which session grows, by how many events, and whether it begins anew; `calls`: how many jobs a call takes.
        #[test]
        fn open_sessions_end_where_whole_ones_do(
            cuts in prop::collection::vec((0..5_u64, 1..9_usize, prop::bool::weighted(0.2)), 1..40),
            calls in prop::collection::vec(1..12_usize, 1..8),
            seed: u64,
        ) {
            let mut model = FakeModel::small();
            let mut hidden = HashMap::new();
            let mut whole: HashMap<u64, SessionInput> = HashMap::new();
            let mut calls = calls.into_iter().cycle();
            let mut rest = cuts.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(calls.next().unwrap().min(rest.len()));
                rest = later;
                let (mut jobs, mut sessions) = (Vec::new(), Vec::new());
                for (key, length, restart) in now {
                    let salt = u64::try_from(jobs.len() + rest.len() * 100).unwrap();
                    let restart = *restart || !whole.contains_key(key);
                    let input = session(&model, *length, seed ^ salt);
                    let known = whole.entry(*key).or_default();
                    if restart {
                        *known = SessionInput::default();
                    }
                    known.fields.extend(&input.fields);
                    known.numbers.extend(&input.numbers);
                    known.length += input.length;
                    jobs.push(OpenInput { session: *key, restart, input });
                    sessions.push(known.clone());
                }
                let vectors = encode_open(&mut model, &mut hidden, &jobs).unwrap();
                prop_assert_eq!(bits(&vectors), bits(&encode(&mut model, &sessions).unwrap()));
            }
            prop_assert_eq!(hidden.len(), whole.len());
        }
    }

    #[test]
    fn real_graphs_keep_their_bits_too() {
        let bundles = shipped_bundles().into_iter().chain([tiny_bundle()]);
        for bundle in bundles {
            let mut model = OnnxModel::load(&runtime(), &bundle, 1, Device::Cpu).unwrap();
            let sessions: Vec<SessionInput> =
                (0..400).map(|n| session(&model, 1 + usize::try_from(n * n % 61).unwrap(), n)).collect();
            let alone = bits(&one_at_a_time(&mut model, &sessions));
            assert_eq!(bits(&encode(&mut model, &sessions).unwrap()), alone, "{}", bundle.display());
            let padded = Packing { rows_max: 400, events_max: 1 << 20, run_events: 1 << 20 };
            assert_eq!(padded.runs(&[61, 60, 1, 1]), [4]);
            assert_eq!(bits(&encode_packed(&mut model, &sessions, padded).unwrap()), alone, "{}", bundle.display());
            // Open sessions: all at once, or each alone.
            let job =
                |(session, input): (u64, &SessionInput)| OpenInput { session, restart: true, input: input.clone() };
            let jobs: Vec<OpenInput> = (0..).zip(&sessions).map(job).collect();
            let together = encode_open(&mut model, &mut HashMap::new(), &jobs).unwrap();
            let mut hidden = HashMap::new();
            let alone = jobs.chunks(1).flat_map(|job| encode_open(&mut model, &mut hidden, job).unwrap());
            assert_eq!(bits(&together), bits(&alone.collect::<Vec<_>>()), "{}", bundle.display());
        }
    }

    #[test]
    #[should_panic(expected = "a session that goes on has a hidden state")]
    fn a_session_that_is_not_known_cannot_go_on() {
        let mut model = FakeModel::small();
        let input = session(&model, 1, 1);
        drop(encode_open(&mut model, &mut HashMap::new(), &[OpenInput { session: 7, restart: false, input }]));
    }

    #[test]
    fn inputs_begin_with_no_time_before() {
        let at = |ms| EventTime::parse(ms).unwrap();
        let mut input = SessionInput::default();
        input.push([7], [0.5], at(1000), None);
        input.push([7], [0.5], at(2000), Some(at(1000)));
        assert_eq!((input.fields, input.length), (vec![7, 7], 2));
        assert_eq!(input.numbers, [0.0, 0.5, std::f32::consts::LN_2, 0.5]);
    }
}
