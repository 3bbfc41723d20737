//! The ranges of partitions over fakes: where they begin and end, positions that a tool has kept, partitions that
//! become shorter, partitions without answers, and topics that are away.

use super::*;
use crate::address::{Bound, KeptPosition, KeptPositions};
use crate::position::OffsetSpan;
use evt_run::input::topic_id::TopicId;

/// Partition `number` of the second topic.
fn of_second(number: i32) -> PartitionId {
    PartitionId { topic: 1, number }
}

fn begin(id: PartitionId, offset: i64) -> Position {
    Position::new(id, offset)
}

#[test]
fn a_bounded_read_ends_at_the_offsets_of_its_beginning() {
    let mut rig = Rig::new("//b:9092/t", &[(0, 3), (5, 5), (0, 9)]);
    let mut input = rig.open(ReadMode::Bounded, CommitMode::None);
    assert!(!input.is_endless());
    // The empty partition is at its end already.
    assert_eq!(rig.source.calls(), [Call::Assign(vec![start(0, 0), start(2, 0)])]);
    rig.records(0, 0..5, 1);
    rig.read(&mut input);
    assert_eq!(rig.source.calls(), [Call::Pause(vec![partition(0)])]);
    rig.records(2, 0..4, 1);
    rig.read(&mut input);
    // Compaction or a transaction took the last offsets.
    rig.source.will(Polled::ReadTo(partition(2), 9, 9));
    rig.read(&mut input);
    assert_eq!(rig.source.calls(), [Call::Pause(vec![partition(2)])]);
    assert!(matches!(rig.step(&mut input), Step::End));
    assert_eq!(rig.rows(), 3 + 4);
}

/// The last offsets before the end may have no record, and a new leader may report an earlier end.
#[test]
fn an_end_that_librdkafka_reports_ends_the_partition_if_it_is_repeated_after_another_read() {
    let mut rig = Rig::new("//b:9092/t,u", &[(0, 2)]);
    rig.cluster.extents.borrow_mut().insert(of_second(0), OffsetSpan { low: 0, high: 1 });
    let mut input = rig.open(ReadMode::Bounded, CommitMode::None);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![start(0, 0)])]);
    for (id, before) in [(partition(0), vec![]), (of_second(0), vec![Call::Revoke(vec![partition(0)])])] {
        rig.source.will(Polled::Event(SourceEvent::PartitionEnd(0)));
        rig.read(&mut input);
        rig.source.will(Polled::Event(SourceEvent::PartitionEnd(0)));
        rig.read(&mut input);
        let assigned = (!before.is_empty()).then(|| Call::Assign(vec![begin(id, 0)]));
        let read_again = [Call::ReadAgain(begin(id, 0)), Call::Pause(vec![id])];
        let expected: Vec<Call> = before.into_iter().chain(assigned).chain(read_again).collect();
        assert_eq!(rig.source.calls(), expected);
    }
    assert!(matches!(rig.step(&mut input), Step::End));
}

/// A new leader may know fewer records than the one before it for a moment (KIP-207).
#[test]
fn a_partition_whose_new_leader_lags_is_read_to_its_end() {
    // What the source reports, and whether brokers do not know the end for nine seconds either.
    for (lag, is_unknown) in [
        (Polled::ReadTo(partition(0), 9, 9), false),
        (Polled::Event(SourceEvent::PartitionEnd(0)), false),
        (Polled::ReadTo(partition(0), 9, 8), true),
    ] {
        let mut rig = Rig::new("//b:9092/t", &[(0, 12)]);
        let mut input = rig.open(ReadMode::Bounded, CommitMode::None);
        rig.records(0, 0..9, 1);
        rig.read(&mut input);
        rig.source.calls();
        rig.source.will(lag);
        rig.read(&mut input);
        if is_unknown {
            rig.cluster.set_extent(0, 0, 8);
            for _ in 0..9 {
                assert!(matches!(rig.step(&mut input), Step::Idle));
                rig.clock.advance(Duration::from_secs(1));
            }
            rig.cluster.set_extent(0, 0, 12);
        }
        assert!(matches!(rig.step(&mut input), Step::Idle));
        assert_eq!(rig.source.calls(), [Call::ReadAgain(start(0, 9))]);
        rig.records(0, 9..12, 1);
        rig.read(&mut input);
        assert_eq!(rig.source.calls(), [Call::Pause(vec![partition(0)])]);
        assert!(matches!(rig.step(&mut input), Step::End));
        assert_eq!((rig.rows(), rig.said.lock().unwrap().as_str()), (12, ""));
    }
}

#[test]
fn a_partition_that_has_lost_records_before_its_end_ends_the_run_unless_gaps_are_skipped() {
    let expected = "t/0@12: the partition ends at offset 9, before 12: it lost records or was recreated";
    for (uri, skips) in [("//b:9092/t", false), ("//b:9092/t?on_gap=continue", true)] {
        let mut rig = Rig::new(uri, &[(0, 12)]);
        let mut input = rig.open(ReadMode::Bounded, CommitMode::None);
        rig.records(0, 0..9, 1);
        rig.read(&mut input);
        rig.cluster.set_extent(0, 0, 9);
        rig.source.will(Polled::ReadTo(partition(0), 9, 9));
        rig.read(&mut input);
        rig.step(&mut input);
        rig.clock.advance(Duration::from_secs(10));
        rig.source.calls();
        let step = input.step(&mut rig.emitter);
        if !skips {
            let error = step.err().expect("a gap");
            assert!(error.kind() == ErrorKind::Corrupt && error.to_string().starts_with(expected), "{error}");
            continue;
        }
        assert_eq!(rig.source.calls(), [Call::ReadAgain(start(0, 9))]);
        rig.source.will(Polled::ReadTo(partition(0), 9, 9));
        rig.read(&mut input);
        assert!(matches!(rig.step(&mut input), Step::End));
        assert_eq!(*rig.said.lock().unwrap(), format!("evt-test: {expected}; reading up to there\n"));
        assert_eq!(rig.rows(), 9);
    }
}

#[test]
fn a_partition_that_ends_before_the_next_offset_is_read_from_its_start_to_its_present_end() {
    let mut rig = Rig::new("//b:9092/t?on_gap=continue&wait=1s", &[(0, 12)]);
    let mut input = rig.open(ReadMode::Bounded, CommitMode::None);
    rig.records(0, 0..9, 1);
    rig.read(&mut input);
    rig.cluster.set_extent(0, 0, 5);
    rig.source.will(Polled::ReadTo(partition(0), 9, 5));
    rig.read(&mut input);
    rig.step(&mut input);
    rig.clock.advance(Duration::from_secs(1));
    rig.source.calls();
    rig.step(&mut input);
    assert_eq!(rig.source.calls(), [Call::Reset(vec![start(0, 0)])]);
    rig.records(0, 0..5, 2);
    rig.read(&mut input);
    assert!(matches!(rig.step(&mut input), Step::End));
    assert_eq!(rig.said.lock().unwrap().lines().count(), 1, "{:?}", rig.said);
    assert_eq!(rig.rows(), 14);
}

#[test]
fn a_topic_without_kept_positions_starts_as_without_those_of_the_others() {
    // The bound of other topics, what the group has committed of the second topic, and where that topic begins.
    for (others, committed, expected) in [
        (Some(Bound::Latest), None, 9),
        (Some(Bound::Earliest), None, 2),
        (Some(Bound::Offsets(vec![(0, 4)])), None, 4),
        (Some(Bound::Latest), Some(6), 6),
        (None, Some(6), 2),
    ] {
        let mut rig = Rig::new("//b:9092/t,u?group=g", &[(0, 9), (1, 9)]);
        rig.cluster.extents.borrow_mut().insert(of_second(0), OffsetSpan { low: 2, high: 9 });
        commit(&rig.cluster, 0, 7, 1);
        if let Some(offset) = committed {
            rig.cluster.committed.borrow_mut().insert(of_second(0), begin(of_second(0), offset));
        }
        let kept = KeptPosition { topic: 0, partition: 0, next: 5, stream_time: None, topic_id: None };
        let others = others.map(Box::new);
        rig.address.options.start = Some(Bound::Kept(KeptPositions { positions: vec![kept], others }));
        let _input = rig.open(ReadMode::Checkpoint, CommitMode::None);
        // Partition 1 was added to the first topic.
        let partitions = (expected == 9).then_some(1);
        let starts = vec![start(0, 5), start(1, 1), Position { partitions, ..begin(of_second(0), expected) }];
        assert_eq!(rig.source.calls().last(), Some(&Call::Assign(starts)), "{committed:?}");
    }
}

/// The member that continues would find another end. Other members begin at the same time, and partitions are added.
#[test]
fn a_member_commits_where_it_begins_before_it_reads_and_reads_added_partitions_from_their_start() {
    let begun = |partitions, number, offset| Position { partitions: Some(partitions), ..start(number, offset) };
    let latest = "//b:9092/t?group=g&start=latest";
    let mut rig = Rig::new(latest, &[(0, 5), (0, 7)]);
    let mut input = rig.join(&[0]);
    let expected = [Call::Commit(vec![begun(2, 0, 5)]), Call::Assign(vec![begun(2, 0, 5)])];
    assert_eq!(rig.source.calls(), expected);
    rig.assign(&mut input, &[1]);
    let expected = [Call::Commit(vec![begun(2, 1, 7)]), Call::Assign(vec![begun(2, 1, 7)])];
    assert_eq!(rig.source.calls(), expected, "no other member has begun it yet");
    let committed = rig.cluster.committed.take();
    drop(input);

    let mut rig = Rig::new(latest, &[(0, 9), (0, 9), (0, 9)]);
    *rig.cluster.committed.borrow_mut() = committed;
    let _input = rig.join(&[0, 1, 2]);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![begun(2, 0, 5), begun(2, 1, 7), begun(3, 2, 0)])]);
    assert!(rig.said.lock().unwrap().contains("t/2: new partition, reading from its start"), "{:?}", rig.said);

    let mut rig = Rig::new(GROUP, &[(0, 5)]);
    let _input = rig.join(&[0]);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![start(0, 0)])], "the next member finds the same");
}

#[test]
fn a_member_that_the_group_has_removed_does_not_wait_for_the_commit_of_its_beginning() {
    let mut rig = Rig::new("//b:9092/t?group=g&start=latest", &[(0, 5)]);
    *rig.cluster.answer.borrow_mut() = CommitAnswer::Failed(ErrorKind::Fenced);
    let mut input = rig.join(&[0]);
    assert_eq!(rig.source.calls().len(), 2);
    rig.revoke(&mut input, &[0]);
    assert!(rig.said.lock().unwrap().contains("the commit is rejected"), "{:?}", rig.said);
}

#[test]
fn a_partition_that_start_or_end_names_and_the_topic_does_not_have_is_a_usage_error() {
    for (options, faulty) in [
        ("end=7:100", Some("end=7: t has no partition 7; it has 3 partitions")),
        ("start=0:0,1:0,2:0,3:0", Some("start=3: t has no partition 3")),
        ("partitions=0&start=0:1,3:0", Some("start=3")),
        ("end=2:4", None),
        ("partitions=0&start=0:1,2:0", None),
    ] {
        let mut rig = Rig::new(&format!("//b:9092/t?{options}"), &[(0, 9), (0, 9), (0, 9)]);
        let tool = TopicOptions { read_mode: ReadMode::Bounded, ..TopicOptions::default() };
        let opened = rig.try_open(Options { tool, origin: None }, Box::new(rig.source.clone()));
        match (opened, faulty) {
            (Ok(_), None) => {}
            (Err(error), Some(faulty)) => {
                assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(faulty), "{error}");
            }
            (opened, _) => panic!("{options}: {:?}", opened.err()),
        }
    }
    // One of the topics has the partition.
    let mut rig = Rig::new("//b:9092/t,u?end=1:4", &[(0, 9)]);
    for number in [0, 1] {
        rig.cluster.extents.borrow_mut().insert(of_second(number), OffsetSpan { low: 0, high: 9 });
    }
    rig.open(ReadMode::Bounded, CommitMode::None);
}

/// A broker is down or has an error for its partition, while another one answers.
#[test]
fn a_partition_without_answers_is_reported_and_ends_the_run_after_the_wait_while_others_are_read() {
    for (is_down, code, why) in
        [(true, 0, "fake:1: connection refused"), (false, 56, "the leader responds with error 56")]
    {
        let mut rig = Rig::new("//b:9092/t?end=latest", &[(0, 9), (0, 900_000)]);
        let kafka = FakeKafka::new(&[1, 2]);
        kafka.state().brokers.get_mut(&1).unwrap().is_down = is_down;
        kafka.log(0, |log| log.code = code);
        let fetch = FetchSource::new(kafka.fetcher(), Box::new(rig.source.clone()));
        let tool = TopicOptions { read_mode: ReadMode::Bounded, ..TopicOptions::default() };
        let mut input = rig.try_open(Options { tool, origin: None }, Box::new(fetch)).unwrap();
        let begin = kafka.state().now;
        let mut seconds = || {
            kafka.log(1, |log| log.append(&[&event(1)]));
            kafka.state().now += Duration::from_millis(200);
            input.wait(Duration::from_millis(100)).unwrap();
            let now = kafka.state().now.duration_since(begin);
            (now.as_secs(), input.step(&mut rig.emitter).err())
        };
        let mut reported_at = None;
        let (ended_at, error) = loop {
            let (at, error) = seconds();
            if !rig.said.lock().unwrap().is_empty() {
                reported_at = reported_at.or(Some(at));
            }
            assert!(at < 330, "it ends");
            if let Some(error) = error {
                break (at, error);
            }
        };
        assert!(
            (300..310).contains(&ended_at) && reported_at.is_some_and(|at| (10..15).contains(&at)),
            "{reported_at:?}"
        );
        let expected = format!("kafka://b:9092/t: t/0 is unavailable: {why}: retrying for up to 5m (?wait=)\n");
        assert_eq!(*rig.said.lock().unwrap(), format!("evt-test: {expected}"));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.to_string(), format!("kafka://b:9092/t: no response for t/0 for 5m: {why}"));
        assert!(rig.rows() > 1000, "the other partition is read");
    }
}

const IDS: [&str; 2] = ["sVv-a5OcT9-0w_YkfEzn3g", "1QvNQ1nxRzaB5uPfYQ1aJg"];

/// Steps for a minute in which the source has nothing; returns the error of the last one.
fn silent_minute(rig: &mut Rig, input: &mut KafkaInput) -> Option<Error> {
    for _ in 0..2 {
        assert!(matches!(rig.step(input), Step::Idle));
        rig.clock.advance(Duration::from_secs(31));
    }
    input.step(&mut rig.emitter).err()
}

/// librdkafka ignores the leaders of a topic whose epochs are lower than before.
#[test]
fn a_new_topic_of_which_librdkafka_reads_nothing_ends_the_run() {
    for (has_records, is_at_end) in [(true, false), (true, true), (false, false)] {
        let mut rig = Rig::new("//b:9092/t?on_gap=continue", &[(0, 4)]);
        *rig.cluster.topic_ids.borrow_mut() = vec![TopicId::parse(IDS[0])];
        let mut input = rig.open(ReadMode::Tail, CommitMode::None);
        rig.records(0, 0..4, 1);
        rig.read(&mut input);
        rig.clock.advance(Duration::from_secs(10));
        assert!(matches!(rig.step(&mut input), Step::Idle));
        rig.clock.advance(Duration::from_secs(10));
        let topic_id = TopicId::parse(IDS[1]);
        *rig.cluster.topic_ids.borrow_mut() = vec![topic_id];
        rig.cluster.set_extent(0, 0, if has_records { 9 } else { 0 });
        rig.source.calls();
        rig.source.will(Polled::Event(SourceEvent::AfterPause));
        rig.step(&mut input);
        assert_eq!(rig.source.calls(), [Call::Reset(vec![Position { topic_id, ..start(0, 0) }])]);
        if is_at_end {
            // Transactions that were aborted have records that nobody reads.
            rig.source.will(Polled::Event(SourceEvent::PartitionEnd(0)));
            rig.step(&mut input);
        }
        match silent_minute(&mut rig, &mut input) {
            None => assert!(!has_records || is_at_end),
            Some(error) => {
                assert!(has_records && !is_at_end && error.kind() == ErrorKind::Unavailable, "{error}");
                let expected = "t/0@0: librdkafka reads none of the records up to offset 9";
                assert!(error.to_string().starts_with(expected), "{error}");
            }
        }
        // Once a record was read there is nothing to wait for.
        rig.cluster.set_extent(0, 0, 9);
        rig.records(0, 0..5, 2);
        rig.read(&mut input);
        assert!(silent_minute(&mut rig, &mut input).is_none());
    }
}

#[test]
fn a_partition_that_a_group_assigns_is_read_or_ends_the_run() {
    let mut rig = Rig::new("//b:9092/t?group=g", &[(0, 4), (0, 0)]);
    let mut input = rig.join(&[0, 1]);
    let error = silent_minute(&mut rig, &mut input).expect("no record of the first partition comes");
    assert!(error.to_string().starts_with("t/0@0: librdkafka reads none of the records up to offset 4"), "{error}");
}

/// A topic that is created when its offsets are requested has an id, without which it would be read by name.
#[test]
fn a_topic_that_was_away_when_its_id_was_requested_is_read_by_its_id() {
    let mut rig = Rig::new("//b:9092/t", &[(0, 4)]);
    let topic_id = TopicId::parse(IDS[0]);
    *rig.cluster.topic_ids.borrow_mut() = vec![topic_id];
    rig.cluster.first_ids.borrow_mut().push_back(vec![None]);
    rig.open(ReadMode::Tail, CommitMode::None);
    assert_eq!(rig.source.calls(), [Call::Assign(vec![Position { topic_id, ..start(0, 0) }])]);
}

/// A topic may be deleted and created again. librdkafka reports it as missing at once.
#[test]
fn a_missing_topic_ends_the_run_at_once_unless_the_source_waits_for_it() {
    for (address, subscribes) in [("//b:9092/t", false), (GROUP, true)] {
        let mut rig = Rig::new(address, &[(0, 5)]);
        let kafka = FakeKafka::new(&[1]);
        let fetch = FetchSource::new(kafka.fetcher(), Box::new(rig.source.clone()));
        let commit_mode = if subscribes { CommitMode::Subscribe } else { CommitMode::None };
        let tool = TopicOptions { commit_mode, ..TopicOptions::default() };
        let mut input = rig.try_open(Options { tool, origin: None }, Box::new(fetch)).unwrap();
        if subscribes {
            rig.assign(&mut input, &[0]);
        }
        for code in [Code::UnknownTopic, Code::UnknownPartition, Code::UnknownTopicOrPartition] {
            rig.source.will(Polled::Event(SourceEvent::Failed(KafkaError::Global(code))));
            let error = input.step(&mut rig.emitter).err().map(|error| error.kind());
            assert_eq!(error, subscribes.then_some(ErrorKind::Unavailable), "{code:?}");
        }
    }
}

/// A topic may be deleted while a run joins its group. The group assigns the partitions of the next topic of this name.
#[test]
fn a_member_waits_for_a_topic_that_is_away_when_it_joins() {
    let mut rig = Rig::new(GROUP, &[(0, 5)]);
    let mut input = rig.join(&[]);
    *rig.cluster.topic_ids.borrow_mut() = vec![None];
    let missing = || Polled::Event(SourceEvent::Failed(KafkaError::Global(Code::UnknownTopicOrPartition)));
    rig.source.will(missing());
    assert!(input.step(&mut rig.emitter).is_ok());
    rig.clock.advance(client::GONE + Duration::from_secs(1));
    let error = input.step(&mut rig.emitter).err().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::Unavailable));
}
