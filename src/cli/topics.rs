//! `dce topics`: the topics of the settings as they are, beside what they should be, and `dce topics create` for those that
//! are missing. What is there is never changed: it is somebody's.

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::paint::{self, Colour, paint, thousands};
use super::{Frame, Told, WrongUse};
use crate::config::Config;
use crate::kafka::admin::{Admin, TopicFacts};
use crate::kafka::client::ClientSettings;
use crate::kafka::conform::{self, Deviation, Level, Needs, Role, Span};
use crate::kafka::topics;

/// How long the broker may take for one question.
const WAIT: Duration = Duration::from_secs(15);
/// Of a clickstream that is made anew, where nobody says.
const NEW_PARTITIONS: usize = 4;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dce topics                              show what is there and what deviates\n  \
    dce topics create --dry-run             say what would be made\n  \
    dce topics create --partitions 12 --replication 3\n\nExit code: 0 all is as it should be, 1 something is wrong or missing.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<TopicsCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum TopicsCommand {
    /// Show each topic of the settings, and what is not as it should be (this is what `dce topics` does).
    Describe,
    /// Make the topics that are missing, the monitor's too; those that are there stay as they are.
    #[command(after_help = "The monitor's topics get one partition each. Of the others the numbers of \
        partitions must be equal: new topics get the clickstream's number where it is there, else --partitions, else that of the outputs that are there, else 4.\nExamples:\n  dce topics create --dry-run\n  \
        dce topics create --partitions 12 --replication 3")]
    Create(Create),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Partitions of a new clickstream, and with it of all the pipeline's [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: Option<u32>,
    /// Copies of each partition [default: the broker's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100))]
    replication: Option<i32>,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    let client = ClientSettings::from(&config.kafka);
    let survey = Survey::make(&config, &client, WAIT)?;
    match &arguments.command {
        None | Some(TopicsCommand::Describe) => survey.describe(frame),
        Some(TopicsCommand::Create(create)) => survey.create(create, &config, &client, frame),
    }
}

/// One topic of the settings.
struct Found {
    role: Role,
    name: String,
    /// `None` where there is no such topic.
    facts: Option<TopicFacts>,
    deviations: Vec<Deviation>,
}

struct Survey {
    bootstrap: String,
    topics: Vec<Found>,
}

impl Survey {
    fn make(config: &Config, client: &ClientSettings, wait: Duration) -> anyhow::Result<Self> {
        let admin = Admin::new(client)?;
        let cluster = admin.cluster(wait)?;
        let mut topics = Vec::new();
        for (role, name) in Role::of(&config.topics).into_iter().chain(Role::of_monitor(&config.monitor.topics)) {
            topics.push(Found { role, name: name.to_owned(), facts: admin.topic(name, wait)?, deviations: Vec::new() });
        }
        let needs = needs(config, client, cluster.brokers.len(), partitions_of_input(&topics));
        for found in &mut topics {
            if let Some(facts) = &found.facts {
                found.deviations = conform::deviations(found.role, facts, &needs);
            }
        }
        Ok(Self { bootstrap: client.bootstrap.clone(), topics })
    }

    fn describe(&self, frame: &Frame) -> anyhow::Result<()> {
        let mut out = frame.output.lock();
        if frame.json {
            for found in &self.topics {
                writeln!(out, "{}", row(found))?;
            }
        } else {
            print_table(&mut out, &self.topics)?;
            let of_monitor = |found: &&Found| self.has_monitor() || !found.role.is_of_monitor();
            print_deviations(&mut out, self.topics.iter().filter(of_monitor), paint::colours(frame))?;
        }
        out.flush()?;
        let wrong = |found: &Found| match found.facts {
            Some(_) => found.deviations.iter().any(|deviation| deviation.level == Level::Wrong),
            None => self.has_monitor() || !found.role.is_of_monitor(),
        };
        if self.topics.iter().any(wrong) { Err(Told.into()) } else { Ok(()) }
    }

    /// Not everybody runs one.
    fn has_monitor(&self) -> bool {
        self.topics.iter().any(|found| found.role.is_of_monitor() && found.facts.is_some())
    }

    fn create(&self, create: &Create, config: &Config, client: &ClientSettings, frame: &Frame) -> anyhow::Result<()> {
        let partitions = self.partitions(create)?;
        let specs: Vec<topics::TopicSpec> = self
            .topics
            .iter()
            .filter(|found| found.facts.is_none())
            .map(|found| found.role.spec(&found.name, partitions, create.replication, config.session.future_max_ms))
            .collect();
        let created = if create.dry_run || specs.is_empty() {
            Vec::new()
        } else {
            topics::create(client, &specs, WAIT).with_context(|| format!("creating topics on {}", self.bootstrap))?
        };
        let mut out = frame.output.lock();
        let mut wrong = false;
        for found in &self.topics {
            wrong |= found.deviations.iter().any(|deviation| deviation.level == Level::Wrong);
            let spec = specs.iter().find(|spec| spec.name == found.name);
            let action = match spec {
                None => "exists",
                Some(_) if create.dry_run => "would create",
                Some(_) if created.contains(&found.name) => "created",
                // Another one was faster.
                Some(_) => "exists",
            };
            if frame.json {
                let mut row = row(found);
                row["action"] = json!(action.replace(' ', "_"));
                if let Some(spec) = spec {
                    row["partitions"] = json!(spec.partitions);
                    row["settings"] = settings_json(spec.settings.iter().map(|(key, value)| (*key, value.as_str())));
                }
                writeln!(out, "{row}")?;
                continue;
            }
            match spec {
                Some(spec) => {
                    let settings: Vec<String> =
                        spec.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
                    writeln!(
                        out,
                        "{action:<13} {} with {} partition{}, {}",
                        found.name,
                        spec.partitions,
                        if spec.partitions == 1 { "" } else { "s" },
                        settings.join(", ")
                    )?;
                }
                None => writeln!(out, "{action:<13} {}, not touched", found.name)?,
            }
        }
        if !frame.json {
            print_deviations(
                &mut out,
                self.topics.iter().filter(|found| found.facts.is_some()),
                paint::colours(frame),
            )?;
        }
        out.flush()?;
        if wrong { Err(Told.into()) } else { Ok(()) }
    }

    /// Of the topics to be made.
    fn partitions(&self, create: &Create) -> anyhow::Result<usize> {
        let wanted = create.partitions.map(|partitions| partitions as usize);
        let input = partitions_of_input(&self.topics);
        if let (Some(input), Some(wanted)) = (input, wanted)
            && input != wanted
        {
            return Err(WrongUse(format!(
                "--partitions {wanted}: the clickstream has {input} already, and every topic must have as many; leave it out"
            ))
            .into());
        }
        let outputs = self.topics.iter().filter(|found| !found.role.is_of_monitor());
        let mut outputs: Vec<usize> =
            outputs.filter_map(|found| found.facts.as_ref()).map(|facts| facts.partitions).collect();
        outputs.dedup();
        let of_outputs = if let [one] = outputs.as_slice() { Some(*one) } else { None };
        Ok(input.or(wanted).or(of_outputs).unwrap_or(NEW_PARTITIONS))
    }
}

/// What is asked of topics, for `dce check` too.
pub(super) fn needs<'a>(
    config: &Config,
    client: &'a ClientSettings,
    brokers: usize,
    partitions: Option<usize>,
) -> Needs<'a> {
    const DEFAULT: i64 = 1_000_000;
    let record_bytes_max = client.producer.get("message.max.bytes").and_then(|bytes| bytes.parse().ok());
    Needs {
        bootstrap: &client.bootstrap,
        brokers,
        partitions,
        future_max_ms: config.session.future_max_ms,
        kept_ms: config.session.kept_ms(),
        record_bytes_max: record_bytes_max.unwrap_or(DEFAULT),
    }
}

fn partitions_of_input(topics: &[Found]) -> Option<usize> {
    let input = topics.iter().find(|found| found.role.is_input())?;
    input.facts.as_ref().map(|facts| facts.partitions)
}

/// The settings that matter here, in the order of the table.
const SHOWN: [&str; 9] = [
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "min.compaction.lag.ms",
    "message.timestamp.type",
    "message.timestamp.after.max.ms",
    "max.message.bytes",
    "min.insync.replicas",
    "segment.ms",
];

fn row(found: &Found) -> Value {
    let deviations: Vec<Value> = found
        .deviations
        .iter()
        .map(|deviation| json!({"level": level(deviation.level), "found": deviation.found, "fix": deviation.fix}))
        .collect();
    let mut row = json!({
        "topic": found.name, "role": found.role.as_str(), "exists": found.facts.is_some(), "deviations": deviations,
    });
    if let Some(facts) = &found.facts {
        row["partitions"] = json!(facts.partitions);
        row["replication"] = json!(facts.replication);
        row["in_sync"] = json!(facts.in_sync);
        row["records"] = json!(facts.records.as_ref().ok());
        let shown = SHOWN.iter().filter(|key| !facts.setting(key).is_empty());
        row["settings"] = settings_json(shown.map(|key| (*key, facts.setting(key))));
    }
    row
}

fn settings_json<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    Value::Object(settings.map(|(key, value)| (key.to_owned(), json!(value))).collect())
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Look => "look",
        Level::Wrong => "wrong",
    }
}

fn print_table(out: &mut impl Write, topics: &[Found]) -> std::io::Result<()> {
    const HEAD: [&str; 9] =
        ["TOPIC", "ROLE", "PARTITIONS", "COPIES", "CLEAN-UP", "KEPT", "TIMESTAMPS", "RECORD MAX", "RECORDS"];
    let mut rows: Vec<[String; 9]> = vec![HEAD.map(str::to_owned)];
    rows.extend(topics.iter().map(cells));
    let widths: Vec<usize> =
        (0..HEAD.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Numbers to the right.
            line += &match column {
                2 | 3 | 7 | 8 => format!("{cell:>width$}  "),
                _ => format!("{cell:<width$}  "),
            };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn cells(found: &Found) -> [String; 9] {
    let (name, role) = (found.name.clone(), found.role.as_str().to_owned());
    let Some(facts) = &found.facts else {
        return [&name, &role, "-", "-", "missing", "-", "-", "-", "-"].map(str::to_owned);
    };
    let or_dash = |text: &str| if text.is_empty() { "?".to_owned() } else { text.to_owned() };
    [
        name,
        role,
        facts.partitions.to_string(),
        facts.replication.to_string(),
        clean_up(facts),
        kept(facts),
        timestamps(facts),
        or_dash(facts.setting("max.message.bytes")),
        facts.records.as_ref().map_or_else(|_| "?".to_owned(), |records| thousands(*records)),
    ]
}

fn clean_up(facts: &TopicFacts) -> String {
    let policy = facts.setting("cleanup.policy");
    match facts.number("min.compaction.lag.ms").and_then(|ms| u64::try_from(ms).ok()) {
        _ if policy.is_empty() => "?".to_owned(),
        Some(ms) if policy.contains("compact") => format!("{policy} after {}", Span(ms)),
        Some(_) | None => policy.to_owned(),
    }
}

fn kept(facts: &TopicFacts) -> String {
    if !facts.setting("cleanup.policy").contains("delete") {
        return if facts.settings.is_ok() { "the newest".to_owned() } else { "?".to_owned() };
    }
    let time = facts.number("retention.ms").and_then(|ms| u64::try_from(ms).ok()).map(|ms| Span(ms).to_string());
    let bytes = facts.number("retention.bytes").filter(|bytes| *bytes >= 0).map(|bytes| format!("{bytes} B"));
    match (time, bytes) {
        (None, None) => "for ever".to_owned(),
        (Some(one), None) | (None, Some(one)) => one,
        (Some(time), Some(bytes)) => format!("{time}, {bytes}"),
    }
}

fn timestamps(facts: &TopicFacts) -> String {
    /// No bound: Kafka's default is the largest number.
    const NONE_MS: i64 = i64::MAX / 2;
    match facts.setting("message.timestamp.type") {
        "" => "?".to_owned(),
        "CreateTime" => match facts.number("message.timestamp.after.max.ms").filter(|ms| *ms < NONE_MS) {
            Some(ms) => format!("CreateTime + {}", Span(u64::try_from(ms).unwrap_or(0))),
            None => "CreateTime".to_owned(),
        },
        other => other.to_owned(),
    }
}

fn print_deviations<'a>(
    out: &mut impl Write,
    topics: impl IntoIterator<Item = &'a Found>,
    colours: bool,
) -> std::io::Result<()> {
    let mut is_first = true;
    let mut say = |out: &mut dyn Write, level: Level, name: &str, found: &str, fix: &str| -> std::io::Result<()> {
        if std::mem::replace(&mut is_first, false) {
            writeln!(out)?;
        }
        let (sign, colour) = match level {
            Level::Look => ("!", Colour::Yellow),
            Level::Wrong => ("✘", Colour::Red),
        };
        writeln!(out, "{} {name}: {found}", paint(colours, colour, sign))?;
        writeln!(out, "    → {fix}")
    };
    for found in topics {
        if found.facts.is_none() {
            say(out, Level::Wrong, &found.name, "does not exist", "dce topics create")?;
        }
        for deviation in &found.deviations {
            say(out, deviation.level, &found.name, &deviation.found, &deviation.fix)?;
        }
    }
    Ok(())
}
