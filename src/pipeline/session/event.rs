//! The events of a session: what is kept of a click, and its place in the order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::features::{EventFeatures, FeatureSpec};
use crate::types::{ClickKind, CustomerId, EventTime, NAME_BYTES_MAX, fnv1a64};
use crate::wire::click::ClickEvent;

/// A click on its way into a session.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub customer: CustomerId,
    /// Of the session that it belongs to; see [`session_key`].
    pub key: Arc<str>,
    pub event: Event,
}

impl Arrival {
    /// `labels` names the attributes that are kept for the records.
    pub fn new(customer: CustomerId, click: &ClickEvent<'_>, features: &FeatureSpec, labels: &[Arc<str>]) -> Self {
        let context = (click.kind == ClickKind::Login).then(|| features.context(&click.context));
        Self { customer, key: session_key(click), event: Event::new(click, features.event(click), context, labels) }
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

impl Event {
    fn new(click: &ClickEvent<'_>, features: EventFeatures, context: Option<Box<[f32]>>, labels: &[Arc<str>]) -> Self {
        let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().filter(|t| !t.is_empty()).map(Arc::from);
        let label = |name: &Arc<str>| {
            let (_, value) = click.attributes.iter().find(|(key, _)| **key == **name)?;
            // They go on every record: attributes themselves have no limit.
            if value.len() > NAME_BYTES_MAX {
                return None;
            }
            Some((Arc::clone(name), Arc::from(&**value)))
        };
        let tags = Tags {
            channel: text(&click.channel),
            device: text(&click.device_id),
            labels: labels.iter().filter_map(label).collect(),
        };
        let id = Arc::from(&*click.event_id);
        Self { time: click.event_time, kind: click.kind, id, features, context, tags: Arc::new(tags) }
    }

    /// At the same millisecond a LOGIN comes first and a LOGOUT last.
    fn rank(&self) -> u8 {
        match self.kind {
            ClickKind::Login => 0,
            ClickKind::PageView | ClickKind::Action => 1,
            ClickKind::Logout => 2,
        }
    }

    pub(super) fn id_hash(&self) -> u64 {
        fnv1a64(self.id.as_bytes())
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
pub fn session_key(click: &ClickEvent<'_>) -> Arc<str> {
    match click.session_id.as_deref() {
        Some(id) if !id.is_empty() => format!("s:{id}").into(),
        _ => {
            let channel = click.channel.as_deref().unwrap_or_default();
            format!("d:{}:{channel}/{}", channel.len(), click.device_id.as_deref().unwrap_or_default()).into()
        }
    }
}
