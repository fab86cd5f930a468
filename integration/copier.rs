//! Source and sink with nothing between them: each record goes out as a session with the record's key and value. As
//! the worker does it: one epoch is computed while the one before commits.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use dce::kafka::client::{ClientSettings, Rebalance, TRANSACTION_TIMEOUT};
use dce::pipeline::epoch::{Body, EpochResult, Output};
use dce::pipeline::pace::CollectLimits;
use dce::pipeline::sink::{Epoch, Outcome, OutputTopics, Receipt, Sink, SinkHandle, SinkSettings};
use dce::pipeline::source::{Batch, Source, SourceSettings};
use dce::stop::Stop;
use dce::types::{CustomerId, EventTime, OpenedBy, Position, ResumeAt};
use dce::wire::embedding::{Cause, SessionSummary};

const WAIT: Duration = Duration::from_secs(30);

pub(crate) struct Copier {
    pub(crate) source: Source,
    pub(crate) sink: SinkHandle,
    pub(crate) limits: CollectLimits,
    pub(crate) owned: BTreeSet<i32>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) rebalances: Vec<Rebalance>,
    /// Records of committed epochs.
    pub(crate) committed: u64,
    under_way: u64,
}

impl Copier {
    pub(crate) fn source_settings(
        client: &ClientSettings,
        application: &str,
        slot: &str,
        topic: &str,
    ) -> SourceSettings {
        SourceSettings {
            client: client.clone(),
            topic: topic.to_owned(),
            application: application.to_owned(),
            slot: slot.to_owned(),
            prefetch_kbytes: 32 << 10,
        }
    }

    pub(crate) fn sink_settings(client: &ClientSettings, id: &str, from: &str, to: &str) -> SinkSettings {
        SinkSettings {
            delivery: dce::config::Delivery::ExactlyOnce,
            client: client.clone(),
            transactional_id: id.to_owned(),
            transaction_timeout: TRANSACTION_TIMEOUT,
            buffer_kbytes: 128 << 10,
            input: from.to_owned(),
            topics: OutputTopics {
                embeddings: to.to_owned(),
                live: None,
                sessions: Some(to.to_owned()),
                rejected: to.to_owned(),
                state: to.to_owned(),
            },
        }
    }

    pub(crate) fn new(client: &ClientSettings, application: &str, slot: &str, from: &str, to: &str) -> Self {
        let source = Source::new(&Self::source_settings(client, application, slot, from)).expect("a source");
        let id = format!("{application}-{slot}");
        let sink =
            Sink::spawn(Self::sink_settings(client, &id, from, to), Box::new(encode), &Stop::new()).expect("a sink");
        let limits = CollectLimits {
            events_max: 10_000,
            bytes_max: 16 << 20,
            wait_max: Duration::from_millis(5),
            idle_max: Duration::from_millis(50),
            spare: None,
        };
        Self {
            source,
            sink,
            limits,
            owned: BTreeSet::new(),
            receipts: Vec::new(),
            rebalances: Vec::new(),
            committed: 0,
            under_way: 0,
        }
    }

    /// One epoch, or one rebalance.
    pub(crate) fn step(&mut self) {
        let collected = self.source.collect(&self.limits).expect("a collection");
        if !collected.batch.is_empty() {
            let group = self.source.group_metadata().expect("a membership");
            let result = copy(&collected.batch);
            drop(collected.batch);
            self.finish();
            self.under_way = result.records;
            self.sink.submit(Epoch { result, group, histories: BTreeMap::new() });
        } else {
            self.finish();
        }
        for rebalance in collected.rebalances {
            self.answer(&rebalance);
            self.rebalances.push(rebalance);
        }
    }

    fn answer(&mut self, rebalance: &Rebalance) {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                let committed = self.source.committed(partitions, WAIT).expect("committed offsets");
                let starts: Vec<_> =
                    committed.into_iter().map(|(p, c)| (p, c.map_or(ResumeAt(0), |c| c.resume))).collect();
                self.source.assign(&starts).expect("an assignment");
                self.owned.extend(partitions);
            }
            Rebalance::Revoked { partitions, lost } => {
                assert!(!lost, "nothing is lost where all members live");
                self.finish();
                self.source.unassign(partitions).expect("an unassignment");
                self.owned.retain(|partition| !partitions.contains(partition));
            }
        }
    }

    /// Waits for the epoch that is under way.
    pub(crate) fn finish(&mut self) {
        if !self.sink.is_under_way() {
            return;
        }
        match self.sink.outcome(WAIT) {
            Some(Outcome::Committed(receipt)) => {
                self.committed += std::mem::take(&mut self.under_way);
                self.receipts.push(receipt);
            }
            other => panic!("not committed: {other:?}"),
        }
    }
}

pub(crate) fn encode(body: &Body, buffer: &mut Vec<u8>) {
    let Body::Session(session) = body else { unreachable!("only sessions are copied") };
    buffer.extend_from_slice(session.session_key.as_bytes());
}

pub(crate) fn copy(batch: &Batch) -> EpochResult {
    let outputs = batch.records().map(|record| {
        let key = std::str::from_utf8(record.key.expect("a key")).expect("text");
        let value = std::str::from_utf8(record.value.expect("a value")).expect("text");
        output(record.position, key, value, record.trace.text())
    });
    EpochResult {
        outputs: outputs.collect(),
        resume: resume_of(batch),
        records: batch.len() as u64,
        ..EpochResult::default()
    }
}

pub(crate) fn output(cause: Position, key: &str, value: &str, traceparent: Option<&[u8]>) -> Output {
    let time = EventTime::parse(0).expect("1970");
    let session = SessionSummary {
        customer_id: CustomerId::parse(key).expect("a short key"),
        sequence: 1,
        session_key: value.into(),
        cause: Cause {
            session_uid: "".into(),
            revision: 0,
            session_id: None,
            device_id: None,
            channel: None,
            session_start: time,
            session_end: time,
            closed_at: None,
            opened_by: OpenedBy::Login,
            close_reason: None,
            event_count: 0,
            unknown_count: 0,
        },
        event_ids: Vec::new(),
    };
    Output {
        cause,
        timestamp_ms: None,
        traceparent: traceparent.map(Box::from),
        body: Body::Session(Box::new(session)),
    }
}

/// Where to go on after the batch.
fn resume_of(batch: &Batch) -> Vec<(i32, ResumeAt)> {
    let last: BTreeMap<i32, ResumeAt> =
        batch.records().map(|record| (record.position.partition, record.position.resume_after())).collect();
    last.into_iter().collect()
}
