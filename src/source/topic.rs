//! Topics among the inputs of a source.

use super::{Current, Source};
use crate::error::{Error, Result};
use crate::frame::{Control, How, Progress};
use crate::ingest::Item;
use crate::input::{Lag, Step};
use crate::kafka::input::{KafkaInput, endless};
use crate::kafka::range::Role;
use crate::kafka::records::Framed;
use crate::kind::{Kind, letters};
use crate::uri::kafka::Address;
use std::collections::VecDeque;

/// Topics that have their turn later, and those that had it.
#[derive(Default)]
pub(super) struct Topics {
    waiting: VecDeque<Box<KafkaInput>>,
    read: VecDeque<Box<KafkaInput>>,
}

impl Topics {
    /// Whether some topic of frames was not begun yet.
    pub(super) fn is_framed_waiting(&self) -> bool {
        self.waiting.iter().any(|input| input.is_framed())
    }
}

impl Source {
    /// Asks the brokers what there is; every partition is known from the start.
    pub(super) fn open_topics(&mut self, address: &Address) -> Result<()> {
        let (works, offsets) = (matches!(self.options.role, Role::Works | Role::Recomputes), self.options.offsets);
        if works && address.options.group.is_some() && self.is_mapped() {
            return Err(Error::usage(format!(
                "{address}: group=: a committed offset keeps the stream time of its own partition, and a flag maps rows onto others"
            )));
        }
        let role = (self.options.role, offsets);
        let origin = self.options.origin.as_deref();
        let input = KafkaInput::open(address, role, origin, &self.run, &mut self.ingest)?;
        self.topics.waiting.push_back(Box::new(input));
        Ok(())
    }

    /// The next input is topics that were asked already.
    pub(super) fn begin_topics(&mut self) -> Result<()> {
        let Some(input) = self.topics.waiting.pop_front() else { return Ok(()) };
        if input.is_endless() && !self.pending.is_empty() {
            return Err(endless(&input.name()));
        }
        self.current = Some(Current::Topics(input));
        Ok(())
    }

    /// Whether every row before the positions that were noted has been handed out: the outputs may be asked to settle.
    pub fn can_commit(&self) -> bool {
        let noted = match &self.current {
            Some(Current::Topics(input)) => input.has_noted(),
            Some(Current::Door(door)) => door.has_noted(),
            _ => false,
        };
        noted && self.ahead.is_empty() && self.queue.is_empty() && !self.ingest.is_ready() && !self.ingest.has_letters()
    }

    /// The outputs are safe up to the positions that were noted.
    pub fn commit(&mut self) -> Result<()> {
        match &mut self.current {
            Some(Current::Topics(input)) => input.commit(&mut self.ingest),
            Some(Current::Door(door)) => door.commit(&self.run),
            _ => Ok(()),
        }
    }

    /// The run has ended and its outputs are safe.
    pub fn commit_end(&mut self) -> Result<()> {
        let current = match &mut self.current {
            Some(Current::Topics(input)) => Some(input),
            _ => None,
        };
        self.door.as_mut().map_or(Ok(()), |door| door.commit_end(&mut self.ingest))?;
        current.into_iter().chain(&mut self.topics.read).try_for_each(|input| input.commit_end(&mut self.ingest))
    }

    /// How far reading is behind in each partition of a topic; `now` is the time (µs).
    pub fn lag(&self, now: i64) -> Vec<Lag> {
        let current = if let Some(Current::Topics(input)) = &self.current { Some(input) } else { None };
        self.topics.read.iter().chain(current).flat_map(|input| input.lag(now)).collect()
    }

    /// Rows that keep their stamps, and what is known of their partitions.
    fn take_framed(&mut self, framed: Framed, complete: bool, name: &str) -> Result<()> {
        match framed {
            Framed::Schema(schema) => {
                let Some(kind) = Kind::of(&schema) else {
                    return Err(Error::corrupt("its frames hold rows of no kind of evt").at(name));
                };
                let schema = letters::widened_schema(&schema);
                self.check_columns(&schema, name)?;
                self.same_kind(kind)?;
                self.schema.get_or_insert(schema);
            }
            Framed::Batch(batch) => self.push_batch(batch, name)?,
            Framed::News(partitions) => {
                self.take_control(Control::Progress(Progress { partitions, complete, ..Progress::default() }));
            }
            Framed::Watermark(instant) => self.take_control(Control::Watermark(instant)),
        }
        Ok(())
    }

    /// Frames tell of their partitions themselves.
    fn tell_of(&mut self, input: &KafkaInput) {
        if !input.is_framed() {
            self.tell(input.extent());
        }
    }

    pub(super) fn step_topics(&mut self, mut input: Box<KafkaInput>) -> Result<()> {
        let step = input.step(&mut self.ingest)?;
        let noted = input.note(&mut self.ingest)?;
        while let Some((framed, complete)) = input.framed() {
            self.take_framed(framed, complete, &input.name())?;
        }
        match step {
            Step::More => {
                self.tell_of(&input);
                if noted {
                    // Whoever asks next has taken in all that came before.
                    self.send(Item::Idle);
                }
                self.current = Some(Current::Topics(input));
            }
            Step::Idle => {
                self.ingest.rest()?;
                self.tell_of(&input);
                self.send(Item::Idle);
                self.current = Some(Current::Topics(input));
            }
            Step::End => {
                self.ingest.flush()?;
                self.read = input.extent();
                if input.is_framed() {
                    let (progress, verdict) = input.framed_end();
                    self.verdict = self.verdict.max(verdict);
                    self.take_control(Control::Progress(progress));
                }
                let complete = self.is_complete() || self.pending.is_empty();
                self.ingest.progress(complete, self.read);
                self.topics.read.push_back(input);
            }
            Step::Stopped => {
                input.stop(&mut self.ingest);
                self.stop()?;
                self.how = How::Stopped;
                self.topics.read.push_back(input);
            }
        }
        Ok(())
    }
}
