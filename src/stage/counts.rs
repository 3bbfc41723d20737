//! The counts of a stage: rows by outcome, and records that became no rows.

use super::feeds::Feeds;
use super::operator::FeedOperator;
use super::outputs::Outputs;
use evt_core::counts::{Counts, DoneRecords};

/// The counts of a stage.
#[derive(Default)]
pub(super) struct StageCounts {
    /// Rows by outcome so far. The sources count records that became no rows.
    rows: Counts,
    /// The records that were done before the outputs were ended; `None` until then.
    done: Option<DoneRecords>,
}

impl StageCounts {
    /// Adds these counts of rows, and the dead rows since the last call.
    pub fn add(&mut self, counts: &Counts, outputs: &mut Outputs) {
        self.rows.add(counts);
        self.rows.add(&std::mem::take(&mut outputs.dead_rows));
    }

    /// Returns the counts of all records so far by outcome. At an early end only the records before the last row count.
    pub fn all(
        &self,
        feeds: &Feeds,
        outputs: &Outputs,
        operator: Option<&mut dyn FeedOperator>,
        is_early: bool,
    ) -> Counts {
        let mut counts = self.rows;
        counts.add_lost(&match is_early {
            true => Counts { dead: outputs.dead.from_source, ..Counts::default() },
            false => feeds.counts(),
        });
        match operator {
            Some(operator) => operator.recount(&mut counts),
            None if outputs.dead.is_written() => {}
            None => counts.dropped += std::mem::take(&mut counts.dead),
        }
        counts
    }

    /// Notes the records that are done, before the outputs are ended.
    pub fn end(&mut self, feeds: &Feeds, outputs: &Outputs) {
        self.done = Some(self.done(feeds, outputs));
    }

    /// Returns the records that are done if the run fails now.
    pub fn done(&self, feeds: &Feeds, outputs: &Outputs) -> DoneRecords {
        let without_row = |counts: &Counts| counts.sum() - counts.out;
        self.done.unwrap_or_else(|| {
            let confirmed = outputs.confirmed();
            // Dead letters count as done: the client or a line of the run names the fault.
            let left_out = without_row(&self.rows) + without_row(&feeds.counts());
            DoneRecords { count: confirmed.count + left_out, ..confirmed }
        })
    }
}
