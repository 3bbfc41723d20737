//! The parts of a stage: the operator, which a tool makes once the rows are known, settings, and phases.

use super::operator::{FeedOperator, Operator};
use crate::output::OutputPlan;
use crate::output::file::Overwrite;
use crate::source;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use evt_core::counts::Counts;
use evt_core::error::{Error, Result};
use evt_core::frame::End;
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_run::stop::Wait;

/// The facts from which a tool makes its operator.
pub struct SourceInfo<'a> {
    /// The source; its schema and kind are final.
    pub source: &'a mut source::Source,
    /// The first rows; `None` if the schema was known before them, or if there are none.
    pub first: Option<&'a RecordBatch>,
    /// The outputs of rows, which are not open yet.
    pub outputs: &'a [OutputPlan],
}

impl SourceInfo<'_> {
    /// Checks that a run which writes all rows again does not add them to those of an earlier run. Errors: exit status
    /// 2 if a file has rows.
    pub(super) fn check_beginning(&self, in_epochs: bool) -> Result<()> {
        match in_epochs || self.source.continues_pipe() {
            true => Ok(()),
            false => self.outputs.iter().try_for_each(|output| output.check_empty(Overwrite::Undecided)),
        }
    }

    /// Checks that the rows are of `kind`. Errors: exit status 2 with the message `why`, if they are not.
    pub fn expect(&self, kind: Kind, why: &str) -> Result<()> {
        match self.source.kind() {
            found if found == kind => Ok(()),
            found => Err(Error::usage(format!("{why}, found rows of kind {found}"))),
        }
    }
}

/// An operator and its outputs.
pub struct OperatorSetup {
    /// The operator.
    pub operator: Box<dyn Operator>,
    /// The schema of the rows it writes.
    pub schema: SchemaRef,
    /// The schema of the rows of the side output.
    pub side: Option<SchemaRef>,
    /// Whether the operator writes a report at the end instead of rows, so that the terminal is free for a progress
    /// line.
    pub is_report: bool,
}

impl OperatorSetup {
    /// Makes the setup of an operator that writes rows of this schema, and nothing to a side output.
    pub fn new(operator: impl Operator + 'static, schema: SchemaRef) -> Self {
        Self { operator: Box::new(operator), schema, side: None, is_report: false }
    }
}

/// Makes the operator once the rows are known.
pub type StartOperator = Box<dyn FnOnce(SourceInfo<'_>) -> Result<OperatorSetup>>;

/// Settings of a stage.
#[derive(Clone, Debug, Default)]
pub struct StageOptions {
    /// `-q`.
    pub quiet: bool,
    /// `--strict`.
    pub strict: bool,
    /// `--stats`.
    pub stats: Option<String>,
    /// Whether records that are lost leave the exit status as it is, unless `strict`.
    pub tolerates_losses: bool,
    /// When the operator starts.
    pub start_at: StartAt,
    /// The time of the rows that the operator gets; others are counted as filtered.
    pub span: Span,
    /// `--branch`.
    pub branch: Option<String>,
}

/// When the operator of a stage starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// When the schema of the rows is known.
    #[default]
    Schema,
    /// With the first rows, even if their schema is known before.
    Rows,
    /// At once, whatever the rows are.
    Once,
}

/// The phase of a stage.
pub(super) enum Phase {
    /// The schema of the rows is not known yet.
    Learning(StartOperator),
    /// The operator processes rows.
    Running(Box<dyn Operator>),
    /// The operator has ended; the last stage of the pipe is to complete the last epoch.
    Ending(Ending),
    /// The stage has ended with this exit status.
    Ended(u8),
}

impl Phase {
    /// Returns the running operator.
    pub(super) fn operator(&mut self) -> Result<&mut Box<dyn Operator>> {
        match self {
            Self::Running(operator) => Ok(operator),
            _ => Err(Error::broken("a stage without an operator")),
        }
    }

    /// Returns the part of the operator that keeps the positions of its feeds itself.
    pub(super) fn feeds(&mut self) -> Option<&mut dyn FeedOperator> {
        if let Self::Running(operator) = self { operator.feeds() } else { None }
    }
}

/// The end of a stage whose last epoch other stages complete or commit.
pub(super) struct Ending {
    pub(super) end: End,
    /// The counts of all records.
    pub(super) counts: Counts,
    /// The wait for that stage, which a signal bounds.
    pub(super) wait: Wait,
}
