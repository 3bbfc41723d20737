//! Streams: what comes in from files and pipes, and what goes out.

pub mod dead;
pub mod edge;
pub mod fetch;
pub mod follow;
pub mod frames;
pub mod http;
pub mod input;
pub mod intake;
pub mod kafka;
pub mod output;
pub mod produce;
pub mod raw;
pub mod run;
pub mod source;
pub mod spool;
pub mod standard;
pub mod uri;
