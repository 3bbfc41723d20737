//! The ids of topics.
//!
//! librdkafka knows them, and its safe interface does not return them, but its log shows them: with `debug=metadata` it
//! logs the id of a topic when it learns the id. The client is one that reads no records, because each refresh of
//! metadata logs a line for each partition.

use super::{Context, DEBUG, STATISTICS, Topics, count, queued_errors};
use evt_core::error::Result;
use evt_run::input::topic_id::TopicId;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::Duration;

/// Maximum number of lines of librdkafka's log that are searched for the id of a topic: one for each of its partitions,
/// and a few others.
const LINES_MAX: usize = 1 << 16;
/// The number of polls without a line after which the log counts as read.
const EMPTY_POLLS: usize = 16;
/// How long brokers may take for an answer, if the caller does not wait for them.
const PROMPT: Duration = Duration::from_secs(1);

/// A client that asks brokers for the ids of topics.
pub struct TopicIds {
    client: BaseConsumer<Context>,
    topics: Topics,
}

impl TopicIds {
    /// Makes the client; it connects with the first request.
    pub fn new(topics: &Topics) -> Result<Self> {
        Ok(Self { client: topics.create(&[(DEBUG, "metadata"), (STATISTICS, "0")])?, topics: topics.clone() })
    }

    /// Returns the ids of the topics of the address; `None` for a topic that does not exist now, and if brokers give
    /// topics no ids. Waits until brokers answer; `has_begun`: they have answered this run. Errors: exit status 69 if
    /// they do not answer in time.
    pub fn wait(&self, has_begun: bool) -> Result<Vec<Option<TopicId>>> {
        let (context, limit) = (self.client.context(), self.topics.address.options.wait.limit(has_begun));
        let id_of = |name: &String| {
            let exists = |timeout| count(self.client.client(), name, timeout);
            let found = self.topics.request(context, limit, || queued_errors(&self.client), exists)?;
            Ok(found.and_then(|_| self.known(name)))
        };
        self.topics.address.topics.iter().map(id_of).collect()
    }

    /// The same with one request for each topic; `None` if a broker does not answer at once.
    pub fn ask(&self) -> Option<Vec<Option<TopicId>>> {
        let id_of = |name: &String| {
            let found = count(self.client.client(), name, PROMPT).ok()?;
            Some(found.and_then(|_| self.known(name)))
        };
        self.topics.address.topics.iter().map(id_of).collect()
    }

    /// Returns the id of a topic according to the log. Its lines are in the queue before the answer of the broker, and
    /// each poll takes one line. The last one counts: the first may have the id of an earlier answer.
    fn known(&self, name: &str) -> Option<TopicId> {
        let lines = || self.client.context().notes(|notes| notes.id_lines);
        let (mut seen, mut empty) = (lines(), 0);
        for _ in 0..LINES_MAX {
            self.client.poll(Duration::ZERO);
            let now = lines();
            empty = if now == seen { empty + 1 } else { 0 };
            seen = now;
            if empty == EMPTY_POLLS {
                break;
            }
        }
        self.client.context().notes(|notes| notes.topic_ids.get(name).copied())
    }
}
