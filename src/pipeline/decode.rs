//! A record to an event, or why not. [pure]

use crate::config::SessionRules;
use crate::pipeline::source::Record;
use crate::types::{CustomerId, EventTime, RejectReason};
use crate::wire::click::ClickEvent;

#[derive(Debug)]
pub enum Decoded<'a> {
    Click { customer: CustomerId, click: ClickEvent<'a> },
    Tick(EventTime),
    Erase(CustomerId),
}

#[derive(Debug)]
pub struct Refused {
    pub reason: RejectReason,
    pub detail: String,
}

pub fn decode<'a>(_record: &Record<'a>, _rules: &SessionRules) -> Result<Decoded<'a>, Refused> {
    Err(Refused { reason: RejectReason::Decode, detail: String::new() })
}
