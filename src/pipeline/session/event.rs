//! The events of a session: what is kept of a click, and its place in the order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::model::features::{EventFeatures, FeatureSpec};
use crate::types::{ClickKind, CustomerId, EventTime, NAME_BYTES_MAX};
use crate::wire::click::ClickEvent;

/// A click on its way into a session.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub customer: CustomerId,
    /// Of the session that it belongs to; see [`session_key`].
    pub key: String,
    pub event: Event,
}

impl Arrival {
    /// `labels` names the attributes that are kept for the records.
    pub fn new(customer: CustomerId, click: &ClickEvent<'_>, features: &FeatureSpec, labels: &[Arc<str>]) -> Self {
        Self::sharing(customer, click, features, labels, &mut TagsSeen::default())
    }

    /// The same, with tags that were seen before taken from there.
    pub fn sharing(
        customer: CustomerId,
        click: &ClickEvent<'_>,
        features: &FeatureSpec,
        labels: &[Arc<str>],
        seen: &mut TagsSeen,
    ) -> Self {
        let event = Event {
            time: click.event_time,
            kind: click.kind,
            id: Arc::from(&*click.event_id),
            features: features.event(click),
            context: (click.kind == ClickKind::Login).then(|| features.context(&click.context)),
            tags: seen.tags(click, labels),
        };
        Self { customer, key: session_key(click), event }
    }
}

/// What a session keeps of a click.
#[derive(Debug, Clone)]
pub struct Event {
    pub time: EventTime,
    pub kind: ClickKind,
    pub id: Arc<str>,
    pub features: EventFeatures,
    /// The financial snapshot, of a LOGIN.
    pub context: Option<Box<[f32]>>,
    pub tags: Arc<Tags>,
}

/// What goes from the clicks to the records: most events of a session share one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags {
    pub channel: Option<Arc<str>>,
    pub device: Option<Arc<str>>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// The tags of recent clicks: a customer's next click nearly always has those of the last one, and an allocation for
/// each would be a tenth of what a click costs.
#[derive(Debug, Default)]
pub struct TagsSeen {
    /// By hash of channel and device; the latest stays.
    places: Vec<Option<Arc<Tags>>>,
}

/// A power of two.
const TAGS_SEEN: usize = 1 << 12;

impl TagsSeen {
    fn tags(&mut self, click: &ClickEvent<'_>, labels: &[Arc<str>]) -> Arc<Tags> {
        let channel = click.channel.as_deref().filter(|text| !text.is_empty());
        let device = click.device_id.as_deref().filter(|text| !text.is_empty());
        if self.places.is_empty() {
            self.places.resize(TAGS_SEEN, None);
        }
        let hash = xxh3_64(device.unwrap_or_default().as_bytes()) ^ xxh3_64(channel.unwrap_or_default().as_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "a few bits of a hash")]
        let place = &mut self.places[hash as usize % TAGS_SEEN];
        if let Some(seen) = place
            && seen.channel.as_deref() == channel
            && seen.device.as_deref() == device
            && seen.labels.len() == kept(click, labels).count()
            && kept(click, labels).all(|(name, value)| seen.labels.get(name).is_some_and(|v| **v == *value))
        {
            return Arc::clone(seen);
        }
        let tags = Arc::new(Tags {
            channel: channel.map(Arc::from),
            device: device.map(Arc::from),
            labels: kept(click, labels).map(|(name, value)| (Arc::clone(name), Arc::from(value))).collect(),
        });
        *place = Some(Arc::clone(&tags));
        tags
    }
}

/// The labels that a click has, of those that are kept.
fn kept<'a>(click: &'a ClickEvent<'_>, labels: &'a [Arc<str>]) -> impl Iterator<Item = (&'a Arc<str>, &'a str)> {
    labels.iter().filter_map(|name| {
        let (_, value) = click.attributes.iter().find(|(key, _)| **key == **name)?;
        // They go on every record: attributes themselves have no limit.
        (value.len() <= NAME_BYTES_MAX).then_some((name, &**value))
    })
}

impl Event {
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
        xxh3_64(self.id.as_bytes())
    }
}

/// The order of a session: event time, LOGIN first, LOGOUT last, id.
impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        let own = (self.time, self.rank());
        own.cmp(&(other.time, other.rank())).then_with(|| self.id.cmp(&other.id))
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
    match click.session_id.as_deref() {
        Some(id) if !id.is_empty() => {
            let mut key = String::with_capacity(2 + id.len());
            key.push_str("s:");
            key.push_str(id);
            key
        }
        _ => {
            let channel = click.channel.as_deref().unwrap_or_default();
            let device = click.device_id.as_deref().unwrap_or_default();
            ["d:", &channel.len().to_string(), ":", channel, "/", device].concat()
        }
    }
}
