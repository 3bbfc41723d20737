//! Objects of a bucket of S3, Google Cloud Storage or Azure Blob Storage, or of another server that speaks one of their
//! protocols.
//!
//! The crate object_store makes the requests, signs them and reads the answers. Requests that fail with a transient
//! error are repeated as in other clients of evt (`?retry=`); waits are bounded (`?connect=`, `?timeout=`), and a
//! signal ends them. Repeating a request changes nothing: an object is written with the same bytes again, and
//! `put_if_absent` of [`client::Bucket`] recognizes an object that an earlier attempt has written although its answer
//! was lost.
//!
//! ```text
//! key, bytes ─► client ─► object_store: address, signature ─► http: one request ─► server
//!                  └─► upload: files, in parts if they are large
//! ```
//!
//! - `address.rs`: `s3://BUCKET/PREFIX` and the environment; `parts.rs`: what all clouds have of it; `cloud/`: what
//!   differs between the clouds, credentials.
//! - `client.rs`: the client. `upload.rs`: objects from files. `http.rs`: one request, and what its answer means.
//! - `objects.rs`: objects as inputs. `new_object.rs`: an object as an output.
//! - `fake.rs`: a server in memory for tests.

pub mod address;
pub mod client;
pub mod cloud;
#[cfg(test)]
pub(crate) mod fake;
pub mod http;
pub mod new_object;
pub mod objects;
pub mod parts;
#[cfg(test)]
mod tests;
pub mod upload;
