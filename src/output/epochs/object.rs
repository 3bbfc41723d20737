//! Objects of a bucket: each epoch of an output becomes one, whole or not at all.

use super::plan::EpochPlan;
use crate::output::file::Overwrite;
use crate::output::file::object::ObjectPart;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use evt_core::error::Result;
use evt_core::format::{self, EncodeOptions, Format, MakeEncoder};
use evt_run::bucket::new_object::EpochObjects;
use evt_run::checkpoint::epoch::{Batches, Epoch};
use evt_run::run::Run;
use evt_run::storage::disk::Disk;
use std::rc::Rc;
use xxhash_rust::xxh3::xxh3_64;

/// What the rows of an epoch are written with.
pub(in crate::output) struct ObjectFile {
    /// The objects of the output.
    pub objects: EpochObjects,
    /// Their format.
    pub format: &'static Format,
    /// Makes the encoder of one.
    pub make: MakeEncoder,
    /// Its options.
    pub encode: EncodeOptions,
    /// The schema of the rows.
    pub schema: SchemaRef,
    /// The disk of the temporary file.
    pub disk: Disk,
    /// The run.
    pub run: Rc<Run>,
}

/// Returns the end of the names of an output's epochs, which several outputs with one prefix differ in.
fn suffix(plan: &EpochPlan) -> String {
    format!("-{:016x}", xxh3_64(plan.key().as_bytes()))
}

/// Returns the name of an epoch: in the order of names, epochs are in their own order.
fn name_of(Epoch { run, number }: Epoch) -> String {
    format!("{run:020}-{number:010}")
}

/// Returns the epoch that a name begins with.
fn epoch_of(name: &str) -> Option<Epoch> {
    let (run, number) = name.split_once('-')?;
    Some(Epoch { run: run.parse().ok()?, number: number.parse().ok()? })
}

/// Appends the lines of a batch to `bytes`.
pub(super) fn encode(encoder: &mut dyn format::Encoder, batch: &RecordBatch, bytes: &mut Vec<u8>) -> Result<()> {
    match encoder.slices(batch) {
        Some(slices) => slices.iter().for_each(|slice| bytes.extend_from_slice(slice)),
        None => encoder.encode(batch, bytes)?,
    }
    Ok(())
}

impl ObjectFile {
    /// Returns the greatest epoch behind the last one in the log whose object exists. Errors: those of requests.
    pub fn committed(&self, plan: &EpochPlan) -> Result<Option<Epoch>> {
        let (last, end) = (plan.last_recorded.map(name_of).unwrap_or_default(), suffix(plan));
        let later = self.objects.names_behind(&last)?;
        Ok(later.iter().filter_map(|name| epoch_of(name.strip_suffix(&end)?)).max())
    }

    /// Writes the rows of an epoch to its object. One that an earlier attempt has written stays.
    pub fn write(&self, epoch: Epoch, plan: &EpochPlan, rows: Batches) -> Result<()> {
        let object = self.objects.object(&format!("{}{}", name_of(epoch), suffix(plan)));
        let mut part = ObjectPart::create(object, Overwrite::Unsupported, &self.disk, &self.run)?;
        let (mut encoder, mut bytes) = ((self.make)(&self.schema, &self.encode)?, vec![]);
        for batch in rows {
            encode(encoder.as_mut(), &batch?, &mut bytes)?;
            part.writer.write(&[&bytes])?;
            bytes.clear();
        }
        encoder.finish(&mut bytes)?;
        part.writer.write(&[&bytes])?;
        part.put()
    }
}
