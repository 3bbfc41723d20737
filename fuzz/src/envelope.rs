//! Records to events: the verdict on a record, and what becomes of its properties.

use super::cuts::chosen;
use super::json::is_json;
use arrow::array::{AsArray, RecordBatch};
use evt_core::json::{text, walk};
use evt_core::kind::dead::ErrorType;
use evt_core::kind::event::{COLUMNS, column};
use evt_core::mapping::{
    FutureVerdict, KeepRaw, Mapped, Mapper, Options, PartitionTable, Provenance, ReadColumns, Record, RecordMeta,
    TimeFrom, TimeUnit, When,
};
use evt_core::time::parse_instant;
use serde_json::value::RawValue;

const NOW: i64 = 1_700_000_000_000_000;

/// Flags by the bits of a byte. Records need no time in any of them but the last two bits.
fn options(flags: u8) -> Options {
    let is = |bit: u8| flags & 1 << bit != 0;
    let when = When {
        unit: is(3).then_some(TimeUnit::Seconds),
        format: is(4).then(|| "%d/%b/%Y:%H:%M:%S%.f %z".to_owned()),
        zone: is(4).then(|| When::zone("Europe/Berlin").expect("a zone")),
    };
    Options {
        time: if is(7) { TimeFrom::Optional } else { TimeFrom::Arrival },
        hash_ids: is(0),
        reads: ReadColumns {
            properties: if is(1) { vec!["page".into(), "n".into()] } else { vec![] },
            ..ReadColumns::default()
        },
        fields: if is(5) { vec![("event_type".into(), "a.b".into())] } else { vec![] },
        keep_raw: if is(2) { KeepRaw::Within } else { KeepRaw::No },
        provenance: if is(6) { Provenance::Keep } else { Provenance::Overwrite },
        when,
        ..Options::default()
    }
}

/// Maps lines with one mapper and each with a fresh one: what came before a record must not matter.
pub fn run(input: &[u8]) {
    let Some((flags, rest)) = chosen(input) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let new_mapper = || Mapper::new(options(flags)).expect("options");
    let (mut mapper, mut partition_table) = (new_mapper(), PartitionTable::default());
    for (line, offset) in text.split('\n').zip(1..) {
        let first = map(&mut mapper, &mut partition_table, line, offset);
        let second = map(&mut new_mapper(), &mut PartitionTable::default(), line, offset);
        assert_eq!(first, second, "{line:?}");
        check(line, flags, &second);
    }
}

/// What became of a record: its row, or its fault's type and message.
#[derive(Debug, PartialEq)]
enum Outcome {
    Row(RecordBatch),
    Dead(ErrorType, String),
}

fn map(mapper: &mut Mapper, partition_table: &mut PartitionTable, line: &str, offset: i64) -> Outcome {
    let partition = partition_table.partition("f", "0");
    mapper.turn_to(partition, ("f", "0"));
    let meta = RecordMeta::of_file("f", partition).at(offset);
    let record = Record { text: line, raw: line.as_bytes(), meta, now: NOW, verdict: FutureVerdict::ByArrival };
    match mapper.record(record).expect("a batch can be built") {
        Mapped::Dead(fault) => Outcome::Dead(fault.error_type, fault.message),
        Mapped::Row => {
            let batch = mapper.finish().expect("rows").stamp(partition_table, None).expect("a batch").expect("a row");
            // Stream time and partition codes are of the rows before, too.
            let own = (0..batch.num_columns())
                .filter(|at| ![column::ORIGIN, column::PARTITION, column::STREAM_TIME].contains(at));
            Outcome::Row(batch.project(&own.collect::<Vec<_>>()).expect("columns"))
        }
        other => panic!("{other:?} of a record that needs no time"),
    }
}

/// Whether a record carries stamps: each of the first four, each that it has of its type, none twice (decision 061).
fn carries_stamps(line: &str) -> bool {
    const STAMPS: [&str; 6] = ["origin", "partition", "offset", "stream_time", "ingested_at", "schema_id"];
    let (mut seen, mut fits) = ([0; STAMPS.len()], true);
    walk::members(line.trim_start_matches([' ', '\t', '\r', '\n']), |key, value| {
        let Some(at) = STAMPS.iter().position(|stamp| *stamp == text::unescape(key)) else { return true };
        seen[at] += 1;
        let string = serde_json::from_str::<String>(value).ok();
        fits &= match STAMPS[at] {
            "ingested_at" | "schema_id" if value == "null" => true,
            "origin" | "partition" => string.is_some(),
            "offset" | "schema_id" => value.trim_matches('"').parse::<i64>().is_ok(),
            _ => string.is_some_and(|text| parse_instant(&text).is_some()),
        };
        true
    });
    fits && seen[..4] == [1; 4] && seen.iter().all(|times| *times <= 1)
}

fn check(line: &str, flags: u8, outcome: &Outcome) {
    let refused = matches!(outcome, Outcome::Dead(ErrorType::ParseError, _));
    assert_eq!(refused, !is_json(line), "{line:?}: {outcome:?}");
    let Outcome::Row(batch) = outcome else { return };
    let properties = batch.column(column::PROPERTIES).as_string::<i32>().value(0);
    assert!(is_json(properties) && properties.starts_with('{'), "{properties:?} of {line:?}");
    let keep = flags & 1 << 6 != 0 && carries_stamps(line);
    // A column that is copied from elsewhere leaves the record's field of that name a property.
    let copied = |name: &str| flags & 1 << 5 != 0 && name == "event_type";
    let own = |name: &str| {
        let at = COLUMNS.iter().position(|column| *column == name);
        at.is_some_and(|at| keep || at <= 6) && !copied(name)
    };
    let mut seen = vec![];
    let mut expected = vec![];
    walk::members(line.trim_start_matches([' ', '\t', '\r', '\n']), |key, value| {
        let name = text::unescape(key).into_owned();
        if own(&name) {
            assert!(!seen.contains(&name), "{name} occurs twice in {line:?}");
            let text = ["source", "event_type", "user_id", "event_id"].contains(&name.as_str());
            let holds = serde_json::from_str::<Option<String>>(value).is_ok();
            assert!(!text || holds, "{name} is not text in {line:?}");
            seen.push(name.clone());
        }
        match name.as_str() {
            "properties" => walk::members(value, |key, value| {
                expected.push((text::unescape(key).into_owned(), value.to_owned()));
                true
            }),
            _ if !own(&name) => expected.push((name, value.to_owned())),
            _ => {}
        }
        true
    });
    let mut found = vec![];
    walk::members(properties, |key, value| {
        assert!(serde_json::from_str::<&RawValue>(value).is_ok());
        found.push((text::unescape(key).into_owned(), value.to_owned()));
        true
    });
    // An event time that was not used may have become one.
    for list in [&mut found, &mut expected] {
        list.retain(|(name, _)| name != "event_time");
        list.sort_unstable();
    }
    assert_eq!(found, expected, "{line:?}");
}
