//! Text of Flink's SQL: constants, identifiers, intervals. What comes from a definition cannot become SQL: constants
//! have only harmless characters of ASCII, and identifiers only letters, digits, points and underscores.

use crate::time::{DAY, HOUR, MINUTE, SECOND};
use std::fmt::Write;

/// Days that an interval may have.
const DAYS_MAX: i64 = 99;

/// Returns a text constant.
pub(super) fn text(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '\'' | '\\' | ';') || c == ' ';
    // The client cuts a script at semicolons, and two minus signs begin a comment.
    if value.chars().all(is_plain) && !value.contains("--") && !value.contains("/*") {
        return format!("'{value}'");
    }
    let mut out = String::from("U&'");
    for unit in value.encode_utf16() {
        match char::from_u32(unit.into()).filter(char::is_ascii_alphanumeric) {
            Some(c) => out.push(c),
            None => _ = write!(out, "\\{unit:04X}"),
        }
    }
    out + "'"
}

/// Returns a number constant, a double.
pub(super) fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "CAST('NaN' AS DOUBLE)".to_owned(),
        _ if value.is_infinite() => format!("CAST('{}Infinity' AS DOUBLE)", if value < 0.0 { "-" } else { "" }),
        _ if value < 0.0 => format!("(-{:E})", -value),
        _ => format!("{value:E}"),
    }
}

/// Whether a name may be an identifier.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

/// Returns a plain name as an identifier.
pub(super) fn identifier(name: &str) -> String {
    debug_assert!(is_plain(name));
    format!("`{name}`")
}

/// Returns the text of a comment: one line of ASCII.
pub(super) fn comment(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() && c != ';' { c } else { '?' }).collect()
}

/// Returns an interval of whole milliseconds (µs), or why Flink has none.
pub(super) fn interval(micros: i64) -> Result<String, String> {
    if micros % 1000 != 0 {
        return Err("Flink's windows are in milliseconds; use a duration of whole milliseconds".to_owned());
    }
    if micros / DAY > DAYS_MAX {
        return Err(format!("Flink's intervals have at most {DAYS_MAX} days"));
    }
    let (days, rest) = (micros / DAY, micros % DAY);
    let (hours, minutes, seconds) = (rest / HOUR, rest % HOUR / MINUTE, rest % MINUTE / SECOND);
    let millis = rest % SECOND / 1000;
    Ok(format!("INTERVAL '{days} {hours:02}:{minutes:02}:{seconds:02}.{millis:03}' DAY TO SECOND(3)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_definition_becomes_sql() {
        assert_eq!(text("purchase now"), "'purchase now'");
        assert_eq!(text("a'b;\n--é\\"), "U&'a\\0027b\\003B\\000A\\002D\\002D\\00E9\\005C'");
        assert_eq!(text("a--b"), "U&'a\\002D\\002Db'");
        assert_eq!(text("😀"), "U&'\\D83D\\DE00'");
        assert_eq!(comment("a\nb; DROP é"), "a?b? DROP ?");
        assert!(is_plain("a.b_1") && !is_plain("a`b") && !is_plain(""));
    }

    #[test]
    fn numbers_are_doubles_and_intervals_whole_milliseconds() {
        assert_eq!((number(2.5), number(-0.001), number(1e300)), ("2.5E0".into(), "(-1E-3)".into(), "1E300".into()));
        assert_eq!(interval(90 * SECOND + 1000), Ok("INTERVAL '0 00:01:30.001' DAY TO SECOND(3)".to_owned()));
        assert!(interval(1).is_err() && interval(100 * DAY).is_err());
    }
}
