//! What a running input takes from librdkafka's statistics: brokers that are reachable again, new partitions, and lag.
//!
//! librdkafka emits statistics every few seconds (`statistics.interval.ms`).

use super::client::{self, Told};
use super::input::KafkaInput;
use super::range::{self, Part};
use crate::error::Result;
use crate::ingest::Ingest;
use crate::input::Lag;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;

impl KafkaInput {
    /// Acts on the statistics since the last call.
    pub(super) fn watch(&mut self, ingest: &mut Ingest) -> Result<()> {
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
        if self.grows() { self.take_new(&told, ingest) } else { Ok(()) }
    }

    /// Whether the input reads partitions that are added to its topics. With a subscription the group assigns them.
    fn grows(&self) -> bool {
        let bounded = self.reading.parts.iter().any(|part| part.end.is_some());
        !bounded && !self.is_subscribed() && self.address.options.partitions.is_none()
    }

    /// Begins to read partitions that were added to a topic: from their start, whatever `start=` is, since all their records
    /// are newer than the run.
    fn take_new(&mut self, told: &Told, ingest: &mut Ingest) -> Result<()> {
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
            part.stamp = self.announce_one(part, ingest);
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
        self.run.console.say(format!("{name}/{}: new partition, reading from its start", part.number));
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
                "{list}: empty; no window fires before its first record (set end=latest, or evt-window --idle-after)"
            ));
        }
    }

    /// Returns the lag of each partition; `now` is the current time (µs). End offsets are as old as the last statistics.
    pub fn lags(&self, now: i64) -> Vec<Lag> {
        let lag = |part: &Part| {
            let place = (self.address.topics[part.topic].as_str(), part.number);
            Lag::new(place, (part.next, part.extent.high), (part.last, now))
        };
        self.reading.parts.iter().map(lag).collect()
    }
}
