//! Whether another stage of the pipe writes a file. Stages share a process group or a process, and the system lists
//! their open files.

use rustix::process::getpgrp;
use std::fs::{DirEntry, metadata, read_dir, read_to_string};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The bits of the flags of an open file that say whether it can be written (`O_ACCMODE`).
const ACCESS_MODE: u32 = 0o3;

/// The last of the standard streams, which a process of one stage may have for its own use of the file.
const STDERR: u32 = 2;

/// Whether another process of this process group, or another stage of this process, has the file open to write it. Not
/// known without `/proc`: false. The stage itself has not opened the file yet.
pub(super) fn is_written_beside(path: &Path) -> bool {
    let (Ok(file), Ok(processes)) = (metadata(path), read_dir("/proc")) else { return false };
    let (own, group) = (std::process::id(), getpgrp().as_raw_nonzero().get());
    let others = processes.flatten().filter_map(|entry| number_of(&entry));
    others.filter(|other| group_of(*other) == Some(group)).any(|other| {
        let files = read_dir(format!("/proc/{other}/fd")).into_iter().flatten().flatten();
        let is_of_others = |open: &DirEntry| other != own || number_of(open).is_some_and(|number| number > STDERR);
        files.into_iter().filter(is_of_others).any(|open| {
            let found = metadata(open.path());
            let is_same = found.is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()));
            is_same && is_written(other, &open.file_name().to_string_lossy())
        })
    })
}

/// Returns the number that is the name of an entry: of a process or of an open file.
fn number_of(entry: &DirEntry) -> Option<u32> {
    entry.file_name().to_str()?.parse().ok()
}

/// Returns the process group of a process: the third field after the name in parentheses (proc_pid_stat(5)).
fn group_of(process: u32) -> Option<i32> {
    let stat = read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

/// Whether an open file of a process can be written, by its flags in octal (proc_pid_fdinfo(5)).
fn is_written(process: u32, number: &str) -> bool {
    let info = read_to_string(format!("/proc/{process}/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & ACCESS_MODE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn a_file_that_another_process_of_the_group_writes_is_found_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        std::fs::write(&path, "row\n").unwrap();
        assert!(!is_written_beside(&path), "nobody writes it");
        // It says that it has the file open, and keeps it open until its input ends.
        let mut beside = Command::new("sh")
            .args(["-c", "exec 3>>\"$1\"; echo; read -r _", "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        beside.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert!(is_written_beside(&path), "another process writes it");
        beside.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(beside.wait().is_ok());
        assert!(!is_written_beside(&path), "the other process has ended");
    }
}
