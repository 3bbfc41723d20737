//! Schema compatibility: `evt-schema check` returns the verdicts on which two other implementations agree.

use crate::harness::{Dir, Run, cases};
use serde_json::Value;

fn check(dir: &Dir, new: &Value, history: &[Value], level: &str) -> Run {
    dir.write("new.avsc", new.to_string());
    let mut args: Vec<String> = ["check", "new.avsc", "--level", level].map(str::to_owned).into();
    for (index, old) in history.iter().enumerate() {
        let name = format!("old{index}.avsc");
        dir.write(&name, old.to_string());
        args.extend(["--against".to_owned(), name]);
    }
    dir.run("evt-schema", &args)
}

/// Whether the verdict is the expected one; a "no" must say where and why.
fn verdict(run: &Run, expected: bool) -> Result<(), String> {
    let right = match expected {
        true => run.status() == 0 && run.stderr().is_empty(),
        false => run.status() == 1 && run.stderr().contains("new.avsc: "),
    };
    if right { Ok(()) } else { Err(format!("expected {expected}: {run}")) }
}

fn assert_all(cases: &[Value], history: impl Fn(&Value) -> (Value, Vec<Value>)) {
    let dir = Dir::new("compat");
    let mut failed = vec![];
    for case in cases {
        let (new, history) = history(case);
        let run = check(&dir, &new, &history, case["level"].as_str().expect("a level"));
        if let Err(why) = verdict(&run, case["expected"] == true) {
            failed.push(format!("{} {}: {why}", case["id"], case["name"]));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn every_pair_has_the_verdict_that_java_and_python_give() {
    assert_all(&cases("compat/pairs.jsonl"), |case| (case["reader"].clone(), vec![case["writer"].clone()]));
}

#[test]
fn every_history_has_the_verdict_that_java_and_python_give() {
    let history = |case: &Value| case["history"].as_array().expect("a history").clone();
    assert_all(&cases("compat/levels.jsonl"), |case| (case["new"].clone(), history(case)));
}

#[test]
fn a_registry_accepts_what_is_compatible_and_refuses_what_is_not() {
    let dir = Dir::new("registry");
    let record = |fields: &str| format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#);
    dir.write("one.avsc", record(r#"{"name":"a","type":"string"}"#));
    dir.write("two.avsc", record(r#"{"name":"a","type":"string"},{"name":"b","type":"int","default":0}"#));
    dir.write("bad.avsc", record(r#"{"name":"a","type":"int"}"#));
    std::fs::create_dir(dir.path("schemas")).expect("writable");
    let register =
        |new: &str| dir.run("evt-schema", &["register", new, "--subject", "repo/push", "--schemas", "schemas"]);
    assert_eq!(register("one.avsc").succeeds().text(), "repo/push 1\n");
    assert_eq!(register("two.avsc").succeeds().text(), "repo/push 2\n");
    assert_eq!(register("one.avsc").succeeds().text(), "repo/push 1\n", "a known schema keeps its number");
    assert!(register("bad.avsc").ends_with(1).stderr().contains("r.a:"), "the path of what is wrong");
    let list = dir.run("evt-schema", &["list", "--schemas", "schemas"]).succeeds();
    assert_eq!(list.text(), "repo/push BACKWARD 1 2\n");
    let show = dir.run("evt-schema", &["show", "repo/push", "--schemas", "schemas"]).succeeds();
    assert_eq!(show.text().trim_end().as_bytes(), dir.bytes("two.avsc"));
}
