use super::*;
use crate::format::test_data::{SplitRecord, split};
use crate::test_cases::cases;
use proptest::prelude::*;
use serde_json::Value;

fn exploded(path: &str, input: &[u8], cuts: &[usize]) -> Vec<SplitRecord> {
    split(&mut Elements::new(ElementPath::parse(path).unwrap()), input, cuts).unwrap()
}

/// Returns the texts of the records, the messages of letters, and `filtered`.
fn outcomes(path: &str, input: &str) -> Vec<String> {
    let seen = exploded(path, input.as_bytes(), &[]);
    seen.into_iter().map(|(_, _, body)| body.unwrap_or_else(|fault| format!("! {fault}"))).collect()
}

#[test]
fn a_path_goes_through_objects_and_arrays_of_pretty_and_following_documents() {
    let records = "{\n  \"A\": 1,\n  \"Records\": [\n    {\"a\": 1},\n    {\n      \"b\": [2]\n    }\n  ]\n}\n{\"Records\":[3,\"x\"]}";
    assert_eq!(outcomes("Records", records), ["{\"a\": 1}", "{       \"b\": [2]     }", "3", "\"x\""]);
    let spans = r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"spans":[1,2]},{"spans":[]}]},{"scopeSpans":[{"x":{"spans":[9]},"spans":[3]}]}]}"#;
    assert_eq!(outcomes("resourceSpans.scopeSpans.spans", spans), ["1", "2", "3"]);
    assert_eq!(outcomes(".", " [ [1] , {} ,\n null ]\r\n[4.5]"), ["[1]", "{}", "null", "4.5"]);
    assert_eq!(outcomes("a", r#"[{"a":[1]},{"\u0061":[2]}]"#), ["1", "2"]);
}

#[test]
fn documents_without_elements_are_letters_or_filtered() {
    assert_eq!(
        outcomes("a.b", r#"{"a":{"b":[]}} {"a":[]} [] {"a":[{}]} {"a":{"c":[1]}} {}"#),
        [
            "! filtered",
            "! filtered",
            "! filtered",
            "! expected an array at a.b, found none; --explode a reads one that is there",
            "! expected an array at a.b, found none",
            "! expected an array at a.b, found none",
        ]
    );
    assert_eq!(
        outcomes("a", r#"{"a":{"x":[1]}} {"a":null} [{"a":"t"},{"a":[7]}]"#),
        [
            "! expected an array at a, found an object",
            "! expected an array at a, found null",
            "! expected an array at a, found a string",
            "7",
        ]
    );
    assert_eq!(outcomes(".", r#"{"a":[1]}"#), ["! expected an array of the document, found an object"]);
}

#[test]
fn a_broken_document_is_one_letter_and_the_next_line_with_a_document_is_read() {
    let input = "{\"a\":[1,2}\nx\n {\"a\":[8]}\n{\"a\":[3]}\nnot json at all\n{\"a\":[4";
    assert_eq!(
        outcomes("a", input),
        ["1", "2", "! byte 10: expected , or ], found '}'", "3", "! byte 35: expected { or [, found 'n'",]
    );
    assert_eq!(outcomes("a", "{\"a\":[1]\n{\"a\":[2]}"), ["1", "! byte 10: expected , or }, found '{'", "2"]);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(outcomes("a", &deep)[0].contains("expected a value or ], found '['"), "{:?}", outcomes("a", &deep));
}

#[test]
fn a_path_is_names_with_dots() {
    for wrong in ["", "a..b", ".a", "a."] {
        assert!(ElementPath::parse(wrong).is_err(), "{wrong}");
    }
}

/// JSON values with the names of the paths.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        proptest::sample::select(vec!["", "]", "\"}", "\\", "é\n", "a"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((proptest::sample::select(vec!["a", "b", "c\"", "aa"]), inner), 0..4).prop_map(
                |members| Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            ),
        ]
    })
}

/// Appends the elements of the arrays at `path` to `out`; `None` stands for a letter. Returns whether there is such an
/// array, or an empty one before it.
fn model(value: &Value, path: &[&str], out: &mut Vec<Option<Value>>) -> bool {
    match (value, path.split_first()) {
        (Value::Array(items), None) => {
            out.extend(items.iter().cloned().map(Some));
            true
        }
        (_, None) => {
            out.push(None);
            false
        }
        (Value::Array(items), Some(_)) => {
            items.is_empty() | (items.iter().filter(|item| model(item, path, out)).count() > 0)
        }
        (Value::Object(members), Some((name, rest))) => members.get(*name).is_some_and(|value| model(value, rest, out)),
        _ => false,
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn elements_are_those_of_a_whole_document_however_it_is_cut_and_printed(
        documents in proptest::collection::vec(value(), 0..4),
        pretty in any::<bool>(),
        path in proptest::sample::select(vec![".", "a", "a.b", "b.a.a"]),
        cuts in proptest::collection::btree_set(0usize..400, 0..12),
    ) {
        let names: Vec<&str> = if path == "." { vec![] } else { path.split('.').collect() };
        let documents: Vec<Value> = documents.into_iter().filter(|value| value.is_array() || value.is_object()).collect();
        let (mut input, mut expected) = (String::new(), vec![]);
        for document in &documents {
            input += &if pretty { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) }.unwrap();
            input += if pretty { "\n" } else { " " };
            let mut found = vec![];
            let has_array = model(document, &names, &mut found);
            if found.is_empty() {
                found.push(has_array.then(|| Value::from("filtered")));
            }
            expected.extend(found);
        }
        let whole = exploded(path, input.as_bytes(), &[]);
        let cuts: Vec<usize> = cuts.into_iter().collect();
        prop_assert_eq!(&exploded(path, input.as_bytes(), &cuts), &whole);
        let lines: Vec<u64> = whole.iter().map(|(line, ..)| *line).collect();
        prop_assert_eq!(lines, (1..=whole.len() as u64).collect::<Vec<_>>());
        let found: Vec<Option<Value>> = whole.into_iter().map(|(_, _, body)| match body {
            Ok(text) => Some(serde_json::from_str(&text).unwrap()),
            Err(fault) => (fault == "filtered").then(|| Value::from("filtered")),
        }).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_bytes_are_split_alike_in_any_pieces(
        tokens in proptest::collection::vec(proptest::sample::select(vec![
            "{", "}", "[", "]", "\"a\"", ":", ",", "1", "\n", "\n{\"a\":[1,2]}", "\\", "\"", "\u{e9}", " ", "null",
        ]), 0..60),
        path in proptest::sample::select(vec![".", "a", "a.a"]),
        cuts in proptest::collection::btree_set(0usize..200, 0..20),
    ) {
        let input = tokens.concat();
        let cuts: Vec<usize> = cuts.into_iter().collect();
        prop_assert_eq!(exploded(path, input.as_bytes(), &cuts), exploded(path, input.as_bytes(), &[]));
    }
}
