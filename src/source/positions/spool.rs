//! The position of a spool in a checkpoint: the next offset, and the stream time there.

use evt_run::checkpoint::epoch::PartitionPosition;
use evt_run::input::InputPosition;
use evt_run::spool::CheckpointPosition;
use evt_run::spool::dir::Position;
use serde::{Deserialize, Serialize};

/// How far the spool of an HTTP server is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolPosition {
    /// The origin of its records.
    origin: String,
    /// The id of the spool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The offset before which the epoch has every record.
    next: i64,
    /// The stream time there (µs).
    stream_time: Option<i64>,
}

impl SpoolPosition {
    /// Makes the position of the spool with this origin.
    pub fn new(origin: String, position: CheckpointPosition) -> Self {
        let CheckpointPosition { id, position: Position { offset: next, stream_time } } = position;
        Self { origin, id, next, stream_time }
    }

    /// Returns the position at which the spool continues.
    pub fn start(&self) -> InputPosition {
        let position = Position { offset: self.next, stream_time: self.stream_time };
        let position = CheckpointPosition { id: self.id.clone(), position };
        InputPosition::Spool { origin: self.origin.clone(), position }
    }

    /// Returns the position, with the stream time.
    pub fn partition_position(&self) -> PartitionPosition {
        let (group, topic) = (String::new(), self.origin.clone());
        PartitionPosition { group, topic, partition: 0, offset: self.next, watermark: self.stream_time }
    }
}
