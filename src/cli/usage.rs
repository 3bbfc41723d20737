//! Formats clap's error messages in one line.

use clap::error::{ContextKind, ContextValue};

/// Flags that only some tools have, or that other programs have, and where a user who expects them finds what they do.
const ELSEWHERE: [(&str, &str); 23] = [
    ("--follow", "evt-ingest --follow FILE | TOOL reads files that grow"),
    ("--columns", "TOOL … | evt-view --columns NAMES selects columns"),
    ("--head", "TOOL … | evt-view --head N shows the first rows"),
    ("--sort", "TOOL … | evt-view --sort NAME sorts rows"),
    ("--tail", "TOOL … | evt-view --tail N shows the last rows"),
    ("--aggregate", "evt-window --agg 'NAME=CALL' computes an aggregate"),
    ("--fields", "evt-view --columns NAMES selects columns"),
    ("--filter", "--where CONDITION of evt-ingest, evt-window and evt-view chooses rows"),
    ("--format", "-f FORMAT reads a format, -o FORMAT writes one"),
    ("--group-by", "evt-window --by NAMES groups rows"),
    ("--input", "files and URIs to read are arguments without a flag"),
    ("--limit", "evt-view --head N shows the first rows"),
    ("-n", "evt-view --head N shows the first rows"),
    ("--order-by", "evt-view --sort NAME sorts rows"),
    ("--out", "--to URI names an output"),
    ("--output", "--to URI names an output"),
    ("--select", "evt-view --columns NAMES selects columns"),
    ("--separator", "--delimiter C separates the fields of CSV"),
    ("--timezone", "--time-zone NAME is for times without an offset, evt-window --window-zone NAME for local days"),
    ("--tz", "--time-zone NAME is for times without an offset, evt-window --window-zone NAME for local days"),
    ("--window", "evt-window --size DURATION makes windows"),
    ("--zone", "--time-zone NAME is for times without an offset, evt-window --window-zone NAME for local days"),
    ("-d", "--delimiter C separates the fields of CSV"),
];

/// Returns clap's message, in one line: with its advice, or with the tool that has an unknown flag.
pub(super) fn sentence(error: &clap::Error, tool: &str) -> String {
    let text = error.render().to_string();
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        && error.kind() == clap::error::ErrorKind::UnknownArgument
        && let Some((flag, way_out)) = ELSEWHERE.iter().find(|(known, _)| flag == known)
    {
        return format!("unexpected argument '{flag}' found; {}", way_out.replace("TOOL", tool));
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
