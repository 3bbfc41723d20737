//! `--checkpoint` with several last stages: tee(1) divides the pipe into branches (`--ends`).

use crate::checkpoint::{Job, OUTPUTS, assert_same, cut, generated, lines};
use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, Draws, LONG_WAIT, ended_within, eventually, is_stopped};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Far more than stages need that wait for none that has failed, far less than they wait for one that may still run.
const SOON: Duration = Duration::from_secs(120);

/// The metrics of one branch, and the flags that make them independent of batches.
const WINDOW: &str =
    "evt-window -q -m m.toml --out-of-orderness 3s --emit final --late late.jsonl --dlq dead.jsonl --at-end fire";
/// The rows of the other branch.
const RAW: &str = "evt-sink -q --dlq dead.jsonl --to raw.jsonl --to sqlite:raw.db";
const SINK: &str = "evt-sink -q --dlq dead.jsonl --to sqlite:m.db --to rows.jsonl --to rows.csv";

/// A running pipe with two branches.
struct Branches(Vec<Child>);

impl Branches {
    /// Starts the stages: the first one, tee, the only one of the first branch, and those of the second branch.
    fn start(dir: &Dir, lines: &[&str]) -> Self {
        dir.shell("rm -f branch && mkfifo branch").succeeds();
        let mut running: Vec<Child> = vec![];
        for (at, line) in lines.iter().enumerate() {
            let from = if at == 2 { "< branch" } else { "" };
            let mut command = dir.command("bash", &["-c", &format!("exec {line} {from}")]);
            let log = File::options().create(true).append(true).open(dir.path(&format!("stderr-{at}")));
            let before = match at {
                1 => running.first_mut(),
                3 => running.get_mut(1),
                4 => running.get_mut(3),
                _ => None,
            };
            let stdin = before.map_or(Stdio::null(), |before| before.stdout.take().expect("a pipe").into());
            let is_last = at == 2 || at + 1 == lines.len();
            command.stdin(stdin).stderr(log.expect("a file"));
            command.stdout(if is_last { Stdio::null() } else { Stdio::piped() });
            running.push(command.spawn().expect("it starts"));
        }
        Self(running)
    }

    fn signal(&mut self, stage: usize, signal: Signal) {
        if self.0[stage].try_wait().expect("a child").is_none() {
            kill_process(Pid::from_child(&self.0[stage]), signal).expect("a child");
        }
    }

    fn has_ended(&mut self) -> bool {
        self.0.iter_mut().any(|child| child.try_wait().expect("a child").is_some())
    }

    /// Stops the first stage, and so the others.
    fn end(&mut self) -> Vec<i32> {
        self.signal(0, Signal::TERM);
        self.wait()
    }

    fn wait(&mut self) -> Vec<i32> {
        self.0.iter_mut().map(|child| ended_within(LONG_WAIT, "a stage of a branch", child)).collect()
    }
}

fn said(dir: &Dir) -> String {
    let of_stage = |stage| std::fs::read(dir.path(&format!("stderr-{stage}"))).unwrap_or_default();
    (0..5).map(|stage| String::from_utf8_lossy(&of_stage(stage)).into_owned()).collect()
}

/// The ids of the events in a file.
fn ids(dir: &Dir, name: &str) -> Vec<String> {
    let mut ids: Vec<String> =
        dir.rows(name).iter().map(|row| row["event_id"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

/// The ids of the raw events in the file and in the database.
fn raw_ids(dir: &Dir) -> [Vec<String>; 2] {
    let of_file = ids(dir, "raw.jsonl");
    let db = rusqlite::Connection::open(dir.path("raw.db")).expect("a database");
    let mut select = db.prepare("SELECT event_id FROM raw_events ORDER BY event_id").expect("the table");
    let of_table = select.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect();
    [of_file, of_table]
}

#[test]
fn both_branches_behind_tee_write_each_row_once_although_stages_are_killed() {
    let mut draws = Draws::new();
    let calm = Job::new("ends-calm", &OUTPUTS);
    let events = generated(&calm.dir, 8_000);
    calm.dir.write("a.jsonl", &events);
    calm.run(&["-q", "--emit", "final", "--at-end", "fire", "a.jsonl"]).succeeds();
    calm.dir.shell("evt-ingest -q --dlq null: a.jsonl | evt-sink -q --to raw.jsonl --to sqlite:raw.db").succeeds();
    let (expected, raw) = (calm.results(), raw_ids(&calm.dir));
    assert!(raw[0].len() > 7_000 && raw[0] == raw[1]);
    for wild in Job::in_all_places("ends-wild", &OUTPUTS) {
        wild.dir.write("a.jsonl", &events);
        let mut kills = 0;
        let ingest = format!(
            "evt-ingest -q --dlq dead.jsonl --checkpoint '{}' --checkpoint-every 20ms --ends 2 a.jsonl",
            wild.place.name
        );
        let stages = [&ingest, "tee branch", RAW, WINDOW, SINK];
        for _ in 0..12 {
            let mut pipe = Branches::start(&wild.dir, &stages);
            let span = [60, 150, 500][draws.below(3) as usize];
            let mut polls = 1 + draws.below(span);
            eventually("a stage is killed or has ended", || {
                polls -= 1;
                polls == 0 || pipe.has_ended()
            });
            pipe.signal(draws.below(5) as usize, Signal::KILL);
            // The others continue for a while. A stage that waits for a killed one would wait for minutes.
            polls = 1 + draws.below(20);
            eventually("the others are killed", || {
                polls -= 1;
                polls == 0
            });
            (0..5).for_each(|stage| pipe.signal(stage, Signal::KILL));
            let statuses = pipe.wait();
            kills += u32::from(statuses.contains(&137));
            let is_known = |status: &&i32| ![0, 65, 74, 75, 137, 141].contains(*status);
            assert_eq!(statuses.iter().find(is_known), None, "{draws}: {statuses:?} {}", said(&wild.dir));
        }
        let mut statuses = Branches::start(&wild.dir, &stages).wait();
        if wild.place.is_bucket() && statuses.contains(&75) {
            // The server may execute the last request of a killed run after the next run has read the log.
            statuses = Branches::start(&wild.dir, &stages).wait();
        }
        assert_eq!(statuses, [0; 5], "{draws}: {}", said(&wild.dir));
        assert!(kills >= 5, "{draws}: {kills} kills");
        assert_same(&wild.results(), &expected, &draws.to_string());
        assert!(raw_ids(&wild.dir) == raw, "{draws}: raw events are missing, or there twice");
        let shown = wild.view().succeeds().text();
        for stage in ["2-evt-sink: outputs: to-0 raw.jsonl", "3-evt-sink: outputs: to-0 sqlite:m.db"] {
            assert!(shown.contains(stage), "{shown}");
        }
    }
}

/// The epochs wait for the slow branch; the fast one writes no row before the epoch is complete.
#[test]
fn a_stopped_branch_delays_the_epochs_of_all_and_loses_nothing() {
    let job = Job::new("ends-slow", &OUTPUTS);
    let events = generated(&job.dir, 4_000);
    cut(&job.dir, &events, &[("a.jsonl", 2_000)]);
    let ingest =
        "evt-ingest -q --dlq dead.jsonl --checkpoint state --checkpoint-every 20ms --ends 2 -f jsonl --follow a.jsonl";
    let other = "evt-sink -q --branch other --to other.jsonl";
    let stages = [ingest, "tee branch", RAW, other];
    let mut pipe = Branches::start(&job.dir, &stages);
    let calm = "evt-ingest -q --dlq null: a.jsonl | evt-sink -q --to calm.jsonl --overwrite";
    job.dir.shell(calm).succeeds();
    let first = lines(&job.dir, "calm.jsonl").len();
    let rows = |name: &str| if job.dir.path(name).exists() { lines(&job.dir, name).len() } else { 0 };
    eventually("both branches have the first rows", || rows("raw.jsonl") == first && rows("other.jsonl") == first);
    // The entry `start` and those of the complete epochs: as many as the number of the epoch in progress.
    let has = |epoch: usize, name: &str| job.place.files.join(format!("epochs/1-{epoch}/{name}")).exists();
    let is_sealed = |stage: &str| has(job.place.entries(), &format!("{stage}.json"));
    // The first stage ends an epoch once all stages have committed the one before.
    eventually("the branch is stopped between two epochs", || {
        pipe.signal(2, Signal::STOP);
        eventually("no thread runs", || is_stopped(&pipe.0[2]));
        let epoch = job.place.entries();
        let is_between = has(epoch - 1, "2-evt-sink.committed") && !has(epoch, "2-evt-sink.json");
        if !is_between {
            pipe.signal(2, Signal::CONT);
        }
        is_between
    });
    // Few rows: tee waits for the stopped branch once its pipe is full, and then the barrier reaches no branch.
    let mut file = File::options().append(true).open(job.dir.path("a.jsonl")).expect("a file");
    let mut append = |until: usize| {
        let end = events.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(until - 1).expect("a line").0;
        file.write_all(&events[job.dir.bytes("a.jsonl").len()..=end]).expect("written");
    };
    append(2_040);
    eventually("only the other branch has sealed an epoch", || {
        is_sealed("2-evt-sink-other") && !is_sealed("2-evt-sink")
    });
    assert_eq!(rows("other.jsonl"), first, "rows of an epoch that is not complete");
    pipe.signal(2, Signal::CONT);
    append(4_000);
    job.dir.shell(calm).succeeds();
    let all = lines(&job.dir, "calm.jsonl").len();
    eventually("both branches have the rows", || rows("raw.jsonl") == all && rows("other.jsonl") == all);
    let mut statuses = pipe.end();
    for _ in 0..10 {
        // On a slow machine the wait for the last epoch may expire; the next run repeats it.
        if !statuses.contains(&75) {
            break;
        }
        let before = job.place.entries();
        pipe = Branches::start(&job.dir, &stages);
        eventually("an epoch is complete", || job.place.entries() > before + 1);
        statuses = pipe.end();
    }
    assert!(statuses.iter().all(|status| [0, 143].contains(status)), "{statuses:?} {}", said(&job.dir));
    let [of_file, of_table] = raw_ids(&job.dir);
    assert!(of_file == ids(&job.dir, "calm.jsonl") && of_table == of_file && ids(&job.dir, "other.jsonl") == of_file);
}

#[test]
fn branches_that_the_checkpoint_does_not_have_are_refused() {
    let dir = Dir::new("ends-refused");
    let events = generated(&dir, 500);
    dir.write("a.jsonl", &events);
    let ingest = "evt-ingest -q --dlq null: a.jsonl --checkpoint";
    let pipe = |line: String| dir.shell(&line);
    // Without the flag the second last stage is refused, with its name; so is a third one.
    for (ends, branches, expected) in [
        (
            "",
            "tee >(evt-sink -q --to a.db 2>> err)",
            "found 2-evt-sink and 2-evt-sink; --ends of the first stage is the number of last stages",
        ),
        (
            "--ends 2",
            "tee >(evt-sink -q --branch b --to a.db 2>> err) >(evt-sink -q --branch c --to c.db 2>> err)",
            "expected 2 last stages, found 2-evt-sink",
        ),
        (
            "--ends 2",
            "tee >(evt-sink -q --to a.db 2>> err)",
            "two stages are called 2-evt-sink: give one of them another name with --branch NAME",
        ),
    ] {
        // A refused stage may end after the shell, so each pipe has its own files.
        let own = Dir::new("ends-refused");
        own.write("a.jsonl", &events);
        let begun = Instant::now();
        own.shell(&format!("{ingest} state {ends} | {branches} | evt-sink -q --to b.db 2>> err; wait"));
        assert!(begun.elapsed() < SOON, "{ends} {branches}: {:?}", begun.elapsed());
        let mut said = String::new();
        eventually("a branch is refused", || {
            said = String::from_utf8_lossy(&own.bytes("err")).into_owned();
            said.contains(expected)
        });
    }
    let said = pipe(format!("{ingest} state-2 --ends 2 --to a.jsonl.out -o jsonl")).ends_with(2).stderr();
    assert!(said.contains("--ends 2: expected stages behind standard output, found none"), "{said}");
    assert!(!dir.path("state-2").exists());
    // The name of a branch is for the stages behind tee.
    dir.write("m.toml", crate::checkpoint::METRICS);
    for line in [
        "evt-window -q -m m.toml --checkpoint state-2 --branch b --late null: --to named.db a.jsonl",
        "evt-sink -q --branch b --to named.db a.jsonl",
    ] {
        let said = pipe(line.to_owned()).ends_with(2).stderr();
        assert!(said.contains("--branch b: expected the stage behind tee(1)"), "{said}");
    }
    let said = pipe("evt-ingest -q --dlq null: a.jsonl | evt-sink -q --branch b --to named.db".to_owned())
        .ends_with(2)
        .stderr();
    assert!(said.contains("--branch b: expected a pipe with a checkpoint, found one without"), "{said}");
    assert!(!dir.path("state-2").exists());
    // A checkpoint of two branches is continued with two.
    let two = |name: &str| format!("tee >(evt-sink -q --branch {name} --to a.db) | evt-sink -q --to b.db");
    pipe(format!("{ingest} state-3 --ends 2 | {}", two("raw"))).succeeds();
    let said = pipe(format!("{ingest} state-3 | {}", two("raw"))).stderr();
    assert!(said.contains("expected --ends 2, as in the checkpoint, found --ends 1"), "{said}");
    dir.shell("rm -f err").succeeds();
    let renamed = "tee >(evt-sink -q --branch other --to a.db 2>> err) | evt-sink -q --to b.db 2>> err";
    pipe(format!("{ingest} state-3 --ends 2 | {renamed}"));
    let mut said = String::new();
    eventually("the renamed branch is refused", || {
        said = String::from_utf8_lossy(&dir.bytes("err")).into_owned();
        said.contains("found 1-evt-ingest | 2-evt-sink-other")
    });
    pipe(format!("{ingest} state-3 --ends 2 | {}", two("raw"))).succeeds();
}

/// The stream is quiet, so that tee writes nothing while an epoch waits for a branch that has gone.
#[test]
fn a_quiet_pipe_ends_when_a_branch_behind_tee_has_gone_before_it_took_part() {
    let dir = Dir::new("ends-quiet");
    dir.write("a.jsonl", "{\"source\":\"s\",\"event_type\":\"e\",\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n");
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let stages = [
        ("evt-ingest", words("-q --dlq null: --checkpoint state --ends 2 --follow -f jsonl a.jsonl")),
        ("tee", words("/dev/stderr")),
        // It reads all that is written at first.
        ("timeout", words("2 cat")),
    ];
    let mut pipe = Pipe::with_branch(&dir, &stages, &("evt-sink", words("-q --dlq null: --to rows.jsonl")));
    let statuses = pipe.wait();
    assert!(matches!(statuses[..], [75 | 141, 141, 124, 65]), "{statuses:?}");
}

/// The stage fails when it ends the last epoch: tee has written everything, and nothing shows its end to the others.
#[test]
fn a_branch_that_fails_at_the_end_of_the_input_ends_the_others_at_once() {
    let dir = Dir::new("ends-failed");
    let events = generated(&dir, 500);
    cut(&dir, &events, &[("a.jsonl", 200)]);
    let ingest = "evt-ingest -q --dlq null: --checkpoint state --checkpoint-every 1h --ends 2 a.jsonl";
    let stages =
        [ingest, "tee branch", "evt-window -q --size 1m --late null: --to w.jsonl", "evt-sink -q --to raw.jsonl"];
    assert_eq!(Branches::start(&dir, &stages).wait(), [0; 4], "{}", said(&dir));
    dir.write("a.jsonl", &events);
    // The log has two entries, so the next run has the number 3; its state cannot be written over this directory.
    dir.shell("mkdir -p state/epochs/3-1/2-evt-window.state").succeeds();
    let begun = Instant::now();
    let statuses = Branches::start(&dir, &stages).wait();
    assert!(begun.elapsed() < SOON, "{:?}: {}", begun.elapsed(), said(&dir));
    assert!(matches!(statuses[..], [75, 0 | 141, 74, 75]), "{statuses:?}: {}", said(&dir));
    assert!(said(&dir).contains("epoch 3-1 is not complete, because 2-evt-window has failed"), "{}", said(&dir));
    assert_eq!(Branches::start(&dir, &stages).wait(), [0; 4], "{}", said(&dir));
    let found = ids(&dir, "raw.jsonl");
    let different: std::collections::BTreeSet<_> = found.iter().collect();
    assert!(found.len() > 400 && different.len() == found.len(), "{} of {}", different.len(), found.len());
}

/// The same for a stage that is killed (SIGKILL) and so says nothing: the lock of its name in the checkpoint is free.
#[test]
fn a_branch_that_is_killed_at_the_end_of_the_input_ends_the_others_at_once() {
    let dir = Dir::new("ends-killed");
    dir.write("a.jsonl", generated(&dir, 100));
    let ingest = "evt-ingest -q --dlq null: --checkpoint state --ends 2 a.jsonl";
    // The branch joins, but what follows the first bytes waits in a pipe (64 KiB): it cannot save the only epoch.
    let gate = "bash -c 'tee >({ head -c 4096; read _ < gate; cat; } > branch)'";
    let window = "evt-window -q --size 1m --late null: --to sqlite:w.db";
    let stages = [ingest, gate, window, "evt-sink -q --to raw.jsonl"];
    let epochs = dir.path("state/epochs");
    dir.shell("mkfifo gate").succeeds();
    let mut pipe = Branches::start(&dir, &stages);
    eventually("the branch joins", || epochs.join("1-0/2-evt-window.joined").exists());
    eventually("the others have saved the epoch", || {
        ["1-evt-ingest", "2-evt-sink"].iter().all(|stage| epochs.join(format!("1-1/{stage}.json")).exists())
    });
    assert!(!epochs.join("1-1/2-evt-window.json").exists());
    pipe.signal(2, Signal::KILL);
    let begun = Instant::now();
    dir.shell("echo > gate").succeeds();
    let statuses = pipe.wait();
    assert!(begun.elapsed() < SOON, "{:?}: {}", begun.elapsed(), said(&dir));
    assert!(matches!(statuses[..], [75, 0 | 141, 137, 75]), "{statuses:?}: {}", said(&dir));
    assert!(said(&dir).contains("epoch 1-1 is not complete, because 2-evt-window has failed"), "{}", said(&dir));
    let stages = [ingest, "tee branch", window, "evt-sink -q --to raw.jsonl"];
    assert_eq!(Branches::start(&dir, &stages).wait(), [0; 4], "{}", said(&dir));
    let found = ids(&dir, "raw.jsonl");
    let different: std::collections::BTreeSet<_> = found.iter().collect();
    assert!(found.len() > 75 && different.len() == found.len(), "{} of {}", different.len(), found.len());
}
