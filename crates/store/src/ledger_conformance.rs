//! The conformance test of every ledger of replays: compares it with a naive model, step by step, from a seed.

use evt_core::error::ErrorKind;
use evt_core::generate::random::Random;
use evt_core::replay::ledger::{BatchOutcome, Id, Ledger, LetterState, ReplayEntry, Writer};
use std::collections::BTreeMap;
use std::ops::Range;

const TARGETS: [&str; 2] = ["file:one", "kafka:two"];
const RUNS: [&str; 2] = ["run-a", "run-b"];
/// Steps of a comparison.
const STEPS: u64 = 300;
/// Letters of a step; few, so that runs meet. Each step begins one letter later.
const LETTERS: u64 = 12;

/// A ledger in memory.
#[derive(Default)]
struct Model {
    /// The batch of each letter; `None` for a letter that was marked.
    letters: BTreeMap<Id, (Option<i64>, bool)>,
    /// The target of each open batch, and its letters with their events.
    open: BTreeMap<i64, (usize, Vec<ReplayEntry>)>,
    owners: BTreeMap<usize, usize>,
    attempts: BTreeMap<Id, i64>,
}

impl Model {
    fn state(&self, id: &Id) -> LetterState {
        match self.letters.get(id) {
            None => LetterState::Due,
            Some((_, true)) => LetterState::Done,
            Some((_, false)) => LetterState::Claimed,
        }
    }

    fn close(&mut self, batch: i64, outcome: BatchOutcome) {
        let Some((_, entries)) = self.open.remove(&batch) else { return };
        for entry in entries {
            match outcome {
                BatchOutcome::Void => drop(self.letters.remove(&entry.letter_id)),
                BatchOutcome::Done => {
                    self.letters.insert(entry.letter_id, (Some(batch), true));
                    *self.attempts.entry(entry.event_id).or_default() += 1;
                }
            }
        }
    }
}

fn id(number: u64) -> Id {
    u128::from(number + 1).to_be_bytes()
}

/// The event that replaces a letter; two letters have the same.
fn event(letter: u64) -> Id {
    id(10_000 + letter / 2)
}

/// Some letters of a step.
fn some(step: u64, random: &mut Random) -> Vec<ReplayEntry> {
    let entry = |letter: u64| ReplayEntry { letter_id: id(letter), event_id: event(letter) };
    (step..step + LETTERS).filter(|_| random.below(4) == 0).map(entry).collect()
}

/// Compares a ledger with the model; `open` opens the ledger that is being tested, again and again.
pub fn check(open: &mut dyn FnMut() -> Box<dyn Ledger>, seed: u64) {
    let (mut model, mut random, mut ledger) = (Model::default(), Random::at(seed, 0), open());
    let (name, mut last) = (ledger.id().to_owned(), 0);
    for step in 0..STEPS {
        let (target, run) = (random.below(2) as usize, random.below(2) as usize);
        let writer = Writer { target: TARGETS[target], run: RUNS[run], claim: step };
        match random.below(7) {
            0 => {
                ledger.own(writer).unwrap();
                model.owners.insert(target, run);
            }
            1 => ledger = open(),
            2 => {
                let batch = model.open.keys().next().copied().unwrap_or(9999);
                let outcome = if random.below(2) == 0 { BatchOutcome::Done } else { BatchOutcome::Void };
                ledger.close(batch, outcome).unwrap();
                model.close(batch, outcome);
                ledger.close(batch, BatchOutcome::Void).unwrap();
            }
            3 => {
                let due = some(step, &mut random);
                let due: Vec<_> =
                    due.into_iter().filter(|one| model.state(&one.letter_id) == LetterState::Due).collect();
                ledger.mark(&due).unwrap();
                for entry in &due {
                    model.letters.insert(entry.letter_id, (None, true));
                    *model.attempts.entry(entry.event_id).or_default() += 1;
                }
            }
            4 => {
                let events: Vec<Id> = some(step, &mut random).iter().map(|entry| entry.event_id).collect();
                ledger.count_failed(&events).unwrap();
                events.iter().for_each(|event| *model.attempts.entry(*event).or_default() += 1);
            }
            _ => {
                let entries = some(step, &mut random);
                let claim = ledger.claim(writer, &entries);
                if model.owners.get(&target) != Some(&run) {
                    assert_eq!(claim.unwrap_err().kind(), ErrorKind::Fenced, "seed {seed}, step {step}");
                    continue;
                }
                let claim = claim.unwrap();
                let expected: Vec<_> = entries.iter().map(|entry| model.state(&entry.letter_id)).collect();
                assert_eq!(claim.found, expected, "seed {seed}, step {step}");
                let due = |entry: &&ReplayEntry| model.state(&entry.letter_id) == LetterState::Due;
                let taken: Vec<ReplayEntry> = entries.iter().filter(due).copied().collect();
                assert_eq!(claim.batch == 0, taken.is_empty());
                if !taken.is_empty() {
                    assert!(claim.batch > last, "numbers grow");
                    last = claim.batch;
                    model.letters.extend(taken.iter().map(|one| (one.letter_id, (Some(last), false))));
                    model.open.insert(last, (target, taken));
                }
            }
        }
        compare(ledger.as_mut(), &model, step..step + LETTERS);
    }
    compare(ledger.as_mut(), &model, 0..STEPS + LETTERS);
    assert_eq!(ledger.id(), name, "the id stays");
    assert!(last > 20, "only {last} batches");
}

fn compare(ledger: &mut dyn Ledger, model: &Model, letters: Range<u64>) {
    let context = format!("letters {letters:?}");
    let ids: Vec<Id> = letters.clone().map(id).collect();
    let states: Vec<_> = ids.iter().map(|id| model.state(id)).collect();
    assert_eq!(ledger.states(&ids).unwrap(), states, "{context}");
    let events: Vec<Id> = letters.map(event).collect();
    let attempts: Vec<i64> = events.iter().map(|id| model.attempts.get(id).copied().unwrap_or(0)).collect();
    assert_eq!(ledger.attempts(&events).unwrap(), attempts, "{context}");
    assert_eq!(ledger.open_batches(None).unwrap(), model.open.keys().copied().collect::<Vec<_>>(), "{context}");
    for (at, name) in TARGETS.iter().enumerate() {
        let own = model.open.iter().filter(|(_, (target, _))| *target == at);
        let own: Vec<i64> = own.map(|(batch, _)| *batch).collect();
        assert_eq!(ledger.open_batches(Some(name)).unwrap(), own, "{context}");
    }
}
