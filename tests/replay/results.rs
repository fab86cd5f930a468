//! What a replay gives, against the sessionizer alone, and against itself under other circumstances.

use dce::pipeline::session::{Arrival, Change, Partition};
use dce::types::{CustomerId, EventTime, RejectReason};
use dce::wire::click::Input;
use dce::wire::row::Row;
use rand::RngExt;
use serde_json::{Value, json};

use super::*;

/// The sessionizer's own story of the clicks: sessions as rows, provisional ones as their counts of events, refusals.
fn naive(clicks: &[Click], rules: &SessionRules) -> (Vec<Value>, Vec<String>) {
    let mut partitions: BTreeMap<i32, Partition> = BTreeMap::new();
    let (mut sessions, mut others) = (Vec::new(), Vec::new());
    let model = FakeModel::small();
    let spec = dce::model::Model::features(&model);
    for click in clicks {
        let partition =
            partitions.entry(partition_of(&click.customer)).or_insert_with(|| Partition::new(rules.clone()));
        let customer = CustomerId::parse(&click.customer).unwrap();
        let mut steps = Vec::new();
        let outcome = partition.push(Arrival::new(customer.by_ref(), &click.event(), spec, &[]), &mut steps);
        for step in steps {
            match step.what {
                Change::Fold { session, .. } if session.sequence.is_some() => sessions.push(json!({
                    "customer_id": session.customer.as_str(),
                    "sequence": session.sequence,
                    "session_key": &*session.key,
                    "session_uid": &*session.cause.session_uid,
                    "revision": session.cause.revision,
                    "session_start": session.cause.session_start.ms(),
                    "session_end": session.cause.session_end.ms(),
                    "closed_at": session.cause.closed_at.map(EventTime::ms),
                    "close_reason": session.cause.close_reason.map(|reason| reason.as_str()),
                    "event_ids": session.event_ids.iter().map(|id| &**id).collect::<Vec<_>>(),
                })),
                Change::Provisional { session, .. } => {
                    others.push(format!("{} {}", session.customer, session.cause.event_count));
                }
                Change::Fold { .. }
                | Change::Unfold { .. }
                | Change::Freeze { .. }
                | Change::Forget { .. }
                | Change::Erase { .. } => {}
            }
        }
        match outcome {
            Ok(()) | Err(RejectReason::Duplicate) => {}
            Err(reason) => others.push(reason.as_str().to_owned()),
        }
    }
    (sessions, others)
}

#[test]
fn a_replay_says_what_the_sessionizer_says() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..40 {
        let folder = Folder::new();
        let rules = if seed % 2 == 0 { tight_rules(seed / 2) } else { wide_rules() };
        let (clicks, rows) = dirty_rows(seed, 120);
        let (want, others) = naive(&clicks, &rules);
        let input = write_rows(&folder, "clicks.ndjson", &rows);
        let summary = replay(&folder, &input, "a", "ndjson", &settings(&rules)).unwrap();
        let found = results(&folder, "a");
        assert_eq!(found.sessions.len(), want.len(), "seed {seed}");
        for (found, want) in found.sessions.iter().zip(&want) {
            for (field, want) in want.as_object().unwrap() {
                assert_eq!(found[field], *want, "seed {seed}: {field} of {found}");
            }
        }
        let settled = found.embeddings.iter().filter(|record| record["kind"] != "PROVISIONAL");
        assert!(settled.zip(&found.sessions).all(|(a, b)| a["session_uid"] == b["session_uid"]), "one a session");

        let provisional = others.iter().filter(|other| other.contains(' ')).count() as u64;
        let rejected = others.len() as u64 - provisional;
        assert_eq!((summary.provisional, summary.rejected()), (provisional, rejected), "seed {seed}");
        assert_eq!(found.rejected.len() as u64, rejected);
        assert_eq!(summary.records, rows.len() as u64);
        assert_eq!(summary.embeddings, found.embeddings.len() as u64);
        assert_eq!(summary.sessions_closed() + summary.revised, want.len() as u64);
        for (word, count) in [("revised", summary.revised), ("provisional", provisional), ("rejected", rejected)] {
            *seen.entry(word.to_owned()).or_default() += count;
        }
    }
    assert!(seen.len() == 3 && seen.values().all(|count| *count > 20), "the streams must reach all: {seen:?}");
}

#[test]
fn the_size_of_an_epoch_decides_nothing() {
    for seed in 100..130 {
        let folder = Folder::new();
        let rules = tight_rules(seed);
        let (_, rows) = dirty_rows(seed, 100);
        let mut text = std::fs::read_to_string(write_rows(&folder, "good.ndjson", &rows)).unwrap();
        // Lines that are none, in between.
        let mut rng = rng(seed);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for broken in ["{", "nothing", r#"{"kind":"ERASE"}"#, r#"{"partition":"x"}"#, r#"{"partition":1,"offset":-4}"#]
        {
            lines.insert(rng.random_range(0..lines.len()), broken.to_owned());
        }
        text = lines.join("\n");
        let input = folder.write("clicks.ndjson", text);
        let mut runs = Vec::new();
        for epoch_events in [20_000, 1, rng.random_range(2..60)] {
            let name = format!("e{epoch_events}");
            let settings = Settings { epoch_events, close_open: true, ..settings(&rules) };
            let summary = replay(&folder, &input, &name, "ndjson", &settings).unwrap();
            assert_eq!(summary.rejects["decode"], 5, "seed {seed}");
            assert_eq!(summary.open_sessions, 0);
            runs.push(results(&folder, &name));
        }
        assert!(!runs[0].embeddings.is_empty());
        assert!(runs.iter().all(|run| *run == runs[0]), "seed {seed}");
    }
}

/// A TICK after the end of time is what the rules' reference takes for it.
#[test]
fn close_open_is_a_tick_at_infinity() {
    for seed in 200..220 {
        let folder = Folder::new();
        let rules = SessionRules { provisional_every_events: 3, ..wide_rules() };
        let (_, mut rows) = dirty_rows(seed, 60);
        for row in &mut rows {
            row.position = Some(Position { partition: 0, offset: row.position.unwrap().offset });
        }
        for (offset, row) in (0..).zip(&mut rows) {
            row.position = Some(Position { partition: 0, offset });
        }
        let closed = Settings { close_open: true, ..settings(&rules) };
        let input = write_rows(&folder, "a.ndjson", &rows);
        let open = replay(&folder, &input, "open", "ndjson", &settings(&rules)).unwrap();
        let summary = replay(&folder, &input, "closed", "ndjson", &closed).unwrap();
        assert_eq!(summary.open_sessions, 0);
        assert_eq!(summary.sessions_closed(), open.sessions_closed() + open.open_sessions as u64, "seed {seed}");

        let last = Position { partition: 0, offset: rows.len() as i64 };
        let tick = Input::Tick(EventTime::parse(i64::MAX).unwrap());
        rows.push(Row { input: Some(tick), position: Some(last), record_time: None, key: None });
        let input = write_rows(&folder, "b.ndjson", &rows);
        replay(&folder, &input, "tick", "ndjson", &settings(&rules)).unwrap();
        let (closed, mut ticked) = (results(&folder, "closed"), results(&folder, "tick"));
        for record in ticked.embeddings.iter_mut().filter(|record| record["source_offset"] == last.offset) {
            record["source_offset"] = (last.offset - 1).into();
        }
        assert_eq!(closed, ticked, "seed {seed}");
    }
}

#[test]
fn records_without_a_place_are_counted_in_their_partition() {
    let folder = Folder::new();
    let click = |id: &str, more: &str| {
        format!(r#"{{"event_id":"{id}","customer_id":"ana","event_time":1000,"kind":"LOGOUT"{more}}}"#)
    };
    let login = |id: &str, more: &str| click(id, more).replace("LOGOUT", "LOGIN");
    let text = [
        login("a", ""),
        "broken".into(),
        click("b", ""),
        login("c", r#","partition":1"#),
        click("d", r#","partition":1"#),
    ];
    let input = folder.write("clicks.ndjson", text.join("\n"));
    replay(&folder, &input, "a", "ndjson", &settings(&wide_rules())).unwrap();
    let found = results(&folder, "a");
    let sources: Vec<_> =
        found.embeddings.iter().map(|r| (r["source_partition"].clone(), r["source_offset"].clone())).collect();
    assert_eq!(sources, [(json!(0), json!(2)), (json!(1), json!(1))]);
    assert_eq!((&found.rejected[0]["source_offset"], &found.rejected[0]["value"]), (&json!(1), &json!("broken")));
}

#[test]
fn erasures_keys_and_times_count_as_on_a_topic() {
    let folder = Folder::new();
    let click = |id: &str, kind: &str, time: i64, more: &str| {
        format!(r#"{{"event_id":"{id}","customer_id":"ana","event_time":{time},"kind":"{kind}"{more}}}"#)
    };
    let text = [
        click("a", "LOGIN", 1_000, ""),
        click("b", "LOGOUT", 2_000, ""),
        r#"{"kind":"ERASE","customer_id":"ana"}"#.to_owned(),
        click("c", "LOGIN", 3_000, ""),
        click("d", "LOGOUT", 4_000, ""),
        click("e", "ACTION", 5_000, r#","key":"ben""#),
        click("f", "ACTION", 5_000, r#","key":null"#),
        click("g", "ACTION", 9_000_000, r#","record_time":5000"#),
        format!(r#"{{"kind":"ERASE","customer_id":"{}"}}"#, "x".repeat(257)),
    ];
    let input = folder.write("clicks.ndjson", text.join("\n"));
    let summary = replay(&folder, &input, "a", "ndjson", &settings(&wide_rules())).unwrap();
    let found = results(&folder, "a");
    let sequences: Vec<_> = found.embeddings.iter().map(|record| record["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 1], "the second begins anew");
    let reasons: Vec<_> = found.rejected.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["key", "key", "future", "customer"]);
    assert_eq!((summary.erased, summary.last_event_time), (1, Some(5_000)), "what is too far ahead is not shown");
}

#[test]
fn a_wish_to_stop_leaves_nothing_behind() {
    let folder = Folder::new();
    let (_, rows) = dirty_rows(1, 50);
    let input = write_rows(&folder, "clicks.ndjson", &rows);
    let mut resolver = Resolver::new(None).unwrap();
    let reader = Reader::open(&place(&input), resolver.schemas_mut()).unwrap();
    let file = table::Writer::create::<CustomerEmbedding>(target(&folder.path("e.parquet")).unwrap()).unwrap();
    let outputs = Outputs { embeddings: Sink::File(Box::new(file)), sessions: Sink::Nowhere, rejected: None };
    let stop = Stop::new();
    let mut epochs = 0;
    let watch = Watch {
        clock: Clock::start(),
        stop: &stop,
        progress: &mut |_| {
            epochs += 1;
            stop.stop();
        },
    };
    let settings = Settings { epoch_events: 10, ..settings(&wide_rules()) };
    let run =
        replay::run(&settings, &mut FakeModel::small(), &mut resolver, replay::Input::File(reader), outputs, watch);
    assert_eq!(run.unwrap_err().to_string(), "stopped after 10 records");
    assert_eq!((epochs, folder.names()), (1, vec!["clicks.ndjson".to_owned()]));
}
