//! Tests of the loop of a stage.

use super::operator::Snapshot;
use super::*;
use crate::output::dead_letters::DeadLetters;
use crate::source::SourceOptions;
use crate::uri::Uri;
use evt_run::clock::Clock;

/// An operator with state.
struct Stateful;

impl Operator for Stateful {
    fn on_batch(&mut self, batch: RecordBatch, _: FeedInput, _: &mut dyn Collector) -> Result<Counts> {
        let rows = batch.num_rows() as u64;
        Ok(Counts { taken: rows, filtered: rows, ..Counts::default() })
    }

    fn snapshot(&mut self) -> Snapshot {
        Snapshot { spec: "of a test".to_owned(), state: vec![1] }
    }

    fn restore(self: Box<Self>, _: &[u8]) -> Result<Box<dyn Operator>> {
        Ok(self)
    }
}

/// Runs an operator with state over a file of one event.
fn run_stateful(read_mode: ReadMode) -> Result<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    std::fs::write(&path, "{\"server_timestamp\":\"2030-01-01T00:00:00Z\"}\n").unwrap();
    let run = Rc::new(Run::unwatched("evt-test", Clock::Fixed(0)));
    let mut options = SourceOptions::default();
    options.inputs.topics.read_mode = read_mode;
    let source = crate::source::Source::open(&[Uri::parse(&path, &Default::default())?], options, run.clone())?;
    let outputs = Outputs::new(run.clone(), vec![], None, DeadLetters::new(run.clone(), None), true);
    let start: StartOperator = Box::new(|info| Ok(OperatorSetup::new(Stateful, info.source.schema())));
    Stage::new(run, StageOptions { quiet: true, ..StageOptions::default() }, source, outputs, start).run()
}

#[test]
fn an_operator_with_state_may_not_commit_offsets_that_would_lose_its_state() {
    assert_eq!(run_stateful(ReadMode::Stateful).unwrap(), 0);
    let error = run_stateful(ReadMode::Commit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broken);
    assert!(error.to_string().contains("an operator with state reads topics as ReadMode::Stateful"), "{error}");
}
