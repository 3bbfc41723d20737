use super::*;
use crate::format::test_data::{data, split};
use std::io::Read;

fn read(line: &str) -> Result<String, String> {
    let seen = split(&mut ReadLines::new(AccessLog), line.as_bytes(), &[]).unwrap();
    assert_eq!(seen.len(), 1);
    seen[0].2.clone()
}

const COMBINED: &str = r#"83.149.9.216 - frank smith [17/May/2015:12:05:03 +0200] "GET /a\"b HTTP/1.1" 200 203023 "http://x/\xc3\xa9\xe4" "Mozilla/5.0 (\xc3\xa9)""#;

#[test]
fn a_combined_line_becomes_an_event() {
    let expected = r#"{"event_type":"http_request","server_timestamp":"2015-05-17T10:05:03.000000Z","client":"83.149.9.216","user":"frank smith","method":"GET","path":"/a\"b","protocol":"HTTP/1.1","status":200,"bytes":203023,"referrer":"http://x/\\xc3\\xa9\\xe4","user_agent":"Mozilla/5.0 (é)"}"#;
    assert_eq!(read(COMBINED).unwrap(), expected);
}

#[test]
fn a_common_line_has_no_referrer_and_dashes_are_absent() {
    let line = r#"h - - [17/May/2015:10:05:03 +0000] "-" 408 -"#;
    let expected =
        r#"{"event_type":"http_request","server_timestamp":"2015-05-17T10:05:03.000000Z","client":"h","status":408}"#;
    assert_eq!(read(line).unwrap(), expected);
    let odd = read(&line.replace("\"-\"", r#""\x16\x03\x01""#)).unwrap();
    assert!(odd.contains(r#""request":"\u0016\u0003\u0001""#), "{odd}");
}

#[test]
fn every_deviation_names_the_byte() {
    let fault = |from: &str, to: &str| read(&COMBINED.replacen(from, to, 1)).unwrap_err();
    assert_eq!(fault("17/May", "17/Mai"), "byte 29: expected a time like [17/May/2015:10:05:03 +0000]");
    assert!(fault("[17", "17").starts_with("byte 16: expected a user"), "{}", fault("[17", "17"));
    assert!(fault("\" 200", "\" 20O").contains("expected a status"));
    assert!(fault("203023", "+5").contains("expected a number of bytes"));
    let open = read(r#"h - - [17/May/2015:10:05:03 +0000] "GET / HT"#).unwrap_err();
    assert_eq!(open, "byte 45: expected a closing quote");
    assert!(read(&format!("{COMBINED} more")).unwrap_err().contains("expected the end of the line"));
}

#[test]
fn a_line_cut_at_any_byte_is_a_fault_unless_whole_fields_or_the_start_of_the_user_agent_stand() {
    let agent = COMBINED.find("\"Mozilla").unwrap() + 1;
    let bytes = COMBINED.find("203023").unwrap();
    for end in 1..COMBINED.len() {
        let whole = end > agent || (bytes + 1..=bytes + 6).contains(&end);
        assert_eq!(read(&COMBINED[..end]).is_ok(), whole, "{}", &COMBINED[..end]);
    }
}

#[test]
fn ten_thousand_real_lines_are_read() {
    let Some(path) = data("events/apache_access_10k.log.gz") else { return };
    let mut log = vec![];
    flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut log).unwrap();
    let seen = split(&mut ReadLines::new(AccessLog), &log, &[]).unwrap();
    let faults: Vec<_> = seen.iter().filter(|(_, _, body)| body.is_err()).collect();
    assert_eq!((seen.len(), faults.len()), (10_000, 0), "{faults:?}");
}
