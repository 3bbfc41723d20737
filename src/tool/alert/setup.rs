//! A run of evt-alert before its first step: the rules as they were stored, the alert clock, and the feeds.

use super::feed::{Evaluation, Feed};
use super::load::RuleRefresh;
use super::positions::Beginning;
use super::state::StateFile;
use super::topics::{KeptTopics, ReadTopic};
use evt_core::alert::clock::{AlertClock, EarlierClock};
use evt_core::alert::engine::AlertEngine;
use evt_core::error::Result;
use evt_core::kind::span::Span;
use evt_kafka::address::Address;
use evt_notify::sender::Sender;
use evt_run::run::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The parts of a run beside its inputs and outputs: its state file, notifications and rules.
pub struct Services {
    /// The state file.
    pub state: Option<StateFile>,
    /// The threads that send notifications.
    pub sender: Option<Sender>,
    /// Reads the rules.
    pub rules: RuleRefresh,
    /// Whether the run is one of a cron job (`--once`).
    pub is_once: bool,
}

/// The options of a run, from its flags.
pub struct RunOptions {
    /// `-q`.
    pub is_quiet: bool,
    /// The number of faulty records that are reported one by one (`--report`).
    pub faults_shown: u64,
    /// The names of the channels; none without `--notify`.
    pub channels: BTreeSet<String>,
    /// How far rows may be ahead of the wall time (µs).
    pub max_future: i64,
    /// The range of time whose rows are evaluated.
    pub range: Span,
}

/// A run before its first step.
pub struct AlertSetup {
    /// The run.
    pub run: Rc<Run>,
    /// Its options.
    pub options: RunOptions,
    /// The rules, the alert clock and the positions.
    pub to: Evaluation,
    /// The feeds, in the order of their numbers.
    pub feeds: Vec<Feed>,
    /// The names and origins of all topics of the run.
    pub named: Vec<String>,
    /// The topics that the state has to know.
    pub topics: Vec<ReadTopic>,
    /// What earlier runs have read, if no instant has been evaluated.
    pub beginning: Beginning,
    /// The state file, notifications and rules.
    pub services: Services,
}

impl AlertSetup {
    /// Makes a run without feeds. `engine` is that of the state.
    pub fn new(options: RunOptions, engine: AlertEngine, services: Services, run: &Rc<Run>) -> Result<Self> {
        let saved_at = services.state.as_ref().map(StateFile::saved_at).transpose()?.flatten();
        let earlier = engine.clock().zip(saved_at).map(|(clock, saved_at)| EarlierClock {
            clock,
            passed: run.clock.now() - saved_at,
            start: run.clock.monotonic(),
        });
        let mut beginning = Beginning::default();
        if let Some(state) = &services.state {
            beginning = state.beginning()?;
            beginning.complete(&engine, state.positions()?);
        }
        let mut clock = AlertClock::new(earlier);
        clock.resume(beginning.first_rows.clone(), engine.read_to());
        let to = Evaluation { engine, clock, positions: BTreeMap::new() };
        let (run, feeds, named, topics) = (run.clone(), vec![], vec![], vec![]);
        Ok(Self { run, options, to, feeds, named, topics, beginning, services })
    }

    /// Returns where the state continues the topics of an input. `origin`, if given, is the origin of all rows instead
    /// of the name of their topic; `has_own` is whether the partitions of the rows are those of the topics.
    pub fn continue_topics(&mut self, address: &Address, origin: Option<&String>, has_own: bool) -> Result<KeptTopics> {
        let Some(state) = &self.services.state else { return Ok(KeptTopics::default()) };
        let stored = state.topics()?;
        let mut kept = stored.kept(address, origin.map(String::as_str), has_own, &self.named)?;
        for topic in &address.topics {
            let stored_as = stored.stored_as(topic, origin.filter(|_| has_own).map(String::as_str)).to_owned();
            let present = has_own.then(|| origin.unwrap_or(topic).clone());
            if let Some(present) = &present {
                let former = stored.origins.get(topic).and_then(Option::as_ref).unwrap_or(&stored_as);
                self.to.clock.rename(former, present);
            } else {
                kept.frames.extend(state.frame_partitions(topic)?);
            }
            self.topics.push(ReadTopic { topic: topic.clone(), origin: present, stored_as });
        }
        Ok(kept)
    }

    /// Returns the last instant (µs) of which an earlier run may have read rows of a store, or of a file with new
    /// content. While no instant has been evaluated, the state knows how far every file was read, and one that it does
    /// not know was never read; the rows of a store are known only together with their positions.
    pub fn known_to(&self, name: &str, is_stored: bool) -> Option<i64> {
        match self.to.engine.evaluated() {
            Some(_) => self.to.engine.known_to(),
            None if is_stored => None,
            None => self.beginning.partitions(name).into_values().max(),
        }
    }
}
