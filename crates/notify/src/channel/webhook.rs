//! A webhook: the row of the alert as JSON, as in every JSONL output, with the idempotency key as a header.

use super::http::Endpoint;
use super::{Attempt, Notification, Transport};
use crate::settings::Settings;
use evt_core::error::Result;
use std::time::Duration;

/// A receiver of rows.
pub struct Webhook {
    endpoint: Endpoint,
}

impl Webhook {
    /// Reads the channel's settings. Errors: exit status 78.
    pub fn read(settings: &Settings<'_>, timeout: Duration) -> Result<Self> {
        Ok(Self { endpoint: Endpoint::read(settings, None, timeout)?.with_headers(settings)? })
    }
}

impl Transport for Webhook {
    fn deliver(&mut self, notification: &Notification) -> Attempt {
        self.endpoint.post(notification, notification.row.clone())
    }
}
