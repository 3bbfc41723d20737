//! Stamps: which partition a row is of, and that partition's stream time at the row.
//!
//! The same (origin, partition) in two inputs is two partitions, each with its own stream time: which input is read first
//! decides nothing.

use super::options::BATCH_ROWS;
use crate::frame::{PartitionState, State};
use crate::time::EARLIEST;
use ahash::AHashMap;
use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use std::sync::Arc;

/// A row that brought no stream time of its own.
pub(super) const UNSTAMPED: i64 = i64::MIN;
/// More values than this in a dictionary, and it starts afresh with each batch.
const DICTIONARY_MAX: usize = 4096;

/// One partition: (origin, partition) of one input.
#[derive(Clone, Debug)]
struct Partition {
    input: u32,
    origin: u32,
    name: u32,
    stream_time: Option<i64>,
    ended: bool,
    told: bool,
    /// Nobody waits for it before its first row ([`Stamper::unnamed`]).
    silent: bool,
}

/// Texts with a code each.
#[derive(Default)]
struct Names {
    texts: Vec<String>,
    codes: AHashMap<String, u32>,
    array: Option<ArrayRef>,
    /// The column last made for rows that all have one code.
    alike: Option<(u32, ArrayRef)>,
}

impl Names {
    fn code(&mut self, text: &str) -> u32 {
        if let Some(code) = self.codes.get(text) {
            return *code;
        }
        let code = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.codes.insert(text.to_owned(), code);
        (self.array, self.alike) = (None, None);
        code
    }

    /// The column of that many rows that all have one code: most files are one partition, and then nothing is made anew.
    fn alike(&mut self, code: u32, rows: usize) -> arrow::error::Result<ArrayRef> {
        if let Some((known, column)) = &self.alike
            && *known == code
            && column.len() >= rows
        {
            return Ok(column.slice(0, rows));
        }
        let column = self.column(vec![code; rows.max(BATCH_ROWS)])?;
        self.alike = Some((code, column.clone()));
        Ok(column.slice(0, rows))
    }

    /// The dictionary column of `codes`; the same values array every time, so that frames send it once.
    fn column(&mut self, codes: Vec<u32>) -> arrow::error::Result<ArrayRef> {
        if self.texts.len() > DICTIONARY_MAX {
            return self.own_column(&codes);
        }
        let texts = &self.texts;
        let values = self.array.get_or_insert_with(|| Arc::new(StringArray::from_iter_values(texts))).clone();
        let keys = Int32Array::from_iter_values(codes.into_iter().map(|code| code as i32));
        Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
    }

    /// The same with a dictionary of this batch's values only.
    fn own_column(&self, codes: &[u32]) -> arrow::error::Result<ArrayRef> {
        let mut local = AHashMap::new();
        let mut texts: Vec<&str> = vec![];
        let keys: Int32Array = codes
            .iter()
            .map(|code| {
                Some(*local.entry(*code).or_insert_with(|| {
                    texts.push(&self.texts[*code as usize]);
                    texts.len() as i32 - 1
                }))
            })
            .collect();
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(texts)))?))
    }
}

/// Knows every partition met so far and its stream time: the largest event time of the rows that left as events.
#[derive(Default)]
pub struct Stamper {
    partitions: Vec<Partition>,
    ids: AHashMap<(u32, u32, u32), u32>,
    /// The input that partitions are named for.
    input: u32,
    origins: Names,
    names: Names,
    /// The explicit watermark of each input, where control lines drive the stream: rows are judged by it at their place.
    explicit: Option<Vec<i64>>,
    /// How many partitions have news.
    untold: usize,
}

impl Stamper {
    /// From here on rows without a stream time get the explicit watermark of their input instead.
    pub fn set_explicit(&mut self) {
        self.explicit = Some(vec![]);
    }

    /// The explicit watermark of the input that a partition is of.
    pub fn promise(&mut self, partition: u32, watermark: i64) {
        let input = self.input_of(partition) as usize;
        let promised = self.explicit.get_or_insert_default();
        promised.resize(promised.len().max(input + 1), EARLIEST);
        promised[input] = watermark;
    }

    /// From here on partitions are named for this input.
    pub fn set_input(&mut self, input: u32) {
        self.input = input;
    }

    /// The input of a partition.
    pub fn input_of(&self, partition: u32) -> u32 {
        self.partitions[partition as usize].input
    }

    /// The number of a partition, new or known.
    pub fn partition(&mut self, origin: &str, name: &str) -> u32 {
        self.known(self.input, (origin, name), false)
    }

    /// The number of the partition of that name in the input that another partition is of.
    pub(super) fn beside(&mut self, other: u32, origin: &str, name: &str) -> u32 {
        self.known(self.input_of(other), (origin, name), false)
    }

    /// The number of the partition of those records of an origin that name none. Where partitions are mapped there may
    /// be no such record ever, so that it is told of with its first row.
    pub fn unnamed(&mut self, origin: &str) -> u32 {
        self.known(self.input, (origin, "0"), true)
    }

    /// The number of a partition that is never told of: its rows bring their own.
    pub fn silent(&mut self, origin: &str, name: &str) -> u32 {
        self.known(self.input, (origin, name), true)
    }

    fn known(&mut self, input: u32, (origin, name): (&str, &str), silent: bool) -> u32 {
        let (origin, name) = (self.origins.code(origin), self.names.code(name));
        let next = self.partitions.len() as u32;
        *self.ids.entry((input, origin, name)).or_insert_with(|| {
            self.untold += usize::from(!silent);
            let partition = Partition { input, origin, name, stream_time: None, ended: false, told: silent, silent };
            self.partitions.push(partition);
            next
        })
    }

    /// The (origin, partition) behind a number.
    pub fn name(&self, partition: u32) -> (&str, &str) {
        let partition = &self.partitions[partition as usize];
        (&self.origins.texts[partition.origin as usize], &self.names.texts[partition.name as usize])
    }

    /// Gives each row without one its stream time, and learns from those that have one.
    pub(super) fn stamp(&mut self, partitions: &[u32], event_times: &[i64], stream_times: &mut [i64]) {
        for ((partition, event_time), stream_time) in partitions.iter().zip(event_times).zip(stream_times) {
            let partition = &mut self.partitions[*partition as usize];
            let own = match &self.explicit {
                _ if *stream_time != UNSTAMPED => *stream_time,
                Some(promised) => promised.get(partition.input as usize).copied().unwrap_or(EARLIEST),
                None => *event_time,
            };
            let now = match partition.stream_time {
                Some(known) => known.max(own),
                None => {
                    self.untold += usize::from(partition.silent);
                    partition.told &= !std::mem::take(&mut partition.silent);
                    own
                }
            };
            partition.stream_time = Some(now);
            if *stream_time == UNSTAMPED {
                *stream_time = now;
            }
        }
    }

    /// The columns `origin` and `partition` of rows of these partitions.
    pub(super) fn columns(&mut self, partitions: &[u32]) -> arrow::error::Result<(ArrayRef, ArrayRef)> {
        if let Some(first) = partitions.first().filter(|first| partitions.iter().all(|id| id == *first)) {
            let Partition { origin, name, .. } = self.partitions[*first as usize];
            return Ok((self.origins.alike(origin, partitions.len())?, self.names.alike(name, partitions.len())?));
        }
        let origins = partitions.iter().map(|id| self.partitions[*id as usize].origin).collect();
        let names = partitions.iter().map(|id| self.partitions[*id as usize].name).collect();
        Ok((self.origins.column(origins)?, self.names.column(names)?))
    }

    /// Marks the partitions of an input as ended.
    pub fn end(&mut self, input: u32) {
        for partition in self.partitions.iter_mut().filter(|partition| partition.input == input) {
            if !partition.ended && !partition.silent {
                partition.ended = true;
                self.untold += usize::from(std::mem::replace(&mut partition.told, false));
            }
        }
    }

    /// From here on the stream of an input tells of this partition itself, if it was announced.
    pub fn take_over(&mut self, input: u32, origin: &str, name: &str) {
        let code = |names: &Names, text: &str| names.codes.get(text).copied();
        let (Some(origin), Some(name)) = (code(&self.origins, origin), code(&self.names, name)) else { return };
        if let Some(at) = self.ids.get(&(input, origin, name)) {
            let partition = &mut self.partitions[*at as usize];
            self.untold -= usize::from(!std::mem::replace(&mut partition.told, true));
            partition.silent = true;
        }
    }

    /// Takes back the partitions that were announced for an input whose stream tells of its own: those that were told of
    /// end, the others are never told of. Whether one ends.
    pub fn withdraw(&mut self, input: u32) -> bool {
        let mut ends = 0;
        for partition in self.partitions.iter_mut().filter(|partition| partition.input == input) {
            if !partition.told && !partition.ended {
                self.untold -= 1;
                (partition.told, partition.silent) = (true, true);
            } else if !partition.silent && !std::mem::replace(&mut partition.ended, true) {
                partition.told = false;
                ends += 1;
            }
        }
        self.untold += ends;
        ends > 0
    }

    /// The stream time of a partition.
    pub fn stream_time(&self, partition: u32) -> Option<i64> {
        self.partitions[partition as usize].stream_time
    }

    /// Goes on with the stream time that a partition had when it was left; one that comes back is live again.
    pub fn resume(&mut self, partition: u32, stream_time: Option<i64>) {
        let partition = &mut self.partitions[partition as usize];
        if partition.silent {
            return;
        }
        partition.stream_time = stream_time;
        partition.ended = false;
        self.untold += usize::from(std::mem::replace(&mut partition.told, false));
    }

    /// Marks one partition as ended.
    pub fn end_one(&mut self, partition: u32) {
        let partition = &mut self.partitions[partition as usize];
        if !partition.silent && !std::mem::replace(&mut partition.ended, true) {
            self.untold += usize::from(std::mem::replace(&mut partition.told, false));
        }
    }

    /// Whether some partition is new or has ended since the last call of [`Stamper::news`].
    pub fn has_news(&self) -> bool {
        self.untold > 0
    }

    /// Partitions that are new or have ended since the last call, as a progress frame tells of them.
    pub fn news(&mut self) -> Vec<PartitionState> {
        let (origins, names) = (&self.origins.texts, &self.names.texts);
        let mut news = vec![];
        self.untold = 0;
        for partition in self.partitions.iter_mut().filter(|partition| !partition.told) {
            partition.told = true;
            news.push(PartitionState {
                input: partition.input,
                origin: origins[partition.origin as usize].clone(),
                partition: names[partition.name as usize].clone(),
                stream_time: partition.stream_time,
                state: if partition.ended { State::Ended } else { State::Live },
            });
        }
        news
    }
}
