//! The house rules that a machine can check: sizes, imports, tables, words, licences.

use crate::harness::ROOT;
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

const LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const ARGUMENTS_MAX: usize = 5;
/// Files in a directory, those of tests not counted.
const FILES_MAX: usize = 12;
const NAMES_BANNED: [&str; 6] = ["util", "utils", "common", "helpers", "misc", "types"];

/// Modules from the bottom to the top; each may import its own layer and those before it.
const LAYERS: [&[&str]; 5] = [
    &["error", "counts", "ratio", "time", "json", "kind", "format", "frame", "expr", "mapping", "op"],
    &["clock", "secret", "console", "metrics", "service", "stop", "registry", "store"],
    &["stream"],
    &["cli"],
    &["tool"],
];
/// Modules that know no I/O and no clock. (A format decodes a file that its caller opened.)
const PURE: [&str; 9] = ["counts", "ratio", "time", "json", "kind", "frame", "expr", "mapping", "op"];

/// Crates that only these files name.
const CLIENTS: [(&str, &str); 13] = [
    ("rusqlite::", "src/store/sqlite"),
    ("rdkafka::", "src/stream/kafka/|src/stream/fetch/|src/stream/produce/"),
    ("redis::Connection", "src/store/redis/"),
    ("tokio_postgres::", "src/store/postgres/"),
    ("tokio::", "src/store/postgres/|src/cli/prometheus.rs|src/stream/http/"),
    ("prometheus_client::", "src/metrics.rs|src/stream/http/"),
    ("sd_notify::", "src/service.rs"),
    ("ureq::", "src/registry/confluent/"),
    ("hyper::", "src/stream/http/|src/cli/prometheus.rs"),
    ("sqlparser::", "src/expr/"),
    ("apache_avro::", "src/format/avro|src/registry/|src/op/schema_|src/op/validate|src/op/generate/"),
    ("indicatif::", "src/cli/|src/console.rs"),
    ("clap::", "src/cli/|src/tool/"),
];

/// Words that have a better one in the glossary.
const WORDS: [(&str, &str); 7] = [
    (r"\bhopping\b", "sliding"),
    (r"\bgrace period\b", "lateness"),
    (r"\btumble\b", "tumbling window"),
    (r"\bwhitelist\b|\bblacklist\b", "the list it is"),
    (r"\bmessage queue\b", "topic"),
    (r"\bconnector\b", "store or source"),
    (r"\bmicro-?batch", "batch"),
];

/// Every file that git knows below `dir`, with its text.
fn files(dir: &str) -> Vec<(String, String)> {
    let output =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard", "--", dir]).current_dir(ROOT).output();
    let output = output.expect("git is installed");
    let names = String::from_utf8(output.stdout).expect("names are UTF-8");
    let text = |name: &str| Some((name.to_owned(), std::fs::read_to_string(Path::new(ROOT).join(name)).ok()?));
    let found: Vec<_> = names.lines().filter_map(text).collect();
    assert!(!found.is_empty(), "no files below {dir}");
    found
}

fn rust(dir: &str) -> Vec<(String, String)> {
    files(dir).into_iter().filter(|(name, _)| name.ends_with(".rs")).collect()
}

fn is_test(name: &str) -> bool {
    let test = ["tests.rs", "conformance.rs", "sample.rs", "test_data.rs"];
    name.starts_with("tests/") || test.iter().any(|end| name.ends_with(end))
}

/// The code of a file without its unit tests.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn files_are_short() {
    let long = |(name, text): &(String, String)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{name}: {lines} lines"))
    };
    let all: Vec<_> = ["src", "tests", "fuzz"].iter().flat_map(|dir| rust(dir)).collect();
    assert_none(&all.iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn functions_are_short_and_take_few_arguments() {
    let start = Regex::new(r"^(\s*)(?:pub(?:\([a-z]+\))? )?(?:const )?fn (\w+)").expect("a pattern");
    let mut faults = vec![];
    for (name, text) in rust("src").into_iter().chain(rust("tests")) {
        let lines: Vec<&str> = text.lines().collect();
        for (first, line) in lines.iter().enumerate() {
            let Some(found) = start.captures(line) else { continue };
            let close = format!("{}}}", &found[1]);
            let length = lines[first..].iter().position(|line| *line == close).map_or(1, |last| last + 1);
            let one_line = line.ends_with('}') || line.ends_with(';');
            if length > FUNCTION_LINES_MAX && !one_line {
                faults.push(format!("{name}:{}: {} has {length} lines", first + 1, &found[2]));
            }
            let count = arguments(&lines[first..].join("\n"));
            if count > ARGUMENTS_MAX && !is_test(&name) {
                faults.push(format!("{name}:{}: {} takes {count} arguments", first + 1, &found[2]));
            }
        }
    }
    assert_none(&faults);
}

/// How many arguments the function takes that `text` starts with, itself (`self`) not counted.
fn arguments(text: &str) -> usize {
    let Some(open) = text.find('(') else { return 0 };
    let (mut depth, mut count, mut filled) = (0, 0, false);
    let mut previous = ' ';
    for c in text[open..].chars() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            '>' if previous == '-' => {}
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 1 => {
                count += usize::from(filled);
                filled = false;
            }
            c if !c.is_whitespace() => filled = true,
            _ => {}
        }
        previous = c;
        if depth == 0 {
            break;
        }
    }
    let takes_self = Regex::new(r"^[^(]*\(\s*(&(\s*'\w+)?\s*)?(mut )?self\b").expect("a pattern").is_match(text);
    count + usize::from(filled) - usize::from(takes_self)
}

#[test]
fn directories_are_small_and_modules_have_names_that_say_something() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut faults = vec![];
    for (name, _) in rust("src") {
        let (dir, file) = name.rsplit_once('/').expect("it is below src");
        if NAMES_BANNED.iter().any(|banned| file == format!("{banned}.rs") || dir.ends_with(&format!("/{banned}"))) {
            faults.push(format!("{name}: its name says nothing"));
        }
        if dir.matches('/').count() > 2 {
            faults.push(format!("{name}: deeper than two levels"));
        }
        *counts.entry(dir.to_owned()).or_default() += usize::from(!is_test(file));
    }
    faults.extend(counts.iter().filter(|(_, n)| **n > FILES_MAX).map(|(dir, n)| format!("{dir}: {n} files")));
    assert_none(&faults);
}

/// The rooms of the registry that do I/O.
const REGISTRIES: [&str; 4] = ["confluent", "directory", "place", "wire"];

/// The layer of a module, or of what is imported from it: most of the registry is pure.
fn layer(module: &str, inner: &str) -> usize {
    if module == "registry" && !inner.is_empty() && !REGISTRIES.contains(&inner) {
        return 0;
    }
    let found = LAYERS.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("{module} stands in no layer: say in tests/cli/tidy.rs where it belongs"))
}

/// The module a file of src is of.
fn module(name: &str) -> &str {
    let rest = name.strip_prefix("src/").expect("it is below src");
    rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs")
}

#[test]
fn imports_point_down() {
    let import = Regex::new(r"crate::([a-z_]+)(?:::\{?(\w+))?").expect("a pattern");
    let mut faults = vec![];
    for (name, text) in rust("src") {
        let own = module(&name);
        if ["lib", "bin"].contains(&own) || is_test(&name) {
            continue;
        }
        for (number, line) in production(&text).lines().enumerate().filter(|(_, line)| !line.trim().starts_with("//")) {
            for found in import.captures_iter(line) {
                let (to, inner) = (&found[1], found.get(2).map_or("", |inner| inner.as_str()));
                let sideways = own == "tool" && to == "tool" && !name.ends_with(&format!("/{inner}.rs"));
                if layer(to, inner) > layer(own, "") || sideways {
                    faults.push(format!("{name}:{}: {own} imports {to}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn what_is_pure_knows_neither_io_nor_a_clock() {
    let impure = Regex::new(r"std::(fs|io|net|process|env|thread)\b|SystemTime|Instant::now|rustix::|println!")
        .expect("a pattern");
    let mut faults = vec![];
    for (name, text) in rust("src") {
        let is_pure = PURE.contains(&module(&name)) || name.starts_with("src/registry/");
        let does_io = REGISTRIES.iter().any(|room| name.starts_with(&format!("src/registry/{room}")));
        if !is_pure || is_test(&name) || does_io {
            continue;
        }
        for (number, line) in production(&text).lines().enumerate() {
            if impure.is_match(line) && !line.trim().starts_with("//") {
                faults.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn each_client_crate_is_named_where_it_belongs_and_nowhere_else() {
    let mut faults = vec![];
    for (name, text) in rust("src").iter().filter(|(name, _)| !is_test(name)) {
        for (client, places) in CLIENTS {
            if production(text).contains(client) && !places.split('|').any(|place| name.starts_with(place)) {
                faults.push(format!("{name}: names {client}"));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn every_format_store_and_aggregate_has_its_row_in_the_table() {
    let row = Regex::new(r"(?m)^pub(?:\([a-z]+\))? (?:const|static) (\w+): (?:Format|Store|Definition)\b")
        .expect("a pattern");
    let mut rows = 0;
    for dir in ["src/format", "src/store", "src/op/aggregate"] {
        let table = std::fs::read_to_string(Path::new(ROOT).join(dir).join("mod.rs")).expect("it has one");
        let table = &table[table.find("const ALL: &[&").expect("it has a table")..];
        for (name, text) in rust(dir) {
            for found in row.captures_iter(&text) {
                // A store with a room of its own has its row in that room's mod.rs.
                let path = name.strip_suffix("/mod.rs").or(name.strip_suffix(".rs")).expect("a Rust file");
                let stem = Path::new(path).file_name().expect("a name").to_string_lossy();
                assert!(
                    table.contains(&format!("&{stem}::{},", &found[1]))
                        || table.contains(&format!("&{stem}::{}]", &found[1])),
                    "{name}: {} has no row in {dir}",
                    &found[1]
                );
                rows += 1;
            }
        }
    }
    assert!(rows >= 15, "only {rows} rows were found: has the way they are written changed?");
}

#[test]
fn every_binary_is_one_line_and_has_its_tool() {
    for (name, text) in rust("src/bin") {
        let code: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("//")).collect();
        assert!(code.len() <= 3, "{name}: a binary is one call: {code:?}");
        assert!(text.contains("evt::cli::main::<evt::tool::"), "{name}");
    }
}

#[test]
fn words_are_those_of_the_glossary_and_nothing_speaks_of_this_machine() {
    let banned: Vec<(Regex, &str)> =
        WORDS.iter().map(|(word, better)| (Regex::new(&format!("(?i){word}")).expect("a pattern"), *better)).collect();
    let elsewhere = Regex::new(r"/(root|home/\w+|work)/|\bTODO\b|\bFIXME\b|\bXXX\b").expect("a pattern");
    let mut faults = vec![];
    for (name, text) in files(".") {
        if name == "tests/cli/tidy.rs" || name == "Cargo.lock" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for (word, better) in &banned {
                if word.is_match(line) {
                    faults.push(format!("{name}:{}: say {better}: {line}", number + 1));
                }
            }
            if elsewhere.is_match(line) {
                faults.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn every_exception_to_a_lint_has_its_reason_and_no_test_skips_itself() {
    let mut faults = vec![];
    for (name, text) in rust("src").into_iter().chain(rust("tests")).filter(|(name, _)| name != "tests/cli/tidy.rs") {
        for (number, line) in text.lines().enumerate() {
            let bare = line.trim().starts_with("#[allow") && !line.contains("reason =");
            if bare || line.contains("#[ignore") || line.contains("thread::sleep") && is_test(&name) {
                faults.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(&faults);
}

/// The packages of the lock: name → versions.
fn locked() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).expect("it is committed");
    let lock: toml::Table = toml::from_str(&text).expect("TOML");
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("packages") {
        let text = |key: &str| package[key].as_str().expect("text").to_owned();
        packages.entry(text("name")).or_default().insert(text("version"));
    }
    packages
}

fn deny() -> toml::Table {
    let text = std::fs::read_to_string(Path::new(ROOT).join("deny.toml")).expect("it is committed");
    toml::from_str(&text).expect("TOML")
}

#[test]
fn there_is_one_arrow_and_nothing_that_is_banned() {
    let locked = locked();
    for ban in deny()["bans"]["deny"].as_array().expect("bans") {
        let name = ban["crate"].as_str().expect("a name");
        let versions = locked.get(name);
        match ban.get("deny-multiple-versions") {
            Some(_) => assert_eq!(versions.map(BTreeSet::len), Some(1), "{name}: {versions:?}"),
            None => assert_eq!(versions, None, "{name} is banned"),
        }
    }
}

#[test]
fn every_dependency_may_be_used_under_a_licence_we_accept() {
    let deny = deny();
    let allowed: Vec<&str> =
        deny["licenses"]["allow"].as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(ROOT)
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let mut faults = vec![];
    for package in metadata["packages"].as_array().expect("packages") {
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_allowed(licence, &allowed) {
            faults.push(format!("{}: {licence}", package["name"]));
        }
    }
    assert_none(&faults);
}

/// Whether an SPDX expression can be met: of every part joined by AND, one of the alternatives is allowed.
fn is_allowed(licence: &str, allowed: &[&str]) -> bool {
    let licence = licence.replace('/', " OR ");
    let parts = |text: &str, word: &str| -> Vec<String> {
        let (mut parts, mut depth) = (vec![String::new()], 0);
        for token in text.replace('(', " ( ").replace(')', " ) ").split_whitespace() {
            depth += i32::from(token == "(") - i32::from(token == ")");
            match parts.last_mut() {
                Some(_) if depth == 0 && token == word => parts.push(String::new()),
                Some(part) => *part = format!("{part} {token}").trim().to_owned(),
                None => {}
            }
        }
        parts
    };
    let bare = licence.trim();
    let inner = bare.strip_prefix('(').and_then(|text| text.strip_suffix(')')).filter(|text| !text.contains('('));
    let bare = inner.unwrap_or(bare).trim();
    let (any, all) = (parts(bare, "OR"), parts(bare, "AND"));
    match (any.len(), all.len()) {
        (1, 1) => allowed.contains(&bare),
        (1, _) => all.iter().all(|part| is_allowed(part, allowed)),
        _ => any.iter().any(|part| is_allowed(part, allowed)),
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"];
    for (licence, verdict) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 AND MIT", false),
        ("(GPL-3.0 OR MIT) AND Zlib", true),
        ("(GPL-3.0 OR BSD-2-Clause) AND Zlib", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
    ] {
        assert_eq!(is_allowed(licence, &allowed), verdict, "{licence}");
    }
}

#[test]
fn the_counting_of_arguments_is_not_fooled() {
    assert_eq!(arguments("fn a(&mut self, b: Option<(u8, u8)>, c: impl Fn(u8, u8) -> u8) {"), 2);
    assert_eq!(arguments("fn a() {"), 0);
    assert_eq!(arguments("fn a(self) {"), 0);
    assert_eq!(arguments("fn a(\n    b: [u8; 4],\n    c: u8,\n) {"), 2);
}
