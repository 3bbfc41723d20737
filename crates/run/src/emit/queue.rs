//! The queue of items from the inputs of a run to the stage, and the progress messages between them.

use super::letters::Dead;
use arrow::array::RecordBatch;
use evt_core::frame::{Control, End, Progress};
use evt_core::mapping::PartitionTable;
use std::collections::VecDeque;

/// Maximum bytes of input between two progress messages.
const PROGRESS_BYTES: u64 = 16 << 20;
/// Minimum number of progress messages of an input of known size.
const PROGRESS_STEPS: u64 = 64;

/// An item of a source.
#[derive(Debug)]
pub enum Item {
    /// Rows of the source's kind.
    Batch(RecordBatch),
    /// Records that could not become rows.
    Dead(Dead),
    /// A control message other than an end.
    Control(Control),
    /// No input has had a record for some time, or a commit of the items before this one is due.
    Idle,
    /// The end of all inputs; nothing follows.
    End(End),
}

/// An item, and the number of the input argument that it came from.
#[derive(Debug)]
pub struct QueuedItem {
    /// The input's number, from 0.
    pub input: u32,
    /// The item.
    pub item: Item,
}

/// How many bytes of an input have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteProgress {
    /// Bytes read from the file or pipe, before decompression.
    pub done: u64,
    /// The size of the input before decompression; `None` if it is not known.
    pub total: Option<u64>,
}

/// The inputs that are not open yet, and whether they may add partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingInputs {
    /// Whether there are inputs that were not opened yet.
    pub pending: bool,
    /// Whether all partitions of raw inputs are known already.
    pub complete: bool,
}

/// What an input does between its records.
#[derive(Clone, Copy, Debug)]
pub(super) enum InputStep {
    /// So many bytes are read: a progress message may be due.
    Progress(ByteProgress),
    /// It begins a batch.
    Batch(u32),
    /// It ends behind so many bytes, and others follow.
    End(ByteProgress),
    /// It becomes the current one.
    Turn { input: u32, bytes: ByteProgress, rest: PendingInputs },
}

/// The queue, in the order of the records.
pub struct ItemQueue {
    queue: VecDeque<QueuedItem>,
    /// The number of items that were taken from the queue.
    taken: u64,
    /// The number of the current input.
    current: u32,
    rest: PendingInputs,
    /// The position in the current input at its last progress message.
    bytes: ByteProgress,
}

impl ItemQueue {
    pub(super) fn new() -> Self {
        let rest = PendingInputs { pending: true, complete: false };
        Self { queue: VecDeque::new(), taken: 0, current: 0, rest, bytes: ByteProgress::default() }
    }

    /// Queues an item of input number `input`.
    pub(super) fn send(&mut self, input: u32, item: Item) {
        self.queue.push_back(QueuedItem { input, item });
    }

    /// Queues an item of the current input.
    pub(super) fn send_of_current(&mut self, item: Item) {
        self.send(self.current, item);
    }

    pub(super) fn pop(&mut self) -> Option<QueuedItem> {
        let item = self.queue.pop_front();
        self.taken += u64::from(item.is_some());
        item
    }

    /// Returns the number of items so far, taken or not.
    pub fn queued(&self) -> u64 {
        self.taken + self.queue.len() as u64
    }

    /// Returns the number of items that were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Makes `input` the current input, of which `bytes` have been read.
    pub(super) fn turn_to(&mut self, input: u32, bytes: ByteProgress, rest: PendingInputs) {
        (self.current, self.bytes, self.rest) = (input, bytes, rest);
    }

    /// Queues a progress message if partitions are new or have ended, or if enough bytes have been read since the last
    /// one.
    pub(super) fn report_progress(&mut self, partition_table: &mut PartitionTable, bytes: ByteProgress) {
        let step = bytes.total.map_or(PROGRESS_BYTES, |total| PROGRESS_BYTES.min(total / PROGRESS_STEPS).max(1));
        let is_far = bytes.done < self.bytes.done || bytes.done.saturating_sub(self.bytes.done) >= step;
        if is_far || partition_table.has_changes() {
            self.bytes = bytes;
            self.progress(partition_table, self.rest.complete);
        }
    }

    /// Ends the partitions of the current input and queues a progress message; `complete` if no partition can follow.
    pub(super) fn end_input(&mut self, partition_table: &mut PartitionTable, bytes: ByteProgress, complete: bool) {
        partition_table.end(self.current);
        self.bytes = bytes;
        self.progress(partition_table, complete || self.rest.complete);
    }

    /// Queues a progress message with the partitions that are new or have ended.
    fn progress(&mut self, partition_table: &mut PartitionTable, complete: bool) {
        let ByteProgress { done, total } = self.bytes;
        let progress =
            Progress { partitions: partition_table.changes(), complete, bytes_done: done, bytes_total: total };
        self.send_of_current(Item::Control(Control::Progress(progress)));
    }

    /// Queues a control message of the current input's stream. The partitions of a progress message get the number of
    /// the input, and the message is complete only if no input is pending. The queue no longer reports the partitions
    /// that the stream reports itself. Once the stream has reported all of its partitions, the queue withdraws the
    /// others that were announced for the input.
    pub(super) fn control(&mut self, partition_table: &mut PartitionTable, control: Control) {
        let Control::Progress(mut progress) = control else {
            return self.send_of_current(Item::Control(control));
        };
        let is_complete = progress.complete;
        progress.complete &= !self.rest.pending;
        for partition in &mut progress.partitions {
            partition.input = self.current;
            partition_table.take_over(self.current, &partition.origin, &partition.partition);
        }
        self.send_of_current(Item::Control(Control::Progress(progress)));
        if is_complete {
            self.withdraw(partition_table);
        }
    }

    /// Withdraws the partitions announced for the current input; queues a progress message if one of them was already
    /// reported.
    pub(super) fn withdraw(&mut self, partition_table: &mut PartitionTable) {
        if partition_table.withdraw(self.current) {
            self.progress(partition_table, self.rest.complete);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::frame::{PartitionState, State};

    const OPEN: PendingInputs = PendingInputs { pending: false, complete: false };

    /// Takes the progress messages from the queue.
    fn progress(queue: &mut ItemQueue) -> Vec<Progress> {
        let items = std::iter::from_fn(|| queue.pop());
        let progress = items.map(|sent| match sent.item {
            Item::Control(Control::Progress(progress)) => progress,
            other => panic!("{other:?}"),
        });
        progress.collect()
    }

    #[test]
    fn progress_is_reported_at_each_step_of_an_input_and_at_once_for_a_new_partition() {
        for (total, step) in
            [(Some(6_400), 100), (Some(10), 1), (Some(1 << 40), PROGRESS_BYTES), (None, PROGRESS_BYTES)]
        {
            let (mut queue, mut table) = (ItemQueue::new(), PartitionTable::default());
            let bytes = |done| ByteProgress { done, total };
            queue.turn_to(0, bytes(0), OPEN);
            queue.report_progress(&mut table, bytes(step - 1));
            assert!(progress(&mut queue).is_empty(), "{total:?}: before the first step");
            queue.report_progress(&mut table, bytes(step));
            let [first] = &progress(&mut queue)[..] else { panic!("{total:?}: one message") };
            assert_eq!((first.bytes_done, first.bytes_total), (step, total));
            table.partition("in", "0");
            queue.report_progress(&mut table, bytes(step));
            let [second] = &progress(&mut queue)[..] else { panic!("{total:?}: one message") };
            assert_eq!(second.partitions.len(), 1);
        }
    }

    #[test]
    fn the_progress_of_a_stream_replaces_what_was_announced_and_is_complete_only_without_pending_inputs() {
        let reported = PartitionState {
            input: 9,
            origin: "t".to_owned(),
            partition: "0".to_owned(),
            stream_time: Some(5),
            state: State::Live,
        };
        for pending in [true, false] {
            let (mut queue, mut table) = (ItemQueue::new(), PartitionTable::default());
            table.set_input(3);
            table.partition("t", "0");
            queue.turn_to(3, ByteProgress::default(), PendingInputs { pending, complete: false });
            let message = Progress { partitions: vec![reported.clone()], complete: true, ..Progress::default() };
            queue.control(&mut table, Control::Progress(message));
            let [only] = &progress(&mut queue)[..] else { panic!("one message") };
            assert_eq!(only.complete, !pending);
            assert_eq!(only.partitions[0].input, 3, "the number of the input in this run");
            assert!(!table.has_changes(), "the stream itself reports the partition");
        }
    }
}
