//! The files of a checkpoint in a bucket.
//!
//! ```text
//! PREFIX/log/1, PREFIX/log/2, …          entries, each written once (If-None-Match: *)
//! PREFIX/epochs/R-N/NAME                 parts and notes of epoch R-N, as in a directory
//! PREFIX/epochs/R-0/end                  the last stage of run R
//! PREFIX/state/state-R-STAGE-K           files of state: written once, for all epochs that need them
//! ```
//!
//! Each process has a directory of its own in `TMPDIR`. There it writes the parts of an epoch, which are uploaded when
//! the stage ends the epoch, and there it reads the parts that it has downloaded.

use super::files::{EpochFiles, STATE_FILE};
use super::local::{LocalFiles, compare, epoch_key, epoch_of, is_removed};
use super::staging::StagingDirectory;
use crate::bucket::address::BucketAddress;
use crate::bucket::client::Bucket;
use crate::bucket::upload::{Upload, upload};
use crate::checkpoint::epoch::Epoch;
use crate::checkpoint::log::{Complete, EpochPart};
use crate::storage::disk::Disk;
use crate::storage::{self, Objects};
use evt_core::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The objects of a checkpoint, and the directory of this process.
#[derive(Debug)]
pub struct BucketFiles {
    objects: Bucket,
    local: LocalFiles,
    _staging: StagingDirectory,
    known: Mutex<KnownFiles>,
}

/// The files of which this process knows without a request that they are objects.
#[derive(Debug, Default)]
struct KnownFiles {
    /// Files of state of the last epoch that it has ended.
    state: BTreeSet<String>,
    /// Files that it has downloaded, by key.
    downloaded: BTreeMap<String, PathBuf>,
}

impl BucketFiles {
    /// Makes the client and the directory; sends nothing. Errors: exit status 2 for wrong options, 78 for missing ones,
    /// 74.
    pub fn try_new(address: BucketAddress, disk: &Disk) -> Result<Self> {
        let staging = StagingDirectory::create()?;
        let local = LocalFiles::new(staging.path().to_owned(), disk);
        Ok(Self { objects: Bucket::try_new(address)?, local, _staging: staging, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, KnownFiles> {
        // A panic can interrupt only a change of one of these sets, so they stay usable.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn download(&self, key: &str, path: &Path) -> Result<bool> {
        // A file there may have other links.
        _ = fs::remove_file(path);
        storage::download(&self.objects, key, path)
    }

    /// Returns the keys of the objects of all epochs before `before`.
    fn removed_keys(&self, before: Epoch) -> Result<Vec<String>> {
        let epoch = |key: &String| epoch_of(key.strip_prefix("epochs/")?.split('/').next()?);
        let is_old = |key: &String| epoch(key).is_some_and(|epoch| is_removed(epoch, before));
        Ok(self.objects.list("epochs/")?.into_iter().filter(is_old).collect())
    }
}

/// Returns the run that has made a file of state.
fn run_of_state(name: &str) -> Option<u64> {
    name.strip_prefix(STATE_FILE)?.split('-').next()?.parse().ok()
}

fn state_key(name: &str) -> String {
    format!("state/{name}")
}

fn part_key(epoch: Epoch, name: &str) -> String {
    if name.starts_with(STATE_FILE) { state_key(name) } else { epoch_key(epoch, name) }
}

impl EpochFiles for BucketFiles {
    fn objects(&self) -> &dyn Objects {
        &self.objects
    }

    fn local(&self) -> &LocalFiles {
        &self.local
    }

    fn check(&self) -> Result<bool> {
        let has_log = self.objects.any("log/")?.is_some();
        if !has_log && let Some(other) = self.objects.any("")? {
            let message = format!("expected no objects or a checkpoint, found {}", self.objects.name(&other));
            return Err(Error::config(message).at(self.objects.address.to_string()));
        }
        Ok(has_log)
    }

    fn create(&self) -> Result<()> {
        self.check().map(drop)
    }

    fn sync_epoch(&self, epoch: Epoch, parts: &[EpochPart]) -> Result<()> {
        // A file of state of an earlier run was an object when this run restored it.
        let is_restored = |name: &str| run_of_state(name).is_some_and(|run| run < epoch.run);
        let is_new = |part: &&EpochPart| !is_restored(&part.name) && !self.known().state.contains(&part.name);
        let named =
            |part: &EpochPart| Upload { key: part_key(epoch, &part.name), path: self.local.part(epoch, &part.name) };
        upload(&self.objects, &parts.iter().filter(is_new).map(named).collect::<Vec<_>>())?;
        let names = parts.iter().map(|part| &part.name);
        self.known().state = names.filter(|name| name.starts_with(STATE_FILE)).cloned().collect();
        Ok(())
    }

    fn verify(&self, epoch: Epoch, part: &EpochPart) -> Result<()> {
        let (key, path) = (part_key(epoch, &part.name), self.local.part(epoch, &part.name));
        let former = self.known().downloaded.get(&key).cloned();
        self.local.make_epoch(epoch)?;
        match former {
            // An earlier epoch has the same file.
            Some(former) if former == path || fs::hard_link(&former, &path).is_ok() => {}
            _ if self.download(&key, &path)? => {}
            _ => {
                let message = format!("expected {} bytes, found no object", part.bytes);
                return Err(Error::corrupt(message).at(self.objects.name(&key)));
            }
        }
        self.known().downloaded.insert(key.clone(), path.clone());
        compare(part, &path, &self.objects.name(&key))
    }

    fn release(&self, epoch: Epoch) -> Result<()> {
        self.known().downloaded.clear();
        self.local.remove_epoch(epoch)
    }

    fn claim(&self, run: u64, name: &str, text: &str) -> Result<(bool, Option<File>)> {
        let token = self.objects.token().unwrap_or_default();
        let key = epoch_key(Epoch { run, number: 0 }, name);
        Ok((self.objects.put_if_absent(&key, format!("{text}\n{token}").as_bytes())?, None))
    }

    fn clear(&self, run: u64, kept: &[Complete], check: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut left = kept.first().map_or(Ok(vec![]), |oldest| self.removed_keys(oldest.epoch))?;
        let needed: BTreeSet<String> =
            kept.iter().flat_map(Complete::parts).map(|part| state_key(&part.name)).collect();
        let made_by = |key: &String| run_of_state(key.strip_prefix("state/")?);
        let is_old = |key: &String| !needed.contains(key) && made_by(key).is_none_or(|made| made < run);
        left.extend(self.objects.list("state/")?.into_iter().filter(is_old));
        check()?;
        self.objects.delete(&left)
    }

    fn remove_epochs(&self, before: Epoch, state: &[String]) -> Result<()> {
        self.objects.delete(&self.removed_keys(before)?)?;
        self.objects.delete(&state.iter().map(|name| state_key(name)).collect::<Vec<_>>())
    }
}
