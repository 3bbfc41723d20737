//! Kafka as input, and what [`produce`] shares with it: topics, partitions, offsets, groups.
//!
//! What can be decided without a broker stands apart: [`uri::kafka`](crate::uri::kafka) reads URIs, [`position`] knows offsets, gaps and the
//! metadata of a commit. The others talk to brokers, by [`fetch`]
//! or through librdkafka, whose callbacks note what happened ([`client`]) for the run's own thread to act on.

pub mod client;
pub mod fetch;
pub mod framing;
pub mod group;
pub mod health;
pub mod input;
pub mod letter;
pub mod position;
pub mod produce;
pub mod range;
pub mod records;
pub mod watch;
