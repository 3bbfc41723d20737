//! Files that are written on a disk that fails at one operation: at the first, at the second, and so on to the last.

use super::file::Overwrite;
use super::test_data::{run, spec};
use super::{OutputPlan, OutputSpec};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use evt_core::error::{Error, ErrorKind};
use evt_core::format::jsonl;
use evt_core::frame::{End, EndReason};
use evt_run::clock::Clock;
use evt_run::storage::disk::{Disk, DiskFault};
use rustix::io::Errno;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Rows of a run, in batches of three.
const ROWS: i64 = 9;

fn batch(rows: Range<i64>) -> RecordBatch {
    let fields = vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, false)];
    let texts = StringArray::from_iter_values(rows.clone().map(|row| format!("row \"{row}\"")));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(rows)), Arc::new(texts)];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Writes the rows from `first` on and settles each batch; `settled` is the number of rows that are settled.
fn write(path: &Path, first: i64, how: EndReason, disk: &Disk, settled: &mut i64) -> Result<(), Error> {
    let run = run(disk.clone(), Clock::Fixed(0));
    let is_replaced = path.extension().is_some_and(|extension| extension == "parquet");
    let overwrite = if is_replaced { Overwrite::On } else { Overwrite::Off };
    let spec = OutputSpec { overwrite, ..spec(&jsonl::FORMAT) };
    let mut output = OutputPlan::try_new(path, &spec, &run)?.open(&batch(0..0).schema(), &run)?;
    let mut row = first;
    while row < ROWS {
        let end = row / 3 * 3 + 3;
        output.write(&batch(row..end))?;
        output.settle()?;
        (row, *settled) = (end, end);
    }
    output.finish(&End { how, rows: 0, verdict: 0 }).map(|_| ())
}

fn write_whole(path: &Path, how: EndReason) -> Vec<u8> {
    write(path, 0, how, &Disk::default(), &mut 0).unwrap();
    std::fs::read(path).unwrap()
}

/// Calls `check` with an empty directory and disks that fail at operation 0, 1, … in every way, until a run no longer
/// reaches the fault.
fn at_each_operation(check: impl Fn(&Path, &Disk, DiskFault)) {
    for (errno, is_lasting) in [(Errno::NOSPC, false), (Errno::NOSPC, true), (Errno::IO, false), (Errno::IO, true)] {
        for after in 0.. {
            let fault = DiskFault { after, torn: 20, errno, is_lasting };
            let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::failing(fault));
            check(dir.path(), &disk, fault);
            if !disk.has_failed() {
                assert!(after > 3, "only {after} operations");
                break;
            }
        }
    }
}

fn assert_names(error: &Error, path: &Path, fault: DiskFault) {
    assert_eq!(error.kind(), ErrorKind::Io, "{fault:?}: {error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{fault:?}: {error}");
}

/// Checks a file that a run appends to. Its content at first is `before`, which the output repairs to `mended`.
fn assert_appended(name: &str, before: &str, mended: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), mended).unwrap();
    let wanted = write_whole(&dir.path().join(name), EndReason::Exhausted);
    let lines: Vec<&[u8]> = wanted.split_inclusive(|byte| *byte == b'\n').collect();
    let old = lines.len() - ROWS as usize;
    at_each_operation(|dir, disk, fault| {
        let path = dir.join(name);
        if !before.is_empty() {
            std::fs::write(&path, before).unwrap();
        }
        let mut settled = 0;
        let ended = write(&path, 0, EndReason::Exhausted, disk, &mut settled);
        let found = std::fs::read(&path).unwrap_or_default();
        let whole = found.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        assert!(wanted.starts_with(&found[..whole]), "{fault:?}: {:?}", String::from_utf8_lossy(&found));
        let rows = found[..whole].iter().filter(|byte| **byte == b'\n').count().saturating_sub(old) as i64;
        assert!((settled..=settled + 3).contains(&rows), "{fault:?}: {rows} rows, {settled} settled");
        // A batch is complete or absent, unless the disk also fails to truncate it.
        assert!(rows % 3 == 0 || fault.is_lasting && fault.errno == Errno::IO, "{fault:?}: {rows} rows");
        match ended {
            Ok(()) => assert!(found == wanted, "{fault:?}"),
            Err(error) => assert_names(&error, &path, fault),
        }
        write(&path, rows, EndReason::Exhausted, &Disk::default(), &mut settled).unwrap();
        assert!(std::fs::read(&path).unwrap() == wanted, "{fault:?}: the next run");
    });
}

#[test]
fn a_file_that_is_appended_to_has_whole_batches_after_a_fault_and_the_next_run_adds_the_others() {
    assert_appended("new.jsonl", "", "");
    assert_appended("new.csv", "", "");
    assert_appended("torn.jsonl", "{\"n\":-1}\n{\"n\":", "{\"n\":-1}\n");
    assert_appended("ended.jsonl", "{\"n\":-1}", "{\"n\":-1}\n");
    assert_appended("torn.csv", "n,text\n-1,\"a\nb\"\n7,\"x", "n,text\n-1,\"a\nb\"\n");
}

#[test]
fn a_file_that_is_written_as_a_part_is_the_old_or_the_new_one_after_a_fault() {
    for (name, old) in [("new.parquet", None), ("old.parquet", Some("old")), ("new.arrows", None)] {
        let dir = tempfile::tempdir().unwrap();
        let wanted = write_whole(&dir.path().join(name), EndReason::Exhausted);
        at_each_operation(|dir, disk, fault| {
            let path = dir.join(name);
            let part = dir.join(format!("{name}.part"));
            if let Some(old) = old {
                std::fs::write(&path, old).unwrap();
            }
            let ended = write(&path, 0, EndReason::Exhausted, disk, &mut 0);
            let found = std::fs::read(&path).ok();
            let is_old = found.as_deref() == old.map(str::as_bytes);
            assert!(is_old || found.as_ref() == Some(&wanted), "{fault:?}: {name} is neither old nor new");
            match ended {
                Ok(()) => assert!(!is_old, "{fault:?}"),
                Err(error) => assert_names(&error, &path, fault),
            }
            if is_old {
                write(&path, 0, EndReason::Exhausted, &Disk::default(), &mut 0).unwrap();
            }
            assert!(std::fs::read(&path).unwrap() == wanted && !part.exists(), "{fault:?}: the next run");
        });
    }
}

#[test]
fn a_stopped_run_whose_disk_fails_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = write_whole(&dir.path().join("whole.parquet"), EndReason::Exhausted);
    at_each_operation(|dir, disk, fault| {
        let (path, part) = (dir.join("old.parquet"), dir.join("old.parquet.part"));
        std::fs::write(&path, "old").unwrap();
        if let Err(error) = write(&path, 0, EndReason::Stopped, disk, &mut 0) {
            assert_names(&error, &path, fault);
            assert_eq!(std::fs::read(&path).unwrap(), b"old", "{fault:?}");
            write(&path, 0, EndReason::Stopped, &Disk::default(), &mut 0).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "{fault:?}");
        assert!(std::fs::read(&part).unwrap() == wanted, "{fault:?}: the rows so far");
    });
}
