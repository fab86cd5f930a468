//! What the store does when nothing goes wrong.

use proptest::prelude::*;

use super::*;

#[test]
fn rows_and_mark_are_there_after_a_clean_end() {
    let scratch = Scratch::new("clean-end");
    {
        let store = scratch.open();
        let partition = store.partition(7).unwrap();
        assert_eq!(partition.mark().unwrap(), None);
        put(&partition, "ana", "1", 10);
        put(&partition, "bob", "2", 11);
        partition.commit([(b"ana".as_slice(), None)], &mark(12)).unwrap();
        assert_eq!((get(&partition, "ana"), get(&partition, "bob")), (None, Some("2".to_owned())));
    }
    let store = scratch.open();
    let partition = store.partition(7).unwrap();
    assert_eq!(partition.mark().unwrap(), Some(mark(12)));
    assert_eq!((get(&partition, "ana"), get(&partition, "bob")), (None, Some("2".to_owned())));
    assert_eq!(store.partition(8).unwrap().mark().unwrap(), None);
    assert!(store.bytes_on_disk() > 0);
}

#[test]
fn a_mark_alone_and_empty_rows_can_be_committed() {
    let scratch = Scratch::new("mark-alone");
    let store = scratch.open();
    let partition = store.partition(0).unwrap();
    partition.commit([], &mark(5)).unwrap();
    assert_eq!(partition.mark().unwrap(), Some(mark(5)));
    partition.commit([(b"".as_slice(), Some(b"".as_slice()))], &mark(6)).unwrap();
    assert_eq!(partition.read_many(&[b"", b"none"]).unwrap(), [Some(Vec::new()), None]);
    assert!(partition.read_many(&[]).unwrap().is_empty());
}

#[test]
fn the_last_of_several_rows_with_one_key_counts() {
    let scratch = Scratch::new("same-key");
    let store = scratch.open();
    let partition = store.partition(0).unwrap();
    let (key, other) = (b"key".as_slice(), b"other".as_slice());
    let rows = [(key, Some(b"1".as_slice())), (other, None), (key, None), (other, Some(b"3")), (key, Some(b"2"))];
    partition.commit(rows, &mark(1)).unwrap();
    assert_eq!((get(&partition, "key").as_deref(), get(&partition, "other").as_deref()), (Some("2"), Some("3")));
    partition.commit([(key, Some(b"4".as_slice())), (key, None)], &mark(2)).unwrap();
    assert_eq!(get(&partition, "key"), None);
}

#[test]
fn a_scan_has_the_prefix_and_stops_when_told() {
    let scratch = Scratch::new("prefix");
    let store = scratch.open();
    let partition = store.partition(0).unwrap();
    for (n, key) in ["a", "ca", "cb", "cc", "d"].into_iter().enumerate() {
        put(&partition, key, key, i64::try_from(n).unwrap());
    }
    let scanned = |prefix: &str, limit: usize| {
        let mut keys = Vec::new();
        let mut each = |key: &[u8], _: &[u8]| {
            keys.push(String::from_utf8(key.to_vec()).unwrap());
            keys.len() < limit
        };
        partition.scan(prefix.as_bytes(), &mut each).unwrap();
        keys.join(" ")
    };
    assert_eq!(scanned("c", 9), "ca cb cc");
    assert_eq!(scanned("c", 2), "ca cb");
    assert_eq!(scanned("", 9), "a ca cb cc d");
    assert_eq!(scanned("x", 9), "");
    // What is committed meanwhile is not in it, and waits for nothing.
    let mut count = 0;
    partition
        .scan(b"", |_, _| {
            count += 1;
            put(&partition, &format!("e{count}"), "late", 100 + count);
            true
        })
        .unwrap();
    assert_eq!(count, 5);
}

#[test]
fn what_is_too_long_is_refused_and_leaves_nothing() {
    let scratch = Scratch::new("too-long");
    let store = scratch.open();
    let partition = store.partition(0).unwrap();
    let (key, long_key) = (vec![b'k'; KEY_BYTES_MAX], vec![b'k'; KEY_BYTES_MAX + 1]);
    let long_value = vec![0; VALUE_BYTES_MAX + 1];
    let refused = partition.commit([(b"a".as_slice(), Some(b"1".as_slice())), (&long_key, None)], &mark(1));
    assert_eq!(refused.unwrap_err().to_string(), "local store: a key of 65535 bytes, limit 65534");
    let refused = partition.commit([(b"a".as_slice(), Some(long_value.as_slice()))], &mark(1));
    assert_eq!(refused.unwrap_err().to_string(), "local store: a value of 67108865 bytes, limit 67108864");
    assert_eq!((partition.mark().unwrap(), get(&partition, "a")), (None, None));
    partition.commit([(key.as_slice(), Some(b"1".as_slice()))], &mark(2)).unwrap();
    assert_eq!(partition.read_many(&[&key, &long_key]).unwrap(), [Some(b"1".to_vec()), None]);
    store.persist().unwrap();
    let mut scanned = 0;
    partition
        .scan(&key, |_, _| {
            scanned += 1;
            true
        })
        .unwrap();
    partition
        .scan(&long_key, |_, _| {
            scanned += 1;
            true
        })
        .unwrap();
    assert_eq!(scanned, 1);
    assert_eq!(partition.read_many(&[&key, &long_key]).unwrap(), [Some(b"1".to_vec()), None]);
}

#[test]
fn a_partition_has_one_owner_at_a_time() {
    let scratch = Scratch::new("one-owner");
    let store = scratch.open();
    let partition = store.partition(3).unwrap();
    put(&partition, "ana", "1", 1);
    let refused = store.partition(3).unwrap_err();
    assert_eq!(refused.to_string(), "local store: partition 3 is already in use in this process");
    drop(partition);
    assert_eq!(get(&store.partition(3).unwrap(), "ana").as_deref(), Some("1"));
}

#[test]
fn a_cleared_partition_is_empty_and_stays_so() {
    let scratch = Scratch::new("clear");
    {
        let store = scratch.open();
        let (one, two) = (store.partition(1).unwrap(), store.partition(2).unwrap());
        put(&one, "ana", "written", 1);
        put(&two, "bob", "stays", 1);
        store.persist().unwrap();
        put(&one, "ana", "in memory", 2);
        one.clear().unwrap();
        let one = store.partition(1).unwrap();
        assert_eq!((one.mark().unwrap(), get(&one, "ana")), (None, None));
        put(&one, "new", "1", 3);
    }
    let store = scratch.open();
    let (one, two) = (store.partition(1).unwrap(), store.partition(2).unwrap());
    assert_eq!((one.mark().unwrap(), all(&one).unwrap().len()), (Some(mark(3)), 1));
    assert_eq!(get(&two, "bob").as_deref(), Some("stays"));
}

/// What a purge is for: the deleted and the overwritten bytes are in no file, and all else is as it was.
#[test]
fn deleted_bytes_are_in_no_file_after_a_purge() {
    let scratch = Scratch::new("purge");
    let store = scratch.open();
    let partition = store.partition(0).unwrap();
    let secret = |n: i64| format!("secret-of-erased-{n:04}-end");
    for round in 0..6 {
        for n in 0..200 {
            put(&partition, &format!("key-{n:04}"), &format!("{} {round}", secret(n)), round * 200 + n);
        }
        store.persist().unwrap();
    }
    let holding = |n: i64| {
        let holds = |path: &PathBuf| {
            let bytes = std::fs::read(path).unwrap();
            bytes.windows(secret(n).len()).any(|window| window == secret(n).as_bytes())
        };
        files(&scratch.0).iter().filter(|path| holds(path)).count()
    };
    assert!(holding(17) > 0, "the values lie in the files as they are");
    for n in (0..200).filter(|n| n % 2 == 1) {
        partition.commit([(format!("key-{n:04}").as_bytes(), None)], &mark(5_000 + n)).unwrap();
    }
    std::fs::create_dir(scratch.0.join("aside-1")).unwrap();
    std::fs::write(scratch.0.join("aside-1/old"), secret(17)).unwrap();
    partition.purge().unwrap();
    let left: Vec<i64> = (0..200).filter(|n| n % 2 == 1 && holding(*n) > 0).collect();
    assert!(left.is_empty(), "{left:?} in {:?}", files(&scratch.0));
    assert_eq!(all(&partition).unwrap().len(), 100);
    assert_eq!(partition.mark().unwrap(), Some(mark(5_199)));
    // A second one has nothing to do.
    let before = data_files(&scratch);
    partition.purge().unwrap();
    assert_eq!(data_files(&scratch), before);
}

#[test]
fn more_than_the_buffers_hold_is_written_and_merged_meanwhile() {
    let scratch = Scratch::new("large");
    let mut expected = Rows::new();
    {
        let store = scratch.open();
        let partition = store.partition(0).unwrap();
        let value = vec![b'v'; 60_000];
        for n in 0..4_000_i64 {
            let key = format!("key-{:04}", n % 1_500).into_bytes();
            let value = [format!("{n} ").as_bytes(), &value].concat();
            partition.commit([(key.as_slice(), Some(value.as_slice()))], &mark(n)).unwrap();
            expected.insert(key, value);
        }
        assert!(all(&partition).unwrap() == expected);
    }
    let store = scratch.open();
    let partition = store.partition(0).unwrap();
    assert!(all(&partition).unwrap() == expected);
    assert_eq!(partition.mark().unwrap(), Some(mark(3_999)));
}

/// Partitions in threads of their own, while everything is written, merged and purged under them.
#[test]
fn partitions_do_not_disturb_each_other() {
    let scratch = Scratch::new("threads");
    {
        let store = scratch.open();
        let work = |partition: i32| {
            let partition = store.partition(partition).unwrap();
            let mut expected = Rows::new();
            for n in 1..=150 {
                let rows = rows_of(n, 200);
                commit(&partition, n, &rows).unwrap();
                apply(&mut expected, &rows);
                match n % 30 {
                    7 => assert!(all(&partition).unwrap() == expected),
                    11 => partition.purge().unwrap(),
                    _ => {}
                }
                if n % 3 == 0 {
                    store.persist().unwrap();
                }
            }
            assert!(all(&partition).unwrap() == expected);
        };
        std::thread::scope(|scope| (0..4).for_each(|partition| drop(scope.spawn(move || work(partition)))));
    }
    let mut expected = Rows::new();
    (1..=150).for_each(|n| apply(&mut expected, &rows_of(n, 200)));
    let store = scratch.open();
    for partition in 0..4 {
        let partition = store.partition(partition).unwrap();
        assert_eq!(partition.mark().unwrap(), Some(mark(150)));
        assert!(all(&partition).unwrap() == expected);
    }
}

#[derive(Debug, Clone)]
enum Act {
    Commit(usize, Vec<(u8, Option<u8>)>),
    Persist,
    Purge(usize),
    Clear(usize),
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let rows = proptest::collection::vec((0..30_u8, proptest::option::weighted(0.8, any::<u8>())), 0..12);
    prop_oneof![
        12 => (0..2_usize, rows).prop_map(|(partition, rows)| Act::Commit(partition, rows)),
        3 => Just(Act::Persist),
        1 => (0..2_usize).prop_map(Act::Purge),
        1 => (0..2_usize).prop_map(Act::Clear),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Beside a plain map, whatever is done in whatever order.
    #[test]
    fn it_is_a_map(acts in proptest::collection::vec(act(), 1..60)) {
        static CASES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let case = CASES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let scratch = Scratch::new(&format!("map-{case}"));
        let mut expected: [(Option<Mark>, Rows); 2] = Default::default();
        let open = |scratch: &Scratch| {
            let store = scratch.open();
            let partitions = [0, 1].map(|partition| Some(store.partition(partition).unwrap()));
            (store, partitions)
        };
        let (mut store, mut partitions) = open(&scratch);
        for (n, act) in (1..).zip(acts) {
            match act {
                Act::Commit(at, rows) => {
                    let row = |(key, value): (u8, Option<u8>)| (vec![key], value.map(|value| vec![value; usize::from(value)]));
                    let rows: Vec<_> = rows.into_iter().map(row).collect();
                    commit(partitions[at].as_ref().unwrap(), n, &rows).unwrap();
                    apply(&mut expected[at].1, &rows);
                    expected[at].0 = Some(mark(n));
                }
                Act::Persist => store.persist().unwrap(),
                Act::Purge(at) => partitions[at].as_ref().unwrap().purge().unwrap(),
                Act::Clear(at) => {
                    partitions[at].take().unwrap().clear().unwrap();
                    partitions[at] = Some(store.partition(i32::try_from(at).unwrap()).unwrap());
                    expected[at] = Default::default();
                }
                Act::Reopen => {
                    drop((partitions, store));
                    (store, partitions) = open(&scratch);
                }
            }
            for (partition, (mark, rows)) in partitions.iter().zip(&expected) {
                let partition = partition.as_ref().unwrap();
                prop_assert_eq!(&partition.mark().unwrap(), mark);
                prop_assert_eq!(&all(partition).unwrap(), rows);
                let keys: Vec<Vec<u8>> = (0..30).map(|key| vec![key]).collect();
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let read = partition.read_many(&keys).unwrap();
                for (key, value) in keys.iter().zip(read) {
                    prop_assert_eq!(value.as_ref(), rows.get(*key));
                }
            }
        }
    }
}
