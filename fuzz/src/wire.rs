//! Records of a topic in Avro: a line of schema, then a payload behind its schema's id, which may be anything. Behind a
//! tab the line may have a second schema: the reader's.

use evt_core::avro::decode::Decoder;
use evt_core::avro::{parse_lenient, parse_schema};
use evt_core::json::scan::is_json;
use evt_run::registry::wire::framed;

/// An accepted record decodes to JSON of bounded size, with the schema id in a header or before the record.
pub fn run(input: &[u8]) {
    let Some(at) = input.iter().position(|byte| *byte == b'\n') else { return };
    let (schema, payload) = (&input[..at], &input[at + 1..]);
    let Ok((key, body)) = framed(payload, None) else { return };
    let head = &payload[..payload.len() - body.len()];
    assert!(framed(body, Some(head)).is_ok_and(|(other, rest)| other == key && rest == body));
    let Some(mut decoder) = std::str::from_utf8(schema).ok().and_then(decoder) else { return };
    let (mut rest, mut text) = (body, String::new());
    if decoder.decode(&mut rest, &mut text).is_ok() {
        assert!(is_json(&text) && text.starts_with('{'), "{text}");
        assert!(rest.len() <= body.len());
    }
}

fn decoder(schemas: &str) -> Option<Decoder> {
    match schemas.split_once('\t') {
        None => Some(Decoder::of(&parse_lenient(schemas).ok()?)),
        Some((writer, reader)) => Decoder::resolving(&parse_schema(writer).ok()?, &parse_schema(reader).ok()?).ok(),
    }
}
