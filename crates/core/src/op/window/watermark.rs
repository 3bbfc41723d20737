//! The watermark: W promises that no event with event time < W will follow.
//!
//! W = minimum over live partitions of stream time − out-of-orderness; it never decreases. It exists only when every
//! partition is known and has begun. An ended partition is excluded from the minimum. W decides when windows fire and
//! when state is dropped. Which rows are late, their own stream time decides (`shape/closing.rs`); only a row of a
//! partition that was idle or is new may be behind W, and is late for windows whose state was dropped.
//!
//! The same (origin, partition) in two inputs is two partitions: the end of one says nothing about the other.

use crate::error::{Error, Result};
use crate::frame::{self, Progress};
use crate::kind::PartitionName;
use crate::kind::event::column;
use crate::op::snapshot::{Reader, Writer};
use crate::time::{SECOND, format_duration, parse_duration};
use ahash::AHashMap;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use std::fmt;

/// The out-of-orderness (µs) of runs that do not wait for the end of their input.
pub const LIVE: i64 = 30 * SECOND;

/// How far an event may be behind its partition's stream time (µs); any distance with `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrderness(pub Option<i64>);

impl OutOfOrderness {
    /// Parses a duration, or `all`.
    pub fn parse(text: &str) -> Result<Self> {
        let bound = if text == "all" { None } else { Some(parse_duration(text)?) };
        Ok(Self(bound))
    }
}

impl fmt::Display for OutOfOrderness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map_or_else(|| "all".to_owned(), format_duration))
    }
}

/// The rules by which W is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How far a row may be behind its partition's stream time (µs). `None` allows any distance: then there is no W
    /// before the end.
    pub out_of_orderness: Option<i64>,
    /// Whether W comes from explicit watermarks alone.
    pub explicit: bool,
    /// Whether a partition may appear after all were known. Its rows are late for closed windows.
    pub new_partitions: bool,
}

/// A topic that the run which saved the state has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinuedTopic {
    /// The topic.
    pub topic: String,
    /// The number of its input in that run.
    pub former: u32,
    /// The number of its input in this run; `None` if no input has the topic.
    pub now: Option<u32>,
}

/// Returns the input of a partition of an earlier run in this run: that of its topic or, if its origin is no topic, as
/// in frames and with `--origin`, that of all topics which its input had.
fn present_input(partition: &Partition, continued: &[ContinuedTopic]) -> Option<u32> {
    let of_input: Vec<_> = continued.iter().filter(|topic| topic.former == partition.input).collect();
    let own = of_input.iter().find(|topic| topic.topic == partition.origin);
    let now = own.or(of_input.first())?.now;
    now.filter(|_| own.is_some() || of_input.iter().all(|topic| topic.now == now))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Partition {
    input: u32,
    origin: String,
    name: String,
    stream_time: Option<i64>,
    state: frame::State,
}

/// A partition of an input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PartitionKey {
    input: u32,
    origin: String,
    name: String,
}

/// The state that a snapshot saves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct WatermarkState {
    partitions: Vec<Partition>,
    complete: bool,
    watermark: Option<i64>,
    /// The greatest stream time of the partitions that were forgotten.
    forgotten: Option<i64>,
}

/// The number of the input under which a snapshot saves the greatest stream time of the partitions that were forgotten.
/// No input of a run has this number.
const FORGOTTEN: u32 = u32::MAX;

/// Tracks the partitions and computes W.
pub struct Watermark {
    options: Options,
    state: WatermarkState,
    index: AHashMap<PartitionKey, usize>,
    /// Whether only explicit watermarks raise W.
    is_held: bool,
    /// Whether the run continues a restored state: partitions may appear although W exists.
    is_continued: bool,
}

/// The partition that holds the watermark back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastPartition<'a> {
    /// Its file or topic.
    pub origin: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its stream time (µs), if it has had rows.
    pub stream_time: Option<i64>,
    /// The greatest stream time of any partition (µs).
    pub greatest: i64,
}

impl Watermark {
    /// Creates a watermark without partitions and without W.
    pub fn new(options: Options) -> Self {
        Self { options, state: WatermarkState::default(), index: AHashMap::new(), is_held: false, is_continued: false }
    }

    /// Returns W; `None` before every partition has begun.
    pub fn get(&self) -> Option<i64> {
        self.state.watermark
    }

    /// Whether W comes from explicit watermarks alone.
    pub fn is_explicit(&self) -> bool {
        self.options.explicit
    }

    /// Whether rows may be any distance behind, so that there is no W before the end.
    pub fn waits_for_end(&self) -> bool {
        self.options.out_of_orderness.is_none()
    }

    /// Begins another run over a restored state. The partitions of `continued` topics are kept. All others are
    /// forgotten, such as those of files; only their greatest stream time is kept. W stays, and rows of new partitions
    /// are late for windows that are closed.
    pub fn begin_run(&mut self, continued: &[ContinuedTopic]) {
        self.index.clear();
        let partitions = std::mem::take(&mut self.state.partitions);
        for partition in partitions {
            let Some(input) = present_input(&partition, continued) else {
                self.state.forgotten = self.state.forgotten.max(partition.stream_time);
                continue;
            };
            let key = PartitionKey { input, origin: partition.origin.clone(), name: partition.name.clone() };
            self.index.insert(key, self.state.partitions.len());
            self.state.partitions.push(Partition { input, ..partition });
        }
        self.state.complete = false;
        self.is_continued = true;
    }

    /// Lets only explicit watermarks raise W, because the rows are not in the order of their stream times. Rows are
    /// judged as before.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Takes an explicit watermark; one that does not increase W is ignored.
    pub fn on_explicit_watermark(&mut self, watermark: i64) {
        self.raise(Some(watermark));
    }

    /// Applies the progress that the source reports of its partitions.
    pub fn on_progress(&mut self, progress: &Progress) -> Result<()> {
        let mut ended = vec![];
        for announced in &progress.partitions {
            let at = self.partition(announced.input, &announced.origin, &announced.partition)?;
            let known = &mut self.state.partitions[at];
            known.stream_time = known.stream_time.max(announced.stream_time);
            match announced.state {
                frame::State::Ended => ended.push(at),
                state => known.state = state,
            }
        }
        // Its rows count before a partition ends: if all end, no later row raises W. Where mapped partitions become
        // known only at the end, others may follow.
        self.advance();
        self.state.complete = progress.complete;
        for at in ended {
            self.state.partitions[at].state = frame::State::Ended;
        }
        self.advance();
        Ok(())
    }

    /// Advances the stream times of the partitions of a batch that came from input number `input`.
    pub fn on_batch(&mut self, batch: &RecordBatch, input: u32) -> Result<()> {
        let stream_times = batch.column(column::STREAM_TIME).as_primitive::<TimestampMicrosecondType>().values();
        let (origins, names) = (codes(batch.column(column::ORIGIN)), codes(batch.column(column::PARTITION)));
        // Within a partition stream time never decreases: if all rows are of one partition, the last row decides.
        let single = |codes: &[usize]| codes.windows(2).all(|pair| pair[0] == pair[1]);
        let first = if single(&origins) && single(&names) { batch.num_rows().saturating_sub(1) } else { 0 };
        let mut last = None;
        let mut places: AHashMap<(usize, usize), usize> = AHashMap::new();
        for row in first..batch.num_rows() {
            let code = (origins[row], names[row]);
            let at = match (last, places.get(&code)) {
                (Some((known, at)), _) if known == code => at,
                (_, Some(at)) => *at,
                _ => {
                    let origin = text(batch.column(column::ORIGIN), code.0);
                    let name = text(batch.column(column::PARTITION), code.1);
                    let at = self.partition(input, origin, name)?;
                    places.insert(code, at);
                    at
                }
            };
            last = Some((code, at));
            let known = &mut self.state.partitions[at];
            known.stream_time = known.stream_time.max(Some(stream_times[row]));
            if known.state == frame::State::Idle {
                known.state = frame::State::Live;
            }
        }
        self.advance();
        Ok(())
    }

    /// Sets W to the maximum, because every partition has ended.
    pub fn on_exhausted(&mut self) {
        self.raise(Some(i64::MAX));
    }

    /// Excludes an idle partition, by its number, from the minimum until its next row (`--idle-after`).
    pub fn set_idle(&mut self, partition: usize) {
        let partition = self.state.partitions.get_mut(partition);
        if let Some(partition) = partition.filter(|partition| partition.state == frame::State::Live) {
            partition.state = frame::State::Idle;
        }
        self.advance();
    }

    /// Returns the live partition that determines W, if any: the slowest, or one that has not begun.
    pub fn slowest(&self) -> Option<(&str, &str)> {
        let live = self.state.partitions.iter().filter(|partition| partition.state == frame::State::Live);
        let slowest = live.min_by_key(|partition| partition.stream_time)?;
        Some((&slowest.origin, &slowest.name))
    }

    /// Returns the partition that holds W back, live or ended, if another one has a greater stream time.
    pub fn last(&self) -> Option<LastPartition<'_>> {
        let bound = self.options.out_of_orderness.filter(|_| !self.options.explicit)?;
        let greatest = self.stream_time()?;
        let of_watermark = |partition: &&Partition| {
            let time = partition.stream_time.map(|time| time.saturating_sub(bound));
            time == self.state.watermark && partition.stream_time != Some(greatest)
        };
        let Partition { origin, name, stream_time, .. } = self.state.partitions.iter().find(of_watermark)?;
        Some(LastPartition { origin, name, stream_time: *stream_time, greatest })
    }

    /// Returns number and stream time of each live partition; numbers stay the same during a run.
    pub fn live(&self) -> impl Iterator<Item = (usize, Option<i64>)> {
        let live =
            self.state.partitions.iter().enumerate().filter(|(_, partition)| partition.state == frame::State::Live);
        live.map(|(at, partition)| (at, partition.stream_time))
    }

    /// Returns the numbers of the live partitions of an input, or of one of them.
    pub fn live_of(&self, input: u32, name: Option<&PartitionName>) -> Vec<usize> {
        let of_input = || self.live().map(|(at, _)| at).filter(|at| self.state.partitions[*at].input == input);
        let Some(PartitionName { origin, partition }) = name else { return of_input().collect() };
        let key = PartitionKey { input, origin: origin.clone(), name: partition.clone() };
        let is_live = |at: &usize| self.state.partitions[*at].state == frame::State::Live;
        self.index.get(&key).copied().filter(is_live).into_iter().collect()
    }

    /// Returns the greatest stream time of any partition of any run.
    pub fn greatest_ever(&self) -> Option<i64> {
        self.stream_time().max(self.state.forgotten)
    }

    /// Returns the greatest stream time of any partition of this run.
    fn stream_time(&self) -> Option<i64> {
        self.state.partitions.iter().filter_map(|partition| partition.stream_time).max()
    }

    /// Whether every partition that will appear is known.
    pub fn is_complete(&self) -> bool {
        self.state.complete
    }

    fn partition(&mut self, input: u32, origin: &str, name: &str) -> Result<usize> {
        let key = PartitionKey { input, origin: origin.to_owned(), name: name.to_owned() };
        if let Some(at) = self.index.get(&key) {
            return Ok(*at);
        }
        let has_explicit_watermark = self.options.explicit || self.is_held || self.is_continued;
        if self.state.watermark.is_some() && !self.options.new_partitions && !has_explicit_watermark {
            return Err(Error::corrupt(format!(
                "partition {name} of {origin} appeared after windows had closed; list it in --partitions, or accept \
                 late rows with --new-partitions late"
            )));
        }
        let at = self.state.partitions.len();
        let PartitionKey { origin, name, .. } = key.clone();
        self.state.partitions.push(Partition { input, origin, name, stream_time: None, state: frame::State::Live });
        self.index.insert(key, at);
        Ok(at)
    }

    fn advance(&mut self) {
        let Some(bound) = self.options.out_of_orderness else { return };
        if !self.options.explicit && !self.is_held && self.state.complete {
            let times = |state| {
                let of_state = self.state.partitions.iter().filter(move |partition| partition.state == state);
                of_state.map(|partition| partition.stream_time)
            };
            // If all are idle, the partition with the greatest stream time determines W.
            let least = times(frame::State::Live).min().or_else(|| times(frame::State::Idle).max()).flatten();
            self.raise(least.map(|stream_time| stream_time.saturating_sub(bound)));
        }
    }

    fn raise(&mut self, watermark: Option<i64>) {
        self.state.watermark = self.state.watermark.max(watermark);
    }

    /// Saves the state.
    pub fn snapshot(&self, out: &mut Writer) {
        let WatermarkState { partitions, complete, watermark, forgotten } = &self.state;
        // The time is saved as an ended partition, which versions without this field forget like any other partition.
        let forgotten = forgotten.filter(|_| *forgotten > self.stream_time()).map(|stream_time| Partition {
            input: FORGOTTEN,
            origin: String::new(),
            name: String::new(),
            stream_time: Some(stream_time),
            state: frame::State::Ended,
        });
        out.flag(*complete);
        out.optional(*watermark);
        out.count(partitions.len() + usize::from(forgotten.is_some()));
        for Partition { input, origin, name, stream_time, state } in partitions.iter().chain(&forgotten) {
            out.number(i64::from(*input));
            out.text(origin);
            out.text(name);
            out.optional(*stream_time);
            out.byte(match state {
                frame::State::Live => 0,
                frame::State::Idle => 1,
                frame::State::Ended => 2,
            });
        }
    }

    /// Restores the state that [`Watermark::snapshot`] saved. `has_inputs` says whether partitions have an input
    /// number, which older snapshots do not have.
    pub fn restore(options: Options, has_inputs: bool, saved: &mut Reader<'_>) -> Result<Self> {
        let (complete, watermark) = (saved.flag()?, saved.optional()?);
        let mut restored = Self::new(options);
        for _ in 0..saved.count()? {
            let input = if has_inputs { saved.number()? } else { 0 };
            let input = u32::try_from(input).map_err(|_| Error::corrupt("snapshot: invalid number of an input"))?;
            let (origin, name, stream_time) = (saved.text()?, saved.text()?, saved.optional()?);
            let state = match saved.byte()? {
                0 => frame::State::Live,
                1 => frame::State::Idle,
                _ => frame::State::Ended,
            };
            if input == FORGOTTEN {
                restored.state.forgotten = restored.state.forgotten.max(stream_time);
                continue;
            }
            let key = PartitionKey { input, origin: origin.clone(), name: name.clone() };
            restored.index.insert(key, restored.state.partitions.len());
            restored.state.partitions.push(Partition { input, origin, name, stream_time, state });
        }
        restored.state.complete = complete;
        restored.state.watermark = watermark;
        Ok(restored)
    }
}

fn codes(column: &ArrayRef) -> Vec<usize> {
    column.as_any_dictionary().normalized_keys()
}

fn text(column: &ArrayRef, code: usize) -> &str {
    column.as_any_dictionary().values().as_string::<i32>().value(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PartitionState;

    #[test]
    fn a_partition_that_appears_after_windows_have_closed_is_refused_unless_its_rows_may_be_late() {
        let progress = |names: &[&str]| Progress {
            partitions: names
                .iter()
                .map(|name| PartitionState {
                    input: 0,
                    origin: "kafka:topic".into(),
                    partition: (*name).into(),
                    stream_time: Some(5),
                    state: frame::State::Live,
                })
                .collect(),
            complete: true,
            ..Progress::default()
        };
        for new_partitions in [false, true] {
            let options = Options { out_of_orderness: Some(0), explicit: false, new_partitions };
            let mut watermark = Watermark::new(options);
            watermark.on_progress(&progress(&["0"])).unwrap();
            assert_eq!(watermark.get(), Some(5));
            let appeared = watermark.on_progress(&progress(&["0", "1"])).err().map(|error| error.to_string());
            let refused = "partition 1 of kafka:topic appeared after windows had closed; list it in --partitions, or \
                           accept late rows with --new-partitions late";
            assert_eq!(appeared.as_deref(), (!new_partitions).then_some(refused));
        }
    }
}
