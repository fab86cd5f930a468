//! The schemas of a batch's ids, had before the batch is read. Takes values, gives the [`Schemas`] that they need, and
//! waits for a registry that is away.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use hashbrown::HashMap;

use super::RegistryError;
use super::client::Client;
use crate::config::Registry;
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::RegistryAnswer;
use crate::types::Uptime;
use crate::wire::avro::Schemas;

/// After how long an id that the registry denies is asked for once more, before its records are rejected.
const DENIED_AGAIN_MS: u64 = 500;
/// How long the registry's word is believed that an id does not exist.
const NO_SUCH_ID_MS: u64 = 60_000;
/// Between two attempts: doubled from the first to the last, and up to half of it less, so that workers do not ask at once.
const BACKOFF_MS: (u64, u64) = (100, 5_000);
/// For so long who only looks does not ask a registry again that was away.
const AWAY_MS: u64 = 5_000;
/// How often a waiting caller is told.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a wait is logged, and ids that do not exist.
const LOG_EVERY_MS: u64 = 30_000;

/// What happens while ids are asked for.
#[derive(Debug)]
pub enum Event<'a> {
    /// To each request.
    Answered(RegistryAnswer),
    /// Every tenth of a second or so while the registry is asked.
    Asking,
    /// The same once it did not answer, and why.
    Waiting(&'a RegistryError),
}

/// The schemas are not there, and the values must not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    #[error("stopped while the schema registry was waited for")]
    Stopped,
    /// The caller said so.
    #[error("given up waiting for the schema registry")]
    GaveUp,
}

/// The schemas known so far, and who is asked for others. One per thread that reads.
#[derive(Debug)]
pub struct Resolver {
    schemas: Schemas,
    client: Option<Arc<Client>>,
    clock: Clock,
    /// Ids that do not exist, and when the registry said so.
    no_such: HashMap<u32, Uptime>,
    pub(super) no_such_ms: u64,
    no_such_logged: Option<Uptime>,
    /// When [`Self::glance`] found the registry away.
    away: Option<Uptime>,
    pub(super) away_ms: u64,
}

impl Resolver {
    /// All released schemas, and a registry where there is one.
    pub fn new(registry: Option<&Registry>) -> Result<Self, RegistryError> {
        let client = registry.map(Client::new).transpose()?.map(Arc::new);
        let mut schemas = Schemas::released();
        if client.is_some() {
            schemas.expect_ids();
        }
        Ok(Self {
            schemas,
            client,
            clock: Clock::start(),
            no_such: HashMap::new(),
            no_such_ms: NO_SUCH_ID_MS,
            no_such_logged: None,
            away: None,
            away_ms: AWAY_MS,
        })
    }

    /// What values can be read by, once they are prepared for.
    pub fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// To add the schema of a file, which no id stands for.
    pub fn schemas_mut(&mut self) -> &mut Schemas {
        &mut self.schemas
    }

    pub(super) fn client(&self) -> Option<&Arc<Client>> {
        self.client.as_ref()
    }

    /// The schemas for one value, for who only looks: a registry that is away is not waited for, nor asked again for some
    /// seconds, and a value of a new id cannot be read then. After `stop` nobody is asked.
    pub fn glance(&mut self, value: &[u8], stop: &Stop) -> &Schemas {
        let is_away = |at: Uptime| self.clock.uptime().0.saturating_sub(at.0) < self.away_ms;
        if !stop.is_stopped() && !self.away.is_some_and(is_away) {
            let prepared = self.prepare([value], stop, &mut |event| matches!(event, Event::Waiting(_)));
            self.away = matches!(prepared, Err(Interrupted::GaveUp)).then(|| self.clock.uptime());
        }
        &self.schemas
    }

    /// The ids that the values need and that are not known; forgets meanwhile what is old.
    pub fn needs<'v>(&mut self, values: impl IntoIterator<Item = &'v [u8]>) -> Vec<u32> {
        if self.client.is_none() {
            return Vec::new();
        }
        let now = self.clock.uptime();
        let (schemas, no_such_ms) = (&mut self.schemas, self.no_such_ms);
        self.no_such.retain(|id, said| {
            let is_fresh = now.0.saturating_sub(said.0) < no_such_ms;
            if !is_fresh {
                schemas.forget_id(*id);
            }
            is_fresh && schemas.knows_id(*id)
        });
        schemas.forget_oldest_ids();
        let missing: BTreeSet<u32> = values.into_iter().filter_map(|value| schemas.missing(value)).collect();
        missing.into_iter().collect()
    }

    /// Has the schemas of all ids that the values need, and waits for a registry that is away. `on_event` is told, and says
    /// whether to give up. Afterwards each value decodes or not for good, by [`Self::schemas`].
    pub fn prepare<'v>(
        &mut self,
        values: impl IntoIterator<Item = &'v [u8]>,
        stop: &Stop,
        on_event: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), Interrupted> {
        let ids = self.needs(values);
        self.fetch(&ids, stop, on_event)
    }

    /// The same for the ids that [`Self::needs`] gave.
    pub fn fetch(
        &mut self,
        ids: &[u32],
        stop: &Stop,
        on_event: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), Interrupted> {
        let Some(client) = self.client.clone() else { return Ok(()) };
        let clock = self.clock;
        let mut waiter = Waiter { client: &client, clock: &clock, stop, on_event };
        let denied = self.ask_for(ids, &mut waiter)?;
        if denied.is_empty() {
            return Ok(());
        }
        // A replica may lag behind the one that gave the id to the producer, and what is rejected stays so.
        client.prefer_another_address();
        waiter.pause(DENIED_AGAIN_MS, None)?;
        for id in self.ask_for(&denied, &mut waiter)? {
            let now = self.clock.uptime();
            self.schemas.no_such_id(id);
            self.no_such.insert(id, now);
            if self.no_such_logged.is_none_or(|logged| now.0 - logged.0 >= LOG_EVERY_MS) {
                self.no_such_logged = Some(now);
                tracing::warn!(id, "the schema registry knows no schema by an id: its records are rejected");
            }
        }
        Ok(())
    }

    /// Takes what the registry says of the ids, and gives those that it does not know.
    fn ask_for(&mut self, ids: &[u32], waiter: &mut Waiter<'_>) -> Result<Vec<u32>, Interrupted> {
        let mut denied = Vec::new();
        for &id in ids {
            match waiter.patiently(RegistryError::is_passing, move |client| client.schema(id))? {
                Ok(schema) => match self.schemas.register_id(id, &schema.avsc, &schema.references) {
                    Ok(()) => tracing::info!(id, "schema fetched from the registry"),
                    Err(error) => {
                        tracing::warn!(id, %error, "a schema of the registry is not usable: its records are rejected");
                    }
                },
                Err(RegistryError::NoSuchId { .. }) => denied.push(id),
                Err(RegistryError::Unreadable { why, .. }) => {
                    tracing::warn!(id, why, "a schema of the registry is not usable: its records are rejected");
                    self.schemas.refuse_id(id, why);
                }
                Err(other) => unreachable!("no answer to the question for a schema: {other}"),
            }
        }
        Ok(denied)
    }
}

/// Whoever waits for the registry, and may be called away.
pub(super) struct Waiter<'a> {
    pub(super) client: &'a Arc<Client>,
    pub(super) clock: &'a Clock,
    pub(super) stop: &'a Stop,
    pub(super) on_event: &'a mut dyn FnMut(Event<'_>) -> bool,
}

impl Waiter<'_> {
    /// Asks until there is an answer that `waits_for` does not take for a passing one.
    pub(super) fn patiently<T: Send + 'static>(
        &mut self,
        waits_for: impl Fn(&RegistryError) -> bool,
        question: impl Fn(&Client) -> Result<T, RegistryError> + Send + Sync + 'static,
    ) -> Result<Result<T, RegistryError>, Interrupted> {
        let question = Arc::new(question);
        let begun = self.clock.uptime();
        let (mut backoff_ms, mut logged, mut last) = (BACKOFF_MS.0, None, None);
        loop {
            let answer = self.asked(&question, last.as_ref())?;
            let kind = answer.as_ref().map_or_else(RegistryError::answer, |_| RegistryAnswer::Found);
            self.tell(Event::Answered(kind))?;
            let now = self.clock.uptime();
            let waited_s = (now.0 - begun.0) / 1_000;
            let error = match answer {
                Err(error) if waits_for(&error) => error,
                answer => {
                    if logged.is_some() {
                        tracing::info!(waited_s, "the schema registry answers again");
                    }
                    return Ok(answer);
                }
            };
            if logged.is_none_or(|logged: Uptime| now.0 - logged.0 >= LOG_EVERY_MS) {
                logged = Some(now);
                // Somebody has to give the right login; a registry that is away mostly comes back by itself.
                if matches!(error, RegistryError::Refused { .. }) {
                    tracing::error!(%error, waited_s, "waiting for the schema registry");
                } else {
                    tracing::warn!(%error, waited_s, "waiting for the schema registry");
                }
            }
            self.pause(jittered(backoff_ms), Some(&error))?;
            backoff_ms = (2 * backoff_ms).min(BACKOFF_MS.1);
            last = Some(error);
        }
    }

    /// Asks once, on a thread of its own: a caller that is called away leaves it to its time-out.
    fn asked<T: Send + 'static>(
        &mut self,
        question: &Arc<impl Fn(&Client) -> Result<T, RegistryError> + Send + Sync + 'static>,
        last: Option<&RegistryError>,
    ) -> Result<Result<T, RegistryError>, Interrupted> {
        let (answers, answered) = mpsc::sync_channel(1);
        let (client, question) = (Arc::clone(self.client), Arc::clone(question));
        let spawned = std::thread::Builder::new().name("registry".to_owned()).spawn(move || {
            // Nobody may listen any more.
            drop(answers.send(question(&client)));
        });
        if let Err(error) = spawned {
            return Ok(Err(RegistryError::Away { why: format!("no thread to ask it by: {error}") }));
        }
        loop {
            match answered.recv_timeout(LOOK_EVERY) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => self.tell(last.map_or(Event::Asking, Event::Waiting))?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err(RegistryError::Away { why: "the thread that asked panicked".to_owned() }));
                }
            }
            if self.stop.is_stopped() {
                return Err(Interrupted::Stopped);
            }
        }
    }

    fn pause(&mut self, ms: u64, why: Option<&RegistryError>) -> Result<(), Interrupted> {
        let until = self.clock.uptime().0 + ms;
        loop {
            self.tell(why.map_or(Event::Asking, Event::Waiting))?;
            let left = Duration::from_millis(until.saturating_sub(self.clock.uptime().0));
            if self.stop.wait(left.min(LOOK_EVERY)) {
                return Err(Interrupted::Stopped);
            }
            if left <= LOOK_EVERY {
                return Ok(());
            }
        }
    }

    fn tell(&mut self, event: Event<'_>) -> Result<(), Interrupted> {
        if (self.on_event)(event) { Err(Interrupted::GaveUp) } else { Ok(()) }
    }
}

/// Between half of it and all.
fn jittered(ms: u64) -> u64 {
    let random = RandomState::new().hash_one(ms);
    ms / 2 + random % (ms / 2 + 1)
}
