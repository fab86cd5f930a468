//! Our own schemas in the registry: registered or looked up at the start, and the ids that outputs are framed by.

use super::RegistryError;
use super::client::Client;
use super::resolver::{Event, Interrupted, Resolver, Waiter};
use crate::config::{Registry, SubjectStrategy};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::wire::avro::{CLICK_EVENT_AVSC, CUSTOMER_EMBEDDING_AVSC, SESSION_SUMMARY_AVSC};

const CUSTOMER_EMBEDDING: &str = "dce.v1.CustomerEmbedding";
const SESSION_SUMMARY: &str = "dce.v1.SessionSummary";
const CLICK_EVENT: &str = "dce.v1.ClickEvent";

/// The topics whose records are framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredTopics<'a> {
    pub embeddings: &'a str,
    pub live: Option<&'a str>,
    pub sessions: Option<&'a str>,
    /// The input, where TICKs are written into it.
    pub ticks: Option<&'a str>,
}

/// What the outputs are framed by. An id means the same schema under every subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputIds {
    pub embedding: u32,
    /// `None` where no sessions are written.
    pub session: Option<u32>,
    /// `None` where no TICKs are written.
    pub click: Option<u32>,
}

impl RegisteredTopics<'_> {
    /// The subjects with their schemas, each once.
    fn subjects(&self, strategy: SubjectStrategy) -> Vec<(String, &'static str)> {
        let embeddings = [Some(self.embeddings), self.live].into_iter().flatten();
        let mut subjects: Vec<_> = embeddings
            .map(|topic| (strategy.subject(topic, CUSTOMER_EMBEDDING), CUSTOMER_EMBEDDING_AVSC))
            .chain(self.sessions.map(|topic| (strategy.subject(topic, SESSION_SUMMARY), SESSION_SUMMARY_AVSC)))
            .chain(self.ticks.map(|topic| (strategy.subject(topic, CLICK_EVENT), CLICK_EVENT_AVSC)))
            .collect();
        subjects.dedup();
        subjects
    }
}

impl Resolver {
    /// Registers the outputs' schemas, or looks them up, and waits for a registry that is away. One that refuses the login
    /// or a schema is an error.
    pub fn register_outputs(
        &self,
        registry: &Registry,
        topics: &RegisteredTopics<'_>,
        stop: &Stop,
        on_event: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<Result<OutputIds, RegistryError>, Interrupted> {
        let client = self.client().expect("settings of a registry make a client of it");
        let clock = Clock::start();
        let mut waiter = Waiter { client, clock: &clock, stop, on_event };
        let mut ids = OutputIds { embedding: 0, session: None, click: None };
        // The table's comes last, so that its id is the one that counts.
        for (subject, avsc) in topics.subjects(registry.subject_strategy).into_iter().rev() {
            let under = subject.clone();
            // That of the clicks is the producers' to register.
            let register = registry.register && avsc != CLICK_EVENT_AVSC;
            let asked = waiter.patiently(is_away, move |client| {
                if register { client.register(&under, avsc) } else { client.look_up(&under, avsc) }
            })?;
            let id = match asked {
                Ok(id) => id,
                Err(error) => return Ok(Err(error)),
            };
            tracing::info!(subject, id, "outputs are framed by the schema registry's id");
            match avsc {
                SESSION_SUMMARY_AVSC => ids.session = Some(id),
                CLICK_EVENT_AVSC => ids.click = Some(id),
                _ => ids.embedding = id,
            }
        }
        Ok(Ok(ids))
    }

    /// For a start that needs nothing of the registry yet: whether it takes the login. One that is away is no error.
    pub fn greet(
        &self,
        stop: &Stop,
        on_event: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<Result<(), RegistryError>, Interrupted> {
        let Some(client) = self.client() else { return Ok(Ok(())) };
        let clock = Clock::start();
        let mut waiter = Waiter { client, clock: &clock, stop, on_event };
        match waiter.patiently(|_| false, Client::ping)? {
            Ok(url) => tracing::info!(url, "the schema registry answers"),
            Err(error @ RegistryError::Refused { .. }) => return Ok(Err(error)),
            Err(error) => {
                tracing::warn!(%error, "going on without the schema registry until a record needs it");
            }
        }
        Ok(Ok(()))
    }
}

fn is_away(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Away { .. })
}
