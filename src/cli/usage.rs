//! Formats clap's error messages in one line.

use super::tool::ToolRow;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};
use strsim::osa_distance;

/// A misspelled flag may have one letter that is wrong, missing or swapped with the next one for every this many
/// letters.
const LETTERS_PER_FAULT: usize = 4;

/// Advice for a flag that only some tools or other programs have: the commands that do what a user expects of it.
struct Advice {
    /// The flag, with other names of it.
    flags: &'static [&'static str],
    /// The commands to type instead; the message shows the first one whose flags the tool has. `TOOL` stands for the
    /// name of the tool. A flag behind the name of another tool is a flag of that tool.
    texts: &'static [&'static str],
}

const ADVICE: &[Advice] = &[
    Advice { flags: &["--dead"], texts: &["evt-replay LETTERS replays dead letters"] },
    Advice { flags: &["--follow"], texts: &["evt-ingest --follow FILE | TOOL reads files that grow"] },
    Advice {
        flags: &["--columns", "--fields", "--select"],
        texts: &[
            "--columns NAMES selects columns",
            "TOOL … | evt-view --columns NAMES selects columns",
            "evt-view --columns NAMES selects columns",
        ],
    },
    Advice {
        flags: &["--head", "--limit", "-n"],
        texts: &[
            "--head N shows the first rows",
            "TOOL … | evt-view --head N shows the first rows",
            "evt-view --head N shows the first rows",
        ],
    },
    Advice {
        flags: &["--sort", "--order-by"],
        texts: &[
            "--sort NAME sorts rows",
            "TOOL … | evt-view --sort NAME sorts rows",
            "evt-view --sort NAME sorts rows",
        ],
    },
    Advice {
        flags: &["--tail"],
        texts: &["TOOL … | evt-view --tail N shows the last rows", "evt-view --tail N shows the last rows"],
    },
    Advice {
        flags: &["--agg", "--aggregate"],
        texts: &[
            "--agg 'NAME=CALL' computes an aggregate",
            "aggregate in the file of --rules computes the value of a rule",
            "aggregate in the file of --metrics computes a metric",
            "evt-window --agg 'NAME=CALL' computes an aggregate",
        ],
    },
    Advice {
        flags: &["--date", "--parse-dates"],
        texts: &["--time FIELD names the field with the event time, --time-format STRFTIME its format"],
    },
    Advice {
        flags: &["--by", "--dimension", "--group-by", "--groupby"],
        texts: &[
            "--by NAMES groups the rows of --agg",
            "by in the file of --rules groups the rows of a rule",
            "by in the file of --metrics groups the rows of a metric",
            "evt-window --by NAMES groups rows",
        ],
    },
    Advice {
        flags: &["--size", "--every", "--freq", "--interval", "--resample", "--window"],
        texts: &[
            "--size DURATION makes windows of --agg, --slide DURATION overlapping ones",
            "window_seconds in the file of --rules is the length of a window",
            "size in the file of --metrics makes windows, slide overlapping ones",
            "evt-window --size DURATION makes windows, evt-window --slide DURATION overlapping ones",
        ],
    },
    Advice {
        flags: &["--slide", "--rolling"],
        texts: &[
            "--size DURATION --slide DURATION makes overlapping windows of --agg",
            "window_seconds in the file of --rules is the length of windows, which slide by a second",
            "slide in the file of --metrics makes overlapping windows",
            "evt-window --size DURATION --slide DURATION makes overlapping windows",
        ],
    },
    Advice {
        flags: &["--where", "--filter"],
        texts: &[
            "--where CONDITION chooses rows",
            "where in the file of --rules chooses the rows of a rule",
            "where in the file of --metrics chooses the rows of a metric",
            "evt-ingest --where CONDITION … | TOOL chooses rows",
        ],
    },
    Advice { flags: &["--let"], texts: &["evt-ingest --let NAME=EXPR … | TOOL computes fields"] },
    Advice {
        flags: &["--from", "--since"],
        texts: &[
            "--since INSTANT begins a range of event time, and inputs are arguments without a flag",
            "--start INSTANT is the time of the first event",
        ],
    },
    Advice { flags: &["--format"], texts: &["-f FORMAT reads a format, -o FORMAT writes one"] },
    Advice {
        flags: &["--in", "--input", "-i"],
        texts: &["files and URIs to read are arguments without a flag, -f FORMAT is their format"],
    },
    Advice { flags: &["--out", "--output"], texts: &["--to URI names an output", "TOOL > FILE writes a file"] },
    Advice {
        flags: &["--wide", "--pivot"],
        texts: &["evt-window --wide puts the metrics of a window and key side by side"],
    },
    Advice {
        flags: &["--query", "--sql"],
        texts: &["evt-view FILE --where CONDITION --columns NAMES shows rows, evt-window --agg 'NAME=CALL' aggregates"],
    },
    Advice { flags: &["--sep", "--separator", "-d"], texts: &["--delimiter C separates the fields of CSV"] },
    Advice {
        flags: &["--timezone", "--tz", "--zone"],
        texts: &["--time-zone NAME is for times without an offset, evt-window --window-zone NAME for local days"],
    },
    Advice { flags: &["--verbose"], texts: &["--stats FILE writes all counts as JSON at the end"] },
];

/// Returns the flags that have an advice.
pub fn advised_flags() -> impl Iterator<Item = &'static str> {
    ADVICE.iter().flat_map(|advice| advice.flags).copied()
}

/// Returns clap's message, in one line: with its advice, or with the tools that have an unknown flag. `command` is that
/// of the tool.
pub(super) fn sentence(error: &clap::Error, command: &Command, tools: &[ToolRow]) -> String {
    let text = error.render().to_string();
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        && error.kind() == clap::error::ErrorKind::UnknownArgument
    {
        let hint = remedy(flag, command, tools).map_or_else(String::new, |remedy| format!("; {remedy}"));
        return format!("unexpected argument '{flag}' found{hint}");
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let shown = lines.iter().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let mut sentence = String::new();
    for line in shown {
        let mark = if sentence.is_empty() {
            ""
        } else if line.starts_with("tip: ") {
            "; "
        } else {
            " "
        };
        sentence.extend([mark, line.strip_prefix("error: ").unwrap_or(line)]);
    }
    sentence
}

/// Returns the advice for an unknown flag. clap's own tips propose flags that only share some letters with it.
fn remedy(flag: &str, command: &Command, tools: &[ToolRow]) -> Option<String> {
    let advice = ADVICE.iter().find(|advice| advice.flags.contains(&flag));
    let text = advice.and_then(|advice| advice.texts.iter().find(|text| applies(text, command)));
    match (advice, text) {
        (Some(_), text) => text.map(|text| text.replace("TOOL", command.get_name())),
        (None, _) => {
            let name = flag.strip_prefix("--")?;
            let has = |tool: &&ToolRow| flags(&(tool.command)()).any(|arg| arg.get_long() == Some(name));
            let others: Vec<&str> = tools.iter().filter(has).map(|tool| tool.name).collect();
            match others.is_empty() {
                false => Some(format!("it is a flag of {}", others.join(", "))),
                true => near(name, command).map(|near| format!("tip: a similar argument exists: '--{near}'")),
            }
        }
    }
}

/// Whether the tool has the flags that an advice names as its own, and reads or writes the pipe of it.
fn applies(text: &str, command: &Command) -> bool {
    let own = command.get_name();
    let has = |word: &str| {
        let name = word.trim_start_matches('-').trim_end_matches([',', ';']);
        flags(command).any(|arg| arg.get_long() == Some(name) || name.chars().eq(arg.get_short()))
    };
    let mut is_own = true;
    let mut has_all = true;
    for word in text.split(' ') {
        match word {
            "TOOL" => is_own = true,
            _ if word.starts_with("evt-") => is_own = word == own,
            _ if word.starts_with('-') && is_own => has_all &= has(word),
            _ => {}
        }
    }
    let reads = has("--input-format") && command.get_positionals().any(|arg| arg.get_default_values() == ["-"]);
    let writes = has("--output-format") || !reads && has("--truth");
    has_all && (reads || !text.contains("| TOOL")) && (writes || !text.contains("TOOL … |"))
}

/// Returns the flag of the command to which a misspelled name is nearest, if one is near enough.
fn near<'a>(name: &str, command: &'a Command) -> Option<&'a str> {
    let length = name.chars().count();
    let most = if length > 2 { (length / LETTERS_PER_FAULT).max(1) } else { 0 };
    let is_part = |long: &&str| long.starts_with(name) && length * 2 >= long.len() || starts_with_word(name, long);
    let distance = |long: &&str| osa_distance(name, long);
    let longs = flags(command).filter_map(Arg::get_long);
    longs.filter(|long| distance(long) <= most || is_part(long)).min_by_key(distance)
}

/// Whether a name begins with the words of another one: `time-field`, `time`.
fn starts_with_word(name: &str, word: &str) -> bool {
    name.strip_prefix(word).is_some_and(|rest| rest.starts_with('-'))
}

/// Returns the flags of a tool and of its actions.
fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().chain(command.get_subcommands().flat_map(Command::get_arguments))
}
