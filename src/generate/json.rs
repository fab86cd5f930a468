//! A record as one line of JSON, as `wire` reads it.

use std::borrow::Cow;
use std::io;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Click;

#[derive(serde::Serialize)]
struct Line<'a> {
    event_id: &'a str,
    customer_id: &'a str,
    event_time: i64,
    kind: &'static str,
    name: &'a str,
    channel: &'a str,
    device_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    context: Pairs<'a, f64>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    attributes: Pairs<'a, Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
}

/// A map in the order of its pairs.
struct Pairs<'a, V>(&'a [(&'static str, V)]);

impl<V> Pairs<'_, V> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V: Serialize> Serialize for Pairs<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Writes a click as one JSON object, without a line's end.
pub fn write_json(
    out: impl io::Write,
    click: &Click,
    record_time: Option<i64>,
    partition: Option<u32>,
) -> io::Result<()> {
    let line = Line {
        event_id: &click.event_id,
        customer_id: &click.customer_id,
        event_time: click.event_time,
        kind: click.kind.as_str(),
        name: click.name,
        channel: click.channel,
        device_id: &click.device_id,
        session_id: click.session_id.as_deref(),
        context: Pairs(&click.context),
        attributes: Pairs(&click.attributes),
        record_time,
        partition,
    };
    serde_json::to_writer(out, &line).map_err(io::Error::from)
}
