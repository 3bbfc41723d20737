//! What a running input watches besides its records: brokers that are back, partitions that are new, how far it is behind.
//!
//! librdkafka tells of itself every few seconds. Only what is of use is kept of it.

use super::client::{self, Told};
use super::input::KafkaInput;
use super::range::{self, Part};
use crate::error::Result;
use crate::stream::intake::Intake;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;

/// How far reading is behind in one partition.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Lag {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Offsets not read yet: an upper bound of the records where compaction or transactions left gaps.
    pub records: u64,
    /// Seconds between now and the time that Kafka keeps for the record read last: zero where all are read, none before the
    /// first record of this run.
    pub seconds: Option<f64>,
}

impl Lag {
    /// Of a partition that is read up to `next` and ends at `end`; `last` is the time of the record read last, `now` the
    /// time (µs both).
    pub fn new((topic, partition): (&str, i32), (next, end): (i64, i64), (last, now): (Option<i64>, i64)) -> Self {
        let records = u64::try_from(end.saturating_sub(next)).unwrap_or(0);
        let behind = |last: i64| now.saturating_sub(last).max(0) as f64 / 1e6;
        let seconds = if records == 0 { Some(0.0) } else { last.map(behind) };
        Self { topic: topic.to_owned(), partition, records, seconds }
    }
}

impl KafkaInput {
    /// Acts on what librdkafka has told of itself since the last call.
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
