//! The topics of the settings: one row an aspect where all is right, one a deviation where it is not.

use std::time::Duration;

use super::report::{Report, Row};
use crate::cli::paint::thousands;
use crate::cli::topics::needs;
use crate::config::Config;
use crate::kafka::admin::{Admin, Cluster, TopicFacts};
use crate::kafka::client::ClientSettings;
use crate::kafka::conform::{self, Aspect, Deviation, Level, Role, Span};

/// The aspects, as they are said.
const ASPECTS: [(Aspect, &str); 6] = [
    (Aspect::Partitions, "partitions"),
    (Aspect::Timestamps, "timestamps"),
    (Aspect::Retention, "retention"),
    (Aspect::CleanUp, "clean-up"),
    (Aspect::Replication, "copies"),
    (Aspect::MessageSize, "sizes"),
];

/// Gives what the input is, where it is there.
pub(super) fn check(
    report: &mut Report,
    config: &Config,
    settings: &ClientSettings,
    admin: &Admin,
    cluster: &Cluster,
    wait: Duration,
) -> Option<TopicFacts> {
    let mut found: Vec<(Role, TopicFacts)> = Vec::new();
    let mut absent = 0;
    let mut refused = 0;
    for (role, name) in Role::of(&config.topics) {
        match admin.topic(name, wait) {
            Ok(Some(facts)) => found.push((role, facts)),
            Ok(None) => {
                absent += 1;
                let what = format!("{name} (topics.{}) does not exist", role.setting());
                report.add(Row::wrong("topics", what, "dce topics create"));
            }
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                let fix = if text.contains("uthorization") {
                    format!(
                        "give this user the rights on it: Read and Describe on the input, Write and Describe on the others ({name})"
                    )
                } else {
                    "see the broker's log, or give it more time by --wait".to_owned()
                };
                report.add(Row::wrong("topics", text, fix));
            }
        }
    }
    if absent + refused == 0 {
        let said: Vec<String> = found.iter().map(|(_, facts)| said(facts)).collect();
        report.add(Row::right("topics", said.join(", ")));
    }
    let input = found.iter().find(|(role, _)| role.is_input()).map(|(_, facts)| facts);
    let needs = needs(config, settings, cluster.brokers.len(), input.map(|facts| facts.partitions));
    let deviations: Vec<(&str, Deviation)> = found
        .iter()
        .flat_map(|(role, facts)| {
            conform::deviations(*role, facts, &needs).into_iter().map(|deviation| (facts.name.as_str(), deviation))
        })
        .collect();
    for (name, deviation) in deviations.iter().filter(|(_, deviation)| deviation.aspect == Aspect::Untold) {
        report.add(row("rights", name, deviation));
    }
    for (aspect, what) in ASPECTS {
        let wrong: Vec<&(&str, Deviation)> =
            deviations.iter().filter(|(_, deviation)| deviation.aspect == aspect).collect();
        for (name, deviation) in &wrong {
            report.add(row(what, name, deviation));
        }
        if wrong.is_empty() {
            report.add(right(aspect, what, &found, absent + refused, &needs));
        }
    }
    input.cloned()
}

fn said(facts: &TopicFacts) -> String {
    match &facts.records {
        Ok(records) => format!("{} ({})", facts.name, thousands(*records)),
        Err(_) => facts.name.clone(),
    }
}

pub(super) fn row(what: &'static str, name: &str, deviation: &Deviation) -> Row {
    let found = format!("{name}: {}", deviation.found);
    match deviation.level {
        Level::Look => Row::look(what, found, &deviation.fix),
        Level::Wrong => Row::wrong(what, found, &deviation.fix),
    }
}

/// An aspect in which nothing deviates: right, where it could be seen.
fn right(
    aspect: Aspect,
    what: &'static str,
    found: &[(Role, TopicFacts)],
    absent: usize,
    needs: &conform::Needs<'_>,
) -> Row {
    let input = found.iter().find(|(role, _)| role.is_input()).map(|(_, facts)| facts);
    let told = |facts: &TopicFacts| facts.settings.is_ok();
    let is_of_input = matches!(aspect, Aspect::Timestamps | Aspect::Retention);
    match input {
        None if is_of_input || aspect == Aspect::Partitions => {
            return Row::not_checked(what, "there is no clickstream");
        }
        Some(input) if is_of_input && !told(input) => return Row::not_checked(what, "the broker does not tell"),
        None | Some(_) => {}
    }
    if found.is_empty() {
        return Row::not_checked(what, "there is no topic");
    }
    if aspect != Aspect::Partitions && !is_of_input && !found.iter().all(|(_, facts)| told(facts)) {
        return Row::not_checked(what, "the broker does not tell");
    }
    let of = if absent > 0 { " of those that are there" } else { "" };
    let text = match aspect {
        Aspect::Partitions => format!("{} each{of}", needs.partitions.unwrap_or(0)),
        Aspect::Timestamps => match input.map(|input| input.setting("message.timestamp.type")) {
            Some("LogAppendTime") => "LogAppendTime: the broker stamps the clicks".to_owned(),
            Some(_) | None => {
                let ms = input.and_then(|input| input.number("message.timestamp.after.max.ms")).unwrap_or(0);
                format!("CreateTime, at most {} ahead", Span(u64::try_from(ms).unwrap_or(0)))
            }
        },
        Aspect::Retention => {
            format!("the clickstream is kept for {} or longer, as a restart may need", Span(needs.kept_ms))
        }
        Aspect::CleanUp => format!("policies{of} are as they should be"),
        Aspect::Replication => {
            let copies: Vec<usize> = found.iter().map(|(_, facts)| facts.replication).collect();
            let (min, max) = (copies.iter().min().unwrap_or(&0), copies.iter().max().unwrap_or(&0));
            let range = if min == max { min.to_string() } else { format!("{min} to {max}") };
            format!(
                "{range} of each partition{of}, on {} broker{}",
                needs.brokers,
                if needs.brokers == 1 { "" } else { "s" }
            )
        }
        Aspect::MessageSize => {
            let by = if absent > 0 { " by those that are there" } else { "" };
            format!("records of up to {} bytes are taken{by}", needs.record_bytes_max)
        }
        Aspect::Untold => String::new(),
    };
    Row::right(what, text)
}
