//! Frames: the same frames and the same end however the bytes come, and no batch that cannot be written.

use super::cuts::{Cuts, chosen};
use evt_core::format::{Records, jsonl};
use evt_core::frame::{Decoder, Finish, Frame};
use evt_core::kind::Kind;

/// The first byte decides how the rest is cut.
pub fn run(input: &[u8]) {
    let Some((seed, input)) = chosen(input) else { return };
    let whole = decode(input, |most| most);
    let mut cuts = Cuts::new(seed);
    assert_eq!(decode(input, |most| cuts.next(most)), whole);
}

fn decode(mut input: &[u8], mut length: impl FnMut(usize) -> usize) -> Vec<String> {
    let (mut decoder, mut seen) = (Decoder::default(), vec![]);
    while !input.is_empty() {
        let space = decoder.space();
        assert!(!space.is_empty());
        let count = length(space.len().min(input.len()));
        let (chunk, rest) = input.split_at(count);
        space[..count].copy_from_slice(chunk);
        input = rest;
        match decoder.filled(count) {
            Ok(None) => {}
            Ok(Some(frame)) => seen.push(shown(&frame)),
            Err(error) => {
                seen.push(error.to_string());
                return seen;
            }
        }
    }
    seen.push(match decoder.finish() {
        Ok(Finish::Ended(end)) => format!("{end:?}"),
        Ok(Finish::Foreign) => "foreign end".to_owned(),
        Err(error) => error.to_string(),
    });
    seen
}

fn shown(frame: &Frame) -> String {
    match frame {
        Frame::Batch(batch) if Kind::of(batch.schema_ref()).is_none() => {
            let mut records = Records::default();
            match jsonl::rows_to_json(batch, 1, 4 << 20, &mut records) {
                Ok(_) => records.text,
                Err(error) => error.to_string(),
            }
        }
        Frame::Batch(batch) => format!("{} rows", batch.num_rows()),
        Frame::Schema(schema) => format!("{:?}", schema.fields().len()),
        other => format!("{other:?}"),
    }
}
