//! The checks on files that break them: what is never caught proves nothing.

use super::*;

fn stages() -> Vec<String> {
    ["source", "decode", "session", "encode", "customer", "epoch", "state", "sink", "worker"]
        .map(str::to_owned)
        .to_vec()
}

fn imports(file: &str, text: &str) -> Vec<String> {
    import_faults(&Source::new(file, text), &stages())
}

fn words(file: &str, text: &str) -> Vec<String> {
    word_faults(&Source::new(file, text))
}

#[test]
fn a_wrong_import_is_caught_in_every_spelling() {
    let caught = [
        ("src/config/mod.rs", "use crate::wire::click::Input;"),
        ("src/config/checked.rs", "use super::super::kafka::Client;"),
        ("src/wire/mod.rs", "fn f() -> crate::pipeline::epoch::EpochResult { todo!() }"),
        ("src/model/mod.rs", "use crate::{types::ModelId, pipeline::{decode::{self as d}}};"),
        ("src/pipeline/decode.rs", "use super::session::Session;"),
        ("src/pipeline/decode.rs", "use crate::kafka;"),
        ("src/pipeline/session/mod.rs", "use super::customer;"),
        ("src/pipeline/session/place.rs", "use super::super::customer::Fold;"),
        ("src/pipeline/sink.rs", "pub(crate) use crate::pipeline::worker::run as go;"),
        ("src/pipeline/worker.rs", "fn f() { let x = crate::cli::main; }"),
        ("src/drift/mod.rs", "use crate::pipeline::epoch;"),
        ("src/somewhere/new.rs", "//! A module that the rules do not know."),
    ];
    for (file, text) in caught {
        assert_eq!(imports(file, text).len(), 1, "{file}: {text}\n{:?}", imports(file, text));
    }
    let line = imports("src/types.rs", "//! Words.\n\nuse std::fmt;\nuse crate::config::Config;\n");
    assert_eq!(line, ["src/types.rs:4: types may not use config::Config"]);
}

#[test]
fn a_right_import_is_not() {
    let fine = [
        (
            "src/pipeline/sink.rs",
            "use super::epoch::{Body, EpochResult};\nuse crate::kafka::raw;\nuse crate::types::{self, Position};",
        ),
        (
            "src/pipeline/session/mod.rs",
            "use crate::pipeline::source::Record;\nmod place;\nuse place::Place;\nuse self::place::Other;",
        ),
        ("src/pipeline/session/place.rs", "use super::Session;\nuse super::event::Event;"),
        (
            "src/wire/avro/click.rs",
            "pub(super) fn f() {}\npub(in crate::wire) fn g() {}\nuse super::tree::Tree;\nuse crate::wire::Error;",
        ),
        (
            "src/types.rs",
            "/// See [`crate::pipeline`].\nconst TEXT: &str = \"crate::config::Config\"; // use crate::config;",
        ),
        ("src/types.rs", "#[cfg(test)]\nmod tests {\n    use crate::config::Config;\n    fn f() { { } }\n}\n"),
        ("src/types.rs", "#[cfg(test)]\nuse crate::config::Config;\nfn f<'a>(x: &'a str) -> char { '\"' }\n"),
        ("src/config/tests.rs", "use crate::pipeline::epoch;"),
        ("src/pipeline/sink_tests.rs", "use crate::cli;"),
        ("src/cli/demo.rs", "use crate::pipeline::worker;"),
        ("src/replay/mod.rs", "use crate::pipeline::worker;"),
    ];
    for (file, text) in fine {
        assert_eq!(imports(file, text), Vec::<String>::new(), "{file}: {text}");
    }
    let generic = "#[cfg(test)]\nfn f<A, B>(a: A) -> B { crate::config::g() }\nstruct S { #[cfg(test)] a: u8 }\n";
    assert_eq!(imports("src/types.rs", generic), Vec::<String>::new());
    let after_tests = "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::config::Config;";
    assert_eq!(imports("src/types.rs", after_tests).len(), 1, "what follows the tests counts");
}

#[test]
fn a_clock_or_a_client_in_a_pure_module_is_caught() {
    let caught = [
        ("src/pipeline/session/mod.rs", "fn f() { let now = std::time::Instant::now(); }"),
        ("src/pipeline/decode.rs", "use std::time::{Duration, SystemTime};"),
        ("src/wire/avro/mod.rs", "pub async fn f() {}"),
        ("src/generate/bank.rs", "fn f(metrics: u8) {}"),
        ("src/model/features.rs", "type T = ort::value::Tensor;"),
    ];
    for (file, text) in caught {
        assert!(!words(file, text).is_empty(), "{file}: {text}");
    }
    let fine = [
        (
            "src/pipeline/session/mod.rs",
            "//! No `Instant` here, no async.\nconst WHY: &str = r#\"tokio \"async\" \"#; // metrics",
        ),
        ("src/pipeline/worker.rs", "async fn f() { let now = std::time::Instant::now(); }"),
        ("src/wire/mod.rs", "#[cfg(test)]\nmod tests { use std::time::Instant; }"),
        ("src/model/tests/features.rs", "use std::time::Instant;"),
        ("src/generate/bank.rs", "struct InstantTransfer; fn export() {}"),
    ];
    for (file, text) in fine {
        assert_eq!(words(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn unsafe_and_heavy_crates_outside_their_homes_are_caught() {
    let caught = [
        ("src/pipeline/sink.rs", "fn f() { unsafe { g() } }"),
        ("src/pipeline/worker.rs", "use rdkafka::consumer::Consumer;"),
        ("src/pipeline/encode.rs", "fn f(x: ::ort::Session) {}"),
        ("src/cli/check.rs", "fn f() { rdkafka::config::ClientConfig::new(); }"),
        ("src/pipeline/state.rs", "use apache_avro::{Schema, from_value};"),
        ("src/kafka/mod.rs", "use axum::Router;"),
        ("src/http.rs", "use clap::Parser;"),
        ("src/pipeline/sink.rs", "use anyhow::Context;"),
    ];
    for (file, text) in caught {
        assert!(!words(file, text).is_empty(), "{file}: {text}");
    }
    let fine = [
        ("src/kafka/raw.rs", "use rdkafka::bindings; fn f() { unsafe { g() } }"),
        ("src/cli/demo.rs", "use rdkafka::mocking::MockCluster;"),
        (
            "src/pipeline/worker.rs",
            "use crate::telemetry::{Clock, metrics::Metrics}; fn f(m: crate::telemetry::metrics::Metrics) {}",
        ),
        ("src/model/onnx.rs", "use ort::session::Session;"),
    ];
    for (file, text) in fine {
        assert_eq!(words(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn a_file_without_purpose_or_end_is_caught() {
    let form = |file: &str, text: &str| form_faults(&Source::new(file, text));
    assert_eq!(form("src/stop.rs", "use std::sync::Arc;\n"), ["src/stop.rs: opens with `//! ` and what it is for"]);
    let lines = |count: usize| "//! Long.\n".to_owned() + &"\n".repeat(count - 1);
    assert_eq!(form("src/stop.rs", &lines(600)), Vec::<String>::new());
    assert_eq!(form("src/stop.rs", &lines(601)), ["src/stop.rs: 601 lines; past 600 ask what the second subject is"]);
    for (file, _) in rules::LONG_FILES {
        assert_eq!(form(file, &lines(601)), Vec::<String>::new());
        assert_eq!(form(file, &lines(600)).len(), 1, "the list keeps no file that is short again");
    }
}

#[test]
fn a_machines_path_or_a_registry_is_caught() {
    let [home, work] = rules::MACHINE_PATHS;
    let caught = [
        format!("cd {home}ana/dce"),
        format!("path = \"{work}x\""),
        format!("pip install -i https://{}/simple", rules::REGISTRIES[1]),
    ];
    for line in caught {
        assert_eq!(text_faults("README.md", &format!("one\n{line}\n")).len(), 1, "{line}");
        assert_eq!(text_faults("Cargo.lock", &line), Vec::<String>::new());
    }
    let part = format!("target{work}x and https://example.org{home}");
    assert_eq!(text_faults("README.md", &part), Vec::<String>::new());
}

#[test]
fn comments_strings_and_characters_are_not_code() {
    let text =
        "a /* b /* c */ d */ e \"f \\\" g\" h 'i' '\\'' 'j k: &'l str r\"m\" r#\"n \" o\"# br\"p\" var\"q\" // r\ns";
    let words: Vec<String> = scan::tokens_of(text).into_iter().map(|token| token.text).collect();
    assert_eq!(words.join(" "), "a e h ' j k : & ' l str b var s");
}

#[test]
fn modules_are_read_in_their_order() {
    assert_eq!(
        modules_listed("pub mod b;\n#[cfg(test)]\nmod tests;\nmod a;\nmod inline { mod c; }\n"),
        ["b", "a", "c"]
    );
}
