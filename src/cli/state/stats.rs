//! `dce state stats`: each partition of the state in one line.

use std::io::Write;

use serde_json::json;

use super::Desk;
use super::desk::{Snapshot, Whose, numbers};
use crate::cli::paint::{self, Colour, paint, thousands};
use crate::cli::{Frame, Told};

const HEAD: [&str; 11] = [
    "PARTITION",
    "AT REST",
    "ACTIVE",
    "BYTES",
    "LOG OFFSETS",
    "EPOCH",
    "RESUME",
    "REDO FROM",
    "COMMITTED",
    "AGAIN",
    "BEHIND",
];
const WIDTHS: [usize; 11] = [9, 12, 10, 15, 12, 9, 13, 13, 13, 10, 11];

/// What is shown of a partition, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    at_rest: u64,
    active: u64,
    /// Of the records that count.
    bytes: u64,
    /// Of the log, of records that do not count any more too.
    log_offsets: u64,
    /// Input records that a restart would do again.
    again: u64,
    /// Input records not read yet.
    behind: u64,
}

impl Counts {
    fn of(snapshot: &Snapshot) -> Self {
        let logged = &snapshot.logged;
        let resume = snapshot.committed.as_ref().map(|(resume, _)| resume.0);
        let again = resume.map_or(0, |resume| resume - logged.head().redo_from);
        let behind = snapshot.input.map_or(0, |input| resume.map_or(input, |resume| input.from(resume)).len());
        Self {
            at_rest: logged.customers() - logged.active_customers(),
            active: logged.active_customers(),
            bytes: logged.bytes(),
            log_offsets: snapshot.log.len(),
            again: u64::try_from(again).unwrap_or(0),
            behind,
        }
    }

    fn add(&mut self, other: Self) {
        let Self { at_rest, active, bytes, log_offsets, again, behind } = other;
        self.at_rest += at_rest;
        self.active += active;
        self.bytes += bytes;
        self.log_offsets += log_offsets;
        self.again += again;
        self.behind += behind;
    }
}

pub(super) fn run(desk: &Desk<'_>, frame: &Frame) -> anyhow::Result<()> {
    let mut out = frame.output.lock();
    let mut all = Counts::default();
    let mut faults: Vec<(i32, String)> = Vec::new();
    if !frame.json {
        print(&mut out, HEAD.map(str::to_owned))?;
    }
    let partitions = numbers(desk.partitions(desk.log())?)?;
    for partition in &partitions {
        let snapshot = desk.snapshot(*partition, Whose::Everybodys)?;
        let counts = Counts::of(&snapshot);
        all.add(counts);
        if frame.json {
            writeln!(out, "{}", row(desk, &snapshot, counts))?;
        } else {
            let head = snapshot.logged.head();
            let offset = |offset: i64| thousands(offset.unsigned_abs());
            let committed = snapshot.committed.as_ref();
            let committed = committed.map_or_else(|| "-".to_owned(), |(resume, _)| offset(resume.0));
            let places = [thousands(head.epoch), offset(head.resume), offset(head.redo_from), committed];
            print(&mut out, cells(&partition.to_string(), counts, places))?;
        }
        // One partition's log may take a while.
        out.flush()?;
        faults.extend(snapshot.fault.map(|fault| (*partition, fault)));
    }
    if frame.json {
        let Counts { at_rest, active, bytes, log_offsets, again, behind } = all;
        let summary = json!({"summary": {
            "partitions": partitions.len(), "at_rest": at_rest, "active": active, "bytes": bytes,
            "log_offsets": log_offsets, "again": again, "behind": behind, "faults": faults.len(),
        }});
        writeln!(out, "{summary}")?;
    } else {
        print(&mut out, cells("all", all, Default::default()))?;
        for (partition, fault) in &faults {
            let sign = paint(paint::colours(frame), Colour::Red, "✘");
            writeln!(out, "{sign} {}/{partition}: log and committed offset do not go together: {fault}", desk.log())?;
        }
        if faults.is_empty() {
            writeln!(out, "log and committed offsets go together")?;
        }
    }
    out.flush()?;
    if faults.is_empty() { Ok(()) } else { Err(Told.into()) }
}

fn row(desk: &Desk<'_>, snapshot: &Snapshot, counts: Counts) -> serde_json::Value {
    let head = snapshot.logged.head();
    let Counts { at_rest, active, bytes, log_offsets, again, behind } = counts;
    json!({
        "topic": desk.log(), "partition": snapshot.partition, "at_rest": at_rest, "active": active, "bytes": bytes,
        "log_offsets": log_offsets, "epoch": head.epoch, "resume": head.resume, "redo_from": head.redo_from,
        "stream_time": head.redo_stream_time.ms(), "again": again, "behind": behind, "fault": snapshot.fault,
        "committed": snapshot.committed.as_ref().map(|(resume, _)| resume.0),
    })
}

/// `places`: epoch, resume, redo from, committed.
fn cells(name: &str, counts: Counts, places: [String; 4]) -> [String; 11] {
    let Counts { at_rest, active, bytes, log_offsets, again, behind } = counts;
    let [epoch, resume, redo_from, committed] = places;
    let [at_rest, active, bytes, log_offsets] = [at_rest, active, bytes, log_offsets].map(thousands);
    let (again, behind) = (thousands(again), thousands(behind));
    [name.to_owned(), at_rest, active, bytes, log_offsets, epoch, resume, redo_from, committed, again, behind]
}

fn print(out: &mut impl Write, cells: [String; 11]) -> std::io::Result<()> {
    let cells = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:>width$}"));
    writeln!(out, "{}", cells.collect::<Vec<_>>().join(" "))
}
