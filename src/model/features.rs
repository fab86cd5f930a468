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

/// ln(1 + seconds between two events of a session).
pub fn seconds_since(before: crate::types::EventTime, this: crate::types::EventTime) -> f32 {
    libm::log1p((this.ms() - before.ms()) as f64 / 1000.0) as f32
}
impl FeatureSpec {
    pub fn event(&self, _click: &crate::wire::click::ClickEvent<'_>) -> EventFeatures {
        EventFeatures::default()
    }
    pub fn context(&self, _context: &[(std::borrow::Cow<'_, str>, f64)]) -> Box<[f32]> {
        Box::default()
    }
}
