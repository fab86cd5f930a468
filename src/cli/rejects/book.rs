//! The rejected topic read: rejected records, and the marks of those that were sent back.

use std::collections::HashMap;

use super::{Choice, Desk, Period};
use crate::cli::tail;
use crate::kafka::follow::{self, Kept, Visit};

/// `topic/partition/offset` of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl Place {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (rest, offset) = text.rsplit_once('/')?;
        let (topic, partition) = rest.rsplit_once('/')?;
        Self::of(topic, partition, offset)
    }

    fn of(topic: &str, partition: &str, offset: &str) -> Option<Self> {
        let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
        (!topic.is_empty() && partition >= 0 && offset >= 0).then(|| Self {
            topic: topic.to_owned(),
            partition,
            offset,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// A rejected record.
#[derive(Debug, Clone)]
pub(super) struct Reject {
    pub(super) kept: Kept,
    /// Where it came from; `None` where its headers do not say.
    pub(super) origin: Option<Place>,
    pub(super) reason: String,
    pub(super) detail: String,
    pub(super) stage: String,
}

impl Reject {
    fn new(kept: Kept) -> Self {
        let header = |name: &str| kept.header(name).map_or_else(String::new, std::borrow::Cow::into_owned);
        let origin =
            Place::of(&header("dce-source-topic"), &header("dce-source-partition"), &header("dce-source-offset"));
        let (reason, detail, stage) = (header("dce-reason"), header("dce-detail"), header("dce-stage"));
        Self { origin, reason, detail, stage, kept }
    }

    /// What the pipeline did not copy for its size; it stands at the origin.
    pub(super) fn left_out(&self) -> bool {
        ["dce-value-left-out", "dce-key-left-out"].iter().any(|name| self.kept.header(name).is_some())
    }
}

/// What was sent back: from where to where, each once a target.
#[derive(Debug, Default)]
pub(super) struct Marks {
    sent: HashMap<Place, Vec<Place>>,
    from: HashMap<Place, Place>,
}

impl Marks {
    fn take(&mut self, kept: &Kept) -> bool {
        let place = |name| kept.header(name).and_then(|text| Place::parse(&text));
        let Some(to) = place(MARK_TO) else { return kept.header(MARK_TO).is_some() };
        if let Some(from) = place(MARK_FROM) {
            self.sent.entry(from.clone()).or_default().push(to.clone());
            self.from.insert(to, from);
        }
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    /// Where a record was sent.
    pub(super) fn sent(&self, origin: &Place) -> &[Place] {
        self.sent.get(origin).map_or(&[], Vec::as_slice)
    }

    /// Which rejected record was sent and came to stand there.
    pub(super) fn came_from(&self, place: &Place) -> Option<&Place> {
        self.from.get(place)
    }
}

/// The headers of a mark; the first one is on the record that was sent, too.
pub(super) const MARK_FROM: &str = "dce-resent-from";
pub(super) const MARK_TO: &str = "dce-resent-to";

/// Shows every rejected record of the choice, and gives the marks that there are. A mark comes after its record, so all
/// that count for the records of a period are read with it.
pub(super) fn read(
    desk: &Desk<'_>,
    choice: &Choice,
    period: Period,
    mut each: impl FnMut(Reject) -> anyhow::Result<()>,
) -> anyhow::Result<Marks> {
    let topic = &desk.config.topics.rejected;
    let extents = tail::extents(desk.config, &desk.client, topic, period.since_ms)?;
    let mut marks = Marks::default();
    follow::scan(&desk.client, &desk.config.app.id, topic, &extents, |message| {
        if message.header(c"dce-resent-to").is_some() {
            marks.take(&message.into());
            return Ok(Visit::Next);
        }
        let at_ms = message.timestamp_ms();
        let since = period.since_ms.is_none_or(|since| at_ms.is_some_and(|ms| ms >= since));
        let until = period.until_ms.is_none_or(|until| at_ms.is_some_and(|ms| ms < until));
        let customer = choice.customer.as_ref().is_none_or(|customer| message.key() == Some(customer.as_bytes()));
        let of_reason = |reason: &String| message.header(c"dce-reason") == Some(reason.as_bytes());
        if since && until && customer && (choice.reason.is_empty() || choice.reason.iter().any(of_reason)) {
            each(Reject::new(message.into()))?;
        }
        anyhow::Ok(Visit::Next)
    })?;
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back() {
        let place = Place { topic: "a.b-c".to_owned(), partition: 3, offset: 41 };
        assert_eq!(place.to_string(), "a.b-c/3/41");
        assert_eq!(Place::parse(&place.to_string()), Some(place));
        for wrong in ["", "a/1", "a/1/", "a/x/1", "/1/1", "a/-1/1", "a/1/-1", "a/1/1x"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_broken_mark_is_no_rejected_record_either() {
        let kept = |headers: &[(&str, &str)]| Kept {
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: headers.iter().map(|(k, v)| ((*k).to_owned(), Some(v.as_bytes().to_vec()))).collect(),
        };
        let mut marks = Marks::default();
        assert!(marks.take(&kept(&[(MARK_TO, "c/0/9"), (MARK_FROM, "c/0/1")])));
        assert!(marks.take(&kept(&[(MARK_TO, "nonsense"), (MARK_FROM, "c/0/2")])));
        assert!(!marks.take(&kept(&[("dce-reason", "late")])));
        let at = |text| Place::parse(text).unwrap();
        assert_eq!(marks.sent(&at("c/0/1")), [at("c/0/9")]);
        assert_eq!(marks.sent(&at("c/0/2")), []);
        assert_eq!(marks.came_from(&at("c/0/9")), Some(&at("c/0/1")));
    }
}
