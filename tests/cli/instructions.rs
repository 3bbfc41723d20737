//! The instructions per event of `benches/instructions`: no figure rises without a recorded reason.

use crate::harness::{bin_dir, in_ci};
use std::path::Path;
use std::process::Command;

#[test]
fn no_job_takes_more_instructions_per_event_than_recorded() {
    if cfg!(debug_assertions) {
        eprintln!("skipped: the figures are those of optimised tools (cargo test --release)");
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(!in_ci(), "valgrind must be there in CI (Debian: apt-get install valgrind)");
        eprintln!("skipped: valgrind is not installed");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/run.py");
    let path = std::env::var("PATH").expect("a search path");
    let mut check = Command::new("python3");
    check.arg(script).arg("--check").env("PATH", format!("{}:{path}", bin_dir().display()));
    let done = check.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("Python starts");
    let [out, err] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(done.status.success(), "{out}{err}");
}
