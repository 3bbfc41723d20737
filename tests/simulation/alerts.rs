//! evt-alert over files that grow, while rules are edited, runs are killed or stopped, and disks fail.
//!
//! ```text
//! story: events of two files, stamped events of two partitions, dead letters ─ cut at instants ─► files of each visit
//! each visit: rules, then runs of one state: disturbed ones, and a last one that ends
//! ```
//!
//! The alerts of a disturbed story are those of the same story with one run for each visit: none is lost, none has
//! other values, and one that an output got twice has the same content.

use crate::pipeline::BATCH_MAX;
use clap::Parser;
use evt::stage::{Stage, StepResult};
use evt::tool::alert;
use evt_core::error::Result;
use evt_core::generate::random::Random;
use evt_core::time::format_instant;
use evt_run::clock::{Clock, SimulatedClock};
use evt_run::console::{Colour, Console};
use evt_run::run::Run;
use evt_run::run::io::{Io, Pipe};
use evt_run::stop::Stop;
use evt_run::storage::disk::{Disk, DiskFault};
use evt_run::task_pool::TaskPool;
use rustix::io::Errno;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: i64 = 1_000_000;
/// 2024-01-15T10:00:00Z.
const START: i64 = 1_705_312_800 * SECOND;
/// Three years after the rows.
const NOW: i64 = 1_800_000_000 * SECOND;
/// Steps after which a run hangs.
const STEPS_MAX: u64 = 100_000;
/// The files of a story.
const FILES: [&str; 4] = ["a.jsonl", "b.jsonl", "stamped.jsonl", "dead.jsonl"];

/// A line and its time (µs).
type Line = (i64, String);

/// Rows that arrive, and what happens between the runs.
struct Story {
    /// The lines of each of [`FILES`] in the order of their times; a file that the story does not have is empty.
    files: Vec<Vec<Line>>,
    /// The instants (µs) to which the files have grown at each visit, and the rules of the visit.
    visits: Vec<(i64, Value)>,
}

impl Story {
    fn random(random: &mut Random) -> Self {
        let length = 60 + random.below(240) as i64;
        let files = (0..FILES.len()).map(|file| lines(file, length, random)).collect();
        let mut ends: BTreeSet<i64> = (0..1 + random.below(4)).map(|_| random.below(length as u64) as i64).collect();
        ends.insert(length);
        let mut rules = vec![];
        let visits = ends.into_iter().map(|end| {
            edit(&mut rules, random);
            (START + end * SECOND, json!({ "rule": rules }))
        });
        let visits = visits.collect();
        Self { files, visits }
    }

    /// Tells the story in a directory: `run` gets the number of each visit. Returns the alerts, and their count.
    fn tell(&self, dir: &Path, mut run: impl FnMut(usize)) -> (BTreeMap<String, Value>, usize) {
        std::fs::create_dir_all(dir).expect("a directory");
        for (number, (end, rules)) in self.visits.iter().enumerate() {
            for (name, lines) in FILES.iter().zip(&self.files) {
                let text: String =
                    lines.iter().filter(|(time, _)| time <= end).map(|(_, line)| line.as_str()).collect();
                std::fs::write(dir.join(name), text).expect("a file");
            }
            std::fs::write(dir.join("rules.json"), rules.to_string()).expect("a file");
            run(number);
        }
        alerts(dir)
    }
}

/// Returns the lines of a file of a story: events of the file, stamped events, or dead letters.
fn lines(file: usize, length: i64, random: &mut Random) -> Vec<Line> {
    if random.below(4) == 0 && file > 0 {
        return vec![];
    }
    let (mut lines, mut offsets, mut second, mut last) = (vec![], [0; 2], 0, 0);
    let pace = 1 + random.below(8);
    while second < length {
        second += random.below(pace) as i64 + i64::from(random.below(30) == 0) * 20;
        let time = (START + second * SECOND + random.below(SECOND as u64) as i64).max(last + 1);
        last = time;
        let kind = ["view", "click"][random.below(2) as usize];
        let mut row = json!({
            "source": "web", "event_type": kind, "server_timestamp": format_instant(time),
            "amount": random.below(100),
        });
        let partition = random.below(2) as usize;
        match FILES[file] {
            "stamped.jsonl" => {
                row = json!({
                    "event_id": format!("00000000-0000-4000-8000-{:012}", lines.len()), "source": "web", "event_type": kind,
                    "server_timestamp": format_instant(time), "event_time": format_instant(time),
                    "properties": {"amount": row["amount"]}, "origin": "topic", "partition": partition.to_string(),
                    "offset": offsets[partition], "stream_time": format_instant(time),
                });
                offsets[partition] += 1;
            }
            "dead.jsonl" => {
                row = json!({
                    "original_payload": "{", "error_type": "ParseError", "error_message": "test", "stage": "evt-ingest",
                    "source_topic": "events", "partition": "0", "offset": lines.len(), "failed_at": format_instant(time),
                    "producer_host": "h", "attempts": 1,
                });
            }
            _ => {}
        }
        let line = if random.below(40) == 0 && file < 2 { "no JSON".to_owned() } else { row.to_string() };
        lines.push((time, line + "\n"));
    }
    lines
}

/// Adds, removes or changes a rule.
fn edit(rules: &mut Vec<Value>, random: &mut Random) {
    let window = [5, 10, 30][random.below(3) as usize];
    let mut rule = match random.below(5) {
        0 => json!({"aggregate": "count(*)", "condition": "lt", "threshold": 1}),
        1 => json!({"aggregate": "count(*)", "condition": "gt", "threshold": random.below(6), "by": ["event_type"]}),
        2 => json!({"aggregate": "avg(amount)", "condition": "ge", "threshold": random.below(90)}),
        3 => json!({"aggregate": "count(*)", "condition": "gt", "threshold": random.below(4), "input": "dead"}),
        _ => json!({"aggregate": "max(amount)", "condition": "gt", "threshold": random.below(100), "for": "3s"}),
    };
    rule["window_seconds"] = json!(window);
    rule["keep_firing_for"] = json!(random.below(3));
    match random.below(4) {
        0 if rules.len() > 1 => _ = rules.remove(random.below(rules.len() as u64) as usize),
        1 if !rules.is_empty() => {
            let at = random.below(rules.len() as u64) as usize;
            rule["name"] = rules[at]["name"].clone();
            rules[at] = rule;
        }
        _ => {
            rule["name"] = json!(format!("rule {}", random.below(1_000_000)));
            rules.push(rule);
        }
    }
    if rules.is_empty() {
        edit(rules, random);
    }
}

/// Returns the alerts that the output has, by their keys, and the number of its rows.
fn alerts(dir: &Path) -> (BTreeMap<String, Value>, usize) {
    let text = std::fs::read_to_string(dir.join("out.jsonl")).unwrap_or_default();
    let rows: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let count = rows.len();
    let key =
        |row: &Value| ["alert_id", "rule", "dimensions", "state", "at"].map(|name| row[name].to_string()).join(" ");
    let mut alerts = BTreeMap::new();
    for row in rows {
        let known = alerts.insert(key(&row), row.clone());
        assert!(known.is_none_or(|known| known == row), "an alert has two contents: {row}");
    }
    (alerts, count)
}

/// How a run is disturbed.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It ends.
    Ends,
    /// It is killed after so many steps.
    Killed(u64),
    /// It gets a signal after so many steps.
    Stopped(u64),
    /// Its disk fails after so many operations.
    Fails(u64),
}

/// One run of evt-alert.
struct AlertRun<'a> {
    dir: &'a Path,
    files: Vec<&'static str>,
    clock: SimulatedClock,
    console: Arc<Mutex<String>>,
    lag: u32,
}

impl AlertRun<'_> {
    fn open(&self, disk: Disk, stop: &Stop) -> Result<Stage> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut args = ["evt", "--once", "--rules"].map(str::to_owned).to_vec();
        args.extend([
            path("rules.json"),
            "--state".to_owned(),
            path("alerts.db"),
            "--to".to_owned(),
            path("out.jsonl"),
        ]);
        args.extend(["--dlq".to_owned(), path("letters.jsonl")]);
        args.extend(self.files.iter().map(|name| path(name)));
        let clock = Clock::Simulated(self.clock.clone());
        let run = Run {
            io: Io::Simulated { stdin: Pipe::default(), stdout: Pipe::default(), disk, lag: self.lag },
            console: Console::new("evt-alert", Colour::Off).captured(&self.console),
            stop: stop.clone(),
            pool: TaskPool::simulated(self.lag as usize % 3 + 1),
            batch_max: BATCH_MAX,
            ..Run::unwatched("evt-alert", clock)
        };
        alert::Args::try_parse_from(args).expect("flags").stage(&Rc::new(run))
    }

    /// Runs until it ends or its fate comes; returns whether it ended at the end of its inputs.
    fn run(&self, fate: Fate) -> bool {
        let stop = Stop::never(&Clock::Simulated(self.clock.clone()));
        let disk = match fate {
            Fate::Fails(after) => Disk::failing(DiskFault { after, torn: 3, errno: Errno::NOSPC, is_lasting: true }),
            _ => Disk::default(),
        };
        let Ok(mut stage) = self.open(disk, &stop) else { return false };
        for step in 0.. {
            assert!(step < STEPS_MAX, "evt-alert hangs");
            match fate {
                Fate::Killed(after) if step == after => return false,
                Fate::Stopped(after) if step == after => stop.raise(15),
                _ => {}
            }
            self.clock.advance(Duration::from_millis(1));
            match stage.step() {
                Ok(StepResult::Ready) => {}
                Ok(StepResult::Waiting(_)) => self.clock.advance(Duration::from_millis(50)),
                Ok(StepResult::Ended(_)) => return stop.signal().is_none(),
                Err(error) => {
                    let is_disk = matches!(fate, Fate::Fails(_));
                    assert!(is_disk, "{error}: {}", self.console.lock().expect("a console"));
                    return false;
                }
            }
        }
        false
    }
}

/// Tells one story without disturbances and with some.
pub fn simulate(seed: u64, dir: &Path) {
    let mut random = Random::at(seed, 2);
    let story = Story::random(&mut random);
    let files: Vec<_> =
        FILES.into_iter().zip(&story.files).filter(|(_, lines)| !lines.is_empty()).map(|one| one.0).collect();
    let run = |dir: &Path, fate: Fate, lag: u32| {
        let clock = SimulatedClock::at(NOW);
        AlertRun { dir, files: files.clone(), clock, console: Arc::default(), lag }.run(fate)
    };
    let calm_dir = dir.join("calm");
    let (expected, _) =
        story.tell(&calm_dir, |visit| assert!(run(&calm_dir, Fate::Ends, 0), "seed {seed}: visit {visit}"));
    let wild_dir = dir.join("wild");
    let (found, _) = story.tell(&wild_dir, |visit| {
        for _ in 0..random.below(4) {
            let fate = match random.below(3) {
                0 => Fate::Killed(random.mostly_small(200)),
                1 => Fate::Stopped(random.mostly_small(200)),
                _ => Fate::Fails(1 + random.below(12)),
            };
            run(&wild_dir, fate, random.below(6) as u32);
        }
        assert!(run(&wild_dir, Fate::Ends, random.below(6) as u32), "seed {seed}: visit {visit} does not end");
    });
    let text = |alerts: &BTreeMap<String, Value>| alerts.values().map(|row| format!("{row}\n")).collect::<String>();
    assert!(found == expected, "seed {seed}: {}instead of {}", text(&found), text(&expected));
}
