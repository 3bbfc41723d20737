//! An object that a run writes at its end. It appears whole.

use super::address::BucketAddress;
use super::client::Bucket;
use super::objects::NamedObjects;
use super::upload::upload_one;
use crate::storage::Objects;
use evt_core::error::{Error, Result};
use std::fmt;
use std::path::Path;

/// The name of an object that is written.
#[derive(Clone)]
pub struct NewObject {
    address: BucketAddress,
    /// Its key.
    pub key: String,
}

impl NewObject {
    /// Takes the name of one object. Errors: exit status 2 for a prefix or a pattern.
    pub fn of(named: NamedObjects) -> Result<Self> {
        let shown = named.to_string();
        named
            .into_one()
            .map(|(address, key)| Self { address, key })
            .ok_or_else(|| Error::usage(format!("{shown}: expected the key of one object, found those of several")))
    }

    /// Whether there is one. Errors: those of requests.
    pub fn exists(&self) -> Result<bool> {
        Ok(Bucket::try_new(self.address.clone())?.head(&self.key)?.is_some())
    }

    /// Writes the bytes of a file to it. Returns whether it was written: unless it `replaces`, not if there is one.
    pub fn write(&self, path: &Path, replaces: bool) -> Result<bool> {
        let bucket = Bucket::try_new(self.address.clone())?;
        upload_one(&bucket, &self.key, path, replaces).map_err(|error| match error.position() {
            None => error.at(bucket.name(&self.key)),
            Some(_) => error,
        })
    }
}

/// Formats it without options.
impl fmt::Display for NewObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.key)
    }
}
