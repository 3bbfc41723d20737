//! The positions of objects in a checkpoint: which versions were read, and how far the last one.

use super::times::{PartitionTime, check_explode};
use evt_core::error::Result;
use evt_run::checkpoint::epoch::PartitionPosition;
use evt_run::emit::RecordEmitter;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Maximum number of objects whose positions are kept. The oldest positions are removed first; a later run reads such
/// an object again.
const OBJECTS_MAX: usize = 100_000;
/// Maximum number of objects whose positions databases get with each epoch: those that were read last.
const OBJECTS_SHOWN: usize = 1000;

/// How far an object is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPosition {
    name: String,
    /// What another object of this name has not.
    version: String,
    /// The offset of the last record that is in a complete batch.
    last: i64,
    /// Whether all of it was read.
    is_read: bool,
    /// The path of `--explode`: offsets count the elements of this array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    explode: Option<String>,
    /// The stream times of its partitions.
    partitions: Vec<PartitionTime>,
    /// The stream time (µs) of its partition before its first record, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<i64>,
}

/// The object that a run reads.
pub struct ObjectToRead<'a> {
    pub name: String,
    pub version: String,
    /// The number of the input.
    pub input: u32,
    pub origin: &'a str,
}

/// The positions of objects, with the object that is being read.
#[derive(Default)]
pub struct ObjectPositions {
    objects: Vec<ObjectPosition>,
    /// Names and versions of those that were read whole.
    read: HashSet<(String, String)>,
    /// The path of `--explode` of this run.
    pub explode: Option<String>,
    current: Option<CurrentObject>,
}

struct CurrentObject {
    input: u32,
    origin: String,
    position: ObjectPosition,
    /// Whether `position` is the last entry of [`ObjectPositions::objects`].
    is_kept: bool,
}

impl ObjectPositions {
    /// Continues at the positions of `objects`.
    pub fn new(objects: Vec<ObjectPosition>) -> Self {
        let read = objects.iter().filter(|object| object.is_read);
        let read = read.map(|object| (object.name.clone(), object.version.clone())).collect();
        Self { objects, read, ..Self::default() }
    }

    /// Whether this version of an object was read whole.
    pub fn has_read(&self, name: &str, version: &str) -> bool {
        self.read.contains(&(name.to_owned(), version.to_owned()))
    }

    /// Begins an object; sets up `emitter` to continue behind its position. Errors: exit status 78 if the objects were
    /// read with another `--explode`.
    pub fn begin(&mut self, object: ObjectToRead<'_>, emitter: &mut RecordEmitter) -> Result<()> {
        let ObjectToRead { name, version, input, origin } = object;
        let explode = self.explode.clone();
        if let Some(former) = self.objects.last() {
            check_explode(&name, former.explode.as_deref(), explode.as_deref())?;
        }
        let known = self.objects.iter().position(|one| one.name == name && one.version == version);
        let position = match known.map(|at| self.objects.remove(at)) {
            Some(former) => {
                emitter.stamp_mut().continue_after(former.last, former.began);
                former.partitions.iter().for_each(|partition| partition.resume(emitter, origin));
                former
            }
            None => {
                let (last, is_read, partitions, began) = (i64::MIN, false, vec![], None);
                ObjectPosition { name, version, last, is_read, explode, partitions, began }
            }
        };
        self.current = Some(CurrentObject { input, origin: origin.to_owned(), position, is_kept: false });
        Ok(())
    }

    /// Ends the object that is being read, and keeps its position; `is_read` if nothing of it is left.
    pub fn end(&mut self, emitter: &RecordEmitter, is_read: bool) {
        if let Some(current) = &mut self.current {
            current.position.is_read |= is_read;
        }
        self.note(emitter);
        self.current = None;
    }

    /// Keeps the position of the object that is being read. The stage has taken every record before it.
    fn note(&mut self, emitter: &RecordEmitter) {
        let Some(current) = &mut self.current else { return };
        let position = &mut current.position;
        match emitter.stamp().complete() {
            Some(last) => {
                position.partitions = PartitionTime::of(emitter, current.input, &current.origin);
                (position.last, position.began) = (last, emitter.stamp().began());
            }
            None if !position.is_read => return,
            None => {}
        }
        if std::mem::replace(&mut current.is_kept, true) {
            self.objects.pop();
        } else if self.objects.len() >= OBJECTS_MAX {
            self.objects.remove(0);
        }
        self.objects.push(current.position.clone());
    }

    /// Returns the positions as they are saved.
    pub fn save(&mut self, emitter: &RecordEmitter) -> &[ObjectPosition] {
        self.note(emitter);
        &self.objects
    }
}

/// Returns the positions of objects, with their latest stream times.
pub fn partition_positions(objects: &[ObjectPosition]) -> Vec<PartitionPosition> {
    let shown = &objects[objects.len().saturating_sub(OBJECTS_SHOWN)..];
    let position = |object: &ObjectPosition| {
        let offset = object.last.checked_add(1).filter(|offset| *offset >= 0)?;
        Some(PartitionTime::position(&object.name, offset, &object.partitions))
    };
    shown.iter().filter_map(position).collect()
}
