//! evt-view --sort, and --follow --tail.

use crate::broker::Bench;
use crate::harness::{Dir, eventually};
use rdkafka::producer::BaseRecord;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::{Child, Command, Stdio};

const TIMES: [&str; 7] = ["12", "null", "3.5", "\"40\"", "-1", "\"n/a\"", "3.5"];

/// Events `n` with these values of `ms`, and one that has none.
fn events() -> String {
    let line = |(n, ms): (usize, &str)| {
        format!("{{\"time\":\"2024-01-15T10:00:{n:02}Z\",\"n\":{n},\"ms\":{ms},\"u\":\"u{}\"}}\n", n % 2)
    };
    TIMES.into_iter().enumerate().map(line).collect()
}

fn shown(dir: &Dir, more: &[&str]) -> String {
    let args = [&["e.jsonl", "--time", "time", "-q", "-o", "csv", "--columns", "n"][..], more].concat();
    let run = dir.run("evt-view", &args).succeeds();
    run.text().lines().skip(1).collect::<Vec<_>>().join(" ")
}

#[test]
fn rows_are_sorted_by_a_column_or_a_path_with_null_last() {
    let dir = Dir::new("sort");
    dir.write("e.jsonl", events());
    assert_eq!(shown(&dir, &["--sort", "ms"]), "4 2 6 0 3 5 1");
    assert_eq!(shown(&dir, &["--sort", "-ms"]), "3 0 2 6 4 5 1");
    assert_eq!(shown(&dir, &["--sort", "properties.u"]), "0 2 4 6 1 3 5");
    assert_eq!(shown(&dir, &["--sort", "-event_time"]), "6 5 4 3 2 1 0");
    assert_eq!(shown(&dir, &["--sort=-offset"]), "6 5 4 3 2 1 0");
    // CSV has only texts: those are numbers that an expression reads as numbers.
    let texts = ["10", "\" 3\"", "+5", ".5", "007", "-1", "9", "1e1", "n/a", "0x4", ""];
    dir.write("texts.csv", texts.map(|text| format!("{text},x\n")).concat());
    let order = |key: &str| {
        let line = format!("evt-view texts.csv --header v,x --time arrival {key} --columns offset -q -o csv");
        dir.shell(&line).succeeds().text().lines().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order("--sort v"), "6 4 2 3 5 7 1 8 10 9 11");
    assert_eq!(order("--let 'n=try_cast(v as double)' --sort n --where 'n is not null'"), "6 4 2 3 5 7 1 8");
    // Integers that are one double.
    let ids = ["1234567890123456789", "1234567890123456788", "\"1234567890123456790\"", "1e18", "\"-inf\"", "5"];
    dir.write("ids.jsonl", ids.map(|id| format!("{{\"id\":{id}}}\n")).concat());
    let sorted =
        dir.run("evt-view", &["ids.jsonl", "--sort", "id", "--columns", "offset", "-q", "-o", "jsonl"]).succeeds();
    let order: Vec<_> = sorted.rows().iter().map(|row| row["offset"].to_string()).collect();
    assert_eq!(order, ["6", "4", "2", "1", "3", "5"]);
    // The order is that of all rows, and the law of counts holds.
    assert_eq!(shown(&dir, &["--sort", "-ms", "--head", "3"]), "3 0 2");
    assert_eq!(shown(&dir, &["--sort", "-ms", "--tail", "2"]), "5 1");
    assert_eq!(shown(&dir, &["--sort", "-ms", "--head", "3", "--tail", "1"]), "2");
    assert_eq!(shown(&dir, &["--sort", "ms", "--where", "u = 'u0'", "--head", "9"]), "4 2 6 0");
    let args = ["e.jsonl", "--time", "time", "--sort", "-ms", "--where", "u = 'u0'", "--head", "3"];
    let run = dir.run("evt-view", &args).succeeds();
    assert!(run.stderr().contains("in 7 out 3 filtered 4"), "{run}");
}

#[test]
fn a_name_that_cannot_be_sorted_by_is_refused() {
    let dir = Dir::new("sort-refused");
    dir.write("e.jsonl", events());
    dir.shell("evt-window e.jsonl --time time --size 1s --out-of-orderness all -q --to m.jsonl").succeeds();
    for (args, said) in [
        (["e.jsonl", "--sort", "n,ms"], "--sort: expected one name, found n,ms"),
        (["e.jsonl", "--sort", "offset.x"], "--sort offset.x: offset is a column without members"),
        (["e.jsonl", "--sort", ""], "--sort: expected a name"),
        (["m.jsonl", "--sort", "rows.x"], "rows is a column without members"),
    ] {
        let run = dir.run("evt-view", &args).ends_with(2);
        assert!(run.stderr().contains(said), "{run}");
    }
    for flag in ["--follow", "--describe", "--summary"] {
        dir.run("evt-view", &["e.jsonl", "--sort", "n", flag]).ends_with(2);
    }
}

#[test]
fn the_first_rows_of_many_are_those_of_the_whole_order() {
    let dir = Dir::new("sort-many");
    let values: Vec<u64> = (0..40_000u64).map(|n| (n * 7_919) % 40_009).collect();
    dir.write(
        "e.jsonl",
        values.iter().map(|v| format!("{{\"time\":\"2024-01-15T10:00:00Z\",\"n\":{v}}}\n")).collect::<String>(),
    );
    let mut sorted = values.clone();
    sorted.sort_unstable();
    let expected = |rows: &[u64]| rows.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(shown(&dir, &["--sort", "n", "--head", "50"]), expected(&sorted[..50]));
    assert!(shown(&dir, &["--sort", "n"]) == expected(&sorted));
}

/// evt-view, whose rows and messages go to files.
struct Viewer {
    dir: Dir,
    run: Child,
}

impl Viewer {
    fn start(dir: Dir, mut command: Command) -> Self {
        let file = |name: &str| File::create(dir.path(name)).expect("writable");
        let (rows, said) = (file("rows"), file("said"));
        let run = command.stdin(Stdio::null()).stdout(rows).stderr(said).spawn().expect("it starts");
        Self { dir, run }
    }

    fn shows(&self, expected: &[u64]) {
        let text: String = expected.iter().map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let rows = || String::from_utf8(self.dir.bytes("rows")).expect("text");
        eventually("it shows the rows", || rows().len() >= text.len());
        assert_eq!(rows(), text);
    }

    fn ends(mut self) -> String {
        kill_process(Pid::from_child(&self.run), Signal::TERM).expect("it runs");
        self.run.wait().expect("it is ours");
        String::from_utf8(self.dir.bytes("said")).expect("text")
    }
}

fn numbered(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{{\"time\":\"2024-01-15T10:00:00Z\",\"n\":{n}}}\n")).collect()
}

#[test]
fn the_last_rows_of_a_growing_file_come_first_and_new_rows_after_them() {
    let dir = Dir::new("follow-tail");
    dir.write("e.jsonl", numbered(0..30_000));
    let args = [
        "e.jsonl",
        "--follow",
        "--tail",
        "3",
        "--time",
        "time",
        "--columns",
        "n",
        "-o",
        "jsonl",
        "--where",
        "n != 29998",
    ];
    let command = dir.command("evt-view", &args);
    let viewer = Viewer::start(dir, command);
    viewer.shows(&[29_996, 29_997, 29_999]);
    let mut file = OpenOptions::new().append(true).open(viewer.dir.path("e.jsonl")).expect("writable");
    file.write_all(numbered(30_000..30_002).as_bytes()).expect("writable");
    viewer.shows(&[29_996, 29_997, 29_999, 30_000, 30_001]);
    let said = viewer.ends();
    assert!(said.contains("in 30002 out 5 filtered 29997"), "{said}");
}

#[test]
fn the_last_rows_of_a_followed_topic_are_those_at_its_end() {
    let Some(bench) = Bench::new("follow-tail-topic") else { return };
    let topic = bench.topic("rows", 1, &[]);
    let put = |numbers: std::ops::Range<u64>| {
        let lines: Vec<String> = numbered(numbers).lines().map(str::to_owned).collect();
        bench.produce(lines.iter().map(|line| BaseRecord::<[u8], [u8]>::to(&topic).payload(line.as_bytes())));
    };
    put(0..20_000);
    let uri = bench.uri(&topic, "");
    let args = [uri.as_str(), "--follow", "--tail", "2", "--time", "time", "--columns", "n", "-o", "jsonl"];
    let viewer = Viewer::start(Dir::new("follow-tail-view"), bench.dir.command("evt-view", &args));
    viewer.shows(&[19_998, 19_999]);
    put(20_000..20_001);
    viewer.shows(&[19_998, 19_999, 20_000]);
    viewer.ends();
}
