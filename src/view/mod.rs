//! What evt-view shows: which rows, and summaries of them. No I/O: rows in, rows or text out.

pub mod control_text;
pub mod dead_summary;
pub mod describe;
pub mod describe_text;
pub mod disorder;
pub mod excerpt;
pub mod selection;
