//! The monitor's topics, where somebody runs one: all of them, with one partition each.

use std::time::Duration;

use super::report::{Report, Row};
use crate::config::Config;
use crate::kafka::admin::Admin;

const PART: &str = "monitor";

/// Says nothing where none of them is there: not everybody runs a monitor.
pub(super) fn check(report: &mut Report, config: &Config, admin: &Admin, wait: Duration) {
    let topics = &config.monitor.topics;
    let names = [&topics.windows, &topics.alerts, &topics.references, &topics.customers];
    let mut found = Vec::new();
    for name in names {
        match admin.topic(name, wait) {
            Ok(facts) => found.push((name, facts)),
            Err(error) => {
                let fix = "give the monitor's user Read, Write and Describe on it";
                return report.add(Row::wrong(PART, error.to_string(), fix));
            }
        }
    }
    if found.iter().all(|(_, facts)| facts.is_none()) {
        return;
    }
    let mut is_right = true;
    for (name, facts) in &found {
        let (what, fix) = match facts {
            Some(facts) if facts.partitions == 1 => continue,
            Some(facts) => (
                format!("{name} has {} partitions and must have one", facts.partitions),
                "delete it while no monitor runs, and dce monitor --create-topics",
            ),
            None => (format!("{name} does not exist"), "dce monitor --create-topics"),
        };
        report.add(Row::wrong(PART, what, fix));
        is_right = false;
    }
    if is_right {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        report.add(Row::right(PART, format!("{}, one partition each", names.join(", "))));
    }
}
