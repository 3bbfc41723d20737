//! Objects of a bucket of S3, or of another server that speaks its protocol.
//!
//! Requests that fail with a transient error are repeated as in other clients of evt (`?retry=`); waits are bounded
//! (`?connect=`, `?timeout=`), and a signal ends them. Repeating a request changes nothing: an object is written with
//! the same bytes again, and `put_if_absent` of [`bucket::S3Bucket`] recognizes an object that an earlier attempt has
//! written although its answer was lost.
//!
//! ```text
//! key, bytes ─► bucket ─┬─► one request: sign ─► http ─► server
//!                       └─► large: multipart
//! ```
//!
//! - `address.rs`: `s3://BUCKET/PREFIX` and the environment. `sign.rs`: signatures. `http.rs`: one request. `xml.rs`:
//!   lists and faults.
//! - `bucket.rs`: the client. `multipart.rs`: objects that are written in parts.

pub mod address;
pub mod bucket;
#[cfg(test)]
pub(crate) mod bucket_tests;
pub mod http;
mod multipart;
pub mod sign;
pub mod xml;
