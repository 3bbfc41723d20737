//! evt-view: shows, filters, converts and counts the rows of any stream, file or store.

use crate::cli::Tool;
use crate::cli::args::{self, CommonArgs, StageArgs, duration, parse_count};
use crate::cli::check::Findings;
use crate::cli::progress::ProgressLine;
use crate::cli::progress::terminal_width;
use crate::cli::stage::{Stage, Usual, check_outputs, look_ahead};
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::expr::Filter;
use crate::format::raw;
use crate::frame::{Control, End, How};
use crate::ingest::Item;
use crate::kafka::range::Role;
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping::{Provenance, TimeFrom};
use crate::output::dead_letters::DeadLetters;
use crate::run::Run;
use crate::source::{Source, SourceOptions};
use crate::store::Tables;
use crate::uri::Uri;
use crate::view::dead_summary::DeadSummary;
use crate::view::describe::Describe;
use crate::view::excerpt::{Excerpt, Span};
use crate::view::selection::{self, Selection, Unsaid};
use crate::view::{control_text, describe_text};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::and;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use clap::Parser;
use std::io::IsTerminal;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum rows of `--tail`.
const TAIL_MAX: u64 = 1_000_000;
/// The default formats. Control lines are the tool's own.
const LOOK: Usual = Usual { pipe: "jsonl", terminal: "table", control: false };
/// A batch with fewer rows means that no more were available, so a table shows the rows it has held back.
const LULL_ROWS: usize = 256;
/// Maximum time that rows are held back while others arrive.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Look into any stream, file or store
#[derive(Parser, Debug)]
#[command(mut_arg("control", |arg| arg.help("Show control messages, and accept control lines in JSONL")))]
pub struct Args {
    /// Read on as files grow, through rotation and truncation
    #[arg(long, help_heading = "Input", conflicts_with = "tail")]
    follow: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    stage: StageArgs,
}

/// Which rows.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Rows")]
struct ChoiceArgs {
    /// Rows for which this is true
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Rows of this instant and later: event_time, window_start, failed_at or since
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    since: Option<String>,
    /// Rows before this instant
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
    /// Rows of the time up to now: --since now-DURATION
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "since")]
    last: Option<i64>,
    /// The first N rows, then stop reading
    #[arg(long, value_name = "N", value_parser = parse_count)]
    head: Option<u64>,
    /// The last N rows; with --head the last N of those
    #[arg(long, value_name = "N", value_parser = parse_tail)]
    tail: Option<usize>,
}

/// What of them.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "View")]
struct ShowArgs {
    /// Columns and property paths, in this order: event_time,country,repo.name
    #[arg(long, value_name = "NAMES", conflicts_with_all = ["describe", "summary"])]
    columns: Option<String>,
    /// Counts, rates, time range, disorder, nulls and frequent values instead of rows
    #[arg(long, conflicts_with = "summary")]
    describe: bool,
    /// Dead letters summed up by error, origin and stage; the default on a terminal
    #[arg(long, conflicts_with = "rows")]
    summary: bool,
    /// Dead letters one by one
    #[arg(long)]
    rows: bool,
}

impl Tool for Args {
    const NAME: &'static str = "evt-view";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Look at the first events of a file.", "evt-view events.jsonl --head 5"),
        ("What a file holds: counts, rates, disorder, nulls.", "evt-view events.jsonl --describe"),
        (
            "Some columns and properties as CSV.",
            "evt-view events.jsonl --columns event_time,event_type,country -o csv --to events.csv",
        ),
        ("Which records failed, why, and one of each.", "evt-view dead.jsonl --summary -o table"),
        ("One kind of failure, as JSON lines.", "evt-view dead.jsonl --where \"error_type = 'ParseError'\" -o jsonl"),
        ("The tables of a database, then the metrics in it.", "evt-view sqlite:metrics.db"),
        (
            "Metrics of one hour.",
            "evt-view 'sqlite:metrics.db?table=aggregated_metrics' \
             --since 2024-01-15T10:00:00Z --until 2024-01-15T11:00:00Z",
        ),
        (
            "The windows of a pipe with the control messages between them.",
            "evt-ingest events.jsonl | evt-window -m metrics.toml --late null: | evt-view --control -o jsonl",
        ),
    ];

    fn common(&self) -> &CommonArgs {
        &self.stage.common
    }

    fn waits_at_terminal(&self) -> bool {
        self.stage.waits_at_terminal()
    }

    fn run(mut self, run: Rc<Run>) -> Result<u8> {
        if self.stage.common.check {
            return Findings::new(&run).stage(&self.stage, LOOK, Some(&SourceOptions::default()), None);
        }
        self.name_letters()?;
        if let Some(tables) = self.tables()? {
            return self.list(&tables, &run);
        }
        let span = self.span(run.clock.now())?;
        let mut stage = Stage::open(&self.stage, self.source_options()?, LOOK, &run)?;
        let first = look_ahead(&mut stage.source, &mut stage.dead)?;
        let (schema, kind) = (stage.source.schema(), stage.source.kind());
        let untimed = kind == Kind::Event && first.as_ref().is_some_and(|first| !selection::has_time(first));
        let filter = self.choice.filter.as_deref().map(|text| Filter::new(text, &schema)).transpose()?;
        if let (Some(filter), Kind::Event | Kind::Late) = (&filter, kind) {
            stage.source.set_named(filter.columns());
        }
        let show = self.show(first.as_ref(), untimed, &stage.source)?;
        stage.begin(&match &show {
            Show::Rows(None) => schema,
            Show::Rows(Some(selection)) => selection.schema(),
            Show::Summary { as_text: false, .. } => DeadSummary::schema(),
            Show::Describe(_) | Show::Summary { .. } => Arc::new(Schema::empty()),
        })?;
        if !matches!(show, Show::Rows(_)) {
            // A report comes at the end, so the terminal is free for a progress line.
            stage.progress = ProgressLine::new(&run, self.stage.common.quiet);
        }
        if matches!(show, Show::Describe(_)) && stage.formats().any(|format| !matches!(format, "table" | "jsonl")) {
            return Err(Error::usage("--describe writes a report or one JSON object: -o table or -o jsonl"));
        }
        if untimed {
            stage.note("the first rows have no time: their event_time is the clock of this run (--time FIELD)");
        }
        let excerpt = Excerpt::new(self.choice.head, self.choice.tail);
        let writes_letters = kind == Kind::Dead && stage.formats().any(|format| format == raw::FORMAT.name);
        let chosen = Chosen { kind, span, filter, writes_letters, excerpt, looked_at: 0, faulty: Counts::default() };
        let control = self.stage.input.control && matches!(show, Show::Rows(_));
        let passes_control = self.choice.tail.is_none();
        let live = std::io::stdout().is_terminal();
        Job { stage, chosen, show, out: 0, control, passes_control, live, flushed: Instant::now() }.run()
    }
}

impl Args {
    /// Selects the table of dead letters in a store with several tables, if dead letters are requested.
    fn name_letters(&mut self) -> Result<()> {
        let asks = self.show.summary || self.stage.output.output_format.as_deref() == Some(raw::FORMAT.name);
        let letters = Kind::Dead.table();
        if asks && self.tables()?.is_some_and(|tables| tables.iter().any(|(name, _)| *name == letters)) {
            let input = &mut self.stage.input.inputs[0];
            let sign = if input.as_encoded_bytes().contains(&b'?') { '&' } else { '?' };
            input.push(format!("{sign}table={letters}"));
        }
        Ok(())
    }

    /// Returns the tables of the one store that is the input, if none of them is named.
    fn tables(&self) -> Result<Option<Tables>> {
        let inputs = self.stage.input.uris()?;
        let [Uri::Store(store, location)] = inputs.as_slice() else { return Ok(None) };
        if location.options.contains_key("table") {
            return Ok(None);
        }
        Ok(Some((store.tables)(location)?).filter(|tables| tables.len() > 1))
    }

    /// Writes the tables and their row counts.
    fn list(&self, tables: &Tables, run: &Rc<Run>) -> Result<u8> {
        let fields = vec![Field::new("table", DataType::Utf8, false), Field::new("rows", DataType::Int64, false)];
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let names: ArrayRef = Arc::new(tables.iter().map(|(name, _)| Some(name)).collect::<StringArray>());
        let counts = tables.iter().map(|(_, rows)| i64::try_from(*rows).ok());
        let batch = RecordBatch::try_new(schema.clone(), vec![names, Arc::new(counts.collect::<Int64Array>())])?;
        for checked in check_outputs(&self.stage, LOOK, run)? {
            let mut output = checked.ask(run)?.open(&schema, run)?;
            output.write(&batch)?;
            output.finish(&End { how: How::Exhausted, rows: 0, verdict: 0 })?;
        }
        if !self.stage.common.quiet {
            run.console.say("say which table: ?table=NAME");
        }
        Ok(0)
    }

    fn span(&self, now: i64) -> Result<Span> {
        let instant =
            |text: &Option<String>| text.as_deref().map(|text| args::parse_instant_or_now(text, now)).transpose();
        let since = self.choice.last.map(|last| now.saturating_sub(last));
        Ok(Span { since: since.or(instant(&self.choice.since)?), until: instant(&self.choice.until)? })
    }

    fn source_options(&self) -> Result<SourceOptions> {
        let mut mapping = self.stage.map.options(Provenance::Keep)?;
        if mapping.time == TimeFrom::Default {
            // Viewing needs no time.
            mapping.time = TimeFrom::Untimed;
        }
        let role = if self.follow { Role::Follows } else { Role::Looks };
        let holds_letters = self.choice.head.is_some();
        Ok(SourceOptions { follow: self.follow, salvage: true, role, holds_letters, ..self.stage.source(mapping)? })
    }

    /// Decides what is shown of the rows; `first` has the first rows.
    fn show(&self, first: Option<&RecordBatch>, untimed: bool, source: &Source) -> Result<Show> {
        let (kind, schema, show) = (source.kind(), source.schema(), &self.show);
        // Output to a terminal, without a format.
        let output = &self.stage.output;
        let screen = output.to == ["-"] && output.output_format.is_none() && std::io::stdout().is_terminal();
        if show.describe {
            return Ok(Show::Describe(Box::new(Describe::try_new(kind, &schema, !untimed)?)));
        }
        if show.summary && first.is_some() && kind != Kind::Dead {
            let kind = kind.name();
            return Err(Error::usage(format!("--summary sums up dead letters, these rows are of kind {kind}")));
        }
        let one_by_one = show.rows || show.columns.is_some() || self.follow || self.stage.input.control;
        let one_by_one = one_by_one || self.choice.head.is_some() || self.choice.tail.is_some();
        if show.summary || kind == Kind::Dead && screen && !one_by_one {
            return Ok(Show::Summary { summary: DeadSummary::default(), as_text: screen });
        }
        if let Some(names) = &show.columns {
            return Ok(Show::Rows(Some(Selection::try_new(&selection::parse_names(names)?, &schema)?)));
        }
        let Some(first) = first.filter(|_| screen) else { return Ok(Show::Rows(None)) };
        let used = source.defaults();
        let unsaid = Unsaid { source: used.source, event_type: used.event_type };
        let names = selection::default_names(kind, first, unsaid);
        Ok(Show::Rows(Some(Selection::try_new(&names, &schema)?)))
    }
}

/// What is shown.
enum Show {
    /// Rows, all columns or some.
    Rows(Option<Selection>),
    Describe(Box<Describe>),
    /// A summary of dead letters, as text or as rows.
    Summary {
        summary: DeadSummary,
        as_text: bool,
    },
}

/// Selects the rows that are shown.
struct Chosen {
    kind: Kind,
    span: Span,
    filter: Option<Filter>,
    /// Whether payloads of dead letters are written as lines.
    writes_letters: bool,
    excerpt: Excerpt,
    /// Rows that were examined.
    looked_at: u64,
    /// Those among them that `--where` could not judge, and dead letters that cannot be written as lines.
    faulty: Counts,
}

impl Chosen {
    /// Returns the rows of a batch to show now.
    fn take(&mut self, batch: &RecordBatch, dead: &mut DeadLetters) -> Result<Option<RecordBatch>> {
        let all = || BooleanArray::from(vec![true; batch.num_rows()]);
        let inside = self.span.keep(self.kind, batch).unwrap_or_else(all);
        let (mut keep, mut wrong) = (inside.clone(), vec![]);
        if let Some(filter) = &mut self.filter {
            let passed = filter.apply(batch)?;
            keep = and(&keep, &passed.keep)?;
            wrong =
                passed.wrong.into_iter().map(|(row, why)| (row, Fault::new(ErrorType::EnvelopeError, why))).collect();
        }
        if self.writes_letters {
            let mut fits = vec![true; batch.num_rows()];
            for (row, fault) in raw::unfit(batch).into_iter().filter(|(row, _)| keep.value(*row)) {
                fits[row] = false;
                wrong.push((row, fault));
            }
            keep = and(&keep, &BooleanArray::from(fits))?;
        }
        let needed = self.excerpt.needed(&keep);
        // Rows after the last row shown are not judged.
        dead.release_before(self.looked_at + needed as u64)?;
        for (row, fault) in wrong.iter().filter(|(row, _)| *row < needed && inside.value(*row)) {
            dead.count(&mut self.faulty);
            dead.push_row(batch, *row, fault)?;
        }
        self.looked_at += needed as u64;
        self.excerpt.take(&batch.slice(0, needed), &keep.slice(0, needed))
    }

    /// Returns the fates of the rows, of which `out` were shown. If reading stopped early (`--head`), only the rows
    /// examined so far count.
    fn counts(&self, source: Counts, out: u64, early: Option<&DeadLetters>) -> Counts {
        let before = early.map_or(source, |dead| {
            let letters = dead.from_source();
            Counts { taken: self.looked_at + letters, dead: letters, ..Counts::default() }
        });
        let faulty = self.faulty;
        Counts {
            out,
            dead: before.dead + faulty.dead,
            dropped: before.dropped + faulty.dropped,
            filtered: before.filtered + self.looked_at - out - faulty.dead - faulty.dropped,
            ..before
        }
    }
}

/// One run of the tool.
struct Job {
    stage: Stage,
    chosen: Chosen,
    show: Show,
    /// Rows shown.
    out: u64,
    /// Whether control messages are shown (`--control`).
    control: bool,
    /// Whether control messages are shown between the rows; not with `--tail`.
    passes_control: bool,
    /// Whether rows are shown live on a terminal.
    live: bool,
    flushed: Instant,
}

impl Job {
    fn run(mut self) -> Result<u8> {
        loop {
            if self.chosen.excerpt.is_full() {
                return self.finish(None);
            }
            // The next row will be examined, and so are dead letters before it.
            self.stage.dead.release_before(self.chosen.looked_at + 1)?;
            match self.stage.read() {
                Ok(Item::Batch(batch)) => self.batch(&batch)?,
                Ok(Item::Dead(_) | Item::Idle) => {}
                Ok(Item::Control(control)) => self.pass(&control)?,
                Ok(Item::End(end)) => return self.finish(Some(end)),
                Err(error) => {
                    // Shows the rows before the error.
                    self.stage.dead.release_before(u64::MAX)?;
                    self.show_rest()?;
                    self.stage.flush()?;
                    self.stage.dead.flush()?;
                    return Err(error);
                }
            }
        }
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some(rows) = self.chosen.take(batch, &mut self.stage.dead)? {
            self.show(&rows)?;
        }
        self.stage.counts = Counts { taken: self.chosen.looked_at, out: self.out, ..self.chosen.faulty };
        if self.live && (batch.num_rows() < LULL_ROWS || self.flushed.elapsed() >= SHOW_EVERY) {
            self.stage.flush()?;
            self.flushed = Instant::now();
        }
        Ok(())
    }

    fn show(&mut self, rows: &RecordBatch) -> Result<()> {
        self.out += rows.num_rows() as u64;
        match &mut self.show {
            Show::Rows(None) => self.stage.write(rows),
            Show::Rows(Some(selection)) => self.stage.write(&selection.apply(rows)?),
            Show::Describe(describe) => describe.push(rows),
            Show::Summary { summary, .. } => summary.push(rows),
        }
    }

    fn pass(&mut self, control: &Control) -> Result<()> {
        if !self.passes_control {
            return Ok(());
        }
        self.stage.control(control)?;
        self.tell(control)
    }

    /// Shows a control message in formats that can.
    fn tell(&mut self, control: &Control) -> Result<()> {
        if !self.control {
            return Ok(());
        }
        self.stage.text(|format| match format {
            "jsonl" => Some(control_text::line(control)),
            "table" => Some(control_text::note(control)),
            _ => None,
        })
    }

    /// Writes the last rows and the report.
    fn show_rest(&mut self) -> Result<()> {
        for rows in self.chosen.excerpt.finish() {
            self.show(&rows)?;
        }
        self.stage.progress = ProgressLine::hidden();
        match std::mem::replace(&mut self.show, Show::Rows(None)) {
            Show::Rows(_) => Ok(()),
            Show::Describe(describe) => {
                let description = describe.finish();
                self.stage.text(|format| match format {
                    "table" => Some(describe_text::report(&description, terminal_width())),
                    _ => serde_json::to_string(&description).ok().map(|text| format!("{text}\n")),
                })
            }
            Show::Summary { summary, as_text: true } => self.stage.text(|_| Some(summary.report(terminal_width()))),
            Show::Summary { summary, as_text: false } => self.stage.write(&summary.rows()?),
        }
    }

    /// Ends the view at the end of the stream or of the excerpt.
    fn finish(mut self, end: Option<End>) -> Result<u8> {
        if end.is_some() {
            self.stage.dead.release_before(u64::MAX)?;
        }
        let unknown = self.chosen.filter.as_ref().map_or(vec![], Filter::always_null);
        unknown.iter().for_each(|name| self.stage.warn_of_null(name));
        self.show_rest()?;
        let source = &self.stage.source;
        let early = end.is_none().then_some(&self.stage.dead);
        self.stage.counts = self.chosen.counts(source.counts(), self.out, early);
        if let Some(end) = end.filter(|_| source.is_proven()) {
            self.tell(&Control::End(End { rows: self.stage.source.counts().out, ..end }))?;
        }
        let end = end.unwrap_or(End { how: How::Exhausted, rows: 0, verdict: 0 });
        self.stage.finish(end, 0)
    }
}

fn parse_tail(text: &str) -> Result<usize, String> {
    let rows = parse_count(text)?;
    let rows = usize::try_from(rows).ok().filter(|_| rows <= TAIL_MAX);
    rows.ok_or_else(|| format!("at most {TAIL_MAX} rows are held"))
}
