//! The interface of a cloud.

use crate::bucket::http::BucketHttp;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ObjectStore, Result, RetryConfig};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// The client of a bucket, with lists by prefix and uploads in parts.
pub trait CloudStore: ObjectStore + PaginatedListStore + MultipartStore {}

impl<T: ObjectStore + PaginatedListStore + MultipartStore> CloudStore for T {}

/// The kind of a server, and the credentials for it.
pub trait Cloud: Debug + Send + Sync {
    /// Makes the client of a bucket; sends nothing. Errors: credentials that cannot be read.
    fn connect(&self, bucket: &str, http: BucketHttp) -> Result<Arc<dyn CloudStore>>;

    /// Returns what the credentials are called in a message about missing ones.
    fn credentials(&self) -> &'static str;

    /// Whether credentials are fetched from a server, which uses TLS.
    fn fetches_credentials(&self) -> bool;
}

/// The client of object_store makes one attempt: evt repeats requests as those to other servers (`?retry=`).
pub fn one_attempt() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::ZERO }
}
