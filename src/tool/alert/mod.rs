//! evt-alert: raw rows in, alerts of rules out.
//!
//! It reads the same topics as evt-window, with positions of its own, so it fires even if evt-window makes no progress.
//!
//! ```text
//! feeds of the stage ─► AlertEngine ─► transitions ─┬─► state: one transaction with positions and notifications
//! refresh (thread): rules ──────────┘               ├─► writer (thread): rows of alerts
//!                                                   └─► notify (threads): channels
//! ```
//!
//! With `--state` a transition is stored together with its row and its notifications, so a killed run may repeat these
//! under the same ids and loses none. An output or a channel that does not respond delays neither evaluation nor the
//! others.
//!
//! - `setup.rs`: a run before its first step; `operator.rs`: the operator; `feed.rs`: one feed; `topic.rs`: how far its
//!   topics were read.
//! - `load.rs`: rules from files and tables, and their thread; `messages.rs`: what is said about them, and about rows
//!   left out.
//! - `writer.rs`: the thread of the outputs.
//! - `state.rs`: the state file; `positions.rs`: how far inputs were read; `topics.rs`: what the state has of topics;
//!   `known/`: rows that are not evaluated.
//! - `testing.rs`: `evt-alert test`.

mod feed;
mod known;
mod load;
mod messages;
mod operator;
mod positions;
mod setup;
mod state;
mod testing;
mod topic;
mod topics;
mod writer;

use self::feed::{Feed, FeedForm};
use self::known::files::{FileName, KnownFile, identify, separate, twins};
use self::known::stored::{ReadStore, time_columns};
use self::known::{FileRows, KnownRows, UnmarkedRows};
use self::load::{RuleLoader, RuleRefresh};
use self::operator::AlertOperator;
use self::positions::{PartitionTimes, RenamedTopic, TopicNames, is_substitution};
use self::setup::{AlertSetup, RunOptions, Services};
use self::state::StateFile;
use self::topics::{KeptTopics, StoredTopics};
use self::writer::WriterPlan;
use crate::cli::args::{StageArgs, TimeRangeArgs};
use crate::cli::check::CheckReport;
use crate::cli::resolve::{LINES, Resolved, StageSpec, resolve};
use crate::cli::values::{parse_count, path};
use crate::cli::{Tool, Unit};
use crate::output::dead_letters::DeadLetters;
use crate::source::{self, SourceOptions, StoreOrder};
use crate::stage::feeds::Feeds;
use crate::stage::outputs::Outputs;
use crate::stage::{OperatorSetup, SourceInfo, Stage, StageOptions, StartAt};
use crate::uri::Uri;
use clap::{Parser, Subcommand};
use evt_core::alert::clock::PartitionKey;
use evt_core::alert::engine::{AlertEngine, EngineOptions};
use evt_core::alert::snapshot;
use evt_core::error::{Error, Result};
use evt_core::format::{self, CsvHeader};
use evt_core::kind::Kind;
use evt_core::mapping::{KeepRaw, Provenance};
use evt_core::time::{MINUTE, parse_duration};
use evt_kafka::address::{Bound, KeptPosition, KeptPositions, TopicFormat};
use evt_kafka::group::{CommitMode, TopicOptions};
use evt_kafka::range::ReadMode;
use evt_notify::channels::Channels;
use evt_notify::outbox::Outbox;
use evt_notify::sender::{Sender, are_due};
use evt_run::input::bytes;
use evt_run::input::text::OpenRecord;
use evt_run::run::{Report, Run};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// How far an event may be ahead of its arrival without `--max-future`.
const MAX_FUTURE: i64 = 5 * MINUTE;
/// The name of the empty file in messages.
const TEMPORARY: &str = "a temporary file (TMPDIR)";

/// Fire alerts by rules over events, and notify people
#[derive(Parser, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(mut_arg("since", |arg| arg.help("Take only rows at or after INSTANT, by event_time, window_end or failed_at")))]
#[command(override_usage = "evt-alert --rules <FILE|URI> [OPTIONS] [INPUT]...
       evt-alert test [OPTIONS] <RULES> <TESTS>...")]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Read the rules from a TOML or JSON file, or a table: sqlite:PATH?table=NAME, postgres://HOST/DATABASE?table=NAME
    #[arg(long, value_name = "FILE|URI", help_heading = "Rules")]
    rules: Option<OsString>,
    /// Read the metrics that rules name from FILE (evt-metrics(5))
    #[arg(short, long, value_name = "FILE", help_heading = "Rules")]
    metrics: Option<String>,
    /// Read the rules again every DURATION
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration, help_heading = "Rules")]
    refresh: i64,
    /// Limit the groups of a rule; rows of further groups are left out and counted
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse_count::<usize>, help_heading = "Rules")]
    max_groups: usize,
    /// Keep the state, the positions of the inputs and due notifications in FILE
    #[arg(long, value_name = "FILE", value_parser = path(), help_heading = "State", conflicts_with_all = ["since", "until", "last"])]
    state: Option<PathBuf>,
    /// Read the inputs to their end, for cron: the exit status is 1 if an alert fired or still fires; nothing is
    /// printed if no alert fired, was resolved or still fires
    #[arg(long, help_heading = "State")]
    once: bool,
    /// Notify the channels that FILE defines
    #[arg(long, value_name = "FILE", requires = "state", help_heading = "Output")]
    notify: Option<PathBuf>,
    #[command(flatten)]
    range: TimeRangeArgs,
    #[command(flatten)]
    stage: StageArgs,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Run unit tests of rules: series of rows, and the alerts that fire at instants; exit with status 1 and the
    /// differences if one fails
    Test {
        /// Test the rules of this file or table
        #[arg(value_name = "RULES")]
        rules: OsString,
        /// Read tests from these files
        #[arg(value_name = "TESTS", required = true)]
        tests: Vec<PathBuf>,
    },
}

impl Tool for Args {
    const NAME: &'static str = "evt-alert";
    const USUAL_FLAGS: &'static [&'static str] = &[
        "rules",
        "metrics",
        "refresh",
        "state",
        "once",
        "notify",
        "time",
        "to",
        "output-format",
        "dlq",
        "input-format",
        "quiet",
        "check",
    ];
    const NEGATIVE: &'static str = "The verdict is negative: with --once, an alert fired or still fires; without --once, records were rejected \
        and --dlq is not given; a notification was refused or given up; or a test of rules failed.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "In a job of cron: exit with status 1 if an alert fired or still fires.",
            "evt-alert --once --rules rules.toml --state alerts.db events.jsonl",
        ),
        ("Run unit tests of rules.", "evt-alert test rules.toml rules_test.toml"),
    ];

    const UNIT: Option<Unit> = Some(Unit {
        after: "",
        args: "'kafka://localhost:9092/raw?group=evt-alert' --rules /etc/evt/rules.toml --state /var/lib/evt-alert/alerts.db --to 'kafka://localhost:9092/alerts' --notify /etc/evt/channels.toml",
        settings: "StateDirectory=evt-alert\n\
                   # The secrets of channels.toml, which names them {file:/run/credentials/evt-alert.service/pagerduty}.\n\
                   LoadCredential=pagerduty:/etc/evt/pagerduty.key\n",
        calendar: None,
    });

    const ACTION_FLAGS: Option<&'static [&'static str]> = Some(&["metrics", "quiet", "config", "log-format", "color"]);

    fn waits_at_terminal(&self) -> bool {
        self.action.is_none() && self.stage.waits_at_terminal()
    }

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        match &self.action {
            Some(Action::Test { rules, tests }) => {
                let loader = RuleLoader::new(rules, self.metrics.as_deref(), &run.caller())?;
                testing::run(&loader, tests, self.stage.common.quiet, run).map(|passed| u8::from(!passed))
            }
            None => self.stage(run)?.run(),
        }
    }

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        let mut rules = vec![];
        if let Some(loader) = findings.take(self.loader(run))
            && let Some(set) = findings.take(loader.load())
        {
            set.bad.iter().for_each(|bad| _ = findings.take::<()>(Err(Error::new(bad.error.kind(), bad.message()))));
            if set.bad.is_empty() && set.rules.is_empty() {
                findings.take::<()>(Err(loader.no_rule()));
            }
            set.rules.iter().for_each(|rule| findings.ready(format!("rule {}", rule.rule.name)));
            rules = set.rules;
        }
        if let Some(channels) =
            self.notify.as_deref().and_then(|path| findings.take(Channels::read(path, &run.console.secrets)))
        {
            let defined = channels.names().map(str::to_owned).collect();
            for line in messages::undefined_channels(&rules, &defined) {
                findings.take::<()>(Err(Error::config(line)));
            }
            channels.names().for_each(|name| findings.ready(format!("channel '{name}'")));
        }
        if let Some(path) = self.state.as_deref()
            && findings.take(StateFile::check(path)).is_some()
        {
            findings.ready(path.display());
        }
        findings.take(self.check_inputs(run));
        findings.take(self.range.span(run.clock.now(), &self.stage.map));
        let options = findings.take(self.source(run));
        findings.stage(self.spec(), options);
    }
}

impl Args {
    fn spec(&self) -> StageSpec<'_> {
        let continues = self.state.is_some();
        StageSpec { formats: LINES, kind: Some(Kind::Alert), continues, ..StageSpec::new(&self.stage) }
    }

    fn loader(&self, run: &Run) -> Result<RuleLoader> {
        let rules = self.rules.as_deref().ok_or_else(|| Error::usage("expected --rules FILE or URI"))?;
        RuleLoader::new(rules, self.metrics.as_deref(), &run.caller())
    }

    /// Returns the options of one source.
    fn source(&self, run: &Run) -> Result<SourceOptions> {
        let mut mapping = self.stage.map.options(Provenance::Keep)?;
        mapping.max_future = mapping.max_future.or(Some(MAX_FUTURE));
        if self.stage.output.dlq.is_some() {
            mapping.keep_raw = KeepRaw::Within;
        }
        let read_mode = if self.state.is_some() { ReadMode::Commit } else { ReadMode::Stateful };
        // The state is durable before offsets are committed, whatever the outputs confirm.
        let commit_mode = if self.state.is_some() { CommitMode::Assign } else { CommitMode::None };
        let mut options = self.stage.source(mapping, run)?;
        options.needs.shows_records = true;
        options.needs.keeps_state = self.state.is_some();
        options.needs.writes_letters = self.stage.output.dlq.is_some();
        options.inputs.topics =
            TopicOptions { read_mode, commit_mode, has_clock: true, finds_silence: false, stays_live: false };
        options.inputs.stores.order = StoreOrder::Time(time_columns);
        Ok(options)
    }

    /// Checks that a job of cron ends, and that the state can keep the positions of rows, and those of topics, which it
    /// knows by their origins. Errors: exit status 2.
    fn check_inputs(&self, run: &Run) -> Result<()> {
        let mut kept: Vec<(String, Option<Vec<i32>>)> = vec![];
        if self.state.is_some() && self.stage.map.options(Provenance::Keep)?.maps("offset") {
            return Err(Error::usage(
                "--field offset=… cannot be used with --state, which knows rows by their lines and offsets in the inputs",
            ));
        }
        for uri in self.stage.input.uris(run)? {
            let Uri::Kafka(address) = &uri else { continue };
            if self.once && address.options.end.is_none() {
                return Err(Error::usage(format!("{uri}: --once needs an end (end=latest)")));
            }
            let partitions = &address.options.partitions;
            let overlaps = |other: &Option<Vec<i32>>| match (other, partitions) {
                (Some(one), Some(other)) => one.iter().any(|partition| other.contains(partition)),
                _ => true,
            };
            let origins = self.stage.map.origin.as_ref().map_or(&address.topics[..], std::slice::from_ref);
            let twice = origins.iter().find(|origin| kept.iter().any(|(other, of)| other == *origin && overlaps(of)));
            if let Some(twice) = twice.filter(|_| self.state.is_some()) {
                return Err(Error::usage(format!(
                    "{uri}: expected each topic with a name and an origin of its own, found {twice} twice; the state could \
                     not tell them apart, so give the other one a run and a --state of its own"
                )));
            }
            kept.extend(origins.iter().map(|origin| (origin.clone(), partitions.clone())));
        }
        Ok(())
    }

    /// Opens the stage: checks outputs first, then the state, then the inputs.
    pub fn stage(&self, run: &Rc<Run>) -> Result<Stage> {
        let loader = self.loader(run)?;
        let channels = self.notify.as_deref().map(|path| Channels::read(path, &run.console.secrets)).transpose()?;
        self.check_inputs(run)?;
        let resolved = resolve(self.spec(), false, run).sound()?.check_servers(run)?;
        let state = self.state.as_deref().map(|path| StateFile::open(path, run)).transpose()?;
        let range = self.range.span(run.clock.now(), &self.stage.map)?;
        let options = EngineOptions { max_groups: self.max_groups, since: range.since };
        let saved = state.as_ref().map(StateFile::snapshot).transpose()?.flatten();
        let engine = match saved {
            Some(saved) => snapshot::restore(options, &saved)?,
            None => AlertEngine::new(options),
        };
        let names = channels.iter().flat_map(Channels::names).map(str::to_owned).collect();
        let sender = match (channels, self.state.as_deref()) {
            (Some(channels), Some(path)) => Some(Sender::start(channels, path, &run.console)?),
            (None, Some(path)) => {
                for (name, due) in Outbox::open(path, "")?.due_by_channel()? {
                    run.console.warn(format!("channel '{name}': {}, but there is no --notify", are_due(due)));
                }
                None
            }
            _ => None,
        };
        let Resolved { inputs, plans, dlq, .. } = resolved;
        let files = self.known_files(&inputs, state.as_ref(), run)?;
        let common = &self.stage.common;
        let plan = WriterPlan { plans, dlq, is_quiet: common.quiet, settles: state.is_some() };
        let refresh = Duration::from_micros(self.refresh.unsigned_abs());
        let rules = RuleRefresh::new(loader, refresh, run.clock.monotonic());
        let services = Services { state, sender, rules, is_once: self.once };
        let faults_shown = match run.report {
            Report::First(count) => count,
            Report::All => u64::MAX,
        };
        let (is_quiet, strict, stats) = (common.quiet, self.stage.records.strict, common.stats.clone());
        let max_future = self.stage.map.max_future.unwrap_or(MAX_FUTURE);
        let options = RunOptions { is_quiet, faults_shown, channels: names, max_future, range };
        let (mut alerts, mut sources) = (AlertSetup::new(options, engine, services, run)?, vec![]);
        let addresses =
            inputs.iter().filter_map(|uri| if let Uri::Kafka(address) = uri { Some(address) } else { None });
        alerts.named =
            addresses.flat_map(|address| address.topics.clone()).chain(self.stage.map.origin.clone()).collect();
        for ((number, uri), file) in (0..).zip(&inputs).zip(files) {
            if let Some((feed, source)) = self.feed(number, uri, file, &mut alerts)? {
                alerts.feeds.push(feed);
                sources.push(source);
            }
        }
        let (tolerates_losses, start_at) = (self.once, StartAt::Once);
        let options =
            StageOptions { quiet: is_quiet, strict, stats, tolerates_losses, start_at, ..StageOptions::default() };
        // The writer has the outputs.
        let outputs = Outputs::new(run.clone(), vec![], None, DeadLetters::new(run.clone(), None), is_quiet);
        let start =
            |_: SourceInfo<'_>| Ok(OperatorSetup::new(AlertOperator::start(alerts, plan)?, Kind::Alert.schema()));
        Ok(Stage::new(run.clone(), options, Feeds::new(sources), outputs, Box::new(start)))
    }

    /// Compares the files among the inputs with those that the state knows, and with each other.
    fn known_files(&self, inputs: &[Uri], state: Option<&StateFile>, run: &Run) -> Result<Vec<InputFile>> {
        let mut files: Vec<InputFile> = inputs.iter().map(|_| InputFile::Other).collect();
        for (at, uri) in inputs.iter().enumerate() {
            let Uri::Store(_, location) = uri else { continue };
            if inputs[..at].iter().any(|other| matches!(other, Uri::Store(_, other) if other == location)) {
                run.console.say(format!("{uri}: named twice, read once"));
                files[at] = InputFile::Twin;
            }
        }
        let Some(state) = state else { return Ok(files) };
        let (of_older, of_state) = (state.older_files()?, state.files()?);
        let mut found = vec![];
        for (at, uri) in inputs.iter().enumerate() {
            if matches!(uri, Uri::Bucket(_)) {
                // The next run would count its rows again.
                return Err(Error::usage(format!(
                    "{uri}: --state: expected a file, a topic or a store, found objects"
                )));
            }
            // An input that is not a file has no position, and reading it would take its rows.
            let Uri::File(path) = uri else { continue };
            if !path.is_file() {
                continue;
            }
            let name = uri.to_string();
            // This file is read, even if a rotation gives its path to another one.
            let opened = bytes::open(path).map_err(|error| Error::io(&name, &error))?;
            let named = FileName { name: &name, has_header: self.has_header(path)? };
            let older = of_older.iter().map(|mark| mark.compared(&opened, run.ratio_max));
            let mut known = older.collect::<Result<Vec<_>>>().map_err(|error| error.at(&name))?;
            known.extend_from_slice(&of_state);
            let file = identify(&opened, named, &known, run.ratio_max)?;
            if let Some(former) = file.former_name.as_ref().filter(|_| !self.stage.common.quiet) {
                run.console.say(format!("{name}: the same content as {former}, read as the same file"));
            }
            match file.is_without_rows {
                true => files[at] = InputFile::WithoutRows,
                false => found.push((at, opened, file)),
            }
        }
        // The content that had the name has another one now: the log was rotated.
        let moved: BTreeSet<String> = found.iter().filter_map(|(_, _, file)| file.former_name.clone()).collect();
        found.iter_mut().for_each(|(_, _, file)| file.is_rewritten &= !moved.contains(&file.mark.name));
        separate(found.iter_mut().map(|(_, _, file)| file));
        let marks: Vec<_> = found.iter().map(|(_, opened, file)| (opened, &file.mark)).collect();
        let twins = twins(&marks, run.ratio_max)?;
        for (one, other) in &twins {
            let [one, other] = [one, other].map(|at| &marks[*at].1.name);
            run.console.say(format!("{one}: the same content as {other}, read once"));
        }
        for (number, (at, opened, file)) in found.into_iter().enumerate() {
            let is_twin = twins.iter().any(|(one, _)| *one == number);
            files[at] = if is_twin { InputFile::Twin } else { InputFile::Known(file, opened) };
        }
        Ok(files)
    }

    /// Whether the first line of a file is a header: it is CSV, and no flag says otherwise.
    fn has_header(&self, path: &Path) -> Result<bool> {
        let (format, options) = self.stage.input.text.options(self.stage.input.input_format.as_deref())?;
        let format = format.or_else(|| format::by_extension(&path.to_string_lossy()));
        Ok(options.header == CsvHeader::FirstLine && format.is_some_and(|format| format.delimiter.is_some()))
    }

    /// A file whose position the state keeps may be in the middle of a record, which the next run reads. A run of cron
    /// says nothing of it: logs that are written in blocks nearly always end so.
    fn open_record(&self, uri: &Uri) -> OpenRecord {
        match uri {
            Uri::File(path) if self.state.is_some() && path.is_file() => match self.once {
                true => OpenRecord::LeaveSilently,
                false => OpenRecord::Leave,
            },
            _ => OpenRecord::Read,
        }
    }

    /// Opens the input with a number on the command line, unless another one has its rows too; it continues where the
    /// state says.
    fn feed(
        &self,
        number: u32,
        uri: &Uri,
        file: InputFile,
        alerts: &mut AlertSetup,
    ) -> Result<Option<(Feed, source::Source)>> {
        let (file, opened_file) = match file {
            InputFile::Twin => return Ok(None),
            InputFile::Known(file, opened) => (Some(file), Some(opened)),
            InputFile::WithoutRows => (None, Some(tempfile::tempfile().map_err(|error| Error::io(TEMPORARY, &error))?)),
            InputFile::Other => (None, None),
        };
        let run = alerts.run.clone();
        let mut options = self.source(&run)?;
        options.inputs.files.open_record = self.open_record(uri);
        options.opened = opened_file;
        let (mut opened, mut form, mut kept) = (uri.clone(), FeedForm::Bytes, KeptTopics::default());
        let (mut origins, named) = (vec![], self.stage.map.origin.as_ref());
        let mut topics = TopicNames { input: number, renamed: None };
        if let Uri::Kafka(address) = &mut opened {
            let is_framed = address.options.form == Some(TopicFormat::Frames);
            form = match is_framed || options.records.mapping.maps_partition() {
                true => FeedForm::Frames(address.topics.first().cloned().unwrap_or_default()),
                false => FeedForm::Records,
            };
            kept = alerts.continue_topics(address, named, form == FeedForm::Records)?;
            origins = address.topics.iter().map(|topic| named.unwrap_or(topic).clone()).collect();
            let renamed = address.topics.first().zip(named).filter(|_| form == FeedForm::Records);
            topics.renamed =
                renamed.map(|(topic, origin)| RenamedTopic { topic: topic.clone(), origin: origin.clone() });
            // The positions of the state count, whatever the group has committed; without them a topic begins with its
            // first records.
            if !kept.positions.is_empty() || self.state.is_some() && address.options.start.is_none() {
                let others = address.options.start.take().map(Box::new);
                let positions = kept.positions.clone();
                address.options.start = Some(Bound::Kept(KeptPositions { positions, others }));
            }
        }
        if matches!(uri, Uri::Store(..)) {
            form = FeedForm::Store;
        }
        let source = source::Source::open(std::slice::from_ref(&opened), options, run)?;
        let is_framed = matches!(form, FeedForm::Frames(_));
        let mut feed = Feed::new(topics, uri.to_string(), form, &mut alerts.to.clock);
        if let Some(whole) = kept.whole {
            feed.resume_whole(whole.stream_time, &mut alerts.to.clock);
        } else if is_framed {
            feed.resume_frames(kept.frames, &mut alerts.to.clock);
        } else {
            for KeptPosition { topic, partition, stream_time, .. } in kept.positions {
                let key = PartitionKey::new(number, origins[topic].clone(), partition.to_string());
                alerts.to.clock.announce(key, stream_time);
            }
        }
        feed.set_known(self.known_rows(uri, file, alerts)?);
        Ok(Some((feed, source)))
    }

    /// Returns how the rows of an input that an earlier run has evaluated are recognised.
    fn known_rows(&self, uri: &Uri, file: Option<KnownFile>, alerts: &AlertSetup) -> Result<KnownRows> {
        let name = uri.to_string();
        let (is_stored, is_topic) = (matches!(uri, Uri::Store(..)), matches!(uri, Uri::Kafka(_)));
        let is_bytes = !is_stored && !is_topic;
        // Rows of a file that was written anew may be those of an earlier run, and so may rows of a pipe.
        let is_rewritten = self.once && file.as_ref().is_some_and(|file| file.is_rewritten);
        let known_to = alerts.known_to(&name, is_stored);
        let state = alerts.services.state.as_ref().filter(|_| is_stored);
        let earlier = state.map(|state| state.topics().map(StoredTopics::by_origin)).transpose()?;
        let origin = self.stage.map.origin.clone().unwrap_or_else(|| uri.origin());
        Ok(match (file, earlier) {
            (Some(KnownFile { mark, .. }), _) => {
                KnownRows::File(FileRows::new(mark, known_to.filter(|_| is_rewritten), origin))
            }
            (None, Some(earlier)) => {
                // The tables of two schemas have positions of their own.
                let schema = match uri {
                    Uri::Store(_, location) => location.options.get("schema"),
                    _ => None,
                };
                let name = schema.map_or(name.clone(), |schema| format!("{name}?schema={schema}"));
                KnownRows::Store(ReadStore::new(name, earlier, known_to))
            }
            (None, None) => {
                let (is_substitution, is_pipe) = (is_substitution(&name), is_bytes && self.state.is_some());
                let read =
                    if self.once && is_bytes { alerts.beginning.partitions(&name) } else { PartitionTimes::new() };
                KnownRows::Unmarked(UnmarkedRows { read, origin, is_substitution, is_pipe, stored: 0 })
            }
        })
    }
}

/// An input after the comparison with the files that the state knows and with the other inputs.
enum InputFile {
    /// An input whose position is not kept as that of a file.
    Other,
    /// A file whose position is kept, with the open file that was compared.
    Known(KnownFile, File),
    /// A file that had no rows, and so no content by which later runs would know it. This run reads none of the rows
    /// that come meanwhile: it reads an empty file instead.
    WithoutRows,
    /// A file or a store whose rows another input has too.
    Twin,
}
