//! Files that are broken, cut, empty, or something else: an error with the place, or a reject, and never a panic.

use rand::RngExt;

use super::*;

/// What a replay of these bytes says: how many records and rejects, or the error.
fn said(name: &str, bytes: &[u8]) -> Result<(u64, u64), String> {
    let folder = Folder::new();
    let input = folder.write(name, bytes);
    let run = replay(&folder, &input, "a", "ndjson", &settings(&wide_rules()));
    let run = run.map(|summary| (summary.records, summary.rejected()));
    if run.is_err() {
        assert_eq!(folder.names(), [name], "nothing is left behind");
    }
    run.map_err(|error| error.to_string().replace(folder.0.to_str().unwrap(), ""))
}

fn refused(name: &str, bytes: &[u8], parts: &[&str]) {
    let text = said(name, bytes).expect_err(name);
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
}

fn good(format: &str) -> (Vec<u8>, u64) {
    let folder = Folder::new();
    let (_, rows) = dirty_rows(11, 300);
    let path = write_rows(&folder, &format!("clicks.{format}"), &rows);
    (std::fs::read(path).unwrap(), rows.len() as u64)
}

#[test]
fn empty_and_foreign_files() {
    assert_eq!(said("a.ndjson", b""), Ok((0, 0)));
    assert_eq!(said("a.ndjson", b"\n \n\r\n"), Ok((0, 0)));
    refused("a.avro", b"", &["/a.avro: damaged at its header", "the file ends here"]);
    refused("a.avro", b"not at all", &["it is no Avro container file"]);
    refused("a.parquet", b"", &["/a.parquet: damaged at its footer"]);
    refused("a.parquet", b"PAR1 and then PAR1", &["/a.parquet: damaged at its footer"]);
    refused("a.ndjson.zst", b"{}", &["/a.ndjson.zst: damaged at line 1"]);
    // A format under another's name.
    for (name, format) in [("a.avro", "parquet"), ("a.parquet", "avro"), ("a.ndjson.zst", "ndjson")] {
        assert!(said(name, &good(format).0).is_err(), "{format} as {name}");
    }
    let (bytes, _) = good("avro");
    assert!(said("a.ndjson", &bytes).is_ok_and(|(records, rejects)| records == rejects), "lines, none of them good");
}

#[test]
fn lines_that_are_none_are_rejects() {
    let click = r#"{"event_id":"a","customer_id":"ana","event_time":1,"kind":"LOGIN"}"#;
    for line in [
        "{",
        "[]",
        "\u{feff}{}",
        r#"{"event_id":"a","customer_id":"ana","event_time":1}"#,
        r#"{"event_id":"a","customer_id":"ana","event_time":99999999999999999999,"kind":"LOGIN"}"#,
        r#"{"event_id":"a","customer_id":"ana","event_time":1,"kind":"LOGIN","partition":2147483648}"#,
        r#"{"event_id":"a","customer_id":"ana","event_time":1,"kind":"LOGIN","offset":1.5}"#,
        r#"{"event_id":"a","customer_id":"ana","event_time":1,"kind":"LOGIN","record_time":"now"}"#,
        r#"{"event_id":"a","customer_id":"ana","event_time":1,"kind":"LOGIN","key":7}"#,
    ] {
        assert_eq!(said("a.ndjson", format!("{line}\n{click}\n").as_bytes()), Ok((2, 1)), "{line}");
    }
    let mut bytes = b"{\"event_id\":\"\xff\xfe\"}\n\0\0\n".to_vec();
    bytes.extend_from_slice(click.as_bytes());
    assert_eq!(said("a.ndjson", &bytes), Ok((3, 2)), "bytes that are no text");
    let long = format!("{}\n{click}\n", "x".repeat(40 << 20));
    assert_eq!(said("a.ndjson", long.as_bytes()), Ok((2, 1)), "a line too long");
    assert_eq!(said("a.ndjson", &click.as_bytes()[..40]), Ok((1, 1)), "a line that ends in its middle");
}

#[test]
fn offsets_must_rise() {
    let click = |more: &str| format!(r#"{{"event_id":"a","customer_id":"ana","event_time":1,"kind":"LOGIN"{more}}}"#);
    let at = |partition: i64, offset: i64| click(&format!(r#","partition":{partition},"offset":{offset}"#));
    let file = |lines: &[String]| lines.join("\n").into_bytes();
    assert_eq!(said("a.ndjson", &file(&[at(0, 5), at(1, 3), at(0, 9), at(1, 4)])), Ok((4, 0)));
    assert_eq!(said("a.ndjson", &file(&["x".into(), "y".into(), at(0, 0), "z".into(), at(0, 1)])), Ok((5, 3)));
    let rise = "offset 5 of partition 0 comes after offset 5; the offsets of a partition must rise";
    refused("a.ndjson", &file(&[at(0, 5), at(1, 5), at(0, 5)]), &["/a.ndjson, line 3: ", rise]);
    refused("a.ndjson", &file(&[at(0, 5), at(0, 4)]), &["offset 4 of partition 0 comes after offset 5"]);
    refused("a.ndjson", &file(&[at(0, 5), click("")]), &["line 2: has no offset, and records before it have one"]);
    refused("a.ndjson", &file(&[click(""), at(0, 5)]), &["line 2: has offset 5, and records before it have none"]);
    refused("a.ndjson", &file(&[at(0, i64::MAX)]), &["offset 9223372036854775807 is too large"]);
    let many: Vec<String> = (0..=replay::PARTITIONS_MAX as i64).map(|partition| at(partition, 0)).collect();
    refused("a.ndjson", &file(&many), &["more than 10000 partitions"]);
}

#[test]
fn what_ends_in_its_middle_is_an_error_with_the_place() {
    for format in ["avro", "parquet", "ndjson.zst"] {
        let (bytes, count) = good(format);
        let name = format!("a.{format}");
        assert_eq!(said(&name, &bytes).map(|(records, _)| records), Ok(count));
        for cut in [1, 7, bytes.len() / 2, bytes.len() - 1] {
            refused(&name, &bytes[..bytes.len() - cut], &["damaged at "]);
        }
        // One that is continued is damaged too, but for lines.
        let twice = [bytes.as_slice(), &bytes[..bytes.len() / 2]].concat();
        assert!(said(&name, &twice).is_err(), "{format}");
    }
}

/// Whichever bytes are another, the answer is an error or a result: no panic, no endless loop, no memory without end.
#[test]
fn flipped_bytes_never_end_the_process() {
    let (mut errors, mut results) = (0, 0);
    for format in ["avro", "parquet", "ndjson.zst", "ndjson"] {
        let (bytes, _) = good(format);
        let mut rng = rng(5);
        for _ in 0..150 {
            let mut bytes = bytes.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            match said(&format!("a.{format}"), &bytes) {
                Ok(_) => results += 1,
                Err(_) => errors += 1,
            }
        }
    }
    assert!(errors > 100 && results > 100, "{errors} errors, {results} results");
}

fn avro_file(schema: &str, records: &[apache_avro::types::Value]) -> Vec<u8> {
    limit_the_oracle();
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new());
    for record in records {
        writer.append(record.clone()).unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn avro_by_other_schemas() {
    use apache_avro::types::Value as Avro;
    let record = |fields: &[(&str, Avro)]| {
        Avro::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    };
    let schema = |fields: &str| format!(r#"{{"type":"record","name":"Event","fields":[{fields}]}}"#);
    let own = schema(
        r#"{"name":"when","type":"string"},{"name":"event_time","type":"long"},{"name":"kind","type":"string"},
           {"name":"event_id","type":"string"},{"name":"customer_id","type":"string"},{"name":"partition","type":"long"}"#,
    );
    let click = |id: &str, kind: &str, partition: i64| {
        record(&[
            ("when", Avro::String("x".into())),
            ("event_time", Avro::Long(5)),
            ("kind", Avro::String(kind.into())),
            ("event_id", Avro::String(id.into())),
            ("customer_id", Avro::String("ana".into())),
            ("partition", Avro::Long(partition)),
        ])
    };
    let clicks = [click("a", "LOGIN", 3), click("b", "DANCE", 3), click("", "LOGIN", 3), click("c", "LOGIN", -1)];
    assert_eq!(said("a.avro", &avro_file(&own, &clicks)), Ok((4, 3)));
    let no_kind = schema(r#"{"name":"event_time","type":"long"},{"name":"event_id","type":"string"}"#);
    refused("a.avro", &avro_file(&no_kind, &[]), &["cannot be read as a ClickEvent: the field kind is missing"]);
    let wrong = own.replace(r#""partition","type":"long""#, r#""partition","type":"string""#);
    refused("a.avro", &avro_file(&wrong, &[]), &["the field partition has another type"]);
    refused("a.avro", &avro_file(r#""string""#, &[Avro::String("x".into())]), &["it is no record"]);
}

#[test]
fn parquet_by_other_schemas() {
    let columns = |message: &str| {
        use parquet::file::writer::SerializedFileWriter;
        let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
        let mut bytes = Vec::new();
        SerializedFileWriter::new(&mut bytes, schema, std::sync::Arc::default()).unwrap().close().unwrap();
        bytes
    };
    let base = "required binary event_id (STRING); required binary kind (STRING);";
    let message = |more: &str| columns(&format!("message m {{ {base} {more} }}"));
    assert_eq!(said("a.parquet", &message("optional int64 event_time;")), Ok((0, 0)));
    refused("a.parquet", &message(""), &["no clicks: there is no column event_time"]);
    let wrong = "column event_time is DOUBLE, must be a whole number or a timestamp";
    refused("a.parquet", &message("required double event_time;"), &[wrong]);
    refused("a.parquet", &message("required int96 event_time;"), &["column event_time is INT96"]);
    refused(
        "a.parquet",
        &message("required int64 event_time; required int32 name;"),
        &["column name is INT32, must be text"],
    );
    refused("a.parquet", &message("repeated int64 event_time;"), &["column event_time is a list"]);
    let map = "required int64 event_time; optional group context (MAP) { repeated group key_value { required binary key; \
               optional binary value; } }";
    refused("a.parquet", &message(map), &["column context is a map of BYTE_ARRAY to BYTE_ARRAY"]);
    let nested = "required int64 event_time; optional group attributes (LIST) { repeated group list { optional binary element; } }";
    refused("a.parquet", &message(nested), &["column attributes is nested otherwise"]);
}
