//! The ranges of partitions over fakes: where they begin and end, positions that a tool has kept, partitions that become
//! shorter, and partitions without answers.

use super::*;

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
            (now.as_secs(), input.step(&mut rig.ingest).err())
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
