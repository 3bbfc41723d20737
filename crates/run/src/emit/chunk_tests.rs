//! Chunks give the same rows and letters, whichever mapper maps them.

use super::*;
use evt_core::mapping::PartitionTable;

const LIMITS: RecordLimits = RecordLimits { record_max: 100, line_max: 400 };

/// Records as an input cuts them: its bytes, and their ranges.
struct Cut {
    bytes: String,
    records: Records,
}

impl Cut {
    /// Cuts lines, of which the first has number `first`.
    fn of(lines: &[String], first: u64) -> Self {
        let mut cut = Self { bytes: String::new(), records: Records::default() };
        for (number, line) in (first..).zip(lines) {
            let start = cut.bytes.len();
            cut.bytes.push_str(line);
            cut.records.rows.push(format::Record { raw: start..cut.bytes.len(), line: number, body: Body::Raw });
        }
        cut
    }

    fn chunk(&self, passed: i64) -> Chunk<'_> {
        let meta = RecordMeta::of_file("in", 0);
        Chunk { records: &self.records, bytes: self.bytes.as_bytes(), whole: Some(&self.bytes), meta, now: 0, passed }
    }
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
fn mapped(mapper: &mut ChunkMapper, cut: &Cut) -> MappedChunk {
    let mut range = 0..cut.records.rows.len();
    assert!(mapper.map(&cut.chunk(0), &mut range, FutureVerdict::ByArrival).unwrap().is_none());
    assert!(range.is_empty());
    mapper.finish(true).unwrap()
}

/// Stamps chunks in their order. Returns the rows and the letters of each.
fn stamped(chunks: Vec<MappedChunk>) -> Vec<(Option<RecordBatch>, RecordBatch, Vec<u64>)> {
    let mut table = PartitionTable::default();
    table.partition("in", "0");
    let stamped = chunks.into_iter().map(|MappedChunk { rows, count, letters }| {
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
    let cuts: Vec<Cut> = (1..).step_by(25).zip(lines.chunks(25)).map(|(first, lines)| Cut::of(lines, first)).collect();
    let mut one = mapper();
    let expected: Vec<_> = cuts.iter().map(|cut| mapped(&mut one, cut)).collect();
    let half = |from: usize| {
        let mut mapper = mapper();
        let cuts = &cuts;
        move || cuts.iter().skip(from).step_by(2).map(|cut| mapped(&mut mapper, cut)).collect::<Vec<_>>()
    };
    let (even, odd) = std::thread::scope(|scope| {
        let threads = [half(0), half(1)].map(|half| scope.spawn(half));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    let both = even.into_iter().zip(odd).flat_map(|(even, odd)| [even, odd]).collect();
    assert_eq!(stamped(both), stamped(expected));
    let counts = one.counts();
    assert_eq!((counts.taken, counts.dead, counts.filtered), (500, 157, 0), "a fifth, and a seventh of the others");
}

#[test]
fn a_record_is_mapped_once_wherever_a_mapper_stops() {
    let cut = Cut::of(&lines(), 1);
    let (mut mapper, mut range, mut letters) = (mapper(), 0..500, 0);
    // An earlier run has read the first hundred records.
    let chunk = cut.chunk(100);
    while !range.is_empty() {
        let end = range.end.min(range.start + 3);
        let mut piece = range.start..end;
        let pause = mapper.map(&chunk, &mut piece, FutureVerdict::ByArrival).unwrap();
        assert!(pause.is_none() && piece.is_empty());
        letters += mapper.finish_letters().unwrap().map_or(0, |letters| letters.after.len());
        range.start = end;
    }
    let mapped = mapper.finish(true).unwrap();
    assert!(mapped.letters.is_none(), "letters are taken once");
    assert_eq!((mapped.count + letters, mapper.counts().taken), (400, 400));
}

#[test]
fn a_mapper_stops_when_a_batch_or_the_buffer_of_letters_is_full() {
    let row = r#"{"server_timestamp":"2030-01-01T00:00:00Z"}"#.to_owned();
    for (line, full, expected) in [(row, BATCH_ROWS, true), ("no record".to_owned(), 1024, false)] {
        let cut = Cut::of(&vec![line; 2 * BATCH_ROWS], 1);
        let (mut mapper, mut range) = (mapper(), 0..2 * BATCH_ROWS);
        let pause = mapper.map(&cut.chunk(0), &mut range, FutureVerdict::ByArrival).unwrap();
        assert_eq!(range.start, full);
        assert_eq!(matches!(pause, Some(Pause::Rows)), expected);
        assert_eq!(matches!(pause, Some(Pause::Letters)), !expected);
    }
}
