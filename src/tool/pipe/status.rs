//! The exit status of a pipeline: that of the last stage that failed of itself.

use crate::cli::ToolEnd;
use evt_core::error::ErrorKind;

/// Returns the end that decides: of the last stage that failed of itself, else of the last one that a neighbour made
/// fail; `None` if all have succeeded, but for those whose reader needed no more rows.
pub fn decisive(ends: &[ToolEnd]) -> Option<ToolEnd> {
    let has_failed = |at: &usize| ends[*at].status != 0 && !is_left(ends, *at);
    let failed = || (0..ends.len()).rev().filter(has_failed);
    failed().find(|at| !is_induced(ends, *at)).or_else(|| failed().next()).map(|at| ends[at])
}

/// Returns the status of the last check that has found a fault.
pub fn last_fault(ends: &[ToolEnd]) -> u8 {
    ends.iter().rev().map(|end| end.status).find(|status| *status != 0).unwrap_or(0)
}

/// Whether the next stage has ended before this one, which is no failure of this one.
fn is_left(ends: &[ToolEnd], at: usize) -> bool {
    ends[at].error == Some(ErrorKind::ReaderGone) && at + 1 < ends.len()
}

/// Whether the stage has failed because another one has: its stream was torn, or its epoch was not completed.
fn is_induced(ends: &[ToolEnd], at: usize) -> bool {
    let is_torn = || at.checked_sub(1).is_some_and(|before| ends[before].status > 1);
    match ends[at].error {
        Some(ErrorKind::Corrupt) => is_torn(),
        Some(ErrorKind::Incomplete) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::{Config, Corrupt, Incomplete, Io, ReaderGone, Unavailable};

    fn status(ends: &[ToolEnd]) -> u8 {
        decisive(ends).map_or(0, |end| end.status)
    }

    #[test]
    fn the_last_stage_that_failed_of_itself_decides() {
        let (good, verdict, fails) = (ToolEnd::with(0), ToolEnd::with(1), ToolEnd::by_error);
        for (ends, expected) in [
            (vec![good], 0),
            (vec![verdict, good], 1),
            (vec![good, verdict, verdict], 1),
            // The second stage fails: the first loses its reader, the stream of the third is torn.
            (vec![fails(ReaderGone), fails(Config), fails(Corrupt)], 78),
            (vec![fails(Io), fails(Corrupt), fails(Corrupt)], 74),
            (vec![fails(Io), fails(Corrupt), fails(Unavailable)], 69),
            (vec![good, fails(Corrupt), fails(Corrupt)], 65),
            // The last stage needs no more rows, or its own reader does not.
            (vec![fails(ReaderGone), fails(ReaderGone), good], 0),
            (vec![fails(ReaderGone), fails(ReaderGone), verdict], 1),
            (vec![fails(ReaderGone), fails(ReaderGone)], 141),
            (vec![fails(Incomplete), fails(Unavailable), fails(Incomplete)], 69),
            (vec![fails(Incomplete), fails(Incomplete)], 75),
        ] {
            assert_eq!(status(&ends), expected, "{ends:?}");
        }
    }

    #[test]
    fn the_last_check_with_a_fault_decides() {
        assert_eq!(last_fault(&[ToolEnd::by_error(Config), ToolEnd::with(2), ToolEnd::with(0)]), 2);
        assert_eq!(last_fault(&[ToolEnd::with(0)]), 0);
    }
}
