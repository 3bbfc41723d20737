//! Formats clap's error messages in one line.

use clap::error::{ContextKind, ContextValue};
use strsim::levenshtein;

/// The number of letters by which a flag may differ from the one that is proposed for it.
const NEAR: usize = 2;

/// Flags that only some tools have, or that other programs have, and where a user who expects them finds what they do.
const ELSEWHERE: [(&str, &str); 42] = [
    ("--follow", "evt-ingest --follow FILE | TOOL reads files that grow"),
    ("--columns", "TOOL … | evt-view --columns NAMES selects columns"),
    ("--head", "TOOL … | evt-view --head N shows the first rows"),
    ("--sort", "TOOL … | evt-view --sort NAME sorts rows"),
    ("--tail", "TOOL … | evt-view --tail N shows the last rows"),
    ("--aggregate", "evt-window --agg 'NAME=CALL' computes an aggregate"),
    ("--date", "--time FIELD names the field with the event time"),
    ("--dimension", "evt-window --by NAMES groups rows"),
    ("--every", "evt-window --size DURATION makes windows, --slide DURATION overlapping ones"),
    ("--fields", "evt-view --columns NAMES selects columns"),
    ("--filter", "--where CONDITION of evt-ingest, evt-window and evt-view chooses rows"),
    ("--from", "--since INSTANT begins a range of event time, and inputs are arguments without a flag"),
    ("--freq", "evt-window --size DURATION makes windows"),
    ("--format", "-f FORMAT reads a format, -o FORMAT writes one"),
    ("--group-by", "evt-window --by NAMES groups rows"),
    ("--groupby", "evt-window --by NAMES groups rows"),
    ("--in", "files and URIs to read are arguments without a flag"),
    ("--input", "files and URIs to read are arguments without a flag"),
    ("--interval", "evt-window --size DURATION makes windows"),
    ("--let", "evt-ingest --let NAME=EXPR … | TOOL computes fields"),
    ("--limit", "evt-view --head N shows the first rows"),
    ("-n", "evt-view --head N shows the first rows"),
    ("--order-by", "evt-view --sort NAME sorts rows"),
    ("--out", "--to URI names an output"),
    ("--output", "--to URI names an output"),
    ("--parse-dates", "--time FIELD names the field with the event time"),
    ("--pivot", "evt-window --wide puts the metrics of a window and key side by side"),
    ("--query", "evt-view FILE --where CONDITION --columns NAMES shows rows, evt-window --agg 'NAME=CALL' aggregates"),
    ("--resample", "evt-window --size DURATION makes windows"),
    ("--rolling", "evt-window --size DURATION --slide DURATION makes overlapping windows"),
    ("--select", "evt-view --columns NAMES selects columns"),
    ("--sep", "--delimiter C separates the fields of CSV"),
    ("--separator", "--delimiter C separates the fields of CSV"),
    ("--sql", "evt-view FILE --where CONDITION --columns NAMES shows rows, evt-window --agg 'NAME=CALL' aggregates"),
    ("--timezone", "--time-zone NAME is for times without an offset, evt-window --window-zone NAME for local days"),
    ("--tz", "--time-zone NAME is for times without an offset, evt-window --window-zone NAME for local days"),
    ("--verbose", "--stats adds a line of JSON with all counts at the end"),
    ("--where", "evt-ingest --where CONDITION … | TOOL chooses rows"),
    ("--window", "evt-window --size DURATION makes windows"),
    ("--zone", "--time-zone NAME is for times without an offset, evt-window --window-zone NAME for local days"),
    ("-i", "files and URIs to read are arguments without a flag"),
    ("-d", "--delimiter C separates the fields of CSV"),
];

/// Returns clap's message, in one line: with its advice, or with the tool that has an unknown flag.
pub(super) fn sentence(error: &clap::Error, tool: &str) -> String {
    let text = error.render().to_string();
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        && error.kind() == clap::error::ErrorKind::UnknownArgument
    {
        return format!("unexpected argument '{flag}' found{}", way_out(error, flag, tool));
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let told = lines.iter().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let mut sentence = String::new();
    for line in told {
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

/// Returns what to type instead of an unknown flag, after a semicolon. clap's own tips propose flags that only share
/// some letters with it.
fn way_out(error: &clap::Error, flag: &str, tool: &str) -> String {
    if let Some((_, way_out)) = ELSEWHERE.iter().find(|(known, _)| flag == *known) {
        return format!("; {}", way_out.replace("TOOL", tool));
    }
    let near = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(near)) => near,
        _ => return String::new(),
    };
    let is_near = near.starts_with(flag) || flag.starts_with(near.as_str()) || levenshtein(flag, near) <= NEAR;
    if is_near { format!("; tip: a similar argument exists: '{near}'") } else { String::new() }
}
