//! The spool: requests that were acknowledged, kept on disk until the outputs have their records.

pub mod request;
