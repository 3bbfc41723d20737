//! Converts CloudEvents 1.0 to events: the HTTP binding in its binary, structured and batched modes.
//!
//! ```text
//! id → event_id (no UUID: UUIDv5 of source and id)   source → source      type → event_type
//! time → client_timestamp                            data, an object → properties; anything else → the property data
//! data_base64 → the property data_base64             every other attribute → a property of its name
//! ```
//!
//! `specversion` must be 1.0 and is not kept. Values keep their text as received. The payload of a record is the event made of
//! it, or its original bytes if it is invalid.

use crate::http::edge::cut::Piece;
use crate::json::base64;
use crate::json::scan::{diagnose, is_json};
use crate::json::text::{unescape, write_string};
use crate::json::walk::{members, string_content};
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping::uuid_of;
use hyper::HeaderMap;
use std::borrow::Cow;

/// Prefix of attributes in headers.
pub const PREFIX: &str = "ce-";
/// Required attributes, which are converted.
const REQUIRED: [&str; 3] = ["id", "source", "type"];

/// A CloudEvent being converted: attributes and data as JSON text.
#[derive(Default)]
struct Event<'a> {
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    event_type: Option<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    /// JSON text of the data.
    data: Option<Cow<'a, str>>,
    /// JSON text of binary data.
    base64: Option<Cow<'a, str>>,
    /// All other attributes: the name still escaped, the value as JSON text.
    others: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Converts an event in the JSON format.
pub fn structured(piece: Piece<'_>) -> Piece<'_> {
    if piece.fault.is_some() {
        return piece;
    }
    match std::str::from_utf8(&piece.payload) {
        Err(error) => {
            let message = format!("byte {}: invalid UTF-8", error.valid_up_to() + 1);
            Piece { fault: Some(Fault::new(ErrorType::ParseError, message)), ..piece }
        }
        Ok(text) => match of_json(text) {
            Ok(made) => Piece { payload: Cow::Owned(made.into_bytes()), fault: None },
            Err(fault) => Piece { fault: Some(fault), ..piece },
        },
    }
}

fn of_json(text: &str) -> Result<String, Fault> {
    if !is_json(text) {
        return Err(Fault::new(ErrorType::ParseError, diagnose(text)));
    }
    if !text.trim_start().starts_with('{') {
        return Err(Fault::new(ErrorType::EnvelopeError, "expected a JSON object"));
    }
    let mut event = Event::default();
    let mut fault = None;
    members(text, |key, value| {
        let slot = match &*unescape(key) {
            "id" => &mut event.id,
            "source" => &mut event.source,
            "type" => &mut event.event_type,
            "specversion" => &mut event.version,
            "time" => &mut event.time,
            "data" => &mut event.data,
            "data_base64" => &mut event.base64,
            _ => {
                event.others.push((Cow::Borrowed(key), Cow::Borrowed(value)));
                return true;
            }
        };
        if value != "null" && slot.replace(Cow::Borrowed(value)).is_some() {
            fault = Some(Fault::new(ErrorType::EnvelopeError, format!("{key}: duplicate name in the record")));
        }
        fault.is_none()
    });
    match fault {
        Some(fault) => Err(fault),
        None => event.write(),
    }
}

/// Converts an event in binary mode.
pub fn binary<'a>(headers: &HeaderMap, body: &'a [u8]) -> Piece<'a> {
    match of_headers(headers, body) {
        Ok(made) => Piece { payload: Cow::Owned(made.into_bytes()), fault: None },
        Err(fault) => Piece::refused(body, fault),
    }
}

fn of_headers(headers: &HeaderMap, body: &[u8]) -> Result<String, Fault> {
    let mut event = Event::default();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        let Some(value) = header_text(value.as_bytes()) else {
            return Err(Fault::new(ErrorType::EnvelopeError, format!("{PREFIX}{name}: invalid UTF-8")));
        };
        let value = Some(Cow::Owned(quoted(&value)));
        let slot = match name {
            "id" => &mut event.id,
            "source" => &mut event.source,
            "type" => &mut event.event_type,
            "specversion" => &mut event.version,
            "time" => &mut event.time,
            _ => {
                event.others.extend(value.map(|value| (Cow::Owned(escaped(name)), value)));
                continue;
            }
        };
        if std::mem::replace(slot, value).is_some() {
            return Err(Fault::new(ErrorType::EnvelopeError, format!("{PREFIX}{name}: duplicate header")));
        }
    }
    let kind = headers.get(hyper::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if !kind.is_empty() {
        event.others.push((Cow::Borrowed("datacontenttype"), Cow::Owned(quoted(kind))));
    }
    if !body.is_empty() {
        data_of(kind, body, &mut event)?;
    }
    event.write()
}

/// Sets the data from a body: JSON if its media type says so, else a string if it is UTF-8, else base64.
fn data_of<'a>(kind: &str, body: &'a [u8], event: &mut Event<'a>) -> Result<(), Fault> {
    let media = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let json = media.is_empty() || media == "application/json" || media.ends_with("+json");
    match std::str::from_utf8(body) {
        Ok(text) if json && is_json(text) => event.data = Some(Cow::Borrowed(text.trim())),
        Ok(text) if json => return Err(Fault::new(ErrorType::ParseError, format!("data: {}", diagnose(text)))),
        Err(error) if json => {
            let message = format!("data: byte {}: invalid UTF-8", error.valid_up_to() + 1);
            return Err(Fault::new(ErrorType::ParseError, message));
        }
        Ok(text) => event.data = Some(Cow::Owned(quoted(text))),
        Err(_) => {
            let mut text = String::new();
            base64::encode(body, &mut text);
            event.base64 = Some(Cow::Owned(quoted(&text)));
        }
    }
    Ok(())
}

impl Event<'_> {
    /// Writes the converted event.
    fn write(self) -> Result<String, Fault> {
        let content = |value: &Option<Cow<'_, str>>, name: &str| -> Result<String, Fault> {
            let text = value.as_deref().and_then(string_content).map(unescape);
            text.filter(|text| !text.is_empty()).map(Cow::into_owned).ok_or_else(|| {
                Fault::new(ErrorType::EnvelopeError, format!("{name}: expected a string that is not empty"))
            })
        };
        let version = content(&self.version, "specversion")?;
        if version != "1.0" {
            let message = format!("specversion: expected \"1.0\", found {}", quoted(&version));
            return Err(Fault::new(ErrorType::EnvelopeError, message));
        }
        let [id, source, event_type] = [(&self.id, "id"), (&self.source, "source"), (&self.event_type, "type")]
            .map(|(value, name)| content(value, name));
        let (id, source, event_type) = (id?, source?, event_type?);
        let mut out = String::with_capacity(256 + self.data.as_ref().map_or(0, |data| data.len()));
        out.push_str("{\"event_id\":");
        write_string(&mut out, &uuid_of(&source, &id));
        out.push_str(",\"source\":");
        write_string(&mut out, &source);
        out.push_str(",\"event_type\":");
        write_string(&mut out, &event_type);
        if let Some(time) = &self.time {
            out.push_str(",\"client_timestamp\":");
            out.push_str(time);
        }
        if let Some(data) = &self.data {
            out.push_str(if data.starts_with('{') { ",\"properties\":" } else { ",\"data\":" });
            out.push_str(data);
        }
        if let Some(bytes) = &self.base64 {
            out.push_str(",\"data_base64\":");
            out.push_str(self.bytes(bytes)?);
        }
        for (name, value) in &self.others {
            if taken(name) {
                return Err(Fault::new(ErrorType::EnvelopeError, format!("{name}: reserved attribute name")));
            }
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            out.push_str(value);
        }
        out.push('}');
        Ok(out)
    }
}

impl Event<'_> {
    /// Returns the text of binary data if it is valid base64 and there is no other data (JSON format 3.1).
    fn bytes<'t>(&self, text: &'t str) -> Result<&'t str, Fault> {
        let wrong = |why: &str| Err(Fault::new(ErrorType::EnvelopeError, format!("data_base64: {why}")));
        if self.data.is_some() {
            return wrong("excludes data");
        }
        match string_content(text).map(unescape).and_then(|content| base64::decode(&content)) {
            Some(_) => Ok(text),
            None => wrong("expected a base64 string"),
        }
    }
}

/// Whether a name has a meaning in events. (Attribute names are letters and digits; one named like a provenance column stays a
/// property.)
fn taken(name: &str) -> bool {
    let name = unescape(name);
    REQUIRED.contains(&&*name)
        || matches!(
            &*name,
            "event_id" | "event_type" | "user_id" | "properties" | "client_timestamp" | "server_timestamp"
        )
}

/// Decodes a header value: quoted or not, percent-encoded UTF-8 (HTTP binding 3.1.3.2); `None` if it is not UTF-8.
fn header_text(value: &[u8]) -> Option<String> {
    let value = unquoted(value);
    let mut out = Vec::with_capacity(value.len());
    let mut rest = &value[..];
    while let Some((byte, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        match (*byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// Returns the content of a quoted string (RFC 7230, 3.2.6), or any other value as it is.
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(value);
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(byte) = rest.next() {
        out.push(if *byte == b'\\' { *rest.next().unwrap_or(byte) } else { *byte });
    }
    Cow::Owned(out)
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out
}

fn escaped(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(piece: Piece<'_>) -> String {
        match piece.fault {
            None => String::from_utf8(piece.payload.into_owned()).unwrap(),
            Some(fault) => format!("{}: {}", fault.error_type.name(), fault.message),
        }
    }

    #[test]
    fn a_structured_event_keeps_the_text_of_its_values() {
        let id = "58aedb27-dcc1-534a-ba59-63b291b9768e";
        let text = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/a","type":"t","time":"2018-04-05T03:56:24Z","subject":"s\n","data":{{"n":1e400}},"ext":1.50}}"#
        );
        let wanted = format!(
            r#"{{"event_id":"{id}","source":"/a","event_type":"t","client_timestamp":"2018-04-05T03:56:24Z","properties":{{"n":1e400}},"subject":"s\n","ext":1.50}}"#
        );
        assert_eq!(made(structured(Piece::of(text.as_bytes()))), wanted);
    }

    #[test]
    fn what_is_no_cloud_event_is_refused_with_its_bytes() {
        for (text, why) in [
            (r#"{"specversion":"1.0","id":"1","source":"/a"}"#, "EnvelopeError: type:"),
            (r#"{"specversion":"0.3","id":"1","source":"/a","type":"t"}"#, "EnvelopeError: specversion:"),
            (r#"{"specversion":"1.0","id":1,"source":"/a","type":"t"}"#, "EnvelopeError: id:"),
            (r#"{"specversion":"1.0","id":"1","id":"2","source":"/a","type":"t"}"#, "EnvelopeError: id:"),
            (r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","user_id":"x"}"#, "EnvelopeError: user_id:"),
            (
                r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data_base64":"A?"}"#,
                "EnvelopeError: data_base64: expected",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data":1,"data_base64":"/w=="}"#,
                "EnvelopeError: data_base64: excludes data",
            ),
            ("[]", "EnvelopeError: expected a JSON object"),
            ("{", "ParseError:"),
        ] {
            let piece = structured(Piece::of(text.as_bytes()));
            assert_eq!(piece.payload, text.as_bytes());
            assert!(made(piece.clone()).starts_with(why), "{text}: {}", made(piece));
        }
    }

    #[test]
    fn a_binary_event_takes_attributes_from_headers_and_data_by_their_media_type() {
        let headers = |kind: &str| {
            let mut headers = HeaderMap::new();
            let fixed = [
                ("ce-specversion", "1.0"),
                ("ce-id", "1"),
                ("ce-source", "/a"),
                ("ce-type", "t"),
                ("ce-name", "%E2%82%AC%2"),
            ];
            for (name, value) in fixed.into_iter().chain([("content-type", kind), ("accept", "x")]) {
                headers.insert(name, value.parse().unwrap());
            }
            headers
        };
        let told = |kind: &str, body: &[u8]| made(binary(&headers(kind), body));
        let json = told("application/json; charset=utf-8", b" {\"a\":1}\n");
        assert!(json.contains(r#","properties":{"a":1},"name":"€%2","datacontenttype":"application/json; "#), "{json}");
        assert!(told("text/plain", b"a\"b").contains(r#","data":"a\"b","#));
        assert!(told("image/png", b"\xff\x00").contains(r#","data_base64":"/wA="#));
        assert!(told("application/x+json", b"[1]").contains(r#","data":[1],"#));
        assert!(told("application/json", b"{").starts_with("ParseError: data:"));
        assert!(told("application/json", b"\xff").starts_with("ParseError: data: byte 1: invalid UTF-8"));
    }

    #[test]
    fn a_header_is_unquoted_then_decoded_and_has_to_be_utf8() {
        let told = |value: &[u8]| header_text(value);
        assert_eq!(told(b"Euro%20%E2%82%ac").as_deref(), Some("Euro €"));
        assert_eq!(told(br#""say \"hi\" %22\\""#).as_deref(), Some(r#"say "hi" "\"#));
        assert_eq!(told(b"100%+5 %-1 %").as_deref(), Some("100%+5 %-1 %"));
        assert_eq!(told("€".as_bytes()).as_deref(), Some("€"));
        assert_eq!(told(b"%C0%A0"), None);
    }
}
