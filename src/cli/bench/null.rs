//! No model: constant vectors of a bundle's sizes, so that records are as large as with it and nothing is computed.

use ndarray::{Array1, Array2, Array3};

use crate::model::features::FeatureSpec;
use crate::model::{Head, HeadInputs, Model, ModelError, Shape};
use crate::types::ModelId;

#[derive(Debug)]
pub(super) struct Null {
    id: ModelId,
    shape: Shape,
    features: FeatureSpec,
    /// Digits as a real vector has them, so that the record's bytes are as many.
    embedding: Array1<f32>,
}

impl Null {
    pub(super) fn like(model: &dyn Model) -> Self {
        let shape = model.shape();
        let embedding = Array1::from_shape_fn(shape.embedding, |at| (at as f32 + 1.0).sin());
        Self { id: ModelId::new("null", "1"), shape, features: model.features().clone(), embedding }
    }
}

impl Model for Null {
    fn id(&self) -> &ModelId {
        &self.id
    }

    fn fingerprint(&self) -> u64 {
        0
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn features(&self) -> &FeatureSpec {
        &self.features
    }

    fn encode(&mut self, _: Array3<i64>, _: Array3<f32>, length: Array1<i32>) -> Result<Array2<f32>, ModelError> {
        Ok(Array2::zeros((length.len(), self.shape.session)))
    }

    fn encode_step(
        &mut self,
        _: Array2<i64>,
        _: Array2<f32>,
        hidden: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError> {
        let session = Array2::zeros((hidden.nrows(), self.shape.session));
        Ok((hidden, session))
    }

    fn customer_step(
        &mut self,
        state: Array2<f32>,
        _: Array2<f32>,
        _: Array2<f32>,
        _: Array2<f32>,
        _: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError> {
        let gate = Array2::ones((state.nrows(), 1));
        Ok((state, gate))
    }

    fn customer_read(
        &mut self,
        state: Array2<f32>,
        _: Array2<f32>,
        _: Array2<f32>,
        _: Array2<f32>,
    ) -> Result<Array2<f32>, ModelError> {
        let mut embeddings = Array2::zeros((state.nrows(), self.shape.embedding));
        embeddings.assign(&self.embedding);
        Ok(embeddings)
    }

    fn heads(&self) -> &[Head] {
        &[]
    }

    fn score(&mut self, _: usize, _: HeadInputs<'_>) -> Result<Array2<f32>, ModelError> {
        unreachable!("it has no heads")
    }
}
