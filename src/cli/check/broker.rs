//! Whether a broker answers, what it allows, and then all that depends on it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::{Report, Row};
use super::{group, monitor, rights, topics, transactions};
use crate::config::Config;
use crate::kafka::admin::{Admin, Cluster};
use crate::kafka::client::{ClientSettings, TRANSACTION_TIMEOUT};
use crate::kafka::topics::TopicError;
use crate::model::onnx::OnnxModel;

/// What the group's members ask for.
const SESSION_TIMEOUT_MS: i64 = 10_000;

/// What is asked of a broker that is away.
const ALL: [&str; 15] = [
    "broker",
    "limits",
    "version",
    "topics",
    "partitions",
    "timestamps",
    "retention",
    "clean-up",
    "copies",
    "sizes",
    "rights",
    "transactions",
    "group",
    "progress",
    "clock",
];

/// Nothing of it can be checked.
pub(super) fn unchecked(report: &mut Report, why: &str) {
    for what in ALL {
        report.add(Row::not_checked(what, why));
    }
}

pub(super) fn check(
    report: &mut Report,
    config: &Config,
    settings: &ClientSettings,
    model: Option<&OnnxModel>,
    wait: Duration,
) {
    let asked = Admin::new(settings).and_then(|admin| admin.cluster(wait).map(|cluster| (admin, cluster)));
    let (admin, cluster) = match asked {
        Ok(found) => found,
        Err(error) => {
            report.add(away(&error));
            for what in &ALL[1..] {
                report.add(Row::not_checked(what, "broker away"));
            }
            return;
        }
    };
    report.add(Row::right("broker", reached(settings, &cluster)));
    let told = told(&admin, &cluster, wait);
    report.add(limits_row(&admin, &cluster, told.as_ref(), wait));
    report.add(version_row(told.as_ref().ok()));
    let found = topics::check(report, config, settings, &admin, &cluster, wait);
    rights::check(report, config, settings, &admin, wait);
    monitor::check(report, config, settings, &admin, &cluster, wait);
    report.add(transactions::row(config, settings, &admin, wait));
    group::check(report, config, settings, &admin, model, found.as_ref(), wait);
}

fn reached(settings: &ClientSettings, cluster: &Cluster) -> String {
    let brokers: Vec<&str> = cluster.brokers.iter().map(|(_, address)| address.as_str()).collect();
    let count = if brokers.len() == 1 { "1 broker".to_owned() } else { format!("{} brokers", brokers.len()) };
    let ms = cluster.answered_in.as_millis();
    format!("{} answered in {ms} ms: {count} ({})", settings.bootstrap, brokers.join(", "))
}

fn away(error: &TopicError) -> Row {
    const WHAT: &str = "broker";
    match error {
        TopicError::Unreachable { bootstrap, waited, why } => {
            let why = why.as_deref().unwrap_or("no error was told");
            // How long librdkafka was in which state, and how often, says nothing to anybody here.
            let why = why.split_once(" (after ").map_or(why, |(why, _)| why.trim_end());
            let found = format!("none answered at {bootstrap} within {:.1} s: {why}", waited.as_secs_f32());
            Row::wrong(WHAT, found, fix_of(why))
        }
        TopicError::Client(_) => {
            Row::wrong(WHAT, error.to_string(), "correct [kafka.properties]: librdkafka does not take it")
        }
        TopicError::Missing { .. } | TopicError::PartitionCounts { .. } | TopicError::Refused { .. } => {
            Row::wrong(WHAT, error.to_string(), "see the broker's log")
        }
    }
}

/// By what librdkafka says of the connection.
fn fix_of(why: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| why.to_ascii_lowercase().contains(&word.to_ascii_lowercase()));
    if says(&["authentication failed", "invalid credentials", "SaslAuthenticate"]) {
        "the broker refuses user or password: correct sasl.username in [kafka.properties] and \
         DCE_KAFKA__PROPERTIES__SASL_PASSWORD"
    } else if says(&["sasl"]) {
        "this listener may have no SASL, or another mechanism: correct security.protocol and sasl.mechanism in \
         [kafka.properties], or the port in kafka.bootstrap"
    } else if says(&["ssl", "tls", "certificate"]) {
        "correct security.protocol and the ssl.* settings in [kafka.properties], or the port in kafka.bootstrap"
    } else if says(&["resolve"]) {
        "correct the host's name in kafka.bootstrap"
    } else if says(&["verify that security.protocol", "disconnected"]) {
        "the listener may want TLS or SASL: set security.protocol in [kafka.properties], or the port in kafka.bootstrap"
    } else {
        "start it, or set kafka.bootstrap to where it is"
    }
}

/// The first broker's settings, or why they are not known.
fn told(admin: &Admin, cluster: &Cluster, wait: Duration) -> Result<BTreeMap<String, String>, String> {
    let Some((id, _)) = cluster.brokers.first() else { return Err("the cluster names no broker".to_owned()) };
    admin.broker(*id, wait).map_err(|why| format!("broker {id} does not tell its settings: {why}"))
}

/// Whether brokers are new enough that no transaction is left hanging by a record that comes late (the first part of
/// KIP-890). The second part, transaction.version 2, asks for a client that librdkafka is not yet.
fn version_row(told: Option<&BTreeMap<String, String>>) -> Row {
    const WHAT: &str = "version";
    const SETTING: &str = "transaction.partition.verification.enable";
    let Some(told) = told else { return Row::not_checked(WHAT, "the broker does not tell its settings") };
    match told.get(SETTING).map(String::as_str) {
        Some("true") => Row::right(WHAT, "3.6 or later: records of a transaction that has ended are refused (KIP-890)"),
        Some(_) => Row::look(
            WHAT,
            format!("{SETTING} is off: a record that comes late can leave a transaction open for ever"),
            format!("set {SETTING}=true on the brokers"),
        ),
        None => Row::look(
            WHAT,
            "before 3.6: a record that comes late can leave a transaction open for ever (KIP-890)",
            "use brokers of 3.6 or later",
        ),
    }
}

/// Whether the broker allows the transactions and members that a worker asks for.
fn limits_row(
    admin: &Admin,
    cluster: &Cluster,
    told: Result<&BTreeMap<String, String>, &String>,
    wait: Duration,
) -> Row {
    const WHAT: &str = "limits";
    let told = match told {
        Ok(told) => told,
        Err(why) => {
            let fix = "give this user DescribeConfigs on the cluster, or look at transaction.max.timeout.ms yourself";
            return Row::look(WHAT, why, fix);
        }
    };
    let number = |name: &str| told.get(name).and_then(|value| value.parse::<i64>().ok());
    let asked_ms = i64::try_from(TRANSACTION_TIMEOUT.as_millis()).unwrap_or(i64::MAX);
    if let Some(max) = number("transaction.max.timeout.ms").filter(|max| *max < asked_ms) {
        let found = format!("the broker's transaction.max.timeout.ms={max} is below the {asked_ms} that dce asks for");
        return Row::wrong(WHAT, found, format!("set transaction.max.timeout.ms={asked_ms} or more on the brokers"));
    }
    let (min, max) = (number("group.min.session.timeout.ms"), number("group.max.session.timeout.ms"));
    if min.is_some_and(|min| min > SESSION_TIMEOUT_MS) || max.is_some_and(|max| max < SESSION_TIMEOUT_MS) {
        let found = format!(
            "the broker takes session timeouts from {} to {} ms, dce asks for {SESSION_TIMEOUT_MS}",
            min.unwrap_or(0),
            max.unwrap_or(i64::MAX)
        );
        let fix =
            format!("let group.min.session.timeout.ms and group.max.session.timeout.ms take {SESSION_TIMEOUT_MS}");
        return Row::wrong(WHAT, found, fix);
    }
    if let Some(row) = internal_topic(admin, told, cluster, wait) {
        return row;
    }
    let version =
        told.get("inter.broker.protocol.version").map(|version| format!("; its protocol version is {version}"));
    let found = format!(
        "transactions of {} ms and sessions of {SESSION_TIMEOUT_MS} ms are allowed{}",
        asked_ms,
        version.unwrap_or_default()
    );
    Row::right(WHAT, found)
}

/// The log of transactions is made at the first one, with as many copies as the broker's settings ask for: where there are
/// fewer brokers, no transaction ever begins, and nothing says why.
fn internal_topic(admin: &Admin, told: &BTreeMap<String, String>, cluster: &Cluster, wait: Duration) -> Option<Row> {
    const NAME: &str = "__transaction_state";
    const SETTING: &str = "transaction.state.log.replication.factor";
    let wanted: usize = told.get(SETTING)?.parse().ok()?;
    if wanted <= cluster.brokers.len() || admin.topic(NAME, wait).is_ok_and(|found| found.is_some()) {
        return None;
    }
    let found = format!(
        "the brokers want {wanted} copies of their log of transactions, and there are {} of them: no transaction can begin",
        cluster.brokers.len()
    );
    let fix = format!("start the other brokers, or set {SETTING} and transaction.state.log.min.isr to what there is");
    Some(Row::wrong("limits", found, fix))
}
