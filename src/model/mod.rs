//! The model bundle: manifest and features [pure], its graphs through ONNX Runtime, and the tests' deterministic fake.
//! `docs/model-contract.md` is the contract. Arrays are batch first and owned, so that they become tensors without a copy.

use ndarray::{Array1, Array2, Array3};

use crate::types::ModelId;

pub mod features;

/// The sizes of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Categorical fields of an event: F.
    pub fields: usize,
    /// Numbers of an event, the time since the event before included: N.
    pub numbers: usize,
    /// The session's vector: S.
    pub session: usize,
    /// The session encoder's hidden state: Hs.
    pub hidden: usize,
    /// The customer's state: H.
    pub state: usize,
    /// The embedding: E.
    pub embedding: usize,
    /// Values and masks of the context: C.
    pub context: usize,
}

/// Why a model could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The bundle is wrong; the text says which file, what was found and what must be.
    #[error("model bundle {bundle}: {what}")]
    Bundle { bundle: String, what: String },
    /// ONNX Runtime could not be found or loaded; the text names the places looked in and the fix.
    #[error("onnx runtime: {0}")]
    Runtime(String),
    /// A graph failed while it ran.
    #[error("graph {graph}: {what}")]
    Run { graph: &'static str, what: String },
}

/// The graphs of a bundle. Two implementations: ONNX Runtime, and the tests' fake.
/// Every row of every result is the same, bit for bit, whatever the batch it was computed in.
pub trait Model: Send {
    fn id(&self) -> &ModelId;
    fn shape(&self) -> Shape;
    fn features(&self) -> &features::FeatureSpec;
    /// fields [B,T,F], numbers [B,T,N], length [B] (1 to T) → session [B,S].
    fn encode(
        &mut self,
        fields: Array3<i64>,
        numbers: Array3<f32>,
        length: Array1<i32>,
    ) -> Result<Array2<f32>, ModelError>;
    /// fields [B,F], numbers [B,N], hidden [B,Hs] → hidden [B,Hs], session [B,S].
    fn encode_step(
        &mut self,
        fields: Array2<i64>,
        numbers: Array2<f32>,
        hidden: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError>;
    /// state [B,H], session [B,S], gap [B,1], calendar [B,4], context [B,C] → state [B,H], gate [B,1].
    fn customer_step(
        &mut self,
        state: Array2<f32>,
        session: Array2<f32>,
        gap: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError>;
    /// state [B,H], ahead [B,1], calendar [B,4], context [B,C] → embedding [B,E], not yet of unit length.
    fn customer_read(
        &mut self,
        state: Array2<f32>,
        ahead: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<Array2<f32>, ModelError>;
}
