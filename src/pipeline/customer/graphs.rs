//! The calls of the customer graphs: the rows that customers ask for, in batches, and the answers.

use std::sync::Arc;

use ndarray::{Array2, ArrayView1};

use crate::model::{Model, ModelError};

/// Rows of one call of a customer graph at the most.
const BATCH_ROWS_MAX: usize = 512;

/// The rows of one call of a customer graph.
#[derive(Debug)]
pub(super) enum Request {
    Step { state: Box<[f32]>, session: Box<[f32]>, gap: f32, calendar: [f32; 4], context: Arc<[f32]> },
    Read { state: Box<[f32]>, ahead: f32, calendar: [f32; 4], context: Arc<[f32]> },
}

/// What a request gave: a state and its gate, or an embedding of unit length; `None` where it was not finite.
#[derive(Debug)]
pub(super) enum Answer {
    Step(Option<(Box<[f32]>, f32)>),
    Read(Option<Box<[f32]>>),
}

/// Calls the graphs for all requests, steps and reads in batches of their own.
pub(super) fn answer(
    model: &mut dyn Model,
    requests: Vec<(usize, Request)>,
) -> Result<Vec<(usize, Answer)>, ModelError> {
    let (steps, reads): (Vec<_>, Vec<_>) = requests.into_iter().partition(|(_, r)| matches!(r, Request::Step { .. }));
    let mut answers = Vec::with_capacity(steps.len() + reads.len());
    for rows in steps.chunks(BATCH_ROWS_MAX) {
        let mut columns: [Vec<f32>; 5] = Default::default();
        for (_, request) in rows {
            if let Request::Step { state, session, gap, calendar, context } = request {
                extend(&mut columns, [state, session, &[*gap], calendar, context]);
            }
        }
        let [state, session, gap, calendar, context] = columns.map(|column| rectangle(rows.len(), column));
        let (states, gates) = model.customer_step(state, session, gap, calendar, context)?;
        for (((at, _), state), gate) in rows.iter().zip(states.rows()).zip(gates.iter()) {
            let is_finite = gate.is_finite() && state.iter().all(|x| x.is_finite());
            answers.push((*at, Answer::Step(is_finite.then(|| (state.iter().copied().collect(), *gate)))));
        }
    }
    for rows in reads.chunks(BATCH_ROWS_MAX) {
        let mut columns: [Vec<f32>; 4] = Default::default();
        for (_, request) in rows {
            if let Request::Read { state, ahead, calendar, context } = request {
                extend(&mut columns, [state, &[*ahead], calendar, context]);
            }
        }
        let [state, ahead, calendar, context] = columns.map(|column| rectangle(rows.len(), column));
        let embeddings = model.customer_read(state, ahead, calendar, context)?;
        for ((at, _), embedding) in rows.iter().zip(embeddings.rows()) {
            answers.push((*at, Answer::Read(unit(embedding))));
        }
    }
    Ok(answers)
}

fn extend<const N: usize>(columns: &mut [Vec<f32>; N], row: [&[f32]; N]) {
    for (column, values) in columns.iter_mut().zip(row) {
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
