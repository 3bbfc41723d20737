//! Stamps: the partition of a row, and the partition's stream time at that row.
//!
//! The same (origin, partition) in two inputs is two partitions, each with its own stream time. So the order in which
//! inputs are read changes no stamp.

use super::index::PartitionIndex;
use crate::frame::{self, PartitionState};
use crate::kind::span::Span;
use crate::time::EARLIEST;
use arrow::array::ArrayRef;

/// Marks a row whose record carries no stream time.
pub(in crate::mapping) const UNSTAMPED: i64 = i64::MIN;

/// One partition: (origin, partition) of one input.
#[derive(Clone, Debug)]
struct Partition {
    input: u32,
    stream_time: Option<i64>,
    ended: bool,
    reported: bool,
    /// Not announced before its first row, so that no reader waits for it ([`PartitionTable::unnamed`]).
    silent: bool,
}

/// The stream time of a partition of an input.
#[derive(Clone, Copy, Debug)]
pub struct PartitionStreamTime<'a> {
    /// The origin of its rows.
    pub origin: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The stream time (µs).
    pub stream_time: i64,
}

/// All partitions seen so far, each with its stream time: the largest event time of the rows that passed the rules.
#[derive(Default)]
pub struct PartitionTable {
    partitions: Vec<Partition>,
    /// Their numbers; a group is an input.
    index: PartitionIndex,
    /// The input of partitions that are looked up by name.
    input: u32,
    /// The explicit watermark of each input, if control lines set the watermark: it is the stream time of the rows
    /// after it.
    explicit: Option<Vec<i64>>,
    /// The event times of the rows that advance their partitions; the others leave the stage before an operator.
    range: Span,
    /// Number of partitions whose state has changed since the last [`PartitionTable::changes`].
    unreported: usize,
}

impl PartitionTable {
    /// Uses the explicit watermark of its input as the stream time of each row without one.
    pub fn set_explicit(&mut self) {
        self.explicit = Some(vec![]);
    }

    /// Lets only rows without stamps in this range of event time advance their partitions.
    pub fn advance_within(&mut self, range: Span) {
        self.range = range;
    }

    /// Sets the explicit watermark (µs) of the input that `partition` belongs to.
    pub fn set_watermark(&mut self, partition: u32, watermark: i64) {
        let input = self.input_of(partition) as usize;
        let watermarks = self.explicit.get_or_insert_default();
        watermarks.resize(watermarks.len().max(input + 1), EARLIEST);
        watermarks[input] = watermark;
    }

    /// Sets the input in which partitions are looked up from now on.
    pub fn set_input(&mut self, input: u32) {
        self.input = input;
    }

    /// Returns the input of a partition.
    pub fn input_of(&self, partition: u32) -> u32 {
        self.partitions[partition as usize].input
    }

    /// Returns the number of a partition; adds the partition if it is new.
    pub fn partition(&mut self, origin: &str, name: &str) -> u32 {
        self.known(self.input, origin, name, false)
    }

    /// Returns the number of the partition (`origin`, `name`) in the input of `other`; adds it if it is new.
    pub fn beside(&mut self, other: u32, origin: &str, name: &str) -> u32 {
        self.known(self.input_of(other), origin, name, false)
    }

    /// Returns the number of the partition "0", for records of an origin that name no partition. Where a flag maps the
    /// partition there may never be such a record, so this one is announced with its first row.
    pub fn unnamed(&mut self, origin: &str) -> u32 {
        self.known(self.input, origin, "0", true)
    }

    /// Returns the number of a partition that is not announced before a row of it is stamped.
    pub fn silent(&mut self, origin: &str, name: &str) -> u32 {
        self.known(self.input, origin, name, true)
    }

    fn known(&mut self, input: u32, origin: &str, name: &str, silent: bool) -> u32 {
        let number = self.index.number(input, origin, name);
        if number as usize == self.partitions.len() {
            self.unreported += usize::from(!silent);
            self.partitions.push(Partition { input, stream_time: None, ended: false, reported: silent, silent });
        }
        number
    }

    /// Returns the number of each partition that the records of a chunk name; adds those that are new.
    pub(in crate::mapping) fn numbers(&mut self, named: &PartitionIndex) -> Vec<u32> {
        let numbers = (0..named.len() as u32).map(|partition| {
            let (origin, name) = named.name(partition);
            self.beside(named.group(partition), origin, name)
        });
        numbers.collect()
    }

    /// Returns the (origin, partition) of a number.
    pub fn name(&self, partition: u32) -> (&str, &str) {
        self.index.name(partition)
    }

    /// Fills in the stream time of each row without one, and advances the partitions by those that have one. A row
    /// outside of the range has the stream time of the rows before it.
    pub(in crate::mapping) fn stamp(&mut self, partitions: &[u32], event_times: &[i64], stream_times: &mut [i64]) {
        let is_limited = self.range != Span::default();
        for ((partition, event_time), stream_time) in partitions.iter().zip(event_times).zip(stream_times) {
            let partition = &mut self.partitions[*partition as usize];
            if is_limited && *stream_time == UNSTAMPED && !self.range.contains(*event_time) {
                *stream_time = partition.stream_time.unwrap_or(*event_time);
                continue;
            }
            let own = match &self.explicit {
                _ if *stream_time != UNSTAMPED => *stream_time,
                Some(watermarks) => watermarks.get(partition.input as usize).copied().unwrap_or(EARLIEST),
                None => *event_time,
            };
            let now = match partition.stream_time {
                Some(known) => known.max(own),
                None => {
                    self.unreported += usize::from(partition.silent);
                    partition.reported &= !std::mem::take(&mut partition.silent);
                    own
                }
            };
            partition.stream_time = Some(now);
            if *stream_time == UNSTAMPED {
                *stream_time = now;
            }
        }
    }

    /// Builds the columns `origin` and `partition` for rows of these partitions.
    pub(in crate::mapping) fn columns(&mut self, partitions: &[u32]) -> arrow::error::Result<(ArrayRef, ArrayRef)> {
        self.index.columns(partitions)
    }

    /// Marks the partitions of an input as ended.
    pub fn end(&mut self, input: u32) {
        for partition in self.partitions.iter_mut().filter(|partition| partition.input == input) {
            if !partition.ended && !partition.silent {
                partition.ended = true;
                self.unreported += usize::from(std::mem::replace(&mut partition.reported, false));
            }
        }
    }

    /// Stops reporting a partition, if it was announced, because the input's own stream reports it from now on.
    pub fn take_over(&mut self, input: u32, origin: &str, name: &str) {
        if let Some(at) = self.index.find(input, origin, name) {
            let partition = &mut self.partitions[at as usize];
            self.unreported -= usize::from(!std::mem::replace(&mut partition.reported, true));
            partition.silent = true;
        }
    }

    /// Withdraws the partitions announced for an input whose stream reports its own. Those already reported end, the
    /// others are never reported. Returns whether one ends.
    pub fn withdraw(&mut self, input: u32) -> bool {
        let mut ends = 0;
        for partition in self.partitions.iter_mut().filter(|partition| partition.input == input) {
            if !partition.reported && !partition.ended {
                self.unreported -= 1;
                (partition.reported, partition.silent) = (true, true);
            } else if !partition.silent && !std::mem::replace(&mut partition.ended, true) {
                partition.reported = false;
                ends += 1;
            }
        }
        self.unreported += ends;
        ends > 0
    }

    /// Returns the stream time of a partition (µs), if it has had a row.
    pub fn stream_time(&self, partition: u32) -> Option<i64> {
        self.partitions[partition as usize].stream_time
    }

    /// Returns the stream times of the partitions of an input that have had a row.
    pub fn stream_times(&self, input: u32) -> impl Iterator<Item = PartitionStreamTime<'_>> {
        let of_input = (0..).zip(&self.partitions).filter(move |(_, partition)| partition.input == input);
        of_input.filter_map(|(number, partition)| {
            let (origin, name) = self.index.name(number);
            Some(PartitionStreamTime { origin, name, stream_time: partition.stream_time? })
        })
    }

    /// Restores the stream time that a partition had when it was revoked. A partition that is assigned again is live
    /// again.
    pub fn resume(&mut self, partition: u32, stream_time: Option<i64>) {
        let partition = &mut self.partitions[partition as usize];
        if partition.silent {
            return;
        }
        partition.stream_time = stream_time;
        partition.ended = false;
        self.unreported += usize::from(std::mem::replace(&mut partition.reported, false));
    }

    /// Marks one partition as ended.
    pub fn end_one(&mut self, partition: u32) {
        let partition = &mut self.partitions[partition as usize];
        if !partition.silent && !std::mem::replace(&mut partition.ended, true) {
            self.unreported += usize::from(std::mem::replace(&mut partition.reported, false));
        }
    }

    /// Whether some partition is new or has ended since the last call of [`PartitionTable::changes`].
    pub fn has_changes(&self) -> bool {
        self.unreported > 0
    }

    /// Returns the partitions that are new or have ended since the last call, as a progress frame reports them.
    pub fn changes(&mut self) -> Vec<PartitionState> {
        let mut changes = vec![];
        self.unreported = 0;
        for (number, partition) in (0..).zip(&mut self.partitions).filter(|(_, partition)| !partition.reported) {
            partition.reported = true;
            let (origin, name) = self.index.name(number);
            changes.push(PartitionState {
                input: partition.input,
                origin: origin.to_owned(),
                partition: name.to_owned(),
                stream_time: partition.stream_time,
                state: if partition.ended { frame::State::Ended } else { frame::State::Live },
            });
        }
        changes
    }
}
