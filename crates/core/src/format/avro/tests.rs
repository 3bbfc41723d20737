use super::FORMAT;
use crate::avro::decode::Decoder;
use crate::avro::parse_lenient;
use crate::format::test_data::{build, data, encode, expected, open as open_bytes, rows, texts};
use crate::format::{Rows, rows_of_parts};
use crate::kind::Kind;
use arrow::array::RecordBatch;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

#[test]
fn every_third_party_file_gives_its_records_or_a_clear_error() {
    for line in expected("avro/expected.jsonl") {
        let name = line["file"].as_str().unwrap();
        let Some(path) = data("avro") else { return };
        let bytes = std::fs::read(path.join(name)).unwrap();
        match (texts(&FORMAT, &bytes), line["records"].as_u64()) {
            (Ok(texts), Some(records)) => {
                assert_eq!(texts.len() as u64, records, "{name}");
                let wrong = texts.iter().find(|text| !crate::json::scan::is_json(text));
                assert_eq!(wrong, None, "{name}");
            }
            (Err(error), None) => assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{name}: {error}"),
            (read, records) => panic!("{name}: {records:?} expected, {read:?} read"),
        }
    }
}

/// Reads the file with the reference reader.
fn reference(bytes: &[u8]) -> Vec<apache_avro::types::Value> {
    apache_avro::Reader::new(bytes).unwrap().map(Result::unwrap).collect()
}

fn sample(kind: Kind) -> RecordBatch {
    let texts = rows(kind).new_tree(&mut TestRunner::deterministic()).unwrap().current();
    build(kind, &texts)
}

#[test]
fn another_reader_reads_what_is_written() {
    for kind in Kind::ALL {
        let batch = sample(kind);
        let bytes = encode(&FORMAT, std::slice::from_ref(&batch));
        assert_eq!(reference(&bytes).len(), batch.num_rows());
        assert_eq!(open_bytes(&FORMAT, &bytes).unwrap().schema, Some(kind.schema()));
        assert_eq!(bytes, encode(&FORMAT, &[batch]), "the same rows are the same bytes");
    }
}

/// Returns a file of one schema with these values, as another program writes it.
fn foreign(schema: &str, values: Vec<apache_avro::types::Value>) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, vec![]).unwrap();
    for value in values {
        writer.append_value(value).unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn values_that_are_no_records_are_wrapped_and_a_schema_may_recur() {
    use apache_avro::types::Value;
    let bytes = foreign("\"long\"", vec![Value::Long(-3), Value::Long(i64::MAX)]);
    assert_eq!(texts(&FORMAT, &bytes).unwrap(), ["{\"value\":-3}", "{\"value\":9223372036854775807}"]);
    let list =
        r#"{"type":"record","name":"n","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","n"]}]}"#;
    let node = |v, next: Option<Value>| {
        let next = next.map_or(Value::Union(0, Box::new(Value::Null)), |next| Value::Union(1, Box::new(next)));
        Value::Record(vec![("v".into(), Value::Int(v)), ("next".into(), next)])
    };
    let bytes = foreign(list, vec![node(1, Some(node(2, None)))]);
    assert_eq!(texts(&FORMAT, &bytes).unwrap(), [r#"{"v":1,"next":{"v":2}}"#]);
}

#[test]
fn logical_types_are_written_as_their_meaning() {
    let types = [
        (r#"{"type":"int","logicalType":"date"}"#, &[1u8][..], "\"1969-12-31\""),
        (r#"{"type":"int","logicalType":"time-millis"}"#, &[2], "\"00:00:00.001\""),
        (r#"{"type":"long","logicalType":"timestamp-nanos"}"#, &[2], "\"1970-01-01T00:00:00.000000001Z\""),
        (r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#, &[2, 0xfb], "-0.05"),
        (r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":0}"#, &[4, 1, 0], "256"),
        (r#"{"type":"string","logicalType":"nonsense"}"#, &[2, b'x'], "\"x\""),
        (
            r#"{"type":"fixed","name":"f","size":12,"logicalType":"duration"}"#,
            &[1, 0, 0, 0, 2, 0, 0, 0, 220, 5, 0, 0],
            "\"P1M2DT1.500S\"",
        ),
        (r#"{"type":"array","items":"null"}"#, &[3, 0, 0], "[null,null]"),
        (r#"{"type":"map","values":["null","boolean"]}"#, &[2, 2, b'k', 2, 1, 0], r#"{"k":true}"#),
        (r#"{"type":"enum","name":"e","symbols":["A","B"]}"#, &[2], "\"B\""),
    ];
    for (schema, bytes, expected) in types {
        let mut out = String::new();
        let mut input = bytes;
        Decoder::of(&parse_lenient(schema).unwrap()).decode(&mut input, &mut out).unwrap();
        assert_eq!((out, input), (format!("{{\"value\":{expected}}}"), &[][..]), "{schema}");
    }
}

#[test]
fn hostile_bytes_end_in_an_error_in_bounded_memory_and_time() {
    let decode = |schema: &str, mut bytes: &[u8]| {
        Decoder::of(&parse_lenient(schema).unwrap()).decode(&mut bytes, &mut String::new()).unwrap_err()
    };
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(decode(r#"{"type":"array","items":"null"}"#, &huge), "a record is longer than 64 MiB as text");
    assert_eq!(decode("\"bytes\"", &huge), "unexpected end of the value");
    assert_eq!(decode(r#"["null","int"]"#, &[4]), "expected a branch of the union, found an index outside of it");
    assert_eq!(decode("\"string\"", &[2, 0xff]), "expected a string in UTF-8, found other bytes");
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":9}"#;
    let long = [&[0x90, 0x4e][..], &[1; 5_000]].concat();
    assert_eq!(decode(decimal, &long), "a decimal is longer than 4,096 bytes");
    let endless = r#"{"type":"record","name":"r","fields":[{"name":"r","type":"r"}]}"#;
    assert_eq!(decode(endless, &[]), "values are nested too deeply");
    for schema in ["", "7", "\"unknown\"", "{}", r#"{"type":"record","name":"r"}"#, r#"{"type":"fixed","name":"f"}"#] {
        assert!(parse_lenient(schema).is_err(), "{schema}");
    }
    assert!(parse_lenient(&"[".repeat(10_000)).is_err());
}

#[test]
fn a_file_cut_or_changed_anywhere_is_an_error_or_whole_blocks() {
    let batch = sample(Kind::Dead);
    let whole = encode(&FORMAT, &[batch.clone(), batch]);
    let count = texts(&FORMAT, &whole).unwrap().len();
    let mut boundaries = 0;
    for end in 0..whole.len() {
        match texts(&FORMAT, &whole[..end]) {
            Ok(texts) => {
                assert!(texts.is_empty() || texts.len() * 2 == count, "{end}");
                boundaries += 1;
            }
            Err(error) => assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{end}: {error}"),
        }
    }
    assert_eq!(boundaries, 2, "after the header and after the first block: Avro has no end to prove");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        if let Err(error) = texts(&FORMAT, &bytes) {
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{at}: {error}");
        }
    }
}

#[test]
fn what_stands_before_a_corrupt_record_is_given() {
    let whole = encode(&FORMAT, &[sample(Kind::Metric), sample(Kind::Metric)]);
    let opened = open_bytes(&FORMAT, &whole[..whole.len() - 1]).unwrap();
    let mut found = rows_of_parts(opened.parts);
    assert!(matches!(found.next(), Some(Ok(Rows::Text(records))) if !records.rows.is_empty()));
    assert!(matches!(found.next(), Some(Err(_))));
    assert!(found.next().is_none());
}
