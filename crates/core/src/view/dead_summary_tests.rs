use super::*;
use crate::kind::dead::{ErrorType, Fault, Letter};
use crate::kind::letters::Builder;

fn letters(of: &[(ErrorType, &str, &[u8], i64)]) -> RecordBatch {
    let mut builder = Builder::new("evt-ingest", "host");
    for (error_type, origin, payload, failed_at) in of {
        let fault = Fault::new(*error_type, format!("why {origin}"));
        let (key, arrived_at) = (None, None);
        let letter =
            Letter { payload, key, headers: None, arrived_at, fault: &fault, origin, partition: "0", offset: 1 };
        builder.push(&letter, *failed_at).unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn groups_have_their_count_first_and_last_and_the_largest_comes_first() {
    let mut summary = DeadSummary::default();
    summary.push(&letters(&[(ErrorType::ParseError, "a", b"x", 5_000_000)])).unwrap();
    let more = [(ErrorType::EnvelopeError, "a", &b"y"[..], 3), (ErrorType::EnvelopeError, "a", b"z", 1)];
    summary.push(&letters(&more)).unwrap();
    let rows = summary.rows().unwrap();
    let counts = rows["letters"].as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(counts.values(), &[2, 1]);
    let times = |name: &str| rows[name].as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!((times("first_failed_at"), times("last_failed_at")), (1, 3));
    assert_eq!(rows["sample_payload"].as_string::<i32>().value(0), "y");
}

#[test]
fn the_report_is_as_wide_as_the_terminal_and_no_payload_drives_it() {
    let mut summary = DeadSummary::default();
    let long = [b"\x1b]0;owned\x07\xff".as_slice(), &[b'x'; 5_000]].concat();
    summary.push(&letters(&[(ErrorType::ParseError, "a\nb", &long, 0)])).unwrap();
    let report = summary.report(Some(60));
    use unicode_width::UnicodeWidthStr;
    assert!(report.lines().all(|line| line.width() <= 60), "{report}");
    assert!(!report.chars().any(|c| c.is_control() && c != '\n'), "{report:?}");
    assert!(report.contains("␛]0;owned"), "{report}");
}

#[test]
fn beyond_the_bound_groups_are_summed_up_together_and_no_letter_is_lost() {
    let mut summary = DeadSummary::default();
    let origins: Vec<String> = (0..GROUPS_MAX + 50).map(|at| format!("f{at}")).collect();
    for origins in origins.chunks(1000) {
        let of: Vec<_> = origins.iter().map(|o| (ErrorType::ParseError, o.as_str(), &b"x"[..], 0)).collect();
        summary.push(&letters(&of)).unwrap();
    }
    let rows = summary.rows().unwrap();
    assert_eq!(rows.num_rows(), GROUPS_MAX + 1);
    let counts = rows["letters"].as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(counts.values().iter().sum::<i64>(), (GROUPS_MAX + 50) as i64);
    assert_eq!(rows["source_topic"].as_string::<i32>().value(0), OTHERS);
}

#[test]
fn messages_of_one_kind_are_one_group_whatever_values_they_name() {
    for (message, wanted) in [
        ("byte 17: expected value", "byte N: expected value"),
        (r#"amount: expected a number, found "12\"x""#, r#"amount: expected a number, found "…""#),
        ("it doesn't end, found 'a b' and `c`", "it doesn't end, found '…' and `…`"),
        ("v2 of utf8 at -1.5e-3", "v2 of utf8 at -N"),
        ("event_id 232c5b85-6b3b-5756-8229-cbbe8c9fe4fc at 2024-01-15T10:00:00.5Z", "event_id N at N"),
        ("source: expected a string, found false", "source: expected a string, found N"),
        ("beyond 2024-01-15 10:00 by 3.25 s", "beyond N by N s"),
    ] {
        assert_eq!(masked(message), wanted);
    }
}
