//! Frames: an Arrow IPC stream with control messages. No I/O: bytes in, frames out, and the reverse.
//!
//! A frame is one encapsulated IPC message. The first holds the schema, the following ones dictionaries and record
//! batches, the last is Arrow's end-of-stream marker; any Arrow reader accepts the whole as an ordinary stream. Control
//! messages are in the `custom_metadata` of record batches without rows, which other readers skip ([`Control`]).
//!
//! A stream of evt ends with `evt.end` *and* the marker, and the reader compares the row count. End of input anywhere
//! else is torn (exit status 65), also between two messages, where Arrow's own readers see a clean end.
//!
//! ```text
//! batches, control messages ─► Encoder ─► schema │ dictionary │ batch │ control │ … │ evt.end │ marker ─► bytes
//! bytes ─► Decoder ─► schema │ batch │ control │ end, or an error: torn, corrupt, a newer version
//! a stage of the same process: schema as bytes, then each message as it is (Passed) ─► Decoder
//! ```
//!
//! The decoder checks every length against a limit before it allocates memory. A stream without any control message is
//! foreign: its end is not proven.
//!
//! `decode.rs` reads streams, `encode.rs` writes them, `control.rs` defines control messages, `message.rs` builds
//! record batch messages, `schema.rs` reads schemas of other programs.

mod control;
mod decode;
mod encode;
mod message;
mod schema;

pub use control::{Barrier, Control, End, EndReason, MetricProgress, PartitionState, Progress, State};
pub(crate) use decode::check_batch;
pub use decode::{Decoder, Finish, Frame, Passed};
pub use encode::Encoder;
pub use message::{BOUNDED_KEY, PIPELINE_KEY, RANGED_KEY, STAGES_KEY, WATERMARK_KEY};
pub(crate) use schema::read_schema;

#[cfg(test)]
mod tests;
