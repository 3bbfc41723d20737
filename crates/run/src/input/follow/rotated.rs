//! Names that programs give to the files of a rotated log.

use std::cmp::Reverse;

/// Suffixes of compressed files.
const PACKED: [&[u8]; 2] = [b".gz", b".zst"];
/// Suffixes without a number or a date.
const WORDS: [&[u8]; 3] = [b".old", b".bak", b"~"];
/// Maximum number of digits of a generation number. A longer number is a date.
const GENERATION_DIGITS: usize = 4;

/// The age of a file by its name; an older file is less. A greater generation number is older, a greater date is
/// younger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(Reverse<u32>, Vec<u8>);

/// Returns the age of the file `found`, if a rotation may have given this name to the file `name`: with a number, a
/// date or `.old` at the end or before the extension, compressed or not.
pub fn age(name: &[u8], found: &[u8]) -> Option<Age> {
    // The number or date may be before the extension of a compressed file, too: app.log.1.gz of app.log.gz.
    let of_packed = PACKED.iter().find_map(|suffix| Some((name.strip_suffix(*suffix)?, found.strip_suffix(*suffix)?)));
    of_packed.and_then(|(name, found)| age_of(name, found)).or_else(|| age_of(name, found))
}

fn age_of(name: &[u8], found: &[u8]) -> Option<Age> {
    let packed = PACKED.iter().find_map(|suffix| found.strip_suffix(*suffix));
    let bare = packed.unwrap_or(found);
    if bare == name {
        return packed.map(|bare| Age(Reverse(0), bare.to_owned()));
    }
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    let behind = bare.strip_prefix(name).filter(|part| is_part(part));
    let within = || bare.strip_prefix(stem)?.strip_suffix(extension).filter(|part| is_part(part));
    let part = behind.or_else(within)?;
    let digits: Vec<u8> = part.iter().copied().filter(u8::is_ascii_digit).collect();
    let is_generation = digits.len() <= GENERATION_DIGITS;
    let number = str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
    Some(Age(Reverse(number.filter(|_| is_generation).unwrap_or(0)), bare.to_owned()))
}

/// The names in a directory by which a followed name and its rotations are known.
pub struct FollowedNames {
    /// The followed name.
    pub name: Vec<u8>,
    /// The name of the file to which it points, if it is a link to another name.
    pub target: Option<Vec<u8>>,
    /// The other names that the run follows in this directory.
    pub others: Vec<Vec<u8>>,
}

impl FollowedNames {
    /// Returns the age of the file `found`, if a rotation may have given this name to a file of the followed name.
    pub fn age(&self, found: &[u8]) -> Option<Age> {
        // If worker-1.log is followed too, neither worker-1.log nor its rotations are rotations of worker.log.
        let is_of = |other: &Vec<u8>| other == found || other.len() > self.name.len() && age(other, found).is_some();
        if self.others.iter().any(is_of) {
            return None;
        }
        let of_target = |target: &Vec<u8>| age(target, found).or_else(|| age_of_sibling(target, found));
        age(&self.name, found).or_else(|| self.target.as_ref().and_then(of_target))
    }
}

/// Returns the age of the file `found`, if its name differs from `target` only in its numbers: the link may have
/// pointed to such a file.
fn age_of_sibling(target: &[u8], found: &[u8]) -> Option<Age> {
    let bare = PACKED.iter().find_map(|suffix| found.strip_suffix(*suffix)).unwrap_or(found);
    let has_number = target.iter().any(u8::is_ascii_digit);
    (has_number && shape(target).eq(shape(bare))).then(|| Age(Reverse(0), bare.to_owned()))
}

/// Returns a name with one `0` for each number.
fn shape(name: &[u8]) -> impl Iterator<Item = u8> {
    let runs = name.chunk_by(|one, other| one.is_ascii_digit() && other.is_ascii_digit());
    runs.map(|run| if run[0].is_ascii_digit() { b'0' } else { run[0] })
}

/// Whether a name is that of a compressed file.
pub fn is_packed(name: &[u8]) -> bool {
    PACKED.iter().any(|suffix| name.ends_with(suffix))
}

/// Whether a name is that of the compressed file `found` without its suffix.
pub fn is_unpacked(name: &[u8], found: &[u8]) -> bool {
    PACKED.iter().any(|suffix| found.strip_suffix(*suffix) == Some(name))
}

/// Whether a part of a name is a number, a date, or a word such as `.old`.
fn is_part(part: &[u8]) -> bool {
    let is_separator = |byte: &u8| b"._-".contains(byte);
    let is_of_date = |byte: &u8| byte.is_ascii_digit() || b"._-:+TZ".contains(byte);
    WORDS.contains(&part)
        || part.first().is_some_and(is_separator) && part.iter().all(is_of_date) && part.iter().any(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_rotation_are_known_by_their_names_and_no_others() {
        for found in [
            "app.log.1",
            "app.log.12.gz",
            "app.log-20260101",
            "app.log-20260101-1767225600.zst",
            "app.log.2026-01-01",
            "app.log.gz",
            "app.log.2026-01-01T10:00:00Z",
            "app-20260101.log",
            "app.1.log",
            "app.2026-01-01.3.log.gz",
            "app.log.old",
            "app.log~",
        ] {
            assert!(age(b"app.log", found.as_bytes()).is_some(), "{found}");
        }
        for found in [
            "app.log",
            "app-error.log",
            "app.log.error",
            "app.log1",
            "application.log",
            "app.log.",
            "app2.log",
            "app.log.swp",
            "b.log.1",
            "app.log.1.bz2",
            "app.log.1.part",
            "apo.1.log",
            "app.1.txt",
        ] {
            assert_eq!(age(b"app.log", found.as_bytes()), None, "{found}");
        }
        for found in ["app.log.1.gz", "app.1.log.gz", "app.log-20260101.gz", "app.log.gz.1", "app.log.gz-20260101"] {
            assert!(age(b"app.log.gz", found.as_bytes()).is_some(), "{found}");
        }
        for found in ["app.log.gz", "app.log.error.gz", "app.log.1.zst", "app2.log.gz"] {
            assert_eq!(age(b"app.log.gz", found.as_bytes()), None, "{found}");
        }
        assert!(age(b"app.log.gz", b"app.log.2.gz") < age(b"app.log.gz", b"app.log.1.gz"));
        assert!(age(b"log", b"log.1").is_some() && age(b".log", b".log.1").is_some());
        assert!(is_unpacked(b"app.log.1", b"app.log.1.gz") && !is_unpacked(b"app.log", b"app.log.1.gz"));
    }

    #[test]
    fn a_name_that_is_followed_is_no_rotation_of_another_one() {
        let names = |others: &[&str]| FollowedNames {
            name: b"worker.log".to_vec(),
            target: None,
            others: others.iter().map(|other| other.as_bytes().to_vec()).collect(),
        };
        for found in ["worker-1.log", "worker-1.20260101.log", "worker-1-20260101.log.gz"] {
            assert_eq!(names(&["worker-1.log"]).age(found.as_bytes()), None, "{found}");
        }
        assert!(names(&[]).age(b"worker-1.log").is_some());
        for found in ["worker.log.1", "worker-2.log", "worker-20260101.log"] {
            assert!(names(&["worker-1.log", "w.log"]).age(found.as_bytes()).is_some(), "{found}");
        }
    }

    #[test]
    fn files_to_which_a_link_may_have_pointed_differ_in_their_numbers() {
        let names = |target: &str| FollowedNames {
            name: b"current.log".to_vec(),
            target: Some(target.as_bytes().to_vec()),
            others: vec![],
        };
        for (target, found) in [
            ("app-2026-11-24.log", "app-2026-11-25.log"),
            ("app-2026-11-24.log", "app-2026-11-25.log.gz"),
            ("app-2026-11-24.log", "app-2026-11-24.log.1"),
            ("9.log", "10.log"),
            ("app.log", "current.log.1"),
        ] {
            assert!(names(target).age(found.as_bytes()).is_some(), "{target} {found}");
        }
        for (target, found) in [
            ("app-2026-11-24.log", "db-2026-11-25.log"),
            ("app-2026-11-24.log", "app-2026-11.log"),
            ("app-2026-11-24.log", "app-error.log"),
            ("app.log", "db.log"),
        ] {
            assert_eq!(names(target).age(found.as_bytes()), None, "{target} {found}");
        }
    }

    #[test]
    fn great_numbers_and_early_dates_are_old() {
        for (old, young) in [
            ("app.log.10.gz", "app.log.9.gz"),
            ("app.log.2", "app.log.1"),
            ("app.log-20251231", "app.log-20260101"),
            ("app.log.2026-01-01_09", "app.log.2026-01-01_10.gz"),
        ] {
            assert!(age(b"app.log", old.as_bytes()) < age(b"app.log", young.as_bytes()), "{old} {young}");
        }
    }
}
