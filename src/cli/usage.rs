//! Formats clap's error messages in one line.

use clap::error::{ContextKind, ContextValue};

/// Flags that only some tools have, and where a user who expects them finds them.
const ELSEWHERE: [(&str, &str); 5] = [
    ("--follow", "evt-ingest --follow FILE | TOOL reads files that grow"),
    ("--columns", "TOOL … | evt-view --columns NAMES selects columns"),
    ("--head", "TOOL … | evt-view --head N shows the first rows"),
    ("--sort", "TOOL … | evt-view --sort NAME sorts rows"),
    ("--tail", "TOOL … | evt-view --tail N shows the last rows"),
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
