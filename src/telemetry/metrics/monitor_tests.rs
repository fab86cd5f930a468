//! A monitor's scrape, as Prometheus sees it.

use std::collections::BTreeSet;

use expect_test::expect;

use super::monitor::{Receiver, SEGMENTS_MAX};
use super::names::MONITOR;
use super::*;
use crate::wire::drift::{AlertState, Outcome, ReferenceKind};

fn window(segment: &str, end: i64) -> DriftWindow {
    let map = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, value)| (Arc::from(*name), *value)).collect();
    let counts =
        [("customers", 110), ("cold_start", 10), ("closed", 120), ("revised", 3), ("late", 2), ("bad.time", 1)];
    let counts = counts.into_iter().chain([("events", 1_000), ("unknown_events", 50), ("reject.decode", 8)]);
    DriftWindow {
        segment: segment.into(),
        window_start: end - 300_000,
        window_end: end,
        model: Some("bank@3".into()),
        outcome: Outcome::Breach,
        reference: Some(ReferenceKind::SameHour),
        reference_count: 4_000,
        zero: 10,
        buckets: vec![(0, 5), (100, 70), (140, 25)],
        counts: counts.map(|(name, count)| (name.into(), count)).collect(),
        scores: map(&[("w1_log", 3.0), ("zero", 0.5)]),
        thresholds: map(&[("w1_log", 2.0)]),
        effects: map(&[("w1_log", 0.2)]),
        breaches: vec!["w1_log".into()],
        readings: map(&[("p50", 0.005), ("p90", 0.03), ("p99", 0.031), ("p50_before", 0.004)]),
        pins_end: 0,
        alert: None,
    }
}

fn alert(segment: &str, state: AlertState) -> DriftAlert {
    DriftAlert {
        id: format!("{segment}/0").into(),
        segment: segment.into(),
        state,
        statistic: "w1_log".into(),
        since: 0,
        opened_at: 0,
        updated_at: 0,
        resolved_at: None,
        breaches: 2,
        value: 3.0,
        threshold: 2.0,
        effect: 0.2,
        customers: 100,
        model: None,
        reference: None,
        reference_count: 0,
        summary: String::new(),
        moved: Vec::new(),
        companions: Vec::new(),
    }
}

fn samples(metrics: &Metrics) -> Vec<String> {
    let text = metrics.render(0);
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with("dce_registry") && !line.starts_with("dce_build"));
    lines
}

#[test]
fn a_scrape_shows_what_was_published_and_how_it_stands() {
    let metrics = Metrics::of_monitor(300_000);
    metrics.drift_status(true, Some(1_700_000_001_500), Some(42));
    metrics.drift_windows(&[window("all", 1_700_000_100_000)]);
    metrics.drift_alert(&alert("all", AlertState::Firing));
    metrics.drift_alert(&alert("all", AlertState::Firing));
    metrics.drift_checked(100, 1);
    metrics.drift_told(Receiver::Webhook, false);
    let mut lines = samples(&metrics);
    lines.retain(|line| !line.ends_with(" 0") && !line.contains("_bucket{"));
    expect![[r#"
        dce_drift_records_total{kind="SESSION_CLOSED"} 120
        dce_drift_records_total{kind="SESSION_REVISED"} 3
        dce_drift_records_late_total 2
        dce_drift_records_bad_total{reason="time"} 1
        dce_drift_customers_apart_total{why="cold_start"} 10
        dce_drift_distances_checked_total{result="different"} 1
        dce_drift_distances_checked_total{result="same"} 99
        dce_drift_distances_sum 0.9613778862194435
        dce_drift_distances_count 110
        dce_drift_windows_total{outcome="BREACH"} 1
        dce_drift_alerts_total{state="FIRING"} 1
        dce_drift_notifications_total{to="webhook",result="failed"} 1
        dce_drift_active 1
        dce_drift_lag_records 42
        dce_drift_newest_record_timestamp_seconds 1700000001.5
        dce_drift_window_seconds 300
        dce_drift_segments 1
        dce_drift_alerts_open 1
        dce_drift_input_share{input="cold_start"} 0.09090909090909091
        dce_drift_input_share{input="unknown_events"} 0.05
        dce_drift_input_share{input="revised"} 0.024390243902439025
        dce_drift_input_share{input="late"} 0.01639344262295082
        dce_drift_input_share{input="rejected"} 0.007936507936507936
        dce_drift_last_window_end_timestamp_seconds{segment="all"} 1700000100
        dce_drift_outcome{segment="all",outcome="BREACH"} 1
        dce_drift_customers{segment="all"} 110
        dce_drift_score_ratio{segment="all",statistic="w1_log"} 1.5
        dce_drift_distance_quantile{segment="all",quantile="0.5"} 0.005
        dce_drift_distance_quantile{segment="all",quantile="0.9"} 0.03
        dce_drift_distance_quantile{segment="all",quantile="0.99"} 0.031
        dce_drift_reference_quantile{segment="all",quantile="0.5"} 0.004
        dce_drift_zero_share{segment="all"} 0.09090909090909091
        dce_drift_alert_open{segment="all"} 1"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn distances_are_cumulative_from_those_of_0_on() {
    let metrics = Metrics::of_monitor(300_000);
    metrics.drift_windows(&[window("all", 300_000), window("channel=web", 300_000)]);
    let lines = samples(&metrics);
    let bucket = |bound: &str| {
        let start = format!("dce_drift_distances_bucket{{le=\"{bound}\"}} ");
        lines
            .iter()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap_or_else(|| panic!("{start}: {lines:?}"))
            .to_owned()
    };
    assert_eq!(["0", "0.00006103515625"].map(bucket), ["10", "15"], "exactly 0, then the lowest bucket");
    // Bucket 100 ends at 2^(100/16 − 14), within the half doubling up to 2^-7.5.
    assert_eq!(["0.00390625", "2", "+Inf"].map(bucket), ["15", "110", "110"], "of the segment all alone");
}

#[test]
fn the_past_is_shown_and_not_counted() {
    let metrics = Metrics::of_monitor(300_000);
    metrics.drift_past(&window("all", 600_000));
    metrics.drift_past(&window("all", 300_000));
    metrics.drift_alert_past(&alert("all", AlertState::Firing));
    let shows = |line: &str| samples(&metrics).iter().any(|shown| shown == line);
    assert!(shows("dce_drift_last_window_end_timestamp_seconds{segment=\"all\"} 600"), "the newest");
    assert!(shows("dce_drift_alert_open{segment=\"all\"} 1") && shows("dce_drift_alerts_total{state=\"FIRING\"} 0"));
    assert!(shows("dce_drift_windows_total{outcome=\"BREACH\"} 0") && shows("dce_drift_distances_count 0"));
    metrics.drift_alert(&alert("all", AlertState::Resolved));
    assert!(shows("dce_drift_alert_open{segment=\"all\"} 0") && shows("dce_drift_alerts_total{state=\"RESOLVED\"} 1"));
}

#[test]
fn segments_are_limited_and_their_names_escaped() {
    let metrics = Metrics::of_monitor(300_000);
    let hostile = "label.app=\"}\\ 1\nup 0";
    metrics.drift_windows(&[window(hostile, 600_000)]);
    let line = "dce_drift_customers{segment=\"label.app=\\\"}\\\\ 1\\nup 0\"} 110";
    assert!(samples(&metrics).iter().any(|shown| shown == line), "{:?}", samples(&metrics));
    let many: Vec<DriftWindow> =
        (0..400).map(|number| window(&format!("label.n={number}"), 600_000 + number)).collect();
    metrics.drift_windows(&many);
    let shown = samples(&metrics).iter().filter(|line| line.starts_with("dce_drift_customers{")).count();
    assert_eq!(shown, SEGMENTS_MAX);
    metrics.drift_windows(&[window("all", 3 * 86_400_000)]);
    let shown = samples(&metrics).iter().filter(|line| line.starts_with("dce_drift_customers{")).count();
    assert_eq!(shown, 1, "what has no windows any more has no series");
}

#[test]
fn what_is_listed_is_shown_and_nothing_else() {
    let metrics = Metrics::of_monitor(300_000);
    metrics.drift_windows(&[window("all", 300_000)]);
    let text = metrics.render(0);
    for metric in &MONITOR {
        let head = format!("# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, metric.help, metric.kind.as_str());
        assert!(text.contains(&head), "{} has no help or type", metric.name);
    }
    let listed: BTreeSet<&str> = MONITOR.iter().map(|metric| metric.name).chain(names::OF_BOTH).collect();
    assert_eq!(listed.len(), MONITOR.len() + names::OF_BOTH.len(), "a name stands for one metric");
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(shown, listed);
    for metric in MONITOR.iter().filter(|metric| metric.kind == Kind::Counter) {
        for (label, values) in metric.labels {
            for value in *values {
                let labelled = format!("{label}=\"{value}\"");
                let is_series = |line: &str| line.starts_with(metric.name) && line.contains(&labelled);
                assert!(text.lines().any(is_series), "{} lacks {labelled} before it first happens", metric.name);
            }
        }
    }
    let worker = Metrics::new();
    worker.drift_windows(&[window("all", 300_000)]);
    assert!(!worker.render(0).contains("dce_drift"), "a worker has none of them");
}
