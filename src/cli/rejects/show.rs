//! `dce rejects show`: each rejected record, with where it came from, why it was refused, and what it is.

use std::io::Write;

use serde_json::json;

use super::book::{self, Marks, Reject};
use super::{Desk, Show};
use crate::cli::paint::{self, line};
use crate::cli::tail::{place, text_or_hex};
use crate::cli::{Frame, moments};

/// Of a value that is text.
const TEXT_CHARS: usize = 1_000;
/// Of a value that is not.
const HEX_BYTES: usize = 256;

pub(super) fn run(show: &Show, desk: &Desk<'_>, frame: &Frame) -> anyhow::Result<()> {
    let count = show.count as usize;
    let mut newest: Vec<Reject> = Vec::new();
    let mut total = 0_u64;
    let marks = book::read(desk, &show.choice, desk.period(&show.choice)?, |reject| {
        total += 1;
        newest.push(reject);
        // Bounded, and seldom sorted.
        if newest.len() >= count.saturating_mul(2).max(1_024) {
            keep_newest(&mut newest, count);
        }
        Ok(())
    })?;
    keep_newest(&mut newest, count);
    let topic = &desk.config.topics.rejected;
    let mut out = frame.output.lock();
    for reject in &newest {
        if frame.json {
            writeln!(out, "{}", row(topic, reject, &marks))?;
        } else {
            print(&mut out, topic, reject, &marks, show.full)?;
        }
    }
    if !frame.json {
        writeln!(out, "{} of {total} rejected records in {topic}", newest.len())?;
    }
    out.flush()?;
    Ok(())
}

fn keep_newest(rejects: &mut Vec<Reject>, count: usize) {
    rejects.sort_by_key(|reject| (reject.kept.timestamp_ms, reject.kept.partition, reject.kept.offset));
    rejects.drain(..rejects.len().saturating_sub(count));
}

fn row(topic: &str, reject: &Reject, marks: &Marks) -> serde_json::Value {
    let mut row = place(topic, &reject.kept);
    let sent = reject.origin.as_ref().map(|origin| marks.sent(origin)).unwrap_or_default();
    row["from"] = json!(reject.origin.as_ref().map(ToString::to_string));
    row["reason"] = json!(reject.reason);
    row["detail"] = json!(reject.detail);
    row["stage"] = json!(reject.stage);
    row["sent_to"] = json!(sent.iter().map(ToString::to_string).collect::<Vec<_>>());
    row["came_back_from"] =
        json!(reject.origin.as_ref().and_then(|origin| marks.came_from(origin)).map(ToString::to_string));
    row["value"] = text_or_hex(reject.kept.value.as_deref());
    row
}

fn print(out: &mut impl Write, topic: &str, reject: &Reject, marks: &Marks, full: bool) -> std::io::Result<()> {
    let kept = &reject.kept;
    let from = reject.origin.as_ref().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let at = kept.timestamp_ms.map_or_else(|| "-".to_owned(), moments::text);
    writeln!(out, "{} → {topic}/{}/{}  {at}", line(&from, 300), kept.partition, kept.offset)?;
    let stage = if reject.stage.is_empty() { String::new() } else { format!(" ({})", line(&reject.stage, 64)) };
    writeln!(out, "  reason  {}{stage}: {}", line(&reject.reason, 64), line(&reject.detail, TEXT_CHARS))?;
    if let Some(origin) = &reject.origin {
        for to in marks.sent(origin) {
            writeln!(out, "  sent    back as {}", line(&to.to_string(), 300))?;
        }
        if let Some(first) = marks.came_from(origin) {
            writeln!(out, "  came    back: it was rejected at {} before, and sent", line(&first.to_string(), 300))?;
        }
    }
    if let Some(time) = kept.header("dce-source-timestamp").and_then(|ms| ms.parse().ok()) {
        writeln!(out, "  stamped {}", moments::text(time))?;
    }
    for (name, what) in [("dce-key-left-out", "key"), ("dce-value-left-out", "value")] {
        if let Some(bytes) = kept.header(name) {
            writeln!(
                out,
                "  {what:<7} left out for its size, {} bytes; it stands at {}",
                line(&bytes, 20),
                line(&from, 300)
            )?;
        }
    }
    match &kept.key {
        None if kept.header("dce-key-left-out").is_some() => {}
        None => writeln!(out, "  key     null")?,
        Some(key) => print_bytes(out, "key", key, full)?,
    }
    match &kept.value {
        None if kept.header("dce-value-left-out").is_some() => {}
        None => writeln!(out, "  value   null")?,
        Some(value) => print_bytes(out, "value", value, full)?,
    }
    writeln!(out)
}

fn print_bytes(out: &mut impl Write, what: &str, bytes: &[u8], full: bool) -> std::io::Result<()> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let shown = line(text, if full { usize::MAX } else { TEXT_CHARS });
        return writeln!(out, "  {what:<7} {shown}");
    }
    let shown = if full { bytes } else { &bytes[..bytes.len().min(HEX_BYTES)] };
    writeln!(out, "  {what:<7} {} bytes that are no text:", bytes.len())?;
    for line in paint::hex_dump(shown) {
        writeln!(out, "          {line}")?;
    }
    if shown.len() < bytes.len() {
        writeln!(out, "          … {} bytes more: --full", bytes.len() - shown.len())?;
    }
    Ok(())
}
