//! Outputs: frames to a pipe, a format to a file, rows to a store or a topic.
//!
//! ```text
//! URI, OutputSpec ─► OutputPlan ─open─► Output ─finish─► OutputReport
//!                                      │ rows, control messages
//!                                      ├─► frames, text ─► Plain: standard output, appended file, NAME.part
//!                                      ├─► store ────────► rejected rows, at once
//!                                      └─► topic ────────► rejected rows, at once or later (Output::take_rejected)
//! ```
//!
//! An output appends to a text file: it removes an incomplete last line first, and writes each batch under one lock. It
//! writes any other file as `NAME.part`, and renames that to `NAME` at the proven end. If a signal stopped the source
//! before its end, the output does not replace an existing file: the file and the part both remain. Dropping an output
//! without [`Output::finish`] deletes its part.
//!
//! - `spec.rs`: the flags of outputs; `plan/`: an output before it is open; `open.rs`: an open one; `report.rs`: its
//!   result.
//! - `file/`: files, each batch once; `frames.rs`: frames to a file, a pipe or a stage of this process.
//! - `epochs/`: outputs of a run with a checkpoint; `dead_letters/`: the output of dead letters.
//! - `identity.rs`: an output must be neither an input nor another output; `stamp.rs`: the metadata of a schema.

pub mod dead_letters;
pub mod epochs;
pub mod file;
mod frames;
pub mod identity;
mod open;
mod plan;
mod report;
mod spec;
mod stamp;

pub use open::{Output, given_up};
pub use plan::{NO_TRANSACTIONS, OutputPlan};
pub use report::OutputReport;
pub use spec::{OutputSpec, open_options};
pub use stamp::{StageRows, stamped};

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
pub(crate) mod test_data;
#[cfg(test)]
mod tests;
