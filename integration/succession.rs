//! What a dead worker left open, and for how long it holds up readers and whoever takes its partitions.

use std::time::Duration;

use dce::kafka::Deadline;
use dce::kafka::client::{Producer, ProducerEvents, Transactional};
use dce::kafka::follow::Lookup;
use dce::kafka::raw::{self, GroupMetadata};
use dce::pipeline::history;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::{Bed, Click, WAIT};
use crate::pipeline::{Outputs, PARTITIONS, dirty_clicks};

/// What a transaction may stay open for, where the broker alone ends it.
const OPEN_FOR: Duration = Duration::from_secs(60);

/// Sees the ends of partitions with and without what is undecided.
pub(crate) struct Ends {
    partitions: Vec<i32>,
    decided: Lookup,
    undecided: Lookup,
}

impl Ends {
    pub(crate) fn new(bed: &Bed, partitions: usize) -> Self {
        let group = bed.name("ends");
        Self {
            partitions: (0..i32::try_from(partitions).unwrap()).collect(),
            decided: Lookup::new(&bed.settings, &group).unwrap(),
            undecided: Lookup::of_undecided(&bed.settings, &group).unwrap(),
        }
    }

    /// Of all partitions of the topics: what is decided, and all.
    fn of(&self, topics: &[&str]) -> [Vec<i64>; 2] {
        [&self.decided, &self.undecided]
            .map(|lookup| lookup.ends(topics, &self.partitions, WAIT).unwrap().into_values().collect())
    }

    /// How long it takes until all that is there now can be read.
    pub(crate) fn until_decided(&self, topics: &[&str]) -> Duration {
        let [_, ends] = self.of(topics);
        let deadline = Deadline::after(OPEN_FOR);
        while self.of(topics)[0].iter().zip(&ends).any(|(decided, end)| decided < end) {
            assert!(!deadline.passed(), "what was left open is decided in time");
            std::thread::sleep(Duration::from_millis(5));
        }
        deadline.elapsed()
    }
}

fn closed_session(customer: &str) -> [Click; 2] {
    let click = |kind: &str, at: i64| {
        let id = format!("{customer}-{kind}");
        let value = format!(
            r#"{{"event_id":"{id}","customer_id":"{customer}","event_time":{at},"kind":"{kind}","name":"home"}}"#
        );
        Click { timestamp_ms: Some(1_000_000), ..Click::new(0, customer, &value) }
    };
    [click("LOGIN", 999_000), click("LOGOUT", 999_500)]
}

/// Records and offsets in a transaction that nobody ends, as of a worker that was killed there.
fn die_in_mid_transaction(bed: &Bed, outputs: &Outputs, app: &str) {
    let id = format!("{}-0", bed.name(app));
    let transactional = Transactional { id: &id, timeout: OPEN_FOR, buffer_kbytes: 64 };
    let config = bed.settings.transactional(&transactional);
    let producer = Producer::from_config_and_context(&config, ProducerEvents::default()).unwrap();
    producer.init_transactions(WAIT).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::to(&outputs.embeddings).partition(0).key("ana").payload("half")).unwrap();
    assert!(raw::flush(producer.client(), WAIT));
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&outputs.input, 0, Offset::Offset(1)).unwrap();
    let group = GroupMetadata::without_membership(&bed.name(app)).unwrap();
    raw::send_offsets(producer.client(), &offsets, &group, WAIT).unwrap();
}

#[test]
fn a_successor_ends_what_the_last_owner_left_open() {
    let bed = Bed::new("succession");
    let input = bed.topic("clicks", PARTITIONS);
    let outputs = Outputs::new(&bed, &input, "a");
    let mut embeddings = bed.collector(&outputs.embeddings);
    bed.produce(&input, closed_session("ana"));
    let mut first = outputs.run(&bed, "a", &["app.instance=0"]);
    embeddings.until(1);
    first.signal("TERM");
    assert!(first.wait().success(), "{}", first.said());
    let lookup = Lookup::of_undecided(&bed.settings, &bed.name("a")).unwrap();
    let committed = lookup.committed(&input, &[0], WAIT).unwrap();
    let owner = format!("{}-0", bed.name("a"));
    assert_eq!(history::writer(&committed[0].metadata), Some(owner.as_str()), "the owner says its name");

    die_in_mid_transaction(&bed, &outputs, "a");
    let open = Deadline::after(OPEN_FOR);
    bed.produce(&input, closed_session("ben"));
    let second = outputs.run(&bed, "a", &["app.instance=1"]);
    // The first one's session of 10 s ends before its partitions move on.
    let customers: Vec<_> = embeddings.until(2).iter().map(|got| got.key.clone().unwrap()).collect();
    let held_up = open.elapsed();
    eprintln!("left open for up to {OPEN_FOR:?}, it held the successor and its readers up for {held_up:?}");
    assert!(held_up < Duration::from_secs(25), "{held_up:?}: {}", second.said());
    assert_eq!(customers, ["ana", "ben"], "nothing of the open transaction is seen");
    assert!(second.said().contains("left a transaction open"), "{}", second.said());
}

#[test]
fn a_worker_that_is_killed_in_mid_transaction_holds_nobody_up_for_long() {
    let bed = Bed::new("midway");
    let input = bed.topic("clicks", PARTITIONS);
    bed.produce_ndjson(&input, &dirty_clicks("5"));
    let outputs = Outputs::new(&bed, &input, "a");
    let topics = [&outputs.embeddings, &outputs.live, &outputs.sessions].map(String::as_str);
    let ends = Ends::new(&bed, PARTITIONS);
    let settings = ["provisional.every_events=1", "epoch.events_max=2000", "app.instance=0"];
    let deadline = Deadline::after(WAIT);
    loop {
        assert!(!deadline.passed(), "a transaction is seen to be open, and its worker killed before it ends");
        let mut first = outputs.run(&bed, "a", &settings);
        while ends.of(&topics).windows(2).all(|ends| ends[0] == ends[1]) {
            assert!(!deadline.passed(), "a transaction is open now and then: {}", first.said());
        }
        first.kill();
        std::thread::sleep(Duration::from_millis(200));
        let [decided, all] = ends.of(&topics);
        if decided != all {
            break;
        }
    }
    let _again = outputs.run(&bed, "a", &settings);
    let held_up = ends.until_decided(&topics);
    eprintln!("killed and started again in the same place: readers are held up for {held_up:?}");
    assert!(held_up < Duration::from_secs(7), "its own id ends it at the start: {held_up:?}");
}
