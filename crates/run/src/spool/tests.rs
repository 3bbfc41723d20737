//! Both ends of the spool without a server: clients on threads, the reading end in the test.

use super::dedup::DedupLimits;
use super::dir::{Position, Segment};
use super::request::{Answer, Entry, IdempotencyKey, Record, RecordOutcome, Request, Responder};
use super::segment::{Next, SegmentFile, SegmentReader, path};
use super::*;
use crate::clock::Clock;
use evt_core::error::ErrorKind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};

fn run() -> Run {
    Run::unwatched("evt-ingest", Clock::Fixed(0))
}

/// Makes a record with this number as its id; number 0 has no id.
fn record(id: u8, payload: &str) -> Record {
    let event_id = (id > 0).then_some([id; 16]);
    Record { source: "web".into(), event_id, ..Record::new(payload.to_owned().into()) }
}

fn request(at: i64, records: Vec<Record>) -> Request {
    Request {
        arrived_at: at,
        token: "t".into(),
        headers: vec![("x-request-id".into(), "7".into())],
        key: None,
        records,
    }
}

fn one(at: i64, id: u8, payload: &str) -> Request {
    request(at, vec![record(id, payload)])
}

fn append(log: &Arc<dyn RequestLog>, request: Request) -> Receiver<Answer> {
    let (send, answer) = channel();
    log.append(request, Responder::new(move |answer| send.send(answer).expect("the test waits")));
    answer
}

fn answer(log: &Arc<dyn RequestLog>, request: Request) -> Answer {
    append(log, request).recv().expect("an answer")
}

fn stored(answer: Answer) -> Arc<Entry> {
    match answer {
        Answer::Stored(entry) => entry,
        other => panic!("{other:?}"),
    }
}

fn outcomes(entry: &Entry) -> Vec<RecordOutcome> {
    entry.request.records.iter().map(|record| record.outcome.clone()).collect()
}

fn spool(dir: &Path) -> AckPolicy {
    AckPolicy::Spool { dir: dir.to_owned(), limits: SpoolLimits { bytes: 1 << 20, dedup: None } }
}

fn with_dedup(dir: &Path, window: i64) -> AckPolicy {
    AckPolicy::Spool {
        dir: dir.to_owned(),
        limits: SpoolLimits { bytes: 1 << 20, dedup: Some(DedupLimits::of_window(window)) },
    }
}

/// Returns the payloads and offsets of all entries at present.
fn read(reader: &mut SpoolReader) -> Vec<(i64, String)> {
    let mut all = vec![];
    while let Some(entry) = reader.entries.next().expect("it is whole") {
        let payload = |record: &Record| String::from_utf8_lossy(&record.payload).into_owned();
        all.extend((entry.offset..).zip(entry.request.records.iter().map(payload)));
    }
    all
}

/// Waits until the writer has written everything.
fn drained(log: Arc<dyn RequestLog>, reader: &SpoolReader) {
    drop(log);
    while !reader.entries.end().is_final {
        std::thread::yield_now();
    }
}

#[test]
fn what_is_acknowledged_is_read_in_order_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut reader) = open(&spool(dir.path()), SpoolStart::Kept, &run()).unwrap();
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let log = log.clone();
            std::thread::spawn(move || {
                (0..50)
                    .map(|n| (stored(answer(&log, one(n, 0, &format!("{client}/{n}")))).offset, n))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut acknowledged: Vec<(i64, String)> = vec![];
    for (client, thread) in clients.into_iter().enumerate() {
        acknowledged.extend(thread.join().unwrap().into_iter().map(|(offset, n)| (offset, format!("{client}/{n}"))));
    }
    acknowledged.sort();
    assert_eq!(acknowledged.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    assert_eq!(read(&mut reader), acknowledged);
    drained(log, &reader);
    drop(reader);
    let (_log, mut reader) = open(&spool(dir.path()), SpoolStart::Kept, &run()).unwrap();
    assert_eq!(read(&mut reader), acknowledged, "nothing was settled");
}

#[test]
fn a_second_run_is_refused_while_the_first_has_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let (log, reader) = open(&spool(dir.path()), SpoolStart::Kept, &run()).unwrap();
    let limits = SpoolLimits { bytes: 1 << 20, dedup: None };
    let refused = SpoolDir::open(dir.path(), limits, &run().metrics);
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Busy);
    drained(log, &reader);
}

#[test]
fn a_new_position_takes_no_room_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut reader) = open(&spool(dir.path()), SpoolStart::Kept, &run()).unwrap();
    let mut files = std::collections::BTreeSet::new();
    for n in 0..5 {
        stored(answer(&log, one(n, 0, "{}")));
        reader.entries.settle(Position { offset: n + 1, stream_time: None }).unwrap();
        let inode =
            |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir.path().join(name)).unwrap());
        files.extend([inode("position"), inode("position.new")]);
    }
    assert_eq!(files.len(), 2, "each has the room of the one before the last");
    drained(log, &reader);
}

#[test]
fn a_checkpoint_continues_within_the_records_of_the_spool_only() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut reader) = open(&spool(dir.path()), SpoolStart::Kept, &run()).unwrap();
    let payload = format!("\"{}\"", "x".repeat(20 << 10));
    for n in 0..100 {
        let offset = stored(answer(&log, one(n, 0, &payload))).offset;
        reader.entries.settle(Position { offset: offset + 1, stream_time: None }).unwrap();
    }
    drained(log, &reader);
    drop(reader);
    let at = |offset: i64| Position { offset, stream_time: Some(offset) };
    let opened_as = |id: Option<&str>, start: Option<Position>| loop {
        let position = start.map(|position| CheckpointPosition { id: id.map(str::to_owned), position });
        match open(&spool(dir.path()), SpoolStart::Checkpoint(position), &run()) {
            // The writer's thread has not released the lock yet.
            Err(error) if error.kind() == ErrorKind::Busy => std::thread::yield_now(),
            opened => break opened.map(|(_, reader)| (reader.start, reader.pace)),
        }
    };
    let id = std::fs::read_to_string(dir.path().join("id")).unwrap();
    let opened = |start: Option<Position>| opened_as(Some(id.trim_end()), start);
    let error = opened_as(Some("0123"), Some(at(99))).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("found another one"), "{error}");
    assert_eq!(opened_as(None, Some(at(99))).unwrap(), (at(99), Pace::WithEpochs));
    assert_eq!(opened(None).unwrap(), (Position { offset: 100, stream_time: None }, Pace::WithEpochs));
    assert_eq!(opened(Some(at(99))).unwrap(), (at(99), Pace::WithEpochs));
    let error = opened(Some(at(101))).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("ends at offset 100"), "{error}");
    let error = opened(Some(at(0))).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("records 0 to "), "{error}");
}

#[test]
fn a_restart_begins_where_the_outputs_are() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut reader) = open(&spool(dir.path()), SpoolStart::Kept, &run()).unwrap();
    for n in 0..10 {
        stored(answer(&log, one(n, 0, "{}")));
    }
    reader.entries.settle(Position { offset: 7, stream_time: Some(1_000_001) }).unwrap();
    drained(log, &reader);
    drop(reader);
    let (log, mut reader) = open(&spool(dir.path()), SpoolStart::Kept, &run()).unwrap();
    assert_eq!(reader.start, Position { offset: 7, stream_time: Some(1_000_001) });
    assert_eq!(read(&mut reader).len(), 10, "what was settled is passed over by who reads");
    assert_eq!(stored(answer(&log, one(11, 0, "{}"))).offset, 10);
    assert_eq!(read(&mut reader), [(10, "{}".to_owned())]);
}

#[test]
fn segments_go_when_the_outputs_have_them_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let policy = AckPolicy::Spool { dir: dir.path().into(), limits: SpoolLimits { bytes: 64 << 10, dedup: None } };
    let (log, mut reader) = open(&policy, SpoolStart::Kept, &run()).unwrap();
    let large = "x".repeat(1000);
    let mut count = 0;
    let why = loop {
        match answer(&log, one(0, 0, &large)) {
            Answer::Stored(_) => count += 1,
            Answer::Unavailable(why) => break why,
            other => panic!("{other:?}"),
        }
    };
    assert!(why.contains("--spool-max"), "{why}");
    assert!((45..64).contains(&count), "{count} requests of 1 kB in 64 KiB");
    assert_eq!(read(&mut reader).len(), count);
    let used = || -> u64 {
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    assert!(used() <= 65 << 10, "{}", used());
    reader.entries.settle(Position { offset: count as i64 / 2, stream_time: None }).unwrap();
    assert!((20 << 10..45 << 10).contains(&used()), "{}", used());
    stored(answer(&log, one(0, 0, &large)));
    drained(log, &reader);
    drop(reader);
    let (_log, mut reader) = open(&policy, SpoolStart::Kept, &run()).unwrap();
    let rest = read(&mut reader);
    assert!(rest[0].0 <= count as i64 / 2 && rest[0].0 > 0, "{}", rest[0].0);
    assert_eq!(rest.last().unwrap().0, count as i64);
}

/// The writer removes segments while the stage reports the outputs' position.
#[test]
fn two_threads_that_remove_segments_forget_none_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SpoolLimits { bytes: 1 << 20, dedup: None };
    let spool = SpoolDir::open(dir.path(), limits, &run().metrics).unwrap();
    let count = 200;
    for first in 0..count {
        std::fs::write(path(dir.path(), first), "").unwrap();
        spool.begin(Segment { first, bytes: 1, newest: 0, keyed: false });
    }
    spool.set_settled(count / 2);
    std::thread::scope(|scope| {
        (0..2).for_each(|_| {
            scope.spawn(|| spool.trim(0).unwrap());
        });
    });
    assert_eq!(segment::found(&spool.path).unwrap(), (count / 2..count).collect::<Vec<_>>());
    assert_eq!(spool.bytes(), (count - count / 2) as u64);
}

/// Makes a spool of three acknowledged requests in one segment; returns it and the bytes at which they end.
fn three(dir: &Path) -> Vec<u64> {
    let (log, reader) = open(&spool(dir), SpoolStart::Kept, &run()).unwrap();
    let mut ends = vec![];
    for n in 1..4 {
        stored(answer(&log, one(n, n as u8, &format!("payload {n}"))));
        ends.push(std::fs::metadata(path(dir, 0)).unwrap().len());
    }
    drained(log, &reader);
    ends
}

#[test]
fn a_spool_cut_at_any_byte_keeps_its_whole_entries_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let ends = three(dir.path());
    let whole = std::fs::read(path(dir.path(), 0)).unwrap();
    for cut in 0..=whole.len() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path(), 0), &whole[..cut]).unwrap();
        let (log, mut reader) = open(&spool(dir.path()), SpoolStart::Kept, &run()).unwrap();
        let left = ends.iter().filter(|end| **end <= cut as u64).count();
        assert_eq!(read(&mut reader).len(), left, "cut at {cut}");
        assert_eq!(stored(answer(&log, one(9, 9, "more"))).offset, left as i64);
        assert_eq!(read(&mut reader), [(left as i64, "more".to_owned())]);
        drained(log, &reader);
        drop(reader);
        let (_log, mut reader) = open(&spool(dir.path()), SpoolStart::Kept, &run()).unwrap();
        assert_eq!(read(&mut reader).len(), left + 1, "cut at {cut}");
    }
}

#[test]
fn a_changed_byte_before_whole_entries_is_damage_and_in_the_last_entry_a_torn_write() {
    let dir = tempfile::tempdir().unwrap();
    let ends = three(dir.path());
    let whole = std::fs::read(path(dir.path(), 0)).unwrap();
    for at in 0..whole.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut changed = whole.clone();
        changed[at] ^= 0x20;
        std::fs::write(path(dir.path(), 0), &changed).unwrap();
        let opened = open(&spool(dir.path()), SpoolStart::Kept, &run());
        if (at as u64) < ends[1] {
            let error = opened.err().unwrap_or_else(|| panic!("byte {at} is damaged"));
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains("00.log: byte "), "{error}");
        } else {
            assert_eq!(read(&mut opened.unwrap().1).len(), 2, "byte {at}");
        }
    }
}

#[test]
fn a_missing_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let policy = AckPolicy::Spool { dir: dir.path().into(), limits: SpoolLimits { bytes: 64 << 10, dedup: None } };
    let (log, mut reader) = open(&policy, SpoolStart::Kept, &run()).unwrap();
    for _ in 0..30 {
        stored(answer(&log, one(0, 0, &"x".repeat(1000))));
    }
    let all = read(&mut reader);
    drained(log, &reader);
    drop(reader);
    let mut segments: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some());
    segments.sort();
    assert!(segments.len() > 3 && all.len() == 30);
    std::fs::remove_file(&segments[1]).unwrap();
    let error = open(&policy, SpoolStart::Kept, &run()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn a_repeat_is_a_duplicate_within_the_window_and_another_payload_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let policy = with_dedup(dir.path(), 100);
    let (log, reader) = open(&policy, SpoolStart::Kept, &run()).unwrap();
    let outcomes = |log: &Arc<dyn RequestLog>, request| outcomes(&stored(answer(log, request)));
    assert_eq!(
        outcomes(&log, request(0, vec![record(1, "a"), record(1, "a"), record(2, "b")])),
        [RecordOutcome::New, RecordOutcome::Duplicate, RecordOutcome::New]
    );
    assert_eq!(outcomes(&log, one(50, 1, "a")), [RecordOutcome::Duplicate]);
    let other = outcomes(&log, one(50, 1, "c"));
    assert!(
        matches!(&other[..], [RecordOutcome::Rejected(fault)] if fault.message.starts_with("id_reused")),
        "{other:?}"
    );
    assert_eq!(
        outcomes(&log, Request { token: "u".into(), ..one(50, 1, "c") }),
        [RecordOutcome::New],
        "another client"
    );
    drained(log, &reader);
    drop(reader);
    let (log, _reader) = open(&policy, SpoolStart::Kept, &run()).unwrap();
    assert_eq!(outcomes(&log, one(99, 2, "b")), [RecordOutcome::Duplicate], "known after a restart");
    assert_eq!(outcomes(&log, one(100, 1, "c")), [RecordOutcome::New], "the window has moved on");
}

#[test]
fn events_beyond_the_limit_of_dedup_are_refused_until_the_window_moves_on() {
    let dir = tempfile::tempdir().unwrap();
    let dedup = Some(DedupLimits { window: 100, events: 2 });
    let policy = AckPolicy::Spool { dir: dir.path().into(), limits: SpoolLimits { bytes: 1 << 20, dedup } };
    let (log, reader) = open(&policy, SpoolStart::Kept, &run()).unwrap();
    let pair = |at| request(at, vec![record(1, "a"), record(2, "b")]);
    assert_eq!(outcomes(&stored(answer(&log, pair(0)))), [RecordOutcome::New, RecordOutcome::New]);
    let is_refused = |request| match answer(&log, request) {
        Answer::Unavailable(why) => assert_eq!(why, "too many events within --dedup"),
        other => panic!("{other:?}"),
    };
    is_refused(one(50, 3, "c"));
    assert_eq!(outcomes(&stored(answer(&log, one(50, 0, "c")))), [RecordOutcome::New], "a record without an id");
    assert_eq!(outcomes(&stored(answer(&log, one(100, 3, "c")))), [RecordOutcome::New]);
    is_refused(pair(150));
    drained(log, &reader);
}

#[test]
fn a_key_gives_the_stored_answer_again_and_refuses_another_body() {
    let dir = tempfile::tempdir().unwrap();
    for policy in [spool(dir.path()), AckPolicy::Memory] {
        let keyed =
            |body, payload| Request { key: Some(IdempotencyKey { text: "k".into(), body }), ..one(0, 1, payload) };
        let (log, reader) = open(&policy, SpoolStart::Kept, &run()).unwrap();
        let first = append(&log, keyed(1, "a"));
        let second = append(&log, keyed(1, "a"));
        let first = stored(first.recv().unwrap());
        assert_eq!(first.request, keyed(1, "a"));
        assert_eq!(second.recv().unwrap(), Answer::Repeated(first.clone()));
        assert_eq!(answer(&log, keyed(2, "b")), Answer::Conflict);
        drained(log, &reader);
        drop(reader);
        if policy != AckPolicy::Memory {
            let (log, _reader) = open(&policy, SpoolStart::Kept, &run()).unwrap();
            assert_eq!(answer(&log, keyed(1, "a")), Answer::Repeated(first));
        }
    }
}

#[test]
fn clients_wait_for_the_outputs_where_they_acknowledge() {
    let (log, mut reader) = open(&AckPolicy::Output, SpoolStart::Kept, &run()).unwrap();
    let waiting = [append(&log, one(0, 0, "a")), append(&log, request(0, vec![record(0, "b"), record(0, "c")]))];
    assert_eq!(read(&mut reader).len(), 3);
    assert!(waiting[0].try_recv().is_err());
    reader.entries.settle(Position { offset: 1, stream_time: None }).unwrap();
    assert_eq!(stored(waiting[0].try_recv().unwrap()).offset, 0);
    assert!(waiting[1].try_recv().is_err(), "its last record is not safe");
    reader.entries.settle(Position { offset: 3, stream_time: None }).unwrap();
    assert_eq!(stored(waiting[1].try_recv().unwrap()).offset, 1);
    let lost = append(&log, one(0, 0, "d"));
    drop(reader);
    assert!(matches!(lost.recv().unwrap(), Answer::Unavailable(_)), "the run has ended");
    assert!(matches!(answer(&log, one(0, 0, "e")), Answer::Unavailable(_)));
}

#[test]
fn a_reader_never_takes_in_what_is_not_durable_yet() {
    let dir = tempfile::tempdir().unwrap();
    let path = path(dir.path(), 0);
    let (header, seed) = segment::header(0);
    let mut durable = header.to_vec();
    let entry = |offset: i64, payload: &str| {
        let mut bytes = vec![];
        entry::encode(&mut bytes, seed, &Entry { safe: 0, offset, request: one(0, 0, payload) });
        bytes
    };
    durable.extend(entry(0, "first"));
    std::fs::write(&path, [&durable[..], &entry(1, "cut off again")].concat()).unwrap();
    let mut segment = SegmentReader::open(&path).unwrap().unwrap();
    let mut payload = |limit: usize| match segment.next(limit as u64).unwrap() {
        Next::Entry(entry) => Some(entry.request.records[0].payload.clone()),
        _ => None,
    };
    assert_eq!(payload(durable.len()).unwrap(), "first");
    assert_eq!(payload(durable.len()), None);
    durable.extend(entry(1, "written later"));
    std::fs::write(&path, &durable).unwrap();
    assert_eq!(payload(durable.len()).unwrap(), "written later");
}

static SHARED: AtomicU32 = AtomicU32::new(0);

/// A file that counts its syncs.
struct Counting(Box<dyn SegmentFile>);

impl SegmentFile for Counting {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.append(bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        SHARED.fetch_add(1, Ordering::Relaxed);
        self.0.sync()
    }

    fn truncate(&mut self, length: u64) -> std::io::Result<()> {
        self.0.truncate(length)
    }
}

#[test]
fn requests_that_wait_together_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let counting: CreateSegment = |path| Ok(Box::new(Counting(writer::create(path)?)));
    let limits = SpoolLimits { bytes: 1 << 30, dedup: None };
    let (log, mut reader) = on_disk(dir.path(), limits, &run(), SpoolStart::Kept, counting).unwrap();
    let waiting: Vec<_> = (0..10_000).map(|n| append(&log, one(n, 0, "{\"source\":\"web\"}"))).collect();
    waiting.into_iter().for_each(|answer| drop(stored(answer.recv().unwrap())));
    assert_eq!(read(&mut reader).len(), 10_000);
    assert!(SHARED.load(Ordering::Relaxed) < 1000, "{} syncs", SHARED.load(Ordering::Relaxed));
}

static SYNCS: AtomicU32 = AtomicU32::new(0);

/// A file that fails every third sync and cuts every fifth write short.
struct Failing(Box<dyn SegmentFile>);

impl SegmentFile for Failing {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if SYNCS.fetch_add(1, Ordering::Relaxed) % 5 == 4 {
            self.0.append(&bytes[..bytes.len() / 2])?;
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.append(bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        match SYNCS.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Err(std::io::Error::other("the disk is gone")),
            _ => self.0.sync(),
        }
    }

    fn truncate(&mut self, length: u64) -> std::io::Result<()> {
        // A disk on which a write fails often fails to truncate, too.
        if SYNCS.load(Ordering::Relaxed).is_multiple_of(2) {
            self.0.truncate(length)
        } else {
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }
}

#[test]
fn what_could_not_be_made_durable_is_never_acknowledged_and_what_was_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let failing: CreateSegment = |path| Ok(Box::new(Failing(writer::create(path)?)));
    // At any time as many ids expire as are added.
    let limits = SpoolLimits { bytes: 1 << 20, dedup: Some(DedupLimits::of_window(3)) };
    let (log, mut reader) = on_disk(dir.path(), limits, &run(), SpoolStart::Kept, failing).unwrap();
    let mut acknowledged = vec![];
    let mut asked = 0;
    for n in 0..200u8 {
        let mut ask = || {
            asked += 1;
            answer(&log, one(asked, n + 1, &n.to_string()))
        };
        let entry = std::iter::repeat_with(&mut ask).find_map(|answer| match answer {
            Answer::Stored(entry) => Some(entry),
            Answer::Unavailable(_) => None,
            other => panic!("{other:?}"),
        });
        let entry = entry.expect("it is requested until it is stored");
        assert_eq!(outcomes(&entry), [RecordOutcome::New], "{n}: what was refused is not known");
        acknowledged.push((entry.offset, n.to_string()));
    }
    assert!(asked > 220, "{asked}");
    assert_eq!(read(&mut reader), acknowledged);
    drained(log, &reader);
    drop(reader);
    let (_log, mut reader) =
        open(&AckPolicy::Spool { dir: dir.path().into(), limits }, SpoolStart::Kept, &run()).unwrap();
    let found = read(&mut reader);
    assert_eq!(found[..acknowledged.len()], acknowledged[..]);
}

/// A file whose user may not write more than 20 KiB in all files of its directory.
struct Limited(Box<dyn SegmentFile>, std::path::PathBuf);

impl SegmentFile for Limited {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let used: u64 = std::fs::read_dir(&self.1)?.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        if used + bytes.len() as u64 <= 20 << 10 {
            return self.0.append(bytes);
        }
        self.0.append(&bytes[..bytes.len() / 2])?;
        Err(rustix::io::Errno::DQUOT.into())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.0.sync()
    }

    fn truncate(&mut self, length: u64) -> std::io::Result<()> {
        self.0.truncate(length)
    }
}

/// Opens a spool with these limits in a directory of 20 KiB.
fn limited(dir: &Path, limits: SpoolLimits) -> (Arc<dyn RequestLog>, SpoolReader) {
    let create: CreateSegment = |path| Ok(Box::new(Limited(writer::create(path)?, path.parent().unwrap().to_owned())));
    on_disk(dir, limits, &run(), SpoolStart::Kept, create).unwrap()
}

/// Makes a request of 1 kB with this number as its key.
fn keyed(number: i64) -> Request {
    let key = IdempotencyKey { text: number.to_string(), body: 0 };
    Request { key: Some(key), ..one(0, 0, &"x".repeat(1000)) }
}

/// Stores requests until the disk is full; returns their number.
fn filled(log: &Arc<dyn RequestLog>) -> i64 {
    (0..).find(|number| matches!(answer(log, keyed(*number)), Answer::Unavailable(_))).unwrap()
}

#[test]
fn a_full_disk_removes_the_oldest_keys_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut reader) = limited(dir.path(), SpoolLimits { bytes: 64 << 10, dedup: None });
    let count = filled(&log);
    assert!(matches!(answer(&log, keyed(count)), Answer::Unavailable(_)), "the outputs have nothing");
    assert_eq!(read(&mut reader).len() as i64, count);
    reader.entries.settle(Position { offset: count, stream_time: None }).unwrap();
    assert_eq!(stored(answer(&log, keyed(count))).offset, count);
    assert!(matches!(answer(&log, keyed(count / 2)), Answer::Repeated(_)));
    assert_eq!(stored(answer(&log, keyed(0))).offset, count + 1);
    drained(log, &reader);
}

#[test]
fn the_only_segment_goes_on_a_full_disk_when_the_outputs_have_all_of_it_and_no_window_reaches_back() {
    for dedup in [None, Some(DedupLimits::of_window(100))] {
        let dir = tempfile::tempdir().unwrap();
        let open = || limited(dir.path(), SpoolLimits { bytes: 1 << 20, dedup });
        let (log, mut reader) = open();
        let count = filled(&log);
        let settle = |reader: &mut SpoolReader, offset| {
            reader.entries.settle(Position { offset, stream_time: None }).unwrap();
            assert!(matches!(answer(&log, keyed(count)), Answer::Unavailable(_)), "it was written to this segment");
            path(dir.path(), 0).exists()
        };
        assert_eq!(read(&mut reader).len() as i64, count);
        assert!(settle(&mut reader, count - 1), "the outputs have not all of it");
        assert_eq!(settle(&mut reader, count), dedup.is_some());
        if dedup.is_none() {
            assert_eq!(stored(answer(&log, keyed(count))).offset, count);
            assert_eq!(read(&mut reader).len(), 1);
            reader.entries.settle(Position { offset: count + 1, stream_time: None }).unwrap();
        }
        drained(log, &reader);
        drop(reader);
        assert_eq!(open().1.start.offset, count + i64::from(dedup.is_none()));
    }
}
