//! The promise that everything else rests on: every row of every graph keeps every bit, whatever batch it is in. Refolds,
//! replays and restarts batch the same sessions otherwise, and must give the same states. Here a model is put to the test
//! before it runs, and with it that its two session graphs have the same weights. `[pure]`

use ndarray::{Array1, Array2, Array3, Axis, s};

use super::{CALENDAR, HeadInputs, Model, ModelError, Shape};

/// Rows that are run alone, and then in batches of these sizes, over and over where they are fewer.
pub(super) const ROWS: usize = 64;
const BATCHES: [usize; 7] = [2, 3, 8, 31, 64, 257, 1024];
const EVENTS: usize = 12;

/// Inputs such as they occur, one a row; beyond a session's length stands garbage.
pub(super) struct Rows {
    fields: Array3<i64>,
    numbers: Array3<f32>,
    length: Array1<i32>,
    hidden: Array2<f32>,
    state: Array2<f32>,
    session: Array2<f32>,
    embedding: Array2<f32>,
    prior: Array2<f32>,
    hours: Array2<f32>,
    calendar: Array2<f32>,
    context: Array2<f32>,
}

/// The error is a sentence about the graph that breaks the promise.
pub fn check(model: &mut dyn Model, tolerance: f64) -> Result<(), String> {
    let rows = Rows::random(model);
    same_weights(model, &rows, tolerance)?;
    for graph in Graph::all(model) {
        let name = graph.name(model);
        let failed = |error: ModelError| error.to_string();
        let mut alone: Vec<Vec<Array2<f32>>> = Vec::with_capacity(ROWS);
        for row in 0..ROWS {
            let outputs = graph.run(model, &rows.pick(&[row], true)).map_err(failed)?;
            if outputs.iter().flatten().any(|value| !value.is_finite()) {
                return Err(format!("{name} gives a number that is not finite for ordinary inputs"));
            }
            if graph == Graph::CustomerStep && outputs[1].iter().any(|gate| !(0.0..=1.0).contains(gate)) {
                return Err(format!("{name} gives a gate outside 0 to 1"));
            }
            alone.push(outputs);
        }
        for size in BATCHES {
            let places = places(size);
            let together = graph.run(model, &rows.pick(&places, false)).map_err(failed)?;
            for (output, values) in together.iter().enumerate() {
                for (row, place) in values.rows().into_iter().zip(&places) {
                    let expected = alone[*place][output].row(0);
                    if !row.iter().map(|x| x.to_bits()).eq(expected.iter().map(|x| x.to_bits())) {
                        return Err(format!(
                            "{name} gives other bits for a row in a batch of {size} than for the row alone; the contract \
                             forbids operators that depend on the other rows"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The rows of a batch. Not in their own order: 37 has no divisor in common with their number.
pub(super) fn places(size: usize) -> Vec<usize> {
    (0..size).map(|place| (place * 37 + size) % ROWS).collect()
}

/// The step graph, event by event, must end where the encoder does.
fn same_weights(model: &mut dyn Model, rows: &Rows, tolerance: f64) -> Result<(), String> {
    let failed = |error: ModelError| error.to_string();
    let length = Array1::from_elem(ROWS, i32::try_from(EVENTS).expect("few"));
    let whole = model.encode(rows.fields.clone(), rows.numbers.clone(), length).map_err(failed)?;
    let mut hidden = Array2::zeros(rows.hidden.dim());
    let mut stepped = Array2::zeros(whole.dim());
    for event in 0..EVENTS {
        let fields = rows.fields.slice(s![.., event, ..]).to_owned();
        let numbers = rows.numbers.slice(s![.., event, ..]).to_owned();
        (hidden, stepped) = model.encode_step(fields, numbers, hidden).map_err(failed)?;
    }
    let away = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
    let worst = whole.iter().zip(&stepped).map(away).fold(0.0, f64::max);
    if worst <= tolerance {
        return Ok(());
    }
    Err(format!("session_step ends {worst:.1e} away from session_encoder, tolerance {tolerance}: not the same weights"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Graph {
    SessionEncoder,
    SessionStep,
    CustomerStep,
    CustomerRead,
    Head(usize),
}

impl Graph {
    pub(super) fn all(model: &dyn Model) -> Vec<Self> {
        let four = [Self::SessionEncoder, Self::SessionStep, Self::CustomerStep, Self::CustomerRead];
        four.into_iter().chain((0..model.heads().len()).map(Self::Head)).collect()
    }

    pub(super) fn name(self, model: &dyn Model) -> String {
        match self {
            Self::SessionEncoder => "session_encoder".to_owned(),
            Self::SessionStep => "session_step".to_owned(),
            Self::CustomerStep => "customer_step".to_owned(),
            Self::CustomerRead => "customer_read".to_owned(),
            Self::Head(head) => format!("heads/{}", model.heads()[head].name),
        }
    }

    /// The outputs in the contract's order.
    pub(super) fn run(self, model: &mut dyn Model, rows: &Rows) -> Result<Vec<Array2<f32>>, ModelError> {
        let pair = |(first, second)| vec![first, second];
        match self {
            Self::SessionEncoder => {
                let session = model.encode(rows.fields.clone(), rows.numbers.clone(), rows.length.clone())?;
                Ok(vec![session])
            }
            Self::SessionStep => {
                let fields = rows.fields.index_axis(Axis(1), 0).to_owned();
                let numbers = rows.numbers.index_axis(Axis(1), 0).to_owned();
                model.encode_step(fields, numbers, rows.hidden.clone()).map(pair)
            }
            Self::CustomerStep => {
                let (state, session, gap) = (rows.state.clone(), rows.session.clone(), rows.hours.clone());
                model.customer_step(state, session, gap, rows.calendar.clone(), rows.context.clone()).map(pair)
            }
            Self::CustomerRead => {
                let (state, ahead) = (rows.state.clone(), rows.hours.clone());
                Ok(vec![model.customer_read(state, ahead, rows.calendar.clone(), rows.context.clone())?])
            }
            Self::Head(head) => Ok(vec![model.score(head, rows.head_inputs())?]),
        }
    }
}

impl Rows {
    pub(super) fn random(model: &dyn Model) -> Self {
        let mut random = Random(1);
        let Shape { fields, numbers, session, hidden, state, embedding, context } = model.shape();
        let ids: Vec<u64> = (0..fields).map(|field| u64::from(model.features().ids_len(field))).collect();
        let mut fields = Array3::zeros((ROWS, EVENTS, fields));
        for ((row, event, field), id) in fields.indexed_iter_mut() {
            // The first session begins with the largest ids: the graphs' tables must have them.
            let drawn = 1 + random.below(ids[field] - 1);
            *id = (if row == 0 && event == 0 { ids[field] - 1 } else { drawn }).cast_signed();
        }
        let length = |row| i32::try_from(1 + (row * 5) % EVENTS).expect("few");
        Self {
            fields,
            numbers: Array3::from_shape_simple_fn((ROWS, EVENTS, numbers), || random.normal().abs()),
            length: Array1::from_shape_fn(ROWS, length),
            hidden: random.array(hidden),
            state: random.array(state),
            session: random.array(session),
            embedding: random.array(embedding),
            prior: random.array(embedding),
            hours: random.array(1).mapv_into(f32::abs),
            calendar: random.array(CALENDAR),
            context: random.array(context),
        }
    }

    /// These rows, without the padding behind the longest of them if so wished.
    pub(super) fn pick(&self, places: &[usize], cut: bool) -> Self {
        let length = self.length.select(Axis(0), places);
        let longest = length.iter().copied().max().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let events = if cut { longest } else { EVENTS };
        let array = |array: &Array2<f32>| array.select(Axis(0), places);
        Self {
            fields: self.fields.select(Axis(0), places).slice(s![.., ..events, ..]).to_owned(),
            numbers: self.numbers.select(Axis(0), places).slice(s![.., ..events, ..]).to_owned(),
            length,
            hidden: array(&self.hidden),
            state: array(&self.state),
            session: array(&self.session),
            embedding: array(&self.embedding),
            prior: array(&self.prior),
            hours: array(&self.hours),
            calendar: array(&self.calendar),
            context: array(&self.context),
        }
    }

    fn head_inputs(&self) -> HeadInputs<'_> {
        HeadInputs {
            state: Some(&self.state),
            prior: Some(&self.prior),
            session: Some(&self.session),
            embedding: Some(&self.embedding),
            calendar: Some(&self.calendar),
            context: Some(&self.context),
        }
    }
}

/// SplitMix64: the same numbers everywhere, for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Roughly normal, with deviation 2: the sum of four uniform numbers.
    fn normal(&mut self) -> f32 {
        let uniform = |bits: u64| (bits >> 40) as f32 / (1_u64 << 24) as f32 - 0.5;
        (0..4).map(|_| uniform(self.next())).sum::<f32>() * 3.5
    }

    fn array(&mut self, columns: usize) -> Array2<f32> {
        Array2::from_shape_simple_fn((ROWS, columns), || self.normal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HeadInput;
    use crate::model::fake::FakeModel;

    #[test]
    fn the_fake_keeps_the_promise() {
        let mut model = FakeModel::small().with_head("takeover", &[HeadInput::Prior, HeadInput::Context], 2);
        assert_eq!(check(&mut model, 0.0), Ok(()));
    }
}
