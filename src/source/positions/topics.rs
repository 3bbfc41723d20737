//! The positions of topics in a checkpoint: the next offset of each partition, and its stream time there.

use crate::uri::Uri;
use evt_core::error::{Error, Result};
use evt_core::op::window::watermark::ContinuedTopic;
use evt_kafka::address::{Bound, KeptPosition, KeptPositions};
use evt_run::checkpoint::epoch::PartitionPosition;
use evt_run::input::ReadPosition;
use evt_run::input::topic_id::TopicId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The number of the input of a partition that is not one of the state: no run has stored how far it was read, or the
/// last one has not read it.
const UNREAD: u32 = u32::MAX;

/// How far a partition of a topic is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPosition {
    topic: String,
    partition: i32,
    /// The offset before which the epoch has every record.
    next: i64,
    /// The stream time there (µs).
    stream_time: Option<i64>,
    /// The number of the input that read it last, or [`UNREAD`].
    input: u32,
    /// The group of that input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// The id of the topic, if brokers give topics ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic_id: Option<TopicId>,
}

impl TopicPosition {
    /// Returns the position, with the stream time.
    pub fn partition_position(&self) -> PartitionPosition {
        let Self { topic, partition, next: offset, stream_time: watermark, group, .. } = self.clone();
        PartitionPosition { group: group.unwrap_or_default(), topic, partition, offset, watermark }
    }
}

/// The positions of topics. A run keeps the positions of topics that it does not read.
#[derive(Default)]
pub struct TopicPositions {
    positions: Vec<TopicPosition>,
    continued: Vec<ContinuedTopic>,
    /// The groups of the inputs, by number.
    groups: BTreeMap<u32, String>,
}

impl TopicPositions {
    /// Continues at `positions`.
    pub fn new(positions: Vec<TopicPosition>) -> Self {
        Self { positions, ..Self::default() }
    }

    /// Returns the inputs with topics that start at their positions. Errors: exit status 2 if two inputs read topics of
    /// the same name.
    pub fn continued(&mut self, inputs: &[Uri]) -> Result<Vec<Uri>> {
        let (mut continued, mut names): (Vec<Uri>, Vec<&String>) = (inputs.to_vec(), vec![]);
        for (number, input) in (0..).zip(&mut continued) {
            let Uri::Kafka(address) = input else { continue };
            let topics = &inputs[number as usize];
            let Uri::Kafka(named) = topics else { continue };
            if let Some(topic) = named.topics.iter().find(|topic| names.contains(topic)) {
                let why = "a checkpoint identifies a topic by its name";
                return Err(Error::usage(format!("{topics}: expected each topic once, found {topic} twice; {why}")));
            }
            names.extend(&named.topics);
            self.groups.extend(named.options.group.clone().map(|group| (number, group)));
            let mut kept = vec![];
            for (index, topic) in address.topics.iter().enumerate() {
                for position in self.positions.iter().filter(|position| position.topic == *topic) {
                    let TopicPosition { partition, next, stream_time, topic_id, .. } = *position;
                    kept.push(KeptPosition { topic: index, partition, next, stream_time, topic_id });
                }
            }
            if !kept.is_empty() {
                let others = address.options.start.take().unwrap_or(Bound::Earliest);
                address.options.start =
                    Some(Bound::Kept(KeptPositions { positions: kept, others: Some(Box::new(others)) }));
            }
        }
        let now = |topic: &String| {
            let has = |input: &Uri| matches!(input, Uri::Kafka(address) if address.topics.contains(topic));
            (0..).zip(inputs).find(|(_, input)| has(input)).map(|(number, _)| number)
        };
        for position in self.positions.iter_mut().filter(|position| position.input != UNREAD) {
            let (topic, former, now) = (position.topic.clone(), position.input, now(&position.topic));
            let continued = ContinuedTopic { topic, former, now };
            if !self.continued.contains(&continued) {
                self.continued.push(continued);
            }
            if now.is_none() {
                // The state of this run has no partitions of the topic; its number may be that of another input.
                position.input = UNREAD;
            }
        }
        Ok(continued)
    }

    /// Returns the topics that the run before this one has read.
    pub fn continued_topics(&self) -> &[ContinuedTopic] {
        &self.continued
    }

    /// Adds the first position of a partition that an earlier run has begun, unless an epoch has one.
    pub fn add_begun(&mut self, first: TopicPosition) {
        if !self.positions.iter().any(|known| known.topic == first.topic && known.partition == first.partition) {
            self.positions.push(first);
        }
    }

    /// Notes the first positions of topics that no run has read, and returns them.
    pub fn note_first(&mut self, input: u32, reached: &[ReadPosition]) -> &[TopicPosition] {
        let known = self.positions.len();
        for one in reached {
            if !self.positions[..known].iter().any(|known| known.topic == one.topic) {
                self.positions.push(TopicPosition { input: UNREAD, ..self.position(input, one) });
            }
        }
        &self.positions[known..]
    }

    /// Notes how far an input is read.
    pub fn note(&mut self, input: u32, reached: &[ReadPosition]) {
        for one in reached {
            let position = self.position(input, one);
            let is_it = |known: &&mut TopicPosition| known.topic == one.topic && known.partition == one.partition;
            match self.positions.iter_mut().find(is_it) {
                Some(known) => *known = position,
                None => self.positions.push(position),
            }
        }
    }

    fn position(&self, input: u32, reached: &ReadPosition) -> TopicPosition {
        let ReadPosition { topic, partition, topic_id, next, stream_time, .. } = reached;
        let (topic, group) = (topic.clone(), self.groups.get(&input).cloned());
        let (partition, next, stream_time, topic_id) = (*partition, *next, *stream_time, *topic_id);
        TopicPosition { topic, partition, next, stream_time, input, group, topic_id }
    }

    /// Returns the positions as they are saved.
    pub fn save(&self) -> &[TopicPosition] {
        &self.positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sVv-a5OcT9-0w_YkfEzn3g";

    fn inputs(texts: &[&str]) -> Vec<Uri> {
        texts.iter().map(|text| Uri::parse(text, &Default::default()).unwrap()).collect()
    }

    fn position(topic: &str, partition: i32, next: i64, input: u32) -> TopicPosition {
        let (topic, stream_time) = (topic.to_owned(), Some(next * 10));
        TopicPosition { topic, partition, next, stream_time, input, group: None, topic_id: TopicId::parse(ID) }
    }

    fn kept(input: &Uri) -> Option<KeptPositions> {
        let Uri::Kafka(address) = input else { return None };
        if let Some(Bound::Kept(kept)) = &address.options.start { Some(kept.clone()) } else { None }
    }

    #[test]
    fn a_topic_continues_at_its_positions_wherever_it_stands_on_the_command_line() {
        let mut positions =
            TopicPositions::new(vec![position("b", 1, 7, 0), position("a", 0, 3, 0), position("c", 0, 9, 1)]);
        let continued =
            positions.continued(&inputs(&["x.jsonl", "kafka://h:1/a,b?start=latest", "kafka://h:1/d"])).unwrap();
        let at = |topic, partition, next| KeptPosition {
            topic,
            partition,
            next,
            stream_time: Some(next * 10),
            topic_id: TopicId::parse(ID),
        };
        let others = Some(Box::new(Bound::Latest));
        assert_eq!(kept(&continued[1]), Some(KeptPositions { positions: vec![at(0, 0, 3), at(1, 1, 7)], others }));
        assert_eq!(kept(&continued[2]), None, "a new topic starts where its options say");
        let continued = |topic: &str, former, now| ContinuedTopic { topic: topic.to_owned(), former, now };
        let all = [continued("b", 0, Some(1)), continued("a", 0, Some(1)), continued("c", 1, None)];
        assert_eq!(positions.continued_topics(), all);
        assert_eq!(positions.save()[2].input, UNREAD, "the next run may have another input of this number");
    }

    #[test]
    fn positions_of_topics_that_are_not_read_stay() {
        let mut positions = TopicPositions::new(vec![position("a", 0, 3, 0), position("c", 0, 9, 1)]);
        let reached = |partition: i32, next: i64| ReadPosition {
            topic: "a".to_owned(),
            partition,
            topic_id: TopicId::parse(ID),
            next,
            stream_time: Some(next * 10),
            is_at_end: false,
            confirmed: None,
            answered: None,
        };
        positions.note(2, &[reached(0, 5), reached(1, 6)]);
        assert_eq!(positions.save(), [position("a", 0, 5, 2), position("c", 0, 9, 1), position("a", 1, 6, 2)]);
    }

    /// The state of a run that has read other topics under the same numbers is not that of the topic.
    #[test]
    fn a_topic_that_a_run_only_began_continues_there_without_a_state_until_it_is_read() {
        let reached = |next: i64| ReadPosition {
            topic: "b".to_owned(),
            partition: 0,
            topic_id: TopicId::parse(ID),
            next,
            stream_time: None,
            is_at_end: false,
            confirmed: None,
            answered: None,
        };
        let mut begun = TopicPositions::new(vec![position("a", 0, 3, 0)]);
        assert_eq!(begun.note_first(0, &[]), []);
        let first = begun.note_first(0, &[reached(5)]).to_vec();
        assert_eq!(begun.note_first(0, &[reached(6)]), [], "it is known");
        let mut next = TopicPositions::new(vec![position("a", 0, 3, 0)]);
        next.add_begun(first[0].clone());
        let continued = next.continued(&inputs(&["kafka://h:1/b?start=latest"])).unwrap();
        assert_eq!(kept(&continued[0]).unwrap().positions[0].next, 5);
        assert_eq!(next.continued_topics().iter().filter(|topic| topic.now.is_some()).count(), 0);
        next.note(0, &[reached(8)]);
        next.add_begun(first[0].clone());
        assert_eq!(next.save()[1].next, 8, "an epoch has it");
    }

    #[test]
    fn two_inputs_of_one_topic_are_an_error() {
        let error =
            TopicPositions::default().continued(&inputs(&["kafka://h:1/a", "kafka://i:1/b,a"])).err().expect("a fault");
        assert!(error.kind() == evt_core::ErrorKind::Usage && error.to_string().contains("found a twice"), "{error}");
    }
}
