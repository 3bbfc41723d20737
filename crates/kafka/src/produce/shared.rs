//! The transactions of a stage without state: the records of all its outputs, and the offsets of its input.
//!
//! ```text
//! input: positions ──────────────────────────┐
//! outputs: records ─► one producer ─► flush ─► send offsets ─► commit ─► begin
//! ```
//!
//! One producer writes the records of every output, because a transaction belongs to one producer. A transaction is
//! open at any time. An error ends the run: the transaction is aborted, and the next run reads the records since the
//! last commit again. The group fences a member that has lost its partitions: its offsets name its generation, and a
//! transaction with rejected offsets is not committed.

use super::limit::Limit;
use super::offsets::GroupOffsets;
use super::producer::{Settings, TopicProducer};
use super::requests::{self, LAST_ABORT};
use crate::address::Address;
use crate::client::{self, Topics};
use evt_core::error::{Error, Result};
use evt_run::metrics::ServerStatus;
use evt_run::run::Run;
use evt_run::storage;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::rc::Rc;
use std::time::Duration;

/// Time after which brokers end an open transaction. It bounds how long the transaction of a killed run hides its
/// offsets and records, and how long brokers may be away.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// The error of a run that brokers reject.
const SUCCESSOR: &str =
    "another member of the group has taken over, or brokers have ended a transaction that took too long";
/// The setting of a static member of a group.
const INSTANCE: &str = "group.instance.id";

/// The producer of all outputs of a run.
pub struct SharedProducer {
    producer: TopicProducer,
}

impl SharedProducer {
    /// Makes the producer of these outputs, with the settings of the first one, and begins a transaction. `input` is
    /// the address of the records, with its group. Ends the transaction of a killed run of the same static member.
    ///
    /// Errors: exit status 2 if a topic does not exist, 69 if no broker answers.
    pub fn begin(outputs: &[&Address], input: &Address, run: &Rc<Run>) -> Result<Self> {
        let Some(first) = outputs.first() else {
            return Err(Error::broken("a transaction without an output"));
        };
        let topics = Topics::new(first, run);
        let instance = client::setting(input, run, INSTANCE);
        let settings: Settings = vec![
            (
                "transactional.id",
                transactional_id(input.options.group.as_deref().unwrap_or_default(), instance, &run.id),
            ),
            ("transaction.timeout.ms", TIMEOUT.as_millis().to_string()),
        ];
        let mut producer = TopicProducer::transactional(&topics, ServerStatus::default(), settings, SUCCESSOR)?;
        let mut limits = vec![];
        for address in outputs {
            let mut limit = Limit::new(address, run);
            limit.learn(&Topics::new(address, run))?;
            limits.push(limit);
        }
        producer.set_sizes(&Limit::settings_of_all(&limits))?;
        requests::init(&producer)?;
        requests::begin(&producer)?;
        Ok(Self { producer })
    }

    /// Returns the producer of one topic.
    pub(super) fn of_topic(&self, topics: &Topics, up: ServerStatus) -> TopicProducer {
        self.producer.sharing(topics, up)
    }

    /// Commits the records so far with the offsets of a group, and begins the next transaction.
    ///
    /// Errors: exit status 75 if the group or the brokers reject this member, 69 if brokers do not answer. Nothing may
    /// be written after an error.
    pub fn commit(&self, offsets: TopicPartitionList, group: ConsumerGroupMetadata) -> Result<()> {
        match requests::commit(&self.producer, GroupOffsets { list: offsets, group })? {
            None => requests::begin(&self.producer),
            // The group rebalances, and the thread of the consumer has not seen the rebalance yet.
            Some(cause) if cause.rdkafka_error_code() == Some(Code::RebalanceInProgress) => {
                let message = format!("{}: the transaction met a rebalance of the group", self.producer.topics.address);
                Err(Error::fenced(message))
            }
            Some(cause) => Err(requests::failed(&self.producer, &cause)),
        }
    }
}

/// Aborts the open transaction, so that readers need not wait for its timeout.
impl Drop for SharedProducer {
    fn drop(&mut self) {
        if requests::fatal(&self.producer).is_none() {
            // Brokers abort it later if they do not answer now.
            let _ = requests::abort(&self.producer, Some(LAST_ABORT));
        }
    }
}

/// Returns the transactional id of a member of a group. That of a static member is always the same, so that its next
/// run ends its open transaction. Other members must not fence each other, and have an id for each run.
fn transactional_id(group: &str, instance: Option<&str>, run: &str) -> String {
    match instance {
        // The length keeps group a.b with instance c apart from group a with instance b.c.
        Some(instance) => format!("evt.{group}.{}.{instance}", group.len()),
        // The id of the run has only its start and its process, which two hosts may share.
        None => format!("evt.{group}.{run}-{}", storage::token()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_ids_of_their_own_and_a_static_one_keeps_its_id() {
        assert_eq!(transactional_id("g", Some("a"), "r1"), transactional_id("g", Some("a"), "r2"));
        assert_ne!(transactional_id("g", Some("a"), "r1"), transactional_id("g", Some("b"), "r1"));
        assert_ne!(transactional_id("a", Some("b.c"), "r"), transactional_id("a.b", Some("c"), "r"));
        assert_ne!(transactional_id("g", None, "r1"), transactional_id("g", None, "r1"), "two hosts");
        assert!(transactional_id("g", None, "r1").starts_with("evt.g.r1-"), "a prefix that an ACL can name");
    }
}
