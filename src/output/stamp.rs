//! The metadata of the schema that a stage writes.

use arrow::datatypes::{Schema, SchemaRef};
use evt_core::frame::{BOUNDED_KEY, PIPELINE_KEY, RANGED_KEY, STAGES_KEY};
use evt_run::run::Run;
use std::sync::Arc;

/// What a stage says about its rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct StageRows {
    /// Whether its inputs end by themselves.
    pub are_bounded: bool,
    /// Whether it leaves out rows outside of a range of time.
    pub are_ranged: bool,
}

/// Returns the schema that this stage writes: appends the stage's name to those before it, and says what is known of
/// its rows.
pub fn stamped(schema: &SchemaRef, rows: StageRows, run: &Run) -> SchemaRef {
    let mut schema = Schema::clone(schema);
    let stages = match schema.metadata.get(STAGES_KEY) {
        Some(before) => format!("{before},{}", run.console.tool()),
        None => run.console.tool().to_owned(),
    };
    schema.metadata.insert(STAGES_KEY.to_owned(), stages);
    schema.metadata.remove(BOUNDED_KEY);
    for (key, is_true) in [(BOUNDED_KEY, rows.are_bounded), (RANGED_KEY, rows.are_ranged)] {
        schema.metadata.extend(is_true.then(|| (key.to_owned(), true.to_string())));
    }
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
        let rows = StageRows { are_bounded: true, are_ranged: true };
        let first = stamped(&Kind::Event.schema(), rows, &run("evt-ingest", "shop"));
        let second = stamped(&first, StageRows::default(), &run("evt-validate", "other"));
        let value = |key: &str| second.metadata().get(key).map(String::as_str);
        assert_eq!(value(STAGES_KEY), Some("evt-ingest,evt-validate"));
        assert_eq!(value(PIPELINE_KEY), Some("shop"));
        assert_eq!(first.metadata().get(BOUNDED_KEY).map(String::as_str), Some("true"));
        assert!(!second.metadata().contains_key(BOUNDED_KEY));
        assert_eq!(value(RANGED_KEY), Some("true"));
        assert_eq!(second.fields(), Kind::Event.schema().fields());
    }
}
