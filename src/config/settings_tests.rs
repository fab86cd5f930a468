//! Of every setting: it does something, and is documented where its default stands.

use std::collections::BTreeSet;

use expect_test::expect_file;

use super::tests::load;
use super::*;

/// A setting that nobody reads would be accepted and ignored.
#[test]
fn every_setting_has_an_effect() {
    let other = |key: &str| match key {
        "encoding" => "avro",
        "delivery" => "at_least_once",
        "registry.url" => "http://other",
        "registry.username" | "registry.ca_file" => "other",
        "registry.subject_strategy" => "record_name",
        "registry.register" => "false",
        "registry.timeout" => "7s",
        "kafka.bootstrap" => "other:1",
        "embedding.labels" => "['a']",
        "http.listen" | "monitor.listen" => "off",
        "monitor.window" => "10m",
        "monitor.lateness" => "77s",
        "monitor.false_alarm_every" => "77d",
        "monitor.link" | "monitor.alertmanager" | "monitor.webhook" => "http://other",
        "inference.device" => "auto",
        "log.level" => "warn",
        "log.format" => "json",
        "topics.embeddings_live" => "other",
        "app.workers" => "7",
        _ if key.contains("topics.") || key.contains("app.") || key.contains("model.") => "other",
        "session.gap" | "session.allowed_lateness" | "session.future_max" | "session.duration_max" => "77s",
        "session.idle_after" => "77s",
        "epoch.wait_max" => "77ms",
        _ => "77",
    };
    let live = "set: provisional.every_events=1\nset: registry.url=http://one\nset: registry.username=one\n";
    let without = format!("{:?}", load(live).unwrap());
    let mut keys = BTreeSet::new();
    for setting in Settings::merge(&Layers::default()).unwrap().iter() {
        let key = setting.key.clone();
        let with = format!("{:?}", load(&format!("{live}set: {key}={}", other(&key))).unwrap());
        assert!(with != without || setting.is_secret(), "{key} has no effect");
        assert!(keys.insert(key));
    }
    assert!(keys.len() > 20);
}

/// The tables of `docs/configuration.md`. `UPDATE_EXPECT=1 cargo test` writes them anew.
#[test]
fn the_documentation_has_every_setting() {
    let mut owned = "| setting | because |\n| --- | --- |\n".to_owned();
    for (key, why) in properties::OWNED {
        owned += &format!("| `{key}` | {why} |\n");
    }
    let mut settings = "| setting | default | in the environment |\n| --- | --- | --- |\n".to_owned();
    for setting in Settings::merge(&Layers::default()).unwrap().iter() {
        let Setting { key, .. } = setting;
        settings += &format!("| `{key}` | `{}` | `{}` |\n", setting.shown(), variable_of(key));
    }
    let page = include_str!("../../docs/configuration.md");
    let page = with_table(&with_table(page, "<!-- owned:", &owned), "<!-- settings:", &settings);
    expect_file!["../../docs/configuration.md"].assert_eq(&page);
}

/// The page with the table between the mark's line and the next end.
fn with_table(page: &str, mark: &str, table: &str) -> String {
    let (before, from_mark) = page.split_at(page.find(mark).expect("the mark is there"));
    let (mark_line, rest) = from_mark.split_once('\n').expect("it is a line");
    let after = &rest[rest.find("<!-- end -->").expect("the table ends")..];
    format!("{before}{mark_line}\n{table}{after}")
}

/// The comment is what a user reads first.
#[test]
fn every_setting_is_explained_where_its_default_stands() {
    let mut before = "";
    for line in DEFAULT_TOML.lines() {
        if !line.is_empty() && !line.starts_with(['#', '[']) {
            assert!(before.starts_with("# "), "{line} has no comment");
        }
        before = line;
    }
}
