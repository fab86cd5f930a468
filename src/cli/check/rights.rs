//! Whether the user of the settings may do what a worker does, as the broker's access lists have it.

use std::time::Duration;

use super::report::{Report, Row};
use crate::config::Config;
use crate::kafka::admin::Admin;
use crate::kafka::client::ClientSettings;
use crate::kafka::conform::Role;
use crate::kafka::rights::Right;

const WHAT: &str = "rights";

pub(super) fn check(report: &mut Report, config: &Config, settings: &ClientSettings, admin: &Admin, wait: Duration) {
    let mut rows = Vec::new();
    let mut untold = None;
    for (role, topic) in Role::of(&config.topics) {
        match admin.topic_rights(topic, wait) {
            Ok(Some(rights)) => {
                let missing = needed(role, config).iter().filter(|right| !rights.has(**right));
                rows.extend(missing.map(|right| missing_row(settings, *right, "topic", topic)));
            }
            // That it is missing is told elsewhere.
            Ok(None) => {}
            Err(why) => untold = Some(why),
        }
    }
    let group = config.app.group_id();
    match admin.group_rights(group, wait) {
        Ok(Some(rights)) if !rights.has(Right::Read) => rows.push(missing_row(settings, Right::Read, "group", group)),
        Ok(_) => {}
        Err(why) => untold = Some(why),
    }
    if let Some(why) = untold {
        rows.push(Row::not_checked(WHAT, &format!("the broker does not tell all of them ({why})")));
    } else if rows.is_empty() {
        rows.push(Row::right(
            WHAT,
            format!(
                "topics and group may be read and written as a worker does; not to be asked for: Write on transactional ids \
                 that begin with {group}-"
            ),
        ));
    }
    rows.into_iter().for_each(|row| report.add(row));
}

/// Each implies Describe.
fn needed(role: Role, config: &Config) -> &'static [Right] {
    match role {
        // TICKs are written into it.
        Role::Clicks if config.idle_after.is_some() => &[Right::Read, Right::Write],
        Role::Clicks => &[Right::Read],
        Role::Table | Role::Live | Role::Sessions | Role::Rejected => &[Right::Write],
        // How long it keeps deletions decides whether the local store is believed.
        Role::State if config.state.dir.is_some() => &[Right::Read, Right::Write, Right::DescribeConfigs],
        Role::State => &[Right::Read, Right::Write],
        // The monitor has a user of its own.
        Role::DriftWindows | Role::DriftAlerts | Role::DriftReferences | Role::DriftCustomers => &[],
    }
}

fn missing_row(settings: &ClientSettings, right: Right, kind: &str, name: &str) -> Row {
    let operation = match right {
        Right::Read => "Read",
        Right::Write => "Write",
        Right::DescribeConfigs => "DescribeConfigs",
    };
    let user = settings.common.get("sasl.username").map_or("NAME", String::as_str);
    let fix = format!(
        "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:{user} --operation {operation} --{kind} {name}",
        settings.bootstrap
    );
    Row::wrong(WHAT, format!("this user has no right to {operation} on the {kind} {name}"), fix)
}
