//! The incident that `scripts/demo --incident` shows.

use crate::harness::{Dir, ROOT};

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
