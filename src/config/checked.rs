//! Settings as written → [`Config`] as meant: each is read once, by its name, with its rule.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::layers::{Setting, Settings};
use super::properties::{self, Properties};
use super::{
    App, Config, ConfigError, Delivery, Encoding, Epoch, InferenceDevice, Kafka, Log, LogFormat, LogLevel,
    SessionRules, State, Topics,
};
use super::{monitor, registry};
use crate::types::{Moment, NAME_BYTES_MAX};

const COUNTS: RangeInclusive<i64> = 1..=u32::MAX as i64;
const CACHE_MB: RangeInclusive<i64> = 16..=1_048_576;
const LABELS_MAX: usize = 16;
const EPOCH_WAIT_MS_MAX: u64 = 2_000;

pub(super) fn config(settings: &Settings) -> Result<Config, ConfigError> {
    let read = Reader { settings };
    let session = session(&read)?;
    let registry = registry::registry(&read)?;
    Ok(Config {
        app: App {
            id: read.identifier("app.id")?,
            instance: read.identifier("app.instance")?,
            workers: read.count("app.workers", 1..=64)?,
        },
        kafka: kafka(&read)?,
        topics: topics(&read, session.provisional_every_events > 0)?,
        encoding: match read.text("encoding")? {
            "json" => Encoding::Json,
            "avro" => Encoding::Avro,
            "confluent" if registry.is_some() => Encoding::Confluent,
            "confluent" => return Err(read.invalid("encoding", r#""json" or "avro" while registry.url is empty"#)),
            _ => return Err(read.invalid("encoding", r#""json", "avro" or "confluent""#)),
        },
        delivery: match read.text("delivery")? {
            "exactly_once" => Delivery::ExactlyOnce,
            "at_least_once" => Delivery::AtLeastOnce,
            _ => return Err(read.invalid("delivery", r#""exactly_once" or "at_least_once""#)),
        },
        registry,
        session,
        idle_after: idle_after(&read)?,
        labels: labels(&read)?,
        epoch: Epoch {
            events_max: read.count("epoch.events_max", 1..=1_000_000)?,
            wait_max: Duration::from_millis(read.duration_ms("epoch.wait_max", EPOCH_WAIT_MS_MAX, "2s")?),
        },
        state: State {
            dir: Some(read.text("state.dir")?).filter(|dir| !dir.is_empty()).map(PathBuf::from),
            cache_bytes: read.count::<usize>("state.cache_mb", CACHE_MB)? << 20,
        },
        model_path: match read.text("model.path")? {
            "" => return Err(read.invalid("model.path", "the folder of a model bundle")),
            path => PathBuf::from(path),
        },
        inference_threads: read.count("inference.threads", 1..=256)?,
        inference_device: InferenceDevice::parse(read.text("inference.device")?).ok_or_else(|| {
            read.invalid(
                "inference.device",
                r#""cpu", "auto", or "cuda:N" with the number of a GPU, counted from 0 and at most 255, such as "cuda:0""#,
            )
        })?,
        http_listen: http_listen(&read)?,
        monitor: monitor::monitor(&read)?,
        log: log(&read)?,
    })
}

fn session(read: &Reader<'_>) -> Result<SessionRules, ConfigError> {
    let duration_ms = |key| read.duration_ms(key, Moment::DURATION_MAX, "26687997791d");
    Ok(SessionRules {
        gap_ms: duration_ms("session.gap")?,
        allowed_lateness_ms: duration_ms("session.allowed_lateness")?,
        future_max_ms: duration_ms("session.future_max")?,
        duration_max_ms: duration_ms("session.duration_max")?,
        events_max: read.count("session.events_max", COUNTS)?,
        open_max: read.count("session.open_max", COUNTS)?,
        revisable_max: read.count("session.revisable_max", COUNTS)?,
        revisions_max: read.count("session.revisions_max", COUNTS)?,
        provisional_every_events: read.count("provisional.every_events", 0..=*COUNTS.end())?,
    })
}

/// Off at 0.
fn idle_after(read: &Reader<'_>) -> Result<Option<Duration>, ConfigError> {
    const MIN: Duration = Duration::from_secs(1);
    let key = "session.idle_after";
    let idle_after = Duration::from_millis(read.duration_ms(key, Moment::DURATION_MAX, "26687997791d")?);
    if !idle_after.is_zero() && idle_after < MIN {
        return Err(read.invalid(key, r#""0s" for never, or at least "1s""#));
    }
    Ok(Some(idle_after).filter(|idle_after| !idle_after.is_zero()))
}

fn kafka(read: &Reader<'_>) -> Result<Kafka, ConfigError> {
    let bootstrap = read.text("kafka.bootstrap")?;
    if !bootstrap.split(',').all(|broker| is_host_and_port(broker.trim())) {
        return Err(read.invalid(
            "kafka.bootstrap",
            r#"host:port, several separated by commas, such as "kafka-1:9092,kafka-2:9092""#,
        ));
    }
    let mut common = Properties::default();
    read.properties_into("kafka.properties", &mut common)?;
    let mut consumer = common.clone();
    read.properties_into("kafka.consumer_properties", &mut consumer)?;
    let mut producer = common.clone();
    read.properties_into("kafka.producer_properties", &mut producer)?;
    Ok(Kafka { bootstrap: bootstrap.to_owned(), common, consumer, producer })
}

fn is_host_and_port(broker: &str) -> bool {
    let address = broker.split_once("://").map_or(broker, |(_, address)| address);
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host_ok = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
    host_ok && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn topics(read: &Reader<'_>, live: bool) -> Result<Topics, ConfigError> {
    let topics = Topics {
        clickstream: read.topic("topics.clickstream")?,
        embeddings: read.topic("topics.embeddings")?,
        embeddings_live: match read.text("topics.embeddings_live")? {
            "" if live => {
                return Err(read.invalid(
                    "topics.embeddings_live",
                    "the name of a topic while provisional.every_events is above 0",
                ));
            }
            "" => None,
            _ => Some(read.topic("topics.embeddings_live")?).filter(|_| live),
        },
        sessions: match read.text("topics.sessions")? {
            "" => None,
            _ => Some(read.topic("topics.sessions")?),
        },
        rejected: read.topic("topics.rejected")?,
        state: read.topic("topics.state")?,
    };
    let keys = ["clickstream", "embeddings", "embeddings_live", "sessions", "rejected", "state"]
        .map(|name| format!("topics.{name}"));
    for (i, key) in keys.iter().enumerate() {
        let name = read.text(key)?;
        if let Some(other) =
            keys[..i].iter().find(|other| !name.is_empty() && read.text(other).is_ok_and(|text| text == name))
        {
            return Err(read.invalid(key, format!("another topic than {other}")));
        }
    }
    Ok(topics)
}

fn labels(read: &Reader<'_>) -> Result<Vec<String>, ConfigError> {
    let key = "embedding.labels";
    let must = || format!(r#"a list of up to {LABELS_MAX} different names of attributes, such as ["country"]"#);
    let Value::Array(values) = &read.setting(key).value else { return Err(read.invalid(key, must())) };
    let mut labels: Vec<String> = Vec::new();
    for value in values {
        match value {
            Value::String(name) if !name.is_empty() && name.len() <= NAME_BYTES_MAX && !labels.contains(name) => {
                labels.push(name.clone());
            }
            _ => return Err(read.invalid(key, must())),
        }
    }
    if labels.len() > LABELS_MAX {
        return Err(read.invalid(key, must()));
    }
    Ok(labels)
}

fn http_listen(read: &Reader<'_>) -> Result<Option<SocketAddr>, ConfigError> {
    let key = "http.listen";
    match read.text(key)? {
        "off" => Ok(None),
        address => {
            match address.parse() {
                Ok(address) => Ok(Some(address)),
                Err(_) => Err(read
                    .invalid(key, r#"an IP address and a port, such as "127.0.0.1:9464" or "0.0.0.0:9464", or "off""#)),
            }
        }
    }
}

fn log(read: &Reader<'_>) -> Result<Log, ConfigError> {
    let must = r#"error, warn, info, debug, trace or off, then parts with theirs, such as "info,rdkafka=warn""#;
    let mut parts = read.text("log.level")?.split(',').map(str::trim);
    let level = parts.next().and_then(log_level).ok_or_else(|| read.invalid("log.level", must))?;
    let mut targets = Vec::new();
    for part in parts {
        match part.split_once('=').map(|(target, level)| (target.trim(), log_level(level.trim()))) {
            Some((target, Some(level))) if !target.is_empty() => targets.push((target.to_owned(), level)),
            Some(_) | None => return Err(read.invalid("log.level", must)),
        }
    }
    let format = match read.text("log.format")? {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => return Err(read.invalid("log.format", r#""text" or "json""#)),
    };
    Ok(Log { level, targets, format })
}

fn log_level(word: &str) -> Option<LogLevel> {
    match word {
        "off" => Some(LogLevel::Off),
        "error" => Some(LogLevel::Error),
        "warn" => Some(LogLevel::Warn),
        "info" => Some(LogLevel::Info),
        "debug" => Some(LogLevel::Debug),
        "trace" => Some(LogLevel::Trace),
        _ => None,
    }
}

/// Reads settings by their names. A name that `deploy/default.toml` lacks is our mistake, found by any test.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
}

impl<'a> Reader<'a> {
    pub(super) fn setting(&self, key: &str) -> &'a Setting {
        self.settings.get(key).unwrap_or_else(|| panic!("deploy/default.toml lacks {key}"))
    }

    pub(super) fn invalid(&self, key: &str, must: impl Into<String>) -> ConfigError {
        invalid(self.setting(key), must)
    }

    pub(super) fn text(&self, key: &str) -> Result<&'a str, ConfigError> {
        self.setting(key).value.as_str().ok_or_else(|| self.invalid(key, "text in quotes"))
    }

    pub(super) fn truth(&self, key: &str) -> Result<bool, ConfigError> {
        self.setting(key).value.as_bool().ok_or_else(|| self.invalid(key, "true or false, without quotes"))
    }

    pub(super) fn count<N: TryFrom<i64>>(&self, key: &str, range: RangeInclusive<i64>) -> Result<N, ConfigError> {
        let value = self.setting(key).value.as_integer().filter(|value| range.contains(value));
        value
            .and_then(|value| N::try_from(value).ok())
            .ok_or_else(|| self.invalid(key, format!("a whole number from {} to {}", range.start(), range.end())))
    }

    /// `max_text` is how `max` is said to people.
    pub(super) fn duration_ms(&self, key: &str, max: u64, max_text: &str) -> Result<u64, ConfigError> {
        let text = self.setting(key).value.as_str();
        let Some(ms) = text.and_then(parse_duration_ms) else {
            return Err(self.invalid(key, r#"a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s""#));
        };
        if ms > max {
            return Err(self.invalid(key, format!("at most {max_text}")));
        }
        Ok(ms)
    }

    /// Part of a group instance id: of what Kafka allows there, and short enough for two of them, a hyphen and a worker's number.
    fn identifier(&self, key: &str) -> Result<String, ConfigError> {
        const LEN_MAX: usize = 120;
        let text = self.text(key)?;
        if text.is_empty() || text.len() > LEN_MAX || !text.bytes().all(is_kafka_name) {
            return Err(self.invalid(key, format!("1 to {LEN_MAX} of: letters, digits, '.', '_', '-'")));
        }
        Ok(text.to_owned())
    }

    pub(super) fn topic(&self, key: &str) -> Result<String, ConfigError> {
        const LEN_MAX: usize = 249;
        let text = self.text(key)?;
        if text.is_empty() || text.len() > LEN_MAX || text == "." || text == ".." || !text.bytes().all(is_kafka_name) {
            return Err(
                self.invalid(key, format!("the name of a topic: 1 to {LEN_MAX} of letters, digits, '.', '_', '-'"))
            );
        }
        Ok(text.to_owned())
    }

    fn properties_into(&self, table: &str, properties: &mut Properties) -> Result<(), ConfigError> {
        for setting in self.settings.iter() {
            let Some(key) = setting.key.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')) else { continue };
            if let Some(why) = properties::owned_because(key) {
                return Err(invalid(setting, format!("left to dce: {why}")));
            }
            let value = match &setting.value {
                Value::String(text) => text.clone(),
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Boolean(truth) => truth.to_string(),
                Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                    return Err(invalid(setting, "text, a number, true or false"));
                }
            };
            if key == "session.timeout.ms"
                && value.parse::<u64>().is_ok_and(|ms| ms < properties::SESSION_TIMEOUT_MS_MIN)
            {
                return Err(invalid(
                    setting,
                    format!("{} or more, above the transaction's time-out", properties::SESSION_TIMEOUT_MS_MIN),
                ));
            }
            properties.insert(key, value);
        }
        Ok(())
    }
}

fn invalid(setting: &Setting, must: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        key: setting.key.clone(),
        value: setting.shown(),
        origin: setting.origin.clone(),
        must: must.into(),
    }
}

fn is_kafka_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// `30s`, `10 ms`: a whole number and a unit.
fn parse_duration_ms(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim_start_matches(' ') {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_ms)
}
