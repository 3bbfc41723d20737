//! Snapshots of the ids that were seen.

use super::sighting::{PartitionId, SIGHTING_BYTES, Sighting};
use super::spilled_ids::{SpillContext, SpilledIds};
use super::{Dedup, Partition, horizons, index_of};
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

/// Returns the state as bytes.
pub(super) fn snapshot(dedup: &Dedup) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(VERSION);
    out.number(dedup.options.span);
    out.count(dedup.partitions.len());
    for Partition { origin, name, stream_time } in &dedup.partitions {
        out.text(origin);
        out.text(name);
        out.optional(*stream_time);
    }
    let mut recent: Vec<Sighting> =
        dedup.recent.iter().map(|(key, time)| Sighting { key: *key, time: *time }).collect();
    recent.sort_unstable_by_key(|sighting| sighting.key);
    let mut sightings = Vec::with_capacity(recent.len() * SIGHTING_BYTES);
    recent.into_iter().for_each(|sighting| sighting.encode(&mut sightings));
    out.bytes(&sightings);
    dedup.spilled.snapshot(&mut out);
    out.finish()
}

/// Reads a state that [`snapshot`] saved. Errors: exit status 78 if it was saved with another span, 65 if it is damaged, 74.
pub(super) fn restore(dedup: &mut Dedup, snapshot: &[u8]) -> Result<()> {
    let mut saved = Reader::new(snapshot);
    match saved.byte()? {
        VERSION => read(dedup, &mut saved)?,
        WITHOUT_FILES => read_without_files(dedup, &mut saved)?,
        version => return Err(Error::config(format!("snapshot of dedup: unknown version {version}"))),
    }
    saved.finish()?;
    dedup.index = index_of(&dedup.partitions);
    // A partition is saved once.
    if dedup.index.len() < dedup.partitions.len() { Err(damaged()) } else { Ok(()) }
}

fn read(dedup: &mut Dedup, saved: &mut Reader<'_>) -> Result<()> {
    let span = saved.number()?;
    if span != dedup.options.span {
        let (then, now) = (format_duration(span), format_duration(dedup.options.span));
        return Err(Error::config(format!(
            "expected --dedup {then}, with which the ids were saved, found --dedup {now}"
        )));
    }
    for _ in 0..saved.count()? {
        let (origin, name, stream_time) = (saved.text()?, saved.text()?, saved.optional()?);
        dedup.partitions.push(Partition { origin, name, stream_time });
    }
    let sightings = saved.bytes()?;
    if sightings.len() % SIGHTING_BYTES != 0 {
        return Err(damaged());
    }
    for Sighting { key, time } in Sighting::decode_all(sightings) {
        let is_known = (key.partition as usize) < dedup.partitions.len();
        if !is_known || dedup.recent.insert(key, time).is_some() {
            return Err(damaged());
        }
    }
    let horizons = horizons(&dedup.options, &dedup.partitions);
    let filters = dedup.options.filters();
    let storage = dedup.options.memory.storage.as_mut();
    dedup.spilled = SpilledIds::restore(saved, &mut SpillContext { storage, filters, horizons: &horizons })?;
    Ok(())
}

fn read_without_files(dedup: &mut Dedup, saved: &mut Reader<'_>) -> Result<()> {
    if saved.le::<u64>()? != digest_without_files(dedup.options.span) {
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
            if dedup.recent.insert(key, time).is_some() {
                return Err(damaged());
            }
            stream_time = stream_time.max(Some(time));
        }
        dedup.partitions.push(Partition { origin, name, stream_time });
    }
    Ok(())
}

fn digest_without_files(span: i64) -> u64 {
    xxh3_64(format!("dedup {span} {IDS_WITHOUT_FILES}").as_bytes())
}

#[cold]
fn damaged() -> Error {
    Error::corrupt("snapshot of dedup: damaged")
}
