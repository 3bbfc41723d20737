use super::*;
use crate::format::test_data::batch_texts;
use arrow::array::*;
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use std::collections::HashMap;
use std::sync::Arc;

fn json(array: impl Array + 'static) -> Vec<String> {
    json_of(Field::new("x", array.data_type().clone(), true), array)
}

fn json_of(field: Field, array: impl Array + 'static) -> Vec<String> {
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(array)]).unwrap();
    let texts = batch_texts(&batch);
    assert!(texts.iter().all(|text| crate::json::scan::is_json(text)), "{texts:?}");
    texts.into_iter().map(|text| text.trim_start_matches("{\"x\":").trim_end_matches('}').to_owned()).collect()
}

#[test]
fn numbers_keep_every_digit() {
    assert_eq!(json(UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
    assert_eq!(json(Int8Array::from(vec![Some(-128), None])), ["-128", "{"]);
    let decimals = Decimal128Array::from(vec![-5, 12_345]).with_precision_and_scale(20, 3).unwrap();
    assert_eq!(json(decimals), ["-0.005", "12.345"]);
    let decimals = Decimal128Array::from(vec![-5]).with_precision_and_scale(20, -3).unwrap();
    assert_eq!(json(decimals), ["-5000"]);
    let wide = Decimal256Array::from(vec![arrow::datatypes::i256::MAX]).with_precision_and_scale(76, 0).unwrap();
    assert_eq!(json(wide), [arrow::datatypes::i256::MAX.to_string()]);
}

#[test]
fn floats_are_the_shortest_text_and_what_is_no_number_is_a_word() {
    let values = vec![0.1, -0.0, 1e300, 1e-7, 3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let texts = ["0.1", "-0.0", "1e300", "1e-7", "3.0", "\"NaN\"", "\"Infinity\"", "\"-Infinity\""];
    assert_eq!(json(Float64Array::from(values)), texts);
    assert_eq!(json(Float32Array::from(vec![0.1])), ["0.1"]);
}

#[test]
fn times_are_rfc_3339_whatever_their_unit_and_zone() {
    let zoned = TimestampNanosecondArray::from(vec![1_000_000_001]).with_timezone("+05:30");
    assert_eq!(json(zoned), ["\"1970-01-01T00:00:01.000000001Z\""]);
    let before = TimestampMillisecondArray::from(vec![-1]);
    assert_eq!(json(before.clone().with_timezone("UTC")), ["\"1969-12-31T23:59:59.999000Z\""]);
    assert_eq!(json(before), ["\"1969-12-31T23:59:59.999000\""], "a local time");
    assert_eq!(json(Date32Array::from(vec![19_737])), ["\"2024-01-15\""]);
    assert_eq!(json(Date64Array::from(vec![-1])), ["\"1969-12-31\""]);
    assert_eq!(json(Time32SecondArray::from(vec![3_661])), ["\"01:01:01\""]);
    assert_eq!(json(Time64NanosecondArray::from(vec![1])), ["\"00:00:00.000000001\""]);
    assert_eq!(json(DurationMillisecondArray::from(vec![-1_500])), ["\"PT-1.500S\""]);
    assert_eq!(
        json(IntervalDayTimeArray::from(vec![IntervalDayTimeType::make_value(-1, 4_500)])),
        ["\"P0M-1DT4.500S\""]
    );
    assert_eq!(json(IntervalYearMonthArray::from(vec![14])), ["\"P14M0DT0S\""]);
    let interval = IntervalMonthDayNanoType::make_value(1, -2, 3);
    assert_eq!(json(IntervalMonthDayNanoArray::from(vec![interval])), ["\"P1M-2DT0.000000003S\""]);
}

#[test]
fn text_is_escaped_and_bytes_are_base64_unless_they_are_a_uuid() {
    assert_eq!(json(StringViewArray::from(vec!["a\"\n"])), [r#""a\"\n""#]);
    assert_eq!(json(LargeStringArray::from(vec!["é"])), ["\"é\""]);
    assert_eq!(json(BinaryViewArray::from(vec![&b"\xff"[..]])), ["\"/w==\""]);
    let id = FixedSizeBinaryArray::try_from_iter([[0x11u8; 16]].iter()).unwrap();
    assert_eq!(json(id.clone()), ["\"EREREREREREREREREREREQ==\""]);
    let metadata = [("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())].into();
    let field = Field::new("x", DataType::FixedSizeBinary(16), false).with_metadata(metadata);
    assert_eq!(json_of(field, id), ["\"11111111-1111-1111-1111-111111111111\""]);
}

#[test]
fn a_uuid_is_hyphenated_inside_of_any_type() {
    let text = "\"11111111-1111-1111-1111-111111111111\"";
    let ids: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([[0x11u8; 16]].iter()).unwrap());
    let metadata = HashMap::from([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())]);
    let field = |name: &str| Arc::new(Field::new(name, ids.data_type().clone(), false).with_metadata(metadata.clone()));
    let (list, one) = ([format!("[{text}]")], || OffsetBuffer::from_lengths([1]));
    assert_eq!(json(ListArray::new(field("item"), one(), ids.clone(), None)), list);
    let large = OffsetBuffer::from_lengths([1]);
    assert_eq!(json(LargeListArray::new(field("item"), large, ids.clone(), None)), list);
    assert_eq!(json(FixedSizeListArray::new(field("item"), 1, ids.clone(), None)), list);
    let (starts, sizes) = (ScalarBuffer::from(vec![0]), ScalarBuffer::from(vec![1]));
    assert_eq!(json(ListViewArray::new(field("item"), starts, sizes, ids.clone(), None)), list);
    let entries = StructArray::from(vec![(field("key"), ids.clone()), (field("value"), ids.clone())]);
    let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    assert_eq!(json(MapArray::new(entry, one(), entries, None, false)), [format!("{{{text}:{text}")]);
    let dictionary = DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0]), ids.clone());
    let of = Field::new("x", dictionary.data_type().clone(), true).with_metadata(metadata.clone());
    assert_eq!(json_of(of, dictionary), [text]);
}

#[test]
fn bytes_of_parquet_are_what_their_mark_says() {
    let marked = |physical: Physical, array: ArrayRef| {
        let field = physical.mark(&Field::new("x", DataType::Null, true));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field.clone()])), vec![array.clone()]).unwrap();
        let mut text = String::new();
        Column::new(&field, array.as_ref(), CellForm::Text).write(0, &mut text);
        (batch_texts(&batch).remove(0), text)
    };
    let twelve = |bytes: [u8; 12]| Arc::new(FixedSizeBinaryArray::try_from_iter([bytes].iter()).unwrap()) as ArrayRef;
    let parts = [14u32, 3, 4_500].map(u32::to_le_bytes).concat().try_into().unwrap();
    let both = |json: &str, text: &str| (format!("{{\"x\":{json}}}"), text.to_owned());
    assert_eq!(marked(Physical::Interval, twelve(parts)), both("\"P14M3DT4.500S\"", "P14M3DT4.500S"));
    let time: [u8; 12] = [&7u64.to_le_bytes()[..], &2_440_588u32.to_le_bytes()].concat().try_into().unwrap();
    let (local, instant) = ("1970-01-01T00:00:00.000000007", "1970-01-01T00:00:00.000000007Z");
    assert_eq!(marked(Physical::LocalTime, twelve(time)), both(&format!("\"{local}\""), local));
    assert_eq!(marked(Physical::Instant, twelve(time)), both(&format!("\"{instant}\""), instant));
    let bytes = |bytes: &[u8]| Arc::new(BinaryViewArray::from(vec![bytes])) as ArrayRef;
    assert_eq!(marked(Physical::Text, bytes(b"a\"b")), both("\"a\\\"b\"", "a\"b"));
    assert_eq!(marked(Physical::Text, bytes(b"\xff")), both("\"/w==\"", "/w=="));
}

#[test]
fn lists_maps_and_structs_nest_and_slices_keep_their_place() {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1)]),
        Some(vec![Some(2), None]),
        None,
        Some(vec![]),
    ]);
    assert_eq!(json(lists.slice(1, 3)), ["[2,null]", "{", "[]"]);
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3), None])],
        2,
    );
    assert_eq!(json(fixed.slice(1, 1)), ["[3,null]"]);
    let view = ListViewArray::new(
        Arc::new(Field::new("item", DataType::Int32, true)),
        ScalarBuffer::from(vec![1, 0]),
        ScalarBuffer::from(vec![2, 1]),
        Arc::new(Int32Array::from(vec![7, 8, 9])),
        None,
    );
    assert_eq!(json(view), ["[8,9]", "[7]"]);
    let mut maps = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
    maps.keys().append_value(5);
    maps.values().append_null();
    maps.append(true).unwrap();
    assert_eq!(json(maps.finish()), [r#"{"5":null"#]);
    let structs = StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Int32, true)), Arc::new(Int32Array::from(vec![None, Some(2)])) as ArrayRef),
        (Arc::new(Field::new("b", DataType::Utf8, true)), Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef),
    ]);
    assert_eq!(json(structs.slice(0, 2)), [r#"{"b":"x""#, r#"{"a":2,"b":"y""#]);
}

#[test]
fn dictionaries_runs_and_unions_are_their_values() {
    let dictionary: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("a"), Some("b")].into_iter().collect();
    assert_eq!(json(dictionary.slice(1, 3)), ["{", "\"a\"", "\"b\""]);
    assert_eq!(json(dictionary.slice(3, 1)), ["\"b\""]);
    let none = DictionaryArray::<Int8Type>::new(Int8Array::from(vec![None::<i8>]), Arc::new(StringArray::new_null(0)));
    assert_eq!(json(none), ["{"]);
    let runs = RunArray::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec![Some("a"), None])).unwrap();
    assert_eq!(json(runs.slice(1, 2)), ["\"a\"", "{"]);
    let fields: UnionFields =
        [(0, Arc::new(Field::new("i", DataType::Int32, true))), (5, Arc::new(Field::new("s", DataType::Utf8, true)))]
            .into_iter()
            .collect();
    let children: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![7])), Arc::new(StringArray::from(vec!["x"]))];
    let union = UnionArray::try_new(fields, vec![5, 0].into(), Some(vec![0, 0].into()), children).unwrap();
    assert_eq!(json(union), ["\"x\"", "7"]);
    assert_eq!(json(NullArray::new(2)), ["{", "{"]);
}

#[test]
fn a_list_of_lists_of_structs_is_written_whole() {
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("k", DataType::Utf8, true)),
        Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef,
    )]);
    let field = |array: &dyn Array| Arc::new(Field::new("item", array.data_type().clone(), true));
    let list = ListArray::new(field(&inner), OffsetBuffer::from_lengths([1, 1]), Arc::new(inner), None);
    let outer = LargeListArray::new(field(&list), OffsetBuffer::from_lengths([2]), Arc::new(list), None);
    assert_eq!(json(outer), [r#"[[{"k":"x"}],[{"k":"y"}]]"#]);
}
