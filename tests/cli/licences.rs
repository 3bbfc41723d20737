//! The dependencies: their licences, and crates that must be there once or not at all (`deny.toml`).

use crate::harness::ROOT;
use crate::tidy::assert_none;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

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
