//! syslog: lines as RFC 5424 defines them, and as RFC 3164 describes what programs have always written.
//!
//! `<34>1 2003-10-11T22:14:15.003Z host su 17 ID47 [id a="1"] text` and `<34>Oct 11 22:14:15 host su[17]: text` become
//! events with `event_type` syslog, `server_timestamp`, and as properties `facility`, `severity`, `hostname`,
//! `appname`, `procid`, `msgid`, `structured_data` and `message`. What is `-` or missing is absent. Daemons leave out
//! `<34>` in files, and rsyslog writes RFC 3339 times in the place of those of RFC 3164; both are read. The first time
//! without a year gets that of `--time-year`, and a step back by more than 300 days begins the next year (`Years`);
//! without the flag a time stays as it is, so that the mapping reports it. Years are never taken from the clock: a log
//! would change with age.

use super::definition::{Format, InputForm};
use super::jsonl::Lines;
use super::lines::{LineCursor, LineFault, ReadLines};
use super::record::{Body, RecordReader, Records, Skipped, Splitter, not_utf8};
use crate::error::Result;
use crate::json::text::{key, write_string};
use crate::kind::dead::Fault;
use crate::time::{CivilDate, DAY, MONTHS, civil_from_days, days_from_civil};
use std::fmt::Write;

/// Lines of syslog.
pub const FORMAT: Format = Format {
    name: "syslog",
    extensions: &["syslog"],
    input: InputForm::Text(|options| match options.year {
        Some(year) => Box::new(DatedLines { lines: Lines::default(), years: Years::new(year) }),
        None => Box::new(ReadLines::new(Messages)),
    }),
    lacks_years: true,
    ..Format::BASE
};

/// The names of facilities by their numbers (RFC 5424, table 1; the words of syslog.conf(5)).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
/// The names of severities by their numbers (RFC 5424, table 2).
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// A step of more days than these between two lines is the turn of a year, not disorder.
const TURN_DAYS: i64 = 300;

/// Messages whose times have a year, or get none.
struct Messages;

impl RecordReader for Messages {
    fn read(&self, line: &str, out: &mut String) -> Result<(), Fault> {
        Ok(write_object(line, None, out)?)
    }
}

/// Splits lines and reads each, because the year of its time depends on the line before (`--time-year`).
struct DatedLines {
    lines: Lines,
    years: Years,
}

impl DatedLines {
    fn body(&mut self, line: &[u8], out: &mut String) -> Body {
        let start = out.len();
        let line = str::from_utf8(line).map_err(|error| not_utf8(&error));
        match line.and_then(|line| Ok(write_object(line, Some(&mut self.years), out)?)) {
            Ok(()) => Body::Text(start..out.len()),
            Err(fault) => {
                out.truncate(start);
                Body::Fault(fault)
            }
        }
    }
}

impl Splitter for DatedLines {
    fn split(&mut self, input: &[u8], last: bool, records: &mut Records) -> Result<usize> {
        let before = records.rows.len();
        let consumed = self.lines.split(input, last, records)?;
        for record in &mut records.rows[before..] {
            record.body = self.body(&input[record.raw.clone()], &mut records.text);
        }
        Ok(consumed)
    }

    fn skip(&mut self, input: &[u8]) -> Skipped {
        self.lines.skip(input)
    }

    fn lines(&self) -> u64 {
        self.lines.lines()
    }

    fn resume(&mut self, after: i64) {
        let CivilDate { year, month, day } = civil_from_days(after.div_euclid(DAY));
        self.years = Years { year, last: Some(days_from_civil(year, month, day)) };
    }
}

/// The years of the lines of one partition, in their order.
#[derive(Clone, Copy, Debug)]
struct Years {
    /// The year of the last line, or of the first one.
    year: i64,
    /// The date of the last line, in days since 1970.
    last: Option<i64>,
}

impl Years {
    fn new(year: u16) -> Self {
        Self { year: year.into(), last: None }
    }

    /// Returns the year of the next line. After a step back by more than 300 days the line is in the next year, after a
    /// step forward by more than 300 days in the previous one: lines around midnight may be in disorder.
    fn of(&mut self, month: usize, day: u8) -> i64 {
        let date = |year: i64| days_from_civil(year, month as i64, day.into());
        let step = self.last.map_or(0, |last| date(self.year) - last);
        self.year += i64::from(step < -TURN_DAYS) - i64::from(step > TURN_DAYS);
        self.last = Some(date(self.year));
        self.year
    }
}

/// Whether a line is one of syslog.
pub(super) fn is_line(line: &str) -> bool {
    write_object(line, None, &mut String::new()).is_ok()
}

/// Whether the time of a line of syslog needs `--time-year`.
pub(super) fn needs_year(line: &str) -> bool {
    let mut cursor = LineCursor::new(line);
    read_priority(&mut cursor).is_ok() && read_local_time(&mut cursor).is_some()
}

/// Writes a line as a JSON object.
fn write_object(line: &str, years: Option<&mut Years>, out: &mut String) -> Result<(), LineFault> {
    let mut cursor = LineCursor::new(line);
    out.push_str("{\"event_type\":\"syslog\"");
    let priority = read_priority(&mut cursor)?;
    if let Some(priority) = priority {
        member(out, "facility", FACILITIES[usize::from(priority / 8)]);
        member(out, "severity", SEVERITIES[usize::from(priority % 8)]);
    }
    match priority.is_some() && cursor.take("1 ") {
        true => new_message(&mut cursor, out)?,
        false => old_message(&mut cursor, years, out)?,
    }
    out.push('}');
    Ok(())
}

/// Reads the rest of a message of RFC 5424 after its version.
fn new_message(cursor: &mut LineCursor<'_>, out: &mut String) -> Result<(), LineFault> {
    for name in ["server_timestamp", "hostname", "appname", "procid", "msgid"] {
        match cursor.field().ok_or_else(|| cursor.fault(name))? {
            "-" => {}
            word => member(out, name, word),
        }
    }
    if !cursor.take("-") {
        read_structured_data(cursor, out)?;
    }
    // A mark says that the message is UTF-8, which it must be anyway.
    let text = match cursor.rest() {
        "" => return Ok(()),
        text => text.strip_prefix(' ').ok_or_else(|| cursor.fault("a blank after the structured data"))?,
    };
    member(out, "message", text.strip_prefix('\u{feff}').unwrap_or(text));
    Ok(())
}

/// Reads the rest of a message of RFC 3164 after its priority.
fn old_message(cursor: &mut LineCursor<'_>, years: Option<&mut Years>, out: &mut String) -> Result<(), LineFault> {
    let start = cursor.byte;
    if let Some(LocalTime { month, day, time }) = read_local_time(cursor) {
        out.push_str(&key("server_timestamp"));
        // Writing to a string cannot fail.
        let _ = match years.map(|years| years.of(month, day)) {
            Some(year) => write!(out, "\"{year:04}-{month:02}-{day:02}T{time}\""),
            None => write!(out, "\"{}\"", cursor.line[start..cursor.byte].trim_end()),
        };
    } else {
        let word = cursor.field().filter(|word| word.len() > 10 && word.as_bytes()[10] == b'T');
        member(out, "server_timestamp", word.ok_or(LineFault { byte: start, expected: "a time" })?);
    }
    let host = cursor.field().filter(|word| !word.is_empty());
    member(out, "hostname", host.ok_or_else(|| cursor.fault("a host and a message"))?);
    let text = cursor.rest();
    // A tag is what precedes `: `: a name without blanks, and maybe the id of the process in brackets.
    let tag = text.split_once(": ").or_else(|| text.strip_suffix(':').map(|tag| (tag, "")));
    let message = match tag.filter(|(tag, _)| !tag.is_empty() && !tag.contains(' ')) {
        Some((tag, message)) => {
            match tag.strip_suffix(']').and_then(|tag| tag.rsplit_once('[')) {
                Some((name, process)) if !name.is_empty() => {
                    member(out, "appname", name);
                    member(out, "procid", process);
                }
                _ => member(out, "appname", tag),
            }
            message
        }
        None => text,
    };
    member(out, "message", message);
    Ok(())
}

fn member(out: &mut String, name: &str, value: &str) {
    out.push_str(&key(name));
    write_string(out, value);
}

/// A time of RFC 3164, which has no year and no zone.
struct LocalTime<'a> {
    /// The month, from 1.
    month: usize,
    /// The day of the month.
    day: u8,
    /// The time of day as written: `22:14:15`, perhaps with a fraction.
    time: &'a str,
}

/// Reads `<N>`, which may be missing.
fn read_priority(cursor: &mut LineCursor<'_>) -> Result<Option<u8>, LineFault> {
    let Some(text) = cursor.rest().strip_prefix('<') else { return Ok(None) };
    let number = text.split_once('>').map(|(number, _)| number).filter(|number| number.len() <= 3);
    let priority = number.and_then(|number| number.parse::<u8>().ok()).filter(|priority| *priority < 192);
    let priority = priority.ok_or(LineFault { byte: 1, expected: "a priority from 0 to 191 in angle brackets" })?;
    cursor.byte += number.map_or(0, str::len) + 2;
    Ok(Some(priority))
}

/// Reads `Oct  1 22:14:15 `; the day may have a zero instead of the blank.
fn read_local_time<'a>(cursor: &mut LineCursor<'a>) -> Option<LocalTime<'a>> {
    let text = cursor.rest();
    let (month, rest) = text.split_at_checked(4)?;
    let month = MONTHS.iter().position(|name| month.strip_suffix(' ') == Some(*name))? + 1;
    let (day, rest) = rest.split_at_checked(3)?;
    let day = day.strip_suffix(' ')?.trim_start().parse().ok()?;
    let (time, rest) = rest.split_once(' ')?;
    let is_time = time.len() >= 8 && time.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte));
    cursor.byte += if is_time { text.len() - rest.len() } else { 0 };
    is_time.then_some(LocalTime { month, day, time })
}

/// Reads `[ID NAME="VALUE"…]…` as an object of objects.
fn read_structured_data(cursor: &mut LineCursor<'_>, out: &mut String) -> Result<(), LineFault> {
    out.push_str(&key("structured_data"));
    let mut mark = '{';
    while cursor.take("[") {
        let end = cursor.rest().find([' ', ']']).ok_or_else(|| cursor.fault("the end of the structured data"))?;
        out.push(mark);
        write_string(out, &cursor.rest()[..end]);
        out.push_str(":{");
        cursor.byte += end;
        read_parameters(cursor, out)?;
        out.push('}');
        mark = ',';
    }
    if mark == '{' {
        return Err(cursor.fault("structured data or -"));
    }
    out.push('}');
    Ok(())
}

/// Reads the parameters of an element to its closing bracket.
fn read_parameters(cursor: &mut LineCursor<'_>, out: &mut String) -> Result<(), LineFault> {
    let mut is_first = true;
    while !cursor.take("]") {
        let pair = cursor.rest().strip_prefix(' ').and_then(|text| text.split_once("=\""));
        let (name, text) = pair.ok_or_else(|| cursor.fault("NAME=\"VALUE\" or ]"))?;
        let (value, length) = unescaped(text).ok_or_else(|| cursor.fault("a closing quote"))?;
        if !std::mem::take(&mut is_first) {
            out.push(',');
        }
        write_string(out, name);
        out.push(':');
        write_string(out, &value);
        cursor.byte += 1 + name.len() + 2 + length + 1;
    }
    Ok(())
}

/// Returns the value before the closing quote, with the escapes `\"`, `\\` and `\]` undone, and its length in the line.
fn unescaped(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, at)),
            '\\' => match chars.next()?.1 {
                escaped @ ('"' | '\\' | ']') => value.push(escaped),
                // Any other backslash stands for itself.
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(line: &str, year: Option<u16>) -> Result<Value, String> {
        let mut text = String::new();
        write_object(line, year.map(Years::new).as_mut(), &mut text).map_err(|fault| Fault::from(fault).message)?;
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    #[test]
    fn the_examples_of_rfc_5424_are_read() {
        let line = "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8";
        let wanted = json!({"event_type": "syslog", "facility": "auth", "severity": "crit",
            "server_timestamp": "2003-10-11T22:14:15.003Z", "hostname": "mymachine.example.com", "appname": "su",
            "msgid": "ID47", "message": "'su root' failed for lonvick on /dev/pts/8"});
        assert_eq!(read(line, None).unwrap(), wanted);
        let line = r#"<165>1 2003-10-11T22:14:15.003Z host evntslog 8710 ID47 [exampleSDID@32473 iut="3" eventSource="App\"li\]\\c\n"][examplePriority@32473 class="high"]"#;
        let found = read(line, None).unwrap();
        assert_eq!(
            found["structured_data"],
            json!({"exampleSDID@32473": {"iut": "3", "eventSource": "App\"li]\\c\\n"}, "examplePriority@32473": {"class": "high"}})
        );
        assert_eq!((&found["procid"], found.get("message")), (&json!("8710"), None));
        assert_eq!(read("<0>1 - - - - - [a]", None).unwrap()["structured_data"], json!({"a": {}}));
    }

    #[test]
    fn older_lines_get_their_year_from_the_flag() {
        let wanted = |time: &str| {
            json!({"event_type": "syslog", "facility": "auth", "severity": "crit", "server_timestamp": time,
                "hostname": "mymachine", "appname": "su", "message": "'su root' failed: no"})
        };
        let line = "<34>Oct  1 22:14:15 mymachine su: 'su root' failed: no";
        assert_eq!(read(line, Some(2003)).unwrap(), wanted("2003-10-01T22:14:15"));
        assert_eq!(read(line, None).unwrap(), wanted("Oct  1 22:14:15"));
        let line = "<34>2003-10-01T22:14:15.5+02:00 mymachine su: 'su root' failed: no";
        assert_eq!(read(line, Some(1999)).unwrap(), wanted("2003-10-01T22:14:15.5+02:00"));
        let found = read("Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user x from 1.2.3.4", Some(2016)).unwrap();
        assert_eq!(
            found,
            json!({"event_type": "syslog", "server_timestamp": "2016-12-10T06:55:46", "hostname": "LabSZ",
                "appname": "sshd", "procid": "24200", "message": "Invalid user x from 1.2.3.4"})
        );
        let found = read("Dec 10 06:55:46 host -- MARK --", None).unwrap();
        assert_eq!((found.get("appname"), &found["message"]), (None, &json!("-- MARK --")));
    }

    #[test]
    fn years_turn_with_steps_of_more_than_300_days_in_either_direction() {
        let mut messages = DatedLines { lines: Lines::default(), years: Years::new(2023) };
        let text_of = |messages: &mut DatedLines, date: &str| {
            let mut records = Records::default();
            messages.split(format!("{date} 10:00:00 h a: b\n").as_bytes(), false, &mut records).unwrap();
            records.text
        };
        let mut year_of = |date: &str| {
            let text = text_of(&mut messages, date);
            serde_json::from_str::<Value>(&text).unwrap()["server_timestamp"].as_str().unwrap()[..4].to_owned()
        };
        let found =
            ["Dec 30", "Dec 31", "Jan  1", "Dec 31", "Jan  2", "Mar  1", "Feb  1", "Nov  1", "Dec 31", "Jan  1"]
                .map(&mut year_of);
        assert_eq!(found, ["2023", "2023", "2024", "2023", "2024", "2024", "2024", "2024", "2024", "2025"]);
        // A later run, or the next file of a partition, continues at the stream time, which is in UTC.
        for (after, date, wanted) in [
            ("2024-12-31T23:30:00Z", "Jan  1", "2025"),
            ("2025-01-01T01:00:00Z", "Dec 31", "2024"),
            ("2025-01-01T01:00:00Z", "Jan  1", "2025"),
        ] {
            messages.resume(crate::time::parse_instant(after).unwrap());
            let text = text_of(&mut messages, date);
            assert!(text.contains(&format!("\"server_timestamp\":\"{wanted}-")), "{after} {date}: {text}");
        }
    }

    #[test]
    fn other_lines_are_faults() {
        for (line, said) in [
            ("only words", "byte 1: expected a time"),
            ("<192>Oct 11 22:14:15 h a", "byte 2: expected a priority from 0 to 191 in angle brackets"),
            ("<1>1 2003-10-11T22:14:15Z h", "byte 27: expected hostname"),
            ("<1>1 - - - - - x", "byte 16: expected structured data or -"),
            ("<1>1 - - - - - [a b=\"]", "byte 18: expected a closing quote"),
            ("<1>1 - - - - - [a b]", "byte 18: expected NAME=\"VALUE\" or ]"),
            ("<1>1 - - - - - -x", "byte 17: expected a blank after the structured data"),
            ("Oct 11 22:14:15 host", "byte 17: expected a host and a message"),
            ("é é é é", "byte 1: expected a time"),
        ] {
            assert_eq!(read(line, None).unwrap_err(), said, "{line}");
        }
        assert!(needs_year("Oct 11 22:14:15 h a") && !needs_year("<1>1 2003-10-11T22:14:15Z - - - - -"));
    }
}
