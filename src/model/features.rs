//! From clicks to the numbers that the graphs take: vocabulary ids, logarithms, calendar, context. [pure]

/// The features of one event, without the time since the event before, which depends on its neighbours.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventFeatures {
    /// One id a categorical field, as in the contract.
    pub fields: Box<[u32]>,
    /// The manifest's numbers, normalised; column 0 of the graph's input is not among them.
    pub numbers: Box<[f32]>,
    /// One of its values fell into a bucket for unknown names.
    pub unknown: bool,
}

/// How a bundle turns events, contexts and times into numbers.
#[derive(Debug, Clone)]
pub struct FeatureSpec {}
