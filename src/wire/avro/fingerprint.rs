//! Fingerprints as the Avro specification has them: CRC-64-AVRO over the parsing canonical form.
//!
//! apache-avro's own `Schema::fingerprint` leaves `{"type":"long"}` where a logical type was stripped, which other
//! implementations reduce to `"long"`, so that it gives such schemas another number than Java and Python do. Records
//! are written with the specification's; [`super::Schemas`] knows every schema by both.

use std::fmt;

use serde_json::Value;

/// CRC-64-AVRO of a schema's canonical form, in the order of the bytes on the wire (the lowest first).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_le_bytes(self.0))
    }
}

impl Fingerprint {
    /// Of a schema as it stands in a file. The text must be a valid schema.
    pub fn of(schema: &Value) -> Self {
        let mut canonical = String::new();
        canonical_form(schema, "", &mut canonical);
        Self(rabin(canonical.as_bytes()).to_le_bytes())
    }
}

const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut bits = index as u64;
        let mut round = 0;
        while round < 8 {
            bits = (bits >> 1) ^ (EMPTY & (bits & 1).wrapping_neg());
            round += 1;
        }
        table[index] = bits;
        index += 1;
    }
    table
};

fn rabin(bytes: &[u8]) -> u64 {
    bytes.iter().fold(EMPTY, |bits, byte| (bits >> 8) ^ TABLE[usize::from(bits.to_le_bytes()[0] ^ byte)])
}

/// Types by their full names; of each, nothing but what decides how its values are read, in the order name, type,
/// fields, symbols, items, values, size.
fn canonical_form(schema: &Value, namespace: &str, out: &mut String) {
    match schema {
        Value::String(name) => push_name(name, namespace, out),
        Value::Array(branches) => push_list(branches, out, |branch, out| canonical_form(branch, namespace, out)),
        Value::Object(members) => {
            let member = |name: &str| members.get(name).unwrap_or(&Value::Null);
            let Some(kind @ ("record" | "error" | "enum" | "fixed" | "array" | "map")) = member("type").as_str() else {
                // A primitive in braces, or what is left of a logical type.
                return canonical_form(member("type"), namespace, out);
            };
            match kind {
                "array" => {
                    out.push_str(r#"{"type":"array","items":"#);
                    canonical_form(member("items"), namespace, out);
                }
                "map" => {
                    out.push_str(r#"{"type":"map","values":"#);
                    canonical_form(member("values"), namespace, out);
                }
                _ => {
                    let name = member("name").as_str().unwrap_or_default();
                    let namespace = match name.rsplit_once('.') {
                        Some((namespace, _)) => namespace,
                        None => member("namespace").as_str().unwrap_or(namespace),
                    };
                    out.push_str(r#"{"name":"#);
                    push_name(name, namespace, out);
                    out.push_str(&format!(r#","type":"{kind}""#));
                    push_body(kind, members, namespace, out);
                }
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a named type has beside its name.
fn push_body(kind: &str, members: &serde_json::Map<String, Value>, namespace: &str, out: &mut String) {
    let list = |name: &str| members.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match kind {
        "fixed" => {
            // A size may be written as a string: the rule for integers makes it a number.
            let size = members.get("size").map_or_else(String::new, |size| size.to_string().replace('"', ""));
            out.push_str(&format!(r#","size":{size}"#));
        }
        "enum" => {
            out.push_str(r#","symbols":"#);
            push_list(list("symbols"), out, |symbol, out| out.push_str(&symbol.to_string()));
        }
        _ => {
            out.push_str(r#","fields":"#);
            push_list(list("fields"), out, |field, out| {
                out.push_str(&format!(r#"{{"name":{},"type":"#, field["name"]));
                canonical_form(&field["type"], namespace, out);
                out.push('}');
            });
        }
    }
}

fn push_list(items: &[Value], out: &mut String, mut push: impl FnMut(&Value, &mut String)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(item, out);
    }
    out.push(']');
}

fn push_name(name: &str, namespace: &str, out: &mut String) {
    let primitive = matches!(name, "null" | "boolean" | "int" | "long" | "float" | "double" | "bytes" | "string");
    if primitive || namespace.is_empty() || name.contains('.') {
        out.push_str(&format!("\"{name}\""));
    } else {
        out.push_str(&format!("\"{namespace}.{name}\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the specification's own test data.
    #[test]
    fn the_specifications_examples() {
        let pig = r#"{"type":"record","name":"PigValue","fields":[{"name":"value","type":["null","int","long","PigValue"]}]}"#;
        let examples = [
            (r#""null""#, 7_195_948_357_588_979_594_i64),
            (r#"{"type":"boolean"}"#, -6_970_731_678_124_411_036),
            (r#"{"name":"foo","type":"fixed","size":15,"doc":"x"}"#, 1_756_455_273_707_447_556),
            (pig, -1_759_257_747_318_642_341),
        ];
        for (schema, expected) in examples {
            let found = Fingerprint::of(&serde_json::from_str(schema).unwrap());
            assert_eq!(i64::from_le_bytes(found.0), expected, "{schema}");
        }
    }

    #[test]
    fn a_logical_type_is_its_type() {
        let form = |schema: &str| {
            let mut out = String::new();
            canonical_form(&serde_json::from_str(schema).unwrap(), "", &mut out);
            out
        };
        assert_eq!(form(r#"{"type":"long","logicalType":"timestamp-millis"}"#), r#""long""#);
        assert_eq!(
            form(
                r#"{"type":"record","name":"R","namespace":"a.b","fields":[{"name":"x","default":1,"type":
                {"type":"enum","name":"E","symbols":["A"]}},{"name":"y","type":"E"},{"type":{"type":"map","values":"c.F"},"name":"z"}]}"#
            ),
            r#"{"name":"a.b.R","type":"record","fields":[{"name":"x","type":{"name":"a.b.E","type":"enum","symbols":["A"]}},{"name":"y","type":"a.b.E"},{"name":"z","type":{"type":"map","values":"c.F"}}]}"#
        );
    }
}
