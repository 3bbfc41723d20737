use super::*;
use crate::format::{self, EncodeOptions};
use crate::test_events::events;

fn chosen(names: &str, batch: &RecordBatch, format: &str) -> String {
    let mut selection =
        Selection::try_new(&parse_names(names).unwrap(), &batch.schema(), SelectionFlag::Columns).unwrap();
    let open = format::to_write(format).unwrap().output.unwrap();
    let mut encoder = open(&selection.schema(), &EncodeOptions::default()).unwrap();
    let mut out = vec![];
    encoder.encode(&selection.apply(batch).unwrap(), &mut out).unwrap();
    encoder.finish(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn columns_and_paths_come_in_the_order_asked_for_and_keep_their_json_types() {
    let batch = events(&[r#"{"n":1.50,"s":"a\"b","o":{"p":[1]},"x.y":null}"#, r#"{"s":true}"#]);
    let wanted = "\
{\"properties.n\":1.50,\"source\":\"web\",\"s\":\"a\\\"b\",\"o.p\":[1],\"o\":{\"p\":[1]}}
{\"source\":\"web\",\"s\":true}
";
    assert_eq!(chosen("properties.n,source,s,o.p,o,\"x.y\"", &batch, "jsonl"), wanted);
}

#[test]
fn in_csv_a_string_is_its_content() {
    let batch = events(&[r#"{"s":"caf\u00e9","n":1}"#]);
    assert_eq!(
        chosen("s,n,properties", &batch, "csv"),
        "s,n,properties\ncafé,1,\"{\"\"s\"\":\"\"caf\\u00e9\"\",\"\"n\"\":1}\"\n"
    );
}

#[test]
fn the_last_of_equal_names_counts_and_nothing_lies_below_what_is_no_object() {
    let batch = events(&[r#"{"a":1,"a":{"b":2},"c":"{\"d\":1}"}"#]);
    assert_eq!(chosen("a.b,c.d", &batch, "jsonl"), "{\"a.b\":2}\n");
}

#[test]
fn a_walk_for_all_paths_finds_what_a_walk_for_each_path_finds() {
    let objects = [
        r#"{"a":1,"b":{"c":[1,{"d":2}],"c":[3]},"a":null,"x.y":"z","b\u0062":true}"#,
        r#"{"a":{"c":1},"b":[{"c":1}],"a":{"d":2},"":0}"#,
        r#" {"a":1}"#,
        r#"[1,{"a":2}]"#,
        r#"{"n":"no path begins with it","b":null}"#,
        "{}",
    ];
    let batch = events(&objects);
    let texts = "a,a.c,a.d,b,b.c,b.c[1],b.c[2].d,b[1].c,\"x.y\",bb,properties[2].a,properties.a[1],missing";
    let names = parse_names(texts).unwrap();
    let mut selection = Selection::try_new(&names, &batch.schema(), SelectionFlag::Columns).unwrap();
    let selection_batch = selection.apply(&batch).unwrap();
    assert_eq!(selection_batch.num_columns(), names.len());
    for (name, column) in names.iter().zip(selection_batch.columns()) {
        let steps = name.path.strip_prefix(&[PathKey::Member(PROPERTIES.to_owned())][..]).unwrap_or(&name.path);
        let each = objects.iter().map(|object| steps.iter().try_fold(*object, value_at));
        let each: Vec<_> = each.map(|value| value.filter(|value| *value != "null")).collect();
        assert_eq!(column.as_string::<i32>().iter().collect::<Vec<_>>(), each, "{}", name.label);
    }
    let named = names.iter().map(|name| name.label.clone()).collect();
    let warnings = selection.warning(named, false).warnings();
    assert!(warnings[0].contains("missing") && !warnings[0].contains("a.d"), "{warnings:?}");
}

#[test]
fn names_that_cannot_be_are_refused_with_the_way_out() {
    let schema = Kind::Dead.schema();
    let refused = |text: &str| match parse_names(text) {
        Ok(names) => Selection::try_new(&names, &schema, SelectionFlag::Columns).err().unwrap().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(refused("stage,nope").contains("one of original_payload"));
    assert!(refused("stage,stage").contains("duplicate column stage"));
    assert!(refused("stage.x").contains("without members"));
    for text in ["", "a,,b", "a.", "\"a"] {
        assert!(refused(text).contains("--columns"), "{text}");
    }
}

#[test]
fn a_selection_is_of_no_kind_so_that_no_stage_takes_it_for_events() {
    let batch = events(&["{}"]);
    let selection =
        Selection::try_new(&parse_names("source").unwrap(), &batch.schema(), SelectionFlag::Columns).unwrap();
    assert_eq!(Kind::of(&selection.schema()), None);
    assert!(crate::kind::is_own(&selection.schema()));
}

#[test]
fn a_record_that_names_no_type_is_shown_by_its_fields() {
    let batch = events(&[r#"{"a":1,"b":2}"#, r#"{"c":3,"a":1}"#]);
    let labels = |defaulted: DefaultedFields| -> Vec<String> {
        default_names(Kind::Event, &batch, defaulted).into_iter().map(|name| name.label).collect()
    };
    let defaulted = DefaultedFields { source: true, event_type: true };
    // Times and ids of these rows are constant, and no record has a server_timestamp.
    assert_eq!(labels(defaulted), ["a", "b", "c"]);
    assert_eq!(labels(DefaultedFields::default()), ["source", "event_type", "properties"]);
}
