//! evt-view: shows, filters, converts and counts the rows of any stream, file or store.
//!
//! `chosen.rs`: which rows are shown; `tables.rs`: the tables of a store. [`evt_core::view`] has what is shown of rows.

mod chosen;
mod tables;

use self::chosen::{Choice, Chosen};
use crate::cli::Tool;
use crate::cli::args::{StageArgs, TimeRangeArgs};
use crate::cli::check::CheckReport;
use crate::cli::open::open;
use crate::cli::resolve::{DefaultFormats, StageSpec, TABLE};
use crate::cli::values::parse_count;
use crate::output::OutputPlan;
use crate::source::{self, SourceOptions, ToolNeeds};
use crate::stage::feeds::FeedInput;
use crate::stage::operator::{Collector, InputEnded, Operator};
use crate::stage::{OperatorSetup, SourceInfo};
use crate::uri::Uri;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use clap::Parser;
use evt_core::chart::{self, Collected};
use evt_core::counts::Counts;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::expr::Filter;
use evt_core::format::{self, Format, NoteFormat, table};
use evt_core::frame::Control;
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use evt_core::kind::span::Span;
use evt_core::mapping::{Defaults, Provenance, TimeFrom};
use evt_core::op::computed::{ComputedFields, check_syntax};
use evt_core::op::untimed::UntimedFilter;
use evt_core::view::dead_summary::DeadSummary;
use evt_core::view::describe::Describe;
use evt_core::view::excerpt::Excerpt;
use evt_core::view::selection::{self, DefaultedFields, FirstRecords, Name, Selection, SelectionFlag};
use evt_core::view::sort::{SortKey, Sorter};
use evt_core::view::{control_text, describe_text};
use evt_kafka::range::ReadMode;
use evt_run::checkpoint::is_in_bucket;
use evt_run::checkpoint::show::{CheckpointReport, is_checkpoint, is_checkpoint_in_bucket, show};
use evt_run::run::Run;
use evt_run::run::io::Io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Maximum rows of `--tail`.
const TAIL_MAX: u64 = 1_000_000;
/// A batch with fewer rows means that no more were available, so a table shows the rows it has held back.
const LULL_ROWS: usize = 256;
/// Maximum time that rows are held back while others arrive.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Show, filter and convert the rows of any stream, file or store
#[derive(Parser, Debug)]
#[command(mut_arg("control", |arg| arg.help("Show control messages; read control lines in JSONL")))]
pub struct Args {
    /// Keep reading as files grow, through rotation and truncation
    #[arg(long, help_heading = "Input")]
    follow: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    stage: StageArgs,
}

/// The flags that select rows.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Rows")]
struct ChoiceArgs {
    /// Show only rows for which EXPR is true
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    #[command(flatten)]
    range: TimeRangeArgs,
    /// Show the first N rows, then stop reading; with --sort the first N in its order
    #[arg(long, value_name = "N", value_parser = parse_count::<u64>)]
    head: Option<u64>,
    /// Show the last N rows; with --head the last N of those; with --follow the last N up to now, then further rows
    #[arg(long, value_name = "N", value_parser = parse_tail)]
    tail: Option<usize>,
    /// Show the rows in the order of this column or property path; -NAME is descending
    #[arg(long, value_name = "[-]NAME", allow_hyphen_values = true, conflicts_with_all = ["follow", "describe", "summary"])]
    sort: Option<String>,
}

/// The flags that set what is shown of the selected rows: columns, a chart, a description or a summary.
#[allow(rustdoc::broken_intra_doc_links, reason = "help shows these comments as they are written")]
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "View")]
struct ShowArgs {
    /// Show these columns and property paths, in this order: event_time,country,labels[1].name; '*' is all fields of
    /// the records
    #[arg(long, value_name = "NAMES", conflicts_with_all = ["describe", "summary", "plot"])]
    columns: Option<String>,
    /// Compute column NAME of each row, for --where, --columns and later ones (repeatable)
    #[arg(long = "let", value_name = "NAME=EXPR", conflicts_with = "summary")]
    fields: Vec<String>,
    /// Draw metrics over time, a line for each combination of dimensions; --to FILE.svg or -o svg makes a document of
    /// it
    #[arg(long, conflicts_with_all = ["describe", "summary"])]
    plot: bool,
    /// Show counts, rates, time range, disorder, nulls and frequent values instead of rows
    #[arg(long, conflicts_with = "summary")]
    describe: bool,
    /// Summarize dead letters by error, origin, stage and kind of message; the default on a terminal
    #[arg(long, conflicts_with = "rows")]
    summary: bool,
    /// Show dead letters one by one
    #[arg(long)]
    rows: bool,
}

impl Tool for Args {
    const NAME: &'static str = "evt-view";
    const USUAL_FLAGS: &'static [&'static str] = &[
        "follow",
        "input-format",
        "where",
        "since",
        "until",
        "last",
        "head",
        "tail",
        "sort",
        "columns",
        "plot",
        "describe",
        "summary",
        "time",
        "to",
        "output-format",
        "quiet",
    ];
    const NEGATIVE: &'static str = "The verdict is negative: a record could not be read, an expression could not be evaluated for a row, \
        or the end of the stream carries a negative verdict.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Show the first events of a file.", "evt-view events.jsonl --head 5"),
        ("Show the five events with the greatest latency.", "evt-view events.jsonl --sort -latency_ms --head 5"),
        ("Describe a file: counts, rates, disorder, nulls.", "evt-view events.jsonl --describe"),
        (
            "Convert some columns and properties to CSV.",
            "evt-view events.jsonl --columns event_time,event_type,country -o csv --to events.csv",
        ),
        ("Summarize failures, with one example of each.", "evt-view dead.jsonl --summary -o table"),
        ("One type of failure, as JSON lines.", "evt-view dead.jsonl --where \"error_type = 'ParseError'\" -o jsonl"),
        ("List the tables of a database.", "evt-view sqlite:metrics.db"),
        (
            "Show and verify the checkpoint of a job.",
            "evt-window --checkpoint state/ -m metrics.toml events.jsonl --late null: --to sqlite:m.db && evt-view state/",
        ),
        (
            "Show the metrics of one hour.",
            "evt-view 'sqlite:metrics.db?table=aggregated_metrics' \
             --since 2024-01-15T10:00:00Z --until 2024-01-15T11:00:00Z",
        ),
        (
            "Show results and control messages of a pipeline.",
            "evt-ingest events.jsonl | evt-window -m metrics.toml | evt-view --control -o jsonl",
        ),
    ];

    fn waits_at_terminal(&self) -> bool {
        self.stage.waits_at_terminal()
    }

    fn run(mut self, run: &Rc<Run>) -> Result<u8> {
        let is_file = self.stage.input.name_databases(run);
        if let Some(path) = self.checkpoint(run)? {
            let CheckpointReport { text, is_sound } = show(&path, run)?;
            run.io.print(&text)?;
            return Ok(if is_sound { 0 } else { ErrorKind::Corrupt.exit_status() });
        }
        if let Some(tables) = tables::of_input(&self.stage, run)? {
            let letters = Kind::Dead.table();
            let mut filled = tables.iter().filter(|(_, rows)| *rows > 0).map(|(name, _)| name.as_str());
            let table = match (filled.next(), filled.next()) {
                _ if self.reads_letters() && tables.iter().any(|(name, _)| *name == letters) => letters,
                (Some(only), None) if is_file => only,
                _ => return tables::list(&tables, &self.stage, TABLE, run),
            };
            Uri::add_option(&mut self.stage.input.inputs[0], "table", table);
        }
        let span = self.choice.range.span(run.clock.now(), &self.stage.map)?;
        let args = Rc::new(self);
        let of_start = (args.clone(), run.clone());
        let start = move |info: SourceInfo<'_>| of_start.0.start(info, span, &of_start.1.io);
        let options = SourceOptions { range: span, ..args.source_options(run)? };
        open(args.stage_spec(), options, run, Box::new(start))?.run()
    }

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        if let Some(path) = findings.take(self.checkpoint(run)).flatten() {
            return findings.checkpoint(&path);
        }
        findings.take(self.choice.range.span(run.clock.now(), &self.stage.map));
        self.checks().into_iter().for_each(|found| _ = findings.take(found));
        let options = findings.take(self.source_options(run));
        findings.stage(self.stage_spec(), options);
    }
}

impl Args {
    fn stage_spec(&self) -> StageSpec<'_> {
        let pipe = if self.show.plot { &table::FORMAT } else { TABLE.pipe };
        StageSpec { formats: DefaultFormats { pipe, ..TABLE }, lists_tables: true, ..StageSpec::new(&self.stage) }
    }

    /// Checks the expressions and names as far as they are known before the first row: with the columns of events if
    /// `--kind` names them, else without any.
    fn checks(&self) -> [Result<()>; 3] {
        let (fields, filter, sort) = (&self.show.fields, self.choice.filter.as_deref(), self.choice.sort.as_deref());
        let columns = self.show.columns.as_deref().map_or(Ok(()), |text| selection::event_columns(text).map(drop));
        let sort = sort.map_or(Ok(()), |text| SortKey::named(text).map(drop));
        let of_events = || {
            let schema = ComputedFields::of_columns(fields, &Kind::Event.schema())?.schema();
            filter.map_or(Ok(()), |text| Filter::new(text, &schema).map(drop))
        };
        let expressions = match self.stage.input.kind() {
            Ok(Some(Kind::Event)) => of_events(),
            _ => check_syntax(fields, filter),
        };
        [expressions, columns, sort]
    }

    /// Makes the operator once the first rows are known.
    fn start(&self, info: SourceInfo<'_>, span: Span, io: &Io) -> Result<OperatorSetup> {
        let SourceInfo { source, first, outputs } = info;
        let formats: Vec<&Format> = outputs.iter().filter_map(OutputPlan::format).collect();
        let (schema, kind) = (source.schema(), source.kind());
        let untimed = kind == Kind::Event && first.is_some_and(|first| !selection::has_time(first));
        let fields = ComputedFields::of_columns(&self.show.fields, &schema)?;
        let schema = fields.schema();
        let filter = self.choice.filter.as_deref().map(|text| Filter::new(text, &schema)).transpose()?;
        if matches!(kind, Kind::Event | Kind::Late) {
            let selected = self.show.columns.as_deref().map(selection::event_columns).transpose()?.unwrap_or(0);
            source.set_named(selected | fields.columns() | filter.as_ref().map_or(0, Filter::columns));
        }
        let show = match self.plot(kind, first.is_some(), &formats)? {
            Some(plot) => plot,
            None => self.show(first, untimed, source, &fields, io.has_terminal())?,
        };
        let schema = match &show {
            Show::Rows(None) => schema,
            Show::Rows(Some(selection)) => selection.schema(),
            Show::Summary { as_text: false, .. } => DeadSummary::default().rows()?.schema(),
            Show::Describe(_) | Show::Plot(_) | Show::Summary { .. } => Arc::new(Schema::empty()),
        };
        if matches!(show, Show::Describe(_)) && formats.iter().any(|format| format.notes.is_none()) {
            return Err(Error::usage("--describe requires -o table or -o jsonl"));
        }
        let is_rows = matches!(show, Show::Rows(_));
        let sort = self.choice.sort.as_deref().map(|text| SortKey::parse(text, &fields.schema())).transpose()?;
        let chosen = Chosen {
            kind,
            span,
            fields,
            filter,
            writes_letters: kind == Kind::Dead && formats.iter().any(|format| format.is_raw),
            excerpt: Excerpt::new(self.choice.head, self.choice.tail),
            sorter: sort.map(|key| Sorter::new(key, self.choice.head)),
        };
        let operator = View {
            chosen,
            show,
            untimed,
            looked_at: 0,
            shown: 0,
            faulty: 0,
            control: self.stage.input.control && is_rows,
            passes_control: self.choice.tail.is_none() && self.choice.sort.is_none(),
            follows: self.follow,
            live: io.has_terminal(),
            width: io.terminal_width(),
            flushed: Duration::ZERO,
        };
        Ok(OperatorSetup { is_report: !is_rows, ..OperatorSetup::new(operator, schema) })
    }

    /// Whether a flag requests dead letters, so that their table of a store with several tables is read.
    fn reads_letters(&self) -> bool {
        let format = self.stage.output.output_format.as_deref().and_then(|name| format::to_write(name).ok());
        self.show.summary || format.is_some_and(|format| format.is_raw)
    }

    /// Returns the directory or the bucket of a checkpoint, if it is the only input.
    fn checkpoint(&self, run: &Run) -> Result<Option<PathBuf>> {
        if let [bucket] = self.stage.input.inputs.as_slice()
            && is_in_bucket(bucket.as_ref())
            && !bucket.to_string_lossy().contains('*')
            && is_checkpoint_in_bucket(bucket.as_ref(), run)?
        {
            return Ok(Some(bucket.into()));
        }
        let inputs = self.stage.input.uris(run)?;
        let [Uri::File(path)] = inputs.as_slice() else { return Ok(None) };
        Ok(Some(path.path.clone()).filter(|path| is_checkpoint(path)))
    }

    fn source_options(&self, run: &Run) -> Result<SourceOptions> {
        let mut mapping = self.stage.map.options(Provenance::Keep)?;
        let range = &self.choice.range;
        let has_range = range.since.is_some() || range.until.is_some() || range.last.is_some();
        if mapping.time == TimeFrom::Default && !has_range {
            // evt-view needs no event time to show rows.
            mapping.time = TimeFrom::Untimed;
        }
        let read_mode = if self.follow { ReadMode::Tail } else { ReadMode::Bounded };
        let ordered_letters = self.choice.head.is_some() && self.choice.sort.is_none();
        let mut options = self.stage.source(mapping, run)?;
        options.records.untimed = UntimedFilter::rules(&self.show.fields, self.choice.filter.as_deref());
        let ChoiceArgs { head, tail, sort, .. } = &self.choice;
        let shows_report = self.show.describe || self.show.plot || self.show.summary;
        let whole_input = shows_report || head.is_some() || tail.is_some() || sort.is_some();
        options.needs = ToolNeeds { salvage: true, first_rows: true, ordered_letters, whole_input, ..options.needs };
        options.inputs.files.follow = self.follow;
        options.inputs.topics.read_mode = read_mode;
        Ok(options)
    }

    /// Returns the chart of `--plot`; `None` if rows are shown, also by the format svg, which draws them itself.
    fn plot(&self, kind: Kind, has_rows: bool, formats: &[&Format]) -> Result<Option<Show>> {
        if !self.show.plot {
            return Ok(None);
        }
        if kind != Kind::Metric && has_rows {
            return Err(Error::usage(format!(
                "--plot draws rows of kind metric over time, found {kind}; make metrics with evt-window"
            )));
        }
        if formats.iter().all(|format| format.is_chart) {
            return Ok(None);
        }
        match formats.iter().all(|format| format.notes == Some(NoteFormat::Text)) {
            true => Ok(Some(Show::Plot(Collected::default()))),
            false => Err(Error::usage("--plot requires -o table, or only outputs in -o svg")),
        }
    }

    /// Chooses the form in which rows are shown and their columns; `first` has the first rows.
    fn show(
        &self,
        first: Option<&RecordBatch>,
        untimed: bool,
        source: &source::Source,
        fields: &ComputedFields,
        has_terminal: bool,
    ) -> Result<Show> {
        let (kind, schema, show) = (source.kind(), fields.schema(), &self.show);
        // Output to a terminal, without a format.
        let output = &self.stage.output;
        let screen = output.to == ["-"] && output.output_format.is_none() && has_terminal;
        if show.describe {
            return Ok(Show::Describe(Box::new(Describe::try_new(kind, &schema, !untimed)?)));
        }
        if show.summary && first.is_some() && kind != Kind::Dead {
            return Err(Error::usage(format!("--summary requires dead letters, found rows of kind {kind}")));
        }
        let one_by_one = show.rows || show.columns.is_some() || self.follow || self.stage.input.control;
        let ChoiceArgs { head, tail, sort, .. } = &self.choice;
        let one_by_one = one_by_one || head.is_some() || tail.is_some() || sort.is_some();
        if show.summary || kind == Kind::Dead && screen && !one_by_one {
            return Ok(Show::Summary { summary: DeadSummary::default(), as_text: screen });
        }
        if let Some(names) = &show.columns {
            return self.columns(names, first, source, fields).map(|selection| Show::Rows(Some(selection)));
        }
        // A table of metrics chooses its columns itself.
        let names = match first.filter(|_| screen && kind != Kind::Metric) {
            None if show.fields.is_empty() => return Ok(Show::Rows(None)),
            None => schema.fields().iter().map(|field| Name::column(field.name())).collect(),
            Some(first) => {
                let mut names = selection::default_names(kind, first, defaulted(source));
                names.extend(fields.names().map(Name::column));
                names
            }
        };
        Ok(Show::Rows(Some(Selection::try_new(&names, &schema, SelectionFlag::Columns)?)))
    }

    /// Returns the selection of `--columns`.
    fn columns(
        &self,
        names: &str,
        first: Option<&RecordBatch>,
        source: &source::Source,
        fields: &ComputedFields,
    ) -> Result<Selection> {
        let mut names = selection::parse_names(names)?;
        let named = names.iter().map(|name| name.label.clone()).collect();
        let has_all = names.iter().any(Name::is_all);
        if has_all {
            let filled = source.defaults().filled;
            let records = FirstRecords { rows: first, declared: source.declared(), filled };
            names = selection::expand(names, source.kind(), &source.schema(), &records);
            for name in fields.names() {
                if names.iter().all(|one| one.label != name) {
                    names.push(Name::column(name));
                }
            }
        }
        let notes_others = has_all && source.kind() == Kind::Event;
        Ok(Selection::try_new(&names, &fields.schema(), SelectionFlag::Columns)?.warning(named, notes_others))
    }
}

/// Returns the fields that some of the records so far had not.
fn defaulted(source: &source::Source) -> DefaultedFields {
    let Defaults { source, event_type, .. } = source.defaults();
    DefaultedFields { source, event_type }
}

/// The form of the output.
enum Show {
    /// Rows, all columns or some.
    Rows(Option<Selection>),
    Describe(Box<Describe>),
    /// A chart as text.
    Plot(Collected),
    /// A summary of dead letters, as text or as rows.
    Summary {
        summary: DeadSummary,
        as_text: bool,
    },
}

/// The operator of evt-view: selects rows and shows them, or a report about them.
struct View {
    chosen: Chosen,
    show: Show,
    /// Whether the first rows have no event time.
    untimed: bool,
    /// The numbers of examined rows, of those shown, and of those that cannot be evaluated or written.
    looked_at: u64,
    shown: u64,
    faulty: u64,
    /// Whether control messages are shown (`--control`).
    control: bool,
    /// Whether control messages are shown between the rows; not while rows are held back.
    passes_control: bool,
    /// Whether it shows the last rows as soon as the input has been read up to now (`--follow`).
    follows: bool,
    /// Whether rows are shown live on a terminal.
    live: bool,
    /// The width of that terminal, in columns.
    width: Option<usize>,
    /// When rows were made visible last.
    flushed: Duration,
}

impl Operator for View {
    fn on_batch(&mut self, batch: RecordBatch, _from: FeedInput, out: &mut dyn Collector) -> Result<Counts> {
        let Choice { rows, faulty, shown } = self.chosen.take(&batch)?;
        // Dead letters after the last examined row stay held, because evt-view does not examine their records.
        out.release_letters(self.looked_at + rows as u64)?;
        for Rejected { row, fault } in &faulty {
            out.dead(&batch, *row, fault)?;
        }
        self.looked_at += rows as u64;
        self.faulty += faulty.len() as u64;
        let before = self.shown;
        if let Some(shown) = shown {
            self.show(&shown, out)?;
        }
        if self.live && (batch.num_rows() < LULL_ROWS || out.elapsed().saturating_sub(self.flushed) >= SHOW_EVERY) {
            out.flush()?;
            self.flushed = out.elapsed();
        }
        if !self.chosen.is_full() {
            // The next row will be examined, so the dead letters before it are released.
            out.release_letters(self.looked_at + 1)?;
        }
        // The number of omitted rows is known only at the end, where --tail shows the last rows.
        Ok(Counts { taken: rows as u64, out: self.shown - before, ..Counts::default() })
    }

    fn on_control(&mut self, message: Control, _from: FeedInput, out: &mut dyn Collector) -> Result<()> {
        if !self.passes_control {
            return Ok(());
        }
        // It may show a part of the rows.
        if !matches!(message, Control::Metrics(_)) {
            out.control(&message)?;
        }
        self.show_control(&message, out)
    }

    fn on_end(&mut self, ended: &InputEnded, out: &mut dyn Collector) -> Result<Counts> {
        if !self.is_done() {
            out.release_letters(u64::MAX)?;
        }
        if self.untimed {
            let line = "the first rows have no time; their event_time is the clock of this run (set --time FIELD)";
            out.inform(line);
        }
        let filter = self.chosen.filter.as_ref().map_or(vec![], |filter| filter.warnings("--where"));
        self.chosen.fields.warnings().into_iter().chain(filter).for_each(|line| out.warn(line));
        let before = self.shown;
        self.show_rest(out)?;
        if ended.is_proven {
            self.show_control(&Control::End(ended.end), out)?;
        }
        let filtered = self.looked_at - self.shown - self.faulty;
        Ok(Counts { out: self.shown - before, filtered, ..Counts::default() })
    }

    fn on_failure(&mut self, out: &mut dyn Collector) -> Result<()> {
        // Shows the rows before the error.
        out.release_letters(u64::MAX)?;
        self.show_rest(out)?;
        out.flush()
    }

    fn on_caught_up(&mut self, out: &mut dyn Collector) -> Result<Counts> {
        if !self.follows {
            return Ok(Counts::default());
        }
        let before = self.shown;
        self.show_held(out)?;
        self.passes_control = true;
        out.flush()?;
        Ok(Counts { out: self.shown - before, ..Counts::default() })
    }

    fn is_done(&self) -> bool {
        self.chosen.is_full()
    }

    fn restore(self: Box<Self>, _state: &[u8]) -> Result<Box<dyn Operator>> {
        Ok(self)
    }
}

impl View {
    fn show(&mut self, rows: &RecordBatch, out: &mut dyn Collector) -> Result<()> {
        self.shown += rows.num_rows() as u64;
        match &mut self.show {
            Show::Rows(None) => out.rows(rows),
            Show::Rows(Some(selection)) => out.rows(&selection.apply(rows)?),
            Show::Describe(describe) => describe.push(rows),
            Show::Plot(collected) => collected.push(rows),
            Show::Summary { summary, .. } => summary.push(rows),
        }
    }

    /// Shows a control message in formats that can.
    fn show_control(&self, control: &Control, out: &mut dyn Collector) -> Result<()> {
        if !self.control {
            return Ok(());
        }
        out.text(&|format| match format.notes? {
            NoteFormat::Json => Some(control_text::line(control)),
            NoteFormat::Text => Some(control_text::note(control)),
        })
    }

    /// Shows the rows that have been held back.
    fn show_held(&mut self, out: &mut dyn Collector) -> Result<()> {
        self.chosen.warning().into_iter().for_each(|line| out.warn(line));
        self.chosen.rest()?.iter().try_for_each(|rows| self.show(rows, out))
    }

    /// Writes the last rows and the report.
    fn show_rest(&mut self, out: &mut dyn Collector) -> Result<()> {
        self.show_held(out)?;
        match std::mem::replace(&mut self.show, Show::Rows(None)) {
            Show::Rows(selection) => {
                let warnings = selection.map_or(vec![], |selection| selection.warnings());
                warnings.into_iter().for_each(|line| out.warn(line));
                Ok(())
            }
            Show::Describe(describe) => {
                let description = describe.finish();
                out.text(&|format| match format.notes? {
                    NoteFormat::Text => Some(describe_text::report(&description, self.width)),
                    NoteFormat::Json => serde_json::to_string(&description).ok().map(|text| format!("{text}\n")),
                })
            }
            Show::Plot(collected) => {
                let drawn = chart::text(&collected.finish(), self.width);
                out.text(&|_| Some(drawn.clone()))
            }
            Show::Summary { summary, as_text: true } => out.text(&|_| Some(summary.report(self.width))),
            Show::Summary { summary, as_text: false } => out.rows(&summary.rows()?),
        }
    }
}

fn parse_tail(text: &str) -> Result<usize, String> {
    let rows = parse_count::<u64>(text)?;
    let rows = usize::try_from(rows).ok().filter(|_| rows <= TAIL_MAX);
    rows.ok_or_else(|| format!("expected at most {TAIL_MAX} rows"))
}
