//! The disk takes no more: a clear error, reading goes on, and what was written is there afterwards.
//!
//! A limit on the size of a file stands for the full disk: the system refuses the write in the same place.

use super::crash::{child, is_child};
use super::*;

/// Commits until it is refused, says how far it got, and reads what it has.
fn commit_until_refused(folder: &Path) {
    let store = Store::open(folder, &OURS, CACHE_BYTES).unwrap().store;
    let partition = store.partition(0).unwrap();
    let first = partition.mark().unwrap().map_or(0, |mark| mark.changelog);
    for n in first + 1.. {
        let refused = match commit(&partition, n, &rows_of(n, 100_000)) {
            Ok(()) => continue,
            Err(refused) => refused,
        };
        println!("refused: {refused}");
        assert!(matches!(refused, StoreError::Stopped { .. }), "{refused}");
        let again = commit(&partition, n, &[]).unwrap_err();
        assert!(matches!(again, StoreError::Stopped { .. }), "{again}");
        assert_eq!(partition.mark().unwrap(), Some(mark(n - 1)));
        store.persist().unwrap_err();
        return;
    }
}

#[test]
fn a_full_disk_is_a_clear_error_and_loses_nothing_that_was_written() {
    if let Some(folder) = is_child() {
        return commit_until_refused(&folder);
    }
    let scratch = Scratch::new("full");
    let mut expected = Rows::new();
    {
        let store = scratch.open();
        let partition = store.partition(0).unwrap();
        for n in 1..=50 {
            let rows = rows_of(n, 100_000);
            commit(&partition, n, &rows).unwrap();
            apply(&mut expected, &rows);
        }
    }
    // 8 MiB in blocks of 512 bytes, far below a buffer; the signal of the limit is ignored, so that it is an error.
    let inner = child("full::a_full_disk_is_a_clear_error_and_loses_nothing_that_was_written", &scratch.0);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 16384; exec \"$@\"", "sh"]).arg(inner.get_program());
    limited.args(inner.get_args()).envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = limited.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told} {}", String::from_utf8_lossy(&output.stderr));
    let refused = told.lines().find(|line| line.starts_with("refused: ")).unwrap();
    assert!(refused.contains("local store takes no more: local store: writing a buffer of"), "{refused}");
    assert!(refused.contains("File too large"), "{refused}");
    // Nothing is damaged: it is opened as it is, without what the failed writing left.
    let store = scratch.open();
    let partition = store.partition(0).unwrap();
    assert_eq!(partition.mark().unwrap(), Some(mark(50)));
    assert!(all(&partition).unwrap() == expected);
    put(&partition, "new", "1", 51);
    store.persist().unwrap();
}
