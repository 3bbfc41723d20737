//! Tests every rule of the manual's section on expressions by the result for a row.

use super::*;
use crate::error::ErrorKind;
use crate::kind::{Kind, dictionary_type, event};
use crate::test_events::events;
use arrow::array::ArrayRef;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use std::sync::Arc;

fn parsed(text: &str, want: Want) -> (Leaves, Expr) {
    let mut leaves = Leaves::new(&Kind::Event.schema());
    let expr = Expr::parse(text, want, &mut leaves).unwrap_or_else(|error| panic!("{text}: {error}"));
    (leaves, expr)
}

/// Evaluates an expression over one row for each of `properties`; returns the values and the messages of the wrong
/// rows.
fn evaluated(text: &str, want: Want, properties: &[&str]) -> (ArrayRef, Vec<(usize, String)>) {
    let (leaves, expr) = parsed(text, want);
    let of = |batch: &RecordBatch| {
        let batch = LeafBatch::read(&leaves, batch).unwrap();
        let wrong: Vec<_> = expr.wrong(&batch).map(|wrong| (wrong.row(), wrong.message())).collect();
        if want == Want::AsText {
            assert_eq!(&expr.dimension(&batch).unwrap().rows().unwrap(), &expr.eval(&batch).unwrap(), "{text}");
        }
        (expr.eval(&batch).unwrap(), wrong)
    };
    let batch = events(properties);
    let found = of(&batch);
    assert_eq!(of(&watched(&leaves, &batch, false)), found, "{text}: with columns of the properties");
    assert_eq!(of(&watched(&leaves, &batch, true)), found, "{text}: with dictionary columns");
    // Again, with the cached texts of the dictionary.
    assert_eq!(of(&watched(&leaves, &batch, true)), found, "{text}: again");
    found
}

/// Returns the batch with a column for each property that the leaves read, as dictionaries where they say so.
fn watched(leaves: &Leaves, batch: &RecordBatch, dictionary: bool) -> RecordBatch {
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    let texts = leaves.texts();
    let code = |array: &ArrayRef| arrow::compute::cast(array, &dictionary_type()).unwrap();
    for index in [event::column::SOURCE, event::column::EVENT_TYPE] {
        if dictionary && texts.columns & (1 << index) != 0 {
            columns[index] = code(&columns[index]);
            fields[index] = Arc::new(fields[index].as_ref().clone().with_data_type(dictionary_type()));
        }
    }
    for (index, name) in leaves.properties().iter().enumerate() {
        let objects = batch.column(event::column::PROPERTIES).as_string::<i32>();
        let values = objects.iter().map(|object| crate::json::walk::last_member(object.unwrap(), name));
        let plain: ArrayRef = Arc::new(values.collect::<StringArray>());
        let column = if dictionary && texts.properties & (1 << index) != 0 { code(&plain) } else { plain };
        fields.push(Arc::new(event::watched_field(name).with_data_type(column.data_type().clone())));
        columns.push(column);
    }
    let schema = arrow::datatypes::Schema::new_with_metadata(fields, batch.schema().metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn truths(text: &str, properties: &[&str]) -> Vec<Option<bool>> {
    let (values, wrong) = evaluated(text, Want::Kind(ValueKind::Bool), properties);
    assert_eq!(wrong, [], "{text}");
    values.as_boolean().iter().collect()
}

pub(super) fn truth(text: &str, properties: &str) -> Option<bool> {
    truths(text, &[properties])[0]
}

pub(super) fn number(text: &str, properties: &str) -> Option<f64> {
    let (values, wrong) = evaluated(text, Want::Kind(ValueKind::Number), &[properties]);
    assert_eq!(wrong, [], "{text}");
    values.as_primitive::<Float64Type>().iter().next().unwrap()
}

pub(super) fn string(text: &str, properties: &str) -> Option<String> {
    let (values, wrong) = evaluated(text, Want::AsText, &[properties]);
    assert_eq!(wrong, [], "{text}");
    values.as_string::<i32>().iter().next().unwrap().map(str::to_owned)
}

/// Returns the message of the one row, which is wrong.
pub(super) fn dead(text: &str, properties: &str) -> String {
    let (_, wrong) = evaluated(text, Want::Kind(ValueKind::Bool), &[properties]);
    assert!(!wrong.is_empty(), "{text} over {properties} is right");
    wrong[0].1.clone()
}

fn refusal(text: &str, want: Want) -> String {
    let error = Expr::parse(text, want, &mut Leaves::new(&Kind::Event.schema())).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

pub(super) fn refused_filter(text: &str) -> String {
    refusal(text, Want::Kind(ValueKind::Bool))
}

#[test]
fn the_examples_of_the_manual_hold() {
    let amounts = [r#"{"amount":20}"#, r#"{"amount":"20"}"#, "{}", r#"{"amount":null}"#, r#"{"amount":5}"#];
    assert_eq!(truths("amount > 10", &amounts), [Some(true), Some(true), None, None, Some(false)]);
    assert_eq!(dead("amount > 10", r#"{"amount":"n/a"}"#), r#"amount: expected a number, found "n/a""#);

    let countries = [r#"{"country":"US"}"#, r#"{"country":5}"#, "{}"];
    assert_eq!(truths("country = 'US'", &countries), [Some(true), Some(false), None]);
    assert_eq!(truths("country = '5'", &countries), [Some(false), Some(true), None]);
    assert_eq!(dead("country > 10", r#"{"country":"US"}"#), r#"country: expected a number, found "US""#);

    let (leaves, expr) = parsed("amount > '10'", Want::Kind(ValueKind::Bool));
    assert_eq!(expr.warnings().len(), 1);
    assert!(expr.explain(&leaves).contains("warning: amount is compared with '10' as text"));
    assert_eq!(truth("amount > '10'", r#"{"amount":5}"#), Some(true));
    assert!(parsed("zip = '02134'", Want::Kind(ValueKind::Bool)).1.warnings().is_empty());
}

#[test]
fn a_name_is_a_column_if_there_is_one_else_a_property() {
    assert_eq!(string("source", r#"{"source":"ios"}"#).as_deref(), Some("web"));
    assert_eq!(string("properties.source", r#"{"source":"ios"}"#).as_deref(), Some("ios"));
    assert_eq!(string("Source", r#"{"Source":"A","source":"b"}"#).as_deref(), Some("A"));
    assert_eq!(string("\"Source\"", r#"{"Source":"A"}"#).as_deref(), Some("A"));
    assert_eq!(string("properties", r#"{"a":1}"#).as_deref(), Some(r#"{"a":1}"#));
}

#[test]
fn a_dot_steps_into_objects_and_a_quoted_one_does_not() {
    let properties = r#"{"a.b":1,"a":{"b":2,"c":{"d":3}},"properties":{"x":4}}"#;
    assert_eq!(number("a.b", properties), Some(2.0));
    assert_eq!(number("\"a.b\"", properties), Some(1.0));
    assert_eq!(number("a.c.d", properties), Some(3.0));
    assert_eq!(number("properties.a.b", properties), Some(2.0));
    assert_eq!(number("properties.properties.x", properties), Some(4.0));
    assert_eq!(number("a.c.x", properties), None);
}

#[test]
fn under_a_parent_that_is_no_object_is_null() {
    for properties in [r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":[{"b":1}]}"#, r#"{"a":"{\"b\":1}"}"#, "{}"] {
        assert_eq!(number("a.b", properties), None, "{properties}");
    }
}

#[test]
fn of_equal_names_the_last_counts() {
    assert_eq!(number("x", r#"{"x":1,"x":2}"#), Some(2.0));
    assert_eq!(number("a.b", r#"{"a":{"b":1},"a":{"b":2}}"#), Some(2.0));
    assert_eq!(number("a.b", r#"{"a":{"b":1},"a":{"c":2}}"#), None);
    assert_eq!(number("a.b", r#"{"a":{"b":1},"a":7}"#), None);
    assert_eq!(number("x", r#"{"x":1,"\u0078":2}"#), Some(2.0));
}

#[test]
fn what_one_row_holds_says_nothing_about_the_next() {
    let many = |last: &str| format!("{{{}{last}}}", (0..100).map(|n| format!(r#""k{n}":{n},"#)).collect::<String>());
    let rows = [
        r#"{"a":1,"b":{"c":2}}"#,
        r#"{"b":{"c":3},"a":4}"#,
        r#"{"b":5,"c":{"c":6}}"#,
        "{}",
        r#"{"x":0,"a":7,"a":8}"#,
        &many(r#""a":9"#),
        &many(r#""b":{"c":10}"#),
    ];
    let numbers = |text: &str| -> Vec<Option<f64>> {
        let (values, wrong) = evaluated(text, Want::Kind(ValueKind::Number), &rows);
        assert_eq!(wrong, []);
        values.as_primitive::<Float64Type>().iter().collect()
    };
    assert_eq!(numbers("a"), [Some(1.0), Some(4.0), None, None, Some(8.0), Some(9.0), None]);
    assert_eq!(numbers("b.c"), [Some(2.0), Some(3.0), None, None, None, None, Some(10.0)]);
    assert_eq!(numbers("k99"), [None, None, None, None, None, Some(99.0), Some(99.0)]);
}

#[test]
fn a_name_with_escapes_is_compared_by_what_it_says() {
    assert_eq!(number("\"é\"", r#"{"\u00e9":1}"#), Some(1.0));
    assert_eq!(number(r#""a\b""#, r#"{"a\\b":1,"a\b":2}"#), Some(1.0));
    assert_eq!(number("\"say \"\"hi\"\"\"", r#"{"say \"hi\"":1}"#), Some(1.0));
}

#[test]
fn words_that_are_names_elsewhere_stay_names() {
    for name in ["user", "date", "time", "timestamp", "left", "value", "status", "path", "case", "session_user"] {
        let properties = format!(r#"{{"{name}":"x"}}"#);
        assert_eq!(truth(&format!("{name} = 'x'"), &properties), Some(true), "{name}");
    }
    assert!(refused_filter("interval = 'x'").contains(r#"quote it if it is a name: "interval""#));
    assert_eq!(truth("\"interval\" = 'x'", r#"{"interval":"x"}"#), Some(true));
}

#[test]
fn numbers_are_read_from_numbers_and_from_strings_that_are_numbers() {
    for (value, expected) in [
        ("1", 1.0),
        ("-1.5e3", -1500.0),
        ("\"12.50\"", 12.5),
        ("\"\\u0031\"", 1.0),
        ("0.1", 0.1),
        ("1e-400", 0.0),
        ("123456789012345678901234567890", 123456789012345678901234567890.0),
    ] {
        assert_eq!(number("x", &format!(r#"{{"x":{value}}}"#)), Some(expected), "{value}");
    }
    assert!(number("x", r#"{"x":-0}"#).unwrap().is_sign_positive());
    assert_eq!(number("x", r#"{"x":" +007.50"}"#), Some(7.5));
    for (text, cast) in [
        ("6,758", "replace(x, ',', '')"),
        ("188,61", "replace(x, ',', '.')"),
        ("1.234,56", "replace(replace(x, '.', ''), ',', '.')"),
        ("+1'234.50", "replace(x, '''', '')"),
    ] {
        let message = dead("x > 0", &format!(r#"{{"x":"{text}"}}"#));
        assert!(message.ends_with(&format!("; cast({cast} as double) reads it")), "{message}");
        assert!(number(&format!("cast({cast} as double)"), &format!(r#"{{"x":"{text}"}}"#)).is_some(), "{text}");
    }
    for value in
        ["\"\"", "\".\"", "\"1 x\"", "\"+-1\"", "\"1e\"", "\"inf\"", "\"NaN\"", "\"0x1\"", "1e400", "true", "[]", "{}"]
    {
        let message = dead("x > 0", &format!(r#"{{"x":{value}}}"#));
        assert_eq!(message, format!("x: expected a number, found {value}"));
    }
}

#[test]
fn text_is_a_strings_content_or_the_value_as_received() {
    for (value, expected) in
        [(r#""a\"\u00e9""#, "a\"é"), ("1.50", "1.50"), ("true", "true"), ("[1, 2]", "[1, 2]"), (r#""null""#, "null")]
    {
        assert_eq!(string("x", &format!(r#"{{"x": {value} }}"#)).as_deref(), Some(expected));
    }
    assert_eq!(string("x", r#"{"x":null}"#), None);
}

#[test]
fn booleans_are_true_and_false_and_nothing_else() {
    assert_eq!(truths("x", &[r#"{"x":true}"#, r#"{"x":"false"}"#, "{}"]), [Some(true), Some(false), None]);
    assert_eq!(truths("x", &[r#"{"x":"True"}"#, r#"{"x":"FALSE"}"#]), [Some(true), Some(false)]);
    for value in ["1", "\"yes\"", "\"T\"", "[]"] {
        assert!(dead("x", &format!(r#"{{"x":{value}}}"#)).contains("x: expected a boolean, found "));
    }
}

#[test]
fn instants_are_rfc_3339() {
    let properties = r#"{"t":"2024-01-15T11:20:30.5+01:00"}"#;
    assert_eq!(truth("t = event_time", properties), Some(true));
    assert_eq!(truth("t = timestamp '2024-01-15T10:20:30.5Z'", properties), Some(true));
    assert_eq!(truth("event_time between '2024-01-15T00:00:00Z' and '2024-01-16T00:00:00Z'", "{}"), Some(true));
    assert_eq!(truth("event_time in ('2024-01-15T00:00:00Z')", "{}"), Some(false));
    assert!(dead("t < event_time", r#"{"t":1705314030}"#).ends_with("t: expected an instant, found 1705314030"));
    assert!(
        refused_filter("event_time > 'yesterday'")
            .contains("expected a time like 2024-01-15T10:00:00Z or 2024-01-15, found 'yesterday'")
    );
    assert!(refused_filter("event_time > date '2024-01-15'").contains("expected timestamp '"));
}

#[test]
fn a_wrong_value_is_shown_by_its_first_forty_bytes() {
    let message = dead("a.x > 0", &format!(r#"{{"a":{{"x":"{}"}}}}"#, "é".repeat(60)));
    assert_eq!(message, format!("a.x: expected a number, found \"{}…", "é".repeat(19)));
}

#[test]
fn a_property_takes_the_kind_asked_of_it() {
    let kinds = |text: &str| {
        let (leaves, expr) = parsed(text, Want::Kind(ValueKind::Bool));
        expr.explain(&leaves)
    };
    assert_eq!(kinds("a + b > 0"), "  a: property, as number\n  b: property, as number\n");
    assert_eq!(kinds("a like 'x%' or b ~ '^x' or c || 'x' = 'yx'").matches("as text").count(), 3);
    assert_eq!(kinds("a and (b or not c)").matches("as boolean").count(), 3);
    assert_eq!(kinds("10 < a and b in (1, 2) and c between 1 and 2 and -d = 1").matches("as number").count(), 4);
    assert_eq!(kinds("coalesce(a, 0) > 1 and case when b then c else 1 end = 2").matches("as number").count(), 2);
    assert_eq!(kinds("case a when 'x' then true else b end"), "  a: property, as text\n  b: property, as boolean\n");
    assert_eq!(kinds("a is null"), "  a: property, only whether it is NULL\n");
    assert_eq!(kinds("a > 1 and a = 'x'"), "  a: property, as number\n  a: property, as text\n");
    assert_eq!(kinds("a > 1 and a < 9"), "  a: property, as number\n");
    assert_eq!(kinds("abs(a) > round(b) and length(c) > 1 and lower(d) = 'x'").matches("as number").count(), 2);
    assert_eq!(kinds("event_type = 'x'"), "  event_type: column, as text\n");
}

#[test]
fn two_leaves_of_one_property_are_read_each_for_itself() {
    let properties = [r#"{"a":"7"}"#, r#"{"a":7}"#];
    assert_eq!(truths("a > 5 and a = '7'", &properties), [Some(true), Some(true)]);
}

#[test]
fn kinds_that_are_unknown_or_differ_are_refused_with_the_way_out() {
    assert!(refused_filter("a > b").contains("use cast(a as double) or cast(a as text)"));
    assert!(refused_filter("null <> a").contains("use a is not null"));
    let message = refused_filter("event_type = 5");
    assert!(message.contains("event_type is text, 5 is a number"), "{message}");
    assert!(message.contains("use cast(event_type as double) or cast(5 as text)"), "{message}");
    assert!(refused_filter("offset = 'x'").contains("use cast(offset as text) or cast('x' as double)"));
    assert!(refused_filter("event_time = event_type").contains("cast"));
    assert!(refused_filter("amount + 'x' > 1").contains("expected a number, found the text 'x'"));
    assert!(refused_filter("5").contains("expected a boolean, found 5; use"));
    assert!(refused_filter("source.x = 'a'").contains("use properties.source.x"));
    assert!(refusal("event_type", Want::Kind(ValueKind::Number)).contains("use cast(event_type as double)"));
    assert_eq!(truth("cast(a as double) > b", r#"{"a":2,"b":1}"#), Some(true));
    assert_eq!(truth("cast(offset as text) = '0'", "{}"), Some(true));
}

#[test]
fn try_cast_gives_null_where_cast_is_wrong() {
    assert_eq!(number("try_cast(x as double)", r#"{"x":"n/a"}"#), None);
    assert_eq!(number("try_cast(x as double)", r#"{"x":"1"}"#), Some(1.0));
    assert_eq!(number("try_cast(lower(x) as double)", r#"{"x":"1E1"}"#), Some(10.0));
    assert!(dead("cast(x as double) > 1", r#"{"x":"n/a"}"#).contains("expected a number, found "));
    assert!(dead("cast(event_type as double) > 1", "{}").ends_with("event_type: expected a number, found 'click'"));
    assert_eq!(number("try_cast(event_type as double)", "{}"), None);
    assert_eq!(number("cast(replace(x, '''', '') as double)", r#"{"x":"+1'234.50"}"#), Some(1234.5));
    let message = dead("cast(lower(x) as double) > 1", r#"{"x":"N/A"}"#);
    assert!(message.ends_with("cast: expected a number, found 'n/a'"), "{message}");
    assert_eq!(number("cast(lower(x) as double)", "{}"), None);
    assert_eq!(truth("cast(x || '' as boolean) or offset = 0", r#"{"x":"true"}"#), Some(true));
    assert!(refused_filter("cast(offset as boolean)").contains("cannot be cast"));
    assert_eq!(number("x::double", r#"{"x":"1"}"#), Some(1.0));
    assert_eq!(number("cast(event_time as double)", "{}"), Some(1_705_314_030.5));
    assert_eq!(string("event_time", "{}").as_deref(), Some("2024-01-15T10:20:30.500000Z"));
    assert_eq!(string("x + 1", r#"{"x":0.5}"#).as_deref(), Some("1.5"));
    assert_eq!(string("x + 1", r#"{"x":1}"#).as_deref(), Some("2"));
}

#[test]
fn null_is_sqls_and_logic_is_kleenes() {
    let none = "{}";
    for (text, expected) in [
        ("a > 1", None),
        ("not a", None),
        ("a and false", Some(false)),
        ("a and true", None),
        ("a or true", Some(true)),
        ("a or false", None),
        ("a is null", Some(true)),
        ("a is not null", Some(false)),
        ("a in ('x')", None),
        ("a not in ('x')", None),
        ("'x' in ('x', null)", Some(true)),
        ("'y' in ('x', null)", None),
        ("a like '%'", None),
        ("a ~ ''", None),
        ("a + 1 is null", Some(true)),
        ("a || 'x' is null", Some(true)),
        ("coalesce(a, 'x') = 'x'", Some(true)),
        ("coalesce(a, b, true)", Some(true)),
        ("case when a then true else false end", Some(false)),
        ("case when a then true end", None),
        ("event_type is null", Some(false)),
        ("user_id is null", Some(true)),
        ("1 = 1", Some(true)),
    ] {
        assert_eq!(truth(text, none), expected, "{text}");
    }
}

#[test]
fn wrongness_is_by_leaf_and_by_row_and_no_logic_saves_a_row() {
    let rows = [r#"{"a":1}"#, r#"{"a":"n/a"}"#, r#"{"a":"x"}"#];
    for text in ["false and a > 1", "true or a > 1", "case when true then 1 else a end = 1", "coalesce(1, a) = 1"] {
        let (_, wrong) = evaluated(text, Want::Kind(ValueKind::Bool), &rows);
        assert_eq!(wrong.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2], "{text}");
    }
}

#[test]
fn an_expression_is_wrong_only_by_the_leaves_it_reads() {
    let mut leaves = Leaves::new(&Kind::Event.schema());
    let filter = Expr::parse("kind = 'sale'", Want::Kind(ValueKind::Bool), &mut leaves).unwrap();
    let amount = Expr::parse("amount", Want::Kind(ValueKind::Number), &mut leaves).unwrap();
    let batch =
        LeafBatch::read(&leaves, &events(&[r#"{"kind":"view","amount":"n/a"}"#, r#"{"kind":"sale","amount":1}"#]))
            .unwrap();
    assert_eq!(filter.wrong(&batch).count(), 0);
    assert_eq!(amount.wrong(&batch).map(|wrong| wrong.row()).collect::<Vec<_>>(), [0]);
    assert_eq!(filter.eval(&batch).unwrap().as_boolean(), &BooleanArray::from(vec![false, true]));
}

#[test]
fn text_operators_and_functions_give_what_their_names_say() {
    let x = r#"{"x":"Ab cé_d ","y":"/api/v1"}"#;
    for (text, expected) in [
        ("lower(x)", "ab cé_d "),
        ("upper(x)", "AB CÉ_D "),
        ("trim(x)", "Ab cé_d"),
        ("x || '!' || y", "Ab cé_d !/api/v1"),
        ("substr(x, 4, 2)", "cé"),
        ("substring(x from 4 for 2)", "cé"),
        ("substr(x, 7)", "d "),
        ("substr(x, -1, 3)", "A"),
        ("substr(x, 99)", ""),
        ("case when y like '/api%' then 'api' else 'page' end", "api"),
        ("length(x)", "8"),
    ] {
        assert_eq!(string(text, x).as_deref(), Some(expected), "{text}");
    }
    for (text, expected) in [
        ("y like '/api%'", true),
        ("y like '/API%'", false),
        ("y ilike '/API%'", true),
        ("y not like '%v2'", true),
        ("y like '____v1'", false),
        ("y ~ '^/api/v[0-9]+$'", true),
        ("y !~ 'v2'", true),
        ("starts_with(y, '/api')", true),
        ("ends_with(y, 'v2')", false),
        ("contains(y, 'pi/')", true),
        ("y in ('/api/v1', '/x')", true),
        ("y not in ('/x')", true),
        ("y in (lower('/API/V1'))", true),
        ("y between '/a' and '/b'", true),
        ("y not between '/a' and '/b'", false),
        ("y <> '/x' and y != '/x'", true),
    ] {
        assert_eq!(truth(text, x), Some(expected), "{text}");
    }
}

#[test]
fn arithmetic_is_ieee_with_one_nan_and_no_negative_zero() {
    let x = r#"{"x":7,"z":0}"#;
    for (text, expected) in [
        ("x + 1 - 2 * 3", 2.0),
        ("x / 2", 3.5),
        ("x % 4", 3.0),
        ("-x", -7.0),
        ("- -x", 7.0),
        ("+x", 7.0),
        ("(1 + 2) * x", 21.0),
        ("abs(-x)", 7.0),
        ("round(x / 2)", 4.0),
        ("round(-x / 2)", -4.0),
        ("floor(x / 2)", 3.0),
        ("ceil(x / 2)", 4.0),
        ("1e3", 1000.0),
        ("x / z", f64::INFINITY),
    ] {
        assert_eq!(number(text, x), Some(expected), "{text}");
    }
    assert_eq!(number("z / z", x).unwrap().to_bits(), f64::NAN.to_bits());
    assert_eq!(number("z * -1", x).unwrap().to_bits(), 0);
    assert_eq!(number("-z", x).unwrap().to_bits(), 0);
    assert_eq!(truth("z / z = z / z and z / z > 1e308 and z * -1 = 0", x), Some(true));
}

#[test]
fn what_is_not_on_the_list_is_refused_with_a_message() {
    for (text, part) in [
        ("", "expected"),
        ("a >", "expected"),
        ("a > 1 b", "unexpected `b` at column 7"),
        ("labels.0 = 1", "column"),
        ("a = 1; drop table x", "unexpected `;`"),
        ("a in (select 1)", "unsupported syntax"),
        ("exists (select 1)", "unsupported syntax"),
        ("frobnicate(a)", "unknown function frobnicate"),
        ("lower(a, b) = 'x'", "expected lower(text)"),
        ("count(*) > 1", "*, distinct and filter are not allowed"),
        ("interval = 5", r#"quote it if it is a name: "interval""#),
        ("a ~ '['", "invalid regular expression"),
        ("a ~ b", "a text constant"),
        ("a like 'x' escape '!'", "unsupported"),
        ("cast(a as int) > 1", "expected a cast to double, text, boolean or timestamp"),
        ("interval '1 day' > a", "unsupported"),
        ("a = 1e999", "range of a double"),
        ("a -> 'b' = 'c'", "unsupported operator"),
        ("a = b'01'", "b"),
        ("'unclosed", "Unterminated"),
        ("late_for = 'x' and a = b", "cast(a as double)"),
    ] {
        let message = refused_filter(text);
        assert!(message.contains(part), "{text}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn an_expression_has_bounds() {
    assert!(refused_filter(&"a".repeat(70_000)).contains("bytes exceeds the maximum of 65536"));
    assert!(refused_filter(&vec!["a"; 2000].join(" or ")).contains("tokens exceed"));
    assert!(refused_filter(&format!("{}a{}", "(".repeat(400), ")".repeat(400))).contains("nested deeper than 30"));
    let list = (0..5000).map(|n| format!("'{n}'")).collect::<Vec<_>>().join(",");
    assert_eq!(truth(&format!("a in ({list})"), r#"{"a":4999}"#), Some(true));
    assert_eq!(truth(&vec!["a"; 400].join(" or "), r#"{"a":true}"#), Some(true));
}

#[test]
fn columns_of_every_type_are_read_by_their_kind() {
    assert_eq!(string("origin", "{}").as_deref(), Some("in.jsonl"));
    assert_eq!(string("event_id", "{}").as_deref(), Some("abababab-abab-abab-abab-abababababab"));
    assert_eq!(truth("partition = 'in.jsonl' and offset = 0", "{}"), Some(true));
    for kind in Kind::ALL {
        let schema = kind.schema();
        let mut leaves = Leaves::new(&schema);
        let lists = ["headers", "late_for"];
        for field in schema.fields().iter().filter(|field| !lists.contains(&field.name().as_str())) {
            Expr::parse(&format!("\"{}\"", field.name()), Want::AsText, &mut leaves).unwrap();
        }
        let read = LeafBatch::read(&leaves, &RecordBatch::new_empty(schema)).unwrap();
        assert_eq!(read.num_rows(), 0);
    }
    let mut leaves = Leaves::new(&Kind::Dead.schema());
    let error = Expr::parse("country = 'US'", Want::Kind(ValueKind::Bool), &mut leaves).unwrap_err();
    assert!(error.to_string().contains("unknown column country; expected one of original_payload"));
    assert!(Expr::parse("headers = 'x'", Want::Kind(ValueKind::Bool), &mut leaves).is_err());
    assert!(
        Expr::parse("dimensions.country = 'US'", Want::Kind(ValueKind::Bool), &mut Leaves::new(&Kind::Metric.schema()))
            .is_ok()
    );
}

#[test]
fn a_dimension_is_text() {
    let (values, wrong) = evaluated("a.b", Want::AsText, &[r#"{"a":{"b":1.50}}"#, "{}", r#"{"a":{"b":[]}}"#]);
    assert!(wrong.is_empty());
    assert_eq!(values.as_string::<i32>(), &StringArray::from(vec![Some("1.50"), None, Some("[]")]));
    let row = r#"{"status":404,"big":1e15,"ok":true,"t":"2024-05-03T01:02:03+02:00"}"#;
    for (text, expected) in [
        ("floor(status / 100)", Some("4")),
        ("big * 1e6", Some("1e+21")),
        ("big * 1e5", Some("100000000000000000000")),
        ("status >= 400", Some("true")),
        ("ok and status < 400", Some("false")),
        ("date_trunc('month', t)", Some("2024-05-01T00:00:00.000000Z")),
        ("date_trunc('quarter', t)", Some("2024-04-01T00:00:00.000000Z")),
        ("coalesce(none, ok)", Some("true")),
        ("none || 'x'", None),
    ] {
        assert_eq!(string(text, row).as_deref(), expected, "{text}");
    }
}

#[test]
fn presence_asks_for_no_kind() {
    let rows = [r#"{"a":"n/a"}"#, r#"{"a":{}}"#, r#"{"a":null}"#, "{}"];
    let (values, wrong) = evaluated("a", Want::Presence, &rows);
    assert!(wrong.is_empty());
    assert_eq!(values.null_count(), 2);
    assert_eq!(evaluated("user_id", Want::Presence, &rows).0.null_count(), 4);
    assert_eq!(evaluated("origin", Want::Presence, &rows).0.null_count(), 0);
    assert_eq!(evaluated("a || 'x'", Want::Presence, &rows).0.null_count(), 2);
}

#[test]
fn constants_fill_all_rows_and_no_row_is_no_trouble() {
    let (values, _) = evaluated("1 + 1", Want::Kind(ValueKind::Number), &["{}", "{}", "{}"]);
    assert_eq!(values.as_primitive::<Float64Type>().values(), &[2.0, 2.0, 2.0]);
    let (values, _) = evaluated("timestamp '1970-01-01T00:00:01Z'", Want::Kind(ValueKind::Time), &["{}", "{}"]);
    assert_eq!(values.as_primitive::<Int64Type>().values(), &[1_000_000, 1_000_000]);
    for text in ["1 + 1 > a", "true", "case when a then 'x' else b end = 'x'", "a in (1, 2)", "substr('abc', 2) = a"] {
        assert_eq!(evaluated(text, Want::Kind(ValueKind::Bool), &[]).0.len(), 0, "{text}");
    }
}

#[test]
fn the_name_of_an_expression_is_its_text_without_blanks() {
    assert_eq!(without_blanks(" sum( price * qty ) "), "sum(price*qty)");
    assert_eq!(without_blanks("a  is\n null and b = 'x y'"), "a is null and b='x y'");
    let (_, expr) = parsed("a . b > 1 and c = 'x' and a.b < 9", Want::Kind(ValueKind::Bool));
    assert_eq!(expr.paths(), ["a.b", "c"]);
    assert_eq!(expr.kind(), ValueKind::Bool);
}
