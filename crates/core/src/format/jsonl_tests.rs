use super::*;
use crate::format::test_data::{build, encode, split};
use arrow::datatypes::DataType;

#[test]
fn lines_have_neither_their_newline_nor_the_return_before_it_and_blank_ones_only_count() {
    let input = b"{\"a\":1}\r\n\n \t\r\n\r\n{\"b\":2}\n{\"c\":\r3}";
    let seen = split(&mut Lines::default(), input, &[]).unwrap();
    let seen: Vec<_> = seen.iter().map(|(line, raw, _)| (*line, str::from_utf8(raw).unwrap())).collect();
    assert_eq!(seen, [(1, "{\"a\":1}"), (5, "{\"b\":2}"), (6, "{\"c\":\r3}")]);
}

#[test]
fn a_line_longer_than_the_buffer_is_skipped_and_counted() {
    let mut lines = Lines::default();
    let mut records = Records::default();
    assert_eq!(lines.split(b"{\"a\":", false, &mut records).unwrap(), 0);
    assert_eq!(lines.skip(b"{\"a\":"), Skipped { bytes: 5, is_complete: false });
    assert_eq!(lines.skip(b"1}\n{}"), Skipped { bytes: 3, is_complete: true });
    assert_eq!(lines.split(b"{}", true, &mut records).unwrap(), 2);
    assert_eq!(records.rows[0].line, 2);
}

#[test]
fn an_array_is_told_by_its_first_character() {
    assert!(is_array(b" \n [{}]"));
    assert!(!is_array(b"{\"a\":[]}"));
    assert!(!is_array(b""));
    assert!(ARRAY_HINT.contains("--explode . reads"));
}

#[test]
fn columns_of_one_name_are_refused() {
    let field = Field::new("a", DataType::Int32, true);
    let batch = RecordBatch::new_empty(std::sync::Arc::new(Schema::new(vec![field.clone(), field])));
    let error = rows_to_json(&batch, 1, 1 << 20, &mut Records::default()).unwrap_err();
    assert_eq!(error.to_string(), "two columns have the name 'a'; rename one");
}

#[test]
fn a_dead_letter_is_written_in_column_order_with_text_where_it_is_text() {
    let letter = r#"{"headers":{"h":"t","h":{"base64":"/w=="},"n":null},"original_payload_base64":"/wA=","error_type":"ParseError","error_message":"byte 1: \"x\"","stage":"evt-ingest","source_topic":"f.jsonl","partition":"0","offset":7,"failed_at":"2024-01-15T10:00:00+01:00","producer_host":"h","attempts":1,"letter_id":"00000000-0000-4000-8000-000000000001"}"#;
    let out = encode(&FORMAT, &[build(Kind::Dead, &[letter.to_owned()])]);
    let expected = r#"{"original_payload_base64":"/wA=","headers":{"h":"t","h":{"base64":"/w=="},"n":null},"error_type":"ParseError","error_message":"byte 1: \"x\"","stage":"evt-ingest","source_topic":"f.jsonl","partition":"0","offset":7,"failed_at":"2024-01-15T09:00:00.000000Z","producer_host":"h","attempts":1,"letter_id":"00000000-0000-4000-8000-000000000001"}"#;
    assert_eq!(str::from_utf8(&out).unwrap().trim_end(), expected);
}
