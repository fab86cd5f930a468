//! The events of a session: what is kept of a click, and its place in the order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::model::features::{EventFeatures, FeatureSpec};
use crate::types::{ClickKind, CustomerRef, EventTime, NAME_BYTES_MAX};
use crate::wire::click::ClickEvent;

/// A click on its way into a session.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'c> {
    pub(super) customer: CustomerRef<'c>,
    pub(super) click: &'c ClickEvent<'c>,
    pub(super) features: &'c FeatureSpec,
    labels: &'c [Arc<str>],
}

impl<'c> Arrival<'c> {
    /// `labels` names the attributes that are kept for the records.
    pub fn new(
        customer: CustomerRef<'c>,
        click: &'c ClickEvent<'c>,
        features: &'c FeatureSpec,
        labels: &'c [Arc<str>],
    ) -> Self {
        Self { customer, click, features, labels }
    }

    /// What a session keeps of it. Most events of a session have the tags of another one: `known` are those.
    pub(super) fn event<'t>(&self, features: &EventFeatures, mut known: impl Iterator<Item = &'t Arc<Tags>>) -> Event {
        let labels: Vec<_> = kept(self.click, self.labels).collect();
        let tags = known.find(|tags| tags.are_of(self.click, &labels)).map(Arc::clone);
        let tags = tags.unwrap_or_else(|| Arc::new(Tags::of(self.click, &labels)));
        let context = (self.click.kind == ClickKind::Login).then(|| self.features.context(&self.click.context));
        Event::new(self.click.event_time, self.click.kind, &self.click.event_id, features, context, tags)
    }
}

/// What a session keeps of a click.
#[derive(Debug, Clone)]
pub struct Event {
    pub time: EventTime,
    pub kind: ClickKind,
    /// See [`EventFeatures::unknown`].
    pub unknown: bool,
    id_len: u16,
    fields_len: u16,
    /// The bytes of its id, of the features' fields and of their numbers: one allocation, for memory holds many events.
    bytes: Box<[u8]>,
    /// The financial snapshot, of a LOGIN.
    pub context: Option<Box<[f32]>>,
    pub tags: Arc<Tags>,
}

const WORD_BYTES: usize = 4;

impl Event {
    /// `id` is at most [`NAME_BYTES_MAX`] bytes.
    pub fn new(
        time: EventTime,
        kind: ClickKind,
        id: &str,
        features: &EventFeatures,
        context: Option<Box<[f32]>>,
        tags: Arc<Tags>,
    ) -> Self {
        let EventFeatures { fields, numbers, unknown } = features;
        let mut bytes = vec![0; id.len() + WORD_BYTES * (fields.len() + numbers.len())].into_boxed_slice();
        let (name, words) = bytes.split_at_mut(id.len());
        name.copy_from_slice(id.as_bytes());
        let words = words.as_chunks_mut().0.iter_mut();
        let values = fields.iter().copied().chain(numbers.iter().map(|number| number.to_bits()));
        words.zip(values).for_each(|(word, value)| *word = value.to_le_bytes());
        let few = |len: usize| u16::try_from(len).expect("ids are short, and a manifest lists few fields");
        let (id_len, fields_len) = (few(id.len()), few(fields.len()));
        Self { time, kind, unknown: *unknown, id_len, fields_len, bytes, context, tags }
    }

    pub fn id(&self) -> &[u8] {
        &self.bytes[..self.id_len.into()]
    }

    pub fn id_text(&self) -> &str {
        std::str::from_utf8(self.id()).expect("it came as text")
    }

    /// See [`EventFeatures::fields`].
    pub fn fields(&self) -> impl ExactSizeIterator<Item = u32> {
        let words = &self.bytes[self.id_len.into()..][..WORD_BYTES * usize::from(self.fields_len)];
        words.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word))
    }

    /// See [`EventFeatures::numbers`].
    pub fn numbers(&self) -> impl ExactSizeIterator<Item = f32> {
        let words = &self.bytes[usize::from(self.id_len) + WORD_BYTES * usize::from(self.fields_len)..];
        words.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word))
    }

    /// At the same millisecond a LOGIN comes first and a LOGOUT last.
    fn rank(&self) -> u8 {
        match self.kind {
            ClickKind::Login => 0,
            ClickKind::PageView | ClickKind::Action => 1,
            ClickKind::Logout => 2,
        }
    }

    /// In memory alone, so it may be another one in another version.
    pub(super) fn id_hash(&self) -> u64 {
        xxh3_64(self.id())
    }
}

/// What goes from the clicks to the records: most events of a session share one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags {
    pub channel: Option<Arc<str>>,
    pub device: Option<Arc<str>>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

impl Tags {
    fn of(click: &ClickEvent<'_>, labels: &[(&Arc<str>, &str)]) -> Self {
        Self {
            channel: said(click.channel.as_deref()).map(Arc::from),
            device: said(click.device_id.as_deref()).map(Arc::from),
            labels: labels.iter().map(|(name, value)| (Arc::clone(name), Arc::from(*value))).collect(),
        }
    }

    /// Whether they are what [`Self::of`] gives.
    fn are_of(&self, click: &ClickEvent<'_>, labels: &[(&Arc<str>, &str)]) -> bool {
        self.device.as_deref() == said(click.device_id.as_deref())
            && self.channel.as_deref() == said(click.channel.as_deref())
            && self.labels.len() == labels.len()
            && labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|known| **known == **value))
    }
}

/// An empty text says nothing.
fn said(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// The labels that a click has, of those that are kept.
fn kept<'a>(click: &'a ClickEvent<'_>, labels: &'a [Arc<str>]) -> impl Iterator<Item = (&'a Arc<str>, &'a str)> {
    labels.iter().filter_map(|name| {
        let (_, value) = click.attributes.iter().find(|(key, _)| **key == **name)?;
        // They go on every record: attributes themselves have no limit.
        (value.len() <= NAME_BYTES_MAX).then_some((name, &**value))
    })
}

/// The order of a session: event time, LOGIN first, LOGOUT last, id.
impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        let own = (self.time, self.rank());
        own.cmp(&(other.time, other.rank())).then_with(|| self.id().cmp(other.id()))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

/// `s:<session id>`, or `d:<bytes of channel>:<channel>/<device>` where there is none.
pub fn session_key(click: &ClickEvent<'_>) -> String {
    let mut key = String::new();
    session_key_over(click, &mut key);
    key
}

/// The same in the memory of another key.
pub(super) fn session_key_over(click: &ClickEvent<'_>, key: &mut String) {
    key.clear();
    match click.session_id.as_deref() {
        Some(id) if !id.is_empty() => {
            key.push_str("s:");
            key.push_str(id);
        }
        _ => {
            let channel = click.channel.as_deref().unwrap_or_default();
            let device = click.device_id.as_deref().unwrap_or_default();
            for part in ["d:", &channel.len().to_string(), ":", channel, "/", device] {
                key.push_str(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn click<'a>(
        channel: Option<&'a str>,
        device: Option<&'a str>,
        attributes: &[(&'a str, &'a str)],
    ) -> ClickEvent<'a> {
        ClickEvent {
            event_id: "e".into(),
            customer_id: None,
            event_time: EventTime::parse(0).expect("after 1970"),
            kind: ClickKind::Action,
            name: "pay".into(),
            channel: channel.map(Cow::Borrowed),
            session_id: None,
            device_id: device.map(Cow::Borrowed),
            context: Vec::new(),
            attributes: attributes.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect(),
        }
    }

    #[test]
    fn an_event_gives_back_what_it_was_made_of() {
        let longest = "ä".repeat(NAME_BYTES_MAX / 2);
        for id in ["e", "id3", "four", &longest[..254], &longest] {
            for fields in [0_u32, 1, 3, 256] {
                for numbers in [0_u32, 1, 2, 256] {
                    let features = EventFeatures {
                        fields: (0..fields).map(|at| u32::MAX - at * 65_537).collect(),
                        numbers: (0..numbers).map(|at| at as f32 - 0.1).collect(),
                        unknown: fields == 1,
                    };
                    let time = EventTime::parse(7).expect("after 1970");
                    let event = Event::new(time, ClickKind::Action, id, &features, None, Arc::default());
                    assert_eq!((event.id(), event.id_text()), (id.as_bytes(), id));
                    assert_eq!((event.fields().len(), event.numbers().len()), (fields as usize, numbers as usize));
                    let back = EventFeatures {
                        fields: event.fields().collect(),
                        numbers: event.numbers().collect(),
                        unknown: event.unknown,
                    };
                    assert_eq!(back, features);
                }
            }
        }
    }

    /// As a fresh one would be, whatever differs.
    #[test]
    fn tags_are_shared_where_they_are_the_same_and_nowhere_else() {
        let labels: [Arc<str>; 2] = ["segment".into(), "os".into()];
        let too_long = "x".repeat(NAME_BYTES_MAX + 1);
        let clicks = [
            click(None, None, &[]),
            click(Some(""), Some(""), &[("other", "a")]),
            click(Some("web"), None, &[]),
            click(None, Some("web"), &[]),
            click(Some("web"), Some("phone"), &[]),
            click(Some("web"), Some("phone"), &[("segment", "a")]),
            click(Some("web"), Some("phone"), &[("segment", "b")]),
            click(Some("web"), Some("phone"), &[("os", "a")]),
            click(Some("web"), Some("phone"), &[("segment", "a"), ("os", "b")]),
            click(Some("web"), Some("phone"), &[("os", "b"), ("segment", "a")]),
            click(Some("web"), Some("phone"), &[("segment", &too_long)]),
            click(Some("web"), Some("phone"), &[("segment", "")]),
        ];
        let of = |click| Tags::of(click, &kept(click, &labels).collect::<Vec<_>>());
        assert_eq!(of(&clicks[8]).labels.len(), 2);
        assert_eq!(of(&clicks[10]).labels.len(), 0);
        for known in &clicks {
            for click in &clicks {
                let are_of = of(known).are_of(click, &kept(click, &labels).collect::<Vec<_>>());
                assert_eq!(are_of, of(known) == of(click), "{known:?} beside {click:?}");
            }
        }
    }
}
