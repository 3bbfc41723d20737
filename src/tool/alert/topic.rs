//! How far the topics of a feed were read, and whether their brokers answer.

use crate::source;
use evt_core::error::Result;
use evt_core::time::{SECOND, whole_seconds};
use evt_run::input::ReadPosition;
use evt_run::run::Run;
use std::time::Duration;

/// How often the ends of topics are compared with what was read.
const ENDS_INTERVAL: Duration = Duration::from_millis(200);
/// How long brokers may be silent before that is reported.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a record without an arrival waits for the rows that `--max-future` compares it with (µs), less than the
/// clock waits for rows. In a partition with few records it is then compared with the time at which it was read.
pub const HELD_MAX: i64 = SECOND / 2;

/// How far topics were read at some time.
pub struct NotedEnds {
    /// The number of items of the source after which all rows before `reached` have been sent.
    pub items: u64,
    /// The position in each partition.
    pub reached: Vec<ReadPosition>,
}

impl NotedEnds {
    /// Notes how far the topics of a source are read; `stores` whether these positions are stored.
    pub fn new(source: &mut source::Source, stores: bool) -> Result<Self> {
        let (items, reached) = source.reached(stores)?;
        Ok(Self { items, reached })
    }
}

/// The state of the checks whether topics are read to the ends of their partitions, and whether their brokers answer.
pub struct TopicEnds {
    /// The name of the feed.
    name: String,
    /// The last look at the topics, and the first one.
    noted_at: Option<Duration>,
    began: Option<Duration>,
    /// How far the topics were read, until the rows before that are taken.
    noted: Option<NotedEnds>,
    /// Since when brokers have not answered, if that was reported.
    silent_since: Option<Duration>,
}

impl TopicEnds {
    /// Begins with nothing noted; `name` is that of the feed.
    pub fn new(name: String) -> Self {
        Self { name, noted_at: None, began: None, noted: None, silent_since: None }
    }

    /// Whether a broker does not answer.
    pub fn is_silent(&self) -> bool {
        self.silent_since.is_some()
    }

    /// Notes from time to time how far the topics are read; returns that once the rows before it are taken. `now` is
    /// monotonic.
    pub fn note(&mut self, source: &mut source::Source, run: &Run, now: Duration) -> Result<Option<Vec<ReadPosition>>> {
        if self.noted.is_none() && self.noted_at.is_none_or(|at| now.saturating_sub(at) >= ENDS_INTERVAL) {
            self.noted_at = Some(now);
            source.release_waited(run.clock.now() - HELD_MAX)?;
            self.noted = Some(NotedEnds::new(source, false)?);
        }
        Ok(self.noted.take_if(|noted| source.taken() >= noted.items).map(|noted| noted.reached))
    }

    /// Reports once that brokers do not respond, and once that they do again. The clock is paused in between, and a
    /// process that did not run before `resumed` has read no answer.
    pub fn report_silence(&mut self, reached: &[ReadPosition], resumed: Duration, run: &Run, now: Duration) {
        let (name, start) = (&self.name, *self.began.get_or_insert(now));
        let answered = reached.iter().map(|one| one.answered.unwrap_or(start)).min().unwrap_or(now);
        // An answer that came during a stall was not read: a stall begins no silence. Nor does it end one.
        let silence = now.saturating_sub(answered.max(resumed));
        match self.silent_since {
            // The client of the brokers has reported an outage itself.
            None if silence >= SILENCE && !run.outages.is_any() => {
                self.silent_since = Some(answered);
                let silence = whole_seconds(silence);
                run.console.warn(format!("{name}: no broker has responded for {silence}; the alert clock is paused"));
            }
            Some(since) if now.saturating_sub(answered) < SILENCE => {
                self.silent_since = None;
                let duration = whole_seconds(now.saturating_sub(since));
                run.console.say(format!("{name}: brokers answer again after {duration}"));
            }
            _ => {}
        }
    }
}
