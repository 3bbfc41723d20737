//! What all inputs of a run share: records come in, batches, dead letters and control messages go out, through one queue.
//!
//! ```text
//! text, messages, requests ─► records ─► mapper ─► rows ──────┐
//!                                 └────► letters ─────────────┼─► queue ─► Source
//! frames, containers, stores ─► batches (rows with stamps) ───┤
//!                           control messages, progress ───────┘
//! ```

mod batches;
mod control_line;
mod fault;
mod item;
mod letters;
mod outbox;
mod wrapper;

use crate::counts::Counts;
use crate::error::Result;
use crate::expr::Filter;
use crate::format::jsonl::{not_utf8, one_line};
use crate::format::{Body, Records, row};
use crate::frame::Control;
use crate::json::scan::is_json;
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault, Letter};
use crate::kind::event::{COLUMNS, RAW, RAW_BASE64, STAMPS, column, has_raw};
use crate::mapping::{
    self, BATCH_BYTES, BATCH_ROWS, Held, Judged, KeepRaw, Mapped, Mapper, RecordPosition, Stamper, TimeFrom,
};
use crate::op::row_letter::with_letter;
use crate::run::Run;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use batches::Batches;
use control_line::ControlLine;
use fault::{no_time, too_large};
use letters::Letters;
use outbox::Outbox;
use std::rc::Rc;
use std::time::Duration;

pub use item::{ByteProgress, Item, Sent};
pub use letters::Dead;
pub use outbox::Rest;
pub use wrapper::{Spot, Wrapper};

/// Bytes of the columns beside the longest one of a row, about.
const COLUMNS_BYTES: usize = 8 << 10;

/// Maps records onto events, for one input after another.
pub struct Ingest {
    run: Rc<Run>,
    mapper: Mapper,
    /// Partitions and stream time.
    pub stamper: Stamper,
    filter: Option<Filter>,
    keep_raw: KeepRaw,
    /// Whether rows bring their raw records; none until the first input tells.
    brings_raw: Option<bool>,
    control: bool,
    /// Whether a flag maps the partition or the origin of a record.
    is_mapped: bool,
    outbox: Outbox,
    /// The input of the rows that wait in a batch: a batch is of one input.
    input: u32,
    batches: Batches,
    counts: Counts,
    letters: Letters,
    now: i64,
    /// What the records are; none until the first one tells.
    kind: Option<Kind>,
    /// Builds rows of the other kinds.
    rows: Option<row::Builder>,
    /// Where the event time is looked for.
    time: String,
    told_held: bool,
    /// Since when rows wait in a batch that is not full.
    since: Option<Duration>,
}

impl Ingest {
    /// An ingest by these mapping options; rows `filter` refuses are left out. The first record's names tell the kind
    /// where none is given.
    pub fn new(
        run: Rc<Run>,
        mut options: mapping::Options,
        filter: Option<Filter>,
        (control, kind): (bool, Option<Kind>),
    ) -> Result<Self> {
        let keep_raw = options.keep_raw;
        // A row that a rule turns into a dead letter has to show its record.
        if filter.is_some() && keep_raw == KeepRaw::No {
            options.keep_raw = KeepRaw::Within;
        }
        let mut stamper = Stamper::default();
        if control {
            stamper.set_explicit();
        }
        let now = run.clock.now();
        let mut names = options.fields.iter().chain(&options.sets).map(|(column, _)| column);
        let is_mapped = names.any(|column| column == "partition" || column == "origin");
        let time = match &options.time {
            TimeFrom::Field(name) => name.clone(),
            _ => COLUMNS[column::SERVER_TIMESTAMP].to_owned(),
        };
        let mapper = Mapper::new(options)?;
        let letters = Letters::new(run.console.tool());
        Ok(Self {
            run,
            mapper,
            stamper,
            filter,
            keep_raw,
            brings_raw: None,
            control,
            is_mapped,
            outbox: Outbox::new(),
            input: 0,
            batches: Batches::default(),
            counts: Counts::default(),
            letters,
            now,
            kind,
            rows: None,
            time,
            told_held: false,
            since: None,
        })
    }

    /// The schema of the batches; right once a record has been seen or an input has brought a schema.
    pub fn schema(&self) -> SchemaRef {
        match (&self.batches.schema, self.kind) {
            (Some(schema), _) => schema.clone(),
            (None, None | Some(Kind::Event)) => crate::mapping::schema(self.keep_raw),
            (None, Some(kind)) => kind.schema_with(self.brings_raw == Some(true)),
        }
    }

    /// Whether an input has brought a schema.
    pub fn has_schema(&self) -> bool {
        self.batches.schema.is_some()
    }

    /// Takes the schema of an input whose rows have stamps. Errors: exit status 65 or 2 if it does not fit.
    pub fn take_schema(&mut self, schema: SchemaRef, name: &str) -> Result<()> {
        self.batches.take_schema(schema.clone(), name)?;
        self.decide_raw(has_raw(&schema));
        Ok(())
    }

    /// Decides that the rows are events as the mapping makes them, before the first record has come.
    pub fn decide_schema(&mut self) {
        self.batches.schema = Some(self.schema());
    }

    /// Takes rows that have stamps. Errors: exit status 65 if a time lies outside of the calendar.
    pub fn batch(&mut self, batch: RecordBatch, name: &str) -> Result<()> {
        let of_event = matches!(Kind::of(batch.schema_ref()), Some(Kind::Event | Kind::Late));
        let has_raw = of_event && self.decide_raw(has_raw(batch.schema_ref()));
        let batch = self.batches.take(batch, has_raw, name, &self.run.console)?;
        self.letters.set_rows_before(self.batches.counts.out);
        self.outbox.send_of_current(Item::Batch(batch));
        Ok(())
    }

    /// Whether rows bring their raw records: the first call decides for all inputs of the run, because they have one schema.
    pub fn decide_raw(&mut self, brings: bool) -> bool {
        if let Some(decided) = self.brings_raw {
            return decided;
        }
        if brings {
            self.keep_raw = KeepRaw::Brought;
            self.mapper.bring_raw();
        }
        *self.brings_raw.insert(brings)
    }

    /// Records and rows so far, with the fates they met here.
    pub fn counts(&self) -> Counts {
        let Batches { counts, .. } = &self.batches;
        Counts { taken: self.counts.taken + counts.taken, out: self.counts.out + counts.out, ..self.counts }
    }

    /// `--max-record`.
    pub fn record_max(&self) -> usize {
        self.run.record_max
    }

    /// How long a line may be. One of ours may hold a record with its quotes escaped (a dead letter, an event with its raw
    /// record), and its columns, properties among them: what is written of the longest one must be read again.
    pub fn line_max(&self) -> usize {
        self.run.record_max.saturating_mul(3).saturating_add(COLUMNS_BYTES)
    }

    /// Which defaults have been used so far.
    pub fn defaults(&self) -> mapping::Defaults {
        self.mapper.defaults()
    }

    /// Bits of the columns of whose name some record has had a property.
    pub fn shadowed(&self) -> u32 {
        self.mapper.shadowed()
    }

    /// Whether rows or letters wait in a batch that is not full.
    pub fn has_rows(&self) -> bool {
        !self.letters.is_empty() || self.mapper.rows() > 0 || self.rows.as_ref().is_some_and(|rows| !rows.is_empty())
    }

    /// Hands out rows that have waited for long enough, however steadily others come.
    pub fn flush_due(&mut self) -> Result<()> {
        let waited = self.waited(self.run.clock.monotonic());
        if waited.is_some_and(|waited| waited >= Run::LINGER) { self.flush() } else { Ok(()) }
    }

    /// Returns how long rows have waited in a batch that is not full, if there are any.
    pub fn waited(&mut self, now: Duration) -> Option<Duration> {
        self.has_rows().then(|| now.saturating_sub(*self.since.get_or_insert(now)))
    }

    /// Queues a sign that nothing comes for now, or that the items before it may be committed.
    pub fn idle(&mut self) {
        self.outbox.send(self.input, Item::Idle);
    }

    /// Names in the rule that had no value in any row.
    pub fn always_null(&self) -> Vec<String> {
        self.filter.as_ref().map_or(vec![], Filter::always_null)
    }

    /// Whether something is ready.
    pub fn is_ready(&self) -> bool {
        self.outbox.is_ready()
    }

    /// Whether letters wait to be handed out.
    pub fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// The next thing that is ready.
    pub fn pop(&mut self) -> Option<Sent> {
        self.outbox.pop()
    }

    /// Records that come now stand in `block`, and rows may hold on to it.
    pub fn lend(&mut self, block: Option<Buffer>) {
        self.mapper.lend(block);
    }

    /// Maps `records`, found in `input`; `whole` is the same as text if all of it is UTF-8.
    pub fn records(&mut self, records: &Records, (input, whole): (&[u8], Option<&str>), spot: Spot<'_>) -> Result<()> {
        self.now = self.run.clock.now();
        for record in &records.rows {
            let raw = &input[record.raw.clone()];
            let text = match &record.body {
                Body::Raw => match whole {
                    Some(whole) => Ok(&whole[record.raw.clone()]),
                    None => std::str::from_utf8(raw).map_err(|error| not_utf8(&error)),
                },
                Body::Text(range) => Ok(&records.text[range.clone()]),
                Body::Cut(range) => {
                    let start = &records.text.as_bytes()[range.clone()][..self.run.record_max];
                    let fault = too_large(&format!("more than {}", self.line_max()), self.run.record_max)
                        .of_cut(range.len() as u64);
                    self.refuse((start, record.line as i64), &fault, spot)?;
                    continue;
                }
                Body::Fault(fault) => Err(fault.clone()),
            };
            // A container's record has no bytes of its own: its JSON text is what a dead letter shows.
            let raw = text.as_ref().map_or(raw, |text| if record.raw.is_empty() { text.as_bytes() } else { raw });
            self.record(record.line as i64, (raw, text), spot)?;
        }
        Ok(())
    }

    /// One record: its bytes, and its JSON text or why there is none.
    #[inline]
    fn record(&mut self, offset: i64, (raw, text): (&[u8], Result<&str, Fault>), spot: Spot<'_>) -> Result<()> {
        if self.control && self.control_line(text.as_deref().unwrap_or(""), spot, offset)? {
            return Ok(());
        }
        self.counts.taken += 1;
        let text = match text {
            Err(fault) => return self.letter(raw, &fault, (spot.partition, offset), spot.wrapper),
            Ok(text) if raw.len() > self.run.record_max && !self.may_be_longer(text) => {
                let fault = too_large(&raw.len().to_string(), self.run.record_max).of_cut(raw.len() as u64);
                return self.letter(&raw[..self.run.record_max], &fault, (spot.partition, offset), spot.wrapper);
            }
            Ok(text) => text,
        };
        let arrival = spot.wrapper.and_then(|wrapper| wrapper.arrival);
        let place = RecordPosition { raw, offset, partition: spot.partition, now: self.now, judged: false, arrival };
        self.map(text, place, spot)
    }

    /// Whether the records are rows of ours that hold a record beside their columns.
    #[cold]
    fn may_be_longer(&mut self, text: &str) -> bool {
        if self.is_unknown() {
            self.learn(text);
        }
        self.rows.is_some() || self.brings_raw == Some(true)
    }

    /// A record of another kind than event.
    fn row(&mut self, text: &str, place: RecordPosition<'_>, spot: Spot<'_>) -> Result<()> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        match rows.push(text) {
            Err(fault) => self.letter(place.raw, &fault, (place.partition, place.offset), spot.wrapper),
            Ok(()) if rows.len() >= BATCH_ROWS || rows.bytes() >= BATCH_BYTES => self.flush(),
            Ok(()) => Ok(()),
        }
    }

    /// Whether no record has told yet what columns there are; those of events are known.
    fn is_unknown(&self) -> bool {
        self.kind.is_none_or(|kind| kind != Kind::Event && self.rows.is_none())
    }

    /// Learns from the first record that is one what the records are, unless their kind was given.
    fn learn(&mut self, text: &str) {
        if !text.trim_start().starts_with('{') || !is_json(text) {
            return;
        }
        let names = row::names_of(text);
        let names: Vec<&str> = names.iter().map(|name| name.as_ref()).collect();
        let kind = self.kind.unwrap_or_else(|| row::kind_of(&names));
        self.kind = Some(kind);
        let carries = kind == Kind::Late || self.mapper.keeps_stamps() && STAMPS.iter().all(|one| names.contains(one));
        let has_raw = self.decide_raw(carries && [RAW, RAW_BASE64].iter().any(|one| names.contains(one)));
        if kind != Kind::Event {
            self.rows = Some(row::Builder::with_schema(kind.schema_with(has_raw)));
        }
    }

    fn map(&mut self, text: &str, place: RecordPosition<'_>, spot: Spot<'_>) -> Result<()> {
        if self.is_unknown() {
            self.learn(text);
        }
        if self.rows.is_some() {
            return self.row(text, place, spot);
        }
        let input = self.stamper.input_of(place.partition);
        if input != self.input {
            self.flush()?;
            self.input = input;
        }
        match self.mapper.record(text, place, &mut self.stamper)? {
            Mapped::Row => {
                self.mapper.wrap(spot.wrapper.map(|wrapper| wrapper.headers))?;
                if self.mapper.is_full() {
                    self.flush()?;
                }
                Ok(())
            }
            Mapped::Dead(fault) => self.letter(place.raw, &fault, (place.partition, place.offset), spot.wrapper),
            Mapped::NoTime => Err(no_time(text, &self.time, spot.name, place.offset)),
            Mapped::Held(judged) => self.hold(text, place, (spot, judged)),
        }
    }

    fn hold(&mut self, text: &str, place: RecordPosition<'_>, (spot, judged): (Spot<'_>, Judged)) -> Result<()> {
        let raw = (place.raw != text.as_bytes()).then(|| place.raw.to_vec());
        let (offset, input, now) = (place.offset, place.partition, place.now);
        let wrapping = spot.wrapper.map(|wrapper| wrapper.keep());
        let held = Held { text: text.to_owned(), raw, offset, input, now, judged, wrapping };
        match self.mapper.lookahead().and_then(|lookahead| lookahead.push(held)) {
            Some(released) => self.release(released),
            None => Ok(()),
        }
    }

    fn release(&mut self, (held, verdict): (Held, Result<(), Fault>)) -> Result<()> {
        let kept = held.wrapping.as_deref();
        let wrapper = kept.map(|kept| Wrapper { key: kept.key.as_deref(), headers: kept, arrival: kept.arrival });
        if let Err(fault) = verdict {
            return self.letter(held.raw(), &fault, (held.judged.partition, held.offset), wrapper);
        }
        let (offset, partition, now) = (held.offset, held.input, held.now);
        let arrival = kept.and_then(|kept| kept.arrival);
        let place = RecordPosition { raw: held.raw(), offset, partition, now, judged: true, arrival };
        self.map(&held.text, place, Spot { name: "", partition, wrapper })
    }

    /// Gives the records that wait for more rows of their partition their verdict: none will come.
    pub fn drain(&mut self) -> Result<()> {
        for partition in self.mapper.lookahead().map(|lookahead| lookahead.waiting()).unwrap_or_default() {
            self.drain_one(partition)?;
        }
        Ok(())
    }

    /// The same for the records of one partition.
    pub fn drain_one(&mut self, partition: u32) -> Result<()> {
        while let Some(released) = self.mapper.lookahead().and_then(|lookahead| lookahead.pop(partition)) {
            self.release(released)?;
        }
        Ok(())
    }

    /// Nothing comes for now: hands out the rows there are, and says once that others wait for a verdict, because they
    /// may wait for long.
    pub fn rest(&mut self) -> Result<()> {
        self.flush()?;
        let held = self.mapper.lookahead().map_or(0, |lookahead| lookahead.held());
        if held > 0 && !std::mem::replace(&mut self.told_held, true) {
            self.run.console.say(format!(
                "{held} records without an arrival time are held until their partition has {} records (--max-future \
                 compares them with the median)",
                mapping::LOOKAHEAD
            ));
        }
        Ok(())
    }

    /// Forgets the records of a partition that wait for their verdict: whoever reads it next reads them again.
    pub fn forget(&mut self, partition: u32) {
        let forgotten = self.mapper.lookahead().map_or(0, |lookahead| lookahead.forget(partition));
        self.counts.taken -= forgotten as u64;
    }

    /// The offset of the first record of a partition that waits for its verdict.
    pub fn first_held(&mut self, partition: u32) -> Option<i64> {
        self.mapper.lookahead()?.first(partition).map(|held| held.offset)
    }

    /// Maps one record of a topic: `payload` is one JSON object, `offset` its number in its partition.
    pub fn message(&mut self, payload: &[u8], offset: i64, spot: Spot<'_>) -> Result<()> {
        let text = one_line(payload);
        let text = text.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
        self.record(offset, (payload, text), spot)
    }

    /// Maps one record of a topic whose JSON text is `text`, made of its payload and what stands around it.
    pub fn text(&mut self, (payload, text): (&[u8], &str), offset: i64, spot: Spot<'_>) -> Result<()> {
        self.record(offset, (payload, Ok(text)), spot)
    }

    /// A record of a topic that never reached the mapper.
    pub fn refuse(&mut self, (payload, offset): (&[u8], i64), fault: &Fault, spot: Spot<'_>) -> Result<()> {
        self.counts.taken += 1;
        self.letter(payload, fault, (spot.partition, offset), spot.wrapper)
    }

    /// Whether the records are, or from here on will be, of `kind`: they cannot be once something else was said or seen.
    pub fn becomes(&mut self, kind: Kind) -> bool {
        if self.kind.is_none() && kind != Kind::Event {
            self.rows = Some(row::Builder::new(kind));
        }
        *self.kind.get_or_insert(kind) == kind
    }

    /// Counts a record that holds nothing, on purpose: it says that a key is no more.
    pub fn tombstone(&mut self) {
        self.counts.taken += 1;
        self.counts.filtered += 1;
    }

    /// Counts a record that repeats one that was taken before.
    pub fn duplicate(&mut self) {
        self.counts.taken += 1;
        self.counts.duplicate += 1;
    }

    /// The time of reading of the records that follow.
    pub fn look_at_clock(&mut self) {
        self.now = self.run.clock.now();
    }

    fn letter(
        &mut self,
        raw: &[u8],
        fault: &Fault,
        (partition, offset): (u32, i64),
        wrapper: Option<Wrapper<'_>>,
    ) -> Result<()> {
        self.counts.dead += 1;
        let (origin, partition) = self.stamper.name(partition);
        let (key, headers) = (wrapper.and_then(|wrapper| wrapper.key), wrapper.map(|wrapper| wrapper.headers));
        let arrived_at = wrapper.and_then(|wrapper| wrapper.arrival).map(|arrival| arrival.at);
        let rows = self.counts.out + self.mapper.rows() as u64;
        let rows = rows + self.rows.as_ref().map_or(0, |rows| rows.len() as u64);
        let letter = Letter { payload: raw, key, headers, arrived_at, fault, origin, partition, offset };
        self.letters.push(rows, &letter, self.run.clock.now())?;
        if self.letters.is_full() { self.send_letters() } else { Ok(()) }
    }

    /// Hands out the letters and the rows so far, the letters first.
    pub fn flush(&mut self) -> Result<()> {
        self.since = None;
        if let Some(rows) = self.rows.as_mut().filter(|rows| !rows.is_empty()) {
            let batch = rows.finish()?;
            self.send_letters()?;
            self.counts.out += batch.num_rows() as u64;
            self.outbox.send(self.input, Item::Batch(batch));
        }
        // A row that the rule refuses comes behind the letters of its batch.
        let rows_before = self.counts.out + self.mapper.rows() as u64;
        let (counts, letters, now) = (&mut self.counts, &mut self.letters, self.run.clock.now());
        let mut rule = self.filter.as_mut().map(|filter| {
            move |batch: &RecordBatch| -> Result<BooleanArray> {
                let passed = filter.apply(batch)?;
                for (row, message) in &passed.wrong {
                    counts.dead += 1;
                    let fault = Fault::new(ErrorType::EnvelopeError, message);
                    with_letter(batch, *row, &fault, None, |letter, _| letters.push(rows_before, letter, now))?;
                }
                let kept = passed.keep.true_count();
                counts.filtered += (batch.num_rows() - kept - passed.wrong.len()) as u64;
                Ok(passed.keep)
            }
        });
        let rule = rule.as_mut().map(|rule| rule as &mut mapping::Rule<'_>);
        let batch = self.mapper.batch(&mut self.stamper, rule)?;
        self.send_letters()?;
        if let Some(mut batch) = batch {
            self.brings_raw.get_or_insert(false);
            if self.keep_raw == KeepRaw::No && batch.schema_ref().column_with_name(RAW).is_some() {
                let kept = (0..batch.num_columns()).filter(|column| *column != COLUMNS.len());
                batch = batch.project(&kept.collect::<Vec<_>>())?;
            }
            self.counts.out += batch.num_rows() as u64;
            self.outbox.send(self.input, Item::Batch(batch));
        }
        Ok(())
    }

    /// Reading has failed: hands out the letters so far, and the rows where they are wanted.
    pub fn end(&mut self, with_rows: bool) -> Result<()> {
        if with_rows { self.flush() } else { self.send_letters() }
    }

    /// Hands out the letters so far.
    fn send_letters(&mut self) -> Result<()> {
        if let Some(dead) = self.letters.take()? {
            self.outbox.send(self.input, Item::Dead(dead));
        }
        Ok(())
    }

    /// What is read from here on is of input number `input`, of which `bytes` have been read; `rest` follows.
    pub fn turn_to(&mut self, input: u32, bytes: ByteProgress, rest: Rest) {
        self.stamper.set_input(input);
        self.outbox.turn_to(input, bytes, rest);
    }

    /// Whether a flag maps the partition or the origin of a record.
    pub fn is_mapped(&self) -> bool {
        self.is_mapped
    }

    /// Returns the partition of records of `origin` that name none.
    pub fn partition(&mut self, origin: &str) -> u32 {
        if self.is_mapped { self.stamper.unnamed(origin) } else { self.stamper.partition(origin, "0") }
    }

    /// Reports new partitions, and from time to time how far the input is.
    pub fn report_progress(&mut self, bytes: ByteProgress) {
        // The kind of the rows is not known before the first record.
        if self.counts.taken > 0 {
            self.outbox.report_progress(&mut self.stamper, bytes);
        }
    }

    /// The input that is read is at its end, `bytes` from its start: its partitions have ended.
    pub fn end_input(&mut self, bytes: ByteProgress, complete: bool) {
        self.outbox.end_input(&mut self.stamper, bytes, complete);
    }

    /// Takes a control message of an input. Only the last input completes the partitions.
    pub fn control(&mut self, control: Control) {
        self.outbox.control(&mut self.stamper, control);
    }

    /// Withdraws the partitions announced for the input that is read: its stream has named its own.
    pub fn withdraw(&mut self) {
        self.outbox.withdraw(&mut self.stamper);
    }

    /// Whether `text` is a control line (`--control`); if so, it has been acted on.
    fn control_line(&mut self, text: &str, spot: Spot<'_>, line: i64) -> Result<bool> {
        match control_line::parse(text, spot.name, line)? {
            None => return Ok(false),
            Some(ControlLine::PassedOver) => {}
            Some(ControlLine::Watermark(watermark)) => {
                self.flush()?;
                self.stamper.promise(spot.partition, watermark);
                self.outbox.send(self.input, Item::Control(Control::Watermark(watermark)));
            }
        }
        Ok(true)
    }
}
