//! The model bundle: manifest and features `[pure]`, its graphs through ONNX Runtime, and the tests' deterministic fake.
//! `docs/model-contract.md` is the contract. Arrays are batch first and owned, so that they become tensors without a copy.

use std::sync::Arc;

use ndarray::{Array1, Array2, Array3};

use crate::types::ModelId;

pub mod features;
pub mod manifest;
pub mod graph;
pub mod golden;
pub mod invariance;
pub mod compare;
pub mod bundle;
pub mod library;
pub mod elf;
pub mod device;
pub mod placement;
pub mod onnx;
pub mod fake;
#[cfg(test)]
pub(crate) mod tests;

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
    /// The device that is wanted cannot be had; the text says why and what to do.
    #[error(transparent)]
    Device(#[from] device::DeviceError),
    /// A graph failed while it ran.
    #[error("graph {graph}: {what}")]
    Run { graph: String, what: String },
}

/// What a head can ask for. The names are those of the graphs' inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadInput {
    /// The customer's state before the session: `[B,H]`.
    State,
    /// The embedding before the session, as read at its start: `[B,E]`.
    Prior,
    /// `[B,S]`.
    Session,
    /// The embedding after the session: `[B,E]`.
    Embedding,
    /// `[B,4]`.
    Calendar,
    /// `[B,C]`.
    Context,
}

impl HeadInput {
    pub const ALL: [Self; 6] =
        [Self::State, Self::Prior, Self::Session, Self::Embedding, Self::Calendar, Self::Context];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Prior => "prior",
            Self::Session => "session",
            Self::Embedding => "embedding",
            Self::Calendar => "calendar",
            Self::Context => "context",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|input| input.as_str() == name)
    }

    /// How many columns it has.
    pub fn width(self, shape: Shape) -> usize {
        match self {
            Self::State => shape.state,
            Self::Prior | Self::Embedding => shape.embedding,
            Self::Session => shape.session,
            Self::Calendar => CALENDAR,
            Self::Context => shape.context,
        }
    }
}

/// The columns of the calendar: P.
pub const CALENDAR: usize = 4;

/// Scores beside the embedding, such as the risk of an account takeover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub name: Arc<str>,
    /// In the manifest's order.
    pub inputs: Box<[HeadInput]>,
    /// K.
    pub classes: usize,
}

/// The inputs of a head; those that it does not list may be absent, and are not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadInputs<'a> {
    pub state: Option<&'a Array2<f32>>,
    pub prior: Option<&'a Array2<f32>>,
    pub session: Option<&'a Array2<f32>>,
    pub embedding: Option<&'a Array2<f32>>,
    pub calendar: Option<&'a Array2<f32>>,
    pub context: Option<&'a Array2<f32>>,
}

impl<'a> HeadInputs<'a> {
    pub fn get(&self, input: HeadInput) -> Option<&'a Array2<f32>> {
        match input {
            HeadInput::State => self.state,
            HeadInput::Prior => self.prior,
            HeadInput::Session => self.session,
            HeadInput::Embedding => self.embedding,
            HeadInput::Calendar => self.calendar,
            HeadInput::Context => self.context,
        }
    }
}

/// The graphs of a bundle. Two implementations: ONNX Runtime, and the tests' fake.
/// Every row of every result is the same, bit for bit, whatever the batch it was computed in.
pub trait Model: Send {
    fn id(&self) -> &ModelId;
    /// Of all that its results depend on: another bundle has another one, whatever its id.
    fn fingerprint(&self) -> u64;
    fn shape(&self) -> Shape;
    fn features(&self) -> &features::FeatureSpec;
    /// fields `[B,T,F]`, numbers `[B,T,N]`, length `[B]` (1 to T) → session `[B,S]`.
    fn encode(
        &mut self,
        fields: Array3<i64>,
        numbers: Array3<f32>,
        length: Array1<i32>,
    ) -> Result<Array2<f32>, ModelError>;
    /// fields `[B,F]`, numbers `[B,N]`, hidden `[B,Hs]` → hidden `[B,Hs]`, session `[B,S]`.
    fn encode_step(
        &mut self,
        fields: Array2<i64>,
        numbers: Array2<f32>,
        hidden: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError>;
    /// state `[B,H]`, session `[B,S]`, gap `[B,1]`, calendar `[B,4]`, context `[B,C]` → state `[B,H]`, gate `[B,1]`.
    fn customer_step(
        &mut self,
        state: Array2<f32>,
        session: Array2<f32>,
        gap: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError>;
    /// state `[B,H]`, ahead `[B,1]`, calendar `[B,4]`, context `[B,C]` → embedding `[B,E]`, not yet of unit length.
    fn customer_read(
        &mut self,
        state: Array2<f32>,
        ahead: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<Array2<f32>, ModelError>;
    /// The scores that this bundle gives, sorted by name.
    fn heads(&self) -> &[Head];
    /// The head at this place in [`Model::heads`] → scores `[B,K]`.
    fn score(&mut self, head: usize, inputs: HeadInputs<'_>) -> Result<Array2<f32>, ModelError>;
    /// One of the heads asks for it.
    fn heads_read(&self, input: HeadInput) -> bool {
        self.heads().iter().any(|head| head.inputs.contains(&input))
    }
}
