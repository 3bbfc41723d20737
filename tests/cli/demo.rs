//! The incident that `scripts/demo --incident` shows.

use crate::harness::{Dir, ROOT};

#[test]
fn the_incident_of_the_demo_ends_with_the_right_metrics() {
    let dir = Dir::new("incident");
    dir.shell(&format!("ln -s {ROOT}/examples examples")).succeeds();
    // It compares the status of each command with the expected one.
    let run = dir.shell(&format!("{ROOT}/scripts/demo.d/incident.sh")).succeeds();
    println!("{run}");
}
