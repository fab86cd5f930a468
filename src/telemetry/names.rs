//! Every metric that `dce` gives: name, unit, labels and meaning. `docs/metrics.md` is made of this list.

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label's name, and its values.
pub type Label = (&'static str, &'static [&'static str]);

/// One metric. Its unit is in its name: seconds, records, or a plain number.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// Labels, each with the closed set of its values; of `partition`, `device` and `segment` only the name.
    pub labels: &'static [Label],
    pub help: &'static str,
}

pub const RECORDS: &str = "dce_records_total";
pub const DUPLICATES: &str = "dce_duplicates_total";
pub const REJECTS: &str = "dce_rejects_total";
pub const TICKS_SENT: &str = "dce_ticks_sent_total";
pub const ERASURES: &str = "dce_erasures_total";
pub const SESSIONS_CLOSED: &str = "dce_sessions_closed_total";
pub const SESSIONS_REVISED: &str = "dce_sessions_revised_total";
pub const EMBEDDINGS: &str = "dce_embeddings_total";
pub const EPOCHS: &str = "dce_epochs_total";
pub const EPOCHS_ABORTED: &str = "dce_epochs_aborted_total";
pub const EPOCH_RECORDS: &str = "dce_epoch_records";
pub const EPOCH_PHASE_SECONDS: &str = "dce_epoch_phase_seconds";
pub const RECORD_TO_COMMIT_SECONDS: &str = "dce_record_to_commit_seconds";
pub const PARTITION_EVENT_TIME_LAG_SECONDS: &str = "dce_partition_event_time_lag_seconds";
pub const PARTITION_LAST_COMMIT_AGE_SECONDS: &str = "dce_partition_last_commit_age_seconds";
pub const PARTITION_CONSUMER_LAG_RECORDS: &str = "dce_partition_consumer_lag_records";
pub const PARTITION_COMMITTED_OFFSET: &str = "dce_partition_committed_offset";
pub const PARTITION_OPEN_SESSIONS: &str = "dce_partition_open_sessions";
pub const PARTITION_CUSTOMERS: &str = "dce_partition_customers";
pub const PARTITIONS_RESTORING: &str = "dce_partitions_restoring";
pub const RESTORE_REMAINING_OFFSETS: &str = "dce_restore_remaining_offsets";
pub const CUSTOMERS_AT_REST: &str = "dce_customers_at_rest";
pub const CUSTOMERS_AT_REST_BYTES: &str = "dce_customers_at_rest_bytes";
pub const LOCAL_STORE_BYTES: &str = "dce_local_store_bytes";
pub const LOCAL_STORE_READS: &str = "dce_local_store_reads_total";
pub const PARTITION_UNDECIDED_RECORDS: &str = "dce_partition_undecided_records";
pub const PARTITION_UNDECIDED_SECONDS: &str = "dce_partition_undecided_seconds";
pub const REGISTRY_ANSWERS: &str = "dce_registry_answers_total";
pub const REGISTRY_WAITING: &str = "dce_registry_waiting";
pub const BUILD_INFO: &str = "dce_build_info";
pub const INFERENCE_DEVICE_INFO: &str = "dce_inference_device_info";

pub const DRIFT_RECORDS: &str = "dce_drift_records_total";
pub const DRIFT_RECORDS_LATE: &str = "dce_drift_records_late_total";
pub const DRIFT_RECORDS_BAD: &str = "dce_drift_records_bad_total";
pub const DRIFT_CUSTOMERS_APART: &str = "dce_drift_customers_apart_total";
pub const DRIFT_CHECKED: &str = "dce_drift_distances_checked_total";
pub const DRIFT_DISTANCES: &str = "dce_drift_distances";
pub const DRIFT_WINDOWS: &str = "dce_drift_windows_total";
pub const DRIFT_ALERTS: &str = "dce_drift_alerts_total";
pub const DRIFT_NOTIFICATIONS: &str = "dce_drift_notifications_total";
pub const DRIFT_ACTIVE: &str = "dce_drift_active";
pub const DRIFT_LAG_RECORDS: &str = "dce_drift_lag_records";
pub const DRIFT_NEWEST_RECORD: &str = "dce_drift_newest_record_timestamp_seconds";
pub const DRIFT_WINDOW_SECONDS: &str = "dce_drift_window_seconds";
pub const DRIFT_SEGMENTS: &str = "dce_drift_segments";
pub const DRIFT_ALERTS_OPEN: &str = "dce_drift_alerts_open";
pub const DRIFT_INPUT_SHARE: &str = "dce_drift_input_share";
pub const DRIFT_LAST_WINDOW_END: &str = "dce_drift_last_window_end_timestamp_seconds";
pub const DRIFT_OUTCOME: &str = "dce_drift_outcome";
pub const DRIFT_CUSTOMERS: &str = "dce_drift_customers";
pub const DRIFT_SCORE_RATIO: &str = "dce_drift_score_ratio";
pub const DRIFT_DISTANCE_QUANTILE: &str = "dce_drift_distance_quantile";
pub const DRIFT_REFERENCE_QUANTILE: &str = "dce_drift_reference_quantile";
pub const DRIFT_ZERO_SHARE: &str = "dce_drift_zero_share";
pub const DRIFT_ALERT_OPEN: &str = "dce_drift_alert_open";

const PARTITION: &[Label] = &[("partition", &[])];

/// In the order in which `docs/metrics.md` shows them: what came in, what went out, how epochs go, how partitions stand.
pub const METRICS: [Metric; 31] = [
    Metric {
        name: RECORDS,
        kind: Kind::Counter,
        labels: &[],
        help: "input records whose effects are committed, rejected and duplicate ones included",
    },
    Metric {
        name: DUPLICATES,
        kind: Kind::Counter,
        labels: &[],
        help: "clicks that were already part of a session; they change nothing and are not published",
    },
    Metric {
        name: REJECTS,
        kind: Kind::Counter,
        labels: &[("reason", &["decode", "key", "customer", "future", "late", "full"])],
        help: "records that went to the rejected topic",
    },
    Metric { name: ERASURES, kind: Kind::Counter, labels: &[], help: "customers forgotten on request" },
    Metric {
        name: TICKS_SENT,
        kind: Kind::Counter,
        labels: &[],
        help: "TICK records sent into silent partitions of the input (session.idle_after); the log says which were not written",
    },
    Metric {
        name: SESSIONS_CLOSED,
        kind: Kind::Counter,
        labels: &[("reason", &["LOGOUT", "RELOGIN", "GAP", "DURATION_MAX", "EVENTS_MAX", "EVICTED"])],
        help: "sessions that closed, by why they closed first",
    },
    Metric {
        name: SESSIONS_REVISED,
        kind: Kind::Counter,
        labels: &[],
        help: "sessions that a straggler completed or cut after they had closed, each time",
    },
    Metric {
        name: EMBEDDINGS,
        kind: Kind::Counter,
        labels: &[("kind", &["PROVISIONAL", "SESSION_CLOSED", "SESSION_REVISED"])],
        help: "embeddings committed",
    },
    Metric { name: EPOCHS, kind: Kind::Counter, labels: &[], help: "epochs committed, one transaction each" },
    Metric {
        name: EPOCHS_ABORTED,
        kind: Kind::Counter,
        labels: &[("cause", &["rebalance", "broker", "fatal", "unknown_outcome", "local_store"])],
        help: "epochs dropped and done again: partitions were taken away, the broker refused the transaction, the producer \
               was fenced or broken, or nobody can say whether it was committed",
    },
    Metric {
        name: EPOCH_RECORDS,
        kind: Kind::Histogram,
        labels: &[],
        help: "input records of an epoch; near epoch.events_max the worker is at its limit",
    },
    Metric {
        name: EPOCH_PHASE_SECONDS,
        kind: Kind::Histogram,
        labels: &[("phase", &["wait", "sessionize", "encode", "fold", "commit"])],
        help: "time of an epoch spent waiting for records, decoding and sessionizing, encoding sessions, folding and reading \
               customers, and committing; the last one overlaps with the next epoch's others",
    },
    Metric {
        name: RECORD_TO_COMMIT_SECONDS,
        kind: Kind::Histogram,
        labels: &[],
        help: "from the timestamp of the record that caused an embedding to the commit that shows it",
    },
    Metric {
        name: PARTITION_EVENT_TIME_LAG_SECONDS,
        kind: Kind::Gauge,
        labels: PARTITION,
        help: "wall clock minus stream time; rises where a partition is stuck or its input is silent",
    },
    Metric {
        name: PARTITION_LAST_COMMIT_AGE_SECONDS,
        kind: Kind::Gauge,
        labels: PARTITION,
        help: "time since an epoch with records of the partition was committed, or since it was assigned; with a consumer \
               lag above 0 it says that the partition is stuck",
    },
    Metric {
        name: PARTITION_CONSUMER_LAG_RECORDS,
        kind: Kind::Gauge,
        labels: PARTITION,
        help: "records in the input that are not yet committed",
    },
    Metric {
        name: PARTITION_COMMITTED_OFFSET,
        kind: Kind::Gauge,
        labels: PARTITION,
        help: "offset to read next after the last commit",
    },
    Metric {
        name: PARTITION_OPEN_SESSIONS,
        kind: Kind::Gauge,
        labels: PARTITION,
        help: "sessions that are open; those of a silent partition stay so until its stream time moves",
    },
    Metric { name: PARTITION_CUSTOMERS, kind: Kind::Gauge, labels: PARTITION, help: "customers known" },
    Metric {
        name: PARTITIONS_RESTORING,
        kind: Kind::Gauge,
        labels: &[],
        help: "partitions of this process whose state is being restored; the others go on meanwhile",
    },
    Metric {
        name: RESTORE_REMAINING_OFFSETS,
        kind: Kind::Gauge,
        labels: &[],
        help: "offsets of the state's log and of the input still to be read before they go on too",
    },
    Metric {
        name: CUSTOMERS_AT_REST,
        kind: Kind::Gauge,
        labels: &[],
        help: "customers without an open or revisable session, in memory or in the local store",
    },
    Metric { name: CUSTOMERS_AT_REST_BYTES, kind: Kind::Gauge, labels: &[], help: "about what these take of memory" },
    Metric {
        name: LOCAL_STORE_BYTES,
        kind: Kind::Gauge,
        labels: &[],
        help: "bytes of the files of the local store (state.dir), by the last look (every 5 s)",
    },
    Metric {
        name: LOCAL_STORE_READS,
        kind: Kind::Counter,
        labels: &[],
        help: "customers looked for in the local store since memory did not have them, new ones too",
    },
    Metric {
        name: PARTITION_UNDECIDED_RECORDS,
        kind: Kind::Gauge,
        labels: PARTITION,
        help: "records and markers in the output topics, at that partition number, that readers of committed records do not \
               see yet, by the last look (every 10 s); mostly those of the epoch that commits",
    },
    Metric {
        name: PARTITION_UNDECIDED_SECONDS,
        kind: Kind::Gauge,
        labels: PARTITION,
        help: "for how long the same transaction has been open there, by the last look; above 30 it hangs, and readers of \
               committed records stand still",
    },
    Metric {
        name: REGISTRY_ANSWERS,
        kind: Kind::Counter,
        labels: &[("answer", &["found", "unknown", "unusable", "refused", "away"])],
        help: "requests to the schema registry, by how they went: a schema or id was given, there is none by that id, it is \
               nothing that dce can use, the login was refused, or no registry answered",
    },
    Metric {
        name: REGISTRY_WAITING,
        kind: Kind::Gauge,
        labels: &[],
        help: "workers of this process that wait for the schema registry and read nothing",
    },
    Metric {
        name: BUILD_INFO,
        kind: Kind::Gauge,
        labels: &[("version", &[env!("CARGO_PKG_VERSION")])],
        help: "always 1; the label says which dce this is",
    },
    Metric {
        name: INFERENCE_DEVICE_INFO,
        kind: Kind::Gauge,
        labels: &[("device", &[])],
        help: "always 1; the label says where the model runs: cpu, or cuda: and the GPU's number",
    },
];

/// What the monitor's process gives beside [`MONITOR`]: of [`METRICS`].
pub const OF_BOTH: [&str; 3] = [REGISTRY_ANSWERS, REGISTRY_WAITING, BUILD_INFO];

const OUTCOMES: &[&str] = &["OK", "BREACH", "INSUFFICIENT", "NO_REFERENCE"];
const QUANTILES: &[&str] = &["0.5", "0.9", "0.99"];
const SEGMENT: Label = ("segment", &[]);

/// Those of `dce monitor`, in the same manner: what was read, what was found, how the monitor stands, how each segment stands.
pub const MONITOR: [Metric; 24] = [
    Metric {
        name: DRIFT_RECORDS,
        kind: Kind::Counter,
        labels: &[("kind", &["SESSION_CLOSED", "SESSION_REVISED"])],
        help: "embeddings counted in published windows",
    },
    Metric {
        name: DRIFT_RECORDS_LATE,
        kind: Kind::Counter,
        labels: &[],
        help: "embeddings published later than monitor.lateness after their window's end, and in no distribution",
    },
    Metric {
        name: DRIFT_RECORDS_BAD,
        kind: Kind::Counter,
        labels: &[("reason", &["decode", "kind", "time"])],
        help: "records that are no embedding, of a kind that is none, or closed in the future; in no window",
    },
    Metric {
        name: DRIFT_CUSTOMERS_APART,
        kind: Kind::Counter,
        labels: &[("why", &["cold_start", "model_changed", "no_vector", "over"])],
        help: "customers of a window without a distance: their first embedding ever, of another model than the one before, no \
               unit vector, or beyond what a window's memory holds",
    },
    Metric {
        name: DRIFT_CHECKED,
        kind: Kind::Counter,
        labels: &[("result", &["same", "different"])],
        help: "distances that were computed again from both vectors, for a sample of the customers, and whether the record \
               says the same; a different one says that the pipeline is wrong",
    },
    Metric {
        name: DRIFT_DISTANCES,
        kind: Kind::Histogram,
        labels: &[],
        help: "cosine distances of customers' embeddings from the ones before, one a customer and window; the sum is by the \
               buckets' middles",
    },
    Metric {
        name: DRIFT_WINDOWS,
        kind: Kind::Counter,
        labels: &[("outcome", OUTCOMES)],
        help: "windows published, of all segments, by how they were judged",
    },
    Metric {
        name: DRIFT_ALERTS,
        kind: Kind::Counter,
        labels: &[("state", &["FIRING", "RESOLVED"])],
        help: "alerts that opened, and alerts that were resolved",
    },
    Metric {
        name: DRIFT_NOTIFICATIONS,
        kind: Kind::Counter,
        labels: &[("to", &["alertmanager", "webhook"]), ("result", &["sent", "failed"])],
        help: "attempts to tell a receiver; a failed one is made again",
    },
    Metric {
        name: DRIFT_ACTIVE,
        kind: Kind::Gauge,
        labels: &[],
        help: "1 where this instance reads and judges, 0 where it stands by or reads its past back",
    },
    Metric {
        name: DRIFT_LAG_RECORDS,
        kind: Kind::Gauge,
        labels: &[],
        help: "records of the embeddings' topic that the active instance has not read yet",
    },
    Metric {
        name: DRIFT_NEWEST_RECORD,
        kind: Kind::Gauge,
        labels: &[],
        help: "when the newest record that was read was published",
    },
    Metric {
        name: DRIFT_WINDOW_SECONDS,
        kind: Kind::Gauge,
        labels: &[],
        help: "the width of a window: monitor.window",
    },
    Metric {
        name: DRIFT_SEGMENTS,
        kind: Kind::Gauge,
        labels: &[],
        help: "segments with a window in the last day; of each there are the series below, of 300 at the most",
    },
    Metric { name: DRIFT_ALERTS_OPEN, kind: Kind::Gauge, labels: &[], help: "alerts that are open" },
    Metric {
        name: DRIFT_INPUT_SHARE,
        kind: Kind::Gauge,
        labels: &[("input", &["cold_start", "unknown_events", "gated", "revised", "late", "rejected"])],
        help: "what often moves distances, of the newest window of all: customers' first embeddings, events with unknown \
               values, sessions kept out by the gate, revisions, late records, rejected clicks, each as a share of its kind",
    },
    Metric {
        name: DRIFT_LAST_WINDOW_END,
        kind: Kind::Gauge,
        labels: &[SEGMENT],
        help: "end of the newest window of the segment; with a lag above 0 its age says that the monitor is stuck",
    },
    Metric {
        name: DRIFT_OUTCOME,
        kind: Kind::Gauge,
        labels: &[SEGMENT, ("outcome", OUTCOMES)],
        help: "1 for how the newest window was judged, 0 for the others",
    },
    Metric {
        name: DRIFT_CUSTOMERS,
        kind: Kind::Gauge,
        labels: &[SEGMENT],
        help: "distances in the newest window, one a customer, those of 0 included",
    },
    Metric {
        name: DRIFT_SCORE_RATIO,
        kind: Kind::Gauge,
        labels: &[SEGMENT, ("statistic", &["w1_log", "exceedance", "zero", "volume", "creep"])],
        help: "score over its threshold in the newest window; not there without a threshold. A breach is above 1, and has an \
               effect of some size too",
    },
    Metric {
        name: DRIFT_DISTANCE_QUANTILE,
        kind: Kind::Gauge,
        labels: &[SEGMENT, ("quantile", QUANTILES)],
        help: "of the distances in the newest window",
    },
    Metric {
        name: DRIFT_REFERENCE_QUANTILE,
        kind: Kind::Gauge,
        labels: &[SEGMENT, ("quantile", QUANTILES)],
        help: "of the distances that it was compared with",
    },
    Metric {
        name: DRIFT_ZERO_SHARE,
        kind: Kind::Gauge,
        labels: &[SEGMENT],
        help: "share of the distances that are exactly 0: customers whose embedding did not move",
    },
    Metric {
        name: DRIFT_ALERT_OPEN,
        kind: Kind::Gauge,
        labels: &[SEGMENT],
        help: "1 while an alert is open on the segment",
    },
];
