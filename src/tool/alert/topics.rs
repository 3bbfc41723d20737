//! What the state has of topics: their positions, and the origins of their rows. A topic is known by its name, and its
//! positions have its id; the origin of its rows is whatever a user calls it (`--origin`).
//!
//! A state of an earlier version has the positions of a topic under the origin of its rows, and does not say which
//! topic that is. They are those of the topic that this run gives the origin, or whose name it is. A topic that has
//! none, beside positions of which no input is known, may be the topic of these: it is refused.

use super::positions::{FramePartition, Positions, RowPosition, WHOLE, add_position, parse_partition};
use evt_core::error::{Error, Result};
use evt_kafka::address::{Address, KeptPosition};
use std::collections::BTreeMap;

/// The positions and partitions that the state has for the topics of an input.
#[derive(Default)]
pub struct KeptTopics {
    /// The positions of their partitions.
    pub positions: Vec<KeptPosition>,
    /// The position of all of them as one partition, if their rows have no stamps.
    pub whole: Option<RowPosition>,
    /// The partitions of the rows in their frames.
    pub frames: Vec<FramePartition>,
}

/// A topic that a run reads.
pub struct ReadTopic {
    /// Its name.
    pub topic: String,
    /// The origin of its rows, if their partitions are those of the topic.
    pub origin: Option<String>,
    /// The name under which an earlier version has stored its positions.
    pub stored_as: String,
}

/// What the state has of topics.
pub struct StoredTopics {
    /// All positions.
    pub positions: Positions,
    /// The topics whose positions are stored under their names, with the origin that their rows had last.
    pub origins: BTreeMap<String, Option<String>>,
}

impl StoredTopics {
    /// Returns the name under which the positions of a topic are stored. `origin` is that of its rows, if their
    /// partitions are those of the topic.
    pub fn stored_as<'a>(&self, topic: &'a str, origin: Option<&'a str>) -> &'a str {
        let has = |name: &str| !self.origins.contains_key(name) && self.has_positions(name);
        match origin {
            Some(origin) if !self.origins.contains_key(topic) && has(origin) => origin,
            _ => topic,
        }
    }

    /// Returns what the state has of the topics of an input. `origin`, if given, is the origin of all rows instead of
    /// the name of their topic; `has_own` is whether the partitions of the rows are those of the topics; `named` are
    /// the names and origins of all topics of the run.
    ///
    /// Errors: exit status 78 if an earlier version may have stored positions of a topic under another origin.
    pub fn kept(&self, address: &Address, origin: Option<&str>, has_own: bool, named: &[String]) -> Result<KeptTopics> {
        let mut kept = KeptTopics::default();
        for (topic, name) in address.topics.iter().enumerate() {
            let mut positions = self.positions_of(self.stored_as(name, origin.filter(|_| has_own)));
            let whole = positions.remove(WHOLE);
            let position = |(partition, RowPosition { next, stream_time, topic_id }): (String, RowPosition)| {
                Some(KeptPosition { topic, partition: partition.parse().ok()?, next, stream_time, topic_id })
            };
            if whole.is_none() && positions.is_empty() {
                self.check_new(name, named)?;
                if has_own {
                    positions = self.positions_in_stores(origin.unwrap_or(name));
                }
            }
            kept.positions.extend(positions.into_iter().filter_map(position));
            kept.whole = kept.whole.or(whole);
        }
        Ok(kept)
    }

    /// Refuses a topic without positions that may be the one of positions that an earlier version has stored.
    fn check_new(&self, topic: &str, named: &[String]) -> Result<()> {
        let is_of_topic = |partition: &str| partition.parse::<i32>().is_ok();
        let is_unknown = |name: &String| !self.origins.contains_key(name) && !named.contains(name);
        let mut stored = self.positions.keys().filter(|(_, partition)| is_of_topic(partition)).map(|(name, _)| name);
        let Some(unknown) = stored.find(|name| is_unknown(name)).filter(|_| !self.origins.contains_key(topic)) else {
            return Ok(());
        };
        Err(Error::config(format!(
            "the state of an earlier version knows topics by their origins: {unknown} may be topic {topic}, read with another \
             --origin; run once with the former --origin and inputs, then with these; or give a new --state"
        )))
    }

    fn has_positions(&self, topic: &str) -> bool {
        self.positions.keys().any(|(name, _)| name == topic)
    }

    /// Returns the positions by partition that are stored under a name.
    fn positions_of(&self, topic: &str) -> BTreeMap<String, RowPosition> {
        let of_topic = self.positions.iter().filter(|((name, _), _)| name == topic);
        of_topic.map(|((_, partition), position)| (partition.clone(), *position)).collect()
    }

    /// Returns the positions by partition up to which events of an origin were read from stores.
    fn positions_in_stores(&self, origin: &str) -> BTreeMap<String, RowPosition> {
        let mut found = BTreeMap::new();
        for ((_, name), position) in &self.positions {
            // Names of partitions of topics are not JSON arrays of two texts.
            if let Some((_, partition)) = parse_partition(name).filter(|(of_store, _)| of_store == origin) {
                add_position(&mut found, partition, *position);
            }
        }
        found
    }

    /// Returns all positions as rows in a store know them: those of topics by the origin of their rows.
    pub fn by_origin(self) -> Positions {
        let mut found = Positions::new();
        for ((topic, partition), position) in self.positions {
            let origin = self.origins.get(&topic).and_then(Option::clone).unwrap_or(topic);
            add_position(&mut found, (origin, partition), position);
        }
        found
    }
}
