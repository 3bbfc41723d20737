//! The epoch that a run continues. If that epoch is damaged, the error names the epoch before it, and the outputs that
//! get rows twice when a run continues from there.

use super::log::{Complete, LogEntry};
use super::store::CheckpointStore;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{self, Epoch};
use std::collections::BTreeSet;

/// Reads the last `kept` complete epochs of a log with these entries, those after `until` left out.
pub fn last_complete(
    store: &dyn CheckpointStore,
    entries: &[u64],
    kept: usize,
    until: Option<Epoch>,
) -> Result<Vec<Complete>> {
    let mut complete = vec![];
    for entry in entries.iter().rev() {
        if complete.len() >= kept.max(1) {
            break;
        }
        if let Some(LogEntry::Complete(found)) = store.entry(*entry)?
            && until.is_none_or(|until| found.epoch <= until)
        {
            complete.insert(0, found);
        }
    }
    Ok(complete)
}

/// Returns the epoch that a run continues: the last one, or one that is `back` epochs before it. Errors: exit status 78
/// if that one is not kept.
pub fn continued<'a>(
    store: &dyn CheckpointStore,
    complete: &'a [Complete],
    back: usize,
) -> Result<Option<&'a Complete>> {
    let epoch = complete.iter().rev().nth(back);
    if back > 0 && !epoch.map_or(Ok(false), |epoch| store.has_epoch(epoch.epoch))? {
        let message = format!("--restore n-{back}: expected a complete epoch that is kept, found none");
        return Err(Error::config(message).at(store.name()));
    }
    Ok(epoch)
}

/// Adds to the error of a damaged epoch how to continue without it, and which outputs get rows twice then.
pub fn with_way_back(error: Error, store: &dyn CheckpointStore, complete: &[Complete], back: usize) -> Result<Error> {
    let epochs = complete.iter().rev().nth(back).zip(complete.iter().rev().nth(back + 1));
    let Some((damaged, before)) = epochs.filter(|_| error.kind() == ErrorKind::Corrupt) else { return Ok(error) };
    if !store.has_epoch(before.epoch)? {
        return Ok(error);
    }
    // Every epoch after the one that is restored is written again.
    let lost = complete.iter().filter(|complete| complete.epoch > before.epoch);
    // Stores replace or keep the rows that they have, by key.
    let is_keyed = |uri: &str| uri.split_once(':').is_some_and(|(scheme, _)| store::by_scheme(scheme).is_some());
    let (mut keyed, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for output in lost.flat_map(Complete::outputs_with_rows) {
        let outputs = if is_keyed(&output.uri) { &mut keyed } else { &mut repeated };
        outputs.insert(format!("{} {}", output.key, output.uri));
    }
    let [keyed, repeated] = [keyed, repeated].map(|outputs| Vec::from_iter(outputs).join(", "));
    let (Epoch { run, number }, Epoch { run: before_run, number: before_number }) = (damaged.epoch, before.epoch);
    let twice = match (repeated.is_empty(), keyed.is_empty()) {
        (true, true) => "no output has rows of it".to_owned(),
        (true, false) => format!("no output gets rows of it twice; keyed stores have each once: {keyed}"),
        (false, true) => format!("these outputs get the rows behind it a second time: {repeated}"),
        (false, false) => format!(
            "these outputs get the rows behind it a second time: {repeated}; keyed stores have each once: {keyed}"
        ),
    };
    let back = back + 1;
    Ok(error.because(format!(
        "epoch ({run}, {number}) is damaged; --restore n-{back} continues ({before_run}, {before_number}); {twice}"
    )))
}
