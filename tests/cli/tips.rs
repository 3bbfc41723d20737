//! What a user who types the flag of another tool, or of another program, is told.

use crate::documents::read;
use crate::harness::Dir;
use evt::tool;
use regex::Regex;

/// The tips for flags that a tool does not have, each as (flag, tip), as their table has them.
fn tips() -> Vec<(String, String)> {
    let text = read("src/cli/usage.rs");
    let (_, table) = text.split_once("const ELSEWHERE:").expect("the table of tips");
    let table = table.split("\n];").next().unwrap_or(table);
    let row = Regex::new(r#"\(\s*"(-[a-z-]+)",\s*"((?:[^"\\]|\\.|\\\n\s*)*)""#).expect("a pattern");
    let broken = Regex::new(r"\\\n\s*").expect("a pattern");
    let found =
        row.captures_iter(table).map(|row| (row[1].to_owned(), broken.replace_all(&row[2], "").replace("\\\"", "\"")));
    found.collect()
}

/// The long flags of a tool.
fn flags(tool: &evt::cli::ToolRow) -> Vec<String> {
    let command = (tool.command)();
    command.get_arguments().filter_map(|arg| arg.get_long().map(|long| format!("--{long}"))).collect()
}

#[test]
fn each_tip_for_an_unknown_flag_is_shown_and_names_flags_of_the_right_tool() {
    let (dir, tips) = (Dir::new("tips"), tips());
    assert!(tips.len() > 40, "{} tips", tips.len());
    let word = Regex::new(r"evt-[a-z]+|TOOL|--[a-z][a-z-]+").expect("a pattern");
    let mut faults = vec![];
    for (flag, tip) in &tips {
        let has = |tool: &&evt::cli::ToolRow| {
            let command = (tool.command)();
            let has_short =
                command.get_arguments().any(|arg| arg.get_short().is_some_and(|short| *flag == format!("-{short}")));
            has_short || flags(tool).contains(flag)
        };
        // A tool without the flag, whose tip does not begin with another tool's name.
        let lacks = tool::ALL.iter().find(|tool| !has(tool) && tool.name != "evt-gen" && tool.name != "evt-schema");
        let name = lacks.map(|tool| tool.name).unwrap_or_else(|| panic!("{flag}: every tool has it"));
        let run = dir.run(name, &[flag.as_str(), "x"]).ends_with(2);
        let shown = tip.replace("TOOL", name);
        if !run.stderr().contains(&shown) {
            faults.push(format!("{flag}: expected {shown}\n{run}"));
        }
        let mut owner = None;
        for found in word.find_iter(tip) {
            match tool::ALL.iter().find(|tool| tool.name == found.as_str()) {
                Some(tool) => owner = Some(tool),
                None if found.as_str() == "TOOL" => owner = None,
                None => {
                    let named = found.as_str().to_owned();
                    let is_known = match owner {
                        Some(tool) => flags(tool).contains(&named),
                        None => tool::ALL.iter().any(|tool| flags(tool).contains(&named)),
                    };
                    if !is_known {
                        faults.push(format!("{flag}: {tip}: {named} is no flag of that tool"));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n\n"));
}
