//! Compares dedup with a naive model, for any split into batches, any interleaving of partitions, and a restart
//! from a snapshot after any batch.

use super::*;
use crate::kind::{Kind, dictionary_type, instant_type};
use arrow::array::{ArrayRef, DictionaryArray, FixedSizeBinaryArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Row {
    partition: u8,
    id: u8,
    stream_time: i64,
}

impl Row {
    /// Returns an event time of up to 2 µs before the stream time, by id.
    fn event_time(&self) -> i64 {
        self.stream_time - i64::from(self.id % 3)
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    let schema = Schema::new(vec![
        field("event_id", DataType::FixedSizeBinary(16)),
        field("origin", dictionary_type()),
        field("partition", dictionary_type()),
        field("event_time", instant_type()),
        field("stream_time", instant_type()),
    ]);
    let ids: Vec<[u8; 16]> = rows.iter().map(|row| [row.id; 16]).collect();
    let names = |name: fn(&Row) -> String| {
        let names: DictionaryArray<Int32Type> =
            rows.iter().map(name).collect::<Vec<_>>().iter().map(String::as_str).collect();
        Arc::new(names) as ArrayRef
    };
    let times = |time: fn(&Row) -> i64| {
        let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(time(row))).collect();
        Arc::new(times.with_timezone("UTC")) as ArrayRef
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(ids.iter()).unwrap()),
        names(|row| format!("file{}", row.partition % 2)),
        names(|row| row.partition.to_string()),
        times(Row::event_time),
        times(|row| row.stream_time),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn run(dedup: &mut Dedup, rows: &[Row]) -> Vec<bool> {
    if rows.is_empty() {
        return vec![];
    }
    dedup.on_batch(&batch(rows)).unwrap().iter().map(|keep| keep.unwrap()).collect()
}

/// The definition as code.
fn model(rows: &[Row], span: i64) -> Vec<bool> {
    let same = |a: &Row, b: &Row| a.partition == b.partition && a.id == b.id;
    let earlier = |at: usize| rows[..at].iter().filter(move |row| same(row, &rows[at]));
    (0..rows.len()).map(|at| !earlier(at).any(|row| row.stream_time >= rows[at].stream_time - span)).collect()
}

/// Rows whose stream time never decreases within a partition.
fn rows(max: usize) -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((0u8..4, 0u8..12, prop_oneof![3 => Just(0i64), 1 => 0i64..20]), 1..max).prop_map(|steps| {
        let mut times = [0i64; 4];
        let row = |(partition, id, step): (u8, u8, i64)| {
            let time = &mut times[usize::from(partition)];
            *time += step;
            Row { partition, id, stream_time: *time }
        };
        steps.into_iter().map(row).collect()
    })
}

fn options(span: i64, max_ids: usize) -> Options {
    Options { span, max_ids }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: proptest::test_runner::RngSeed::Fixed(11),
        ..Default::default()
    })]

    #[test]
    fn it_is_the_definition(rows in rows(200), span in 0i64..30) {
        let mut dedup = Dedup::new(Options::new(span));
        prop_assert_eq!(run(&mut dedup, &rows), model(&rows, span));
        prop_assert_eq!(dedup.forgotten(), 0);
        let live = |row: &&Row| {
            let now = rows.iter().rev().find(|other| other.partition == row.partition).unwrap().stream_time;
            row.stream_time >= now - span
        };
        let mut ids: Vec<(u8, u8)> = rows.iter().filter(live).map(|row| (row.partition, row.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(dedup.ids(), ids.len(), "only ids within the span are held");
    }

    #[test]
    fn batches_and_cuts_do_not_matter_even_where_ids_are_forgotten(
        rows in rows(200), span in 0i64..30, max_ids in 1usize..12, first in 0usize..200, second in 0usize..200,
    ) {
        let options = options(span, max_ids);
        let mut whole = Dedup::new(options.clone());
        let expected = run(&mut whole, &rows);
        let (first, second) = (first.min(rows.len()), second.min(rows.len()));
        let (first, second) = (first.min(second), first.max(second));
        let mut dedup = Dedup::new(options.clone());
        let mut keep = run(&mut dedup, &rows[..first]);
        let snapshot = dedup.snapshot();
        prop_assert_eq!(&snapshot, &dedup.snapshot(), "a snapshot changes nothing");
        keep.extend(run(&mut dedup, &rows[first..]));
        prop_assert_eq!(&keep, &expected);

        let mut restored = Dedup::restore(options, &snapshot).unwrap();
        prop_assert_eq!(&restored.snapshot(), &snapshot);
        keep.truncate(first);
        keep.extend(run(&mut restored, &rows[first..second]));
        keep.extend(run(&mut restored, &rows[second..]));
        prop_assert_eq!(&keep, &expected);
        prop_assert_eq!(restored.snapshot(), whole.snapshot());
        prop_assert!(restored.ids() <= max_ids);
    }

    #[test]
    fn interleaving_partitions_does_not_matter(rows in rows(200), span in 0i64..30) {
        let apart: Vec<Row> =
            (0u8..4).flat_map(|p| rows.iter().filter(move |row| row.partition == p).cloned()).collect();
        let count = |rows: &[Row]| {
            let keep = run(&mut Dedup::new(Options::new(span)), rows);
            let kept = rows.iter().zip(keep).filter(|(_, keep)| *keep);
            let mut kept: Vec<_> = kept.map(|(row, _)| (row.partition, row.id, row.stream_time)).collect();
            kept.sort_unstable();
            kept
        };
        prop_assert_eq!(count(&rows), count(&apart));
    }
}

fn row(id: u8, stream_time: i64) -> Row {
    Row { partition: 0, id, stream_time }
}

#[test]
fn the_span_is_inclusive_and_counts_from_the_last_sighting() {
    let rows = [row(1, 0), row(1, 10), row(1, 20), row(1, 31)];
    assert_eq!(run(&mut Dedup::new(Options::new(10)), &rows), [true, false, false, true]);
}

#[test]
fn a_watermark_behind_the_rows_is_not_their_stream_time() {
    let rows = [row(1, 0), row(3, 500), row(1, 505), row(3, 2000), row(1, 1005), row(3, 1007)];
    let batch = batch(&rows);
    // As with `--control`: a watermark that is behind the rows.
    let promised: TimestampMicrosecondArray =
        [-1_000_000, -1_000_000, -1_000_000, 0, 400, 500].into_iter().map(Some).collect();
    let mut columns = batch.columns().to_vec();
    columns[4] = Arc::new(promised.with_timezone("UTC"));
    let batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let keep = Dedup::new(Options::new(1000)).on_batch(&batch).unwrap();
    let keep: Vec<bool> = keep.iter().map(Option::unwrap).collect();
    assert_eq!(keep, [true, true, false, true, true, false]);
}

#[test]
fn an_id_in_another_partition_is_another_event() {
    let rows = [row(1, 0), Row { partition: 2, ..row(1, 0) }, Row { partition: 1, ..row(1, 0) }];
    assert_eq!(run(&mut Dedup::new(Options::new(10)), &rows), [true, true, true]);
}

#[test]
fn at_the_bound_the_ids_seen_longest_ago_are_forgotten_and_counted() {
    let mut dedup = Dedup::new(options(1_000, 16));
    let rows: Vec<Row> = (0..17).map(|id| row(id, i64::from(id))).collect();
    run(&mut dedup, &rows);
    assert_eq!((dedup.ids(), dedup.forgotten()), (15, 2));
    assert_eq!(run(&mut dedup, &[row(0, 20), row(16, 20)]), [true, false]);
}

#[test]
fn what_repeats_without_end_takes_no_memory() {
    let mut dedup = Dedup::new(Options::new(1_000_000));
    for chunk in 0..100i64 {
        let rows: Vec<Row> = (0..1000).map(|n| row((n % 3) as u8, chunk * 1000 + n)).collect();
        run(&mut dedup, &rows);
    }
    assert_eq!(dedup.ids(), 3);
    assert!(dedup.state.partitions[0].order.len() <= 128);
}

#[test]
fn a_snapshot_cut_or_made_with_other_options_is_refused() {
    let mut dedup = Dedup::new(Options::new(10));
    run(&mut dedup, &[row(1, 0), Row { partition: 1, ..row(2, 5) }]);
    let snapshot = dedup.snapshot();
    for end in 0..snapshot.len() {
        assert!(Dedup::restore(Options::new(10), &snapshot[..end]).is_err(), "{end}");
    }
    let longer = [&snapshot[..], &[0]].concat();
    let message = |options: Options, bytes: &[u8]| Dedup::restore(options, bytes).err().unwrap().to_string();
    assert_eq!(message(Options::new(10), &longer), "snapshot of dedup: damaged");
    assert_eq!(message(Options::new(11), &snapshot), "snapshot of dedup: saved with another --dedup");
    assert_eq!(message(Options::new(10), &[9; 9]), "snapshot of dedup: unknown version 9");
    let huge = [&snapshot[..25], &[0xff; 8]].concat();
    assert_eq!(message(Options::new(10), &huge), "snapshot of dedup: damaged");
}

#[test]
fn rows_that_are_no_events_are_refused() {
    let batch = RecordBatch::new_empty(Kind::Metric.schema());
    let error = Dedup::new(Options::new(1)).on_batch(&batch).unwrap_err();
    assert_eq!(error.to_string(), "column 'event_id': missing or of another type");
}
