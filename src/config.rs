//! Configuration: `deploy/default.toml` + file + environment + `--set` → raw structs as written → checked structs as meant.

/// The rules of sessions. Durations in milliseconds, at most [`crate::types::Moment::DURATION_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRules {
    /// Silence that ends a session.
    pub gap_ms: u64,
    /// How long, in stream time, a closed session can still be completed.
    pub allowed_lateness_ms: u64,
    /// How far an event time may lie beyond its record's timestamp.
    pub future_max_ms: u64,
    pub duration_max_ms: u64,
    /// The four counts are 1 or more.
    pub events_max: usize,
    pub open_max: usize,
    pub revisable_max: usize,
    pub revisions_max: u32,
    /// An embedding after every so many events of an open session; 0 is never.
    pub provisional_every_events: usize,
}

/// How the bytes of the outputs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Json,
    /// Avro single-object encoding.
    Avro,
}
