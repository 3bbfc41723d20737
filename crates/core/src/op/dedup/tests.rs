//! Compares dedup with a naive model, for any split into batches, any interleaving of partitions, any bound of memory,
//! and epochs and restarts after any batch.

use super::*;
use crate::frame::PartitionState;
use crate::kind::{Kind, dictionary_type, instant_type};
use crate::op::state_storage::MemoryStorage;
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

/// A state that is in memory.
fn new(span: i64) -> Dedup {
    Dedup::new(options(span, 1 << 20, &MemoryStorage::default()))
}

fn options(span: i64, bytes: usize, storage: &MemoryStorage) -> Options {
    Options { span, memory: MemoryBound { bytes, storage: Box::new(storage.clone()) } }
}

/// Saves and restores the state, as a restart after an epoch does.
fn restarted(mut dedup: Dedup, bytes: usize, storage: &MemoryStorage) -> Dedup {
    let span = dedup.options.span;
    let names = dedup.files().unwrap();
    let snapshot = dedup.snapshot();
    assert_eq!(snapshot, dedup.snapshot(), "a snapshot changes nothing");
    let restored = Dedup::restore(options(span, bytes, storage), &snapshot).unwrap();
    assert_eq!(restored.snapshot(), snapshot);
    assert_eq!(restored.spilled.names(), names);
    restored
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: proptest::test_runner::RngSeed::Fixed(11),
        ..Default::default()
    })]

    #[test]
    fn it_is_the_definition(rows in rows(200), span in 0i64..30) {
        prop_assert_eq!(run(&mut new(span), &rows), model(&rows, span));
    }

    /// Batches of any size, epochs and restarts at any batch, with any bound.
    #[test]
    fn it_is_the_definition_beyond_memory(
        rows in rows(300), span in 0i64..60, steps in prop::collection::vec((1usize..40, 0u8..4, 0usize..4_000), 1..40),
    ) {
        let storage = MemoryStorage::default();
        let mut dedup = Dedup::new(options(span, 0, &storage));
        let (mut keep, mut rest) = (vec![], &rows[..]);
        for (count, event, bytes) in steps.iter().cycle() {
            let (batch, others) = rest.split_at((*count).min(rest.len()));
            keep.extend(run(&mut dedup, batch));
            rest = others;
            match event {
                0 => dedup = restarted(dedup, *bytes, &storage),
                1 => drop(dedup.files().unwrap()),
                _ => {}
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(keep, model(&rows, span));
        prop_assert_eq!(storage.files().1, dedup.spilled.names().len(), "no other file is kept");
    }

    #[test]
    fn interleaving_partitions_does_not_matter(rows in rows(200), span in 0i64..30) {
        let apart: Vec<Row> =
            (0u8..4).flat_map(|p| rows.iter().filter(move |row| row.partition == p).cloned()).collect();
        let count = |rows: &[Row]| {
            let keep = run(&mut new(span), rows);
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
    assert_eq!(run(&mut new(10), &rows), [true, false, false, true]);
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
    let keep = new(1000).on_batch(&batch).unwrap();
    let keep: Vec<bool> = keep.iter().map(Option::unwrap).collect();
    assert_eq!(keep, [true, true, false, true, true, false]);
}

#[test]
fn an_id_in_another_partition_is_another_event() {
    let rows = [row(1, 0), Row { partition: 2, ..row(1, 0) }, Row { partition: 1, ..row(1, 0) }];
    assert_eq!(run(&mut new(10), &rows), [true, true, true]);
}

#[test]
fn what_repeats_without_end_takes_no_memory() {
    let mut dedup = new(1_000_000);
    for chunk in 0..100i64 {
        let rows: Vec<Row> = (0..1000).map(|n| row((n % 3) as u8, chunk * 1000 + n)).collect();
        run(&mut dedup, &rows);
    }
    assert_eq!(dedup.size().keys, 3);
}

#[test]
fn ids_that_are_over_leave_memory_and_files() {
    let storage = MemoryStorage::default();
    for bytes in [0, 1 << 20] {
        let mut dedup = Dedup::new(options(10, bytes, &storage));
        for time in 0..5_000i64 {
            run(&mut dedup, &[row((time % 251) as u8, time)]);
            assert!(dedup.size().keys <= 40, "{time}: {:?}", dedup.size());
        }
    }
    let (written, kept) = storage.files();
    assert!(written > 1_000 && kept == 0, "{written} files, {kept} kept");
}

/// Says that a run reads only these partitions, as the source does.
fn reads(dedup: &mut Dedup, names: &[u8]) {
    let state_of = |partition: &u8| PartitionState {
        input: 0,
        origin: format!("file{}", partition % 2),
        partition: partition.to_string(),
        stream_time: None,
        state: frame::State::Live,
    };
    let partitions = names.iter().map(state_of).collect();
    dedup.on_progress(&Progress { partitions, complete: true, ..Progress::default() });
}

/// Each run reads one partition of its own, as a job that gets a new file each day.
#[test]
fn partitions_that_no_run_reads_any_more_leave_the_state_and_others_take_their_numbers() {
    for bytes in [0, 1 << 20] {
        let storage = MemoryStorage::default();
        let mut dedup = Dedup::new(options(10, bytes, &storage));
        for day in 0..200u8 {
            reads(&mut dedup, &[day]);
            let begin = i64::from(day) * 100;
            let rows: Vec<Row> = (0..20).map(|id| Row { partition: day, ..row(id, begin + i64::from(id)) }).collect();
            assert_eq!(run(&mut dedup, &rows), [true; 20], "day {day}");
            dedup = restarted(dedup, bytes, &storage);
            dedup.begin_run();
            let known = dedup.index.len();
            assert!(known <= 2 && dedup.partitions.len() <= 20, "{known}, {} of day {day}", dedup.partitions.len());
            assert!(dedup.size().keys <= 100, "{:?} of day {day}", dedup.size());
        }
    }
}

#[test]
fn partitions_that_may_still_have_repeats_stay() {
    let of = |partition: u8, id: u8, stream_time: i64| Row { partition, ..row(id, stream_time) };
    let mut dedup = new(10);
    run(&mut dedup, &[of(0, 1, 0), of(1, 1, 5), of(2, 1, 95)]);
    let storage = MemoryStorage::default();
    let mut dedup = restarted(dedup, 0, &storage);
    dedup.begin_run();
    let index = |dedup: &Dedup| {
        let mut names: Vec<String> = dedup.index.keys().map(|name| name.partition.clone()).collect();
        names.sort();
        names.concat()
    };
    run(&mut dedup, &[of(3, 1, 105)]);
    dedup.files().unwrap();
    assert_eq!(index(&dedup), "0123", "not all partitions are known");
    reads(&mut dedup, &[0, 3, 4]);
    dedup.files().unwrap();
    assert_eq!(index(&dedup), "0123", "partition 4 has no row yet");
    run(&mut dedup, &[of(4, 1, 105)]);
    dedup.files().unwrap();
    assert_eq!(index(&dedup), "01234", "partition 0 is read, and at 0");
    run(&mut dedup, &[of(0, 2, 105)]);
    dedup.files().unwrap();
    assert_eq!(index(&dedup), "0234", "partition 2 had its last row 10 before");
    run(&mut dedup, &[of(0, 2, 106), of(3, 2, 106), of(4, 2, 106)]);
    dedup.files().unwrap();
    assert_eq!(index(&dedup), "034");
    assert_eq!(run(&mut dedup, &[of(1, 1, 5)]), [true], "a partition that comes back is a new one");
}

#[test]
fn files_are_few_and_filters_stay_within_their_part_of_the_bound() {
    let storage = MemoryStorage::default();
    let bytes = 8 * PLACE_BYTES;
    let mut dedup = Dedup::new(options(i64::MAX, bytes, &storage));
    // Few ids within a partition, so many partitions.
    for n in 0..4_000u32 {
        let key = PartitionId { partition: n % 7, id: u128::from(n).to_le_bytes() };
        if dedup.partitions.len() < 7 {
            dedup.place("o", &n.to_string());
        }
        assert!(dedup.see(Sighting { key, time: i64::from(n) }).unwrap(), "{n}");
        if dedup.recent.len() >= dedup.full {
            dedup.make_room().unwrap();
        }
    }
    let files = dedup.files().unwrap().len();
    let filters = dedup.spilled.memory();
    assert!(files <= 21, "{files} files");
    // The least filter is a block; the first hashes of blocks take a little more.
    assert!(filters <= bytes / 4 + files * filter::BLOCK_BYTES + 4_000 * 8 / 3 + 8 * files, "{filters} bytes");
    let again = PartitionId { partition: 3, id: 3u128.to_le_bytes() };
    assert!(!dedup.see(Sighting { key: again, time: 5_000 }).unwrap());
}

#[test]
fn a_snapshot_cut_or_made_with_another_span_is_refused() {
    let storage = MemoryStorage::default();
    let mut dedup = Dedup::new(options(10_000_000, 0, &storage));
    run(&mut dedup, &[row(1, 0), Row { partition: 1, ..row(2, 5) }]);
    assert_eq!(dedup.files().unwrap().len(), 2);
    let snapshot = dedup.snapshot();
    let restore =
        |span: i64, bytes: &[u8]| Dedup::restore(options(span, 0, &storage), bytes).err().map(|e| e.to_string());
    assert_eq!(restore(10_000_000, &snapshot), None);
    for end in 0..snapshot.len() {
        assert!(restore(10_000_000, &snapshot[..end]).is_some(), "{end}");
    }
    let message = |span: i64, bytes: &[u8]| restore(span, bytes).unwrap();
    assert_eq!(message(10_000_000, &[&snapshot[..], &[0]].concat()), "snapshot: bytes after the state");
    let differs = "expected --dedup 10s, with which the ids were saved, found --dedup 11s";
    assert_eq!(message(11_000_000, &snapshot), differs);
    assert_eq!(message(10_000_000, &[9; 9]), "snapshot of dedup: unknown version 9");
    drop(dedup);
    assert!(message(10_000_000, &snapshot).starts_with("expected the file"), "its files are gone");
}

#[test]
fn rows_that_are_no_events_are_refused() {
    let batch = RecordBatch::new_empty(Kind::Metric.schema());
    let error = new(1).on_batch(&batch).unwrap_err();
    assert_eq!(error.to_string(), "column 'event_id': missing or of another type");
}

/// States of version 1 have a hash of the span, and not the span.
#[test]
fn a_state_of_version_1_that_was_saved_with_another_span_is_refused() {
    let saved = include_bytes!("../../../../../testdata/state/v1/dedup.state");
    let storage = MemoryStorage::default();
    let error = Dedup::restore(options(12_345, 1 << 20, &storage), saved).err().expect("it is refused");
    assert_eq!(error.kind(), crate::ErrorKind::Config);
    assert_eq!(error.to_string(), "expected the --dedup with which the ids were saved, found another one");
}
