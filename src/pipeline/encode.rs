//! Sessions to vectors, in well-packed batches. Session contents → session vectors.

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

/// New events at the end of an open session, for the step graph.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenInput {
    /// Names the open session; its jobs stand in order.
    pub session: u64,
    /// The input is the whole session, since something earlier changed (or it is new): begin with a hidden state of zeros.
    pub restart: bool,
    pub input: SessionInput,
}
