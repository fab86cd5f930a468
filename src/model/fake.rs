//! The tests' model, and the bench's where no model is to be measured: hashes instead of weights. Every output depends
//! on every bit and on the place of every input, so that a wrong order, gap or context shows; it costs next to nothing.
//! Compiled always, since the tests of the binary and the benches are crates of their own.

use jiff::tz::TimeZone;
use ndarray::{Array1, Array2, Array3, ArrayView1, Axis};

use super::features::{Context, FeatureSpec, Field, Number, Scaling, Source, Transform};
use super::{Head, HeadInput, HeadInputs, Model, ModelError, Shape};
use crate::types::{ModelId, fnv1a64};

/// A model without weights. Keeps all promises of [`Model`].
#[derive(Debug, Clone)]
pub struct FakeModel {
    id: ModelId,
    shape: Shape,
    features: FeatureSpec,
    heads: Vec<Head>,
}

/// The sizes that the features leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub session: usize,
    pub hidden: usize,
    pub state: usize,
    pub embedding: usize,
}

impl FakeModel {
    pub fn new(features: FeatureSpec, sizes: Sizes) -> Self {
        let shape = Shape {
            fields: features.fields_len(),
            numbers: features.numbers_len(),
            session: sizes.session,
            hidden: sizes.hidden,
            state: sizes.state,
            embedding: sizes.embedding,
            context: features.context_len(),
        };
        Self { id: ModelId::new("fake", "1"), shape, features, heads: Vec::new() }
    }

    /// Fields `name` and `kind`, the number `attributes.amount`, the context `balance`; all sizes are 4, time is UTC.
    pub fn small() -> Self {
        let log = Scaling { transform: Transform::Log1p, mean: 0.0, scale: 1.0 };
        let features = FeatureSpec::new(
            vec![
                Field::new(Source::Name, &["login", "home", "transfer", "logout"], 4),
                Field::new(Source::Kind, &["LOGIN", "LOGOUT", "PAGE_VIEW", "ACTION"], 1),
            ],
            vec![Number { attribute: "amount".into(), scaling: log }],
            vec![Context { name: "balance".into(), scaling: log }],
            TimeZone::UTC,
        );
        Self::new(features, Sizes { session: 4, hidden: 4, state: 4, embedding: 4 })
    }

    /// Adds a head; [`Model::heads`] stays sorted by name.
    #[must_use]
    pub fn with_head(mut self, name: &str, inputs: &[HeadInput], classes: usize) -> Self {
        self.heads.push(Head { name: name.into(), inputs: inputs.into(), classes });
        self.heads.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    #[must_use]
    pub fn with_id(mut self, id: ModelId) -> Self {
        self.id = id;
        self
    }

    fn event(fields: ArrayView1<'_, i64>, numbers: ArrayView1<'_, f32>, hidden: ArrayView1<'_, f32>) -> Mix {
        let mut mix = Mix::new("event");
        fields.iter().for_each(|id| mix.add(id.cast_unsigned()));
        mix.add_all(numbers);
        mix.add_all(hidden);
        mix
    }
}

impl Model for FakeModel {
    fn id(&self) -> &ModelId {
        &self.id
    }

    fn fingerprint(&self) -> u64 {
        fnv1a64(self.id.as_str().as_bytes())
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn features(&self) -> &FeatureSpec {
        &self.features
    }

    fn encode(
        &mut self,
        fields: Array3<i64>,
        numbers: Array3<f32>,
        length: Array1<i32>,
    ) -> Result<Array2<f32>, ModelError> {
        let (rows, events, _) = fields.dim();
        assert_eq!(fields.dim(), (rows, events, self.shape.fields), "fields is [B,T,F]");
        assert_eq!(numbers.dim(), (rows, events, self.shape.numbers), "numbers is [B,T,N]");
        assert_eq!(length.dim(), rows, "length is [B]");
        let mut session = Array2::zeros((rows, self.shape.session));
        for row in 0..rows {
            let length = usize::try_from(length[row]).expect("a length is not negative");
            assert!((1..=events).contains(&length), "a length is 1 to T");
            let mut hidden = Array1::zeros(self.shape.hidden);
            for event in 0..length {
                let (fields, numbers) = (fields.index_axis(Axis(0), row), numbers.index_axis(Axis(0), row));
                Self::event(fields.row(event), numbers.row(event), hidden.view()).fill(hidden.view_mut());
            }
            Mix::of("session", [hidden.view()]).fill(session.row_mut(row));
        }
        Ok(session)
    }

    fn encode_step(
        &mut self,
        fields: Array2<i64>,
        numbers: Array2<f32>,
        hidden: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError> {
        let rows = fields.nrows();
        assert_eq!(fields.dim(), (rows, self.shape.fields), "fields is [B,F]");
        assert_eq!(numbers.dim(), (rows, self.shape.numbers), "numbers is [B,N]");
        assert_eq!(hidden.dim(), (rows, self.shape.hidden), "hidden is [B,Hs]");
        let mut hidden_out = Array2::zeros((rows, self.shape.hidden));
        let mut session = Array2::zeros((rows, self.shape.session));
        for row in 0..rows {
            Self::event(fields.row(row), numbers.row(row), hidden.row(row)).fill(hidden_out.row_mut(row));
            Mix::of("session", [hidden_out.row(row)]).fill(session.row_mut(row));
        }
        Ok((hidden_out, session))
    }

    fn customer_step(
        &mut self,
        state: Array2<f32>,
        session: Array2<f32>,
        gap: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError> {
        let rows = state.nrows();
        let inputs = [(&state, self.shape.state), (&session, self.shape.session), (&gap, 1)];
        require_dims(rows, &inputs);
        require_dims(rows, &[(&calendar, super::CALENDAR), (&context, self.shape.context)]);
        let mut state_out = Array2::zeros((rows, self.shape.state));
        let mut gate = Array2::zeros((rows, 1));
        for row in 0..rows {
            let inputs = [&state, &session, &gap, &calendar, &context].map(|input| input.row(row));
            Mix::of("step", inputs).fill(state_out.row_mut(row));
            Mix::of("gate", inputs).fill(gate.row_mut(row));
        }
        Ok((state_out, gate.mapv_into(f32::abs)))
    }

    fn customer_read(
        &mut self,
        state: Array2<f32>,
        ahead: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<Array2<f32>, ModelError> {
        let rows = state.nrows();
        require_dims(rows, &[(&state, self.shape.state), (&ahead, 1)]);
        require_dims(rows, &[(&calendar, super::CALENDAR), (&context, self.shape.context)]);
        let mut embedding = Array2::zeros((rows, self.shape.embedding));
        for row in 0..rows {
            let inputs = [&state, &ahead, &calendar, &context].map(|input| input.row(row));
            Mix::of("read", inputs).fill(embedding.row_mut(row));
        }
        Ok(embedding)
    }

    fn heads(&self) -> &[Head] {
        &self.heads
    }

    fn score(&mut self, head: usize, inputs: HeadInputs<'_>) -> Result<Array2<f32>, ModelError> {
        let head = &self.heads[head];
        let inputs: Vec<_> =
            head.inputs.iter().map(|input| (inputs.get(*input).expect("a listed input is given"), *input)).collect();
        let rows = inputs.first().map_or(0, |(array, _)| array.nrows());
        inputs.iter().for_each(|(array, input)| require_dims(rows, &[(array, input.width(self.shape))]));
        let mut scores = Array2::zeros((rows, head.classes));
        for row in 0..rows {
            let mut mix = Mix::new(&head.name);
            inputs.iter().for_each(|(array, _)| mix.add_all(array.row(row)));
            mix.fill(scores.row_mut(row));
        }
        Ok(scores)
    }
}

fn require_dims(rows: usize, inputs: &[(&Array2<f32>, usize)]) {
    for (array, columns) in inputs {
        assert_eq!(array.dim(), (rows, *columns), "an input has the dimensions of the contract");
    }
}

/// A hash that depends on the order of what is added.
struct Mix(u64);

impl Mix {
    fn new(what: &str) -> Self {
        Self(fnv1a64(what.as_bytes()))
    }

    fn of<const N: usize>(what: &str, inputs: [ArrayView1<'_, f32>; N]) -> Self {
        let mut mix = Self::new(what);
        inputs.into_iter().for_each(|input| mix.add_all(input));
        mix
    }

    fn add(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn add_all(&mut self, values: ArrayView1<'_, f32>) {
        values.iter().for_each(|value| self.add(value.to_bits().into()));
    }

    /// Floats in ±1, none of them 0.
    fn fill(&self, row: ndarray::ArrayViewMut1<'_, f32>) {
        let mut state = self.0;
        for out in row {
            // SplitMix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^= bits >> 31;
            let odd = (bits >> 41) | 1; // 23 bits, exact in f32
            *out = (odd as f32 - 4_194_304.0) / 4_194_304.0;
        }
    }
}
