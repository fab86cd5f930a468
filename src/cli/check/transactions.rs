//! Whether a transaction hangs in an output: then readers of committed records stand still there.

use std::time::Duration;

use super::report::Row;
use crate::cli::moments;
use crate::cli::paint::thousands;
use crate::config::Config;
use crate::kafka::admin::Admin;
use crate::kafka::client::{ClientSettings, TRANSACTION_TIMEOUT};
use crate::kafka::conform::Role;
use crate::kafka::follow::{self, Lookup, LookupError};
use crate::telemetry::Clock;

const WHAT: &str = "transactions";
/// How often a broker looks for transactions that are open for too long, by its default, and some for a clock that is off.
const LOOKED_FOR: Duration = Duration::from_secs(22);

/// What of one output partition is not decided.
struct Open {
    topic: String,
    partition: i32,
    /// Of the transaction's first record.
    offset: i64,
    /// Up to the end; markers have offsets too.
    offsets: u64,
}

pub(super) fn row(config: &Config, settings: &ClientSettings, admin: &Admin, wait: Duration) -> Row {
    let open = match open(config, settings, admin, wait) {
        Ok(Some(open)) => open,
        Ok(None) => return Row::not_checked(WHAT, "there is no output topic"),
        Err(error) => {
            return Row::look(WHAT, error.to_string(), "see the broker's log; the rights to read the output topics");
        }
    };
    let limit = TRANSACTION_TIMEOUT + LOOKED_FOR;
    if let Some(row) = pending(config, settings, admin, limit, wait) {
        return row;
    }
    let now_ms = Clock::start().wall_ms();
    let mut oldest_ms = 0;
    let offsets: u64 = open.iter().map(|open| open.offsets).sum();
    for Open { topic, partition, offset, offsets } in open {
        let stamped = follow::stamped_at(settings, config.app.group_id(), &topic, partition, offset, wait);
        let Ok(Some(stamped_ms)) = stamped else { continue };
        let age_ms = now_ms.saturating_sub(stamped_ms).max(0);
        if u128::from(age_ms.unsigned_abs()) > limit.as_millis() {
            let found = format!(
                "{topic}/{partition}: the transaction that begins at offset {offset} has been open for {}, and nobody ends \
                 it: readers of committed records do not see the {} offsets from there on",
                moments::span(age_ms),
                thousands(offsets)
            );
            let fix = format!(
                "kafka-transactions.sh --bootstrap-server {} abort --topic {topic} --partition {partition} --start-offset {offset}",
                settings.bootstrap
            );
            return Row::wrong(WHAT, found, fix);
        }
        oldest_ms = oldest_ms.max(age_ms);
    }
    if offsets == 0 {
        return Row::right(WHAT, "all that is in the output topics is decided");
    }
    let since = moments::span(oldest_ms);
    Row::right(
        WHAT,
        format!("{} offsets of the output topics are not decided yet, for {since} at most", thousands(offsets)),
    )
}

/// A partition of which the group's offset is not decided for so long that a worker stands still.
fn pending(config: &Config, settings: &ClientSettings, admin: &Admin, limit: Duration, wait: Duration) -> Option<Row> {
    let input = &config.topics.clickstream;
    let partitions = admin.inspector().describe(input, wait).ok().flatten()?;
    let partitions: Vec<i32> = (0..i32::try_from(partitions).unwrap_or(i32::MAX)).collect();
    // What does not answer at all is told by other rows.
    let pending = follow::pending(settings, config.app.group_id(), input, &partitions, limit).ok()?;
    let first = *pending.first()?;
    let found = format!(
        "{input}: the group's offset of partitions {pending:?} has been pending for {} s, and no transaction decides it: who \
         restores them waits for it and ends",
        limit.as_secs()
    );
    let fix = format!(
        "see A transaction that hangs in docs/operations.md; it begins with: kafka-transactions.sh --bootstrap-server {} \
         find-hanging --broker-id N (partition {first} of {input})",
        settings.bootstrap
    );
    Some(Row::wrong(WHAT, found, fix))
}

/// `None` where there are no output topics.
fn open(
    config: &Config,
    settings: &ClientSettings,
    admin: &Admin,
    wait: Duration,
) -> Result<Option<Vec<Open>>, LookupError> {
    let group = config.app.group_id();
    let (decided, all) = (Lookup::new(settings, group)?, Lookup::of_undecided(settings, group)?);
    let mut open: Option<Vec<Open>> = None;
    for (_, topic) in Role::of(&config.topics).into_iter().filter(|(role, _)| !role.is_input()) {
        // What is missing or refused is told by the topics' own rows.
        let Ok(Some(partitions)) = admin.inspector().describe(topic, wait) else { continue };
        let partitions: Vec<i32> = (0..i32::try_from(partitions).unwrap_or(i32::MAX)).collect();
        let decided = decided.ends(&[topic], &partitions, wait)?;
        let all = all.ends(&[topic], &partitions, wait)?;
        let of_topic = decided.into_iter().filter_map(|((topic, partition), offset)| {
            let end = *all.get(&(topic.clone(), partition))?;
            let offsets = u64::try_from(end - offset).ok().filter(|offsets| *offsets > 0)?;
            Some(Open { topic, partition, offset, offsets })
        });
        open.get_or_insert_default().extend(of_topic);
    }
    Ok(open)
}
