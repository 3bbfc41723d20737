//! The options of a URI, `?NAME=VALUE&NAME=VALUE`, and the percent-encoding of its parts.

use crate::error::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

/// All ASCII characters but letters, digits and `-._~`.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Splits a URI at its question mark into what precedes it and its options.
pub fn split(uri: &str) -> (&str, Vec<(String, String)>) {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    (path, options(query))
}

/// Splits a URI as [`split`] does, after its scheme. Errors: exit status 2 if a password has a question mark as it is:
/// what follows would be shown as an option.
pub fn split_after<'a>(scheme: &str, rest: &'a str) -> Result<(&'a str, Vec<(String, String)>)> {
    let (path, options) = split(rest);
    let authority = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_named = options.first().is_some_and(|(name, _)| !name.contains('@'));
    let may_be_password =
        authority.rsplit_once(':').is_some_and(|(_, port)| !(is_port(port) && is_named)) && !path.contains('@');
    match may_be_password && rest[path.len()..].contains('@') {
        true => Err(Error::usage(format!("{scheme}: expected %3F for ? in a password, or {{file:PATH}}, found ?"))),
        false => Ok((path, options)),
    }
}

/// Returns the character that precedes a further option of a URI.
pub fn separator(uri: &str) -> char {
    if uri.contains('?') { '&' } else { '?' }
}

/// Splits options at `&` and `,`. A piece after a comma that has no `NAME=` belongs to the value before it:
/// `roll=128MiB,10m`. An option without a value has an empty one.
fn options(query: &str) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> = vec![];
    for part in query.split('&') {
        let mut pieces = part.split(',').filter(|piece| !piece.is_empty());
        let pair = |piece: &str| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            (name.to_owned(), value.to_owned())
        };
        options.extend(pieces.next().map(pair));
        for piece in pieces {
            match options.last_mut() {
                Some((_, value)) if !piece.contains('=') => *value = format!("{value},{piece}"),
                _ => options.push(pair(piece)),
            }
        }
    }
    options
}

/// Percent-encodes a text as one part of a path or as one value.
pub fn escaped(text: &str) -> String {
    utf8_percent_encode(text, &RESERVED).to_string()
}

/// Decodes `%XX`; `None` if the result is not UTF-8 or an escape is malformed.
pub fn unescaped(text: &str) -> Option<String> {
    let is_escape = |part: &str| part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let is_right = text.split('%').skip(1).all(is_escape);
    is_right.then(|| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_splits_options_and_the_values_of_one() {
        for (uri, path, options) in [
            ("a", "a", &[][..]),
            ("a?", "a", &[]),
            ("a?b=1&c=2", "a", &[("b", "1"), ("c", "2")]),
            ("a?b=1,2,c=3,,4&d=x=y", "a", &[("b", "1,2"), ("c", "3,4"), ("d", "x=y")]),
            ("a?b&c", "a", &[("b", ""), ("c", "")]),
            ("a?b=?&", "a", &[("b", "?")]),
        ] {
            let (found_path, found) = split(uri);
            let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!((found_path, found.as_slice()), (path, options), "{uri}");
        }
    }

    #[test]
    fn a_question_mark_in_a_password_is_refused_and_not_shown() {
        for uri in [
            "//u:pa?ss@h/evt",
            "//:pa?ss=1@h",
            "//u:12?ss@h/evt",
            "//u:p/a?ss@h/t",
            "u:pa?retry=5s@h",
            "//u:pa?a=1&ss@h",
        ] {
            let error = split_after("x", uri).unwrap_err().to_string();
            assert!(!error.contains('@') && !error.contains("ss=") && error.contains("%3F"), "{uri}: {error}");
        }
        for uri in
            ["//u:p%3Fa@h/evt?retry=5s", "//h:5432/d?ca=/a@b", "//h/d?x@y", "//[::1]:80/d?a=x@y", "/a:b/c", "a?b"]
        {
            assert_eq!(split_after("x", uri).unwrap(), split(uri), "{uri}");
        }
    }

    #[test]
    fn every_name_is_one_part_of_a_path_and_comes_back() {
        for name in ["click", "a/b", "grüße", "%2F", "a b\n?#&", ""] {
            let part = escaped(name);
            assert!(part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte)), "{part}");
            assert_eq!(unescaped(&part).as_deref(), Some(name));
        }
        for text in ["%", "%2", "%zz", "%FF", "%+F", "a%2"] {
            assert_eq!(unescaped(text), None, "{text}");
        }
    }
}
