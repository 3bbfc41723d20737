//! Containers: rows or an error, never a panic, through the one function that opens them.

use evt_core::decompression::RATIO_MAX;
use evt_core::error::guarded;
use evt_core::format::{Body, InputForm, Limits, Rows, rows_of_parts, to_read};
use evt_core::json::scan::is_json;
use std::fs::File;
use std::io::{Seek, Write};

/// Avro object container files; where both succeed, apache-avro finds as many records.
pub fn avro(input: &[u8]) {
    let Ok(rows) = read("avro", input) else { return };
    // A second opinion is cheap where the input is small; its own failures are not ours.
    if input.len() > 4096 || rows > 10_000 {
        return;
    }
    apache_avro::util::max_allocation_bytes(1 << 20);
    let oracle = guarded(|| {
        let reader = apache_avro::Reader::new(input).ok()?;
        reader.take(10_001).collect::<Result<Vec<_>, _>>().ok()
    });
    if let Ok(Some(values)) = oracle {
        assert_eq!(rows, values.len(), "apache-avro finds another number of records");
    }
}

/// Parquet files.
pub fn parquet(input: &[u8]) {
    let _ = read("parquet", input);
}

/// Arrow IPC files.
pub fn arrow(input: &[u8]) {
    let _ = read("arrow", input);
}

thread_local! {
    static FILE: File = tempfile::tempfile().expect("a file");
}

/// A file that holds `input` and nothing else.
fn spool(input: &[u8]) -> std::io::Result<File> {
    FILE.with(|mut file| {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(input)?;
        file.rewind()?;
        file.try_clone()
    })
}

/// A record is cut where a few bytes of a dictionary make it longer.
const LIMITS: Limits = Limits { ratio: RATIO_MAX, text: 1 << 20 };

/// How many rows a file has, if it is whole. An input makes no more text than this times its size and a constant.
fn read(format: &str, input: &[u8]) -> evt_core::Result<usize> {
    let InputForm::Container(open) = to_read(format)?.input else { panic!("{format} is a container") };
    let opened = open(spool(input).expect("a file"), LIMITS)?;
    let mut count = 0;
    for rows in rows_of_parts(opened.parts).take(64) {
        match rows? {
            Rows::Batch(batch) => count += batch.num_rows(),
            Rows::Text(records) => {
                for record in &records.rows {
                    match &record.body {
                        Body::Text(range) => {
                            let text = &records.text[range.clone()];
                            assert!(text.starts_with('{') && is_json(text), "{text:?}");
                        }
                        Body::Cut(range) => assert!(range.len() > LIMITS.text),
                        other => panic!("a container has text: {other:?}"),
                    }
                    count += 1;
                    assert_eq!(record.line, count as u64);
                }
            }
        }
    }
    Ok(count)
}
