//! `dce monitor replay`: stored windows, judged again by the settings of now and the pins of then.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::json;

use super::super::{Frame, moments};
use super::{Span, settings};
use crate::drift::again::{self, Again, Compared};
use crate::drift::engine::Engine;
use crate::drift::past;
use crate::drift::run::MonitorSettings;
use crate::kafka::client::ClientSettings;
use crate::kafka::follow::Lookup;
use crate::wire::drift::{AlertState, DriftAlert, DriftWindow, Outcome, decode};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "References and thresholds of the span's first windows come from what is stored before it. Without --from there is\n\
    nothing before: nothing is told in the first weeks. By unchanged settings all is judged as it was.\n\n\
    Examples:\n  dce monitor replay --from 14d --set monitor.false_alarm_every=7d\n  \
    dce monitor replay --from 14d --set monitor.false_alarm_every=7d --json\n\n\
    With --json: an object for each alert, then one for the whole."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    span: Span,
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    let settings = settings(&config, &ClientSettings::from(&config.kafka))?;
    let width_ms = settings.cut.width_ms;
    let span = again::Span { from_ms: arguments.span.from, to_ms: arguments.span.to, width_ms };
    let told = judge(&settings, span)?;
    if told.windows == 0 {
        return Err(anyhow!("there are no windows of {} ms in that span on {}", width_ms, settings.topics.windows));
    }
    let mut out = frame.output.lock();
    if frame.json {
        print_json(&mut out, &told)?
    } else {
        print(&mut out, &told)?
    }
    out.flush()?;
    Ok(())
}

/// What would have been told.
#[derive(Default)]
struct Told {
    windows: u64,
    /// Judged as they were stored, in every respect.
    as_stored: u64,
    left_out: u64,
    first_ms: i64,
    end_ms: i64,
    /// Each as it stood last.
    alerts: BTreeMap<Arc<str>, DriftAlert>,
    outcomes: BTreeMap<&'static str, u64>,
    /// By segment: of the newest window now, and as it was stored.
    thresholds: BTreeMap<Arc<str>, (Thresholds, Thresholds)>,
}

type Thresholds = BTreeMap<Arc<str>, f64>;

impl Told {
    fn add(&mut self, compared: Compared) {
        let Compared { stored, now } = compared;
        for alert in now.alerts {
            self.alerts.insert(Arc::clone(&alert.id), alert);
        }
        if self.windows == 0 {
            self.first_ms = stored.first().map_or(0, |window| window.window_start);
        }
        for (stored, now) in stored.into_iter().zip(now.windows) {
            self.windows += 1;
            self.as_stored += u64::from(stored == now);
            self.end_ms = now.window_end;
            *self.outcomes.entry(word(now.outcome)).or_default() += 1;
            self.thresholds.insert(now.segment, (now.thresholds, stored.thresholds));
        }
    }

    /// In the order in which they opened.
    fn alerts(&self) -> Vec<&DriftAlert> {
        let mut alerts: Vec<&DriftAlert> = self.alerts.values().collect();
        alerts.sort_by_key(|alert| alert.opened_at);
        alerts
    }

    fn days(&self) -> f64 {
        (self.end_ms - self.first_ms) as f64 / 86_400_000.0
    }
}

fn judge(settings: &MonitorSettings, span: again::Span) -> anyhow::Result<Told> {
    let lookup = Lookup::new(&settings.client, &settings.group)?;
    let mut engine = Engine::new(settings.cut.clone(), settings.rule.clone());
    past::pins(settings, &lookup, &mut engine)?;
    if let Some(first_ms) = span.first_ms() {
        // Those that were open then.
        past::read(settings, &lookup, &settings.topics.alerts, None, |message| {
            let alert = message.value().and_then(|value| decode::<DriftAlert>(value).ok());
            alert
                .filter(|alert| alert.updated_at <= first_ms)
                .into_iter()
                .for_each(|alert| engine.restore_alert(alert));
            true
        })?;
    }
    let (mut again, mut told, mut unreadable) = (Again::new(engine, span), Told::default(), 0);
    let since_ms = span.first_ms().map(|first_ms| first_ms - past::PAST_MS);
    past::read(settings, &lookup, &settings.topics.windows, since_ms, |message| {
        match message.value().map(decode::<DriftWindow>) {
            Some(Ok(window)) => again.record(window).into_iter().for_each(|compared| told.add(compared)),
            Some(Err(_)) => unreadable += 1,
            None => {}
        }
        true
    })?;
    again.end().into_iter().for_each(|compared| told.add(compared));
    told.left_out = again.left_out + unreadable;
    Ok(told)
}

fn print_json(out: &mut impl Write, told: &Told) -> anyhow::Result<()> {
    for alert in told.alerts() {
        writeln!(out, "{}", serde_json::to_value(alert)?)?;
    }
    let thresholds: BTreeMap<&str, _> =
        told.thresholds.iter().map(|(segment, (now, _))| (segment.as_ref(), now)).collect();
    let row = json!({"windows": told.windows, "as_stored": told.as_stored, "left_out": told.left_out, "days": told.days(),
        "alerts": told.alerts.len(), "outcomes": told.outcomes, "thresholds": thresholds});
    writeln!(out, "{row}")?;
    Ok(())
}

fn print(out: &mut impl Write, told: &Told) -> std::io::Result<()> {
    writeln!(out, "{} windows over {:.1} days, from {}", told.windows, told.days(), moments::text(told.first_ms))?;
    for (outcome, count) in &told.outcomes {
        writeln!(out, "  {outcome:<13} {count:>8}")?;
    }
    writeln!(out, "{} are judged as they were", told.as_stored)?;
    if told.left_out > 0 {
        writeln!(out, "{} more are left out: of another monitor.window, or not to be read", told.left_out)?;
    }
    writeln!(out, "\n{} alerts would have been told", told.alerts.len())?;
    for alert in told.alerts() {
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
    for (segment, (now, stored)) in &told.thresholds {
        for (statistic, threshold) in now {
            let before = stored.get(statistic).map_or("none".to_owned(), |before| format!("{before:.2}"));
            writeln!(out, "  {segment:<28} {statistic:<12} {threshold:>8.2} {before:>8}")?;
        }
    }
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
