//! Tests of a store that gets rows at once and answers late.

use super::*;
use crate::checkpoint::place::CheckpointPlace;
use crate::clock::Clock;
use crate::error::Error;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::record_parts::OutputParts;
use crate::output::Output;
use crate::output::open::OpenTarget;
use crate::output::test_data::letters;
use crate::run::io::Io;
use crate::storage::disk::Disk;
use crate::store::{EpochRows, Sink, SinkOutcome};
use std::sync::mpsc::{Receiver, channel};

const EPOCH: Epoch = Epoch { run: 1, number: 1 };

/// A store that answers rows when the test says so.
struct LateStore {
    answers: Receiver<Result<Vec<Rejected>>>,
}

impl Sink for LateStore {
    fn write(&mut self, _: Kind, _: &RecordBatch) -> Result<Vec<Rejected>> {
        self.answers.recv().unwrap_or_else(|_| Ok(vec![]))
    }

    fn commit(&mut self, _: Epoch, _: &mut dyn EpochRows) -> Result<()> {
        Ok(())
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        Ok(None)
    }

    fn counts(&self) -> SinkCounts {
        SinkCounts::default()
    }

    fn finish(self: Box<Self>) -> Result<SinkOutcome> {
        Ok(SinkOutcome::default())
    }
}

/// Writes rows that the store answers with `answer`, but not promptly, and ends their epoch. Returns the part with its
/// rows, and those that the store rejected.
fn ended(answer: Result<Vec<Rejected>>) -> Result<(Option<EpochPart>, Vec<RejectedRow>)> {
    let dir = tempfile::tempdir().unwrap();
    let place = Arc::new(CheckpointPlace::directory(dir.path().join("ckpt"), &Disk::default()));
    let plan = EpochPlan {
        place,
        checkpoint: "id".to_owned(),
        stage: "1-a".to_owned(),
        key: "dlq".to_owned(),
        epoch: EPOCH,
        last_recorded: None,
    };
    let run = Rc::new(Run { io: Io::Process, ..Run::unwatched("evt-test", Clock::System) });
    let (answers, received) = channel();
    let open = |_: &Rc<Run>, _: &EpochPlan| {
        let sink = Box::new(LateStore { answers: received });
        Ok(EpochTarget::Store { kind: Kind::Dead, sink, is_at_once: true })
    };
    let target = OpenTarget::Epochs(Box::new(EpochOutput::open(plan, &run, open)?));
    let mut output = Output::new("store".to_owned(), target, OutputParts::Omitted, &run);
    assert!(output.write(&letters(["a", "b"]))?.is_empty());
    assert!(output.is_writing());
    answers.send(answer).unwrap();
    let part = output.seal_epoch(Epoch { number: 2, ..EPOCH })?;
    assert!(!output.is_writing());
    Ok((part, output.take_late()))
}

#[test]
fn an_epoch_ends_only_when_a_store_has_answered_rows_that_it_got_at_once() {
    let fault = Fault::new(ErrorType::SinkError, "a reason");
    let answers = [Err(Error::config("locked")), Ok(vec![]), Ok(vec![Rejected { row: 1, fault }])];
    let threads = answers.map(|answer| std::thread::spawn(|| ended(answer)));
    let [failed, written, rejected] = threads.map(|thread| thread.join().unwrap());
    assert_eq!(failed.err().expect("the epoch is not complete").to_string(), "store: locked");
    let (part, late) = written.unwrap();
    assert!(part.is_none() && late.is_empty());
    let (part, late) = rejected.unwrap();
    assert!(part.is_none());
    assert_eq!(late.into_iter().map(|one| one.row).collect::<Vec<_>>(), [letters(["a", "b"]).slice(1, 1)]);
}
