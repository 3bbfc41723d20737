//! evt: framed events on stdin and stdout.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod counts;
pub mod error;
pub mod expr;
pub mod format;
pub mod json;
pub mod kind;
pub mod op;
pub mod store;
pub mod time;

pub use error::{Error, ErrorKind, Result};
