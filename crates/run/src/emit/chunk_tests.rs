//! Chunks give the same rows and letters, whichever mapper maps them.

use super::*;
use crate::emit::tasks::{Done, TaskPartition, Tasks};
use crate::task_pool::TaskPool;
use crate::thread::Threads;
use evt_core::mapping::{BATCH_ROWS, PartitionTable};

const LIMITS: RecordLimits = RecordLimits { record_max: 100, line_max: 400, batch_max: BATCH_ROWS };

/// Cuts lines, of which the first has number `first`; an earlier run has read those up to `passed`.
fn cut(lines: &[String], first: u64, passed: i64) -> Chunk {
    let (mut bytes, mut records) = (String::new(), Records::default());
    for (number, line) in (first..).zip(lines) {
        let start = bytes.len();
        bytes.push_str(line);
        records.rows.push(format::Record { raw: start..bytes.len(), line: number, body: Body::Raw });
    }
    let chunk = Chunk::new(records, "in".into(), 0).of(Buffer::from_vec(bytes.into_bytes()), false);
    Chunk { passed, ..chunk }
}

fn mapper() -> ChunkMapper {
    let mut mapper = ChunkMapper::new(mapping::Options::default(), None, LIMITS, Letters::new("evt", "host")).unwrap();
    mapper.events_mut().turn_to(0, ("in", "0"));
    mapper
}

/// Lines of which every fifth is no record, and every seventh is too long; their times go up and down.
fn lines() -> Vec<String> {
    let line = |n: u64| match n {
        n if n % 5 == 0 => format!("no record {n}"),
        n if n % 7 == 0 => format!(r#"{{"a":"{}"}}"#, "x".repeat(200)),
        n => format!(r#"{{"server_timestamp":"2030-01-01T00:{:02}:00Z","user_id":"u{}"}}"#, n * 37 % 60, n % 3),
    };
    (1..=500).map(line).collect()
}

/// Maps a whole chunk.
fn mapped(mapper: &mut ChunkMapper, chunk: &Chunk) -> MappedChunk {
    let mut range = 0..chunk.records.rows.len();
    assert!(mapper.map(chunk, &mut range, FutureVerdict::ByArrival).unwrap().is_none());
    assert!(range.is_empty());
    mapper.finish(true).unwrap()
}

/// Stamps chunks in their order. Returns the rows and the letters of each.
fn stamped(chunks: Vec<MappedChunk>) -> Vec<(Option<RecordBatch>, RecordBatch, Vec<u64>)> {
    let mut table = PartitionTable::default();
    table.partition("in", "0");
    let stamped = chunks.into_iter().map(|MappedChunk { rows, count, letters, .. }| {
        let ChunkRows::Events(rows) = rows else { panic!("rows of kind event") };
        let (rows, letters) = (rows.stamp(&mut table, None).unwrap(), letters.expect("letters"));
        assert_eq!(rows.as_ref().map_or(0, RecordBatch::num_rows), count);
        (rows, letters.letters, letters.after)
    });
    stamped.collect()
}

#[test]
fn two_threads_that_map_every_other_chunk_give_what_one_gives() {
    let lines = lines();
    let chunks: Vec<Chunk> =
        (1..).step_by(25).zip(lines.chunks(25)).map(|(first, lines)| cut(lines, first, 0)).collect();
    let mut one = mapper();
    let expected: Vec<_> = chunks.iter().map(|chunk| mapped(&mut one, chunk)).collect();
    let mut counts = Counts::default();
    expected.iter().for_each(|chunk| counts.add(&chunk.counts));
    let half = |from: usize| {
        let mut mapper = one.another().unwrap();
        mapper.events_mut().turn_to(0, ("in", "0"));
        let chunks = &chunks;
        move || chunks.iter().skip(from).step_by(2).map(|chunk| mapped(&mut mapper, chunk)).collect::<Vec<_>>()
    };
    let (even, odd) = std::thread::scope(|scope| {
        let threads = [half(0), half(1)].map(|half| scope.spawn(half));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    let both = even.into_iter().zip(odd).flat_map(|(even, odd)| [even, odd]).collect();
    assert_eq!(stamped(both), stamped(expected));
    assert_eq!((counts.taken, counts.dead, counts.filtered), (500, 157, 0), "a fifth, and a seventh of the others");
}

#[test]
fn nothing_follows_a_batch_that_could_not_be_mapped() {
    for pool in [TaskPool::simulated(2), TaskPool::new(Threads::new(Some(3)))] {
        let mut mapper = mapper();
        mapper.limits.batch_max = 10;
        let mut tasks = Tasks::new(&mapper, &pool).unwrap();
        let mut chunk = cut(&lines(), 1, 0);
        chunk.records.rows[25].raw = 0..BATCH_BYTES / 2;
        let (chunk, mut range) = (Arc::new(chunk), 0..45);
        while !range.is_empty() {
            if tasks.add(&chunk, &mut range, &TaskPartition::new(0, 0, ("in", "0"))) {
                tasks.begin().unwrap();
            }
        }
        let batches = std::iter::from_fn(|| tasks.next(true).transpose());
        let batches: Vec<Result<Option<i64>>> = batches
            .map(|done| {
                done.map(|done| match done {
                    Done::Batch(mapped) => mapped.last.map(|last| last.number),
                    Done::Input(_) => None,
                })
            })
            .collect();
        let [Ok(Some(10)), Ok(Some(20)), Err(error)] = &batches[..] else { panic!("{batches:?}") };
        assert_eq!(error.kind(), evt_core::error::ErrorKind::Broken);
        assert!(tasks.are_done());
    }
}

#[test]
fn a_record_is_mapped_once_wherever_a_mapper_stops() {
    // An earlier run has read the first hundred records.
    let chunk = cut(&lines(), 1, 100);
    let (mut mapper, mut range) = (mapper(), 0..500);
    while !range.is_empty() {
        let end = range.end.min(range.start + 3);
        let mut piece = range.start..end;
        let pause = mapper.map(&chunk, &mut piece, FutureVerdict::ByArrival).unwrap();
        assert!(pause.is_none() && piece.is_empty());
        range.start = end;
    }
    let mapped = mapper.finish(true).unwrap();
    let letters = mapped.letters.map_or(0, |letters| letters.after.len());
    assert!(letters > 0 && mapper.is_empty(), "letters are taken once");
    assert_eq!((mapped.count + letters, mapped.counts.taken), (400, 400));
}

#[test]
fn a_batch_ends_behind_a_number_of_records_or_bytes_whatever_becomes_of_them() {
    let row = r#"{"server_timestamp":"2030-01-01T00:00:00Z"}"#.to_owned();
    let long = format!(r#"{{"server_timestamp":"2030-01-01T00:00:00Z","a":"{}"}}"#, "x".repeat(40));
    let in_bytes = BATCH_BYTES.div_ceil(1 << 10);
    let (cases, limit) =
        ([(row, BATCH_ROWS), ("no record".to_owned(), BATCH_ROWS), (long, BATCH_ROWS)], 2 * BATCH_ROWS);
    for (line, full) in cases.into_iter().chain([("x".repeat(1 << 10), in_bytes)]) {
        let chunk = cut(&vec![line; limit], 1, 0);
        let (mut mapper, mut range) = (mapper(), 0..limit);
        mapper.limits = RecordLimits { record_max: 1 << 20, line_max: 1 << 20, ..LIMITS };
        let pause = mapper.map(&chunk, &mut range, FutureVerdict::ByArrival).unwrap();
        assert_eq!((matches!(pause, Some(Pause::Full)), range.start), (true, full));
    }
}
