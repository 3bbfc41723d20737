//! Sums of decimals: a property as it is written, a double by its shortest text.

use crate::alert::{self, event, once, rule, rules, series};
use crate::harness::{Dir, Draws, ask, python};
use serde_json::{Value, json};

const AGGREGATES: [&str; 6] = ["--agg", "a=sum(v)", "--agg", "b=avg(v)", "--agg", "c=stddev(v)"];

/// Lines with these values, one second after another.
fn lines(values: &[impl AsRef<str>]) -> String {
    let line = |(at, value): (usize, &_)| {
        let (minute, second) = (at / 60 % 60, at % 60);
        let value: &str = AsRef::as_ref(value);
        format!("{{\"t\":\"2026-05-01T{:02}:{minute:02}:{second:02}Z\",\"v\":{value}}}\n", at / 3600)
    };
    values.iter().enumerate().map(line).collect()
}

/// The values of sum, avg and stddev of a file as their texts.
fn found(dir: &Dir, file: &str, more: &[&str]) -> Vec<String> {
    let args = [&[file, "--time", "t", "--size", "all", "-q", "-o", "csv"][..], more].concat();
    texts(&dir.run("evt-window", &args).succeeds().text())
}

fn texts(csv: &str) -> Vec<String> {
    let mut lines = csv.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let at = lines.next().and_then(|head| head.iter().position(|name| name == "value")).expect("a column value");
    lines.map(|line| line[at].clone()).collect()
}

#[test]
fn ten_cents_and_twenty_are_thirty_in_every_format() {
    let dir = Dir::new("decimals");
    dir.write("numbers.jsonl", lines(&["0.10", "0.20"]));
    dir.write("texts.jsonl", lines(&["\"0.10\"", "\" .2\""]));
    dir.write("numbers.csv", "t,v\n2026-05-01T00:00:00Z,0.10\n2026-05-01T00:00:01Z,0.20\n");
    let mut files = ["numbers.jsonl", "texts.jsonl", "numbers.csv"].map(str::to_owned).to_vec();
    if let Some(python) = python() {
        let made = ask(&dir, &python, "decimals.py", &[]).text();
        files.extend(made.lines().map(str::to_owned));
        assert_eq!(files.len(), 3 + 10);
    }
    for file in files {
        // The root of 0.005.
        assert_eq!(found(&dir, &file, &AGGREGATES), ["0.3", "0.15", "0.07071067811865475"], "{file}");
    }
}

#[test]
fn a_property_is_the_decimal_that_is_written() {
    let dir = Dir::new("written");
    let of = |values: &[&str], aggregate: &str| {
        dir.write("numbers.jsonl", lines(values));
        let args = ["numbers.jsonl", "--time", "t", "--size", "all", "-o", "csv", "--agg", &format!("n={aggregate}")];
        let run = dir.run("evt-window", &args).succeeds();
        (texts(&run.text()).concat(), run.stderr().contains("were rounded, because numbers are doubles"))
    };
    let large = ["9007199254740993", "1"];
    let long = ["0.1000000000000000055511151", "-0.1"];
    let infinite = "1".repeat(10_000);
    let fraction = format!("0.{infinite}");
    for (values, aggregate, expected, is_told) in [
        (&large[..], "sum(v)", "9007199254740994", false),
        (&large, "sum(coalesce(v, 0))", "9007199254740994", false),
        (&large, "sum(v) filter (where t is not null)", "9007199254740994", false),
        (&large, "sum(cast(v as double))", "9007199254740992", true),
        (&large, "sum(v + 0)", "9007199254740992", true),
        // The double nearest to 18014398509481986.
        (&["9007199254740993"; 2], "sum(v)", "18014398509481984", false),
        (&large, "max(v)", "9007199254740992", true),
        (&long, "sum(v)", "5.5511151e-18", false),
        (&long, "avg(v)", "2.77555755e-18", false),
        (&["0.1", "0.2"], "sum(v * 3)", "0.9000000000000001", false),
        (&["0.30000000000000004", "-0.3"], "sum(v)", "4e-17", false),
        // Beyond 38 digits a number is its double.
        (&[&fraction, "0"], "sum(v)", "0.1111111111111111", false),
        (&[&fraction, "-0.1111111111111111"], "sum(v)", "0", false),
        (&["1e-400", "9007199254740992", "1"], "sum(v)", "9007199254740994", false),
    ] {
        assert_eq!(of(values, aggregate), (expected.to_owned(), is_told), "{aggregate}: {values:?}");
    }
    dir.write("numbers.jsonl", lines(&["1e400", "1"]));
    let args = ["numbers.jsonl", "--time", "t", "--size", "all", "-q", "-o", "csv", "--agg", "sum(v)"];
    let run = dir.run("evt-window", &[&args[..], &["--dlq", "dead.jsonl"]].concat()).succeeds();
    assert_eq!(texts(&run.text()), ["1"], "{run}");
    assert!(dir.rows("dead.jsonl")[0]["error_message"].as_str().is_some_and(|why| why.contains("1e400")));
}

/// A day of prices, of which some have many zeros, so that their texts are read: in memory, in files, and in a
/// checkpoint that is continued twice.
#[test]
fn a_day_of_prices_has_no_tail_of_digits() {
    let dir = Dir::new("prices");
    let mut random = Draws::new();
    let cents: Vec<u64> = (0..86_400 / 4).map(|_| 1 + random.below(1_000_000)).collect();
    let price = |cents: &u64| {
        let zeros = if cents.is_multiple_of(16) { "00000000000000" } else { "" };
        format!("{}.{:02}{zeros}", cents / 100, cents % 100)
    };
    let prices: Vec<String> = cents.iter().map(price).collect();
    let all = lines(&prices);
    let ends = [0, 7_000, 15_000, cents.len()];
    let starts: Vec<usize> = std::iter::once(0).chain(all.match_indices('\n').map(|(at, _)| at + 1)).collect();
    for (part, end) in ends.windows(2).zip(1..) {
        dir.write(&format!("{end}.jsonl"), &all[starts[part[0]]..starts[part[1]]]);
    }
    dir.write("all.jsonl", &all);
    let (count, total): (u64, u64) = (cents.len() as u64, cents.iter().sum());
    let whole = format!("{}.{:02}", total / 100, total % 100);
    let whole = whole.trim_end_matches('0').trim_end_matches('.');
    // Both operands of the quotient are doubles, so it is rounded once.
    let mean = total as f64 / (100 * count) as f64;
    let spread = u128::from(count) * cents.iter().map(|cents| u128::from(cents * cents)).sum::<u128>()
        - u128::from(total).pow(2);
    let deviation = (spread as f64 / (10_000 * count * (count - 1)) as f64).sqrt();
    let check = |found: Vec<String>, what: &str| {
        assert_eq!(found[..2], [whole.to_owned(), mean.to_string()], "{what}, {random}");
        let ratio = found[2].parse::<f64>().expect("a number") / deviation;
        assert!((ratio - 1.0).abs() < 1e-14, "{what}: {} is not {deviation}, {random}", found[2]);
    };
    for memory in [&[][..], &["--memory", "8MiB"]] {
        check(found(&dir, "all.jsonl", &[&AGGREGATES[..], memory].concat()), &format!("{memory:?}"));
    }
    for end in 1..=3 {
        let at_end = if end < 3 { "hold" } else { "fire" };
        let file = format!("{end}.jsonl");
        let args = [
            &file,
            "--time",
            "t",
            "--size",
            "all",
            "-q",
            "--checkpoint",
            "state",
            "--to",
            "rows.csv",
            "--at-end",
            at_end,
        ];
        dir.run("evt-window", &[&args[..], &AGGREGATES].concat()).succeeds();
    }
    check(texts(&String::from_utf8(dir.bytes("rows.csv")).expect("text")), "in a checkpoint");
}

/// Many keys, whose rows wait for files of state: some batches have texts, others doubles.
#[test]
fn state_in_files_keeps_decimals() {
    let dir = Dir::new("decimals-in-files");
    let mut random = Draws::new();
    let values: Vec<String> = (0..60_000u32)
        .map(|at| match at / 5_000 % 2 == 1 && at % 7 == 0 {
            true => format!("{}.{:020}", random.below(1000), random.below(u64::MAX)),
            false => format!("{}.{:02}", random.below(1000), random.below(100)),
        })
        .collect();
    let line = |(at, value): (usize, &String)| {
        format!("{{\"t\":\"2026-05-01T00:00:00Z\",\"k\":\"{:0200}\",\"v\":{value}}}\n", at % 20_011)
    };
    dir.write("numbers.jsonl", values.iter().enumerate().map(line).collect::<String>());
    let rows = |memory: &[&str]| {
        let flags = ["numbers.jsonl", "--time", "t", "--size", "1h", "--by", "k", "-q", "-o", "csv", "--agg", "max(v)"];
        let run = dir.run("evt-window", &[&flags[..], &AGGREGATES, memory].concat()).succeeds();
        let mut rows: Vec<String> = run.text().lines().map(str::to_owned).collect();
        rows.sort();
        rows
    };
    let (whole, in_files) = (rows(&["--memory", "1GiB"]), rows(&["--memory", "8MiB"]));
    assert_eq!(whole.len(), 1 + 4 * 20_011);
    assert!(whole == in_files, "{random}");
}

#[test]
fn a_rule_compares_the_sum_of_decimals() {
    let dir = Dir::new("decimal-rule");
    let [dime, two] = ["0.10", "0.20"].map(|amount| {
        let (time, number) = (120.5, json!({"amount": 0}));
        vec![(time, event(time, &number).replace("\"amount\":0", &format!("\"amount\":{amount}")))]
    });
    dir.write("e.jsonl", alert::lines(&[series(0.0, 400.0, 1.0, &json!({})), dime, two]));
    let rule = |name: &str, aggregate: &str, threshold: f64| {
        rule(&json!({"name": name, "aggregate": aggregate, "condition": "eq", "threshold": threshold}))
    };
    dir.write("rules.json", rules(&[rule("sum", "sum(amount)", 0.3), rule("mean", "avg(amount)", 0.15)]));
    let run = once(&dir, &["e.jsonl", "-o", "jsonl"]).ends_with(1);
    let fired = |name: &str| run.rows().iter().any(|row: &Value| row["rule"] == name && row["state"] == "firing");
    assert!(fired("sum") && fired("mean"), "{run}");
}
