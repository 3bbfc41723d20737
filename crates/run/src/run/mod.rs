//! The context that all parts of one run share: console, clock, stop signal, limits, metrics.
//!
//! ```text
//! cli::main ─► Run { console, clock, stop, metrics, outages, io }
//!     ─┬─► Source, Operator, Outputs (the thread of the run)
//!      └─► Run::for_thread ─► threads of outputs, servers, stores
//! ```
//!
//! A signal of the process raises the stop signal of each run, which ends its waits. A simulation has an `Io` and a
//! clock of its own.
//!
//! `cli` makes a [`Run`] and passes it down; a thread gets its own copy by [`Run::for_thread`]. Clients of servers and
//! URIs have its [`Caller`]: the console, with the secrets of the run, and the stop signal. Several runs of one process
//! share none of these.
//! [`outages`] decides which Kafka client reports an outage; [`io`] and [`standard`] open standard input and output,
//! of which [`byte_stream`] is what inputs read.
//! `pipe_output` is standard output into a pipe, [`link`] is what is between two stages of one process.
//! [`memory`] has the default bound of state, [`worker`] is a thread of an output, [`report_file`] writes `--stats`.

pub mod byte_stream;
pub mod io;
pub mod link;
pub mod memory;
pub mod outages;
mod pipe_output;
pub mod report_file;
pub mod standard;
pub mod worker;

use self::io::Io;
use self::outages::Outages;
use crate::client::{Caller, CatalogSections};
use crate::clock::Clock;
use crate::console::{Colour, Console};
use crate::metrics::Metrics;
use crate::service::Service;
use crate::stop::Stop;
use crate::task_pool::TaskPool;
use crate::thread::Threads;
use evt_core::mapping::BATCH_ROWS;
use std::sync::Arc;
use std::time::Duration;

/// Approximate bytes of a row's JSON without its longest column.
const COLUMNS_BYTES: usize = 8 << 10;

/// How many faulty records are reported individually.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// This many, then one line a minute.
    First(u64),
    /// Every one.
    All,
}

/// The context of one run of one tool.
pub struct Run {
    /// Writes messages to stderr.
    pub console: Console,
    /// Standard input and output.
    pub io: Io,
    /// The clock.
    pub clock: Clock,
    /// The stop signal.
    pub stop: Stop,
    /// `--report`.
    pub report: Report,
    /// `--pipeline`: the name that the stages of one pipeline share.
    pub pipeline: String,
    /// The id of this run: distinguishes its rows in a store from those of other runs.
    pub id: String,
    /// `--max-record`: maximum size of an input record, in bytes.
    pub record_max: usize,
    /// The threads that share the work (`--threads`).
    pub pool: Arc<TaskPool>,
    /// Maximum number of raw records whose rows are one batch; tests set less.
    pub batch_max: usize,
    /// Settings of librdkafka for every topic (`--kafka-config`).
    pub kafka: Vec<(String, String)>,
    /// Outages of Kafka brokers.
    pub outages: Outages,
    /// The metrics that `--prometheus` exposes; disabled without it.
    pub metrics: Metrics,
    /// The service manager, if it started this process.
    pub service: Service,
    /// The destination of dead letters that the environment or a configuration sets for all stages.
    pub letters: Option<std::ffi::OsString>,
    /// The catalogs of tables of the `--config` file.
    pub catalogs: Arc<CatalogSections>,
    /// Maximum ratio of decompressed to compressed input.
    pub ratio_max: u64,
    /// Maximum bytes of rows that outputs may have in an epoch while the epoch before it is being committed.
    pub ahead_max: u64,
}

impl Run {
    /// How long rows may wait in an incomplete batch.
    pub const LINGER: Duration = Duration::from_millis(100);
    /// How long a stage waits for input before it checks what is due by time.
    pub const TICK: Duration = Duration::from_millis(200);
    /// Default maximum of the bytes of a record (`--max-record`).
    pub const RECORD_MAX: usize = 1 << 20;

    /// Bytes of rows that a stage reads ahead while an output commits the epoch before (1 GiB).
    pub const AHEAD_MAX: u64 = 1 << 30;

    /// Returns the maximum length of a line (bytes). A line that evt wrote may hold a record with escaped quotes (a
    /// dead letter, or an event with its raw record) and further columns; evt must be able to read what it wrote of the
    /// longest record.
    pub fn line_max(&self) -> usize {
        self.record_max.saturating_mul(3).saturating_add(COLUMNS_BYTES)
    }

    /// Makes a run with default settings, without signals and metrics: for tests and fuzz targets.
    pub fn unwatched(tool: &'static str, clock: Clock) -> Self {
        Self {
            console: Console::new(tool, Colour::Off),
            io: Io::Process,
            stop: Stop::never(&clock),
            clock,
            report: Report::First(0),
            pipeline: "evt".into(),
            id: "unwatched".into(),
            record_max: Self::RECORD_MAX,
            pool: TaskPool::new(Threads::ONE),
            batch_max: BATCH_ROWS,
            kafka: vec![],
            outages: Outages::default(),
            metrics: Metrics::default(),
            service: Service::of_environment(),
            letters: None,
            catalogs: Arc::default(),
            ratio_max: 1000,
            ahead_max: Self::AHEAD_MAX,
        }
    }

    /// Copies the run for another thread; outages are tracked separately there.
    pub fn for_thread(&self) -> Self {
        Self {
            console: self.console.clone(),
            io: Io::Process,
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            report: self.report,
            pipeline: self.pipeline.clone(),
            id: self.id.clone(),
            record_max: self.record_max,
            pool: self.pool.clone(),
            batch_max: self.batch_max,
            kafka: self.kafka.clone(),
            outages: Outages::default(),
            metrics: self.metrics.clone(),
            service: self.service.for_thread(),
            letters: self.letters.clone(),
            catalogs: self.catalogs.clone(),
            ratio_max: self.ratio_max,
            ahead_max: self.ahead_max,
        }
    }

    /// Returns what clients of servers have of the run.
    pub fn caller(&self) -> Caller {
        Caller { console: self.console.clone(), stop: self.stop.clone(), catalogs: self.catalogs.clone() }
    }

    /// Returns the host name, as dead letters contain it.
    pub fn host() -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
}
