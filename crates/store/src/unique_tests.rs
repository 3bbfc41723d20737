//! Stores whose ids of events are unique (`?key=event_id`) keep the least copy of the first transaction that has one.

use super::conformance::{Bench, Rows};
use super::sample::events;
use crate::{Store, postgres, sqlite};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use evt_core::error::ErrorKind;
use evt_core::kind::Kind;
use evt_run::checkpoint::epoch::Epoch;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A copy of an event: the number of the event, and the origin of the copy.
type Copied = (i64, &'static str);

fn benches() -> impl Iterator<Item = Bench> {
    let server = |store: &'static Store| Bench::on_server(store);
    [Some(Bench::new(&sqlite::STORE)), server(&postgres::STORE)].into_iter().flatten()
}

fn batch(copies: &[Copied]) -> RecordBatch {
    let single: Vec<RecordBatch> = copies.iter().map(|(n, origin)| events(origin, *n, n + 1)).collect();
    concat_batches(&Kind::Event.schema(), &single).unwrap()
}

/// The origin of the stored copy of each event, by its source, user and properties.
fn stored(bench: &Bench) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for batch in bench.read(Kind::Event) {
        let properties = batch.column_by_name("properties").unwrap().as_string::<i32>();
        let origins = batch.column_by_name("origin").unwrap().as_dictionary::<Int32Type>();
        let names = origins.values().as_string::<i32>();
        for row in 0..batch.num_rows() {
            let origin = names.value(origins.key(row).unwrap()).to_owned();
            let former = found.insert(properties.value(row).to_owned(), origin);
            assert_eq!(former, None, "an event is stored twice");
        }
    }
    found
}

fn properties(n: i64) -> String {
    let event = events("f", n, n + 1);
    event.column_by_name("properties").unwrap().as_string::<i32>().value(0).to_owned()
}

fn transactions() -> impl Strategy<Value = Vec<Vec<Copied>>> {
    let copy = (0..5i64, prop::sample::select(vec!["a", "B", "c", "ä"]));
    prop::collection::vec(prop::collection::vec(copy, 1..8), 1..6)
}

/// Applies transactions as they must be applied; returns the origins by event, and the number of rows inserted.
fn model(transactions: &[Vec<Copied>]) -> (BTreeMap<String, String>, u64) {
    let mut expected: BTreeMap<i64, &str> = BTreeMap::new();
    for copies in transactions {
        let mut new: BTreeMap<i64, &str> = BTreeMap::new();
        for (n, origin) in copies.iter().filter(|(n, _)| !expected.contains_key(n)) {
            new.entry(*n).and_modify(|least| *least = (*least).min(*origin)).or_insert(*origin);
        }
        expected.extend(new);
    }
    let rows = expected.len() as u64;
    (expected.into_iter().map(|(n, origin)| (properties(n), origin.to_owned())).collect(), rows)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_least_copy_of_the_first_transaction_stays(transactions in transactions(), epochs in any::<bool>(), cut in 1..4usize) {
        let (expected, inserted) = model(&transactions);
        let rows: usize = transactions.iter().map(Vec::len).sum();
        for bench in benches() {
            let bench = bench.with("key", "event_id");
            let mut sink = bench.open_as("1", epochs).unwrap();
            for (copies, number) in transactions.iter().zip(1..) {
                match epochs {
                    true => {
                        let batches = copies.chunks(cut).map(batch).collect();
                        sink.commit(Epoch { run: 1, number }, &mut Rows::new(Kind::Event, batches)).unwrap();
                    }
                    false => assert!(sink.write(Kind::Event, &batch(copies)).unwrap().is_empty()),
                }
            }
            let counts = sink.finish().unwrap().counts;
            counts.check().unwrap();
            prop_assert_eq!((counts.inserted, counts.conflict), (inserted, 0));
            prop_assert_eq!(counts.unchanged, rows as u64 - inserted);
            prop_assert_eq!(&stored(&bench), &expected);
        }
    }
}

#[test]
fn stored_copies_are_named_and_a_run_without_the_key_keeps_ids_unique() {
    for mut bench in benches() {
        bench.run(Kind::Event, &[batch(&[(0, "a"), (0, "c")])]);
        bench = bench.with("key", "event_id");
        let error = bench.open_as("1", false).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("expected each event_id once in raw_events, found "), "{error}");
    }
    for mut bench in benches() {
        bench = bench.with("key", "event_id");
        bench.run(Kind::Event, &[batch(&[(0, "c")])]);
        bench.location.options.remove("key");
        let counts = bench.run(Kind::Event, &[batch(&[(1, "b"), (0, "a"), (1, "a")])]).counts;
        assert_eq!((counts.inserted, counts.unchanged), (1, 2));
        let expected = [(0, "c"), (1, "a")].map(|(n, origin)| (properties(n), origin.to_owned()));
        assert_eq!(stored(&bench), BTreeMap::from(expected));
        let error = bench.with("key", "user_id").open_as("1", false).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
