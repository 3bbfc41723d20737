use super::writer::ROW_GROUP_ROWS;
use super::*;
use crate::format::properties::is_property;
use crate::format::rows_of_parts;
use crate::format::test_data::{data, encode, expected, open as open_bytes, rows, texts};
use crate::json::number::Decimal;
use crate::json::text::{is_text, unescape};
use crate::json::walk::{members, string_content};
use crate::kind::event::column;
use crate::parallel::{Parallelism, Work, WorkRunner};
use arrow::array::{AsArray, StringArray};
use proptest::prelude::*;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::sync::Arc;

/// Files that the library refuses though others read them: each violates the format, and is reported as corrupt.
const REFUSED: [&str; 3] =
    ["dict-page-offset-zero.parquet", "nation.dict-malformed.parquet", "repeated_no_annotation.parquet"];

#[test]
fn every_third_party_file_gives_its_rows_or_a_clear_error() {
    let (mut refused, lines) = (vec![], expected("parquet/expected.jsonl"));
    for line in &lines {
        let name = line["file"].as_str().unwrap().to_owned();
        let Some(path) = data("parquet") else { return };
        match texts(&FORMAT, &std::fs::read(path.join(&name)).unwrap()) {
            Ok(texts) => {
                // A file that pyarrow refuses for its schema still has rows.
                assert_eq!(texts.len() as u64, line["rows"].as_u64().unwrap_or(1), "{name}");
                let wrong = texts.iter().find(|text| !crate::json::scan::is_json(text));
                assert_eq!(wrong, None, "{name}");
            }
            Err(error) => {
                assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{name}: {error}");
                println!("{name}: {error}: {line}");
                refused.push(name);
            }
        }
    }
    assert!(lines.is_empty() || refused == REFUSED, "{refused:?}");
}

fn events() -> RecordBatch {
    let texts = rows(Kind::Event).new_tree(&mut TestRunner::deterministic()).unwrap().current();
    crate::format::test_data::build(Kind::Event, &texts)
}

#[test]
fn a_file_of_ours_gives_batches_of_its_kind() {
    let batch = events();
    let opened = open_bytes(&FORMAT, &encode(&FORMAT, std::slice::from_ref(&batch))).unwrap();
    assert_eq!(opened.schema, Some(Kind::Event.schema()));
    for rows in rows_of_parts(opened.parts) {
        let crate::format::Rows::Batch(read) = rows.unwrap() else { panic!("text") };
        assert_eq!(read, batch);
    }
}

#[test]
fn a_file_cut_or_changed_anywhere_is_rows_or_an_error_and_never_a_panic() {
    let whole = encode(&FORMAT, &[events()]);
    for end in 0..whole.len() {
        let error = texts(&FORMAT, &whole[..end]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{end}: {error}");
    }
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        if let Err(error) = texts(&FORMAT, &bytes) {
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{at}: {error}");
        }
    }
}

#[test]
fn bytes_come_out_with_each_row_group() {
    let batch = events();
    let mut writer = Writer::try_new(&batch.schema(), &EncodeOptions::default()).unwrap();
    let (mut out, mut rows) = (vec![], 0);
    while rows <= ROW_GROUP_ROWS {
        writer.encode(&batch, &mut out).unwrap();
        rows += batch.num_rows();
    }
    let before = out.len();
    writer.finish(&mut out).unwrap();
    assert!(before > 100 && out.len() > before);
    assert_eq!(texts(&FORMAT, &out).unwrap().len(), rows);
}

/// Does the last part first, in a thread.
struct InThreads;

impl WorkRunner for InThreads {
    fn run(&self, parts: Vec<Work>) -> crate::Result<()> {
        std::thread::scope(|scope| parts.into_iter().rev().for_each(|part| _ = scope.spawn(part)));
        Ok(())
    }

    fn count(&self) -> usize {
        4
    }
}

#[test]
fn columns_that_are_encoded_at_the_same_time_have_the_same_bytes() {
    let batch = events();
    let rows = 300usize.div_ceil(batch.num_rows());
    let many = arrow::compute::concat_batches(&batch.schema(), std::iter::repeat_n(&batch, rows)).unwrap();
    let bytes = |parallelism: Parallelism, property_columns| {
        let options = EncodeOptions { parallelism, property_columns, ..EncodeOptions::default() };
        let mut writer = Writer::try_new(&batch.schema(), &options).unwrap();
        let mut out = vec![];
        // Properties get columns once a row group is full. It cuts a batch.
        let full = if property_columns { ROW_GROUP_ROWS / many.num_rows() } else { 0 };
        for _ in 0..full + 3 {
            writer.encode(&many, &mut out).unwrap();
        }
        writer.encode(&batch, &mut out).unwrap();
        writer.finish(&mut out).unwrap();
        out
    };
    for property_columns in [false, true] {
        let parallel = bytes(Parallelism::of(Arc::new(InThreads)), property_columns);
        assert!(parallel == bytes(Parallelism::default(), property_columns));
    }
}

/// Values of properties: some fit a column, some do not.
fn value() -> impl Strategy<Value = String> {
    let texts = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0",
        "1.0",
        "1.50",
        "1e3",
        "1E-7",
        "1e400",
        "0.1000000000000000055",
        "12345678901234567890",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        r#""""#,
        r#""a""#,
        r#""\u0061\n\"""#,
        r#""\ud800""#,
        r#""\ud83d\ude00""#,
        r#""true""#,
        "[1, 2]",
        r#"{"a": {"b": 1.0}}"#,
    ];
    prop_oneof![
        proptest::sample::select(texts.to_vec()).prop_map(str::to_owned),
        proptest::num::f64::NORMAL.prop_map(|number| format!("{number:?}")),
        proptest::num::i64::ANY.prop_map(|number| number.to_string()),
    ]
}

fn objects() -> impl Strategy<Value = Vec<String>> {
    let names = ["a", "A", "b", r"\u0061", "c d", "x.y", "event_id", "Origin", "date", "raw", "", "caf\u{e9}"];
    let member =
        (proptest::sample::select(names.to_vec()), value()).prop_map(|(name, value)| format!("\"{name}\" : {value}"));
    let object = proptest::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(", ")));
    proptest::collection::vec(object, 1..40)
}

/// A value as the model compares it: numbers by value, strings by content.
#[derive(Debug, PartialEq)]
enum Model {
    Number(Decimal),
    Text(String),
    Other(String),
}

/// Returns the members of an object by name; those of one name in their order.
fn members_of(object: &str) -> Vec<(String, Model)> {
    let mut found = vec![];
    members(object, |key, value| {
        let value = match (string_content(value).filter(|content| is_text(content)), Decimal::parse(value)) {
            (Some(content), _) => Model::Text(unescape(content).into_owned()),
            (None, Some(number)) => Model::Number(number),
            (None, None) => Model::Other(value.to_owned()),
        };
        found.push((unescape(key).into_owned(), value));
        true
    });
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

/// Writes events with columns for properties; returns the file.
fn with_columns(batches: &[RecordBatch]) -> Vec<u8> {
    let options = EncodeOptions { property_columns: true, ..EncodeOptions::default() };
    let mut writer = Writer::try_new(&batches[0].schema(), &options).unwrap();
    let mut out = vec![];
    batches.iter().for_each(|batch| writer.encode(batch, &mut out).unwrap());
    writer.finish(&mut out).unwrap();
    out
}

fn events_with(objects: &[String]) -> RecordBatch {
    let rows = arrow::array::UInt32Array::from(vec![0; objects.len()]);
    let batch = arrow::compute::take_record_batch(&events(), &rows).unwrap();
    let mut columns = batch.columns().to_vec();
    columns[column::PROPERTIES] = Arc::new(StringArray::from_iter_values(objects));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn read(file: &[u8]) -> RecordBatch {
    let opened = open_bytes(&FORMAT, file).unwrap();
    let rows = rows_of_parts(opened.parts).map(|rows| match rows.unwrap() {
        crate::format::Rows::Batch(batch) => batch,
        crate::format::Rows::Text(_) => panic!("text"),
    });
    let batches: Vec<RecordBatch> = rows.collect();
    arrow::compute::concat_batches(&Kind::Event.schema(), &batches).unwrap()
}

proptest! {
    #![proptest_config(crate::test_cases::cases(64))]

    #[test]
    fn properties_with_columns_come_back_with_equal_values(objects in objects(), cut in 0usize..40) {
        let batch = events_with(&objects);
        let cut = cut.min(batch.num_rows());
        let file = with_columns(&[batch.slice(0, cut), batch.slice(cut, batch.num_rows() - cut)]);
        prop_assert_eq!(&file, &with_columns(std::slice::from_ref(&batch)), "the division into batches changes nothing");
        let back = read(&file);
        let properties = back.column(column::PROPERTIES).as_string::<i32>();
        for (object, merged) in objects.iter().zip(properties.iter().flatten()) {
            prop_assert_eq!(members_of(object), members_of(merged), "{}", merged);
        }
        let others: Vec<usize> = (0..batch.num_columns()).filter(|at| *at != column::PROPERTIES).collect();
        prop_assert_eq!(back.project(&others).unwrap(), batch.project(&others).unwrap());
    }
}

#[test]
fn the_type_of_most_values_is_the_type_of_the_column() {
    let objects = [
        r#"{"n":1,"m":1,"t":"a","f":true,"mixed":1,"big":1,"nested":{},"nothing":null,"Offset":1,"date":1,"":1}"#,
        r#"{"n":2,"m":2.5,"t":"b","f":false,"mixed":"a","big":9007199254740993,"nested":[]}"#,
        r#"{"n":3.5,"n2":0,"m":3.5,"t":"c","f":"no","mixed":"b","big":9007199254740995}"#,
    ];
    let file = with_columns(&[events_with(&objects.map(str::to_owned))]);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::from(file)).unwrap();
    let known = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new()).unwrap();
    let columns = known.schema().fields().iter().filter(|field| is_property(field));
    let columns: Vec<String> = columns.map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    let expected = ["big Int64", "f Boolean", "m Float64", "mixed Utf8", "n Float64", "n2 Int64", "t Utf8"];
    assert_eq!(columns, expected);
}

#[test]
fn numbers_that_were_integers_come_back_as_integers() {
    for objects in [
        [r#"{"n":4}"#, r#"{"n":4.5}"#, r#"{"n":-1}"#, r#"{"n":1e-07}"#],
        [r#"{"n":4.0}"#, r#"{"n":4.5}"#, r#"{"n":-1.0}"#, r#"{"n":-0.0}"#],
        [r#"{"n":4}"#, r#"{"n":12345678901234567}"#, r#"{"n":-1}"#, r#"{"n":0}"#],
    ] {
        let back = read(&with_columns(&[events_with(&objects.map(str::to_owned))]));
        let texts: Vec<&str> = back.column(column::PROPERTIES).as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, objects.map(|text| if text.contains("1e-07") { r#"{"n":1e-7}"# } else { text }));
    }
}

#[test]
fn columns_of_properties_need_properties() {
    let options = EncodeOptions { property_columns: true, ..EncodeOptions::default() };
    let error = Writer::try_new(&Kind::Metric.schema(), &options).err().unwrap();
    assert_eq!(error.kind(), crate::ErrorKind::Usage);
    assert!(error.to_string().contains("expected events"), "{error}");
}
