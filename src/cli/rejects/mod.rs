//! `dce rejects`: what was rejected, by reason; each record with why; and a choice of them sent back to the input. Reads the
//! rejected topic by hand; whether a record was sent back before stands in that topic too, for everybody to see.

use super::{Frame, moments};
use crate::config::Config;
use crate::kafka::client::ClientSettings;
use crate::telemetry::Clock;

mod book;
mod count;
mod show;
mod send;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<RejectsCommand>,
    #[command(flatten)]
    choice: Choice,
}

const AFTER_HELP: &str = "\
Reasons: decode (no click), key (not the value's customer), customer (missing or too long), future (beyond the record's
timestamp), late (after its session froze), full (its session takes no more). docs/operations.md has the rules.

Examples:
  dce rejects                                     counts by reason and detail, with their share of the input
  dce rejects --since 1h                          of the last hour
  dce rejects show --reason decode -n 3           the last three that could not be decoded
  dce rejects show --customer c-1017 --full       all that is known of one customer's
  dce rejects send --reason future                what would be sent back to the input
  dce rejects send --reason future --yes          send it";

#[derive(Debug, clap::Subcommand)]
enum RejectsCommand {
    /// Each rejected record: where it came from, why, and what it is.
    #[command(
        after_help = "The newest are shown, the oldest of them first. Text is shown as text, other bytes in hex.\nExamples:\n  \
        dce rejects show --reason decode -n 3\n  dce rejects show --customer c-1017 --since 2h --full"
    )]
    Show(Show),
    /// Send a choice of them back to the input; without --yes only say what would be sent.
    #[command(after_help = SEND_HELP)]
    Send(Send),
}

const SEND_HELP: &str = "\
Each record goes to the partition that it came from, in the order of its offsets there, with its key, its value, its traceparent,
and the header dce-resent-from (topic/partition/offset of the original). It is stamped with the time of sending, not with its
first timestamp: it comes into the log now, and session.future_max is measured against that, so a record that was too far ahead
is accepted once its time has come. Its event time stays what it is: what was late is late again.

Record and mark go in one transaction: a mark in the rejected topic (headers dce-resent-from and dce-resent-to, no key, no value)
says that it was sent, and where. What has a mark for the same target is not sent again, and neither is what was sent once and
came back rejected, unless --again says so. Two senders at a time: the later one ends the earlier.

Examples:
  dce rejects send --reason future                        say what would be sent
  dce rejects send --reason decode --since 1h --yes       after a fixed producer or schema
  dce rejects send --reason late --customer c-1017 --to clicks-to-look-at --yes";

/// Which of them.
#[derive(Debug, clap::Args)]
struct Choice {
    /// Of this reason alone; may be repeated.
    #[arg(long, value_name = "REASON", value_parser = ["decode", "key", "customer", "future", "late", "full"])]
    reason: Vec<String>,
    /// Of this key alone.
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// Rejected at this time or later: 10m (ago), 2026-03-01, 2026-03-01T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Rejected before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    choice: Choice,
    /// The newest so many.
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// The whole of each value, however long.
    #[arg(long)]
    full: bool,
}

#[derive(Debug, clap::Args)]
struct Send {
    #[command(flatten)]
    choice: Choice,
    /// The oldest so many at the most.
    #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// To this topic instead of the input; it needs as many partitions.
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Those too that were sent before, or were sent and rejected again.
    #[arg(long)]
    again: bool,
    /// Send. Without it nothing is sent.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    let clock = Clock::start();
    let desk = Desk { client: ClientSettings::from(&config.kafka), config: &config, now_ms: clock.wall_ms() };
    match &arguments.command {
        None => count::run(&arguments.choice, &desk, frame),
        Some(RejectsCommand::Show(show)) => show::run(show, &desk, frame),
        Some(RejectsCommand::Send(send)) => send::run(send, &desk, frame),
    }
}

/// What all of them work with.
struct Desk<'a> {
    config: &'a Config,
    client: ClientSettings,
    now_ms: i64,
}

impl Desk<'_> {
    fn period(&self, choice: &Choice) -> anyhow::Result<Period> {
        let time =
            |flag, text: &Option<String>| text.as_ref().map(|text| moments::parse(flag, text, self.now_ms)).transpose();
        Ok(Period { since_ms: time("--since", &choice.since)?, until_ms: time("--until", &choice.until)? })
    }
}

#[derive(Debug, Clone, Copy)]
struct Period {
    since_ms: Option<i64>,
    until_ms: Option<i64>,
}
