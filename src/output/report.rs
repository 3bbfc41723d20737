//! The result of an output.

use super::file::Ended;
use evt_core::counts::SinkCounts;
use evt_core::error::Result;
use evt_core::frame::EndReason;
use evt_store::Notice;

/// The result of an output, for the summary.
#[derive(Clone, Debug, Default)]
pub struct OutputReport {
    /// The output's URI, without secrets.
    pub name: String,
    /// Rows passed to the output, including those that it rejected.
    pub rows: u64,
    /// Counts of the rows by outcome; `None` for a file or standard output.
    pub counts: Option<SinkCounts>,
    /// `appended`, `new`, `replaced` or `not replaced` for a file; a store's own remark.
    pub remark: Option<String>,
    /// Messages that are printed even if `-q` leaves the summary out.
    pub notices: Vec<Notice>,
}

impl OutputReport {
    /// Ends a store, and takes its outcome.
    pub(super) fn end_store(&mut self, sink: Box<dyn evt_store::Sink>, how: EndReason) -> Result<()> {
        let outcome = match how {
            EndReason::Exhausted => sink.finish()?,
            EndReason::Stopped => sink.finish_stopped()?,
        };
        self.counts = Some(outcome.counts);
        self.remark = outcome.remark;
        self.notices = outcome.notices;
        Ok(())
    }

    pub(super) fn end_file(&mut self, ended: Ended) {
        self.remark = ended.remark;
        self.notices.extend(ended.notice);
    }
}
