//! Avro schemas: read, written, compared with themselves, and used to judge values.

use evt_core::avro::compat::check;
use evt_core::avro::{Schema, parse_schema};
use evt_core::json::scan::is_json;
use evt_core::schema::avro::walk::{Checks, Explain, StopAtFirst};
use evt_core::schema::level::{Level, check_level};
use std::sync::Arc;

/// A schema on the first line, then values or other schemas, one a line.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.lines();
    let Ok(schema) = parse_schema(lines.next().unwrap_or_default()) else { return };
    assert_eq!(check(&schema, &schema), [], "a schema reads what it wrote");
    let form = schema.canonical_form();
    let again = parse_schema(&form).expect("the canonical form is a schema");
    assert_eq!(again.canonical_form(), form);
    assert_eq!(check(&again, &schema), []);
    let whole = parse_schema(&schema.identity()).expect("the identity is a schema");
    assert_eq!(whole.identity(), schema.identity());
    for line in lines.take(16) {
        if let Ok(other) = parse_schema(line) {
            let (reads, read) = (check(&schema, &other).is_empty(), check(&other, &schema).is_empty());
            let full = check_level(&schema, &[(String::new(), Arc::new(other))], Level::Full).is_empty();
            assert_eq!(full, reads && read, "full is backward and forward");
        }
        for closed in [false, true] {
            judge(&Checks::new(&schema, closed), &schema, line);
        }
    }
}

/// The quick walk and the one that explains agree.
fn judge(checks: &Checks, schema: &Schema, value: &str) {
    let value = value.trim_matches([' ', '\t', '\r']);
    if !is_json(value) {
        return;
    }
    let root = schema.root();
    let (mut quiet, mut explain) = (StopAtFirst::default(), Explain::default());
    let verdict = checks.value(root, value, &mut quiet);
    checks.value(root, value, &mut explain);
    assert_eq!(verdict, explain.message().is_none(), "{value}");
}
