//! The metadata of the schema that a stage writes.

use arrow::datatypes::{Schema, SchemaRef};
use evt_core::frame::{BOUNDED_KEY, PIPELINE_KEY, STAGES_KEY};
use evt_run::run::Run;
use std::sync::Arc;

/// Returns the schema that this stage writes: appends the stage's name to those before it, and says whether its inputs
/// end by themselves.
pub fn stamped(schema: &SchemaRef, is_bounded: bool, run: &Run) -> SchemaRef {
    let mut schema = Schema::clone(schema);
    let stages = match schema.metadata.get(STAGES_KEY) {
        Some(before) => format!("{before},{}", run.console.tool()),
        None => run.console.tool().to_owned(),
    };
    schema.metadata.insert(STAGES_KEY.to_owned(), stages);
    schema.metadata.remove(BOUNDED_KEY);
    schema.metadata.extend(is_bounded.then(|| (BOUNDED_KEY.to_owned(), true.to_string())));
    schema.metadata.entry(PIPELINE_KEY.to_owned()).or_insert_with(|| run.pipeline.clone());
    Arc::new(schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::kind::Kind;
    use evt_run::clock::Clock;

    #[test]
    fn each_stage_adds_its_name_and_the_first_pipeline_stays() {
        let run = |tool, pipeline: &str| Run { pipeline: pipeline.to_owned(), ..Run::unwatched(tool, Clock::Fixed(0)) };
        let first = stamped(&Kind::Event.schema(), true, &run("evt-ingest", "shop"));
        let second = stamped(&first, false, &run("evt-validate", "other"));
        let value = |key: &str| second.metadata().get(key).map(String::as_str);
        assert_eq!(value(STAGES_KEY), Some("evt-ingest,evt-validate"));
        assert_eq!(value(PIPELINE_KEY), Some("shop"));
        assert_eq!(first.metadata().get(BOUNDED_KEY).map(String::as_str), Some("true"));
        assert!(!second.metadata().contains_key(BOUNDED_KEY));
        assert_eq!(second.fields(), Kind::Event.schema().fields());
    }
}
