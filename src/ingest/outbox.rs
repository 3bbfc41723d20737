//! The queue of what the inputs of a run hand out, and the progress messages between their rows.

use super::{ByteProgress, Item, Sent};
use crate::frame::{Control, Progress};
use crate::mapping::Stamper;
use std::collections::VecDeque;

/// How many bytes of input lie between two progress messages at most.
const PROGRESS_BYTES: u64 = 16 << 20;
/// How many progress messages an input of known size gets at least.
const PROGRESS_STEPS: u64 = 64;

/// What the inputs of a run that were not read yet may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Whether inputs follow that were not opened yet.
    pub pending: bool,
    /// Whether every partition there will be is known, as far as raw inputs can tell.
    pub complete: bool,
}

/// The queue, in the order of the records.
pub(super) struct Outbox {
    queue: VecDeque<Sent>,
    /// The input that is read.
    current: u32,
    rest: Rest,
    /// How much of it was read at the last progress message.
    bytes: ByteProgress,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let rest = Rest { pending: true, complete: false };
        Self { queue: VecDeque::new(), current: 0, rest, bytes: ByteProgress::default() }
    }

    pub(super) fn send(&mut self, input: u32, item: Item) {
        self.queue.push_back(Sent { input, item });
    }

    /// Queues an item of the input that is read.
    pub(super) fn send_of_current(&mut self, item: Item) {
        self.send(self.current, item);
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<Sent> {
        self.queue.pop_front()
    }

    pub(super) fn turn_to(&mut self, input: u32, bytes: ByteProgress, rest: Rest) {
        (self.current, self.bytes, self.rest) = (input, bytes, rest);
    }

    /// Queues a progress message if one is due: partitions are new, or many bytes have been read since the last one.
    pub(super) fn report_progress(&mut self, stamper: &mut Stamper, bytes: ByteProgress) {
        let step = bytes.total.map_or(PROGRESS_BYTES, |total| PROGRESS_BYTES.min(total / PROGRESS_STEPS).max(1));
        let is_far = bytes.done < self.bytes.done || bytes.done.saturating_sub(self.bytes.done) >= step;
        if is_far || stamper.has_news() {
            self.bytes = bytes;
            self.progress(stamper, self.rest.complete);
        }
    }

    pub(super) fn end_input(&mut self, stamper: &mut Stamper, bytes: ByteProgress, complete: bool) {
        stamper.end(self.current);
        self.bytes = bytes;
        self.progress(stamper, complete || self.rest.complete);
    }

    fn progress(&mut self, stamper: &mut Stamper, complete: bool) {
        let ByteProgress { done, total } = self.bytes;
        let progress = Progress { partitions: stamper.news(), complete, bytes_done: done, bytes_total: total };
        self.send_of_current(Item::Control(Control::Progress(progress)));
    }

    pub(super) fn control(&mut self, stamper: &mut Stamper, control: Control) {
        let Control::Progress(mut progress) = control else {
            return self.send_of_current(Item::Control(control));
        };
        let is_complete = progress.complete;
        progress.complete &= !self.rest.pending;
        for partition in &mut progress.partitions {
            partition.input = self.current;
            stamper.take_over(self.current, &partition.origin, &partition.partition);
        }
        self.send_of_current(Item::Control(Control::Progress(progress)));
        if is_complete {
            self.withdraw(stamper);
        }
    }

    pub(super) fn withdraw(&mut self, stamper: &mut Stamper) {
        if stamper.withdraw(self.current) {
            self.progress(stamper, self.rest.complete);
        }
    }
}
