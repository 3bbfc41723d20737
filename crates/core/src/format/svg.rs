//! Writes metrics as a chart in SVG, one document for all rows.

use super::definition::{Encoder, Format};
use crate::chart::{Collected, svg};
use crate::error::{Error, Result};
use crate::kind::{Kind, SELECTION_KEY};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

/// Charts.
pub const FORMAT: Format = Format {
    name: "svg",
    extensions: &["svg"],
    output: Some(|schema, _| Ok(Box::new(Svg::try_new(schema)?))),
    is_chart: true,
    ..Format::BASE
};

/// Makes the error of a chart of other rows than metrics.
pub fn other_rows(found: &str) -> Error {
    Error::usage(format!("svg draws rows of kind metric over time, found {found}; make metrics with evt-window"))
}

/// Rows that wait for the end, where the chart is drawn.
struct Svg {
    rows: Collected,
}

impl Svg {
    fn try_new(schema: &SchemaRef) -> Result<Self> {
        let is_selection = schema.metadata().contains_key(SELECTION_KEY);
        match Kind::of(schema) {
            Some(Kind::Metric) => Ok(Self { rows: Collected::default() }),
            _ if is_selection => Err(Error::usage(
                "svg draws metrics, whose columns cannot be chosen; expected no --columns and no --let",
            )),
            found => Err(other_rows(found.map_or("other rows", Kind::name))),
        }
    }
}

impl Encoder for Svg {
    fn encode(&mut self, batch: &RecordBatch, _out: &mut Vec<u8>) -> Result<()> {
        self.rows.push(batch)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(svg(&std::mem::take(&mut self.rows).finish())?.as_bytes());
        Ok(())
    }
}
