//! Files that hold rows in transit or rejected records are for their owner only, whatever the umask permits.

use crate::harness::{Dir, eventually};
use crate::listener::{Listener, event};
use crate::services::{EVENT, Running};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const RULES: &str =
    "[[rule]]\nname = \"r\"\naggregate = \"count(*)\"\ncondition = \"gt\"\nthreshold = 5\nwindow_seconds = 60\n";

/// Adds the modes of a file, or of a directory and everything in it.
fn add_modes(path: &Path, modes: &mut BTreeMap<String, u32>) {
    let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    modes.insert(path.display().to_string(), metadata.permissions().mode() & 0o777);
    if metadata.is_dir() {
        fs::read_dir(path).expect("readable").for_each(|entry| add_modes(&entry.expect("an entry").path(), modes));
    }
}

/// Checks that files have one mode and directories the other.
#[track_caller]
fn assert_modes(dir: &Dir, name: &str, file: u32, directory: u32) {
    let mut modes = BTreeMap::new();
    add_modes(&dir.path(name), &mut modes);
    for (path, mode) in &modes {
        let expected = if Path::new(path).is_dir() { directory } else { file };
        assert_eq!(*mode, expected, "{path}: expected {expected:o}, found {mode:o}");
    }
}

#[test]
fn checkpoints_dead_letters_and_states_are_private_and_outputs_follow_the_umask() {
    let dir = Dir::new("private");
    dir.write("good.jsonl", format!("{EVENT}\n"));
    dir.write("in.jsonl", format!("{EVENT}\n{{\n"));
    dir.write("rules.toml", RULES);
    let lines = [
        (
            "evt-ingest in.jsonl --checkpoint a/ckpt --to a.jsonl --dlq a-dead.jsonl",
            &["a", "a-dead.jsonl"][..],
            "a.jsonl",
        ),
        ("evt-ingest in.jsonl --checkpoint b --to b.db --dlq b-dead.db", &["b", "b-dead.db"], "b.db"),
        ("evt-ingest in.jsonl --to c.db --dlq c-dead.db", &["c-dead.db"], "c.db"),
        ("evt-ingest in.jsonl --to parquet:d --dlq parquet:d-dead", &["d-dead"], "d"),
        ("evt-ingest in.jsonl --to e.jsonl.gz --dlq e-dead.jsonl.gz", &["e-dead.jsonl.gz"], "e.jsonl.gz"),
        ("evt-ingest in.jsonl --to f.parquet --dlq f-dead.parquet", &["f-dead.parquet"], "f.parquet"),
        ("evt-window good.jsonl --size 1m --checkpoint g --to g.csv", &["g"], "g.csv"),
        ("evt-alert good.jsonl --rules rules.toml --state h.db --to h.jsonl", &["h.db", "h.db.lock"], "h.jsonl"),
    ];
    for (line, private, output) in lines {
        dir.shell(&format!("umask 022; {line} -q")).succeeds();
        private.iter().for_each(|name| assert_modes(&dir, name, 0o600, 0o700));
        assert_modes(&dir, output, 0o644, 0o755);
    }
    // An existing file keeps its mode, and the umask can remove more.
    dir.write("kept.jsonl", "");
    fs::set_permissions(dir.path("kept.jsonl"), Permissions::from_mode(0o640)).expect("set");
    dir.shell("umask 022; evt-ingest -q in.jsonl --to null: --dlq kept.jsonl").succeeds();
    assert_modes(&dir, "kept.jsonl", 0o640, 0o700);
    dir.shell("umask 0277; evt-ingest -q in.jsonl --to null: --dlq less.jsonl").succeeds();
    assert_modes(&dir, "less.jsonl", 0o400, 0o700);
}

#[test]
fn a_spool_is_private_and_an_existing_directory_keeps_its_mode() {
    for mode in [None, Some(0o750)] {
        let dir = Dir::new(&format!("private-spool-{}", mode.is_some()));
        if let Some(mode) = mode {
            fs::create_dir(dir.path("spool")).expect("writable");
            fs::set_permissions(dir.path("spool"), Permissions::from_mode(mode)).expect("set");
        }
        let line =
            "umask 022; exec evt-ingest http://127.0.0.1:0 --spool spool --dedup 1h --to out.jsonl --dlq dead.jsonl";
        let listener = Listener::of(&mut dir.command("sh", &["-c", line])).listening();
        assert_eq!(listener.json(&event(1, "s")).status, 200);
        assert_eq!(listener.json("{").status, 400);
        assert_modes(&dir, "spool", 0o600, mode.unwrap_or(0o700));
        listener.stop();
        assert_modes(&dir, "spool", 0o600, mode.unwrap_or(0o700));
        assert_modes(&dir, "dead.jsonl", 0o600, 0o700);
        assert_modes(&dir, "out.jsonl", 0o644, 0o755);
    }
}

/// SQLite has files beside a state while it is open.
#[test]
fn the_log_of_an_open_state_is_private_too() {
    let dir = Dir::new("private-log");
    dir.write("rules.toml", RULES);
    let line = "umask 022; exec evt-alert -q -f jsonl --rules rules.toml --state state.db --to null:";
    let mut running = Running::new(&mut dir.command("sh", &["-c", line]));
    running.give(format!("{EVENT}\n").as_bytes());
    let names = ["state.db", "state.db-wal", "state.db-shm", "state.db.lock"];
    eventually("the state is open", || names.iter().all(|name| dir.path(name).exists()));
    names.iter().for_each(|name| assert_modes(&dir, name, 0o600, 0o700));
    assert_eq!(running.end(), 0);
}
