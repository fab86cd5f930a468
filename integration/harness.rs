//! What the tests on a real broker share: names of their own, topics, records in, records out, the real binary.
//! Waiting is for something to be seen, with a deadline; never a sleep that is hoped to be long enough.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dce::kafka::Deadline;
use dce::kafka::client::{ClientSettings, Consumer, ConsumerEvents, Producer, ProducerEvents};
use dce::kafka::raw::Message;
use dce::kafka::reader::{Span, SpanReader};
use dce::kafka::topics::{self, Inspector, Purpose, TopicSpec};
use dce::types::{ClickKind, EventTime, ResumeAt};
use dce::wire::click::ClickEvent;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

/// For anything that a broker or a process does; well above what it takes.
pub(crate) const WAIT: Duration = Duration::from_secs(60);
/// What a group's coordinator that has just begun answers.
const MOVING: [RDKafkaErrorCode; 3] = [
    RDKafkaErrorCode::NotCoordinator,
    RDKafkaErrorCode::CoordinatorLoadInProgress,
    RDKafkaErrorCode::CoordinatorNotAvailable,
];

/// One test's place on the broker: every name in it is its own.
pub(crate) struct Bed {
    pub(crate) settings: ClientSettings,
    name: String,
}

/// A record to write.
#[derive(Debug, Clone)]
pub(crate) struct Click {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    /// `None`: now.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Click {
    pub(crate) fn new(partition: i32, key: &str, value: &str) -> Self {
        Self {
            partition,
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
            timestamp_ms: None,
            headers: Vec::new(),
        }
    }
}

impl Click {
    /// See [`Bed::produce_ndjson`].
    pub(crate) fn of_line(line: &str) -> Self {
        let mut value: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let fields = value.as_object_mut().expect("an object a line");
        let partition = fields.remove("partition").and_then(|partition| partition.as_i64()).unwrap_or(0);
        let timestamp_ms = fields.remove("record_time").and_then(|time| time.as_i64());
        let key = fields.get("customer_id").and_then(|id| id.as_str()).map(str::to_owned);
        let partition = i32::try_from(partition).expect("a partition number");
        Self { partition, key, value: Some(value.to_string()), timestamp_ms, headers: Vec::new() }
    }
}

/// A view of the home page, or another kind of click, of a customer without a session id.
pub(crate) fn click(id: &str, customer: &'static str, ms: i64, kind: ClickKind) -> ClickEvent<'static> {
    ClickEvent {
        event_id: id.to_owned().into(),
        customer_id: Some(customer.into()),
        event_time: EventTime::parse(ms).unwrap(),
        kind,
        name: "home".into(),
        channel: Some("web".into()),
        session_id: None,
        device_id: None,
        context: Vec::new(),
        attributes: Vec::new(),
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Bed {
    pub(crate) fn new(test: &str) -> Self {
        let bootstrap = std::env::var("DCE_TEST_BOOTSTRAP").unwrap_or_else(|_| {
            panic!("DCE_TEST_BOOTSTRAP names no Kafka: start one with integration/kafka.sh run -- cargo test --test integration")
        });
        Self::at(&bootstrap, test)
    }

    /// On a broker of its own.
    pub(crate) fn at(bootstrap: &str, test: &str) -> Self {
        Self::by(ClientSettings::of(bootstrap), test)
    }

    pub(crate) fn by(settings: ClientSettings, test: &str) -> Self {
        static BEDS: AtomicU32 = AtomicU32::new(0);
        let name = format!("{test}-{}-{}", std::process::id(), BEDS.fetch_add(1, Ordering::Relaxed));
        Self { settings, name }
    }

    /// A name of a topic, a group or an application that no other test has.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.name)
    }

    /// Makes a topic of that kind and gives its full name.
    pub(crate) fn topic(&self, what: &str, partitions: usize) -> String {
        self.topic_of(what, partitions, &[])
    }

    pub(crate) fn topic_of(&self, what: &str, partitions: usize, settings: &[(&'static str, &str)]) -> String {
        let name = self.name(what);
        let mut spec = TopicSpec::new(&name, partitions, Some(1), Purpose::Log);
        spec.settings.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let created = topics::create(&self.settings, &[spec], WAIT).expect("a broker that makes topics");
        assert_eq!(created, [name.as_str()], "a new topic");
        name
    }

    /// How many a topic has.
    pub(crate) fn partitions(&self, topic: &str) -> i32 {
        let inspector = Inspector::new(&self.settings).expect("a client");
        let partitions = inspector.describe(topic, WAIT).expect("a broker").expect("the topic exists");
        i32::try_from(partitions).expect("few partitions")
    }

    /// Gives a topic so many partitions.
    pub(crate) fn grow(&self, topic: &str, partitions: usize) {
        let admin: AdminClient<DefaultClientContext> = self.settings.inspector().create().expect("a client");
        let grown = [NewPartitions::new(topic, partitions)];
        let options = AdminOptions::new().operation_timeout(Some(WAIT));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let done = runtime.block_on(admin.create_partitions(&grown, &options)).expect("a broker");
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    /// Writes records outside of transactions, each partition's in the order given, and waits until all are stored.
    pub(crate) fn produce(&self, topic: &str, clicks: impl IntoIterator<Item = Click>) {
        let producer = self.producer();
        for click in clicks {
            let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(click.partition);
            record.key = click.key.as_deref();
            record.payload = click.value.as_deref();
            record.timestamp = click.timestamp_ms;
            for (key, value) in &click.headers {
                let header = rdkafka::message::Header { key, value: Some(value) };
                record.headers = Some(record.headers.take().unwrap_or_default().insert(header));
            }
            let deadline = Deadline::after(WAIT);
            while let Err((error, unsent)) = producer.send(record) {
                assert!(!deadline.passed(), "{topic}: {error}");
                record = unsent;
                std::thread::yield_now();
            }
        }
        all_stored(&producer, WAIT * 5);
    }

    /// Not an idempotent one, which a broker's end can hold up for good: the storm went on almost without input.
    fn producer(&self) -> Producer {
        let mut config = self.settings.plain_producer();
        config.set("enable.idempotence", "false");
        Producer::from_config_and_context(&config, ProducerEvents::default()).expect("a producer")
    }

    /// Writes lines of JSON; each may say where to by fields `partition` and `record_time` (milliseconds), which are
    /// left out of the value, and by `customer_id`, its key.
    pub(crate) fn produce_ndjson(&self, topic: &str, lines: &str) {
        self.produce(topic, lines.lines().filter(|line| !line.trim().is_empty()).map(Click::of_line));
    }

    /// Values that are no text, in order.
    pub(crate) fn produce_bytes(&self, topic: &str, partition: i32, key: &str, values: &[Vec<u8>]) {
        self.produce_values(topic, values.iter().map(|value| (partition, key.to_owned(), value.clone())));
    }

    /// The same, each with its partition and key.
    pub(crate) fn produce_values(&self, topic: &str, values: impl IntoIterator<Item = (i32, String, Vec<u8>)>) {
        let producer = self.producer();
        for (partition, key, value) in values {
            let record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value);
            producer.send(record).map_err(|(error, _)| error).expect("room for a few records");
        }
        all_stored(&producer, WAIT);
    }

    /// How many members a consumer group has; `None` while it is not settled.
    pub(crate) fn members(&self, group: &str) -> Option<usize> {
        let config = self.settings.reader(&self.name("groups"), 1 << 10);
        let consumer = Consumer::from_config_and_context(&config, ConsumerEvents::default()).expect("a consumer");
        let list = match consumer.fetch_group_list(Some(group), WAIT) {
            Err(error) if error.rdkafka_error_code().is_some_and(|code| MOVING.contains(&code)) => return None,
            list => list.expect("a broker"),
        };
        let group = list.groups().first().filter(|group| group.state() == "Stable")?;
        Some(group.members().len())
    }

    /// The values of all committed records, as they are.
    pub(crate) fn read_bytes(&self, topic: &str) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        self.read(topic, |message| values.push(message.value().unwrap_or_default().to_vec()));
        values
    }

    /// All committed records up to the end that the topic has now, by partition and offset.
    pub(crate) fn read_all(&self, topic: &str) -> Vec<Got> {
        let mut got = Vec::new();
        self.read(topic, |message| {
            got.push(Got {
                partition: message.partition(),
                offset: message.offset(),
                key: text(message.key()),
                value: text(message.value()),
                headers: BTreeMap::new(),
            });
        });
        got.sort_by_key(|got| (got.partition, got.offset));
        got
    }

    /// The same, with headers.
    pub(crate) fn read_with_headers(&self, topic: &str) -> Vec<Got> {
        let ends = self.read_all(topic).len();
        let mut collector = self.collector(topic);
        let mut got = collector.until(ends).to_vec();
        got.truncate(ends);
        got.sort_by_key(|got| (got.partition, got.offset));
        got
    }

    /// Waits for transactions that are open below the end.
    pub(crate) fn read(&self, topic: &str, mut each: impl FnMut(Message<'_>)) {
        let inspector = Inspector::new(&self.settings).expect("a client");
        let partitions = inspector.describe(topic, WAIT).expect("a broker").expect("the topic exists");
        let spans: Vec<Span> = (0..i32::try_from(partitions).expect("few partitions"))
            .map(|partition| {
                let (low, high) = inspector.watermarks(topic, partition, WAIT).expect("watermarks");
                Span { partition, from: ResumeAt(low), until: ResumeAt(high) }
            })
            .collect();
        let mut reader =
            SpanReader::start(&self.settings, &self.name("reader"), topic, &spans, 16 << 10, WAIT).expect("a reader");
        while let Some(messages) = reader.next(1_000).expect("readable to the end") {
            messages.iter().for_each(&mut each);
        }
    }

    /// Reads what is committed as it comes.
    pub(crate) fn collector(&self, topic: &str) -> Collector {
        let inspector = Inspector::new(&self.settings).expect("a client");
        let partitions = inspector.describe(topic, WAIT).expect("a broker").expect("the topic exists");
        let config = self.settings.reader(&self.name("collector"), 16 << 10);
        let consumer = Consumer::from_config_and_context(&config, ConsumerEvents::default()).expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).expect("few partitions") {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&list).expect("an assignment");
        Collector { consumer, topic: topic.to_owned(), got: Vec::new() }
    }

    /// The real binary, with this broker.
    pub(crate) fn dce(&self, arguments: &[&str]) -> Dce {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_dce")).args(arguments))
    }

    /// The same where no file can grow beyond so many kilobytes, its own log neither: a disk that is full.
    pub(crate) fn dce_on_full_disk(&self, kbytes: u32, arguments: &[&str]) -> Dce {
        let script = format!("trap '' XFSZ; ulimit -f {kbytes}; exec \"$0\" \"$@\"");
        self.spawn(Command::new("bash").args(["-c", &script, env!("CARGO_BIN_EXE_dce")]).args(arguments))
    }

    fn spawn(&self, command: &mut Command) -> Dce {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("dce-{}-{run}.log", self.name));
        let output = File::create(&log).expect("a log file");
        let child = command
            .args(["--set", &format!("kafka.bootstrap={}", self.settings.bootstrap)])
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("the binary starts");
        Dce { child, log }
    }
}

fn all_stored(producer: &Producer, wait: Duration) {
    producer.flush(wait).expect("all records are answered");
    assert_eq!(producer.client().context().take_last_failure(), None, "all records are stored");
}

/// A reader that stays where it is between looks.
pub(crate) struct Collector {
    consumer: Consumer,
    topic: String,
    got: Vec<Got>,
}

impl Collector {
    /// Waits until there are so many in all, and gives all, in the order of arrival.
    pub(crate) fn until(&mut self, count: usize) -> &[Got] {
        let deadline = Deadline::after(WAIT);
        while self.got.len() < count {
            assert!(!deadline.passed(), "{}: {} records of {count} after {WAIT:?}", self.topic, self.got.len());
            self.poll(Duration::from_millis(100));
        }
        &self.got
    }

    /// What is there by now, without waiting for long.
    pub(crate) fn look(&mut self) -> &[Got] {
        loop {
            let before = self.got.len();
            self.poll(Duration::from_millis(100));
            if self.got.len() == before {
                return &self.got;
            }
        }
    }

    fn poll(&mut self, wait: Duration) {
        match self.consumer.poll(wait) {
            Some(Ok(message)) => {
                let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                self.got.push(Got {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: text(message.key()),
                    value: text(message.payload()),
                    headers: headers
                        .map(|header| (header.key.to_owned(), text(header.value).unwrap_or_default()))
                        .collect(),
                });
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => panic!("{}: {error}", self.topic),
        }
    }
}

/// A running `dce`; killed when it goes out of scope.
pub(crate) struct Dce {
    child: Child,
    log: PathBuf,
}

impl Dce {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `TERM`, `STOP`, `CONT`, `KILL`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "the process is there");
    }

    /// As an operator kills it: no goodbye.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process is there");
        self.child.wait().expect("it ends");
    }

    /// Until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Deadline::after(WAIT);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(!deadline.passed(), "dce still runs after {WAIT:?}; it said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Its log so far, for later.
    pub(crate) fn copy_log(&self, to: &std::path::Path) {
        std::fs::copy(&self.log, to).expect("its log can be copied");
    }

    /// Waits until it says that.
    pub(crate) fn until_said(&mut self, text: &str) -> String {
        let deadline = Deadline::after(WAIT);
        loop {
            let said = self.said();
            if said.contains(text) {
                return said;
            }
            assert!(self.ended().is_none() && !deadline.passed(), "{text:?} is not among what it said:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where its endpoints listen.
    pub(crate) fn address(&mut self) -> String {
        let said = self.until_said("address=");
        said.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    /// The end of what it said.
    pub(crate) fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// All that it has printed and logged.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).expect("its log")
    }
}

impl Drop for Dce {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("dce said ({}):\n{}", self.log.display(), self.said());
        } else {
            drop(std::fs::remove_file(&self.log));
        }
    }
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}
