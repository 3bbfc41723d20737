//! The tables of a store that is the only input, if none of them is named.

use crate::cli::args::StageArgs;
use crate::cli::resolve::{DefaultFormats, output_plans};
use crate::uri::Uri;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use evt_core::error::Result;
use evt_core::frame::{End, EndReason};
use evt_run::metrics::ServerStatus;
use evt_run::run::Run;
use evt_store::Tables;
use std::rc::Rc;
use std::sync::Arc;

/// Returns the tables of the one store that is the input, if it has several and none of them is named.
pub fn of_input(args: &StageArgs, run: &Run) -> Result<Option<Tables>> {
    let inputs = args.input.uris(run)?;
    let [Uri::Store(store, location)] = inputs.as_slice() else { return Ok(None) };
    if location.options.contains_key("table") {
        return Ok(None);
    }
    let tables = store.at_start(location, ServerStatus::default(), || (store.reader.tables)(location))?;
    Ok(Some(tables).filter(|tables| tables.len() > 1))
}

/// Writes the tables and their row counts; returns the exit status.
pub fn list(tables: &Tables, args: &StageArgs, formats: DefaultFormats, run: &Rc<Run>) -> Result<u8> {
    let fields = vec![Field::new("table", DataType::Utf8, false), Field::new("rows", DataType::Int64, false)];
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let names: ArrayRef = Arc::new(tables.iter().map(|(name, _)| Some(name)).collect::<StringArray>());
    let counts = tables.iter().map(|(_, rows)| i64::try_from(*rows).ok());
    let batch = RecordBatch::try_new(schema.clone(), vec![names, Arc::new(counts.collect::<Int64Array>())])?;
    for plan in output_plans(args, formats, run)? {
        let mut output = plan.check_server(run)?.open(&schema, run)?;
        output.write(&batch)?;
        output.finish(&End { how: EndReason::Exhausted, rows: 0, verdict: 0 })?;
    }
    if !args.common.quiet {
        run.console.say("choose a table with ?table=NAME");
    }
    Ok(0)
}
