//! What every part of one run shares: its clock, its voice, its stop signal.

pub mod outages;
pub mod standard;

use self::outages::Outages;
use crate::clock::Clock;
use crate::console::{Colour, Console};
use crate::metrics::Metrics;
use crate::service::Service;
use crate::stop::Stop;
use std::time::Duration;

/// How many faulty records are reported one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// This many, then one line a minute.
    First(u64),
    /// Every one.
    All,
}

/// One run of one tool.
pub struct Run {
    /// The tool's voice on stderr.
    pub console: Console,
    /// The clock.
    pub clock: Clock,
    /// Whether a signal asked to stop.
    pub stop: Stop,
    /// `--report`.
    pub report: Report,
    /// `--pipeline`: the name under which the stages of one pipe find each other.
    pub pipeline: String,
    /// The name of this run: tells its rows in a store from those of other runs.
    pub id: String,
    /// `--max-record`: bytes of the longest record that is read.
    pub record_max: usize,
    /// Settings of librdkafka for every topic (`--kafka-config`).
    pub kafka: Vec<(String, String)>,
    /// Which brokers were away.
    pub outages: Outages,
    /// What `--prometheus` shows; switched off without it.
    pub metrics: Metrics,
    /// The service manager, where one started this process.
    pub service: Service,
    /// Where the environment or a configuration says that the dead letters of all stages go.
    pub letters: Option<std::ffi::OsString>,
    /// Bytes that packed input may grow to, as a multiple of its packed size.
    pub ratio_max: u64,
}

impl Run {
    /// How long rows may wait in a batch that is not full.
    pub const LINGER: Duration = Duration::from_millis(100);
    /// How long a stage waits for input before it looks at what depends on the clock alone.
    pub const TICK: Duration = Duration::from_millis(200);

    /// A run by default settings that no signal stops and that nobody watches: what a test or a fuzz target begins with.
    pub fn unwatched(tool: &'static str, clock: Clock) -> Self {
        Self {
            console: Console::new(tool, Colour::Off),
            clock,
            stop: Stop::never(),
            report: Report::First(0),
            pipeline: "evt".into(),
            id: "unwatched".into(),
            record_max: 1 << 20,
            kafka: vec![],
            outages: Outages::default(),
            metrics: Metrics::default(),
            service: Service::of_environment(),
            letters: None,
            ratio_max: 1000,
        }
    }

    /// The same run for another thread, with outages of its own.
    pub fn for_thread(&self) -> Self {
        Self {
            console: self.console.clone(),
            clock: self.clock,
            stop: self.stop.clone(),
            report: self.report,
            pipeline: self.pipeline.clone(),
            id: self.id.clone(),
            record_max: self.record_max,
            kafka: self.kafka.clone(),
            outages: Outages::default(),
            metrics: self.metrics.clone(),
            service: Service::of_environment(),
            letters: self.letters.clone(),
            ratio_max: self.ratio_max,
        }
    }

    /// The name of this host, as dead letters carry it.
    pub fn host() -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
}
