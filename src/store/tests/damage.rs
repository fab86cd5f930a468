//! What is on the disk is not what was written: it is noticed, moved aside, and never read as if it were true.

use super::*;

/// A store with a hundred commits, in several tables.
fn filled(name: &str) -> (Scratch, Rows) {
    let scratch = Scratch::new(name);
    let mut expected = Rows::new();
    let store = scratch.open();
    let partition = store.partition(0).unwrap();
    for n in 1..=60 {
        let rows = rows_of(n, 500);
        commit(&partition, n, &rows).unwrap();
        apply(&mut expected, &rows);
        if n % 20 == 0 {
            store.persist().unwrap();
        }
    }
    drop(partition);
    drop(store);
    (scratch, expected)
}

fn asides(scratch: &Scratch) -> Vec<String> {
    let names = scratch.0.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("aside-")).collect()
}

fn check_moved_aside(scratch: &Scratch, expected: &str) {
    let (store, why) = scratch.open_doubted();
    assert!(why.contains(expected), "{why:?} has {expected:?}");
    assert_eq!(asides(scratch).len(), 1);
    let partition = store.partition(0).unwrap();
    assert_eq!((partition.mark().unwrap(), all(&partition).unwrap().len()), (None, 0));
    put(&partition, "new", "1", 1);
    drop(partition);
    drop(store);
    // And from then on it is an ordinary one.
    assert_eq!(get(&scratch.open().partition(0).unwrap(), "new").as_deref(), Some("1"));
}

#[test]
fn another_identity_is_moved_aside() {
    let (scratch, _) = filled("foreign");
    let others = [
        (Identity { application: "theirs", ..OURS }, "its application is \"app\", not \"theirs\""),
        (Identity { instance: "1", ..OURS }, "its instance is \"0\", not \"1\""),
        (Identity { cluster: "other", ..OURS }, "its cluster is \"cluster\", not \"other\""),
        (Identity { topic: "t", ..OURS }, "its topic is \"dce-state\", not \"t\""),
    ];
    for (other, expected) in others {
        drop(Store::open(&scratch.0, &OURS, CACHE_BYTES).unwrap());
        let opened = Store::open(&scratch.0, &other, CACHE_BYTES).unwrap();
        assert_eq!(opened.moved_aside.as_deref(), Some(expected));
        assert_eq!(asides(&scratch).len(), 1, "one is kept");
    }
}

#[test]
fn another_format_is_moved_aside() {
    let (scratch, _) = filled("format");
    let label = scratch.0.join("data/label.json");
    let text = std::fs::read_to_string(&label).unwrap();
    std::fs::write(&label, text.replace("\"format\":1", "\"format\":2")).unwrap();
    check_moved_aside(&scratch, "its format is 2, this program's 1");
}

#[test]
fn what_is_not_ours_is_moved_aside() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm, &str); 7] = [
        ("no-label", |data| std::fs::remove_file(data.join("label.json")).unwrap(), "label.json is missing"),
        ("torn-label", |data| std::fs::write(data.join("label.json"), "{\"form").unwrap(), "label.json is unreadable"),
        (
            "old-label",
            |data| std::fs::write(data.join("label.json"), "{\"format\":1}").unwrap(),
            "label.json is unreadable",
        ),
        ("stray-file", |data| std::fs::write(data.join("p0-x"), "").unwrap(), "\"p0-x\" does not belong into it"),
        (
            "stray-folder",
            |data| std::fs::create_dir(data.join("lost+found")).unwrap(),
            "\"lost+found\" does not belong",
        ),
        ("twice", |data| std::fs::create_dir(data.join("p0-9")).unwrap(), "partition 0 is there twice"),
        ("stray-table", |data| std::fs::write(data.join("p0-0/tables/x"), "").unwrap(), "partition 0: opening: "),
    ];
    for (name, harm, expected) in harms {
        let (scratch, _) = filled(name);
        harm(&scratch.0.join("data"));
        check_moved_aside(&scratch, expected);
    }
}

#[test]
fn a_condemned_store_is_moved_aside() {
    let (scratch, _) = filled("condemned");
    scratch.open().condemn("the rows end behind the log").unwrap();
    check_moved_aside(&scratch, "it was condemned: the rows end behind the log");
}

/// As a crash in the midst of writing leaves it: a table that no list names, half a list, a half deleted partition.
#[test]
fn bytes_that_were_never_committed_are_nothing() {
    let (scratch, expected) = filled("planted");
    let tree = scratch.0.join("data/p0-0");
    let table = data_files(&scratch).into_iter().find(|path| path.parent().unwrap().ends_with("tables")).unwrap();
    let half = std::fs::read(&table).unwrap();
    std::fs::write(tree.join("tables/999"), &half[..half.len() / 2]).unwrap();
    std::fs::copy(&table, tree.join("tables/1000")).unwrap();
    std::fs::write(tree.join("v999"), b"half a list").unwrap();
    std::fs::create_dir_all(scratch.0.join("data/gone-3/tables")).unwrap();
    std::fs::write(scratch.0.join("data/gone-3/tables/1"), half).unwrap();
    std::fs::create_dir(scratch.0.join("data.new")).unwrap();
    let store = scratch.open();
    let partition = store.partition(0).unwrap();
    assert!(all(&partition).unwrap() == expected);
    assert_eq!(partition.mark().unwrap(), Some(mark(60)));
    assert!(
        !tree.join("tables/999").exists() && !tree.join("v999").exists() && !scratch.0.join("data/gone-3").exists()
    );
}

/// Whatever is cut off or changed in whatever file: the store is moved aside, or a reading says so, or nothing was lost.
fn check_harmed(scratch: &Scratch, expected: &Rows, what: &str) -> &'static str {
    let opened = Store::open(&scratch.0, &OURS, CACHE_BYTES).unwrap_or_else(|error| panic!("{what}: {error}"));
    if opened.moved_aside.is_some() {
        return "moved aside";
    }
    let partition = opened.store.partition(0).unwrap();
    let (found, mark_found) = (all(&partition), partition.mark());
    let keys: Vec<&[u8]> = expected.keys().map(Vec::as_slice).collect();
    let read = partition.read_many(&keys);
    if let Ok(read) = &read {
        assert!(
            read.iter().zip(expected.values()).all(|(found, value)| found.as_ref() == Some(value)),
            "{what}: wrong"
        );
    }
    if let (Ok(found), Ok(mark_found), Ok(_)) = (&found, &mark_found, &read) {
        assert_eq!(mark_found.as_ref(), Some(&mark(60)), "{what}");
        assert!(found == expected, "{what}: other rows");
        return "not touched";
    }
    for error in [found.err(), mark_found.err(), read.err()].into_iter().flatten() {
        assert!(error.is_damage(), "{what}: {error}");
    }
    drop(partition);
    drop(opened.store);
    let (_, why) = scratch.open_doubted();
    assert!(why.starts_with("it was condemned: "), "{what}: {why}");
    "said by a reading"
}

fn check_all_harms(name: &str, harm: impl Fn(&mut Vec<u8>, &mut Random)) {
    let (scratch, expected) = filled(name);
    let all: Vec<(PathBuf, Vec<u8>)> =
        data_files(&scratch).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    let mut random = Random(5);
    let mut outcomes = BTreeMap::<&str, u32>::new();
    for round in 0..12 {
        for (path, bytes) in all.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let folder = scratch.0.join("data");
            std::fs::remove_dir_all(&folder).unwrap();
            for (path, bytes) in &all {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            let mut harmed = bytes.clone();
            harm(&mut harmed, &mut random);
            std::fs::write(path, &harmed).unwrap();
            let what = format!("{name}, round {round}, {}", path.display());
            *outcomes.entry(check_harmed(&scratch, &expected, &what)).or_default() += 1;
        }
    }
    println!("{name}: {outcomes:?}");
    assert!(outcomes["moved aside"] > 0);
}

#[test]
fn cut_off_bytes_are_noticed() {
    check_all_harms("cut", |bytes, random| {
        let cut = 1 + random.below(bytes.len() as u64) / (1 + random.below(40));
        bytes.truncate(bytes.len() - usize::try_from(cut).unwrap().min(bytes.len()));
    });
}

#[test]
fn changed_bytes_are_noticed() {
    check_all_harms("changed", |bytes, random| {
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        bytes[at] ^= 1 << random.below(8);
    });
}

#[test]
fn zeroed_blocks_are_noticed() {
    check_all_harms("zeroed", |bytes, random| {
        let from = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        let to = bytes.len().min(from + 4096);
        bytes[from..to].fill(0);
    });
}

/// The engine finds nothing wrong with a row that was written for another partition.
#[test]
fn a_row_of_another_partition_is_noticed() {
    let scratch = Scratch::new("mixed-up");
    {
        let store = scratch.open();
        put(&store.partition(0).unwrap(), "ana", "1", 1);
    }
    let data = scratch.0.join("data");
    std::fs::rename(data.join("p0-0"), data.join("p1-0")).unwrap();
    let store = scratch.open();
    let partition = store.partition(1).unwrap();
    let text = "local store: partition 1 is damaged: the row of key ana does not have its checksum";
    assert_eq!(partition.read_many(&[b"ana"]).unwrap_err().to_string(), text);
    assert_eq!(partition.scan(b"", |_, _| true).unwrap_err().to_string(), text);
    partition.mark().unwrap_err();
    partition.clear().unwrap();
    assert_eq!(all(&store.partition(1).unwrap()).unwrap().len(), 0);
    drop(store);
    let (_, why) = scratch.open_doubted();
    assert_eq!(why, "it was condemned: partition 1 has a row without its checksum", "without the customer's name");
}
