//! `dce state import`: a file's state into an empty state topic and a group without offsets.
//!
//! ```text
//!   file, to its end ▸ topics and group ▸ marks ▸ customers ▸ heads, marks gone, offsets: one transaction
//! ```
//! Between the marks and the last transaction every restore of a partition is refused, so a half done import is never gone on
//! from; after it the state is whole, for that transaction is the one that commits the offsets. Customers go before it in
//! transactions of bounded size: one for all would be aborted by the broker where the state is large. Where a worker came
//! before the marks and has committed since, the import ends before the first customer, and takes its marks back.
//!
//! Of imports at once one at the most is whole in a state topic, and in a group. The marks are written under a transactional
//! id of the topic's: whoever comes later ends a writer that has not marked yet, or finds the marks and is refused. All else is
//! written under one of the group's, which alone may commit its offsets: there the later one ends the earlier.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context as _;
use serde_json::json;

use super::desk::{numbers, partition_of_customer};
use super::{Desk, Import};
use crate::cli::paint::thousands;
use crate::cli::{Frame, WrongUse};
use crate::files::savepoint::{Customer, Header, Partition, Piece, Reader};
use crate::kafka::bulk::{Bulk, BulkError};
use crate::kafka::follow::{self, Extent, GroupOffset, Visit};
use crate::pipeline::history::{self, History};
use crate::pipeline::log::{self, Head, Key};
use crate::pipeline::savepoint::{Rekeying, Stands, Stood};
use crate::pipeline::{customer, session};
use crate::types::ResumeAt;
use crate::wire::packed::Unpacker;

/// The value of the mark that an import is under way.
const MARK: &[u8] = b"import";
const UNFINISHED: &str = "the import has not ended, as dce run will say";

/// The file, read to its end.
struct Survey {
    header: Header,
    stood: Vec<Stood>,
    customers: u64,
}

/// How the partitions will stand.
enum Layout {
    Same(Vec<Stood>),
    Anew(Vec<Stands>),
}

pub(super) fn run(import: &Import, desk: &Desk<'_>, frame: &Frame) -> anyhow::Result<()> {
    let survey = survey(import)?;
    let customers = survey.customers;
    let partitions = import.partitions.unwrap_or(survey.header.partitions);
    check_topics(import, desk, &survey.header, partitions)?;
    check_empty(desk, partitions)?;
    let is_anew = import.new_input || partitions != survey.header.partitions;
    let layout = if is_anew {
        Layout::Anew(key_anew(import, desk, &survey, partitions)?)
    } else {
        for (partition, stood) in (0..).zip(&survey.stood) {
            stood.committed.as_ref().map(|(resume, _)| check_offset(desk, partition, *resume)).transpose()?;
        }
        Layout::Same(survey.stood)
    };

    claim(desk, partitions)?;
    let id = format!("{}-import", desk.group());
    let mut bulk = writer(desk, &id).context(UNFINISHED)?;
    if let Some(why) = has_begun(desk, partitions).context(UNFINISHED)? {
        // Nothing was written yet, and whoever has begun must be able to go on.
        let taken_back = mark(&mut bulk, partitions, None);
        taken_back.with_context(|| why.clone())?;
        anyhow::bail!(why);
    }
    let records = write_customers(import, &mut bulk, &layout, partitions)
        .map_err(|error| ended("of", desk.group(), error))
        .context(UNFINISHED)?;
    finish(desk, &mut bulk, &layout, &id)?;

    let mut out = frame.output.lock();
    let file = import.file.display();
    if frame.json {
        let row = json!({
            "file": file.to_string(), "application": desk.group(), "partitions": partitions, "customers": customers,
            "records": records, "keyed_anew": is_anew,
        });
        writeln!(out, "{row}")?;
    } else {
        let how = if is_anew { ", keyed anew" } else { "" };
        let (customers, log) = (thousands(customers), desk.log());
        writeln!(
            out,
            "{file}: {customers} customers in {partitions} partitions of {log}{how}; dce run goes on from there"
        )?;
    }
    out.flush()?;
    Ok(())
}

/// All that the file says, checked.
fn survey(import: &Import) -> anyhow::Result<Survey> {
    let file = import.file.display();
    let mut reader = Reader::open(&import.file)?;
    let header = reader.header().clone();
    let mut stood: Vec<Stood> = Vec::new();
    let mut customers: Vec<u64> = Vec::new();
    while let Some(piece) = reader.piece()? {
        match piece {
            Piece::Partition(partition) => {
                let one = parse(&partition).with_context(|| format!("{file}: partition {}", partition.number))?;
                stood.push(one);
                customers.push(0);
            }
            Piece::Customer(customer) => {
                let head = stood.last().and_then(|stood| stood.head);
                check_customer(&customer, head.as_ref()).with_context(|| {
                    format!("{file}: customer {} of partition {}", reader.totals().customers, stood.len() - 1)
                })?;
                if let Some(count) = customers.last_mut() {
                    *count += 1;
                }
            }
        }
    }
    for (partition, (stood, count)) in stood.iter().zip(&customers).enumerate() {
        let logged = stood.head.map_or(0, |head| head.logged);
        anyhow::ensure!(
            logged == *count,
            "{file}: partition {partition} has {count} customers, and should have {logged}"
        );
    }
    Ok(Survey { header, stood, customers: customers.iter().sum() })
}

fn parse(partition: &Partition) -> anyhow::Result<Stood> {
    let committed = partition.committed.as_ref().map(|(offset, metadata)| {
        let history = History::parse(metadata).context("its metadata is not dce's")?;
        anyhow::Ok((ResumeAt(*offset), history))
    });
    let head = partition.head.as_deref().map(Head::unpack).transpose()?;
    let stood = Stood { committed: committed.transpose()?, head };
    match stood.fault() {
        Some(fault) => Err(anyhow::Error::msg(fault)),
        None => Ok(stood),
    }
}

/// A worker would find it too, but only when the customer comes back.
fn check_customer(customer: &Customer, head: Option<&Head>) -> anyhow::Result<()> {
    let upto = head.map_or(0, |head| head.resume);
    anyhow::ensure!(customer.through <= upto, "it reaches offset {}, its partition {upto}", customer.through);
    let mut from = Unpacker::new(&customer.packed);
    session::look(&mut from)?;
    customer::look(&mut from)?;
    from.end()?;
    Ok(())
}

fn check_topics(import: &Import, desk: &Desk<'_>, header: &Header, partitions: u32) -> anyhow::Result<()> {
    let (file, was, input) = (import.file.display(), header.partitions, desk.input());
    if header.input != input && !import.new_input {
        return Err(WrongUse(format!(
            "{file} is of the input {}, and topics.clickstream is {input}: --new-input reads that from its beginning, where \
             all of its records come after the file",
            header.input
        ))
        .into());
    }
    if partitions < was && !import.new_input {
        return Err(WrongUse(format!(
            "--partitions {partitions}: {file} is of {was}, and a topic never loses partitions: name a new input, with \
             --new-input"
        ))
        .into());
    }
    let of_input = desk.partitions(input)?;
    if of_input != partitions {
        let fix = if import.partitions.is_some() {
            format!("give {input} {partitions} first")
        } else {
            format!("--partitions {of_input} keys the state anew")
        };
        anyhow::bail!("{input} has {of_input} partitions, and the state would have {partitions}: {fix}");
    }
    let of_log = desk.partitions(desk.log())?;
    anyhow::ensure!(
        of_log == partitions,
        "{} has {of_log} partitions, and {input} {partitions}: make it anew with as many (dce topics create)",
        desk.log()
    );
    Ok(())
}

fn check_empty(desk: &Desk<'_>, partitions: u32) -> anyhow::Result<()> {
    desk.wait_for_no_members()?;
    let all = numbers(partitions)?;
    if let Some(committed) = desk.committed(&all)?.first() {
        anyhow::bail!(
            "the group {} has a committed offset in {}/{} ({}): use another app.id, or delete the group's offsets",
            desk.group(),
            desk.input(),
            committed.partition,
            committed.offset
        );
    }
    let extents = desk.extents(desk.log(), &all)?;
    let mut found = None;
    follow::scan(&desk.client, desk.group(), desk.log(), &extents, |message| {
        found = Some(message.partition());
        anyhow::Ok(Visit::Enough)
    })?;
    if let Some(partition) = found {
        anyhow::bail!(
            "{}/{partition} has records: name another topics.state, or delete the topic and make it anew (dce topics create)",
            desk.log()
        );
    }
    Ok(())
}

/// Marks the log, which no other import does then.
fn claim(desk: &Desk<'_>, partitions: u32) -> anyhow::Result<()> {
    // Not `-import`: an application may have the topic's name.
    let mut bulk = writer(desk, &format!("{}:import", desk.log()))?;
    // Only now can no other one begin to write any more.
    check_alone(desk, partitions)?;
    mark(&mut bulk, partitions, Some(MARK)).map_err(|error| ended("into", desk.log(), error))
}

fn writer(desk: &Desk<'_>, id: &str) -> anyhow::Result<Bulk> {
    Bulk::new(&desk.client, id, desk.log()).with_context(|| format!("writing under the transactional id {id}"))
}

/// That no other import has begun since the log was empty.
fn check_alone(desk: &Desk<'_>, partitions: u32) -> anyhow::Result<()> {
    let (log, mark) = (desk.log(), Key::Import.pack());
    anyhow::ensure!(
        !has_record(desk, partitions, |key| *key == *mark)?,
        "another dce state import into {log} has begun before, and nothing of this one was written: dce run goes on from that \
         one when it has ended; where it was broken off, delete {log}, make it anew (dce topics create), and import again"
    );
    Ok(())
}

/// Whether a worker came before the marks, saw an empty state, and has gone on from that: then there is something that it has
/// committed, or written. One of this group that comes later is refused, and may be tried again and again: while it is there
/// this is an error, and the marks stay. Of another group it is seen only if it has written to the log by now.
fn has_begun(desk: &Desk<'_>, partitions: u32) -> anyhow::Result<Option<String>> {
    let (group, log) = (desk.group(), desk.log());
    let waited = desk.wait_for_no_members();
    if !desk.committed(&numbers(partitions)?)?.is_empty() {
        return Ok(Some(format!(
            "the group {group} has begun by itself meanwhile: use another app.id, or delete its offsets and make {log} anew"
        )));
    }
    waited?;
    let mark = Key::Import.pack();
    let is_written = has_record(desk, partitions, |key| *key != *mark)?;
    Ok(is_written.then(|| format!("somebody else has begun to write to {log} meanwhile: name another topics.state")))
}

/// Whether the log has one with such a key.
fn has_record(desk: &Desk<'_>, partitions: u32, is_one: impl Fn(&[u8]) -> bool) -> anyhow::Result<bool> {
    let extents = desk.extents(desk.log(), &numbers(partitions)?)?;
    let visited = follow::scan(&desk.client, desk.group(), desk.log(), &extents, |message| {
        anyhow::Ok(if message.key().is_some_and(&is_one) { Visit::Enough } else { Visit::Next })
    })?;
    Ok(visited == Visit::Enough)
}

/// Marks all partitions, or takes the marks away.
fn mark(bulk: &mut Bulk, partitions: u32, mark: Option<&[u8]>) -> anyhow::Result<()> {
    for partition in numbers(partitions)? {
        bulk.send(partition, &Key::Import.pack(), mark)?;
    }
    Ok(bulk.commit()?)
}

/// That the offset is one of this input; what is not read yet.
fn check_offset(desk: &Desk<'_>, partition: i32, resume: ResumeAt) -> anyhow::Result<Extent> {
    let Extent { low, end, .. } = desk.extent(desk.input(), partition)?;
    anyhow::ensure!(
        (low..=end).contains(&resume.0),
        "{}/{partition}: the file goes on at offset {}, and the topic has {low} to {end}: it is another topic of that name, or \
         its records were deleted; --new-input where all that it has comes after the file",
        desk.input(),
        resume.0
    );
    Ok(Extent { partition, low: resume.0, end })
}

/// Where each partition stands in a layout in which customers are in other partitions, or offsets are of another topic.
fn key_anew(import: &Import, desk: &Desk<'_>, survey: &Survey, partitions: u32) -> anyhow::Result<Vec<Stands>> {
    let mut unread = Vec::new();
    for partition in numbers(partitions)? {
        let stood = usize::try_from(partition).ok().and_then(|partition| survey.stood.get(partition));
        let resume = stood.and_then(|stood| stood.committed.as_ref()).map(|(resume, _)| *resume);
        unread.push(match resume.filter(|_| !import.new_input) {
            Some(resume) => check_offset(desk, partition, resume)?,
            None => desk.extent(desk.input(), partition)?,
        });
    }
    check_unread(desk, &unread, partitions)?;
    let begins = unread.iter().map(|extent| ResumeAt(extent.low)).collect();
    let file = import.file.display();
    let mut rekeying = Rekeying::new((0..).zip(&survey.stood), begins).with_context(|| file.to_string())?;
    let was = survey.header.partitions;
    each_customer(import, |from, customer| {
        let id = customer.id.as_str();
        let should = partition_of_customer(id, was)?;
        anyhow::ensure!(
            should == from,
            "{file}: a customer stands in partition {from}, and murmur2 of the id says {should} of {was}: the producers choose \
             partitions in another way, so nobody can say where the customers go among {partitions}"
        );
        rekeying.moves(from, partition_of_customer(id, partitions)?);
        Ok(())
    })?;
    Ok(rekeying.stands())
}

/// A record that is still keyed by the old number would meet a partition that its customer has left.
fn check_unread(desk: &Desk<'_>, unread: &[Extent], partitions: u32) -> anyhow::Result<()> {
    follow::scan(&desk.client, desk.group(), desk.input(), unread, |message| {
        let Some(key) = message.key().and_then(|key| std::str::from_utf8(key).ok()) else { return Ok(Visit::Next) };
        let should = partition_of_customer(key, partitions)?;
        anyhow::ensure!(
            should == message.partition(),
            "{}/{}: the record at offset {} is not read yet and belongs to partition {should} of {partitions}, where its \
             customer's state goes: stop the producers, let the workers read everything by the old number of partitions, and \
             export again",
            desk.input(),
            message.partition(),
            message.offset()
        );
        Ok(Visit::Next)
    })?;
    Ok(())
}

/// Shows the customers once more, each with its old partition.
fn each_customer(import: &Import, mut each: impl FnMut(i32, Customer) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut reader = Reader::open(&import.file)?;
    let mut from = 0;
    while let Some(piece) = reader.piece()? {
        match piece {
            Piece::Partition(partition) => from = i32::try_from(partition.number)?,
            Piece::Customer(customer) => each(from, customer)?,
        }
    }
    Ok(())
}

/// Gives the number of records.
fn write_customers(import: &Import, bulk: &mut Bulk, layout: &Layout, partitions: u32) -> anyhow::Result<u64> {
    let begins: BTreeMap<i32, i64> = match layout {
        Layout::Same(_) => BTreeMap::new(),
        Layout::Anew(stands) => (0..).zip(stands.iter().map(|stands| stands.resume.0)).collect(),
    };
    let mut written = 0;
    each_customer(import, |from, customer| {
        let Customer { id, is_active, through, packed } = customer;
        let to = if begins.is_empty() { from } else { partition_of_customer(id.as_str(), partitions)? };
        let through = begins.get(&to).copied().unwrap_or(through);
        for record in log::records(to, id.as_str(), is_active, through, &packed) {
            bulk.send(record.partition, &record.key, record.value.as_deref())?;
            written += 1;
        }
        Ok(())
    })?;
    bulk.commit()?;
    Ok(written)
}

/// Heads, the marks' end and the offsets, together.
fn finish(desk: &Desk<'_>, bulk: &mut Bulk, layout: &Layout, id: &str) -> anyhow::Result<()> {
    let stood: Vec<Stood> = match layout {
        Layout::Same(stood) => stood.clone(),
        Layout::Anew(stands) => {
            let stood = |Stands { resume, history, head }: &Stands| Stood {
                committed: Some((*resume, history.clone())),
                head: Some(*head),
            };
            stands.iter().map(stood).collect()
        }
    };
    let mut offsets = Vec::new();
    for (partition, Stood { committed, head }) in (0..).zip(stood) {
        if let Some(head) = head {
            bulk.send(partition, Head::KEY, Some(&head.pack()))?;
        }
        bulk.send(partition, &Key::Import.pack(), None)?;
        offsets.extend(committed.map(|(resume, history)| GroupOffset {
            partition,
            offset: resume.0,
            // The one who wrote it there may be another application, whose transactions nobody here may end.
            metadata: history::signed(&history.to_metadata(), id),
        }));
    }
    match bulk.commit_with(desk.group(), desk.input(), &offsets) {
        Err(error @ (BulkError::Unknown { .. } | BulkError::Fenced { .. })) => {
            Err(ended("of", desk.group(), error.into())).context("dce state stats says whether the import has ended")
        }
        done => done.context(UNFINISHED),
    }
}

/// Says who may have ended the import, where somebody has: one `of` a group, or `into` a topic.
fn ended(shares: &str, what: &str, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(BulkError::Fenced { .. }) => error.context(format!(
            "another dce state import {shares} {what} has begun meanwhile, or this one stood still for a minute"
        )),
        Some(BulkError::Client { .. } | BulkError::Refused { .. } | BulkError::Unknown { .. }) | None => error,
    }
}
