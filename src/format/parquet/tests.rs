use super::*;
use crate::format::test_data::{data, encode, expected, open as open_bytes, rows, texts};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// Files that the library refuses though others read them: each violates the format, and is reported as corrupt.
const REFUSED: [&str; 3] =
    ["dict-page-offset-zero.parquet", "nation.dict-malformed.parquet", "repeated_no_annotation.parquet"];

#[test]
fn every_third_party_file_gives_its_rows_or_a_clear_error() {
    let (mut refused, lines) = (vec![], expected("parquet/expected.jsonl"));
    for line in &lines {
        let name = line["file"].as_str().unwrap().to_owned();
        let Some(path) = data("parquet") else { return };
        match texts(&FORMAT, &std::fs::read(path.join(&name)).unwrap()) {
            Ok(texts) => {
                // A file that pyarrow refuses for its schema still has rows.
                assert_eq!(texts.len() as u64, line["rows"].as_u64().unwrap_or(1), "{name}");
                let wrong = texts.iter().find(|text| !crate::json::scan::is_json(text));
                assert_eq!(wrong, None, "{name}");
            }
            Err(error) => {
                assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{name}: {error}");
                println!("{name}: {error}: {line}");
                refused.push(name);
            }
        }
    }
    assert!(lines.is_empty() || refused == REFUSED, "{refused:?}");
}

fn events() -> RecordBatch {
    let texts = rows(Kind::Event).new_tree(&mut TestRunner::deterministic()).unwrap().current();
    crate::format::test_data::build(Kind::Event, &texts)
}

#[test]
fn a_file_of_ours_gives_batches_of_its_kind() {
    let batch = events();
    let opened = open_bytes(&FORMAT, &encode(&FORMAT, std::slice::from_ref(&batch))).unwrap();
    assert_eq!(opened.schema, Some(Kind::Event.schema()));
    for rows in opened.rows {
        let crate::format::Rows::Batch(read) = rows.unwrap() else { panic!("text") };
        assert_eq!(read, batch);
    }
}

#[test]
fn a_file_cut_or_changed_anywhere_is_rows_or_an_error_and_never_a_panic() {
    let whole = encode(&FORMAT, &[events()]);
    for end in 0..whole.len() {
        let error = texts(&FORMAT, &whole[..end]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{end}: {error}");
    }
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        if let Err(error) = texts(&FORMAT, &bytes) {
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{at}: {error}");
        }
    }
}

#[test]
fn bytes_come_out_with_each_row_group() {
    let batch = events();
    let mut writer = Writer::try_new(&batch.schema()).unwrap();
    let (mut out, mut rows) = (vec![], 0);
    while rows <= ROW_GROUP_ROWS {
        writer.encode(&batch, &mut out).unwrap();
        rows += batch.num_rows();
    }
    let before = out.len();
    writer.finish(&mut out).unwrap();
    assert!(before > 100 && out.len() > before);
    assert_eq!(texts(&FORMAT, &out).unwrap().len(), rows);
}
