use super::*;
use crate::format::jsonl::rows_to_json;
use crate::format::{Body, Records};
use crate::json::number::write_float;
use crate::mapping::{FutureVerdict, Mapped, Mapper, PartitionTable, Provenance, Record, RecordMeta};
use crate::reconcile::rows;
use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array,
    ListArray, StringArray, StringViewArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, Schema, UInt64Type};
use proptest::prelude::*;
use std::sync::Arc;

const ORIGIN: &str = "a.parquet";
const OPTIONS: RowOptions =
    RowOptions { compares: true, omits_time: false, settled: Some(0), is_appended: false, run_start: 1 };
/// 2024-01-15T10:00:00Z (µs).
const START: i64 = 1_705_312_800_000_000;

type Named = (&'static str, ArrayRef);

fn batch(columns: &[Named]) -> RecordBatch {
    let field = |(name, array): &Named| {
        let field = Field::new(*name, array.data_type().clone(), true);
        match array.data_type() {
            // Timestamps of INT96.
            DataType::FixedSizeBinary(12) => Physical::LocalTime.mark(&field),
            _ if name.starts_with("json") => {
                field.with_metadata([("ARROW:extension:name".to_owned(), "arrow.json".to_owned())].into())
            }
            _ => field,
        }
    };
    let fields: Vec<Field> = columns.iter().map(field).collect();
    let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn options(time: TimeFrom) -> mapping::Options {
    mapping::Options { time, provenance: Provenance::Keep, ..mapping::Options::default() }
}

/// The rows as the columns say, or `None` if they are refused.
fn by_columns(batch: &RecordBatch, options: &mapping::Options) -> Option<Vec<RowFacts>> {
    let rows = ForeignColumns::new(options, OPTIONS, 1 << 20, ORIGIN.to_owned())?.read(batch)?;
    let mut facts = vec![];
    rows.each(OPTIONS, &mut PartitionNames::default(), &mut |one| {
        facts.push(one);
        Ok(())
    })
    .unwrap();
    Some(facts)
}

/// The rows that the mapping makes of the batch, or the fault of one.
fn by_mapping(batch: &RecordBatch, options: &mapping::Options) -> Result<Vec<RowFacts>, String> {
    let mut records = Records::default();
    rows_to_json(batch, 1, usize::MAX, &mut records).unwrap();
    let mut partition_table = PartitionTable::default();
    let partition = partition_table.partition(ORIGIN, "0");
    let mut mapper = Mapper::new(options.clone()).unwrap();
    mapper.turn_to(partition, (ORIGIN, "0"));
    for record in &records.rows {
        let Body::Text(range) = &record.body else { panic!("no text") };
        let text = &records.text[range.clone()];
        let meta = RecordMeta::of_file(ORIGIN, partition).at(record.line as i64);
        let record = Record { text, raw: text.as_bytes(), meta, now: i64::MAX, verdict: FutureVerdict::ByArrival };
        match mapper.record(record).unwrap() {
            Mapped::Row => {}
            other => return Err(format!("{text}: {other:?}")),
        }
    }
    let mut facts = vec![];
    let Some(events) = mapper.finish().unwrap().stamp(&mut partition_table, None).unwrap() else { return Ok(facts) };
    rows::events(&events, OPTIONS, &mut PartitionNames::default(), &mut |one| {
        facts.push(one);
        Ok(())
    })
    .unwrap();
    Ok(facts)
}

#[track_caller]
fn is_read(columns: &[Named], time: TimeFrom) {
    let (batch, options) = (batch(columns), options(time));
    assert_eq!(by_columns(&batch, &options).expect("the columns are refused"), by_mapping(&batch, &options).unwrap());
}

#[track_caller]
fn is_refused(columns: &[Named], options: &mapping::Options) {
    assert!(by_columns(&batch(columns), options).is_none());
}

fn ids(count: usize) -> Named {
    let ids = (0..count).map(|at| Some([at as u8; 16]));
    ("event_id", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 16).unwrap()))
}

fn times(name: &'static str, micros: &[Option<i64>]) -> Named {
    (name, Arc::new(TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("UTC")))
}

fn texts_of(name: &'static str, texts: &[Option<&str>]) -> Named {
    (name, Arc::new(StringViewArray::from(texts.to_vec())))
}

#[test]
fn columns_of_the_usual_types_have_the_rows_of_the_mapping() {
    let id = "58aedb27-dcc1-534a-BA59-63b291b9768E";
    is_read(&[texts_of("event_id", &[Some(id)]), times("server_timestamp", &[Some(START)])], TimeFrom::Default);
    is_read(
        &[
            ids(3),
            texts_of("source", &[Some("web"), None, Some("a\"\\\n\u{1}é")]),
            texts_of("event_type", &[None, Some("click"), Some("")]),
            ("user_id", Arc::new([Some("u1"), None, Some("u1")].into_iter().collect::<DictionaryArray<Int32Type>>())),
            times("client_timestamp", &[None, Some(START - 1), Some(-1)]),
            times("server_timestamp", &[Some(START), Some(START + 1), Some(0)]),
            texts_of("properties", &[Some(r#" { "a" : [1, {"b":1.50}], "a":2 } "#), None, Some("{}")]),
        ],
        TimeFrom::Untimed,
    );
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1200), None, Some(i64::MIN)]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::NAN), Some(1e300)]));
    let wide: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 0, 10]));
    let decimal = Decimal128Array::from(vec![Some(1250), None, Some(-3)]).with_precision_and_scale(10, 3).unwrap();
    let list = ListArray::from_iter_primitive::<UInt64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    is_read(
        &[
            ids(3),
            times("event_time", &[Some(START), Some(START + 1), Some(START)]),
            ("n", numbers),
            ("f", floats),
            ("w", wide),
            ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("d", Arc::new(decimal)),
            ("l", Arc::new(list)),
            ("day", Arc::new(Date32Array::from(vec![Some(19_737), None, Some(-1)]))),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![Some(1_999), Some(-1), None]))),
            ("t", Arc::new(StringArray::from(vec![Some("1"), None, Some("\u{7f}\t")]))),
            texts_of("json_value", &[Some("[1, 2.0 ]"), Some("null"), Some(" \"x\" ")]),
        ],
        TimeFrom::Default,
    );
}

/// Timestamps of INT96 on the day of 1970-01-01 and the days after it.
fn int96(name: &'static str, days: &[Option<i32>]) -> Named {
    let bytes = |days: i32| [&1_999i64.to_le_bytes()[..], &(2_440_588 + days).to_le_bytes()].concat();
    let values = days.iter().map(|days| days.map(bytes));
    (name, Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 12).unwrap()))
}

#[test]
fn times_of_96_bits_are_those_of_the_mapping() {
    let client = int96("client_timestamp", &[None, Some(-719_162)]);
    is_read(&[ids(2), int96("server_timestamp", &[Some(0), Some(2_932_896)]), client], TimeFrom::Default);
    is_read(&[ids(1), int96("ts", &[Some(20_000)])], TimeFrom::Field("ts".to_owned()));
    for beyond in [2_932_897, -719_163, i32::MAX - 2_440_588] {
        is_refused(&[ids(1), int96("server_timestamp", &[Some(beyond)])], &options(TimeFrom::Default));
    }
}

#[test]
fn the_field_of_time_is_a_column_too() {
    let [first, second] = [times("ts", &[Some(START)]), times("event_time", &[Some(START + 7)])];
    is_read(&[ids(1), first.clone()], TimeFrom::Field("ts".to_owned()));
    is_read(&[ids(1), first.clone(), texts_of("properties", &[Some("{\"a\":1}")])], TimeFrom::Field("ts".to_owned()));
    is_read(&[ids(1), second.clone()], TimeFrom::Field("event_time".to_owned()));
    let client = times("client_timestamp", &[Some(START - 3)]);
    is_read(&[ids(1), client, first.clone()], TimeFrom::Field("client_timestamp".to_owned()));
    is_refused(&[ids(1), first, second], &options(TimeFrom::Field("ts".to_owned())));
}

#[test]
fn what_the_mapping_may_treat_in_another_way_is_refused() {
    let (time, usual) = (times("server_timestamp", &[Some(START)]), options(TimeFrom::Default));
    let with = |other: Named| is_refused(&[ids(1), time.clone(), other], &usual);
    with(texts_of("offset", &[Some("1")]));
    with(texts_of("late_for", &[Some("m")]));
    with(times("event_time", &[Some(START)]));
    with(times("client_timestamp", &[Some(i64::MAX)]));
    with(texts_of("properties", &[Some("[]")]));
    with(texts_of("properties", &[Some("{\"a\":}")]));
    with(texts_of("json_value", &[Some("{")]));
    with(("user_id", Arc::new(Int64Array::from(vec![1]))));
    with(texts_of("t", &[Some(&"x".repeat(1 << 20))]));
    is_refused(&[ids(1), time.clone(), texts_of("properties", &[Some("{\"t\":1}")]), texts_of("t", &[None])], &usual);
    is_refused(&[texts_of("event_id", &[Some("7")]), time.clone()], &usual);
    is_refused(&[texts_of("event_id", &[None]), time.clone()], &usual);
    is_refused(&[ids(1), times("server_timestamp", &[None])], &usual);
    let sets = vec![("source".to_owned(), "x".to_owned())];
    is_refused(&[ids(1), time.clone()], &mapping::Options { sets, ..usual.clone() });
    let local: Named = ("server_timestamp", Arc::new(TimestampMicrosecondArray::from(vec![START])));
    is_read(&[ids(1), local.clone()], TimeFrom::Default);
    let when = crate::mapping::When { zone: Some("Europe/Zurich".parse().unwrap()), ..Default::default() };
    is_refused(&[ids(1), local], &mapping::Options { when, ..usual });
}

/// A text of an object, or of something else.
fn json() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        "\\{(\"[ab]\":(1|-2.50|\"\\\\\\\\u00e9\"|null|\\[1,\\{\"c\":\\[\\]\\}\\]))?\\}".prop_map(Some),
        "[ {}\\[\\]a\"]{0,4}".prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rows_that_are_read_are_those_of_the_mapping(
        cells in prop::collection::vec(
            (prop::option::of("\\PC{0,5}|[\\x00-\\x20\"\\\\]{0,3}"), json(), any::<i64>(), any::<f64>(), -99_999_999_999_999_999i64..=99_999_999_999_999_999),
            1..6,
        ),
        presence in any::<u8>(),
    ) {
        let texts: Vec<Option<&str>> = cells.iter().map(|cell| cell.0.as_deref()).collect();
        let objects: Vec<Option<&str>> = cells.iter().map(|cell| cell.1.as_deref()).collect();
        let micros: Vec<Option<i64>> = cells.iter().map(|cell| Some(cell.4)).collect();
        let columns = [
            texts_of("source", &texts),
            texts_of("user_id", &texts),
            times("client_timestamp", &micros),
            texts_of("properties", &objects),
            texts_of("json", &objects),
            texts_of("a", &texts),
            ("n", Arc::new(cells.iter().map(|cell| Some(cell.2)).collect::<Int64Array>()) as ArrayRef),
            ("f", Arc::new(cells.iter().map(|cell| Some(cell.3)).collect::<Float64Array>())),
        ];
        let given = columns.into_iter().enumerate().filter(|(at, _)| presence >> at & 1 == 1).map(|(_, column)| column);
        let columns: Vec<Named> = [ids(cells.len()), times("server_timestamp", &micros)].into_iter().chain(given).collect();
        let (batch, options) = (batch(&columns), options(TimeFrom::Default));
        if let Some(read) = by_columns(&batch, &options) {
            prop_assert_eq!(Ok(read), by_mapping(&batch, &options));
        }
    }

    #[test]
    fn an_integer_has_the_hash_of_its_text(number in any::<i64>(), shift in 0u32..64) {
        let number = number >> shift;
        prop_assert_eq!(of_integer(number, 3), of_json(&number.to_string(), 3));
    }

    #[test]
    fn a_double_has_the_hash_of_its_text(any in any::<f64>(), digits in -9_999_999_999i64..9_999_999_999, places in 0i32..16) {
        for number in [any, digits as f64 / 10f64.powi(places), digits as f64 * 10f64.powi(places), any.fract()] {
            let mut text = String::new();
            write_float(&mut text, number);
            prop_assert_eq!(of_double(number, 3), of_json(&text, 3), "{}", text);
        }
    }
}
