//! Notifications: pages that an alert sends to people and their tools.
//!
//! The engine of evt-alert writes a notification to the outbox in the transaction that stores the alert's transition. A
//! [`sender::Sender`] reads the outbox on a connection of its own and delivers it, one thread per channel, so that a
//! receiver that hangs delays no other channel. A notification leaves the outbox only with its outcome: what a killed
//! process had sent but not yet marked is sent again, under the same idempotency key.
//!
//! - `outbox.rs`: the table of notifications; what is a page and what is not.
//! - `channels.rs`: `channels.toml`; `settings.rs`: the keys of its tables.
//! - `sender.rs`: delivers the outbox; `pace.rs`: pauses between attempts and the rate of a channel.
//! - `channel/`: one notification, and the types of channels: PagerDuty, Slack, webhook, SMTP, exec.
//!
//! The engine uses it like this:
//!
//! ```text
//! let channels = Channels::read(path, secrets)?;     // --check stops here; rules name channels: channels.has(name)
//! outbox::create_tables(&db)?;                       // with the other tables of the state
//! let sender = Sender::start(channels, state_path, &console)?;
//! loop {
//!     let tx = db.transaction()?;
//!     outbox::enqueue(&tx, channel, &alert)?;        // each transition, and what still fires after catching up
//!     outbox::enqueue_repeat(&tx, channel, &alert)?; // each repeat interval
//!     tx.commit()?;
//!     sender.wake();
//! }
//! let counts = sender.finish(limit)?;                // name → ChannelCounts; the next run sends what is `due`
//! ```
#![deny(missing_docs)]

pub mod channel;
pub mod channels;
pub mod outbox;
pub mod pace;
pub mod sender;
mod settings;
