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

/// One metric. Its unit is in its name: seconds, records, or a plain number.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// The label and the closed set of its values; of `partition` and `device` only the name.
    pub label: Option<(&'static str, &'static [&'static str])>,
    pub help: &'static str,
}

pub const RECORDS: &str = "dce_records_total";
pub const DUPLICATES: &str = "dce_duplicates_total";
pub const REJECTS: &str = "dce_rejects_total";
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

const PARTITION: Option<(&str, &[&str])> = Some(("partition", &[]));

/// In the order in which `docs/metrics.md` shows them: what came in, what went out, how epochs go, how partitions stand.
pub const METRICS: [Metric; 30] = [
    Metric {
        name: RECORDS,
        kind: Kind::Counter,
        label: None,
        help: "input records whose effects are committed, rejected and duplicate ones included",
    },
    Metric {
        name: DUPLICATES,
        kind: Kind::Counter,
        label: None,
        help: "clicks that were already part of a session; they change nothing and are not published",
    },
    Metric {
        name: REJECTS,
        kind: Kind::Counter,
        label: Some(("reason", &["decode", "key", "customer", "future", "late", "full"])),
        help: "records that went to the rejected topic",
    },
    Metric { name: ERASURES, kind: Kind::Counter, label: None, help: "customers forgotten on request" },
    Metric {
        name: SESSIONS_CLOSED,
        kind: Kind::Counter,
        label: Some(("reason", &["LOGOUT", "RELOGIN", "GAP", "DURATION_MAX", "EVENTS_MAX", "EVICTED"])),
        help: "sessions that closed, by why they closed first",
    },
    Metric {
        name: SESSIONS_REVISED,
        kind: Kind::Counter,
        label: None,
        help: "sessions that a straggler completed or cut after they had closed, each time",
    },
    Metric {
        name: EMBEDDINGS,
        kind: Kind::Counter,
        label: Some(("kind", &["PROVISIONAL", "SESSION_CLOSED", "SESSION_REVISED"])),
        help: "embeddings committed",
    },
    Metric { name: EPOCHS, kind: Kind::Counter, label: None, help: "epochs committed, one transaction each" },
    Metric {
        name: EPOCHS_ABORTED,
        kind: Kind::Counter,
        label: Some(("cause", &["rebalance", "broker", "fatal", "unknown_outcome", "local_store"])),
        help: "epochs dropped and done again: partitions were taken away, the broker refused the transaction, the producer \
               was fenced or broken, or nobody can say whether it was committed",
    },
    Metric {
        name: EPOCH_RECORDS,
        kind: Kind::Histogram,
        label: None,
        help: "input records of an epoch; near epoch.events_max the worker is at its limit",
    },
    Metric {
        name: EPOCH_PHASE_SECONDS,
        kind: Kind::Histogram,
        label: Some(("phase", &["wait", "sessionize", "encode", "fold", "commit"])),
        help: "time of an epoch spent waiting for records, decoding and sessionizing, encoding sessions, folding and reading \
               customers, and committing; the last one overlaps with the next epoch's others",
    },
    Metric {
        name: RECORD_TO_COMMIT_SECONDS,
        kind: Kind::Histogram,
        label: None,
        help: "from the timestamp of the record that caused an embedding to the commit that shows it",
    },
    Metric {
        name: PARTITION_EVENT_TIME_LAG_SECONDS,
        kind: Kind::Gauge,
        label: PARTITION,
        help: "wall clock minus stream time; rises where a partition is stuck or its input is silent",
    },
    Metric {
        name: PARTITION_LAST_COMMIT_AGE_SECONDS,
        kind: Kind::Gauge,
        label: PARTITION,
        help: "time since an epoch with records of the partition was committed, or since it was assigned; with a consumer \
               lag above 0 it says that the partition is stuck",
    },
    Metric {
        name: PARTITION_CONSUMER_LAG_RECORDS,
        kind: Kind::Gauge,
        label: PARTITION,
        help: "records in the input that are not yet committed",
    },
    Metric {
        name: PARTITION_COMMITTED_OFFSET,
        kind: Kind::Gauge,
        label: PARTITION,
        help: "offset to read next after the last commit",
    },
    Metric {
        name: PARTITION_OPEN_SESSIONS,
        kind: Kind::Gauge,
        label: PARTITION,
        help: "sessions that are open; those of a silent partition stay so until its stream time moves",
    },
    Metric { name: PARTITION_CUSTOMERS, kind: Kind::Gauge, label: PARTITION, help: "customers known" },
    Metric {
        name: PARTITIONS_RESTORING,
        kind: Kind::Gauge,
        label: None,
        help: "partitions of this process whose state is being restored; the others go on meanwhile",
    },
    Metric {
        name: RESTORE_REMAINING_OFFSETS,
        kind: Kind::Gauge,
        label: None,
        help: "offsets of the state's log and of the input still to be read before they go on too",
    },
    Metric {
        name: CUSTOMERS_AT_REST,
        kind: Kind::Gauge,
        label: None,
        help: "customers without an open or revisable session, in memory or in the local store",
    },
    Metric { name: CUSTOMERS_AT_REST_BYTES, kind: Kind::Gauge, label: None, help: "about what these take of memory" },
    Metric {
        name: LOCAL_STORE_BYTES,
        kind: Kind::Gauge,
        label: None,
        help: "bytes of the files of the local store (state.dir), by the last look (every 5 s)",
    },
    Metric {
        name: LOCAL_STORE_READS,
        kind: Kind::Counter,
        label: None,
        help: "customers looked for in the local store since memory did not have them, new ones too",
    },
    Metric {
        name: PARTITION_UNDECIDED_RECORDS,
        kind: Kind::Gauge,
        label: PARTITION,
        help: "records and markers in the output topics, at that partition number, that readers of committed records do not \
               see yet, by the last look (every 10 s); mostly those of the epoch that commits",
    },
    Metric {
        name: PARTITION_UNDECIDED_SECONDS,
        kind: Kind::Gauge,
        label: PARTITION,
        help: "for how long the same transaction has been open there, by the last look; above 30 it hangs, and readers of \
               committed records stand still",
    },
    Metric {
        name: REGISTRY_ANSWERS,
        kind: Kind::Counter,
        label: Some(("answer", &["found", "unknown", "unusable", "refused", "away"])),
        help: "requests to the schema registry, by how they went: a schema or id was given, there is none by that id, it is \
               nothing that dce can use, the login was refused, or no registry answered",
    },
    Metric {
        name: REGISTRY_WAITING,
        kind: Kind::Gauge,
        label: None,
        help: "workers of this process that wait for the schema registry and read nothing",
    },
    Metric {
        name: BUILD_INFO,
        kind: Kind::Gauge,
        label: Some(("version", &[env!("CARGO_PKG_VERSION")])),
        help: "always 1; the label says which dce this is",
    },
    Metric {
        name: INFERENCE_DEVICE_INFO,
        kind: Kind::Gauge,
        label: Some(("device", &[])),
        help: "always 1; the label says where the model runs: cpu, or cuda: and the GPU's number",
    },
];
