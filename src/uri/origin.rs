//! Origins of files: the path as typed, normalized as text. Event ids are derived from it, so a file has one origin
//! however its path is written, and the origin does not depend on the working directory.

use evt_core::format::unpack::SUFFIXES;

/// Returns the origin of the file at `path`: without `.`, empty parts and `a/..`, and without the suffix of a
/// compressed file. A byte that is not UTF-8, and `%`, become `%XX`.
pub fn of_path(path: &[u8]) -> String {
    let mut parts: Vec<&[u8]> = vec![];
    let is_absolute = path.starts_with(b"/");
    for part in path.split(|byte| *byte == b'/') {
        match (part, parts.last()) {
            (b"" | b".", _) => {}
            (b"..", None) if is_absolute => {}
            (b"..", Some(last)) if *last != b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let unpacked = |name: &[u8]| {
        let is_suffix = |suffix: &&str| name.ends_with(suffix.as_bytes()) && name.len() > suffix.len();
        name.len() - SUFFIXES.into_iter().find(is_suffix).map_or(0, str::len)
    };
    if let Some(last) = parts.last_mut() {
        *last = &last[..unpacked(last)];
    }
    let mut origin = if is_absolute { "/".to_owned() } else { String::new() };
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            origin.push('/');
        }
        escape(part, &mut origin);
    }
    origin
}

/// Returns the origin of an object: its name, without the suffix of a compressed one.
pub fn of_object(name: &str) -> String {
    let suffix = SUFFIXES.into_iter().find(|suffix| name.ends_with(suffix));
    name.strip_suffix(suffix.unwrap_or_default()).unwrap_or(name).to_owned()
}

fn escape(part: &[u8], out: &mut String) {
    for chunk in part.utf8_chunks() {
        out.push_str(&chunk.valid().replace('%', "%25"));
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
    }
}

#[cfg(test)]
mod tests {
    use super::of_path;

    #[test]
    fn one_file_has_one_origin_however_its_path_is_written() {
        for (path, origin) in [
            ("a.jsonl", "a.jsonl"),
            ("./a.jsonl", "a.jsonl"),
            ("x/../a.jsonl.gz", "a.jsonl"),
            ("logs//day/./a.jsonl.zst", "logs/day/a.jsonl"),
            ("../a", "../a"),
            ("x/../../a", "../a"),
            ("../../a/..", "../.."),
            ("/var/../log/a", "/log/a"),
            ("/../a", "/a"),
            ("/.gz", "/.gz"),
            ("a.gz/b", "a.gz/b"),
            ("100%.csv", "100%25.csv"),
            ("é ?", "é ?"),
        ] {
            assert_eq!(of_path(path.as_bytes()), origin, "{path}");
        }
        assert_eq!(of_path(b"\xff/\xc3\xa9\xc3.gz"), "%FF/é%C3");
    }
}
