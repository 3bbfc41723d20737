//! Tests the directory registry: names, the compatibility check, and concurrent registrars.

use super::*;
use evt_core::error::ErrorKind;
use tempfile::TempDir;

const V1: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
const V2: &str =
    r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":0}]}"#;
const BROKEN: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}"#;

fn registry(levels: &str) -> (TempDir, Directory) {
    let dir = TempDir::new().unwrap();
    if !levels.is_empty() {
        std::fs::write(dir.path().join(LEVELS_FILE), levels).unwrap();
    }
    let directory = Directory::open(dir.path()).unwrap();
    (dir, directory)
}

fn numbers(registry: &mut Directory, subject: &str) -> Vec<u32> {
    let found = registry.subject(subject).unwrap().found();
    found.map_or(vec![], |subject| subject.versions.iter().map(|version| version.number).collect())
}

/// Returns the message without the temporary directory's path.
fn message(dir: &TempDir, error: &Error) -> String {
    error.to_string().replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn versions_are_added_found_again_and_listed() {
    let (dir, mut registry) = registry("");
    assert!(matches!(registry.register("r", V1), Ok(Registration::Added(1))));
    assert!(matches!(registry.register("r", V2), Ok(Registration::Added(2))));
    assert_eq!(registry.subjects().unwrap(), ["r"]);
    assert_eq!(numbers(&mut registry, "r"), [1, 2]);
    let subject = registry.subject("r").unwrap().found().unwrap();
    assert_eq!(subject.latest().unwrap().text.as_ref(), format!("{V2}\n"));
    assert_eq!(subject.version(1).unwrap().id, schema_id("r", 1));
    assert!(subject.version(3).is_none());
    assert!(registry.subject("s").unwrap().found().is_none());
    let names: Vec<_> = std::fs::read_dir(dir.path().join("r")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_schema_that_means_the_same_is_the_version_it_means() {
    let (_dir, mut registry) = registry("");
    registry.register("r", V1).unwrap();
    registry.register("r", V2).unwrap();
    let reworded = r#"{"name":"R","doc":"again","type":"record","fields":[{"type":{"type":"int"},"name":"a"}]}"#;
    assert!(matches!(registry.register("r", reworded), Ok(Registration::Existing(1))));
    let another_default = V2.replace("\"default\":0", "\"default\":1");
    assert!(matches!(registry.register("r", &another_default), Ok(Registration::Added(3))));
}

#[test]
fn the_gate_refuses_with_the_version_and_the_reason() {
    let (_dir, mut registry) = registry("default = \"NONE\"\n[subjects]\nr = \"FULL_TRANSITIVE\"\n");
    registry.register("r", V1).unwrap();
    registry.register("r", V2).unwrap();
    let Ok(Registration::Refused { conflicts, .. }) = registry.register("r", BROKEN) else { panic!("not refused") };
    let lines: Vec<String> = conflicts.into_iter().map(|conflict| conflict.message).collect();
    assert_eq!(
        lines,
        [
            "cannot read data of version 1: R.a: a int cannot be read as string",
            "version 1 cannot read its data: R.a: a string cannot be read as int",
            "cannot read data of version 2: R.a: a int cannot be read as string",
            "version 2 cannot read its data: R.a: a string cannot be read as int",
        ]
    );
    assert_eq!(numbers(&mut registry, "r"), [1, 2]);
    registry.register("other", V1).unwrap();
    assert!(matches!(registry.register("other", BROKEN), Ok(Registration::Added(2))));
}

#[test]
fn a_subject_is_the_same_until_a_version_is_added_by_anyone() {
    let (dir, mut registry) = registry("");
    registry.register("r", V1).unwrap();
    let first = registry.subject("r").unwrap().found().unwrap();
    assert!(Arc::ptr_eq(&first, &registry.subject("r").unwrap().found().unwrap()));
    Directory::open(dir.path()).unwrap().register("r", V2).unwrap();
    let second = registry.subject("r").unwrap().found().unwrap();
    assert_eq!(second.versions.len(), 2);
    assert!(Arc::ptr_eq(&first.versions[0].schema, &second.versions[0].schema), "a file is read once");
}

#[test]
fn names_that_are_not_safe_in_a_path_stay_inside_and_come_back() {
    let (dir, mut registry) = registry("");
    let subjects = ["..", ".", ".hidden", "../up", "a/b", "a%2Fb", "nul\0", "grüße", "with space", "-", "A.b_c-1"];
    for subject in subjects {
        assert!(matches!(registry.register(subject, V1), Ok(Registration::Added(1))), "{subject}");
    }
    let mut expected: Vec<String> = subjects.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(registry.subjects().unwrap(), expected);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), subjects.len());
    assert!(dir.path().join("a%2Fb/1.avsc").exists() && dir.path().join("a%252Fb/1.avsc").exists());
}

#[test]
fn a_name_no_directory_can_have_is_unknown_and_cannot_be_registered() {
    let (_dir, mut registry) = registry("");
    for subject in [String::new(), "x".repeat(256), "/".repeat(100)] {
        assert!(registry.subject(&subject).unwrap().found().is_none());
        assert_eq!(registry.register(&subject, V1).unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn what_is_not_of_the_layout_is_an_error_that_names_the_way_out() {
    let (dir, mut registry) = registry("");
    std::fs::create_dir_all(dir.path().join("my subject")).unwrap();
    assert_eq!(
        message(&dir, &registry.subjects().unwrap_err()),
        "DIR/my subject: not the directory of a subject; rename it to 'my%20subject', or give it a leading dot"
    );
    std::fs::create_dir_all(dir.path().join("r")).unwrap();
    for name in ["01.avsc", "latest.avsc", "1.json", "0.avsc"] {
        std::fs::write(dir.path().join("r").join(name), V1).unwrap();
        let error = registry.subject("r").unwrap_err();
        assert_eq!(message(&dir, &error), format!("DIR/r/{name}: expected versions named 1.avsc, 2.avsc, …"));
        std::fs::remove_file(dir.path().join("r").join(name)).unwrap();
    }
    std::fs::write(dir.path().join("r/1.avsc"), "{\"type\":\"recrod\"}").unwrap();
    let error = registry.subject("r").unwrap_err();
    assert_eq!(message(&dir, &error), "DIR/r/1.avsc: schema: (top): unknown type 'recrod'");
}

#[test]
fn hidden_files_and_empty_subjects_are_passed_over() {
    let (dir, mut registry) = registry("");
    std::fs::create_dir_all(dir.path().join(".git")).unwrap();
    std::fs::create_dir_all(dir.path().join("empty")).unwrap();
    std::fs::write(dir.path().join("empty/.1.x.part"), "{").unwrap();
    assert_eq!(registry.subjects().unwrap(), Vec::<String>::new());
    assert!(registry.subject("empty").unwrap().found().is_none());
}

#[test]
fn a_bad_levels_file_is_refused_with_what_it_could_say() {
    let open = |text: &str| {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join(LEVELS_FILE), text).unwrap();
        let error = Directory::open(dir.path()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        message(&dir, &error)
    };
    assert_eq!(
        open("default = \"backward\""),
        "DIR/levels.toml: unknown level 'backward'; expected NONE BACKWARD FORWARD FULL BACKWARD_TRANSITIVE \
         FORWARD_TRANSITIVE FULL_TRANSITIVE"
    );
    assert!(open("levels = 1").contains("unknown field `levels`"), "{}", open("levels = 1"));
}

#[test]
fn a_registry_that_is_not_there_is_an_error() {
    let dir = TempDir::new().unwrap();
    let error = Directory::open(dir.path().join("nowhere")).err().unwrap();
    assert_eq!(message(&dir, &error), "DIR/nowhere: the schema directory does not exist");
    std::fs::write(dir.path().join("1.avsc"), "{}").unwrap();
    let error = Directory::open(dir.path().join("1.avsc")).err().unwrap();
    assert_eq!(
        message(&dir, &error),
        "DIR/1.avsc: expected a directory of schemas, found a file; for DIR/SUBJECT/1.avsc give DIR"
    );
}

/// Concurrent registrars: every schema gets its own number, the same schema one number, nothing is lost.
#[test]
fn registrars_at_the_same_time_get_numbers_of_their_own() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join(LEVELS_FILE), "default = \"NONE\"").unwrap();
    let register = |n: usize| {
        let field = n / 2;
        let text = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f{field}","type":"int"}}]}}"#);
        match Directory::open(dir.path()).unwrap().register("r", &text).unwrap() {
            Registration::Added(number) | Registration::Existing(number) => (field, number),
            Registration::Refused { conflicts, .. } => panic!("{conflicts:?}"),
        }
    };
    let mut given: Vec<(usize, u32)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|n| scope.spawn(move || register(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 8, "{given:?}");
    let mut numbers: Vec<u32> = given.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(self::numbers(&mut Directory::open(dir.path()).unwrap(), "r"), numbers);
}

#[test]
fn a_registrar_checks_again_against_what_another_one_added() {
    let (dir, mut registry) = registry("");
    registry.register("r", V1).unwrap();
    // The number is taken between the listing and the write: the write is refused, and the next listing shows it.
    std::fs::write(dir.path().join("r/2.avsc"), V2).unwrap();
    assert!(!registry.write("r", 2, V2).unwrap());
    assert!(matches!(registry.register("r", V2), Ok(Registration::Existing(2))));
    let without_default = V2.replace(",\"default\":0", "").replace("\"b\"", "\"c\"");
    assert!(matches!(registry.register("r", &without_default), Ok(Registration::Refused { .. })));
}

#[test]
fn ids_stay_the_same_for_ever() {
    assert_eq!(schema_id("purchase", 1), 2_034_834_819);
}
