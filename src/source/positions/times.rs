//! The stream times of the partitions of an input, as a checkpoint keeps them, and the path of `--explode`.

use evt_core::error::{Error, Result};
use evt_run::checkpoint::epoch::PartitionPosition;
use evt_run::emit::RecordEmitter;
use serde::{Deserialize, Serialize};

/// The stream time of a partition of a file (µs).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTime {
    /// Its origin; `None` if it is the origin of the file.
    origin: Option<String>,
    name: String,
    stream_time: i64,
}

impl PartitionTime {
    /// Returns the stream times of an input whose records have `origin` unless they name another one.
    pub fn of(emitter: &RecordEmitter, input: u32, origin: &str) -> Vec<Self> {
        let times = emitter.stamp().stream_times(input).map(|partition| Self {
            origin: Some(partition.origin.to_owned()).filter(|own| own != origin),
            name: partition.name.to_owned(),
            stream_time: partition.stream_time,
        });
        times.collect()
    }

    /// Returns the position of a file at `offset`, with the latest of its stream times.
    pub fn position(file: &str, offset: i64, times: &[Self]) -> PartitionPosition {
        let watermark = times.iter().map(|partition| partition.stream_time).max();
        PartitionPosition { group: String::new(), topic: file.to_owned(), partition: 0, offset, watermark }
    }

    /// Continues the partition of the current input.
    pub fn resume(&self, emitter: &mut RecordEmitter, origin: &str) {
        let partition = emitter.stamp_mut().announce(self.origin.as_deref().unwrap_or(origin), &self.name);
        emitter.stamp_mut().resume(partition, Some(self.stream_time));
    }
}

/// Checks that a file is read with the `--explode` of earlier runs: offsets count the elements of one array. Errors:
/// exit status 78.
pub fn check_explode(name: &str, former: Option<&str>, now: Option<&str>) -> Result<()> {
    if former == now {
        return Ok(());
    }
    let flag = |path: Option<&str>| path.map_or("no --explode".to_owned(), |path| format!("--explode {path}"));
    let (expected, found) = (flag(former), flag(now));
    Err(Error::config(format!("{name}: expected {expected}, as in the checkpoint, found {found}")))
}
