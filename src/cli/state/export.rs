//! `dce state export`: all partitions of a stopped application into one file.

use std::io::Write;

use serde_json::json;

use super::desk::{Snapshot, Whose, numbers};
use super::{Desk, Export};
use crate::cli::Frame;
use crate::cli::paint::thousands;
use crate::files::savepoint::{Customer, Header, Partition, Writer};
use crate::kafka::follow::GroupOffset;
use crate::pipeline::history::History;
use crate::pipeline::savepoint::Stood;
use crate::telemetry::Clock;
use crate::types::{CustomerId, ResumeAt};

pub(super) fn run(export: &Export, desk: &Desk<'_>, frame: &Frame) -> anyhow::Result<()> {
    desk.wait_for_no_members()?;
    let of_log = desk.partitions(desk.log())?;
    let of_input = numbers(desk.partitions(desk.input())?)?;
    let committed = desk.committed(&of_input)?;
    anyhow::ensure!(
        !committed.is_empty(),
        "the group {} has committed nothing of {}: there is nothing to save",
        desk.group(),
        desk.input()
    );
    let partitions = made_with(&committed).unwrap_or(of_log);
    anyhow::ensure!(
        partitions <= of_log,
        "{} has {of_log} partitions, and the state was made with {partitions}: is it another application's?",
        desk.log()
    );
    let header = Header {
        application: desk.group().to_owned(),
        input: desk.input().to_owned(),
        state: desk.log().to_owned(),
        partitions,
        at_ms: Clock::start().wall_ms().unsigned_abs(),
    };
    let mut writer = Writer::create(&export.file, export.force, &header)?;
    for partition in numbers(partitions)? {
        write(&mut writer, desk, desk.snapshot(partition, Whose::Everybodys)?)?;
    }
    // Whoever started meanwhile has taken the state further than the file.
    anyhow::ensure!(
        desk.committed(&of_input)? == committed,
        "the group {} went on while its state was read: stop the workers, and export again",
        desk.group()
    );
    let totals = writer.finish()?;
    let bytes = std::fs::metadata(&export.file).map_or(0, |file| file.len());
    let mut out = frame.output.lock();
    let file = export.file.display();
    if frame.json {
        let row = json!({
            "file": file.to_string(), "application": desk.group(), "partitions": totals.partitions,
            "customers": totals.customers, "bytes": bytes,
        });
        writeln!(out, "{row}")?;
    } else {
        writeln!(
            out,
            "{file}: {} customers of {} partitions, {} bytes",
            thousands(totals.customers),
            totals.partitions,
            thousands(bytes)
        )?;
    }
    out.flush()?;
    Ok(())
}

/// The number of partitions that the state was made with, where that is known.
fn made_with(committed: &[GroupOffset]) -> Option<u32> {
    let histories = committed.iter().filter_map(|committed| History::parse(&committed.metadata));
    histories.map(|history| history.partitions).find(|partitions| *partitions > 0)
}

fn write(writer: &mut Writer, desk: &Desk<'_>, snapshot: Snapshot) -> anyhow::Result<()> {
    let Snapshot { partition, committed, logged, fault, .. } = snapshot;
    if let Some(fault) = fault {
        anyhow::bail!("{}/{partition}: the state and the committed offset do not go together: {fault}", desk.log());
    }
    let head = (logged.head().epoch > 0).then(|| logged.head());
    let stood = Stood { committed, head };
    if let Some(fault) = stood.fault() {
        anyhow::bail!(
            "{}/{partition}: {fault}: start the workers, stop them by SIGTERM, which writes everything, and export again",
            desk.log()
        );
    }
    let number = u32::try_from(partition)?;
    let committed = stood.committed.as_ref().map(|(ResumeAt(offset), history)| (*offset, history.to_metadata()));
    writer.partition(&Partition { number, committed, head: stood.head.map(|head| head.pack()) })?;
    for id in logged.ids() {
        let (Some(told), Some(id)) = (logged.customer(id)?, CustomerId::parse(id)) else { continue };
        writer.customer(&Customer { id, is_active: told.is_active, through: told.through, packed: told.packed })?;
    }
    Ok(())
}
