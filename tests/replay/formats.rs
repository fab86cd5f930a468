//! One stream in every format, in and out.

use apache_avro::Reader as AvroReader;
use dce::types::{ClickKind, EventTime};
use dce::wire::click::Input;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use proptest::prelude::*;

use super::*;

#[test]
fn clicks_give_the_same_whatever_the_format() {
    for seed in 300..315 {
        let folder = Folder::new();
        let rules = tight_rules(seed);
        let (_, mut rows) = dirty_rows(seed, 150);
        // An erasure, a TICK, a key that is another's, and one that is null.
        let far = rows.last().unwrap().record_time.unwrap();
        rows[50].input = None;
        rows[60].key = Some("somebody".into());
        rows[70].key = None;
        rows[80].input = Some(Input::Tick(EventTime::parse(far).unwrap()));
        rows[80].record_time = Some(far);
        let mut runs = Vec::new();
        for format in FORMATS {
            let input = write_rows(&folder, &format!("clicks.{format}"), &rows);
            let summary = replay(&folder, &input, format, "ndjson", &settings(&rules)).unwrap();
            assert_eq!((summary.records, summary.erased), (rows.len() as u64, 1), "{format}");
            assert_eq!(summary.rejects["key"], 2, "{format}");
            let mut found = results(&folder, format);
            for line in &mut found.rejected {
                // The bytes are those of the format.
                line.as_object_mut().unwrap().retain(|name, _| !name.starts_with("value"));
            }
            runs.push(found);
        }
        assert!(!runs[0].embeddings.is_empty() && !runs[0].rejected.is_empty());
        for (format, run) in FORMATS.iter().zip(&runs) {
            assert_eq!(*run, runs[0], "seed {seed}: {format}");
        }
    }
}

/// A row that is no click stands where its line would, so that the rows after it have the same offsets.
#[test]
fn a_refused_row_takes_the_same_place_in_parquet() {
    use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    let rows = [("a", "LOGIN", 1), ("b", "DANCE", 1), ("c", "LOGOUT", 1), ("d", "LOGIN", 0), ("", "ACTION", 1)];
    let folder = Folder::new();
    let message = "message m { required binary event_id (STRING); required binary customer_id (STRING);
        required int64 event_time; required binary kind (STRING); required int32 partition; }";
    let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
    let file = std::fs::File::create(folder.path("clicks.parquet")).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, std::sync::Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts = |text: fn(&(&'static str, &'static str, i32)) -> &'static str| -> Vec<ByteArray> {
        rows.iter().map(|row| ByteArray::from(text(row))).collect()
    };
    for column in 0..5 {
        let mut writer = group.next_column().unwrap().unwrap();
        match column {
            0 => writer.typed::<ByteArrayType>().write_batch(&texts(|row| row.0), None, None),
            1 => writer.typed::<ByteArrayType>().write_batch(&texts(|_| "ana"), None, None),
            2 => writer.typed::<Int64Type>().write_batch(&[1, 2, 3, 4, 5], None, None),
            3 => writer.typed::<ByteArrayType>().write_batch(&texts(|row| row.1), None, None),
            _ => writer.typed::<Int32Type>().write_batch(&rows.map(|row| row.2), None, None),
        }
        .unwrap();
        writer.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let lines: Vec<String> = (1..)
        .zip(rows)
        .map(|(time, (id, kind, partition))| {
            format!(
                r#"{{"event_id":"{id}","customer_id":"ana","event_time":{time},"kind":"{kind}","partition":{partition}}}"#
            )
        })
        .collect();
    folder.write("clicks.ndjson", lines.join("\n"));
    let places = ["ndjson", "parquet"].map(|format| {
        let input = folder.path(&format!("clicks.{format}"));
        replay(&folder, &input, format, "ndjson", &settings(&wide_rules())).unwrap();
        let found = results(&folder, format);
        let place = |value: &Value| (value["source_partition"].as_i64(), value["source_offset"].as_i64());
        let refused: Vec<_> = found.rejected.iter().map(|line| (place(line), line["reason"].clone())).collect();
        (found.embeddings.iter().map(place).collect::<Vec<_>>(), refused)
    });
    assert_eq!(places[0].0, [(Some(1), Some(2))]);
    assert_eq!(places[0].1.len(), 2);
    assert_eq!(places[1], places[0]);
}

/// Numbers as JSON writes those of the wire: a float by its own shortest digits.
fn json_of(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => (*flag).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) | Field::TimestampMillis(number) => (*number).into(),
        Field::Float(number) => serde_json::from_str(&serde_json::to_string(number).unwrap()).unwrap(),
        Field::Double(number) => (*number).into(),
        Field::Str(text) => text.as_str().into(),
        Field::ListInternal(list) => list.elements().iter().map(json_of).collect(),
        Field::MapInternal(map) => map
            .entries()
            .iter()
            .map(|(key, value)| (json_of(key).as_str().unwrap().to_owned(), json_of(value)))
            .collect(),
        other => panic!("not of our schemas: {other:?}"),
    }
}

fn parquet_rows(path: &Path) -> Vec<Value> {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        row.get_column_iter().map(|(name, field)| (name.clone(), json_of(field))).collect()
    });
    rows.collect()
}

fn avro_value(value: apache_avro::types::Value) -> Value {
    use apache_avro::types::Value as Avro;
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(flag) => flag.into(),
        Avro::Int(number) => number.into(),
        Avro::Long(number) | Avro::TimestampMillis(number) => number.into(),
        Avro::Float(number) => serde_json::from_str(&serde_json::to_string(&number).unwrap()).unwrap(),
        Avro::Double(number) => number.into(),
        Avro::String(text) | Avro::Enum(_, text) => text.into(),
        Avro::Union(_, inner) => avro_value(*inner),
        Avro::Array(items) => items.into_iter().map(avro_value).collect(),
        Avro::Map(items) => items.into_iter().map(|(name, item)| (name, avro_value(item))).collect(),
        Avro::Record(fields) => fields.into_iter().map(|(name, item)| (name, avro_value(item))).collect(),
        other => panic!("not of our schemas: {other:?}"),
    }
}

fn avro_rows(path: &Path) -> Vec<Value> {
    limit_the_oracle();
    let reader = AvroReader::new(std::fs::File::open(path).unwrap()).unwrap();
    reader.map(|value| avro_value(value.unwrap())).collect()
}

#[test]
fn results_read_back_the_same_from_every_format() {
    let folder = Folder::new();
    let rules = tight_rules(3);
    let (_, rows) = dirty_rows(7, 200);
    let input = write_rows(&folder, "clicks.avro", &rows);
    for format in FORMATS {
        replay(&folder, &input, format, format, &settings(&rules)).unwrap();
    }
    let file = |format: &str, kind: &str| folder.path(&format!("{format}-{kind}.{format}"));
    for kind in ["embeddings", "sessions"] {
        let want = lines(&file("ndjson", kind));
        assert!(want.len() > 50);
        let packed = std::fs::read(file("ndjson.zst", kind)).unwrap();
        let unpacked = String::from_utf8(zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
        let zstd = unpacked.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        for (format, mut found) in [
            ("avro", avro_rows(&file("avro", kind))),
            ("parquet", parquet_rows(&file("parquet", kind))),
            ("ndjson.zst", zstd),
        ] {
            assert_eq!(found.len(), want.len(), "{format}");
            for (found, want) in found.iter_mut().zip(&want) {
                if kind == "embeddings" {
                    found["emitted_at"] = want["emitted_at"].clone();
                }
                assert_eq!(found, want, "{kind}.{format}");
            }
        }
    }
    // And as the records that they are.
    let schemas = Schemas::released();
    for line in std::fs::read_to_string(file("ndjson", "embeddings")).unwrap().lines() {
        CustomerEmbedding::decode(line.as_bytes(), &schemas).unwrap();
    }
}

#[test]
fn long_files_come_in_many_blocks() {
    let folder = Folder::new();
    let (_, rows) = dirty_rows(8, 6_000);
    for format in FORMATS {
        let path = write_rows(&folder, &format!("clicks.{format}"), &rows);
        let mut reader = Reader::open(&place(&path), &mut Schemas::released()).unwrap();
        let limits = dce::files::clicks::Limits { records_max: 1_000, bytes_max: usize::MAX };
        let mut positions = Vec::new();
        while let Some(chunk) = reader.next(limits).unwrap() {
            positions.extend(chunk.records().map(|record| Some(record.position)));
        }
        assert!(positions.iter().eq(rows.iter().map(|row| &row.position)), "{format}");
    }
}

/// Scores are maps of lists, which no model gives yet.
#[test]
fn scores_and_labels_keep_their_shape_in_parquet() {
    let folder = Folder::new();
    let input = folder.write(
        "clicks.ndjson",
        r#"{"event_id":"a","customer_id":"ana","event_time":1,"kind":"LOGIN"}
           {"event_id":"b","customer_id":"ana","event_time":2,"kind":"LOGOUT"}"#,
    );
    replay(&folder, &input, "a", "ndjson", &settings(&wide_rules())).unwrap();
    let line = std::fs::read(folder.path("a-embeddings.ndjson")).unwrap();
    let record = CustomerEmbedding::decode(line.trim_ascii_end(), &Schemas::released()).unwrap();
    let scores = |pairs: &[(&str, &[f32])]| pairs.iter().map(|(name, list)| ((*name).into(), list.to_vec())).collect();
    let records = [
        CustomerEmbedding { scores: scores(&[]), embedding: vec![], ..record.clone() },
        CustomerEmbedding { scores: scores(&[("a", &[]), ("b", &[0.5])]), ..record.clone() },
        CustomerEmbedding {
            scores: scores(&[("a", &[0.25, 0.75, 1.0]), ("b", &[]), ("c", &[0.1, 0.2])]),
            ..record.clone()
        },
        CustomerEmbedding { labels: [("x".into(), "1".into()), ("y".into(), "".into())].into(), ..record.clone() },
    ];
    let broken = CustomerEmbedding { scores: scores(&[("a", &[1.0, f32::NAN])]), ..record };
    let path = folder.path("e.parquet");
    let mut writer = table::Writer::create::<CustomerEmbedding>(target(&path).unwrap()).unwrap();
    let mut want = Vec::new();
    for record in &records {
        writer.write(record).unwrap();
        assert!(matches!(writer.write(&broken), Err(table::WriteError::Row(_))), "and leaves nothing");
        let mut json = Vec::new();
        record.encode_into(dce::config::Encoding::Json, &mut json).unwrap();
        want.push(serde_json::from_slice::<Value>(&json).unwrap());
    }
    writer.finish().unwrap();
    assert_eq!(parquet_rows(&path), want);
}

fn text() -> impl Strategy<Value = Option<Cow<'static, str>>> {
    proptest::option::of("[a-zé\u{1F600}\"\\\\ ]{0,9}".prop_map(Cow::Owned))
}

prop_compose! {
    fn row()(
        event_id in "[a-z]{1,9}",
        (customer_id, name, channel, session_id, device_id) in (text(), text(), text(), text(), text()),
        event_time in 0..i64::MAX,
        kind in proptest::sample::select(vec![ClickKind::Login, ClickKind::Logout, ClickKind::PageView, ClickKind::Action]),
        context in proptest::collection::btree_map("[a-z]{0,4}", -1e300..1e300, 0..4),
        attributes in proptest::collection::btree_map("[a-z]{0,4}", "[a-zé\"]{0,6}", 0..4),
        record_time in proptest::option::of(0..i64::MAX),
        key in text(),
        what in 0..10,
    ) -> Row<'static> {
        let time = EventTime::parse(event_time).unwrap();
        let click = click::ClickEvent {
            event_id: event_id.into(), customer_id, event_time: time, kind, name: name.unwrap_or_default(), channel,
            session_id, device_id,
            context: context.into_iter().map(|(name, number)| (name.into(), number)).collect(),
            attributes: attributes.into_iter().map(|(name, text)| (name.into(), text.into())).collect(),
        };
        let (input, key) = match what {
            0 => (None, Some("someone".into())),
            1 => (Some(Input::Tick(time)), key),
            _ => (Some(Input::Click(click)), key),
        };
        Row { input, position: None, record_time, key }
    }
}

proptest! {
    /// Whatever a row holds, each format gives back the same record of a topic.
    #[test]
    fn rows_come_back_as_they_were(rows in proptest::collection::vec(row(), 1..40), records_max in 1..50_usize) {
        let folder = Folder::new();
        let rows: Vec<Row<'_>> = (0..).zip(rows).map(|(at, row)| Row {
            position: Some(Position { partition: at % 3, offset: i64::from(at) }), ..row
        }).collect();
        for format in FORMATS {
            let path = write_rows(&folder, &format!("clicks.{format}"), &rows);
            let mut schemas = Schemas::released();
            let mut reader = Reader::open(&place(&path), &mut schemas).unwrap();
            let mut at = 0;
            let limits = dce::files::clicks::Limits { records_max, bytes_max: 2_000 };
            while let Some(chunk) = reader.next(limits).unwrap() {
                for record in chunk.records() {
                    let row = &rows[at];
                    at += 1;
                    prop_assert_eq!(record.fault, None);
                    prop_assert_eq!(Some(record.position), row.position);
                    prop_assert_eq!(record.timestamp_ms, row.record_time);
                    prop_assert_eq!(record.key, row.key.as_deref().map(str::as_bytes));
                    let input = record.value.map(|value| dce::wire::decode(value, &schemas).unwrap());
                    prop_assert_eq!(&input, &row.input, "{}", format);
                }
            }
            prop_assert_eq!(at, rows.len());
        }
    }
}
