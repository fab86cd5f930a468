//! The calls of the customer graphs: the rows that customers ask for, in batches, and the answers.

use ndarray::{Array2, ArrayView1};

use super::{Brief, Mark};
use crate::model::features::{self, FeatureSpec};
use crate::model::{HeadInputs, Model, ModelError};
use crate::types::EventTime;

/// Rows of one call of a customer graph at the most.
const BATCH_ROWS_MAX: usize = 512;

/// One row of a call of a customer graph, borrowed from the customer.
#[derive(Debug)]
pub(super) enum Request<'c> {
    Step {
        state: &'c [f32],
        session: &'c [f32],
        gap: f32,
        calendar: [f32; 4],
        context: &'c [f32],
    },
    Read {
        state: &'c [f32],
        ahead: f32,
        calendar: [f32; 4],
        context: &'c [f32],
    },
    /// Of all heads.
    Score {
        state: &'c [f32],
        prior: &'c [f32],
        session: &'c [f32],
        embedding: &'c [f32],
        calendar: [f32; 4],
        context: &'c [f32],
    },
}

/// A row, and the place of the lane that asked for it, which comes back with the answer.
pub(super) type Asked<'c> = (usize, Request<'c>);

pub(super) fn since(later: EventTime, earlier: EventTime) -> u64 {
    u64::try_from(later.ms().saturating_sub(earlier.ms())).unwrap_or(0)
}

pub(super) fn step_with<'c>(
    before: &'c Mark,
    session: &Brief,
    vector: &'c [f32],
    context: &'c [f32],
    spec: &FeatureSpec,
) -> Request<'c> {
    Request::Step {
        state: &before.state,
        session: vector,
        gap: before.times.map_or(0.0, |t| features::hours(since(session.start, t.last_end))),
        calendar: spec.calendar(session.start.ms()),
        context,
    }
}

/// The state as it is at that moment.
pub(super) fn read<'c>(mark: &'c Mark, moment: EventTime, context: &'c [f32], spec: &FeatureSpec) -> Request<'c> {
    Request::Read {
        state: &mark.state,
        ahead: mark.times.map_or(0.0, |t| features::hours(since(moment, t.latest_end))),
        calendar: spec.calendar(moment.ms()),
        context,
    }
}

/// What a request gave: a state and its gate, an embedding of unit length (`None` where it was not finite), or scores.
#[derive(Debug)]
pub(super) enum Answer {
    Step(Option<(Box<[f32]>, f32)>),
    Read(Option<Box<[f32]>>),
    /// Each head's scores, as they are.
    Score(Vec<Vec<f32>>),
}

/// Calls the graphs for all requests, each kind in batches of its own.
pub(super) fn answer(model: &mut dyn Model, asked: &[Asked<'_>]) -> Result<Vec<(usize, Answer)>, ModelError> {
    let mut answers = Vec::with_capacity(asked.len());
    let [mut steps, mut reads, mut scores]: [Vec<&Asked<'_>>; 3] = Default::default();
    for row in asked {
        match row.1 {
            Request::Step { .. } => steps.push(row),
            Request::Read { .. } => reads.push(row),
            Request::Score { .. } => scores.push(row),
        }
    }
    for rows in steps.chunks(BATCH_ROWS_MAX) {
        let mut columns: [Vec<f32>; 5] = Default::default();
        for (_, request) in rows {
            if let Request::Step { state, session, gap, calendar, context } = request {
                extend(&mut columns, rows.len(), [state, session, &[*gap], calendar, context]);
            }
        }
        let [state, session, gap, calendar, context] = columns.map(|column| rectangle(rows.len(), column));
        let (states, gates) = model.customer_step(state, session, gap, calendar, context)?;
        for (((at, _), state), gate) in rows.iter().zip(states.rows()).zip(gates.iter()) {
            let is_finite = gate.is_finite() && state.iter().all(|x| x.is_finite());
            answers.push((*at, Answer::Step(is_finite.then(|| (state.to_vec().into(), *gate)))));
        }
    }
    for rows in reads.chunks(BATCH_ROWS_MAX) {
        let mut columns: [Vec<f32>; 4] = Default::default();
        for (_, request) in rows {
            if let Request::Read { state, ahead, calendar, context } = request {
                extend(&mut columns, rows.len(), [state, &[*ahead], calendar, context]);
            }
        }
        let [state, ahead, calendar, context] = columns.map(|column| rectangle(rows.len(), column));
        let embeddings = model.customer_read(state, ahead, calendar, context)?;
        for ((at, _), embedding) in rows.iter().zip(embeddings.rows()) {
            answers.push((*at, Answer::Read(unit(embedding))));
        }
    }
    for rows in scores.chunks(BATCH_ROWS_MAX) {
        score(model, rows, &mut answers)?;
    }
    Ok(answers)
}

fn score(model: &mut dyn Model, rows: &[&Asked<'_>], answers: &mut Vec<(usize, Answer)>) -> Result<(), ModelError> {
    let mut columns: [Vec<f32>; 6] = Default::default();
    for (_, request) in rows {
        if let Request::Score { state, prior, session, embedding, calendar, context } = request {
            extend(&mut columns, rows.len(), [state, prior, session, embedding, calendar, context]);
        }
    }
    let [state, prior, session, embedding, calendar, context] = columns.map(|column| rectangle(rows.len(), column));
    let inputs = HeadInputs {
        state: Some(&state),
        prior: Some(&prior),
        session: Some(&session),
        embedding: Some(&embedding),
        calendar: Some(&calendar),
        context: Some(&context),
    };
    let mut scores = vec![Vec::with_capacity(model.heads().len()); rows.len()];
    for head in 0..model.heads().len() {
        let given = model.score(head, inputs)?;
        for (scores, given) in scores.iter_mut().zip(given.rows()) {
            scores.push(given.to_vec());
        }
    }
    answers.extend(rows.iter().zip(scores).map(|((at, _), scores)| (*at, Answer::Score(scores))));
    Ok(())
}

/// The next of `rows` rows.
fn extend<const N: usize>(columns: &mut [Vec<f32>; N], rows: usize, row: [&[f32]; N]) {
    for (column, values) in columns.iter_mut().zip(row) {
        if column.capacity() == 0 {
            column.reserve_exact(rows * values.len());
        }
        column.extend_from_slice(values);
    }
}

fn rectangle(rows: usize, column: Vec<f32>) -> Array2<f32> {
    let width = column.len() / rows;
    Array2::from_shape_vec((rows, width), column).expect("each row gave as many values")
}

/// Brought to unit length; `None` where it has none.
fn unit(vector: ArrayView1<'_, f32>) -> Option<Box<[f32]>> {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "rounded to f32 once, on purpose")]
    let unit = || vector.iter().map(|x| (f64::from(*x) / length) as f32).collect();
    (length.is_finite() && length > 0.0).then(unit)
}
