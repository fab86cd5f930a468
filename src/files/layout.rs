//! A record's schema as Parquet's columns: each field a column by its name. Takes the Avro schema's JSON, gives Parquet's
//! message type. `[pure]`
//!
//! ```text
//! long → int64       timestamp-millis → int64 (TIMESTAMP)     string, enum → binary (STRING)     ["null", T] → optional
//! array of T → LIST of T     map of T → MAP of STRING to T
//! ```

use std::fmt::Write as _;

use serde_json::Value;

/// The message type of a record's schema. Every schema of ours is understood: a test goes through them.
pub(super) fn message_type(schema: &str) -> Option<String> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    let mut text = format!("message {} {{\n", schema["name"].as_str()?);
    for field in schema["fields"].as_array()? {
        column(field["name"].as_str()?, &field["type"], "required", &mut text)?;
    }
    text.push('}');
    Some(text)
}

fn column(name: &str, kind: &Value, repetition: &str, text: &mut String) -> Option<()> {
    let primitive = |kind: &Value| -> Option<&str> {
        match (kind.as_str().or_else(|| kind["type"].as_str())?, kind["logicalType"].as_str()) {
            ("string" | "enum", None) => Some("binary {} (STRING)"),
            ("long", Some("timestamp-millis")) => Some("int64 {} (TIMESTAMP(MILLIS,true))"),
            ("long", None) => Some("int64 {}"),
            ("int", None) => Some("int32 {}"),
            ("float", None) => Some("float {}"),
            ("double", None) => Some("double {}"),
            ("boolean", None) => Some("boolean {}"),
            _ => None,
        }
    };
    if let Some(primitive) = primitive(kind) {
        writeln!(text, "{repetition} {};", primitive.replace("{}", name)).ok()?;
        return Some(());
    }
    if let Some(branches) = kind.as_array() {
        let [Value::String(null), other] = branches.as_slice() else { return None };
        return if null == "null" && repetition == "required" { column(name, other, "optional", text) } else { None };
    }
    match kind["type"].as_str()? {
        "array" => {
            writeln!(text, "{repetition} group {name} (LIST) {{ repeated group list {{").ok()?;
            column("element", &kind["items"], "required", text)?;
        }
        "map" => {
            writeln!(text, "{repetition} group {name} (MAP) {{ repeated group key_value {{").ok()?;
            text.push_str("required binary key (STRING);\n");
            column("value", &kind["values"], "required", text)?;
        }
        _ => return None,
    }
    text.push_str("} }\n");
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::embedding::{CustomerEmbedding, SessionSummary};
    use crate::wire::row::Row;
    use crate::wire::write::Written;

    #[test]
    fn every_schema_has_columns() {
        for schema in [Row::schema(), CustomerEmbedding::schema(), SessionSummary::schema()] {
            let text = message_type(&schema).unwrap();
            parquet::schema::parser::parse_message_type(&text).unwrap();
        }
        assert_eq!(message_type(r#"{"name": "R", "fields": [{"name": "f", "type": "bytes"}]}"#), None);
    }
}
