//! The source of a stage: its inputs, one after another, as one stream of batches with a proven end.

use crate::counts::Counts;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::Filter;
use crate::format::{Input, Limits, Records, Rows};
use crate::frame::{Control, End, How, Progress, WATERMARK_KEY};
use crate::ingest::{ByteProgress, Ingest, Item, Sent, Spot};
use crate::input::Step;
use crate::input::bytes::Bytes;
use crate::input::follow::watch::Watch;
use crate::input::follow::{Follow, Reading};
use crate::input::text::TextInput;
use crate::kafka::input::KafkaInput;
use crate::kafka::range::Role;
use crate::kind::Kind;
use crate::kind::shadow::Shadows;
use crate::mapping;
use crate::run::Run;
use crate::uri::Uri;
use crate::uri::kafka::Form;
use arrow::datatypes::{Schema, SchemaRef};
use door::Door;
use framed::FramedInput;
use named::{Carried, Named};
pub use options::SourceOptions;
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use topic::Topics;

mod detect;
pub mod door;
mod framed;
mod named;
mod options;
pub mod origin;
mod sort;
mod topic;
mod turn;

/// How many bytes of input lie between two progress messages at most.
const PROGRESS_BYTES: u64 = 16 << 20;
/// How many progress messages an input of known size gets at least.
const PROGRESS_STEPS: u64 = 64;
enum Current {
    Text(Box<TextInput>),
    Followed(Box<Follow>),
    Rows { rows: Box<dyn Iterator<Item = Result<Rows>>>, name: String, partition: u32 },
    Frames(Box<FramedInput>),
    Topics(Box<KafkaInput>),
    Door(Box<Door>),
}

/// All inputs of a stage.
pub struct Source {
    run: Rc<Run>,
    options: SourceOptions,
    /// Inputs that were not opened yet, with their numbers.
    pending: VecDeque<(u32, Uri)>,
    /// The number of the input that is read.
    input: u32,
    /// The number of the input that the last item came from.
    given: u32,
    /// Which input named each partition.
    named: Named,
    /// The partitions in the rows of the input that is read, where only rows name them.
    carried: Carried,
    /// Topics: all are asked at the start what partitions they have.
    topics: Topics,
    /// The front door, where reading it has ended.
    door: Option<Box<Door>>,
    /// Names that are followed.
    watches: Vec<(PathBuf, Watch)>,
    /// Inputs that are read in turn with the current one, with their numbers.
    turns: VecDeque<(u32, Current)>,
    /// How many inputs in turn had nothing.
    idle: usize,
    /// Files to be followed that were not there when their turn came.
    awaited: BTreeSet<String>,
    current: Option<Current>,
    ingest: Ingest,
    /// Names in expressions that are a column's and may be a property's too.
    shadows: Shadows,
    /// What was read ahead.
    ahead: VecDeque<Sent>,
    queue: VecDeque<Sent>,
    /// Where the input broke: told when what came before it is out.
    failure: Option<Error>,
    /// The schema that frames or a container brought; else it is the ingest's.
    schema: Option<SchemaRef>,
    framed: Counts,
    /// Whether a line has said that raw records are left out.
    left_raw: bool,
    verdict: u8,
    how: How,
    proven: bool,
    read: ByteProgress,
    done: bool,
}

impl Source {
    /// Opens the first input and learns what the rows are.
    pub fn open(inputs: &[Uri], mut options: SourceOptions, run: Rc<Run>) -> Result<Self> {
        let mut mapping = options.mapping.clone();
        let is_raw = |uri: &Uri| matches!(uri, Uri::Kafka(address) if address.options.form != Some(Form::Frames));
        if matches!(options.role, Role::Works | Role::Recomputes) && inputs.iter().any(is_raw) {
            // A topic is raw input, stamped anew: what its partitions interleave was in order elsewhere.
            mapping.provenance = mapping::Provenance::Overwrite;
        }
        // evt-ingest makes events, whatever the records look like.
        let kind = options.kind.or(options.raw_only.then_some(Kind::Event));
        let shadows = Shadows::new(options.filter.as_ref().map_or(0, Filter::columns));
        let ingest = Ingest::new(run.clone(), mapping, options.filter.take(), (options.control, kind))?;
        let mut source = Self {
            run,
            options,
            pending: (0..).zip(inputs.iter().cloned()).collect(),
            input: 0,
            given: 0,
            named: Named::default(),
            carried: Carried::default(),
            topics: Topics::default(),
            door: None,
            watches: vec![],
            turns: VecDeque::new(),
            idle: 0,
            awaited: BTreeSet::new(),
            current: None,
            schema: None,
            shadows,
            ingest,
            ahead: VecDeque::new(),
            queue: VecDeque::new(),
            failure: None,
            framed: Counts::default(),
            left_raw: false,
            verdict: 0,
            how: How::Exhausted,
            proven: true,
            read: ByteProgress::default(),
            done: false,
        };
        source.check_origins(inputs)?;
        source.announce(inputs)?;
        source.watch_names()?;
        // Named inputs are there; the first of them may have nothing to say for hours. A front door is when it is open.
        if !inputs.iter().any(|input| matches!(input, Uri::Http(_))) {
            source.run.service.ready();
        }
        source.advance()?;
        Ok(source)
    }

    /// Every file of the command line is a partition, known from the start; mapped ones are if the user names them.
    fn announce(&mut self, inputs: &[Uri]) -> Result<()> {
        for (number, input) in (0..).zip(inputs) {
            self.ingest.stamper.set_input(number);
            match input {
                Uri::Kafka(address) => {
                    self.open_topics(address)?;
                    continue;
                }
                // Its one partition is announced when it is opened.
                Uri::Http(_) => continue,
                _ => {}
            }
            let origin = self.origin(input);
            match &self.options.partitions {
                Some(names) => names.iter().for_each(|name| {
                    self.ingest.stamper.partition(&origin, name);
                }),
                None if !self.is_mapped() => {
                    self.ingest.stamper.partition(&origin, "0");
                }
                None => {}
            }
        }
        Ok(())
    }

    fn is_mapped(&self) -> bool {
        let names = self.options.mapping.fields.iter().chain(&self.options.mapping.sets);
        names.into_iter().any(|(column, _)| column == "partition" || column == "origin")
    }

    /// Whether every partition there will be is known, as far as raw inputs can tell: frames of a topic tell of theirs
    /// when they are read.
    fn is_complete(&self) -> bool {
        (!self.is_mapped() || self.options.partitions.is_some()) && !self.topics.is_framed_waiting()
    }

    fn origin(&self, input: &Uri) -> String {
        self.options.origin.clone().unwrap_or_else(|| input.origin())
    }

    /// The schema of the batches; right once it has been learned.
    pub fn schema(&self) -> SchemaRef {
        let schema = self.schema.clone().unwrap_or_else(|| self.ingest.schema());
        if !self.options.control {
            return schema;
        }
        let mut metadata = schema.metadata().clone();
        metadata.insert(WATERMARK_KEY.to_owned(), "explicit".to_owned());
        Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
    }

    /// The kind of the rows; right once the schema has been learned.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.schema()).unwrap_or(Kind::Event)
    }

    /// Whether watermarks come from control lines or frames alone.
    pub fn is_explicit(&self) -> bool {
        self.schema().metadata().contains_key(WATERMARK_KEY)
    }

    /// Whether every input came with the proof of its end.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// What came in, and what was lost on the way into batches.
    pub fn counts(&self) -> Counts {
        let raw = self.ingest.counts();
        Counts { taken: raw.taken + self.framed.taken, out: raw.out + self.framed.out, ..raw }
    }

    /// The defaults the mapping used.
    pub fn defaults(&self) -> mapping::Defaults {
        self.ingest.defaults()
    }

    /// Names in the rule of the source that had no value in any row.
    pub fn always_null(&self) -> Vec<String> {
        self.ingest.always_null()
    }

    /// How far the current input is.
    pub fn extent(&self) -> ByteProgress {
        match &self.current {
            Some(Current::Text(text)) => text.bytes().extent(),
            Some(Current::Followed(follow)) => follow.bytes().extent(),
            Some(Current::Frames(framed)) => framed.input.bytes().extent(),
            Some(Current::Topics(input)) => input.extent(),
            Some(Current::Door(door)) => door.extent(),
            _ => self.read,
        }
    }

    /// Whether the schema is right: frames and containers say it, else the first rows do.
    pub fn has_schema(&self) -> bool {
        self.schema.is_some()
    }

    /// Takes back items that were read ahead, each with the number of its input.
    pub fn put_back(&mut self, mut items: VecDeque<Sent>) {
        items.append(&mut self.ahead);
        self.ahead = items;
    }

    /// The next batch or control message, or a sign of life where nothing comes; the end comes last.
    pub fn next_item(&mut self) -> Result<Item> {
        loop {
            let ready = self.ahead.pop_front().or_else(|| self.queue.pop_front());
            let met = match &ready {
                Some(Sent { item: Item::Batch(batch), .. }) => self.shadows.met(batch),
                Some(_) => 0,
                None if self.ingest.is_ready() => self.ingest.shadowed(),
                None => 0,
            };
            self.warn_of_shadows(met);
            if let Some(Sent { input, item }) = ready.or_else(|| self.ingest.pop()) {
                match &item {
                    Item::Control(Control::Progress(progress)) => self.named.learn(&progress.partitions),
                    // One input promises nothing for those that come after it, or in turn with it.
                    Item::Control(Control::Watermark(_)) if !self.is_last() => continue,
                    _ => {}
                }
                self.given = input;
                return Ok(item);
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.done && self.current.is_none() {
                return Ok(Item::End(self.end()));
            }
            self.ingest.set_rows_before(self.framed.out);
            if let Err(error) = self.step() {
                let salvages = self.options.salvage && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io);
                if salvages {
                    self.ingest.drain()?;
                }
                self.ingest.end(salvages)?;
                self.failure = Some(error);
            }
        }
    }

    /// Says which columns expressions name: a property that has the name of one is worth a warning.
    pub fn set_named(&mut self, columns: u32) {
        self.shadows = Shadows::new(columns);
    }

    fn warn_of_shadows(&mut self, met: u32) {
        self.shadows.warnings(met).for_each(|warning| self.run.console.say(warning));
    }

    fn step(&mut self) -> Result<()> {
        match self.current.take() {
            Some(Current::Text(text)) => self.step_text(text)?,
            Some(Current::Followed(follow)) => self.step_followed(follow)?,
            Some(Current::Rows { rows, name, partition }) => self.step_rows(rows, name, partition)?,
            Some(Current::Frames(framed)) => self.step_frames(framed)?,
            Some(Current::Topics(input)) => self.step_topics(input)?,
            Some(Current::Door(door)) => self.step_door(door)?,
            None => self.advance()?,
        }
        if self.is_live() { self.ingest.flush_due() } else { Ok(()) }
    }

    /// Whether the next rows of the input may be a while in coming. A file that is read to its end has them all: its batches,
    /// and with them the panes of its windows, do not depend on how busy the machine is.
    fn is_live(&self) -> bool {
        match &self.current {
            Some(Current::Text(text)) => text.bytes().extent().total.is_none(),
            Some(Current::Rows { .. }) => false,
            _ => true,
        }
    }

    fn end(&self) -> End {
        End { how: self.how, rows: 0, verdict: self.verdict }
    }

    fn step_text(&mut self, mut text: Box<TextInput>) -> Result<()> {
        match text.step(&mut self.ingest)? {
            Step::More => {
                self.tell(text.bytes().extent());
                self.current = Some(Current::Text(text));
            }
            Step::Idle => {
                self.ingest.rest()?;
                self.send(Item::Idle);
                self.take_turns(Current::Text(text))?;
            }
            Step::End => {
                self.read = text.bytes().extent();
                self.finish_raw(false)?;
            }
            Step::Stopped => self.stop()?,
        }
        Ok(())
    }

    /// Tells of partitions that are new, and now and then how far the input is.
    fn tell(&mut self, extent: ByteProgress) {
        if self.ingest.counts().taken == 0 {
            // What the rows are is not known before the first record.
            return;
        }
        let step = extent.total.map_or(PROGRESS_BYTES, |total| PROGRESS_BYTES.min(total / PROGRESS_STEPS).max(1));
        let far = extent.done.saturating_sub(self.read.done) >= step;
        if far || extent.done < self.read.done || self.ingest.has_news() {
            self.read = extent;
            self.ingest.progress(self.is_complete(), extent);
        }
    }

    fn step_rows(
        &mut self,
        mut rows: Box<dyn Iterator<Item = Result<Rows>>>,
        name: String,
        partition: u32,
    ) -> Result<()> {
        if self.run.stop.signal().is_some() {
            return self.stop();
        }
        match rows.next() {
            None => return self.finish_raw(true),
            Some(next) => match next.map_err(|error| error.at(name.clone()))? {
                Rows::Text(records) => self.take_text(&records, &name, partition)?,
                Rows::Batch(batch) => {
                    self.carried.learn(&batch);
                    self.push_batch(batch, &name)?;
                }
            },
        }
        self.current = Some(Current::Rows { rows, name, partition });
        Ok(())
    }

    fn take_text(&mut self, records: &Records, name: &str, partition: u32) -> Result<()> {
        self.ingest.records(records, (&[], Some("")), Spot { name, partition, wrapper: None })
    }

    fn send(&mut self, item: Item) {
        self.queue.push_back(Sent { input: self.input, item });
    }

    /// Whether nothing comes any more but from the input that is read.
    fn is_last(&self) -> bool {
        self.pending.is_empty() && self.turns.is_empty()
    }

    /// The number of the input argument that the last item came from.
    pub fn given(&self) -> u32 {
        self.given
    }

    /// Whether some partition was named by two inputs: in one stream of all of them its stream time goes back.
    pub fn repeats_partitions(&self) -> bool {
        self.named.is_repeated()
    }

    /// A raw input is at its end: its partitions have ended. Only a container proves that it is whole.
    fn finish_raw(&mut self, proven: bool) -> Result<()> {
        self.proven &= proven;
        self.ingest.drain()?;
        self.ingest.flush()?;
        self.ingest.stamper.end(self.input);
        let partitions = self.carried.ended(self.input);
        if !partitions.is_empty() {
            self.send(Item::Control(Control::Progress(Progress { partitions, ..Progress::default() })));
        }
        let complete = self.is_complete() || self.is_last();
        self.ingest.progress(complete, self.read);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.ingest.drain()?;
        self.ingest.flush()?;
        self.end_stopped();
        Ok(())
    }

    fn end_stopped(&mut self) {
        self.how = How::Stopped;
        self.pending.clear();
        self.turns.clear();
        self.done = true;
    }

    /// Opens the next input.
    fn advance(&mut self) -> Result<()> {
        let Some((input, uri)) = self.pending.pop_front() else {
            self.next_turn();
            self.done = self.current.is_none();
            return Ok(());
        };
        self.turn_to(input);
        match &uri {
            Uri::Store(store, location) => return self.open_store(store, location, &uri),
            Uri::Kafka(_) => return self.begin_topics(),
            Uri::Http(_) => return self.listen(&uri),
            _ => {}
        }
        let heed = self.options.raw_only || !matches!(uri, Uri::Standard);
        self.run.stop.set_behind_pipe(!heed);
        let (mut bytes, named) = match self.watch(&uri) {
            None => (Bytes::open(&uri, self.run.clone(), heed)?, None),
            Some(watch) => match self.first_file(watch, &uri)? {
                None => return self.wait_for(uri),
                Some(turn::First { watch, id, bytes }) => (bytes, Some((watch, id))),
            },
        };
        let origin = self.origin(&uri);
        let format = self.detect(&mut bytes)?;
        if heed && bytes.extent().done == 0 && self.run.stop.signal().is_some() {
            // Nothing has come, perhaps not even a writer.
            self.end_stopped();
            return Ok(());
        }
        if let Some((watch, _)) =
            named.as_ref().filter(|_| !matches!(format.input, Input::Text(_)) || !bytes.is_regular())
        {
            watch.end();
        }
        match format.input {
            Input::None => Err(Error::usage(format!("-f {}: evt writes it but does not read it", format.name))),
            Input::Frames => self.open_frames(bytes, &origin),
            Input::Container(open) => {
                let opened = open(bytes.whole_file()?, self.limits()).map_err(|error| error.at(bytes.name()))?;
                self.become_rows(opened.schema, opened.is_text)?;
                let partition = self.partition(&origin);
                self.current = Some(Current::Rows { rows: opened.rows, name: bytes.name().to_owned(), partition });
                Ok(())
            }
            Input::Text(splitter) => {
                bytes.set_heed(true);
                self.run.stop.set_behind_pipe(false);
                self.ingest.set_splitter(splitter);
                let reading = Reading { splitter, json: format.name == "jsonl", partition: self.partition(&origin) };
                self.current = Some(turn::begin(bytes, named, reading));
                Ok(())
            }
        }
    }

    fn limits(&self) -> Limits {
        Limits { ratio: self.run.ratio_max, text: self.ingest.line_max() }
    }

    /// What comes next is of this input.
    fn turn_to(&mut self, input: u32) {
        self.input = input;
        self.ingest.stamper.set_input(input);
    }

    /// The partition of an input's records that name none of their own.
    fn partition(&mut self, origin: &str) -> u32 {
        let mapped = self.is_mapped();
        let stamper = &mut self.ingest.stamper;
        if mapped { stamper.unnamed(origin) } else { stamper.partition(origin, "0") }
    }

    fn open_store(
        &mut self,
        store: &'static crate::store::Store,
        location: &crate::store::Location,
        uri: &Uri,
    ) -> Result<()> {
        let (kind, rows) = store.rows(location)?;
        self.become_rows(Some(kind.schema()), false)?;
        let rows = Box::new(rows.map(|batch| batch.map(Rows::Batch)));
        let partition = self.partition(&uri.origin());
        self.current = Some(Current::Rows { rows, name: uri.to_string(), partition });
        Ok(())
    }
}
