//! `--checkpoint` over the stages of a pipe: any of them may be killed at any moment.

use crate::broker::Bench;
use crate::bucket::CheckpointLocation;
use crate::checkpoint::{Job, OUTPUTS, assert_same, generated, holds_a_lock, ordered};
use crate::harness::{Dir, Draws, LONG_WAIT, ended_within, eventually, eventually_within, is_stopped, suspend};
use crate::kafka::record;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::PipeReader;
use std::process::{Child, Stdio};

/// Flags of the windows that do not depend on the batches in which they get events.
const WINDOWS: [&str; 8] = ["-q", "-m", "m.toml", "--out-of-orderness", "3s", "--emit", "final", "--dlq"];

/// The command lines of the four stages. All write one dead-letter file.
fn stages(place: &CheckpointLocation, inputs: &[&str], at_end: &str) -> Vec<(&'static str, Vec<String>)> {
    let to_text = |args: &[&[&str]]| args.concat().iter().map(|&arg| arg.to_owned()).collect();
    let letters = ["-q", "--dlq", "dead.jsonl"];
    vec![
        ("evt-ingest", to_text(&[&letters, &["--checkpoint", &place.name, "--checkpoint-every", "20ms"], inputs])),
        ("evt-validate", to_text(&[&letters, &["--dedup", "10m"]])),
        ("evt-window", to_text(&[&WINDOWS, &["dead.jsonl", "--late", "late.jsonl", "--at-end", at_end]])),
        ("evt-sink", to_text(&[&letters, &["--to", "sqlite:m.db", "--to", "rows.jsonl", "--to", "rows.csv"]])),
    ]
}

/// The running stages of a pipe.
pub struct Pipe(pub Vec<Child>);

impl Pipe {
    pub fn start(dir: &Dir, stages: &[(&str, Vec<String>)]) -> Self {
        Self::start_all(dir, stages).0
    }

    /// Starts the stages. What tee(1) writes to stderr is a pipe, whose reading end is returned.
    fn start_all(dir: &Dir, stages: &[(&str, Vec<String>)]) -> (Self, Option<PipeReader>) {
        let (mut running, mut branch): (Vec<Child>, _) = (vec![], None);
        for (at, (tool, args)) in stages.iter().enumerate() {
            let stdin = running.last_mut().map_or(Stdio::null(), |before| before.stdout.take().expect("a pipe").into());
            let is_last = at + 1 == stages.len();
            let mut command = dir.command(tool, args);
            let log = File::options().create(true).append(true).open(dir.path(&format!("stderr-{at}")));
            command.stdin(stdin).stderr(log.expect("a file"));
            if *tool == "tee" {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                command.stderr(writer);
                branch = Some(reader);
            }
            command.stdout(if is_last { Stdio::null() } else { Stdio::piped() });
            running.push(command.spawn().expect("it starts"));
        }
        (Self(running), branch)
    }

    /// Starts the stages and, behind `tee /dev/stderr` among them, another one, which is added as the last one.
    pub fn with_branch(dir: &Dir, stages: &[(&str, Vec<String>)], (tool, args): &(&str, Vec<String>)) -> Self {
        let (mut pipe, tee) = Self::start_all(dir, stages);
        let log = File::options().create(true).append(true).open(dir.path("stderr-branch"));
        let mut command = dir.command(tool, args);
        command.stdin(tee.expect("a tee")).stdout(Stdio::null()).stderr(log.expect("a file"));
        pipe.0.push(command.spawn().expect("it starts"));
        pipe
    }

    /// Sends a signal to a stage, unless it has ended.
    pub fn signal(&mut self, stage: usize, signal: Signal) {
        if self.0[stage].try_wait().expect("a child").is_none() {
            kill_process(Pid::from_child(&self.0[stage]), signal).expect("a child");
        }
    }

    /// Whether no stage runs any more after SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        self.0.iter().all(is_stopped)
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.iter_mut().any(|child| child.try_wait().expect("a child").is_some())
    }

    /// Waits until all stages have ended; returns their statuses.
    pub fn wait(&mut self) -> Vec<i32> {
        self.0.iter_mut().map(|child| ended_within(LONG_WAIT, "a stage of the pipe", child)).collect()
    }
}

/// What all stages, of which there may be fewer than four, have said on stderr, for messages of the tests.
pub fn said(dir: &Dir) -> String {
    let of_stage = |stage| std::fs::read(dir.path(&format!("stderr-{stage}"))).unwrap_or_default();
    (0..4).map(|stage: usize| String::from_utf8_lossy(&of_stage(stage)).into_owned()).collect()
}

/// Kills stages of pipes at positions that the seed determines, until `turns` are over or one has ended. Returns the
/// kills.
fn run_with_kills(dir: &Dir, stages: &[(&str, Vec<String>)], draws: &mut Draws, turns: u64) -> u32 {
    let mut kills = 0;
    for _ in 0..turns {
        let mut pipe = Pipe::start(dir, stages);
        let span = [60, 150, 500][draws.below(3) as usize];
        let mut polls = 1 + draws.below(span);
        eventually("a stage is killed or has ended", || {
            polls -= 1;
            polls == 0 || pipe.has_ended()
        });
        // In one case of four all are killed at once.
        let killed = draws.below(5) as usize;
        (0..4).filter(|stage| killed == 4 || *stage == killed).for_each(|stage| pipe.signal(stage, Signal::KILL));
        let statuses = pipe.wait();
        kills += statuses.iter().filter(|status| **status == 137).count() as u32;
        let is_known = |status: &&i32| ![0, 65, 74, 75, 137, 141].contains(*status);
        assert_eq!(statuses.iter().find(is_known), None, "{draws}: {statuses:?} {}", said(dir));
    }
    kills
}

#[test]
fn a_pipe_counts_each_event_once_although_stages_are_killed() {
    let mut draws = Draws::new();
    let calm = Job::new("pipe-calm", &OUTPUTS);
    let events = generated(&calm.dir, 12_000);
    calm.dir.write("a.jsonl", &events);
    calm.run(&["-q", "--emit", "final", "--at-end", "fire", "a.jsonl"]).succeeds();
    let expected = calm.results();
    assert!(expected["m.db"].len() > 500 && expected["dead.jsonl"].len() > 50 && expected["late.jsonl"].len() > 20);
    for wild in Job::in_all_places("pipe-wild", &OUTPUTS) {
        wild.dir.write("a.jsonl", &events);
        let stages = stages(&wild.place, &["a.jsonl"], "fire");
        let kills = run_with_kills(&wild.dir, &stages, &mut draws, 14);
        let statuses = Pipe::start(&wild.dir, &stages).wait();
        assert_eq!(statuses, [0; 4], "{draws}: {}", said(&wild.dir));
        assert!(kills >= 5, "{draws}: {kills} kills");
        assert_same(&wild.results(), &expected, &draws.to_string());
        let shown = wild.view().succeeds().text();
        assert!(shown.contains("4-evt-sink: outputs: to-0 sqlite:m.db"), "{shown}");
    }
}

#[test]
fn a_pipe_over_a_topic_counts_each_event_once_although_stages_are_killed_or_stopped() {
    let Some(bench) = Bench::new("pipe-topic") else { return };
    let mut draws = Draws::new();
    let topic = bench.topic("in", 3, &[]);
    let flags = [&OUTPUTS[..], &["--emit", "final"]].concat();
    let (calm, wild) = (Job::new("pipe-topic-calm", &flags), Job::new("pipe-topic-wild", &flags));
    let text = String::from_utf8_lossy(&generated(&calm.dir, 12_000)).into_owned();
    let lines: Vec<(usize, &str)> = text.lines().enumerate().collect();
    let group = format!("{}-g", bench.prefix);
    let endless = bench.uri(&topic, &format!("?group={group}"));
    let bounded = bench.uri(&topic, &format!("?group={group}&end=latest"));
    let mut kills = 0;
    for part in lines.chunks(3_000) {
        bench.produce(part.iter().map(|(number, line)| record(&topic, *number as i32 % 3, line)));
        kills += run_with_kills(&wild.dir, &stages(&wild.place, &[&endless], "hold"), &mut draws, 3);
        // A signal ends the run; no window fires early.
        let mut pipe = Pipe::start(&wild.dir, &stages(&wild.place, &[&endless], "hold"));
        let entries = || wild.place.entries();
        let before = entries();
        eventually_within(LONG_WAIT, "epochs are complete", || entries() > before + 3);
        // The last stage first: none ends before it gets its signal.
        (0..4).rev().for_each(|stage| pipe.signal(stage, Signal::TERM));
        assert_eq!(pipe.wait(), [143; 4], "{draws}: {}", said(&wild.dir));
    }
    let statuses = Pipe::start(&wild.dir, &stages(&wild.place, &[&bounded], "fire")).wait();
    assert_eq!(statuses, [0; 4], "{draws}: {}", said(&wild.dir));
    calm.run(&["-q", "--at-end", "fire", &bench.uri(&topic, "?end=latest")]).succeeds();
    assert!(kills >= 5, "{draws}: {kills} kills");
    assert_same(&wild.results(), &calm.results(), &draws.to_string());
    let committed: i64 = bench.committed(&group, &topic, 3).iter().filter_map(|(offset, _)| *offset).sum();
    assert_eq!(committed, 12_000, "the group has the positions of the last epoch");
}

/// An old pipe that was stopped while a new one took over commits nothing after it wakes up.
/// Both read a topic without an end, so that none of them has written everything before the other one begins.
#[test]
fn an_old_pipe_that_wakes_up_is_fenced() {
    let Some(bench) = Bench::new("pipe-old") else { return };
    let flags = [&OUTPUTS[..], &["--emit", "final"]].concat();
    for (place, wild) in Job::in_all_places("pipe-old", &flags).into_iter().enumerate() {
        let calm = Job::new("pipe-old-calm", &flags);
        let topic = bench.topic(&format!("in-{place}"), 1, &[]);
        let text = String::from_utf8_lossy(&generated(&calm.dir, 12_000)).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let produce = |part: &[&str]| bench.produce(part.iter().map(|line| record(&topic, 0, line)));
        let (first, second) = lines.split_at(6_000);
        produce(first);
        let endless = stages(&wild.place, &[&bench.uri(&topic, "")], "hold");
        let mut old = Pipe::start(&wild.dir, &endless);
        eventually("epochs are complete", || wild.place.entries() >= 3);
        eventually("it is stopped while it holds no lock", || {
            (0..4).for_each(|stage| old.signal(stage, Signal::STOP));
            eventually("its stages have stopped", || old.is_stopped());
            let is_free = !holds_a_lock(&wild.dir);
            if !is_free {
                (0..4).for_each(|stage| old.signal(stage, Signal::CONT));
            }
            is_free
        });
        let before = wild.place.entries();
        let mut new = Pipe::start(&wild.dir, &endless);
        eventually("the new run has begun", || wild.place.entries() > before);
        (0..4).for_each(|stage| old.signal(stage, Signal::CONT));
        produce(second);
        let of_old = old.wait();
        let is_fenced = of_old[3] != 0 && of_old.iter().all(|status| [0, 65, 74, 75, 141].contains(status));
        assert!(is_fenced, "{of_old:?} {}", said(&wild.dir));
        assert!(!new.has_ended(), "{}", said(&wild.dir));
        // A stage that has just been started does not handle signals yet.
        let begun = wild.place.entries();
        eventually("all stages of the new run take part", || wild.place.entries() > begun + 1);
        (0..4).rev().for_each(|stage| new.signal(stage, Signal::TERM));
        assert_eq!(new.wait(), [143; 4], "{}", said(&wild.dir));
        let rest = stages(&wild.place, &[&bench.uri(&topic, "?end=latest")], "fire");
        assert_eq!(Pipe::start(&wild.dir, &rest).wait(), [0; 4], "{}", said(&wild.dir));
        calm.run(&["-q", "--at-end", "fire", &bench.uri(&topic, "?end=latest")]).succeeds();
        assert_same(&wild.results(), &calm.results(), "after the old run");
    }
}

/// The last stage is slow when a signal arrives, and completes the epoch after the first one has ended.
#[test]
fn a_stage_that_waits_in_vain_after_a_signal_says_that_later_stages_are_slow() {
    let dir = Dir::new("pipe-slow-end");
    let place = CheckpointLocation::directory(&dir);
    dir.write("a.jsonl", ordered(0..200));
    let to_text = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>();
    let first = ["-q", "--checkpoint", &place.name, "--checkpoint-every", "20ms", "--follow", "a.jsonl"];
    let last = ["-q", "--size", "1m", "--late", "null:", "--to", "rows.jsonl"];
    let stages = [("evt-ingest", to_text(&first)), ("evt-window", to_text(&last))];
    let mut pipe = Pipe::start(&dir, &stages);
    eventually("an epoch is complete", || place.entries() >= 2);
    suspend(&pipe.0[1]);
    [0, 1].iter().for_each(|stage| pipe.signal(*stage, Signal::TERM));
    let status = ended_within(LONG_WAIT, "the first stage", &mut pipe.0[0]);
    let said = said(&dir);
    assert_eq!(status, 143, "{said}");
    assert!(!said.contains("has ended"), "{said}");
    let slow = "is not complete: the later stages have not completed it within";
    assert!(said.contains(slow) && said.contains("continues after the last complete epoch"), "{said}");
    pipe.signal(1, Signal::CONT);
    pipe.wait();
}

#[test]
fn a_pipe_of_other_stages_does_not_continue_a_checkpoint() {
    let job = Job::new("pipe-shape", &OUTPUTS);
    job.dir.write("a.jsonl", generated(&job.dir, 2_000));
    let pipe = |line: &str| job.dir.shell(line);
    let ingest = "evt-ingest -q --dlq null: --checkpoint state a.jsonl";
    let window = "evt-window -q --size 1m --late null:";
    pipe(&format!("{ingest} | {window} | evt-sink -q --to sqlite:m.db")).succeeds();
    let said = pipe(&format!("{ingest} | evt-sink -q --to sqlite:e.db")).stderr();
    let expected = "expected the stages 1-evt-ingest | 2-evt-window | 3-evt-sink, as in the checkpoint, found 1-evt-ingest | 2-evt-sink";
    assert!(said.contains(expected), "{said}");
    let said = pipe(&format!("{ingest} | {window} --to rows.jsonl")).stderr();
    assert!(said.contains("found 1-evt-ingest | 2-evt-window"), "{said}");
    pipe(&format!("{ingest} | {window} | evt-sink -q --to sqlite:m.db")).succeeds();
    let said = pipe("evt-ingest -q --dlq null: --checkpoint other a.jsonl > frames.arrows").ends_with(2).stderr();
    assert!(said.contains("expected a pipe to the next stage, found none"), "{said}");
    assert!(!job.dir.path("other").exists());
    let rule = "[[rule]]\nname = 'r'\naggregate = 'count(*)'\ncondition = 'gt'\nthreshold = 1\nwindow_seconds = 60\n";
    job.dir.write("rules.toml", rule);
    let said = pipe("evt-ingest -q --dlq null: --checkpoint other a.jsonl | evt-alert --rules rules.toml").stderr();
    assert!(said.contains("expected a stream without a checkpoint"), "{said}");
}

/// evt-view keeps no state, so after a restart it would show the rows since the last epoch as if they were all.
#[test]
fn a_view_of_the_whole_input_is_no_stage_of_a_pipe_with_a_checkpoint() {
    let dir = Dir::new("pipe-view");
    dir.write("a.jsonl", ordered(0..60));
    let view = |flags: &str| {
        let place = flags.replace(' ', "");
        let ingest = format!("evt-ingest -q --dlq null: --checkpoint 'state{place}' a.jsonl");
        dir.shell(&format!("{ingest} | evt-view -q {flags} --to rows.jsonl"))
    };
    for flags in ["--describe", "--summary", "--head 3", "--tail 3", "--sort user_id"] {
        let said = view(flags).ends_with(2).stderr();
        assert!(
            said.contains("a flag that needs the whole input (--describe, --head, --plot, --sort, --summary, --tail)"),
            "{flags}: {said}"
        );
        assert!(!dir.path("rows.jsonl").exists(), "{flags}");
    }
    view("--where 'true'").succeeds();
    assert_eq!(dir.bytes("rows.jsonl").iter().filter(|byte| **byte == b'\n').count(), 900);
}
