//! Control: what a stream says beside its rows, as JSON under one metadata key each.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// More rows may come.
    Live,
    /// No row for a while: leaves the minimum that makes the watermark until the next one.
    Idle,
    /// No more rows will come.
    Ended,
}

/// One partition, (origin, partition), as a progress frame tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The input argument of this run that the partition was told of by; a number of the run, never written.
    #[serde(skip)]
    pub input: u32,
    /// The file or topic.
    pub origin: String,
    /// The partition there.
    pub partition: String,
    /// Its stream time (µs); none before its first row.
    pub stream_time: Option<i64>,
    /// Where it stands.
    pub state: State,
}

/// What the source knows: partitions that changed since the last such frame, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Partitions that are new or have changed.
    pub partitions: Vec<PartitionState>,
    /// Whether every partition there will be is known by now.
    pub complete: bool,
    /// Bytes of the input read so far.
    pub bytes_done: u64,
    /// Bytes of the input altogether, where known.
    pub bytes_total: Option<u64>,
}

/// Bytes that the names of the partitions in one message take at most, about: a header has a bound
/// ([`super::HEADER_MAX`]), and so has a record of a topic. JSON escapes a byte by six.
const PART_BYTES: usize = 128 << 10;
/// Bytes of a partition beside its names, about.
const STATE_BYTES: usize = 100;

impl Progress {
    /// The same in messages of bounded size; only the last one may say that all partitions are known.
    pub fn parts(&self) -> Vec<Progress> {
        let (mut parts, mut left) = (vec![], PART_BYTES);
        let mut part = self.without_partitions();
        for partition in &self.partitions {
            let bytes = partition.origin.len() + partition.partition.len() + STATE_BYTES;
            if bytes > left && !part.partitions.is_empty() {
                parts.push(std::mem::replace(&mut part, self.without_partitions()));
                left = PART_BYTES;
            }
            left = left.saturating_sub(bytes);
            part.partitions.push(partition.clone());
        }
        parts.push(Progress { complete: self.complete, ..part });
        parts
    }

    fn without_partitions(&self) -> Progress {
        Progress { bytes_done: self.bytes_done, bytes_total: self.bytes_total, ..Progress::default() }
    }
}

/// A cut through the stream: everything before it belongs to this epoch or an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The run that made it.
    pub run: u64,
    /// The epoch's number in that run, from 1.
    pub number: u64,
}

/// How a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// The input was read to its end: every window may fire.
    Exhausted,
    /// A signal stopped the reading: open windows are held.
    Stopped,
}

/// The proof that nothing is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Read to the end, or stopped before.
    pub how: How,
    /// Rows in the stream.
    pub rows: u64,
    /// The worst exit status of the stages so far.
    pub verdict: u8,
}

/// One control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// What the source knows.
    Progress(Progress),
    /// An explicit promise: no event with an event time (µs) below this follows.
    Watermark(i64),
    /// A cut through the stream.
    Barrier(Barrier),
    /// The proven end.
    End(End),
}

impl Control {
    /// The metadata key and value of this message.
    pub(super) fn to_metadata(&self) -> Result<(&'static str, String)> {
        let pair = match self {
            Control::Progress(progress) => ("evt.progress", serde_json::to_string(progress)),
            Control::Watermark(instant) => ("evt.watermark", serde_json::to_string(instant)),
            Control::Barrier(barrier) => ("evt.barrier", serde_json::to_string(barrier)),
            Control::End(end) => ("evt.end", serde_json::to_string(end)),
        };
        Ok((pair.0, pair.1.map_err(|error| Error::broken("control frame").because(error))?))
    }

    /// The message a metadata pair holds; none for a key that is not ours, so that newer writers can add some.
    pub(super) fn from_metadata(key: &str, value: &str) -> Result<Option<Control>> {
        let control = match key {
            "evt.progress" => serde_json::from_str(value).map(Control::Progress),
            "evt.watermark" => serde_json::from_str(value).map(Control::Watermark),
            "evt.barrier" => serde_json::from_str(value).map(Control::Barrier),
            "evt.end" => serde_json::from_str(value).map(Control::End),
            _ => return Ok(None),
        };
        control.map(Some).map_err(|error| Error::corrupt(format!("control frame {key} cannot be read")).because(error))
    }
}
