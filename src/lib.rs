//! evt: framed events on stdin and stdout.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod counts;
pub mod error;
pub mod format;
pub mod frame;
pub mod json;
pub mod kind;
<<<<<<< HEAD
<<<<<<< HEAD
pub mod mapping;
=======
pub mod op;
>>>>>>> gen
=======
pub mod op;
pub mod registry;
>>>>>>> registry
pub mod store;
pub mod time;

pub use error::{Error, ErrorKind, Result};
