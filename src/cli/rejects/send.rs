//! `dce rejects send`: a choice of rejected records back to where they came from, each with a mark in the same transaction,
//! so that nothing is sent twice by accident. Without `--yes` it only says what it would do.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::book::{self, MARK_FROM, MARK_TO, Marks, Place, Reject};
use super::{Desk, Send};
use crate::cli::paint::{bytes_line, line, thousands};
use crate::cli::{Frame, WrongUse, stop_on_signals};
use crate::kafka::admin::{Admin, TopicFacts};
use crate::kafka::follow::{self, Extent, Lookup, Visit};
use crate::kafka::resend::{Outgoing, Resender};
use crate::pipeline::decode;
use crate::pipeline::source::{Record, Trace};
use crate::registry::Resolver;
use crate::stop::Stop;
use crate::types::Position;

const WAIT: Duration = Duration::from_secs(30);
/// Chosen at a time: they are held in memory.
const RECORDS_MAX: usize = 100_000;
const BYTES_MAX: usize = 256 << 20;
/// Of one transaction.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 16 << 20;
/// Of those that are named one by one.
const SHOWN: usize = 5;
/// What the broker counts of a record beside its key and value, at most.
const OVERHEAD_BYTES: usize = 1_024;

pub(super) fn run(send: &Send, desk: &Desk<'_>, frame: &Frame) -> anyhow::Result<()> {
    if send.choice.reason.is_empty() {
        let must = "dce rejects send: --reason must say which (decode, key, customer, future, late or full)";
        return Err(WrongUse(must.to_owned()).into());
    }
    let stop = stop_on_signals()?;
    let target = send.to.as_deref().unwrap_or(&desk.config.topics.clickstream);
    if target == desk.config.topics.rejected {
        return Err(WrongUse(format!("--to {target}: that is the topic they are in")).into());
    }
    let admin = Admin::new(&desk.client)?;
    let facts = admin
        .topic(target, WAIT)?
        .with_context(|| format!("topic {target} does not exist on {}: dce topics create", desk.client.bootstrap))?;
    // Before the marks are read: an earlier sender that is at it can make no more of them then, so that none is missed.
    let resender = if send.yes { Some(resender(desk, &facts)?) } else { None };
    let plan = Plan::make(send, desk, target, &facts, &stop)?;
    let mut out = frame.output.lock();
    let Some(mut resender) = resender else { return plan.say(&mut out, frame.json, "would_send", desk) };
    match plan.send(&mut resender, desk, &stop) {
        Ok(()) => plan.say(&mut out, frame.json, "sent", desk),
        Err((count, error)) => {
            let all = plan.chosen.len();
            Err(error.context(format!(
                "{count} of {all} records were sent to {target}, the others not; the same command goes on where it ended"
            )))
        }
    }
}

/// For the largest record that the target takes: larger ones are left out of the plan.
fn resender(desk: &Desk<'_>, facts: &TopicFacts) -> anyhow::Result<Resender> {
    let largest = size_max(facts).unwrap_or(BYTES_MAX).min(BYTES_MAX);
    Ok(Resender::new(&desk.client, &format!("{}-resend", desk.config.app.id), largest, WAIT)?)
}

/// Bytes that the target takes as one record.
fn size_max(facts: &TopicFacts) -> Option<usize> {
    facts.number("max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok())
}

/// How much of the choice is held in memory, which has a limit.
#[derive(Debug)]
struct Held {
    records_left: usize,
    bytes_left: usize,
}

impl Held {
    fn new() -> Self {
        Self { records_left: RECORDS_MAX, bytes_left: BYTES_MAX }
    }

    fn record(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> anyhow::Result<()> {
        self.records_left = self.records_left.checked_sub(1).ok_or_else(Self::too_much)?;
        self.bytes(key, value)
    }

    fn bytes(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> anyhow::Result<()> {
        let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(Self::too_much)?;
        Ok(())
    }

    fn too_much() -> anyhow::Error {
        anyhow::anyhow!(
            "more than {RECORDS_MAX} records or {BYTES_MAX} bytes are chosen, those counted that were left out for their size \
             and are fetched: choose fewer by --since, --until, --customer or -n"
        )
    }
}

fn unless_stopped(stop: &Stop) -> anyhow::Result<()> {
    if stop.is_stopped() { Err(anyhow::anyhow!("stopped; nothing was sent")) } else { Ok(()) }
}

/// A record that is to be sent.
struct Chosen {
    reject: Reject,
    origin: Place,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// Why this `dce` would refuse it again.
    refusal: Option<String>,
}

impl Chosen {
    fn bytes(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        len(&self.key) + len(&self.value)
    }
}

struct Plan<'a> {
    target: &'a str,
    chosen: Vec<Chosen>,
    /// What is left out, and why.
    left_out: BTreeMap<&'static str, Vec<Reject>>,
}

impl<'a> Plan<'a> {
    fn make(send: &Send, desk: &Desk<'_>, target: &'a str, facts: &TopicFacts, stop: &Stop) -> anyhow::Result<Self> {
        let (mut rejects, mut held) = (Vec::new(), Held::new());
        let marks = book::read(desk, &send.choice, desk.period(&send.choice)?, |reject| {
            unless_stopped(stop)?;
            held.record(reject.kept.key.as_deref(), reject.kept.value.as_deref())?;
            rejects.push(reject);
            Ok(())
        })?;
        rejects.sort_by_key(|reject| (reject.kept.timestamp_ms, reject.kept.partition, reject.kept.offset));
        let mut plan = Self { target, chosen: Vec::new(), left_out: BTreeMap::new() };
        let originals = Originals { desk, lookup: Lookup::new(&desk.client, &desk.config.app.id)? };
        let resolver = Resolver::new(desk.config.registry.as_ref())?;
        let mut judge = Judge { resolver, desk, is_input: send.to.is_none(), stop };
        for reject in rejects {
            unless_stopped(stop)?;
            if send.count.is_some_and(|count| plan.chosen.len() >= count as usize) {
                plan.leave(MORE, reject);
                continue;
            }
            match choose(send, desk, target, facts, &marks, &originals, &reject)? {
                Err(why) => plan.leave(why, reject),
                Ok((origin, key, value)) => {
                    if reject.left_out() {
                        held.bytes(key.as_deref(), value.as_deref())?;
                    }
                    let refusal = judge.refusal(&origin, key.as_deref(), value.as_deref());
                    plan.chosen.push(Chosen { reject, origin, key, value, refusal });
                }
            }
        }
        // In the order that they had.
        plan.chosen.sort_by(|left, right| left.origin.cmp(&right.origin));
        Ok(plan)
    }

    fn leave(&mut self, why: &'static str, reject: Reject) {
        self.left_out.entry(why).or_default().push(reject);
    }

    /// On an error, how many were sent before.
    fn send(&self, resender: &mut Resender, desk: &Desk<'_>, stop: &Stop) -> Result<(), (usize, anyhow::Error)> {
        let mut done = 0;
        while done < self.chosen.len() {
            if stop.is_stopped() {
                return Err((done, anyhow::anyhow!("stopped")));
            }
            let batch = batch(&self.chosen[done..]);
            let records: Vec<Outgoing> = batch.iter().map(outgoing).collect();
            let mark = |index: usize, offset: i64| mark(&batch[index], self.target, offset);
            let sent = resender.send(self.target, &records, &desk.config.topics.rejected, mark);
            sent.map_err(|error| (done, error.into()))?;
            done += batch.len();
        }
        Ok(())
    }

    fn say(&self, out: &mut impl Write, json: bool, action: &str, desk: &Desk<'_>) -> anyhow::Result<()> {
        if json {
            self.say_json(out, action)?;
        } else {
            self.say_text(out, action == "sent", desk)?;
        }
        out.flush()?;
        Ok(())
    }

    fn say_json(&self, out: &mut impl Write, action: &str) -> std::io::Result<()> {
        for Chosen { reject, origin, refusal, .. } in &self.chosen {
            let row = json!({
                "action": action, "from": origin.to_string(), "to": self.target, "reason": reject.reason,
                "refused_again": refusal,
            });
            writeln!(out, "{row}")?;
        }
        for (why, rejects) in &self.left_out {
            for reject in rejects {
                let from = reject.origin.as_ref().map(ToString::to_string);
                writeln!(out, "{}", json!({"action": "left_out", "from": from, "reason": reject.reason, "why": why}))?;
            }
        }
        let left_out: usize = self.left_out.values().map(Vec::len).sum();
        writeln!(out, "{}", json!({"summary": {action: self.chosen.len(), "left_out": left_out, "to": self.target}}))
    }

    fn say_text(&self, out: &mut impl Write, sent: bool, desk: &Desk<'_>) -> std::io::Result<()> {
        let count = |number: usize| thousands(number as u64);
        let verb = if sent { "sent" } else { "would send" };
        if !self.chosen.is_empty() {
            let number = count(self.chosen.len());
            writeln!(out, "{verb} {number} rejected records to {}, each to the partition it came from", self.target)?;
        }
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for chosen in &self.chosen {
            *reasons.entry(&chosen.reject.reason).or_default() += 1;
        }
        for (reason, number) in &reasons {
            writeln!(out, "  {:<9} {:>9}", line(reason, 32), count(*number))?;
        }
        for chosen in self.chosen.iter().take(SHOWN) {
            let key = chosen.key.as_deref().map_or_else(|| "null".to_owned(), |key| bytes_line(key, 40));
            writeln!(out, "  {}  {key}  {}", line(&chosen.origin.to_string(), 300), line(&chosen.reject.detail, 120))?;
        }
        if self.chosen.len() > SHOWN {
            writeln!(out, "  … and {} more", count(self.chosen.len() - SHOWN))?;
        }
        let refused: Vec<&String> = self.chosen.iter().filter_map(|chosen| chosen.refusal.as_ref()).collect();
        if let Some(first) = refused.first() {
            let word = if sent { "is refused" } else { "would be refused" };
            writeln!(
                out,
                "{} of them {word} again, as it is, by this dce: {}",
                count(refused.len()),
                line(first, 160)
            )?;
        }
        for (why, rejects) in &self.left_out {
            writeln!(out, "left out {}: {why}", count(rejects.len()))?;
            for reject in rejects.iter().take(SHOWN) {
                if let Some(origin) = &reject.origin {
                    writeln!(out, "  {}", line(&origin.to_string(), 300))?;
                }
            }
        }
        if sent && !self.chosen.is_empty() {
            writeln!(out, "each has a mark in {}: dce rejects show tells where it went", desk.config.topics.rejected)
        } else if self.chosen.is_empty() {
            writeln!(out, "there is nothing to send")
        } else {
            writeln!(out, "nothing was sent: add --yes")
        }
    }
}

const MORE: &str = "beyond -n";

type Parts = (Place, Option<Vec<u8>>, Option<Vec<u8>>);

/// What is sent of a rejected record, or why it is left out.
fn choose(
    send: &Send,
    desk: &Desk<'_>,
    target: &str,
    facts: &TopicFacts,
    marks: &Marks,
    originals: &Originals<'_>,
    reject: &Reject,
) -> anyhow::Result<Result<Parts, &'static str>> {
    let Some(origin) = reject.origin.clone() else { return Ok(Err("its headers do not say where it came from")) };
    if send.to.is_none() && origin.topic != desk.config.topics.clickstream {
        return Ok(Err("it came from another topic than topics.clickstream: name where it shall go by --to"));
    }
    if usize::try_from(origin.partition).is_ok_and(|partition| partition >= facts.partitions) {
        return Ok(Err("the target has no such partition"));
    }
    if !send.again {
        if marks.sent(&origin).iter().any(|to| to.topic == target) {
            return Ok(Err("it was sent there before (--again sends it once more)"));
        }
        if marks.came_from(&origin).is_some() {
            return Ok(Err("it was sent before and rejected again (--again sends it once more)"));
        }
    }
    let (key, value) = if reject.left_out() {
        match originals.fetch(&origin)? {
            Some(parts) => parts,
            None => return Ok(Err("it was left out for its size, and the original is not there any more")),
        }
    } else {
        (reject.kept.key.clone(), reject.kept.value.clone())
    };
    let bytes = key.as_ref().map_or(0, Vec::len) + value.as_ref().map_or(0, Vec::len) + OVERHEAD_BYTES;
    if size_max(facts).is_some_and(|taken| bytes > taken) {
        return Ok(Err("it is larger than the target's max.message.bytes"));
    }
    Ok(Ok((origin, key, value)))
}

/// Records that were left out of the rejected topic.
struct Originals<'a> {
    desk: &'a Desk<'a>,
    lookup: Lookup,
}

/// Key and value.
type KeyValue = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Originals<'_> {
    fn fetch(&self, place: &Place) -> anyhow::Result<Option<KeyValue>> {
        let (client, group) = (&self.desk.client, &self.desk.config.app.id);
        let extent = self.lookup.extents(&place.topic, &[place.partition], WAIT)?;
        if !extent.iter().all(|extent| extent.low <= place.offset && place.offset < extent.end) {
            return Ok(None);
        }
        let one = Extent { partition: place.partition, low: place.offset, end: place.offset + 1 };
        let mut found = None;
        follow::scan(client, group, &place.topic, &[one], |message| {
            found = Some((message.key().map(<[u8]>::to_vec), message.value().map(<[u8]>::to_vec)));
            anyhow::Ok(Visit::Enough)
        })?;
        Ok(found)
    }
}

/// Foresees the rules that look at a record alone.
struct Judge<'a> {
    resolver: Resolver,
    desk: &'a Desk<'a>,
    /// The target is the input.
    is_input: bool,
    stop: &'a Stop,
}

impl Judge<'_> {
    fn refusal(&mut self, origin: &Place, key: Option<&[u8]>, value: Option<&[u8]>) -> Option<String> {
        if !self.is_input {
            return None;
        }
        let position = Position { partition: origin.partition, offset: origin.offset };
        let record = Record { position, timestamp_ms: Some(self.desk.now_ms), key, value, trace: Trace::None };
        let refusal = decode::decode(
            &record,
            self.resolver.glance(value.unwrap_or_default(), self.stop),
            &self.desk.config.session,
        )
        .err()?;
        Some(format!("{}: {}", refusal.reason.as_str(), refusal.detail))
    }
}

/// The beginning that fits into one transaction; at least one record.
fn batch(chosen: &[Chosen]) -> &[Chosen] {
    let mut bytes = 0;
    let fits = |chosen: &&Chosen| {
        bytes += chosen.bytes();
        bytes <= BATCH_BYTES
    };
    let count = chosen.iter().take(BATCH_RECORDS).take_while(fits).count();
    &chosen[..count.max(1)]
}

fn outgoing(chosen: &Chosen) -> Outgoing {
    let mut headers = Vec::new();
    // The one header of the original that is kept with a rejected record.
    let traceparent = chosen.reject.kept.headers.iter().find(|(name, _)| name == "traceparent");
    if let Some((_, Some(value))) = traceparent {
        headers.push(("traceparent", value.clone()));
    }
    headers.push((MARK_FROM, chosen.origin.to_string().into_bytes()));
    Outgoing { partition: chosen.origin.partition, key: chosen.key.clone(), value: chosen.value.clone(), headers }
}

fn mark(chosen: &Chosen, target: &str, offset: i64) -> Outgoing {
    let to = Place { topic: target.to_owned(), partition: chosen.origin.partition, offset };
    let headers = vec![(MARK_FROM, chosen.origin.to_string().into_bytes()), (MARK_TO, to.to_string().into_bytes())];
    Outgoing { partition: chosen.reject.kept.partition, key: None, value: None, headers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_has_a_limit_with_what_was_fetched() {
        let (mut held, value) = (Held::new(), vec![0; BYTES_MAX / 4]);
        held.record(Some(b"k"), Some(&value)).unwrap();
        held.record(None, None).unwrap();
        held.bytes(Some(b"k"), Some(&value)).unwrap();
        held.bytes(None, Some(&value)).unwrap();
        let error = held.bytes(None, Some(&value)).unwrap_err().to_string();
        assert!(error.contains("268435456 bytes") && error.contains("choose fewer by --since"), "{error}");
        let mut held = Held::new();
        for _ in 0..RECORDS_MAX {
            held.record(None, None).unwrap();
        }
        assert!(held.record(None, None).is_err());
    }
}
