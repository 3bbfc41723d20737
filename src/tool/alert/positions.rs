//! How far the inputs were read: what the state file says of them beside the files ([`super::known`]).

use evt_core::alert::clock::{BegunPartition, BegunPartitions, PartitionKey};
use evt_core::alert::engine::AlertEngine;
use evt_core::kind::PartitionName;
use evt_core::time::SECOND;
use evt_run::input::ReadPosition;
use evt_run::input::topic_id::TopicId;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The position of an input before which every row has been evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowPosition {
    /// The next offset.
    pub next: i64,
    /// The stream time of the partition (µs).
    pub stream_time: Option<i64>,
    /// The id of the topic that was read, if brokers give topics ids.
    pub topic_id: Option<TopicId>,
}

/// Positions by topic and partition; those of a store by the name of its table, and origin and partition.
pub type Positions = BTreeMap<(String, String), RowPosition>;

/// Returns the name of a partition of events in a store: its origin and its name.
pub fn partition_in_store(name: &PartitionName) -> String {
    serde_json::json!([name.origin, name.partition]).to_string()
}

/// Returns origin and name of a partition of events in a store; `None` for names of other partitions.
pub fn parse_partition(name: &str) -> Option<(String, String)> {
    serde_json::from_str(name).ok()
}

/// The name of the partition of a topic or a table whose rows have no stamps.
pub const WHOLE: &str = "";

/// A partition of the rows in a topic of frames, which is none of the topic's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePartition {
    /// Its origin.
    pub origin: String,
    /// Its name.
    pub partition: String,
    /// Its stream time (µs).
    pub stream_time: Option<i64>,
}

/// The partitions of the rows in a topic of frames, except those that have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePartitions {
    /// The topic.
    pub topic: String,
    /// The partitions.
    pub open: Vec<FramePartition>,
}

/// Adds a position; of two of the same partition, the later one counts, because its rows were evaluated.
pub fn add_position<K: Ord>(positions: &mut BTreeMap<K, RowPosition>, key: K, new: RowPosition) {
    let known = positions.entry(key).or_insert(new);
    // Topics of two clusters can have the same name, and two topics the same origin.
    let topic_id = known.topic_id.filter(|id| new.topic_id == Some(*id));
    let (next, stream_time) = (known.next.max(new.next), known.stream_time.max(new.stream_time));
    *known = RowPosition { next, stream_time, topic_id };
}

/// A topic whose rows have another origin than its name (`--origin`).
#[derive(Clone, Debug)]
pub struct RenamedTopic {
    /// The topic.
    pub topic: String,
    /// The origin.
    pub origin: String,
}

/// The names of the partitions of the topics of an input. The clock knows partitions by the origin of their rows; the
/// state knows them by their topic, because the origin is whatever a user calls it.
#[derive(Clone, Debug)]
pub struct TopicNames {
    /// The number of the input on the command line.
    pub input: u32,
    /// The only topic, if its rows have another origin.
    pub renamed: Option<RenamedTopic>,
}

/// Whether a position is one of an earlier topic of the name.
fn is_of_other(position: &RowPosition, reached: &ReadPosition) -> bool {
    position.topic_id.is_some_and(|read| reached.topic_id.is_some_and(|present| present != read))
}

impl TopicNames {
    /// Returns the key of a partition in the clock.
    pub fn key(&self, reached: &ReadPosition) -> PartitionKey {
        let origin = self.renamed.as_ref().map_or(&reached.topic, |renamed| &renamed.origin);
        PartitionKey::new(self.input, origin.clone(), reached.partition.to_string())
    }

    /// Returns the key of the position of a partition.
    fn key_of_position(&self, reached: &ReadPosition) -> PartitionKey {
        PartitionKey::new(self.input, reached.topic.clone(), reached.partition.to_string())
    }

    /// Returns the key of the position of the partition that rows have come from, by its key in the clock.
    pub fn key_of_rows(&self, key: PartitionKey) -> PartitionKey {
        match &self.renamed {
            Some(renamed) => PartitionKey { origin: renamed.topic.clone(), ..key },
            None => key,
        }
    }

    /// Whether a topic that is read now was created again since the positions in it.
    pub fn are_new(&self, positions: &BTreeMap<PartitionKey, RowPosition>, reached: &[ReadPosition]) -> bool {
        reached
            .iter()
            .any(|one| positions.get(&self.key_of_position(one)).is_some_and(|position| is_of_other(position, one)))
    }

    /// Sets the ids of the topics in the positions; those of earlier topics become the ones that were reached in the
    /// new ones.
    pub fn set_ids(&self, positions: &mut BTreeMap<PartitionKey, RowPosition>, reached: &[ReadPosition]) {
        for one in reached {
            positions.entry(self.key_of_position(one)).and_modify(|position| {
                if is_of_other(position, one) {
                    (position.next, position.stream_time) = (one.next, one.stream_time);
                }
                position.topic_id = one.topic_id;
            });
        }
    }

    /// Moves positions to the reached ones: those of partitions without a position, and those that `moves` says, given
    /// the known next offset and the reached one. Returns whether any has moved.
    pub fn advance(
        &self,
        positions: &mut BTreeMap<PartitionKey, RowPosition>,
        reached: Vec<ReadPosition>,
        moves: fn(i64, i64) -> bool,
    ) -> bool {
        let mut has_moved = false;
        for one in reached {
            let key = self.key_of_position(&one);
            let known = positions.get(&key).copied();
            if known.is_some_and(|known| !moves(known.next, one.next)) {
                continue;
            }
            has_moved = true;
            let stream_time = known.and_then(|known| known.stream_time).or(one.stream_time);
            positions.insert(key, RowPosition { next: one.next, stream_time, topic_id: one.topic_id });
        }
        has_moved
    }
}

/// The partitions of an input, by origin and name, each with the greatest stream time (µs) of its rows. Those of
/// [`ANY`] may be of any partition.
pub type PartitionTimes = BTreeMap<(String, String), i64>;

/// The partition of rows without stamps, of the rows of an input that is no pipe, and of those in a state of an earlier
/// version, which does not say of which partition they are.
pub const ANY: (String, String) = (String::new(), String::new());

/// Returns the key of a partition of a pipe. `own` is the origin that the pipe gives to rows without stamps: it is no
/// part of the key, because it is one of the names of a FIFO or the number of a process substitution.
pub fn partition_of_pipe(own: &str, origin: &str, partition: &str) -> (String, String) {
    let origin = match origin.strip_prefix(SUBSTITUTIONS) {
        _ if origin == own => "",
        Some(_) => SUBSTITUTIONS,
        None => origin,
    };
    (origin.to_owned(), partition.to_owned())
}

/// The name of all process substitutions together.
const SUBSTITUTIONS: &str = "/dev/fd/";
/// The name of all inputs of earlier versions, whose states do not name them.
const UNNAMED: &str = "";

/// Returns the name under which the state knows an input: of a FIFO or file its path without links and `..`. The number
/// of a process substitution is that of another one in another command, so all of them are one input.
fn known_name(name: &str) -> Cow<'_, str> {
    match name.strip_prefix(SUBSTITUTIONS).or_else(|| name.strip_prefix("/proc/self/fd/")) {
        Some("0") => "-".into(),
        Some(_) => SUBSTITUTIONS.into(),
        None if name == "/dev/stdin" => "-".into(),
        None => match std::fs::canonicalize(name).map(PathBuf::into_os_string).map(OsString::into_string) {
            Ok(Ok(path)) if !name.is_empty() => path.into(),
            _ => name.into(),
        },
    }
}

/// Whether an input is a process substitution.
pub fn is_substitution(name: &str) -> bool {
    known_name(name) == SUBSTITUTIONS
}

/// How far the inputs of all runs were read, and what decides the first instant that is evaluated while none has been
/// evaluated yet: a run may be stopped before every input has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// The partitions of the inputs of all runs by the names of these ([`known_name`]).
    pub inputs: BTreeMap<String, PartitionTimes>,
    /// The first rows of all runs; needed only before the first instant.
    pub first_rows: BegunPartitions,
}

impl Beginning {
    /// Adds an input, whose partitions were read up to these stream times (µs).
    pub fn add_input(&mut self, name: &str, read: impl IntoIterator<Item = ((String, String), i64)>) {
        let known = self.inputs.entry(known_name(name).into_owned()).or_default();
        for (partition, read_to) in read {
            known.entry(partition).and_modify(|known| *known = read_to.max(*known)).or_insert(read_to);
        }
    }

    /// Returns how far the partitions of an input were read. Rows of a state of an earlier version may be of any input.
    pub fn partitions(&self, name: &str) -> PartitionTimes {
        let mut found = self.inputs.get(&*known_name(name)).cloned().unwrap_or_default();
        if let Some(read_to) = self.inputs.get(UNNAMED).and_then(|unnamed| unnamed.get(&ANY)) {
            found.entry(ANY).and_modify(|known| *known = *read_to.max(known)).or_insert(*read_to);
        }
        found
    }

    /// Completes what a state of an earlier version has, which lacks it: it does not say which inputs its rows are of.
    /// Rows that wait in the engine were read from the first of them on, and partitions with a position were read from
    /// there, too.
    pub fn complete(&mut self, engine: &AlertEngine, positions: Positions) {
        if !self.inputs.is_empty() {
            return;
        }
        if let Some(read_to) = engine.known_to() {
            self.add_input(UNNAMED, [(ANY, read_to)]);
        }
        let Some(first) = engine.first_waiting() else { return };
        let read = positions.into_iter().filter(|(_, position)| position.stream_time.is_some()).map(|(key, _)| key);
        let first = BegunPartition { least: first.saturating_mul(SECOND), cut: None };
        self.first_rows = read.chain([(String::new(), String::new())]).map(|key| (key, first)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds rows without stamps up to this stream time.
    fn add(beginning: &mut Beginning, name: &str, read_to: Option<i64>) {
        beginning.add_input(name, read_to.map(|read_to| (ANY, read_to)));
    }

    fn read_to(beginning: &Beginning, name: &str) -> Option<i64> {
        beginning.partitions(name).into_values().max()
    }

    #[test]
    fn process_substitutions_are_one_input_and_standard_input_is_another() {
        let mut beginning = Beginning::default();
        assert_eq!(read_to(&beginning, "-"), None);
        for (name, read_to) in
            [("/dev/fd/63", Some(7)), ("/dev/fd/62", Some(9)), ("/dev/fd/61", None), ("fifo", Some(3))]
        {
            add(&mut beginning, name, read_to);
        }
        for name in ["/dev/fd/63", "/dev/fd/5", "/proc/self/fd/11"] {
            assert_eq!((read_to(&beginning, name), is_substitution(name)), (Some(9), true), "{name}");
        }
        for (name, wanted) in [("fifo", Some(3)), ("other", None), ("-", None)] {
            assert_eq!((read_to(&beginning, name), is_substitution(name)), (wanted, false), "{name}");
        }
        add(&mut beginning, "/dev/stdin", Some(5));
        for name in ["-", "/dev/fd/0", "/proc/self/fd/0"] {
            assert_eq!((read_to(&beginning, name), is_substitution(name)), (Some(5), false), "{name}");
        }
        // What earlier versions have read may be of any input.
        add(&mut beginning, UNNAMED, Some(8));
        assert_eq!(["fifo", "other"].map(|name| read_to(&beginning, name)), [Some(8), Some(8)]);
    }

    #[test]
    fn the_name_of_a_pipe_is_no_part_of_the_key_of_its_own_rows() {
        let of = |origin| partition_of_pipe("/dev/fd/62", origin, "0").0;
        assert_eq!(["/dev/fd/62", "/dev/fd/63", "a.jsonl"].map(of), ["", SUBSTITUTIONS, "a.jsonl"]);
    }
}
