//! What a running input takes from librdkafka's statistics: brokers that are reachable again, new partitions, and lag.
//!
//! librdkafka emits statistics every few seconds (`statistics.interval.ms`).

use super::client::{self, Told};
use super::input::KafkaInput;
use super::range::{self, Part};
use crate::error::Result;
use crate::stream::intake::Intake;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;

/// The lag of one partition.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Lag {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Offsets not read yet. Compaction and transactions leave gaps, so this is an upper bound of the number of records.
    pub records: u64,
    /// Seconds between now and the Kafka timestamp of the last record read; 0 if all records are read, `None` before the first
    /// record.
    pub seconds: Option<f64>,
}

impl Lag {
    /// Computes the lag of a partition whose next offset is `next` and whose end is `end`. `last` is the time of the last
    /// record read, `now` the current time (both µs).
    pub fn new((topic, partition): (&str, i32), (next, end): (i64, i64), (last, now): (Option<i64>, i64)) -> Self {
        let records = u64::try_from(end.saturating_sub(next)).unwrap_or(0);
        let behind = |last: i64| now.saturating_sub(last).max(0) as f64 / 1e6;
        let seconds = if records == 0 { Some(0.0) } else { last.map(behind) };
        Self { topic: topic.to_owned(), partition, records, seconds }
    }
}

impl KafkaInput {
    /// Acts on the statistics since the last call.
    pub(super) fn watch(&mut self, intake: &mut Intake) -> Result<()> {
        let told = self.client.context().take_told();
        if told.as_ref().is_some_and(|told| told.is_up) {
            self.reported_down = false;
            if !self.is_fetching() {
                self.health.good(&self.address, &self.run);
            }
        }
        self.health.stand(&self.address, &self.run);
        let Some(told) = told else { return Ok(()) };
        let topics = &self.address.topics;
        for part in &mut self.reading.parts {
            let ends = told.ends.get(&topics[part.topic]);
            if let Some(end) = ends.and_then(|ends| ends.get(&part.number).copied().flatten()) {
                part.extent.high = end;
            }
        }
        if self.grows() { self.take_new(&told, intake) } else { Ok(()) }
    }

    /// Whether the input reads partitions that are added to its topics. With a subscription the group assigns them.
    fn grows(&self) -> bool {
        let bounded = self.reading.parts.iter().any(|part| part.end.is_some());
        !bounded && !self.is_subscribed() && self.address.options.partitions.is_none()
    }

    /// Begins to read partitions that were added to a topic: from their start, whatever `start=` is, since all their records
    /// are newer than the run.
    fn take_new(&mut self, told: &Told, intake: &mut Intake) -> Result<()> {
        let mut new = vec![];
        for (at, name) in self.address.topics.iter().enumerate() {
            let is_known =
                |number: i32| self.reading.parts.iter().any(|part| (part.topic, part.number) == (at, number));
            let numbers = told.ends.get(name).into_iter().flat_map(|ends| ends.keys().copied());
            new.extend(numbers.filter(|number| !is_known(*number)).map(|number| Part::new(at, number)));
        }
        if new.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for part in &mut new {
            let name = &self.address.topics[part.topic];
            part.extent = range::extent(&self.client, &self.address, &self.run, part)?;
            part.next = part.extent.low;
            part.stamp = self.announce_one(part, intake);
            range::add(&mut list, name, (part.number, part.next))?;
            self.tell_of_new(part);
        }
        self.reading.parts.append(&mut new);
        let assigned = self.client.incremental_assign(&list);
        assigned.map_err(|error| client::failed(&self.address, "new partitions cannot be read", &error))?;
        self.fetch_from(&list)
    }

    /// Reports a new partition.
    pub(super) fn tell_of_new(&self, part: &Part) {
        let name = &self.address.topics[part.topic];
        self.run.console.say(format!("{name}/{}: a new partition: read from its start", part.number));
    }

    /// Warns of empty partitions in a run without an end: each holds the watermark back until its first record.
    pub(super) fn tell_of_empty(&self) {
        let empty: Vec<String> = self
            .reading
            .parts
            .iter()
            .filter(|part| part.end.is_none() && part.has_not_begun())
            // Frames carry partitions of their own, whose stream time does not depend on where the topic is read from.
            .filter(|part| !self.is_framed() || part.extent.high <= part.extent.low)
            .map(|part| format!("{}/{}", self.address.topics[part.topic], part.number))
            .collect();
        if !empty.is_empty() && empty.len() < self.reading.parts.len() {
            let list = empty.join(" ");
            self.run.console.say(format!(
                "{list}: empty: no window fires before its first record (end=latest, or evt-window --idle-after)"
            ));
        }
    }

    /// Returns the lag of each partition; `now` is the current time (µs). End offsets are as old as the last statistics.
    pub fn lag(&self, now: i64) -> Vec<Lag> {
        let lag = |part: &Part| {
            let place = (self.address.topics[part.topic].as_str(), part.number);
            Lag::new(place, (part.next, part.extent.high), (part.last, now))
        };
        self.reading.parts.iter().map(lag).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_to_its_end_is_not_behind_however_old_its_last_record_is() {
        let lag = |next, end, last| {
            let lag = Lag::new(("t", 0), (next, end), (last, 5_500_000));
            (lag.records, lag.seconds)
        };
        assert_eq!(lag(7, 7, Some(1)), (0, Some(0.0)));
        assert_eq!(lag(7, 5, None), (0, Some(0.0)), "an end that was told before the last record was read");
        assert_eq!(lag(3, 7, Some(4_000_000)), (4, Some(1.5)));
        assert_eq!(lag(3, 7, Some(9_000_000)), (4, Some(0.0)), "a clock that is ahead of ours");
        assert_eq!(lag(0, 7, None), (7, None));
    }
}
