//! `dce tail`: the records of a topic as they come, decoded, one line each. Reads by hand what is committed: no group, so
//! nobody is disturbed.

use std::io::Write;
use std::time::Duration;

use super::paint;
use super::{Frame, WrongUse, moments, stop_on_signals};
use crate::config::{Config, Topics};
use crate::generate::partition_of;
use crate::kafka::client::ClientSettings;
use crate::kafka::follow::{self, Extent, Follower, Kept, Lookup, Visit};
use crate::kafka::topics::Inspector;
use crate::registry::Resolver;
use crate::telemetry::Clock;

mod lines;
mod rows;

use lines::{Lines, What};
pub(super) use lines::{place, text_or_hex};

/// How long the broker may take for one question.
const WAIT: Duration = Duration::from_secs(15);
/// How long records are waited for before a wish to stop is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Of `--last`: they are held in memory.
const LAST_MAX: i64 = 100_000;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Which of the settings' topics.
    #[arg(value_enum, default_value_t = What::Embeddings)]
    what: What,
    /// Records of this customer alone, from the one partition that its key goes to.
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// From the oldest record on, instead of from now.
    #[arg(long, conflicts_with_all = ["last", "since"])]
    from_beginning: bool,
    /// The last N records first, in the order of their times.
    #[arg(long, value_name = "N", conflicts_with = "since", value_parser = clap::value_parser!(i64).range(1..=LAST_MAX))]
    last: Option<i64>,
    /// From this time on, by the records' timestamps: 10m (ago), 2026-03-01, 2026-03-01T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time, by the records' timestamps; ends at what is there now.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// End at what is there now, instead of waiting for more.
    #[arg(short, long)]
    end: bool,
    /// End after so many records.
    #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Key, a tab, and the value as it came (in hex where it is no text), not decoded.
    #[arg(long)]
    raw: bool,
}

const AFTER_HELP: &str = "\
TIME is the record's timestamp. AGE of an embedding is how long after its moment (as_of, event time) it was published; of a
click how long after the click its record was made. A null value is shown as erased; what cannot be decoded is shown as it is.
Times are UTC. Only what is committed is shown. Ctrl-C ends it, with exit code 0.

Examples:
  dce tail                                      embeddings as they are published
  dce tail live --customer c-1017               each step of one customer's open session
  dce tail --customer c-1017 --from-beginning -e   the customer's whole history, then end
  dce tail sessions --last 20 -e                the last 20 sessions
  dce tail rejected --since 10m                 what was rejected in the last ten minutes, and on
  dce tail clicks -n 5 --raw                    five clicks as their bytes are
  dce tail --last 1000 -e --json | jq '.value.cosine_shift'";

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    let stop = stop_on_signals()?;
    let clock = Clock::start();
    let time =
        |flag, text: &Option<String>| text.as_ref().map(|text| moments::parse(flag, text, clock.wall_ms())).transpose();
    let (since_ms, until_ms) = (time("--since", &arguments.since)?, time("--until", &arguments.until)?);
    let topic = topic(&config.topics, arguments.what)?;
    let tail = Tail { client: ClientSettings::from(&config.kafka), group: &config.app.id, topic, arguments };
    let resolver = Resolver::new(config.registry.as_ref())?;
    let mut printer = Printer {
        customer: arguments.customer.as_deref(),
        since_ms,
        until_ms,
        left: arguments.count,
        lines: Lines::new(arguments.what, topic, arguments.raw, frame.json, paint::colours(frame), resolver),
        out: frame.output.lock(),
    };
    let lookup = Lookup::new(&tail.client, tail.group)?;
    let extents = lookup.extents(topic, &tail.partitions()?, WAIT)?;
    printer.head()?;

    // What is there already, as far as it is wanted; and where to go on.
    let ends: Vec<Extent> = extents.iter().map(|extent| extent.from(extent.end)).collect();
    let is_bounded = arguments.end || until_ms.is_some();
    let mut follow_from = ends;
    if let Some(count) = arguments.last {
        let count = usize::try_from(count).expect("clap has checked its range");
        let wanted = |message: crate::kafka::raw::Message<'_>| printer.wants(message.key(), message.timestamp_ms());
        let last = follow::last(&tail.client, tail.group, topic, &extents, count, wanted)?;
        for kept in &last {
            if printer.show(kept)? == Visit::Enough {
                return printer.finish();
            }
        }
        printer.out.flush()?;
    } else if arguments.from_beginning || since_ms.is_some() || is_bounded {
        let from = match since_ms {
            Some(since_ms) => lookup.since(topic, &extents, since_ms, WAIT)?,
            None => extents,
        };
        if is_bounded {
            let visit = |message: crate::kafka::raw::Message<'_>| {
                if stop.is_stopped() {
                    return Ok(Visit::Enough);
                }
                printer.visit(message)
            };
            follow::scan(&tail.client, tail.group, topic, &from, visit)?;
            return printer.finish();
        }
        follow_from = from;
    }
    if is_bounded {
        return printer.finish();
    }
    drop(lookup);
    let mut follower = Follower::start(&tail.client, tail.group, topic, &follow_from)?;
    while !stop.is_stopped() {
        if follower.next(LOOK, |message| printer.visit(message))? == Visit::Enough {
            break;
        }
        printer.out.flush()?;
        if let Some(trouble) = follower.take_trouble() {
            // Standard error may be closed; that is nothing to end for.
            _ = writeln!(std::io::stderr(), "dce: {trouble}; waiting for the broker");
        }
    }
    printer.finish()
}

struct Tail<'a> {
    client: ClientSettings,
    group: &'a str,
    topic: &'a str,
    arguments: &'a Arguments,
}

impl Tail<'_> {
    /// Those to read: one where a customer is asked for.
    fn partitions(&self) -> anyhow::Result<Vec<i32>> {
        let count = partitions(&self.client, self.topic)?;
        let all = 0..i32::try_from(count)?;
        Ok(match &self.arguments.customer {
            None => all.collect(),
            Some(customer) => {
                let count = u32::try_from(count)?;
                vec![i32::try_from(partition_of(customer.as_bytes(), count))?]
            }
        })
    }
}

/// Of a topic that must be there.
pub(super) fn partitions(client: &ClientSettings, topic: &str) -> anyhow::Result<usize> {
    let found = Inspector::new(client)?.describe(topic, WAIT)?;
    found.ok_or_else(|| anyhow::anyhow!("topic {topic} does not exist on {}: dce topics create", client.bootstrap))
}

fn topic(topics: &Topics, what: What) -> Result<&str, WrongUse> {
    let not_written = |text: &str| WrongUse(text.to_owned());
    match what {
        What::Embeddings => Ok(&topics.embeddings),
        What::Live => topics.embeddings_live.as_deref().ok_or_else(|| {
            not_written(
                "the live topic is not written: provisional.every_events is 0; to read it all the same, add --set \
                 provisional.every_events=1",
            )
        }),
        What::Sessions => topics
            .sessions
            .as_deref()
            .ok_or_else(|| not_written("the sessions are not written: topics.sessions is empty; name the topic there")),
        What::Rejected => Ok(&topics.rejected),
        What::Clicks => Ok(&topics.clickstream),
    }
}

struct Printer<'a, W> {
    customer: Option<&'a str>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    /// Records still to be shown.
    left: Option<u64>,
    lines: Lines<'a>,
    out: W,
}

impl<W: Write> Printer<'_, W> {
    fn head(&mut self) -> anyhow::Result<()> {
        if let Some(head) = self.lines.head() {
            writeln!(self.out, "{head}")?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// By what can be seen without decoding. A record without a timestamp is of no time.
    fn wants(&self, key: Option<&[u8]>, timestamp_ms: Option<i64>) -> bool {
        let of_customer = self.customer.is_none_or(|customer| key == Some(customer.as_bytes()));
        let since = self.since_ms.is_none_or(|since| timestamp_ms.is_some_and(|ms| ms >= since));
        let until = self.until_ms.is_none_or(|until| timestamp_ms.is_some_and(|ms| ms < until));
        of_customer && since && until
    }

    fn visit(&mut self, message: crate::kafka::raw::Message<'_>) -> anyhow::Result<Visit> {
        if self.wants(message.key(), message.timestamp_ms()) { self.show(&message.into()) } else { Ok(Visit::Next) }
    }

    fn show(&mut self, kept: &Kept) -> anyhow::Result<Visit> {
        writeln!(self.out, "{}", self.lines.line(kept))?;
        let Some(left) = &mut self.left else { return Ok(Visit::Next) };
        *left -= 1;
        Ok(if *left == 0 { Visit::Enough } else { Visit::Next })
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush()?;
        Ok(())
    }
}

/// For the commands that read the input as well.
pub(super) fn extents(
    config: &Config,
    client: &ClientSettings,
    topic: &str,
    since_ms: Option<i64>,
) -> anyhow::Result<Vec<Extent>> {
    let all: Vec<i32> = (0..i32::try_from(partitions(client, topic)?)?).collect();
    let lookup = Lookup::new(client, &config.app.id)?;
    let extents = lookup.extents(topic, &all, WAIT)?;
    Ok(match since_ms {
        Some(since_ms) => lookup.since(topic, &extents, since_ms, WAIT)?,
        None => extents,
    })
}
