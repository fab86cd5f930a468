//! `dce monitor explain`: an alert, the windows around it, and how the distances lie now and before.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::json;

use super::super::{Frame, moments};
use super::replay::word;
use super::{Span, WAIT, stored_windows};
use crate::config::Config;
use crate::kafka::client::ClientSettings;
use crate::kafka::follow::{self, Lookup, Visit};
use crate::wire::drift::{AlertState, DriftAlert, DriftWindow, decode};

/// Windows shown before it began, and in all.
const BEFORE: i64 = 6;
const SHOWN_MAX: usize = 60;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dce monitor explain all\n  dce monitor explain channel=web/1772366400000")]
pub(super) struct Arguments {
    /// The alert's id, or a segment for its newest one; without it all alerts are listed.
    #[arg(value_name = "ALERT")]
    alert: Option<String>,
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    let client = ClientSettings::from(&config.kafka);
    let alerts = stored_alerts(&config, &client)?;
    let mut out = frame.output.lock();
    let Some(wanted) = &arguments.alert else {
        for alert in &alerts {
            if frame.json { writeln!(out, "{}", serde_json::to_value(alert)?)? } else { line(&mut out, alert)? }
        }
        if alerts.is_empty() && !frame.json {
            writeln!(out, "no alert is on {}", config.monitor.topics.alerts)?;
        }
        return Ok(());
    };
    let alert = alerts.iter().rev().find(|alert| alert.id.as_ref() == wanted || alert.segment.as_ref() == wanted);
    let alert = alert.ok_or_else(|| {
        anyhow!("no alert {wanted} is on {}: without an argument all are listed", config.monitor.topics.alerts)
    })?;
    let width = i64::try_from(config.monitor.window.as_millis())?;
    let to = alert.resolved_at.map(|at| at + width);
    let span = Span { from: Some(alert.since - BEFORE * width), to };
    let (windows, _) = stored_windows(&config, &client, &span, |window| window.segment == alert.segment)?;
    if frame.json {
        writeln!(out, "{}", json!({"alert": alert, "windows": windows}))?;
        return Ok(());
    }
    show(&mut out, alert, &windows)?;
    out.flush()?;
    Ok(())
}

/// In the order in which they opened.
fn stored_alerts(config: &Config, client: &ClientSettings) -> anyhow::Result<Vec<DriftAlert>> {
    let topic = &config.monitor.topics.alerts;
    let group = config.monitor.group_id(&config.app.id);
    let extents = Lookup::new(client, &group)?.extents(topic, &[0], WAIT)?;
    let mut alerts: BTreeMap<Arc<str>, DriftAlert> = BTreeMap::new();
    follow::scan(client, &group, topic, &extents, |message| {
        if let Some(alert) = message.value().and_then(|value| decode::<DriftAlert>(value).ok()) {
            alerts.insert(Arc::clone(&alert.id), alert);
        }
        Ok::<_, anyhow::Error>(Visit::Next)
    })?;
    let mut alerts: Vec<DriftAlert> = alerts.into_values().collect();
    alerts.sort_by_key(|alert| alert.opened_at);
    Ok(alerts)
}

fn line(out: &mut impl Write, alert: &DriftAlert) -> std::io::Result<()> {
    let state = match alert.state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    };
    writeln!(out, "{state:<9} {}  {}\n          {}", moments::text(alert.opened_at), alert.id, alert.summary)
}

fn show(out: &mut impl Write, alert: &DriftAlert, windows: &[DriftWindow]) -> std::io::Result<()> {
    line(out, alert)?;
    writeln!(
        out,
        "\nsince {}, {} windows in breach, told first by {}",
        moments::text(alert.since),
        alert.breaches,
        alert.statistic
    )?;
    if let Some(model) = &alert.model {
        writeln!(out, "model {model}")?;
    }
    for bin in &alert.moved {
        let place =
            if bin.high == 0.0 { "exactly 0".to_owned() } else { format!("{:.2e} to {:.2e}", bin.low, bin.high) };
        writeln!(
            out,
            "  distances of {place:<22} {:>6.2} %, usually {:>6.2} %",
            bin.share * 100.0,
            bin.share_before * 100.0
        )?;
    }
    for companion in &alert.companions {
        writeln!(out, "  with it: {}", companion.words)?;
    }
    writeln!(
        out,
        "\n{:<24}  {:<12} {:>9} {:>9} {:>9} {:>9}  score / threshold",
        "window", "outcome", "distances", "p50", "p90", "p99"
    )?;
    for window in windows.iter().take(SHOWN_MAX) {
        let distances = window.zero + window.buckets.iter().map(|(_, count)| count).sum::<u64>();
        let reading = |name: &str| window.readings.get(name).map_or("-".to_owned(), |value| format!("{value:.4}"));
        let scores = window.scores.iter().filter_map(|(statistic, score)| {
            let threshold = window.thresholds.get(statistic)?;
            Some(format!("{statistic} {:.2}", score / threshold))
        });
        writeln!(
            out,
            "{:<24}  {:<12} {distances:>9} {:>9} {:>9} {:>9}  {}",
            moments::text(window.window_start),
            word(window.outcome),
            reading("p50"),
            reading("p90"),
            reading("p99"),
            scores.collect::<Vec<_>>().join(", "),
        )?;
    }
    if windows.len() > SHOWN_MAX {
        writeln!(out, "… and {} more", windows.len() - SHOWN_MAX)?;
    }
    Ok(())
}
