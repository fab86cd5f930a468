//! Windows that close while one looks on, a minute each: what is accepted while it runs, and partitions that are added.

use dce::wire::drift::{AlertState, DriftAlert, DriftWindow, Outcome, ReferenceKind};
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

use super::{
    CUSTOMERS, MINUTE_MS, Names, Pace, Published, day, embedding, moved, now_ms, partition, past, records, until,
};
use crate::harness::Bed;

/// A minute's customers, who all close their sessions now.
pub(crate) fn minute(random: &mut Pcg64Mcg, is_shifted: bool) -> Vec<Published> {
    let now_ms = now_ms();
    (0..CUSTOMERS).map(|number| (now_ms, partition(number), moved(random, number, now_ms, is_shifted))).collect()
}

/// Plays one minute after the other until it is so, each with the same distances: how many are needed is up to the clock.
pub(crate) fn play_until(bed: &Bed, names: &Names, random: &Pcg64Mcg, what: &str, mut is_so: impl FnMut() -> bool) {
    let mut played = 0;
    until(what, || {
        // Not at the very end of a minute, when some would come too late for it.
        let (this, second) = (now_ms().div_euclid(MINUTE_MS), now_ms().rem_euclid(MINUTE_MS) / 1_000);
        if played < this && (1..50).contains(&second) {
            played = this;
            names.produce(bed, &[], &minute(&mut random.clone(), true));
        }
        is_so()
    });
}

#[test]
fn what_is_accepted_ends_the_alert_and_is_what_is_compared_with() {
    let bed = Bed::new("accept");
    let pace = Pace::LIVE;
    let names = Names::make(&bed, pace);
    let mut random = Pcg64Mcg::seed_from_u64(5);
    let end = pace.last_end(now_ms());
    let begin = end - 12 * MINUTE_MS;
    names.produce(
        &bed,
        &past(&mut random, pace, begin),
        &day(&mut random, pace, begin..end, begin + 3 * MINUTE_MS..end),
    );
    let mut monitor = names.dce(&bed, &["monitor"], &[]);
    let newest = || {
        let alerts: Vec<DriftAlert> = records(&bed, &names.alerts);
        alerts.into_iter().rev().find(|alert| alert.segment.as_ref() == "all")
    };
    let windows = || -> Vec<DriftWindow> {
        let all: Vec<DriftWindow> = records(&bed, &names.windows);
        all.into_iter().filter(|window| window.segment.as_ref() == "all" && window.window_start >= begin).collect()
    };
    play_until(&bed, &names, &random, "the alert is open", || newest().is_some());
    let open = newest().unwrap();
    assert_eq!((open.state, open.reference), (AlertState::Firing, Some(ReferenceKind::SameHour)));
    until("six windows of it are there", || windows().iter().filter(|window| window.alert.is_some()).count() >= 6);

    let span = [begin + 5 * MINUTE_MS, begin + 10 * MINUTE_MS].map(|ms| ms.to_string());
    let said =
        names.says(&bed, &["monitor", "pin", "--segment", "all", "--from", &span[0], "--to", &span[1], "--accept"]);
    assert!(said.contains("all is compared with 2000 distances"), "{said}");
    play_until(&bed, &names, &random, "the alert is over", || newest().unwrap().state == AlertState::Resolved);
    let over = newest().unwrap();
    assert_eq!(over.id, open.id);
    assert!(over.summary.starts_with("over: somebody said that this is how it is to be"), "{}", over.summary);

    // The customers move as far as before, and that is well now.
    let is_after =
        |window: &&DriftWindow| window.window_start >= over.updated_at && window.outcome != Outcome::Insufficient;
    play_until(&bed, &names, &random, "a window is judged by it", || windows().iter().any(|window| is_after(&window)));
    let windows = windows();
    let before = windows.iter().filter(|window| window.pins_end == 0);
    let references: Vec<_> = before.map(|window| window.reference).collect();
    // Three well ones, and six of the alert at least.
    assert!(references.len() >= 9, "{references:?}");
    assert!(references.iter().all(|reference| *reference == Some(ReferenceKind::SameHour)), "{references:?}");
    let judged = windows.iter().find(is_after).unwrap();
    let (pinned, distances) = (Some(ReferenceKind::Pinned), 5 * u64::from(CUSTOMERS));
    assert_eq!((judged.outcome, judged.reference, judged.reference_count), (Outcome::Ok, pinned, distances));
    let shift = judged.readings["p50"] / judged.readings["p50_before"];
    assert!((0.8..1.25).contains(&shift), "the median is {shift} times what was pinned");

    // Judged again, by the pin that counted for each, all is as it was; from its midst, too.
    let all: Vec<DriftWindow> = records(&bed, &names.windows);
    monitor.signal("TERM");
    assert!(monitor.wait().success(), "{}", monitor.last_words());
    let stored: Vec<DriftWindow> = records(&bed, &names.windows);
    assert!(stored.len() >= all.len());
    for (from, count) in [
        (None, stored.len()),
        (Some(begin), stored.iter().filter(|window| window.window_start >= begin).count()),
        (Some(over.updated_at), stored.iter().filter(|window| window.window_start >= over.updated_at).count()),
    ] {
        let mut arguments = vec!["monitor".to_owned(), "replay".to_owned()];
        arguments.extend(from.into_iter().flat_map(|from| ["--from".to_owned(), from.to_string()]));
        let said = names.says(&bed, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.contains(&format!("{count} windows over")), "{said}");
        assert!(said.contains(&format!("\n{count} are judged as they were")), "{said}");
    }
}

#[test]
fn partitions_that_are_added_are_read_before_a_window_is_closed_without_them() {
    let bed = Bed::new("grown-embeddings");
    let names = Names::with(&bed, Pace::LIVE, 1, &[]);
    let mut monitor = names.dce(&bed, &["monitor"], &[]);
    monitor.until_said("this monitor is the active one");
    let address = monitor.address();
    until("it is ready", || crate::pipeline::get(&address, "/ready").contains("200 OK"));
    // So that all of it is of one window.
    until("a minute has some time left", || now_ms().rem_euclid(MINUTE_MS) < 40_000);
    bed.grow(&names.embeddings, 3);
    let now = now_ms();
    let customers = 90_u32;
    let embeddings: Vec<Published> = (0..customers)
        .map(|number| (now, i32::try_from(number % 3).unwrap(), embedding(number, now, 0.02, 0)))
        .collect();
    names.produce(&bed, &[], &embeddings);
    let window = || {
        let all: Vec<DriftWindow> = records(&bed, &names.windows);
        all.into_iter().find(|window| window.segment.as_ref() == "all" && window.window_end > now)
    };
    until("the window is published", || window().is_some());
    let counts = window().unwrap().counts;
    assert_eq!((counts.get("customers"), counts.get("late")), (Some(&u64::from(customers)), None), "{counts:?}");
    let said = monitor.said();
    assert!(said.contains("has 3 partitions now, and 1 are read"), "{said}");
    monitor.signal("TERM");
    assert!(monitor.wait().success(), "{}", monitor.last_words());
}
