//! The last stages of a run: one, or one at the end of each branch behind tee(1) (`--ends`).
//!
//! Each last stage claims a name of the run, `end`, `end-2`, …, with the path of stages that leads to it. So every last
//! stage knows all stages of the run, and an epoch is complete when all of them have sealed it. A stage that fails
//! claims the name `failed`, so that the others do not wait for it: behind tee(1) they have no pipe to it. A stage that
//! is killed claims nothing; in a directory the lock of its name is free then.

use super::log::manifest_name;
use super::part::part_name;
use super::place::{CheckpointPlace, Claim};
use crate::checkpoint::epoch::Epoch;
use evt_core::error::{Error, Result};
use std::fs::File;

/// The name that a failing stage claims; in each run only the first stage to fail gets it.
const FAILED: &str = "failed";
/// The suffix of the name that each stage claims in a run with several last stages, as in `STAGE.joined`.
const JOINED: &str = "joined";

/// The stages from the first one to a last one, by name.
pub type StagePath = Vec<String>;

/// Claims the name of the stage at the end of `path`, so that no stage of another branch writes parts of the same name.
/// Returns the file of the claim, which is locked while the stage runs ([`Claim::Made`]). Errors: exit status 78 if
/// another stage has the name.
pub fn claim_stage(place: &CheckpointPlace, run: u64, path: &[String]) -> Result<Option<File>> {
    let stage = path.last().map_or("", String::as_str);
    match place.claim(run, &joined(stage), &text(path))? {
        Claim::Made(file) => Ok(file),
        Claim::Taken(_) => {
            let message = format!("two stages are called {stage}: give one of them another name with --branch NAME");
            Err(Error::config(message).at(&place.name))
        }
    }
}

/// Makes the stage at the end of `path` one of the `ends` last stages of a run. Errors: exit status 78 if the run has
/// so many already.
pub fn claim_end(place: &CheckpointPlace, run: u64, path: &[String], ends: usize) -> Result<()> {
    let mut others = vec![];
    for number in 1..=ends {
        match place.claim(run, &end_name(number), &text(path))? {
            Claim::Made(_) => return Ok(()),
            Claim::Taken(other) => others.push(other.rsplit(' ').next().unwrap_or_default().to_owned()),
        }
    }
    let stage = path.last().map_or("", String::as_str);
    let (expected, found) =
        (if ends == 1 { "one last stage".to_owned() } else { format!("{ends} last stages") }, others.join(", "));
    let message = format!(
        "expected {expected}, found {found} and {stage}; --ends of the first stage is the number of last stages"
    );
    Err(Error::config(message).at(&place.name))
}

/// Notes that a stage of a run has failed, so that no other stage waits for it.
pub fn note_failure(place: &CheckpointPlace, run: u64, stage: &str) {
    // If the claim fails, the other stages wait longer.
    let _ = place.claim(run, FAILED, stage);
}

/// Returns the name of a stage that will not commit an epoch of its run, if there is one: a stage that has failed, or,
/// in a run with several branches, a stage that was killed.
pub fn failed(place: &CheckpointPlace, epoch: Epoch, ends: usize) -> Result<Option<String>> {
    if let Some(stage) = place.claimed(epoch.run, FAILED)? {
        return Ok(Some(stage));
    }
    if ends == 1 {
        return Ok(None);
    }
    let suffix = joined("");
    // Checks all stages that have joined, not only those of branches whose last stage has claimed an end: a stage may
    // be killed before its last stage claims the end.
    for stage in place.files.released(epoch.run, &suffix)?.iter().filter_map(|name| name.strip_suffix(&suffix)) {
        // The lock was checked before the mark: a stage marks its last epoch as committed before it ends and releases
        // the lock.
        if !place.is_committed(epoch, stage)? {
            return Ok(Some(stage.to_owned()));
        }
    }
    Ok(None)
}

/// Returns the paths to all last stages of a run; `None` until all of them have begun.
pub fn branches(place: &CheckpointPlace, run: u64, ends: usize) -> Result<Option<Vec<StagePath>>> {
    Ok(Some(begun(place, run, ends)?).filter(|paths| paths.len() == ends))
}

/// Returns the paths to the last stages of a run that have begun.
fn begun(place: &CheckpointPlace, run: u64, ends: usize) -> Result<Vec<StagePath>> {
    let paths = (1..=ends).filter_map(|number| place.claimed(run, &end_name(number)).transpose());
    paths.map(|path| path.map(|path| path.split(' ').map(str::to_owned).collect())).collect()
}

/// Removes from `stages` those that have committed an epoch to every output.
pub fn retain_uncommitted(place: &CheckpointPlace, epoch: Epoch, stages: &mut Vec<String>) -> Result<()> {
    let mut left = vec![];
    for stage in stages.drain(..) {
        if !place.is_committed(epoch, &stage)? {
            left.push(stage);
        }
    }
    *stages = left;
    Ok(())
}

/// Returns the reason why an epoch is not complete: last stages that have not begun, or stages that have not saved it.
pub fn missing(place: &CheckpointPlace, epoch: Epoch, ends: usize) -> Result<String> {
    let paths = begun(place, epoch.run, ends)?;
    if paths.len() < ends {
        let begun = paths.len();
        return Ok(format!(
            "{begun} of {ends} last stages have begun; the others have not started, or a program in the pipe is not a stage"
        ));
    }
    let mut missing: Vec<&str> = vec![];
    for path in &paths {
        for stage in path {
            // The only last stage of a run writes the entry instead of a note, so it counts as missing here.
            if !missing.contains(&stage.as_str()) && place.note(epoch, &manifest_name(stage))?.is_none() {
                missing.push(stage);
            }
        }
    }
    Ok(format!("it is not saved by {}", missing.join(", ")))
}

/// Checks that the stage at the end of `path` was at the same place in the epoch that it restores: after the same
/// stages, and with readers if it `has_readers` now. Errors: exit status 78 if not.
pub fn check_place(former: &[StagePath], path: &[String], has_readers: bool, ends: usize) -> Result<()> {
    if former.len() != ends {
        return Err(Error::config(format!(
            "expected --ends {}, as in the checkpoint, found --ends {ends}",
            former.len()
        )));
    }
    let is_same = |branch: &StagePath| branch.starts_with(path) && (branch.len() > path.len()) == has_readers;
    if former.iter().any(is_same) {
        return Ok(());
    }
    let shown: Vec<String> = former.iter().map(|branch| branch.join(" | ")).collect();
    let (expected, found, more) = (shown.join(" and "), path.join(" | "), if has_readers { " | …" } else { "" });
    Err(Error::config(format!("expected the stages {expected}, as in the checkpoint, found {found}{more}")))
}

fn joined(stage: &str) -> String {
    part_name(stage, JOINED)
}

fn end_name(number: usize) -> String {
    if number == 1 { "end".to_owned() } else { format!("end-{number}") }
}

fn text(path: &[String]) -> String {
    path.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::Disk;

    fn path(text: &str) -> StagePath {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_stage_restores_only_the_state_of_its_place() {
        let one = [path("1-a 2-b 3-c")];
        let two = [path("1-a 2-b 3-c"), path("1-a 2-d")];
        for (former, now, has_readers, is_same) in [
            (&one[..], "1-a", true, true),
            (&one, "1-a 2-b", true, true),
            (&one, "1-a 2-b 3-c", false, true),
            (&one, "1-a 2-b", false, false),
            (&one, "1-a 2-b 3-c", true, false),
            (&one, "1-a 2-d", true, false),
            (&two, "1-a", true, true),
            (&two, "1-a 2-d", false, true),
            (&two, "1-a 2-b 3-c", false, true),
            (&two, "1-a 2-d", true, false),
            (&two, "1-a 2-d 3-c", false, false),
        ] {
            let checked = check_place(former, &path(now), has_readers, former.len());
            assert_eq!(checked.is_ok(), is_same, "{now} {has_readers}");
        }
        let error = check_place(&two, &path("1-a"), true, 1).unwrap_err().to_string();
        assert!(error.contains("expected --ends 2, as in the checkpoint, found --ends 1"), "{error}");
    }
    #[test]
    fn a_stage_that_was_killed_before_its_branch_had_an_end_has_failed() {
        let dir = tempfile::tempdir().unwrap();
        let place = CheckpointPlace::directory(dir.path().join("ckpt"), &Disk::default());
        place.files.create().unwrap();
        let epoch = Epoch { run: 1, number: 1 };
        let claims = ["1-a 2-b", "1-a 2-c"].map(|text| claim_stage(&place, 1, &path(text)).unwrap());
        claim_end(&place, 1, &path("1-a 2-b"), 2).unwrap();
        assert_eq!(failed(&place, epoch, 2).unwrap(), None);
        let [running, killed] = claims;
        drop(killed);
        assert_eq!(failed(&place, epoch, 2).unwrap().as_deref(), Some("2-c"));
        place.local().make_epoch(epoch).unwrap();
        place.set_committed(epoch, "2-c").unwrap();
        assert_eq!(failed(&place, epoch, 2).unwrap(), None);
        drop(running);
        assert_eq!(failed(&place, epoch, 2).unwrap().as_deref(), Some("2-b"));
    }
}
