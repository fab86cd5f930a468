//! The local store on a bank's load: a million customers, 16 to 40 bytes of key, 640 of value.
//!
//! `cargo bench --bench store`; needs 3 GB in the folder of `DCE_BENCH_DIR` (the system's temporary one) and a minute or two. The last
//! line is one JSON object. `-- --customers 10000000` for more.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench for people")]
#![expect(clippy::disallowed_methods, reason = "it measures time, in a folder that the environment names")]
#![expect(clippy::cast_precision_loss, reason = "measured numbers for people")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use dce::store::{Identity, Mark, PartitionStore, Store};
use serde_json::{Map, Value, json};

const VALUE_BYTES: usize = 640;
const CACHE_BYTES: u64 = 256 << 20;
const PARTITIONS: i32 = 256;
const READ: usize = 512;
const OURS: Identity<'_> = Identity { application: "bench", instance: "0", cluster: "none", topic: "dce-state" };

fn main() {
    let customers = std::env::args().skip_while(|argument| argument != "--customers").nth(1);
    let customers: u64 = customers.map_or(1_000_000, |text| text.parse().unwrap());
    let within = std::env::var_os("DCE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = within.join(format!("dce-bench-store-{}", std::process::id()));
    let mut results = Map::new();
    if std::env::args().any(|argument| argument == "--many") {
        many_partitions(&folder, customers, &mut results);
    } else {
        one_partition(&folder, customers, &mut results);
        // A process of its own, so that its memory is its own.
        let mut many = Command::new(std::env::current_exe().unwrap());
        let output = many.args(std::env::args_os().skip(1)).arg("--many").stderr(Stdio::inherit()).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let (lines, last) = told.trim_end().rsplit_once('\n').unwrap();
        println!("{lines}");
        results.extend(serde_json::from_str::<Map<String, Value>>(last).unwrap());
    }
    std::fs::remove_dir_all(&folder).unwrap();
    println!("{}", Value::Object(results));
}

fn open(folder: &Path) -> Store {
    let opened = Store::open(folder, &OURS, CACHE_BYTES).unwrap();
    assert_eq!(opened.moved_aside, None);
    opened.store
}

fn one_partition(folder: &Path, customers: u64, results: &mut Map<String, Value>) {
    let before_mb = memory_mb("VmRSS");
    let store = open(folder);
    let partition = store.partition(0).unwrap();
    let mut random = Random(1);

    // A permutation: each customer once, in no order.
    let mut load = (0..customers).map(|n| (n * 7_368_787) % customers);
    write("load", results, &partition, 10_000, (customers / 10_000) as usize, || load.next().unwrap());
    store.persist().unwrap();
    write("upsert_10000", results, &partition, 10_000, (customers / 10_000) as usize, || random.below(customers));
    write("upsert_100", results, &partition, 100, (customers / 100) as usize, || random.below(customers));
    report(results, "memory_mb", memory_mb("VmRSS") - before_mb);
    report(results, "memory_peak_mb", memory_mb("VmHWM") - before_mb);
    let begun = Instant::now();
    store.persist().unwrap();
    report(results, "persist_s", begun.elapsed().as_secs_f64());
    settle(&store);
    report(results, "disk_bytes_a_customer", store.bytes_on_disk() as f64 / customers as f64);
    read("read_warm", results, &partition, customers, 400);
    drop(partition);
    drop(store);

    let is_cold = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    let begun = Instant::now();
    let store = open(folder);
    report(results, "open_ms", begun.elapsed().as_secs_f64() * 1e3);
    let partition = store.partition(0).unwrap();
    if is_cold {
        read("read_cold", results, &partition, customers, 40);
    }
    let begun = Instant::now();
    let mut rows = 0;
    partition
        .scan(b"", |_, _| {
            rows += 1;
            true
        })
        .unwrap();
    assert_eq!(rows, customers);
    report(results, "scan_rows_s", rows as f64 / begun.elapsed().as_secs_f64());
    // What dropping one of many would cost if they shared a tree: each row by itself, and then its bytes.
    let begun = Instant::now();
    let keys: Vec<Vec<u8>> = (0..customers / PARTITIONS as u64).map(key_of).collect();
    partition.commit(keys.iter().map(|key| (key.as_slice(), None)), &mark(0)).unwrap();
    partition.purge().unwrap();
    report(results, "delete_and_purge_s", begun.elapsed().as_secs_f64());
}

fn many_partitions(folder: &Path, customers: u64, results: &mut Map<String, Value>) {
    let before_mb = memory_mb("VmRSS");
    let store = open(folder);
    let begun = Instant::now();
    let mut partitions: Vec<PartitionStore> = (0..PARTITIONS).map(|at| store.partition(at).unwrap()).collect();
    report(results, "many_make_ms", begun.elapsed().as_secs_f64() * 1e3);
    let mut next = (0..customers).map(|n| (n * 7_368_787) % customers);
    let (begun, cpu) = (Instant::now(), cpu_s());
    for _ in 0..customers / (40 * PARTITIONS as u64) {
        for partition in &partitions {
            let rows: Vec<(Vec<u8>, Vec<u8>)> = next.by_ref().take(40).map(|n| (key_of(n), value_of(n))).collect();
            let rows = rows.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
            partition.commit(rows, &mark(0)).unwrap();
        }
    }
    report(results, "many_load_rows_s", customers as f64 / begun.elapsed().as_secs_f64());
    report(results, "many_load_cpu_us_a_row", (cpu_s() - cpu) * 1e6 / customers as f64);
    report(results, "many_memory_mb", memory_mb("VmRSS") - before_mb);
    let listed = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count) as f64;
    report(results, "many_open_files", listed("/proc/self/fd"));
    report(results, "many_threads", listed("/proc/self/task"));
    let begun = Instant::now();
    store.persist().unwrap();
    report(results, "many_persist_s", begun.elapsed().as_secs_f64());
    settle(&store);
    report(results, "many_disk_bytes_a_customer", store.bytes_on_disk() as f64 / customers as f64);
    let begun = Instant::now();
    partitions.pop().unwrap().clear().unwrap();
    report(results, "many_clear_one_ms", begun.elapsed().as_secs_f64() * 1e3);
    drop(partitions);
    drop(store);
    let begun = Instant::now();
    let store = open(folder);
    report(results, "many_open_ms", begun.elapsed().as_secs_f64() * 1e3);
    drop(store);
}

fn write(
    what: &str,
    results: &mut Map<String, Value>,
    partition: &PartitionStore,
    batch: usize,
    batches: usize,
    mut next: impl FnMut() -> u64,
) {
    let mut times = Vec::with_capacity(batches);
    let (begun, cpu, making) = (Instant::now(), cpu_s(), making_us(batch));
    for _ in 0..batches {
        let rows: Vec<(Vec<u8>, Vec<u8>)> = (0..batch).map(|_| next()).map(|n| (key_of(n), value_of(n))).collect();
        let begun = Instant::now();
        let rows = rows.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
        partition.commit(rows, &mark(0)).unwrap();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let rows = (batch * batches) as f64;
    report(results, &format!("{what}_rows_s"), rows / begun.elapsed().as_secs_f64());
    report(results, &format!("{what}_cpu_us_a_row"), (cpu_s() - cpu) * 1e6 / rows - making);
    times.sort_by(f64::total_cmp);
    for (name, at) in [("p50", batches / 2), ("p99", batches * 99 / 100), ("max", batches - 1)] {
        report(results, &format!("{what}_commit_{name}_ms"), times[at]);
    }
}

fn read(what: &str, results: &mut Map<String, Value>, partition: &PartitionStore, customers: u64, rounds: usize) {
    let mut random = Random(3);
    let mut times = Vec::with_capacity(rounds);
    let cpu = cpu_s();
    for _ in 0..rounds {
        let keys: Vec<Vec<u8>> = (0..READ).map(|_| key_of(random.below(customers))).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let begun = Instant::now();
        let found = partition.read_many(&keys).unwrap();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        assert!(found.iter().all(Option::is_some));
    }
    report(results, &format!("{what}_rows_s"), (READ * rounds) as f64 * 1e3 / times.iter().sum::<f64>());
    report(results, &format!("{what}_cpu_us_a_row"), (cpu_s() - cpu) * 1e6 / (READ * rounds) as f64);
    times.sort_by(f64::total_cmp);
    report(results, &format!("{what}_512_p50_ms"), times[rounds / 2]);
    report(results, &format!("{what}_512_p99_ms"), times[rounds * 99 / 100]);
}

/// Waits until merging has come to rest.
fn settle(store: &Store) {
    let mut last = 0;
    loop {
        let now = store.bytes_on_disk();
        if now == last {
            return;
        }
        last = now;
        std::thread::sleep(std::time::Duration::from_secs(3));
    }
}

fn report(results: &mut Map<String, Value>, name: &str, value: f64) {
    println!("{name:28} {value:>12.1}");
    results.insert(name.to_owned(), json!((value * 10.0).round() / 10.0));
}

/// CPU time of making a row, which is the bench's and not the store's.
fn making_us(batch: usize) -> f64 {
    let cpu = Instant::now();
    let mut bytes = 0;
    for n in 0..batch.max(20_000) as u64 {
        bytes += key_of(n).len() + value_of(n).len();
    }
    assert!(bytes > 0);
    cpu.elapsed().as_secs_f64() * 1e6 / batch.max(20_000) as f64
}

fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn memory_mb(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn mark(changelog: i64) -> Mark {
    Mark { changelog, wall_ms: 0, record: vec![0; 100] }
}

fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn key_of(n: u64) -> Vec<u8> {
    let mixed = mixed(n + 1);
    let mut key = format!("{mixed:016x}").into_bytes();
    key.resize(16 + (mixed % 25) as usize, b'-');
    key
}

fn value_of(n: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE_BYTES);
    let mut word = mixed(n);
    while value.len() < VALUE_BYTES {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n | 1);
        value.extend_from_slice(&word.to_le_bytes());
    }
    value
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0) % limit
    }
}
