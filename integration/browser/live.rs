//! The page of a real monitor, on a real broker, while its windows come.

use dce::wire::drift::DriftAlert;
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;
use serde_json::json;

use super::chromium::Tab;
use super::page::{IS_DRAWN, assert_at_home};
use crate::harness::Bed;
use crate::monitor::live::play_until;
use crate::monitor::{MINUTE_MS, Names, Pace, day, now_ms, past, records};

#[test]
fn a_window_that_comes_changes_the_page_of_a_real_monitor() {
    let bed = Bed::new("page");
    let pace = Pace::LIVE;
    let names = Names::make(&bed, pace);
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let end = pace.last_end(now_ms());
    let begin = end - 30 * MINUTE_MS;
    let shifted = end - 6 * MINUTE_MS..end;
    names.produce(&bed, &past(&mut random, pace, begin), &day(&mut random, pace, begin..end, shifted));
    let mut monitor = names.dce(&bed, &["monitor"], &[]);
    let url = format!("http://{}/", monitor.address());
    let mut tab = Tab::open();
    tab.screen(1280, 900, "light");
    tab.go(&url);
    let alerts = || records::<DriftAlert>(&bed, &names.alerts);
    play_until(&bed, &names, &random, "the alert is told", || !alerts().is_empty());
    tab.until("document.querySelectorAll('#alerts .alert').length > 0");
    tab.until("document.querySelector('#state')?.dataset.state === 'live'");
    let body = tab.body();
    // It is brought up to date with each window.
    let is_shown = |alert: &DriftAlert| body.contains(alert.summary.split("; ").next().unwrap());
    assert!(alerts().iter().any(is_shown), "none of its summaries is on the page:\n{body}");
    assert!(body.contains("values in events that the model does not know"), "{body}");

    let newest = "document.querySelector('#state-text').textContent";
    let before = tab.text(newest);
    assert!(before.starts_with("live · window until "), "{before}");
    tab.look("window.kept = [...document.querySelectorAll('#segment-rows tr, #lanes, #alerts')]");
    let mut now = before.clone();
    play_until(&bed, &names, &random, "another window is on the page", || {
        now = tab.text(newest);
        now != before && now.starts_with("live · window until ")
    });
    // The same page: nothing was loaded anew.
    assert_eq!(tab.look("window.kept.length >= 4 && window.kept.every((it) => it.isConnected)"), json!(true));
    for (name, width, height, colours) in [
        ("live", 1280, 900, "light"),
        ("live-dark", 1920, 1080, "dark"),
        ("live-phone", 390, 844, "light"),
        ("live-phone-dark", 390, 844, "dark"),
    ] {
        tab.screen(width, height, colours);
        tab.until(&format!("innerWidth === {width} && {IS_DRAWN}"));
        tab.picture(name);
        assert_at_home(&mut tab, &url);
    }
    monitor.signal("TERM");
    assert!(monitor.wait().success(), "{}", monitor.last_words());
    tab.until("document.querySelector('#state').dataset.state === 'bad'");
}
