//! The input over a cluster and a source that follow a script: ranges, gaps, rebalances, commits, new partitions,
//! hand-over.

#[path = "range_tests.rs"]
mod ranges;

use super::*;
use crate::client::stats::ClusterStats;
use crate::fetch::source::FetchSource;
use crate::fetch::test_data::FakeKafka;
use crate::framing;
use crate::position::Position;
use crate::source::{Cluster, Message, RecordSink, RecordSource};
use crate::test_data::{Call, CommitAnswer, FakeCluster, FakeSource, Polled, partition, start};
use arrow::array::RecordBatch;
use evt_core::frame::{End, PartitionState, Progress, State};
use evt_core::kind::Kind;
use evt_core::mapping;
use evt_run::clock::{Clock, SimulatedClock};
use evt_run::emit::RecordOptions;
use evt_run::emit::{Item, PendingInputs};
use std::sync::{Arc, Mutex};

const SECOND: i64 = 1_000_000;
/// 2023-11-14 22:13:20.
const NOW: i64 = 1_700_000_000 * SECOND;

/// An input, and what it is made of.
struct Rig {
    clock: SimulatedClock,
    run: Rc<Run>,
    address: Address,
    cluster: Rc<FakeCluster>,
    source: FakeSource,
    emitter: RecordEmitter,
    /// The lines of the console.
    said: Arc<Mutex<String>>,
}

impl Rig {
    /// Makes topics from a URI; the partitions of the first one have these first and end offsets.
    fn new(uri: &str, extents: &[(i64, i64)]) -> Self {
        let clock = SimulatedClock::at(NOW);
        let (mut run, said) = (Run::unwatched("evt-test", Clock::Simulated(clock.clone())), Arc::default());
        run.console = run.console.captured(&said);
        let run = Rc::new(run);
        let address = Address::parse(uri, &Default::default()).unwrap();
        let cluster = Rc::new(FakeCluster::new(&address.topics, extents));
        let options = mapping::Options { provenance: mapping::Provenance::Overwrite, ..mapping::Options::default() };
        let emitter =
            RecordEmitter::new(run.clone(), RecordOptions { mapping: options, ..Default::default() }).unwrap();
        Self { clock, run, address, source: cluster.source.clone(), cluster, emitter, said }
    }

    fn try_open(&mut self, options: Options<'_>, source: Box<dyn RecordSource>) -> Result<KafkaInput> {
        let connections = Connections { cluster: self.cluster.clone(), source };
        KafkaInput::begin(connections, &Topics::new(&self.address, &self.run), options, &mut self.emitter)
    }

    fn open(&mut self, read_mode: ReadMode, commit_mode: CommitMode) -> KafkaInput {
        let tool = TopicOptions { read_mode, commit_mode, has_clock: false, finds_silence: false, stays_live: false };
        self.try_open(Options { tool, origin: None }, Box::new(self.source.clone())).unwrap()
    }

    /// Joins the group, which assigns these partitions.
    fn join(&mut self, partitions: &[i32]) -> KafkaInput {
        let mut input = self.open(ReadMode::Commit, CommitMode::Subscribe);
        // An input before it may take longer than the group waits for a poll.
        assert_eq!(self.source.calls(), []);
        assert!(matches!(self.step(&mut input), Step::Idle));
        assert_eq!(self.source.calls(), [Call::Subscribe]);
        self.assign(&mut input, partitions);
        input
    }

    /// A member of a group that has read the first four events of partition 0.
    fn reading(uri: &str) -> (Self, KafkaInput) {
        let mut rig = Self::new(uri, &[(0, 9)]);
        let mut input = rig.join(&[0]);
        rig.records(0, 0..4, 30);
        rig.read(&mut input);
        (rig, input)
    }

    fn assign(&mut self, input: &mut KafkaInput, partitions: &[i32]) {
        let partitions = partitions.iter().map(|number| partition(*number)).collect();
        self.note(Rebalance::Assigned(partitions));
        self.step(input);
    }

    fn revoke(&mut self, input: &mut KafkaInput, partitions: &[i32]) {
        let partitions = partitions.iter().map(|number| partition(*number)).collect();
        self.note(Rebalance::Revoked(partitions));
        self.step(input);
    }

    fn note(&self, rebalance: Rebalance) {
        self.cluster.context().notes(|notes| notes.rebalances.push_back(rebalance));
    }

    /// librdkafka reports these ends of partitions.
    fn note_ends(&self, ends: &[(i32, Option<i64>)]) {
        let ends = ends.iter().map(|(number, end)| (partition(*number), *end)).collect();
        self.cluster
            .context()
            .notes(|notes| notes.stats = Some(ClusterStats { is_up: true, ends, ..ClusterStats::default() }));
    }

    fn step(&mut self, input: &mut KafkaInput) -> Step {
        input.step(&mut self.emitter).unwrap()
    }

    /// The source passes one event for each second since [`NOW`], at these offsets.
    fn records(&self, number: i32, offsets: std::ops::Range<i64>, seconds: i64) {
        let records = offsets.map(|offset| (offset, Some(event(seconds)))).collect();
        self.source.will(Polled::Records(partition(number), records));
    }

    /// Reads the records that the source passes.
    fn read(&mut self, input: &mut KafkaInput) {
        assert!(matches!(self.step(input), Step::More));
    }

    /// Takes the items that the emitter has handed out.
    fn items(&mut self) -> Vec<Item> {
        self.emitter.flush().unwrap();
        std::iter::from_fn(|| self.emitter.pop()).map(|sent| sent.item).collect()
    }

    /// Takes the number of rows.
    fn rows(&mut self) -> usize {
        let rows = |item: &Item| if let Item::Batch(batch) = item { batch.num_rows() } else { 0 };
        self.items().iter().map(rows).sum()
    }

    /// The stream time of a partition, in seconds since [`NOW`].
    fn stream_time(&mut self, input: &KafkaInput, number: i32) -> Option<i64> {
        let cursor =
            input.reading.partitions.cursors.iter().find(|cursor| cursor.id.number == number).expect("it is read");
        self.emitter.stamp().stream_time(cursor.partition_index).map(|instant| (instant - NOW) / SECOND)
    }
}

fn event(seconds: i64) -> String {
    let time = evt_core::time::format_instant(NOW + seconds * SECOND);
    format!(
        r#"{{"event_id":"00000000-0000-4000-8000-{seconds:012}","event_type":"t","source":"s","server_timestamp":"{time}"}}"#
    )
}

fn position(number: i32, offset: i64, seconds: Option<i64>) -> Position {
    let stream_time = seconds.map(|seconds| NOW + seconds * SECOND);
    Position { stream_time, ..start(number, offset) }
}

fn commit(rig: &FakeCluster, number: i32, offset: i64, seconds: i64) {
    rig.committed.borrow_mut().insert(partition(number), position(number, offset, Some(seconds)));
}

const GROUP: &str = "//b:9092/t?group=g";

#[test]
fn a_message_from_before_the_offset_or_of_a_partition_that_is_not_read_is_ignored() {
    let mut rig = Rig::new("//b:9092/t", &[(0, 10)]);
    let mut input = rig.open(ReadMode::Tail, CommitMode::None);
    input.reading.partitions.cursors[0].next = 4;
    rig.records(0, 2..6, 1);
    rig.records(7, 0..3, 1);
    rig.read(&mut input);
    rig.read(&mut input);
    assert_eq!(rig.rows(), 2);
    assert_eq!(rig.emitter.counts().taken, 2);
}

#[test]
fn a_tombstone_is_counted_and_no_row() {
    let mut rig = Rig::new("//b:9092/t", &[(0, 10)]);
    let mut input = rig.open(ReadMode::Tail, CommitMode::None);
    rig.source.will(Polled::Records(partition(0), vec![(0, None), (1, Some(event(1))), (2, Some("no JSON".into()))]));
    rig.read(&mut input);
    let items = rig.items();
    assert!(items.iter().any(|item| matches!(item, Item::Dead(_))), "{items:?}");
    let counts = rig.emitter.counts();
    assert_eq!((counts.taken, counts.filtered, counts.out, counts.dead), (3, 1, 1, 1));
    assert_eq!(input.reading.partitions.cursors[0].next, 3);
}

#[test]
fn records_lost_to_retention_end_the_run_unless_gaps_are_skipped() {
    for (uri, skips) in [("//b:9092/t", false), ("//b:9092/t?on_gap=continue", true)] {
        let mut rig = Rig::new(uri, &[(0, 5), (0, 5)]);
        let mut input = rig.open(ReadMode::Tail, CommitMode::None);
        rig.records(0, 0..3, 7);
        rig.read(&mut input);
        assert_eq!(rig.rows(), 3);
        rig.cluster.set_extent(0, 6, 8);
        rig.source.calls();
        rig.source.will(Polled::Event(SourceEvent::OutOfRange));
        let step = input.step(&mut rig.emitter);
        if skips {
            assert!(matches!(step, Ok(Step::More)));
            assert_eq!(rig.source.calls(), [Call::Reset(vec![start(0, 6), start(1, 0)])]);
            assert_eq!(rig.stream_time(&input, 0), Some(7), "the records are those of the same partition");
            rig.records(0, 6..8, 1);
            rig.read(&mut input);
            assert_eq!(rig.rows(), 2);
        } else {
            let error = step.err().expect("a gap");
            assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("3 to 5"), "{error}");
            assert_eq!(rig.source.calls(), []);
        }
    }
}

#[test]
fn a_truncated_partition_is_read_from_its_start_without_its_stream_time() {
    let mut rig = Rig::new("//b:9092/t?on_gap=continue", &[(0, 5), (0, 5)]);
    let mut input = rig.open(ReadMode::Tail, CommitMode::None);
    rig.records(0, 0..5, 100);
    rig.records(1, 0..5, 50);
    rig.read(&mut input);
    rig.read(&mut input);
    assert_eq!(rig.rows(), 10);
    rig.cluster.set_extent(0, 0, 2);
    rig.source.calls();
    rig.source.will(Polled::Event(SourceEvent::OutOfRange));
    rig.read(&mut input);
    assert_eq!(rig.source.calls(), [Call::Reset(vec![start(0, 0), start(1, 5)])]);
    assert_eq!((rig.stream_time(&input, 0), rig.stream_time(&input, 1)), (None, Some(50)));
    rig.records(0, 0..2, 3);
    rig.read(&mut input);
    assert_eq!(rig.rows(), 2);
    assert_eq!(rig.stream_time(&input, 0), Some(3));
}

#[test]
fn a_run_that_reads_all_partitions_commits_its_beginning_and_goes_on_from_there() {
    let mut rig = Rig::new("//b:9092/t?group=g&end=latest", &[(0, 5), (0, 5)]);
    commit(&rig.cluster, 1, 3, 40);
    let mut input = rig.open(ReadMode::Commit, CommitMode::Assign);
    let begin = [position(0, 0, None), position(1, 3, Some(40))];
    let starts = vec![start(0, 0), start(1, 3)];
    assert_eq!(rig.source.calls(), [Call::Commit(begin.to_vec()), Call::Assign(starts)]);
    assert_eq!(rig.stream_time(&input, 1), Some(40));
    rig.records(1, 3..5, 41);
    rig.read(&mut input);
    rig.source.will(Polled::ReadTo(partition(0), 5, 5));
    rig.read(&mut input);
    assert!(matches!(rig.step(&mut input), Step::End));
    assert_eq!(rig.rows(), 2);
    rig.source.calls();
    input.commit_end(&mut rig.emitter).unwrap();
    assert_eq!(rig.source.calls(), [Call::Commit(vec![position(0, 5, None), position(1, 5, Some(41))])]);
}

#[test]
fn positions_are_committed_when_they_are_due_and_only_those_that_changed() {
    let mut rig = Rig::new(GROUP, &[(0, 5), (0, 5)]);
    let mut input = rig.join(&[0, 1]);
    rig.records(0, 0..2, 1);
    rig.read(&mut input);
    assert!(!input.note(&mut rig.emitter).unwrap(), "5 s have not passed");
    rig.clock.advance(Duration::from_secs(5));
    assert!(input.note(&mut rig.emitter).unwrap() && input.has_noted());
    assert!(!input.note(&mut rig.emitter).unwrap(), "the noted positions are not committed yet");
    // What is read after the positions were noted is not committed with them.
    rig.records(0, 2..3, 2);
    rig.read(&mut input);
    rig.source.calls();
    input.commit(&mut rig.emitter).unwrap();
    assert_eq!(rig.source.calls(), [Call::Commit(vec![position(0, 2, Some(1)), position(1, 0, None)])]);
    assert!(!input.has_noted());
    assert_eq!(rig.rows(), 3);
    rig.clock.advance(Duration::from_secs(5));
    assert!(input.note(&mut rig.emitter).unwrap());
    input.commit(&mut rig.emitter).unwrap();
    assert_eq!(rig.source.calls(), [Call::Commit(vec![position(0, 3, Some(2))])]);
}

#[test]
fn revoked_partitions_are_released_after_their_rows_are_committed() {
    let mut rig = Rig::new(GROUP, &[(0, 9), (0, 9)]);
    let mut input = rig.join(&[0, 1]);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![start(0, 0), start(1, 0)])]);
    rig.records(0, 0..4, 30);
    rig.read(&mut input);
    rig.revoke(&mut input, &[0]);
    // Nothing is read before the outputs have the rows.
    rig.records(1, 0..9, 1);
    assert!(matches!(rig.step(&mut input), Step::Idle));
    assert!(input.note(&mut rig.emitter).unwrap(), "it is due at once");
    assert_eq!(rig.rows(), 4);
    assert_eq!(rig.source.calls(), []);
    input.commit(&mut rig.emitter).unwrap();
    let committed = vec![position(0, 4, Some(30)), position(1, 0, None)];
    assert_eq!(rig.source.calls(), [Call::Commit(committed), Call::Revoke(vec![partition(0)])]);
    rig.read(&mut input);
    assert_eq!(rig.rows(), 9);
    // Another member has read on; the partition comes back with the stream time of the commit.
    commit(&rig.cluster, 0, 6, 80);
    rig.assign(&mut input, &[0]);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![start(0, 6)])]);
    assert_eq!(rig.stream_time(&input, 0), Some(80));
    rig.records(0, 6..7, 60);
    rig.read(&mut input);
    assert_eq!(rig.stream_time(&input, 0), Some(80), "the event is late");
}

#[test]
fn a_commit_that_fails_is_repeated_before_the_release() {
    let (mut rig, mut input) = Rig::reading(GROUP);
    rig.revoke(&mut input, &[0]);
    rig.source.calls();
    *rig.cluster.answer.borrow_mut() = CommitAnswer::Failed(ErrorKind::Unavailable);
    assert!(input.note(&mut rig.emitter).unwrap());
    input.commit(&mut rig.emitter).unwrap();
    let committed = Call::Commit(vec![position(0, 4, Some(30))]);
    assert_eq!(rig.source.calls(), std::slice::from_ref(&committed));
    assert!(matches!(rig.step(&mut input), Step::Idle), "it is not released");
    *rig.cluster.answer.borrow_mut() = CommitAnswer::Done;
    assert!(input.note(&mut rig.emitter).unwrap());
    input.commit(&mut rig.emitter).unwrap();
    assert_eq!(rig.source.calls(), [committed, Call::Revoke(vec![partition(0)])]);
}

#[test]
fn a_member_that_was_fenced_releases_its_partitions() {
    let (mut rig, mut input) = Rig::reading(GROUP);
    rig.revoke(&mut input, &[0]);
    *rig.cluster.answer.borrow_mut() = CommitAnswer::Failed(ErrorKind::Fenced);
    assert!(input.note(&mut rig.emitter).unwrap());
    rig.source.calls();
    input.commit(&mut rig.emitter).unwrap();
    assert_eq!(rig.source.calls().last(), Some(&Call::Revoke(vec![partition(0)])));
    assert!(input.reading.partitions.cursors.is_empty());
    *rig.cluster.answer.borrow_mut() = CommitAnswer::Done;
    rig.assign(&mut input, &[0]);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![start(0, 0)])], "nothing was committed");
}

#[test]
fn partitions_that_the_group_gave_away_are_released_at_once_without_a_commit() {
    let (mut rig, mut input) = Rig::reading(GROUP);
    rig.source.calls();
    *rig.cluster.is_lost.borrow_mut() = true;
    rig.revoke(&mut input, &[0]);
    assert_eq!(rig.source.calls(), [Call::Revoke(vec![partition(0)])]);
    assert!(!input.note(&mut rig.emitter).unwrap() && !input.has_noted());
}

#[test]
fn outputs_that_take_too_long_delay_a_rebalance_for_less_than_the_poll_interval() {
    for (uri, limit) in [(GROUP, 120), ("//b:9092/t?group=g&rdkafka.max.poll.interval.ms=50000", 20)] {
        let (mut rig, mut input) = Rig::reading(uri);
        rig.revoke(&mut input, &[0]);
        rig.source.calls();
        rig.clock.advance(Duration::from_secs(limit));
        assert!(matches!(rig.step(&mut input), Step::Idle));
        assert_eq!(rig.source.calls(), []);
        rig.clock.advance(Duration::from_secs(1));
        rig.step(&mut input);
        assert_eq!(rig.source.calls(), [Call::Revoke(vec![partition(0)])], "{uri}");
    }
}

#[test]
fn new_partitions_are_read_from_their_start() {
    let mut rig = Rig::new("//b:9092/t?start=latest", &[(0, 5)]);
    let mut input = rig.open(ReadMode::Tail, CommitMode::None);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![start(0, 5)])]);
    rig.cluster.set_extent(1, 2, 6);
    rig.note_ends(&[(0, Some(8)), (1, None)]);
    rig.step(&mut input);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![start(1, 2)])]);
    let lag: Vec<_> = input.lag(NOW).iter().map(|lag| (lag.partition, lag.records)).collect();
    assert_eq!(lag, [(0, 3), (1, 4)]);
    rig.records(1, 2..4, 1);
    rig.read(&mut input);
    assert_eq!(rig.rows(), 2);
    // The same statistics again bring nothing new.
    rig.note_ends(&[(0, Some(8)), (1, Some(6))]);
    rig.step(&mut input);
    assert_eq!(rig.source.calls(), []);
}

#[test]
fn a_new_partition_that_the_group_assigns_is_read_from_its_start() {
    let mut rig = Rig::new("//b:9092/t?group=g&start=latest", &[(0, 5)]);
    let mut input = rig.join(&[0]);
    rig.source.calls();
    rig.cluster.set_extent(1, 0, 6);
    rig.assign(&mut input, &[1]);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![Position { partitions: Some(1), ..start(1, 0) }])]);
}

#[test]
fn librdkafka_takes_over_at_the_offsets_that_were_reached() {
    let mut rig = Rig::new("//b:9092/t", &[(0, 0), (0, 0)]);
    let kafka = FakeKafka::new(&[1, 1]);
    let fetch = FetchSource::new(kafka.fetcher(), Box::new(rig.source.clone()));
    let options = Options { tool: TopicOptions { read_mode: ReadMode::Tail, ..TopicOptions::default() }, origin: None };
    let mut input = rig.try_open(options, Box::new(fetch)).unwrap();
    let (first, second) = (event(1), event(2));
    kafka.log(0, |log| log.append(&[&first, &second]));
    for _ in 0..20 {
        rig.step(&mut input);
        input.wait(Duration::from_millis(100)).unwrap();
    }
    assert_eq!(rig.rows(), 2);
    kafka.log(1, |log| log.code = 87);
    rig.source.calls();
    for _ in 0..20 {
        rig.step(&mut input);
        input.wait(Duration::from_millis(100)).unwrap();
    }
    assert_eq!(rig.source.calls(), [Call::Reset(vec![start(0, 2), start(1, 0)])]);
    rig.records(0, 2..5, 3);
    rig.read(&mut input);
    assert_eq!(rig.rows(), 3);
}

#[test]
fn an_outage_that_librdkafka_reports_counts_once_nothing_is_fetched_any_more() {
    let mut rig = Rig::new(GROUP, &[(0, 0)]);
    let kafka = FakeKafka::new(&[1]);
    let fetch = FetchSource::new(kafka.fetcher(), Box::new(rig.source.clone()));
    let tool = TopicOptions { commit_mode: CommitMode::Subscribe, ..TopicOptions::default() };
    let options = Options { tool, origin: None };
    let mut input = rig.try_open(options, Box::new(fetch)).unwrap();
    rig.assign(&mut input, &[0]);
    rig.source.will(Polled::Event(SourceEvent::Failed(KafkaError::Global(Code::AllBrokersDown))));
    rig.step(&mut input);
    assert!(input.health.is_up(), "the fetcher has connections of its own");
    *rig.cluster.is_lost.borrow_mut() = true;
    rig.revoke(&mut input, &[0]);
    rig.step(&mut input);
    assert!(!input.health.is_up());
    rig.source.calls();
    drop(input);
    assert_eq!(rig.source.calls(), [Call::Abandon]);
}

#[test]
fn an_outage_ends_the_run_in_time_while_commits_fail_or_revoked_partitions_wait() {
    for is_revoked in [false, true] {
        let mut rig = Rig::new(&format!("{GROUP}&wait=1ms"), &[(0, 0)]);
        let kafka = FakeKafka::new(&[1]);
        let fetch = FetchSource::new(kafka.fetcher(), Box::new(rig.source.clone()));
        let tool = TopicOptions { commit_mode: CommitMode::Subscribe, ..TopicOptions::default() };
        let options = Options { tool, origin: None };
        let mut input = rig.try_open(options, Box::new(fetch)).unwrap();
        rig.assign(&mut input, &[0]);
        if is_revoked {
            rig.revoke(&mut input, &[0]);
            assert!(matches!(rig.step(&mut input), Step::Idle));
        }
        input.health.note_error(Code::AllBrokersDown);
        rig.clock.advance(Duration::from_millis(1));
        rig.source.will(Polled::Event(SourceEvent::Failed(KafkaError::Global(Code::BrokerTransportFailure))));
        let error = (0..10).find_map(|_| input.step(&mut rig.emitter).err()).expect("the outage is too long");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

#[test]
fn a_member_releases_what_is_revoked_before_it_leaves_the_group() {
    let mut rig = Rig::new(GROUP, &[(0, 5)]);
    let input = rig.join(&[0]);
    rig.note(Rebalance::Revoked(vec![partition(0)]));
    rig.source.calls();
    drop(input);
    assert_eq!(rig.source.calls(), [Call::Revoke(vec![partition(0)]), Call::LeaveGroup]);
}

#[test]
fn a_member_whose_turn_has_not_come_neither_joins_nor_leaves_the_group() {
    let mut rig = Rig::new(GROUP, &[(0, 5)]);
    let input = rig.open(ReadMode::Commit, CommitMode::Subscribe);
    assert!(input.is_endless());
    drop(input);
    assert_eq!(rig.source.calls(), []);
}

#[test]
fn permanent_errors_end_the_run_and_those_of_a_group_do_not_concern_who_is_in_none() {
    let failed = |code| Polled::Event(SourceEvent::Failed(KafkaError::Global(code)));
    let mut rig = Rig::new("//b:9092/t", &[(0, 5)]);
    let mut input = rig.open(ReadMode::Tail, CommitMode::None);
    for code in [Code::GroupAuthorizationFailed, Code::PollExceeded, Code::BrokerTransportFailure] {
        rig.source.will(failed(code));
        rig.read(&mut input);
    }
    assert!(input.health.is_up(), "one broker is not all of them");
    rig.source.will(failed(Code::TopicAuthorizationFailed));
    assert_eq!(input.step(&mut rig.emitter).err().map(|error| error.kind()), Some(ErrorKind::Unavailable));
    let mut rig = Rig::new(GROUP, &[(0, 5)]);
    let mut input = rig.join(&[0]);
    rig.source.will(failed(Code::GroupAuthorizationFailed));
    assert!(input.step(&mut rig.emitter).is_err());
}

#[test]
fn an_assignment_of_no_partitions_is_confirmed() {
    let mut rig = Rig::new(GROUP, &[(0, 5)]);
    let mut input = rig.join(&[0]);
    rig.source.calls();
    rig.assign(&mut input, &[]);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![])]);
}

/// The value of a message that holds rows, or a control frame.
fn rows(count: usize) -> Vec<u8> {
    let kind = Kind::Event;
    framing::rows(&kind.schema(), &RecordBatch::new_empty(kind.schema()).slice(0, count)).unwrap()
}

#[test]
fn frames_go_to_the_ingest_with_the_partitions_of_their_writer() {
    let mut rig = Rig::new("//b:9092/t?format=frames", &[(0, 9), (0, 9)]);
    rig.emitter.stamp_mut().turn_to(0, ByteProgress::default(), PendingInputs { pending: false, complete: true });
    let mut input = rig.open(ReadMode::Bounded, CommitMode::None);
    assert!(input.reports_partitions());
    let state = |name: &str, seconds: Option<i64>, state| PartitionState {
        input: 0,
        origin: "o".into(),
        partition: name.into(),
        stream_time: seconds.map(|seconds| NOW + seconds * SECOND),
        state,
    };
    let schema = Kind::Event.schema();
    let progress = |partitions: Vec<PartitionState>| {
        let progress = Progress { partitions, complete: true, ..Progress::default() };
        framing::control(&schema, &Control::Progress(progress)).unwrap()
    };
    let end = End { how: EndReason::Exhausted, rows: 0, verdict: 1 };
    let messages: [(i32, Vec<u8>); 6] = [
        (0, rows(0)),
        (0, progress(vec![state("a", Some(1), State::Live)])),
        (1, progress(vec![state("a", None, State::Live), state("b", Some(2), State::Live)])),
        (0, framing::control(&schema, &Control::Watermark(NOW)).unwrap()),
        (1, framing::control(&schema, &Control::Watermark(NOW - SECOND)).unwrap()),
        (1, framing::control(&schema, &Control::End(end)).unwrap()),
    ];
    let mut sink = records::Sink { partitions: &mut input.reading.partitions, emitter: &mut rig.emitter };
    for (offset, (number, value)) in (0..).zip(&messages) {
        let headers = &crate::test_data::NoHeaders;
        let message = Message { offset, key: None, value: Some(value), headers, arrival: None };
        assert!(!sink.record(partition(*number), &message).unwrap());
    }
    let mut seen = vec![];
    for item in rig.items() {
        match item {
            Item::Control(Control::Progress(progress)) => {
                let names: Vec<_> = progress.partitions.iter().map(|one| one.partition.clone()).collect();
                seen.push(format!("{} {}", names.join(","), progress.complete));
            }
            Item::Control(Control::Watermark(instant)) => seen.push(format!("{}", (instant - NOW) / SECOND)),
            _ => {}
        }
    }
    // Partition 0 alone is not complete, and a watermark holds where all partitions have sent one.
    assert_eq!(seen, ["a false", "b true", "-1"]);
    for number in [0, 1] {
        rig.source.will(Polled::ReadTo(partition(number), 9, 9));
        rig.read(&mut input);
    }
    assert!(matches!(rig.step(&mut input), Step::End));
    let ended = rig.items().into_iter().find_map(|item| match item {
        Item::Control(Control::Progress(progress)) => Some(progress),
        _ => None,
    });
    let ended = ended.expect("all partitions have ended");
    assert!(ended.complete && ended.partitions.iter().all(|one| one.state == State::Ended));
    assert_eq!(ended.partitions.len(), 2);
    assert_eq!(input.end().verdict, 1);
}
