//! What librdkafka's statistics say of brokers and partitions.

use crate::position::{ByPartition, PartitionId};
use evt_core::time::SECOND;
use rdkafka::statistics::Statistics;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long statistics must have no broker before the client counts as one that finds none again (µs).
const LOST_AFTER: i64 = 4 * SECOND;

/// Whether a client has brokers to which it can connect.
#[derive(Debug, Default)]
pub struct KnownBrokers {
    /// The time of the first statistics without a broker (µs of librdkafka's clock); `None` if the latest have one.
    none_since: Option<i64>,
    /// Whether the client has lost all brokers and finds none again.
    pub are_lost: bool,
}

impl KnownBrokers {
    /// Notes the brokers in statistics.
    pub fn note(&mut self, statistics: &Statistics) {
        // The other sources are `internal` and `logical`: the coordinator of a group, which answers nothing else.
        let is_broker = |source: &str| matches!(source, "configured" | "learned");
        if statistics.brokers.values().any(|broker| is_broker(&broker.source)) {
            *self = Self::default();
            return;
        }
        let since = *self.none_since.get_or_insert(statistics.ts);
        self.are_lost = statistics.ts.saturating_sub(since) >= LOST_AFTER;
    }
}

/// The facts about brokers and partitions in librdkafka's statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterStats {
    /// Whether any broker is connected.
    pub is_up: bool,
    /// The offset after the last one that may be read; `None` before the first fetch of a partition.
    pub ends: ByPartition<Option<i64>>,
    /// For each partition, a time at which its end was at most that in `ends`: the request for the end was sent after
    /// this time.
    pub confirmed: ByPartition<Instant>,
}

/// The number of requests in some statistics.
#[derive(Clone, Copy, Debug)]
struct RequestCount {
    count: i64,
    /// The time of the statistics.
    at: Instant,
}

/// The fetch requests that librdkafka has sent to each broker, and the ends of partitions that it has reached.
#[derive(Debug, Default)]
pub struct Fetches {
    counted: BTreeMap<i32, RequestCount>,
    /// By broker, a time before the last request that librdkafka has an answer to.
    answered: BTreeMap<i32, Instant>,
    /// The offset of the last end of each partition; `None` before the first statistics.
    pub reached: Option<ByPartition<i64>>,
}

impl Fetches {
    /// Notes the number of requests to a broker in statistics of time `at`. librdkafka has at most one open request per
    /// broker. So if two requests were sent since earlier statistics, the first of them was sent after these
    /// statistics, and the broker has answered it.
    pub fn note(&mut self, broker: i32, count: i64, at: Instant) {
        let new = RequestCount { count, at };
        let known = *self.counted.entry(broker).or_insert(new);
        if count < known.count {
            self.counted.insert(broker, new);
        } else if count >= known.count + 2 {
            self.answered.insert(broker, known.at);
            self.counted.insert(broker, new);
        }
    }
}

impl ClusterStats {
    /// Extracts the facts about `topics` from `statistics`, and notes the fetch requests and the ends that were reached
    /// in `fetches`.
    pub fn of(statistics: &Statistics, topics: &[String], fetches: &mut Fetches) -> Self {
        let (mut ends, mut confirmed, mut reached) = (ByPartition::new(), ByPartition::new(), ByPartition::new());
        if let Some(at) = instant(statistics.ts) {
            for broker in statistics.brokers.values() {
                fetches.note(broker.nodeid, broker.req.get("Fetch").copied().unwrap_or(0), at);
            }
        }
        for (topic, name) in topics.iter().enumerate() {
            let partitions = statistics.topics.get(name).into_iter().flat_map(|found| &found.partitions);
            // Negative partition numbers are internal queues of librdkafka.
            for (number, partition) in partitions.filter(|(number, _)| **number >= 0) {
                let id = PartitionId { topic, number: *number };
                if partition.eof_offset >= 0 {
                    reached.insert(id, partition.eof_offset);
                }
                if partition.unknown {
                    continue;
                }
                // Records after the last stable offset belong to open transactions.
                let end = [partition.ls_offset, partition.hi_offset].into_iter().find(|offset| *offset >= 0);
                ends.insert(id, end);
                if let Some(at) = fetches.answered.get(&partition.leader).filter(|_| end.is_some()) {
                    confirmed.insert(id, *at);
                }
            }
        }
        fetches.reached = Some(reached);
        Self { is_up: statistics.brokers.values().any(|broker| broker.state == "UP"), ends, confirmed }
    }
}

/// Converts a time of librdkafka's clock (µs), which is the machine's monotonic clock; `None` if it is in the future.
fn instant(micros: i64) -> Option<Instant> {
    // Reads `now` first: if the process is suspended between the two reads, the result is too early, never too late.
    let now = Instant::now();
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let age = clock.tv_sec.checked_mul(1_000_000)?.checked_add(clock.tv_nsec / 1000)?.checked_sub(micros)?;
    now.checked_sub(Duration::from_micros(u64::try_from(age).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::statistics::Broker;

    #[test]
    fn a_client_has_lost_its_brokers_if_two_statistics_have_none() {
        let mut known = KnownBrokers::default();
        let mut are_lost = |seconds: i64, sources: &[&str]| {
            let broker = |source: &&str| {
                let source = (*source).to_owned();
                (source.clone(), Broker { source, ..Broker::default() })
            };
            let brokers = sources.iter().map(broker).collect();
            known.note(&Statistics { ts: seconds * SECOND, brokers, ..Statistics::default() });
            known.are_lost
        };
        assert!(!are_lost(100, &["configured", "internal"]));
        assert!(!are_lost(105, &[]) && !are_lost(110, &["configured", "learned"]), "one is added again");
        assert!(!are_lost(115, &["internal", "logical"]) && are_lost(120, &["logical"]) && are_lost(125, &[]));
        assert!(!are_lost(130, &["learned"]));
    }

    #[test]
    fn the_answer_to_the_first_of_two_requests_is_newer_than_the_statistics_before_them() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut fetches = Fetches::default();
        let mut note = |count, seconds| {
            fetches.note(1, count, at(seconds));
            fetches.answered.get(&1).map(|at| at.duration_since(start).as_secs())
        };
        assert_eq!((note(5, 1), note(6, 2)), (None, None), "the request after second 1 may have no answer");
        assert_eq!((note(7, 3), note(7, 4), note(8, 20)), (Some(1), Some(1), Some(1)));
        assert_eq!((note(9, 21), note(3, 22), note(5, 23)), (Some(3), Some(3), Some(22)));
    }
}
