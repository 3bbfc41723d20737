//! Jobs with a checkpoint: pipes of one to four stages over files, and what their outputs hold.

use crate::events::Input;
use crate::pipeline::{Course, Disturbance, Ended, Pipeline, StageLine, Tool};
use evt_core::generate::random::Random;
use evt_run::clock::SimulatedClock;
use evt_run::storage::disk::Disk;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The number of files that a job reads.
pub const INPUTS: usize = 5;
/// The files that a job reads. A batch ends with each, so an epoch may end there.
const FILES: [&str; INPUTS] = ["a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl", "e.jsonl"];
/// The outputs that are files of lines.
const LINES: [&str; 4] = ["rows.jsonl", "rows.csv", "late.jsonl", "dead.jsonl"];
/// The beginning of the names of SQLite's files. SQLite syncs them itself.
pub const DATABASE: &str = "m.db";
/// The fields that differ between two right runs. The id of a letter derives from its origin, which is a path.
const CHANGING: [&str; 3] = ["letter_id", "failed_at", "ingested_at"];

/// The stages of a job.
#[derive(Clone, Copy, Debug)]
pub enum JobShape {
    /// evt-window.
    One,
    /// evt-ingest | evt-window.
    Two,
    /// evt-ingest | evt-validate | evt-window | evt-sink.
    Four,
}

impl JobShape {
    pub const ALL: [Self; 3] = [Self::One, Self::Two, Self::Four];

    pub fn tools(self) -> &'static [Tool] {
        match self {
            Self::One => &[Tool::Window],
            Self::Two => &[Tool::Ingest, Tool::Window],
            Self::Four => &[Tool::Ingest, Tool::Validate, Tool::Window, Tool::Sink],
        }
    }
}

/// A job in a directory of its own: its inputs are there, its checkpoint and its outputs in [`Job::root`].
pub struct Job {
    shape: JobShape,
    dir: PathBuf,
}

/// The sorted rows of each output.
pub type Rows = BTreeMap<&'static str, Vec<String>>;

impl Job {
    pub fn new(shape: JobShape, dir: PathBuf, inputs: &[Input]) -> Self {
        fs::create_dir_all(dir.join("root")).expect("a directory");
        for (file, input) in FILES.iter().zip(inputs) {
            fs::write(dir.join(file), &input.bytes).expect("a file");
        }
        Self { shape, dir }
    }

    /// The directory of everything that the job writes.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    fn stages(&self) -> Vec<StageLine> {
        let tools = self.shape.tools();
        let path = |name: &str| self.root().join(name).display().to_string();
        let line = |(at, tool): (usize, &Tool)| {
            let mut args = vec![tool.name().to_owned(), "-q".to_owned(), "--dlq".to_owned(), path("dead.jsonl")];
            let mut add = |more: &[&str]| args.extend(more.iter().map(|&arg| arg.to_owned()));
            if *tool == Tool::Window {
                add(&["--by", "event_type", "--agg", "sum(amount)", "--size", "1m", "--out-of-orderness", "20s"]);
                add(&["--at-end", "fire", "--late", &path("late.jsonl")]);
            }
            if *tool == Tool::Validate {
                add(&["--dedup", "1h"]);
            }
            if at + 1 == tools.len() {
                add(&["--to", &path("rows.jsonl"), "--to", &path("rows.csv")]);
                add(&["--to", &format!("parquet:{}", path("lake")), "--to", &format!("sqlite:{}", path(DATABASE))]);
            } else {
                add(&["-o", "frames"]);
            }
            if at == 0 {
                add(&["--checkpoint", &path("state"), "--checkpoint-every", "1us", "--keep-epochs", "1"]);
                // The origin is the same in every directory.
                FILES.iter().for_each(|file| add(&[&self.dir.join(file).display().to_string()]));
            }
            StageLine { tool: *tool, args }
        };
        tools.iter().enumerate().map(line).collect()
    }

    /// Runs the job once over all files, each stage with its disk, in an order of `random`; windows fire at the end.
    pub fn run(&self, disks: &[Disk], course: Course, clock: SimulatedClock, random: &mut Random) -> Ended {
        let pipeline = Pipeline::open(&self.stages(), &self.dir, disks, course, clock);
        pipeline.run_wildly(&Input::none(), Disturbance::None, random)
    }

    /// Returns what the outputs hold.
    pub fn rows(&self) -> Rows {
        let base = self.dir.display().to_string();
        let mut rows: Rows = LINES.iter().map(|name| (*name, lines(&self.root().join(name), &base))).collect();
        rows.insert("lake", lake(&self.root().join("lake")));
        rows.insert(DATABASE, database(&self.root().join(DATABASE)));
        rows.values_mut().for_each(|rows| rows.sort());
        rows
    }

    /// Returns the number of complete epochs whose entries are kept.
    pub fn epochs(&self) -> usize {
        let entries = fs::read_dir(self.root().join("state/log")).expect("a log");
        let text = entries.map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("an entry"));
        text.filter(|text| text.contains("\"complete\"")).count()
    }
}

/// Returns the lines of a file, without the paths of this job.
fn lines(path: &Path, base: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
        Ok(mut row) => {
            let fields = row.as_object_mut().expect("a row");
            CHANGING.iter().for_each(|name| drop(fields.remove(*name)));
            row.to_string().replace(base, "")
        }
        Err(_) => line.to_owned(),
    };
    text.lines().map(line).collect()
}

/// Returns the rows of all whole files of a lake.
fn lake(root: &Path) -> Vec<String> {
    let Ok(days) = fs::read_dir(root) else { return vec![] };
    let mut rows = vec![];
    for day in days.map(|day| day.expect("a day").path()).filter(|day| !day.ends_with(".evt")) {
        for file in fs::read_dir(&day).expect("a day").map(|file| file.expect("a file").path()) {
            if file.extension().is_none_or(|extension| extension != "parquet") {
                continue;
            }
            let reader = SerializedFileReader::new(File::open(&file).expect("a file")).expect("a whole file");
            let found = reader.get_row_iter(None).expect("rows");
            rows.extend(found.map(|row| row.expect("a row").to_string()));
        }
    }
    rows
}

/// Returns the rows of the table of metrics.
fn database(path: &Path) -> Vec<String> {
    let Ok(db) = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY) else {
        return vec![];
    };
    let sql = "SELECT metric_name, window_start, dimensions, value, rows, revision FROM aggregated_metrics";
    let Ok(mut statement) = db.prepare(sql) else { return vec![] };
    let row =
        |row: &rusqlite::Row<'_>| (0..6).map(|at| row.get(at)).collect::<Result<Vec<rusqlite::types::Value>, _>>();
    let rows = statement.query_map([], row).expect("rows");
    rows.map(|row| format!("{:?}", row.expect("a row"))).collect()
}
