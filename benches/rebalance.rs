//! For how long a partition stands still when a worker comes, goes by SIGTERM, or is killed: the longest time between two
//! embeddings that a reader of committed records sees. Half of the partitions move each time; taken for those that moved are
//! the ones with the longer pauses.
//!
//! `integration/kafka.sh run -- cargo bench --bench rebalance`; the last line is one JSON object. `ROUNDS=N` (5).
//! `SETTINGS="state.dir=/tmp/rebalance-INSTANCE"` goes to the workers, with the instance of each.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench for people")]
#![expect(clippy::disallowed_methods, reason = "it measures time, on the broker that the environment names")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dce::kafka::client::ClientSettings;
use dce::kafka::topics::{self, Purpose, TopicSpec};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Message as _, Offset, TopicPartitionList};

const WAIT: Duration = Duration::from_secs(60);
const PARTITIONS: usize = 4;
/// Between two sessions of each partition.
const EVERY: Duration = Duration::from_millis(10);
/// Before and after what is measured; above the session timeout, so that a killed worker is missed within.
const CALM: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(14);

/// When each partition's records were seen.
type Seen = Arc<Mutex<Vec<Vec<Instant>>>>;

struct Bed {
    client: ClientSettings,
    run: u32,
    seen: Seen,
}

impl Bed {
    fn topic(&self, what: &str) -> String {
        format!("{what}-{}", self.run)
    }

    fn worker(&self, instance: &str) -> Child {
        let more = std::env::var("SETTINGS").unwrap_or_default();
        let mut settings = vec![
            format!("kafka.bootstrap={}", self.client.bootstrap),
            format!("app.id=rebalance-{}", self.run),
            format!("app.instance={instance}"),
            "http.listen=off".to_owned(),
            "log.level=warn".to_owned(),
        ];
        for what in ["clickstream", "embeddings", "rejected", "state"] {
            settings.push(format!("topics.{what}={}", self.topic(what)));
        }
        settings.extend(more.split_whitespace().map(|one| one.replace("INSTANCE", instance)));
        let mut command = Command::new(env!("CARGO_BIN_EXE_dce"));
        command.arg("run").current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        settings.iter().for_each(|setting| _ = command.args(["--set", setting]));
        command.spawn().unwrap()
    }

    /// The longest pause of each partition that overlaps the span, in milliseconds.
    fn pauses(&self, from: Instant, until: Instant) -> Vec<f64> {
        let seen = self.seen.lock().unwrap();
        let longest = |times: &Vec<Instant>| {
            let pauses = times.windows(2).filter(|pair| pair[1] > from && pair[0] < until);
            pauses.map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).fold(0.0, f64::max)
        };
        seen.iter().map(longest).collect()
    }
}

fn main() {
    let Ok(bootstrap) = std::env::var("DCE_TEST_BOOTSTRAP") else {
        println!("no broker: integration/kafka.sh run -- cargo bench --bench rebalance");
        return;
    };
    let rounds: usize = std::env::var("ROUNDS").map_or(5, |text| text.parse().unwrap());
    let seen = Seen::new(Mutex::new(vec![Vec::new(); PARTITIONS]));
    let bed = Bed { client: ClientSettings::of(&bootstrap), run: std::process::id(), seen };
    let purposes = [
        ("clickstream", Purpose::Log),
        ("embeddings", Purpose::Table),
        ("rejected", Purpose::Log),
        ("state", Purpose::State),
    ];
    let specs = purposes.map(|(what, purpose)| TopicSpec::new(&bed.topic(what), PARTITIONS, None, purpose));
    topics::create(&bed.client, &specs, WAIT).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (feeding, reading) = (feed(&bed, &stop), read(&bed, &stop));
    let mut first = bed.worker("0");
    wait_for_all(&bed);

    let mut found: Vec<(&str, Vec<f64>, Vec<f64>)> =
        ["calm", "one comes", "one goes by SIGTERM", "one is killed"].map(|what| (what, Vec::new(), Vec::new())).into();
    for _ in 0..rounds {
        std::thread::sleep(CALM);
        let now = Instant::now();
        found[0].2.extend(bed.pauses(now - CALM, now));
        for (come, go) in [(1, 2), (1, 3)] {
            let mut second = None;
            measure(&bed, &mut found[come], || second = Some(bed.worker("1")));
            let mut second = second.unwrap();
            measure(&bed, &mut found[go], || {
                let signal = if go == 2 { "-TERM" } else { "-KILL" };
                Command::new("kill").args([signal, &second.id().to_string()]).status().unwrap();
                second.wait().unwrap();
            });
        }
    }
    stop.store(true, Ordering::Relaxed);
    feeding.join().unwrap();
    reading.join().unwrap();
    Command::new("kill").args(["-TERM", &first.id().to_string()]).status().unwrap();
    first.wait().unwrap();
    report(&found, rounds);
}

/// Does it, and parts the partitions' pauses: the longer half, the shorter half.
fn measure(bed: &Bed, found: &mut (&str, Vec<f64>, Vec<f64>), happens: impl FnOnce()) {
    let from = Instant::now();
    happens();
    std::thread::sleep(AFTER);
    let mut pauses = bed.pauses(from, Instant::now());
    pauses.sort_by(f64::total_cmp);
    let (stayed, moved) = pauses.split_at(PARTITIONS / 2);
    found.1.extend(moved);
    found.2.extend(stayed);
}

fn report(found: &[(&str, Vec<f64>, Vec<f64>)], rounds: usize) {
    println!(
        "{PARTITIONS} partitions, a session every {EVERY:?} in each, {rounds} rounds; the longest pause of a partition, ms"
    );
    println!("  {:<20} {:>14} {:>10} {:>15} {:>10}", "", "moved, median", "highest", "others, median", "highest");
    let mut line = serde_json::Map::new();
    for (what, moved, stayed) in found {
        let [moved, stayed] = [moved, stayed].map(|pauses| {
            let mut pauses = pauses.clone();
            pauses.sort_by(f64::total_cmp);
            (pauses.get(pauses.len() / 2).copied(), pauses.last().copied())
        });
        let shown = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0}"));
        println!(
            "  {what:<20} {:>14} {:>10} {:>15} {:>10}",
            shown(moved.0),
            shown(moved.1),
            shown(stayed.0),
            shown(stayed.1)
        );
        let key = what.replace(' ', "_").to_lowercase();
        line.insert(format!("{key}_moved_ms"), moved.0.into());
        line.insert(format!("{key}_others_ms"), stayed.0.into());
    }
    println!("{}", serde_json::Value::Object(line));
}

/// Sessions of a login and a logout, evenly.
fn feed(bed: &Bed, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ThreadedProducer::from_config_and_context(&bed.client.plain_producer(), DefaultProducerContext).unwrap();
    let (topic, stop) = (bed.topic("clickstream"), Arc::clone(stop));
    std::thread::spawn(move || {
        let begun = Instant::now();
        for number in 0_u32.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep((EVERY * number).saturating_sub(begun.elapsed()));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
            for partition in 0..i32::try_from(PARTITIONS).unwrap() {
                let customer = format!("c{partition}-{}", number % 500);
                for (kind, add) in [("LOGIN", 0), ("LOGOUT", 1)] {
                    let value = format!(
                        r#"{{"event_id":"{customer}-{number}-{kind}","customer_id":"{customer}","event_time":{},"kind":"{kind}","name":"x"}}"#,
                        now + add
                    );
                    let record = BaseRecord::to(&topic).partition(partition).key(&customer).payload(&value);
                    producer.send(record).map_err(|(error, _)| error).unwrap();
                }
            }
        }
        producer.flush(WAIT).unwrap();
    })
}

/// Notes when what is seen.
fn read(bed: &Bed, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let config = bed.client.reader(&format!("reader-{}", bed.run), 1 << 10);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let partition = i32::try_from(partition).unwrap();
        list.add_partition_offset(&bed.topic("embeddings"), partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (seen, stop) = (Arc::clone(&bed.seen), Arc::clone(stop));
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                let partition = usize::try_from(message.partition()).unwrap();
                seen.lock().unwrap()[partition].push(Instant::now());
            }
        }
    })
}

fn wait_for_all(bed: &Bed) {
    let begun = Instant::now();
    while bed.seen.lock().unwrap().iter().any(Vec::is_empty) {
        assert!(begun.elapsed() < WAIT, "no embeddings in {}", Path::new(env!("CARGO_BIN_EXE_dce")).display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
