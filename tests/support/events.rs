//! Events for tests of what evaluates fields.

use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, StringDictionaryBuilder,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::Int32Type;
use evt_core::kind::{Kind, dictionary_type, event};
use evt_core::time::parse_instant;
use std::sync::Arc;

/// Builds events with these properties; `user_id` is null, everything else constant.
pub fn events(properties: &[&str]) -> RecordBatch {
    let rows = properties.len();
    let schema = Kind::Event.schema();
    let micros = parse_instant("2024-01-15T10:20:30.5Z").unwrap();
    let mut origin = StringDictionaryBuilder::<Int32Type>::new();
    (0..rows).for_each(|_| origin.append_value("in.jsonl"));
    let origin = Arc::new(origin.finish());
    assert_eq!(*origin.data_type(), dictionary_type());
    let columns = schema.fields().iter().enumerate().map(|(index, field)| -> ArrayRef {
        match index {
            event::column::EVENT_ID => Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size((0..rows).map(|_| Some([0xabu8; 16])), 16)
                    .unwrap(),
            ),
            event::column::PROPERTIES => Arc::new(StringArray::from(properties.to_vec())),
            event::column::EVENT_TYPE => Arc::new(StringArray::from(vec!["click"; rows])),
            event::column::SOURCE => Arc::new(StringArray::from(vec!["web"; rows])),
            event::column::ORIGIN | event::column::PARTITION => origin.clone(),
            event::column::OFFSET => Arc::new((0..rows as i64).collect::<Int64Array>()),
            _ if field.is_nullable() => new_null_array(field.data_type(), rows),
            _ => Arc::new(TimestampMicrosecondArray::from(vec![micros; rows]).with_timezone("UTC")),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}
