//! `dce run`: the pipeline on a Kafka, until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::Frame;
use super::signals::Signals;
use super::workers::side_by_side;
use crate::config::Config;
use crate::health::Health;
use crate::http::{self, Shown};
use crate::kafka::client::{ClientSettings, TRANSACTION_TIMEOUT};
use crate::kafka::conform::Role;
use crate::kafka::topics::{self, Inspector};
use crate::model::bundle::Bundle;
use crate::model::device;
use crate::model::onnx::OnnxModel;
use crate::pipeline::sink::{OutputTopics, SinkSettings};
use crate::pipeline::source::SourceSettings;
use crate::pipeline::undecided::Undecided;
use crate::pipeline::worker::{self, LocalStore, Watch, WorkerSettings};
use crate::store::{Identity, Store};
use crate::telemetry::Clock;
use crate::telemetry::metrics::Metrics;

/// How long the broker may take to answer at the start.
const BROKER_WAIT: Duration = Duration::from_secs(15);
/// Of records fetched ahead, by all workers of the process together.
const PREFETCH_KBYTES: u32 = 32 * 1024;
/// What part of the cache is for blocks of the local store's files; the rest is for customers' records.
const CACHE_OF_BLOCKS: usize = 4;
/// Of records not yet acknowledged, by all workers of the process together.
const BUFFER_KBYTES: u32 = 128 * 1024;
/// Of the records of the epochs that are computed at one time, likewise.
const EPOCH_BYTES_MAX: usize = 64 << 20;

const EXAMPLES: &str = "Examples:
  dce run --create-topics                          on localhost:9092, a first time
  dce run --config bank.toml                       with settings of your own
  DCE_APP__INSTANCE=$HOSTNAME dce run              one of several processes
  dce run --set app.workers=4                      four workers in this one
  dce run --set inference.device=cuda:0            the model on a GPU
  dce run --set model.path=models/mine --set provisional.every_events=5

SIGTERM or ^C drains: the running epoch commits, then the worker ends; a second one ends it at once. /live, /ready and /metrics answer on http.listen.";

/// Run the pipeline: read clicks, publish embeddings, until SIGTERM.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Create the topics that are missing, with the partitions of the clickstream (of a new one: 4).
    #[arg(long)]
    create_topics: bool,
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    frame.start_logs(&config)?;
    let signals = Signals::listen()?;
    let (stop, clock) = (&signals.stop, Clock::start());
    let count = config.app.workers;
    let settings = worker_settings(&config);
    let models = load_models(frame, &config, count)?;
    let asked = signals.before_the_start(|| {
        check_topics(arguments, &config, &settings.source.client)?;
        local_store(&config, &settings.source.client)
    });
    let Some(store) = asked.transpose()? else { return Ok(()) };
    let metrics = Arc::new(Metrics::new());
    let health: Arc<[Health]> = (0..count).map(|_| Health::new(clock.uptime())).collect();
    metrics.inference_device(&models[0].device().to_string());
    let shown = Shown { clock, health: Arc::clone(&health), metrics: Arc::clone(&metrics) };
    let _server = config.http_listen.map(|listen| http::serve(listen, shown, http::index())).transpose()?;
    let _undecided = Undecided::watch(&settings.sink, &settings.source.application, clock, Arc::clone(&metrics))?;
    side_by_side(models, stop, |number, mut model| {
        let settings = WorkerSettings { store: store.clone(), ..settings_of(&config, number, count) };
        let metrics = metrics.of_worker(number);
        let mut watch = Watch { clock, health: &health[number], metrics: &metrics, committed: &mut |_| () };
        Ok(worker::run(&settings, &mut model, &mut watch, stop)?)
    })
}

/// The bundle that the settings name, put to its tests.
pub(super) fn load_model(frame: &Frame, config: &Config) -> anyhow::Result<OnnxModel> {
    Ok(load_models(frame, config, 1)?.remove(0))
}

/// The same, opened once for each worker; there is one at least.
fn load_models(frame: &Frame, config: &Config, count: usize) -> anyhow::Result<Vec<OnnxModel>> {
    let (runtime, found) = device::find(config.inference_device, |name| frame.variable(name))?;
    if let Some(why) = &found.why_not_cuda {
        tracing::info!(device = %found.device, why_not_cuda = why, "inference.device is auto, and no GPU can be used");
    }
    let bundle = Bundle::read(&config.model_path)?;
    let open = || OnnxModel::open(&runtime, &bundle, config.inference_threads, found.device);
    let mut model = open()?;
    model.check(&bundle)?;
    tracing::info!(
        model = crate::model::Model::id(&model).as_str(),
        device = %model.device(),
        onnxruntime = %runtime.library().display(),
        "model loaded and checked"
    );
    let mut models = vec![model];
    while models.len() < count {
        models.push(open()?);
    }
    Ok(models)
}

/// Of a worker that is alone in its process.
pub(super) fn worker_settings(config: &Config) -> WorkerSettings {
    settings_of(config, 0, 1)
}

/// Of one of so many workers of the process; they divide what bounds its memory.
fn settings_of(config: &Config, worker: usize, workers: usize) -> WorkerSettings {
    let share = |kbytes: u32| kbytes / u32::try_from(workers).unwrap_or(u32::MAX);
    let client = ClientSettings::from(&config.kafka);
    let topics = &config.topics;
    WorkerSettings {
        source: SourceSettings {
            client: client.clone(),
            topic: topics.clickstream.clone(),
            application: config.app.id.clone(),
            slot: config.app.slot(worker),
            prefetch_kbytes: share(PREFETCH_KBYTES),
        },
        sink: SinkSettings {
            client,
            delivery: config.delivery,
            transactional_id: config.app.transactional_id(worker),
            transaction_timeout: TRANSACTION_TIMEOUT,
            buffer_kbytes: share(BUFFER_KBYTES),
            input: topics.clickstream.clone(),
            topics: OutputTopics {
                embeddings: topics.embeddings.clone(),
                live: topics.embeddings_live.clone(),
                sessions: topics.sessions.clone(),
                rejected: topics.rejected.clone(),
                state: topics.state.clone(),
            },
        },
        encoding: config.encoding,
        registry: config.registry.clone(),
        rules: config.session.clone(),
        labels: config.labels.iter().map(|label| Arc::from(label.as_str())).collect(),
        epoch_events_max: config.epoch.events_max,
        epoch_bytes_max: EPOCH_BYTES_MAX / workers,
        epoch_wait_max: config.epoch.wait_max,
        idle_after: config.idle_after,
        store: None,
    }
}

/// Opens the local store, where there is to be one: all workers' together, which divide its cache.
fn local_store(config: &Config, client: &ClientSettings) -> anyhow::Result<Option<LocalStore>> {
    let Some(dir) = &config.state.dir else { return Ok(None) };
    let inspector = Inspector::new(client)?;
    let cluster = inspector.cluster_id(BROKER_WAIT)?;
    // One that was made anew under the same name is another log.
    let id = inspector.topic_id(&config.topics.state, BROKER_WAIT)?;
    let topic = format!("{} {id}", config.topics.state);
    let identity =
        Identity { application: &config.app.id, instance: &config.app.instance, cluster: &cluster, topic: &topic };
    let bytes = config.state.cache_bytes;
    let of_blocks = bytes / CACHE_OF_BLOCKS;
    let opened =
        Store::open(dir, &identity, of_blocks as u64).with_context(|| format!("state.dir {}", dir.display()))?;
    let cache_bytes = (bytes - of_blocks) / config.app.workers;
    Ok(Some(LocalStore { store: opened.store, cache_bytes }))
}

/// The partitions of a clickstream that had to be created.
const NEW_PARTITIONS: usize = 4;

fn check_topics(arguments: &Arguments, config: &Config, client: &ClientSettings) -> anyhow::Result<()> {
    let inspector = Inspector::new(client)?;
    let input = &config.topics.clickstream;
    if arguments.create_topics {
        let partitions = inspector.describe(input, BROKER_WAIT)?.unwrap_or(NEW_PARTITIONS);
        let specs = Role::specs(&config.topics, partitions, None, config.session.future_max_ms);
        let created = topics::create(client, &specs, BROKER_WAIT).context("creating topics")?;
        if !created.is_empty() {
            tracing::info!(topics = ?created, partitions, "topics created");
        }
    }
    inspector.check(input, &config.topics.written(), BROKER_WAIT)?;
    let (workers, partitions) = (config.app.workers, inspector.describe(input, BROKER_WAIT)?.unwrap_or(0));
    if workers > partitions {
        tracing::warn!(workers, partitions, "app.workers is above the clickstream's partitions: some never get one");
    }
    let kept = topics::check_kept(client, input, BROKER_WAIT)?;
    let (retention_ms, kept_ms) = (kept.and_then(|kept| kept.ms), config.session.kept_ms());
    if let Some(retention_ms) = retention_ms.filter(|ms| *ms < kept_ms) {
        tracing::warn!(
            topic = input,
            retention_ms,
            kept_ms,
            "the clickstream is not kept for long enough: what open sessions got is read from it again after a crash, and a \
             restart is refused where it is gone"
        );
    }
    Ok(())
}
