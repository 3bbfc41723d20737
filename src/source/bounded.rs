//! Whether the inputs of a source end by themselves.

use crate::uri::Uri;
use arrow::datatypes::Schema;
use evt_core::frame::BOUNDED_KEY;
use evt_core::kind::span::Span;
use evt_run::emit::Stamp;
use evt_run::run::Run;

/// What is known of the end of all inputs before they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownEnd {
    /// All of them end: files, stores, ranges of topics.
    All,
    /// The only one is a pipe: the stage before may know it.
    Pipe,
    /// At least one may never end.
    Unknown,
}

impl KnownEnd {
    /// Looks at the inputs; none of them ends if `grows`: with `--follow`, or if the next run continues them.
    pub(super) fn of(inputs: &[Uri], grows: bool, run: &Run) -> Self {
        if grows {
            return Self::Unknown;
        }
        let ends = inputs.iter().map(|input| Self::of_input(input, run));
        match ends.collect::<Vec<_>>()[..] {
            [end] => end,
            ref ends if ends.iter().all(|end| *end == Self::All) => Self::All,
            _ => Self::Unknown,
        }
    }

    fn of_input(input: &Uri, run: &Run) -> Self {
        match input {
            Uri::Standard | Uri::File(_) if input.is_pipe(&run.io) => Self::Pipe,
            Uri::Standard | Uri::File(_) | Uri::Bucket(_) | Uri::Store(..) => Self::All,
            Uri::Kafka(address) if address.options.end.is_some() => Self::All,
            Uri::Kafka(_) | Uri::Http(_) | Uri::Null => Self::Unknown,
        }
    }

    /// Sets the range of event time of the rows that leave the stage. Of inputs that end, other rows do not advance
    /// stream time, so what is left of a range is as if the input had nothing else. Where the end is unknown, rows
    /// behind the range advance it: they are the only sign that the range is complete.
    pub(super) fn limit(self, range: Span, stamp: &mut Stamp) {
        let until = range.until.filter(|_| self == Self::All);
        stamp.set_range(range, Span { until, ..range });
    }

    /// Whether all inputs end, `schema` being that of the first one.
    pub(super) fn is_bounded(self, schema: &Schema) -> bool {
        match self {
            Self::All => true,
            Self::Pipe => schema.metadata().contains_key(BOUNDED_KEY),
            Self::Unknown => false,
        }
    }
}
