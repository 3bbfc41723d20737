use super::*;
use crate::format::test_data::{batch_texts, build, encode, rows, texts};
use crate::format::{ALL, InputForm};
use crate::test_cases::cases;
use proptest::prelude::*;

#[test]
fn the_names_of_a_record_tell_its_kind() {
    for kind in Kind::ALL {
        let schema = kind.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(kind_of(&names), kind);
    }
    assert_eq!(kind_of(&["error_type", "original_payload_base64"]), Kind::Dead);
    assert_eq!(kind_of(&["metric_name", "value"]), Kind::Event);
    assert_eq!(kind_of(&[]), Kind::Event);
    assert_eq!(names_of(r#"{"a\u0062":1,"c":{"d":2}}"#), ["ab", "c"]);
}

fn check(kind: Kind, written: &[String]) {
    let batch = build(kind, written);
    assert_eq!(batch_texts(&batch), written, "the texts are those jsonl writes");
    for format in ALL {
        if format.output.is_none() || matches!(format.input, InputForm::None) {
            continue;
        }
        let read = texts(format, &encode(format, &[batch.clone(), batch.slice(0, 1)])).unwrap();
        let (first, second) = read.split_at(written.len());
        assert_eq!(build(kind, first), batch, "{}", format.name);
        assert_eq!(build(kind, second), batch.slice(0, 1), "{}", format.name);
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn metrics_survive_every_format(rows in rows(Kind::Metric)) {
        check(Kind::Metric, &rows);
    }

    #[test]
    fn dead_letters_survive_every_format(rows in rows(Kind::Dead)) {
        check(Kind::Dead, &rows);
    }

    #[test]
    fn events_survive_every_format(rows in rows(Kind::Event)) {
        check(Kind::Event, &rows);
    }

    #[test]
    fn late_events_survive_every_format(rows in rows(Kind::Late)) {
        check(Kind::Late, &rows);
    }

    #[test]
    fn alerts_survive_every_format(rows in rows(Kind::Alert)) {
        check(Kind::Alert, &rows);
    }

    #[test]
    fn any_text_is_a_row_or_a_fault_and_a_fault_adds_nothing(text in "[{}\\[\\]\":,a-z0-9_\\\\ ]{0,60}") {
        let mut builder = Builder::new(Kind::Metric);
        prop_assert!(builder.push(&text).is_err());
        prop_assert_eq!(builder.finish().unwrap().num_rows(), 0);
    }
}

const ALERT: &str = r#"{"alert_id":"00000000-0000-0000-0000-000000000001","rule_id":"00000000-0000-0000-0000-000000000002","rule":"r","dimensions":{"country":"DE"},"severity":"critical","state":"firing","reason":"condition","window_start":"2024-01-15T10:00:00Z","window_end":"2024-01-15T10:01:00Z","since":"2024-01-15T10:01:00Z","at":"2024-01-15T10:02:00Z","labels":{"team":"shop"},"summary":"s","caught_up":false}"#;

fn fault_of(from: &str, to: &str) -> Fault {
    Builder::new(Kind::Alert).push(&ALERT.replace(from, to)).unwrap_err()
}

#[test]
fn a_fault_names_the_column_and_what_it_should_be() {
    Builder::new(Kind::Alert).push(ALERT).unwrap();
    assert_eq!(fault_of(r#""rule":"r","#, "").message, "'rule': missing");
    assert_eq!(fault_of(r#":"r""#, ":7").message, "'rule': expected a string, found 7");
    assert_eq!(fault_of("2024-01-15T10:01:00Z", "soon").error_type, ErrorType::TimestampError);
    assert_eq!(fault_of(r#""rule""#, r#""x":1,"rule""#).message, "'x': unknown column of this kind");
    assert_eq!(fault_of(r#""rule""#, r#""rule":"q","rule""#).message, "'rule': duplicate column");
    assert_eq!(
        fault_of(r#""rule":"r""#, r#""rule":"r","value":1e400"#).message,
        "'value': expected a number, found 1e400"
    );
    assert_eq!(fault_of(r#"{"team":"shop"}"#, "7").message, "'labels': expected a JSON object, found 7");
    assert_eq!(
        fault_of(r#""00000000-0000-0000-0000-000000000001""#, r#""1""#).message,
        "'alert_id': expected a UUID, found \"1\""
    );
    assert_eq!(fault_of("}", "").error_type, ErrorType::ParseError);
    assert_eq!(Builder::new(Kind::Alert).push("[]").unwrap_err().message, "expected a JSON object");
}

#[test]
fn bytes_that_are_empty_are_not_missing_in_jsonl() {
    let letter = r#"{"original_payload":"","original_key":"","error_type":"ParseError","error_message":"","stage":"s","source_topic":"","partition":"","offset":0,"failed_at":"2024-01-15T10:00:00.000000Z","producer_host":"","attempts":1,"letter_id":"00000000-0000-4000-8000-000000000001"}"#;
    let batch = build(Kind::Dead, &[letter.to_owned()]);
    assert_eq!(batch_texts(&batch), [letter]);
}
