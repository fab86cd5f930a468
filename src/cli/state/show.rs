//! `dce state show`: all that the log holds of one customer.

use std::io::Write;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::desk::{Snapshot, Whose, partition_of_customer};
use super::{Desk, Show};
use crate::cli::paint::{line, thousands};
use crate::cli::{Frame, Told, WrongUse, moments};
use crate::pipeline::logged::Told as Record;
use crate::pipeline::session::{Seen, SeenSession};
use crate::pipeline::{customer, session};
use crate::types::{CustomerId, EventTime, Moment};
use crate::wire::packed::{Torn, Unpacker};

/// Of a session's key or uid on the screen.
const TEXT_CHARS: usize = 60;

/// A customer's record, read.
struct Found {
    record: Record,
    sessions: Seen,
    vectors: customer::Seen,
}

impl Found {
    fn read(record: Record) -> Result<Self, Torn> {
        let mut from = Unpacker::new(&record.packed);
        let sessions = session::look(&mut from)?;
        let vectors = customer::look(&mut from)?;
        from.end()?;
        Ok(Self { record, sessions, vectors })
    }
}

pub(super) fn run(show: &Show, desk: &Desk<'_>, frame: &Frame) -> anyhow::Result<()> {
    let customer = CustomerId::parse(&show.customer)
        .ok_or_else(|| WrongUse(format!("CUSTOMER {:?} must have 1 to 256 bytes", show.customer)))?;
    let partitions = desk.partitions(desk.log())?;
    let partition = match show.partition {
        Some(partition) if u32::try_from(partition).is_ok_and(|partition| partition < partitions) => partition,
        Some(partition) => {
            return Err(WrongUse(format!("--partition {partition}: {} has {partitions} partitions", desk.log())).into());
        }
        None => partition_of_customer(customer.as_str(), partitions)?,
    };
    let snapshot = desk.snapshot(partition, Whose::One(&customer))?;
    let found = snapshot.logged.customer(customer.as_str())?.map(Found::read).transpose();
    let found = found.with_context(|| format!("{}/{partition}: the customer's record", desk.log()))?;
    let mut out = frame.output.lock();
    if frame.json {
        writeln!(out, "{}", row(desk, &customer, &snapshot, found.as_ref()))?;
    } else {
        print(&mut out, desk, &customer, &snapshot, found.as_ref())?;
    }
    out.flush()?;
    if found.is_some() { Ok(()) } else { Err(Told.into()) }
}

impl Snapshot {
    fn goes_on(&self) -> Option<i64> {
        self.committed.as_ref().map(|(resume, _)| resume.0)
    }

    /// Input records that the customer's record may lack something of, in offsets.
    fn behind(&self, record: &Record) -> u64 {
        // Below `redo_from` the log lacks nothing of anybody.
        self.after(record.through.max(self.logged.head().redo_from))
    }

    /// Input records that were read from there on, in offsets.
    fn after(&self, offset: i64) -> u64 {
        u64::try_from(self.goes_on().unwrap_or(0) - offset).unwrap_or(0)
    }
}

fn row(desk: &Desk<'_>, customer: &CustomerId, snapshot: &Snapshot, found: Option<&Found>) -> Value {
    let head = snapshot.logged.head();
    let mut row = json!({
        "customer": customer.as_str(), "topic": desk.log(), "partition": snapshot.partition, "epoch": head.epoch,
        "stream_time": head.redo_stream_time.ms(), "resume": head.resume, "redo_from": head.redo_from,
        "committed": snapshot.goes_on(), "importing": snapshot.logged.is_importing(),
        "record": found.map(|found| if found.record.is_active { "active" } else { "at_rest" }),
    });
    let Some(Found { record, sessions, vectors }) = found else { return row };
    let session = |session: &SeenSession| {
        json!({
            "key": &*session.key, "uid": &*session.uid, "opened_by": session.opened_by.as_str(),
            "start": session.start.ms(), "end": session.end.ms(), "events": session.events,
            "reason": session.reason.map(|reason| reason.as_str()),
        })
    };
    row["through"] = json!(record.through);
    row["behind"] = json!(snapshot.behind(record));
    row["bytes"] = json!(record.packed.len());
    row["sequence"] = json!(sessions.sequence);
    row["sessions"] = sessions.sessions.iter().map(session).collect();
    let ends = sessions.ends.iter();
    row["ended_keys"] = ends
        .map(|end| json!({"key_hash": hash(end.key_hash), "end": end.end.ms(), "reason": end.reason.as_str()}))
        .collect();
    row["state_norm"] = json!(vectors.state_norm);
    row["published_as_of"] = json!(vectors.published_as_of.map(EventTime::ms));
    row
}

/// Too large for JSON's numbers.
fn hash(key_hash: u64) -> String {
    format!("{key_hash:016x}")
}

fn count(number: i64) -> String {
    thousands(number.unsigned_abs())
}

fn print(
    out: &mut impl Write,
    desk: &Desk<'_>,
    customer: &CustomerId,
    snapshot: &Snapshot,
    found: Option<&Found>,
) -> std::io::Result<()> {
    let head = snapshot.logged.head();
    let place = format!("{}/{}", desk.log(), snapshot.partition);
    let customer = line(customer.as_str(), TEXT_CHARS);
    if snapshot.logged.is_importing() {
        writeln!(out, "{place}: dce state import was begun and has not ended: nothing of this counts")?;
    }
    let Some(Found { record, sessions, vectors }) = found else {
        writeln!(out, "{place} has no record of {customer}")?;
        return writeln!(
            out,
            "  who is new, or has been active since, is known to a worker alone: {} input records may be in no record yet",
            thousands(snapshot.after(head.redo_from))
        );
    };
    writeln!(out, "{customer} in {place}: {}", if record.is_active { "active" } else { "at rest" })?;
    let through = count(record.through);
    match snapshot.behind(record) {
        0 => writeln!(out, "  record     as of input offset {through}; nothing was read since that it may lack")?,
        behind => writeln!(
            out,
            "  record     as of input offset {through}; it may lag: {} input records of the partition were read since, and \
             may be this customer's",
            thousands(behind)
        )?,
    }
    writeln!(
        out,
        "  partition  epoch {}, all in the log up to offset {}, stream time there {}, committed offset {}",
        thousands(head.epoch),
        count(head.redo_from),
        moment(head.redo_stream_time),
        snapshot.goes_on().map_or_else(|| "none".to_owned(), count)
    )?;
    writeln!(out, "  sequence   {}", thousands(sessions.sequence))?;
    let norm = vectors.state_norm.map_or_else(|| "none yet".to_owned(), |norm| format!("norm {norm:.4}"));
    let as_of = vectors.published_as_of.map_or_else(|| "nothing".to_owned(), |time| moments::text(time.ms()));
    writeln!(out, "  state      {norm}, of what is frozen; last published as of {as_of}")?;
    print_sessions(out, sessions)
}

fn print_sessions(out: &mut impl Write, sessions: &Seen) -> std::io::Result<()> {
    writeln!(out, "  sessions   {} open or revisable", sessions.sessions.len())?;
    for SeenSession { key, uid, opened_by, start, end, events, reason } in &sessions.sessions {
        writeln!(
            out,
            "    {:<12}  {} to {}  {} events  {}  opened by {}  uid {}",
            reason.map_or("open", |reason| reason.as_str()),
            moments::text(start.ms()),
            moments::text(end.ms()),
            thousands(*events as u64),
            line(key, TEXT_CHARS),
            opened_by.as_str(),
            line(uid, TEXT_CHARS)
        )?;
    }
    writeln!(out, "  ended      {} keys remembered, by their hash", sessions.ends.len())?;
    for end in &sessions.ends {
        writeln!(out, "    {:<12}  {}  {}", end.reason.as_str(), moments::text(end.end.ms()), hash(end.key_hash))?;
    }
    Ok(())
}

fn moment(moment: Moment) -> String {
    moment.ms().map_or_else(|| "none".to_owned(), moments::text)
}
