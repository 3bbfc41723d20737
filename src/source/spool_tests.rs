//! Tests of a source that reads a spool: outcomes of records, restart after a crash, stop, and acknowledgement after
//! output.

use super::*;
use crate::output::OutputPlan;
use crate::output::dead_letters::DeadLetters;
use crate::output::test_data::spec;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use evt_core::frame::End;
use evt_core::kind::dead::{ErrorType, Fault};
use evt_core::kind::event::column;
use evt_core::mapping::Provenance;
use evt_run::clock::{Clock, SimulatedClock};
use evt_run::spool::ack::AckPolicy;
use evt_run::spool::dedup::DedupLimits;
use evt_run::spool::dir::SpoolLimits;
use evt_run::spool::request::{Answer, Record, RecordOutcome, Request, RequestLog, Responder};
use evt_run::spool::{SpoolStart, open};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

const SECOND: i64 = 1_000_000;

fn run() -> Rc<Run> {
    at(Clock::Fixed(100 * SECOND))
}

fn at(clock: Clock) -> Rc<Run> {
    Rc::new(Run::unwatched("evt-ingest", clock))
}

/// Waits for the next item and returns it.
fn next_item(source: &mut Source) -> Item {
    loop {
        match source.poll().unwrap() {
            Polled::Item(QueuedItem { item, .. }) => return item,
            Polled::Progress => {}
            Polled::Waiting(timeout) => source.wait(timeout).unwrap(),
        }
    }
}

/// A stage whose output is a list of batches.
struct Bench {
    source: Source,
    dead: DeadLetters,
    batches: Vec<RecordBatch>,
    settled: usize,
}

impl Bench {
    fn new(reader: SpoolReader, letters: &Path, run: &Rc<Run>) -> Self {
        let spec = spec(&evt_core::format::jsonl::FORMAT);
        let output = OutputPlan::try_new(letters.as_os_str(), &spec, run).unwrap();
        let mut dead = DeadLetters::new(run.clone(), Some(output));
        dead.open().unwrap();
        let mut options = SourceOptions::default();
        let mapping = &mut options.records.mapping;
        (mapping.provenance, mapping.stamped_at_arrival) = (Provenance::Overwrite, true);
        let source = Source::of_spool(reader, Box::new(|| {}), options, run.clone()).unwrap();
        Self { source, dead, batches: vec![], settled: 0 }
    }

    /// Commits if possible, and processes one item as a stage does. Returns the end if that is the item.
    fn turn(&mut self) -> Option<End> {
        if self.source.can_commit() {
            self.dead.settle().unwrap();
            self.settled = self.batches.len();
            self.source.commit().unwrap();
        }
        match next_item(&mut self.source) {
            Item::Dead(letters) => self.dead.take(&letters).unwrap(),
            Item::Batch(batch) => self.batches.push(batch),
            Item::Control(_) | Item::Idle => {}
            Item::End(end) => return Some(end),
        }
        None
    }

    fn finish(mut self) -> (Vec<RecordBatch>, Counts) {
        while self.turn().is_none() {}
        self.dead.flush().unwrap();
        self.source.commit_end().unwrap();
        (self.batches, self.source.counts())
    }
}

/// Makes a record with the event id `id` in every byte, or with no id if `id` is 0.
fn record(id: u8, fault: Option<&str>) -> Record {
    let uuid = format!("{id:02x}").repeat(16);
    let uuid = format!("{}-{}-{}-{}-{}", &uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]);
    let own_id = if id == 0 { String::new() } else { format!("\"event_id\":\"{uuid}\",") };
    let payload = format!(
        "{{{own_id}\"source\":\"web\",\"event_type\":\"click\",\"server_timestamp\":\"2030-01-01T00:00:00Z\"}}"
    );
    Record {
        payload: payload.into(),
        source: "web".into(),
        event_id: (id > 0).then_some([id; 16]),
        outcome: fault
            .map_or(RecordOutcome::New, |why| RecordOutcome::Rejected(Fault::new(ErrorType::ParseError, why))),
    }
}

/// Sends a request that arrived at `at` (µs); returns where its answer arrives.
fn append(log: &Arc<dyn RequestLog>, at: i64, records: Vec<Record>) -> Receiver<Answer> {
    let (send, answer) = channel();
    let headers = vec![("traceparent".to_owned(), "00-ab".to_owned())];
    let request = Request { arrived_at: at, token: "t".into(), headers, key: None, records };
    log.append(request, Responder::new(move |answer| drop(send.send(answer))));
    answer
}

fn spool(dir: &Path) -> AckPolicy {
    AckPolicy::Spool {
        dir: dir.join("spool"),
        limits: SpoolLimits { bytes: 1 << 20, dedup: Some(DedupLimits::of_window(60 * SECOND)) },
    }
}

/// Opens the spool that the last run left.
fn left(dir: &Path, run: &Rc<Run>) -> SpoolReader {
    loop {
        match open(&spool(dir), SpoolStart::Kept, run) {
            // The writer's thread has not released the lock yet.
            Err(_) => std::thread::yield_now(),
            Ok((_, reader)) => break reader,
        }
    }
}

#[test]
fn every_record_has_one_outcome_and_arrival_is_its_server_timestamp() {
    let dir = tempfile::tempdir().unwrap();
    let run = run();
    let (log, reader) = open(&spool(dir.path()), SpoolStart::Kept, &run).unwrap();
    let letters = dir.path().join("dead.jsonl");
    let records = vec![record(1, None), record(1, None), record(0, Some("not JSON")), record(0, None)];
    let answers = [append(&log, 7 * SECOND, records), append(&log, 9 * SECOND, vec![record(2, None), record(1, None)])];
    answers.iter().for_each(|answer| assert!(matches!(answer.recv().unwrap(), Answer::Stored(_))));
    drop(log);
    let (batches, counts) = Bench::new(reader, &letters, &run).finish();
    assert_eq!(counts, Counts { taken: 6, out: 3, duplicate: 2, dead: 1, ..Counts::default() });
    counts.check().unwrap();
    let rows = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    let times = |index: usize| rows.column(index).as_primitive::<TimestampMicrosecondType>().values().to_vec();
    for column in [column::SERVER_TIMESTAMP, column::EVENT_TIME, column::STREAM_TIME] {
        assert_eq!(times(column), [7 * SECOND, 7 * SECOND, 9 * SECOND]);
    }
    assert_eq!(
        rows.column(column::OFFSET).as_primitive::<Int64Type>().values()[..],
        [0, 3, 4].map(|n| 100 * SECOND + n)
    );
    let properties = rows.column(column::PROPERTIES).as_string::<i32>();
    assert_eq!(properties.value(0), "{\"server_timestamp\":\"2030-01-01T00:00:00Z\"}");
    let dead = std::fs::read_to_string(letters).unwrap();
    let offset = format!("\"offset\":{}", 100 * SECOND + 2);
    for part in ["not JSON", "\"source_topic\":\"http\"", &offset, "00-ab", "1970-01-01T00:00:07", "2030-01-01"] {
        assert!(dead.contains(part), "{part}: {dead}");
    }
}

#[test]
fn what_was_in_flight_at_a_crash_comes_again_under_the_same_ids_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let run = run();
    let letters = dir.path().join("dead.jsonl");
    let (log, reader) = open(&spool(dir.path()), SpoolStart::Kept, &run).unwrap();
    let mut bench = Bench::new(reader, &letters, &run);
    let stored = |answer: Receiver<Answer>| assert!(matches!(answer.recv().unwrap(), Answer::Stored(_)));
    stored(append(&log, SECOND, vec![record(0, None), record(3, None)]));
    while bench.settled == 0 {
        bench.turn();
    }
    stored(append(&log, 2 * SECOND, vec![record(0, None)]));
    while bench.batches.len() < 2 {
        bench.turn();
    }
    // Neither commit nor end, as after a kill.
    let ids = |batch: &RecordBatch| batch.column(column::EVENT_ID).clone();
    let first = ids(&bench.batches[1]);
    drop((log, bench));
    let (batches, counts) = Bench::new(left(dir.path(), &run), &letters, &run).finish();
    assert_eq!((counts.taken, counts.out, batches.len()), (1, 1, 1));
    assert_eq!(&ids(&batches[0]), &first);
    let stream_time = batches[0].column(column::STREAM_TIME).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(stream_time.values()[..], [2 * SECOND]);
}

#[test]
fn a_run_that_is_told_to_stop_leaves_what_would_take_too_long_for_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SimulatedClock::at(100 * SECOND);
    let run = at(Clock::Simulated(clock.clone()));
    let letters = dir.path().join("dead.jsonl");
    let (log, reader) = open(&spool(dir.path()), SpoolStart::Kept, &run).unwrap();
    let stored = |answer: Receiver<Answer>| assert!(matches!(answer.recv().unwrap(), Answer::Stored(_)));
    // One more than one step of the input reads.
    let answers: Vec<_> = (0..1025).map(|_| append(&log, SECOND, vec![record(0, None)])).collect();
    answers.into_iter().for_each(stored);
    drop(log);
    while !reader.entries.end().is_final {
        std::thread::yield_now();
    }
    let mut bench = Bench::new(reader, &letters, &run);
    let end = loop {
        if let Some(end) = bench.turn() {
            break end;
        }
        clock.advance(Duration::from_secs(10));
    };
    assert_eq!((end.how, bench.source.counts().taken), (EndReason::Stopped, 1024));
    bench.source.commit_end().unwrap();
    drop(bench);
    assert_eq!(Bench::new(left(dir.path(), &run), &letters, &run).finish().1.out, 1);
}

#[test]
fn clients_hear_of_it_when_the_outputs_have_their_events_or_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let run = run();
    let (log, reader) = open(&AckPolicy::Output, SpoolStart::Kept, &run).unwrap();
    let mut bench = Bench::new(reader, &dir.path().join("dead.jsonl"), &run);
    let first = append(&log, SECOND, vec![record(0, Some("all of it is faulty"))]);
    let heard = |bench: &mut Bench, answer: Receiver<Answer>| loop {
        if let Ok(answer) = answer.try_recv() {
            break answer;
        }
        bench.turn();
    };
    assert!(matches!(heard(&mut bench, first), Answer::Stored(_)));
    let second = append(&log, SECOND, vec![record(0, None)]);
    let Answer::Stored(entry) = heard(&mut bench, second) else { panic!("it is stored") };
    assert_eq!(entry.offset, 100 * SECOND + 1, "offsets begin with the time of the start");
    assert_eq!((bench.settled, bench.batches.len()), (1, 1));
    let last = append(&log, SECOND, vec![record(0, None)]);
    drop(log);
    let (_, counts) = bench.finish();
    assert_eq!((counts.taken, counts.out, counts.dead), (3, 2, 1));
    assert!(matches!(last.recv().unwrap(), Answer::Stored(_)), "what came last is settled at the end");
}

#[test]
fn a_run_that_fails_counts_the_acknowledged_records_that_were_only_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let done = |count| Some(DoneRecords { count, is_at_most: false });
    let most = |count| Some(DoneRecords { count, is_at_most: true });
    let one = "acknowledged record was not confirmed by every output and is lost (--ack memory)\n";
    let many = "acknowledged records were not confirmed by every output and are lost (--ack memory)\n";
    // Two records are read before the others.
    for (unread, done, line) in [
        (1, done(2), format!("evt-ingest: 1 {one}")),
        (3, done(2), format!("evt-ingest: 3 {many}")),
        (1, done(0), format!("evt-ingest: 3 {many}")),
        (0, done(1), format!("evt-ingest: 1 {one}")),
        (0, done(2), String::new()),
        (2, most(1), format!("evt-ingest: at least 3 {many}")),
        (2, None, format!("evt-ingest: at least 2 {many}")),
    ] {
        let lines = Arc::default();
        let run = run();
        let console = run.console.clone().captured(&lines);
        let run = Rc::new(Run { console, ..run.for_thread() });
        let (log, reader) = open(&AckPolicy::Memory, SpoolStart::Kept, &run).unwrap();
        let mut bench = Bench::new(reader, &dir.path().join("dead.jsonl"), &run);
        let records = |count: usize| (0..count).map(|_| record(0, None)).collect();
        let is_stored = |answer: Receiver<Answer>| matches!(answer.recv().unwrap(), Answer::Stored(_));
        assert!(is_stored(append(&log, SECOND, records(2))));
        while bench.batches.is_empty() {
            bench.turn();
        }
        if unread > 0 {
            assert!(is_stored(append(&log, SECOND, records(unread))));
        }
        drop(log);
        bench.source.report_lost(done);
        assert_eq!(*lines.lock().unwrap(), line);
    }
}
