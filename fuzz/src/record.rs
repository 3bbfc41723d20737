//! Rows of our own kinds from JSON text: what is taken writes back and is taken again as the same row.

use super::cuts::chosen;
use arrow::array::RecordBatch;
use evt_core::format::row::Builder;
use evt_core::format::{Body, Records, jsonl};
use evt_core::json::scan::is_json;
use evt_core::json::text::write_string;
use evt_core::kind::Kind;

/// The first byte chooses the kind; then a record a line.
pub fn run(input: &[u8]) {
    let Some((kind, rest)) = chosen(input) else { return };
    let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let mut builder = Builder::new(kind);
    let taken = text.lines().filter(|line| builder.push(line).is_ok()).count();
    let batch = builder.finish().expect("rows that were taken");
    assert_eq!(batch.num_rows(), taken);
    assert!(jsonl::is_proved(&batch));
    let mut again = Builder::new(kind);
    for line in written(&batch) {
        again.push(&line).unwrap_or_else(|fault| panic!("{}: {line}", fault.message));
    }
    assert_eq!(written(&again.finish().expect("rows")), written(&batch));
}

fn written(batch: &RecordBatch) -> Vec<String> {
    let mut records = Records::default();
    jsonl::rows_to_json(batch, 1, 4 << 20, &mut records).expect("rows of ours");
    let text = |body: &Body| match body {
        Body::Text(range) => records.text[range.clone()].to_owned(),
        other => panic!("{other:?}"),
    };
    records.rows.iter().map(|record| text(&record.body)).collect()
}

/// Events with these properties, a second apart; text that is not a JSON object is passed over.
pub fn events<'a>(properties: impl Iterator<Item = &'a str>) -> RecordBatch {
    let mut builder = Builder::new(Kind::Event);
    for (offset, object) in properties.filter(|text| text.starts_with('{') && is_json(text)).enumerate() {
        let time = format!("\"2024-01-15T10:00:{:02}Z\"", offset % 60);
        let mut user = String::new();
        write_string(&mut user, &object[..object.len().min(3)].replace(|c: char| !c.is_ascii(), "?"));
        let id = format!("00000000-0000-0000-0000-{offset:012}");
        let line = format!(
            "{{\"event_id\":\"{id}\",\"source\":\"web\",\"event_type\":\"click\",\"user_id\":{user},\
             \"properties\":{object},\"ingested_at\":{time},\"event_time\":{time},\"origin\":\"in.jsonl\",\
             \"partition\":\"0\",\"offset\":{offset},\"stream_time\":{time}}}"
        );
        builder.push(&line).unwrap_or_else(|fault| panic!("{}: {line}", fault.message));
    }
    builder.finish().expect("rows")
}
