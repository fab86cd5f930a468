//! `dce replay` without a broker: its results against the sessionizer's, its formats against each other, hostile files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use dce::config::SessionRules;
use dce::files::clicks::{Reader, Writer};
use dce::files::table::{self, Target};
use dce::files::{FileError, Format, Place};
use dce::model::fake::FakeModel;
use dce::registry::Resolver;
use dce::replay::{self, Input, Outputs, ReplayError, Settings, Sink, Summary, Watch};
use dce::stop::Stop;
use dce::telemetry::Clock;
use dce::types::Position;
use dce::wire::avro::Schemas;
use dce::wire::click;
use dce::wire::embedding::{CustomerEmbedding, SessionSummary};
use dce::wire::row::Row;
use serde_json::Value;

use crate::streams::{Click, pauses, rng, shuffled, stream, wide_rules};

mod results;
mod formats;
mod hostile;
mod command;

/// The names of all formats.
const FORMATS: [&str; 4] = ["ndjson", "ndjson.zst", "avro", "parquet"];

/// A folder of one test, removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let name = format!("replay-{}-{}", std::process::id(), FOLDERS.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.0).unwrap().map(|file| file.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn place(path: &Path) -> Place {
    Place::parse(path.to_str().unwrap()).unwrap()
}

fn target(path: &Path) -> Result<Target, FileError> {
    Target::file(path, Format::of(path).unwrap(), false)
}

fn settings(rules: &SessionRules) -> Settings {
    Settings { rules: rules.clone(), labels: vec!["amount".into()], epoch_events: 20_000, close_open: false }
}

/// Replays a file into `NAME-embeddings.FORMAT`, `NAME-sessions.FORMAT` and `NAME-rejected.ndjson` of the folder.
fn replay(
    folder: &Folder,
    input: &Path,
    name: &str,
    format: &str,
    settings: &Settings,
) -> Result<Summary, ReplayError> {
    let mut resolver = Resolver::new(None).unwrap();
    let input = Input::File(Reader::open(&place(input), resolver.schemas_mut()).map_err(replay::InputError::from)?);
    let file = |kind: &str| folder.path(&format!("{name}-{kind}"));
    let embeddings =
        target(&file(&format!("embeddings.{format}"))).and_then(table::Writer::create::<CustomerEmbedding>);
    let sessions = target(&file(&format!("sessions.{format}"))).and_then(table::Writer::create::<SessionSummary>);
    let rejected = target(&file("rejected.ndjson")).and_then(table::Writer::create::<SessionSummary>);
    let outputs = Outputs {
        embeddings: Sink::File(Box::new(embeddings.unwrap())),
        sessions: Sink::File(Box::new(sessions.unwrap())),
        rejected: Some(Box::new(rejected.unwrap())),
    };
    let stop = Stop::new();
    let watch = Watch { clock: Clock::start(), stop: &stop, progress: &mut |_| () };
    replay::run(settings, &mut FakeModel::small(), &mut resolver, input, outputs, watch)
}

/// All that a replay gives, in its order, without `emitted_at`.
#[derive(Debug, Clone, PartialEq)]
struct Results {
    embeddings: Vec<Value>,
    sessions: Vec<Value>,
    rejected: Vec<Value>,
}

fn results(folder: &Folder, name: &str) -> Results {
    let mut results = Results {
        embeddings: lines(&folder.path(&format!("{name}-embeddings.ndjson"))),
        sessions: lines(&folder.path(&format!("{name}-sessions.ndjson"))),
        rejected: lines(&folder.path(&format!("{name}-rejected.ndjson"))),
    };
    for record in &mut results.embeddings {
        record.as_object_mut().unwrap().remove("emitted_at").unwrap();
    }
    results
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Clicks of a random stream, out of order and some of them twice, as rows of two partitions by customer; now and then a
/// record beside the point.
fn dirty_rows(seed: u64, count: usize) -> (Vec<Click>, Vec<Row<'static>>) {
    let mut rng = rng(seed);
    let clicks = stream(&mut rng, count, pauses);
    let clicks = shuffled(&mut rng, &clicks, 30_000);
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let rows = clicks.iter().map(|click| {
        let partition = partition_of(&click.customer);
        let next = next.entry(partition).or_default();
        *next += 1;
        Row {
            input: Some(click::Input::Click(owned(&click.event()))),
            position: Some(Position { partition, offset: *next * 3 }),
            record_time: Some(click.time + 5),
            key: Some(click.customer.clone().into()),
        }
    });
    let rows = rows.collect();
    (clicks, rows)
}

fn partition_of(customer: &str) -> i32 {
    i32::from(customer.ends_with('1'))
}

fn owned(event: &click::ClickEvent<'_>) -> click::ClickEvent<'static> {
    let text = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
    let optional = |text: &Option<Cow<'_, str>>| text.clone().map(|text| Cow::Owned(text.into_owned()));
    click::ClickEvent {
        event_id: text(&event.event_id),
        customer_id: optional(&event.customer_id),
        event_time: event.event_time,
        kind: event.kind,
        name: text(&event.name),
        channel: optional(&event.channel),
        session_id: optional(&event.session_id),
        device_id: optional(&event.device_id),
        context: event.context.iter().map(|(name, number)| (text(name), *number)).collect(),
        attributes: event.attributes.iter().map(|(name, label)| (text(name), text(label))).collect(),
    }
}

fn write_rows(folder: &Folder, name: &str, rows: &[Row<'_>]) -> PathBuf {
    let path = folder.path(name);
    let mut writer = Writer::create(&path, Format::of(&path).unwrap(), false).unwrap();
    for row in rows {
        writer.write(row).unwrap();
    }
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes, std::fs::metadata(&path).unwrap().len(), "{name}");
    path
}

/// Rules whose limits are reached all the time.
fn tight_rules(seed: u64) -> SessionRules {
    SessionRules {
        duration_max_ms: 40_000,
        events_max: 4,
        open_max: 2,
        revisable_max: 3,
        revisions_max: 5,
        provisional_every_events: (seed % 4) as usize,
        ..wide_rules()
    }
}

/// As the tests of the wire have it: the first use of apache-avro in a process sets how much it may take for broken lengths,
/// and its blocks must be smaller than that.
fn limit_the_oracle() {
    apache_avro::util::max_allocation_bytes(1 << 16);
}
