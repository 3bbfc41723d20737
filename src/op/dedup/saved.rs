//! Snapshots of the ids that were seen.

use super::sighting::{PartitionId, SIGHTING_BYTES, Sighting};
use super::spilled_ids::{SpillContext, SpilledIds};
use super::{Dedup, Options, Partition, horizons, index_of};
use crate::error::{Error, Result};
use crate::op::snapshot::{Reader, Writer};
use crate::time::format_duration;
use xxhash_rust::xxh3::xxh3_64;

/// First byte of a snapshot: the layout that follows.
const VERSION: u8 = 2;
/// The version whose ids were all in memory, with a hash of the options.
const WITHOUT_FILES: u8 = 1;
/// The bound of the ids of [`WITHOUT_FILES`], which its hash has.
const IDS_WITHOUT_FILES: usize = 900_000;

impl Dedup {
    /// Returns the state as bytes; changes nothing. The files of [`Dedup::files`] belong to it.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.byte(VERSION);
        out.number(self.options.span);
        out.count(self.partitions.len());
        for Partition { origin, name, stream_time } in &self.partitions {
            out.text(origin);
            out.text(name);
            out.optional(*stream_time);
        }
        let mut recent: Vec<Sighting> =
            self.recent.iter().map(|(key, time)| Sighting { key: *key, time: *time }).collect();
        recent.sort_unstable_by_key(|sighting| sighting.key);
        let mut sightings = Vec::with_capacity(recent.len() * SIGHTING_BYTES);
        recent.into_iter().for_each(|sighting| sighting.encode(&mut sightings));
        out.bytes(&sightings);
        self.spilled.snapshot(&mut out);
        out.finish()
    }

    /// Restores the state that [`Dedup::snapshot`] saved.
    ///
    /// Errors: exit status 78 if it was saved with another span, 65 if it is damaged.
    pub fn restore(options: Options, snapshot: &[u8]) -> Result<Self> {
        let mut saved = Reader::new(snapshot);
        let mut restored = Self::new(options);
        match saved.byte()? {
            VERSION => restored.read(&mut saved)?,
            WITHOUT_FILES => restored.read_without_files(&mut saved)?,
            version => return Err(Error::config(format!("snapshot of dedup: unknown version {version}"))),
        }
        saved.finish()?;
        restored.index = index_of(&restored.partitions);
        if restored.index.len() < restored.partitions.len() {
            return Err(damaged());
        }
        restored.full = restored.recent.len().max(restored.full).min(restored.options.recent_max());
        Ok(restored)
    }

    fn read(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        let span = saved.number()?;
        if span != self.options.span {
            let (then, now) = (format_duration(span), format_duration(self.options.span));
            return Err(Error::config(format!(
                "expected --dedup {then}, with which the ids were saved, found --dedup {now}"
            )));
        }
        for _ in 0..saved.count()? {
            let (origin, name, stream_time) = (saved.text()?, saved.text()?, saved.optional()?);
            self.partitions.push(Partition { origin, name, stream_time });
        }
        let sightings = saved.bytes()?;
        if sightings.len() % SIGHTING_BYTES != 0 {
            return Err(damaged());
        }
        for Sighting { key, time } in Sighting::decode_all(sightings) {
            let is_known = (key.partition as usize) < self.partitions.len();
            if !is_known || self.recent.insert(key, time).is_some() {
                return Err(damaged());
            }
        }
        let horizons = horizons(&self.options, &self.partitions);
        let filters = self.options.filters();
        let storage = self.options.memory.storage.as_mut();
        self.spilled = SpilledIds::restore(saved, &mut SpillContext { storage, filters, horizons: &horizons })?;
        Ok(())
    }

    fn read_without_files(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        if saved.le::<u64>()? != digest_without_files(self.options.span) {
            return Err(Error::config("snapshot of dedup: saved with another --dedup"));
        }
        // The number of the next sighting, and that of ids that were dropped because of the bound.
        let _: (u64, u64) = (saved.le()?, saved.le()?);
        for partition in 0..saved.count()? {
            let (origin, name) = (saved.text()?, saved.text()?);
            let mut stream_time = None;
            for _ in 0..saved.count()? {
                let id = saved.le::<u128>()?.to_le_bytes();
                let _number: u64 = saved.le()?;
                let time = saved.number()?;
                let key = PartitionId { partition: partition as u32, id };
                if self.recent.insert(key, time).is_some() {
                    return Err(damaged());
                }
                stream_time = stream_time.max(Some(time));
            }
            self.partitions.push(Partition { origin, name, stream_time });
        }
        Ok(())
    }
}

fn digest_without_files(span: i64) -> u64 {
    xxh3_64(format!("dedup {span} {IDS_WITHOUT_FILES}").as_bytes())
}

#[cold]
fn damaged() -> Error {
    Error::corrupt("snapshot of dedup: damaged")
}
