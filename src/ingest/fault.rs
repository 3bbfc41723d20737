//! Faults of records, as they are counted and told.

use crate::error::Error;
use crate::mapping;

#[cold]
pub(super) fn no_time(text: &str, time: &str, name: &str, line: i64) -> Error {
    let found = mapping::time_fields(text);
    let way_out = match found.is_empty() {
        true => "no field of it reads as a time: --time arrival takes the run's own clock".to_owned(),
        false => format!("say which field it is: {}", found.join("  or  ")),
    };
    Error::usage(format!("the first record has no event time ({time}): {way_out}")).at(format!("{name}:{line}"))
}
