//! The picture of `docs/architecture.md` as tables: what each module may import and name.

/// Which modules a module may use, beside itself. A stage of the pipeline may use the stages before it, too.
pub(super) const IMPORTS: [(&str, &[&str]); 36] = [
    ("types", &[]),
    ("stop", &[]),
    ("config", &["types"]),
    ("wire", &["types", "config"]),
    ("files", &["types", "config", "wire"]),
    ("telemetry", &["types", "config", "wire"]),
    ("health", &["types"]),
    ("http", &["types", "stop", "config", "telemetry", "health"]),
    ("kafka", &["types", "stop", "config", "telemetry"]),
    ("registry", &["types", "stop", "config", "wire", "telemetry"]),
    ("model", &["types", "config", "wire"]),
    ("store", &["types", "telemetry"]),
    ("generate", &["types", "wire"]),
    ("pipeline::history", &["types"]),
    ("pipeline::pace", &["kafka"]),
    ("pipeline::source", &["types", "stop", "config", "wire", "telemetry", "kafka"]),
    ("pipeline::decode", &["types", "config", "wire", "model"]),
    ("pipeline::session", &["types", "config", "wire", "model"]),
    ("pipeline::encode", &["types", "config", "wire", "model"]),
    ("pipeline::customer", &["types", "config", "wire", "model"]),
    ("pipeline::rest", &["types"]),
    ("pipeline::log", &["types", "wire"]),
    ("pipeline::logged", &["types", "wire"]),
    ("pipeline::partitions", &["types", "config", "wire", "model"]),
    ("pipeline::savepoint", &["types", "wire"]),
    ("pipeline::epoch", &["types", "config", "wire", "model"]),
    ("pipeline::state", &["types", "stop", "config", "wire", "telemetry", "kafka", "registry", "model", "store"]),
    ("pipeline::shelf", &["types", "telemetry", "kafka", "store"]),
    ("pipeline::producers", &["types", "stop", "config", "wire", "telemetry", "kafka"]),
    ("pipeline::sink", &["types", "stop", "config", "wire", "telemetry", "kafka"]),
    ("pipeline::succession", &["types", "stop", "config", "wire", "telemetry", "kafka"]),
    ("pipeline::undecided", &["types", "stop", "config", "wire", "telemetry", "kafka"]),
    (
        "pipeline::worker",
        &["types", "stop", "config", "wire", "telemetry", "health", "http", "kafka", "registry", "model", "store"],
    ),
    ("drift", &["types", "stop", "config", "wire", "telemetry", "health", "http", "kafka", "registry"]),
    ("serve", &["types", "stop", "config", "wire", "telemetry", "health", "http", "kafka", "registry"]),
    (
        "replay",
        &[
            "types",
            "stop",
            "config",
            "wire",
            "files",
            "telemetry",
            "health",
            "http",
            "kafka",
            "registry",
            "model",
            "pipeline",
        ],
    ),
];

/// What may use everything: it puts the program together.
pub(super) const TOP: [&str; 2] = ["cli", "main"];

/// Imports against the tables, each with its reason.
pub(super) const IMPORTS_ALLOWED: [(&str, &str, &str); 1] = [(
    "pipeline::session",
    "pipeline::encode",
    "the encoder's input is filled where the session's events are, without a copy between",
)];

/// Modules without world: no clock, no tasks, no clients; what they need comes as an argument.
pub(super) const PURE: [&str; 36] = [
    "types",
    "wire",
    "generate",
    "model::manifest",
    "model::features",
    "model::fake",
    "pipeline::history",
    "pipeline::decode",
    "pipeline::session",
    "pipeline::encode",
    "pipeline::customer",
    "pipeline::rest",
    "pipeline::log",
    "pipeline::logged",
    "pipeline::partitions",
    "pipeline::savepoint",
    "pipeline::epoch",
    "drift::histogram",
    "drift::statistics",
    "drift::window",
    "drift::vectors",
    "drift::counted",
    "drift::collect",
    "drift::verdict",
    "drift::score",
    "drift::reference",
    "drift::threshold",
    "drift::creep",
    "drift::judge",
    "drift::companions",
    "drift::words",
    "drift::alarm",
    "drift::packed",
    "drift::engine",
    "drift::board",
    "drift::view",
];

pub(super) const IMPURE_WORDS: [&str; 8] =
    ["async", "await", "tokio", "rdkafka", "ort", "metrics", "Instant", "SystemTime"];

/// Crates that are one module's business.
pub(super) const CRATES: [(&str, &[&str]); 16] = [
    (
        "rdkafka",
        &[
            "kafka",
            "pipeline::source",
            "pipeline::producers",
            "pipeline::sink",
            "pipeline::state",
            "drift::reader",
            "serve::reader",
            "replay::topic",
            "cli::demo",
            "cli::bench",
            "cli::generate::kafka",
        ],
    ),
    ("ort", &["model"]),
    ("lsm_tree", &["store"]),
    ("xxhash_rust", &["store", "pipeline::session", "drift"]),
    // Container files are compressed by its codecs.
    ("apache_avro", &["wire", "files::avro"]),
    ("parquet", &["files"]),
    ("zstd", &["files"]),
    ("indicatif", &["cli"]),
    ("axum", &["http", "drift", "serve"]),
    ("ureq", &["registry", "drift"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("toml", &["config", "model"]),
    ("anyhow", &["cli", "pipeline::worker"]),
];

/// The one place for `unsafe`.
pub(super) const UNSAFE: [&str; 1] = ["kafka"];

pub(super) const LINES_MAX: usize = 600;

/// Longer files, each with its reason.
pub(super) const LONG_FILES: [(&str, &str); 0] = [];

/// Paths of somebody's machine. Split, so that this file does not hold them.
pub(super) const MACHINE_PATHS: [&str; 2] = [concat!("/ho", "me/"), concat!("/wo", "rk/")];

/// Where packages come from is the machine's business, set up in its own configuration.
pub(super) const REGISTRIES: [&str; 8] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("repo1.maven", ".org"),
    concat!("repo.maven", ".apache"),
    concat!("npmjs", ".org"),
    concat!("deb.debian", ".org"),
    concat!("proxy.golang", ".org"),
];

/// Files that may hold them, each with its reason.
pub(super) const TEXTS_ALLOWED: [(&str, &str); 2] = [
    ("Cargo.lock", "cargo writes the index's usual name whatever the registry"),
    ("deploy/setup/bare-debian.sh", "its paths lie inside the machine that it makes"),
];
