//! The request that adds the offsets of a group to a transaction.
//!
//! librdkafka ignores the timeout of this request while it looks for the coordinator of the group, and it may wait for
//! ever for a broker that has left the cluster (its issues 5456 and 5511). So the request runs in a thread of its own.
//! If it does not return, the run ends and leaves the thread behind; the next run finds out whether the transaction was
//! committed.

use super::producer::TopicProducer;
use crate::client::Topics;
use evt_core::error::{Error, Result};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaResult;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Interval at which the wait for the thread checks the stop signal.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Interval of the checks whether brokers respond to another request, and its timeout.
const CHECK: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long brokers must have responded to other requests before a run without `wait=` ends.
const OVERDUE: Duration = Duration::from_secs(60);

/// Offsets of partitions, and the group that commits them.
pub struct GroupOffsets {
    pub list: TopicPartitionList,
    pub group: ConsumerGroupMetadata,
}

/// Adds offsets to the open transaction of a producer: one attempt, which librdkafka ends after `timeout` in most
/// cases.
///
/// Errors: exit status 69 if the request does not return within `wait=` or before a stop timeout expires, or, without
/// `wait=`, if brokers have responded to other requests for [`OVERDUE`] meanwhile.
pub fn send(producer: &TopicProducer, offsets: &Arc<GroupOffsets>, timeout: Duration) -> Result<KafkaResult<()>> {
    let (sender, answer) = sync_channel(1);
    let (client, offsets) = (producer.client.clone(), offsets.clone());
    let call = move || {
        // Nothing receives the answer if the run has ended the wait.
        let _ = sender.send(client.send_offsets_to_transaction(&offsets.list, &offsets.group, timeout));
    };
    let thread = std::thread::Builder::new().name("offsets".to_owned());
    thread.spawn(call).map_err(|error| Error::failed("cannot start a thread").because(error))?;
    let Topics { address, run } = &producer.topics;
    let (start, wait) = (run.clock.monotonic(), run.stop.server_wait());
    let limit = wait.limit(address.options.wait.limit(true));
    let mut check = ResponseCheck { next: timeout + OVERDUE, responding: None };
    loop {
        match answer.recv_timeout(STOP_CHECK_INTERVAL) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::broken("the thread that sends offsets has ended"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let waited = run.clock.monotonic().saturating_sub(start);
        let is_over = match limit {
            Some(limit) => waited > limit,
            None => check.is_overdue(waited, || responds(producer)),
        };
        if is_over || wait.is_over() {
            let message = format!(
                "{address}: no response to the offsets of a transaction for {} s; the next run finds out whether it was committed",
                waited.as_secs()
            );
            return Err(Error::unavailable(message));
        }
    }
}

/// Checks whether brokers respond to other requests meanwhile. If they do, they are reachable, and the request will
/// never return.
struct ResponseCheck {
    /// The time of the next check, from the start of the request.
    next: Duration,
    /// Since when brokers have responded.
    responding: Option<Duration>,
}

impl ResponseCheck {
    /// Whether brokers have responded for [`OVERDUE`]; `waited` is the time from the start of the request.
    fn is_overdue(&mut self, waited: Duration, responds: impl FnOnce() -> bool) -> bool {
        if waited >= self.next {
            self.next = waited + CHECK;
            self.responding = self.responding.or(Some(waited)).filter(|_| responds());
        }
        self.responding.is_some_and(|since| waited.saturating_sub(since) >= OVERDUE)
    }
}

/// Whether brokers respond to a request of metadata.
fn responds(producer: &TopicProducer) -> bool {
    producer.client.client().fetch_metadata(Some(producer.topics.name(0)), CHECK_TIMEOUT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the time after which the request is given up, for brokers that respond or not at each time.
    fn given_up(responds: impl Fn(u64) -> bool) -> Option<u64> {
        let mut check = ResponseCheck { next: Duration::from_secs(70), responding: None };
        (0..1_000).find(|second| check.is_overdue(Duration::from_secs(*second), || responds(*second)))
    }

    #[test]
    fn a_request_is_given_up_a_minute_after_brokers_respond_to_others() {
        assert_eq!(given_up(|_| true), Some(130));
        assert_eq!(given_up(|_| false), None, "brokers that are away are waited for");
        assert_eq!(given_up(|second| second >= 200), Some(260), "since they are back");
        assert_eq!(given_up(|second| second != 100), Some(165), "each outage counts anew");
        assert_eq!(given_up(|second| second % 50 < 25), None);
    }
}
