//! Files that are broken, cut, empty, or something else: an error with the place, or a reject, and never a panic.

use std::sync::{Arc, Mutex};

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

/// All that reaches an output that is not taken back, such as a topic or the standard output.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An error is no end: nobody knows that what is open there would not have gone on.
#[test]
fn a_read_error_closes_no_session() {
    let (bytes, _) = good("ndjson.zst");
    let folder = Folder::new();
    let whole = folder.write("whole.ndjson.zst", &bytes);
    let cut = folder.write("cut.ndjson.zst", &bytes[..bytes.len() - 1]);
    let closed = |path: &Path, close_open: bool| {
        let mut resolver = Resolver::new(None).unwrap();
        let input = Input::File(Reader::open(&place(path), resolver.schemas_mut()).unwrap());
        let shared = Shared::default();
        let stream = table::Writer::create::<CustomerEmbedding>(Target::Stream(Box::new(shared.clone()))).unwrap();
        let outputs = Outputs { embeddings: Sink::File(Box::new(stream)), sessions: Sink::Nowhere, rejected: None };
        let stop = Stop::new();
        let watch = Watch { clock: Clock::start(), stop: &stop, progress: &mut |_| () };
        let settings = Settings { close_open, epoch_events: 20, ..settings(&wide_rules()) };
        let run = replay::run(&settings, &mut FakeModel::small(), &mut resolver, input, outputs, watch);
        let lines = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap().lines().count();
        (run.is_ok(), lines)
    };
    let (whole_open, whole_closed) = (closed(&whole, false), closed(&whole, true));
    assert!(whole_open.0 && whole_closed.0 && whole_open.1 < whole_closed.1, "{whole_open:?} {whole_closed:?}");
    assert!(!closed(&cut, true).0);
    assert_eq!(closed(&cut, true), closed(&cut, false));
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
        let schema = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
        let mut bytes = Vec::new();
        SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap().close().unwrap();
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
    // Numbers that are not what they say when they are read as they stand, named by the column.
    let time = "required int64 event_time;";
    for (column, part) in [
        ("required int32 event_time (DATE);", "column event_time is DATE, must be a whole number or a timestamp"),
        ("required int64 event_time (DECIMAL(18,2));", "column event_time is DECIMAL"),
        ("required int64 event_time (TIME_MICROS);", "column event_time is TIME"),
        ("required int64 event_time; optional binary name (DECIMAL(9,2));", "column name is DECIMAL, must be text"),
    ] {
        refused("a.parquet", &message(column), &[part]);
    }
    for (member, found) in [
        ("int32 x (DATE)", "DATE"),
        ("int32 x (TIME_MILLIS)", "TIME"),
        ("int64 x (DECIMAL(18,2))", "DECIMAL"),
        ("int64 x (TIME(NANOS,true))", "TIME"),
        ("binary x (DECIMAL(18,2))", "DECIMAL"),
        ("fixed_len_byte_array(9) x (DECIMAL(18,2))", "DECIMAL"),
        ("fixed_len_byte_array(2) x (FLOAT16)", "FLOAT16"),
        ("int96 x", "INT96"),
    ] {
        for of in ["context", "attributes"] {
            let columns = message(&format!("{time} optional group {of} {{ optional {member}; }}"));
            refused("a.parquet", &columns, &[&format!("column {of}.x is {found}, must be")]);
        }
    }
    let decimals = "optional group context (MAP) { repeated group key_value { required binary key (STRING); optional int64 \
                    value (DECIMAL(18,2)); } }";
    refused("a.parquet", &message(&format!("{time} {decimals}")), &["column context (its values) is DECIMAL"]);
    let nested = "required int64 event_time; optional group attributes (LIST) { repeated group list { optional binary element; } }";
    refused("a.parquet", &message(nested), &["column attributes is nested otherwise"]);
}

/// Files of before the logical types say by the converted type alone what a number is.
#[test]
fn parquet_times_and_unsigned_numbers_of_old_files() {
    use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    let message = "message m { required binary event_id (UTF8); required binary kind (UTF8); required int64 event_time \
                   (TIMESTAMP_MICROS); required int32 partition (UINT_16); required int64 record_time (TIMESTAMP_MILLIS); \
                   required group context { required int32 x (UINT_32); } }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut text = |text: &str| {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[ByteArray::from(text)], None, None).unwrap();
        column.close().unwrap();
    };
    text("a");
    text("LOGIN");
    for number in [1_767_225_600_123_456, 3, 1_767_225_600_124, i64::from(u32::MAX)] {
        let mut column = group.next_column().unwrap().unwrap();
        match i32::try_from(number) {
            Ok(narrow) => column.typed::<Int32Type>().write_batch(&[narrow], None, None),
            Err(_) if number == i64::from(u32::MAX) => column.typed::<Int32Type>().write_batch(&[-1], None, None),
            Err(_) => column.typed::<Int64Type>().write_batch(&[number], None, None),
        }
        .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let folder = Folder::new();
    let path = folder.write("a.parquet", bytes);
    let mut schemas = Schemas::released();
    let mut reader = Reader::open(&place(&path), &mut schemas).unwrap();
    let limits = dce::files::clicks::Limits { records_max: 10, bytes_max: 1 << 20 };
    let chunk = reader.next(limits).unwrap().unwrap();
    let record = chunk.records().next().unwrap();
    assert_eq!(record.fault, None);
    assert_eq!((record.event_time, record.timestamp_ms), (Some(1_767_225_600_123), Some(1_767_225_600_124)));
    assert_eq!(record.position.partition, 3);
    let click::Input::Click(click) = dce::wire::decode(record.value.unwrap(), &schemas).unwrap() else { panic!() };
    assert_eq!(click.context, [("x".into(), f64::from(u32::MAX))]);
}
