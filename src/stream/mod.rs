//! Streams: what comes in from files and pipes, and what goes out.

pub mod dead;
pub mod follow;
pub mod frames;
pub mod input;
pub mod intake;
pub mod output;
pub mod raw;
pub mod source;
