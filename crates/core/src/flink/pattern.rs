//! Regular expressions of evt as those of Java: printed from what they mean, so that classes, `$` and `\b` match the
//! same texts.

use regex_syntax::hir::{Capture, Class, Hir, HirKind, Look, Repetition};
use std::fmt::Write;

/// The characters of `\w`, as Unicode defines it.
const WORD: &str = "[\\p{IsAlphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{IsJoin_Control}]";
const WORD_OF_ASCII: &str = "[0-9A-Za-z_]";

/// Returns the pattern for Java, or why there is none.
pub(super) fn of_java(pattern: &str) -> Result<String, String> {
    let parsed = regex_syntax::parse(pattern).map_err(|error| error.to_string())?;
    let mut out = String::new();
    write(&parsed, &mut out)?;
    Ok(out)
}

/// Returns the pattern for Java of a text constant of `like`, whose escape is the backslash.
pub(super) fn of_like(pattern: &str) -> String {
    let mut out = String::from("\\A");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => out.push_str("[\\s\\S]*"),
            '_' => out.push_str("[\\s\\S]"),
            '\\' => literal(chars.next().unwrap_or('\\'), &mut out),
            c => literal(c, &mut out),
        }
    }
    out + "\\z"
}

fn literal(c: char, out: &mut String) {
    match c.is_ascii_alphanumeric() {
        true => out.push(c),
        false => _ = write!(out, "\\x{{{:X}}}", u32::from(c)),
    }
}

fn write(node: &Hir, out: &mut String) -> Result<(), String> {
    match node.kind() {
        HirKind::Empty => out.push_str("(?:)"),
        HirKind::Literal(bytes) => {
            let text = std::str::from_utf8(&bytes.0).map_err(|_| "it matches bytes, not characters".to_owned())?;
            text.chars().for_each(|c| literal(c, out));
        }
        HirKind::Class(Class::Unicode(class)) if class.ranges().is_empty() => out.push_str("(?!)"),
        HirKind::Class(Class::Unicode(class)) => {
            out.push('[');
            for range in class.ranges() {
                literal(range.start(), out);
                out.push('-');
                literal(range.end(), out);
            }
            out.push(']');
        }
        HirKind::Class(Class::Bytes(_)) => return Err("it matches bytes, not characters".to_owned()),
        HirKind::Look(look) => out.push_str(&looks(*look)?),
        HirKind::Repetition(repetition) => repeat(repetition, out)?,
        HirKind::Capture(Capture { sub, .. }) => group("(", sub, out)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| match part.kind() {
            HirKind::Alternation(_) => group("(?:", part, out),
            _ => write(part, out),
        })?,
        HirKind::Alternation(parts) => {
            for (at, part) in parts.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "|" });
                write(part, out)?;
            }
        }
    }
    Ok(())
}

fn group(open: &str, node: &Hir, out: &mut String) -> Result<(), String> {
    out.push_str(open);
    write(node, out)?;
    out.push(')');
    Ok(())
}

fn repeat(repetition: &Repetition, out: &mut String) -> Result<(), String> {
    let Repetition { min, max, greedy, sub } = repetition;
    group("(?:", sub, out)?;
    let max = max.map_or_else(String::new, |max| max.to_string());
    _ = write!(out, "{{{min},{max}}}{}", if *greedy { "" } else { "?" });
    Ok(())
}

fn looks(look: Look) -> Result<String, String> {
    let boundary = |word: &str, negated: bool| {
        let inside = format!("(?<={word})(?={word})|(?<!{word})(?!{word})");
        let edge = format!("(?<={word})(?!{word})|(?<!{word})(?={word})");
        format!("(?:{})", if negated { inside } else { edge })
    };
    Ok(match look {
        Look::Start => "\\A".to_owned(),
        Look::End => "\\z".to_owned(),
        Look::StartLF => "(?<=\\A|\\x{A})".to_owned(),
        Look::EndLF => "(?=\\z|\\x{A})".to_owned(),
        Look::WordAscii => boundary(WORD_OF_ASCII, false),
        Look::WordAsciiNegate => boundary(WORD_OF_ASCII, true),
        Look::WordUnicode => boundary(WORD, false),
        Look::WordUnicodeNegate => boundary(WORD, true),
        _ => return Err("Java has no half boundaries of words and no lines that end with \\r\\n".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_printed_by_its_meaning() {
        for (pattern, java) in [
            ("^a+$", "\\A(?:a){1,}\\z"),
            ("(?i)k", "[K-Kk-k\\x{212A}-\\x{212A}]"),
            ("(a|b.)c??", "(a|b[\\x{0}-\\x{9}\\x{B}-\\x{10FFFF}])(?:c){0,1}?"),
            ("x{2,5}", "(?:x){2,5}"),
        ] {
            let found = of_java(pattern).unwrap();
            assert_eq!(found, java, "{pattern}");
        }
        assert_eq!(of_like("a%\\%_"), "\\Aa[\\s\\S]*\\x{25}[\\s\\S]\\z");
        assert!(of_java("(?mR)^a$").is_err());
    }
}
