//! `dce rejects`: counted, shown, and sent back once, with a worker that takes them.

use dce::kafka::resend::{Outgoing, Resender};
use dce::telemetry::Clock;
use expect_test::expect;
use serde_json::Value;

use super::{Bank, PARTITIONS, at, check, click};
use crate::harness::WAIT;

#[test]
fn rejects_are_counted_shown_and_sent_back_once() {
    let mut bank = Bank::new("tools-rejects");
    bank.bed.settings.producer.insert("message.max.bytes".to_owned(), "8000000".to_owned());
    bank.bed.topic_of(
        "clickstream",
        PARTITIONS,
        &[("max.message.bytes", "8000000"), ("message.timestamp.after.max.ms", "300000")],
    );
    assert_eq!(bank.say(&["topics", "create", "--replication", "1"]).code, 0);
    let now = Clock::start().wall_ms();
    // Half an hour beyond what its record was stamped with, and in the past by now.
    let (stamped, happened) = (now - 3_600_000, now - 1_800_000);
    let mut logout = at(2, "ana", &click("e2", "ana", happened + 1, "LOGOUT"), stamped);
    logout.headers = vec![("traceparent".to_owned(), "00-1-2-01".to_owned())];
    let huge = format!("{{\"event_id\":{}", "x".repeat(1_100_000));
    bank.bed.produce(
        &bank.topic("clickstream"),
        [
            at(2, "ana", &click("e1", "ana", happened, "LOGIN"), stamped),
            logout,
            at(0, "ben", "{\"event_id\":", now),
            at(0, "ben", &huge, now),
            at(1, "dan", &click("d1", "eve", now, "ACTION"), now),
        ],
    );
    bank.bed.produce_bytes(&bank.topic("clickstream"), 1, "dan", &[vec![0xff, 0x00, 0x41]]);
    let _worker = bank.worker();
    let mut rejected = bank.bed.collector(&bank.topic("rejected"));
    rejected.until(6);

    check(
        &bank.say(&["rejects"]),
        0,
        expect![[r#"
        REASON           COUNT      SHARE  FIRST                     LAST                      PARTITIONS
        decode               3     50.0 %  2026-03-01T08:00:00.000Z  2026-03-01T08:00:00.000Z  0,1
                             2  not JSON at byte N: a value expected
                             1  the first byte is N: neither JSON ('{') nor Avro (c3 N) nor a registry's framing (N)
        future               2     33.3 %  2026-03-01T08:00:00.000Z  2026-03-01T08:00:00.000Z  2
                             2  event_time is N ms beyond the record's timestamp, limit N
        key                  1     16.7 %  2026-03-01T08:00:00.000Z  2026-03-01T08:00:00.000Z  1
                             1  the key is not the value's customer_id

        6 rejected records in rejected of 6 in clickstream (100.0 %)
    "#]],
    );
    let said = bank.say(&["rejects", "show", "--reason", "decode"]);
    check(
        &said,
        0,
        expect![[r#"
        clickstream/0/0 → rejected/0/0  2026-03-01T08:00:00.000Z
          reason  decode (decode): not JSON at byte 12: a value expected
          stamped 2026-03-01T08:00:00.000Z
          key     ben
          value   {"event_id":

        clickstream/0/1 → rejected/0/1  2026-03-01T08:00:00.000Z
          reason  decode (decode): not JSON at byte 12: a value expected
          stamped 2026-03-01T08:00:00.000Z
          value   left out for its size, 1100012 bytes; it stands at clickstream/0/1
          key     ben

        clickstream/1/1 → rejected/1/1  2026-03-01T08:00:00.000Z
          reason  decode (decode): the first byte is 0xff: neither JSON ('{') nor Avro (c3 01) nor a registry's framing (00)
          stamped 2026-03-01T08:00:00.000Z
          key     dan
          value   3 bytes that are no text:
                  00000000  ff 00 41                                         ..A

        3 of 3 rejected records in rejected
    "#]],
    );
    let said = bank.say(&["rejects", "show", "--customer", "dan", "--json", "-n", "1"]);
    let row: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&row["reason"], &row["value"]["hex"]), (&"decode".into(), &"ff0041".into()));

    // Nothing goes without --yes, and then each once.
    check(
        &bank.say(&["rejects", "send", "--reason", "future"]),
        0,
        expect![[r#"
        would send 2 rejected records to clickstream, each to the partition it came from
          future            2
          clickstream/2/0  ana  event_time is 1800000 ms beyond the record's timestamp, limit 300000
          clickstream/2/1  ana  event_time is 1800001 ms beyond the record's timestamp, limit 300000
        nothing was sent: add --yes
    "#]],
    );
    assert_eq!(bank.bed.read_all(&bank.topic("clickstream")).len(), 6);
    check(
        &bank.say(&["rejects", "send", "--reason", "future", "--yes"]),
        0,
        expect![[r#"
        sent 2 rejected records to clickstream, each to the partition it came from
          future            2
          clickstream/2/0  ana  event_time is 1800000 ms beyond the record's timestamp, limit 300000
          clickstream/2/1  ana  event_time is 1800001 ms beyond the record's timestamp, limit 300000
        each has a mark in rejected: dce rejects show tells where it went
    "#]],
    );
    let mut embeddings = bank.bed.collector(&bank.topic("embeddings"));
    let got = &embeddings.until(1)[0];
    assert_eq!((got.key.as_deref(), got.partition), (Some("ana"), 2), "the pipeline takes it now");
    assert_eq!(got.headers["traceparent"], "00-1-2-01", "as the original had it");
    let mut clicks = bank.bed.collector(&bank.topic("clickstream"));
    let all = clicks.until(8);
    let sent: Vec<_> = all.iter().filter(|got| got.headers.contains_key("dce-resent-from")).collect();
    assert_eq!(sent[0].headers["dce-resent-from"], format!("{}/2/0", bank.topic("clickstream")));
    assert_eq!(sent[1].headers["dce-resent-from"], format!("{}/2/1", bank.topic("clickstream")));
    check(
        &bank.say(&["rejects", "send", "--reason", "future", "--yes"]),
        0,
        expect![[r#"
        left out 2: it was sent there before (--again sends it once more)
          clickstream/2/0
          clickstream/2/1
        there is nothing to send
    "#]],
    );

    // What is rejected again is known as such; what was too large is fetched.
    let before = rejected.until(8).len();
    assert_eq!(before, 8, "two marks");
    let said = bank.say(&["rejects", "send", "--reason", "decode", "--customer", "ben", "--yes"]);
    assert_eq!(said.code, 0, "{}", said.err);
    rejected.until(12);
    let back = clicks.until(10).iter().filter(|got| got.value.as_deref() == Some(huge.as_str())).count();
    assert_eq!(back, 2, "the whole of it came back");
    check(
        &bank.say(&["rejects", "send", "--reason", "decode", "--customer", "ben"]),
        0,
        expect![[r#"
        left out 2: it was sent before and rejected again (--again sends it once more)
          clickstream/0/2
          clickstream/0/3
        left out 2: it was sent there before (--again sends it once more)
          clickstream/0/0
          clickstream/0/1
        there is nothing to send
    "#]],
    );
    // Its mark stands in front of the period, and counts.
    let said = bank.say(&["rejects", "show", "--reason", "decode", "--customer", "ben", "-n", "2", "--json"]);
    let since =
        said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["timestamp"].as_i64().unwrap());
    let since = since.min().unwrap().to_string();
    check(
        &bank.say(&["rejects", "send", "--reason", "decode", "--customer", "ben", "--since", &since]),
        0,
        expect![[r#"
        left out 2: it was sent before and rejected again (--again sends it once more)
          clickstream/0/2
          clickstream/0/3
        there is nothing to send
    "#]],
    );
    // A sender that had planned before can send no more, or it would send what this one has sent.
    let id = format!("{}-resend", bank.bed.name("dce"));
    let mut earlier = Resender::new(&bank.bed.settings, &id, 1_000, WAIT).unwrap();
    let said = bank.say(&["rejects", "send", "--reason", "late", "--yes"]);
    assert_eq!((said.code, said.out.as_str()), (0, "there is nothing to send\n"), "{}", said.err);
    let record = Outgoing { partition: 0, key: None, value: None, headers: Vec::new() };
    let refused = earlier.send(&bank.topic("clickstream"), &[record], &bank.topic("rejected"), |_, _| unreachable!());
    assert!(refused.is_err(), "{refused:?}");

    let said = bank.say(&["rejects", "--json"]);
    let summary: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!(summary["summary"]["sent_back"], 4);
    assert_eq!(summary["summary"]["came_back"], 2);

    // Elsewhere is another matter.
    let to = bank.bed.topic_of("aside", PARTITIONS, &[("max.message.bytes", "8000000")]);
    let said = bank.say(&["rejects", "send", "--reason", "future", "--to", &to, "--yes"]);
    assert_eq!((said.code, bank.bed.read_all(&to).len()), (0, 2), "{}", said.err);
    let narrow = bank.bed.topic("narrow", 1);
    let said = bank.say(&["rejects", "send", "--reason", "future", "--to", &narrow]);
    assert!(said.out.contains("left out 2: the target has no such partition"), "{}", said.out);
    let said = bank.say(&["rejects", "send", "--yes"]);
    assert_eq!(said.code, 2, "{}", said.err);
}
