//! Finds the objects of buckets that are inputs, before one is read.

use super::positions::Positions;
use crate::uri::Uri;
use evt_core::error::{Error, ErrorKind, Result};

/// An input without records, for a run whose objects were all read by earlier runs.
const EMPTY: &str = "/dev/null";

/// Returns the inputs with the objects that they name, in the order of their keys; with a checkpoint without those that
/// earlier runs have read.
///
/// Errors: exit status 74 if there is no object, 69 or 78 if the server does not list them.
pub(super) fn find(inputs: &[Uri], positions: Option<&Positions>) -> Result<Vec<Uri>> {
    let mut found = vec![];
    for input in inputs {
        let Uri::Bucket(objects) = input else {
            found.push(input.clone());
            continue;
        };
        let objects_found = objects.find()?;
        if objects_found.is_empty() && !(objects.is_pattern() && positions.is_some()) {
            return Err(none(input));
        }
        let named = objects_found.into_iter().map(|object| Uri::Bucket(Box::new(object)));
        found.extend(named.filter(|object| !positions.is_some_and(|positions| positions.has_read(object))));
    }
    if found.is_empty() && !inputs.is_empty() {
        found.push(Uri::File(EMPTY.into()));
    }
    Ok(found)
}

/// Makes the error of an input without objects: exit status 74, as for a file that is missing.
pub fn none(input: &Uri) -> Error {
    Error::new(ErrorKind::Io, "expected an object, found none").at(input.to_string())
}
