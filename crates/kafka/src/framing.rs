//! Frames as Kafka messages: the value of each message is a small stream of its own, so that a reader may begin at any
//! message.
//!
//! The writer puts all rows of one pipeline partition into one topic partition, in order. So a reader may read the
//! topic's partitions in any order and still gets the right stream time. The writer repeats the progress of the
//! source's partitions in every topic partition. Progress has stream time and state only in the topic partition that
//! holds the rows; elsewhere it only announces the pipeline partition.

use super::position::PartitionId;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use evt_core::error::Result;
use evt_core::frame::{self, Control, Frame, MetricProgress, PartitionState, Progress};
use evt_core::kind::PartitionName;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// Returns the partition, of `count` in the topic, that holds the rows of a partition of the pipeline.
pub fn home(origin: &str, partition: &str, count: i32) -> i32 {
    slot(format!("{origin}\0{partition}").as_bytes(), count)
}

fn slot(key: &[u8], count: i32) -> i32 {
    let count = u64::try_from(count).unwrap_or(1).max(1);
    i32::try_from(xxh3_64(key) % count).unwrap_or(0)
}

/// Splits a batch by the topic partition of its rows.
pub fn split(batch: &RecordBatch, count: i32) -> Result<Vec<(i32, RecordBatch)>> {
    let homes = homes(batch, count);
    let mut numbers = homes.clone();
    numbers.sort_unstable();
    numbers.dedup();
    if let [number] = numbers.as_slice() {
        return Ok(vec![(*number, batch.clone())]);
    }
    let rows = |number: i32| -> Result<(i32, RecordBatch)> {
        let keep: BooleanArray = homes.iter().map(|home| Some(*home == number)).collect();
        Ok((number, filter_record_batch(batch, &keep)?))
    };
    numbers.into_iter().map(rows).collect()
}

/// Returns the topic partition of each row: by its pipeline partition, or by its key if it has none.
fn homes(batch: &RecordBatch, count: i32) -> Vec<i32> {
    let column = |name: &str| batch.column_by_name(name);
    if let (Some(origins), Some(partitions)) = (column("origin").or(column("source_topic")), column("partition")) {
        let (origins, partitions) = (StringColumn::new(origins), StringColumn::new(partitions));
        let mut known: BTreeMap<(usize, usize), i32> = BTreeMap::new();
        let home_of = |row: usize| {
            let code = (origins.codes[row], partitions.codes[row]);
            *known.entry(code).or_insert_with(|| home(origins.text(code.0), partitions.text(code.1), count))
        };
        return (0..batch.num_rows()).map(home_of).collect();
    }
    match column("metric_id").and_then(|ids| ids.as_fixed_size_binary_opt()) {
        Some(ids) => (0..batch.num_rows()).map(|row| slot(ids.value(row), count)).collect(),
        None => vec![0; batch.num_rows()],
    }
}

/// A string column, dictionary-encoded or not.
struct StringColumn<'a> {
    codes: Vec<usize>,
    values: &'a ArrayRef,
}

impl<'a> StringColumn<'a> {
    fn new(column: &'a ArrayRef) -> Self {
        match column.as_any_dictionary_opt() {
            Some(dictionary) => Self { codes: dictionary.normalized_keys(), values: dictionary.values() },
            None => Self { codes: (0..column.len()).collect(), values: column },
        }
    }

    fn text(&self, code: usize) -> &str {
        self.values.as_string_opt::<i32>().map_or("", |texts| texts.value(code))
    }
}

/// Encodes rows as the value of a message.
pub fn rows(schema: &SchemaRef, batch: &RecordBatch) -> Result<Vec<u8>> {
    let (mut encoder, mut value) = frame::Encoder::new(schema.clone());
    encoder.batch(batch)?.iter().for_each(|piece| value.extend_from_slice(piece));
    Ok(value)
}

/// Encodes a control frame as the value of a message.
pub fn control(schema: &SchemaRef, control: &Control) -> Result<Vec<u8>> {
    let (mut encoder, mut value) = frame::Encoder::new(schema.clone());
    encoder.control(control)?.iter().for_each(|piece| value.extend_from_slice(piece));
    Ok(value)
}

/// The partitions of a writer's source, as its progress messages list them.
#[derive(Default)]
pub struct WriterProgress {
    partitions: BTreeMap<PartitionName, PartitionState>,
    complete: bool,
}

impl WriterProgress {
    /// Applies a progress message.
    pub fn apply(&mut self, progress: &Progress) {
        self.complete = progress.complete;
        for state in &progress.partitions {
            self.partitions.insert(state.name(), state.clone());
        }
    }

    /// Whether there has been no progress message yet.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty() && !self.complete
    }

    /// Returns the progress message for partition `number` of a topic of `count`.
    pub fn message(&self, number: i32, count: i32) -> Progress {
        let state_in = |state: &PartitionState| match home(&state.origin, &state.partition, count) == number {
            true => state.clone(),
            false => PartitionState { stream_time: None, state: frame::State::Live, ..state.clone() },
        };
        let partitions = self.partitions.values().map(state_in).collect();
        Progress { partitions, complete: self.complete, ..Progress::default() }
    }
}

/// The progress that a reader has received, over all partitions of the topics.
#[derive(Default)]
pub struct ReaderProgress {
    known: BTreeMap<PartitionName, PartitionState>,
    complete: BTreeSet<PartitionId>,
    watermarks: BTreeMap<PartitionId, i64>,
    metrics: BTreeMap<String, BTreeMap<PartitionId, MetricProgress>>,
}

impl ReaderProgress {
    /// Applies a progress message of a topic partition; returns the partitions whose state changed. An announcement
    /// does not change a known partition.
    pub fn apply(&mut self, id: PartitionId, progress: Progress) -> Vec<PartitionState> {
        if progress.complete {
            self.complete.insert(id);
        }
        let mut changed = vec![];
        for state in progress.partitions {
            let name = state.name();
            let announced = state.stream_time.is_none() && state.state == frame::State::Live;
            if self.known.get(&name).is_some_and(|known| announced || *known == state) {
                continue;
            }
            self.known.insert(name, state.clone());
            changed.push(state);
        }
        changed
    }

    /// Applies a watermark of a topic partition. Returns the minimum of the last watermarks of all topic partitions;
    /// `None` as long as a topic partition that is [complete](Self::is_complete) has sent none.
    pub fn watermark(&mut self, id: PartitionId, instant: i64) -> Option<i64> {
        self.watermarks.insert(id, instant);
        let all = self.complete.iter().all(|id| self.watermarks.contains_key(id));
        self.watermarks.values().min().copied().filter(|_| all)
    }

    /// Applies a message about metrics of a topic partition. Returns those that all topic partitions have sent that are
    /// [complete](Self::is_complete), each as the partition has it that is furthest behind.
    pub fn metrics(&mut self, id: PartitionId, message: Vec<MetricProgress>) -> Vec<MetricProgress> {
        let mut least = vec![];
        for metric in message {
            let sent = self.metrics.entry(metric.metric.clone()).or_default();
            sent.insert(id, metric);
            let all = self.complete.iter().all(|id| sent.contains_key(id));
            least.extend(sent.values().min_by_key(|metric| metric.watermark).filter(|_| all).cloned());
        }
        least
    }

    /// Whether a topic partition has listed all partitions of its writer.
    pub fn is_complete(&self, id: PartitionId) -> bool {
        self.complete.contains(&id)
    }

    /// Returns all known partitions as ended, for the end of the range.
    pub fn ended(&self) -> Vec<PartitionState> {
        self.known.values().map(|known| PartitionState { state: frame::State::Ended, ..known.clone() }).collect()
    }
}

/// Decodes the frames of a message. Errors: exit status 65 if it is not a sequence of whole frames.
pub fn frames(value: &[u8]) -> Result<Vec<Frame>> {
    let (mut decoder, mut frames, mut rest) = (frame::Decoder::default(), vec![], value);
    while !rest.is_empty() {
        let space = decoder.space();
        let count = space.len().min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        frames.extend(decoder.filled(count)?);
    }
    match decoder.is_between() {
        true => Ok(frames),
        false => Err(evt_core::Error::corrupt("truncated frame")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::kind::Kind;
    use evt_core::kind::dead::{ErrorType, Fault, Letter};
    use evt_core::kind::letters::Builder;

    fn state(name: &str, stream_time: Option<i64>, state: frame::State) -> PartitionState {
        PartitionState { input: 0, origin: "t".into(), partition: name.into(), stream_time, state }
    }

    fn letters(partitions: &[&str]) -> RecordBatch {
        let mut builder = Builder::new("evt-test", "host");
        let fault = Fault::new(ErrorType::ParseError, "no JSON");
        for (offset, partition) in (0..).zip(partitions) {
            let (payload, fault) = (b"x".as_slice(), &fault);
            let letter =
                Letter { payload, key: None, headers: None, arrived_at: None, fault, origin: "t", partition, offset };
            builder.push(&letter, 7).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn rows_of_one_partition_lie_in_one_partition_of_the_topic() {
        let names = ["a", "b", "c", "a", "d", "b"];
        let pieces = split(&letters(&names), 3).unwrap();
        assert_eq!(pieces.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>(), names.len());
        for (number, rows) in &pieces {
            let column = StringColumn::new(rows.column_by_name("partition").unwrap());
            assert!(column.codes.iter().all(|code| home("t", column.text(*code), 3) == *number));
        }
    }

    #[test]
    fn a_message_that_is_cut_anywhere_is_refused() {
        let value = rows(&Kind::Dead.schema(), &letters(&["a", "b"])).unwrap();
        assert!(matches!(frames(&value).unwrap().as_slice(), [Frame::Schema(_), Frame::Batch(_)]));
        let whole = |count: usize| frames(&value[..count]).is_ok_and(|frames| frames.len() == 2);
        assert!((0..value.len()).all(|count| !whole(count)));
    }

    #[test]
    fn an_announcement_says_nothing_of_a_partition_that_is_known() {
        let mut writer = WriterProgress::default();
        let partitions = vec![state("a", Some(5), frame::State::Ended), state("b", Some(7), frame::State::Live)];
        writer.apply(&Progress { partitions: partitions.clone(), complete: true, ..Progress::default() });
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut reader = ReaderProgress::default();
            let mut last: BTreeMap<String, PartitionState> = BTreeMap::new();
            for number in order {
                for state in reader.apply(PartitionId { topic: 0, number }, writer.message(number, 3)) {
                    last.insert(state.partition.clone(), state);
                }
            }
            assert_eq!(last.into_values().collect::<Vec<_>>(), partitions);
            assert!((0..3).all(|number| reader.is_complete(PartitionId { topic: 0, number })));
            assert!(!reader.is_complete(PartitionId { topic: 0, number: 3 }));
        }
    }
}
