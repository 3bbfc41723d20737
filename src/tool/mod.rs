//! The tools: flags, options and `run`, one file each.

pub mod generate;
mod hold;
pub mod ingest;
mod late;
pub mod schema;
pub mod sink;
pub mod validate;
pub mod view;
pub mod window;
