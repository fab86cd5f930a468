//! Facts of topics in, deviations out.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;

fn facts(role: Role, changes: &[(&str, &str)]) -> TopicFacts {
    let defaults = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "-1"),
        ("min.compaction.lag.ms", "0"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.after.max.ms", "9223372036854775807"),
        ("max.message.bytes", "1048588"),
        ("min.insync.replicas", "1"),
    ];
    let spec = role.spec("t", 4, None, 300_000);
    let partitions = spec.partitions;
    let mut settings: BTreeMap<String, String> =
        defaults.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    settings.extend(spec.settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    settings.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    TopicFacts {
        name: "t".to_owned(),
        partitions,
        replication: 1,
        in_sync: 1,
        leaderless: 0,
        settings: Ok(settings),
        records: Ok(0),
    }
}

const NEEDS: Needs<'_> = Needs {
    bootstrap: "kafka:9092",
    brokers: 1,
    partitions: Some(4),
    future_max_ms: 300_000,
    kept_ms: 36 * 3_600_000,
    record_bytes_max: 1_000_000,
};

const ROLES: [Role; 10] = [
    Role::Clicks,
    Role::Table,
    Role::Live,
    Role::Sessions,
    Role::Rejected,
    Role::State,
    Role::DriftWindows,
    Role::DriftAlerts,
    Role::DriftReferences,
    Role::DriftCustomers,
];

fn said(role: Role, facts: &TopicFacts, needs: &Needs<'_>) -> String {
    let lines = deviations(role, facts, needs).into_iter();
    lines.map(|d| format!("{:?} {:?}: {}\n  {}\n", d.level, d.aspect, d.found, d.fix)).collect()
}

fn check(role: Role, changes: &[(&str, &str)], expected: Expect) {
    expected.assert_eq(&said(role, &facts(role, changes), &NEEDS));
}

#[test]
fn what_create_makes_deviates_in_nothing() {
    for role in ROLES {
        assert_eq!(said(role, &facts(role, &[]), &NEEDS), "", "{role:?}");
    }
}

#[test]
fn the_input_is_kept_and_bounded_in_time() {
    check(
        Role::Clicks,
        &[("message.timestamp.type", "LogAppendTime"), ("message.timestamp.after.max.ms", "9")],
        expect![[""]],
    );
    check(
        Role::Clicks,
        &[
            ("message.timestamp.after.max.ms", "9223372036854775807"),
            ("retention.ms", "3600000"),
            ("cleanup.policy", "compact"),
        ],
        expect![[r#"
            Wrong CleanUp: cleanup.policy=compact: records that are read again after a crash are not there then, and a worker refuses to start
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config cleanup.policy=delete
            Wrong Timestamps: CreateTime and message.timestamp.after.max.ms without a bound: a wrong clock can close every open session; session.future_max is 5m
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config message.timestamp.after.max.ms=300000
            Look Retention: retention.ms=3600000 (1h), and 36h are needed: what open sessions got is read from it again after a crash, and a worker refuses to start where it is gone
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config retention.ms=129600000
        "#]],
    );
    check(
        Role::Clicks,
        &[("message.timestamp.after.max.ms", "3600000"), ("retention.bytes", "1000")],
        expect![[r#"
            Wrong Timestamps: CreateTime and message.timestamp.after.max.ms=3600000 (1h): a wrong clock can close every open session; session.future_max is 5m
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config message.timestamp.after.max.ms=300000
            Look Retention: retention.bytes=1000: how long that lasts nobody knows; what open sessions got is read from it again after a crash, and a worker refuses to start where it is gone
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config retention.bytes=-1
        "#]],
    );
    check(
        Role::Clicks,
        &[("message.timestamp.after.max.ms", "")],
        expect![[r#"
        Wrong Timestamps: CreateTime, and the broker is too old for message.timestamp.after.max.ms: a wrong clock can close every open session; session.future_max is 5m
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config message.timestamp.type=LogAppendTime
    "#]],
    );
}

#[test]
fn the_table_is_compacted_and_not_at_once() {
    check(
        Role::Table,
        &[("cleanup.policy", "delete")],
        expect![[r#"
        Wrong CleanUp: cleanup.policy=delete: it grows for ever, or loses customers who stay away
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config cleanup.policy=compact,min.compaction.lag.ms=86400000
    "#]],
    );
    check(
        Role::Table,
        &[("cleanup.policy", "compact,delete"), ("min.compaction.lag.ms", "60000")],
        expect![[r#"
        Wrong CleanUp: cleanup.policy=compact,delete: customers who stay away longer than its retention are lost
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config cleanup.policy=compact
        Look CleanUp: min.compaction.lag.ms=60000 (1m): a reader that was away for longer misses records; a day is right
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config min.compaction.lag.ms=86400000
    "#]],
    );
}

#[test]
fn the_monitor_s_topics_are_in_order_and_keep_what_a_start_reads() {
    let mut three = facts(Role::DriftCustomers, &[("cleanup.policy", "compact")]);
    three.partitions = 3;
    expect![[r#"
        Wrong Partitions: has 3 partitions and must have one: what is in it is in the order of time
          delete it while no monitor runs (kafka-topics.sh --bootstrap-server kafka:9092 --delete --topic t), then dce topics create
        Wrong CleanUp: cleanup.policy=compact: only the newest of a customer's stays
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config cleanup.policy=delete
    "#]].assert_eq(&said(Role::DriftCustomers, &three, &NEEDS));
    check(
        Role::DriftWindows,
        &[("retention.ms", "604800000")],
        expect![[r#"
            Look CleanUp: retention.ms=604800000 (7d): at a start there are no windows from before; ten weeks are right
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config retention.ms=6048000000
        "#]],
    );
    check(
        Role::DriftWindows,
        &[("cleanup.policy", "compact")],
        expect![[r#"
            Wrong CleanUp: cleanup.policy=compact: only the newest window of a segment stays, and references and thresholds begin anew at each start
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config cleanup.policy=delete
        "#]],
    );
    check(
        Role::DriftAlerts,
        &[("cleanup.policy", "compact,delete"), ("min.compaction.lag.ms", "0")],
        expect![[r#"
            Wrong CleanUp: cleanup.policy=compact,delete: alerts that stay open longer than its retention are lost
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config cleanup.policy=compact
            Look CleanUp: min.compaction.lag.ms=0 (0ms): a webhook that was away for longer may miss alerts; a week is right
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config min.compaction.lag.ms=604800000
        "#]],
    );
    check(
        Role::DriftReferences,
        &[("cleanup.policy", "delete")],
        expect![[r#"
            Wrong CleanUp: cleanup.policy=delete: it grows for ever, or loses pins that stay
              kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config cleanup.policy=compact,min.compaction.lag.ms=6048000000
        "#]],
    );
}

#[test]
fn streams_are_not_compacted() {
    for role in [Role::Live, Role::Sessions, Role::Rejected] {
        let text = said(role, &facts(role, &[("cleanup.policy", "compact")]), &NEEDS);
        assert!(text.starts_with("Wrong CleanUp: cleanup.policy=compact: "), "{role:?}: {text}");
    }
    check(
        Role::Live,
        &[("retention.ms", "60000")],
        expect![[r#"
        Look CleanUp: retention.ms=60000: a reader that was away for longer misses records; a day is right
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config retention.ms=86400000
    "#]],
    );
    check(
        Role::Live,
        &[("retention.ms", "-1")],
        expect![[r#"
        Look CleanUp: retention.ms=-1: every embedding is kept for ever, which a stream needs not be
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config retention.ms=86400000
    "#]],
    );
}

#[test]
fn sizes_copies_and_partitions() {
    check(
        Role::Rejected,
        &[("max.message.bytes", "1000")],
        expect![[r#"
        Wrong MessageSize: max.message.bytes=1000, but rejected records of up to 1000000 bytes are sent: a larger one stops the stream
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config max.message.bytes=1065536
    "#]],
    );
    let mut three = facts(Role::Rejected, &[("min.insync.replicas", "2")]);
    (three.partitions, three.replication, three.in_sync, three.leaderless) = (3, 3, 1, 1);
    expect![[r#"
        Wrong Partitions: has 3 partitions, the clickstream 4: records go out to the number they came in by
          delete it where it holds nothing yet (kafka-topics.sh --bootstrap-server kafka:9092 --delete --topic t), then dce topics create; or name a new topic in topics.rejected
        Wrong Partitions: 1 of its partitions have no leader: nothing goes in or out there
          start the brokers that hold them
        Wrong Replication: 1 copies are in sync, min.insync.replicas=2: writes are refused now
          start the brokers that hold the other copies
    "#]].assert_eq(&said(Role::Rejected, &three, &NEEDS));
    let mut two = facts(Role::Sessions, &[]);
    (two.replication, two.in_sync) = (2, 2);
    expect![[r#"
        Look Replication: min.insync.replicas=1 with 2 copies: what one broker alone acknowledged can be lost
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config min.insync.replicas=2
    "#]]
    .assert_eq(&said(Role::Sessions, &two, &Needs { brokers: 3, ..NEEDS }));
    let one = facts(Role::Sessions, &[("min.insync.replicas", "2")]);
    expect![[r#"
        Wrong Replication: min.insync.replicas=2 with 1 copies: no write can ever be acknowledged
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config min.insync.replicas=1
        Look Replication: one copy on 3 brokers: it is gone with its broker
          kafka-reassign-partitions.sh --bootstrap-server kafka:9092 with more replicas for t
    "#]]
    .assert_eq(&said(Role::Sessions, &one, &Needs { brokers: 3, ..NEEDS }));
}

#[test]
fn a_broker_that_tells_nothing_is_not_taken_for_one_that_is_right() {
    let untold = TopicFacts { settings: Err("Topic authorization failed".to_owned()), ..facts(Role::Table, &[]) };
    expect![[r#"
        Look Untold: its settings are not told (Topic authorization failed), so they cannot be checked
          give this user DescribeConfigs on topic t
    "#]]
    .assert_eq(&said(Role::Table, &untold, &NEEDS));
}

#[test]
fn spans_are_said_as_settings_write_them() {
    let said = [0, 1, 1_500, 60_000, 90_000, 86_400_000, 604_800_000].map(|ms| Span(ms).to_string());
    assert_eq!(said, ["0ms", "1ms", "1500ms", "1m", "90s", "1d", "7d"]);
}

#[test]
fn the_state_s_log_is_compacted_and_deletes_nothing() {
    check(
        Role::State,
        &[("cleanup.policy", "compact,delete"), ("segment.bytes", "1073741824")],
        expect![[r#"
        Wrong CleanUp: cleanup.policy=compact,delete: customers who stay away longer than its retention are forgotten
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config cleanup.policy=compact
        Look CleanUp: segment.bytes=1073741824: what lies in the last segment is not compacted, and read at each restart
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config segment.bytes=67108864
    "#]],
    );
    check(
        Role::State,
        &[("cleanup.policy", "delete")],
        expect![[r#"
        Wrong CleanUp: cleanup.policy=delete: customers who stay away longer than its retention are forgotten
          kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic t --add-config cleanup.policy=compact
    "#]],
    );
    let more = Needs { partitions: Some(8), ..NEEDS };
    expect![[r#"
        Wrong Partitions: has 4 partitions, the clickstream 8: records go out to the number they came in by
          the state cannot be keyed anew yet: go back to as many partitions as it has, or begin anew under another app.id, with a new topics.state and new output topics
    "#]].assert_eq(&said(Role::State, &facts(Role::State, &[]), &more));
}
