use super::*;
use crate::kind::dead::ErrorType;
use crate::time::{format_instant, parse_instant};
use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Returns all lines of `options` and what the generator reports of each.
pub fn make(options: Options) -> Vec<(Vec<u8>, Generated)> {
    let mut generator = Generator::new(options).unwrap();
    let mut lines = vec![];
    loop {
        let mut line = vec![];
        match generator.next(&mut line) {
            Some(made) => lines.push((line, made)),
            None => return lines,
        }
    }
}

fn digest(options: Options) -> u64 {
    let mut generator = Generator::new(options).unwrap();
    let mut bytes = vec![];
    while generator.next(&mut bytes).is_some() {
        bytes.push(b'\n');
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// Returns options for some of every outcome but the megabyte records.
pub fn mixed(events: u64, seed: u64) -> Options {
    Options {
        events,
        seed,
        partitions: 3,
        schema_versions: 2,
        late: 0.05,
        duplicates: 0.05,
        future: 0.05,
        malformed: 0.1,
        invalid: 0.05,
        ..Options::default()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}

/// Returns the verdict of evt-ingest and, for a schema, evt-validate on a line, by independent parsers.
pub fn verdict(line: &[u8]) -> Result<Value, ErrorType> {
    if line.len() > 1 << 20 {
        return Err(ErrorType::TooLargeError);
    }
    let value: Value = serde_json::from_slice(line).map_err(|_| ErrorType::ParseError)?;
    let Some(object) = value.as_object() else { return Err(ErrorType::EnvelopeError) };
    let id = object["event_id"].as_str().and_then(|id| uuid::Uuid::parse_str(id).ok());
    let strings = ["source", "event_type"].iter().all(|name| object[*name].is_string());
    let Some(properties) = object["properties"].as_object() else { return Err(ErrorType::EnvelopeError) };
    if id.is_none() || !strings || object.keys().any(|name| properties.contains_key(name)) {
        return Err(ErrorType::EnvelopeError);
    }
    let readable = |name| object.get(name).and_then(Value::as_str).and_then(parse_instant).is_some();
    if !readable("server_timestamp") || !readable("client_timestamp") {
        return Err(ErrorType::TimestampError);
    }
    if !follows_schema(text(&object["event_type"]), properties) {
        return Err(ErrorType::SchemaValidationError);
    }
    Ok(value)
}

/// Returns the schema of the demo for `event_type` in `version`.
fn schema_text(event_type: &str, version: u32) -> String {
    let path = format!("{}/../../examples/schemas/{event_type}/{version}.avsc", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn follows_schema(event_type: &str, properties: &serde_json::Map<String, Value>) -> bool {
    let version = 1 + u32::from(properties.contains_key("experiment"));
    let schema: Value = serde_json::from_str(&schema_text(event_type, version)).unwrap();
    let fields = schema["fields"].as_array().unwrap();
    let fits = |field: &Value| match (properties.get(text(&field["name"])), &field["type"]) {
        (None, _) => false,
        (Some(value), Value::String(kind)) if kind == "string" => value.is_string(),
        (Some(value), Value::String(kind)) => kind == "double" && value.is_number(),
        (Some(value), Value::Array(_)) => value.is_string() || value.is_null(),
        (Some(value), one_of) => one_of["symbols"].as_array().unwrap().contains(value),
    };
    fields.len() == properties.len() && fields.iter().all(fits)
}

#[test]
fn every_schema_is_avro_and_its_versions_read_each_other() {
    for event_type in record::EVENT_TYPES {
        let [one, two] = [1, 2].map(|version| Schema::parse_str(&schema_text(event_type, version)).unwrap());
        assert_ne!(one, two);
        SchemaCompatibility::mutual_read(&one, &two).unwrap();
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_for_ever() {
    let clean = Options { events: 10_000, seed: 7, ..Options::default() };
    let first = String::from_utf8(make(clean.clone()).swap_remove(0).0).unwrap();
    assert_eq!(first, FIRST_LINE);
    assert_eq!(digest(clean), 4_289_729_277_062_867_911);
    assert_eq!(digest(mixed(10_000, 7)), 15_954_603_283_121_353_991);
}

/// Record 0 of seed 7.
const FIRST_LINE: &str = concat!(
    r#"{"event_id":"e1332a7d-b412-45a9-a6af-094f768935b3","source":"server","event_type":"error","user_id":"u-00006198","#,
    r#""properties":{"page":"/shop/home/0320","country":"SE","device":"mobile","latency_ms":1673.543,"#,
    r#""referrer":"https://ref22.example.com/l?c=814","session_id":"97bf899e-98bf-496b-9d18-93167dec9039","#,
    r#""ua":"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/129.0.0.0","campaign":null},"#,
    r#""client_timestamp":"2026-01-01T00:00:04.489151Z","server_timestamp":"2026-01-01T00:00:04.817597Z"}"#,
);

#[test]
fn another_seed_gives_other_records() {
    let ids = |seed| make(mixed(1000, seed)).into_iter().map(|(_, made)| made.event.event_id).collect::<HashSet<_>>();
    assert!(ids(7).is_disjoint(&ids(8)));
}

#[test]
fn by_default_every_record_is_a_clean_event() {
    let lines = make(Options { events: 20_000, seed: 1, ..Options::default() });
    let mut stream_time = i64::MIN;
    let mut ids = HashSet::new();
    let (mut behind_max, mut bytes) = (0, 0);
    for (line, made) in &lines {
        let value = verdict(line).unwrap();
        assert_eq!(made.outcome, ExpectedOutcome::Clean);
        assert!(ids.insert(text(&value["event_id"]).to_owned()));
        let time = parse_instant(text(&value["server_timestamp"])).unwrap();
        stream_time = stream_time.max(time);
        behind_max = behind_max.max(stream_time - time);
        assert!((400..=540).contains(&line.len()), "{}", line.len());
        bytes += line.len();
        assert!(time >= Options::default().start);
    }
    assert!(behind_max > SECOND && behind_max <= 5 * SECOND, "{behind_max}");
    assert!((450..=520).contains(&(bytes / lines.len())), "{}", bytes / lines.len());
    let first_minute = parse_instant("2026-01-01T00:00:00Z").unwrap();
    assert!((stream_time - first_minute - 25 * SECOND).abs() < SECOND, "{}", format_instant(stream_time));
}

#[test]
fn a_line_says_what_the_generator_says_it_does() {
    for (line, made) in make(mixed(5000, 3)) {
        let found = verdict(&line);
        let value = match (made.outcome, found) {
            (ExpectedOutcome::Defective(defect), found) => {
                assert_eq!(found, Err(defect.error_type()), "{defect:?} {}", String::from_utf8_lossy(&line));
                continue;
            }
            (_, found) => found.unwrap(),
        };
        let event = made.event;
        let properties = &value["properties"];
        assert_eq!(text(&value["event_id"]), uuid::Uuid::from_u128(event.event_id).to_string());
        assert_eq!(uuid::Uuid::from_u128(event.event_id).get_version_num(), 4);
        assert_eq!(text(&value["event_type"]), event.event_type);
        assert_eq!(text(&value["source"]), event.source);
        assert_eq!(value["user_id"].as_str().map(str::to_owned), event.user.map(record::user_text));
        assert_eq!(text(&value["shard"]), event.shard.to_string());
        assert_eq!(text(&properties["page"]), record::page_text(event.page));
        assert_eq!(text(&properties["country"]), event.country);
        assert_eq!(text(&properties["device"]), event.device);
        assert_eq!(properties.get("experiment").is_some(), event.schema_version == 2);
        assert_eq!(text(&value["client_timestamp"]), format_instant(event.client_timestamp));
        assert_eq!(text(&value["server_timestamp"]), format_instant(event.server_timestamp));
    }
}

#[test]
fn every_defect_occurs_and_fails_as_it_says() {
    let mut seen = HashMap::new();
    let options = Options { malformed: 0.5, too_large: 0.002, ..mixed(3000, 4) };
    for (line, made) in make(options) {
        assert!(!line.is_empty() && !line.contains(&b'\n'));
        if let ExpectedOutcome::Defective(defect) = made.outcome {
            assert_eq!(verdict(&line).err(), Some(defect.error_type()), "{defect:?}");
            *seen.entry(defect).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), defect::MALFORMED.len() + defect::INVALID.len() + 1, "{seen:?}");
    let deep = make(Options { malformed: 0.5, ..mixed(500, 4) });
    let found = deep.iter().find(|(_, made)| made.outcome == ExpectedOutcome::Defective(Defect::TooDeep));
    assert!(!crate::json::scan::is_json(str::from_utf8(&found.unwrap().0).unwrap()));
}

#[test]
fn the_first_record_is_clean_whatever_the_shares() {
    for seed in 0..50 {
        let options =
            Options { malformed: 1.0, late: 0.0, duplicates: 0.0, future: 0.0, invalid: 0.0, ..mixed(1, seed) };
        assert_eq!(make(options)[0].1.outcome, ExpectedOutcome::Clean);
    }
}

#[test]
fn a_duplicate_repeats_a_recent_line_and_is_in_time() {
    for rate in [0.01, 2.0, 1000.0] {
        let lines = make(Options { rate, duplicates: 0.3, ..mixed(3000, 9) });
        let mut stream_time = i64::MIN;
        let mut repeats = 0;
        for (n, (line, made)) in lines.iter().enumerate() {
            let time = made.event.server_timestamp;
            if made.outcome == ExpectedOutcome::Duplicate {
                repeats += 1;
                assert!(lines[n.saturating_sub(130)..n].iter().any(|(earlier, _)| earlier == line), "{n}");
                assert!(stream_time - time <= 6 * SECOND, "{rate} {n}");
            }
            if !matches!(made.outcome, ExpectedOutcome::Defective(defect) if !defect.is_event()) {
                stream_time = stream_time.max(time);
            }
        }
        assert!(repeats > 600, "{repeats}");
    }
}

#[test]
fn a_late_record_lies_behind_the_stream_time_of_its_partition() {
    let options = mixed(5000, 11);
    let mut stream_time = [i64::MIN; 3];
    let mut late = 0;
    for (_, made) in make(options.clone()) {
        let largest = &mut stream_time[made.event.shard as usize];
        let behind = largest.saturating_sub(made.event.server_timestamp);
        match made.outcome {
            ExpectedOutcome::Late => {
                late += 1;
                assert!((options.late_by..=2 * options.late_by).contains(&behind), "{behind}");
            }
            ExpectedOutcome::Defective(defect) if !defect.is_event() => continue,
            _ => assert!(behind <= options.disorder + SECOND, "{behind}"),
        }
        *largest = (*largest).max(made.event.server_timestamp);
    }
    assert!(late > 150, "{late}");
}

#[test]
fn a_user_stays_in_one_partition() {
    let mut shards = HashMap::new();
    for (_, made) in make(mixed(5000, 2)) {
        if let Some(user) = made.event.user {
            assert_eq!(*shards.entry(user).or_insert(made.event.shard), made.event.shard);
        }
    }
    assert_eq!(shards.into_values().collect::<HashSet<_>>().len(), 3);
}

#[test]
fn an_option_out_of_its_range_is_refused_by_its_name() {
    let good = Options::default;
    for (name, options) in [
        ("rate", Options { rate: 0.0, ..good() }),
        ("rate", Options { rate: f64::NAN, ..good() }),
        ("skew", Options { skew: -1.0, ..good() }),
        ("late", Options { late: 1.5, ..good() }),
        ("malformed", Options { malformed: f64::NAN, ..good() }),
        ("shares", Options { late: 0.6, malformed: 0.6, ..good() }),
        ("partitions", Options { partitions: 0, ..good() }),
        ("users", Options { users: 0, ..good() }),
        ("countries", Options { countries: 41, ..good() }),
        ("event-types", Options { event_types: 9, ..good() }),
        ("schema-versions", Options { schema_versions: 3, ..good() }),
        ("disorder", Options { disorder: -1, ..good() }),
        ("late-by", Options { late_by: i64::MAX, ..good() }),
        ("start", Options { start: i64::MIN, ..good() }),
        ("start", Options { start: LATEST, ..good() }),
        ("start", Options { rate: 1e-6, ..good() }),
        ("start", Options { events: u64::MAX, ..good() }),
    ] {
        let error = Generator::new(options).err().unwrap();
        assert!(error.to_string().starts_with(name), "{name}: {error}");
        assert_eq!(error.kind(), crate::error::ErrorKind::Usage);
    }
}

proptest! {
    #![proptest_config(crate::test_cases::cases(24))]
    #[test]
    fn shares_are_what_was_asked_for(
        seed: u64, late in 0.0..0.16, duplicates in 0.0..0.16, future in 0.0..0.16, malformed in 0.0..0.16,
        invalid in 0.0..0.16,
    ) {
        let events = 20_000;
        let options = Options { late, duplicates, future, malformed, invalid, ..mixed(events, seed) };
        let mut found = [0u32; 5];
        for (_, made) in make(options) {
            match made.outcome {
                ExpectedOutcome::Clean => {}
                ExpectedOutcome::Late => found[0] += 1,
                ExpectedOutcome::Duplicate => found[1] += 1,
                ExpectedOutcome::Future => found[2] += 1,
                ExpectedOutcome::Defective(defect) if defect.is_event() => found[4] += 1,
                ExpectedOutcome::Defective(_) => found[3] += 1,
            }
        }
        for (count, share) in found.into_iter().zip([late, duplicates, future, malformed, invalid]) {
            let expected = share * events as f64;
            prop_assert!((f64::from(count) - expected).abs() < 6.0 * expected.sqrt() + 6.0, "{count} {expected}");
        }
    }
}
