//! The positions of followed names in a checkpoint.

use super::times::{PartitionTime, check_explode};
use evt_core::error::Result;
use evt_run::checkpoint::epoch::PartitionPosition;
use evt_run::emit::RecordEmitter;
use evt_run::input::position::FollowPosition;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How far a followed name is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamePosition {
    /// The name under which it was read last.
    name: String,
    position: FollowPosition,
    /// The path of `--explode`: offsets count the elements of this array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    explode: Option<String>,
    /// The stream times of its partitions.
    partitions: Vec<PartitionTime>,
}

impl NamePosition {
    /// Returns the position, with the latest stream time.
    pub fn partition_position(&self) -> PartitionPosition {
        PartitionTime::position(&self.name, self.position.lines + 1, &self.partitions)
    }
}

/// The positions of followed names. A run keeps the positions of names that it does not follow.
#[derive(Default)]
pub struct NamePositions {
    names: Vec<NamePosition>,
    /// The names that the run follows, by input.
    inputs: BTreeMap<u32, NameToFollow>,
}

/// A name that the run follows.
#[derive(Clone)]
pub struct NameToFollow {
    /// The name as typed.
    pub name: String,
    /// The origin of its records.
    pub origin: String,
}

impl NamePositions {
    /// Continues at `names`.
    pub fn new(names: Vec<NamePosition>) -> Self {
        Self { names, ..Self::default() }
    }

    /// Adds a name that an earlier run has begun, unless an epoch has it.
    pub fn add_begun(&mut self, name: NamePosition) {
        if !self.has(&name.name) {
            self.names.push(name);
        }
    }

    /// Whether there is a position.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether the run or an earlier one has followed a name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Returns the position of a name: the one with the same text, else one with the same path.
    fn find(&self, name: &str) -> Option<usize> {
        let same = self.names.iter().position(|known| known.name == name);
        same.or_else(|| self.names.iter().position(|known| located(&known.name) == located(name)))
    }

    /// Begins to follow a name; sets up `emitter` to continue at its position and returns that, if an earlier run has
    /// followed it.
    ///
    /// Errors: exit status 78 if it was followed with another `--explode`.
    pub fn begin(
        &mut self,
        input: u32,
        name: NameToFollow,
        explode: Option<&str>,
        emitter: &mut RecordEmitter,
    ) -> Result<Option<FollowPosition>> {
        let found = self.find(&name.name);
        self.inputs.insert(input, name.clone());
        let (NameToFollow { name, origin }, Some(at)) = (name, found) else { return Ok(None) };
        let known = &mut self.names[at];
        if known.position.lines > 0 {
            check_explode(&name, known.explode.as_deref(), explode)?;
        }
        known.partitions.iter().for_each(|partition| partition.resume(emitter, &origin));
        known.name = name;
        Ok(Some(known.position.clone()))
    }

    /// Notes the first file of an input, and returns it, unless an earlier run has begun its name.
    pub fn note_first(&mut self, input: u32, position: FollowPosition) -> Option<&NamePosition> {
        let NameToFollow { name, .. } = self.inputs.get(&input)?;
        // `begin` has given a known name its present text.
        if self.names.iter().any(|known| known.name == *name) {
            return None;
        }
        self.names.push(NamePosition { name: name.clone(), position, explode: None, partitions: vec![] });
        self.names.last()
    }

    /// Notes how far an input is read.
    pub fn note(&mut self, input: u32, position: FollowPosition, explode: Option<&str>, emitter: &RecordEmitter) {
        let Some(NameToFollow { name, origin }) = self.inputs.get(&input) else { return };
        let partitions = PartitionTime::of(emitter, input, origin);
        let noted = NamePosition { name: name.clone(), position, explode: explode.map(str::to_owned), partitions };
        match self.names.iter_mut().find(|known| known.name == *name) {
            Some(known) => *known = noted,
            None => self.names.push(noted),
        }
    }

    /// Returns the positions as they are saved.
    pub fn save(&self) -> &[NamePosition] {
        &self.names
    }
}

/// Returns the absolute path of a name; its directory is resolved, a link of the name is not. `a.log` and `./a.log` are
/// one name, also while their directory is missing.
fn located(name: &str) -> PathBuf {
    let path = Path::new(name);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().or_else(|_| std::path::absolute(parent));
    parent.unwrap_or_default().join(path.file_name().unwrap_or(path.as_os_str()))
}
