//! The monitor's topics, where somebody runs one.

use std::time::Duration;

use super::report::{Report, Row};
use super::topics::row;
use crate::cli::topics::needs;
use crate::config::Config;
use crate::kafka::admin::{Admin, Cluster};
use crate::kafka::client::ClientSettings;
use crate::kafka::conform::{self, Role};

const PART: &str = "monitor";

/// Says nothing where none of them is there: not everybody runs a monitor.
pub(super) fn check(
    report: &mut Report,
    config: &Config,
    settings: &ClientSettings,
    admin: &Admin,
    cluster: &Cluster,
    wait: Duration,
) {
    let mut found = Vec::new();
    for (role, name) in Role::of_monitor(&config.monitor.topics) {
        match admin.topic(name, wait) {
            Ok(facts) => found.push((role, name, facts)),
            Err(error) => {
                let fix = "give the monitor's user Read, Write and Describe on it";
                return report.add(Row::wrong(PART, error.to_string(), fix));
            }
        }
    }
    if found.iter().all(|(_, _, facts)| facts.is_none()) {
        return;
    }
    let needs = needs(config, settings, cluster.brokers.len(), None);
    let mut is_right = true;
    for (role, name, facts) in &found {
        let Some(facts) = facts else {
            is_right = false;
            let what = format!("{name} (topics.{}) does not exist", role.setting());
            report.add(Row::wrong(PART, what, "dce topics create"));
            continue;
        };
        for deviation in conform::deviations(*role, facts, &needs) {
            is_right = false;
            report.add(row(PART, name, &deviation));
        }
    }
    if is_right {
        let names: Vec<&str> = found.iter().map(|(_, name, _)| *name).collect();
        report.add(Row::right(PART, format!("{}, one partition each", names.join(", "))));
    }
}
