//! The consumer group of `app.id`: whose it is, who is in it, how far it is, and whether a worker could go on from there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::{Report, Row};
use crate::cli::moments;
use crate::cli::paint::thousands;
use crate::config::Config;
use crate::kafka::admin::{Admin, GroupFacts, TopicFacts};
use crate::kafka::client::ClientSettings;
use crate::kafka::follow::{self, Extent, GroupOffset, Lookup, Visit};
use crate::kafka::reader::ReadError;
use crate::model::onnx::OnnxModel;
use crate::pipeline::history::History;
use crate::pipeline::log::Head;
use crate::pipeline::state;
use crate::telemetry::Clock;

/// As a member of ours has it.
const PROTOCOL: &str = "cooperative-sticky";
/// A clock that is further ahead is not just a network's delay.
const AHEAD_MS: i64 = 2_000;

pub(super) fn check(
    report: &mut Report,
    config: &Config,
    settings: &ClientSettings,
    admin: &Admin,
    model: Option<&OnnxModel>,
    input: Option<&TopicFacts>,
    wait: Duration,
) {
    let group = config.app.group_id();
    let members = admin.group(group, wait);
    let foreign = match &members {
        Ok(Some(facts)) => foreign(facts, config),
        Ok(None) | Err(_) => None,
    };
    if let Some(row) = foreign {
        report.add(row);
        report.add(Row::not_checked("progress", "the group is somebody else's"));
        clock(report, config, settings, input, wait);
        return;
    }
    report.add(match &members {
        Err(error) => {
            let fix = format!("give this user Read and Describe on group {group}, or see the broker's log");
            Row::wrong("group", format!("{group}: {error}"), fix)
        }
        Ok(facts) => members_row(facts.as_ref(), config, input),
    });
    report.add(match input {
        None => Row::not_checked("progress", "there is no clickstream"),
        Some(input) => progress(config, settings, input, model, wait).unwrap_or_else(|error| {
            Row::wrong("progress", error.to_string(), "see the broker's log; the rights on the group")
        }),
    });
    clock(report, config, settings, input, wait);
}

/// Somebody else has the group's name.
fn foreign(facts: &GroupFacts, config: &Config) -> Option<Row> {
    let group = config.app.group_id();
    let input = &config.topics.clickstream;
    let fix = "set app.id to a name that nobody else has";
    if !facts.kind.is_empty() && facts.kind != "consumer" {
        let found = format!("{group} is a group of another kind ({}), so it is somebody else's", facts.kind);
        return Some(Row::wrong("group", found, fix));
    }
    let other = facts.members.iter().find(|member| !member.topics.is_empty() && !member.topics.contains(input))?;
    let found = format!(
        "{group} has a member {} (from {}) that reads {}, so it is somebody else's",
        other.name,
        other.host,
        other.topics.join(", ")
    );
    Some(Row::wrong("group", found, fix))
}

fn members_row(facts: Option<&GroupFacts>, config: &Config, input: Option<&TopicFacts>) -> Row {
    const WHAT: &str = "group";
    let group = config.app.group_id();
    let Some(facts) = facts.filter(|facts| !facts.members.is_empty()) else {
        return Row::right(WHAT, format!("{group} has no member now"));
    };
    let names: Vec<String> =
        facts.members.iter().map(|member| format!("{} from {}", member.name, member.host)).collect();
    let found = format!("{group}, {}: {}", facts.state.to_ascii_lowercase(), names.join(", "));
    if !facts.protocol.is_empty() && facts.protocol != PROTOCOL {
        let found = format!("{found}; they share by {}, dce by {PROTOCOL}, so they are not dce's", facts.protocol);
        return Row::wrong(WHAT, found, "set app.id to a name that nobody else has");
    }
    if let Some(input) = input.filter(|input| input.partitions < facts.members.len()) {
        let found =
            format!("{found}; the clickstream has {} partitions, so some of them have nothing to do", input.partitions);
        return Row::look(WHAT, found, "stop some, or give the topics more partitions before the next beginning");
    }
    let mut own = (0..config.app.workers).map(|worker| config.app.group_instance_id(worker));
    if let Some(own) = own.find(|own| facts.members.iter().any(|member| member.name == *own)) {
        let instance = &config.app.instance;
        return Row::right(
            WHAT,
            format!("{found}; {own} is these settings' own: another app.instance than {instance} beside it"),
        );
    }
    Row::right(WHAT, found)
}

/// What is committed, and whether a worker could go on from it.
fn progress(
    config: &Config,
    settings: &ClientSettings,
    input: &TopicFacts,
    model: Option<&OnnxModel>,
    wait: Duration,
) -> anyhow::Result<Row> {
    const WHAT: &str = "progress";
    let group = config.app.group_id();
    let lookup = Lookup::new(settings, group)?;
    let partitions: Vec<i32> = (0..i32::try_from(input.partitions)?).collect();
    let extents = lookup.extents(&input.name, &partitions, wait)?;
    let committed = lookup.committed(&input.name, &partitions, wait)?;
    let anew = format!("set another app.id, and name new output topics, to begin anew with {}", input.name);
    if committed.is_empty() {
        return Ok(Row::right(WHAT, format!("{group} has committed nothing: it begins with the oldest click")));
    }
    for GroupOffset { partition, offset, metadata } in &committed {
        let at = format!("{}/{partition}", input.name);
        let Some(history) = History::parse(metadata) else {
            let found = format!("{at}: {group} has a committed offset ({offset}) that dce did not commit");
            let fix = format!(
                "set app.id to a name that nobody else has; or, if {group} is nobody's, kafka-consumer-groups.sh \
                 --bootstrap-server {} --delete --group {group}",
                settings.bootstrap
            );
            return Ok(Row::wrong(WHAT, found, fix));
        };
        if let Some(model) = model
            && history.fingerprint != state::fingerprint(&config.session, model)
        {
            let found = format!(
                "{at}: what is committed was made with other session rules, provisional.every_events or another model: a \
                 worker refuses to go on"
            );
            return Ok(Row::wrong(WHAT, found, format!("restore them; or {anew}")));
        }
    }
    if let Some(found) = gone(config, settings, &extents, &committed, wait)? {
        return Ok(Row::wrong(WHAT, found, format!("{anew}, and give it a longer retention")));
    }
    let lag = lag(&extents, &committed);
    let terms =
        if model.is_some() { "" } else { "; whether rules and model are the same was not checked: there is no model" };
    Ok(Row::right(WHAT, format!("{} offsets behind in {} partitions{terms}", thousands(lag), extents.len())))
}

/// What the group still needs of the input and retention has passed.
fn gone(
    config: &Config,
    settings: &ClientSettings,
    extents: &[Extent],
    committed: &[GroupOffset],
    wait: Duration,
) -> anyhow::Result<Option<String>> {
    let (group, input) = (config.app.group_id(), &config.topics.clickstream);
    let low =
        |partition: i32| extents.iter().find(|extent| extent.partition == partition).map_or(0, |extent| extent.low);
    for GroupOffset { partition, offset, .. } in committed {
        let low = low(*partition);
        if *offset < low {
            return Ok(Some(format!(
                "{input}/{partition}: {group} goes on at offset {offset}, and the oldest record is now {low}: clicks were \
                 deleted before they were read"
            )));
        }
    }
    // Of what began with records that are still there nothing can be gone.
    let shortened = |offset: &&GroupOffset| {
        History::parse(&offset.metadata)
            .is_some_and(|history| history.state_epoch > 0 && history.begun.0 < low(offset.partition))
    };
    let partitions: Vec<i32> = committed.iter().filter(shortened).map(|offset| offset.partition).collect();
    for (partition, head) in heads(config, settings, &partitions, wait)? {
        let low = low(partition);
        let goes_on = committed.iter().find(|offset| offset.partition == partition).map_or(0, |offset| offset.offset);
        if head.redo_from < goes_on && head.redo_from < low {
            return Ok(Some(format!(
                "{input}/{partition}: the state lacks what came from offset {} on, and the oldest record is now {low}: it \
                 cannot be completed",
                head.redo_from
            )));
        }
    }
    Ok(None)
}

/// The newest of each partition in the state's log, read from the end in windows that widen.
fn heads(
    config: &Config,
    settings: &ClientSettings,
    partitions: &[i32],
    wait: Duration,
) -> anyhow::Result<BTreeMap<i32, Head>> {
    let (group, log) = (config.app.group_id(), &config.topics.state);
    let mut heads = BTreeMap::new();
    if partitions.is_empty() {
        return Ok(heads);
    }
    let mut lacking = Lookup::new(settings, group)?.extents(log, partitions, wait)?;
    let mut width: i64 = 64;
    while !lacking.is_empty() {
        let windows: Vec<Extent> = lacking.iter().map(|extent| extent.from(extent.end.saturating_sub(width))).collect();
        follow::scan(settings, group, log, &windows, |message| {
            if message.key() == Some(Head::KEY)
                && let Some(head) = message.value().and_then(|value| Head::unpack(value).ok())
            {
                heads.insert(message.partition(), head);
            }
            Ok::<_, ReadError>(Visit::Next)
        })?;
        let all = u64::try_from(width).unwrap_or(u64::MAX);
        lacking.retain(|extent| !heads.contains_key(&extent.partition) && extent.len() > all);
        width = width.saturating_mul(8);
    }
    Ok(heads)
}

/// Offsets between what is committed, or the beginning, and the end.
fn lag(extents: &[Extent], committed: &[GroupOffset]) -> u64 {
    let behind = extents.iter().map(|extent| {
        let at = committed.iter().find(|committed| committed.partition == extent.partition);
        extent.from(at.map_or(extent.low, |committed| committed.offset)).len()
    });
    behind.sum()
}

/// The newest click's timestamp beside this machine's clock.
fn clock(report: &mut Report, config: &Config, settings: &ClientSettings, input: Option<&TopicFacts>, wait: Duration) {
    const WHAT: &str = "clock";
    report.add(match input {
        None => Row::not_checked(WHAT, "there is no clickstream"),
        Some(input) => newest(config, settings, input, wait).unwrap_or_else(|error| {
            Row::look(
                WHAT,
                format!("the newest click cannot be read: {error}"),
                "see the broker's log; the rights on the topic",
            )
        }),
    });
}

fn newest(config: &Config, settings: &ClientSettings, input: &TopicFacts, wait: Duration) -> anyhow::Result<Row> {
    const WHAT: &str = "clock";
    let group = config.app.group_id();
    let partitions: Vec<i32> = (0..i32::try_from(input.partitions)?).collect();
    let extents = Lookup::new(settings, group)?.extents(&input.name, &partitions, wait)?;
    let newest = follow::last(settings, group, &input.name, &extents, 1, |_| true)?;
    let now_ms = Clock::start().wall_ms();
    let Some(stamped_ms) = newest.first().and_then(|kept| kept.timestamp_ms) else {
        return Ok(Row::right(WHAT, format!("{} has no record to compare clocks by", input.name)));
    };
    let ago_ms = now_ms.saturating_sub(stamped_ms);
    let whose = match input.setting("message.timestamp.type") {
        "LogAppendTime" => "the broker",
        _ => "its producer",
    };
    if ago_ms < -AHEAD_MS {
        let found =
            format!("the newest click was stamped by {whose} {} ahead of this machine's clock", moments::span(-ago_ms));
        return Ok(Row::look(WHAT, found, "set the clocks by NTP: this machine's, the brokers' and the producers'"));
    }
    Ok(Row::right(WHAT, format!("the newest click was stamped by {whose} {} ago", moments::span(ago_ms.max(0)))))
}
