//! The fetcher over brokers in memory: leaders that change, offsets that are lost, connections that fail.

use super::batch::AbortedTransaction;
use super::source::FetchSource;
use super::test_data::{Attributes, FakeKafka, Log, address};
use super::*;
use crate::source::{Message, RecordSink, RecordSource, SourceEvent};
use crate::test_data::{Call, FakeSource, partition, start};
use evt_core::error::ErrorKind;

/// The records that a source has passed.
#[derive(Default)]
struct Taken {
    records: Vec<(i32, i64, String)>,
    read_to: Vec<(i32, Option<i64>, i64)>,
    /// The sink ends the reading of a partition before this offset.
    end: Option<i64>,
}

impl RecordSink for Taken {
    fn record(&mut self, id: PartitionId, message: &Message<'_>) -> Result<bool> {
        if self.end.is_some_and(|end| message.offset >= end) {
            return Ok(true);
        }
        let value = String::from_utf8_lossy(message.value.unwrap_or_default()).into_owned();
        self.records.push((id.number, message.offset, value));
        Ok(false)
    }

    fn read_to(&mut self, id: PartitionId, next: Option<i64>, high: i64) -> Result<bool> {
        self.read_to.push((id.number, next, high));
        Ok(false)
    }
}

/// A source over brokers in memory.
struct Rig {
    kafka: FakeKafka,
    library: FakeSource,
    source: FetchSource,
    taken: Taken,
}

impl Rig {
    fn new(leaders: &[i32]) -> Self {
        let (kafka, library) = (FakeKafka::new(leaders), FakeSource::default());
        let source = FetchSource::new(kafka.fetcher(), Box::new(library.clone()));
        Self { kafka, library, source, taken: Taken::default() }
    }

    fn poll(&mut self) -> SourceEvent {
        self.source.poll(&mut self.taken).unwrap()
    }

    /// Polls and waits for this time; returns the first event other than records, or `Idle`.
    fn run_for(&mut self, time: Duration) -> SourceEvent {
        let until = self.kafka.state().now + time;
        while self.kafka.state().now < until {
            match self.poll() {
                SourceEvent::Records => {}
                SourceEvent::Idle => self.source.wait(Duration::from_millis(100)).unwrap(),
                event => return event,
            }
        }
        SourceEvent::Idle
    }

    /// Reads for two seconds, in which no event other than records may occur; returns the records since the last call.
    fn read(&mut self) -> Vec<(i32, i64, String)> {
        assert!(matches!(self.run_for(Duration::from_secs(2)), SourceEvent::Idle));
        std::mem::take(&mut self.taken.records)
    }
}

fn record(number: i32, offset: i64, value: &str) -> (i32, i64, String) {
    (number, offset, value.to_owned())
}

#[test]
fn records_come_from_the_leaders_of_their_partitions() {
    let mut rig = Rig::new(&[1, 2, 1]);
    rig.kafka.log(0, |log| log.append(&["a", "b"]));
    rig.kafka.log(1, |log| log.append(&["c"]));
    rig.source.assign(&[start(0, 0), start(1, 0), start(2, 0)]).unwrap();
    assert!(rig.source.has_own_connections());
    let mut records = rig.read();
    records.sort();
    assert_eq!(records, [record(0, 0, "a"), record(0, 1, "b"), record(1, 0, "c")]);
    assert!(rig.taken.read_to.contains(&(0, Some(2), 2)) && rig.taken.read_to.contains(&(2, None, 0)));
    rig.kafka.log(2, |log| log.append(&["d"]));
    assert_eq!(rig.read(), [record(2, 0, "d")]);
    // librdkafka keeps the partitions and reads nothing.
    let ids = [0, 1, 2].map(partition).to_vec();
    assert_eq!(rig.library.calls(), [Call::Assign(vec![start(0, 0), start(1, 0), start(2, 0)]), Call::Pause(ids)]);
}

#[test]
fn a_batch_that_begins_before_the_offset_comes_whole_and_compaction_leaves_no_gap() {
    let mut rig = Rig::new(&[1]);
    rig.kafka.log(0, |log| {
        log.append(&["a", "b", "c"]);
        log.append_batch(5, Attributes::NONE, &[(1, 0, Some("d"))]);
        log.append(&["e"]);
    });
    rig.source.assign(&[start(0, 2)]).unwrap();
    let records = rig.read();
    assert_eq!(records.iter().map(|(_, offset, _)| *offset).collect::<Vec<_>>(), [0, 1, 2, 4, 8]);
    assert_eq!(rig.taken.read_to.first(), Some(&(0, Some(9), 9)));
}

#[test]
fn aborted_records_are_not_read() {
    let mut rig = Rig::new(&[1]);
    rig.kafka.log(0, |log| {
        log.append_batch(1, Attributes::transactional(7), &[(0, 0, Some("aborted"))]);
        log.append(&["a"]);
        log.aborted = vec![AbortedTransaction { producer: 7, first: 0 }];
    });
    rig.source.assign(&[start(0, 0)]).unwrap();
    assert_eq!(rig.read(), [record(0, 1, "a")]);
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_stopped() {
    let mut rig = Rig::new(&[1, 1]);
    rig.kafka.log(0, |log| log.append(&["a"]));
    rig.source.assign(&[start(0, 0), start(1, 0)]).unwrap();
    assert_eq!(rig.read(), [record(0, 0, "a")]);
    rig.kafka.log(0, |log| {
        log.leader = 2;
        log.append(&["b"]);
    });
    rig.kafka.log(1, |log| log.append(&["c"]));
    let mut records = rig.read();
    records.sort();
    assert_eq!(records, [record(0, 1, "b"), record(1, 0, "c")]);
    assert!(rig.source.failing().is_none());
}

#[test]
fn partitions_of_a_broker_that_dies_are_read_from_their_next_leader() {
    let mut rig = Rig::new(&[1]);
    rig.source.assign(&[start(0, 0)]).unwrap();
    assert_eq!(rig.read(), []);
    rig.kafka.state().brokers.get_mut(&1).unwrap().is_down = true;
    assert_eq!(rig.read(), []);
    let failing = rig.source.failing().expect("the connection is lost");
    assert!(failing.time > Duration::ZERO && failing.why.is_some_and(|why| why.contains("fake:1")), "{failing:?}");
    rig.kafka.log(0, |log| {
        log.leader = 2;
        log.append(&["a"]);
    });
    assert_eq!(rig.read(), [record(0, 0, "a")]);
}

#[test]
fn a_partition_whose_leader_gives_no_answer_fails_for_longer_and_longer_while_others_are_read() {
    let minutes = Duration::from_secs(600);
    // The leader is down, has an error for the partition, or no broker knows a leader.
    for (is_down, code, leader, why) in [
        (true, 0, 1, "fake:1: connection refused"),
        (false, 56, 1, "the leader responds with error 56"),
        (false, 0, -1, "no broker knows its leader"),
    ] {
        let mut rig = Rig::new(&[1, 2]);
        rig.source.assign(&[start(0, 0), start(1, 0)]).unwrap();
        if leader > 0 {
            assert_eq!(rig.read(), []);
        }
        rig.kafka.state().brokers.get_mut(&1).unwrap().is_down = is_down;
        rig.kafka.log(0, |log| (log.code, log.leader) = (code, leader));
        for _ in 0..60 {
            rig.kafka.log(1, |log| log.append(&["a"]));
            assert!(matches!(rig.run_for(minutes / 60), SourceEvent::Idle));
        }
        assert_eq!(std::mem::take(&mut rig.taken.records).len(), 60, "the other partition is read");
        let failing = rig.source.failing().expect("it has no answer");
        assert_eq!((failing.id, failing.why), (partition(0), Some(why)));
        let missing = minutes.saturating_sub(failing.time);
        assert!(missing < Duration::from_secs(10), "{failing:?}");
        // A reset because of another partition does not end it, and time in which nobody polls does not count.
        rig.source.reset(&[start(0, 0), start(1, 60)]).unwrap();
        rig.kafka.state().now += minutes;
        assert!(matches!(rig.run_for(Duration::from_secs(1)), SourceEvent::Idle));
        let failing = rig.source.failing().expect("it has no answer").time;
        assert!(failing < minutes + Duration::from_secs(10), "{failing:?}");
        rig.kafka.state().brokers.get_mut(&1).unwrap().is_down = false;
        rig.kafka.log(0, |log| (log.code, log.leader) = (0, 2));
        assert_eq!(rig.read(), []);
        assert!(rig.source.failing().is_none(), "{why}");
    }
}

#[test]
fn without_any_broker_the_source_says_so_until_one_is_back() {
    let mut rig = Rig::new(&[1]);
    rig.kafka.state().brokers.values_mut().for_each(|broker| broker.is_down = true);
    rig.source.assign(&[start(0, 0)]).unwrap();
    assert!(matches!(rig.run_for(Duration::from_secs(5)), SourceEvent::Unreachable));
    rig.kafka.state().brokers.values_mut().for_each(|broker| broker.is_down = false);
    rig.kafka.log(0, |log| log.append(&["a"]));
    assert_eq!(rig.read(), [record(0, 0, "a")]);
}

#[test]
fn a_broker_that_does_not_answer_loses_its_connection() {
    let mut rig = Rig::new(&[1]);
    rig.source.assign(&[start(0, 0)]).unwrap();
    assert_eq!(rig.read(), []);
    rig.kafka.state().brokers.get_mut(&1).unwrap().is_silent = true;
    assert!(matches!(rig.run_for(Duration::from_secs(29)), SourceEvent::Idle));
    assert!(rig.source.failing().is_none());
    assert!(matches!(rig.run_for(Duration::from_secs(5)), SourceEvent::Idle));
    let why = rig.source.failing().expect("it was silent for 30 s").why;
    assert!(why.is_some_and(|why| why.contains("no response")), "{why:?}");
}

#[test]
fn a_caller_that_was_busy_does_not_take_a_broker_for_silent() {
    let mut rig = Rig::new(&[1]);
    rig.source.assign(&[start(0, 0)]).unwrap();
    assert_eq!(rig.read(), []);
    rig.kafka.state().now += Duration::from_secs(60);
    assert_eq!(rig.read(), []);
    assert!(rig.source.failing().is_none());
}

#[test]
fn an_offset_out_of_range_is_reported_until_the_partition_is_reset() {
    let mut rig = Rig::new(&[1, 1]);
    rig.kafka.log(0, |log| {
        log.append(&["a", "b"]);
        log.low = 1;
    });
    rig.kafka.log(1, |log| log.append(&["c"]));
    rig.source.assign(&[start(0, 0), start(1, 0)]).unwrap();
    assert!(matches!(rig.run_for(Duration::from_secs(2)), SourceEvent::OutOfRange));
    assert!(matches!(rig.run_for(Duration::from_secs(2)), SourceEvent::OutOfRange));
    rig.source.reset(&[start(0, 1), start(1, 0)]).unwrap();
    let mut records = rig.read();
    records.sort();
    records.dedup();
    assert_eq!(records, [record(0, 0, "a"), record(0, 1, "b"), record(1, 0, "c")]);
}

#[test]
fn a_truncated_partition_is_out_of_range() {
    let mut rig = Rig::new(&[1]);
    rig.kafka.log(0, |log| log.append(&["a", "b", "c"]));
    rig.source.assign(&[start(0, 3)]).unwrap();
    assert_eq!(rig.read(), []);
    rig.kafka.log(0, |log| {
        *log = Log::new(1);
        log.append(&["d"]);
    });
    assert!(matches!(rig.run_for(Duration::from_secs(2)), SourceEvent::OutOfRange));
    rig.source.reset(&[start(0, 0)]).unwrap();
    assert_eq!(rig.read(), [record(0, 0, "d")]);
}

/// A topic of the same name has another id: at the same offset it has other records.
#[test]
fn a_topic_that_was_created_again_is_not_read_by_the_id_of_the_earlier_one() {
    let [old, new] = ["sVv-a5OcT9-0w_YkfEzn3g", "1QvNQ1nxRzaB5uPfYQ1aJg"].map(TopicId::parse);
    let at = |topic_id, offset| Position { topic_id, ..start(0, offset) };
    let mut rig = Rig::new(&[1]);
    rig.kafka.state().topic_id = old;
    rig.kafka.log(0, |log| log.append(&["a", "b"]));
    rig.source.assign(&[at(old, 0)]).unwrap();
    assert_eq!(rig.read(), [record(0, 0, "a"), record(0, 1, "b")]);
    rig.kafka.log(0, |log| {
        *log = Log::new(1);
        log.append(&["c", "d", "e"]);
    });
    rig.kafka.state().topic_id = new;
    assert!(matches!(rig.run_for(Duration::from_secs(2)), SourceEvent::UnknownTopic));
    assert!(rig.taken.records.is_empty() && rig.source.reads_by_id());
    rig.source.reset(&[at(new, 0)]).unwrap();
    assert_eq!(rig.read(), [record(0, 0, "c"), record(0, 1, "d"), record(0, 2, "e")]);
    assert!(rig.source.reads_by_id());
    rig.source.reset(&[at(None, 3)]).unwrap();
    rig.kafka.log(0, |log| log.append(&["f"]));
    assert_eq!(rig.read(), [record(0, 3, "f")]);
    assert!(!rig.source.reads_by_id(), "without an id it is requested by name");
}

/// A new topic may have more partitions, which are added before its id is compared with that of the others.
#[test]
fn a_partition_of_a_new_topic_leaves_one_of_the_earlier_topic_its_id() {
    let [old, new] = ["sVv-a5OcT9-0w_YkfEzn3g", "1QvNQ1nxRzaB5uPfYQ1aJg"].map(TopicId::parse);
    let at = |topic_id, number| Position { topic_id, ..start(number, 0) };
    let mut rig = Rig::new(&[1, 2]);
    rig.kafka.state().topic_id = old;
    rig.kafka.log(0, |log| log.append(&["a"]));
    rig.source.assign(&[at(old, 0)]).unwrap();
    assert_eq!(rig.read(), [record(0, 0, "a")]);
    rig.kafka.log(0, |log| {
        *log = Log::new(1);
        log.append(&["c", "d", "e"]);
    });
    rig.kafka.log(1, |log| log.append(&["f"]));
    rig.kafka.state().topic_id = new;
    rig.source.assign(&[at(new, 1)]).unwrap();
    let mut is_reported = false;
    for _ in 0..20 {
        is_reported |= matches!(rig.run_for(Duration::from_millis(100)), SourceEvent::UnknownTopic);
    }
    assert!(is_reported);
    assert_eq!(std::mem::take(&mut rig.taken.records), [record(1, 0, "f")]);
    rig.source.reset(&[at(new, 0), at(new, 1)]).unwrap();
    let read = rig.read();
    let of_first = read.into_iter().filter(|found| *found != record(1, 0, "f"));
    assert_eq!(of_first.collect::<Vec<_>>(), [record(0, 0, "c"), record(0, 1, "d"), record(0, 2, "e")]);
}

#[test]
fn an_answer_to_a_request_from_before_a_reset_is_ignored() {
    let mut rig = Rig::new(&[1]);
    rig.source.assign(&[start(0, 0)]).unwrap();
    assert_eq!(rig.read(), []);
    // The request for offset 0 is under way.
    rig.kafka.log(0, |log| log.append(&["a", "b"]));
    rig.source.reset(&[start(0, 2)]).unwrap();
    rig.kafka.log(0, |log| log.append(&["c"]));
    assert_eq!(rig.read(), [record(0, 2, "c")]);
}

#[test]
fn a_paused_or_revoked_partition_is_read_no_more() {
    let mut rig = Rig::new(&[1, 1]);
    rig.source.assign(&[start(0, 0), start(1, 0)]).unwrap();
    assert_eq!(rig.read(), []);
    rig.source.pause(&[partition(0)]).unwrap();
    rig.kafka.log(0, |log| log.append(&["a"]));
    rig.kafka.log(1, |log| log.append(&["b"]));
    assert_eq!(rig.read(), [record(1, 0, "b")]);
    rig.library.calls();
    rig.source.revoke(&[partition(1)]).unwrap();
    assert_eq!(rig.library.calls(), [Call::Revoke(vec![partition(1)])]);
    rig.kafka.log(1, |log| log.append(&["c"]));
    assert_eq!(rig.read(), []);
    assert!(!rig.source.has_own_connections());
}

#[test]
fn the_reading_of_a_partition_ends_where_the_sink_says() {
    let mut rig = Rig::new(&[1]);
    rig.kafka.log(0, |log| log.append(&["a", "b", "c"]));
    rig.taken.end = Some(2);
    rig.source.assign(&[start(0, 0)]).unwrap();
    assert_eq!(rig.read(), [record(0, 0, "a"), record(0, 1, "b")]);
    rig.kafka.log(0, |log| log.append(&["d"]));
    assert_eq!(rig.read(), []);
}

#[test]
fn librdkafka_takes_over_where_brokers_are_not_understood() {
    for (is_old, code) in [(true, 0), (false, 87)] {
        let mut rig = Rig::new(&[1]);
        rig.kafka.log(0, |log| log.code = code);
        rig.kafka.state().brokers.get_mut(&1).unwrap().is_old = is_old;
        rig.source.assign(&[start(0, 0)]).unwrap();
        rig.library.calls();
        let SourceEvent::Unsupported(why) = rig.run_for(Duration::from_secs(2)) else { panic!("{is_old}") };
        assert!(why.contains(if is_old { "older than Kafka 2.3" } else { "error 87" }), "{why}");
        let mut by = rig.source.fall_back().expect("librdkafka");
        by.reset(&[start(0, 0)]).unwrap();
        assert_eq!(rig.library.calls(), [Call::Reset(vec![start(0, 0)])]);
    }
}

#[test]
fn a_corrupt_batch_is_an_error_that_names_its_place() {
    let mut rig = Rig::new(&[1]);
    rig.kafka.log(0, |log| log.append_batch(1, Attributes::NONE, &[(0, 0, Some("a")), (0, 0, Some("b"))]));
    rig.kafka.log(0, Log::corrupt);
    rig.source.assign(&[start(0, 0)]).unwrap();
    let error = loop {
        match rig.source.poll(&mut rig.taken) {
            Ok(_) => rig.source.wait(Duration::from_millis(100)).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("t/0"), "{error}");
    assert_eq!(rig.taken.records, []);
}

#[test]
fn a_topic_that_stays_unknown_may_be_there_again_for_the_next_run() {
    let mut rig = Rig::new(&[1]);
    rig.kafka.state().is_known = false;
    rig.source.assign(&[start(0, 0)]).unwrap();
    assert!(matches!(rig.run_for(Duration::from_secs(25)), SourceEvent::Idle));
    let begin = rig.kafka.state().now;
    let error = loop {
        match rig.source.wait(Duration::from_millis(100)) {
            Ok(()) => assert!(rig.kafka.state().now < begin + Duration::from_secs(10)),
            Err(error) => break error,
        }
    };
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains(&address().to_string()), "{error}");
}
