//! `dce monitor replay`: stored windows, judged again from the first one on by the settings of now.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::json;

use super::super::{Frame, moments};
use super::{Span, rule, settings, stored_windows};
use crate::drift::engine::Engine;
use crate::drift::packed::unpack;
use crate::drift::window::Window;
use crate::kafka::client::ClientSettings;
use crate::wire::drift::{AlertState, DriftAlert, DriftWindow, Outcome};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The first weeks of the span are what references and thresholds are made of: nothing is told in them.\n\
    Examples:\n  dce monitor replay --from 28d\n  \
    dce monitor replay --from 28d --set monitor.false_alarm_every=7d --json\n\n\
    With --json: an object for each alert, then one for the whole."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    span: Span,
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    let client = ClientSettings::from(&config.kafka);
    let (records, unreadable) = stored_windows(&config, &client, &arguments.span, |_| true)?;
    if records.is_empty() {
        return Err(anyhow!("there are no windows in that span on {}", config.monitor.topics.windows));
    }
    let mut engine = Engine::new(settings(&config, &client)?.cut, rule(&config.monitor));
    let mut by_start: BTreeMap<i64, Vec<Window>> = BTreeMap::new();
    for record in &records {
        by_start.entry(record.window_start).or_default().push(unpack(record)?.0);
    }
    let mut alerts: BTreeMap<Arc<str>, DriftAlert> = BTreeMap::new();
    let mut last: Vec<DriftWindow> = Vec::new();
    let mut outcomes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for windows in by_start.values() {
        let judged = engine.judge(windows, &[]);
        for alert in judged.alerts {
            alerts.insert(Arc::clone(&alert.id), alert);
        }
        for window in &judged.windows {
            *outcomes.entry(word(window.outcome)).or_default() += 1;
        }
        last = judged.windows;
    }
    let mut alerts: Vec<DriftAlert> = alerts.into_values().collect();
    alerts.sort_by_key(|alert| alert.opened_at);
    let (first, end) = (records.first().map_or(0, |w| w.window_start), records.last().map_or(0, |w| w.window_end));
    let days = (end - first) as f64 / 86_400_000.0;
    let mut out = frame.output.lock();
    if frame.json {
        for alert in &alerts {
            writeln!(out, "{}", serde_json::to_value(alert)?)?;
        }
        let thresholds: BTreeMap<&str, _> = last.iter().map(|w| (w.segment.as_ref(), &w.thresholds)).collect();
        let row = json!({"windows": records.len(), "days": days, "alerts": alerts.len(), "outcomes": outcomes,
            "thresholds": thresholds, "unreadable": unreadable});
        writeln!(out, "{row}")?;
        return Ok(());
    }
    writeln!(out, "{} windows over {days:.1} days, from {}", records.len(), moments::text(first))?;
    for (outcome, count) in &outcomes {
        writeln!(out, "  {outcome:<13} {count:>8}")?;
    }
    writeln!(out, "\n{} alerts would have been told", alerts.len())?;
    for alert in &alerts {
        let until = match (alert.state, alert.resolved_at) {
            (AlertState::Resolved, Some(at)) => moments::text(at),
            (AlertState::Resolved | AlertState::Firing, _) => "now".to_owned(),
        };
        writeln!(
            out,
            "  {} to {until}  {} ({})\n    {}",
            moments::text(alert.opened_at),
            alert.segment,
            alert.statistic,
            alert.summary
        )?;
    }
    writeln!(out, "\nthresholds at the end of the span, and as they were stored")?;
    for window in &last {
        let stored = records.iter().rev().find(|record| record.segment == window.segment);
        for (statistic, threshold) in &window.thresholds {
            let before = stored.and_then(|stored| stored.thresholds.get(statistic));
            let before = before.map_or("none".to_owned(), |before| format!("{before:.2}"));
            writeln!(out, "  {:<28} {statistic:<12} {threshold:>8.2} {before:>8}", window.segment)?;
        }
    }
    out.flush()?;
    Ok(())
}

pub(super) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Breach => "breach",
        Outcome::Insufficient => "insufficient",
        Outcome::NoReference => "no reference",
    }
}
