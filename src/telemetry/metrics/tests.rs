//! A scrape as Prometheus sees it, and `docs/metrics.md`, which is made of the list.

use std::collections::BTreeSet;
use std::sync::Arc;

use expect_test::{expect, expect_file};

use super::*;
use crate::types::{CustomerId, ModelId, OpenedBy, Position};
use crate::wire::embedding::Cause;

fn embedding(kind: EmbeddingKind, close_reason: Option<CloseReason>) -> CustomerEmbedding {
    let time = EventTime::parse(0).unwrap();
    CustomerEmbedding {
        customer_id: CustomerId::parse("ana").unwrap(),
        sequence: 1,
        kind,
        embedding: vec![1.0],
        model: ModelId::new("fake", "1"),
        cosine_shift: None,
        gate: 1.0,
        previous_as_of: None,
        scores: BTreeMap::new(),
        cold_start: true,
        cause: Cause {
            session_uid: Arc::from("e1"),
            revision: 0,
            session_id: None,
            device_id: None,
            channel: None,
            session_start: time,
            session_end: time,
            closed_at: None,
            opened_by: OpenedBy::Login,
            close_reason,
            event_count: 1,
            unknown_count: 0,
        },
        labels: BTreeMap::new(),
        as_of: time,
        emitted_at: 0,
        source: Position { partition: 3, offset: 0 },
    }
}

fn partition(partition: i32) -> PartitionStats {
    PartitionStats {
        partition,
        resume: ResumeAt(1_000),
        stream_time: EventTime::parse(90_000),
        open_sessions: 7,
        customers: 40,
    }
}

fn epoch() -> EpochStats {
    let ms = Duration::from_millis;
    let mut stats = EpochStats {
        records: 250,
        duplicates: 4,
        phases: PhaseTimes { wait: ms(10), sessionize: ms(1), encode: ms(7), fold: ms(4), commit: ms(12) },
        partitions: vec![partition(3)],
        ..EpochStats::default()
    };
    stats.reject(RejectReason::Late);
    stats.reject(RejectReason::Late);
    stats.reject(RejectReason::Decode);
    stats.embedding(&embedding(EmbeddingKind::SessionClosed, Some(CloseReason::Logout)), Some(99_960));
    stats.embedding(&embedding(EmbeddingKind::SessionClosed, Some(CloseReason::Gap)), Some(99_000));
    stats.embedding(&embedding(EmbeddingKind::SessionRevised, Some(CloseReason::Logout)), None);
    stats.embedding(&embedding(EmbeddingKind::Provisional, None), Some(100_500));
    stats
}

/// The samples of a scrape but for histograms' empty buckets.
fn samples(metrics: &Metrics, now_ms: i64) -> Vec<String> {
    let text = metrics.render(now_ms);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

fn sample(metrics: &Metrics, now_ms: i64, name: &str) -> Option<String> {
    let samples = samples(metrics, now_ms);
    let found = samples.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.map(str::to_owned)
}

#[test]
fn a_scrape_shows_what_was_committed() {
    let metrics = Metrics::new();
    metrics.inference_device("cuda:1");
    metrics.assigned(3, 50_000);
    metrics.consumer_lag(3, 17);
    metrics.undecided(3, 5, Duration::from_millis(40_500));
    metrics.epoch_committed(&epoch(), 100_000);
    metrics.epoch_aborted(AbortCause::Rebalance);
    let mut lines = samples(&metrics, 102_500);
    lines.retain(|line| !line.contains("_bucket{") && !line.ends_with(" 0") && !line.starts_with("dce_build_info"));
    lines.sort();
    expect![[r#"
        dce_duplicates_total 4
        dce_embeddings_total{kind="PROVISIONAL"} 1
        dce_embeddings_total{kind="SESSION_CLOSED"} 2
        dce_embeddings_total{kind="SESSION_REVISED"} 1
        dce_epoch_phase_seconds_count{phase="commit"} 1
        dce_epoch_phase_seconds_count{phase="encode"} 1
        dce_epoch_phase_seconds_count{phase="fold"} 1
        dce_epoch_phase_seconds_count{phase="sessionize"} 1
        dce_epoch_phase_seconds_count{phase="wait"} 1
        dce_epoch_phase_seconds_sum{phase="commit"} 0.012
        dce_epoch_phase_seconds_sum{phase="encode"} 0.007
        dce_epoch_phase_seconds_sum{phase="fold"} 0.004
        dce_epoch_phase_seconds_sum{phase="sessionize"} 0.001
        dce_epoch_phase_seconds_sum{phase="wait"} 0.01
        dce_epoch_records_count 1
        dce_epoch_records_sum 250
        dce_epochs_aborted_total{cause="rebalance"} 1
        dce_epochs_total 1
        dce_inference_device_info{device="cuda:1"} 1
        dce_partition_committed_offset{partition="3"} 1000
        dce_partition_consumer_lag_records{partition="3"} 17
        dce_partition_customers{partition="3"} 40
        dce_partition_event_time_lag_seconds{partition="3"} 12.5
        dce_partition_last_commit_age_seconds{partition="3"} 2.5
        dce_partition_open_sessions{partition="3"} 7
        dce_partition_undecided_records{partition="3"} 5
        dce_partition_undecided_seconds{partition="3"} 40.5
        dce_record_to_commit_seconds_count 3
        dce_record_to_commit_seconds_sum 1.04
        dce_records_total 250
        dce_rejects_total{reason="decode"} 1
        dce_rejects_total{reason="late"} 2
        dce_sessions_closed_total{reason="GAP"} 1
        dce_sessions_closed_total{reason="LOGOUT"} 1
        dce_sessions_revised_total 1"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn the_age_of_the_last_commit_and_the_lag_rise_while_nothing_commits() {
    let metrics = Metrics::new();
    metrics.assigned(3, 50_000);
    let age = "dce_partition_last_commit_age_seconds{partition=\"3\"}";
    let lag = "dce_partition_event_time_lag_seconds{partition=\"3\"}";
    assert_eq!(sample(&metrics, 50_500, age).as_deref(), Some("0.5"), "counted from the assignment");
    assert_eq!(sample(&metrics, 50_500, lag), None, "nothing is known of its stream time");
    metrics.epoch_committed(&epoch(), 100_000);
    assert_eq!(sample(&metrics, 100_000, age).as_deref(), Some("0"));
    assert_eq!(sample(&metrics, 160_000, age).as_deref(), Some("60"));
    assert_eq!(sample(&metrics, 160_000, lag).as_deref(), Some("70"));
    assert_eq!(sample(&metrics, 99_000, age).as_deref(), Some("0"), "a clock that was set back");
}

#[test]
fn only_what_is_assigned_is_shown() {
    let metrics = Metrics::new();
    metrics.restored(partition(3));
    metrics.epoch_committed(&epoch(), 100_000);
    assert!(!metrics.render(0).contains("partition="), "never assigned");
    metrics.assigned(3, 0);
    metrics.assigned(4, 0);
    metrics.restored(partition(3));
    let customers = "dce_partition_customers{partition=\"3\"}";
    assert_eq!(sample(&metrics, 0, customers).as_deref(), Some("40"));
    assert_eq!(metrics.assigned_partitions(), [3, 4]);
    metrics.revoked(3);
    metrics.consumer_lag(3, 1);
    metrics.undecided(3, 1, Duration::ZERO);
    assert_eq!(sample(&metrics, 0, customers), None);
    assert!(metrics.render(0).contains("partition=\"4\""));
    assert!(!metrics.render(0).contains("partition=\"3\""));
    metrics.assigned(3, 0);
    assert_eq!(sample(&metrics, 0, customers), None, "nothing is left over from the first time");
}

/// Series that appear with their first increase hide it from `rate()`.
#[test]
fn every_series_is_there_from_the_start() {
    let metrics = Metrics::new();
    metrics.inference_device("cpu");
    metrics.assigned(3, 0);
    metrics.consumer_lag(3, 0);
    metrics.undecided(3, 0, Duration::ZERO);
    metrics.restored(partition(3));
    let text = metrics.render(0);
    for metric in &METRICS {
        assert!(
            text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.as_str())),
            "{} has no type",
            metric.name
        );
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{} has no help", metric.name);
        for (label, value) in
            metric.labels.iter().flat_map(|(label, values)| values.iter().map(move |value| (label, value)))
        {
            let labelled = format!("{label}=\"{value}\"");
            let is_series = |line: &str| line.starts_with(metric.name) && line.contains(&labelled);
            assert!(text.lines().any(is_series), "{} lacks {labelled}", metric.name);
        }
    }
}

#[test]
fn nothing_is_shown_that_is_not_in_the_list() {
    let metrics = Metrics::new();
    metrics.assigned(3, 0);
    metrics.epoch_committed(&epoch(), 100_000);
    let text = metrics.render(0);
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in shown {
        assert!(METRICS.iter().any(|metric| metric.name == name), "{name} is not in the list");
    }
    let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name stands for one metric");
    let reasons: Vec<&str> = RejectReason::ALL.iter().map(|reason| reason.as_str()).collect();
    let listed = METRICS.iter().find(|metric| metric.name == names::REJECTS).map(|metric| metric.labels[0]);
    for reason in listed.unwrap().1 {
        assert!(reasons.contains(reason));
    }
}

#[test]
fn indexes_by_reason_and_kind_are_the_places_in_their_lists() {
    for (place, reason) in RejectReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, place);
    }
    for (place, reason) in CloseReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, place);
    }
    for (place, kind) in EMBEDDING_KINDS.into_iter().enumerate() {
        assert_eq!(kind as usize, place);
    }
    for (place, cause) in AbortCause::ALL.into_iter().enumerate() {
        assert_eq!(cause as usize, place);
    }
}

#[test]
fn samples_do_not_pile_up_where_nobody_scrapes() {
    let metrics = Metrics::new();
    let mut stats = epoch();
    stats.cause_timestamps_ms = vec![0; SAMPLES_MAX / 2];
    for _ in 0..3 {
        metrics.epoch_committed(&stats, 1_000);
    }
    assert!(metrics.series.samples.load(Ordering::Relaxed) < SAMPLES_MAX);
    let count = format!("{}", 3 * stats.cause_timestamps_ms.len());
    assert_eq!(sample(&metrics, 0, "dce_record_to_commit_seconds_count"), Some(count), "and none is lost");
}

/// `UPDATE_EXPECT=1 cargo test` writes it anew.
#[test]
fn the_documentation_is_the_list() {
    let mut page = "# Metrics\n\n\
        `/metrics` of `http.listen` gives these in Prometheus's text format. The list is `src/telemetry/names.rs`; a test makes\n\
        this page of it. Counters are counted when an epoch is committed, so that a repeated epoch counts once. Series of a\n\
        partition are shown by the worker that has it, and computed at the scrape: they go on rising where nothing commits.\n\n\
        | metric | kind | label | what it says |\n| --- | --- | --- | --- |\n"
        .to_owned();
    let row = |page: &mut String, metric: &Metric| {
        let label = |(label, values): &names::Label| match values {
            [] => format!("`{label}`"),
            _ if metric.name == names::BUILD_INFO => format!("`{label}`"),
            _ => format!("`{label}`: {}", values.join(", ")),
        };
        let labels = metric.labels.iter().map(label).collect::<Vec<_>>().join("; ");
        _ = writeln!(page, "| `{}` | {} | {labels} | {} |", metric.name, metric.kind.as_str(), metric.help);
    };
    METRICS.iter().for_each(|metric| row(&mut page, metric));
    page += "\nA partition is stuck where `dce_partition_consumer_lag_records` is above 0 and\n\
        `dce_partition_last_commit_age_seconds` keeps rising. It is late where `dce_partition_event_time_lag_seconds` rises while\n\
        commits go on. A worker is at its limit where `dce_epoch_records` comes near `epoch.events_max`. A transaction hangs where\n\
        `dce_partition_undecided_seconds` is above 30: [what to do](operations.md#a-transaction-that-hangs).\n";
    page += "\n## Of the monitor\n\n\
        `/metrics` of `monitor.listen` gives these, and `dce_registry_answers_total`, `dce_registry_waiting` and\n\
        `dce_build_info` of the above. Counters are counted when windows are published; those of an instance that stands by\n\
        stay at 0. A segment's series are those of its newest window, of at most 300 segments, and end a day after it.\n\
        Rules for Prometheus: `deploy/prometheus/dce-monitor.rules.yml`; a dashboard for Grafana: `deploy/grafana/dce-drift.json`.\n\n\
        | metric | kind | label | what it says |\n| --- | --- | --- | --- |\n";
    names::MONITOR.iter().for_each(|metric| row(&mut page, metric));
    expect_file!["../../../docs/metrics.md"].assert_eq(&page);
}

#[test]
fn workers_of_one_process_add_up() {
    let first = Metrics::new();
    let second = first.of_worker(1);
    let shown = |name: &str| sample(&first, 100_000, name).unwrap();
    first.epoch_committed(&epoch(), 100_000);
    second.epoch_committed(&epoch(), 100_000);
    assert_eq!(shown("dce_records_total"), "500");
    first.restoring(2, 700);
    second.restoring(1, 50);
    first.at_rest(10, 4_000);
    second.at_rest(5, 2_000);
    first.registry_waiting(true);
    second.registry_waiting(true);
    let sums = || {
        ["partitions_restoring", "restore_remaining_offsets", "customers_at_rest", "customers_at_rest_bytes"]
            .map(|name| shown(&format!("dce_{name}")))
    };
    assert_eq!(sums(), ["3", "750", "15", "6000"]);
    assert_eq!(shown("dce_registry_waiting"), "2");
    first.restoring(0, 0);
    second.registry_waiting(false);
    assert_eq!(sums()[..2], ["1", "50"], "what one of them says leaves the other's");
    assert_eq!(shown("dce_registry_waiting"), "1");
}

#[test]
fn a_partition_is_its_last_owners() {
    let first = Metrics::new();
    let second = first.of_worker(1);
    let lag = || sample(&first, 100_000, "dce_partition_consumer_lag_records{partition=\"3\"}");
    first.assigned(3, 50_000);
    first.consumer_lag(3, 17);
    second.assigned(3, 60_000);
    second.consumer_lag(3, 8);
    first.consumer_lag(3, 99);
    first.revoked(3);
    assert_eq!(lag().as_deref(), Some("8"), "one that was thrown out hears of it later");
    assert_eq!(second.assigned_partitions(), [3]);
    second.revoked(3);
    assert_eq!(lag(), None);
}
