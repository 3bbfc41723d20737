use super::*;
use crate::kind::dead::ErrorType;
use crate::kind::event::column;
use crate::time::parse_instant;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

const NOW: i64 = 1_700_000_000_000_000;

struct Bench {
    mapper: Mapper,
    partition_table: PartitionTable,
    partition: u32,
    line: i64,
}

impl Bench {
    fn new(options: Options) -> Self {
        let mut partition_table = PartitionTable::default();
        let partition = partition_table.partition("a.jsonl", "0");
        let mut mapper = Mapper::new(options).unwrap();
        mapper.turn_to(partition, ("a.jsonl", "0"));
        Self { mapper, partition_table, partition, line: 0 }
    }

    fn record(&mut self, text: &str) -> Mapped {
        self.line += 1;
        let meta = RecordMeta::of_file("a.jsonl", self.partition).at(self.line);
        let record = Record { text, raw: text.as_bytes(), meta, now: NOW, verdict: FutureVerdict::ByArrival };
        self.mapper.record(record).unwrap()
    }

    fn batch(&mut self) -> RecordBatch {
        self.mapper.finish().unwrap().stamp(&mut self.partition_table, None).unwrap().expect("no rows")
    }
}

fn one(options: Options, text: &str) -> RecordBatch {
    let mut bench = Bench::new(options);
    assert!(matches!(bench.record(text), Mapped::Row), "{text}");
    bench.batch()
}

fn fault(options: Options, text: &str) -> (ErrorType, String) {
    match Bench::new(options).record(text) {
        Mapped::Dead(fault) => (fault.error_type, fault.message),
        other => panic!("{text}: {other:?}"),
    }
}

fn text<'a>(batch: &'a RecordBatch, column: &str) -> &'a str {
    batch.column_by_name(column).unwrap().as_string::<i32>().value(0)
}

fn instant(batch: &RecordBatch, column: &str) -> i64 {
    batch.column_by_name(column).unwrap().as_primitive::<TimestampMicrosecondType>().value(0)
}

fn reading(properties: &[&str]) -> Options {
    let properties = properties.iter().map(|name| (*name).to_owned()).collect();
    Options { reads: ReadColumns { properties, ..ReadColumns::default() }, ..arrival() }
}

fn arrival() -> Options {
    Options { time: TimeFrom::Arrival, ..Options::default() }
}

fn field(column: &str, path: &str) -> (String, String) {
    (column.to_owned(), path.to_owned())
}

#[test]
fn fields_with_envelope_names_are_columns_and_all_others_properties_as_received() {
    let record = r#" {"event_type":"a\u0062","n":1.50 , "server_timestamp":"2024-01-15T10:00:00Z","o":{"x":[1, 2]}} "#;
    let batch = one(Options::default(), record);
    assert_eq!(text(&batch, "event_type"), "ab");
    assert_eq!(text(&batch, "properties"), r#"{"n":1.50,"o":{"x":[1, 2]}}"#);
    assert_eq!(instant(&batch, "event_time"), parse_instant("2024-01-15T10:00:00Z").unwrap());
    assert_eq!(text(&batch, "source"), "a.jsonl");
}

#[test]
fn properties_keep_their_bytes_and_get_what_stands_beside_them() {
    let kept = r#"{ "a" : 1e400, "b":"\ud800" }"#;
    assert_eq!(text(&one(arrival(), &format!(r#"{{"properties":{kept}}}"#)), "properties"), kept);
    let merged = one(arrival(), r#"{"x":1,"properties":{"a":2 },"y":{}}"#);
    assert_eq!(text(&merged, "properties"), r#"{"a":2,"x":1,"y":{}}"#);
    assert_eq!(text(&one(arrival(), r#"{"x":1,"properties":{}}"#), "properties"), r#"{"x":1}"#);
    let (kind, message) = fault(arrival(), r#"{"a":1,"properties":{"\u0061":2}}"#);
    assert_eq!(
        (kind, message.contains("duplicate name, in the record and in its properties")),
        (ErrorType::EnvelopeError, true)
    );
}

#[test]
fn a_name_that_stands_twice_in_the_envelope_is_a_fault_even_escaped() {
    let (kind, message) = fault(arrival(), r#"{"source":"a","sour\u0063e":"b"}"#);
    assert_eq!((kind, message.as_str()), (ErrorType::EnvelopeError, "source: duplicate name in the record"));
}

#[test]
fn what_is_no_json_object_says_why() {
    assert_eq!(fault(arrival(), r#"{"a":1"#).0, ErrorType::ParseError);
    assert_eq!(fault(arrival(), r#"{"a":1}x"#).0, ErrorType::ParseError);
    assert_eq!(fault(arrival(), "42"), (ErrorType::EnvelopeError, "expected a JSON object, found a number".into()));
    assert!(fault(arrival(), "[1]").1.contains("whose elements must be records"));
}

#[test]
fn envelope_strings_are_strings_unless_a_flag_copies_them() {
    assert!(fault(arrival(), r#"{"source":7}"#).1.contains("--field source=source converts it to text"));
    assert_eq!(text(&one(arrival(), r#"{"user_id":7}"#), "user_id"), "7");
    assert_eq!(fault(arrival(), r#"{"source":"\ud800"}"#).0, ErrorType::EnvelopeError);
    let options = Options { fields: vec![field("source", "source")], ..arrival() };
    assert_eq!(text(&one(options, r#"{"source":7}"#), "source"), "7");
}

#[test]
fn copied_fields_reach_inside_and_stay_properties() {
    let options = Options { fields: vec![field("event_type", "type"), field("user_id", "actor.id")], ..arrival() };
    let batch = one(options, r#"{"type":"Push","actor":{"id":5,"id":6},"event_type":"mine"}"#);
    assert_eq!((text(&batch, "event_type"), text(&batch, "user_id")), ("Push", "6"));
    assert_eq!(text(&batch, "properties"), r#"{"type":"Push","actor":{"id":5,"id":6},"event_type":"mine"}"#);
}

#[test]
fn ingest_overwrites_provenance_and_keeps_what_the_record_had_as_a_property() {
    let batch = one(arrival(), r#"{"origin":"x","offset":9,"stream_time":"2099-01-01T00:00:00Z"}"#);
    assert_eq!(text(&batch, "properties"), r#"{"origin":"x","offset":9,"stream_time":"2099-01-01T00:00:00Z"}"#);
    assert_eq!(batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(instant(&batch, "stream_time"), NOW);
}

/// One event after it has passed several topics of raw records.
#[test]
fn the_first_provenance_stays_a_property_however_often_an_event_is_stamped_anew() {
    let first = r#"{"a":1,"origin":"x","offset":9,"event_time":"2024-01-01T00:00:00Z"}"#;
    let beside = r#""origin":"y","offset":7,"partition":"3","server_timestamp":"2024-01-01T00:00:00Z""#;
    let again = format!(r#"{{"properties":{first},{beside},"event_time":"2024-02-01T00:00:00Z"}}"#);
    let batch = one(Options::default(), &again);
    let wanted = format!(r#"{},"partition":"3"}}"#, first.trim_end_matches('}'));
    assert_eq!(text(&batch, "properties"), wanted);
    let record = format!(r#"{{"properties":{first},{beside},"a":2}}"#);
    assert_eq!(
        fault(Options::default(), &record).1,
        "a: duplicate name, in the record and in its properties; --plain keeps both"
    );
}

fn keep() -> Options {
    Options { provenance: Provenance::Keep, ..Options::default() }
}

const STAMPED: &str = r#""event_time":"2024-01-01T00:00:00Z","server_timestamp":"2024-01-01T00:00:01Z","origin":"o",
    "partition":"p","offset":9,"stream_time":"2024-01-01T00:05:00Z""#;

#[test]
fn other_tools_keep_the_stamps_of_a_record_that_has_all_it_must_have() {
    for optional in ["", r#","ingested_at":null"#, r#","ingested_at":"2024-01-01T00:00:02Z","schema_id":"4""#] {
        let batch = one(keep(), &format!("{{{STAMPED}{optional}}}"));
        assert_eq!(instant(&batch, "stream_time"), parse_instant("2024-01-01T00:05:00Z").unwrap());
        assert_eq!(instant(&batch, "event_time"), parse_instant("2024-01-01T00:00:00Z").unwrap());
        assert_eq!(batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>().value(0), 9);
        assert_eq!(text(&batch, "properties"), "{}");
        let ingested_at = if optional.contains(":02Z") { parse_instant("2024-01-01T00:00:02Z").unwrap() } else { NOW };
        assert_eq!(instant(&batch, "ingested_at"), ingested_at);
    }
}

/// If a provenance field is malformed, all of them are properties in every tool, in the record's order.
#[test]
fn stamps_that_are_not_whole_or_of_another_type_are_properties() {
    let base =
        [r#""server_timestamp":"2024-01-01T00:00:01Z""#, r#""origin":"o""#, r#""partition":"p""#, r#""offset":9"#];
    let time = r#""stream_time":"2024-01-01T00:05:00Z""#;
    let whole = [&base[..], &[time]].concat();
    let without = |at: usize| [&whole[..at], &whole[at + 1..]].concat();
    let with = |at: usize, other: &'static str| [&whole[..at], &[other], &whole[at + 1..]].concat();
    let cases = [
        without(1),
        without(2),
        without(3),
        without(4),
        with(1, r#""origin":7"#),
        with(1, r#""origin":"\ud800""#),
        with(2, r#""partition":3"#),
        with(2, r#""partition":null"#),
        with(3, r#""offset":9.5"#),
        with(3, r#""offset":{}"#),
        with(3, r#""offset":1,"offset":2"#),
        with(4, r#""stream_time":"soon""#),
        with(4, r#""stream_time":5"#),
        [&whole[..], &[r#""ingested_at":5"#]].concat(),
        [&whole[..], &[r#""schema_id":"x""#]].concat(),
        [&whole[..], &[r#""ingested_at":"a","ingested_at":"b""#]].concat(),
    ];
    for case in cases {
        let record = format!("{{{},\"x\":1}}", case.join(","));
        let (batch, ingested) = (one(keep(), &record), one(Options::default(), &record));
        assert_eq!(batch, ingested, "{record}");
        let wanted = format!("{{{},\"x\":1}}", case[1..].join(","));
        assert_eq!(text(&batch, "properties"), wanted);
        assert_eq!(batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>().value(0), 1);
    }
}

#[test]
fn what_a_flag_maps_is_not_carried() {
    let record = format!("{{{STAMPED},\"p\":\"q\"}}");
    for (options, left) in [
        (Options { fields: vec![field("partition", "p")], ..keep() }, r#""partition":"p","#),
        (Options { sets: vec![field("partition", "q")], ..keep() }, r#""partition":"p","#),
        (Options { fields: vec![field("partition", "partition")], ..keep() }, ""),
    ] {
        let batch = one(options, &record);
        assert_eq!(instant(&batch, "stream_time"), parse_instant("2024-01-01T00:00:01Z").unwrap());
        let properties = text(&batch, "properties");
        assert!(properties.contains(r#""origin":"o""#) && properties.contains(r#""offset":9"#), "{properties}");
        assert_eq!(properties.contains(r#""partition":"p""#), !left.is_empty(), "{properties}");
    }
    let copied = one(
        Options { fields: vec![field("user_id", "offset")], ..keep() },
        r#"{"server_timestamp":"2024-01-01T00:00:01Z","offset":5}"#,
    );
    assert_eq!((text(&copied, "user_id"), text(&copied, "properties")), ("5", r#"{"offset":5}"#));
}

#[test]
fn a_value_that_a_flag_replaces_stays_a_property() {
    let options = Options { hash_ids: true, sets: vec![field("source", "web")], ..arrival() };
    let batch = one(options, r#"{"event_id":"order-17","source":{"ip":"1.1.1.1"},"n":1}"#);
    assert_eq!(text(&batch, "source"), "web");
    assert_eq!(text(&batch, "properties"), r#"{"source":{"ip":"1.1.1.1"},"n":1,"event_id":"order-17"}"#);
    let uuid = "58aedb27-dcc1-534a-ba59-63b291b9768e";
    let hashes = || Options { hash_ids: true, ..arrival() };
    assert_eq!(text(&one(hashes(), &format!("{{\"event_id\":\"{uuid}\"}}")), "properties"), "{}");
    let copied = Options { fields: vec![field("event_id", "event_id")], ..hashes() };
    assert_eq!(text(&one(copied, r#"{"event_id":17}"#), "properties"), r#"{"event_id":17}"#);
    let elsewhere = Options { fields: vec![field("event_id", "o.id")], ..hashes() };
    let kept = r#"{"event_id":"x","o":{"id":"y"}}"#;
    assert_eq!(text(&one(elsewhere, kept), "properties"), kept);
}

/// A watched value is the same as the one in the record's properties.
#[test]
fn a_watched_property_is_the_one_that_the_properties_show() {
    let names = ["offset", "event_time", "event_id", "x"];
    let options = || Options { hash_ids: true, ..reading(&names) };
    for record in [
        r#"{"offset":7,"event_time":"2024-01-01T00:00:00Z","event_id":"a\u0062","x":1}"#,
        r#"{"properties":{"offset":5,"event_time":"t"},"offset":7,"event_time":8,"x":2,"x":3}"#,
        r#"{"offset":7,"offset":8,"properties":{"y":1}}"#,
    ] {
        let batch = one(options(), record);
        let mut shown = [None; 4];
        crate::json::walk::members(text(&batch, "properties"), |key, value| {
            names.iter().zip(&mut shown).filter(|(name, _)| **name == key).for_each(|(_, shown)| *shown = Some(value));
            true
        });
        for (name, shown) in names.iter().zip(shown) {
            let column = batch.column_by_name(&crate::kind::event::watched_name(name)).unwrap().as_string::<i32>();
            assert_eq!(column.is_valid(0).then(|| column.value(0)), shown, "{name} of {record}");
        }
    }
}

#[test]
fn a_first_record_without_a_time_ends_the_run_and_a_later_one_is_dead() {
    let mut bench = Bench::new(Options::default());
    assert!(matches!(bench.record(r#"{"a":1}"#), Mapped::NoTime));
    assert!(matches!(bench.record(r#"{"server_timestamp":"2024-01-01T00:00:00Z"}"#), Mapped::Row));
    match bench.record(r#"{"a":1}"#) {
        Mapped::Dead(fault) => assert_eq!(fault.error_type, ErrorType::TimestampError),
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_unreadable_time_is_a_fault() {
    for record in [r#"{"client_timestamp":"yesterday"}"#, r#"{"server_timestamp":5}"#] {
        assert_eq!(fault(arrival(), record).0, ErrorType::TimestampError, "{record}");
    }
}

#[test]
fn a_made_id_is_the_same_for_the_same_record_at_the_same_place_only() {
    let id = |offset: i64, record: &str| {
        let mut bench = Bench::new(arrival());
        bench.line = offset - 1;
        bench.record(record);
        bench.batch().column(0).as_fixed_size_binary().value(0).to_vec()
    };
    assert_eq!(id(1, r#"{"a":1}"#), id(1, r#"{"a":1}"#));
    assert_ne!(id(1, r#"{"a":1}"#), id(2, r#"{"a":1}"#));
    assert_ne!(id(1, r#"{"a":1}"#), id(1, r#"{"a":2}"#));
}

#[test]
fn an_id_that_is_no_uuid_is_a_fault_unless_ids_are_hashed() {
    assert_eq!(fault(arrival(), r#"{"event_id":"order-7"}"#).0, ErrorType::EnvelopeError);
    let hashed = |source: &str| {
        let options = Options { hash_ids: true, ..arrival() };
        let batch = one(options, &format!(r#"{{"event_id":"order-7","source":"{source}"}}"#));
        batch.column(0).as_fixed_size_binary().value(0).to_vec()
    };
    assert_eq!(hashed("a"), hashed("a"));
    assert_ne!(hashed("a"), hashed("b"));
}

#[test]
fn required_fields_are_columns_or_properties_and_null_does_not_count() {
    let options = || Options { require: vec!["event_type".into(), "cart.id".into()], ..arrival() };
    one(options(), r#"{"event_type":"a","cart":{"id":1}}"#);
    assert!(fault(options(), r#"{"event_type":"a","cart":{"id":null}}"#).1.starts_with("cart.id: required"));
    assert!(fault(options(), r#"{"event_type":null,"cart":{"id":1}}"#).1.starts_with("event_type: required"));
}

#[test]
fn stream_time_is_the_largest_event_time_so_far_of_the_partition() {
    let options = Options { fields: vec![field("partition", "p")], ..Options::default() };
    let mut bench = Bench::new(options);
    for (partition, second) in [("a", 5), ("b", 9), ("a", 3), ("b", 1), ("a", 7)] {
        bench.record(&format!(r#"{{"p":"{partition}","server_timestamp":"2024-01-01T00:00:0{second}Z"}}"#));
    }
    let batch = bench.batch();
    let times = batch.column_by_name("stream_time").unwrap().as_primitive::<TimestampMicrosecondType>();
    let seconds: Vec<i64> = times.values().iter().map(|time| time / 1_000_000 % 60).collect();
    assert_eq!(seconds, [5, 9, 5, 9, 7]);
}

#[test]
fn watched_properties_have_columns_of_their_own_whatever_shape_the_record_has() {
    let options = || reading(&["country", "n"]);
    for record in [
        r#"{"properties":{"country":"US","x":1,"country":"DE","n":null}}"#,
        r#"{"x":1,"country":"US","c\u006funtry":"DE","n":null}"#,
        r#"{"country":"DE","properties":{"n":null}}"#,
    ] {
        let batch = one(options(), record);
        assert_eq!(text(&batch, "properties.country"), r#""DE""#, "{record}");
        assert_eq!(text(&batch, "properties.n"), "null", "{record}");
    }
    let mut bench = Bench::new(options());
    bench.record(r#"{"properties":{"country":"US"}}"#);
    bench.record(r#"{"event_type":"none"}"#);
    assert!(bench.batch().column_by_name("properties.country").unwrap().is_null(1));
}

/// Whether the reader reports the names as distinct, and whether those of the properties are.
fn distinct(bench: &mut Bench, record: &str) -> Option<(bool, bool)> {
    if !matches!(bench.record(record), Mapped::Row) {
        return None; // a name in properties and beside them
    }
    let batch = bench.batch();
    let (mut names, mut count) = (std::collections::HashSet::new(), 0);
    crate::json::walk::members(text(&batch, "properties"), |key, _| {
        names.insert(crate::json::text::unescape(key).into_owned());
        count += 1;
        true
    });
    Some((batch.column_by_name("distinct").unwrap().as_boolean().value(0), names.len() == count))
}

#[test]
fn names_are_said_to_be_distinct_only_where_they_are() {
    let mut bench =
        Bench::new(Options { reads: ReadColumns { distinct_names: true, ..ReadColumns::default() }, ..arrival() });
    for (record, expected) in [
        (r#"{"properties":{"a":1,"b":2}}"#, (true, true)),
        (r#"{"properties":{"a":1,"b":2,"a":3}}"#, (false, false)),
        (r#"{"a":1,"b":2}"#, (true, true)),
        (r#"{"a":1,"b":2,"a":3}"#, (false, false)),
        (r#"{"a":1,"properties":{"b":1}}"#, (true, true)),
        (r#"{"a" :1,"a":2}"#, (false, false)),
        (r#"{"a":1,"\u0061":2}"#, (false, false)),
        (r#"{"event_type":"t"}"#, (true, true)),
    ] {
        assert_eq!(distinct(&mut bench, record), Some(expected), "{record}");
    }
}

proptest::proptest! {
    #![proptest_config(crate::test_cases::cases(1000))]

    #[test]
    fn no_name_that_comes_twice_is_overlooked(
        inside in proptest::collection::vec(0usize..90, 0..12),
        beside in proptest::collection::vec(0usize..90, 0..12),
        whole in proptest::bool::ANY,
    ) {
        // More names than the predictor remembers, some of them spelled in several ways.
        let member = |n: &usize| match n {
            0..5 => "\"a\":1".to_owned(),
            5..8 => "\"a\" :1".to_owned(),
            8..10 => "\"\\u0061\":1".to_owned(),
            n => format!("\"name{n}\":1"),
        };
        let members = |picked: &[usize]| picked.iter().map(member).collect::<Vec<_>>().join(",");
        let mut bench = Bench::new(Options { reads: ReadColumns { distinct_names: true, ..ReadColumns::default() }, ..arrival() });
        for n in 10..90 {
            bench.record(&format!("{{{}}}", member(&n)));
        }
        bench.batch();
        let record = match (whole, beside.is_empty()) {
            (false, _) => format!("{{{}}}", members(&beside)),
            (true, true) => format!("{{\"properties\":{{{}}}}}", members(&inside)),
            (true, false) => format!("{{\"properties\":{{{}}},{}}}", members(&inside), members(&beside)),
        };
        if let Some((said, are)) = distinct(&mut bench, &record) {
            proptest::prop_assert!(are || !said, "{}", record);
        }
    }
}

#[test]
fn a_clock_in_the_future_is_judged_by_the_rows_that_follow() {
    let options = Options { max_future: Some(3_600_000_000), time: TimeFrom::Field("t".into()), ..Options::default() };
    let (mut bench, mut waiting) = (Bench::new(options), Lookahead::new(3_600_000_000));
    let mut record = |hour: u32| {
        let text = format!(r#"{{"t":"2024-01-01T{hour:02}:00:00Z"}}"#);
        let outcome = bench.record(&text);
        let Mapped::Pending(check) = outcome else { panic!("{outcome:?}") };
        let meta = RecordMeta::of_file("a.jsonl", bench.partition).at(bench.line);
        let record = Record { text: &text, raw: text.as_bytes(), meta, now: NOW, verdict: FutureVerdict::ByArrival };
        waiting.push(PendingRecord::new(record, check), Reach::Pipe);
        waiting.pop_judged().map(|judged| match judged {
            Judged::Record(held, verdict) => (held.offset(), verdict),
            Judged::Letter(letter) => panic!("{letter:?}"),
        })
    };
    assert!(record(20).is_none());
    for _ in 0..99 {
        assert!(record(10).is_none());
    }
    let (offset, verdict) = record(10).unwrap();
    let fault = verdict.unwrap_err();
    assert_eq!((offset, fault.error_type), (1, ErrorType::FutureTimestampError));
    let said = "2024-01-01T20:00:00.000000Z is more than 1h after the median of the rows that follow, 2024-01-01T10:00:00.000000Z";
    assert_eq!(fault.message, said);
    assert_eq!(record(10), Some((2, Ok(()))));
}

#[test]
fn a_batch_is_full_with_the_texts_of_any_column() {
    let time = r#""server_timestamp":"2024-01-15T10:00:00Z""#;
    let long = "x".repeat(BATCH_BYTES / 2);
    // Of dictionaries, a value that the batch has already takes no space.
    let dictionaries = 1 << column::SOURCE | 1 << column::EVENT_TYPE;
    let coded = ReadColumns { columns: Some(Projection { columns: u32::MAX, dictionaries }), ..ReadColumns::default() };
    for (name, reads, is_coded) in [
        ("user_id", ReadColumns::default(), false),
        ("source", ReadColumns::default(), false),
        ("event_type", ReadColumns::default(), false),
        ("other", ReadColumns::default(), false),
        ("source", coded.clone(), true),
        ("event_type", coded, true),
    ] {
        let mut bench = Bench::new(Options { reads, ..Options::default() });
        let mut is_full = |value: &str| {
            assert!(matches!(bench.record(&format!(r#"{{{time},"{name}":"{value}"}}"#)), Mapped::Row));
            bench.mapper.is_full()
        };
        assert!(!is_full(&long), "{name}");
        assert_eq!(is_full(&long), !is_coded, "{name}");
        assert!(is_full(&format!("{long}2")), "{name}");
        bench.batch();
        assert!(!bench.mapper.is_full(), "{name}");
    }
}

#[test]
fn rows_that_were_dropped_leave_nothing_in_the_next_batch() {
    let dropped = [
        r#"{"event_id":"11111111-2222-3333-4444-555555555555","source":"s","user_id":"u","client_timestamp":"2024-01-15T10:00:00Z","x":"1","x":2}"#,
        r#"{"source":"other","event_type":"t"}"#,
    ];
    let kept = [
        r#"{"event_id":"11111111-2222-3333-4444-555555555556","source":"s","x":"3"}"#,
        r#"{"event_type":"t","user_id":"w"}"#,
    ];
    let dictionaries = 1 << column::SOURCE | 1 << column::EVENT_TYPE;
    let projections = [
        None,
        Some(Projection { columns: u32::MAX, dictionaries }),
        Some(Projection { columns: 1 << column::EVENT_ID | 1 << column::SOURCE, dictionaries: 0 }),
    ];
    for columns in projections {
        for keep_raw in [KeepRaw::No, KeepRaw::Within, KeepRaw::Column] {
            let reads = ReadColumns {
                properties: vec!["x".to_owned()],
                distinct_names: true,
                columns,
                ..ReadColumns::default()
            };
            let options = Options { keep_raw, parts: RecordParts::All, reads, ..arrival() };
            let (mut cleared, mut new) = (Bench::new(options.clone()), Bench::new(options));
            for text in dropped {
                assert!(matches!(cleared.record(text), Mapped::Row), "{text}");
            }
            cleared.mapper.clear().unwrap();
            assert!(cleared.mapper.last().is_none() && cleared.mapper.rows() == 0 && !cleared.mapper.is_full());
            (cleared.line, new.line) = (2, 2);
            for text in kept {
                assert!(matches!((cleared.record(text), new.record(text)), (Mapped::Row, Mapped::Row)), "{text}");
            }
            let (cleared, new) = (cleared.batch(), new.batch());
            assert_eq!(cleared.num_rows(), 2);
            assert_eq!(cleared, new, "{columns:?}, {keep_raw:?}");
        }
    }
}
