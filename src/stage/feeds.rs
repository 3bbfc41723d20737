//! The feeds of a stage: sources that are read side by side, each with a schema, a kind and positions of its own.
//!
//! ```text
//! Feeds ─► Source of feed 0 ─┐
//!          Source of feed 1 ─┼─ poll: the feed that is furthest behind first ─► item, and where it comes from
//!          …                ─┘
//! ```
//!
//! Most stages have one feed: the inputs of a source have rows of one kind, and one follows another. A stage whose
//! inputs have rows of different kinds has several; `poll.rs` decides which of them is read.

use crate::source;
use evt_core::counts::{Counts, DoneRecords};
use evt_core::error::Result;
use evt_core::frame::{End, EndReason};
use evt_run::clock::Clock;
use evt_run::input::{EndProof, Lag};
use evt_run::run::Run;
use std::time::Duration;

/// How long a stage with several open feeds waits at most before it polls them again: it cannot wait for all at once.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Where an item comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedInput {
    /// The number of the feed.
    pub feed: usize,
    /// The number of the input in its source. It is part of the identity of a partition (decision 068).
    pub input: u32,
}

/// A source and its end.
struct Feed {
    source: source::Source,
    end: Option<End>,
}

/// The feeds of a stage.
pub struct Feeds {
    feeds: Vec<Feed>,
    /// The open feeds in the order in which they are polled.
    order: Vec<usize>,
}

impl From<source::Source> for Feeds {
    fn from(source: source::Source) -> Self {
        Self::new(vec![source])
    }
}

impl Feeds {
    /// Makes the feeds of these sources; their numbers are the indexes.
    pub fn new(sources: Vec<source::Source>) -> Self {
        let order = (0..sources.len()).collect();
        Self { feeds: sources.into_iter().map(|source| Feed { source, end: None }).collect(), order }
    }

    /// Returns the sources in the order of their numbers.
    pub fn sources(&self) -> impl Iterator<Item = &source::Source> {
        self.feeds.iter().map(|feed| &feed.source)
    }

    /// Returns the source of a feed.
    pub fn source(&mut self, feed: usize) -> &mut source::Source {
        &mut self.feeds[feed].source
    }

    /// Returns the source of a stage that has one feed, such as each with a checkpoint.
    pub(super) fn only(&mut self) -> &mut source::Source {
        self.source(0)
    }

    /// Whether every input of every feed ends by itself.
    pub(super) fn are_bounded(&self) -> bool {
        self.feeds.iter().all(|feed| feed.source.is_bounded())
    }

    /// Whether nothing is left to read.
    pub(super) fn have_ended(&self) -> bool {
        self.order.iter().all(|feed| self.feeds[*feed].source.has_ended())
    }

    /// Returns the open feeds that have noted positions, of which the operator has every row
    /// ([`source::Source::can_commit`]).
    pub(super) fn committable(&self) -> Vec<usize> {
        self.order.iter().copied().filter(|feed| self.feeds[*feed].source.can_commit()).collect()
    }

    /// Returns the open feeds in the order of `read_to`, the stream time (µs) to which each was read: least first.
    pub(super) fn in_order(&mut self, read_to: impl Fn(usize) -> Option<i64>) -> Vec<usize> {
        if self.order.len() > 1 {
            // Feeds that are equally far stay in the order of the command line.
            self.order.sort_by_key(|feed| (read_to(*feed), *feed));
        }
        self.order.clone()
    }

    /// Waits until an open feed may have something to read, a signal arrives, or `timeout` has passed.
    pub(super) fn wait(&mut self, timeout: Duration, run: &Run) -> Result<()> {
        match self.order[..] {
            [] => Ok(()),
            [only] => self.feeds[only].source.wait(timeout),
            _ => run.stop.sleep(timeout.min(POLL_INTERVAL)).map(|_| ()),
        }
    }

    /// Ends a feed. Returns the end of all feeds, if it was the last one: it is stopped if one was, and has the worst
    /// exit status.
    pub(super) fn end(&mut self, feed: usize, end: End) -> Option<End> {
        self.feeds[feed].end = Some(end);
        self.order.retain(|open| *open != feed);
        let worse = |one: End, other: End| {
            let how = if one.how == EndReason::Stopped { one.how } else { other.how };
            End { how, rows: one.rows + other.rows, verdict: one.verdict.max(other.verdict) }
        };
        let ends: Option<Vec<End>> = self.feeds.iter().map(|feed| feed.end).collect();
        ends.and_then(|ends| ends.into_iter().reduce(worse))
    }

    /// Returns the counts of records read, by outcome within the sources.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.sources().for_each(|source| counts.add(&source.counts()));
        counts
    }

    /// Returns the weakest proof of an end so far.
    pub fn proof(&self) -> EndProof {
        self.sources().map(source::Source::proof).min().unwrap_or(EndProof::Proven)
    }

    /// Returns the lag of topics. The system clock measures it, whatever `--now` is, because Kafka's timestamps come
    /// from real clocks.
    pub fn lag(&self) -> Vec<Lag> {
        let now = Clock::System.now();
        self.sources().flat_map(|source| source.lag(now)).collect()
    }

    /// Commits the last positions of all feeds. Call it only after the outputs have ended and are durable.
    pub(super) fn commit_end(&mut self) -> Result<()> {
        self.feeds.iter_mut().try_for_each(|feed| feed.source.commit_end())
    }

    /// Reports records that were acknowledged to clients and are lost because the run fails; `done` of the only input
    /// are not.
    pub(super) fn report_lost(&mut self, done: DoneRecords) {
        let is_only = self.feeds.len() == 1;
        for Feed { source, .. } in &mut self.feeds {
            source.report_lost(Some(done).filter(|_| is_only && source.is_single()));
        }
    }
}
