//! The source against librdkafka's mock cluster, as in the demo: it balances groups and keeps records, but remembers no
//! offsets that a transaction committed. Sharing and restarts are tested on a real broker.

use std::collections::BTreeSet;
use std::sync::mpsc::sync_channel;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaApiKey as Api;
use rdkafka::types::RDKafkaRespErr as Answer;

use super::*;
use crate::pipeline::pace::Pace;

const WAIT: Duration = Duration::from_secs(20);
const LIMITS: CollectLimits =
    CollectLimits { events_max: 7, bytes_max: 1 << 20, wait_max: Duration::from_secs(1), idle_max: WAIT, spare: None };

/// That join and close side by side.
const SOURCES: u32 = 40;

struct Bed {
    /// Ends with the bed.
    cluster: MockCluster<'static, DefaultProducerContext>,
    settings: SourceSettings,
}

impl Bed {
    /// With ten records in each of two partitions.
    fn new() -> Self {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("clicks", 2, 1).expect("a topic");
        let settings = SourceSettings {
            client: ClientSettings::of(&cluster.bootstrap_servers()),
            topic: "clicks".to_owned(),
            application: "app".to_owned(),
            slot: "0".to_owned(),
            prefetch_kbytes: 1 << 10,
        };
        // One batch a partition, so that its records are fetched together.
        let producer: ThreadedProducer<DefaultProducerContext> =
            settings.client.plain_producer().set("linger.ms", "1000").create().expect("a producer");
        for n in 0..20 {
            let value = n.to_string();
            let record = BaseRecord::to("clicks").partition(n % 2).key("k").payload(&value);
            producer.send(record).map_err(|(error, _)| error).expect("room for few records");
        }
        producer.flush(WAIT).expect("stored");
        Self { cluster, settings }
    }

    /// A source that has its partitions, and has not answered yet.
    fn source(&self) -> Source {
        let mut source = Source::new(&self.settings).expect("a source");
        let collected = source.collect(&LIMITS).expect("a rebalance");
        assert_eq!(collected.rebalances, [Rebalance::Assigned(vec![0, 1])]);
        assert!(collected.batch.is_empty(), "nothing is read before the answer");
        source
    }
}

#[test]
fn records_come_in_order_up_to_the_limits() {
    let bed = Bed::new();
    let mut source = bed.source();
    let committed = source.committed(&[0, 1], WAIT).expect("an answer");
    assert_eq!(committed, [(0, None), (1, None)]);
    source.assign(&[(0, ResumeAt(0)), (1, ResumeAt(4))]).expect("assigned");
    assert!(source.group_metadata().expect("a member").generation() > 0);
    assert_eq!(source.watermarks(1, WAIT).expect("an answer"), (0, 10));

    let mut offsets = [Vec::new(), Vec::new()];
    let mut begins = Vec::new();
    while offsets[0].len() + offsets[1].len() < 16 {
        let batch = source.collect(&LIMITS).expect("records").batch;
        assert!((1..=7).contains(&batch.len()), "{}", batch.len());
        for record in batch.records() {
            let Position { partition, offset } = record.position;
            assert_eq!(record.value, Some((offset * 2 + i64::from(partition)).to_string().as_bytes()));
            assert_eq!((record.key, record.trace.text()), (Some(b"k".as_slice()), None));
            assert!(record.timestamp_ms.is_some());
            offsets[usize::try_from(partition).expect("0 or 1")].push(offset);
        }
        begins.extend(batch.begin());
    }
    assert_eq!(offsets, [(0..10).collect::<Vec<_>>(), (4..10).collect()]);
    assert!(begins.contains(&(0, ResumeAt(0))) && begins.contains(&(1, ResumeAt(4))), "{begins:?}");
    assert_eq!(source.cached_end(0), Some(10));

    // Nothing more: a collection ends by itself.
    let idle = CollectLimits { idle_max: Duration::from_millis(20), ..LIMITS };
    assert!(source.collect(&idle).expect("nothing").batch.is_empty());

    // Again from the middle, and nothing of what was fetched before.
    source.seek(&[(0, ResumeAt(8))], WAIT).expect("sought");
    let batch =
        source.collect(&CollectLimits { wait_max: Duration::from_millis(200), ..LIMITS }).expect("records").batch;
    assert_eq!(batch.records().map(|record| record.position.offset).collect::<Vec<_>>(), [8, 9]);
}

#[test]
fn what_has_waited_while_the_caller_computed_waits_no_longer() {
    let bed = Bed::new();
    let mut source = bed.source();
    source.assign(&[(0, ResumeAt(0)), (1, ResumeAt(0))]).expect("assigned");
    let first = source.collect(&CollectLimits { events_max: 1, ..LIMITS }).expect("a record").batch;
    assert_eq!(first.len(), 1, "the others of its partition have come with it");

    // The caller has computed for as long as they may wait.
    source.gathering = Deadline::after(Duration::ZERO);
    let patient = Deadline::after(WAIT);
    let limits = CollectLimits { events_max: 1_000, wait_max: WAIT * 2, ..LIMITS };
    let batch = source.collect(&limits).expect("records").batch;
    assert!((9..20).contains(&batch.len()), "{}", batch.len());
    assert!(!patient.passed(), "they are taken as they are");
}

#[test]
fn what_cannot_be_submitted_yet_is_gathered_on() {
    let bed = Bed::new();
    let mut source = bed.source();
    source.assign(&[(0, ResumeAt(0)), (1, ResumeAt(0))]).expect("assigned");
    let mut pace = Pace::default();
    pace.committed(WAIT * 2);
    let limits = CollectLimits { events_max: 20, wait_max: Duration::ZERO, spare: Some(pace.spare()), ..LIMITS };
    assert_eq!(source.collect(&limits).expect("records").batch.len(), 20, "of both partitions");

    // Not where computing it takes until then.
    source.seek(&[(0, ResumeAt(0)), (1, ResumeAt(0))], WAIT).expect("sought");
    pace.computed(1, WAIT * 2);
    let patient = Deadline::after(WAIT);
    let limits = CollectLimits { events_max: 21, spare: Some(pace.spare()), ..limits };
    assert!(!source.collect(&limits).expect("records").batch.is_empty());
    assert!(!patient.passed(), "they are taken as they are");
}

#[test]
fn a_source_closes_with_a_rebalance_unanswered() {
    let bed = Bed::new();
    drop(bed.source());
}

/// Also when it has not looked yet at what the group gave it: then closing takes two answers, and the client's part for the
/// group may end after the first. Where the second one did not wait for that, a few of these never closed.
#[test]
fn a_source_closes_at_any_moment_of_its_join() {
    let bed = Bed::new();
    let (done, closed) = sync_channel(1);
    for n in 0..SOURCES {
        // Of a group of its own, which waits for a while for others.
        let settings = SourceSettings { application: format!("app-{n}"), ..bed.settings.clone() };
        let done = done.clone();
        std::thread::spawn(move || {
            let source = Source::new(&settings).expect("a source");
            let deadline = Deadline::after(WAIT);
            while GroupMetadata::of(&source.consumer).is_none_or(|member| member.generation() <= 0) {
                assert!(!deadline.passed(), "it joins");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros(500) * n);
            drop(source);
            done.send(n).expect("somebody waits for it");
        });
    }
    let mut closing: BTreeSet<u32> = (0..SOURCES).collect();
    while !closing.is_empty() {
        match closed.recv_timeout(WAIT) {
            Ok(n) => closing.remove(&n),
            Err(_) => panic!("these have not closed: {closing:?}"),
        };
    }
}

#[test]
fn a_lost_offset_stops_loudly() {
    let bed = Bed::new();
    let mut source = bed.source();
    source.assign(&[(0, ResumeAt(99)), (1, ResumeAt(10))]).expect("assigned");
    let error = source.collect(&LIMITS).expect_err("there is no offset 99");
    assert!(matches!(error, SourceError::OffsetLost { partition: 0, .. }), "{error}");
}

/// In the midst of a rebalance the group has forgotten this member: it joins again, by another name, and hears of no loss.
#[test]
fn a_member_that_is_forgotten_hears_of_it_by_its_other_name() {
    let mut bed = Bed::new();
    // The group waits for the member by its old name until its session has ended.
    bed.settings.client.consumer.insert("session.timeout.ms".to_owned(), "5000".to_owned());
    let mut source = bed.source();
    source.assign(&[(0, ResumeAt(0)), (1, ResumeAt(0))]).expect("assigned");
    let name = source.group_metadata().expect("a member").member();
    assert_eq!(source.group_metadata().expect("still the same").member(), name);

    bed.cluster.request_errors(Api::JoinGroup, &[Answer::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    bed.cluster.request_errors(Api::Heartbeat, &[Answer::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS]);
    let limits = CollectLimits { idle_max: Duration::from_millis(20), ..LIMITS };
    let deadline = Deadline::after(WAIT);
    let metadata = loop {
        assert!(!deadline.passed(), "it joins again");
        let collected = source.collect(&limits).expect("no error");
        assert!(!source.loss_waits(), "nobody tells of a loss");
        assert_eq!(collected.rebalances, [], "nor is anything taken or given");
        match source.group_metadata() {
            Err(SourceError::JoinedAnew) => break source.group_metadata(),
            Err(SourceError::NotMember) => {}
            Ok(metadata) => assert_eq!(metadata.member(), name),
            Err(error) => panic!("{error}"),
        }
    };
    assert_ne!(metadata.expect("told once").member(), name);
}
