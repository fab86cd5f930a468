//! How the outputs are written: by the encoding, or by the ids that the schema registry gives.

use super::{Watch, WorkerError, WorkerSettings};
use crate::config::Encoding;
use crate::pipeline::epoch::Body;
use crate::pipeline::sink::Encode;
use crate::registry::{self, Interrupted, OutputIds, RegisteredTopics, Resolver};
use crate::stop::Stop;

/// How outputs are written, with all that it takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Written {
    By(Encoding),
    ByIds(OutputIds),
}

/// Asks the registry where there is one; `None` where the stop came first.
pub(super) fn written(
    settings: &WorkerSettings,
    resolver: &Resolver,
    watch: &Watch<'_>,
    stop: &Stop,
) -> Result<Option<Written>, WorkerError> {
    let mut on_event = |event: registry::Event<'_>| {
        watch.registry(&event);
        false
    };
    let asked = match (settings.encoding, &settings.registry) {
        (Encoding::Confluent, Some(registry)) => {
            let topics = &settings.sink.topics;
            let topics = RegisteredTopics {
                embeddings: &topics.embeddings,
                live: topics.live.as_deref(),
                sessions: topics.sessions.as_deref(),
                ticks: settings.idle_after.map(|_| settings.source.topic.as_str()),
            };
            let ids = resolver.register_outputs(registry, &topics, stop, &mut on_event);
            ids.map(|ids| ids.map(Written::ByIds))
        }
        (encoding, _) => {
            let greeted = resolver.greet(stop, &mut on_event);
            greeted.map(|greeted| greeted.map(|()| Written::By(encoding)))
        }
    };
    watch.metrics.registry_waiting(false);
    match asked {
        Ok(written) => Ok(Some(written?)),
        Err(Interrupted::Stopped | Interrupted::GaveUp) => Ok(None),
    }
}

pub(super) fn encoder(written: Written) -> Encode {
    Box::new(move |body, out| {
        let encoded = match (body, written) {
            (Body::Embedding(record), Written::By(encoding)) => record.encode_into(encoding, out),
            (Body::Embedding(record), Written::ByIds(ids)) => record.encode_by_id(ids.embedding, out),
            (Body::Session(summary), Written::By(encoding)) => summary.encode_into(encoding, out),
            (Body::Session(summary), Written::ByIds(ids)) => {
                summary.encode_by_id(ids.session.expect("sessions are written where their topic was registered"), out)
            }
            (Body::Reject(_) | Body::Erased(_), Written::By(_) | Written::ByIds(_)) => Ok(()),
        };
        encoded.expect("embeddings are finite and of unit length before they get here");
    })
}
