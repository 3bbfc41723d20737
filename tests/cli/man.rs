//! Man pages and completions, made from the flags and from `man/about/`; `EVT_BLESS=1` writes them.
//!
//! A page is NAME, SYNOPSIS and OPTIONS from clap, DESCRIPTION from `man/about/TOOL`, EXAMPLES from the tool, EXIT
//! STATUS from one table for all. Pages of sections 5 and 7 are written by hand, except the lists of tools and
//! aggregates; what else they list is compared with the code.

use crate::harness::{Dir, ROOT};
use evt::cli::ToolRow;
use evt::tool;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Exit statuses with their meaning, as in evt(7). Each tool has its own text for 1.
const STATUSES: [(u8, &str); 9] = [
    (0, "Done."),
    (
        1,
        "The verdict is negative: records were rejected or late without an output for them, a schema is incompatible, or windows were held.",
    ),
    (2, "The command line is wrong."),
    (65, "The input is torn or corrupt."),
    (69, "A service is unavailable after retries."),
    (70, "An invariant of evt itself is broken: a bug."),
    (74, "Reading or writing failed."),
    (75, "Another run has the lock or is newer, or the stages of a pipe with a checkpoint did not end together."),
    (78, "A configuration, metric or schema file is wrong."),
];

/// Compares a committed file with its expected text, or writes it.
pub fn assert_file(name: &str, wanted: &[u8]) {
    let path = Path::new(ROOT).join(name);
    if std::env::var_os("EVT_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("writable");
        std::fs::write(path, wanted).expect("writable");
        return;
    }
    let found = std::fs::read(&path).unwrap_or_default();
    assert!(found == wanted, "{name} is behind the code: EVT_BLESS=1 cargo test --test cli -- man:: services::");
}

/// Escapes text for roff: no line becomes a request by accident, and hyphens can be searched and pasted.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// The SYNOPSIS of a tool: the forms that it states itself, or its usual flags with their values.
fn synopsis(tool: &ToolRow, command: &clap::Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let forms: Vec<&str> = usage.strip_prefix("Usage: ").expect("a usage").lines().map(str::trim).collect();
    let form = |form: &&str| {
        let words = form.split(' ').map(|word| match word.starts_with(['<', '[']) {
            true => roff(word),
            false => format!("\\fB{}\\fR", roff(word)),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    if forms.len() > 1 {
        let forms: Vec<String> = forms.iter().map(form).collect();
        return format!(".SH SYNOPSIS\n{}\n", forms.join("\n.br\n"));
    }
    let usual = tool.usual_flags.iter().map(|long| {
        let found = command.get_arguments().find(|arg| arg.get_long() == Some(long));
        let arg = found.unwrap_or_else(|| panic!("{}: USUAL_FLAGS names --{long}, which does not exist", tool.name));
        let flag = arg.get_short().map_or_else(|| format!("--{long}"), |short| format!("-{short}"));
        let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
        let value = value.map_or_else(String::new, |names| format!(" \\fI{}\\fR", roff(names[0].as_str())));
        format!("[\\fB{}\\fR{value}]", roff(&flag))
    });
    let rest = forms[0].strip_prefix(tool.name).expect("the name of the tool").trim_start().to_owned();
    let rest = rest.replace("[OPTIONS]", "[\\fIOPTION\\fR]...");
    format!(".SH SYNOPSIS\n\\fB{}\\fR {} {rest}\n", roff(tool.name), usual.collect::<Vec<_>>().join(" "))
}

/// Returns the options of a command. Those that `-h` leaves out have their help, too.
fn options(command: &clap::Command) -> String {
    let whole = command.clone().mut_args(|arg| arg.hide_short_help(false));
    let mut out = vec![];
    clap_mangen::Man::new(whole).render_options_section(&mut out).expect("a vector takes it");
    let text = String::from_utf8(out).expect("roff is text");
    let bare: Vec<&str> =
        text.split(".TP\n").skip(1).filter(|option| option.lines().nth(1).is_none_or(str::is_empty)).collect();
    assert!(bare.is_empty(), "{}: options without help: {bare:?}", command.get_name());
    text
}

fn render(tool: &ToolRow) -> String {
    let command = (tool.command)();
    let man = clap_mangen::Man::new(command.clone());
    let mut out = vec![];
    man.render_name_section(&mut out).expect("a vector takes it");
    out.extend(synopsis(tool, &command).into_bytes());
    let mut text = format!(
        ".TH {} 1 \"\" \"evt {}\" \"evt manual\"\n{}",
        tool.name,
        env!("CARGO_PKG_VERSION"),
        String::from_utf8(out).expect("roff is text")
    );
    text.push_str(".SH DESCRIPTION\n");
    let about = Path::new(ROOT).join("man/about").join(tool.name);
    text.push_str(&std::fs::read_to_string(&about).unwrap_or_else(|error| {
        panic!("{}: {error}; write the DESCRIPTION of the man page there, in roff", about.display())
    }));
    text.push_str(&options(&command));
    let mut out = vec![];
    for action in command.get_subcommands().filter(|action| action.get_name() != "help") {
        let title = format!(".SH {} {}\n", tool.name, action.get_name()).to_uppercase();
        out.extend(title.into_bytes());
        out.extend(format!("{}.\n", roff(&action.get_about().map(ToString::to_string).unwrap_or_default())).bytes());
        out.extend(options(action).replace(".SH OPTIONS\n", "").bytes());
    }
    text.push_str(&String::from_utf8(out).expect("roff is text"));
    text.push_str(&endings(tool));
    text
}

/// The sections after the options: environment, exit status, examples, other pages.
fn endings(tool: &ToolRow) -> String {
    let mut text = ".SH ENVIRONMENT\nEvery flag \\fB\\-\\-some\\-flag\\fR can be set by the variable \\fBEVT_SOME_FLAG\\fR or in the file of --config. The flag takes precedence over the variable, and the variable over the file (evt(7), CONFIGURATION).\n".replace("--config", "\\-\\-config");
    text.push_str(".SH EXIT STATUS\n");
    for (status, meaning) in STATUSES {
        let meaning = if status == 1 { tool.negative } else { meaning };
        text.push_str(&format!(".TP\n\\fB{status}\\fR\n{}\n", roff(meaning)));
    }
    text.push_str(
        ".PP\nA caught signal ends the tool as the signal itself would, after everything is flushed.\n.SH EXAMPLES\n",
    );
    for (told, line) in tool.examples {
        text.push_str(&format!("{}\n.PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n.PP\n", roff(told), roff(line)));
    }
    let others = tool::ALL.iter().filter(|other| other.name != tool.name);
    let others: Vec<String> = others.map(|other| format!("\\fB{}\\fR(1)", roff(other.name))).collect();
    let hand = [
        "evt(7)",
        "evt-channels(5)",
        "evt-frame(5)",
        "evt-metrics(5)",
        "evt-registry(5)",
        "evt-checkpoint(5)",
        "evt-rules(5)",
        "evt-lake(7)",
        "evt-runbook(7)",
    ];
    let hand = hand.map(|name| {
        name.split_once('(').map_or(String::new(), |(name, rest)| format!("\\fB{}\\fR({rest}", roff(name)))
    });
    text.push_str(&format!(".SH SEE ALSO\n{}\n", [others.join(", "), hand.join(", ")].join(", ")));
    text
}

/// The page of the executable with all tools.
fn render_evt() -> String {
    let command = tool::choose::command();
    let mut text = format!(".TH evt 1 \"\" \"evt {}\" \"evt manual\"\n", env!("CARGO_PKG_VERSION"));
    let mut out = vec![];
    clap_mangen::Man::new(command.clone()).render_name_section(&mut out).expect("a vector takes it");
    text.push_str(&String::from_utf8(out).expect("roff is text"));
    text.push_str(
        ".SH SYNOPSIS\n\\fBevt\\fR \\fITOOL\\fR [\\fIARGUMENT\\fR]...\n.br\n\\fBevt help\\fR [\\fITOOL\\fR]\n",
    );
    text.push_str(&format!(".SH DESCRIPTION\n{}.SH TOOLS\n", read("man/about/evt")));
    for tool in command.get_subcommands() {
        let about = tool.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!(".TP\n\\fB{}\\fR\n{}.\n", roff(tool.get_name()), roff(&about)));
    }
    text.push_str(".SH EXIT STATUS\nThat of the tool. 2: the first argument is no tool. 78: evt and the executable that started it have different versions.\n");
    let tools = tool::ALL.iter().map(|tool| format!("\\fB{}\\fR(1)", roff(tool.name)));
    text.push_str(&format!(".SH SEE ALSO\n{}, \\fBevt\\fR(7)\n", tools.collect::<Vec<_>>().join(", ")));
    text
}

#[test]
fn every_page_says_what_its_tool_does_today() {
    assert_file("man/evt.1", render_evt().as_bytes());
    for tool in tool::ALL {
        assert_file(&format!("man/{}.1", tool.name), render(tool).as_bytes());
    }
}

#[test]
fn every_completion_knows_the_flags_of_today() {
    use clap_complete::Shell;
    let tools = tool::ALL.iter().map(|tool| (tool.name, tool.command));
    let evt: fn() -> clap::Command = tool::choose::command;
    for (name, command) in tools.chain([("evt", evt)]) {
        for (shell, file) in [
            (Shell::Bash, format!("bash/{name}")),
            (Shell::Zsh, format!("zsh/_{name}")),
            (Shell::Fish, format!("fish/{name}.fish")),
        ] {
            let mut out = vec![];
            clap_complete::generate(shell, &mut command(), name, &mut out);
            assert_file(&format!("completions/{file}"), &out);
        }
    }
}

#[test]
fn every_flag_of_help_stands_in_the_page_and_every_page_has_its_sections() {
    let dir = Dir::new("help");
    let flag = regex::Regex::new(r"--[a-z][a-z-]+").expect("a pattern");
    for tool in tool::ALL {
        let name = tool.name;
        let help = dir.run(name, &["--help"]).succeeds().text();
        let text = render(tool).replace("\\-", "-");
        for found in flag.find_iter(&help) {
            assert!(text.contains(found.as_str()), "{name}: the page knows no {}", found.as_str());
        }
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
            assert!(text.contains(&format!(".SH {section}\n")), "{name}: no {section}");
        }
    }
}

/// Messages, comments and documents name flags: a renamed or misspelled one would lead astray.
#[test]
fn every_flag_that_is_named_anywhere_exists() {
    /// Flags of aws, cargo, curl, kafka-topics.sh and the project's scripts.
    const FOREIGN: [&str; 21] = [
        "all",
        "all-targets",
        "bin",
        "broker-id",
        "create",
        "data-binary",
        "document-private-items",
        "exact",
        "incident",
        "lake",
        "kafka",
        "lib",
        "max-transaction-timeout",
        "no-deps",
        "nocapture",
        "open",
        "path",
        "profile",
        "test",
        "topic",
        "ultra",
    ];
    let mut flags: BTreeSet<String> = FOREIGN.map(str::to_owned).into_iter().collect();
    flags.extend(["help", "version", "some-flag"].map(str::to_owned));
    // Flags of other programs that messages translate.
    flags.extend(evt::cli::advised_flags().filter_map(|flag| flag.strip_prefix("--")).map(str::to_owned));
    for tool in tool::ALL {
        let command = (tool.command)();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            flags.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)));
        }
    }
    let named = regex::Regex::new(r"(?:^|[^a-z0-9-])--([a-z][a-z-]*[a-z])").expect("a pattern");
    let places = ["crates", "src", "man", "README.md", "CONTRIBUTING.md", "examples", "systemd"];
    let files = Command::new("git").args(["ls-files", "--"]).args(places).current_dir(ROOT).output().expect("git");
    let (mut unknown, mut met) = (vec![], BTreeSet::new());
    for name in String::from_utf8(files.stdout).expect("text").lines() {
        let Ok(text) = std::fs::read_to_string(Path::new(ROOT).join(name)) else { continue };
        let text = text.replace("\\-", "-");
        let text = ["\\fB", "\\fI", "\\fR"].iter().fold(text, |text, font| text.replace(font, " "));
        for found in named.captures_iter(&text) {
            met.insert(found[1].to_owned());
            if !flags.contains(&found[1]) {
                unknown.push(format!("{name}: --{}", &found[1]));
            }
        }
    }
    let unmet: Vec<_> = FOREIGN.iter().filter(|name| !met.contains(**name)).collect();
    assert!(unmet.is_empty(), "no place names these flags of other programs any more: {unmet:?}");
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn short_help_shows_the_usual_flags_and_long_help_shows_all() {
    let dir = Dir::new("short_help");
    let flag = regex::Regex::new(r"(?m)^  (?:-., |    )--([a-z][a-z-]+)").expect("a pattern");
    let flags = |text: &str| flag.captures_iter(text).map(|found| found[1].to_owned()).collect::<BTreeSet<_>>();
    for tool in tool::ALL {
        let name = tool.name;
        let (short, long) = (dir.run(name, &["-h"]).succeeds().text(), dir.run(name, &["--help"]).succeeds().text());
        let usual = tool.usual_flags.iter().copied().chain(["help", "version"]).map(str::to_owned).collect();
        assert_eq!(flags(&short), usual, "{name}");
        let command = (tool.command)();
        let all = command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned));
        assert_eq!(flags(&long), all.chain(["help".to_owned(), "version".to_owned()]).collect(), "{name}");
        assert!(short.lines().count() <= 60, "{name}: -h does not fit on a screen:\n{short}");
        assert!(short.contains(&format!("--help shows all flags; man {name} has examples.")), "{short}");
    }
}

#[test]
fn the_version_names_the_commit_and_the_time_zone_database() {
    let dir = Dir::new("version");
    // evt was built from a commit whose sources are these; later commits may have changed others.
    let named = dir.run("evt", &["-V"]).succeeds().text();
    let form = regex::Regex::new(r"^evt (.*) \(([0-9a-f]+)(\+?) [0-9]{4}-[0-9]{2}-[0-9]{2}\)\n$").expect("a pattern");
    let found = form.captures(&named).unwrap_or_else(|| panic!("{named}"));
    assert_eq!(&found[1], env!("CARGO_PKG_VERSION"));
    let sources = ["src", "crates", "build.rs", "Cargo.toml", "Cargo.lock"];
    let is_same =
        Command::new("git").args(["diff", "--quiet", &found[2], "--"]).args(sources).current_dir(ROOT).status();
    assert!(is_same.is_ok_and(|status| status.success() || &found[3] == "+"), "{named}");
    for tool in tool::ALL {
        let version = format!("{}{}", tool.name, named.trim_end().trim_start_matches("evt"));
        assert_eq!(dir.run(tool.name, &["-V"]).succeeds().text().trim_end(), version);
        let long = dir.run(tool.name, &["--version"]).succeeds().text();
        let zones = format!("time zone database {}", evt_core::time::ZONES_VERSION);
        assert_eq!(long.lines().collect::<Vec<_>>(), [version, zones]);
    }
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A page without its markup.
fn plain(name: &str) -> String {
    let text = read(name).replace("\\-", "-").replace("\\e", "\\").replace("\\(dq", "\"").replace("\\(aq", "'");
    regex::Regex::new(r"\\f.|\\&").expect("a pattern").replace_all(&text, "").into_owned()
}

#[test]
fn every_tool_is_in_the_lists_that_are_written_by_hand() {
    let (readme, changes) = (read("README.md"), read("CHANGELOG.md"));
    let mut missing = vec![];
    for tool in tool::ALL {
        let name = tool.name;
        if !readme.contains(&format!(" {name} ")) {
            missing.push(format!("README.md, the list of tools at its start: {name}"));
        }
        if !changes.contains(&format!("- `{name}")) {
            missing.push(format!("CHANGELOG.md, Tools: - `{name}`"));
        }
    }
    assert!(missing.is_empty(), "these entries are missing:\n{}", missing.join("\n"));
}

#[test]
fn sentences_about_tools_that_pass_rows_on_name_all_of_them() {
    let names: Vec<_> = tool::ALL.iter().filter(|tool| tool.passes_rows_on).map(|tool| tool.name).collect();
    let (last, others) = names.split_last().expect("such tools");
    let others = others.join(", ");
    let (any, all) = (format!("{others} or {last}"), format!("{others}, {last}"));
    let (words, runbook) = (plain("man/evt.7"), plain("man/evt-runbook.7"));
    let mut missing = vec![];
    for (page, text, sentence) in [
        ("man/evt.7", &words, format!("If {any} reads a topic in json or avro and writes another one")),
        ("man/evt.7", &words, format!("in one of its outputs, {any} writes each record of a topic")),
        ("man/evt-runbook.7", &runbook, format!("Only a stage without state ({all}) can share a group.")),
    ] {
        if !text.contains(&sentence) {
            missing.push(format!("{page}: {sentence}"));
        }
    }
    if !evt::output::NO_TRANSACTIONS.starts_with(&format!("expected {any}, found ")) {
        missing.push(format!("src/output/plan.rs, NO_TRANSACTIONS: expected {any}, found"));
    }
    assert!(missing.is_empty(), "these sentences are missing:\n{}", missing.join("\n"));
}

#[test]
fn the_page_of_words_lists_every_exit_status_kind_fault_and_store() {
    use evt_core::ErrorKind;
    let text = plain("man/evt.7");
    for (status, meaning) in STATUSES {
        assert!(text.contains(&format!(".TP\n.B {status}\n{meaning}")), "evt(7) does not say what {status} is");
    }
    use ErrorKind::{Broken, Busy, Config, Corrupt, Fenced, Incomplete, Io, Unavailable, Usage, Verdict};
    for kind in [Verdict, Usage, Corrupt, Unavailable, Broken, Io, Fenced, Busy, Incomplete, Config] {
        assert!(STATUSES.iter().any(|(status, _)| *status == kind.exit_status()), "{kind:?} has no row");
    }
    for kind in evt_core::kind::Kind::ALL {
        assert!(text.contains(&format!(".B {}\n", kind.name())), "evt(7) does not know {}", kind.name());
        assert!(text.contains(kind.table()), "evt(7) does not know {}", kind.table());
    }
    for store in evt_store::ALL {
        assert!(text.contains(&format!(".B {}:", store.scheme)), "evt(7) does not know {}:", store.scheme);
        for option in store.options {
            assert!(text.contains(option), "evt(7) does not know {}:…?{option}=", store.scheme);
        }
    }
    for format in evt_core::format::ALL {
        assert!(text.contains(&format!(".B {}\n", format.name)), "FORMATS of man/evt.7 lacks {}", format.name);
    }
}

/// evt(7) with the list of tools of today.
fn with_tools(page: &str) -> String {
    let (head, rest) = page.split_once(".TP\n.BR ").expect("a list");
    let (_, tail) = rest.split_once(".SH WORDS\n").expect("the end of the list");
    let entry = |tool: &ToolRow| {
        let about = (tool.command)().get_about().map(ToString::to_string).unwrap_or_default();
        format!(".TP\n.BR {} (1)\n{}\n", roff(tool.name), roff(&about))
    };
    let entries: String = tool::ALL.iter().map(entry).collect();
    format!("{head}{entries}.SH WORDS\n{tail}")
}

#[test]
fn the_page_of_words_lists_every_tool_with_what_its_help_says() {
    let page = "man/evt.7";
    assert_file(page, with_tools(&read(page)).as_bytes());
}

/// evt-metrics(5) with the list of aggregates of today.
fn with_aggregates(page: &str) -> String {
    let (before, section) = page.split_once(".SH AGGREGATES\n").expect("the section");
    let (head, rest) = section.split_once(".TP\n").expect("a list");
    let (_, tail) = rest.split_once(".PP\n").expect("the end of the list");
    let entry =
        |row: &&evt_core::op::aggregate::Definition| format!(".TP\n.B {}\n{}\n", roff(row.usage), roff(row.about));
    let entries: String = evt_core::op::aggregate::ALL.iter().map(entry).collect();
    format!("{before}.SH AGGREGATES\n{head}{entries}.PP\n{tail}")
}

#[test]
fn the_page_of_metrics_lists_every_aggregate_and_function() {
    let page = "man/evt-metrics.5";
    assert_file(page, with_aggregates(&read(page)).as_bytes());
    let text = plain(page);
    for function in evt_core::expr::FUNCTIONS {
        let entry = format!(
            ".TP\n.B {}{}",
            function.name,
            function.usage.split_once(':').map_or(function.usage, |(call, _)| call)
        );
        assert!(text.contains(&entry), "evt-metrics(5) has no:\n{entry}");
    }
}

#[test]
fn the_page_of_frames_lists_every_column_and_control_message() {
    let text = plain("man/evt-frame.5");
    for kind in evt_core::kind::Kind::ALL {
        for field in kind.schema().fields() {
            assert!(
                text.contains(&format!("\n{}\t", field.name())),
                "evt-frame(5): {} has no {}",
                kind.name(),
                field.name()
            );
        }
    }
    for key in [
        "evt.progress",
        "evt.watermark",
        "evt.barrier",
        "evt.end",
        "evt.kind",
        "evt.version",
        "evt.stages",
        "evt.pipeline",
    ] {
        assert!(text.contains(&format!(".B {key}\n")), "evt-frame(5) has no {key}");
    }
}
