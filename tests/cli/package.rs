//! The packages: what `scripts/package` makes is whole, installs into an empty tree and runs from there.

use crate::harness::{Dir, ROOT, Run, bin_dir, in_ci, row_tools};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Whether this machine has Debian's tools; CI must.
fn has_dpkg() -> bool {
    let found = ["dpkg-deb", "dpkg-shlibdeps"].iter().all(|tool| Command::new(tool).arg("--version").output().is_ok());
    if !found {
        assert!(!in_ci(), "dpkg-dev must be installed in CI");
        eprintln!("skipped: dpkg-deb or dpkg-shlibdeps is missing (Debian: apt-get install dpkg-dev)");
    }
    found
}

/// The paths of files and links below a directory.
fn files(root: &Path) -> BTreeSet<String> {
    let run = Run::of(Command::new("find").args([".", "-type", "f", "-o", "-type", "l"]).current_dir(root)).succeeds();
    run.text().lines().map(str::to_owned).collect()
}

#[test]
fn the_package_installs_into_an_empty_tree_and_the_pipe_runs_from_there() {
    if !has_dpkg() {
        return;
    }
    let dir = Dir::new("package");
    let script = format!("{ROOT}/scripts/package --level 1 out --bins '{}'", bin_dir().display());
    let made = dir.shell(&script).succeeds();
    let made: Vec<String> = made.text().lines().map(str::to_owned).collect();
    let [deb, tar] = &made[..] else { panic!("expected two packages, found {made:?}") };

    // An empty tree lacks the packages of the libraries.
    dir.shell("mkdir -p tree/var/lib/dpkg/info tree/var/lib/dpkg/updates && touch tree/var/lib/dpkg/status").succeeds();
    let install = format!(
        "PATH=$PATH:/usr/sbin:/sbin dpkg --root=\"$PWD/tree\" --force-not-root --force-depends --install '{deb}'"
    );
    dir.shell(&install).succeeds();
    dir.shell("dpkg --root=\"$PWD/tree\" --verify evt").succeeds();
    let depends = dir.shell(&format!("dpkg-deb --field '{deb}' Depends")).succeeds().text();
    assert!(depends.contains("libc6 (>= "), "{depends}");

    // Both packages hold the same files.
    dir.shell(&format!("mkdir untarred && tar -C untarred --strip-components=1 -xzf '{tar}'")).succeeds();
    let untarred = files(&dir.path("untarred"));
    let installed = files(&dir.path("tree"));
    assert_eq!(untarred, installed.into_iter().filter(|path| path.starts_with("./usr/")).collect());

    // Each tool comes with its page and completions; services name programs that are installed.
    let usr = dir.path("tree/usr");
    for tool in row_tools().chain(["evt-gen", "evt-schema"]) {
        for path in [
            format!("bin/{tool}"),
            format!("share/bash-completion/completions/{tool}"),
            format!("share/fish/vendor_completions.d/{tool}.fish"),
            format!("share/zsh/vendor-completions/_{tool}"),
        ] {
            assert!(usr.join(&path).is_file(), "{path} is missing");
        }
        let page = dir.shell(&format!("gzip -dc tree/usr/share/man/man1/{tool}.1.gz")).succeeds();
        assert_eq!(page.text(), std::fs::read_to_string(format!("{ROOT}/man/{tool}.1")).expect("a page"));
    }
    let starts = dir.shell("grep -ho '^Exec[A-Za-z]*=.*' tree/usr/lib/systemd/system/*.service").succeeds().text();
    for start in starts.lines().filter(|line| line.starts_with("ExecStart")) {
        let program = start.split_once('=').expect("a value").1.trim_start_matches('-');
        let program = program.split_whitespace().next().expect("a program");
        let is_shell = matches!(program, "/bin/sh" | "/bin/bash" | "/usr/bin/bash");
        assert!(is_shell || dir.path("tree").join(&program[1..]).is_file(), "{start}");
    }
    assert!(starts.contains("=/usr/bin/evt-ingest ") && !starts.contains("/usr/local"), "{starts}");

    // The pipe of the README runs from the tree, without any other program of ours.
    let pipe = "evt-gen --events 2000 | evt-ingest | evt-validate --schemas \"$EXAMPLES/schemas\" \
                | evt-window -m \"$EXAMPLES/metrics.toml\" --late null: | evt-sink --to sqlite:metrics.db";
    let mut command = dir.command("bash", &["-o", "pipefail", "-c", pipe]);
    command.env("PATH", format!("{}:/usr/bin:/bin", usr.join("bin").display()));
    command.env("EXAMPLES", usr.join("share/doc/evt/examples")).env("EVT_DLQ", dir.path("dead.jsonl"));
    Run::of(&mut command).succeeds();
    let stored = rusqlite::Connection::open(dir.path("metrics.db")).expect("a database");
    let rows: i64 =
        stored.query_row("SELECT count(*) FROM aggregated_metrics", [], |row| row.get(0)).expect("a table of metrics");
    assert!(rows > 0);
}

#[test]
fn a_package_without_binaries_is_refused() {
    if !has_dpkg() {
        return;
    }
    let dir = Dir::new("package_missing");
    dir.shell("mkdir bins").succeeds();
    let run = dir.shell(&format!("{ROOT}/scripts/package --bins bins out")).ends_with(66);
    assert!(run.stderr().contains("bins/evt is missing"), "{run}");
    assert!(std::fs::read_dir(dir.path("out")).is_ok_and(|mut left| left.next().is_none()), "{run}");
    dir.shell(&format!("{ROOT}/scripts/package --level 20 out")).ends_with(2);
}
