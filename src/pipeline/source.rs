//! Owns the consumer: collects an epoch's records, hands over rebalances. Kafka → [`Record`]s.

use crate::types::Position;

/// One input record, borrowed from the client's buffers.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub position: Position,
    /// The record's timestamp in milliseconds; `None` where the topic has none.
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// Null asks for the erasure of the key's customer.
    pub value: Option<&'a [u8]>,
    /// The W3C `traceparent` header, which goes on with what the record causes.
    pub traceparent: Option<&'a [u8]>,
}
