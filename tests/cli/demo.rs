//! What `scripts/demo --incident` and `scripts/demo --lake` show.

use crate::harness::{Dir, ROOT, python};

#[test]
fn the_incident_of_the_demo_ends_with_the_right_metrics() {
    let dir = Dir::new("incident");
    dir.shell(&format!("ln -s {ROOT}/examples examples")).succeeds();
    // The script compares the status of each command with the expected one.
    let run = dir.shell(&format!("unset ${{!EVT_@}}; {ROOT}/scripts/demo.d/incident.sh")).succeeds();
    let shown = String::from_utf8_lossy(run.stdout());
    for line in ["firing    revenue_is_unusual  2026-01-01 02:10:00Z", "36\n", "All is repaired"] {
        assert!(shown.contains(line), "{line}: {run}");
    }
    for line in [
        "cells: 18 corrected, 0 inserted, 0 retracted, 144 right",
        "cells: 0 corrected, 2 inserted, 0 retracted, 7 right",
        "all 28800 records are accounted for (28800 in B)",
        "all 432 results are accounted for (432 in B)",
    ] {
        assert!(run.stderr().contains(line), "{line}: {run}");
    }
}

#[test]
fn the_lake_of_the_demo_has_the_revenue_of_all_events_after_the_correction() {
    let Some(python) = python() else { return };
    let dir = Dir::new("demo-lake");
    let run = dir.shell(&format!("unset ${{!EVT_@}}; PYTHON={python} {ROOT}/scripts/demo.d/lake.sh")).succeeds();
    let shown = String::from_utf8_lossy(run.stdout());
    let of_day = |operation: &str| -> f64 {
        let line = shown.lines().find_map(|line| line.strip_prefix(&format!("{operation} 2026-01-01 ")));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{operation}: {run}"))
    };
    // What evt-window computes of all events at once.
    let all = "cd demo/iceberg; evt-ingest shop.jsonl --time client_timestamp -q --dlq null: \
               | evt-validate --schemas SCHEMAS --dedup 1h -q --dlq null: | evt-window -m metrics.toml -q \
               --out-of-orderness all --until 2026-01-02T00:00:00Z -o jsonl";
    let rows = dir.shell(&all.replace("SCHEMAS", &format!("{ROOT}/examples/schemas"))).succeeds().rows();
    let revenue: f64 = rows.iter().filter_map(|row| row["value"].as_f64()).sum();
    assert!((of_day("overwrite") - revenue).abs() < 0.01 && of_day("append") < revenue - 100.0, "{revenue}: {run}");
    assert!(shown.contains("\"snapshots\":1,"), "{run}");
}
