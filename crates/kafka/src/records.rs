//! Passes the payloads of a topic to the emitter, by the topic's format: JSON, Avro, dead letters or frames.

use super::framing::{self, ReaderProgress};
use super::letter;
use super::position::{PartitionId, Position};
use super::range::{PartitionCursor, TruncatedPartition};
use super::source::{Message, RecordSink};
use crate::address::{Address, TopicFormat};
use evt_core::error::{Error, Result};
use evt_core::frame::{Control, Frame, Progress};
use evt_core::kind::dead::{ErrorType, Fault};
use evt_core::kind::{Kind, older};
use evt_core::mapping::{RecordMeta, Rest};
use evt_run::emit::{MessageText, RecordEmitter};
use evt_run::registry::place;
use evt_run::registry::wire::{self, WireDecoder};
use evt_run::run::Run;

/// The partitions being read, and the decoder of their payloads.
pub struct PartitionSet {
    /// The partitions.
    pub cursors: Vec<PartitionCursor>,
    /// The partitions whose leaders gave an end offset before the end of their range.
    pub short: Vec<TruncatedPartition>,
    /// Payload bytes read so far.
    pub bytes: u64,
    topics: Vec<String>,
    decoder: PayloadDecoder,
    /// The index of the cursor of the last message: most messages belong to the same partition as the one before.
    last: usize,
    /// Whether partitions stay live at the end of the reading, because a later run continues them.
    stays_live: bool,
}

impl PartitionSet {
    /// Makes a set without partitions; `stays_live`: a later run continues them. Errors: those of [`wire()`].
    pub fn new(address: &Address, stays_live: bool, run: &Run) -> Result<Self> {
        let decoder = PayloadDecoder::new(address, wire(address, run)?);
        let (cursors, short, topics) = (vec![], vec![], address.topics.clone());
        Ok(Self { cursors, short, bytes: 0, topics, decoder, last: 0, stays_live })
    }

    /// Removes and returns partitions.
    pub fn remove(&mut self, partitions: &[PartitionId]) -> Vec<PartitionCursor> {
        self.last = 0;
        self.cursors.extract_if(.., |cursor| partitions.contains(&cursor.id)).collect()
    }

    /// Returns the index of the cursor of a partition that is being read.
    #[inline]
    pub fn find(&mut self, id: PartitionId) -> Option<usize> {
        let is_it = |cursor: &PartitionCursor| cursor.id == id && cursor.is_read();
        if !self.cursors.get(self.last).is_some_and(is_it) {
            self.last = self.cursors.iter().position(is_it)?;
        }
        Some(self.last)
    }

    /// Returns the positions at which the reading of partitions continues.
    pub fn starts(&self) -> Vec<Position> {
        self.cursors.iter().filter(|cursor| cursor.is_read()).map(PartitionCursor::start).collect()
    }

    /// Announces a partition to the emitter, with its committed stream time. Does nothing for a topic of
    /// frames, which announce their own partitions.
    pub fn announce(&self, cursor: &mut PartitionCursor, origin: Option<&str>, emitter: &mut RecordEmitter) {
        let origin = origin.unwrap_or(&self.topics[cursor.id.topic]);
        let number = cursor.id.number.to_string();
        cursor.partition_index = match self.decoder.form {
            TopicFormat::Json | TopicFormat::Avro => emitter.stamp_mut().announce(origin, &number),
            TopicFormat::Frames => emitter.stamp_mut().silent(origin, &number),
        };
        emitter.stamp_mut().resume(cursor.partition_index, cursor.stream_time);
    }

    /// Takes a message of a partition; returns whether the partition ends with it.
    #[inline]
    pub fn take(&mut self, id: PartitionId, message: &Message<'_>, emitter: &mut RecordEmitter) -> Result<bool> {
        let Some(at) = self.find(id) else { return Ok(false) };
        let cursor = &mut self.cursors[at];
        if cursor.is_at_or_after_end(message.offset) {
            return self.end(at, emitter);
        }
        if message.offset < cursor.next {
            return Ok(false);
        }
        (cursor.next, cursor.last) = (message.offset + 1, message.arrival.map(|arrival| arrival.at));
        let done = cursor.is_done();
        match message.value {
            // A tombstone is neither an event nor a fault.
            None => emitter.tombstone(),
            Some(payload) => {
                self.bytes += payload.len() as u64;
                let id = cursor.id;
                let meta = RecordMeta {
                    input: &self.topics[id.topic],
                    partition: cursor.partition_index,
                    offset: message.offset,
                    key: message.key,
                    headers: Some(message.headers),
                    arrival: message.arrival,
                };
                match self.decoder.form {
                    TopicFormat::Json => self.decoder.json(payload, meta, emitter)?,
                    TopicFormat::Avro => self.decoder.avro(payload, id.topic, meta, emitter)?,
                    TopicFormat::Frames => match framing::frames(payload) {
                        Ok(frames) => frames.into_iter().try_for_each(|frame| {
                            let is_complete = |progress: &ReaderProgress| {
                                self.cursors.iter().all(|one| one.ended || progress.is_complete(one.id))
                            };
                            self.decoder.frame(frame, id, is_complete, emitter)
                        })?,
                        Err(error) => {
                            let fault = Fault::new(ErrorType::ParseError, format!("expected frames: {error}"));
                            emitter.message(payload, MessageText::Fault(&fault), meta)?;
                        }
                    },
                }
            }
        }
        if done { self.end(at, emitter) } else { Ok(false) }
    }

    /// Notes that the fetched records of a partition have been read, up to `next`; `high` is its present end offset.
    /// Returns whether the partition ends here.
    pub fn read_to(
        &mut self,
        id: PartitionId,
        next: Option<i64>,
        high: i64,
        emitter: &mut RecordEmitter,
    ) -> Result<bool> {
        let Some(at) = self.find(id) else { return Ok(false) };
        let cursor = &mut self.cursors[at];
        cursor.next = next.unwrap_or(cursor.next).max(cursor.next);
        cursor.extent.high = high;
        if cursor.is_done() {
            return self.end(at, emitter);
        }
        let is_short = cursor.next >= high && cursor.is_before_end(high);
        match self.short.iter_mut().find(|short| short.id == id) {
            Some(short) => short.is_short = is_short,
            None if is_short => self.short.push(TruncatedPartition::new(id)),
            None => {}
        }
        Ok(false)
    }

    /// Notes that librdkafka reports the end of a partition. Returns whether the partition ends here. The offsets
    /// before the end of the range may have no records, so a report counts if it comes again after the partition was
    /// read again from the same offset.
    pub fn read_to_end(&mut self, at: usize, emitter: &mut RecordEmitter) -> Result<bool> {
        let PartitionCursor { id, next, .. } = self.cursors[at];
        let known = self.short.iter().position(|short| short.id == id);
        if self.cursors[at].is_done() || known.is_some_and(|known| self.short[known].read_again == Some(next)) {
            return self.end(at, emitter);
        }
        match known {
            Some(known) => self.short[known].is_short = true,
            None => self.short.push(TruncatedPartition::new(id)),
        }
        Ok(false)
    }

    /// Ends a partition: it no longer takes part in the minimum that makes the watermark. Returns whether it had not
    /// ended.
    pub fn end(&mut self, at: usize, emitter: &mut RecordEmitter) -> Result<bool> {
        let cursor = &mut self.cursors[at];
        if std::mem::replace(&mut cursor.ended, true) {
            return Ok(false);
        }
        emitter.release(|held| held.judge(cursor.partition_index, Rest::Unknown))?;
        emitter.flush()?;
        let partition_index = cursor.partition_index;
        self.end_partition(partition_index, emitter);
        Ok(true)
    }

    /// Ends a partition of the partition table, unless a later run continues it.
    pub fn end_partition(&self, partition_index: u32, emitter: &mut RecordEmitter) {
        if !self.stays_live {
            emitter.stamp_mut().end_partition(partition_index);
        }
    }

    /// Returns all partitions that frames announced, as ended; `None` for topics of other formats, and if a later run
    /// continues them.
    pub fn ended(&self) -> Option<Progress> {
        let partitions =
            (self.decoder.form == TopicFormat::Frames && !self.stays_live).then(|| self.decoder.progress.ended())?;
        Some(Progress { partitions, complete: true, ..Progress::default() })
    }

    /// Returns the worst exit verdict of the writers whose streams of frames ended.
    pub fn verdict(&self) -> u8 {
        self.decoder.verdict
    }
}

/// Opens the decoder of topics in Avro; `None` for other topics. Errors: exit status 78 if a schema that is named does
/// not exist, 2 if `schema_id=` is set, which is for writing.
pub fn wire(address: &Address, run: &Run) -> Result<Option<WireDecoder>> {
    let Some(schemas) = &address.options.schemas else { return Ok(None) };
    if address.options.schema_id.is_some() {
        return Err(Error::usage(format!("{address}: schema_id= is an option of outputs; use reader=")));
    }
    let registry = place::server_only(schemas, &run.caller())?;
    Ok(Some(match &address.options.reader {
        Some(choice) => WireDecoder::reading(registry, choice, &address.topics)?,
        None => WireDecoder::new(registry),
    }))
}

/// The decoder of the payloads of one input.
struct PayloadDecoder {
    /// The address, for messages.
    name: String,
    form: TopicFormat,
    /// Decodes Avro.
    wire: Option<WireDecoder>,
    /// Whether the records are dead letters, decided by the first one.
    letters: Option<bool>,
    /// The progress of the writers' partitions that frames have reported.
    progress: ReaderProgress,
    /// The worst exit verdict of the writers whose streams ended.
    verdict: u8,
}

impl PayloadDecoder {
    fn new(address: &Address, wire: Option<WireDecoder>) -> Self {
        let form = address.options.form.unwrap_or_default();
        let progress = ReaderProgress::default();
        Self { name: address.to_string(), form, wire, letters: None, progress, verdict: 0 }
    }

    /// Takes a record: a dead letter, or the value of an event.
    fn json(&mut self, payload: &[u8], meta: RecordMeta<'_>, emitter: &mut RecordEmitter) -> Result<()> {
        let Some(headers) = meta.headers else { return emitter.message(payload, MessageText::Payload, meta) };
        let letters = *self.letters.get_or_insert_with(|| letter::is_letter(headers) && emitter.becomes(Kind::Dead));
        if !letters {
            // A dead letter read as its original record must hold all of that record.
            return match letter::whole_length(headers) {
                None => emitter.message(payload, MessageText::Payload, meta),
                Some(length) => emitter.message(payload, MessageText::Fault(&cut_short(payload.len(), length)), meta),
            };
        }
        if !letter::is_letter(headers) {
            let fault = Fault::new(ErrorType::EnvelopeError, "expected a dead letter, found no headers of a failure");
            return emitter.message(payload, MessageText::Fault(&fault), meta);
        }
        let json = letter::to_json(payload, meta.key, headers);
        emitter.message(payload, MessageText::Text(&json), meta)
    }

    fn avro(&mut self, payload: &[u8], topic: usize, meta: RecordMeta<'_>, emitter: &mut RecordEmitter) -> Result<()> {
        let Some(wire) = &mut self.wire else { return Err(Error::broken("a topic in Avro without its registry")) };
        let mut header = None;
        if let Some(headers) = meta.headers {
            headers.each(&mut |name, value| {
                if name == wire::HEADER {
                    header = Some(value.unwrap_or_default().to_vec());
                }
            });
        }
        match wire.text(payload, header.as_deref(), topic)? {
            Ok(text) => emitter.message(payload, MessageText::Text(text), meta),
            Err(fault) => emitter.message(payload, MessageText::Fault(&fault), meta),
        }
    }

    /// Takes a frame of a topic partition; `is_complete`: each topic partition has listed all partitions of its writer.
    fn frame(
        &mut self,
        frame: Frame,
        id: PartitionId,
        is_complete: impl Fn(&ReaderProgress) -> bool,
        emitter: &mut RecordEmitter,
    ) -> Result<()> {
        match frame {
            Frame::Schema(schema) => emitter.take_schema(older::widened_schema(&schema), &self.name),
            Frame::Batch(batch) => emitter.batch(batch, &self.name),
            Frame::Control(Control::Progress(progress)) => {
                let partitions = self.progress.apply(id, progress);
                let complete = is_complete(&self.progress);
                emitter.stamp_mut().control(Control::Progress(Progress {
                    partitions,
                    complete,
                    ..Progress::default()
                }));
                Ok(())
            }
            Frame::Control(Control::Watermark(instant)) => {
                if let Some(instant) = self.progress.watermark(id, instant) {
                    emitter.stamp_mut().control(Control::Watermark(instant));
                }
                Ok(())
            }
            Frame::Control(Control::Metrics(metrics)) => {
                let metrics = self.progress.metrics(id, metrics);
                Control::of_metrics(&metrics).for_each(|message| emitter.stamp_mut().control(message));
                Ok(())
            }
            Frame::Control(Control::End(end)) => {
                self.verdict = self.verdict.max(end.verdict);
                Ok(())
            }
            Frame::Control(Control::Barrier(_)) | Frame::Eos => Ok(()),
        }
    }
}

/// Makes the fault of a dead letter that holds only the beginning of its record.
#[cold]
fn cut_short(kept: usize, length: u64) -> Fault {
    let message = format!("the dead letter has only {kept} of the record's {length} bytes");
    Fault::new(ErrorType::TooLargeError, message).of_cut(length)
}

/// Passes the records of a poll to the emitter.
pub struct Sink<'a> {
    /// The partitions being read.
    pub partitions: &'a mut PartitionSet,
    /// The emitter.
    pub emitter: &'a mut RecordEmitter,
}

impl RecordSink for Sink<'_> {
    #[inline]
    fn record(&mut self, id: PartitionId, message: &Message<'_>) -> Result<bool> {
        self.partitions.take(id, message, self.emitter)
    }

    fn read_to(&mut self, id: PartitionId, next: Option<i64>, high: i64) -> Result<bool> {
        self.partitions.read_to(id, next, high, self.emitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::partition;
    use evt_core::kind::headers::Headers;
    use evt_run::clock::Clock;
    use evt_run::emit::Item;
    use evt_run::emit::RecordOptions;
    use std::rc::Rc;

    struct Pairs<'a>(&'a [(&'a str, &'a str)]);

    impl Headers for Pairs<'_> {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            self.0.iter().for_each(|(name, value)| show(name, Some(value.as_bytes())));
        }
    }

    /// The set of one partition, and the emitter that it feeds.
    struct Rig {
        set: PartitionSet,
        emitter: RecordEmitter,
    }

    impl Rig {
        fn new(uri: &str) -> Self {
            let run = Rc::new(Run::unwatched("evt-test", Clock::Fixed(0)));
            let mut set = PartitionSet::new(&Address::parse(uri, &Default::default()).unwrap(), false, &run).unwrap();
            let mut emitter = RecordEmitter::new(run, RecordOptions::default()).unwrap();
            let mut cursor = PartitionCursor::new(partition(0));
            set.announce(&mut cursor, None, &mut emitter);
            set.cursors.push(cursor);
            Self { set, emitter }
        }

        fn take(&mut self, offset: i64, value: &str, headers: &[(&str, &str)]) {
            let (value, headers) = (Some(value.as_bytes()), &Pairs(headers));
            let message = Message { offset, key: Some(b"k"), value, headers, arrival: None };
            assert!(!self.set.take(partition(0), &message, &mut self.emitter).unwrap());
        }

        /// Takes the number of rows and of dead letters.
        fn counts(&mut self) -> [u64; 2] {
            self.emitter.flush().unwrap();
            let counts = self.emitter.counts();
            [counts.out, counts.dead]
        }
    }

    const FAILED: (&str, &str) = ("evt.error_type", "ParseError");

    #[test]
    fn the_first_record_decides_whether_the_records_are_dead_letters() {
        let mut rig = Rig::new("//b:9092/t");
        let failure = [
            FAILED,
            ("evt.error_message", "no object"),
            ("evt.stage", "evt-ingest"),
            ("evt.source_topic", "t"),
            ("evt.partition", "0"),
            ("evt.offset", "3"),
            ("evt.failed_at", "2024-01-15T10:00:00Z"),
            ("evt.producer_host", "host"),
            ("evt.attempts", "1"),
        ];
        rig.take(0, "no JSON", &failure);
        rig.take(1, "no letter", &[]);
        assert_eq!(rig.counts(), [1, 1]);
        let kinds: Vec<_> = std::iter::from_fn(|| rig.emitter.pop())
            .filter_map(|sent| if let Item::Batch(batch) = sent.item { Kind::of(batch.schema_ref()) } else { None })
            .collect();
        assert_eq!(kinds, [Kind::Dead]);
    }

    #[test]
    fn a_dead_letter_that_was_cut_is_not_read_as_its_record() {
        let mut rig = Rig::new("//b:9092/t");
        let event = r#"{"event_id":"00000000-0000-4000-8000-000000000001","source":"s","event_type":"t","server_timestamp":"2024-01-15T10:00:00Z"}"#;
        rig.take(0, event, &[]);
        rig.take(1, event, &[FAILED]);
        rig.take(2, event, &[FAILED, ("evt.original_length", "70000")]);
        assert_eq!(rig.counts(), [2, 1]);
    }

    #[test]
    fn what_is_no_frame_is_a_dead_letter() {
        let mut rig = Rig::new("//b:9092/t?format=frames");
        rig.take(0, "no frame", &[]);
        assert_eq!(rig.counts(), [0, 1]);
        assert!(rig.set.ended().is_some_and(|progress| progress.complete && progress.partitions.is_empty()));
    }

    #[test]
    fn a_partition_is_found_until_it_ends_or_is_removed() {
        let mut rig = Rig::new("//b:9092/t");
        rig.set.cursors.extend([1, 2].map(|number| PartitionCursor::new(partition(number))));
        let found = |rig: &mut Rig| [0, 1, 2].map(|number| rig.set.find(partition(number)));
        assert_eq!(found(&mut rig), [Some(0), Some(1), Some(2)]);
        assert!(rig.set.end(0, &mut rig.emitter).unwrap() && !rig.set.end(0, &mut rig.emitter).unwrap());
        assert_eq!(found(&mut rig), [None, Some(1), Some(2)]);
        assert_eq!(rig.set.remove(&[partition(1)]).len(), 1);
        assert_eq!(found(&mut rig), [None, None, Some(1)]);
    }

    #[test]
    fn a_partition_is_at_its_end_where_the_last_offsets_hold_no_record() {
        // The range of the partition, what is read of it, and whether that ends it.
        for (end, reads, ends) in [
            (None, vec![(Some(5), 5)], false),
            (Some(8), vec![(None, 9)], false),
            (Some(8), vec![(Some(8), 9)], true),
            // A new leader may not know the end offset yet.
            (Some(12), vec![(Some(9), 9)], false),
            (Some(12), vec![(Some(9), 10), (Some(3), 9)], false),
            (Some(12), vec![(Some(9), 9), (Some(12), 12)], true),
        ] {
            let mut rig = Rig::new("//b:9092/t");
            rig.set.cursors[0].end = end;
            let mut read = |(next, high)| rig.set.read_to(partition(0), next, high, &mut rig.emitter).unwrap();
            assert_eq!(reads.iter().copied().map(&mut read).last(), Some(ends), "{end:?} {reads:?}");
            let highest = reads.iter().filter_map(|(next, _)| *next).max().unwrap_or(0);
            assert_eq!((rig.set.cursors[0].next, rig.set.cursors[0].ended), (highest, ends));
        }
    }
}
