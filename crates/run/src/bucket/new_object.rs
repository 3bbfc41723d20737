//! Objects that a run writes: one at its end, or one for each epoch. They appear whole.

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

/// The objects of the epochs of an output.
#[derive(Clone)]
pub struct EpochObjects {
    address: BucketAddress,
    /// What is before and behind the name of an epoch in a key.
    around: [String; 2],
}

impl EpochObjects {
    /// Takes a prefix that ends in a slash, whose objects get this extension, or a pattern whose last part has one
    /// star. Errors: exit status 2 for another pattern.
    pub fn of(named: NamedObjects, extension: &str) -> Result<Self> {
        let shown = named.to_string();
        let (address, pattern) = named.into_pattern();
        let pattern = if pattern.ends_with('/') { format!("{pattern}*.{extension}") } else { pattern };
        match pattern.split_once('*') {
            Some((before, behind)) if !behind.contains(['*', '/']) => {
                Ok(Self { address, around: [before.to_owned(), behind.to_owned()] })
            }
            _ => {
                let wrong = format!("{shown}: expected one * in the last part, for the name of an epoch, found others");
                Err(Error::usage(wrong))
            }
        }
    }

    /// Returns the object of an epoch.
    pub fn object(&self, name: &str) -> NewObject {
        let [before, behind] = &self.around;
        NewObject { address: self.address.clone(), key: format!("{before}{name}{behind}") }
    }

    /// Returns the names of epochs whose objects exist and which are behind a name. Errors: those of requests.
    pub fn names_behind(&self, name: &str) -> Result<Vec<String>> {
        let [before, behind] = &self.around;
        let entries = Bucket::try_new(self.address.clone())?.entries_behind(before, &format!("{before}{name}"))?;
        let name = |key: &str| Some(key.strip_prefix(&**before)?.strip_suffix(&**behind)?.to_owned());
        Ok(entries.iter().filter_map(|entry| name(&entry.key)).collect())
    }

    /// Checks that the bucket answers. Errors: those of requests.
    pub fn check(&self) -> Result<()> {
        let [before, _] = &self.around;
        Bucket::try_new(self.address.clone())?.head(before).map(drop)
    }
}

/// Formats it without options.
impl fmt::Display for NewObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.key)
    }
}
