//! Every text of `src` that names a flag has a test with its words.

use crate::documents::read;
use crate::harness::ROOT;
use crate::messages;
use evt::tool;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use regex::Regex;
use std::process::Command;

/// The characters beside a flag that a test must have, too.
const CONTEXT: usize = 12;
/// Fewer letters beside a flag would be found in any command; such a text needs a row in messages.rs.
const CONTEXT_LEAST: usize = 5;

/// A text with flags that no test needs to have, and why.
struct Exception {
    file: &'static str,
    begins: &'static str,
    reason: &'static str,
}

const EXPORTED: &str = "the help of a metric, which scrape.rs compares with evt(7)";

const EXCEPTIONS: [Exception; 10] = [
    Exception { file: "crates/run/src/metrics.rs", begins: "Faulty records, written to --dlq", reason: EXPORTED },
    Exception { file: "crates/run/src/metrics.rs", begins: "How long the last epoch", reason: EXPORTED },
    Exception { file: "crates/run/src/metrics.rs", begins: "The number of the last complete epoch", reason: EXPORTED },
    Exception { file: "crates/run/src/metrics.rs", begins: "The bytes of the last complete epoch", reason: EXPORTED },
    Exception {
        file: "crates/run/src/metrics.rs",
        begins: "The time from the start of the process until",
        reason: EXPORTED,
    },
    Exception { file: "crates/run/src/metrics.rs", begins: "Keys with state in windows", reason: EXPORTED },
    Exception { file: "crates/run/src/metrics.rs", begins: "State in memory (approximate)", reason: EXPORTED },
    Exception { file: "crates/run/src/metrics.rs", begins: "Rows that rules left out", reason: EXPORTED },
    Exception { file: "crates/run/src/metrics.rs", begins: "Size of the spool", reason: EXPORTED },
    Exception {
        file: "crates/core/src/reconcile/exposition.rs",
        begins: "Records of A that are in a side output",
        reason: "the help of a metric of -o prometheus",
    },
];

/// A literal, with its file.
struct Literal {
    file: String,
    text: String,
}

/// The names of Rust files below a directory.
fn rust_files(directory: &str) -> Vec<String> {
    let args = ["ls-files", "-co", "--exclude-standard", "--", directory];
    let output = Command::new("git").args(args).current_dir(ROOT).output().expect("git is installed");
    let names = String::from_utf8(output.stdout).expect("names are UTF-8");
    names.lines().filter(|name| name.ends_with(".rs")).map(str::to_owned).collect()
}

/// Collects the text literals of code; attributes, which hold the help of flags and comments, are left out.
fn collect(tokens: TokenStream, found: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                tokens.next_if(|next| matches!(next, TokenTree::Punct(mark) if mark.as_char() == '!'));
                tokens
                    .next_if(|next| matches!(next, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket));
            }
            TokenTree::Group(group) => collect(group.stream(), found),
            TokenTree::Literal(literal) => {
                if let syn::Lit::Str(text) = syn::Lit::new(literal) {
                    found.push(text.value());
                }
            }
            _ => {}
        }
    }
}

/// The literals of a file: those of its code, and those of its unit tests.
fn literals(file: &str) -> [Vec<String>; 2] {
    let text = read(file);
    let is_test = file.starts_with("tests/")
        || ["tests.rs", "test_data.rs", "conformance.rs", "sample.rs"].iter().any(|end| file.ends_with(end));
    let begin = Regex::new(r"#\[cfg\(test\)\]\n(pub\(super\) )?mod tests \{").expect("a pattern");
    let cut = if is_test { 0 } else { begin.find(&text).map_or(text.len(), |found| found.start()) };
    [&text[..cut], &text[cut..]].map(|text| {
        let mut found = vec![];
        let tokens = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        collect(tokens, &mut found);
        found
    })
}

/// Whether a text is a message with a flag, and not only the name of one.
fn names_a_flag(text: &str) -> bool {
    static FLAG: std::sync::OnceLock<Regex> = std::sync::OnceLock::new();
    let flag = FLAG.get_or_init(|| Regex::new("(^|[^a-z0-9-])--[a-z]{2}").expect("a pattern"));
    text.len() > 14 && text.contains(' ') && flag.is_match(text)
}

/// A piece of a literal: text as it is, or a value that is put in.
#[derive(Clone, Debug)]
enum Piece {
    Text(char),
    Value,
}

fn pieces(text: &str) -> Vec<Piece> {
    let value = Regex::new(r"\{[^{}]*\}").expect("a pattern");
    let mut found = vec![];
    let mut at = 0;
    for hole in value.find_iter(text) {
        found.extend(text[at..hole.start()].chars().map(Piece::Text));
        found.push(Piece::Value);
        at = hole.end();
    }
    found.extend(text[at..].chars().map(Piece::Text));
    found
}

/// A pattern of pieces, and how many letters of it are text.
fn pattern(pieces: &[Piece]) -> String {
    let of = |piece: &Piece| match piece {
        Piece::Text(char) => regex::escape(&char.to_string()),
        Piece::Value => ".{1,60}?".to_owned(),
    };
    pieces.iter().map(of).collect()
}

fn letters(pieces: &[Piece]) -> usize {
    pieces.iter().filter(|piece| matches!(piece, Piece::Text(char) if char.is_alphanumeric())).count()
}

/// Whether tests have a flag of a text with the words before or behind it.
fn is_tested(text: &str, tests: &str, messages: &str) -> bool {
    let flag = Regex::new("--[a-z][a-z-]+").expect("a pattern");
    let pieces = pieces(text);
    let plain: String =
        pieces.iter().map(|piece| if let Piece::Text(char) = piece { *char } else { '\u{1}' }).collect();
    let whole = Regex::new(&pattern(&pieces)).expect("a pattern");
    let near = |found: regex::Match<'_>| {
        let start = plain[..found.start()].chars().count();
        let end = start + found.as_str().chars().count();
        let ways = [&pieces[start.saturating_sub(CONTEXT)..end], &pieces[start..(end + CONTEXT).min(pieces.len())]];
        let has = |way: &[Piece]| {
            letters(way) >= letters(&pieces[start..end]) + CONTEXT_LEAST
                && Regex::new(&pattern(way)).expect("a pattern").is_match(tests)
        };
        ways.into_iter().any(has)
    };
    whole.is_match(messages) || flag.find_iter(&plain).any(near)
}

#[test]
fn every_message_that_names_a_flag_has_a_test_with_its_words() {
    let mut files = rust_files("tests");
    // The exceptions are not tests.
    files.retain(|file| file != "tests/cli/flag_words.rs");
    let mut tests: Vec<String> = files.iter().flat_map(|file| literals(file).concat()).collect();
    let mut messages: Vec<Literal> = vec![];
    for file in ["crates", "src"].iter().flat_map(|dir| rust_files(dir)) {
        let [code, of_tests] = literals(&file);
        tests.extend(of_tests);
        let named = code.into_iter().filter(|text| names_a_flag(text));
        messages.extend(named.map(|text| Literal { file: file.clone(), text }));
    }
    assert!(messages.len() > 200 && tests.len() > 5000, "{} {}", messages.len(), tests.len());
    let tests = tests.join("\n");
    let provoked = messages::said().join("\n");
    // Lines of man pages and units, which docs.rs, man.rs and services.rs compare or run.
    let is_page = |text: &str| {
        tool::ALL.iter().any(|tool| {
            let is_unit = tool.unit.is_some_and(|unit| unit.args == text || unit.settings == text);
            is_unit || tool.negative == text || tool.examples.iter().any(|(_, line)| *line == text)
        })
    };
    let (mut faults, mut excepted) = (vec![], vec![0; EXCEPTIONS.len()]);
    for Literal { file, text } in &messages {
        // flags.rs tests each line of that table.
        if file == "src/cli/usage.rs" || is_page(text) || is_tested(text, &tests, &provoked) {
            continue;
        }
        match EXCEPTIONS.iter().position(|one| one.file == file && text.starts_with(one.begins)) {
            Some(at) => excepted[at] += 1,
            None => faults.push(format!("{file}: {text}")),
        }
    }
    let unused = EXCEPTIONS.iter().zip(&excepted).filter(|(_, count)| **count != 1);
    faults.extend(unused.map(|(one, count)| format!("{}: {}: {count} texts, expected one", one.file, one.begins)));
    assert!(EXCEPTIONS.iter().all(|one| !one.reason.is_empty()));
    assert!(
        faults.is_empty(),
        "{} texts without a test; tests/cli/messages.rs takes a row for each:\n{}",
        faults.len(),
        faults.join("\n")
    );
}
