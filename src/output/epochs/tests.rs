//! Tests of a store that gets rows at once and answers late.

use super::*;
use crate::output::Output;
use crate::output::open::OpenTarget;
use crate::output::test_data::letters;
use evt_core::error::Error;
use evt_core::kind::dead::Fault;
use evt_core::kind::metric::{Builder, Row};
use evt_core::kind::record_parts::OutputParts;
use evt_run::checkpoint::epoch::EpochRows;
use evt_run::checkpoint::part::read_outbox;
use evt_run::checkpoint::place::CheckpointPlace;
use evt_run::clock::Clock;
use evt_run::run::io::Io;
use evt_run::storage::disk::Disk;
use evt_store::{Sink, SinkOutcome};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

const EPOCH: Epoch = Epoch { run: 1, number: 1 };

/// The rows that a store could not hold.
type Answer = Result<Vec<Rejected>>;

/// A store that answers rows when the test says so.
struct LateStore {
    answers: Receiver<Answer>,
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

/// Opens an output of rows of `kind` to such a store.
fn opened(dir: &Path, kind: Kind, sessions: &[&str], run: &Rc<Run>) -> Result<(EpochOutput, Sender<Answer>)> {
    let place = Arc::new(CheckpointPlace::directory(dir.join("ckpt"), &Disk::default()));
    let plan = EpochPlan {
        place,
        checkpoint: "id".to_owned(),
        stage: "1-a".to_owned(),
        key: "dlq".to_owned(),
        epoch: EPOCH,
        last_recorded: None,
    };
    let (answers, received) = channel();
    let open = move |_: &Rc<Run>, _: &EpochPlan| {
        let sink = Box::new(LateStore { answers: received });
        Ok(EpochTarget::Store { kind, sink, is_at_once: true })
    };
    let sessions = sessions.iter().map(|name| (*name).to_owned()).collect();
    Ok((EpochOutput::open(plan, sessions, run, open)?, answers))
}

fn run() -> Rc<Run> {
    Rc::new(Run { io: Io::Process, ..Run::unwatched("evt-test", Clock::System) })
}

/// Writes rows that the store answers with `answer`, but not promptly, and ends their epoch. Returns the part with its
/// rows, and those that the store rejected.
fn ended(answer: Answer) -> Result<(Option<EpochPart>, Vec<RejectedRow>)> {
    let (dir, run) = (tempfile::tempdir().unwrap(), run());
    let (output, answers) = opened(dir.path(), Kind::Dead, &[], &run)?;
    let target = OpenTarget::Epochs(Box::new(output));
    let mut output = Output::new("store".to_owned(), target, OutputParts::Omitted, true, &run);
    assert!(output.write(&letters(["a", "b"]))?.is_empty());
    assert!(output.is_writing());
    answers.send(answer).unwrap();
    let part = output.seal_epoch(Epoch { number: 2, ..EPOCH })?;
    assert!(!output.is_writing());
    Ok((part, output.take_late()))
}

#[test]
fn an_epoch_ends_only_when_a_store_has_answered_rows_that_it_got_at_once() {
    let fault = Fault::of_sink("a reason");
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

#[test]
fn rows_of_sessions_wait_and_a_rejected_row_of_the_others_has_its_number_in_the_batch() {
    let (dir, run) = (tempfile::tempdir().unwrap(), run());
    let (mut output, answers) = opened(dir.path(), Kind::Metric, &["visits"], &run).unwrap();
    let mut rows = Builder::default();
    for (at, name) in (0..).zip(["visits", "hours", "visits", "hours"]) {
        let row = Row {
            name,
            start: at,
            end: at + 1,
            dimensions: "{}",
            value: None,
            rows: 1,
            revision: 0,
            pane: 0,
            retracted: false,
        };
        rows.push(&row).unwrap();
    }
    let rows = rows.finish(Kind::Metric.schema()).unwrap();
    let fault = || Fault::of_sink("a reason");
    for _ in 0..2 {
        answers.send(Ok(vec![Rejected { row: 1, fault: fault() }])).unwrap();
        assert_eq!(output.write(&rows, None).unwrap(), [Rejected { row: 3, fault: fault() }]);
    }
    // The rows of a batch of sessions are not offered to the store.
    assert!(output.write(&rows.slice(2, 1), None).unwrap().is_empty());
    let part = output.seal(Epoch { number: 2, ..EPOCH }).unwrap().expect("rows that wait");
    let stored = read_outbox(output.plan.place.local().open_part(EPOCH, &part.name).unwrap(), &part.name).unwrap();
    let starts: Vec<i64> =
        stored.flat_map(|batch| MetricColumns::try_new(&batch.unwrap()).unwrap().starts.values().to_vec()).collect();
    assert_eq!(starts, [0, 2, 0, 2, 2]);
}
