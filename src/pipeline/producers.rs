//! The producers of a sink. Exactly once there are two, in turn: the broker answers a commit before it has written the
//! transaction's markers, and until they are written it refuses the next transaction under the same id, which the client
//! asks for again only after 20 ms (decisions/0003). Under the other id the next one begins at once.
//!
//! It is for the caller to begin a transaction only when the one before is known to be committed; their records and
//! offsets then stand in the logs in that order, whichever markers are written first.

use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::producer::Producer as _;

use crate::config::Delivery;
use crate::kafka::Deadline;
use crate::kafka::client::{ClientSettings, Producer, ProducerEvents, Transactional};
use crate::kafka::errors::{Call, CallError, repeat};

/// The ids of a worker's transactions, by the id of the worker.
pub fn transactional_ids(worker: &str) -> [String; 2] {
    // No instance can be called so: a name has no colon.
    [worker.to_owned(), format!("{worker}:2")]
}

/// How the producers of a sink are made.
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    pub client: &'a ClientSettings,
    pub delivery: Delivery,
    /// Of the worker.
    pub id: &'a str,
    pub transaction_timeout: Duration,
    pub buffer_kbytes: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    #[error("the Kafka producer {id} cannot be made: {why}")]
    Client { id: String, why: String },
    #[error("the transactions of {id} cannot be started: {why}")]
    Init { id: String, why: String },
    #[error("told to stop while the transactions of {id} were started")]
    Stopped { id: String },
}

/// One or two, of which one has its turn.
#[expect(missing_debug_implementations, reason = "a client has none")]
pub struct Producers {
    all: Vec<Producer>,
    turn: usize,
}

impl Producers {
    /// Ends what a predecessor of the same ids left open.
    pub fn connect(making: Making<'_>) -> Result<Self, ProducerError> {
        let all = match making.delivery {
            Delivery::AtLeastOnce => vec![acknowledged(making)?],
            Delivery::ExactlyOnce => std::thread::scope(|scope| {
                // Side by side: each waits for the coordinator.
                let ids = transactional_ids(making.id);
                let begun: Vec<_> = ids.into_iter().map(|id| scope.spawn(move || transactional(making, &id))).collect();
                begun
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|_| panicked(making.id)))
                    .collect::<Result<_, _>>()
            })?,
        };
        Ok(Self { all, turn: 0 })
    }

    pub fn current(&self) -> &Producer {
        &self.all[self.turn]
    }

    /// The next transaction is the other one's.
    pub fn turn(&mut self) {
        self.turn = (self.turn + 1) % self.all.len();
    }

    /// Another producer under the current one's id, which ends what is open under it.
    pub fn replace(&mut self, making: Making<'_>) -> Result<(), ProducerError> {
        self.all[self.turn] = match making.delivery {
            Delivery::AtLeastOnce => acknowledged(making)?,
            Delivery::ExactlyOnce => transactional(making, &transactional_ids(making.id)[self.turn])?,
        };
        Ok(())
    }
}

fn panicked<T>(id: &str) -> Result<T, ProducerError> {
    Err(ProducerError::Init { id: id.to_owned(), why: "the thread that makes its producer panicked".to_owned() })
}

fn acknowledged(making: Making<'_>) -> Result<Producer, ProducerError> {
    let config = making.client.acknowledged(making.buffer_kbytes);
    Producer::from_config_and_context(&config, ProducerEvents::default())
        .map_err(|error| ProducerError::Client { id: making.id.to_owned(), why: error.to_string() })
}

/// A producer that may begin transactions: whoever had the id before is fenced, and what it left open is ended.
fn transactional(making: Making<'_>, id: &str) -> Result<Producer, ProducerError> {
    let transactional = Transactional { id, timeout: making.transaction_timeout, buffer_kbytes: making.buffer_kbytes };
    let config = making.client.transactional(&transactional);
    let producer = Producer::from_config_and_context(&config, ProducerEvents::default())
        .map_err(|error| ProducerError::Client { id: id.to_owned(), why: error.to_string() })?;
    let deadline = Deadline::after(making.transaction_timeout * 2);
    repeat(Call::Init, &deadline, |wait| producer.init_transactions(wait).map_err(|error| CallError::from(&error)))
        .map_err(|error| ProducerError::Init { id: id.to_owned(), why: error.to_string() })?;
    // Connections that failed before are no doubt about a commit.
    producer.client().context().take_disconnected();
    Ok(producer)
}
