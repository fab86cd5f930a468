//! Configuration: `deploy/default.toml` + file + environment + `--set` → settings as written → checked structs as meant.
//! Takes [`Layers`], gives [`Config`], of which each part goes to who needs it. An error names the setting, its value,
//! the rule, and the layer that it came from. There are no `Default`s: every value stands in `deploy/default.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

mod device;
mod checked;
mod layers;
mod registry;
mod monitor;
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod settings_tests;

pub use device::InferenceDevice;
pub use layers::{ConfigFile, FlagSetting, Layers, Origin, Setting, Settings, environment, variable_of};
pub use properties::Properties;

/// Every setting, commented, with its default.
pub const DEFAULT_TOML: &str = include_str!("../../deploy/default.toml");

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub app: App,
    pub kafka: Kafka,
    pub topics: Topics,
    pub encoding: Encoding,
    pub delivery: Delivery,
    /// `None` where there is none.
    pub registry: Option<Registry>,
    pub session: SessionRules,
    /// Of an input partition: silent for so long, its time is moved on. `None`: never.
    pub idle_after: Option<Duration>,
    /// Names of the attributes that become labels; distinct, none empty.
    pub labels: Vec<String>,
    pub epoch: Epoch,
    pub state: State,
    /// The model bundle's folder. Whether it is there, its reader says.
    pub model_path: PathBuf,
    /// 1 or more.
    pub inference_threads: usize,
    pub inference_device: InferenceDevice,
    /// Where the endpoints answer; `None` is off.
    pub http_listen: Option<SocketAddr>,
    pub monitor: Monitor,
    pub log: Log,
}

impl Config {
    pub fn load(layers: &Layers) -> Result<Self, ConfigError> {
        checked::config(&Settings::merge(layers)?)
    }
}

/// Names of this deployment and this worker at the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    pub id: String,
    pub instance: String,
    /// In this process: 1 or more.
    pub workers: usize,
}

impl App {
    /// `group.id` of the main job.
    pub fn group_id(&self) -> &str {
        &self.id
    }

    /// Which worker of the deployment a worker of this process is, counted from 0; the first is the instance itself, so that
    /// nothing is renamed where a second one is added.
    pub fn slot(&self, worker: usize) -> String {
        if worker == 0 { self.instance.clone() } else { format!("{}-w{worker}", self.instance) }
    }

    /// `group.instance.id`: at most 245 characters that Kafka allows there.
    pub fn group_instance_id(&self, worker: usize) -> String {
        format!("{}-{}", self.id, self.slot(worker))
    }

    pub fn transactional_id(&self, worker: usize) -> String {
        format!("{}-{}", self.id, self.slot(worker))
    }
}

/// How brokers are reached. Precedence in a client: what `dce` tunes < these < what `dce` owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `bootstrap.servers`.
    pub bootstrap: String,
    /// For clients that are neither: administration, metadata.
    pub common: Properties,
    /// For consumers; `common` is contained.
    pub consumer: Properties,
    /// For producers; `common` is contained.
    pub producer: Properties,
}

/// Names of topics, all different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    pub clickstream: String,
    pub embeddings: String,
    /// Written where provisional embeddings are wanted alone.
    pub embeddings_live: Option<String>,
    pub sessions: Option<String>,
    pub rejected: String,
    /// The log of the state.
    pub state: String,
}

impl Topics {
    /// All that the main job writes.
    pub fn written(&self) -> Vec<&str> {
        let mut names = vec![self.embeddings.as_str()];
        names.extend(self.embeddings_live.as_deref());
        names.extend(self.sessions.as_deref());
        names.extend([self.rejected.as_str(), &self.state]);
        names
    }
}

/// The rules of sessions. Durations in milliseconds, at most [`crate::types::Moment::DURATION_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRules {
    /// Silence that ends a session.
    pub gap_ms: u64,
    /// How long, in stream time, a closed session can still be completed.
    pub allowed_lateness_ms: u64,
    /// How far an event time may lie beyond its record's timestamp.
    pub future_max_ms: u64,
    pub duration_max_ms: u64,
    /// The four counts are 1 or more.
    pub events_max: usize,
    pub open_max: usize,
    pub revisable_max: usize,
    pub revisions_max: u32,
    /// An embedding after every so many events of an open session; 0 is never.
    pub provisional_every_events: usize,
}

impl SessionRules {
    /// How long the input must be kept, in milliseconds. After a crash the log of the state lacks, of a session that goes on
    /// for long, up to half of what it got; a day is for whoever mends what crashed.
    pub fn kept_ms(&self) -> u64 {
        const DAY_MS: u64 = 86_400_000;
        self.duration_max_ms.saturating_add(DAY_MS)
    }
}

/// How the bytes of the outputs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Json,
    /// Avro single-object encoding.
    Avro,
    /// Avro framed by a schema registry's ids; there is a [`Registry`] then.
    Confluent,
}

/// How a schema registry is reached, and where our schemas stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// One to five, without a slash at the end.
    pub urls: Vec<String>,
    pub login: Option<Login>,
    /// Trusted instead of the system's certificates.
    pub ca_file: Option<PathBuf>,
    pub subject_strategy: SubjectStrategy,
    /// Our schemas are registered; else they must be there.
    pub register: bool,
    /// Of one request.
    pub timeout: Duration,
}

/// The password is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a schema's subject is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectStrategy {
    /// `<topic>-value`
    TopicName,
    /// The record's full name.
    RecordName,
    /// `<topic>-<full name>`
    TopicRecordName,
}

impl SubjectStrategy {
    pub fn subject(self, topic: &str, record: &str) -> String {
        match self {
            Self::TopicName => format!("{topic}-value"),
            Self::RecordName => record.to_owned(),
            Self::TopicRecordName => format!("{topic}-{record}"),
        }
    }
}

/// What a crash does to the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Outputs and input offsets commit in one transaction: nothing is lost, nothing comes twice.
    ExactlyOnce,
    /// Outputs are acknowledged, then offsets are committed: what was written in between comes again.
    AtLeastOnce,
}

/// How much goes into one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// 1 or more.
    pub events_max: usize,
    pub wait_max: Duration,
}

/// Where the customers at rest are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Of the local store; `None`: all are in memory.
    pub dir: Option<PathBuf>,
    /// What of the local store's customers is kept in memory, in bytes.
    pub cache_bytes: usize,
}

/// The sidecar that watches how far embeddings move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// A part of an hour.
    pub window: Duration,
    /// How long after its end a window takes records.
    pub lateness: Duration,
    /// At most one false alarm in so long is wanted, over all segments.
    pub false_alarm_every: Duration,
    /// Beside that of all customers.
    pub segments_max: usize,
    /// Of the page; `None` is off.
    pub listen: Option<SocketAddr>,
    /// The page, as people reach it.
    pub link: Option<String>,
    pub alertmanagers: Vec<String>,
    pub webhook: Option<String>,
    pub topics: DriftTopics,
}

impl Monitor {
    /// `group.id` of the monitors of a deployment; the beginning of their transactional id too.
    pub fn group_id(&self, app: &str) -> String {
        format!("{app}-monitor")
    }
}

/// What the monitor writes; names different from each other and from the main job's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftTopics {
    pub windows: String,
    pub alerts: String,
    /// Of one partition: whoever owns it in the group is the active monitor.
    pub references: String,
    pub customers: String,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    /// By the part of the program (`rdkafka`, `dce::http`); these win over `level`.
    pub targets: Vec<(String, LogLevel)>,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What is wrong with the configuration: always the user's to fix.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("configuration file {name} cannot be read")]
    Read { name: String, source: std::io::Error },
    #[error("{place}: not TOML: {why}")]
    Syntax { place: String, why: String },
    #[error("{key} (from {origin}): no such setting{}", did_you_mean(suggestion.as_deref()))]
    Unknown { key: String, origin: Origin, suggestion: Option<String> },
    #[error("{key} = {value} (from {origin}): must be {must}")]
    Invalid { key: String, value: String, origin: Origin, must: String },
    #[error("--set {text}: must be section.key=value, such as session.gap=20m")]
    SetForm { text: String },
    #[error("environment variable {name}: is not UTF-8")]
    EnvironmentText { name: String },
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(key) => format!("; did you mean {key}?"),
        None => "; `dce config` prints all".to_owned(),
    }
}
