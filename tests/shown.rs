//! What operators load into Prometheus and Grafana asks for metrics and labels that there are.

use std::collections::BTreeSet;
use std::path::Path;

use dce::telemetry::names::{METRICS, MONITOR, Metric};

/// Labels that Prometheus adds, and those of histograms.
const ALWAYS: [&str; 3] = ["job", "instance", "le"];

fn text(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The query that begins at each mention of a metric, up to the end of its braces: its name, and its labels.
fn mentions(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("dce_") {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if text[..at].ends_with(is_word) {
            continue;
        }
        let rest = &text[at..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let matchers =
            after.strip_prefix('{').and_then(|inside| inside.split_once('}')).map_or("", |(inside, _)| inside);
        let labels = matchers.split(',').filter_map(|matcher| matcher.split_once(['=', '!']));
        found.push((name.to_owned(), labels.map(|(label, _)| label.trim().to_owned()).collect()));
    }
    found
}

fn metric(name: &str) -> Option<&'static Metric> {
    let plain = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    METRICS.iter().chain(&MONITOR).find(|metric| metric.name == name || Some(metric.name) == plain)
}

fn faults(file: &str) -> (Vec<String>, BTreeSet<&'static str>) {
    let (mut faults, mut used) = (Vec::new(), BTreeSet::new());
    for (name, labels) in mentions(&text(file)) {
        let Some(metric) = metric(&name) else {
            faults.push(format!("{file}: there is no metric {name}"));
            continue;
        };
        used.insert(metric.name);
        let known =
            |label: &String| ALWAYS.contains(&label.as_str()) || metric.labels.iter().any(|(name, _)| name == label);
        faults.extend(
            labels.iter().filter(|label| !known(label)).map(|label| format!("{file}: {name} has no label {label}")),
        );
    }
    (faults, used)
}

#[test]
fn rules_and_dashboards_ask_for_what_there_is() {
    let none = Vec::<String>::new();
    let (wrong, in_rules) = faults("deploy/prometheus/dce-monitor.rules.yml");
    assert_eq!(wrong, none);
    assert_eq!(faults("deploy/prometheus/dce-monitor.test.yml").0, none);
    let (wrong, in_dashboard) = faults("deploy/grafana/dce-drift.json");
    assert_eq!(wrong, none);
    let unused: Vec<&str> = MONITOR
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !in_rules.contains(name) && !in_dashboard.contains(name))
        .collect();
    assert_eq!(unused, ["dce_drift_newest_record_timestamp_seconds"], "the rest is shown to somebody");
}

#[test]
fn the_dashboard_is_one() {
    let dashboard: serde_json::Value = serde_json::from_str(&text("deploy/grafana/dce-drift.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "{panel} has an id of its own");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{}", panel["title"]);
        let mut letters = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(letters.insert(target["refId"].as_str().unwrap()), "{}", panel["title"]);
            let query = target["expr"].as_str().unwrap();
            for (open, close) in ["()", "{}", "[]"].map(|pair| pair.split_at(1)) {
                assert_eq!(query.matches(open).count(), query.matches(close).count(), "{query}");
            }
        }
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{}", panel["title"]);
    }
    assert!(panels.len() >= 14);
}

#[test]
fn a_wrong_name_or_label_is_seen() {
    let mentioned = mentions(r#"sum by (le) (rate(dce_x_bucket[5m])) / dce_y{segment="a b", z!~"c"} + xdce_no"#);
    let expected = [("dce_x_bucket", vec![]), ("dce_y", vec!["segment", "z"])];
    let expected: Vec<_> = expected
        .map(|(name, labels)| (name.to_owned(), labels.into_iter().map(str::to_owned).collect::<Vec<_>>()))
        .into();
    assert_eq!(mentioned, expected);
}
