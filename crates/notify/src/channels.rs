//! `channels.toml`: the channels of evt-alert(1), by name (evt-channels(5)).

use crate::channel::Transport;
use crate::channel::exec::Exec;
use crate::channel::pagerduty::PagerDuty;
use crate::channel::slack::Slack;
use crate::channel::smtp::Smtp;
use crate::channel::webhook::Webhook;
use crate::pace::RateLimit;
use crate::settings::{Document, Settings};
use evt_core::error::{Error, Result};
use evt_run::secret::Secrets;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// How long an attempt may take, if `timeout` does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a notification is retried, if `retry` does not say.
const RETRY: Duration = Duration::from_secs(3600);
/// Requests a minute, if `rate` does not say: half of what PagerDuty accepts for a key, and Slack's one per second.
const RATE: RateLimit = RateLimit::per_minute(NonZeroU32::new(60).expect("not zero"));
/// Maximum number of channels: each has a thread.
const CHANNELS_MAX: usize = 100;
/// Maximum characters of a name.
const NAME_MAX: usize = 64;
/// The values of `type`.
const TYPES: [&str; 5] = ["pagerduty", "slack", "webhook", "smtp", "exec"];

/// One channel.
pub struct Channel {
    /// Its name, which rules use.
    pub name: String,
    /// How long a notification is retried.
    pub retry: Duration,
    /// How often it may send.
    pub rate: RateLimit,
    /// The transport that delivers its notifications.
    pub transport: Box<dyn Transport>,
}

/// The channels of a file.
pub struct Channels(Vec<Channel>);

impl Channels {
    /// Reads a file and resolves its `{env:NAME}` and `{file:PATH}`.
    ///
    /// Errors: exit status 78, with the line and the key: an unknown key, a missing secret, an invalid address or
    /// value.
    pub fn read(path: &Path, secrets: &Secrets) -> Result<Self> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::config_file(&name, &error))?;
        Self::parse(Document { name: &name, text: &text, secrets })
    }

    fn parse(document: Document<'_>) -> Result<Self> {
        // The parser's message may quote a line that holds a secret: report only the position.
        let file = DeTable::parse(document.text)
            .map_err(|error| document.fault(error.span().unwrap_or_default(), "expected TOML with [[channel]]"))?;
        let mut channels: Vec<Channel> = vec![];
        for (key, value) in file.get_ref() {
            let name: &str = key.get_ref();
            if name != "channel" {
                return Err(document.fault(key.span(), format!("unknown key '{name}'; expected [[channel]]")));
            }
            let DeValue::Array(tables) = value.get_ref() else {
                return Err(document.fault(key.span(), "channel: expected [[channel]]"));
            };
            for table in tables {
                let Some(keys) = table.get_ref().as_table() else {
                    return Err(document.fault(table.span(), "channel: expected [[channel]]"));
                };
                let channel = channel(Settings::new(document, table.span(), keys))?;
                if channels.iter().any(|other| other.name == channel.name) {
                    let message = format!("channel '{}': duplicate name", channel.name);
                    return Err(document.fault(table.span(), message));
                }
                channels.push(channel);
            }
        }
        if channels.is_empty() || channels.len() > CHANNELS_MAX {
            let message = format!("expected 1 to {CHANNELS_MAX} [[channel]], found {}", channels.len());
            return Err(document.fault(0..0, message));
        }
        Ok(Self(channels))
    }

    /// Returns the names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|channel| channel.name.as_str())
    }

    /// Whether a channel has this name.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// Returns the channels.
    pub fn into_vec(self) -> Vec<Channel> {
        self.0
    }
}

fn channel(settings: Settings<'_>) -> Result<Channel> {
    let name = settings.required("name")?;
    if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(settings.fault("name", format!("expected 1 to {NAME_MAX} characters")));
    }
    let settings = settings.named(format!("channel '{name}'"));
    let timeout = settings.duration("timeout")?.unwrap_or(TIMEOUT);
    let retry = settings.duration("retry")?.unwrap_or(RETRY);
    let rate = settings.text("rate")?.map(|text| RateLimit::parse(&text)).transpose();
    let rate = rate.map_err(|error| settings.fault("rate", error))?.unwrap_or(RATE);
    let transport: Box<dyn Transport> = match settings.required("type")?.as_str() {
        "pagerduty" => Box::new(PagerDuty::read(&settings, timeout)?),
        "slack" => Box::new(Slack::read(&settings, timeout)?),
        "webhook" => Box::new(Webhook::read(&settings, timeout)?),
        "smtp" => Box::new(Smtp::read(&settings, timeout)?),
        "exec" => Box::new(Exec::read(&settings, timeout)?),
        other => {
            let message = format!("expected one of {}, found '{other}'", TYPES.join(" "));
            return Err(settings.fault("type", message));
        }
    };
    settings.finish()?;
    Ok(Channel { name, retry, rate, transport })
}
