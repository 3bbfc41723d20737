//! The house rules that a machine can check: sizes, imports, tables, words.

use crate::code::{CRATES, Code, Function, cycles};
use crate::harness::ROOT;
use crate::large_structs::LARGE_STRUCTS;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

const LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const COMMENT_COLUMNS_MAX: usize = 120;
/// Elements of a tuple are counted as arguments.
const ARGUMENTS_MAX: usize = 5;
const FIELDS_MAX: usize = 12;
/// Names of types that many crates define; code writes them with their module (`frame::Writer`).
const CONVENTIONAL: [&str; 12] = [
    "Args", "Builder", "Decoder", "Encoder", "Options", "Reader", "Record", "Row", "Sink", "Source", "State", "Writer",
];

// Limits of today's code.
const FILES_IN_CYCLES: usize = 0;
const MANY_ARGUMENTS: usize = 0;
const MANY_MEANINGS: usize = 0;
const SPREAD_IMPLS: usize = 0;

/// Files in a directory, those of tests not counted.
const FILES_MAX: usize = 12;
/// Rooms whose files are rows of a table: they may have as many as the table.
const TABLES: [&str; 4] = ["crates/core/src/format", "crates/core/src/kind", "crates/core/src/op/aggregate", "src/bin"];
const NAMES_BANNED: [&str; 6] = ["util", "utils", "common", "helpers", "misc", "types"];

/// Directories behind a seam, and what may import them: all else names schemas by `schema::language`.
const BEHIND_SEAMS: [(&str, &[&str]); 2] = [
    (
        "crates/core/src/avro/",
        &[
            "crates/core/src/avro/",
            "crates/core/src/format/avro/",
            "crates/core/src/iceberg/",
            "crates/core/src/schema/avro/",
        ],
    ),
    ("crates/core/src/schema/avro/", &["crates/core/src/schema/"]),
];

/// Files that may read the clocks of the process: adapters of servers, files and threads, and what makes the clock of
/// the run. All others use the clock of the run, which tests control.
const CLOCKS: [&str; 16] = [
    "crates/run/src/clock.rs",
    "src/cli/mod.rs",
    "crates/http/src/",
    "crates/kafka/src/",
    "crates/run/src/metrics.rs",
    "crates/notify/src/",
    "crates/run/src/client/outage.rs",
    "crates/run/src/registry/confluent/",
    "crates/run/src/run/io.rs",
    // Credentials expire.
    "crates/run/src/bucket/cloud/role.rs",
    "crates/run/src/service.rs",
    "crates/run/src/spool/mod.rs",
    // The lag is compared with the timestamps of brokers.
    "src/stage/feeds.rs",
    "crates/run/src/storage/disk.rs",
    "crates/store/src/",
    "src/tool/alert/writer.rs",
];

/// Words with a better term in the glossary.
const WORDS: [(&str, &str); 18] = [
    (r"\bhopping\b", "sliding"),
    (r"\bgrace period\b", "lateness"),
    (r"\btumble\b[^(]", "tumbling window"),
    (r"\bwhitelist\b|\bblacklist\b", "the list it is"),
    (r"\bmessage queue\b", "topic"),
    // The name of an option of Flink, and a part of names of its files, are no words.
    (r"(^|[^'-])\bconnector\b", "store or source"),
    (r"\bmicro-?batch", "batch"),
    (r"\btr(y|ying|ied) again (for|until)\b|: trying again\b", "retrying"),
    (r"\blets? (us|it|him|them) (in|go)\b", "accept, release or revoke"),
    (r"\bstands? twice\b", "duplicate, or occurs twice"),
    (r"\b(is|are) asked for\b", "expected, or requested"),
    (r"\b(who|whoever) (looks|works|asks)\b", "the reader by its name"),
    (r"\bat hand\b|\bfor the eye\b", "available; for reading"),
    (r"\bgo(es)? on\b", "continue"),
    (r"\bst(ands?|ood) still\b", "is paused, makes no progress or does not advance"),
    (r"\bknows? .{0,40}\bagain\b", "recognises"),
    (r"\bhears?\b|\bheeds?\b", "gets, waits for or reacts to"),
    (r"\blive (reads?|call(s|ed)|counts|writes?|wrote|has|did|would)\b|\bof live\b|\blive's\b", "the live run"),
];

/// Every file below `dir` that git tracks or would add, with its text.
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

/// Every file of the crates and of the executables.
pub fn sources() -> Vec<(String, String)> {
    [rust("crates"), rust("src")].concat()
}

/// The path of a file below the `src` of its crate.
fn below_src(file: &str) -> &str {
    file.split_once("src/").expect("it is below src").1
}

fn is_test(name: &str) -> bool {
    let test = ["tests.rs", "conformance.rs", "sample.rs", "test_data.rs"];
    name.starts_with("tests/") || test.iter().any(|end| name.ends_with(end))
}

pub fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// A limit equals the present count in the code: a change that lowers the count also lowers the limit.
fn assert_falls(what: &str, found: &[String], limit: usize) {
    let change = if found.len() > limit { "more than before" } else { "fewer than before: lower the limit" };
    assert_eq!(found.len(), limit, "{what}: {change}\n{}", found.join("\n"));
}

#[test]
fn files_and_lines_of_comments_are_short() {
    let long = |(name, text): &(String, String)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{name}: {lines} lines, expected at most {LINES_MAX}"))
    };
    let is_wide = |line: &&str| line.trim_start().starts_with("//") && line.chars().count() > COMMENT_COLUMNS_MAX;
    let wide = |(name, text): &(String, String)| {
        let (at, line) = text.lines().enumerate().find(|(_, line)| is_wide(line))?;
        Some(format!("{name}:{}: {} columns, at most {COMMENT_COLUMNS_MAX}: {line}", at + 1, line.chars().count()))
    };
    let all: Vec<_> = ["crates", "src", "tests", "fuzz", "benches"].iter().flat_map(|dir| rust(dir)).collect();
    assert_none(&all.iter().filter_map(long).chain(all.iter().filter_map(wide)).collect::<Vec<_>>());
}

#[test]
fn functions_are_short() {
    let (mut faults, mut checked) = (vec![], 0);
    let programs = ["tests/cli/main.rs", "tests/simulation/main.rs", "fuzz/src/lib.rs"];
    let roots = CRATES.into_iter().map(|(_, root)| root).chain(programs).map(str::to_owned);
    let others = ["fuzz/fuzz_targets", "benches"].into_iter().flat_map(rust).map(|(name, _)| name);
    for root in roots.chain(others) {
        let code = Code::with_tests(&root);
        checked += code.functions.len();
        for function in code.functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
            let Function { file, line, name, lines, .. } = function;
            faults.push(format!("{file}:{line}: {name} has {lines} lines, expected at most {FUNCTION_LINES_MAX}"));
        }
    }
    assert!(checked > 3000, "only {checked} functions");
    assert_none(&faults);
}

#[test]
fn functions_take_few_arguments() {
    let describe = |function: &Function| {
        let Function { file, line, name, arguments, .. } = function;
        format!("{file}:{line}: {name} takes {arguments} arguments, expected at most {ARGUMENTS_MAX}")
    };
    let functions = &Code::production().functions;
    let many: Vec<_> = functions.iter().filter(|one| one.arguments > ARGUMENTS_MAX).map(describe).collect();
    assert_falls("functions with many arguments", &many, MANY_ARGUMENTS);
}

#[test]
fn files_do_not_import_each_other_in_cycles() {
    let code = Code::production();
    let imports = code.imports();
    let mut files = vec![];
    for cycle in cycles(&imports) {
        for file in &cycle {
            let within: Vec<&str> = imports[file].iter().filter(|to| cycle.contains(to)).map(String::as_str).collect();
            files.push(format!("{file} (a cycle of {} files) imports {}", cycle.len(), within.join(", ")));
        }
    }
    assert_falls("files in import cycles", &files, FILES_IN_CYCLES);
}

/// What a file is within the directory `parent`: a file or a directory of it, or `None` if it lies elsewhere.
fn part<'a>(parent: &str, file: &'a str) -> Option<&'a str> {
    let rest = file.strip_prefix(parent)?.strip_prefix('/')?;
    rest.split('/').next()
}

/// At every level: of the files and directories that lie side by side, none imports another one that imports it.
#[test]
fn directories_do_not_import_each_other_in_cycles() {
    let imports = Code::production().imports();
    let parents = imports.keys().flat_map(|file| Path::new(file).ancestors().skip(1));
    let parents: BTreeSet<&str> = parents.filter_map(Path::to_str).filter(|dir| dir.contains("src")).collect();
    assert!(parents.len() > 60, "only {} directories", parents.len());
    let mut faults = vec![];
    for parent in parents {
        let mut between: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (file, imports) in &imports {
            let Some(from) = part(parent, file) else { continue };
            let others = imports.iter().filter_map(|import| part(parent, import)).filter(|to| *to != from);
            between.entry(from.to_owned()).or_default().extend(others.map(str::to_owned));
        }
        let describe = |cycle: Vec<String>| format!("{parent}/{{{}}} import each other", cycle.join(","));
        faults.extend(cycles(&between).into_iter().map(describe));
    }
    assert_none(&faults);
}

#[test]
fn a_type_name_stands_for_one_thing() {
    let code = Code::production();
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for found in code.types.iter().filter(|found| !CONVENTIONAL.contains(&found.name.as_str())) {
        files.entry(&found.name).or_default().push(&found.file);
    }
    assert!(files.len() > 300, "only {} names of types", files.len());
    let many = files.iter().filter(|(_, files)| files.len() > 2);
    let many: Vec<_> = many.map(|(name, files)| format!("{name}: {}", files.join(", "))).collect();
    assert_falls("names that stand for three types or more", &many, MANY_MEANINGS);
}

#[test]
fn names_that_many_crates_define_are_written_with_their_module() {
    let is_bare = |(file, path, from): &(&str, &[String], String)| {
        path.last().is_some_and(|name| CONVENTIONAL.contains(&name.as_str())) && room(from) != room(file)
    };
    let bare = Code::production().uses().filter(is_bare);
    let bare = bare.map(|(file, path, _)| format!("{file} imports {}: import its module", path.join("::")));
    assert_none(&bare.collect::<Vec<_>>());
}

/// What is special about a format, a store or an aggregate is a field of its row in the table.
#[test]
fn no_code_compares_the_name_of_a_row_with_a_constant() {
    // A location, not a row: its scheme says whether the connection uses TLS (redis, rediss).
    let is_row = |place: &&String| !place.starts_with("crates/store/src/redis/wire.rs:");
    let compared = Code::production().compared_names.iter().filter(is_row);
    let compared =
        compared.map(|place| format!("{place}: expected a field of the row, found a comparison of its name"));
    assert_none(&compared.collect::<Vec<_>>());
}

#[test]
fn the_methods_of_a_type_stand_in_one_file() {
    let impls = Code::production().impls();
    assert!(impls.len() > 200, "only {} types with methods", impls.len());
    let spread = impls.iter().filter(|(_, files)| files.len() > 1);
    let spread: Vec<_> = spread.map(|(name, files)| format!("{name}: {files:?}")).collect();
    assert_falls("types whose methods stand in several files", &spread, SPREAD_IMPLS);
}

#[test]
fn structs_are_small_or_have_a_reason() {
    let found = Code::production().types.iter().filter(|found| found.fields > FIELDS_MAX);
    let found: BTreeMap<_, _> = found.map(|found| ((found.file.as_str(), found.name.as_str()), found.fields)).collect();
    let pinned = LARGE_STRUCTS.iter().map(|one| ((one.file, one.name), one.fields)).collect::<BTreeMap<_, _>>();
    let is_wrong = |key: &&(&str, &str)| found.get(*key) != pinned.get(*key);
    let keys: BTreeSet<_> = found.keys().chain(pinned.keys()).collect();
    let fields = |fields: Option<&usize>| fields.map_or_else(|| format!("at most {FIELDS_MAX}"), usize::to_string);
    let faults = keys.into_iter().filter(is_wrong).map(|key| {
        let (expected, found) = (fields(pinned.get(key)), fields(found.get(key)));
        format!("{}: {}: expected {expected} fields (tests/cli/large_structs.rs), found {found}", key.0, key.1)
    });
    assert_none(&faults.collect::<Vec<_>>());
    assert!(LARGE_STRUCTS.iter().all(|one| !one.reason.is_empty()), "each has its reason");
}

#[test]
fn directories_are_small_and_modules_have_names_that_say_something() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut faults = vec![];
    for (name, _) in sources() {
        let (dir, file) = name.rsplit_once('/').expect("it is below src");
        if NAMES_BANNED.iter().any(|banned| file == format!("{banned}.rs") || dir.ends_with(&format!("/{banned}"))) {
            faults.push(format!("{name}: its name says nothing"));
        }
        // A third level names a part of a room, such as op/window/spill.
        if below_src(&name).matches('/').count() > 3 {
            faults.push(format!("{name}: deeper than three levels"));
        }
        *counts.entry(dir.to_owned()).or_default() += usize::from(!is_test(file));
    }
    faults.extend(counts.iter().filter(|(dir, n)| **n > FILES_MAX && !TABLES.contains(&dir.as_str())).map(
        |(dir, n)| {
            format!(
                "{dir}: {n} files, expected at most {FILES_MAX}; tests/cli/tidy.rs, TABLES, exempts rows of a table"
            )
        },
    ));
    assert_none(&faults);
}

/// The room of a file: a directory or file in the `src` of a crate, or the whole crate if it is about one thing.
fn room(file: &str) -> &str {
    let single = ["crates/store/", "crates/notify/", "crates/kafka/", "crates/http/"];
    let rest = below_src(file);
    let end = rest.find(['/', '.']).unwrap_or(rest.len());
    single.into_iter().find(|room| file.starts_with(room)).unwrap_or(&file[..file.len() - rest.len() + end])
}

#[test]
fn no_tool_is_a_part_of_another_one() {
    let tools: Vec<[String; 2]> =
        tools().map(|(_, module)| [format!("src/tool/{module}.rs"), format!("src/tool/{module}/")]).collect();
    let tool_of = |file: &str| tools.iter().position(|[one, dir]| file == one || file.starts_with(dir));
    let imports = Code::production().imports();
    assert_eq!(imports.keys().filter_map(|file| tool_of(file)).collect::<BTreeSet<_>>().len(), tools.len());
    let mut faults = vec![];
    for (file, imports) in imports.iter().filter(|(file, _)| *file != "src/tool/mod.rs") {
        let others = imports.iter().filter(|import| tool_of(import).is_some_and(|tool| tool_of(file) != Some(tool)));
        faults.extend(others.map(|import| format!("{file} imports {import}: no tool is a part of another one")));
    }
    assert_none(&faults);
}

#[test]
fn what_is_behind_a_seam_is_imported_by_few() {
    let imports = Code::production().imports();
    let mut faults = vec![];
    for (dir, may) in BEHIND_SEAMS {
        let importers = imports.iter().filter(|(_, imports)| imports.iter().any(|import| import.starts_with(dir)));
        let importers: BTreeSet<&str> = importers.map(|(file, _)| file.as_str()).collect();
        let strangers = importers.iter().filter(|file| !may.iter().any(|place| file.starts_with(place)));
        faults.extend(strangers.map(|file| format!("{file} imports {dir} (tests/cli/tidy.rs, BEHIND_SEAMS)")));
        let unused = may.iter().filter(|place| !importers.iter().any(|file| file.starts_with(**place)));
        faults.extend(unused.map(|place| format!("{place} does not import {dir}: remove it from BEHIND_SEAMS")));
    }
    assert_none(&faults);
}

#[test]
fn the_core_knows_neither_io_nor_a_clock() {
    let impure_std = ["fs", "io", "net", "process", "env", "thread"];
    let mut faults = vec![];
    let core = Code::production().paths().filter(|(file, _)| file.starts_with("crates/core/"));
    for (file, path) in core {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let is_impure = match names.as_slice() {
            // What its caller opened.
            ["std", "fs", "File"] | ["std", "io", ..] if file.starts_with("crates/core/src/format/") => false,
            ["std", "io", ..] if file == "crates/core/src/error.rs" => false,
            ["std", room, ..] if impure_std.contains(room) => true,
            ["println!" | "print!" | "eprintln!" | "eprint!"] => true,
            names => names.contains(&"SystemTime") || names.ends_with(&["Instant", "now"]),
        };
        if is_impure {
            faults.push(format!("{file} names {}, but the core does no I/O and reads no clock", path.join("::")));
        }
    }
    assert_none(&faults);
}

#[test]
fn only_adapters_read_the_clocks_of_the_process() {
    let reads = |path: &[String]| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let clocks = [["Instant", "now"], ["Instant", "elapsed"], ["SystemTime", "now"], ["Clock", "System"]];
        clocks.iter().any(|clock| names.ends_with(clock))
    };
    let readers: BTreeSet<&str> =
        Code::production().paths().filter(|(_, path)| reads(path)).map(|(file, _)| file).collect();
    let may = |file: &str| CLOCKS.iter().find(|place| file.starts_with(**place)).copied();
    let strangers = readers.iter().filter(|file| may(file).is_none() && !is_test(file));
    let mut faults: Vec<_> =
        strangers.map(|file| format!("{file} reads a clock of the process; use Run::clock")).collect();
    let used: BTreeSet<&str> = readers.iter().filter_map(|file| may(file)).collect();
    let unused = CLOCKS.iter().filter(|place| !used.contains(**place));
    faults.extend(unused.map(|place| format!("{place} reads no clock: remove it from CLOCKS")));
    assert_none(&faults);
}

#[test]
fn only_the_streams_of_a_run_are_those_of_the_process() {
    // A stage of the simulation has streams of its own. The main function and launchers write before a run exists.
    let may = ["crates/run/src/run/", "src/cli/mod.rs", "crates/run/src/console.rs", "crates/launcher/src/lib.rs"];
    let is_stream = |path: &[String]| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        ["stdin", "stdout", "stderr"].iter().any(|stream| names.ends_with(&["io", stream]))
    };
    let found: BTreeSet<&str> =
        Code::production().paths().filter(|(_, path)| is_stream(path)).map(|(file, _)| file).collect();
    let faults = found.iter().filter(|file| !may.iter().any(|may| file.starts_with(may)) && !is_test(file));
    assert_none(&faults.map(|file| format!("{file} uses a stream of the process; use Run::io")).collect::<Vec<_>>());
    assert!(may.iter().all(|may| found.iter().any(|file| file.starts_with(may))), "{found:?}");
}

#[test]
fn every_format_store_and_aggregate_has_its_row_in_the_table() {
    let row = Regex::new(r"(?m)^pub(?:\([a-z]+\))? (?:const|static) (\w+): (?:Format|Store|Definition)\b")
        .expect("a pattern");
    let mut rows = 0;
    for dir in ["crates/core/src/format", "crates/store/src", "crates/core/src/op/aggregate"] {
        let table = |name: &str| std::fs::read_to_string(Path::new(ROOT).join(dir).join(name));
        let table = table("mod.rs").or_else(|_| table("lib.rs")).expect("it has one");
        let table = &table[table.find("const ALL: &[&").expect("it has a table")..];
        for (name, text) in rust(dir) {
            for found in row.captures_iter(&text) {
                // A store with a room of its own has its row in that room's mod.rs.
                let path = name.strip_suffix("/mod.rs").or(name.strip_suffix(".rs")).expect("a Rust file");
                let stem = Path::new(path).file_name().expect("a name").to_string_lossy();
                assert!(
                    table.contains(&format!("&{stem}::{},", &found[1]))
                        || table.contains(&format!("&{stem}::{}]", &found[1])),
                    "{name}: {} has no row in ALL of {dir}",
                    &found[1]
                );
                rows += 1;
            }
        }
    }
    assert!(rows >= 15, "only {rows} rows were found: has the way they are written changed?");
}

/// The tools of the table with their modules.
fn tools() -> impl Iterator<Item = (&'static str, String)> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("src/tool/mod.rs")).expect("it is there");
    let row = Regex::new(r"row::<(\w+)::Args>\(\)").expect("a pattern");
    let modules: Vec<String> = row.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    assert_eq!(modules.len(), evt::tool::ALL.len(), "has the way rows are written changed?");
    evt::tool::ALL.iter().map(|tool| tool.name).zip(modules)
}

#[test]
fn every_executable_is_one_line_and_every_tool_has_its_launcher() {
    let main = |name: &str, call: &str| {
        (format!("src/bin/{name}.rs"), format!("fn main() -> std::process::ExitCode {{\n    {call}\n}}\n"))
    };
    let launch = r#"evt_launcher::main(env!("CARGO_BIN_NAME"), env!("EVT_VERSION"))"#;
    let evt = main("evt", r#"evt::tool::choose::main(env!("EVT_VERSION"))"#);
    let mut found = BTreeMap::from_iter(rust("src/bin"));
    let mut faults = vec![];
    for (name, text) in tools().map(|(name, _)| main(name, launch)).chain([evt]) {
        if found.remove(&name).as_ref() != Some(&text) {
            faults.push(format!("{name}: expected\n{text}"));
        }
    }
    faults.extend(found.keys().map(|name| format!("{name} is not a tool of src/tool/mod.rs")));
    assert_none(&faults);
}

#[test]
fn every_file_is_a_module_of_its_program() {
    let mut faults = vec![];
    let programs = ["tests/cli/main.rs", "tests/simulation/main.rs", "fuzz/src/lib.rs"];
    for root in CRATES.into_iter().map(|(_, root)| root).chain(programs) {
        let dir = Path::new(root).parent().and_then(Path::to_str).expect("a directory");
        let known = Code::with_tests(root).imports();
        let files = rust(dir).into_iter().map(|(name, _)| name).filter(|name| !name.starts_with("src/bin/"));
        let lost = files.filter(|name| !known.contains_key(name));
        faults
            .extend(lost.map(|name| format!("{name}: no mod declares it, so it is not compiled ({root} is the root)")));
    }
    assert_none(&faults);
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
    for (name, text) in sources().into_iter().chain(rust("tests")).filter(|(name, _)| name != "tests/cli/tidy.rs") {
        for (number, line) in text.lines().enumerate() {
            let bare = line.trim().starts_with("#[allow") && !line.contains("reason =");
            if bare || line.contains("#[ignore") || line.contains("thread::sleep") && is_test(&name) {
                faults.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(&faults);
}
