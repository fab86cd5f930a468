//! `dce replay`: the pipeline over a span of clicks, from a file or a topic, to a file or a topic. `docs/replay.md` tells
//! how to backfill with it.

use std::io::{IsTerminal as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::run::load_model;
use super::{Frame, Output, WrongUse, moments, stop_on_signals};
use crate::config::{Config, Encoding, FlagSetting};
use crate::files::clicks::{Reader, Size};
use crate::files::table::{Target, Writer};
use crate::files::{FileError, Format, Place};
use crate::kafka::client::ClientSettings;
use crate::registry::{Event, RegisteredTopics, Resolver};
use crate::replay::range::Range;
use crate::replay::{self, Input, Outputs, Progress, Settings, Sink, Summary, TopicInput, Wanted, Watch};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::types::Uptime;
use crate::wire::avro::Schemas;
use crate::wire::embedding::{CustomerEmbedding, SessionSummary};
use crate::wire::write::Written;

/// Run a span of clicks through the pipeline, from an empty state: every embedding that the live pipeline would have
/// given, provisional ones too.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The clicks: a file, - (lines of JSON from the standard input), or kafka:TOPIC (kafka: alone is topics.clickstream).
    #[arg(long, value_name = "FILE|-|kafka:TOPIC")]
    from: String,
    /// Where the embeddings go: a file, - (lines of JSON to the standard output), kafka:TOPIC, or none.
    #[arg(long, value_name = "FILE|-|kafka:TOPIC|none")]
    to: String,
    /// Where a summary of each session goes.
    #[arg(long, value_name = "FILE|-|kafka:TOPIC")]
    sessions: Option<String>,
    /// Where refused records go, as lines of JSON with the reason.
    #[arg(long, value_name = "FILE|-")]
    rejected: Option<String>,
    /// Of a topic: from the first record stamped so or later. ISO 8601 (UTC unless it says otherwise) or milliseconds.
    #[arg(long, value_name = "TIME", value_parser = moments::argument, conflicts_with = "offsets")]
    since: Option<i64>,
    /// Of a topic: up to the first record stamped so or later, that one left out.
    #[arg(long, value_name = "TIME", value_parser = moments::argument, conflicts_with = "offsets")]
    until: Option<i64>,
    /// Of a topic: these offsets of these partitions, ends left out: 0:100-2000,1:50- (an open end is the present one).
    #[arg(long, value_name = "P:FROM-UNTIL,…", value_parser = Range::parse_offsets)]
    offsets: Option<Range>,
    /// Close what is still open at the end, as if nobody ever clicked again.
    #[arg(long)]
    close_open: bool,
    /// The model bundle [default: model.path].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
    /// Write behind the records that a topic holds already.
    #[arg(long)]
    append: bool,
    /// Records that are computed together: changes the speed and the memory, not the result.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    epoch_events: u32,
}

const AFTER_HELP: &str = "Files are known by their extension: .ndjson, .jsonl or .json (each also with .zst after it), .avro, .parquet.\n\
Example: dce replay --from clicks.ndjson --to embeddings.parquet --set provisional.every_events=5";

/// Between two log lines about the progress.
const LOG_EVERY_MS: u64 = 10_000;

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let model_flag = match &arguments.model {
        Some(folder) => {
            let value = folder.to_str().ok_or_else(|| WrongUse("--model is not UTF-8".to_owned()))?.to_owned();
            vec![FlagSetting { flag: "--model", key: "model.path", value }]
        }
        None => Vec::new(),
    };
    let config = frame.config(model_flag)?;
    let places = Places::parse(arguments, &config)?;
    frame.start_logs(&config)?;
    let (clock, stop) = (Clock::start(), stop_on_signals()?);
    let mut resolver = Resolver::new(config.registry.as_ref())?;
    // What takes no time to find out comes before the model is loaded.
    let (input, input_partitions) = open_input(arguments, &places, &config, resolver.schemas_mut())?;
    let mut outputs = open_outputs(arguments, &places, &config, input_partitions, frame)?;
    let mut shown = Shown::new(input.size(), clock);
    ask_registry(&places, &config, &resolver, &mut outputs, &stop, &shown)?;
    let mut model = load_model(frame, &config)?;
    let settings = Settings {
        rules: config.session.clone(),
        labels: config.labels.iter().map(|label| Arc::from(label.as_str())).collect(),
        epoch_events: arguments.epoch_events as usize,
        close_open: arguments.close_open,
    };
    let watch = Watch { clock, stop: &stop, progress: &mut |progress| shown.show(progress) };
    let run = replay::run(&settings, &mut model, &mut resolver, input, outputs, watch);
    shown.end();
    let summary = run?;
    let text = if frame.json { json_of(&summary, arguments).to_string() } else { text_of(&summary, arguments) };
    if places.writes_standard() {
        // The standard output is the data's.
        writeln!(std::io::stderr(), "{text}")?;
    } else {
        frame.output.line(text)?;
    }
    Ok(())
}

/// One end of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    File(Place),
    Topic(String),
    Nowhere,
}

impl End {
    /// Whether writing to `other` would replace this one, however the two are spelled.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nowhere, _) => false,
            (Self::File(Place::File { path, .. }), Self::File(Place::File { path: other, .. })) => {
                let entry = entry_of(other);
                // Of a link both its own name and what it points to; whether names differ by case only the file system knows.
                entry == entry_of(path)
                    || path.canonicalize().is_ok_and(|target| target == entry)
                    || inode_of(path).is_some_and(|inode| Some(inode) == inode_of(other))
            }
            (Self::File(_) | Self::Topic(_), _) => self == other,
        }
    }
}

/// Which file it is, however it is named.
fn inode_of(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}

/// A name in its folder, links on the way there followed.
fn entry_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

#[derive(Debug)]
struct Places {
    from: End,
    to: End,
    sessions: End,
    rejected: End,
}

impl Places {
    fn parse(arguments: &Arguments, config: &Config) -> Result<Self, WrongUse> {
        let end = |flag: &str, text: Option<&String>| match text.map(String::as_str) {
            None | Some("none") => Ok(End::Nowhere),
            Some("kafka:") if flag == "--from" => Ok(End::Topic(config.topics.clickstream.clone())),
            Some("kafka:") => Err(WrongUse(format!("{flag} kafka: names no topic; give kafka:TOPIC"))),
            Some(text) => match text.strip_prefix("kafka:") {
                Some(topic) => Ok(End::Topic(topic.to_owned())),
                None => Place::parse(text).map(End::File).ok_or_else(|| {
                    WrongUse(format!(
                        "{flag} {text}: what format is that? a file ends in {}; a topic is kafka:TOPIC",
                        Format::NAMES
                    ))
                }),
            },
        };
        let places = Self {
            from: end("--from", Some(&arguments.from))?,
            to: end("--to", Some(&arguments.to))?,
            sessions: end("--sessions", arguments.sessions.as_ref())?,
            rejected: end("--rejected", arguments.rejected.as_ref())?,
        };
        let is_range = arguments.since.is_some() || arguments.until.is_some() || arguments.offsets.is_some();
        if is_range && !matches!(places.from, End::Topic(_)) {
            return Err(WrongUse("--since, --until and --offsets are of topics; a file is replayed whole".to_owned()));
        }
        if places.from == End::Nowhere {
            return Err(WrongUse("--from none: give a file, - or kafka:TOPIC".to_owned()));
        }
        if let (Some(since), Some(until)) = (arguments.since, arguments.until)
            && until < since
        {
            return Err(WrongUse("--until lies before --since".to_owned()));
        }
        places.check_outputs()?;
        if config.encoding == Encoding::Confluent
            && matches!(places.sessions, End::Topic(_))
            && !matches!(places.to, End::Topic(_))
        {
            return Err(WrongUse(
                "--sessions kafka:TOPIC in the encoding confluent needs --to kafka:TOPIC too; give one, or another encoding \
                 such as --set encoding=avro"
                    .to_owned(),
            ));
        }
        Ok(places)
    }

    fn written(&self) -> [&End; 3] {
        [&self.to, &self.sessions, &self.rejected]
    }

    fn check_outputs(&self) -> Result<(), WrongUse> {
        match &self.rejected {
            End::Nowhere
            | End::File(Place::Standard | Place::File { format: Format::Ndjson | Format::NdjsonZstd, .. }) => {}
            End::File(Place::File { format: Format::Avro | Format::Parquet, .. }) | End::Topic(_) => {
                return Err(WrongUse(
                    "--rejected takes lines of JSON: a file that ends in .ndjson or .ndjson.zst, or -".to_owned(),
                ));
            }
        }
        let all = [&self.from, &self.to, &self.sessions, &self.rejected];
        for (at, one) in all.iter().enumerate() {
            // From the standard input to the standard output is two streams.
            let mut others = all[at + 1..].iter().filter(|_| at > 0 || **one != End::File(Place::Standard));
            if others.any(|other| one.is_same(other)) {
                let name = match one {
                    End::File(place) => place.to_string(),
                    End::Topic(topic) => format!("kafka:{topic}"),
                    End::Nowhere => String::new(),
                };
                return Err(WrongUse(format!(
                    "{name} is named twice; each of --from, --to, --sessions and --rejected needs its own"
                )));
            }
        }
        Ok(())
    }

    fn writes_standard(&self) -> bool {
        self.written().contains(&&End::File(Place::Standard))
    }
}

/// The input, and how many partitions its topic has.
fn open_input(
    arguments: &Arguments,
    places: &Places,
    config: &Config,
    schemas: &mut Schemas,
) -> anyhow::Result<(Input, Option<usize>)> {
    match &places.from {
        End::File(place) => Ok((Input::File(Reader::open(place, schemas)?), None)),
        End::Topic(topic) => {
            let client = ClientSettings::from(&config.kafka);
            let times = Range::Times { since: arguments.since, until: arguments.until };
            let range = arguments.offsets.as_ref().unwrap_or(&times);
            let (partitions, spans) = replay::spans(&client, topic, range)?;
            for span in &spans {
                let (partition, from, until) = (span.partition, span.from.0, span.until.0);
                tracing::info!(topic, partition, from, until, "to replay");
            }
            Ok((Input::Topic(Box::new(TopicInput::start(&client, topic, &spans)?)), Some(partitions)))
        }
        End::Nowhere => unreachable!("refused as wrong use"),
    }
}

fn open_outputs(
    arguments: &Arguments,
    places: &Places,
    config: &Config,
    input_partitions: Option<usize>,
    frame: &Frame,
) -> anyhow::Result<Outputs> {
    // A pipeline elsewhere may want provisional records where this replay wants none, and then its live topic is one too.
    let provisional = FlagSetting { flag: "--to", key: "provisional.every_events", value: "1".to_owned() };
    let pipeline = frame.config(vec![provisional])?.topics;
    let sink = |end: &End, kind: Kind| -> anyhow::Result<Sink> {
        match end {
            End::Nowhere => Ok(Sink::Nowhere),
            End::File(place) => {
                let target = target(place, arguments.force, &frame.output)?;
                Ok(Sink::File(Box::new(match kind {
                    Kind::Embeddings => create::<CustomerEmbedding>(target)?,
                    Kind::Sessions => create::<SessionSummary>(target)?,
                })))
            }
            End::Topic(topic) => {
                let from = if let End::Topic(from) = &places.from { Some(from.as_str()) } else { None };
                let inputs: Vec<&str> = from.into_iter().chain([config.topics.clickstream.as_str()]).collect();
                let wanted = Wanted {
                    topic,
                    encoding: config.encoding,
                    input: from.zip(input_partitions),
                    appends: arguments.append,
                    inputs: &inputs,
                    live: &pipeline.written(),
                };
                Ok(Sink::Topic(Box::new(replay::open_topic(&ClientSettings::from(&config.kafka), &wanted)?)))
            }
        }
    };
    let rejected = match &places.rejected {
        // Lines are of no type.
        End::File(place) => {
            Some(Box::new(create::<CustomerEmbedding>(target(place, arguments.force, &frame.output)?)?))
        }
        End::Nowhere | End::Topic(_) => None,
    };
    Ok(Outputs {
        embeddings: sink(&places.to, Kind::Embeddings)?,
        sessions: sink(&places.sessions, Kind::Sessions)?,
        rejected,
    })
}

/// What is asked of a registry at the start: whether it takes the login, and the ids that topics' records are framed by.
fn ask_registry(
    places: &Places,
    config: &Config,
    resolver: &Resolver,
    outputs: &mut Outputs,
    stop: &Stop,
    shown: &Shown,
) -> anyhow::Result<()> {
    let Some(registry) = &config.registry else { return Ok(()) };
    let mut on_event = |event: Event<'_>| {
        if matches!(event, Event::Waiting(_)) {
            shown.wait();
        }
        false
    };
    match &places.to {
        End::Topic(embeddings) if config.encoding == Encoding::Confluent => {
            let sessions = if let End::Topic(sessions) = &places.sessions { Some(sessions.as_str()) } else { None };
            let topics = RegisteredTopics { embeddings, live: None, sessions, ticks: None };
            outputs.frame_by(resolver.register_outputs(registry, &topics, stop, &mut on_event)??);
        }
        _ if matches!(places.from, End::Topic(_)) => resolver.greet(stop, &mut on_event)??,
        // Files hold no ids.
        _ => {}
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Embeddings,
    Sessions,
}

fn create<R: Written>(target: Target) -> Result<Writer, FileError> {
    Writer::create::<R>(target)
}

fn target(place: &Place, force: bool, output: &Output) -> anyhow::Result<Target> {
    match place {
        Place::Standard => Ok(Target::Stream(Box::new(Standard(output.clone())))),
        Place::File { path, format } => Target::file(path, *format, force).map_err(|error| match error {
            // To be put right on the command line.
            FileError::Exists { .. } => WrongUse(error.to_string()).into(),
            error => error.into(),
        }),
    }
}

/// The standard output, in blocks.
struct Standard(Output);

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut out = self.0.lock();
        out.write_all(bytes)?;
        out.flush()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.lock().flush()
    }
}

/// The progress: a bar on a terminal, log lines elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    clock: Clock,
    logged: Uptime,
}

impl Shown {
    fn new(size: Size, clock: Clock) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (length, template) = match size {
                Size::Bytes(bytes) => (
                    Some(bytes),
                    "{bar:40} {percent:>3} % of {decimal_total_bytes}, {msg}, {elapsed} gone, {eta} to go",
                ),
                Size::Records(records) => {
                    (Some(records), "{bar:40} {percent:>3} % of {len} records, {msg}, {elapsed} gone, {eta} to go")
                }
                Size::Unknown => (None, "{spinner} {msg}, {elapsed} gone"),
            };
            let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let style = ProgressStyle::with_template(template).expect("the templates are written here");
            bar.with_style(style)
        });
        Self { bar, clock, logged: clock.uptime() }
    }

    fn show(&mut self, progress: &Progress) {
        let Progress { done, size, records, waits_for_registry } = *progress;
        if waits_for_registry {
            self.wait();
            return;
        }
        if let Some(bar) = &self.bar {
            if size != Size::Unknown {
                bar.set_position(done);
            }
            bar.set_message(format!("{records} records"));
            bar.tick();
            return;
        }
        let now = self.clock.uptime();
        if now.0 - self.logged.0 < LOG_EVERY_MS {
            return;
        }
        self.logged = now;
        match size {
            Size::Bytes(0) | Size::Records(0) | Size::Unknown => tracing::info!(records, "replaying"),
            Size::Bytes(total) | Size::Records(total) => {
                let percent = done.saturating_mul(100) / total;
                tracing::info!(records, percent, "replaying");
            }
        }
    }

    /// For the schema registry; the log says why, and how long.
    fn wait(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message("waiting for the schema registry");
            bar.tick();
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn json_of(summary: &Summary, arguments: &Arguments) -> serde_json::Value {
    let [sessionize, encode, fold] = summary.phases_ms;
    json!({
        "from": arguments.from,
        "to": arguments.to,
        "records": summary.records,
        "partitions": summary.partitions,
        "sessions": summary.sessions_closed(),
        "sessions_by_reason": summary.sessions,
        "revised": summary.revised,
        "provisional": summary.provisional,
        "embeddings": summary.embeddings,
        "rejected": summary.rejected(),
        "rejected_by_reason": summary.rejects,
        "duplicates": summary.duplicates,
        "erased": summary.erased,
        "customers": summary.customers,
        "open_sessions": summary.open_sessions,
        "offsets_without_record": summary.offsets_without,
        "bytes_read": summary.bytes_in,
        "bytes_embeddings": summary.bytes_embeddings,
        "bytes_sessions": summary.bytes_sessions,
        "first_event_time": summary.first_event_time,
        "last_event_time": summary.last_event_time,
        "seconds": summary.seconds,
        "events_per_second": summary.events_per_second().round(),
        "busy_ms": {
            "read": summary.read_ms, "sessionize": sessionize, "encode": encode, "fold": fold, "write": summary.write_ms,
        },
    })
}

fn text_of(summary: &Summary, arguments: &Arguments) -> String {
    let mut lines = vec![format!(
        "{} records of {} in {:.1} s: {:.0} events/s, {} read",
        summary.records,
        plural(summary.partitions as u64, "partition"),
        summary.seconds,
        summary.events_per_second(),
        bytes(summary.bytes_in)
    )];
    if let (Some(first), Some(last)) = (summary.first_event_time, summary.last_event_time) {
        lines.push(format!("events from {} to {}", moments::text(first), moments::text(last)));
    }
    let mut sessions = format!("{}{}", plural(summary.sessions_closed(), "session"), by_reason(&summary.sessions));
    for (count, word) in [(summary.revised, "revised"), (summary.provisional, "provisional")] {
        if count > 0 {
            sessions += &format!("; {count} {word}");
        }
    }
    lines.push(sessions);
    lines.push(format!(
        "{} of {} to {}, {}",
        plural(summary.embeddings, "embedding"),
        plural(summary.customers as u64, "customer"),
        arguments.to,
        bytes(summary.bytes_embeddings)
    ));
    if summary.rejected() > 0 {
        let way = if arguments.rejected.is_some() { "" } else { "; --rejected FILE keeps them" };
        lines.push(format!("rejected: {}{}{way}", plural(summary.rejected(), "record"), by_reason(&summary.rejects)));
    }
    if summary.duplicates > 0 {
        lines.push(format!("{} counted once", plural(summary.duplicates, "duplicate")));
    }
    if summary.erased > 0 {
        lines.push(format!(
            "{} on the way: a topic has their tombstones, a file still holds what came before",
            plural(summary.erased, "erasure")
        ));
    }
    if summary.open_sessions > 0 {
        let verb = if summary.open_sessions == 1 { "is" } else { "are" };
        let count = plural(summary.open_sessions as u64, "session");
        lines.push(format!("{count} {verb} still open; --close-open closes them"));
    }
    let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    let [sessionize, encode, fold] = summary.phases_ms.map(seconds);
    lines.push(format!(
        "busy: reading {}, sessions {sessionize}, encoding {encode}, folding {fold}, writing {}",
        seconds(summary.read_ms),
        seconds(summary.write_ms)
    ));
    lines.join("\n")
}

fn by_reason(counts: &std::collections::BTreeMap<&'static str, u64>) -> String {
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(reason, count)| format!("{reason} {count}")).collect();
    if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) }
}

fn plural(count: u64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}
