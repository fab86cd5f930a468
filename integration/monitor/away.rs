//! The broker is killed: neither the active monitor nor the one that stands by says that all is well, and both go on when it is back.

use std::time::Duration;

use serde_json::Value;

use super::{Names, Pace, now_ms, until};
use crate::broker::Broker;
use crate::harness::{Bed, Dce};
use crate::pipeline::get;

fn pulse(monitor: &mut Dce) -> Value {
    let answer = get(&monitor.address(), "/api/pulse");
    serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

#[test]
fn a_broker_that_is_away_is_named_and_waited_for() {
    let mut broker = Broker::start();
    let bed = Bed::at(&broker.bootstrap, "monitor-away");
    let names = Names::make(&bed, Pace::LIVE);
    let mut active = names.dce(&bed, &["monitor"], &[]);
    active.until_said("this monitor is the active one");
    let mut waiting = names.dce(&bed, &["monitor"], &[]);
    let is_ready = |monitor: &mut Dce| get(&monitor.address(), "/ready").contains("200 OK");
    until("both are ready", || is_ready(&mut active) && is_ready(&mut waiting));
    assert_eq!((&pulse(&mut active)["role"], &pulse(&mut waiting)["role"]), (&"active".into(), &"standby".into()));
    assert_eq!((&pulse(&mut active)["away_ms"], &pulse(&mut waiting)["away_ms"]), (&Value::Null, &Value::Null));

    let killed = now_ms();
    broker.kill(Duration::ZERO);
    for monitor in [&mut active, &mut waiting] {
        until("it says that the broker is away", || pulse(monitor)["away_ms"].is_i64());
        let since = pulse(monitor)["away_ms"].as_i64().unwrap();
        assert!((killed - 10_000..killed + 5_000).contains(&since), "since {since}, killed at {killed}");
        let said = get(&monitor.address(), "/ready");
        assert!(said.contains("503") && said.contains("Kafka has not answered since "), "{said}");
        assert!(said.to_lowercase().contains("refused") || said.contains("Broker"), "it says why: {said}");
        assert!(get(&monitor.address(), "/live").contains("200 OK"), "to kill it would help nobody");
    }
    // Beyond the session's timeout: by then the active one has lost its lease.
    until("some time has passed", || now_ms() - killed > 15_000);
    assert!(pulse(&mut active)["away_ms"].is_i64() && pulse(&mut waiting)["away_ms"].is_i64());

    until("the broker is back", || {
        broker.tend();
        broker.is_up()
    });
    until("both are ready again", || is_ready(&mut active) && is_ready(&mut waiting));
    until("one of them is active, the other stands by", || {
        let (one, other) = (pulse(&mut active), pulse(&mut waiting));
        let mut roles = [one["role"].as_str().unwrap_or_default(), other["role"].as_str().unwrap_or_default()];
        roles.sort_unstable();
        roles == ["active", "standby"] && one["away_ms"].is_null() && other["away_ms"].is_null()
    });
    for monitor in [&mut active, &mut waiting] {
        monitor.signal("TERM");
        assert!(monitor.wait().success(), "{}", monitor.last_words());
    }
}
