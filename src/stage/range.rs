//! The range of event time of the rows that reach the operator (`--since`, `--until`).

use arrow::array::RecordBatch;
use evt_core::error::Result;
use evt_core::frame::{Control, PartitionState, Progress};
use evt_core::kind::Kind;
use evt_core::kind::span::Span;

/// The range, and the last progress of the source.
#[derive(Default)]
pub(super) struct StageRange {
    span: Span,
    /// Without partitions.
    last: Progress,
}

/// What becomes of a batch.
pub(super) struct RangedBatch {
    /// The rows within the range.
    pub(super) rows: RecordBatch,
    /// The number of the others.
    pub(super) filtered: u64,
    /// The number of those at or after `--until`.
    pub(super) behind: u64,
    /// How far the partitions are by these, if the input may not end: nothing else shows that the range is complete.
    pub(super) progress: Option<Control>,
}

impl StageRange {
    pub(super) fn new(span: Span) -> Self {
        Self { span, ..Self::default() }
    }

    /// Whether an operator gets a message of the source. Statements of metrics are about rows of which a range leaves
    /// out some.
    pub(super) fn passes(&mut self, control: &Control) -> bool {
        if let Control::Progress(progress) = control {
            self.last = Progress { partitions: vec![], ..progress.clone() };
        }
        !(matches!(control, Control::Metrics(_)) && self.span.is_given())
    }

    /// Selects the rows of a batch of input number `input`; `is_bounded` says whether it ends by itself.
    pub(super) fn select(
        &self,
        batch: RecordBatch,
        input: u32,
        is_bounded: impl FnOnce() -> bool,
    ) -> Result<RangedBatch> {
        if !self.span.is_given() {
            return Ok(RangedBatch { rows: batch, filtered: 0, behind: 0, progress: None });
        }
        let behind = self.span.select_behind(&batch)?;
        let is_stamped = matches!(Kind::of(batch.schema_ref()), Some(Kind::Event | Kind::Late));
        let progress = (behind.num_rows() > 0 && is_stamped && !is_bounded()).then(|| {
            Control::Progress(Progress { partitions: PartitionState::of_rows(&behind, input), ..self.last.clone() })
        });
        let read = batch.num_rows();
        let rows = self.span.select(batch)?;
        let filtered = (read - rows.num_rows()) as u64;
        Ok(RangedBatch { rows, filtered, behind: behind.num_rows() as u64, progress })
    }
}
