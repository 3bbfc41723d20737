//! The executable evt, which contains all tools, and what starts it: links and launchers.

use crate::harness::{Dir, Run, bin_dir, eventually, status};
use evt::tool;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Stdio;

/// Makes a directory with a link to evt for each tool, as a package has them.
pub fn link_tools(dir: &Dir, name: &str) {
    std::fs::create_dir(dir.path(name)).expect("writable");
    for tool in tool::ALL {
        symlink(bin_dir().join("evt"), dir.path(name).join(tool.name)).expect("writable");
    }
}

/// Copies an executable into a directory, by a process of its own: what another test starts meanwhile would inherit the
/// open file of this process, and a file that is open to be written cannot be executed.
fn copied(dir: &Dir, name: &str) {
    dir.shell(&format!("cp {} .", bin_dir().join(name).display())).succeeds();
}

const EVENT: &str = r#"{"event_type":"click","source":"web","server_timestamp":"2024-01-15T10:00:00Z"}"#;

#[test]
fn a_tool_is_the_same_by_its_launcher_a_link_and_the_first_argument() {
    let dir = Dir::new("executables");
    link_tools(&dir, "links");
    dir.write("in.jsonl", format!("{EVENT}\n{{torn\n"));
    for tool in tool::ALL {
        let expected = dir.run(tool.name, &["--help"]).succeeds().text();
        let short = tool.name.trim_start_matches("evt-");
        for line in [
            format!("evt {short} --help"),
            format!("evt {} --help", tool.name),
            format!("evt help {short}"),
            format!("links/{} --help", tool.name),
        ] {
            assert_eq!(dir.shell(&line).succeeds().text(), expected, "{line}");
        }
    }
    for line in ["evt-ingest", "evt ingest", "links/evt-ingest", "exec -a renamed evt-ingest"] {
        let run = dir.shell(&format!("{line} -q in.jsonl --now 2024-01-15T11:00:00Z --to null: --dlq -")).succeeds();
        let letter = &run.rows()[0];
        assert_eq!(letter["stage"], "evt-ingest", "{line}: {run}");
        let faulty = dir.shell(&format!("{line} --sise 1m")).ends_with(2);
        assert!(faulty.stderr().starts_with("evt-ingest: "), "{faulty}");
    }
    let actions = dir.run("evt-schema", &["register", "--help"]).succeeds().text();
    assert_eq!(dir.run("evt", &["help", "schema", "register"]).succeeds().text(), actions);
}

#[test]
fn evt_alone_lists_the_tools_and_an_unknown_one_is_a_fault_of_the_command_line() {
    let dir = Dir::new("executables_list");
    let none: [&str; 0] = [];
    let listed = dir.run("evt", &none).succeeds().text();
    for tool in tool::ALL {
        let about = (tool.command)().get_about().expect("it has one").to_string();
        let short = tool.name.trim_start_matches("evt-");
        assert!(
            listed.lines().any(|line| line.starts_with(&format!("  {short} ")) && line.ends_with(&about)),
            "{listed}"
        );
    }
    for args in [&["help"][..], &["--help"], &["-h"]] {
        assert_eq!(dir.run("evt", args).succeeds().text(), listed);
    }
    let run = dir.run("evt", &["windw"]).ends_with(2);
    assert_eq!(run.stderr(), "evt: expected a tool as the first argument, found 'windw': did you mean window?\n");
    let run = dir.run("evt", &["help", "nothing-like-it"]).ends_with(2);
    assert!(run.stderr().contains("found 'nothing-like-it': expected one of ingest, validate, window"), "{run}");
    dir.run("evt", &["-q", "window"]).ends_with(2);
    dir.shell("evt >&-").ends_with(74);
}

/// A program named evt beside a launcher says what it was given.
#[test]
fn a_launcher_keeps_arguments_environment_descriptors_and_the_process() {
    let dir = Dir::new("executables_same");
    copied(&dir, "evt-window");
    let script = "#!/bin/bash\necho \"$$ ${#EVT_LAUNCHER} $SOME\"; printf '<%s>' \"$@\"; cat; cat <&7 >&8\n";
    dir.write("evt", script);
    dir.shell("chmod +x evt; echo seven > seven").succeeds();
    dir.write("stdin", "of stdin\n");
    let line = "echo $$; SOME='a b' exec ./evt-window 'x  y' '' --z=$'\\n' < stdin 7< seven 8> eight";
    let text = dir.shell(line).succeeds().text();
    let pid = text.lines().next().expect("a line");
    let version = dir.run("evt", &["-V"]).succeeds().text().trim_end().len() - "evt ".len();
    assert_eq!(text, format!("{pid}\n{pid} {version} a b\n<x  y><><--z=\n>of stdin\n"));
    assert_eq!(dir.bytes("eight"), b"seven\n");
}

#[test]
fn a_running_tool_has_its_name_and_no_trace_of_its_launcher() {
    let dir = Dir::new("executables_name");
    let mut command = dir.command("evt-ingest", &["-q", "-f", "jsonl", "--to", "null:", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
    let process = format!("/proc/{}", child.id());
    let name = || std::fs::read_to_string(format!("{process}/comm")).unwrap_or_default();
    eventually("it is executed", || std::fs::read_link(format!("{process}/exe")).is_ok_and(|exe| exe.ends_with("evt")));
    eventually("it has its name", || name() == "evt-ingest\n");
    let arguments = std::fs::read(format!("{process}/cmdline")).expect("it runs");
    let shown = String::from_utf8(arguments).expect("text");
    assert!(shown.split('\0').next().is_some_and(|first| first.ends_with("/evt-ingest")), "{shown}");
    let mut stdin = child.stdin.take().expect("it is piped");
    writeln!(stdin, "{EVENT}").expect("it reads");
    drop(stdin);
    assert_eq!(status(child.wait().expect("it ends")), 0);
    let none = dir.run("evt-sink", &["--check", "--to", "redis://:{env:EVT_LAUNCHER}@127.0.0.1:1"]).stderr();
    assert!(none.contains("EVT_LAUNCHER is not set"), "{none}");
}

#[test]
fn an_installation_that_is_not_whole_is_refused() {
    let dir = Dir::new("executables_whole");
    copied(&dir, "evt-view");
    let run = dir.shell("./evt-view -V").ends_with(78);
    let path = dir.path("evt").display().to_string();
    assert!(run.stderr().starts_with(&format!("evt-view: {path}: No such file")), "{run}");
    // As if a launcher of another version had started it.
    copied(&dir, "evt");
    dir.shell("./evt-view -V").succeeds();
    let run =
        Run::of(dir.command(&path, &["view", "-V"]).env("EVT_LAUNCHER", "0.0.9").stdin(Stdio::null())).ends_with(78);
    let said = run.stderr();
    assert!(said.starts_with(&format!("evt: {path} is version ")) && said.contains(", expected 0.0.9;"), "{said}");
}
