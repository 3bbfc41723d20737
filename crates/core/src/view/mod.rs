//! The output of evt-view: selected rows, and summaries of rows. No I/O: rows in, rows or text out.
//!
//! ```text
//! rows ─► excerpt (--head, --tail), sort (--sort), selection (--columns) ─► rows
//! rows ─► describe (--describe), dead_summary (--summary) ─► text;  control messages ─► control_text
//! ```
//!
//! `describe_text` formats a description, for which `disorder` measures how far events are behind the stream time.

pub mod control_text;
pub mod dead_summary;
pub mod describe;
pub mod describe_text;
pub mod disorder;
pub mod excerpt;
pub mod selection;
pub mod sort;
