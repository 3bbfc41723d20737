//! `--follow`: names through rotation and truncation.

use crate::harness::{Dir, Draws, ended, eventually, is_stopped, suspend};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The least time between two rotations. A file that was renamed before the tool could open it is reported as lost, so
/// on a machine under load the next rotation waits until the tool has opened it.
const APART: Duration = Duration::from_millis(200);

/// evt-ingest that follows names, and the writers of these files.
struct Scene {
    dir: Dir,
    run: Child,
    draws: Draws,
    written: u64,
}

impl Scene {
    fn new(name: &str, names: &[&str], draws: Draws) -> Self {
        let dir = Dir::new(name);
        let mut command = dir.command("evt-ingest", &["--follow", "-f", "jsonl", "--time", "t", "--to", "out.jsonl"]);
        let stderr = File::create(dir.path("said")).expect("writable");
        let run = command.args(names).stdin(Stdio::null()).stderr(stderr).spawn().expect("it starts");
        eventually("it watches the directory", || watches(&run));
        Self { dir, run, draws, written: 0 }
    }

    fn open(&self, name: &str) -> File {
        OpenOptions::new().append(true).create(true).open(self.dir.path(name)).expect("writable")
    }

    /// Writes one line, in one piece or in two.
    fn line(&mut self, file: &mut File) {
        self.written += 1;
        let line = format!("{{\"t\":\"2026-01-01T00:00:00Z\",\"n\":{}}}\n", self.written);
        let (head, tail) = line.split_at(self.draws.below(line.len() as u64) as usize);
        file.write_all(head.as_bytes()).expect("writable");
        file.write_all(tail.as_bytes()).expect("writable");
    }

    /// Whether the tool has opened the file that has this name now.
    fn has_open(&self, name: &str) -> bool {
        let named = std::fs::metadata(self.dir.path(name)).expect("a file");
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.run.id())).expect("it runs");
        let mut open = files.filter_map(|file| std::fs::metadata(file.ok()?.path()).ok());
        open.any(|file| (file.dev(), file.ino()) == (named.dev(), named.ino()))
    }

    fn said(&self) -> String {
        String::from_utf8(self.dir.bytes("said")).expect("it is text")
    }

    fn lines(&self) -> u64 {
        std::fs::read(self.dir.path("out.jsonl")).map_or(0, |text| memchr::memchr_iter(b'\n', &text).count() as u64)
    }

    /// Asserts that evt has read every line once, each with its own offset.
    fn ends(mut self) {
        eventually("all lines are read", || self.lines() >= self.written);
        kill_process(Pid::from_child(&self.run), Signal::TERM).expect("it runs");
        self.run.wait().expect("it is ours");
        let told = format!("{}\n{}", self.draws, self.said());
        let rows = self.dir.rows("out.jsonl");
        let mut numbers: Vec<_> = rows.iter().map(|row| row["properties"]["n"].as_u64()).collect();
        numbers.sort_unstable();
        assert!(self.written > 0 && numbers.iter().copied().eq((1..=self.written).map(Some)), "{numbers:?} {told}");
        let places = rows.iter().map(|row| (row["origin"].to_string(), row["offset"].as_i64()));
        assert_eq!(places.collect::<HashSet<_>>().len(), rows.len(), "{told}");
        assert!(!told.contains("lost") && !told.contains("dead"), "{told}");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Unless the test has failed, it has ended already.
        let _ = self.run.kill();
        let _ = self.run.wait();
    }
}

/// Whether a process has begun to watch directories.
fn watches(process: &Child) -> bool {
    let files = std::fs::read_dir(format!("/proc/{}/fd", process.id())).expect("it runs");
    files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).any(|to| to.ends_with("anon_inode:inotify"))
}

/// An operation on the name of a log.
fn rotate(scene: &mut Scene, name: &str, writer: &File, step: u64) {
    let path = |suffix: &str| scene.dir.path(&format!("{name}{suffix}"));
    let renamed = |from: &str, to: &str| std::fs::rename(path(from), path(to)).expect("writable");
    match scene.draws.below(4) {
        0 => renamed("", &format!(".{step}")),
        1 => std::fs::remove_file(path("")).expect("writable"),
        2 => {
            let _none_yet = std::fs::rename(path(".old"), path(&format!(".older.{step}")));
            renamed("", ".old");
        }
        _ => {
            eventually("all is read before it is cut", || scene.lines() == scene.written);
            let cuts = scene.said().matches("truncated to 0 bytes").count();
            writer.set_len(0).expect("writable");
            eventually("it is seen empty", || scene.said().matches("truncated to 0 bytes").count() > cuts);
        }
    }
}

/// Two logs, and writers that keep writing to a renamed file for some time.
fn script(name: &str, draws: Draws) {
    let names = ["a.log", "b.log"];
    let mut scene = Scene::new(name, &names, draws);
    let mut writers = names.map(|name| scene.open(name));
    for writer in &mut writers {
        scene.line(writer);
    }
    eventually("both are read", || scene.lines() == 2);
    let mut late: Vec<(File, Instant)> = vec![];
    for step in 0..12 {
        let at = scene.draws.below(2) as usize;
        for _ in 0..1 + scene.draws.below(3) {
            scene.line(&mut writers[at]);
        }
        late.retain(|(_, until)| Instant::now() < *until);
        for (file, _) in &mut late {
            scene.line(file);
        }
        let begun = Instant::now();
        rotate(&mut scene, names[at], &writers[at], step);
        let writer = std::mem::replace(&mut writers[at], scene.open(names[at]));
        late.push((writer, begun + Duration::from_millis(scene.draws.below(2000))));
        std::thread::park_timeout(APART.saturating_sub(begun.elapsed()));
        eventually("the new file is open", || scene.has_open(names[at]));
    }
    scene.ends();
}

#[test]
fn rotations_of_all_sorts_lose_no_line_and_repeat_none() {
    let seeds: u64 = std::env::var("EVT_SCRIPTS").ok().and_then(|count| count.parse().ok()).unwrap_or(6);
    std::thread::scope(|scope| {
        for seed in 0..seeds {
            scope.spawn(move || script(&format!("follow-{seed}"), Draws::of(seed)));
        }
    });
}

#[test]
fn two_rotations_while_an_old_writer_goes_on_lose_no_generation() {
    let mut scene = Scene::new("generations", &["app.log"], Draws::new());
    let mut old = scene.open("app.log");
    scene.line(&mut old);
    eventually("the first is read", || scene.lines() == 1);
    for generation in ["app.log.1", "app.log.2"] {
        std::fs::rename(scene.dir.path("app.log"), scene.dir.path(generation)).expect("writable");
        let mut file = scene.open("app.log");
        scene.line(&mut file);
        std::thread::park_timeout(APART);
        eventually("the new file is open", || scene.has_open("app.log"));
        scene.line(&mut old);
    }
    eventually("the old writer is heard", || scene.lines() == scene.written);
    scene.line(&mut old);
    scene.ends();
}

/// logrotate renames a file, and its writer continues until it is told. Lines from before the next file must not come
/// after all of that.
#[test]
fn lines_that_are_written_to_a_renamed_file_before_the_next_one_exists_come_before_it() {
    let mut scene = Scene::new("renamed-busy", &["app.log"], Draws::new());
    let mut old = scene.open("app.log");
    for more in [100, 30] {
        (0..more).for_each(|_| scene.line(&mut old));
        // The second time it has been at the end of the file before.
        eventually("they are read", || scene.lines() == scene.written);
        if more == 100 {
            std::fs::rename(scene.dir.path("app.log"), scene.dir.path("app.log.1")).expect("writable");
        }
    }
    suspend(&scene.run);
    (0..3000).for_each(|_| scene.line(&mut old));
    let mut new = scene.open("app.log");
    (0..3000).for_each(|_| scene.line(&mut new));
    kill_process(Pid::from_child(&scene.run), Signal::CONT).expect("it runs");
    eventually("all lines are read", || scene.lines() == scene.written);
    let numbers = scene.dir.rows("out.jsonl").into_iter().map(|row| row["properties"]["n"].as_u64());
    let disorder = numbers.zip(1..).find(|(found, wanted)| *found != Some(*wanted));
    assert_eq!(disorder, None, "of {}", scene.written);
    scene.ends();
}

/// Starts evt-ingest, does `work` once it has read the first line, and stops it; returns what it said and its rows.
fn stopped_after(name: &str, work: impl FnOnce(&Dir, &Child)) -> (String, usize) {
    let mut scene = Scene::new(name, &["app.log"], Draws::new());
    let mut file = scene.open("app.log");
    scene.line(&mut file);
    eventually("the first is read", || scene.lines() == 1);
    work(&scene.dir, &scene.run);
    kill_process(Pid::from_child(&scene.run), Signal::TERM).expect("it runs");
    scene.run.wait().expect("it is ours");
    (scene.said(), scene.dir.rows("out.jsonl").len())
}

/// How far a process has read a file that it has open.
pub(crate) fn position(run: &Child, path: &Path) -> Option<u64> {
    let file = std::fs::metadata(path).expect("a file");
    let mut fds = std::fs::read_dir(format!("/proc/{}/fd", run.id())).expect("it runs").flatten();
    let is_it = |open: std::fs::Metadata| (open.dev(), open.ino()) == (file.dev(), file.ino());
    let fd = fds.find(|fd| std::fs::metadata(fd.path()).is_ok_and(is_it))?;
    let info = format!("/proc/{}/fdinfo/{}", run.id(), fd.file_name().to_string_lossy());
    let info = std::fs::read_to_string(info).ok()?;
    info.lines().next()?.strip_prefix("pos:")?.trim().parse().ok()
}

/// Waits until a process has read `bytes` of a file.
fn has_read(run: &Child, path: &Path, bytes: u64) {
    eventually("the end of the file is read", || position(run, path) == Some(bytes));
}

#[test]
fn an_unfinished_last_line_at_a_stop_is_read_or_named() {
    let append = |dir: &Dir, name: &str, text: &str| {
        let mut file = OpenOptions::new().append(true).open(dir.path(name)).expect("it is there");
        file.write_all(text.as_bytes()).expect("writable");
        file.metadata().expect("a file").len()
    };
    let whole = r#"{"t":"2026-01-01T00:00:00Z","n":2}"#;
    let (said, rows) = stopped_after("stopped-whole", |dir, run| {
        let end = append(dir, "app.log", whole);
        has_read(run, &dir.path("app.log"), end);
    });
    assert_eq!(rows, 2, "a whole JSON object is a record: {said}");
    let (said, rows) = stopped_after("stopped-part", |dir, run| {
        let end = append(dir, "app.log", &whole[..20]);
        has_read(run, &dir.path("app.log"), end);
    });
    assert!(
        rows == 1 && said.contains("app.log: the last line has no line break; its 20 bytes are not read"),
        "{said}"
    );
    let (said, rows) = stopped_after("stopped-renamed", |dir, run| {
        std::fs::rename(dir.path("app.log"), dir.path("app.log.1")).expect("writable");
        let end = append(dir, "app.log.1", whole);
        std::fs::write(dir.path("app.log"), "").expect("writable");
        has_read(run, &dir.path("app.log.1"), end);
    });
    assert_eq!(rows, 2, "{said}");
}

#[test]
fn a_reader_that_is_held_up_loses_no_generation() {
    let dir = Dir::new("held-up");
    dir.write("app.log", "");
    let line = "mkfifo pipe; exec 3<> pipe; exec evt-ingest --follow app.log -f jsonl --time t -o jsonl > pipe";
    let mut command = dir.command("sh", &["-c", line]);
    let mut run = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    eventually("the pipe is there", || dir.path("pipe").exists());
    let pad = "x".repeat(1000);
    let mut written = 0;
    // More bytes than a pipe holds, so that evt-ingest blocks in a write while another file gets the name.
    for generation in 0..4 {
        let mut file = OpenOptions::new().append(true).create(true).open(dir.path("app.log")).expect("writable");
        for _ in 0..500 {
            written += 1;
            writeln!(file, "{{\"t\":\"2026-01-01T00:00:00Z\",\"n\":{written},\"pad\":\"{pad}\"}}").expect("writable");
        }
        std::thread::park_timeout(APART);
        eventually("the file is open", || position(&run, &dir.path("app.log")).is_some());
        std::fs::rename(dir.path("app.log"), dir.path(&format!("app.log.{generation}"))).expect("writable");
    }
    let counted = format!("head -n {written} pipe | grep -c '\"n\":'");
    assert_eq!(dir.shell(&counted).succeeds().text().trim(), written.to_string());
    run.kill().expect("it runs");
    run.wait().expect("it is ours");
}

/// The reader is in the middle of a renamed file, and so probably in the middle of a line.
#[test]
fn a_stop_in_the_middle_of_a_renamed_file_reads_no_half_line() {
    let dir = Dir::new("stopped-middle");
    let line = format!("{{\"t\":\"2026-01-01T00:00:00Z\",\"pad\":\"{}\"}}\n", "x".repeat(1000));
    dir.write("app.log", line.repeat(3000));
    // The reader opens the pipe and reads nothing until it is continued.
    dir.shell("mkfifo pipe").succeeds();
    let reader = "exec < pipe; kill -STOP $$; exec cat > out.jsonl";
    let mut reader = dir.command("sh", &["-c", reader]).spawn().expect("it starts");
    let command = "exec evt-ingest --follow app.log -f jsonl --time t -o jsonl --dlq dead > pipe";
    let said = File::create(dir.path("said")).expect("writable");
    let mut run = dir.command("sh", &["-c", command]);
    let mut run = run.stdin(Stdio::null()).stderr(said).spawn().expect("it starts");
    // A pipe holds less than one read of a file.
    let begins = |name: &str| position(&run, &dir.path(name)).is_some();
    eventually("it has read a part", || position(&run, &dir.path("app.log")).is_some_and(|read| read > 0));
    std::fs::rename(dir.path("app.log"), dir.path("app.log.1")).expect("writable");
    dir.write("app.log", "");
    eventually("the next file is open", || begins("app.log"));
    kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
    eventually("the reader is stopped", || is_stopped(&reader));
    kill_process(Pid::from_child(&reader), Signal::CONT).expect("it waits");
    assert_eq!(ended("the rows are read", &mut reader), 0);
    assert_eq!(ended("it stops", &mut run), 143);
    let said = String::from_utf8(dir.bytes("said")).expect("it is text");
    let rows = dir.rows("out.jsonl").len();
    // None if the signal came before the first lines were split.
    assert!(rows < 3000 && !said.contains("dead"), "{rows}: {said}");
    assert!(said.contains("app.log: stopped before the end of a file; the rest is not read"), "{said}");
}

#[test]
fn a_file_that_was_gone_before_any_could_be_opened_changes_the_verdict() {
    let dir = Dir::new("gone-first");
    let mut ingest = dir.command("evt-ingest", &["--follow", "app.log", "-f", "jsonl", "--time", "t"]);
    let stdout = File::create(dir.path("out.arrows")).expect("writable");
    let stderr = File::create(dir.path("said")).expect("writable");
    let mut run = ingest.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().expect("it starts");
    let said = || String::from_utf8(dir.bytes("said")).expect("it is text");
    eventually("it waits", || said().contains("waiting for the file to be created"));
    suspend(&run);
    dir.shell("echo '{}' > app.log; mv app.log app.log.1").succeeds();
    kill_process(Pid::from_child(&run), Signal::CONT).expect("it runs");
    eventually("it is told", || said().contains("before being opened (1); records are lost"));
    kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
    run.wait().expect("it is ours");
    dir.run("evt-view", &["out.arrows", "-q", "-o", "jsonl"]).ends_with(1);
}

#[test]
fn an_unfinished_line_of_a_renamed_file_waits_for_its_rest() {
    let mut scene = Scene::new("unfinished", &["app.log"], Draws::new());
    let mut old = scene.open("app.log");
    scene.line(&mut old);
    eventually("the first is read", || scene.lines() == 1);
    old.write_all(b"{\"t\":\"2026-01-01T00:00:00Z\",").expect("writable");
    std::fs::rename(scene.dir.path("app.log"), scene.dir.path("app.log.1")).expect("writable");
    let mut new = scene.open("app.log");
    scene.line(&mut new);
    eventually("the next file is read meanwhile", || scene.lines() == 2);
    scene.written += 1;
    old.write_all(b"\"n\":3}\n").expect("writable");
    scene.ends();
}

#[test]
fn a_file_that_was_gone_before_it_could_be_opened_is_told_and_changes_the_verdict() {
    let dir = Dir::new("gone");
    dir.write("app.log", "");
    dir.write("line", "{\"t\":\"2026-01-01T00:00:00Z\"}\n");
    // While evt-ingest does not run, a file gets the name and loses it.
    let mut ingest = dir.command("evt-ingest", &["--follow", "app.log", "-f", "jsonl", "--time", "t"]);
    let stdout = File::create(dir.path("out.arrows")).expect("writable");
    let stderr = File::create(dir.path("said")).expect("writable");
    let mut run = ingest.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().expect("it starts");
    let said = || String::from_utf8(dir.bytes("said")).expect("it is text");
    eventually("it watches the directory", || watches(&run));
    let mut log = OpenOptions::new().append(true).open(dir.path("app.log")).expect("it is there");
    log.write_all(&dir.bytes("line")).expect("writable");
    eventually("it reads", || dir.bytes("out.arrows").len() > 100);
    suspend(&run);
    dir.shell("mv app.log app.log.1; cp line app.log; mv app.log app.log.2; cp line app.log").succeeds();
    kill_process(Pid::from_child(&run), Signal::CONT).expect("it runs");
    eventually("it is told", || said().contains("before being opened (1); records are lost"));
    has_read(&run, &dir.path("app.log"), dir.bytes("line").len() as u64);
    kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
    run.wait().expect("it is ours");
    let view = dir.run("evt-view", &["out.arrows", "-q", "-o", "jsonl"]).ends_with(1);
    assert_eq!(view.rows().len(), 2, "{view}");
}

#[test]
fn a_directory_that_takes_the_name_for_a_moment_is_no_lost_file() {
    let dir = Dir::new("directory-moment");
    dir.write("app.log", "");
    dir.write("line", "{\"t\":\"2026-01-01T00:00:00Z\"}\n");
    let mut ingest =
        dir.command("evt-ingest", &["--follow", "app.log", "-f", "jsonl", "--time", "t", "--to", "out.jsonl"]);
    let stderr = File::create(dir.path("said")).expect("writable");
    let mut run = ingest.stdin(Stdio::null()).stderr(stderr).spawn().expect("it starts");
    eventually("it watches the directory", || watches(&run));
    dir.shell("cat line >> app.log").succeeds();
    eventually("it reads", || dir.path("out.jsonl").exists() && dir.rows("out.jsonl").len() == 1);
    suspend(&run);
    dir.shell("mv app.log app.log.1; mkdir app.log; mv app.log d; mv d app.log; rmdir app.log; cp line app.log")
        .succeeds();
    kill_process(Pid::from_child(&run), Signal::CONT).expect("it runs");
    eventually("it reads the next file", || dir.rows("out.jsonl").len() == 2);
    kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
    run.wait().expect("it is ours");
    let said = String::from_utf8(dir.bytes("said")).expect("it is text");
    assert!(!said.contains("lost"), "{said}");
}

/// A decoder of an encoding, or of frames of zstd, is not at its end where the file is for now.
#[test]
fn what_is_appended_to_text_in_an_encoding_or_to_a_compressed_file_is_read() {
    for (flags, write) in [
        ("--encoding utf-8", "cat"),
        ("--encoding windows-1252", "cat"),
        ("--encoding utf-16le", "iconv -t utf-16le"),
        ("", "gzip"),
        ("--threads 3", "gzip"),
        ("", "zstd -q"),
    ] {
        let dir = Dir::new("follow-encodings");
        let append = |n: u32| {
            let line = format!("{{\"t\":\"2026-01-01T00:00:00Z\",\"n\":{n}}}");
            dir.shell(&format!("echo '{line}' | {write} >> app.log")).succeeds();
        };
        append(1);
        let mut args = vec!["--follow", "app.log", "-q", "-f", "jsonl", "--time", "t", "--to", "out.jsonl"];
        args.extend(flags.split_whitespace());
        let mut run = dir.command("evt-ingest", &args).stdin(Stdio::null()).spawn().expect("it starts");
        let lines = || std::fs::read_to_string(dir.path("out.jsonl")).map_or(0, |text| text.lines().count());
        for n in 1..5 {
            eventually(&format!("line {n} is read ({write} {flags})"), || lines() == n as usize);
            append(n + 1);
        }
        eventually("the last line is read", || lines() == 5);
        kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
        assert_eq!(ended("evt-ingest", &mut run), 143, "{write} {flags}");
    }
}

/// A writer flushes a part of a member or frame, and a rotation makes an empty file first.
#[test]
fn a_compressed_file_that_ends_within_a_part_for_now_is_read_on_and_in_order() {
    for pack in ["gzip", "zstd -q"] {
        let dir = Dir::new("follow-packed");
        let packed = |n: u32| {
            let line = format!("{{\"t\":\"2026-01-01T00:00:00Z\",\"n\":{n}}}");
            dir.shell(&format!("echo '{line}' | {pack}")).succeeds().stdout().to_vec()
        };
        let append = |bytes: &[u8]| {
            let mut file = File::options().append(true).create(true).open(dir.path("app.log")).expect("writable");
            file.write_all(bytes).expect("it fits");
        };
        append(&packed(1));
        let args = ["--follow", "app.log", "-q", "-f", "jsonl", "--time", "t", "--to", "out.jsonl"];
        let mut run = dir.command("evt-ingest", &args).stdin(Stdio::null()).spawn().expect("it starts");
        let numbers = || -> Vec<u64> {
            let text = std::fs::read_to_string(dir.path("out.jsonl")).unwrap_or_default();
            let number = |line: &str| line.split("\"n\":").nth(1)?.split(['}', ',']).next()?.parse().ok();
            text.lines().filter_map(number).collect()
        };
        let reads =
            |count: u64| eventually(&format!("{pack}: {count} lines"), || numbers() == (1..=count).collect::<Vec<_>>());
        reads(1);
        // The second member is there but for its last bytes.
        let second = packed(2);
        append(&second[..second.len() - 3]);
        append(&[]);
        let third = packed(3);
        append(&second[second.len() - 3..]);
        append(&third[..5]);
        reads(2);
        append(&third[5..]);
        dir.shell("mv app.log app.log.1; touch app.log").succeeds();
        reads(3);
        append(&packed(4));
        reads(4);
        kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
        assert_eq!(ended("evt-ingest", &mut run), 143, "{pack}");
    }
}
