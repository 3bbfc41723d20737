//! What a running input watches besides its records: brokers that are back, partitions that are new, how far it is behind.

use super::client;
use super::input::KafkaInput;
use super::position::Extent;
use super::range::{self, Part};
use super::told::{Lag, Told};
use crate::error::Result;
use crate::stream::intake::Intake;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;

impl KafkaInput {
    /// Acts on what librdkafka has told of itself since the last call.
    pub(super) fn watch(&mut self, intake: &mut Intake) -> Result<()> {
        let Some(told) = self.client.context().take_told() else { return Ok(()) };
        if told.is_up {
            self.health.good(&self.address, &self.run);
        }
        let topics = &self.address.topics;
        for part in &mut self.reading.parts {
            let ends = told.ends.get(&topics[part.topic]);
            if let Some(end) = ends.and_then(|ends| ends.get(&part.number).copied().flatten()) {
                part.extent.high = end;
            }
        }
        if self.grows() { self.take_new(&told, intake) } else { Ok(()) }
    }

    /// Whether partitions that topics get are read too. Where a group hands them out it does so by itself.
    fn grows(&self) -> bool {
        let bounded = self.reading.parts.iter().any(|part| part.end.is_some());
        !bounded && !self.is_subscribed() && self.address.options.partitions.is_none()
    }

    /// Partitions that a topic has got: read from their start, whatever `start=` says, for all in them came while we ran.
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
            let question = || self.client.fetch_watermarks(name, part.number, client::ANSWER);
            let (low, high) = client::ask(&self.address, &self.run, &self.client, question)?;
            (part.extent, part.next) = (Extent { low, high }, low);
            part.stamp = self.announce_one(part, intake);
            range::add(&mut list, name, (part.number, part.next))?;
            self.tell_of_new(part);
        }
        self.reading.parts.append(&mut new);
        self.client
            .incremental_assign(&list)
            .map_err(|error| client::failed(&self.address, "new partitions cannot be read", &error))
    }

    /// A partition that the topic has got.
    pub(super) fn tell_of_new(&self, part: &Part) {
        let name = &self.address.topics[part.topic];
        self.run.console.say(format!("{name}/{}: a new partition: read from its start", part.number));
    }

    /// In a run without an end an empty partition holds the watermark until its first record.
    pub(super) fn tell_of_empty(&self) {
        let empty: Vec<String> = self
            .reading
            .parts
            .iter()
            .filter(|part| part.end.is_none() && part.has_not_begun())
            // Frames bring partitions of their own, which began where their rows did.
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

    /// How far reading is behind, by partition; `now` is the time (µs). Ends are as old as librdkafka's last word on them.
    pub fn lag(&self, now: i64) -> Vec<Lag> {
        let lag = |part: &Part| {
            let place = (self.address.topics[part.topic].as_str(), part.number);
            Lag::new(place, (part.next, part.extent.high), (part.last, now))
        };
        self.reading.parts.iter().map(lag).collect()
    }
}
