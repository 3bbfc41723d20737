//! Slack, by an incoming webhook: a message with `text` for notifications and `blocks` for the channel.
//!
//! Slack has no idempotency key: a message that is sent again after a crash appears twice, with the same alert id.

use super::http::Endpoint;
use super::{Attempt, Notification, Transport, cut};
use crate::settings::Settings;
use evt_core::error::Result;
use serde_json::{Value, json};
use std::time::Duration;

/// Maximum characters of the title. A section has at most 3000, and escapes take up to five each.
const TITLE_MAX: usize = 590;
/// Maximum characters of a fact. A field has at most 2000.
const FACT_MAX: usize = 380;
/// Maximum fields of a section.
const FIELDS_MAX: usize = 10;

/// An incoming webhook of Slack.
pub struct Slack {
    endpoint: Endpoint,
}

impl Slack {
    /// Reads the channel's settings. Errors: exit status 78.
    pub fn read(settings: &Settings<'_>, timeout: Duration) -> Result<Self> {
        // The URL is a secret: it is all that a program needs to post.
        settings.secret("url")?;
        Ok(Self { endpoint: Endpoint::read(settings, None, timeout)? })
    }
}

impl Transport for Slack {
    fn deliver(&mut self, notification: &Notification) -> Attempt {
        self.endpoint.post(notification, message(notification).to_string())
    }
}

fn message(notification: &Notification) -> Value {
    let title = escaped(&cut(&notification.title(), TITLE_MAX));
    let (ids, facts): (Vec<_>, Vec<_>) = notification.facts().into_iter().partition(|(name, _)| name.ends_with("_id"));
    let field = |(name, fact): &(&str, String)| json!({"type": "mrkdwn", "text": shown(name, fact)});
    let fields: Vec<Value> = facts.iter().take(FIELDS_MAX).map(field).collect();
    let ids: Vec<Value> = ids.iter().map(field).collect();
    json!({
        "text": title,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": format!("*{title}*")}},
            {"type": "section", "fields": fields},
            {"type": "context", "elements": ids},
        ],
    })
}

fn shown(name: &str, fact: &str) -> String {
    format!("{name}: {}", escaped(&cut(fact, FACT_MAX)))
}

/// Escapes the three characters that Slack's markup reserves.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
