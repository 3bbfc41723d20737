//! Parts of long texts, for messages.

use std::borrow::Cow;
use std::fmt::Display;

/// Bytes of a text that a message shows.
const BYTES_MAX: usize = 200;
/// Bytes of a message that are compared with the text at once.
const PIECE: usize = 24;
/// Bytes of a message that is not cut.
const MESSAGE_MAX: usize = 1200;
/// The sign for the rest.
const REST: &str = "…";

/// Returns a text of at most 200 bytes as it is, of a longer one the part around character `column` (from 1).
pub fn excerpt(text: &str, column: usize) -> Cow<'_, str> {
    if text.len() <= BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let most = BYTES_MAX - 2 * REST.len();
    let place = text.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
    let start = place.saturating_sub(most / 2);
    let start = text.ceil_char_boundary(start.min(text.len() - most));
    let end = text.floor_char_boundary(start + most);
    let before = if start > 0 { REST } else { "" };
    let after = if end < text.len() { REST } else { "" };
    Cow::Owned(format!("{before}{}{after}", &text[start..end]))
}

/// Returns the beginning of what is shown as text: at most 200 bytes.
pub fn brief(shown: impl Display) -> String {
    excerpt(&shown.to_string(), 1).into_owned()
}

/// Shortens what a message has between two texts.
pub fn brief_between(message: &str, before: &str, after: &str) -> String {
    let parts = message.split_once(before).and_then(|(start, rest)| Some((start, rest.rsplit_once(after)?)));
    match parts {
        Some((start, (middle, end))) => format!("{start}{before}{}{after}{end}", brief(middle)),
        None => message.to_owned(),
    }
}

/// Returns the place that a message names in a text without line breaks: `at column 7`.
pub fn column_in(message: &str) -> Option<usize> {
    let (_, rest) = message.rsplit_once(" at column ")?;
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// Shortens what a message repeats of a text, and each of its words: to 200 bytes each. Of a message that repeats the
/// text in another form, the beginning and the end remain.
pub fn without_repeats(message: &str, text: &str) -> String {
    let message = message.split(' ').map(|word| excerpt(word, 1)).collect::<Vec<_>>().join(" ");
    if message.len() <= 2 * BYTES_MAX {
        return message;
    }
    let (mut short, mut repeated, mut rest) = (String::new(), String::new(), message.as_str());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(PIECE.min(rest.len())));
        if text.contains(piece) {
            repeated.push_str(piece);
        } else {
            short.push_str(&excerpt(&std::mem::take(&mut repeated), 1));
            short.push_str(piece);
        }
        rest = after;
    }
    short.push_str(&excerpt(&repeated, 1));
    if short.len() <= MESSAGE_MAX {
        return short;
    }
    let (head, tail) = (short.floor_char_boundary(BYTES_MAX), short.ceil_char_boundary(short.len() - BYTES_MAX));
    format!("{}{REST}{}", &short[..head], &short[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_shown_around_its_fault() {
        let text: String = ('a'..='z').cycle().take(1000).collect();
        for (column, start) in [(1, "abcdef"), (80, "abcdef"), (500, "…"), (1000, "…"), (usize::MAX, "…")] {
            let shown = excerpt(&text, column);
            assert!(shown.len() <= BYTES_MAX && shown.starts_with(start), "{column}: {shown}");
            let place = column.min(text.len()) - 1;
            let around = &text[place.saturating_sub(20)..text.len().min(place + 20)];
            assert!(shown.contains(around), "{column}: {shown}");
            assert_eq!(shown.ends_with('…'), column < 900, "{column}: {shown}");
        }
        assert_eq!(excerpt(&text[..200], 3), text[..200]);
    }

    #[test]
    fn a_part_ends_between_characters() {
        for offset in 0..4 {
            let text = "x".repeat(offset) + &"€".repeat(400);
            for column in 0..410 {
                let shown = excerpt(&text, column);
                assert!(shown.len() <= BYTES_MAX && shown.len() > BYTES_MAX - 12, "{column}: {shown}");
            }
        }
        let message = format!("expected a name, found {}; write x", "n".repeat(900));
        let short = without_repeats(&message, "");
        assert!(short.len() < 250 && short.ends_with(" write x"), "{short}");
        let found = brief_between(&format!("found: {} at Line: 1", "x y ".repeat(900)), "found: ", " at ");
        assert!(found.len() < 220 && found.ends_with("… at Line: 1"), "{found}");
        let text = "abc + ".repeat(900);
        for (repeat, wanted) in [(text.clone(), 300), (text.to_uppercase(), 500)] {
            let short = without_repeats(&format!("expected one of x, y or z, found {repeat}; write 1"), &text);
            assert!(
                short.len() < wanted && short.starts_with("expected one of") && short.ends_with("write 1"),
                "{short}"
            );
        }
        assert_eq!((column_in("a at column 7; b"), column_in("a")), (Some(7), None));
    }
}
