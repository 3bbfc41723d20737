//! Charts of metrics: --plot in a terminal, and SVG.

use crate::harness::{Dir, Run};
use std::fmt::Write;

/// Makes metrics of two days: requests per hour by status, with a gap of three hours, and a second metric.
fn metrics(dir: &Dir) {
    let mut lines = String::new();
    for hour in (0..48).filter(|hour| !(20..23).contains(hour)) {
        for n in 0..(5 + hour % 24) {
            let status = if n % 5 == 0 { 500 } else { 200 };
            let (day, hour) = (15 + hour / 24, hour % 24);
            writeln!(lines, "{{\"t\":\"2024-01-{day}T{hour:02}:10:00Z\",\"status\":{status},\"ms\":{n}}}")
                .expect("a string");
        }
    }
    dir.write("e.jsonl", lines);
    let metrics = "[defaults]\nsize = '1h'\n[[metric]]\nname = 'requests'\nby = ['status']\n\
                   [[metric]]\nname = 'latency'\naggregate = 'max(ms)'\n";
    dir.write("m.toml", metrics);
    dir.shell("evt-window e.jsonl --time t -m m.toml --out-of-orderness all -q --to m.frames").succeeds();
}

fn view(dir: &Dir, args: &[&str]) -> Run {
    dir.run("evt-view", args)
}

#[test]
fn each_metric_is_drawn_with_a_line_for_each_combination_of_dimensions() {
    let dir = Dir::new("plot");
    metrics(&dir);
    let run = view(&dir, &["m.frames", "--plot"]).succeeds();
    let text = run.text();
    for part in ["requests, windows of 1h", "latency, windows of 1h", "status=200 ", "status=500 ", "max 22", "16 Jan"]
    {
        assert!(text.contains(part), "{part}: {run}");
    }
    assert!(text.ends_with("2024-01-15 00:00 to 2024-01-17 00:00 UTC\n"), "{run}");
    assert!(run.stderr().contains("in 135 out 135"), "{run}");
    let run = view(&dir, &["m.frames", "--plot", "--where", "metric_name = 'latency'", "--to", "p.txt"]).succeeds();
    assert!(run.stderr().contains("in 135 out 45 filtered 90"), "{run}");
    assert!(!String::from_utf8(dir.bytes("p.txt")).expect("text").contains("status"));
}

#[test]
fn a_chart_in_svg_is_a_document_that_xml_readers_accept() {
    let dir = Dir::new("plot-svg");
    metrics(&dir);
    view(&dir, &["m.frames", "--to", "chart.svg"]).succeeds();
    let chart = dir.bytes("chart.svg");
    for flags in [&["--plot", "-o", "svg"][..], &["-o", "svg"]] {
        let run = view(&dir, &[&["m.frames"], flags].concat()).succeeds();
        assert!(run.stdout() == chart, "{flags:?}");
    }
    view(&dir, &["m.frames", "--plot", "--to", "other.svg"]).succeeds();
    assert!(dir.bytes("other.svg") == chart);
    dir.shell("evt-window e.jsonl --time t -m m.toml --out-of-orderness all -q --to direct.svg").succeeds();
    assert!(dir.bytes("direct.svg") == chart, "a chart is that of its rows, whatever wrote it");
    let text = String::from_utf8(chart).expect("text");
    for part in [
        "<svg width=\"800\"",
        "prefers-color-scheme: dark",
        "status=200",
        "16 Jan",
        "2024-01-15 00:00 to 2024-01-17 00:00 UTC",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The gap of three hours parts each line.
    assert_eq!(
        text.matches("<polyline fill=\"none\" opacity=\"1\" stroke=\"#0969DA\" stroke-width=\"2\"").count(),
        4,
        "{text}"
    );
    if let Some(python) = crate::harness::python() {
        let program = "import sys, xml.etree.ElementTree as t; print(t.parse(sys.argv[1]).getroot().tag)";
        let said = dir.run(&python, &["-c", program, "chart.svg"]).succeeds();
        assert_eq!(said.text().trim(), "{http://www.w3.org/2000/svg}svg");
    }
}

#[test]
fn infinities_and_nan_are_stated_beside_a_line_that_cannot_show_them() {
    let dir = Dir::new("plot-infinite");
    let events = [("00", 1, 1), ("01", 2, 0), ("02", 5, 2), ("03", 0, 0), ("04", -1, 0)];
    let line = |(hour, v, w)| format!("{{\"t\":\"2024-01-15T{hour}:00:00Z\",\"v\":{v},\"w\":{w}}}\n");
    dir.write("e.jsonl", events.map(line).concat());
    for (hours, numbers) in [
        (5, "min -Infinity  max NaN  last -Infinity"),
        (4, "min 1  max NaN  last NaN"),
        (3, "min 1  max Infinity  last 2.5"),
    ] {
        dir.shell(&format!(
            "head -{hours} e.jsonl | evt-window -q --time t --size 1h --agg 'x=max(v / w)' --to m{hours}.jsonl"
        ))
        .succeeds();
        let run = view(&dir, &["-q", &format!("m{hours}.jsonl"), "--plot"]).succeeds();
        assert!(run.text().lines().any(|line| line.ends_with(numbers)), "{numbers}: {run}");
        // The axis is that of the finite values.
        assert!(run.text().contains("      2.5 ┤"), "{run}");
    }
    let chart = view(&dir, &["-q", "m4.jsonl", "-o", "svg"]).succeeds();
    assert!(chart.text().contains("last NaN") && chart.text().matches("NaN").count() == 1, "{chart}");
}

#[test]
fn rows_that_are_no_metrics_cannot_be_drawn() {
    let dir = Dir::new("plot-refused");
    metrics(&dir);
    for (args, said) in [
        (
            &["e.jsonl", "--plot"][..],
            "--plot draws rows of kind metric over time, found event; make metrics with evt-window",
        ),
        (&["e.jsonl", "--to", "x.svg"], "svg draws rows of kind metric over time, found event"),
        (&["m.frames", "-o", "svg", "--columns", "value"], "svg draws metrics, whose columns cannot be chosen"),
        (&["m.frames", "--plot", "-o", "jsonl"], "--plot requires -o table, or only outputs in -o svg"),
    ] {
        let run = view(&dir, args).ends_with(2);
        assert!(run.stderr().contains(said), "{run}");
    }
    assert!(!dir.path("x.svg").exists());
    for flag in ["--describe", "--summary", "--columns=value"] {
        view(&dir, &["m.frames", "--plot", flag]).ends_with(2);
    }
    dir.write("none.jsonl", "");
    let run = view(&dir, &["none.jsonl", "--plot"]);
    assert!([0, 2].contains(&run.status()), "{run}");
}

#[test]
fn dimensions_cannot_control_the_terminal_or_break_the_document() {
    let dir = Dir::new("plot-names");
    dir.write("e.jsonl", "{\"t\":\"2024-01-15T00:00:00Z\",\"k\":\"<a>&\\u001b[2J\\u0000\\u202e\"}\n");
    dir.shell("evt-window e.jsonl --time t --size 1h --by k --out-of-orderness all -q --to m.frames").succeeds();
    let text = view(&dir, &["m.frames", "--plot"]).succeeds();
    assert!(text.text().contains("k=<a>&␛[2J␀\u{fffd}"), "{text}");
    let chart = view(&dir, &["m.frames", "-o", "svg"]).succeeds();
    assert!(chart.text().contains("k=&lt;a&gt;&amp;␛[2J␀\u{fffd}"), "{chart}");
}
