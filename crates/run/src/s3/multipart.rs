//! Objects that are written in parts: a request that fails repeats one part, not gigabytes.

use super::http::FilePart;
use super::xml;

/// Length of a part, unless there would be too many. A shorter object is written by one request.
const PART: u64 = 64 << 20;
/// Maximum number of parts of an object.
const PARTS_MAX: u64 = 10_000;

/// Whether an object of this length is written in parts.
pub fn is_large(length: u64) -> bool {
    length > PART
}

/// Returns the body of the request that joins parts with these tags.
pub fn list(tags: &[String]) -> String {
    let part = |(at, tag): (usize, &String)| {
        format!("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", at + 1, xml::escaped(tag))
    };
    let parts: String = tags.iter().enumerate().map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

/// Returns the parts of a file.
pub fn cut(whole: &FilePart) -> Vec<FilePart> {
    let most = PART.max(whole.length.div_ceil(PARTS_MAX));
    let starts = (0..whole.length.div_ceil(most)).map(|number| number * most);
    let part = |start| FilePart { start, length: most.min(whole.length - start), ..whole.clone() };
    starts.map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::sync::Arc;

    #[test]
    fn parts_follow_each_other_and_are_never_too_many() {
        let file = Arc::new(File::open("/dev/null").unwrap());
        for length in [PART + 1, 3 * PART, PART * PARTS_MAX, PART * PARTS_MAX + 5, 5 << 40] {
            let parts = cut(&FilePart { file: file.clone(), start: 0, length });
            assert!(parts.len() as u64 <= PARTS_MAX && parts.len() > 1, "{length}: {}", parts.len());
            let mut next = 0;
            for part in &parts {
                assert!(part.start == next && part.length > 0);
                next += part.length;
            }
            assert_eq!(next, length);
        }
    }
}
