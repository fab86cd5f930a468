//! `dce state`: what the state's log holds, of one customer and in all; all of it into a file, and from one into other
//! topics. Reads by hand what is committed; only `import` writes.

use std::path::PathBuf;

use super::Frame;

mod desk;
mod show;
mod stats;
mod export;
mod import;

use desk::Desk;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: StateCommand,
}

const AFTER_HELP: &str = "\
The state is the topic topics.state: a record of each customer who is at rest, and of those who
have been active for long. What an active customer got since is in the input alone, and is done
again from there after a crash. docs/operations.md says how to save an application, to move it and
to give its topics more partitions.

Examples:
  dce state show c-1017                           what the log holds of one customer
  dce state stats                                 customers, bytes and offsets by partition
  dce state export bank.dce                       all of it into a file, from stopped workers
  dce state import bank.dce --set app.id=bank-2 --set topics.state=bank-2-state
  dce state import bank.dce --partitions 12       keyed anew, for 12 partitions";

#[derive(Debug, clap::Subcommand)]
enum StateCommand {
    /// What the log holds of a customer: sessions, sequence, and up to where.
    #[command(after_help = SHOW_HELP)]
    Show(Show),
    /// Customers, bytes and offsets of each partition, and whether log and committed offset go together.
    #[command(after_help = STATS_HELP)]
    Stats,
    /// Write all of the state into a file, from workers that were stopped by SIGTERM.
    #[command(after_help = EXPORT_HELP)]
    Export(Export),
    /// Put a file's state into an empty state topic and a group without offsets.
    #[command(after_help = IMPORT_HELP)]
    Import(Import),
}

const SHOW_HELP: &str = "\
The customer's partition is that of Java's default partitioner, murmur2 of the id. An active
customer's record is as old as it says: what came since is known to its worker, and in the input.
Times are UTC.
Exit code: 0 the log has a record, 1 it has none.

Examples:
  dce state show c-1017
  dce state show c-1017 --partition 3             where the producers choose partitions in another way
  dce state show c-1017 --json | jq .sessions";

const STATS_HELP: &str = "\
The whole log is read. BYTES are those of the records that count; LOG OFFSETS are what the topic
has in all, until it is compacted. EPOCH wrote to the log last. AGAIN is how many input records a
restart would do again now, BEHIND how many are not read yet.
Exit code: 0 log and offsets go together, 1 they do not, or something could not be read.

Examples:
  dce state stats
  dce state stats --json | jq .again";

const EXPORT_HELP: &str = "\
Refused while the group has members (one that has stopped leaves after its session timeout, which
is waited for), and where a partition's log lacks what was read: start the workers and stop them
by SIGTERM, which writes everything. The file is one zstd frame with a checksum at its end; it
gets its name when it is whole.

Examples:
  dce state export bank-2026-03-01.dce
  dce state export bank.dce --force               in the place of an older one";

const IMPORT_HELP: &str = "\
The file is read to its end and checked before anything is written. Then the customers go into the
topic, and one transaction at the end commits all offsets: before it dce run refuses to start,
with the reason, whatever became of the import.

With --partitions each customer goes to the partition that Java's default partitioner, murmur2 of
the id, gives it among so many. Old partitions of the same input go on at their committed offsets,
new ones begin with their first record. What is not read yet must be keyed by the new number
already: stop the producers before the workers, and start them after the topic has grown.

Examples:
  dce state import bank.dce --set app.id=bank-2 --set topics.state=bank-2-state
  dce state import bank.dce --partitions 12
  dce state import bank.dce --partitions 4 --new-input --set topics.clickstream=clicks-2";

#[derive(Debug, clap::Args)]
struct Show {
    /// The customer's id, which is the key of its clicks.
    #[arg(value_name = "CUSTOMER")]
    customer: String,
    /// Of this partition, whatever the id's hash says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
}

#[derive(Debug, clap::Args)]
struct Export {
    /// To be written.
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Replace a file of that name.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// Written by dce state export.
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Of the input and the state topic, where that is another number than the file's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: Option<u32>,
    /// The input is another topic than the file's, and all of its records come after it: read it from its beginning.
    #[arg(long)]
    new_input: bool,
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    let desk = Desk::new(&config)?;
    match &arguments.command {
        StateCommand::Show(show) => show::run(show, &desk, frame),
        StateCommand::Stats => stats::run(&desk, frame),
        StateCommand::Export(export) => export::run(export, &desk, frame),
        StateCommand::Import(import) => import::run(import, &desk, frame),
    }
}
