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
        self.begin_or_end().expect("the import reads its file")
    }

    /// The same; `None` where the import ends instead.
    fn begin_or_end(&mut self) -> Option<File> {
        // Opened without waiting, so that an end is seen.
        const NONBLOCK: i32 = 0o4000;
        let deadline = Deadline::after(WAIT);
        let reader_is_there = loop {
            match OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&self.path) {
                Ok(pipe) => break pipe,
                Err(_) if self.import.try_wait().expect("a child of ours").is_some() => return None,
                Err(_) => {
                    assert!(!deadline.passed(), "the import reads its file, or ends");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        };
        let pipe = OpenOptions::new().write(true).open(&self.path).expect("somebody reads it");
        drop(reader_is_there);
        Some(pipe)
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
    for (app, why) in [("b", "has begun by itself meanwhile"), ("c", "somebody else has begun to write to")] {
        let input = bed.topic(&format!("clicks-{app}"), PARTITIONS);
        let outputs = Outputs::new(&bed, &input, app);
        let (held, pipe) = about_to_write(&bed, &outputs, "b", &file);
        bed.produce_ndjson(&outputs.input, &second);
        let mut worker = outputs.run(&bed, app, &[]);
        bed.collector(&outputs.state).until(1);
        held.give(pipe);
        until_marked(&bed, &outputs);
        worker.signal("TERM");
        assert!(worker.wait().success(), "{}", worker.said());
        refused(&held.end(), 1, why);

        read_to_the_end(&bed, &outputs, app, &[]);
        let calm = Outputs::new(&bed, &outputs.input, &format!("calm-{app}"));
        read_to_the_end(&bed, &calm, &format!("calm-{app}"), &[]);
        assert_eq!(records(&bed, &outputs.embeddings), records(&bed, &calm.embeddings));
    }
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

/// An import that has looked at its topics and group, and begins to write when it is given the file again. That needs one
/// which keys the state anew.
fn about_to_write(bed: &Bed, outputs: &Outputs, app: &str, file: &Savepoint) -> (Held, File) {
    let mut held = Held::import(bed, outputs, app, file, &["--new-input"]);
    held.read();
    let pipe = held.begin();
    (held, pipe)
}

fn is_done(import: &Output) {
    assert!(import.status.success(), "{}", said(import));
}

#[test]
fn of_two_imports_at_once_the_one_that_marks_first_is_whole() {
    let (bed, file, _, _) = exported("two", &dirty_clicks("9"));
    let clicks = bed.topic("new-clicks", PARTITIONS);
    for (of_first, of_second) in [("b", "b"), ("c", "d")] {
        let outputs = Outputs::new(&bed, &clicks, of_first);
        let two = || [of_first, of_second].map(|app| about_to_write(&bed, &outputs, app, &file));
        let [(mut first, gives_first), (second, gives_second)] = two();
        first.give(gives_first);
        until_marked(&bed, &outputs);
        let gives_first = first.begin();
        second.give(gives_second);
        refused(&second.end(), 1, "has begun before, and nothing of this one was written");
        // One that is killed there is gone on from by nobody, and its successor has a topic of its own.
        drop((first, gives_first));
        let ends = bed.read_all(&outputs.state).iter().filter(|got| got.key.as_deref() != Some("i")).count();
        assert_eq!((marks(&bed, &outputs), ends), (PARTITIONS, 0), "nothing but the first one's marks");
        let mut dce = outputs.run(&bed, of_second, &[]);
        assert_eq!(dce.wait().code(), Some(1), "{}", dce.said());
        assert!(dce.said().contains("dce state import was begun and has not ended"), "{}", dce.said());

        let outputs = with_state(outputs, bed.topic(&format!("{of_first}-state-2"), PARTITIONS));
        let two = || [of_first, of_second].map(|app| about_to_write(&bed, &outputs, app, &file));
        let [(mut first, gives_first), (second, gives_second)] = two();
        let (third, gives_third) = about_to_write(&bed, &outputs, of_second, &file);
        first.give(gives_first);
        until_marked(&bed, &outputs);
        let gives_first = first.begin();
        second.give(gives_second);
        refused(&second.end(), 1, "has begun before, and nothing of this one was written");
        first.give(gives_first);
        is_done(&first.end());
        // This one comes when the first has ended.
        let before = bed.read_all(&outputs.state);
        third.give(gives_third);
        refused(&third.end(), 1, "and nothing of this one was written");
        assert_eq!(bed.read_all(&outputs.state), before);
        is_whole(&state(&bed, &outputs, of_first, &["stats"]));
    }
}

#[test]
fn of_imports_that_begin_to_write_together_one_is_whole_in_a_topic_and_in_a_group() {
    let (bed, file, _, _) = exported("race", &dirty_clicks("9"));
    let clicks = bed.topic("new-clicks", PARTITIONS);
    for (round, apps) in [["b", "b"], ["c", "d"], ["e", "f"], ["g", "h"]].into_iter().enumerate() {
        let outputs = Outputs::new(&bed, &clicks, &format!("race-{round}"));
        let two = apps.map(|app| about_to_write(&bed, &outputs, app, &file));
        let two = two.map(|(held, pipe)| {
            held.give(pipe);
            held
        });
        let two = two.map(|mut held| {
            if let Some(pipe) = held.begin_or_end() {
                held.give(pipe);
            }
            held.end()
        });
        let said = two.each_ref().map(said);
        assert_eq!(two.iter().filter(|import| import.status.success()).count(), 1, "{said:#?}");
        let whole = apps[usize::from(!two[0].status.success())];
        is_whole(&state(&bed, &outputs, whole, &["stats"]));
    }

    // Into two topics, for one group.
    let first = Outputs::new(&bed, &clicks, "of-group");
    let second = with_state(first.clone(), bed.topic("of-group-state-2", PARTITIONS));
    let ((mut of_first, gives_first), (mut of_second, gives_second)) =
        (about_to_write(&bed, &first, "i", &file), about_to_write(&bed, &second, "i", &file));
    of_first.give(gives_first);
    until_marked(&bed, &first);
    let gives_first = of_first.begin();
    of_second.give(gives_second);
    until_marked(&bed, &second);
    of_second.read();
    is_done(&of_second.end());
    of_first.give(gives_first);
    refused(&of_first.end(), 1, "the import has not ended, as dce run will say: another dce state import of");
    is_whole(&state(&bed, &second, "i", &["stats"]));
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
