//! `dce generate`: the synthetic bank to the standard output, to files or to Kafka. A folder holds `clicks.ndjson` and
//! `labels.csv`, a data set as the trainers read it. Files get their names when they are whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Frame, WrongUse, moments};
use crate::files::clicks::Writer;
use crate::files::{self, draft};
use crate::generate::{Bank, Change, Dirt, Label, LiveParams, Params, Record, Scenario, partition_of, write_json};
use crate::types::Position;
use crate::wire::click::Input;
use crate::wire::row::Row;

mod feed;
mod kafka;

/// Write the clickstream of a synthetic bank in order of arrival: one JSON object a line, or records of a topic.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// A folder (clicks.ndjson and labels.csv), or a file that ends in .ndjson, .jsonl, .json (each also with .zst after
    /// it), .avro or .parquet; without it the clicks go to the standard output
    #[arg(long, value_name = "DIR|FILE")]
    pub(super) out: Option<PathBuf>,
    /// Where the labels go, if not into the folder
    #[arg(long, value_name = "FILE")]
    pub(super) labels: Option<PathBuf>,
    /// How many customers the bank has
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) customers: u32,
    /// End after so many events; without --days, the bank stays open as long as they take
    #[arg(long, value_name = "N")]
    pub(super) events: Option<u64>,
    /// For how many days visits begin [default: 30, or as --events needs]
    #[arg(long, value_name = "D", value_parser = positive)]
    pub(super) days: Option<f64>,
    /// The first moment: ISO 8601 (UTC unless it says otherwise) or milliseconds since the epoch
    #[arg(long, value_name = "ISO|MS", default_value = "2026-01-01T00:00:00Z", value_parser = moment)]
    pub(super) start: i64,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Arrivals out of order by up to S seconds [default: 0; with --live a tenth of them, by up to 2.5]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(super) shuffle: Option<f64>,
    /// Share of events that arrive twice, within --shuffle or 5 seconds [default: 0; with --live 0.01]
    #[arg(long, value_name = "P", value_parser = share)]
    pub(super) duplicate: Option<f64>,
    /// Share of logouts that are lost
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share)]
    pub(super) drop_logout: f64,
    /// All events of a share P of the customers arrive S seconds late: a gateway that lags
    #[arg(long, num_args = 2, value_names = ["P", "S"], value_parser = seconds)]
    pub(super) lag_customers: Option<Vec<f64>>,
    /// Share of the apps that send a session id; others are known by channel and device
    #[arg(long, value_name = "P", default_value_t = 0.7, value_parser = share)]
    pub(super) session_ids: f64,
    /// Share of the customers whose account is taken over once [default: 0.02]; with --live, share of the sessions that
    /// are a thief's [default: 0.005]
    #[arg(long, value_name = "P", value_parser = share)]
    pub(super) takeovers: Option<f64>,
    /// Share of the customers for whom a bot fetches balances
    #[arg(long, value_name = "P", default_value_t = 0.004, value_parser = share)]
    pub(super) aggregators: f64,
    /// The world changes: page-rename, layout-change or shock, and on which day (page-rename@12.5); can be repeated
    #[arg(long, value_name = "WHAT@DAY", value_parser = scenario)]
    pub(super) scenario: Vec<(Change, f64)>,
    /// Each line names its partition of so many, by murmur2 of the customer as Java's producers do
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) partitions: Option<u32>,
    /// The form of the clicks
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(super) format: Format,
    /// To the topic of the settings (topics.clickstream on kafka.bootstrap), which must be there
    #[arg(long, conflicts_with_all = ["out", "partitions"])]
    pub(super) to_kafka: bool,
    /// So many records a second, each at its due time whatever the broker does [default: as fast as the broker takes them]
    #[arg(long, value_name = "N", requires = "to_kafka", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// The labels go to this topic (JSON, by customer), beside --labels FILE
    #[arg(long, value_name = "TOPIC", requires = "to_kafka")]
    pub(super) labels_topic: Option<String>,
    /// Event times are about now, a day of the bank passes in 72 seconds, and it goes on until --events or a signal
    #[arg(long, requires_all = ["to_kafka", "rate"],
        conflicts_with_all = ["customers", "days", "start", "scenario", "aggregators", "lag_customers"])]
    pub(super) live: bool,
    /// With --live: share of the records that are broken, each in a way that has a name
    #[arg(long, value_name = "P", requires = "live", default_value_t = 0.002, value_parser = share)]
    pub(super) broken: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Json,
    /// Single-object encoding; to Kafka alone
    Avro,
}

/// What a run made.
#[derive(Debug, Default)]
struct Summary {
    events: u64,
    sessions: u64,
    sessions_stolen: u64,
    first_record_time: i64,
    last_record_time: i64,
}

pub(super) fn run(args: &Args, frame: &Frame) -> anyhow::Result<()> {
    if args.to_kafka { kafka::run(args, frame) } else { to_files(args, frame.json, &mut frame.output.lock()) }
}

/// Clicks go to `out` if the arguments name no file for them, else a summary does.
fn to_files(args: &Args, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.format == Format::Avro {
        let text = "--format avro is of records to a topic: add --to-kafka, or --out with a name that ends in .avro";
        return Err(WrongUse(text.to_owned()).into());
    }
    let params = params(args)?;
    let (clicks_path, labels_path) = places(args);
    if let Some(folder) = clicks_path.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    let mut labels = labels_path.map(Draft::create).transpose()?;
    if let Some(draft) = &mut labels {
        draft.head()?;
    }
    let summary = match clicks_path {
        None => match write(params, args.partitions, &mut Clicks::lines(out), &mut labels) {
            // Whoever reads the stream has enough of it, as `head` does.
            Err(error) if is_broken_pipe(&error) => return Ok(()),
            written => written?,
        },
        Some(path) => match files::Format::of(&path) {
            None | Some(files::Format::Ndjson) => {
                let mut clicks = Draft::create(path)?;
                let summary = write(params, args.partitions, &mut Clicks::lines(&mut clicks.writer), &mut labels)?;
                clicks.publish()?;
                summary
            }
            Some(format) => {
                let mut clicks = Clicks::Rows { file: Writer::create(&path, format, true)?, offsets: BTreeMap::new() };
                let summary = write(params, args.partitions, &mut clicks, &mut labels)?;
                clicks.finish()?;
                summary
            }
        },
    };
    if let Some(draft) = labels {
        draft.publish()?;
    }
    if args.out.is_some() && json {
        let line = serde_json::json!({
            "what": "summary",
            "records": summary.events,
            "sessions": summary.sessions,
            "sessions_stolen": summary.sessions_stolen,
            "first_record_time": summary.first_record_time,
            "last_record_time": summary.last_record_time,
        });
        writeln!(out, "{line}")?;
    } else if args.out.is_some() {
        writeln!(
            out,
            "{} events, {} sessions ({} of them a thief's), {} to {}",
            summary.events,
            summary.sessions,
            summary.sessions_stolen,
            moments::text(summary.first_record_time),
            moments::text(summary.last_record_time),
        )?;
    }
    Ok(())
}

fn params(args: &Args) -> anyhow::Result<Params> {
    let days = match (args.days, args.events) {
        (Some(days), _) => days,
        (None, None) => 30.0,
        (None, Some(events)) => Bank::days_for(args.customers, events),
    };
    let [lag_share, lag_s] = match args.lag_customers.as_deref() {
        None => [0.0, 0.0],
        Some([share, seconds]) if *share <= 1.0 => [*share, *seconds],
        Some(other) => {
            return Err(WrongUse(format!("--lag-customers takes a share of 0 to 1 and seconds, not {other:?}")).into());
        }
    };
    Ok(Params {
        customers: args.customers,
        start: args.start,
        days,
        open_end: args.days.is_none() && args.events.is_some(),
        events_max: args.events,
        session_id_share: args.session_ids,
        takeovers: args.takeovers.unwrap_or(0.02),
        aggregators: args.aggregators,
        dirt: Dirt {
            shuffle_ms: ms(args.shuffle.unwrap_or(0.0)),
            shuffle_share: 1.0,
            duplicate: args.duplicate.unwrap_or(0.0),
            drop_logout: args.drop_logout,
            lag_customers: lag_share,
            lag_ms: ms(lag_s),
        },
        scenarios: args
            .scenario
            .iter()
            .map(|(change, day)| Scenario { change: *change, at: args.start + ms(86_400.0 * day) })
            .collect(),
        ..Params::new(args.seed)
    })
}

/// The bank whose event times follow the clock, from `start` on.
fn live_params(args: &Args, rate: f64, start: i64) -> LiveParams {
    let usual = LiveParams::new(args.seed, rate, start);
    let shuffle = args.shuffle.map(|seconds| (ms(seconds), 1.0));
    let (shuffle_ms, shuffle_share) = shuffle.unwrap_or((usual.dirt.shuffle_ms, usual.dirt.shuffle_share));
    LiveParams {
        session_id_share: args.session_ids,
        takeovers: args.takeovers.unwrap_or(usual.takeovers),
        broken: args.broken,
        dirt: Dirt {
            shuffle_ms,
            shuffle_share,
            duplicate: args.duplicate.unwrap_or(usual.dirt.duplicate),
            drop_logout: args.drop_logout,
            ..usual.dirt
        },
        keep_labels: true,
        ..usual
    }
}

fn places(args: &Args) -> (Option<PathBuf>, Option<PathBuf>) {
    let Some(out) = &args.out else { return (None, args.labels.clone()) };
    if files::Format::of(out).is_some() {
        return (Some(out.clone()), args.labels.clone());
    }
    (Some(out.join("clicks.ndjson")), Some(args.labels.clone().unwrap_or_else(|| out.join("labels.csv"))))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

const BLOCK: usize = 1 << 16;

/// Where clicks go that do not go to a topic.
enum Clicks<'a> {
    /// Lines of JSON, gathered to blocks.
    Lines { out: &'a mut dyn Write, block: Vec<u8> },
    /// A file of another form; the offsets of its partitions so far.
    Rows { file: Writer, offsets: BTreeMap<i32, i64> },
}

impl<'a> Clicks<'a> {
    fn lines(out: &'a mut dyn Write) -> Self {
        Self::Lines { out, block: Vec::with_capacity(2 * BLOCK) }
    }

    fn put(&mut self, record: &Record, partition: Option<u32>) -> anyhow::Result<()> {
        match self {
            Self::Lines { out, block } => {
                write_json(&mut *block, &record.click, Some(record.record_time), partition)?;
                block.push(b'\n');
                if block.len() >= BLOCK {
                    out.write_all(block)?;
                    block.clear();
                }
            }
            Self::Rows { file, offsets } => {
                let event = record.click.event().context("an event time before 1970")?;
                let position = partition.map(i32::try_from).transpose()?.map(|partition| {
                    let next = offsets.entry(partition).or_default();
                    *next += 1;
                    Position { partition, offset: *next - 1 }
                });
                let key = event.customer_id.clone();
                let record_time = Some(record.record_time);
                file.write(&Row { input: Some(Input::Click(event)), position, record_time, key })?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Lines { out, block } => {
                out.write_all(block)?;
                block.clear();
                out.flush()
            }
            Self::Rows { .. } => Ok(()),
        }
    }

    /// Gives a file its name.
    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Lines { .. } => Ok(()),
            Self::Rows { file, .. } => Ok(file.finish().map(drop)?),
        }
    }
}

fn write(
    params: Params,
    partitions: Option<u32>,
    clicks: &mut Clicks<'_>,
    labels: &mut Option<Draft>,
) -> anyhow::Result<Summary> {
    const LABELS_EVERY: u64 = 256;
    let mut summary = Summary::default();
    let mut bank = Bank::new(params);
    while let Some(record) = bank.next() {
        let partition = partitions.map(|count| partition_of(record.click.customer_id.as_bytes(), count));
        clicks.put(&record, partition)?;
        if summary.events == 0 {
            summary.first_record_time = record.record_time;
        }
        summary.events += 1;
        summary.last_record_time = record.record_time;
        if summary.events.is_multiple_of(LABELS_EVERY) {
            write_labels(&mut bank, labels, &mut summary)?;
        }
    }
    clicks.flush()?;
    write_labels(&mut bank, labels, &mut summary)?;
    summary.sessions = bank.sessions();
    Ok(summary)
}

fn write_labels(bank: &mut Bank, labels: &mut Option<Draft>, summary: &mut Summary) -> io::Result<()> {
    for label in bank.take_labels() {
        summary.sessions_stolen += u64::from(label.is_stolen());
        if let Some(draft) = labels {
            draft.row(&label)?;
        }
    }
    Ok(())
}

/// A file that gets its name when it is whole, written in blocks; replaces one of its name.
#[derive(Debug)]
struct Draft {
    writer: BufWriter<draft::Draft>,
}

impl Draft {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        Ok(Self { writer: BufWriter::with_capacity(1 << 18, draft::Draft::create(&path, true)?) })
    }

    fn head(&mut self) -> io::Result<()> {
        writeln!(self.writer, "{}", Label::HEADER)
    }

    fn row(&mut self, label: &Label) -> io::Result<()> {
        let Label { task, customer_id, session_id, event_time, label, split } = label;
        let session_id = session_id.as_deref().unwrap_or("");
        writeln!(self.writer, "{task},{customer_id},{session_id},{event_time},{label},{split}")
    }

    fn publish(self) -> anyhow::Result<()> {
        let draft = self.writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(draft.publish()?)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seconds of an argument; beyond the range, its end")]
fn ms(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

fn moment(text: &str) -> Result<i64, String> {
    // Up to the year 5000, so that the days after it are times too.
    moments::point(text)
        .filter(|ms| (0..95_617_584_000_000).contains(ms))
        .ok_or_else(|| "not a time like 2026-01-01T08:00:00Z, 2026-01-01 or 1767225600000".to_owned())
}

fn number(text: &str, high: f64, must: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|number| (0.0..=high).contains(number)).ok_or_else(|| must.to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 1.0, "not a share of 0 to 1")
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 1e9, "not a number of 0 or more")
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 10_000_000.0, "not a number of records a second up to 10000000")
        .and_then(|rate| if rate >= 0.001 { Ok(rate) } else { Err("must be 0.001 or more".to_owned()) })
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, 36_500.0, "not a number of days up to 36500")
        .and_then(|days| if days > 0.0 { Ok(days) } else { Err("must be above 0".to_owned()) })
}

fn scenario(text: &str) -> Result<(Change, f64), String> {
    let (what, day) = text.split_once('@').ok_or("not WHAT@DAY, like page-rename@12.5")?;
    let change = Change::parse(what).ok_or("the changes are page-rename, layout-change and shock")?;
    Ok((change, number(day, 36_500.0, "not a day like 12.5")?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &str) -> Result<Args, String> {
        let words = ["generate"].into_iter().chain(words.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.args).map_err(|error| error.to_string())
    }

    fn stdout(words: &str) -> String {
        let mut out = Vec::new();
        to_files(&args(words).unwrap(), false, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_clicks_with_partition_and_record_time() {
        let text = stdout("--customers 20 --events 300 --partitions 4 --start 2026-03-01 --shuffle 2");
        assert_eq!(text.lines().count(), 300);
        for line in text.lines() {
            let click: serde_json::Value = serde_json::from_str(line).unwrap();
            let customer = click["customer_id"].as_str().unwrap();
            assert_eq!(click["partition"], partition_of(customer.as_bytes(), 4));
            assert!(click["record_time"].as_i64() > click["event_time"].as_i64());
            assert!(click["event_time"].as_i64() > Some(1_772_323_200_000));
        }
    }

    #[test]
    fn a_folder_becomes_a_data_set_of_whole_files() {
        let folder = std::env::temp_dir().join(format!("dce-generate-{}", std::process::id()));
        let words = format!("--customers 20 --days 10 --takeovers 0.5 --out {}", folder.join("bank").display());
        let said = stdout(&words);
        let read = |name: &str| fs::read_to_string(folder.join("bank").join(name)).unwrap();
        assert!(said.starts_with(&format!("{} events, ", read("clicks.ndjson").lines().count())), "{said}");
        let labels = read("labels.csv");
        assert_eq!(labels.lines().next(), Some(Label::HEADER));
        assert!(labels.lines().all(|line| line.split(',').count() == 6));
        let names: Vec<_> = fs::read_dir(folder.join("bank")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn wrong_use_is_refused_by_name() {
        let wrong = [
            ("--duplicate 1.5", "--duplicate"),
            ("--start yesterday", "--start"),
            ("--days 0", "--days"),
            ("--customers 0", "--customers"),
            ("--partitions 0", "--partitions"),
            ("--scenario page-rename", "--scenario"),
            ("--scenario quake@3", "--scenario"),
            ("--lag-customers 0.1", "--lag-customers"),
            ("--rate 5", "--to-kafka"),
            ("--labels-topic labels", "--to-kafka"),
            ("--to-kafka --rate 0", "--rate"),
            ("--to-kafka --out bank", "--out"),
            ("--to-kafka --live", "--rate"),
            ("--to-kafka --rate 5 --live --customers 3", "--customers"),
            ("--to-kafka --rate 5 --broken 0.1", "--live"),
        ];
        for (words, flag) in wrong {
            assert!(args(words).unwrap_err().contains(flag), "{words}");
        }
        let lag = args("--lag-customers 3 600").unwrap();
        assert!(to_files(&lag, false, &mut Vec::new()).unwrap_err().to_string().contains("--lag-customers"));
        let avro = to_files(&args("--format avro").unwrap(), false, &mut Vec::new()).unwrap_err();
        assert!(avro.is::<WrongUse>() && avro.to_string().contains("--to-kafka"), "{avro}");
    }

    #[test]
    fn moments_are_read_in_three_forms() {
        let ms = |text: &str| args(&format!("--start {text}")).unwrap().start;
        assert_eq!(ms("2026-01-01"), 1_767_225_600_000);
        assert_eq!(ms("2026-01-01T02:00:00+02:00"), 1_767_225_600_000);
        assert_eq!(ms("1767225600000"), 1_767_225_600_000);
    }
}
