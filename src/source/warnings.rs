//! Warnings about all records of a source, at its end.

use crate::counts::counted;
use crate::ingest::Ingest;
use crate::op::computed::RowRules;

/// Returns warnings about names in the rules of the source that had no value, about ambiguous times, and, if repeats
/// are found by ids, about records without ids.
pub fn of_records(ingest: &Ingest, finds_repeats: bool) -> Vec<String> {
    let mut warnings = ingest.rules().map_or(vec![], RowRules::warnings);
    warnings.extend(ingest.mapper.doubled_times());
    warnings.extend(ingest.mapper.local_times());
    let made = ingest.mapper.made_ids();
    if finds_repeats && made > 0 {
        let records = counted(made, ["record has", "records have"]);
        warnings.push(format!(
            "{records} no event_id, so --dedup cannot find repeats; --field event_id=FIELD --hash-ids derives ids from FIELD"
        ));
    }
    warnings
}
