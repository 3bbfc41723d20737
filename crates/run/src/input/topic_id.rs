//! The id of a topic, which distinguishes the topic from an earlier topic of the same name.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use evt_core::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The id that brokers give a topic when it is created (Kafka 2.8 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// Parses an id in base64, in the alphabet of Kafka's tools or in that of librdkafka. Returns `None` for other
    /// text, and for the id zero, which brokers without ids send.
    pub fn parse(text: &str) -> Option<Self> {
        let decoded = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
        <[u8; 16]>::try_from(decoded).ok().filter(|bytes| *bytes != [0; 16]).map(Self)
    }
}

/// The bytes of the id, as in Kafka's protocol.
impl AsRef<[u8; 16]> for TopicId {
    fn as_ref(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl From<TopicId> for String {
    fn from(id: TopicId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TopicId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text).ok_or_else(|| Error::corrupt(format!("expected the id of a topic, found {text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_shown_as_by_the_tools_of_kafka() {
        let id = TopicId::parse("sVv-a5OcT9+0w/YkfEzn3g");
        assert_eq!(id, None, "two alphabets in one text");
        let id = TopicId::parse("sVv+a5OcT9+0w/YkfEzn3g").unwrap();
        assert_eq!(id.to_string(), "sVv-a5OcT9-0w_YkfEzn3g");
        assert_eq!(TopicId::parse(&id.to_string()), Some(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<TopicId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<TopicId>("\"x\"").is_err());
    }

    #[test]
    fn brokers_without_ids_send_zero() {
        assert_eq!(TopicId::parse("AAAAAAAAAAAAAAAAAAAAAA"), None);
    }
}
