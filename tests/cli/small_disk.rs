//! A spool on a disk that is smaller than `--spool-max`: the disk is its limit, and it recovers once the outputs have
//! its records.

use crate::harness::{Dir, Draws, eventually, in_ci};
use crate::listener::{Listener, event};
use crate::spool::{assert_kept, kill_again_and_again};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// A file system in a namespace of its own, which ends with this process.
struct SmallDisk(Child);

impl SmallDisk {
    /// Mounts a disk of this size. `spool` in `dir` is a link to a directory on it.
    fn mount(dir: &Dir, size: &str) -> Option<Self> {
        let line =
            "mkdir small && mount -t tmpfs -o size=$0 none small && mkdir small/spool && echo mounted && read -r";
        let mut command = dir.command("unshare", &["-rm", "bash", "-c", line, size]);
        let mut disk = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare starts"));
        let mut told = String::new();
        BufReader::new(disk.0.stdout.take().expect("it is piped")).read_line(&mut told).expect("readable");
        if told != "mounted\n" {
            assert!(!in_ci(), "unshare -rm must be allowed to mount a tmpfs in CI");
            eprintln!("skipped: unshare -rm may not mount a small tmpfs here");
            return None;
        }
        let inside = format!("/proc/{}/root{}", disk.0.id(), dir.path("small/spool").display());
        std::os::unix::fs::symlink(inside, dir.path("spool")).expect("writable");
        Some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The events that a server has acknowledged.
struct QueuedItem {
    is_keyed: bool,
    next: usize,
    acknowledged: BTreeSet<usize>,
}

impl QueuedItem {
    /// Posts one event with this many more bytes; returns whether it was acknowledged.
    fn post(&mut self, listener: &Listener, filler: usize) -> bool {
        self.next += 1;
        let body = event(self.next, "s").replace("\"n\":", &format!("\"filler\":\"{}\",\"n\":", "x".repeat(filler)));
        let key = self.next.to_string();
        let headers = [("content-type", "application/json"), ("idempotency-key", &*key)];
        let answer = listener.post(&headers[..1 + usize::from(self.is_keyed)], body.as_bytes());
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        if answer.status == 200 {
            self.acknowledged.insert(self.next);
        }
        answer.status == 200
    }

    /// Fills the disk: at last with events that leave no block free. If the outputs are fast, it may never be full.
    fn fill(&mut self, listener: &Listener, events: usize) {
        let _ = (0..events).all(|_| self.post(listener, 20_000));
        let _ = (0..300).all(|_| self.post(listener, 0));
    }
}

/// Fills the disk of a spool, and again before a restart. `large` events of 20 kB are more than fit on the disk.
fn recovers(size: &str, large: usize, is_keyed: bool, flags: &[&str]) {
    let dir = Dir::new("small-disk");
    let Some(_disk) = SmallDisk::mount(&dir, size) else { return };
    let flags = [&["--spool", "spool", "--to", "out.jsonl"], flags].concat();
    let mut sent = QueuedItem { is_keyed, next: 0, acknowledged: BTreeSet::new() };
    let lines = || crate::broker::lines(&dir, "out.jsonl");
    let listener = Listener::open(&dir, &flags);
    sent.fill(&listener, large);
    eventually("the outputs have everything", || lines() == sent.acknowledged.len());
    // A load balancer sends no request before that.
    eventually("it is ready", || listener.get("/readyz").status == 200);
    eventually("a large request is stored", || sent.post(&listener, 20_000));
    sent.fill(&listener, large);
    listener.signal(Signal::KILL);
    listener.wait();
    let listener = Listener::open(&dir, &flags);
    eventually("it is ready after a restart", || listener.get("/readyz").status == 200);
    eventually("a large request is stored", || sent.post(&listener, 20_000));
    listener.stop();
    let number = |row: &serde_json::Value| row["properties"]["n"].as_u64().and_then(|n| usize::try_from(n).ok());
    let stored: BTreeSet<usize> = dir.rows("out.jsonl").iter().filter_map(number).collect();
    assert_eq!(stored, sent.acknowledged);
}

#[test]
fn a_disk_smaller_than_spool_max_takes_requests_with_keys_again_once_the_outputs_have_everything() {
    recovers("2m", 150, true, &["--spool-max", "4MiB"]);
}

#[test]
fn a_disk_smaller_than_a_segment_takes_requests_again_once_the_outputs_have_everything() {
    recovers("300k", 20, false, &[]);
    recovers("300k", 20, true, &[]);
}

#[test]
fn a_small_disk_takes_requests_again_once_the_window_of_dedup_has_passed() {
    recovers("300k", 20, true, &["--dedup", "5s"]);
}

#[test]
fn an_acknowledged_event_survives_fifty_kills_of_a_server_whose_disk_is_full_again_and_again() {
    let (dir, mut draws) = (Dir::new("killed-small-disk"), Draws::new());
    let Some(_disk) = SmallDisk::mount(&dir, "160k") else { return };
    let told = kill_again_and_again(&dir, &["--to", "out.jsonl", "--dlq", "dead.jsonl"], &mut draws);
    assert_kept(&told, &dir.rows("out.jsonl"), &draws);
}
