//! The Avro schemas that generated events follow: one subject for each event type.

/// The latest version.
pub const VERSION_MAX: u32 = 2;

/// Properties of every event: name, Avro type, default.
const PROPERTIES: [(&str, &str, Option<&str>); 8] = [
    ("page", "\"string\"", None),
    ("country", "\"string\"", None),
    ("device", "{\"type\":\"enum\",\"name\":\"device\",\"symbols\":[\"mobile\",\"desktop\",\"tablet\"]}", None),
    ("latency_ms", "\"double\"", None),
    ("referrer", "\"string\"", None),
    ("session_id", "\"string\"", None),
    ("ua", "\"string\"", None),
    ("campaign", "[\"null\",\"string\"]", Some("null")),
];

/// Returns the schema of `event_type` in `version` (from 1), as JSON text; version 2 is backward and forward
/// compatible.
///
/// Events of every outcome but [`super::ExpectedOutcome::Defective`] are valid under it.
pub fn schema_text(event_type: &str, version: u32) -> String {
    let purchase = (event_type == "purchase").then_some(("amount", "\"double\"", None));
    let added = (version > 1).then_some(("experiment", "[\"null\",\"string\"]", Some("null")));
    let fields: Vec<String> = PROPERTIES
        .into_iter()
        .chain(purchase)
        .chain(added)
        .map(|(name, kind, default)| match default {
            Some(default) => format!("    {{\"name\":\"{name}\",\"type\":{kind},\"default\":{default}}}"),
            None => format!("    {{\"name\":\"{name}\",\"type\":{kind}}}"),
        })
        .collect();
    format!("{{\"type\":\"record\",\"name\":\"{event_type}\",\"fields\":[\n{}\n]}}\n", fields.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::record::EVENT_TYPES;
    use apache_avro::Schema;
    use apache_avro::schema_compatibility::SchemaCompatibility;

    #[test]
    fn every_schema_is_avro_and_its_versions_read_each_other() {
        for event_type in EVENT_TYPES {
            let [one, two] = [1, 2].map(|version| Schema::parse_str(&schema_text(event_type, version)).unwrap());
            assert_ne!(one, two);
            SchemaCompatibility::mutual_read(&one, &two).unwrap();
        }
    }
}
