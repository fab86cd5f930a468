//! Where the results go: embeddings, sessions and rejects, each to a file, a topic or nowhere.

use serde_json::json;

use crate::files::FileError;
use crate::files::table::{self, WriteError};
use crate::pipeline::epoch::{Body, Output, Reject};
use crate::registry::OutputIds;
use crate::types::base64;
use crate::wire::error::EncodeError;

use super::topic::{TopicOutput, TopicWriteError};

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Topic(#[from] TopicWriteError),
    /// A model's numbers are checked before, so this is a fault of the program.
    #[error("a record of {customer} cannot be written: {why}")]
    Record { customer: String, why: EncodeError },
}

/// Where one kind of record goes.
#[derive(Debug)]
pub enum Sink {
    Nowhere,
    File(Box<table::Writer>),
    Topic(Box<TopicOutput>),
}

/// All results of a replay. Those of dropped outputs leave no file behind.
#[derive(Debug)]
pub struct Outputs {
    pub embeddings: Sink,
    pub sessions: Sink,
    /// Lines.
    pub rejected: Option<Box<table::Writer>>,
}

/// Bytes written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) embeddings: u64,
    pub(super) sessions: u64,
}

impl Outputs {
    pub(super) fn write(&mut self, output: &Output) -> Result<(), OutputError> {
        let traceparent = output.traceparent.as_deref();
        match &output.body {
            Body::Embedding(embedding) => match &mut self.embeddings {
                Sink::Nowhere => Ok(()),
                Sink::File(file) => file.write(&**embedding).map_err(|why| failed(why, embedding.customer_id.as_str())),
                Sink::Topic(topic) => Ok(topic.embedding(embedding, traceparent)?),
            },
            Body::Session(session) => match &mut self.sessions {
                Sink::Nowhere => Ok(()),
                Sink::File(file) => file.write(&**session).map_err(|why| failed(why, session.customer_id.as_str())),
                Sink::Topic(topic) => Ok(topic.session(session, output.cause, traceparent)?),
            },
            Body::Reject(reject) => match &mut self.rejected {
                None => Ok(()),
                Some(file) => Ok(file.write_line(&reject_line(output, reject))?),
            },
            // A file keeps what it has; the summary counts it.
            Body::Erased(customer) => match &mut self.embeddings {
                Sink::Nowhere | Sink::File(_) => Ok(()),
                Sink::Topic(topic) => Ok(topic.tombstone(customer, output.cause, traceparent)?),
            },
        }
    }

    /// Topics' records are framed by a schema registry's ids.
    pub fn frame_by(&mut self, ids: OutputIds) {
        if let Sink::Topic(topic) = &mut self.embeddings {
            topic.frame_by(Some(ids.embedding));
        }
        if let Sink::Topic(topic) = &mut self.sessions {
            topic.frame_by(ids.session);
        }
    }

    /// Publishes all of them; only then have files their names.
    pub(super) fn finish(self) -> Result<Written, OutputError> {
        let Self { embeddings, sessions, rejected } = self;
        let written = Written { embeddings: embeddings.finish()?, sessions: sessions.finish()? };
        if let Some(file) = rejected {
            file.finish()?;
        }
        Ok(written)
    }
}

impl Sink {
    fn finish(self) -> Result<u64, OutputError> {
        match self {
            Self::Nowhere => Ok(0),
            Self::File(file) => Ok(file.finish()?),
            Self::Topic(topic) => Ok(topic.finish()?),
        }
    }
}

fn failed(why: WriteError, customer: &str) -> OutputError {
    match why {
        WriteError::Row(why) => OutputError::Record { customer: customer.to_owned(), why },
        WriteError::File(why) => why.into(),
    }
}

/// Bytes that are text are written as such, others in base64 under another name.
fn reject_line(output: &Output, reject: &Reject) -> serde_json::Value {
    let mut line = json!({
        "reason": reject.reason.as_str(),
        "detail": reject.detail,
        "stage": reject.stage,
        "source_partition": output.cause.partition,
        "source_offset": output.cause.offset,
        "record_time": reject.timestamp_ms,
    });
    for (name, bytes) in [("key", &reject.key), ("value", &reject.value)] {
        match bytes.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => line[name] = serde_json::Value::Null,
            Some((_, Ok(text))) => line[name] = text.into(),
            Some((bytes, Err(_))) => line[format!("{name}_base64")] = base64(bytes).into(),
        }
    }
    line
}
