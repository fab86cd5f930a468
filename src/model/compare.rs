//! How far the graphs of one bundle on two devices are apart, and how far a row changes with its batch: measured, where
//! [`super::invariance`] refuses. Takes models, gives numbers. `[pure]`

use ndarray::Array2;

use super::invariance::{Graph, ROWS, Rows, places};
use super::{Model, ModelError};

/// One graph in batches of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub graph: String,
    pub batch: usize,
    /// The largest between two numbers that should be the same; infinite where one is not finite.
    pub largest: f64,
    /// Rows with a number of other bits.
    pub rows: usize,
}

/// Both models on the same inputs, each graph in batches of these sizes.
pub fn devices(one: &mut dyn Model, other: &mut dyn Model, batches: &[usize]) -> Result<Vec<Difference>, ModelError> {
    let rows = Rows::random(one);
    let mut found = Vec::new();
    for graph in Graph::all(one) {
        for batch in batches.iter().copied() {
            let inputs = rows.pick(&places(batch), false);
            let (ours, theirs) = (graph.run(one, &inputs)?, graph.run(other, &inputs)?);
            found.push(difference(graph.name(one), batch, &ours, &theirs));
        }
    }
    Ok(found)
}

/// The rows of each batch beside the same rows alone.
pub fn batches(model: &mut dyn Model, batches: &[usize]) -> Result<Vec<Difference>, ModelError> {
    let rows = Rows::random(model);
    let mut found = Vec::new();
    for graph in Graph::all(model) {
        let mut alone: Vec<Vec<Array2<f32>>> = Vec::with_capacity(ROWS);
        for row in 0..ROWS {
            alone.push(graph.run(model, &rows.pick(&[row], true))?);
        }
        for batch in batches.iter().copied() {
            let places = places(batch);
            let together = graph.run(model, &rows.pick(&places, false))?;
            let expected: Vec<Array2<f32>> = (together.iter().enumerate())
                .map(|(output, values)| {
                    let row = |(row, column): (usize, usize)| alone[places[row]][output][(0, column)];
                    Array2::from_shape_fn(values.dim(), row)
                })
                .collect();
            found.push(difference(graph.name(model), batch, &expected, &together));
        }
    }
    Ok(found)
}

fn difference(graph: String, batch: usize, ones: &[Array2<f32>], others: &[Array2<f32>]) -> Difference {
    let mut largest: f64 = 0.0;
    let mut changed = vec![false; batch];
    for (one, other) in ones.iter().zip(others) {
        for ((a, b), changed) in one.rows().into_iter().zip(other.rows()).zip(&mut changed) {
            for (a, b) in a.iter().zip(b) {
                *changed |= a.to_bits() != b.to_bits();
                largest = largest.max(distance(*a, *b));
            }
        }
    }
    Difference { graph, batch, largest, rows: changed.into_iter().filter(|changed| *changed).count() }
}

/// Infinite where one of them is not finite.
pub fn distance(a: f32, b: f32) -> f64 {
    let apart = (f64::from(a) - f64::from(b)).abs();
    if apart.is_finite() { apart } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HeadInput;
    use crate::model::fake::FakeModel;

    fn model() -> FakeModel {
        FakeModel::small().with_head("takeover", &[HeadInput::Prior, HeadInput::Context], 2)
    }

    #[test]
    fn a_model_is_no_distance_from_itself() {
        let found = devices(&mut model(), &mut model(), &[1, 100]).unwrap();
        assert_eq!(found.len(), 2 * 5);
        assert!(found.iter().chain(&batches(&mut model(), &[2, 65]).unwrap()).all(|d| d.largest == 0.0 && d.rows == 0));
    }

    #[test]
    fn what_differs_is_counted_in_rows_and_measured() {
        let ones = [ndarray::array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], ndarray::array![[1.0], [1.0], [1.0]]];
        let mut others = ones.clone();
        others[0][(1, 0)] = 3.5;
        others[0][(1, 1)] = 4.25;
        others[1][(2, 0)] = 0.0;
        let found = difference("g".to_owned(), 3, &ones, &others);
        assert_eq!(found, Difference { graph: "g".to_owned(), batch: 3, largest: 1.0, rows: 2 });
        others[1][(0, 0)] = f32::NAN;
        assert_eq!(difference("g".to_owned(), 3, &ones, &others).largest, f64::INFINITY);
    }
}
