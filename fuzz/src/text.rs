//! Text formats: however the input is cut into chunks, the records are the same, and what is given as JSON is JSON.

use super::cuts::{Cuts, chosen};
use evt_core::format::{ALL, Body, InputForm, Records, Splitter, not_utf8};
use evt_core::json::scan::is_json;

/// Line, raw bytes, JSON text or the fault's message.
pub(super) type SplitRecord = (u64, Vec<u8>, Result<String, String>);

/// The first byte decides how the rest is cut.
pub fn run(input: &[u8]) {
    let Some((seed, input)) = chosen(input) else { return };
    for format in ALL {
        let InputForm::Text(splitter) = format.input else { continue };
        let whole = split(splitter(&evt_core::format::TextOptions::default()).as_mut(), input, |most| most);
        let mut cuts = Cuts::new(seed);
        assert_eq!(
            split(splitter(&evt_core::format::TextOptions::default()).as_mut(), input, |most| cuts.next(most)),
            whole,
            "{}",
            format.name
        );
        // An unfinished CSV record is read again with each chunk: byte by byte takes the square.
        if input.len() <= 512 {
            assert_eq!(
                split(splitter(&evt_core::format::TextOptions::default()).as_mut(), input, |_| 1),
                whole,
                "{} byte by byte",
                format.name
            );
        }
        for (line, raw, body) in whole.unwrap_or_default() {
            assert!(line > 0 && !raw.is_empty(), "{}", format.name);
            assert!(format.is_json || body.as_ref().is_ok_and(|text| is_json(text)) || body.is_err());
        }
    }
}

/// Splits an input in chunks of these lengths.
pub(super) fn split(
    splitter: &mut dyn Splitter,
    input: &[u8],
    mut length: impl FnMut(usize) -> usize,
) -> Result<Vec<SplitRecord>, String> {
    let (mut seen, mut records, mut done, mut end) = (vec![], Records::default(), 0, 0);
    while end < input.len() || input.is_empty() && end == 0 {
        end += length(input.len() - end).max(usize::from(input.is_empty()));
        let chunk = &input[done..end.min(input.len())];
        records.clear();
        let count = splitter.split(chunk, end >= input.len(), &mut records).map_err(|error| error.to_string())?;
        assert!(count <= chunk.len());
        for record in &records.rows {
            let raw = chunk[record.raw.clone()].to_vec();
            assert!(record.raw.end <= count, "a record is done with");
            let mut unread = String::new();
            let text = || match record.body {
                Body::Raw => Ok(""),
                _ => std::str::from_utf8(&raw).map_err(|error| not_utf8(&error)),
            };
            let body = match (records.json(record, text, &mut unread), &record.body) {
                (Some(text), _) => text.map(str::to_owned).map_err(|fault| fault.message),
                (None, Body::Document { head, fault }) => Err(fault
                    .as_ref()
                    .map_or_else(|| records.text[head.clone()].to_owned(), |fault| fault.message.clone())),
                (None, _) => panic!("text is never cut"),
            };
            seen.push((record.line, raw, body));
        }
        done += count;
    }
    assert_eq!(done, input.len(), "the last call is done with everything");
    Ok(seen)
}
