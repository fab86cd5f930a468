//! The schemas themselves: what each must say, that every released one is still read, and the golden records.

use std::path::{Path, PathBuf};

use dce::wire::avro::{CLICK_EVENT, CUSTOMER_EMBEDDING, Fingerprint, SESSION_SUMMARY};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

pub(crate) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[test]
fn the_fingerprints_are_the_schemas() {
    let written =
        [("ClickEvent", CLICK_EVENT), ("CustomerEmbedding", CUSTOMER_EMBEDDING), ("SessionSummary", SESSION_SUMMARY)];
    for (name, fingerprint) in written {
        let json = serde_json::from_str(&text(&folder().join(format!("{name}.avsc")))).unwrap();
        let computed = Fingerprint::of(&json);
        assert_eq!(computed.to_string(), fingerprint.to_string(), "{name}");
    }
}
