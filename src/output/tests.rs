//! Tests of outputs to files: appending, parts, headers, and ends.

use super::file::Overwrite;
use super::test_data::{letters, run, spec};
use super::*;
use arrow::array::RecordBatch;
use evt_core::error::{ErrorKind, Result};
use evt_core::format::{Format, by_extension, frames, jsonl};
use evt_core::frame::{End, EndReason};
use evt_core::kind::Kind;
use evt_run::clock::Clock;
use evt_run::storage::disk::Disk;
use std::path::Path;

fn csv() -> &'static Format {
    by_extension("a.csv").expect("a format")
}

fn letter(payload: &str) -> RecordBatch {
    letters([payload])
}

fn open(path: &Path, spec: &OutputSpec, disk: Disk) -> Result<Output> {
    let run = run(disk, Clock::Fixed(0));
    OutputPlan::try_new(path, spec, &run)?.open(&Kind::Dead.schema(), &run)
}

fn end(how: EndReason) -> End {
    End { how, rows: 0, verdict: 0 }
}

/// Writes one letter to `path` and ends the output.
fn write(path: &Path, spec: &OutputSpec, payload: &str, how: EndReason) -> Result<OutputReport> {
    let mut output = open(path, spec, Disk::default())?;
    output.write(&letter(payload))?;
    output.finish(&end(how))
}

#[test]
fn text_is_appended_to_and_an_incomplete_last_line_is_removed_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.jsonl");
    write(&path, &spec(&jsonl::FORMAT), "first", EndReason::Exhausted).unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{{\"torn\":")).unwrap();
    write(&path, &spec(&jsonl::FORMAT), "second", EndReason::Stopped).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&whole) && !text.contains("torn"), "{text}");
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn a_file_of_another_header_is_not_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.csv");
    std::fs::write(&path, "a,b,c\n1,2,3\n").unwrap();
    let error = write(&path, &spec(csv()), "x", EndReason::Exhausted).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a,b,c\n1,2,3\n");
}

#[test]
fn a_header_of_an_older_version_gets_rows_without_the_new_column() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.csv");
    write(&path, &spec(csv()), "first", EndReason::Exhausted).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let without_last = |line: &str| line.rsplit_once(',').unwrap().0.to_owned();
    let older: String = text.lines().map(|line| without_last(&without_last(line)) + "\n").collect();
    std::fs::write(&path, &older).unwrap();
    write(&path, &spec(csv()), "second", EndReason::Exhausted).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let counts: Vec<_> = text.lines().map(|line| line.matches(',').count()).collect();
    assert!(text.starts_with(&older) && text.contains("second"), "{text}");
    assert!(counts.iter().all(|count| *count == counts[0]), "{text}");
}

#[test]
fn a_part_gets_its_name_only_at_an_exhausted_end() {
    let dir = tempfile::tempdir().unwrap();
    let (path, part) = (dir.path().join("dead.frames"), dir.path().join("dead.frames.part"));
    drop(open(&path, &spec(&frames::FORMAT), Disk::default()).unwrap());
    assert!(!path.exists() && !part.exists(), "a dropped output removes its part");
    write(&path, &spec(&frames::FORMAT), "first", EndReason::Exhausted).unwrap();
    let first = std::fs::read(&path).unwrap();
    let error = write(&path, &spec(&frames::FORMAT), "second", EndReason::Exhausted).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage, "not without --overwrite");
    let overwrite = OutputSpec { overwrite: Overwrite::On, ..spec(&frames::FORMAT) };
    let report = write(&path, &overwrite, "second", EndReason::Stopped).unwrap();
    assert!(report.notices.iter().any(|notice| notice.fails), "a stopped run says that it replaces nothing");
    assert_eq!(std::fs::read(&path).unwrap(), first);
    assert!(part.exists());
    write(&path, &overwrite, "third", EndReason::Exhausted).unwrap();
    assert!(std::fs::read(&path).unwrap() != first && !part.exists());
}
