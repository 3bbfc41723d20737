//! Refuses inputs that evt reads only with a flag or not at all: the message names the command to type.
//!
//! Text is JSON lines if a line begins with `{`; its broken lines are dead letters. Nothing else is guessed.

use super::elements::arrays_of;
use super::jsonl::has_separate_objects;
use super::{by_extension, clf, logfmt, syslog, without_mark};
use crate::json::scan::is_json;
use crate::parse::shell;
use crate::time::read_iso;
use serde::de::IgnoredAny;

/// The number of bytes in which a line that begins with `{` is looked for.
pub const LOOK: usize = 64 << 10;

/// Names that a file of a spreadsheet has among its first bytes: the list of its parts, or its type.
const SPREADSHEET: [&[u8]; 3] =
    [b"[Content_Types].xml", b"xl/workbook.xml", b"mimetypeapplication/vnd.oasis.opendocument"];

/// Containers by their first bytes, at an offset: what they are, and the command that unpacks a file to standard
/// output.
const PACKED: [(usize, &[u8], &str, &str); 6] = [
    (0, b"\xfd7zXZ\0", "compressed by xz", "xz -dc"),
    (0, b"BZh", "compressed by bzip2", "bzip2 -dc"),
    (0, b"PK\x03\x04", "a zip archive", "unzip -p"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z x -so"),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4", "lz4 -dc"),
    (257, b"ustar", "a tar archive", "tar -xOf"),
];

/// The format of a line that begins with a time.
const LOG_LINE: &str = r"regex:^(?<time>\S+ \S+) +(?<message>.*)";

/// The first bytes of an input, for the message about it.
pub struct Head<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// The name of the file; `None` for standard input.
    pub file: Option<&'a str>,
    /// The tool that reads it.
    pub tool: &'a str,
}

/// Whether the first line tells that an input is JSON lines, so that no more bytes are needed.
pub fn begins_with_object(bytes: &[u8]) -> bool {
    let text = without_mark(bytes).trim_ascii_start();
    let end = memchr::memchr(b'\n', text);
    text.starts_with(b"{") && end.is_some_and(|end| text[..end].trim_ascii_end().ends_with(b"}"))
}

/// Whether lines tell that an input is JSON lines: one begins with `{`, or the first one is JSON.
pub fn has_json_lines(bytes: &[u8]) -> bool {
    let mut lines = without_mark(bytes).split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let is_json = |line: &[u8]| str::from_utf8(line).is_ok_and(is_json);
    lines.clone().any(|line| line.starts_with(b"{")) || lines.find(|line| !line.is_empty()).is_some_and(is_json)
}

impl Head<'_> {
    /// Returns why an input is refused and the command to type; `None` if it is read. `is_lines`: without a flag it
    /// would be JSON lines, not CSV by its name.
    pub fn refusal(&self, is_lines: bool) -> Option<String> {
        if let Some(refusal) = self.packed() {
            return Some(refusal);
        }
        let text = without_mark(self.bytes);
        let mut lines =
            text.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end()).filter(|line| !line.is_empty());
        let (first, second) = (lines.next()?, lines.next());
        let west = || is_western(text).then(|| "text that is not UTF-8; --encoding windows-1252 reads it".to_owned());
        if !is_lines {
            return west();
        }
        if is_array(text) {
            return Some(match may_have_objects(text) {
                true => "a JSON array, not JSON lines; --explode . reads its elements".to_owned(),
                false => "a JSON array of values that are not objects; records are objects".to_owned(),
            });
        }
        if first == b"{"
            && second.is_some_and(|line| line.starts_with(b" ") || line.starts_with(b"\t") || line.starts_with(b"\""))
        {
            return Some(match array_of(text) {
                Some(name) => format!("JSON over several lines; --explode {name} reads the elements of {name}"),
                None => format!("JSON over several lines; use  {}", self.piped("jq -c .", "")),
            });
        }
        let begins_array = first.starts_with(b"{") && (first.ends_with(b",") || first.ends_with(b"["));
        if begins_array
            && second.is_some_and(|line| line.starts_with(b"{") && line.ends_with(b","))
            && let Some(name) = arrays_of(text).first()
        {
            // GeoJSON has one feature per line.
            let word = shell::word(name);
            return Some(format!("one JSON document; --explode {word} reads the elements of {name}"));
        }
        let mut lines = text.split(|byte| *byte == b'\n');
        if first.trim_ascii_start().starts_with(b"{") || lines.any(|line| line.starts_with(b"{")) {
            return None;
        }
        let read = |line: &[u8], is: fn(&str) -> bool| str::from_utf8(line).is_ok_and(is);
        let sample = || [Some(first), second].into_iter().flatten();
        if sample().any(|line| read(line, clf::is_entry)) {
            return Some("an access log; -f clf reads it".to_owned());
        }
        if sample().all(|line| read(line, syslog::is_line)) {
            let year = if read(first, syslog::needs_year) { " --time-year N" } else { "" };
            return Some(format!("syslog; -f syslog{year} reads it"));
        }
        if sample().all(|line| read(line, is_log_line)) {
            return Some(format!("lines of a log; -f '{LOG_LINE}' --time time reads them"));
        }
        if sample().all(has_object_behind_prefix) {
            let without_prefix = self.piped("sed 's/^[^{]*//'", "");
            return Some(format!("JSON objects behind a prefix; use  {without_prefix}"));
        }
        if sample().all(|line| read(line, logfmt::is_line)) {
            return Some("lines of key=value; -f logfmt reads them".to_owned());
        }
        self.table(first, second).or_else(west).or_else(|| words(first, second?))
    }

    /// Returns the refusal of a database, an archive, or UTF-16.
    fn packed(&self) -> Option<String> {
        if self.bytes.starts_with(b"SQLite format 3\0") {
            let name = self.file.unwrap_or("PATH");
            return Some(format!("a SQLite database; use sqlite:{name}"));
        }
        if self.bytes.starts_with(b"\xff\xfe") || self.bytes.starts_with(b"\xfe\xff") {
            let encoding = if self.bytes[0] == 0xff { "utf-16le" } else { "utf-16be" };
            return Some(format!("text in UTF-16; --encoding {encoding} reads it"));
        }
        if self.is_spreadsheet() {
            return Some(format!("a spreadsheet; export it as CSV, which {} reads", self.tool));
        }
        let is_at = |at: usize, magic: &[u8]| self.bytes.get(at..).is_some_and(|rest| rest.starts_with(magic));
        let (_, _, what, command) = PACKED.iter().find(|(at, magic, ..)| is_at(*at, magic))?;
        let inner = self.file.and_then(|name| by_extension(name.rsplit_once('.')?.0));
        let format = inner.map_or_else(String::new, |format| format!(" -f {}", format.name));
        Some(format!("{what}; use  {}", self.piped(command, &format)))
    }

    /// Whether the input is a zip archive with the parts of a spreadsheet (.xlsx, .ods), or of the older format (.xls).
    fn is_spreadsheet(&self) -> bool {
        let has = |name: &&[u8]| memchr::memmem::find(self.bytes, name).is_some();
        self.bytes.starts_with(b"PK\x03\x04") && SPREADSHEET.iter().any(has)
            || self.bytes.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    }

    /// Returns the refusal of lines that have a delimiter equally often. Files called .csv are read, standard input
    /// never.
    fn table(&self, first: &[u8], second: Option<&[u8]>) -> Option<String> {
        let count = |line: &[u8], delimiter: u8| memchr::memchr_iter(delimiter, line).count();
        let is_delimited = |delimiter: &u8| {
            let fields = count(first, *delimiter);
            fields > 0 && second.is_some_and(|line| count(line, *delimiter) == fields)
        };
        let is_text = str::from_utf8(first).is_ok_and(|line| !line.contains(char::is_control) || line.contains('\t'));
        let found = b",;\t|".iter().find(|delimiter| is_delimited(delimiter)).filter(|_| is_text);
        found.map(|_| "lines with delimiters; -f csv reads them".to_owned())
    }

    /// Returns a command line that pipes the input through a program.
    fn piped(&self, program: &str, flags: &str) -> String {
        let name = self.file.map_or_else(String::new, |name| format!(" {}", shell::word(name)));
        format!("{program}{name} | {}{flags}", self.tool)
    }
}

/// Returns the refusal of lines with the same number of words.
fn words(first: &[u8], second: &[u8]) -> Option<String> {
    let count = |line: &[u8]| Some(str::from_utf8(line).ok()?.split(' ').filter(|word| !word.is_empty()).count());
    let is_json = |line: &[u8]| str::from_utf8(line).is_ok_and(is_json);
    let words = count(first).filter(|words| *words > 1 && count(second) == Some(*words))?;
    if is_json(first) || is_json(second) {
        return None;
    }
    let fields = (1..=words).map(|at| format!(r"(?<c{at}>\S+)")).collect::<Vec<_>>().join(" +");
    Some(format!("lines of words; -f csv --delimiter ' ' reads them below a header, -f 'regex:^{fields}' without one"))
}

/// Whether a line begins with a date, a time of day and a blank, as log4j and Python write it. If the time has no
/// fraction, a word of letters or one in brackets must follow: other values may be those of a table.
fn is_log_line(line: &str) -> bool {
    let mut words = line.splitn(3, ' ');
    let (Some(date), Some(time), Some(rest)) = (words.next(), words.next(), words.next()) else { return false };
    let is_letters = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_word = |word: &str| word.starts_with('[') || is_letters(word.strip_suffix(':').unwrap_or(word));
    let begins_message = match time.as_bytes().get(8) {
        Some(b',' | b'.') => true,
        Some(_) => false,
        None => time.len() == 8 && rest.split_whitespace().next().is_some_and(is_word),
    };
    begins_message && read_iso(&format!("{date} {time}"), None).is_ok()
}

/// Whether a line is a JSON object behind the name of its container or the like: `web-1 | {…}`.
fn has_object_behind_prefix(line: &[u8]) -> bool {
    let start = memchr::memchr(b'{', line).filter(|start| *start > 0);
    let text = start.and_then(|start| str::from_utf8(&line[start..]).ok());
    text.is_some_and(|text| is_json(text.trim_end()))
}

/// Whether text is one JSON array or several, not lines: it begins with an array that continues behind its first line,
/// or that no line with an object follows. A word in brackets, as a log has, is no array, nor is a bracket before JSON
/// lines.
fn is_array(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    // A line that is no JSON and cannot become JSON by further lines is no array either: `[3, main] started`.
    let continues = || serde_json::from_slice::<IgnoredAny>(first).is_err_and(|error| error.is_eof());
    let has_objects = || rest.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_start().starts_with(b"{"));
    begins_array(text) && (!has_objects() || continues() && !has_separate_objects(rest))
}

/// Whether text begins as a JSON array does: with a bracket and, as far as the text goes, a value and what may follow
/// it.
fn begins_array(text: &[u8]) -> bool {
    let (mut depth, mut rest) = (0_usize, text);
    while let Some(inner) = rest.strip_prefix(b"[") {
        (depth, rest) = (depth + 1, inner.trim_ascii_start());
    }
    let after = match rest.first() {
        _ if depth == 0 => return false,
        None => return true,
        Some(b'{') => {
            let name = rest[1..].trim_ascii_start().first();
            return name.is_none_or(|byte| b"\"}".contains(byte));
        }
        Some(b']') => rest,
        Some(b'"') => match end_of_string(rest) {
            None => return true,
            Some(end) => &rest[end..],
        },
        Some(_) => {
            let end = rest.iter().position(|byte| b" \t\r\n,]".contains(byte)).unwrap_or(rest.len());
            let (value, after) = rest.split_at(end);
            if !str::from_utf8(value).is_ok_and(is_json) {
                return false;
            }
            after
        }
    };
    match after.trim_ascii_start().split_first() {
        None | Some((b',', _)) => true,
        Some((b']', rest)) if depth == 1 => {
            rest.split(|byte| *byte == b'\n').next().is_none_or(|rest| rest.trim_ascii().is_empty())
        }
        Some((byte, _)) => *byte == b']',
    }
}

/// Returns the first byte after the string that begins text, if the text has its end.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Whether an element of the array that begins text is an object, or the array is empty, as far as the text goes.
fn may_have_objects(text: &[u8]) -> bool {
    let (mut depth, mut at, mut is_empty) = (0_usize, 0, true);
    while let Some(byte) = text.get(at) {
        match byte {
            b'{' if depth == 1 => return true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth == 1 => break,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_empty &= byte.is_ascii_whitespace() || depth == 1 && *byte == b'[';
        at = match byte {
            b'"' => at + end_of_string(&text[at..]).unwrap_or(text.len()),
            _ => at + 1,
        };
    }
    is_empty
}

/// Returns the name of the first array of objects in a document, if a shell needs no quotes for it.
fn array_of(text: &[u8]) -> Option<String> {
    let is_plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    arrays_of(text).into_iter().next().filter(|name| !name.is_empty() && is_plain(name))
}

/// Whether text is in a western encoding of one byte per character: its first byte that is not UTF-8 is a letter beside
/// a letter, or a sign of Windows-1252 (`€`, `–`, `°`) among printable characters.
fn is_western(text: &[u8]) -> bool {
    /// The bytes from 0x80 to 0x9f that are not characters.
    const UNUSED: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];
    let Err(error) = str::from_utf8(text) else { return false };
    let at = error.valid_up_to();
    if !text[..at].is_ascii() || error.error_len().is_none() {
        return false;
    }
    if text[at] >= 0xc0 {
        let is_letter = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(u8::is_ascii_alphabetic);
        return is_letter(at.checked_sub(1)) || is_letter(Some(at + 1));
    }
    let is_printed = |byte: &u8| byte.is_ascii_graphic() || b" \t\r\n".contains(byte);
    !UNUSED.contains(&text[at]) && text[..at].iter().all(is_printed) && text.get(at + 1).is_some_and(is_printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_told_from_a_line_of_a_log_that_begins_with_a_bracket() {
        for array in [
            "[",
            "[]",
            " [ ] ",
            "[{",
            "[{}]",
            "[{\"a\":1},",
            "[\n{\"a\":1}\n]",
            "[1,\n{\"a\":1}]",
            "[\"a]\",\n",
            "[\"a",
            "[-1.5e3 ]",
            "[null]",
            "[[1],[2]]",
            "[[[",
            "[1]\n[2]\n",
            "[{\"a\":1}]\n[{\"a\":2}]",
        ] {
            assert!(is_array(array.as_bytes()), "{array}");
        }
        for line in [
            "[INFO] starting",
            "[main] INFO x",
            "[2024-01-01 00:00:00] x",
            "[2024-01-01T00:00:00Z] x",
            "[12345.678] usb 1-1",
            "[1]",
            "[12] [main] x",
            "[\"a\"] x",
            "[{main}] x",
            "[[INFO]] x",
            "[truth]",
            "[::1]:80 GET",
            "[1, main] INFO",
            "[\"GET\", 200] 3ms",
            "[{\"a\":1}] sent",
            "[{}] x",
            "INFO [1]",
            "{\"a\":[1]}",
            "",
            "[1,2]",
            "[\n{\"a\":0}",
            "[1,\n\n {\"a\":0}\r",
        ] {
            assert!(!is_array(format!("{line}\n{{\"a\":1}}\n").as_bytes()), "{line}");
        }
        let objects = ["[{\"a\":1}]", "[1,{\"a\":1}]", "[]", "[ ", "[\"]\",[{}],{"];
        assert!(objects.iter().all(|text| may_have_objects(text.as_bytes())));
        assert!(["[1,2]", "[[{\"a\":1}]]", "[\"{\"]", "[1]{"].iter().all(|text| !may_have_objects(text.as_bytes())));
    }
}
