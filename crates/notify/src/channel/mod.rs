//! The types of channels: each delivers one notification and classifies the answer.
//!
//! ```text
//! notification ─► transport ─► Attempt ─┬─► Sent, SentInPart
//!                                       ├─► Refused: the receiver never takes it
//!                                       └─► Failed: sent again later; an `unclear` one may have been received
//! ```
//!
//! Every wait of an attempt is bounded by the timeout of the channel.

pub mod exec;
pub mod http;
pub mod pagerduty;
pub mod slack;
pub mod smtp;
pub mod webhook;

use evt_core::kind::alert::{Alert, AlertState};
use evt_core::time::format_instant;
use std::time::Duration;

/// One notification of an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The transition.
    pub alert: Alert,
    /// Its row as JSON, as in every JSONL output.
    pub row: String,
    /// 0 for the first notification of the transition, then one more for each repeat.
    pub repeat: i64,
    /// Who gets it now; a channel without recipients ignores it.
    pub recipients: Recipients,
}

/// The recipients of one attempt. Each gets the notifications of an alert in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// The only recipients that wait for the notification; all others have it. Empty if nobody has it yet.
    pub only: Vec<String>,
    /// The recipients that wait for an earlier notification of the alert, so that they get this notification later.
    pub later: Vec<String>,
}

impl Notification {
    /// Returns the idempotency key: the id of the alert and the state, then the number of the repeat if there is one.
    /// An attempt that is repeated has the same key; another notification has another key.
    pub fn key(&self) -> String {
        let (id, state) = (self.alert.id(), self.alert.state.name());
        if self.repeat == 0 { format!("{id}.{state}") } else { format!("{id}.{state}.{}", self.repeat) }
    }

    /// Returns one line of text: the state, the rule, and the summary or the dimensions.
    pub fn title(&self) -> String {
        let Alert { rule, dimensions, summary, state, .. } = &self.alert;
        let state = match state {
            AlertState::Firing => "FIRING",
            AlertState::Resolved => "RESOLVED",
        };
        let about = match (summary.is_empty(), dimensions.as_str()) {
            (false, _) => format!(": {summary}"),
            (true, "{}") => String::new(),
            (true, dimensions) => format!(" {dimensions}"),
        };
        one_line(&format!("[{state}] {}{about}", rule.name))
    }

    /// Returns the facts of the alert, each with its name, for a reader.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let Alert { rule, dimensions, reason, value, window_start, window_end, since, at, .. } = &self.alert;
        let number = |number: Option<f64>| number.map_or_else(|| "NULL".to_owned(), |number| number.to_string());
        let mut facts = vec![("severity", rule.severity.clone()), ("value", number(*value))];
        if rule.threshold.is_some() {
            facts.push(("threshold", number(rule.threshold)));
        }
        if dimensions != "{}" {
            facts.push(("dimensions", dimensions.clone()));
        }
        let window = format!("{} to {}", format_instant(*window_start), format_instant(*window_end));
        facts.extend([("window", window), ("since", format_instant(*since)), ("at", format_instant(*at))]);
        facts.push(("reason", reason.name().to_owned()));
        facts.extend([("rule_id", rule.rule_id.to_string()), ("alert_id", self.alert.id().to_string())]);
        facts
    }
}

/// Replaces line breaks and other control characters by spaces.
pub fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// Returns the first characters of a text, at most `max` UTF-16 units, and `…` if it is cut. The vendors count
/// characters in one of several ways; this is the strictest.
pub fn cut(text: &str, max: usize) -> String {
    if text.encode_utf16().count() <= max {
        return text.to_owned();
    }
    let mut units = 1;
    let fits = |character: &char| {
        units += character.len_utf16();
        units <= max
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// A recipient who did not get a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The address.
    pub recipient: String,
    /// The answer of the server, or what the notification waits for.
    pub cause: String,
}

impl Missed {
    /// Returns `RECIPIENT: CAUSE` of each, in one line.
    pub fn list(missed: &[Self]) -> String {
        let texts: Vec<String> =
            missed.iter().map(|Self { recipient, cause }| format!("{recipient}: {cause}")).collect();
        texts.join(", ")
    }
}

/// The outcome of one attempt to deliver a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver has accepted the notification.
    Sent,
    /// It has accepted the notification, now or before, but not for everybody.
    SentInPart {
        /// Those for whom it refused the notification permanently.
        refused: Vec<Missed>,
        /// Those for whom it may accept the notification later.
        waiting: Vec<Missed>,
    },
    /// The receiver refused it permanently, for this cause.
    Refused(String),
    /// It may succeed later.
    Failed {
        /// Why.
        cause: String,
        /// When the receiver accepts the next request, if it said so.
        after: Option<Duration>,
        /// Whether the notification may have arrived although no answer did.
        is_unclear: bool,
        /// Whether the next notification would fail too: the receiver is away or busy.
        is_of_receiver: bool,
    },
}

impl Attempt {
    /// Returns the failure of a receiver that cannot be reached: nothing has been sent.
    pub fn unreachable(cause: impl ToString) -> Self {
        Self::Failed { cause: cause.to_string(), after: None, is_unclear: false, is_of_receiver: true }
    }

    /// Returns the failure of an attempt without an answer: the receiver may have the notification.
    pub fn unclear(cause: impl ToString) -> Self {
        Self::Failed { cause: cause.to_string(), after: None, is_unclear: true, is_of_receiver: true }
    }
}

/// A type of channel with its settings. Every wait of an attempt is bounded by the channel's timeout.
pub trait Transport: Send {
    /// Delivers one notification.
    fn deliver(&mut self, notification: &Notification) -> Attempt;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_has_at_most_so_many_units_and_whole_characters() {
        assert_eq!(cut("summary", 7), "summary");
        assert_eq!(cut("summary!", 7), "summar…");
        assert_eq!(cut("a😀😀b", 4), "a😀…");
        assert_eq!(cut("a😀😀b", 3), "a…");
    }
}
