//! The sink against librdkafka's mock cluster, which answers what it is told to. It writes no markers and forgets
//! offsets: what a reader sees of an abort is tested on a real broker.

use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey as Api;
use rdkafka::types::RDKafkaRespErr as Answer;

use super::*;
use crate::types::{CustomerId, EventTime, ModelId, OpenedBy, Position, RejectReason, ResumeAt};
use crate::wire::embedding::{Cause, CustomerEmbedding, EmbeddingKind, SessionSummary};

const WAIT: Duration = Duration::from_secs(20);

struct Bed {
    cluster: MockCluster<'static, DefaultProducerContext>,
    settings: SinkSettings,
}

impl Bed {
    fn new() -> Self {
        Self::of_brokers(1)
    }

    fn of_brokers(brokers: i32) -> Self {
        let cluster = MockCluster::new(brokers).expect("a mock cluster");
        for topic in ["clicks", "embeddings", "live", "sessions", "rejected", "state"] {
            cluster.create_topic(topic, 2, 1).expect("a topic");
        }
        let settings = SinkSettings {
            delivery: Delivery::ExactlyOnce,
            client: ClientSettings::of(&cluster.bootstrap_servers()),
            transactional_id: "app-0".to_owned(),
            transaction_timeout: Duration::from_secs(8),
            buffer_kbytes: 64 << 10,
            input: "clicks".to_owned(),
            topics: OutputTopics {
                embeddings: "embeddings".to_owned(),
                live: Some("live".to_owned()),
                sessions: Some("sessions".to_owned()),
                rejected: "rejected".to_owned(),
                state: "state".to_owned(),
            },
        };
        Self { cluster, settings }
    }

    fn sink(&self) -> SinkHandle {
        Sink::spawn(self.settings.clone(), Box::new(encode), &Stop::new()).expect("a sink")
    }

    /// What an epoch becomes when the requests of that kind get these answers first, and what the next one does.
    fn answers(&self, api: Api, answers: &[Answer]) -> (Outcome, Option<Outcome>) {
        let mut sink = self.sink();
        self.cluster.request_errors(api, answers);
        let outcome = publish(&mut sink, epoch());
        self.cluster.clear_request_errors(api);
        let next = matches!(outcome, Outcome::Committed(_) | Outcome::Aborted { .. } | Outcome::Stale { .. });
        let next = next.then(|| publish(&mut sink, epoch()));
        (outcome, next)
    }
}

fn encode(body: &Body, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(match body {
        Body::Embedding(embedding) => embedding.kind.as_str().as_bytes(),
        Body::Session(_) => b"SESSION",
        Body::Reject(_) | Body::Erased(_) => unreachable!("their bytes are given"),
    });
}

fn publish(sink: &mut SinkHandle, epoch: Epoch) -> Outcome {
    sink.submit(epoch);
    sink.outcome(WAIT).expect("an outcome in time")
}

fn epoch() -> Epoch {
    Epoch {
        result: EpochResult {
            outputs: vec![output(0, Body::Erased(customer("ana"))), output(1, Body::Erased(customer("ben")))],
            resume: vec![(0, ResumeAt(5)), (1, ResumeAt(7))],
            ..EpochResult::default()
        },
        group: GroupMetadata::of_generation(1),
        histories: BTreeMap::new(),
    }
}

fn output(partition: i32, body: Body) -> Output {
    Output { cause: Position { partition, offset: 4 }, timestamp_ms: None, traceparent: None, body }
}

fn customer(id: &str) -> CustomerId {
    CustomerId::parse(id).expect("a short id")
}

fn cause() -> Cause {
    let time = EventTime::parse(1_000).expect("after 1970");
    Cause {
        session_uid: "e1".into(),
        revision: 0,
        session_id: None,
        device_id: None,
        channel: None,
        session_start: time,
        session_end: time,
        closed_at: None,
        opened_by: OpenedBy::Login,
        close_reason: None,
        event_count: 1,
        unknown_count: 0,
    }
}

fn embedding(kind: EmbeddingKind) -> Body {
    Body::Embedding(Box::new(CustomerEmbedding {
        customer_id: customer("ana"),
        sequence: 1,
        kind,
        embedding: vec![1.0],
        model: ModelId::new("fake", "1"),
        cosine_shift: None,
        gate: 1.0,
        previous_as_of: None,
        scores: BTreeMap::new(),
        cold_start: true,
        cause: cause(),
        labels: BTreeMap::new(),
        as_of: EventTime::parse(1_000).expect("after 1970"),
        emitted_at: 0,
        source: Position { partition: 1, offset: 4 },
    }))
}

fn reject(value: Vec<u8>) -> Body {
    Body::Reject(Box::new(Reject {
        reason: RejectReason::Decode,
        detail: "no click".to_owned(),
        stage: "decode",
        key: Some(b"k".as_slice().into()),
        value: Some(value.into()),
        timestamp_ms: Some(99),
    }))
}

/// All records of the partition, one a line: key, value, headers.
fn read(bed: &Bed, topic: &str, partition: i32) -> String {
    let consumer: BaseConsumer =
        bed.settings.client.reader("reader", 1_024).set("auto.offset.reset", "earliest").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
    consumer.assign(&list).expect("an assignment");
    let mut lines = String::new();
    loop {
        match consumer.poll(WAIT).expect("a record or the end in time") {
            Ok(message) => {
                let text = |bytes: Option<&[u8]>| {
                    bytes.map_or("null".to_owned(), |bytes| {
                        String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into()
                    })
                };
                lines += &format!("{} {}", text(message.key()), text(message.payload()));
                for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
                    lines += &format!(" {}={}", header.key, text(header.value));
                }
                lines.push('\n');
            }
            Err(KafkaError::PartitionEOF(_)) => return lines,
            // Where one of the brokers is down: the client goes on with the others.
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn each_body_goes_to_its_topics_at_its_cause_s_partition() {
    let bed = Bed::new();
    let mut sink = bed.sink();
    let session = SessionSummary {
        customer_id: customer("ana"),
        sequence: 1,
        session_key: "s:1".into(),
        cause: cause(),
        event_ids: Vec::new(),
    };
    let mut traced = output(1, embedding(EmbeddingKind::SessionClosed));
    traced.traceparent = Some(b"00-trace".as_slice().into());
    let outputs = vec![
        output(1, embedding(EmbeddingKind::Provisional)),
        traced,
        output(1, Body::Session(Box::new(session))),
        output(1, reject(b"junk".to_vec())),
        output(1, reject(vec![b'x'; 1_200_000])),
        output(1, Body::Erased(customer("ben"))),
    ];
    let result = EpochResult { outputs, resume: vec![(1, ResumeAt(5))], ..EpochResult::default() };
    let outcome =
        publish(&mut sink, Epoch { result, group: GroupMetadata::of_generation(1), histories: BTreeMap::new() });
    let Outcome::Committed(receipt) = outcome else { panic!("{outcome:?}") };
    assert_eq!(receipt.records, 8);

    assert_eq!(read(&bed, "embeddings", 1), "ana SESSION_CLOSED traceparent=00-trace\nben null\n");
    assert_eq!(read(&bed, "live", 1), "ana PROVISIONAL\nana SESSION_CLOSED traceparent=00-trace\nben null\n");
    assert_eq!(read(&bed, "sessions", 1), "ana SESSION\n");
    let why = "dce-reason=decode dce-detail=no click dce-stage=decode dce-source-topic=clicks dce-source-partition=1 \
               dce-source-offset=4 dce-source-timestamp=99";
    assert_eq!(
        read(&bed, "rejected", 1),
        format!("k junk {why}\nk null {why} dce-value-left-out=1200000\n"),
        "a value that does not fit with its headers stays where it came from"
    );
    assert_eq!(read(&bed, "embeddings", 0), "");
}

#[test]
fn an_empty_epoch_still_commits_its_offsets() {
    let bed = Bed::new();
    let mut sink = bed.sink();
    // The request is made: its failure is seen.
    bed.cluster.request_errors(Api::TxnOffsetCommit, &[Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    let empty = || Epoch {
        result: EpochResult { resume: vec![(0, ResumeAt(9))], ..EpochResult::default() },
        group: GroupMetadata::of_generation(1),
        histories: BTreeMap::new(),
    };
    assert!(matches!(publish(&mut sink, empty()), Outcome::Stale { .. }));
    assert!(matches!(publish(&mut sink, empty()), Outcome::Committed(Receipt { records: 0, .. })));
}

#[test]
fn what_the_coordinator_will_do_later_is_waited_for() {
    let bed = Bed::new();
    use Answer::{
        RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS as CONCURRENT,
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as LOADING, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE as AWAY,
    };
    for (api, answer) in [
        (Api::EndTxn, LOADING),
        (Api::EndTxn, AWAY),
        (Api::AddPartitionsToTxn, CONCURRENT),
        (Api::AddOffsetsToTxn, CONCURRENT),
        (Api::TxnOffsetCommit, LOADING),
        (Api::EndTxn, Answer::RD_KAFKA_RESP_ERR__TRANSPORT),
    ] {
        let (outcome, next) = bed.answers(api, &[answer]);
        assert!(matches!(outcome, Outcome::Committed(_)), "{api:?} {answer:?}: {outcome:?}");
        assert!(matches!(next, Some(Outcome::Committed(_))), "{api:?} {answer:?}, next: {next:?}");
    }
}

#[test]
fn what_the_group_or_the_topic_refuses_is_aborted_and_the_sink_goes_on() {
    let bed = Bed::new();
    for (api, answer) in [
        (Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID),
        (Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED),
        (Api::AddPartitionsToTxn, Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        (Api::Produce, Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE),
        (Api::Produce, Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        (Api::EndTxn, Answer::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID),
    ] {
        let (outcome, next) = bed.answers(api, &[answer]);
        assert!(matches!(outcome, Outcome::Aborted { .. }), "{api:?} {answer:?}: {outcome:?}");
        assert!(matches!(next, Some(Outcome::Committed(_))), "{api:?} {answer:?}, next: {next:?}");
    }
}

#[test]
fn offsets_of_an_older_generation_give_the_epoch_back_and_the_sink_goes_on() {
    let bed = Bed::new();
    let (outcome, next) = bed.answers(Api::TxnOffsetCommit, &[Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    let Outcome::Stale { epoch, .. } = outcome else { panic!("{outcome:?}") };
    assert!(!epoch.result.resume.is_empty() && !epoch.result.outputs.is_empty(), "whole: {epoch:?}");
    assert!(matches!(next, Some(Outcome::Committed(_))), "{next:?}");
}

#[test]
fn a_fenced_producer_is_at_its_end() {
    let bed = Bed::new();
    // Where the commit is the first call to hear of it, it counts as unknown.
    for (api, answer) in [
        (Api::AddPartitionsToTxn, Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
        (Api::AddOffsetsToTxn, Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (Api::AddPartitionsToTxn, Answer::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE),
    ] {
        let (outcome, _) = bed.answers(api, &[answer]);
        let ended = matches!(outcome, Outcome::Fatal { .. } | Outcome::UnknownOutcome { .. });
        assert!(ended, "{api:?} {answer:?}: {outcome:?}");
    }
}

#[test]
fn a_commit_that_was_refused_for_good_or_not_answered_is_unknown() {
    let mut bed = Bed::new();
    for answer in [
        Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
        Answer::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE,
        Answer::RD_KAFKA_RESP_ERR_UNKNOWN,
    ] {
        let (outcome, _) = bed.answers(Api::EndTxn, &[answer]);
        assert!(matches!(outcome, Outcome::UnknownOutcome { .. }), "{answer:?}: {outcome:?}");
    }

    bed.settings.transaction_timeout = Duration::from_secs(1);
    let mut sink = bed.sink();
    bed.cluster.request_errors(Api::EndTxn, &[Answer::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 2_000]);
    let outcome = publish(&mut sink, epoch());
    assert!(matches!(outcome, Outcome::UnknownOutcome { .. }), "{outcome:?}");
}

#[test]
fn a_sink_that_may_not_start_says_why() {
    let bed = Bed::new();
    let answer = Answer::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    // Both of its ids are refused; the first is told.
    bed.cluster.request_errors(Api::InitProducerId, &[answer; 2]);
    let error = Sink::spawn(bed.settings.clone(), Box::new(encode), &Stop::new()).expect_err("not authorized");
    assert!(error.to_string().starts_with("the transactions of app-0 cannot be started"), "{error}");
}

#[test]
fn a_sink_that_is_told_to_stop_before_a_broker_answers_does_not_wait_for_one() {
    let bed = Bed::new();
    bed.cluster.broker_down(1).expect("a broker that goes");
    let (stop, patient) = (Stop::new(), Deadline::after(bed.settings.transaction_timeout));
    stop.stop();
    let error = Sink::spawn(bed.settings.clone(), Box::new(encode), &stop).expect_err("told to stop");
    assert!(matches!(error, ProducerError::Stopped { .. }), "{error}");
    assert!(!patient.passed(), "it would have waited for twice as long");
}

#[test]
fn without_a_membership_nothing_is_committed() {
    let bed = Bed::new();
    let mut sink = bed.sink();
    let epoch_of = |generation| Epoch { group: GroupMetadata::of_generation(generation), ..epoch() };
    assert!(matches!(publish(&mut sink, epoch_of(-1)), Outcome::Aborted { .. }));
    assert_eq!(read(&bed, "embeddings", 0), "");
    assert!(matches!(publish(&mut sink, epoch_of(0)), Outcome::Committed(_)));
}

#[test]
fn a_call_that_does_not_come_back_is_told_and_not_waited_for() {
    let (epochs, never_taken) = sync_channel(1);
    let (never_given, outcomes) = sync_channel(1);
    let thread = std::thread::spawn(move || {
        let _held: (Receiver<Epoch>, SyncSender<Outcome>) = (never_taken, never_given);
        std::thread::park_timeout(WAIT);
    });
    let epoch_max = Duration::from_millis(50);
    let mut sink = SinkHandle { epochs: Some(epochs), outcomes, thread: Some(thread), under_way: None, epoch_max };
    assert!(sink.outcome(Duration::ZERO).is_none(), "no epoch, no outcome");
    sink.submit(epoch());
    assert!(sink.outcome(Duration::from_millis(1)).is_none(), "it has time left");
    let outcome = sink.outcome(Duration::from_millis(100));
    assert!(matches!(outcome, Some(Outcome::Hung { .. })), "{outcome:?}");
    let dropping = Deadline::after(WAIT);
    drop(sink);
    assert!(!dropping.passed());
}

/// KAFKA-17754: a request of it that is still on its way could decide the next transaction.
#[test]
fn a_commit_in_doubt_is_its_producer_s_last() {
    let no_more = Answer::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    let next_after = |prepare: &dyn Fn(&Bed)| {
        let bed = Bed::new();
        let mut sink = bed.sink();
        // Whoever begins with a new producer is told so.
        bed.cluster.request_errors(Api::InitProducerId, &[no_more]);
        prepare(&bed);
        let first = publish(&mut sink, epoch());
        bed.cluster.broker_round_trip_time(1, Duration::ZERO).expect("a broker");
        (first, publish(&mut sink, epoch()))
    };
    let (first, next) = next_after(&|_| ());
    let both = matches!((&first, &next), (Outcome::Committed(_), Outcome::Committed(_)));
    assert!(both, "without a doubt it goes on: {first:?}, {next:?}");

    for api in [Api::EndTxn, Api::TxnOffsetCommit, Api::AddOffsetsToTxn] {
        let (first, next) = next_after(&|bed| bed.cluster.request_errors(api, &[Answer::RD_KAFKA_RESP_ERR__TRANSPORT]));
        assert!(matches!(first, Outcome::Committed(_)), "{api:?} lost its connection: {first:?}");
        assert!(matches!(&next, Outcome::Fatal { why } if why.contains("app-0")), "{api:?}: {next:?}");
    }
    let (first, next) = next_after(&|bed| {
        bed.cluster.broker_round_trip_time(1, Duration::from_millis(400)).expect("a broker");
    });
    let Outcome::Committed(receipt) = first else { panic!("{first:?}") };
    assert!(receipt.commit > DOUBTFUL_COMMIT, "{receipt:?}");
    assert!(matches!(next, Outcome::Fatal { .. }), "slow: {next:?}");
    let (first, next) = next_after(&|bed| {
        bed.cluster.request_errors(Api::TxnOffsetCommit, &[Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    });
    assert!(matches!(first, Outcome::Stale { .. }), "{first:?}");
    assert!(matches!(next, Outcome::Fatal { .. }), "an abort's request is on its way like a commit's: {next:?}");
}

/// An abort may overtake what registers the transaction's partitions, and is refused for good then (librdkafka 4849).
#[test]
fn an_abort_that_is_refused_ends_the_sink_and_a_new_one_goes_on() {
    let bed = Bed::new();
    for answer in [
        Answer::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE,
        Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
        Answer::RD_KAFKA_RESP_ERR_UNKNOWN,
    ] {
        let mut sink = bed.sink();
        bed.cluster.request_errors(Api::TxnOffsetCommit, &[Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
        bed.cluster.request_errors(Api::EndTxn, &[answer]);
        let outcome = publish(&mut sink, epoch());
        bed.cluster.clear_request_errors(Api::EndTxn);
        let fatal = matches!(&outcome, Outcome::Fatal { why } if why.contains("then the abort failed"));
        assert!(fatal, "{answer:?}: {outcome:?}");
        drop(sink);
        let outcome = publish(&mut bed.sink(), epoch());
        assert!(matches!(outcome, Outcome::Committed(_)), "after {answer:?}: {outcome:?}");
    }
}

#[test]
fn a_coordinator_that_moves_is_followed() {
    let bed = Bed::new();
    use Answer::{RD_KAFKA_RESP_ERR__TRANSPORT as LOST, RD_KAFKA_RESP_ERR_NOT_COORDINATOR as MOVED};
    for (api, answer) in [
        (Api::EndTxn, MOVED),
        (Api::AddPartitionsToTxn, MOVED),
        (Api::AddPartitionsToTxn, LOST),
        (Api::AddOffsetsToTxn, MOVED),
        (Api::TxnOffsetCommit, MOVED),
        (Api::TxnOffsetCommit, LOST),
    ] {
        let (outcome, next) = bed.answers(api, &[answer]);
        assert!(matches!(outcome, Outcome::Committed(_)), "{api:?} {answer:?}: {outcome:?}");
        assert!(matches!(next, Some(Outcome::Committed(_))), "{api:?} {answer:?}, next: {next:?}");
    }
}

/// The call that adds the offsets may hang beyond its own limit then (librdkafka 5456).
#[test]
fn a_group_coordinator_that_is_away_ends_in_an_outcome() {
    let mut bed = Bed::of_brokers(2);
    bed.settings.transaction_timeout = Duration::from_secs(1);
    bed.cluster.coordinator(MockCoordinator::Group("group".to_owned()), 2).expect("a broker");
    bed.cluster.coordinator(MockCoordinator::Transaction("app-0".to_owned()), 1).expect("a broker");
    for (topic, partition) in ["embeddings", "live"].into_iter().flat_map(|topic| [(topic, 0), (topic, 1)]) {
        bed.cluster.partition_leader(topic, partition, Some(1)).expect("a broker");
    }
    let mut sink = bed.sink();
    let waiting = Deadline::after(WAIT);
    bed.cluster.broker_down(2).expect("a broker");
    sink.submit(epoch());
    let outcome = loop {
        assert!(!waiting.passed(), "an outcome within the sink's own limit");
        if let Some(outcome) = sink.outcome(Duration::from_millis(100)) {
            break outcome;
        }
    };
    let ended = matches!(outcome, Outcome::Fatal { .. } | Outcome::Aborted { .. } | Outcome::Hung { .. });
    assert!(ended, "nothing of it is committed: {outcome:?}");
    assert_eq!(
        read(&bed, "embeddings", 0).lines().count(),
        1,
        "the record came through: it was the offsets that waited"
    );
}
