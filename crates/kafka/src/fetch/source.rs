//! The fetcher as a [`RecordSource`].

use super::Fetcher;
use crate::position::{PartitionId, Position};
use crate::source::{FailingPartition, Message, RecordSink, RecordSource, SourceEvent};
use evt_core::error::Result;
use std::time::{Duration, Instant};

/// Number of polls of librdkafka's queue per step. A poll may return nothing although further events wait.
const EVENTS: usize = 8;

/// Reads records through the fetcher. librdkafka's partitions are paused: it only keeps the group.
pub struct FetchSource {
    fetcher: Fetcher,
    /// librdkafka's source. It keeps the membership in the group, and replaces this source if the fetcher cannot read
    /// on.
    library: Option<Box<dyn RecordSource>>,
    /// The result of the last wait.
    waited: Option<SourceEvent>,
}

impl FetchSource {
    /// Makes a source of this fetcher and of librdkafka's source.
    pub fn new(fetcher: Fetcher, library: Box<dyn RecordSource>) -> Self {
        Self { fetcher, library: Some(library), waited: None }
    }

    /// Returns the next error of librdkafka. Its other events are dropped: its partitions are paused, so their ends and
    /// offsets do not matter, and a message in its queue was fetched before the pause.
    fn library_event(&mut self) -> Result<Option<SourceEvent>> {
        let Some(library) = &mut self.library else { return Ok(None) };
        for _ in 0..EVENTS {
            if let event @ SourceEvent::Failed(_) = library.poll(&mut Discard)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

impl RecordSource for FetchSource {
    fn assign(&mut self, starts: &[Position]) -> Result<()> {
        if let Some(library) = &mut self.library {
            library.assign(starts)?;
            library.pause(&starts.iter().map(|start| start.id).collect::<Vec<_>>())?;
        }
        self.reset(starts)
    }

    fn reset(&mut self, starts: &[Position]) -> Result<()> {
        starts.iter().for_each(|start| self.fetcher.read(*start));
        Ok(())
    }

    fn read_again(&mut self, start: Position) -> Result<()> {
        self.fetcher.read(start);
        Ok(())
    }

    fn pause(&mut self, partitions: &[PartitionId]) -> Result<()> {
        partitions.iter().for_each(|id| self.fetcher.remove(*id));
        Ok(())
    }

    fn revoke(&mut self, partitions: &[PartitionId]) -> Result<()> {
        self.pause(partitions)?;
        self.library.as_mut().map_or(Ok(()), |library| library.revoke(partitions))
    }

    fn poll(&mut self, sink: &mut dyn RecordSink) -> Result<SourceEvent> {
        if let Some(event) = self.library_event()? {
            return Ok(event);
        }
        let event = match self.waited.take() {
            Some(event) => event,
            None => self.fetcher.wait(Duration::ZERO)?,
        };
        if matches!(event, SourceEvent::Records) {
            self.fetcher.pass(sink)?;
        }
        Ok(event)
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        if self.waited.is_none() {
            self.waited = Some(self.fetcher.wait(timeout)?).filter(|event| !matches!(event, SourceEvent::Idle));
        }
        Ok(())
    }

    fn fall_back(&mut self) -> Option<Box<dyn RecordSource>> {
        self.library.take()
    }

    fn has_own_connections(&self) -> bool {
        self.fetcher.is_reading()
    }

    fn reads_by_id(&self) -> bool {
        self.fetcher.reads_by_id()
    }

    fn confirmed(&self, id: PartitionId) -> Option<Instant> {
        self.fetcher.answered(id)
    }

    fn failing(&self) -> Option<FailingPartition<'_>> {
        self.fetcher.failing()
    }
}

/// Ignores records.
struct Discard;

impl RecordSink for Discard {
    fn record(&mut self, _: PartitionId, _: &Message<'_>) -> Result<bool> {
        Ok(false)
    }

    fn read_to(&mut self, _: PartitionId, _: Option<i64>, _: i64) -> Result<bool> {
        Ok(false)
    }
}
