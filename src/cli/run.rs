//! `dce run`: the pipeline on a Kafka, until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::{Frame, stop_on_signals};
use crate::config::Config;
use crate::health::Health;
use crate::http::{self, Shown};
use crate::kafka::client::{ClientSettings, TRANSACTION_TIMEOUT};
use crate::kafka::topics::{self, Inspector, TopicSpec};
use crate::model::device;
use crate::model::onnx::OnnxModel;
use crate::pipeline::sink::{OutputTopics, SinkSettings};
use crate::pipeline::source::SourceSettings;
use crate::pipeline::undecided::Undecided;
use crate::pipeline::worker::{self, Watch, WorkerSettings};
use crate::telemetry::Clock;
use crate::telemetry::metrics::Metrics;

/// How long the broker may take to answer at the start.
const BROKER_WAIT: Duration = Duration::from_secs(15);
/// Of records fetched ahead.
const PREFETCH_KBYTES: u32 = 32 * 1024;
/// Of records not yet acknowledged.
const BUFFER_KBYTES: u32 = 128 * 1024;

const EXAMPLES: &str = "Examples:
  dce run --create-topics                          on localhost:9092, a first time
  dce run --config bank.toml                       with settings of your own
  DCE_APP__INSTANCE=$HOSTNAME dce run              one of several workers
  dce run --set inference.device=cuda:0            the model on a GPU
  dce run --set model.path=models/mine --set provisional.every_events=5

SIGTERM or ^C drains: the running epoch commits, then the worker leaves its group; a second one ends it
at once. /live, /ready and /metrics answer on http.listen.";

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
    let stop = stop_on_signals()?;
    let clock = Clock::start();
    let settings = worker_settings(&config);
    let mut model = load_model(frame, &config)?;
    check_topics(arguments, &config, &settings.source.client)?;
    let (health, metrics) = (Arc::new(Health::new(clock.uptime())), Arc::new(Metrics::new()));
    metrics.inference_device(&model.device().to_string());
    let shown = Shown { clock, health: Arc::clone(&health), metrics: Arc::clone(&metrics) };
    let _server = config.http_listen.map(|listen| http::serve(listen, shown)).transpose()?;
    let _undecided = Undecided::watch(&settings.sink, &settings.source.application, clock, Arc::clone(&metrics))?;
    let mut watch = Watch { clock, health: &health, metrics: &metrics, committed: &mut |_| () };
    worker::run(&settings, &mut model, &mut watch, &stop)?;
    Ok(())
}

/// The bundle that the settings name, put to its tests.
pub(super) fn load_model(frame: &Frame, config: &Config) -> anyhow::Result<OnnxModel> {
    let (runtime, found) = device::find(config.inference_device, |name| frame.variable(name))?;
    if let Some(why) = &found.why_not_cuda {
        tracing::info!(device = %found.device, why_not_cuda = why, "inference.device is auto, and no GPU can be used");
    }
    let model = OnnxModel::load(&runtime, &config.model_path, config.inference_threads, found.device)?;
    tracing::info!(
        model = crate::model::Model::id(&model).as_str(),
        device = %model.device(),
        onnxruntime = %runtime.library().display(),
        "model loaded and checked"
    );
    if !crate::model::Model::heads(&model).is_empty() {
        tracing::warn!("the bundle's heads are not run yet: the records' scores stay empty");
    }
    Ok(model)
}

pub(super) fn worker_settings(config: &Config) -> WorkerSettings {
    let client = ClientSettings::from(&config.kafka);
    let topics = &config.topics;
    WorkerSettings {
        source: SourceSettings {
            client: client.clone(),
            topic: topics.clickstream.clone(),
            application: config.app.id.clone(),
            slot: config.app.instance.clone(),
            prefetch_kbytes: PREFETCH_KBYTES,
        },
        sink: SinkSettings {
            client,
            delivery: config.delivery,
            transactional_id: config.app.transactional_id(),
            transaction_timeout: TRANSACTION_TIMEOUT,
            buffer_kbytes: BUFFER_KBYTES,
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
        epoch_wait_max: config.epoch.wait_max,
    }
}

/// The partitions of a clickstream that had to be created.
const NEW_PARTITIONS: usize = 4;

fn check_topics(arguments: &Arguments, config: &Config, client: &ClientSettings) -> anyhow::Result<()> {
    let inspector = Inspector::new(client)?;
    let input = &config.topics.clickstream;
    if arguments.create_topics {
        let partitions = inspector.describe(input, BROKER_WAIT)?.unwrap_or(NEW_PARTITIONS);
        let specs = TopicSpec::of_pipeline(&config.topics, partitions, None, config.session.future_max_ms);
        let created = topics::create(client, &specs, BROKER_WAIT).context("creating topics")?;
        if !created.is_empty() {
            tracing::info!(topics = ?created, partitions, "topics created");
        }
    }
    inspector.check(input, &config.topics.written(), BROKER_WAIT)?;
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
