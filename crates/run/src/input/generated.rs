//! Generated records (evt-gen): rows with the raw record as their only column, because a faulty record has no other
//! fields.

use super::{Input, Step};
use crate::emit::RecordEmitter;
use crate::storage::disk::failed;
use arrow::array::{BinaryViewBuilder, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use evt_core::error::{Error, Result};
use evt_core::generate::Generator;
use evt_core::generate::truth::Truth;
use evt_core::kind::event::shared_raw_field;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of a batch, its last record not counted.
const BATCH_BYTES: usize = 1 << 16;

/// Generates records.
pub struct GeneratedInput {
    generator: Generator,
    truth: Option<TruthFile>,
    schema: SchemaRef,
}

/// The expected results of the records so far, and the file that gets them at the end of the run.
pub struct TruthFile {
    /// The expected results.
    pub truth: Truth,
    /// The file.
    pub path: PathBuf,
}

impl GeneratedInput {
    /// Makes an input of all records of `generator`.
    pub fn new(generator: Generator, truth: Option<TruthFile>) -> Self {
        Self { generator, truth, schema: Arc::new(Schema::new(vec![shared_raw_field()])) }
    }

    /// Generates the next records; no rows after the last record.
    fn batch(&mut self) -> Result<RecordBatch> {
        let (mut text, mut lines) = (Vec::with_capacity(BATCH_BYTES + (1 << 12)), vec![]);
        while text.len() < BATCH_BYTES {
            let start = text.len();
            let Some(made) = self.generator.next(&mut text) else { break };
            lines.push(start..text.len());
            // The raw format writes records and line ends that are adjacent in memory in one piece.
            text.push(b'\n');
            if let Some(TruthFile { truth, .. }) = &mut self.truth {
                truth.record(&made, (text.len() - start) as u64);
            }
        }
        let mut records = BinaryViewBuilder::with_capacity(lines.len());
        let block = records.append_block(text.into());
        for line in lines {
            records.try_append_view(block, line.start as u32, line.len() as u32)?;
        }
        Ok(RecordBatch::try_new(self.schema.clone(), vec![Arc::new(records.finish())])?)
    }
}

impl Input for GeneratedInput {
    fn step(&mut self, emitter: &mut RecordEmitter) -> Result<Step> {
        emitter.set_schema(self.schema.clone());
        if emitter.run().stop.signal().is_some() {
            return Ok(Step::Stopped);
        }
        let batch = self.batch()?;
        if batch.num_rows() == 0 {
            return Ok(Step::End);
        }
        emitter.batch(batch, "generated records").map(|()| Step::More)
    }

    fn is_live(&self) -> bool {
        false
    }

    fn commits(&self) -> bool {
        self.truth.is_some()
    }

    /// Writes the expected results of the records, which are durable in the output.
    fn commit_end(&mut self, _emitter: &mut RecordEmitter) -> Result<()> {
        let Some(TruthFile { truth, path }) = self.truth.take() else { return Ok(()) };
        let report = truth.finish()?;
        let text = serde_json::to_string_pretty(&report).map_err(|error| Error::broken("truth").because(error))?;
        std::fs::write(&path, format!("{text}\n")).map_err(failed(&path))
    }
}
