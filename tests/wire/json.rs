//! JSON clicks: a table of broken lines, and random ones beside the rules' reference where that is found.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dce::wire::click::Input;
use dce::wire::json::{self, Line, LineEntry, decode_line};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, json};

use super::json_table::TABLE;

/// What the product makes of a line, in the words of `reference.py`.
fn row(line: &[u8]) -> Value {
    let Ok(Line { partition, record_time, entry }) = decode_line(line) else { return Value::Null };
    let mut row = json!({ "partition": partition, "record_time": record_time });
    match entry {
        LineEntry::Erase(customer) => {
            row["kind"] = "ERASE".into();
            row["customer_id"] = customer.into();
        }
        LineEntry::Input(Input::Tick(event_time)) => {
            row["kind"] = "TICK".into();
            row["event_time"] = event_time.ms().into();
        }
        LineEntry::Input(Input::Click(click)) => {
            let (channel, device) = (click.channel.as_deref(), click.device_id.as_deref());
            row["key"] = match click.session_id.as_deref() {
                Some(id) if !id.is_empty() => format!("s:{id}"),
                _ => {
                    let channel = channel.unwrap_or_default();
                    format!("d:{}:{channel}/{}", channel.len(), device.unwrap_or_default())
                }
            }
            .into();
            row["kind"] = click.kind.as_str().into();
            row["event_time"] = click.event_time.ms().into();
            row["event_id"] = click.event_id.into();
            row["customer_id"] = click.customer_id.into();
            row["name"] = click.name.into();
            row["channel"] = click.channel.into();
            row["session_id"] = click.session_id.into();
            row["device_id"] = click.device_id.into();
        }
    }
    row
}

/// What the reference makes of the lines; `None`, and a word why, where it cannot be asked.
fn reference(lines: &[Vec<u8>]) -> Option<Vec<Value>> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("DCE_REFERENCE").map_or(manifest.join("../shared/reference"), PathBuf::from);
    if !folder.join("sessions.py").is_file() {
        println!("not compared: no reference at {}", folder.display());
        return None;
    }
    let script = manifest.join("tests/wire/reference.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(script).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut python) = command.spawn() else {
        println!("not compared: no python3");
        return None;
    };
    let mut stdin = python.stdin.take().unwrap();
    let bytes = lines.join(&b'\n');
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Compares with the reference, where it is; an empty name and none are one to the product.
fn compare(lines: &[Vec<u8>]) -> usize {
    let Some(mut expected) = reference(lines) else { return 0 };
    let lines: Vec<_> = lines.iter().filter(|line| !json::is_blank(line)).collect();
    assert_eq!(lines.len(), expected.len(), "blank lines are skipped on both sides");
    for (line, expected) in lines.iter().zip(&mut expected) {
        if expected.get("name").is_some_and(Value::is_null) {
            expected["name"] = "".into();
        }
        let shown = String::from_utf8_lossy(&line[..line.len().min(2_000)]).into_owned();
        assert_eq!(row(line), *expected, "{shown}");
    }
    expected.iter().filter(|row| !row.is_null()).count()
}

fn filled(line: &str) -> Vec<u8> {
    line.replace('@', r#""kind":"ACTION","event_id":"e","event_time":5,"customer_id":"c""#).into_bytes()
}

#[test]
fn the_table() {
    for (line, good) in TABLE {
        assert_eq!(!row(&filled(line)).is_null(), *good, "{line}");
    }
    compare(&TABLE.iter().map(|(line, _)| filled(line)).collect::<Vec<_>>());
}

/// Lines whose length is what matters, and bytes that are no text.
#[test]
fn limits() {
    let with = |members: String| filled(&format!("{{@,{members}}}"));
    let mut lines = Vec::new();
    let mut expect = |line: Vec<u8>, good: bool| {
        assert_eq!(!row(&line).is_null(), good, "{}", String::from_utf8_lossy(&line[..line.len().min(200)]));
        lines.push(line);
    };
    for (open, leaf, close) in [("[", "", "]"), (r#"{"a":"#, "1", "}"), (r#"[{"a":"#, "[]", "}]")] {
        for depth in [1, 63, 64, 65, 128, 129, 989, 990, 991, 992, 5_000] {
            let step = open.matches(['[', '{']).count();
            let deep = format!(r#""x":{}{leaf}{}"#, open.repeat(depth / step), close.repeat(depth / step));
            let depth = depth / step * step + leaf.matches('[').count();
            expect(with(deep), depth < 991);
        }
    }
    for digits in [4_299, 4_300, 4_301, 20_000] {
        let number = "7".repeat(digits);
        for place in ["@", "-@", "[@]", r#"{"a":@}"#] {
            expect(with(format!(r#""x":{}"#, place.replace('@', &number))), digits <= 4_300);
        }
        for place in ["@.5", "@e1", "0.@", "1e-@", "\"@\""] {
            expect(with(format!(r#""x":{}"#, place.replace('@', &number))), true);
        }
        expect(with(format!(r#""event_time":{number}"#)), false);
    }
    for field in ["event_id", "session_id", "channel", "device_id", "name", "customer_id"] {
        for (text, bytes) in [("x", 1), ("é", 2), ("\\u20ac", 3), ("\\ud83d\\ude00", 4)] {
            for (count, over) in [(256 / bytes, false), (256 / bytes + 1, true)] {
                let good = !over || field == "customer_id";
                expect(with(format!(r#""{field}":"{}""#, text.repeat(count))), good);
                let erase = format!(r#"{{"kind":"ERASE","customer_id":"c","{field}":"{}"}}"#, text.repeat(count));
                expect(erase.into_bytes(), good);
                let tick = format!(r#"{{"kind":"TICK","event_time":1,"{field}":"{}"}}"#, text.repeat(count));
                expect(tick.into_bytes(), good);
            }
        }
    }
    let not_text: [&[u8]; 8] = [
        b"\xff",
        b"\xc3",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x28\xa1",
        b"\x80",
        b"\xf0\x9f\x98",
    ];
    for bytes in not_text {
        let line = filled(r#"{@,"x":"!"}"#);
        let at = line.iter().position(|byte| *byte == b'!').unwrap();
        expect([&line[..at], bytes, &line[at + 1..]].concat(), false);
        expect([&line[..], bytes].concat(), false);
    }
    compare(&lines);
}

/// A record's value is read as a line is, but for what belongs to lines alone.
#[test]
fn records_and_lines() {
    for (line, good) in TABLE {
        let line = filled(line);
        let text = String::from_utf8(line.clone()).unwrap();
        if text.contains("ERASE") || text.contains("\\u0045RASE") {
            assert!(json::decode(&line).is_err(), "no record asks for an erasure by its kind: {text}");
        } else if text.contains("partition") || text.contains("record_time") {
            assert!(json::decode(&line).is_ok(), "unknown members are ignored: {text}");
        } else {
            assert_eq!(json::decode(&line).is_ok(), *good, "{text}");
        }
    }
}

#[test]
fn attributes_and_context_are_read_leniently() {
    let line = filled(
        r#"{@,"attributes":{"a":"x","n":-1.50,"t":true,"z":null,"l":[1],"o":{},"s":"\ud800","\ud800":"y","a":"\u0041","t":[]},
            "context":{"b":1,"c":-2.5e0,"d":"3","e":null,"f":1e999,"b":4,"c":true,"\u0067":0.1}}"#,
    );
    let Ok(Input::Click(click)) = json::decode(&line) else { panic!("a good click") };
    let attributes: Vec<_> = click.attributes.iter().map(|(name, text)| (name.as_ref(), text.as_ref())).collect();
    assert_eq!(attributes, [("n", "-1.50"), ("a", "A")]);
    let context: Vec<_> = click.context.iter().map(|(name, number)| (name.as_ref(), *number)).collect();
    assert_eq!(context, [("b", 4.0), ("g", 0.1)]);
    for line in [r#"{@,"attributes":null,"context":[]}"#, r#"{@,"attributes":{"a":"b"},"attributes":7}"#] {
        let line = filled(line);
        let Ok(Input::Click(click)) = json::decode(&line) else { panic!("a good click") };
        assert!(click.attributes.is_empty() && click.context.is_empty());
    }
}

#[test]
fn what_needs_no_copy_is_borrowed() {
    let line = filled(r#"{@,"name":"/päge","channel":"w\u0065b","attributes":{"a":"b"}}"#);
    let Ok(Input::Click(click)) = json::decode(&line) else { panic!("a good click") };
    let borrowed = |text: &std::borrow::Cow<'_, str>| matches!(text, std::borrow::Cow::Borrowed(_));
    assert!(borrowed(&click.event_id) && borrowed(&click.name) && borrowed(&click.attributes[0].1));
    assert!(!borrowed(click.channel.as_ref().unwrap()));
}

/// Random lines: good ones with wrong, doubled, escaped and unknown members, then broken by the byte.
#[test]
fn random_lines_beside_the_reference() {
    const LINES: usize = 30_000;
    let seed = std::env::var_os("DCE_FUZZ_SEED").map_or(1, |seed| seed.to_str().unwrap().parse().unwrap());
    let mut rng = Pcg64::seed_from_u64(seed);
    let lines: Vec<_> = (0..LINES).map(|_| random_line(&mut rng)).collect();
    let records = lines.iter().filter(|line| json::decode(line).is_ok()).count();
    let good = compare(&lines);
    println!("seed {seed}: of {LINES} lines the reference takes {good}, and {records} are records");
    assert!(good == 0 || (LINES / 10..LINES * 9 / 10).contains(&good), "the lines are neither all good nor all bad");
}

fn pick<'a>(rng: &mut Pcg64, choices: &[&'a str]) -> &'a str {
    choices[rng.random_range(0..choices.len())]
}

fn random_line(rng: &mut Pcg64) -> Vec<u8> {
    // The last ones are nearly names of a click.
    const NAMES: [&str; 22] = [
        "kind",
        "event_time",
        "event_id",
        "customer_id",
        "name",
        "channel",
        "session_id",
        "device_id",
        "context",
        "attributes",
        "partition",
        "record_time",
        "x",
        "kin\\u0064",
        "kinds",
        "names",
        "event_i",
        "event_idx",
        "event_times",
        "channe\\u006c",
        "contexts",
        "attribute",
    ];
    let mut members = vec![
        format!(r#""kind":"{}""#, pick(rng, &["LOGIN", "LOGOUT", "PAGE_VIEW", "ACTION", "TICK", "ERASE"])),
        format!(r#""event_time":{}"#, rng.random_range(0..2_000_000_000_000_u64)),
        format!(r#""event_id":"e{}""#, rng.random_range(0..1_000)),
        format!(r#""customer_id":"c{}""#, rng.random_range(0..9)),
    ];
    for _ in 0..rng.random_range(0..4) {
        let (name, value) = (pick(rng, &NAMES), random_value(rng, 3));
        members.push(format!(r#""{name}":{value}"#));
    }
    if rng.random_bool(0.1) {
        members.remove(rng.random_range(0..members.len()));
    }
    for index in (1..members.len()).rev() {
        members.swap(index, rng.random_range(0..=index));
    }
    let space = pick(rng, &["", "", "", " ", "\t", "\r", "\x0b", " \t "]);
    let mut line = format!("{space}{{{}{space}}}{space}", members.join(&format!("{space},{space}"))).into_bytes();
    if rng.random_bool(0.5) {
        for _ in 0..rng.random_range(1..4) {
            break_line(rng, &mut line);
        }
    }
    line.retain(|byte| *byte != b'\n');
    line
}

fn random_value(rng: &mut Pcg64, depth: usize) -> String {
    match rng.random_range(0..if depth == 0 { 4 } else { 6 }) {
        0 => pick(rng, &["null", "true", "false", "NaN", "-Infinity", "nul", ""]).to_owned(),
        1 => {
            let numbers = [
                "0",
                "-0",
                "7",
                "-7",
                "1.0",
                "1e3",
                "01",
                "1.",
                "-",
                "2147483647",
                "2147483648",
                "9223372036854775807",
                "9223372036854775808",
                "1e999",
                "0.0",
                "123456789",
            ];
            pick(rng, &numbers).to_owned()
        }
        2 | 3 => {
            let parts = [
                "",
                "a",
                "é",
                "\\n",
                "\\u0041",
                "\\ud83d\\ude00",
                "\\ud83d",
                "\\ude00",
                "\\x",
                "\\",
                "\u{1f}",
                "\u{7f}",
                "web",
                "LOGIN",
                "ERASE",
                "TICK",
                "😀",
                "\\\"",
                "\\u12",
            ];
            let long = if rng.random_bool(0.05) { rng.random_range(250..260) } else { 0 };
            let text: String = (0..rng.random_range(0..4)).map(|_| pick(rng, &parts)).collect();
            format!("\"{}{text}\"", "z".repeat(long))
        }
        4 => {
            let items: Vec<_> = (0..rng.random_range(0..3)).map(|_| random_value(rng, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let item = |rng: &mut Pcg64| {
                format!(r#""{}":{}"#, pick(rng, &["a", "\\u0061", "", "\\ud800"]), random_value(rng, depth - 1))
            };
            let items: Vec<_> = (0..rng.random_range(0..3)).map(|_| item(rng)).collect();
            format!("{{{}}}", items.join(","))
        }
    }
}

fn break_line(rng: &mut Pcg64, line: &mut Vec<u8>) {
    const BYTES: &[u8] = b"{}[]\",:\\u0-+.eE 1\t\x00\x0b\x1f\x80\xc3\xed\xf0\xff";
    if line.is_empty() {
        return;
    }
    let at = rng.random_range(0..line.len());
    let byte = BYTES[rng.random_range(0..BYTES.len())];
    match rng.random_range(0..6) {
        0 => line[at] = byte,
        1 => line.insert(at, byte),
        2 => drop(line.remove(at)),
        3 => line.truncate(at),
        4 => line[at] = rng.next_u32().to_le_bytes()[0],
        _ => {
            let end = rng.random_range(at..=line.len().min(at + 20));
            let copied = line[at..end].to_vec();
            let to = rng.random_range(0..=line.len());
            line.splice(to..to, copied);
        }
    }
}
