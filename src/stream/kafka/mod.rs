//! Kafka as input, and what [`produce`](super::produce) shares with it: topics, partitions, offsets, groups.
//!
//! What can be decided without a broker stands apart: [`address`] reads URIs, [`position`] knows offsets, gaps and the
//! metadata of a commit. The others talk to brokers, by [`fetch`](super::fetch) or through librdkafka, whose callbacks note what happened ([`client`]) for the run's
//! own thread to act on.

pub mod address;
pub mod client;
pub mod framing;
pub mod group;
pub mod input;
pub mod letter;
pub mod position;
pub mod range;
pub mod records;
pub mod watch;
