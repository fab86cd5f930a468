//! The command itself: its files, its refusals, its words; once with the shipped bundle.

use std::process::{Command, Stdio};

use super::*;

fn dce(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dce")).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn check_refused(arguments: &[&str], code: i32, part: &str) {
    let (found, stdout, stderr) = dce(&[&["replay"], arguments].concat());
    assert_eq!((found, stdout.as_str()), (code, ""), "{arguments:?}: {stderr}");
    assert!(stderr.contains(part), "{part} in {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn wrong_use_is_refused_with_the_way_out() {
    let folder = Folder::new();
    let clicks = folder.write("c.ndjson", "");
    let clicks = clicks.to_str().unwrap();
    check_refused(&["--from", "c.csv", "--to", "none"], 2, "--from c.csv: what format is that?");
    check_refused(&["--from", clicks, "--to", "e"], 2, "--to e: what format is that?");
    check_refused(&["--from", clicks, "--to", "kafka:"], 2, "--to kafka: names no topic");
    check_refused(&["--from", "none", "--to", "none"], 2, "--from none");
    check_refused(&["--from", clicks, "--to", "none", "--since", "2026-01-01"], 2, "are of topics");
    check_refused(&["--from", "kafka:", "--to", "none", "--since", "soon"], 2, "must be a time such as");
    check_refused(&["--from", "kafka:", "--to", "none", "--since", "9", "--until", "8"], 2, "before --since");
    check_refused(&["--from", "kafka:", "--to", "none", "--offsets", "0:9-8"], 2, "ends before it begins");
    check_refused(&["--from", "kafka:", "--to", "none", "--offsets", "0:9-", "--since", "1"], 2, "cannot be used with");
    check_refused(&["--from", clicks, "--to", "none", "--rejected", "r.avro"], 2, "--rejected takes lines of JSON");
    check_refused(&["--from", clicks, "--to", "-", "--sessions", "-"], 2, "- is named twice");
    check_refused(&["--from", clicks, "--to", clicks], 2, "is named twice");
    check_refused(&["--from", clicks, "--to", clicks, "--force"], 2, "is named twice");
    // However it is spelled.
    let again = folder.path(".").join("c.ndjson");
    check_refused(&["--from", clicks, "--to", again.to_str().unwrap(), "--force"], 2, "is named twice");
    let link = folder.path("link.ndjson");
    std::os::unix::fs::symlink(clicks, &link).unwrap();
    check_refused(&["--from", link.to_str().unwrap(), "--to", clicks, "--force"], 2, "is named twice");
    std::fs::remove_file(&link).unwrap();
    std::fs::hard_link(clicks, &link).unwrap();
    check_refused(&["--from", link.to_str().unwrap(), "--to", clicks, "--force"], 2, "is named twice");
    std::fs::remove_file(&link).unwrap();
    // Two outputs that are not there yet.
    let (out, out_again) = (folder.path("o.ndjson"), folder.path(".").join("o.ndjson"));
    check_refused(
        &["--from", clicks, "--to", out.to_str().unwrap(), "--sessions", out_again.to_str().unwrap()],
        2,
        "is named twice",
    );
    let sessions = ["--sessions", "kafka:s", "--set", "encoding=confluent", "--set", "registry.url=http://127.0.0.1:1"];
    check_refused(&[&["--from", clicks, "--to", "none"], &sessions[..]].concat(), 2, "needs --to kafka:TOPIC too");
    check_refused(&["--from", "gone.ndjson", "--to", "none"], 1, "gone.ndjson: cannot be read");
    let taken = folder.write("e.parquet", "mine");
    check_refused(
        &["--from", clicks, "--to", taken.to_str().unwrap()],
        2,
        "is there already; give another name, or --force",
    );
    assert_eq!(std::fs::read(&taken).unwrap(), b"mine");
    let nowhere = folder.path("no/such/e.parquet");
    check_refused(&["--from", clicks, "--to", nowhere.to_str().unwrap()], 1, "cannot be written");
    assert_eq!(folder.names(), ["c.ndjson", "e.parquet"]);
}

/// With the library of the machine, as the model's own tests.
#[test]
fn the_shipped_bundle_turns_a_file_into_another() {
    let folder = Folder::new();
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    let (clicks, embeddings) = (path("c.ndjson"), path("e.parquet"));
    let (code, _, stderr) =
        dce(&["generate", "--customers", "20", "--events", "400", "--partitions", "2", "--out", &clicks]);
    assert_eq!(code, 0, "{stderr}");
    std::fs::write(&clicks, std::fs::read_to_string(&clicks).unwrap() + "broken\n").unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/bank-small");
    let common = ["replay", "--from", &clicks, "--model", model, "--set", "provisional.every_events=4"];
    let to_file = [&common as &[&str], &["--to", &embeddings, "--json", "--close-open"]].concat();
    let (code, stdout, stderr) = dce(&to_file);
    assert_eq!(code, 0, "rejects are no failure: {stderr}");
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&summary["records"], &summary["rejected_by_reason"]["decode"]), (&401.into(), &1.into()));
    assert_eq!(summary["open_sessions"], 0);
    assert_eq!(summary["bytes_embeddings"], std::fs::metadata(&embeddings).unwrap().len());

    let (code, stdout, stderr) = dce(&[&common as &[&str], &["--to", "-", "--close-open"]].concat());
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout.lines().count() as u64, summary["embeddings"].as_u64().unwrap(), "data alone");
    assert!(stderr.contains("rejected: 1 record (decode 1); --rejected FILE keeps them"), "{stderr}");
    assert_eq!(dce(&to_file).0, 2, "the name is taken");
    assert_eq!(dce(&[&to_file as &[&str], &["--force"]].concat()).0, 0);
    assert_eq!(folder.names(), ["c.ndjson", "e.parquet"]);
}

/// Whatever form the bank's clicks were written in, they are the same clicks.
#[test]
fn what_the_bank_writes_in_any_format_replays_the_same() {
    let folder = Folder::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/bank-small");
    let mut results = Vec::new();
    for name in ["c.ndjson", "c.ndjson.zst", "c.avro", "c.parquet"] {
        let clicks = folder.path(name).to_str().unwrap().to_owned();
        let dirt = ["--shuffle", "20", "--duplicate", "0.05", "--partitions", "3"];
        let bank = ["generate", "--customers", "30", "--events", "900", "--out", &clicks];
        let (code, _, stderr) = dce(&[&bank as &[&str], &dirt].concat());
        assert_eq!(code, 0, "{name}: {stderr}");
        let (code, stdout, stderr) = dce(&["replay", "--from", &clicks, "--to", "-", "--model", model, "--close-open"]);
        assert_eq!(code, 0, "{name}: {stderr}");
        let rows: Vec<Value> = stdout
            .lines()
            .map(|line| {
                let mut row: Value = serde_json::from_str(line).unwrap();
                row.as_object_mut().unwrap().remove("emitted_at");
                row
            })
            .collect();
        assert!(rows.len() > 50, "{name}: {}", rows.len());
        results.push(rows);
    }
    for other in &results[1..] {
        assert_eq!(other, &results[0]);
    }
}

#[test]
fn a_signal_stops_it_and_leaves_no_file() {
    let folder = Folder::new();
    let embeddings = folder.path("e.parquet");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/bank-small");
    // A pipe that nobody writes to.
    let mut child = Command::new(env!("CARGO_BIN_EXE_dce"))
        .args(["replay", "--from", "-", "--to", embeddings.to_str().unwrap(), "--model", model])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Open to the end, for an end of the input ends it too.
    let stdin = child.stdin.take().unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("model loaded") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stderr, &mut line).unwrap() > 0, "it ends before it begins");
    }
    let kill = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    drop(stdin);
    std::io::Read::read_to_string(&mut stderr, &mut line).unwrap();
    assert!(line.contains("dce: stopped after 0 records"), "{line}");
    assert_eq!(folder.names(), Vec::<String>::new());
}
