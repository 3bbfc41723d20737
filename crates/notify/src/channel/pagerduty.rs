//! PagerDuty, by its Events API v2: a firing triggers an incident, and a resolve ends it.
//!
//! `dedup_key` is the id of the alert, so PagerDuty joins repeated attempts, repeats and the resolve to one incident.

use super::http::Endpoint;
use super::{Attempt, Notification, Transport, cut};
use crate::settings::Settings;
use evt_core::error::Result;
use evt_core::kind::alert::AlertState;
use evt_core::time::format_instant;
use serde_json::{Value, json};
use std::time::Duration;

/// The address of the API.
const URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// Maximum characters of `payload.summary`.
const SUMMARY_MAX: usize = 1024;
/// Maximum bytes of an event are 512 KiB; the details have to leave room for the rest.
const DETAILS_MAX: usize = 400 << 10;

/// A service of PagerDuty.
pub struct PagerDuty {
    endpoint: Endpoint,
    routing_key: String,
    source: String,
}

impl PagerDuty {
    /// Reads the channel's settings. Errors: exit status 78.
    pub fn read(settings: &Settings<'_>, timeout: Duration) -> Result<Self> {
        let missing = || settings.fault("routing_key", "missing");
        let routing_key = settings.secret("routing_key")?.ok_or_else(missing)?;
        if routing_key.len() != 32 || !routing_key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(settings.fault("routing_key", "expected the 32 letters and digits of an Events API v2 key"));
        }
        let source = settings.text("source")?.unwrap_or_else(|| "evt-alert".to_owned());
        Ok(Self { endpoint: Endpoint::read(settings, Some(URL), timeout)?, routing_key, source })
    }

    fn event(&self, notification: &Notification) -> Value {
        let alert = &notification.alert;
        let (routing_key, dedup_key) = (&self.routing_key, alert.id().to_string());
        if alert.state == AlertState::Resolved {
            return json!({"routing_key": routing_key, "event_action": "resolve", "dedup_key": dedup_key});
        }
        let details: Value = match notification.row.len() {
            ..=DETAILS_MAX => serde_json::from_str(&notification.row).unwrap_or_default(),
            _ => Value::Object(
                notification.facts().into_iter().map(|(k, v)| (k.to_owned(), cut(&v, 1024).into())).collect(),
            ),
        };
        json!({
            "routing_key": routing_key,
            "event_action": "trigger",
            "dedup_key": dedup_key,
            "client": "evt-alert",
            "payload": {
                "summary": cut(&notification.title(), SUMMARY_MAX),
                "source": self.source,
                "severity": severity(&alert.rule.severity),
                "timestamp": format_instant(alert.at),
                "group": cut(&alert.rule.name, SUMMARY_MAX),
                "class": alert.reason.name(),
                "custom_details": details,
            },
        })
    }
}

impl Transport for PagerDuty {
    fn deliver(&mut self, notification: &Notification) -> Attempt {
        self.endpoint.post(notification, self.event(notification).to_string())
    }
}

/// Returns PagerDuty's word for a severity: its own words are kept, any other is an error.
fn severity(severity: &str) -> &'static str {
    match severity.to_ascii_lowercase().as_str() {
        "critical" | "page" | "fatal" | "emergency" => "critical",
        "warning" | "warn" => "warning",
        "info" | "notice" => "info",
        _ => "error",
    }
}
