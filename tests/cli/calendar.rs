//! Windows of days, weeks, months, quarters and years in time zones, compared with Python's zoneinfo and DuckDB.

use crate::backfill::{cells, run_live};
use crate::harness::{Dir, Draws, ask, python};
use serde_json::Value;
use std::fmt::Write as _;

/// Zones whose days begin at odd instants: they skip a day, midnight or half an hour, or repeat the last hour of a day.
const ZONES: [&str; 7] = [
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Europe/Zurich",
    "America/St_Johns",
    "UTC",
];
/// Instants (s) at which the clocks of one of these zones change.
const CHANGES: [i64; 8] = [
    1_325_239_200,  // Apia, 2011-12-30
    1_541_300_400,  // Sao Paulo, 2018-11-04
    1_318_042_800,  // near a change in Gaza
    1_696_692_600,  // Lord Howe, 2023-10
    1_711_846_800,  // Zurich, 2024-03-31
    1_162_092_660,  // St. John's, 2006-10-29
    1_704_067_200,  // 2024-01-01
    -1_230_768_000, // 1931-01-01
];

fn events() -> String {
    let mut draws = Draws::new();
    let mut lines = String::new();
    for n in 0..4_000 {
        let seconds = match n % 3 {
            0 => CHANGES[draws.below(8) as usize] + draws.below(4 * 86_400) as i64 - 2 * 86_400,
            1 => draws.below(130 * 365 * 86_400) as i64 - 69 * 365 * 86_400,
            _ => 1_700_000_000 + draws.below(60 * 86_400) as i64,
        };
        writeln!(lines, "{{\"t\":{seconds}}}").expect("a string");
    }
    lines
}

#[test]
fn periods_of_zones_with_odd_clocks_equal_those_of_zoneinfo_and_duckdb() {
    let Some(python) = python() else { return };
    let dir = Dir::new("calendar-oracle");
    dir.write("events.jsonl", events());
    let flags =
        "--time t --time-unit s --min-time 1900-01-01 --now 2040-01-01T00:00:00Z --out-of-orderness all -q -o jsonl";
    for zone in ZONES {
        for size in ["1d", "1w", "1mo", "1q", "1y"] {
            let line = format!("evt-window events.jsonl {flags} --size {size} --window-zone {zone} > rows.jsonl");
            dir.shell(&line).succeeds();
            let said = ask(&dir, &python, "periods.py", &["events.jsonl", "rows.jsonl", size, zone]);
            assert!(said.text().starts_with("4000"), "{zone} {size}: {said}");
        }
    }
}

#[test]
fn months_quarters_and_years_need_no_zone() {
    let dir = Dir::new("calendar-utc");
    let times = ["2024-02-29T23:59:59.999999Z", "2024-03-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"];
    dir.write("e.jsonl", times.iter().map(|time| format!("{{\"t\":\"{time}\"}}\n")).collect::<String>());
    let spans = |more: &[&str]| {
        let flags = [
            "e.jsonl",
            "--time",
            "t",
            "--now",
            "9999-12-31T23:59:59Z",
            "--out-of-orderness",
            "all",
            "-q",
            "-o",
            "jsonl",
        ];
        let rows = dir.run("evt-window", &[&flags[..], more].concat()).succeeds().rows();
        let day = |row: &Value, name: &str| row[name].as_str().expect("an instant").split_at(10).0.to_owned();
        rows.iter().map(|row| format!("{} {}", day(row, "window_start"), day(row, "window_end"))).collect::<Vec<_>>()
    };
    let last = "9999-12-01 9999-12-31";
    assert_eq!(
        spans(&["--size", "1mo"]),
        ["0001-01-01 0001-02-01", "2024-02-01 2024-03-01", "2024-03-01 2024-04-01", last]
    );
    assert_eq!(spans(&["--size", "1q"]), ["0001-01-01 0001-04-01", "2024-01-01 2024-04-01", "9999-10-01 9999-12-31"]);
    assert_eq!(spans(&["--size", "1y"]), ["0001-01-01 0002-01-01", "2024-01-01 2025-01-01", "9999-01-01 9999-12-31"]);
    // East and west of Greenwich the first and the last day are cut where the calendar ends.
    let days = ["--size", "1d", "--window-zone", "Asia/Tokyo"];
    assert_eq!(spans(&days)[..1], ["0001-01-01 0001-01-01"]);
    assert_eq!(spans(&["--size", "1y", "--window-zone", "America/New_York"]).last().unwrap(), "9999-01-01 9999-12-31");
}

#[test]
fn a_size_that_is_no_unit_of_the_calendar_is_refused_with_a_zone() {
    let dir = Dir::new("calendar-refused");
    dir.write("e.jsonl", "{\"t\":\"2024-01-01T00:00:00Z\"}\n");
    let refused = |status: i32, more: &[&str]| {
        let run = dir.run("evt-window", &[&["e.jsonl", "--time", "t", "-q"][..], more].concat()).ends_with(status);
        run.stderr().to_owned()
    };
    let zone = ["--window-zone", "Europe/Zurich"];
    for size in ["1h", "24h", "2d", "7d", "all"] {
        let said = refused(2, &[&["--size", size][..], &zone].concat());
        assert!(said.contains(&format!("expected size 1d, 1w, 1mo, 1q or 1y, found {size}")), "{said}");
    }
    for (flag, value) in [("--slide", "1h"), ("--gap", "1h"), ("--align", "1h")] {
        let said = refused(2, &["--size", "1mo", flag, value]);
        assert!(said.contains("cannot be used with slide, gap or align"), "{said}");
    }
    assert!(refused(2, &[&["--gap", "1h"][..], &zone].concat()).contains("zone Europe/Zurich: expected size"));
    let said = refused(2, &["--size", "1d", "--window-zone", "Europe/Bern"]);
    assert!(said.contains("found 'Europe/Bern'; did you mean Europe/Berlin?"), "{said}");
    assert!(refused(2, &["--size", "2mo"]).contains("1mo, 1q, 1y or all, found '2mo'"));
    dir.write("m.toml", "[[metric]]\nname = 'n'\nsize = '1h'\nzone = 'Europe/Zurich'\n");
    let said = refused(78, &["-m", "m.toml"]);
    assert!(said.contains("m.toml: line 1: metric 'n': zone Europe/Zurich: expected size 1d, 1w"), "{said}");
    assert!(refused(2, &[&["-m", "m.toml"][..], &zone].concat()).contains("--metrics FILE cannot be used with"));
}

const METRICS: &str = "[defaults]\nzone = 'Europe/Zurich'\nby = ['k']\nlateness = '2h'\n\
    [[metric]]\nname = 'days'\nsize = '1d'\n[[metric]]\nname = 'months'\naggregate = 'sum(v)'\nsize = '1mo'\n\
    [[metric]]\nname = 'hours'\nsize = '1h'\n";

/// Events from March to June 2024, in order but for one in ten that is up to three days late.
fn spring(draws: &mut Draws) -> Vec<String> {
    let event = |n: u64, draws: &mut Draws| {
        let late = if draws.below(10) == 0 { draws.below(3 * 86_400) } else { 0 };
        let seconds = 1_709_300_000 + n * 9_000 - late;
        format!("{{\"t\":{seconds},\"k\":\"{}\",\"v\":{}}}\n", draws.below(3), draws.below(9))
    };
    (0..1_100).map(|n| event(n, draws)).collect()
}

#[test]
fn local_days_and_months_go_on_in_a_checkpoint_and_in_files() {
    let dir = Dir::new("calendar-checkpoint");
    let lines = spring(&mut Draws::new());
    dir.write("m.toml", METRICS);
    dir.write("all.jsonl", lines.concat());
    let flags = "--time t --time-unit s --min-time 1900-01-01 --origin o -q -m m.toml --out-of-orderness 1h";
    for (name, more) in [("whole", ""), ("memory", "--memory 8MiB"), ("final", "--emit final")] {
        dir.shell(&format!("evt-window all.jsonl {flags} {more} --late {name}.late.jsonl --to sqlite:{name}.db"))
            .succeeds();
    }
    let whole = cells(&dir, "sqlite:whole.db");
    assert!(whole.len() > 400, "{}", whole.len());
    assert_eq!(cells(&dir, "sqlite:memory.db"), whole);
    assert_eq!(cells(&dir, "sqlite:final.db"), whole);
    for (n, part) in lines.chunks(140).enumerate() {
        dir.write(&format!("{n}.jsonl"), part.concat());
        let at_end = if (n + 1) * 140 >= lines.len() { "fire" } else { "hold" };
        let line = format!(
            "evt-window {n}.jsonl {flags} --checkpoint state --at-end {at_end} --late null: --to sqlite:parts.db"
        );
        dir.shell(&line).succeeds();
    }
    assert_eq!(cells(&dir, "sqlite:parts.db"), whole);
    dir.write("m.toml", METRICS.replace("Europe/Zurich", "Europe/Athens"));
    // The windows of another zone are those of another metric.
    let line = format!("evt-window 0.jsonl {flags} --checkpoint state --late null: --to sqlite:parts.db");
    let said = dir.shell(&line).stderr().to_owned();
    assert!(said.contains("days"), "{said}");
}

#[test]
fn corrected_days_and_months_equal_those_of_one_run() {
    let dir = Dir::live("calendar-backfill");
    let lines = spring(&mut Draws::of(2));
    dir.write("m.toml", METRICS);
    dir.write("all.jsonl", lines.concat());
    dir.write(
        "some.jsonl",
        lines.iter().enumerate().filter(|(n, _)| n % 7 != 3).map(|(_, line)| line.as_str()).collect::<String>(),
    );
    let input = |file: &str| format!("{file} --time t --time-unit s --min-time 1900-01-01 --origin o");
    for store in ["sqlite:m.db", "parquet:lake"] {
        run_live(&dir, &input("some.jsonl"), "m.toml", store);
        run_live(&dir, &input("all.jsonl"), "m.toml", &store.replace('m', "n").replace("lake", "right"));
        let right = cells(&dir, &store.replace('m', "n").replace("lake", "right"));
        let correct = |more: &str| {
            let flags = format!("{} -q -m m.toml --to '{store}' {more}", input("all.jsonl"));
            dir.shell(&format!("evt-backfill {flags}"))
        };
        assert_ne!(cells(&dir, store), right, "{store}");
        // Only the days and months that lie whole in April, by the clocks of Zurich.
        correct("--since 2024-03-31T22:00:00Z --until 2024-04-30T22:00:00Z").succeeds();
        let now = cells(&dir, store);
        let is_april = |key: &str| key.contains(" 2024-03-31T22:00:00.000000Z 2024-04-30T22:00:00.000000Z");
        assert!(
            right
                .iter()
                .filter(|(key, _)| key.starts_with("months") && is_april(key))
                .all(|(key, cell)| now[key] == *cell)
        );
        assert_ne!(now, right);
        correct("").succeeds();
        assert_eq!(cells(&dir, store), right, "{store}");
    }
}

/// Days whose midnight the clocks skip: a date is the first instant of its day in every form, and by every flag.
#[test]
fn a_date_without_a_midnight_is_the_first_instant_of_its_day_in_every_format() {
    let dir = Dir::new("calendar-dates");
    for (zone, date, first) in [
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00"),
        ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00:00"),
        ("Asia/Beirut", "2024-03-31", "2024-03-30T22:00:00"),
        ("America/Asuncion", "2024-10-06", "2024-10-06T04:00:00"),
        ("America/Havana", "2025-03-09", "2025-03-09T05:00:00"),
        ("America/Santiago", "2024-09-08", "2024-09-08T04:00:00"),
    ] {
        let [year, month, day] = date.split('-').collect::<Vec<_>>()[..] else { panic!("{date}") };
        let ways = [
            (date.to_owned(), None),
            (date.to_owned(), Some("%F")),
            (format!("{day}/{month}/{year}"), Some("%d/%m/%Y")),
            (format!("{month}/{day}/{}", &year[2..]), Some("%x")),
            (format!("{year}{month}{day}"), Some("%Y%m%d")),
            (format!("the {day}. of {month}, {year}"), Some("the %d. of %m, %Y")),
        ];
        for (text, format) in ways {
            dir.write("d.csv", format!("t,k\n\"{text}\",1\n"));
            dir.write("d.jsonl", format!("{{\"t\":\"{text}\",\"k\":1}}\n"));
            let format = format.map_or_else(String::new, |format| format!("--time-format '{format}'"));
            for file in ["d.csv", "d.jsonl"] {
                let flags = format!("{file} --time t --time-zone {zone} {format} -q -o jsonl");
                let run = dir.shell(&format!("evt-ingest {flags} --dlq null:")).succeeds();
                let times: Vec<Value> = run.rows().iter().map(|row| row["event_time"].clone()).collect();
                assert_eq!(times, [format!("{first}.000000Z")], "{zone} {file} {format}: {run}");
                let run = dir.shell(&format!("evt-view {flags} --since {date}")).succeeds();
                assert_eq!(run.rows().len(), 1, "{zone} {file} {format}: {run}");
            }
        }
        dir.write("hour.csv", format!("t,k\n{date} 00,1\n"));
        let run =
            dir.shell(&format!("evt-ingest hour.csv --time t --time-zone {zone} --time-format '%F %H'")).ends_with(2);
        assert!(run.stderr().contains("this time does not exist in"), "{zone}: {run}");
    }
}
