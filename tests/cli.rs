//! The binary from outside: what it prints, where, and with which exit code.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use expect_test::{Expect, expect};

/// The binary in an empty environment, so that the machine's has no say.
fn dce(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dce"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = dce(arguments, environment).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn check_refused(arguments: &[&str], environment: &[(&str, &str)], code: i32, expected: Expect) {
    let (found, stdout, stderr) = run(arguments, environment);
    assert_eq!((found, stdout.as_str()), (code, ""), "{arguments:?}");
    expected.assert_eq(&stderr);
}

/// A file of one test, in the build's folder.
fn scratch(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn help_is_a_success_and_says_what_there_is() {
    let (code, stdout, stderr) = run(&["--help"], &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for part in ["Usage: dce", "  config ", "--config <FILE>", "--set <KEY=VALUE>", "--json", "Exit code: 0 success"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let (code, stdout, _) = run(&["--version"], &[]);
    assert_eq!((code, stdout), (0, format!("dce {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, stdout, _) = run(&["config", "--help"], &[]);
    assert_eq!(code, 0);
    assert!(stdout.contains("Usage: dce config"), "{stdout}");
}

#[test]
fn wrong_use_exits_with_2() {
    let (code, stdout, stderr) = run(&[], &[]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("Usage: dce"), "{stderr}");
    for wrong in
        [&["confg"] as &[&str], &["config", "--nothing"], &["config", "more"], &["--set"], &["config", "--config"]]
    {
        let (code, stdout, stderr) = run(wrong, &[]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{wrong:?}");
        assert!(stderr.starts_with("error: "), "{wrong:?}: {stderr}");
    }
    assert!(run(&["confg"], &[]).2.contains("a similar subcommand exists: 'config'"));
}

#[test]
fn completions_go_to_standard_output() {
    let (code, stdout, stderr) = run(&["completions", "bash"], &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("complete -F _dce"), "{stdout}");
    assert_eq!(run(&["completions", "tcsh"], &[]).0, 2);
}

#[test]
fn bad_settings_are_refused_in_one_line_with_the_fix() {
    check_refused(
        &["config", "--set", "session.gp=20m"],
        &[],
        2,
        expect![[r#"
        dce: session.gp (from --set): no such setting; did you mean session.gap?
    "#]],
    );
    check_refused(
        &["config", "--set", "session.events_max=0"],
        &[],
        2,
        expect![[r#"
        dce: session.events_max = 0 (from --set): must be a whole number from 1 to 4294967295
    "#]],
    );
    check_refused(
        &["config"],
        &[("DCE_SESSION__GAP", "20")],
        2,
        expect![[r#"
        dce: session.gap = "20" (from environment DCE_SESSION__GAP): must be a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s"
    "#]],
    );
    check_refused(
        &["run", "--set", "inference.device=gpu"],
        &[],
        2,
        expect![[r#"
        dce: inference.device = "gpu" (from --set): must be "cpu", "auto", or "cuda:N" with the number of a GPU, counted from 0 and at most 255, such as "cuda:0"
    "#]],
    );
    check_refused(
        &["--config", "no/such.toml", "config"],
        &[],
        2,
        expect![[r#"
        dce: configuration file no/such.toml cannot be read: No such file or directory (os error 2)
    "#]],
    );
    let file = scratch("refused.toml", "[session]\ngap = \"20m\"\nevents = 7\n");
    let (code, stdout, stderr) = run(&["config", "--config", file.to_str().unwrap()], &[]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    let said = stderr.replace(file.to_str().unwrap(), "FILE");
    expect![[r#"
        dce: session.events (from FILE:3): no such setting; did you mean session.events_max?
    "#]]
    .assert_eq(&said);
}

fn config_rows(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<serde_json::Value> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["config", "--json"]).collect();
    let (code, stdout, stderr) = run(&arguments, environment);
    assert_eq!((code, stderr.as_str()), (0, ""));
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_later_layer_wins_and_is_named() {
    let file = scratch("layers.toml", "session.gap = '1m'\nsession.events_max = 10\napp.id = 'bank'\n");
    let file = file.to_str().unwrap();
    let environment = [("DCE_SESSION__EVENTS_MAX", "20"), ("DCE_APP__ID", "bank-2"), ("DCE_SERVICE_HOST", "10.0.0.1")];
    let rows = config_rows(&["--config", file, "--set", "app.id=bank-3", "--set", "app.id=bank-4"], &environment);
    let mut shown = String::new();
    for row in rows.iter().filter(|row| row["from"] != "the defaults") {
        writeln!(shown, "{} = {} from {}", row["key"], row["value"], row["from"]).unwrap();
    }
    expect![[r#"
        "app.id" = "bank-4" from "--set"
        "session.gap" = "1m" from "FILE:1"
        "session.events_max" = 20 from "environment DCE_SESSION__EVENTS_MAX"
    "#]]
    .assert_eq(&shown.replace(file, "FILE"));
}

#[test]
fn what_config_prints_is_a_configuration_file() {
    let settings = [
        "--set",
        "session.gap=77s",
        "--set",
        "kafka.properties.client.id=a",
        "--set",
        "kafka.consumer_properties.debug=cgrp",
    ];
    let environment = [("DCE_KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2"), ("DCE_KAFKA__PROPERTIES__LINGER_MS", "7")];
    let (code, printed, stderr) = run(&[&settings as &[&str], &["config"]].concat(), &environment);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(!printed.contains("hunter2") && printed.contains("\"sasl.password\""), "{printed}");
    let file = scratch("printed.toml", &printed);
    let values = |rows: Vec<serde_json::Value>| {
        let rows = rows.into_iter().filter(|row| row["key"] != "kafka.properties.sasl.password");
        rows.map(|row| format!("{} {}", row["key"], row["value"])).collect::<Vec<_>>()
    };
    let read_back = values(config_rows(&["--config", file.to_str().unwrap()], &[]));
    assert_eq!(read_back, values(config_rows(&settings, &environment[1..])));
    assert!(!read_back.is_empty());
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = dce(&["config"], &[]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = dce(&["--help"], &[]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_a_failure() {
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else { return };
    let output = dce(&["config"], &[]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("dce: ") && stderr.lines().count() == 1, "{stderr}");
}

/// A run with a GPU takes the variant with CUDA first, so that is what has to be judged.
#[test]
fn check_looks_for_the_library_that_a_run_would_take() {
    let cache = std::env::temp_dir().join(format!("dce-check-library-{}", std::process::id()));
    for variant in ["onnxruntime-9.9.9", "onnxruntime-gpu-9.9.8"] {
        std::fs::create_dir_all(cache.join(variant)).unwrap();
        std::fs::write(cache.join(variant).join("libonnxruntime.so"), "no library").unwrap();
    }
    let environment = [("ORT_DYLIB_PATH", ""), ("DCE_CACHE_DIR", cache.to_str().unwrap())];
    for (device, first, fix) in [
        ("cpu", "onnxruntime-9.9.9", "make setup"),
        ("cuda:0", "onnxruntime-gpu-9.9.8", "onnxruntime.sh gpu"),
        ("auto", "onnxruntime-gpu-9.9.8", "make setup"),
    ] {
        let setting = format!("inference.device={device}");
        let (_, stdout, _) = run(&["check", "--offline", "--json", "--set", &setting], &environment);
        let rows = stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let row = rows.into_iter().find(|row| row["what"] == "onnx runtime").unwrap();
        let found = row["found"].as_str().unwrap();
        let variants = ["onnxruntime-9.9.9", "onnxruntime-gpu-9.9.8"];
        let looked = variants.into_iter().min_by_key(|variant| found.find(variant).expect("both are tried"));
        assert_eq!(looked, Some(first), "{device}: {found}");
        assert!(row["fix"].as_str().unwrap().contains(fix), "{row}");
    }
    std::fs::remove_dir_all(cache).unwrap();
}

#[test]
fn check_goes_on_past_what_is_wrong() {
    let library = [("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")];
    let (code, stdout, stderr) = run(&["check", "--offline", "--set", "session.gp=20m"], &library);
    assert_eq!((code, stderr.as_str()), (1, ""));
    let verdicts: Vec<&str> = stdout.lines().filter(|line| !line.contains('→')).collect();
    assert!(verdicts[0].starts_with("✘ settings ") && verdicts[0].ends_with("did you mean session.gap?"), "{stdout}");
    assert!(verdicts[2].starts_with("✘ onnx runtime ") && verdicts[2].contains("/nowhere/"), "{stdout}");
    assert!(verdicts[3].starts_with("– model ") && verdicts[3].ends_with("the settings are refused"), "{stdout}");
    assert_eq!(verdicts.last(), Some(&"1 right, 0 to look at, 2 wrong, 3 not checked"));

    let (code, stdout, _) = run(&["check", "--offline", "--json"], &library);
    assert_eq!(code, 1);
    let rows: Vec<serde_json::Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, rows) = rows.split_last().unwrap();
    let wrong = rows.iter().filter(|row| row["verdict"] == "wrong" && row["fix"].is_string()).count();
    assert_eq!(summary["summary"]["wrong"], wrong);
    assert!(rows.iter().all(|row| row["what"].is_string() && row["found"].is_string()), "{stdout}");
}

#[test]
fn a_broker_that_is_away_is_said_in_one_line() {
    let away = ["--set", "kafka.bootstrap=127.0.0.1:1"];
    let (code, stdout, _) = run(&[&["check", "--wait", "200ms", "--json"], &away as &[&str]].concat(), &[]);
    assert_eq!(code, 1);
    assert_eq!(stdout.matches("not checked: broker away").count(), 14, "{stdout}");
    let (code, _, stderr) = run(&["check", "--wait", "soon"], &[]);
    assert_eq!(code, 2, "{stderr}");
    for wrong in [&["tail", "--since", "yesterday"] as &[&str], &["tail", "live"], &["rejects", "send", "--yes"]] {
        let (code, stdout, stderr) = run(&[wrong, &away as &[&str]].concat(), &[]);
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (2, "", 1), "{wrong:?}: {stderr}");
    }
}

const CHILD: &str = "DCE_TEST_SIGNALS_CHILD";

/// Does nothing but where [`a_second_signal_ends_the_process`] runs it in a process of its own.
#[test]
#[expect(clippy::disallowed_methods, reason = "the only way to tell the child from a test run")]
fn child_that_waits_for_signals() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let stop = dce::cli::stop_on_signals().unwrap();
    println!("\nwaiting");
    while !stop.wait(std::time::Duration::from_secs(60)) {}
    println!("\nstopping");
    // As a command that hangs while it drains.
    loop {
        std::thread::park();
    }
}

#[test]
fn a_second_signal_ends_the_process() {
    for (first, second, code) in [("TERM", "INT", 130), ("INT", "TERM", 143)] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::child_that_waits_for_signals", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = |word: &str| lines.by_ref().any(|line| line.unwrap() == word);
        let send = |signal: &str| {
            let kill = format!("kill -{signal} {}", child.id());
            assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        };
        assert!(said("waiting"));
        send(first);
        assert!(said("stopping"), "the first asks");
        send(second);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "the second ends");
    }
}

#[test]
fn the_local_store_s_folder_is_looked_at_and_not_touched() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("check-store");
    drop(std::fs::remove_dir_all(&folder));
    let file = scratch("check-store-file", "");
    let row = |dir: &std::path::Path| {
        let setting = format!("state.dir={}", dir.display());
        let (_, stdout, _) = run(&["check", "--offline", "--set", &setting], &[]);
        stdout.lines().find(|line| line.contains("local store")).unwrap_or_default().trim_end().to_owned()
    };
    let found = row(&folder);
    assert!(found.starts_with('✔') && found.ends_with("will be made, state.cache_mb 512"), "{found}");
    assert!(!folder.exists(), "nothing is changed");
    std::fs::create_dir(&folder).unwrap();
    assert!(row(&folder).contains(" is empty"), "{}", row(&folder));
    let found = row(&file);
    assert!(found.starts_with('✘') && found.ends_with("is no folder"), "{found}");
    assert!(!run(&["check", "--offline"], &[]).1.contains("local store"), "only where there is to be one");
}
