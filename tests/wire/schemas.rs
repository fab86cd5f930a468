//! The schemas themselves: what each must say, and that every released one is still read.

use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use dce::wire::avro::{CLICK_EVENT, CUSTOMER_EMBEDDING, Fingerprint, SESSION_SUMMARY, Schemas};
use serde_json::Value;

const RECORDS: [(&str, Fingerprint); 3] =
    [("ClickEvent", CLICK_EVENT), ("CustomerEmbedding", CUSTOMER_EMBEDDING), ("SessionSummary", SESSION_SUMMARY)];

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

pub(crate) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The released versions, the present one last.
pub(crate) fn versions() -> Vec<String> {
    let names = std::fs::read_dir(folder().join("released")).unwrap();
    let mut versions: Vec<u32> =
        names.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    versions.sort_unstable();
    versions.iter().map(u32::to_string).collect()
}

fn avsc(name: &str) -> PathBuf {
    folder().join(format!("{name}.avsc"))
}

#[test]
fn the_fingerprints_are_the_schemas() {
    for (name, fingerprint) in RECORDS {
        let computed = Fingerprint::of(&serde_json::from_str(&text(&avsc(name))).unwrap());
        assert_eq!(computed.to_string(), fingerprint.to_string(), "{name}");
    }
}

#[test]
fn every_released_schema_is_read_by_the_present_one() {
    let known = Schemas::released();
    for version in versions() {
        for (name, _) in RECORDS {
            let path = folder().join("released").join(&version).join(format!("{name}.avsc"));
            let released = text(&path);
            let writer = Schema::parse_str(&released).unwrap();
            let reader = Schema::parse_str(&text(&avsc(name))).unwrap();
            SchemaCompatibility::can_read(&writer, &reader).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            let fingerprint = Fingerprint::of(&serde_json::from_str(&released).unwrap());
            assert!(known.knows(fingerprint), "{} is not compiled in", path.display());
        }
    }
}

/// A change becomes a version: the copy of the last one is what stands in the folder.
#[test]
fn the_present_schemas_are_the_last_released() {
    let last = versions().pop().unwrap();
    let mut files: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "avsc"));
    assert!(files.len() >= RECORDS.len());
    for path in files {
        let released = folder().join("released").join(&last).join(path.file_name().unwrap());
        assert_eq!(text(&path), text(&released), "{}", path.display());
    }
}

/// Every record, enum and field says what it is; every enum has UNKNOWN first and by default; every union begins with
/// null, which is its default; every time is in milliseconds.
#[test]
fn what_every_schema_says() {
    for (name, _) in RECORDS {
        let schema: Value = serde_json::from_str(&text(&avsc(name))).unwrap();
        assert_eq!(schema["name"], name);
        assert_eq!(schema["namespace"], "dce.v1");
        assert!(is_said(&schema["doc"]), "{name}");
        for field in schema["fields"].as_array().unwrap() {
            let named = format!("{name}.{}", field["name"]);
            assert!(is_said(&field["doc"]), "{named}");
            check_type(&named, &field["type"]);
            if field["type"].is_array() {
                assert_eq!(field.get("default"), Some(&Value::Null), "{named}");
            }
            if field["type"]["type"] == "map" {
                assert_eq!(field["default"], serde_json::json!({}), "{named}");
            }
            let timely = ["event_time", "session_start", "session_end", "_at", "as_of"];
            if timely.iter().any(|end| field["name"].as_str().unwrap().ends_with(end)) {
                assert!(field["type"].to_string().contains("timestamp-millis"), "{named}");
            }
        }
    }
}

fn is_said(doc: &Value) -> bool {
    doc.as_str().is_some_and(|doc| doc.len() > 20 && doc.ends_with('.'))
}

fn check_type(named: &str, schema: &Value) {
    match schema {
        Value::Array(branches) => {
            assert_eq!(branches[0], "null", "{named}");
            assert_eq!(branches.len(), 2, "{named}");
            check_type(named, &branches[1]);
        }
        Value::Object(members) if members["type"] == "enum" => {
            assert_eq!(members["symbols"][0], "UNKNOWN", "{named}");
            assert_eq!(members["default"], "UNKNOWN", "{named}");
            assert!(is_said(&members["doc"]), "{named}");
        }
        Value::Object(members) => {
            for inner in ["items", "values"] {
                if let Some(inner) = members.get(inner) {
                    check_type(named, inner);
                }
            }
        }
        _ => {}
    }
}
