//! Killed in the midst of it: rows and mark match, and what was written stays.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;

const KILLS: u64 = 24;
const KEYS: u64 = 3_000;
/// Where the child's store is; its presence says that this process is the child.
const CHILD: &str = "DCE_TEST_STORE_CHILD";

/// Runs a test of this module again, in a process of its own, which finds the folder in its environment.
pub(super) fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("store::tests::{test}"), "--exact", "--nocapture"]).env(CHILD, folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(super) fn is_child() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the process that the test starts must know that it is the one")]
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Goes on from the mark until it is killed, with buffers written all the time.
fn commit_for_ever(folder: &Path) {
    let store = Store::open(folder, &OURS, CACHE_BYTES).unwrap().store;
    let partition = store.partition(0).unwrap();
    let mut n = partition.mark().unwrap().map_or(0, |mark| mark.changelog);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                store.persist().unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        // Ends by itself if whoever would kill it is gone.
        for _ in 0..200_000 {
            n += 1;
            commit(&partition, n, &rows_of(n, KEYS)).unwrap();
        }
        ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn killed_in_the_midst_rows_and_mark_match() {
    if let Some(folder) = is_child() {
        return commit_for_ever(&folder);
    }
    let scratch = Scratch::new("kill");
    let mut random = Random(11);
    let (mut expected, mut reached) = (Rows::new(), 0);
    for kill in 0..KILLS {
        let mut child = child("crash::killed_in_the_midst_rows_and_mark_match", &scratch.0).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(60 + random.below(400)));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = scratch.open();
        let partition = store.partition(0).unwrap();
        let found = partition.mark().unwrap().map_or(0, |mark| mark.changelog);
        assert!(found >= reached, "kill {kill}: went back from {reached} to {found}");
        for n in reached + 1..=found {
            apply(&mut expected, &rows_of(n, KEYS));
        }
        if found > 0 {
            assert_eq!(partition.mark().unwrap(), Some(mark(found)));
        }
        assert!(all(&partition).unwrap() == expected, "kill {kill}: rows are not those of mark {found}");
        reached = found;
    }
    assert!(reached > 100, "the child got somewhere: {reached}");
    println!("{KILLS} kills, {reached} commits, {} rows", expected.len());
}

#[test]
fn a_second_process_is_refused_and_moves_nothing() {
    if let Some(folder) = is_child() {
        let refused = Store::open(&folder, &OURS, CACHE_BYTES).unwrap_err();
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
        let text = format!("local store {}: another process has it open", folder.display());
        assert_eq!(refused.to_string(), text);
        return;
    }
    let scratch = Scratch::new("second");
    let store = scratch.open();
    put(&store.partition(0).unwrap(), "ana", "1", 1);
    store.persist().unwrap();
    let output = child("crash::a_second_process_is_refused_and_moves_nothing", &scratch.0).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(get(&store.partition(0).unwrap(), "ana").as_deref(), Some("1"));
    drop(store);
    assert_eq!(get(&scratch.open().partition(0).unwrap(), "ana").as_deref(), Some("1"));
}
