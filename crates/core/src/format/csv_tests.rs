use super::*;
use crate::format::test_data::{SplitRecord, build, encode, split};
use crate::kind::Kind;
use crate::test_cases::cases;
use csv_core::{ReadRecordResult, ReaderBuilder, Terminator};
use proptest::prelude::*;

fn read(input: &str) -> Vec<SplitRecord> {
    split(&mut CsvRows::new(None, &TextOptions::default()), input.as_bytes(), &[]).unwrap()
}

fn error(input: &[u8]) -> String {
    split(&mut CsvRows::new(None, &TextOptions::default()), input, &[]).unwrap_err().to_string()
}

#[test]
fn records_are_objects_of_strings_with_their_exact_bytes_and_line() {
    let input = "\u{feff}id,Name,note\r\n1,\"a \"\"b\"\"\",\"two\r\nlines\"\r\n\n2,,\"\"\n3,x,y";
    let seen: Vec<_> = read(input);
    assert_eq!(seen[0].0, 2);
    assert_eq!(seen[0].1, b"1,\"a \"\"b\"\"\",\"two\r\nlines\"");
    assert_eq!(seen[0].2.as_deref(), Ok(r#"{"id":"1","Name":"a \"b\"","note":"two\r\nlines"}"#));
    assert_eq!((seen[1].0, seen[1].2.as_deref()), (5, Ok(r#"{"id":"2","note":""}"#)));
    assert_eq!((seen[2].0, seen[2].2.as_deref()), (6, Ok(r#"{"id":"3","Name":"x","note":"y"}"#)));
}

#[test]
fn a_record_of_another_length_no_text_or_an_open_quote_is_its_own_fault() {
    let fault = |input: &[u8]| {
        let seen = split(&mut CsvRows::new(None, &TextOptions::default()), input, &[]).unwrap();
        seen[0].2.clone().unwrap_err()
    };
    assert_eq!(fault(b"a,b\n1\n"), "expected 2 fields, found 1");
    assert_eq!(fault(b"a,b\n1,2,3\n"), "expected 2 fields, found 3");
    assert_eq!(fault(b"a,b\n1,\xff\n"), "byte 3: invalid UTF-8");
    assert_eq!(fault(b"a,b\n1,\"x\n2,y\n"), "expected a closing quote, found the end of the record");
    assert_eq!(fault(b"a,b\n\"x\"y,2\n"), "byte 4: expected a delimiter after a quote");
    assert_eq!(fault(b"a,b\n\"x\" ,2\n"), "byte 4: expected a delimiter after a quote");
    // The missing quote in the first line would join two records.
    assert_eq!(fault(b"a,b\n\"x,1\n\"y\",2\n"), "byte 7: expected a delimiter after a quote");
}

#[test]
fn quotes_that_are_content_are_no_fault() {
    for (record, wanted) in [
        (r#"5" disk,2"#, r#"{"a":"5\" disk","b":"2"}"#),
        (r#"x"y"z,"2""#, r#"{"a":"x\"y\"z","b":"2"}"#),
        (r#""a ""b"" c","""""#, r#"{"a":"a \"b\" c","b":"\""}"#),
        (r#""","""""#, r#"{"a":"","b":"\""}"#),
        (r#""x,""y",2"#, r#"{"a":"x,\"y","b":"2"}"#),
    ] {
        let seen = read(&format!("a,b\n{record}\n"));
        assert_eq!(seen[0].2.as_deref(), Ok(wanted), "{record}");
    }
}

#[test]
fn an_empty_field_between_quotes_is_an_empty_text_where_the_column_holds_text() {
    for (record, wanted) in [
        (r#""","",,"""#, r#"{"a":"","event_type":"","d":""}"#),
        (r#",,,"#, "{}"),
        (r#""""",,"",x"#, r#"{"a":"\"","d":"x"}"#),
        (r#""x"""",y""",,"","""#, r#"{"a":"x\"\",y\"","d":""}"#),
    ] {
        let seen = read(&format!("a,event_type,server_timestamp,d\n{record}\n"));
        assert_eq!(seen[0].2.as_deref(), Ok(wanted), "{record}");
    }
}

#[test]
fn a_header_that_names_a_column_twice_or_is_no_text_ends_the_run() {
    assert!(
        error(b"a,b,a\n1,2,3\n").starts_with("the header has two columns 'a'; rename one, or name all with --header")
    );
    assert_eq!(error(b"a,\xff\n1,2\n"), "the header: invalid UTF-8; --encoding NAME reads other encodings");
    assert!(
        error(b"a,b\r1,2\r3,4\r").starts_with("the header contains a carriage return: expected lines that end with LF")
    );
    assert_eq!(error(b"\"a\"x,b\n1,2\n"), "the header, byte 4: expected a delimiter after a quote");
    assert_eq!(error(b"a,\"b\n1,2\n"), "the header: expected a closing quote, found the end of the input");
}

#[test]
fn many_columns_are_read_whole_however_the_input_is_cut() {
    let header: Vec<_> = (0..300).map(|n| format!("c{n}")).collect();
    let input = format!("{0}\n{0}\n", header.join(","));
    for cut in 1..input.len() {
        let seen = split(&mut CsvRows::new(None, &TextOptions::default()), input.as_bytes(), &[cut]).unwrap();
        assert!(seen.len() == 1 && seen[0].2.is_ok(), "{cut}");
    }
}

#[test]
fn after_a_record_that_is_too_long_the_next_line_is_read() {
    let mut rows = CsvRows::new(None, &TextOptions::default());
    let mut records = Records::default();
    assert_eq!(rows.split(b"a,b\n\"xxxxxxxx", false, &mut records).unwrap(), 4);
    assert_eq!(rows.split(b"\"xxxxxxxx", false, &mut records).unwrap(), 0);
    assert_eq!(rows.skip(b"\"xxxxxxxx"), Skipped { bytes: 9, is_complete: false });
    assert_eq!(rows.skip(b"xx\n1,2\n"), Skipped { bytes: 3, is_complete: true });
    rows.split(b"1,2\n", true, &mut records).unwrap();
    assert_eq!(records.rows[0].line, 3);
    let (reader, mut text) = (records.reader.unwrap(), String::new());
    reader.read("1,2", &mut text).unwrap();
    assert_eq!(text, r#"{"a":"1","b":"2"}"#);
}

#[test]
fn a_header_that_is_too_long_ends_the_run() {
    let mut rows = CsvRows::new(None, &TextOptions::default());
    rows.skip(b"a,b\n");
    assert!(rows.split(b"1,2\n", true, &mut Records::default()).is_err());
}

#[test]
fn what_is_structure_stands_between_quotes() {
    let alert = r#"{"alert_id":"00000000-0000-0000-0000-000000000001","rule_id":"00000000-0000-0000-0000-000000000002","rule":"a,\"b\"\n","dimensions":{"country":"DE"},"severity":"critical","state":"firing","reason":"condition","value":0.5,"window_start":"2024-01-15T10:00:00Z","window_end":"2024-01-15T10:01:00Z","since":"2024-01-15T10:01:00Z","at":"2024-01-15T10:02:00Z","labels":{"team":"shop"},"summary":"s","caught_up":false}"#;
    let batch = build(Kind::Alert, &[alert.to_owned()]);
    let csv = String::from_utf8(encode(&CSV, std::slice::from_ref(&batch))).unwrap();
    assert_eq!(
        csv,
        "alert_id,rule_id,rule,dimensions,severity,state,reason,value,threshold,window_start,window_end,since,at,labels,\
         summary,caught_up\n00000000-0000-0000-0000-000000000001,00000000-0000-0000-0000-000000000002,\
         \"a,\"\"b\"\"\n\",\"{\"\"country\"\":\"\"DE\"\"}\",critical,firing,condition,0.5,,\
         2024-01-15T10:00:00.000000Z,2024-01-15T10:01:00.000000Z,2024-01-15T10:01:00.000000Z,\
         2024-01-15T10:02:00.000000Z,\"{\"\"team\"\":\"\"shop\"\"}\",s,false\n"
    );
    let tsv = String::from_utf8(encode(&TSV, &[batch])).unwrap();
    assert!(tsv.starts_with("alert_id\trule_id\trule\t"));
}

/// The JSON text of each record.
fn texts(delimiter: Option<u8>, header: &CsvHeader, input: &str) -> Vec<String> {
    let options = TextOptions { header: header.clone(), ..TextOptions::default() };
    let whole = split(&mut CsvRows::new(delimiter, &options), input.as_bytes(), &[]).unwrap();
    for cut in 0..input.len() {
        let cuts = [cut];
        assert_eq!(
            split(&mut CsvRows::new(delimiter, &options), input.as_bytes(), &cuts).unwrap(),
            whole,
            "{input:?} {cut}"
        );
    }
    whole.into_iter().map(|(_, _, body)| body.unwrap_or_else(|fault| fault)).collect()
}

#[test]
fn the_first_line_decides_the_delimiter() {
    for (input, text) in [
        ("a,b;c\n1,2\n", r#"{"a":"1","b;c":"2"}"#),
        ("a;b;c\n1;2,5;3\n", r#"{"a":"1","b":"2,5","c":"3"}"#),
        ("\"a,x\";b\n1;2\n", r#"{"a,x":"1","b":"2"}"#),
        ("\"a\n,x\"|b\n1|2\n", r#"{"a\n,x":"1","b":"2"}"#),
        ("a\tb|c\td\n1\t2\t3\n", r#"{"a":"1","b|c":"2","d":"3"}"#),
        ("\n\u{feff}", ""),
        ("a\n1\n", r#"{"a":"1"}"#),
    ] {
        assert_eq!(texts(None, &CsvHeader::FirstLine, input).join(" "), text, "{input:?}");
    }
    assert_eq!(texts(Some(b';'), &CsvHeader::FirstLine, "a,b;c\n1;2\n"), [r#"{"a,b":"1","c":"2"}"#]);
}

#[test]
fn a_file_without_a_header_gets_its_names_from_a_flag_or_numbers() {
    let names = CsvHeader::Names(vec!["x".to_owned(), "y".to_owned()]);
    assert_eq!(texts(Some(b' '), &names, "1 2\n3 4"), [r#"{"x":"1","y":"2"}"#, r#"{"x":"3","y":"4"}"#]);
    assert_eq!(texts(None, &names, "1;2\n3"), [r#"{"x":"1","y":"2"}"#, "expected 2 fields, found 1"]);
    assert_eq!(texts(None, &CsvHeader::Numbers, "1|2\n3|4\n"), [r#"{"c1":"1","c2":"2"}"#, r#"{"c1":"3","c2":"4"}"#]);
}

/// The records as csv-core finds them: their bytes with the end of the line, and their fields.
fn records_of_csv_core(input: &[u8]) -> Vec<(&[u8], Vec<String>)> {
    let mut reader = ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build();
    let (mut found, mut start) = (vec![], 0);
    while start < input.len() {
        let (mut read, mut written, mut ended) = (start, 0, 0);
        let (mut fields, mut ends) = (vec![0; input.len() + 1], vec![0; input.len() + 1]);
        loop {
            let (result, bytes, out, count) =
                reader.read_record(&input[read..], &mut fields[written..], &mut ends[ended..]);
            (read, written, ended) = (read + bytes, written + out, ended + count);
            match result {
                ReadRecordResult::End => return found,
                ReadRecordResult::Record => break,
                _ => {}
            }
        }
        let bounds = [&[0], &ends[..ended]].concat();
        let text = |pair: &[usize]| String::from_utf8(fields[pair[0]..pair[1]].to_vec()).expect("it is ASCII");
        found.push((&input[start..read], bounds.windows(2).map(text).collect()));
        start = read;
    }
    found
}

proptest! {
    #![proptest_config(cases(4_000))]

    /// Without carriage returns, and without the blank lines that csv-core counts to the next record.
    #[test]
    fn csv_core_finds_the_same_records_and_fields(
        pieces in prop::collection::vec(prop::sample::select(vec!["\"", "\"\"", ",", "\n", "a", " b", ",\"", "\",", "\"\n"]), 0..30),
    ) {
        let input = format!("x{}", pieces.concat()).replace("\n", "\nx,");
        let options = TextOptions { header: CsvHeader::Numbers, ..TextOptions::default() };
        let ours = split(&mut CsvRows::new(Some(b','), &options), input.as_bytes(), &[]).unwrap();
        let theirs = records_of_csv_core(input.as_bytes());
        prop_assert_eq!(ours.len(), theirs.len(), "{:?}", &input);
        let columns = theirs[0].1.len();
        for ((_, raw, body), (bytes, fields)) in ours.into_iter().zip(theirs) {
            prop_assert_eq!(&raw[..], bytes.strip_suffix(b"\n").filter(|_| raw.len() < bytes.len()).unwrap_or(bytes));
            match body {
                Ok(text) => {
                    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
                    let field = |at: usize| object.get(&format!("c{at}")).map_or("", |value| value.as_str().unwrap());
                    prop_assert_eq!((1..=columns).map(field).collect::<Vec<_>>(), fields);
                }
                Err(fault) if fault.contains("fields") => {
                    prop_assert_eq!(fault, format!("expected {columns} fields, found {}", fields.len()).replace("1 fields", "1 fields (c1)"));
                }
                Err(fault) => prop_assert!(fault.contains("quote"), "{}", fault),
            }
        }
    }
}
