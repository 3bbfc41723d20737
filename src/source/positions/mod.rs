//! The positions of inputs in a checkpoint: how far each file, each followed name, each partition of a topic and a
//! spool is read.
//!
//! ```text
//! snapshot of an epoch ─► Positions::restore ─► inputs continue at their positions
//! inputs, as they read ─► Positions ─► snapshot of the next epoch
//! ```
//!
//! `files.rs`, `objects.rs`, `topics.rs`: those of files, objects and topics; `times.rs`: the stream times of
//! partitions.

mod files;
mod followed;
mod objects;
mod spool;
mod times;
mod topics;

use crate::uri::Uri;
use arrow::datatypes::Schema;
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::event::has_raw;
use evt_core::op::window::watermark::ContinuedTopic;
use evt_kafka::address::Bound;
use evt_run::checkpoint::begun::BegunInputs;
use evt_run::checkpoint::epoch::PartitionPosition;
use evt_run::emit::RecordEmitter;
use evt_run::input::{Input, InputPosition};
use evt_run::run::Run;
use files::{FilePosition, FilePositions};
use followed::{NamePosition, NamePositions, NameToFollow};
use objects::{ObjectPosition, ObjectPositions, ObjectToRead};
use serde::{Deserialize, Serialize};
use spool::SpoolPosition;
use std::collections::BTreeMap;
use std::sync::Arc;
use topics::{TopicPosition, TopicPositions};

/// The positions as a part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SavedPositions {
    files: Vec<FilePosition>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    followed: Vec<NamePosition>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    objects: Vec<ObjectPosition>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    topics: Vec<TopicPosition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spool: Option<SpoolPosition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frames: Option<FrameSchema>,
}

/// The raw column and the metadata that the schema of frames adds to that of events. A topic may have no frames for a
/// long time, so a run that continues it must know the schema before the first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FrameSchema {
    /// Whether rows have raw records.
    raw: bool,
    metadata: BTreeMap<String, String>,
}

/// A position that an earlier run has begun and no epoch has.
#[derive(Deserialize)]
#[serde(untagged)]
enum BegunInput {
    Name(NamePosition),
    Partition(TopicPosition),
}

/// The positions of a run, with the inputs that are being read.
#[derive(Default)]
pub struct Positions {
    /// The inputs that the run begins; `None` in tests of positions.
    begun: Option<BegunInputs>,
    files: FilePositions,
    followed: NamePositions,
    objects: ObjectPositions,
    /// Whether the run follows its files.
    follows: bool,
    topics: TopicPositions,
    spool: Option<SpoolPosition>,
    frames: Option<FrameSchema>,
}

/// Returns the positions in a part of a checkpoint as databases store them, with the watermark of the stage: each
/// partition once, sorted by group, topic and number. `pipeline` is the group of files, and of topics without one.
///
/// After the end of all windows the watermark of a partition is its stream time.
pub fn partition_positions(part: &[u8], pipeline: &str, watermark: Option<i64>) -> Result<Vec<PartitionPosition>> {
    let saved = SavedPositions::parse(part)?;
    let mut found: Vec<_> = saved.topics.iter().map(TopicPosition::partition_position).collect();
    found.extend(files::partition_positions(&saved.files));
    found.extend(objects::partition_positions(&saved.objects));
    found.extend(saved.followed.iter().map(NamePosition::partition_position));
    found.extend(saved.spool.iter().map(SpoolPosition::partition_position));
    for position in &mut found {
        if position.group.is_empty() {
            pipeline.clone_into(&mut position.group);
        }
        if watermark != Some(i64::MAX) {
            position.watermark = watermark;
        }
    }
    let key = |position: &PartitionPosition| (position.group.clone(), position.topic.clone(), position.partition);
    found.sort_by_key(key);
    found.dedup_by_key(|position| key(position));
    Ok(found)
}

impl SavedPositions {
    /// Reads a part of a checkpoint; an empty part has no positions. Errors: exit status 65 if it is damaged.
    fn parse(part: &[u8]) -> Result<Self> {
        match part.is_empty() {
            true => Ok(Self::default()),
            false => serde_json::from_slice(part).map_err(|error| Error::corrupt("positions").because(error)),
        }
    }
}

impl Positions {
    /// Continues at the positions in a part of a checkpoint; an empty part has none. Errors: exit status 65 if it is
    /// damaged.
    pub fn restore(part: &[u8]) -> Result<Self> {
        let saved = SavedPositions::parse(part)?;
        Ok(Self {
            files: FilePositions::new(saved.files),
            followed: NamePositions::new(saved.followed),
            objects: ObjectPositions::new(saved.objects),
            follows: false,
            topics: TopicPositions::new(saved.topics),
            spool: saved.spool,
            frames: saved.frames,
            begun: None,
        })
    }

    /// Adds the inputs that earlier runs have begun and no epoch has. Errors: exit status 65 if one is damaged.
    pub fn with_begun(mut self, begun: BegunInputs) -> Result<Self> {
        for position in &begun.former {
            let position = serde_json::from_value(position.clone());
            match position.map_err(|error| Error::corrupt("the position of an input").because(error))? {
                BegunInput::Name(name) => self.followed.add_begun(name),
                BegunInput::Partition(partition) => self.topics.add_begun(partition),
            }
        }
        Ok(Self { begun: Some(begun), ..self })
    }

    /// Notes the first file of a followed name, of which nothing is read yet.
    pub fn note_first(&mut self, number: u32, input: &mut dyn Input) -> Result<()> {
        if let Some(InputPosition::Followed(position)) = input.checkpoint_position()?
            && let Some(first) = self.followed.note_first(number, position)
            && let Some(begun) = &mut self.begun
        {
            begun.add(first)?;
        }
        Ok(())
    }

    /// Keeps where the reading of topics begins, if the next run would find another beginning. Errors: exit status 74
    /// if it cannot be written.
    pub fn keep_starts(
        &mut self,
        uri: &Uri,
        number: u32,
        input: &dyn Input,
        emitter: &mut RecordEmitter,
    ) -> Result<()> {
        let Uri::Kafka(address) = uri else { return Ok(()) };
        let Some(begun) = &mut self.begun else { return Ok(()) };
        if address.options.start.as_ref().is_some_and(Bound::changes) {
            self.topics.note_first(number, &input.reached(emitter)).iter().try_for_each(|first| begun.add(first))?;
        }
        begun.keep()
    }

    /// Keeps the inputs that the run has begun. Errors: exit status 74 if they cannot be written.
    pub fn keep_begun(&mut self) -> Result<()> {
        self.begun.as_mut().map_or(Ok(()), BegunInputs::keep)
    }

    /// Sets the path of `--explode`, with which files must have been read, and whether they are followed.
    pub fn set_reading(&mut self, explode: Option<String>, follows: bool) {
        self.objects.explode.clone_from(&explode);
        self.files.explode = explode;
        self.follows = follows;
    }

    /// Returns the inputs with topics that start at their positions. Errors: exit status 2 if two inputs read topics of
    /// the same name.
    pub fn continued(&mut self, inputs: &[Uri]) -> Result<Vec<Uri>> {
        self.files.set_inputs(inputs);
        self.topics.continued(inputs)
    }

    /// Sets up `emitter` for events, if topics or followed names continue: they may have no record for a long time.
    /// Returns whether the schema of the rows is known by that.
    pub fn begin_run(&self, emitter: &mut RecordEmitter) -> bool {
        let is_quiet = self.topics.continued_topics().iter().any(|topic| topic.now.is_some())
            || self.follows && !self.followed.is_empty();
        if !is_quiet || !emitter.becomes(Kind::Event) {
            return false;
        }
        match &self.frames {
            Some(FrameSchema { raw, metadata }) => {
                let metadata = metadata.clone().into_iter().collect();
                let schema = Kind::Event.schema_with(*raw);
                emitter.set_schema(Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata)));
                emitter.decide_raw(*raw);
            }
            // Records of topics and followed names bring no raw column.
            None => _ = emitter.decide_raw(false),
        }
        true
    }

    /// Returns the topics that this run continues.
    pub fn continued_topics(&self) -> &[ContinuedTopic] {
        self.topics.continued_topics()
    }

    /// Opens a file and compares it with those that were read; sets up `emitter` to continue behind its position.
    /// Returns the open file, or the position of a followed name or of the spool of an HTTP server.
    ///
    /// Errors: exit status 65 if it is shorter than it was under the same name, 78 if it was read in another way.
    pub fn begin(
        &mut self,
        uri: &Uri,
        input: u32,
        origin: &str,
        emitter: &mut RecordEmitter,
        run: &Run,
    ) -> Result<Option<InputPosition>> {
        let name = uri.to_string();
        let is_known = if self.follows { self.files.has(&name) } else { self.followed.has(&name) };
        if let Uri::File(_) = uri
            && is_known
        {
            let [expected, found] = if self.follows { ["without", "with"] } else { ["with", "without"] };
            return Err(Error::config(format!(
                "{name}: expected a run {expected} --follow, as in the checkpoint, found one {found} it"
            )));
        }
        if self.follows && matches!(uri, Uri::File(_)) {
            let name = NameToFollow { name, origin: origin.to_owned() };
            let position = self.followed.begin(input, name, self.files.explode.as_deref(), emitter)?;
            return Ok(position.map(InputPosition::Followed));
        }
        if matches!(uri, Uri::Http(_)) {
            return Ok(self.spool.as_ref().map(SpoolPosition::start));
        }
        if let Some(object) = object_to_read(uri, input, origin) {
            return self.objects.begin(object, emitter).map(|()| None);
        }
        Ok(self.files.begin(uri, input, origin, emitter, run)?.map(InputPosition::Opened))
    }

    /// Whether earlier runs have read this version of an object.
    pub fn has_read(&self, uri: &Uri) -> bool {
        object_to_read(uri, 0, "").is_some_and(|object| self.objects.has_read(&object.name, &object.version))
    }

    /// Ends the file or object that is being read, and keeps its position; `is_read` if nothing of it is left. Returns
    /// the verdict about it.
    pub fn end(&mut self, emitter: &mut RecordEmitter, is_read: bool) -> Result<u8> {
        self.objects.end(emitter, is_read);
        self.files.end(emitter)
    }

    /// Notes how far an input is read.
    pub fn note(&mut self, number: u32, input: &mut dyn Input, emitter: &mut RecordEmitter) -> Result<()> {
        input.confirm(emitter)?;
        self.topics.note(number, &input.reached(emitter));
        match input.checkpoint_position()? {
            Some(InputPosition::Followed(position)) => {
                self.followed.note(number, position, self.files.explode.as_deref(), emitter);
            }
            Some(InputPosition::Spool { origin, position }) => self.spool = Some(SpoolPosition::new(origin, position)),
            Some(InputPosition::Opened(_)) | None => {}
        }
        Ok(())
    }

    /// Returns the part of a checkpoint.
    pub fn to_part(&mut self, emitter: &mut RecordEmitter) -> Result<Vec<u8>> {
        let frames = emitter.has_schema().then(|| {
            let schema = emitter.schema();
            let metadata = schema.metadata().iter().map(|(key, value)| (key.clone(), value.clone()));
            FrameSchema { raw: has_raw(&schema), metadata: metadata.collect() }
        });
        let (files, topics) = (self.files.save(emitter)?.to_vec(), self.topics.save().to_vec());
        let objects = self.objects.save(emitter).to_vec();
        let (followed, spool) = (self.followed.save().to_vec(), self.spool.clone());
        let saved = SavedPositions { files, followed, objects, topics, spool, frames };
        serde_json::to_vec(&saved).map_err(|error| Error::broken(format!("positions: {error}")))
    }
}

/// Returns the object that an input is, for its position.
fn object_to_read<'a>(uri: &Uri, input: u32, origin: &'a str) -> Option<ObjectToRead<'a>> {
    let Uri::Bucket(objects) = uri else { return None };
    let version = objects.found.as_ref()?.entry.version.clone().unwrap_or_default();
    Some(ObjectToRead { name: uri.to_string(), version, input, origin })
}

#[cfg(test)]
mod tests;
