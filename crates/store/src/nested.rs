//! Nested values as JSON text (headers and lists of names), for stores with flat cells.

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use evt_core::error::{Error, Result};
use evt_core::kind::values::HeaderList;
use evt_core::parse::hex::{hex, unhex};
use serde::{Deserialize, Serialize};

/// One header; a value that is not UTF-8 is written in hexadecimal.
#[derive(Serialize, Deserialize)]
struct Header {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    value_hex: Option<String>,
}

/// Formats a list of names as a JSON array.
pub fn names_json(names: &ArrayRef) -> Result<String> {
    let names: Vec<&str> = names.as_string::<i32>().iter().flatten().collect();
    json(&names)
}

/// Parses a JSON array of names; `None` for any other text.
pub fn parse_names(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// Formats the headers of one row as a JSON array.
pub fn headers_json(entries: &StructArray) -> Result<String> {
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_binary::<i32>());
    let header = |row: usize| {
        let bytes = values.is_valid(row).then(|| values.value(row));
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned);
        let value_hex = bytes.filter(|_| text.is_none()).map(hex);
        Header { key: keys.value(row).to_owned(), value: text, value_hex }
    };
    json(&(0..entries.len()).map(header).collect::<Vec<_>>())
}

/// Parses a JSON array of headers, in order; `None` for any other text.
pub fn parse_headers(text: &str) -> Option<HeaderList> {
    let headers: Vec<Header> = serde_json::from_str(text).ok()?;
    let pair = |header: Header| {
        let hex = header.value_hex.map(|hex| unhex(&hex).ok_or(())).transpose().ok()?;
        Some((header.key, header.value.map(String::into_bytes).or(hex)))
    };
    headers.into_iter().map(pair).collect()
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::broken("cannot write JSON").because(error))
}
