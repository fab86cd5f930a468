//! `dce state import` on a real broker: what is half done is gone on from by nobody, and who comes meanwhile, a worker or
//! another import, is refused or goes on whole.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dce::kafka::Deadline;
use dce::kafka::bulk::{Bulk, BulkError};
use serde_json::Value;

use crate::harness::{Bed, Dce, WAIT};
use crate::pipeline::{Outputs, PARTITIONS, dirty_clicks, read_to_the_end, records};
use crate::state::{Savepoint, command, halves, is_whole, json, refused, said, state, with_state};

#[test]
fn an_import_that_has_not_ended_is_gone_on_from_by_nobody() {
    let bed = Bed::new("half");
    let outputs = Outputs::new(&bed, &bed.topic("clicks", PARTITIONS), "half");
    bed.produce_values(&outputs.state, [(1, "i".to_owned(), b"import".to_vec())]);
    // Also by a local store that was filled from it before.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(bed.name("store"));
    let store = format!("state.dir={}", folder.display());
    for setting in ["delivery=exactly_once", "delivery=at_least_once", &store, &store] {
        let mut dce = outputs.run(&bed, "half", &[setting]);
        assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
        let want = format!("{}/1: dce state import was begun and has not ended", outputs.state);
        assert!(dce.said().contains(&want), "{}", dce.said());
    }
    std::fs::remove_dir_all(folder).unwrap();
    let stats = state(&bed, &outputs, "half", &["stats"]);
    refused(&stats, 1, "dce state import was begun and has not ended");
    let file = Savepoint::new(&bed);
    refused(&state(&bed, &outputs, "half", &["export", file.path()]), 1, "has committed nothing");
    refused(&state(&bed, &outputs, "half", &["import", file.path()]), 1, "cannot be read");
    std::fs::write(file.path(), "nothing of the kind").unwrap();
    refused(&state(&bed, &outputs, "half", &["import", file.path()]), 1, "it is no savepoint of dce");
}

/// A savepoint that is given to `dce state import` when the test says so: it reads the file more than once.
struct Held {
    path: PathBuf,
    bytes: Vec<u8>,
    import: Child,
}

impl Held {
    /// The import waits for its first reading.
    fn import(bed: &Bed, outputs: &Outputs, app: &str, file: &Savepoint, more: &[&str]) -> Self {
        static PIPES: AtomicU32 = AtomicU32::new(0);
        let pipe = format!("pipe-{}", PIPES.fetch_add(1, Ordering::Relaxed));
        let path = file.0.with_file_name(bed.name(&pipe));
        let bytes = std::fs::read(&file.0).expect("the savepoint");
        make_pipe(&path);
        let mut command = command(bed, outputs, app, &[&["import", path.to_str().unwrap()], more].concat());
        let import = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        Self { path, bytes, import }
    }

    /// The next reading: waits until it begins, and gives it the file. The one after that begins with another pipe.
    fn read(&mut self) {
        let pipe = self.begin();
        self.give(pipe);
    }

    /// Waits until the next reading begins.
    fn begin(&mut self) -> File {
        // Opened without waiting, so that an import which ends instead fails the test.
        const NONBLOCK: i32 = 0o4000;
        let deadline = Deadline::after(WAIT);
        let reader_is_there = loop {
            match OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&self.path) {
                Ok(pipe) => break pipe,
                Err(_) => {
                    let ended = self.import.try_wait().expect("a child of ours");
                    assert!(ended.is_none() && !deadline.passed(), "the import reads its file: {ended:?}");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        };
        let pipe = OpenOptions::new().write(true).open(&self.path).expect("somebody reads it");
        drop(reader_is_there);
        pipe
    }

    fn give(&self, mut pipe: File) {
        std::fs::remove_file(&self.path).expect("it is ours");
        make_pipe(&self.path);
        pipe.write_all(&self.bytes).expect("it is read");
    }

    /// Waits until it has ended, without another reading.
    fn end(mut self) -> Output {
        let deadline = Deadline::after(WAIT);
        let status = loop {
            match self.import.try_wait().expect("a child of ours") {
                Some(status) => break status,
                None => assert!(!deadline.passed(), "the import ends"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.import.stdout.take().expect("a pipe").read_to_end(&mut stdout).expect("what it said");
        self.import.stderr.take().expect("a pipe").read_to_end(&mut stderr).expect("what it said");
        Output { status, stdout, stderr }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.import.kill());
        drop(self.import.wait());
        drop(std::fs::remove_file(&self.path));
    }
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
}

/// Partitions that an import was begun in, as far as the log says: a mark that was taken back counts too.
fn marks(bed: &Bed, outputs: &Outputs) -> usize {
    let got = bed.read_all(&outputs.state);
    got.iter().filter(|got| got.key.as_deref() == Some("i") && got.value.is_some()).count()
}

fn until_member(bed: &Bed, app: &str, worker: &Dce) {
    let deadline = Deadline::after(WAIT);
    while bed.members(&bed.name(app)) != Some(1) {
        assert!(!deadline.passed(), "{}", worker.said());
    }
}

fn until_marked(bed: &Bed, outputs: &Outputs) {
    let deadline = Deadline::after(WAIT);
    while marks(bed, outputs) < PARTITIONS {
        assert!(!deadline.passed(), "the import begins");
    }
}

/// What an application made of the clicks, in a file, and what the export said.
fn exported(test: &str, clicks: &str) -> (Bed, Savepoint, Outputs, Value) {
    let bed = Bed::new(test);
    let file = Savepoint::new(&bed);
    let outputs = Outputs::new(&bed, &bed.topic("clicks", PARTITIONS), "a");
    bed.produce_ndjson(&outputs.input, clicks);
    read_to_the_end(&bed, &outputs, "a", &[]);
    let exported = json(&state(&bed, &outputs, "a", &["export", file.path(), "--json"]));
    (bed, file, outputs, exported)
}

#[test]
fn a_worker_that_comes_while_an_import_goes_on_is_refused_and_goes_on_after_it() {
    let (first, second) = halves(&dirty_clicks("7"));
    let (bed, file, outputs, exported) = exported("while", &first);
    let outputs = with_state(outputs, bed.topic("state-2", PARTITIONS));

    // One that is there before: nothing is begun.
    let aside = Outputs::new(&bed, &bed.topic("no-clicks", PARTITIONS), "aside");
    let before = aside.run(&bed, "aside", &[]);
    until_member(&bed, "aside", &before);
    refused(&state(&bed, &aside, "aside", &["import", file.path(), "--new-input"]), 1, "has members");
    drop(before);
    assert_eq!(marks(&bed, &aside), 0);

    let mut held = Held::import(&bed, &outputs, "b", &file, &["--json"]);
    held.read();
    until_marked(&bed, &outputs);
    for delivery in ["delivery=exactly_once", "delivery=at_least_once"] {
        let mut early = outputs.run(&bed, "b", &[delivery]);
        assert_eq!(early.wait().code(), Some(1), "{}", early.said());
        assert!(early.said().contains("dce state import was begun and has not ended"), "{}", early.said());
    }
    held.read();
    let imported = json(&held.end());
    assert_eq!(imported["customers"], exported["customers"]);
    is_whole(&state(&bed, &outputs, "b", &["stats"]));
    bed.produce_ndjson(&outputs.input, &second);
    read_to_the_end(&bed, &outputs, "b", &[]);
    is_whole(&state(&bed, &outputs, "b", &["stats"]));
}

#[test]
fn a_worker_that_has_begun_ends_an_import_and_goes_on() {
    let (first, second) = halves(&dirty_clicks("8"));
    let (bed, file, _, _) = exported("begun", &first);
    // Another input is keyed anew, and for that the file is read between the look at the group and the marks.
    let outputs = Outputs::new(&bed, &bed.topic("new-clicks", PARTITIONS), "b");
    let mut held = Held::import(&bed, &outputs, "b", &file, &["--new-input"]);
    held.read();
    bed.produce_ndjson(&outputs.input, &second);
    let mut worker = outputs.run(&bed, "b", &[]);
    bed.collector(&outputs.embeddings).until(20);
    held.read();
    until_marked(&bed, &outputs);
    worker.signal("TERM");
    assert!(worker.wait().success(), "{}", worker.said());
    refused(&held.end(), 1, "has begun by itself meanwhile");

    read_to_the_end(&bed, &outputs, "b", &[]);
    let calm = Outputs::new(&bed, &outputs.input, "calm");
    read_to_the_end(&bed, &calm, "calm", &[]);
    assert_eq!(records(&bed, &outputs.embeddings), records(&bed, &calm.embeddings));
}

#[test]
fn a_worker_that_has_committed_nothing_ends_an_import_and_may_be_stopped_for_the_next() {
    let (bed, file, _, exported) = exported("idle", &dirty_clicks("11"));
    let outputs = Outputs::new(&bed, &bed.topic("no-clicks", PARTITIONS), "b");
    let mut held = Held::import(&bed, &outputs, "b", &file, &["--new-input"]);
    held.read();
    let pipe = held.begin();
    let mut worker = outputs.run(&bed, "b", &[]);
    until_member(&bed, "b", &worker);
    worker.until_said("partitions restored");
    held.give(pipe);
    refused(&held.end(), 1, "has members");
    assert_eq!(marks(&bed, &outputs), PARTITIONS, "they stay");
    worker.signal("TERM");
    assert!(worker.wait().success(), "{}", worker.said());
    refused(&state(&bed, &outputs, "b", &["import", file.path(), "--new-input"]), 1, "has records");

    let outputs = with_state(outputs, bed.topic("state-2", PARTITIONS));
    let imported = json(&state(&bed, &outputs, "b", &["import", file.path(), "--new-input", "--json"]));
    assert_eq!(imported["customers"], exported["customers"]);
    is_whole(&state(&bed, &outputs, "b", &["stats"]));
}

#[test]
fn of_two_imports_at_once_one_at_the_most_is_whole() {
    let (bed, file, _, _) = exported("two", &dirty_clicks("9"));
    // Another input is keyed anew: each import reads the file between its look at the log and its marks.
    let outputs = Outputs::new(&bed, &bed.topic("new-clicks", PARTITIONS), "b");
    let import = |outputs: &Outputs| {
        let mut held = Held::import(&bed, outputs, "b", &file, &["--new-input"]);
        held.read();
        let pipe = held.begin();
        (held, pipe)
    };
    let ((mut first, of_first), (second, of_second)) = (import(&outputs), import(&outputs));
    first.give(of_first);
    until_marked(&bed, &outputs);
    let of_first = first.begin();
    second.give(of_second);
    refused(&second.end(), 1, "was under way, and is ended: neither is whole");
    first.give(of_first);
    refused(&first.end(), 1, "the import has not ended, as dce run will say: another dce state import of");
    let ends = bed.read_all(&outputs.state).iter().filter(|got| got.key.as_deref() != Some("i")).count();
    assert_eq!((marks(&bed, &outputs), ends), (PARTITIONS, 0), "nothing but the first one's marks");
    let mut dce = outputs.run(&bed, "b", &[]);
    assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
    assert!(dce.said().contains("dce state import was begun and has not ended"), "{}", dce.said());

    // What those words say to do. This time the first one ends before the second has begun to write.
    let outputs = with_state(outputs, bed.topic("state-2", PARTITIONS));
    let ((mut first, of_first), (second, of_second)) = (import(&outputs), import(&outputs));
    first.give(of_first);
    first.read();
    let imported = first.end();
    assert!(imported.status.success(), "{}", said(&imported));
    let before = bed.read_all(&outputs.state);
    second.give(of_second);
    refused(&second.end(), 1, "came first");
    assert_eq!(bed.read_all(&outputs.state), before);
    is_whole(&state(&bed, &outputs, "b", &["stats"]));
    bed.produce_ndjson(&outputs.input, &dirty_clicks("10"));
    read_to_the_end(&bed, &outputs, "b", &[]);
}

/// Whatever of it is on its way.
#[test]
fn a_writer_that_a_later_one_ended_says_so() {
    let bed = Bed::new("writers");
    let (topic, id) = (bed.topic("written", 1), bed.name("writer"));
    let writer = || Bulk::new(&bed.settings, &id, &topic).expect("a broker");
    let write = |bulk: &mut Bulk, value: &str| bulk.send(0, b"k", Some(value.as_bytes()));
    for (sent, committed) in [(false, false), (true, false), (true, true)] {
        let mut first = writer();
        if sent {
            write(&mut first, "first").expect("sent");
        }
        if committed {
            first.commit().expect("committed");
        }
        let mut second = writer();
        let error = write(&mut first, "again").and_then(|()| first.commit()).expect_err("it is ended");
        assert!(matches!(error, BulkError::Fenced { .. }), "{error}");
        assert!(matches!(write(&mut first, "again"), Err(BulkError::Fenced { .. })));
        write(&mut second, "second").and_then(|()| second.commit()).expect("nobody ended it");
    }
    let values: Vec<_> = bed.read_all(&topic).into_iter().filter_map(|got| got.value).collect();
    assert_eq!(values, ["second", "second", "first", "second"]);
}
