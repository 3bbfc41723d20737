//! The head of each directory of `src` names its files, so that a reader of `mod.rs` knows where everything is.

use crate::code::Code;
use crate::harness::ROOT;
use std::path::Path;

/// Directories whose files are rows of a table, which names them.
const TABLES: [&str; 3] = ["crates/core/src/kind", "crates/core/src/op/aggregate", "crates/notify/src/channel"];

/// Whether a text has this word.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[test]
fn the_head_of_a_directory_names_its_files() {
    let (mut faults, mut heads) = (vec![], 0);
    for file in Code::production().imports().into_keys() {
        let Some((dir, name)) = file.rsplit_once('/') else { continue };
        let stem = name.trim_end_matches(".rs");
        let is_of_tests = stem == "tests" || stem == "test_data" || stem.ends_with("_tests");
        if stem == "mod" || stem == "lib" || is_of_tests || TABLES.contains(&dir) {
            continue;
        }
        let head = |name: &str| std::fs::read_to_string(Path::new(ROOT).join(dir).join(name));
        let Ok(module) = head("mod.rs").or_else(|_| head("lib.rs")) else { continue };
        let head: String = module.lines().take_while(|line| line.starts_with("//!")).collect();
        heads += 1;
        if !has_word(&head, stem) {
            faults.push(format!("{dir}: the head of mod.rs or lib.rs does not name {name}"));
        }
    }
    assert!(heads > 250, "only {heads} files");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
