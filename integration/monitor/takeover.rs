//! The active monitor is killed while an alert is open, and the webhook is away for so long that its opening is compacted away:
//! whoever takes over brings the alert up to date and to its end, and everybody hears of both.

use std::collections::BTreeMap;

use dce::kafka::client::{Producer, ProducerEvents, Transactional};
use dce::kafka::raw;
use dce::wire::drift::{AlertState, DriftAlert};
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::producer::{BaseRecord, Producer as _};

use super::receiver::Receiver;
use super::{HOUR_MS, MINUTE_MS, Names, Pace, Published, day, json, now_ms, past, records, undisturbed, until};
use crate::harness::{Bed, WAIT};

const SEGMENTS: [&str; 3] = ["all", "channel=web", "model=bank@1"];

/// Embeddings that nobody reads yet, and nothing behind them.
fn hold(bed: &Bed, names: &Names, embeddings: &[Published]) -> Producer {
    let id = bed.name("hold");
    let transaction = Transactional { id: &id, timeout: WAIT * 5, buffer_kbytes: 64 << 10 };
    let config = bed.settings.transactional(&transaction);
    let producer = Producer::from_config_and_context(&config, ProducerEvents::default()).unwrap();
    producer.init_transactions(WAIT).unwrap();
    producer.begin_transaction().unwrap();
    for (published, partition, embedding) in embeddings {
        let (key, value) = (embedding.customer_id.as_str(), json(embedding));
        let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&names.embeddings).partition(*partition).key(key);
        producer.send(record.payload(&value).timestamp(*published)).map_err(|(error, _)| error).unwrap();
    }
    assert!(raw::flush(producer.client(), WAIT));
    producer
}

#[test]
fn an_alert_outlives_its_monitor_and_its_opening_is_told_however_late() {
    let bed = Bed::new("takeover");
    let compacted = [
        ("cleanup.policy", "compact"),
        ("min.compaction.lag.ms", "0"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    let pace = Pace::PAST;
    let names = Names::with(&bed, pace, 2, &compacted);
    let mut random = Pcg64Mcg::seed_from_u64(11);
    let end = pace.last_end(now_ms());
    let (begin, killed) = (end - 22 * HOUR_MS, end - 2 * HOUR_MS - 30 * MINUTE_MS);
    let past = past(&mut random, pace, begin);
    let day = day(&mut random, pace, begin..end, end - 4 * HOUR_MS..end - 2 * HOUR_MS);
    let (expected, expected_alerts) = undisturbed(pace, &past, &day, end + pace.lateness_ms);
    let later = day.partition_point(|(published, _, _)| *published < killed);
    names.produce(&bed, &past, &day[..later]);
    let held = hold(&bed, &names, &day[later..]);

    let (alertmanager, webhook) = (Receiver::refusing(0), Receiver::refusing(usize::MAX));
    let told = [format!("monitor.alertmanager={}", alertmanager.url), format!("monitor.webhook={}", webhook.url)];
    let told: Vec<String> = told.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();
    let mut first = names.dce(&bed, &["monitor"], &told);
    first.until_said("this monitor is the active one");
    let mut second = names.dce(&bed, &["monitor"], &told);
    let alerts = || records::<DriftAlert>(&bed, &names.alerts);
    let newest = || -> BTreeMap<String, DriftAlert> {
        alerts().into_iter().map(|alert| (alert.segment.to_string(), alert)).collect()
    };
    until("the alerts are open and told", || newest().len() == SEGMENTS.len() && !alertmanager.got().is_empty());
    first.kill();
    let open = newest();
    assert!(open.values().all(|alert| alert.state == AlertState::Firing), "{open:?}");
    held.commit_transaction(WAIT).unwrap();
    second.until_said("this monitor is the active one");
    until("the alerts are over", || newest().values().all(|alert| alert.state == AlertState::Resolved));
    let over = newest();
    for (segment, alert) in &over {
        let before = &open[segment];
        assert_eq!((&alert.id, alert.opened_at), (&before.id, before.opened_at), "the same one");
        assert!(alert.breaches > before.breaches, "brought up to date: {} and {}", before.breaches, alert.breaches);
        let undisturbed = expected_alerts.iter().rev().find(|alert| alert.segment.as_ref() == segment);
        assert_eq!(Some(alert), undisturbed, "as of one that nobody disturbed");
    }
    let ends = |posted: &serde_json::Value| -> BTreeMap<String, String> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let alerts = posted.as_array().into_iter().flatten();
        alerts.map(|alert| (text(&alert["labels"]["segment"]), text(&alert["endsAt"]))).collect()
    };
    let at = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
    let resolved: BTreeMap<String, String> =
        over.iter().map(|(segment, alert)| (segment.clone(), at(alert.resolved_at.unwrap()))).collect();
    until("Alertmanager hears of the end", || alertmanager.json().last().map(ends) == Some(resolved.clone()));
    let stored = || records::<dce::wire::drift::DriftWindow>(&bed, &names.windows);
    let proved = expected.iter().filter(|window| window.window_end + pace.lateness_ms <= day.last().unwrap().0).count();
    until("what records prove to be over is published", || stored().len() >= past.len() + proved);
    let place = stored()[past.len()..].iter().zip(&expected).position(|(got, expected)| got != expected);
    assert_eq!(place.map(|place| &expected[place].window_start), None, "windows differ");

    // Nobody has taken any post of the webhook's. What it would have said first is not on the topic any more.
    second.kill();
    until("the openings are compacted away", || alerts().iter().all(|alert| alert.updated_at > alert.opened_at));
    assert_eq!(newest(), over, "the topic ends with the present state");
    assert_eq!(webhook.got(), []);
    webhook.refuse(1);
    let mut third = names.dce(&bed, &["monitor"], &told);
    until("the webhook hears of all", || webhook.got().len() >= 2 * SEGMENTS.len());
    let events = webhook.json();
    for segment in SEGMENTS {
        let of = |key: &str| -> Vec<String> {
            let events = events.iter().filter(|event| event["subject"] == segment);
            events.map(|event| event[key].as_str().unwrap().to_owned()).collect()
        };
        let alert = &over[segment];
        let opened = format!("{}/opened/{}", alert.id, alert.opened_at);
        assert_eq!(of("id"), [opened, format!("{}/resolved/{}", alert.id, alert.updated_at)]);
        assert_eq!(of("type"), ["dce.drift.alert.opened.v1", "dce.drift.alert.resolved.v1"]);
    }
    third.signal("TERM");
    assert!(third.wait().success(), "{}", third.last_words());
    // It was noted: another one tells nothing anew.
    let mut fourth = names.dce(&bed, &["monitor"], &told);
    fourth.until_said("this monitor is the active one");
    let address = fourth.address();
    until("it is ready", || crate::pipeline::get(&address, "/ready").contains("200 OK"));
    fourth.signal("TERM");
    assert!(fourth.wait().success(), "{}", fourth.last_words());
    assert_eq!(webhook.got().len(), 2 * SEGMENTS.len(), "each once");
}
