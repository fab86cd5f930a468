//! One epoch: records in, one result out. Calls the stages in order: decode, sessionize, encode, fold.

use crate::types::{CustomerId, Position, RejectReason, ResumeAt};
use crate::wire::embedding::{CustomerEmbedding, SessionSummary};

/// What an epoch gives: everything that must be committed together.
#[derive(Debug, Default)]
pub struct EpochResult {
    /// In the order in which they leave.
    pub outputs: Vec<Output>,
    /// For each partition that was read, where to go on.
    pub resume: Vec<(i32, ResumeAt)>,
    /// Events that changed nothing, counted and not published.
    pub duplicates: u64,
    /// All records of the epoch.
    pub records: u64,
}

#[derive(Debug)]
pub struct Output {
    /// The record that caused it; outputs go to its partition number.
    pub cause: Position,
    /// Of the record that caused it.
    pub traceparent: Option<Box<[u8]>>,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    /// To the live topic where provisional ones are wanted, and a settled one to the table.
    Embedding(Box<CustomerEmbedding>),
    Session(Box<SessionSummary>),
    Reject(Box<Reject>),
    /// Tombstones to the table and the live topic.
    Erased(CustomerId),
}

/// A record that became no part of a session, with its bytes as they came.
#[derive(Debug)]
pub struct Reject {
    pub reason: RejectReason,
    /// What exactly was wrong, for a person.
    pub detail: String,
    /// `decode` or `session`.
    pub stage: &'static str,
    pub key: Option<Box<[u8]>>,
    pub value: Option<Box<[u8]>>,
    pub timestamp_ms: Option<i64>,
}
