//! The seeds of the fuzz targets that are not text: `EVT_BLESS=1` writes them again.

use crate::fuzz::targets::{record::events, snapshot};
use crate::harness::ROOT;
use apache_avro::types::Value;
use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, DurationMillisecondArray,
    FixedSizeListArray, Float32Array, Int8Array, IntervalMonthDayNanoArray, ListArray, MapBuilder, NullArray,
    RecordBatch, RunArray, StringArray, StringBuilder, StringViewArray, StructArray, Time64MicrosecondArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Int8Type, Int32Type, IntervalMonthDayNano};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use evt_core::format::{EncodeOptions, to_write};
use evt_core::frame::{Control, Encoder, End, EndReason, Progress};
use evt_core::kind::dead::{ErrorType, Fault};
use evt_core::op::dedup::Dedup;
use evt_core::op::window::Window;
use evt_run::spool::entry::{HEAD, encode};
use evt_run::spool::request::{Entry, IdempotencyKey, Record, RecordOutcome, Request};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

const PROPERTIES: [&str; 3] = ["{\"a\":1,\"k\":\"x\"}", "{\"a\":2.5,\"k\":null}", "{\"a\":3,\"b\":[\"é\"]}"];

fn ours() -> RecordBatch {
    events(PROPERTIES.into_iter())
}

/// A batch of another program: a column of most types that Parquet has, too.
fn foreign() -> RecordBatch {
    let words = StringArray::from(vec![Some("x"), None, Some("\"é\"")]);
    let numbers = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let inner: ArrayRef = Arc::new(Int8Array::from(vec![Some(1), None, Some(-1)]));
    let dictionary: DictionaryArray<Int8Type> = vec![Some("a"), Some("b"), None].into_iter().collect();
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for _ in 0..3 {
        map.keys().append_value("k");
        map.values().append_null();
        map.append(true).expect("one entry");
    }
    RecordBatch::try_from_iter_with_nullable([
        ("words", Arc::new(words) as ArrayRef, true),
        ("numbers", Arc::new(numbers), true),
        ("struct", Arc::new(StructArray::try_from(vec![("i", inner)]).expect("a struct")), true),
        ("dictionary", Arc::new(dictionary), true),
        ("map", Arc::new(map.finish()), true),
        ("decimal", Arc::new(Decimal128Array::from(vec![Some(-1250), None, Some(5)])), true),
        ("date", Arc::new(Date32Array::from(vec![0, -1, 19_000])), true),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![0, 1, 86_399_999_999])), true),
        ("instant", Arc::new(TimestampNanosecondArray::from(vec![0, -1, 1_700_000_000_000_000_001])), true),
        ("float", Arc::new(Float32Array::from(vec![f32::NAN, -0.0, 1.5])), true),
        ("yes", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), true),
    ])
    .expect("columns of one length")
}

/// The same and the types that only Arrow has.
fn arrow_only() -> RecordBatch {
    let base = foreign();
    let runs: RunArray<Int32Type> = ["a", "a", "b"].into_iter().collect();
    let pairs = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        [Some(vec![Some(1), Some(2)]), None, Some(vec![None, Some(3)])],
        2,
    );
    let interval = IntervalMonthDayNano::new(1, -2, 3);
    let more: [(&str, ArrayRef); 7] = [
        ("runs", Arc::new(runs)),
        ("pairs", Arc::new(pairs)),
        ("nothing", Arc::new(NullArray::new(3))),
        ("view", Arc::new(StringViewArray::from(vec!["short", "longer than twelve bytes", ""]))),
        ("bytes", Arc::new(BinaryViewArray::from(vec![&b"\xff"[..], b"", b"text"]))),
        ("span", Arc::new(DurationMillisecondArray::from(vec![1, -1, 0]))),
        ("interval", Arc::new(IntervalMonthDayNanoArray::from(vec![interval; 3]))),
    ];
    let old = base.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let columns = old.iter().map(String::as_str).zip(base.columns().iter().cloned()).chain(more);
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("columns")
}

fn frames(batch: &RecordBatch) -> Vec<u8> {
    let (mut encoder, mut bytes) = Encoder::new(batch.schema());
    let progress = Control::Progress(Progress { complete: true, ..Progress::default() });
    let end = Control::End(End { how: EndReason::Exhausted, rows: batch.num_rows() as u64, verdict: 0 });
    let pieces = [
        encoder.control(&progress).expect("a frame"),
        encoder.batch(batch).expect("a frame"),
        encoder.control(&end).expect("a frame"),
    ];
    pieces.iter().flatten().for_each(|piece| bytes.extend_from_slice(piece));
    bytes.extend(encoder.finish());
    bytes
}

fn stream(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).expect("a codec");
    let mut writer = StreamWriter::try_new_with_options(vec![], &batch.schema(), options).expect("a stream");
    writer.write(batch).expect("a batch");
    writer.into_inner().expect("bytes")
}

fn file(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).expect("a codec");
    let mut writer = FileWriter::try_new_with_options(vec![], &batch.schema(), options).expect("a file");
    writer.write(batch).expect("a batch");
    writer.into_inner().expect("bytes")
}

/// A stream or file of compressed buffers, the first of which claims to decompress to far more than the memory of any
/// machine.
fn boastful(mut packed: Vec<u8>) -> Vec<u8> {
    // The bytes before the first LZ4 frame are its length.
    let at = packed.windows(4).position(|bytes| bytes == [4, 0x22, 0x4d, 0x18]).expect("an LZ4 frame");
    packed[at - 8..at].copy_from_slice(&(1i64 << 50).to_le_bytes());
    packed
}

/// A batch without columns that claims a huge number of rows.
fn endless() -> RecordBatch {
    let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(1 << 50));
    let schema = Arc::new(arrow::datatypes::Schema::empty());
    RecordBatch::try_new_with_options(schema, vec![], &rows).expect("a batch")
}

fn encoded(format: &str, batch: &RecordBatch) -> Vec<u8> {
    let format = to_write(format).expect("a format").output.expect("it is written");
    let mut encoder = format(&batch.schema(), &EncodeOptions::default()).expect("an encoder");
    let mut out = vec![];
    encoder.encode(batch, &mut out).expect("rows");
    encoder.finish(&mut out).expect("an end");
    out
}

/// An Avro file of another program.
fn avro(schema: &str, values: Vec<Value>) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).expect("a schema");
    // By default the marker is random, so that every run would write other bytes.
    let marker = *b"evt's own marker";
    let writer = apache_avro::Writer::builder().schema(&schema).writer(vec![]).marker(marker).build();
    let mut writer = writer.expect("a writer");
    writer.extend(values).expect("values");
    writer.into_inner().expect("bytes")
}

fn avro_files() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let list =
        r#"{"type":"record","name":"L","fields":[{"name":"v","type":"long"},{"name":"next","type":["null","L"]}]}"#;
    let link = |next: Value, at| {
        Value::Record(vec![("v".into(), Value::Long(5)), ("next".into(), Value::Union(at, Box::new(next)))])
    };
    let types = r#"{"type":"record","name":"T","fields":[{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},{"name":"a","type":{"type":"array","items":"double"}},{"name":"m","type":{"type":"map","values":"bytes"}},{"name":"f","type":{"type":"fixed","name":"F","size":3}},{"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
    let record = Value::Record(vec![
        ("d".into(), Value::Decimal(vec![4, 226].into())),
        ("e".into(), Value::Enum(1, "B".into())),
        ("a".into(), Value::Array(vec![Value::Double(0.5), Value::Double(f64::NAN)])),
        ("m".into(), Value::Map([("k".to_owned(), Value::Bytes(vec![255]))].into())),
        ("f".into(), Value::Fixed(3, vec![1, 2, 3])),
        ("t".into(), Value::TimestampMillis(1_700_000_000_000)),
    ]);
    vec![
        ("avro", "ours.avro", encoded("avro", &ours())),
        ("avro", "long.avro", avro("\"long\"", vec![Value::Long(-3), Value::Long(i64::MAX)])),
        ("avro", "list.avro", avro(list, vec![link(link(Value::Null, 0), 1)])),
        ("avro", "types.avro", avro(types, vec![record.clone(), record])),
    ]
}

fn packed() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let text = b"some text that repeats, some text that repeats\n".repeat(3);
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    gzip.write_all(&text).expect("bytes");
    let gzip = gzip.finish().expect("bytes");
    let zstd = zstd::encode_all(&text[..], 1).expect("bytes");
    let seed = |bytes: &[u8]| [b"3", bytes].concat();
    vec![
        ("unpack", "one.gz", seed(&gzip)),
        ("unpack", "two.gz", seed(&[&gzip[..], &gzip].concat())),
        ("unpack", "one.zst", seed(&zstd)),
        ("unpack", "two.zst", seed(&[&zstd[..], &zstd].concat())),
        ("unpack", "plain", seed(&text)),
        ("pipe", "lines.gz", [b"\x08", &gzip[..]].concat()),
    ]
}

fn states() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut window = Window::new(snapshot::options());
    window.on_batch(&ours(), 0).expect("rows");
    window.on_progress(&Progress { complete: true, ..Progress::default() }).expect("progress");
    window.fire(&mut |_| Ok(())).expect("results");
    window.on_batch(&ours(), 0).expect("rows");
    let mut dedup = Dedup::new(snapshot::span());
    dedup.on_batch(&ours()).expect("rows");
    let empty = Window::new(snapshot::options()).snapshot();
    let mut damaged = [b"w", &window.snapshot()[..]].concat();
    let key = damaged.windows(6).position(|bytes| bytes == b"\x01\x01\0\0\0x").expect("the key of x");
    damaged[key + 1] = 0xff;
    vec![
        ("snapshot", "damaged-key", damaged),
        ("snapshot", "window", [b"w", &window.snapshot()[..]].concat()),
        ("snapshot", "empty", [b"w", &empty[..]].concat()),
        ("snapshot", "dedup", [b"d", &dedup.snapshot()[..]].concat()),
    ]
}

/// The body of an entry of the spool with one record of each outcome.
fn request() -> Vec<u8> {
    let fault = Fault::new(ErrorType::ParseError, "byte 1: no value");
    let other = Fault::new(ErrorType::EnvelopeError, "id_reused");
    let outcomes =
        [RecordOutcome::New, RecordOutcome::Duplicate, RecordOutcome::Rejected(fault), RecordOutcome::Rejected(other)];
    let record = |outcome: RecordOutcome| Record {
        payload: "{\"a\":1}".into(),
        source: "web".into(),
        event_id: Some([7; 16]),
        outcome,
    };
    let request = Request {
        arrived_at: 1_700_000_000_000_000,
        token: "shop".to_owned(),
        headers: vec![("x-request-id".to_owned(), "7".to_owned())],
        key: Some(IdempotencyKey { text: "key".to_owned(), body: 1 << 100 }),
        records: outcomes.map(record).to_vec(),
    };
    let mut bytes = vec![];
    encode(&mut bytes, 0, &Entry { safe: 32, offset: 5, request });
    bytes.split_off(HEAD)
}

/// (target, name, bytes) of every seed made here.
fn made() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let chosen = |bytes: Vec<u8>| [b"\x05", &bytes[..]].concat();
    let mut all = vec![
        ("spool", "request", request()),
        ("frame", "ours", chosen(frames(&ours()))),
        ("frame", "foreign", chosen(stream(&arrow_only(), None))),
        ("frame", "foreign.lz4", chosen(stream(&foreign(), Some(CompressionType::LZ4_FRAME)))),
        ("frame", "foreign.zstd", chosen(stream(&foreign(), Some(CompressionType::ZSTD)))),
        ("pipe", "ours.frames", chosen(frames(&ours()))),
        ("pipe", "foreign.arrows", chosen(stream(&arrow_only(), None))),
        ("pipe", "ours.avro", chosen(encoded("avro", &ours()))),
        ("pipe", "ours.parquet", chosen(encoded("parquet", &ours()))),
        ("frame", "boastful.lz4", chosen(boastful(stream(&foreign(), Some(CompressionType::LZ4_FRAME))))),
        ("frame", "endless", chosen(stream(&endless(), None))),
        ("arrow", "boastful.lz4.arrow", boastful(file(&foreign(), Some(CompressionType::LZ4_FRAME)))),
        ("arrow", "endless.arrow", file(&endless(), None)),
        ("parquet", "ours.parquet", encoded("parquet", &ours())),
        ("parquet", "foreign.parquet", encoded("parquet", &foreign())),
        ("arrow", "ours.arrow", file(&ours(), None)),
        ("arrow", "foreign.arrow", file(&arrow_only(), None)),
        ("arrow", "foreign.lz4.arrow", file(&foreign(), Some(CompressionType::LZ4_FRAME))),
        ("arrow", "foreign.zstd.arrow", file(&foreign(), Some(CompressionType::ZSTD))),
    ];
    all.extend(avro_files().into_iter().chain(packed()).chain(states()));
    all
}

#[test]
fn the_seeds_that_are_no_text_are_there() {
    for (target, name, bytes) in made() {
        let path = Path::new(ROOT).join("fuzz/seeds").join(target).join(name);
        if std::env::var_os("EVT_BLESS").is_some() {
            std::fs::write(&path, &bytes).expect("writable");
        }
        assert!(
            path.exists(),
            "{} is missing: EVT_BLESS=1 cargo test --test cli -- state:: fuzz_seeds:: writes it",
            path.display()
        );
    }
}
