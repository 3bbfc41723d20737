//! Unknown flags: a tip names flags that the tool has, or command lines that parse.

use crate::harness::Dir;
use clap::Command;
use evt::tool;
use evt_core::format;
use std::collections::BTreeSet;

/// The command of a tool as the binary has it.
fn command(name: &str) -> Option<Command> {
    let row = tool::ALL.iter().find(|row| row.name == name)?;
    let mut command = (row.command)();
    command.build();
    Some(command)
}

/// The flags of a command and of its actions: `--long`, `-s`.
fn flags(command: &Command) -> BTreeSet<String> {
    let args = command.get_arguments().chain(command.get_subcommands().flat_map(Command::get_arguments));
    args.flat_map(|arg| {
        let short = arg.get_short().map(|short| format!("-{short}"));
        arg.get_long().map(|long| format!("--{long}")).into_iter().chain(short)
    })
    .collect()
}

/// A value that a flag takes where a message has a placeholder for it.
fn sample(flag: &str, placeholder: &str) -> String {
    let value = match placeholder {
        "N" => "5",
        "CONDITION" => "a = 1",
        "NAME=EXPR" => "n=a + 1",
        "NAME=CALL" => "n=count(*)",
        "DURATION" => "1h",
        "INSTANT" => "2026-01-01",
        "FORMAT" => "jsonl",
        "C" => ";",
        _ if flag.ends_with("zone") => "UTC",
        _ => "a",
    };
    value.to_owned()
}

/// The command lines in a tip for `tool`: each begins with the name of a tool, or is of flags alone.
fn lines(tool: &str, tip: &str) -> Vec<Vec<String>> {
    let mut lines = vec![vec![tool.to_owned()]];
    let mut words = tip.split(' ').map(|word| word.trim_end_matches([',', ';'])).peekable();
    while let Some(word) = words.next() {
        if word.starts_with("evt-") {
            lines.push(vec![word.to_owned()]);
        }
        let flag = word.trim_matches('\'');
        if !flag.starts_with('-') {
            continue;
        }
        let line = lines.last_mut().expect("there is one");
        let command = command(&line[0]).unwrap_or_else(|| panic!("{tip}: no tool {}", line[0]));
        let arg = command.get_arguments().find(|arg| {
            arg.get_long().is_some_and(|long| flag == format!("--{long}"))
                || arg.get_short().is_some_and(|short| flag == format!("-{short}"))
        });
        let takes_value = arg.is_some_and(|arg| arg.get_action().takes_values());
        line.push(flag.to_owned());
        if takes_value {
            let is_placeholder = |word: &&str| word.trim_matches('\'').starts_with(|c: char| c.is_ascii_uppercase());
            let placeholder = words.next_if(is_placeholder).unwrap_or_default();
            line.push(sample(flag, placeholder.trim_matches('\'')));
        }
    }
    lines
}

/// Why a tip is wrong, if it is.
fn fault(tool: &str, tip: &str) -> Option<String> {
    lines(tool, tip).into_iter().filter(|line| line.len() > 1).find_map(|line| {
        use clap::error::ErrorKind::{DisplayHelp, DisplayVersion, MissingRequiredArgument, MissingSubcommand};
        let known = command(&line[0]).expect("a tool");
        // A flag of an action needs the action before it.
        let unknown = line[1..].iter().find(|word| word.starts_with('-') && !flags(&known).contains(*word));
        let is_of_action = known.get_subcommands().count() > 0 && line[0] == tool;
        // What is only near says nothing of its value.
        let is_near = tip.starts_with("; tip: ");
        let parsed = known.try_get_matches_from(&line).err().filter(|error| {
            let harmless = [DisplayHelp, DisplayVersion, MissingRequiredArgument, MissingSubcommand];
            !is_of_action && !is_near && !harmless.contains(&error.kind())
        });
        let parsed = parsed.map(|error| error.to_string());
        unknown.map(|flag| format!("{} has no {flag}", line[0])).or(parsed)
    })
}

#[test]
fn every_tip_about_an_unknown_flag_names_flags_that_exist_and_lines_that_parse() {
    let all: BTreeSet<String> = tool::ALL.iter().flat_map(|row| flags(&(row.command)())).collect();
    let advised: BTreeSet<String> = evt::cli::advised_flags().map(str::to_owned).collect();
    let typed: Vec<&String> = all.union(&advised).collect();
    assert!(advised.len() > 45 && typed.len() > 180, "{} {}", advised.len(), typed.len());
    let of_tool = |row: &'static evt::cli::ToolRow| {
        let (dir, known) = (Dir::new("flags"), flags(&command(row.name).expect("a tool")));
        let unknown = typed.iter().filter(|flag| !known.contains(**flag));
        let wrong = unknown.filter_map(|flag| {
            let said = dir.run(row.name, &[flag]).ends_with(2).stderr();
            let told = said.strip_prefix(&format!("{}: unexpected argument '{flag}' found", row.name));
            let told = told.and_then(|told| told.strip_suffix(&format!(" (see {} --help)\n", row.name)));
            let tip = told.unwrap_or_else(|| panic!("{said}"));
            fault(row.name, tip).map(|fault| format!("{said}{fault}"))
        });
        wrong.collect::<Vec<String>>()
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let tools: Vec<_> = tool::ALL.iter().map(|row| scope.spawn(move || of_tool(row))).collect();
        tools.into_iter().flat_map(|tool| tool.join().expect("it ends")).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_tip_is_about_the_tool_that_is_typed_and_a_short_name_that_only_looks_alike_is_none() {
    let dir = Dir::new("flag-tips");
    for (line, told) in [
        ("evt-window --nope", ""),
        ("evt-ingest --late x.jsonl", "; it is a flag of evt-window, evt-gen, evt-flink"),
        ("evt-window --list", "; it is a flag of evt-sink"),
        ("evt-schema --where x", ""),
        ("evt-view --nothing-like-it", ""),
        ("evt-gen --since 2026-01-01", "; --start INSTANT is the time of the first event"),
        (
            "evt-alert --from x",
            "; --since INSTANT begins a range of event time, and inputs are arguments without a flag",
        ),
        ("evt-backfill --size 1h", "; size in the file of --metrics makes windows, slide overlapping ones"),
        ("evt-alert --size 1h", "; window_seconds in the file of --rules is the length of a window"),
        ("evt-alert --where x", "; where in the file of --rules chooses the rows of a rule"),
        ("evt-backfill --where x", "; where in the file of --metrics chooses the rows of a metric"),
        ("evt-sink --where x", "; evt-ingest --where CONDITION … | evt-sink chooses rows"),
        ("evt-window --verbose", "; --stats FILE writes all counts as JSON at the end"),
        ("evt-view --tiem t", "; tip: a similar argument exists: '--time'"),
        ("evt-view --time-field t", "; tip: a similar argument exists: '--time'"),
        ("evt-view --colums t", "; tip: a similar argument exists: '--columns'"),
        ("evt-window --out-of-orderdness 1h", "; tip: a similar argument exists: '--out-of-orderness'"),
    ] {
        let said = dir.shell(line).ends_with(2).stderr();
        let (tool, flag) = (line.split(' ').next().unwrap_or_default(), line.split(' ').nth(1).unwrap_or_default());
        assert_eq!(said, format!("{tool}: unexpected argument '{flag}' found{told} (see {tool} --help)\n"), "{line}");
    }
}

#[test]
fn the_help_of_a_format_flag_names_every_format_that_the_flag_takes() {
    let (mut faults, mut lists) = (vec![], 0);
    for row in tool::ALL {
        let command = command(row.name).expect("it is in the table");
        for arg in command.get_arguments() {
            let takes = match arg.get_long() {
                Some("input-format") => format::to_read,
                Some("output-format") => format::to_write,
                _ => continue,
            };
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let Some(listed) = help.split_once("frames ").map(|(_, list)| list) else { continue };
            let listed = listed.split(" [").next().unwrap_or(listed).split(' ');
            let listed: BTreeSet<String> =
                listed.map(|name| name.trim_end_matches(":PATTERN").to_owned()).chain(["frames".to_owned()]).collect();
            let taken = format::ALL.iter().filter(|one| takes(one.name).is_ok()).map(|one| one.name.to_owned());
            let taken: BTreeSet<String> = taken.collect();
            lists += 1;
            if listed != taken {
                let differ: Vec<_> = listed.symmetric_difference(&taken).collect();
                faults.push(format!("{}: help of --{}: {differ:?}", row.name, arg.get_long().unwrap_or_default()));
            }
        }
    }
    assert!(lists > 8, "only {lists} lists");
    assert!(faults.is_empty(), "src/cli/args.rs, src/tool/reconcile/args.rs:\n{}", faults.join("\n"));
}

#[test]
fn every_flag_that_counts_reads_a_suffix() {
    let dir = Dir::new("counts");
    dir.write("e.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\",\"source\":\"s\",\"event_type\":\"t\"}\n");
    dir.write("m.toml", "[[metric]]\nname = \"n\"\nby = [\"source\"]\nsize = \"1m\"\n");
    dir.write("r.toml", "[[rule]]\nname = \"r\"\nwindow = \"1m\"\ncondition = \"count(*) > 5\"\n");
    let lines = [
        "evt-ingest e.jsonl --time t --report 1k --max-decompression-ratio 1k --to null:",
        "evt-window e.jsonl --time t -m m.toml --top 1k --late null: --to null:",
        "evt-window e.jsonl --time t -m m.toml --checkpoint ck --keep-epochs 1k --ends 1 --to null:",
        "evt-backfill e.jsonl --time t -m m.toml --rate 1k --threads 2 --until 2026-01-02 --out-of-orderness all --store sqlite:m.db --yes",
        "evt-alert e.jsonl --time t -r r.toml --max-groups 1k --once --to null:",
        "evt-gen --events 10 --rate 1k --partitions 1k",
        "evt-gen --events 10 --rate 0.5",
    ];
    for line in lines {
        let run = dir.shell(line);
        assert!(!run.stderr().contains("invalid value"), "{line}: {run}");
    }
    for (line, why) in [
        ("evt-window e.jsonl --size 1m --top 0", "expected a count of at least 1"),
        ("evt-window e.jsonl --size 1m --top 5G", "expected a smaller count"),
        ("evt-window e.jsonl --size 1m --top 5K", "expected a count like 500, 10k, 5M or 1G"),
        ("evt-ingest e.jsonl --report some", "expected a number or all"),
    ] {
        let said = dir.shell(line).ends_with(2).stderr();
        assert!(said.contains(why), "{line}: {said}");
    }
}
