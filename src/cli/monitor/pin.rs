//! `dce monitor pin`: windows of the past, put together, become what a segment is compared with; `--remove` ends that.

use anyhow::{Context as _, anyhow};
use serde_json::json;

use super::super::{Frame, moments};
use super::{Span, stored_windows};
use crate::drift::packed;
use crate::kafka::bulk::Bulk;
use crate::kafka::client::ClientSettings;
use crate::telemetry::Clock;
use crate::wire::drift::{Outcome, encode};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is pinned is compared with where there are no two weeks of the same hour, and by the test that finds slow changes. With\n\
    --accept the weeks before do not count any more. Windows in breach and those under an open alert are left out (not with\n\
    --accept), and of several models all but the newest.\n\nExamples:\n  dce monitor pin --from 2026-03-02 --to 2026-03-09\n  \
    dce monitor pin --segment channel=web --from 2h --accept\n  dce monitor pin --remove"
)]
pub(super) struct Arguments {
    /// Of this segment: all, channel=web, label.country=de.
    #[arg(long, value_name = "SEGMENT", default_value = "all")]
    segment: String,
    #[command(flatten)]
    span: Span,
    /// What is now is how it is to be: an open alert is over, and references begin anew.
    #[arg(long)]
    accept: bool,
    /// Compare with nothing pinned any more.
    #[arg(long, conflicts_with_all = ["from", "to", "accept"])]
    remove: bool,
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    let client = ClientSettings::from(&config.kafka);
    let topic = &config.monitor.topics.references;
    // An id of its own: the monitor's would end the monitor.
    let id = format!("{}-pin", config.monitor.group_id(&config.app.id));
    let segment = arguments.segment.as_str();
    if arguments.remove {
        let mut bulk = Bulk::new(&client, &id, topic)?;
        bulk.send(0, segment.as_bytes(), None)?;
        bulk.commit().context("removing the pin")?;
        return told(
            frame,
            &json!({"segment": segment, "pinned": false}),
            &format!("{segment} is compared with its own past again"),
        );
    }
    let (windows, _) = stored_windows(&config, &client, &arguments.span, |window| {
        let is_quiet = window.alert.is_none() && window.outcome != Outcome::Breach;
        window.segment.as_ref() == segment && (is_quiet || arguments.accept)
    })?;
    let reference = packed::pin(&windows, Clock::start().wall_ms(), arguments.accept)?
        .ok_or_else(|| anyhow!("there are no windows of {segment} with distances in that span"))?;
    let mut bulk = Bulk::new(&client, &id, topic)?;
    bulk.send(0, segment.as_bytes(), Some(&encode(&reference)))?;
    bulk.commit().context("pinning")?;
    let distances = reference.zero + reference.buckets.iter().map(|(_, count)| count).sum::<u64>();
    let text = format!(
        "{segment} is compared with {distances} distances of {} to {}{} from now on",
        moments::text(reference.from),
        moments::text(reference.to),
        reference.model.as_ref().map_or(String::new(), |model| format!(", model {model},")),
    );
    let row = json!({"segment": segment, "pinned": true, "from": reference.from, "to": reference.to,
        "model": reference.model, "distances": distances});
    told(frame, &row, &text)
}

fn told(frame: &Frame, row: &serde_json::Value, text: &str) -> anyhow::Result<()> {
    if frame.json {
        frame.output.line(row)?
    } else {
        frame.output.line(text)?
    }
    Ok(())
}
