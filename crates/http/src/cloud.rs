//! Converts CloudEvents 1.0 to events: the HTTP binding in its binary, structured and batched modes.
//!
//! ```text
//! id → event_id (no UUID: UUIDv5 of source and id)   source → source      type → event_type
//! time → client_timestamp                            data, an object → properties; anything else → the property data
//! data_base64 → the property data_base64             every other attribute → a property of its name
//! ```
//!
//! `specversion` must be 1.0 and is not kept. Values keep their text as received. The payload of a record is the event
//! made of it, or its original bytes if it is invalid.

use bytes::Bytes;
use evt_core::format::{not_utf8, without_mark};
use evt_core::json::base64;
use evt_core::json::scan::{diagnose, is_json};
use evt_core::json::text::{unescape, write_string};
use evt_core::json::walk::{members, string_content};
use evt_core::kind::dead::{ErrorType, Fault};
use evt_core::mapping::uuid_of;
use evt_run::spool::request::{self, RecordOutcome};
use hyper::HeaderMap;
use percent_encoding::percent_decode;
use std::borrow::Cow;

/// Prefix of attributes in headers.
pub const PREFIX: &str = "ce-";

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
pub fn structured(mut record: request::Record) -> request::Record {
    if record.fault().is_some() {
        return record;
    }
    let text = str::from_utf8(without_mark(&record.payload));
    match text.map_err(|error| not_utf8(&error)).and_then(of_json) {
        Ok(made) => record.payload = made.into(),
        Err(fault) => record.outcome = RecordOutcome::Rejected(fault),
    }
    record
}

fn of_json(text: &str) -> Result<String, Fault> {
    if !is_json(text) {
        return Err(Fault::new(ErrorType::ParseError, diagnose(text)));
    }
    if !text.trim_start().starts_with('{') {
        return Err(invalid("expected a JSON object"));
    }
    let mut event = Event::default();
    let mut fault = None;
    members(text, |key, value| {
        let slot = match &*unescape(key) {
            "data" => Some(&mut event.data),
            "data_base64" => Some(&mut event.base64),
            name => event.attribute(name),
        };
        match slot {
            None => event.others.push((Cow::Borrowed(key), Cow::Borrowed(value))),
            Some(slot) => {
                if value != "null" && slot.replace(Cow::Borrowed(value)).is_some() {
                    fault = Some(invalid(format!("{key}: duplicate name in the record")));
                }
            }
        }
        fault.is_none()
    });
    match fault {
        Some(fault) => Err(fault),
        None => event.write(),
    }
}

/// Converts an event in binary mode.
pub fn binary(headers: &HeaderMap, body: &Bytes) -> request::Record {
    match of_headers(headers, body) {
        Ok(made) => request::Record::new(made.into()),
        Err(fault) => request::Record::rejected(body.clone(), fault),
    }
}

fn of_headers(headers: &HeaderMap, body: &[u8]) -> Result<String, Fault> {
    let mut event = Event::default();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        let Some(value) = header_text(value.as_bytes()) else {
            return Err(invalid(format!("{PREFIX}{name}: invalid UTF-8")));
        };
        let value = Cow::Owned(quoted(&value));
        match event.attribute(name) {
            None => event.others.push((Cow::Owned(escaped(name)), value)),
            Some(slot) => {
                if slot.replace(value).is_some() {
                    return Err(invalid(format!("{PREFIX}{name}: duplicate header")));
                }
            }
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

/// Makes the fault of a CloudEvent that does not conform.
#[cold]
fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(ErrorType::EnvelopeError, message)
}

/// Sets the data from a body: JSON if its media type is JSON, else a string if it is UTF-8, else base64.
fn data_of<'a>(kind: &str, body: &'a [u8], event: &mut Event<'a>) -> Result<(), Fault> {
    let media = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let json = media.is_empty() || media == "application/json" || media.ends_with("+json");
    match str::from_utf8(body) {
        Ok(text) if json && is_json(text) => event.data = Some(Cow::Borrowed(text.trim())),
        Ok(text) if json => return Err(Fault::new(ErrorType::ParseError, format!("data: {}", diagnose(text)))),
        Err(error) if json => {
            let fault = not_utf8(&error);
            return Err(Fault { message: format!("data: {}", fault.message), ..fault });
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

impl<'a> Event<'a> {
    /// Returns the field for an attribute that has a field of its own; `None` for other attributes.
    fn attribute(&mut self, name: &str) -> Option<&mut Option<Cow<'a, str>>> {
        match name {
            "id" => Some(&mut self.id),
            "source" => Some(&mut self.source),
            "type" => Some(&mut self.event_type),
            "specversion" => Some(&mut self.version),
            "time" => Some(&mut self.time),
            _ => None,
        }
    }

    /// Writes the converted event.
    fn write(self) -> Result<String, Fault> {
        let content = |value: &Option<Cow<'_, str>>, name: &str| -> Result<String, Fault> {
            let text = value.as_deref().and_then(string_content).map(unescape);
            let text = text.filter(|text| !text.is_empty()).map(Cow::into_owned);
            text.ok_or_else(|| invalid(format!("{name}: expected a string that is not empty")))
        };
        let version = content(&self.version, "specversion")?;
        if version != "1.0" {
            return Err(invalid(format!("specversion: expected \"1.0\", found {}", quoted(&version))));
        }
        let (id, source) = (content(&self.id, "id")?, content(&self.source, "source")?);
        let event_type = content(&self.event_type, "type")?;
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
            if is_reserved(name) {
                return Err(invalid(format!("{name}: reserved attribute name")));
            }
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            out.push_str(value);
        }
        out.push('}');
        Ok(out)
    }

    /// Returns the text of binary data if it is valid base64 and there is no other data (JSON format 3.1).
    fn bytes<'t>(&self, text: &'t str) -> Result<&'t str, Fault> {
        let wrong = |why| Err(invalid(format!("data_base64: {why}")));
        if self.data.is_some() {
            return wrong("cannot be used with data");
        }
        match string_content(text).map(unescape).and_then(|content| base64::decode(&content)) {
            Some(_) => Ok(text),
            None => wrong("expected a base64 string"),
        }
    }
}

/// Whether a name has a meaning in events. (Attribute names are letters and digits; one named like a provenance column
/// stays a property.)
fn is_reserved(name: &str) -> bool {
    matches!(
        &*unescape(name),
        "id" | "source"
            | "type"
            | "event_id"
            | "event_type"
            | "user_id"
            | "properties"
            | "client_timestamp"
            | "server_timestamp"
    )
}

/// Decodes a header value: quoted or not, percent-encoded UTF-8 (HTTP binding 3.1.3.2); `None` if it is not UTF-8.
fn header_text(value: &[u8]) -> Option<String> {
    String::from_utf8(percent_decode(&unquoted(value)).collect()).ok()
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

    fn made(record: &request::Record) -> String {
        match record.fault() {
            None => String::from_utf8(record.payload.to_vec()).unwrap(),
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
        assert_eq!(made(&structured(request::Record::new(text.into()))), wanted);
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
                "EnvelopeError: data_base64: cannot be used with data",
            ),
            ("[]", "EnvelopeError: expected a JSON object"),
            ("{", "ParseError:"),
        ] {
            let record = structured(request::Record::new(text.into()));
            assert_eq!(record.payload, text);
            assert!(made(&record).starts_with(why), "{text}: {}", made(&record));
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
        let event = |kind: &str, body: &'static [u8]| made(&binary(&headers(kind), &Bytes::from_static(body)));
        let json = event("application/json; charset=utf-8", b" {\"a\":1}\n");
        assert!(json.contains(r#","properties":{"a":1},"name":"€%2","datacontenttype":"application/json; "#), "{json}");
        assert!(event("text/plain", b"a\"b").contains(r#","data":"a\"b","#));
        assert!(event("image/png", b"\xff\x00").contains(r#","data_base64":"/wA="#));
        assert!(event("application/x+json", b"[1]").contains(r#","data":[1],"#));
        assert!(event("application/json", b"{").starts_with("ParseError: data:"));
        assert!(event("application/json", b"\xff").starts_with("ParseError: data: byte 1: invalid UTF-8"));
    }

    #[test]
    fn a_header_is_unquoted_then_decoded_and_has_to_be_utf8() {
        let text = |value: &[u8]| header_text(value);
        assert_eq!(text(b"Euro%20%E2%82%ac").as_deref(), Some("Euro €"));
        assert_eq!(text(br#""say \"hi\" %22\\""#).as_deref(), Some(r#"say "hi" "\"#));
        assert_eq!(text(b"100%+5 %-1 %").as_deref(), Some("100%+5 %-1 %"));
        assert_eq!(text("€".as_bytes()).as_deref(), Some("€"));
        assert_eq!(text(b"%C0%A0"), None);
    }
}
