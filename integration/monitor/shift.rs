//! A shift in the last hours of weeks that were quiet is told once, to everybody, whichever of two monitors is killed.

use dce::wire::drift::{AlertState, DriftAlert, DriftWindow};
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

use super::receiver::Receiver;
use super::{DAY_MS, HOUR_MS, Names, Pace, day, now_ms, past, records, undisturbed, until};
use crate::harness::Bed;
use crate::pipeline::get;

#[test]
fn a_shift_is_told_once_whichever_monitor_is_killed() {
    let bed = Bed::new("monitor");
    let names = Names::make(&bed, Pace::PAST);
    let mut random = Pcg64Mcg::seed_from_u64(7);
    let pace = Pace::PAST;
    // The last window that can be closed by now ends here; the first one of the day is just within the 24 hours.
    let end = pace.last_end(now_ms());
    let begin = end - 22 * HOUR_MS;
    let past = past(&mut random, pace, begin);
    let day = day(&mut random, pace, begin..end, end - 3 * HOUR_MS..end);
    names.produce(&bed, &past, &day);
    let (alertmanager, webhook) = (Receiver::refusing(1), Receiver::refusing(2));
    let told = [
        format!("monitor.alertmanager={}", alertmanager.url),
        format!("monitor.webhook={}", webhook.url),
        "monitor.link=https://dce.example/monitor".to_owned(),
    ];
    let told: Vec<String> = told.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();

    let mut first = names.dce(&bed, &["monitor"], &told);
    first.until_said("this monitor is the active one");
    let mut second = names.dce(&bed, &["monitor"], &told);
    let published = || bed.read_bytes(&names.windows).len() - past.len();
    until("some windows are published", || published() > 20);
    first.kill();
    second.until_said("this monitor is the active one");
    let (expected, expected_alerts) = undisturbed(pace, &past, &day, end + pace.lateness_ms);
    let proved = expected.iter().filter(|window| window.window_end + pace.lateness_ms <= day.last().unwrap().0).count();
    until("what records prove to be over is published", || published() >= proved);
    assert_eq!(published(), proved, "the clock alone is not believed");
    names.produce_of_now(&bed);
    until("all windows are published", || published() >= expected.len());

    let got: Vec<DriftWindow> = records(&bed, &names.windows);
    let got = &got[past.len()..past.len() + expected.len()];
    let place = got.iter().zip(&expected).position(|(got, expected)| got != expected);
    assert_eq!(place.map(|place| (&got[place], &expected[place])), None, "windows differ");

    let alerts: Vec<DriftAlert> = records(&bed, &names.alerts);
    let within: Vec<DriftAlert> = alerts.into_iter().filter(|alert| alert.updated_at <= end).collect();
    assert_eq!(within, expected_alerts);
    let opened: Vec<&DriftAlert> = within.iter().filter(|alert| alert.updated_at == alert.opened_at).collect();
    let segments: Vec<&str> = opened.iter().map(|alert| alert.segment.as_ref()).collect();
    assert_eq!(
        segments,
        ["all", "channel=web", "model=bank@1"],
        "{:?}",
        opened.iter().map(|a| &a.summary).collect::<Vec<_>>()
    );
    assert!(opened[0].opened_at <= end - 3 * HOUR_MS + 3 * pace.width_ms, "within 3 windows: {:?}", opened[0]);
    assert!(opened[0].companions.iter().any(|companion| companion.input == "unknown_share"), "{:?}", opened[0]);
    assert!(within.iter().all(|alert| alert.state == AlertState::Firing));

    let headers = bed.read_with_headers(&names.alerts).remove(0).headers;
    assert_eq!(headers["ce_type"], "dce.drift.alert.opened.v1");
    assert_eq!((headers["ce_specversion"].as_str(), headers["content-type"].as_str()), ("1.0", "application/json"));

    until("the webhook is told", || webhook.got().len() >= 3);
    until("Alertmanager is told", || !alertmanager.got().is_empty());
    let page = second.address();
    until("the page shows it", || get(&page, "/api/now").contains("channel=web"));
    let events: Vec<serde_json::Value> =
        webhook.got().iter().map(|(_, body)| serde_json::from_str(body).expect("JSON")).collect();
    let ids: Vec<&str> = events.iter().map(|event| event["subject"].as_str().unwrap()).collect();
    assert_eq!(ids, ["all", "channel=web", "model=bank@1"], "each once");
    assert!(events.iter().all(|event| event["type"] == "dce.drift.alert.opened.v1"));
    let (request, body) = alertmanager.got().remove(0);
    assert!(request.starts_with("POST /api/v2/alerts "), "{request}");
    let posted: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(posted[0]["labels"]["segment"], "all");
    assert_eq!(posted[0]["generatorURL"], "https://dce.example/monitor");

    let explained = names.says(&bed, &["monitor", "explain", "all"]);
    assert!(explained.contains("firing") && explained.contains("breach"), "{explained}");
    let (all, told) = (past.len() + expected.len(), "3 alerts would have been told");
    let same = format!("{all} are judged as they were");
    let span = ["--to", &end.to_string()];
    let replayed = names.says(&bed, &[["monitor", "replay"], span].concat());
    assert!(replayed.contains(&same) && replayed.contains(told), "{replayed}");
    // From the midst of the alert on.
    let from = (end - 2 * HOUR_MS).to_string();
    let replayed = names.says(&bed, &[["monitor", "replay"], span, ["--from", &from]].concat());
    assert!(replayed.contains("36 are judged as they were") && replayed.contains(told), "{replayed}");
    let replayed = names.says(&bed, &["monitor", "replay", "--set", "monitor.false_alarm_every=60d"]);
    assert!(replayed.contains("3 alerts would have been told"), "{replayed}");

    // A pin is taken while it runs; what is compared with it is the shifted state, which is well then.
    let pinned =
        names.says(&bed, &["monitor", "pin", "--from", &(begin - DAY_MS).to_string(), "--to", &begin.to_string()]);
    assert!(pinned.contains("all is compared with 57600 distances"), "{pinned}");
    second.signal("TERM");
    assert!(second.wait().success(), "{}", second.last_words());
}
