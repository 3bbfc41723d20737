//! Text of data that is shown on a terminal or in a chart: none of its characters controls the terminal.

/// Maximum characters of a text; the rest is left out.
const CHARS_MAX: usize = 4_096;

/// Returns text that cannot control a terminal: control characters as symbols (`␛`), other invisible controls and those
/// that change the direction of text as U+FFFD. Of a longer text it returns the first 4096 characters.
pub fn clean(text: &str) -> String {
    text.chars().take(CHARS_MAX).map(clean_char).collect()
}

fn clean_char(c: char) -> char {
    match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => '\u{fffd}',
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_shown_as_symbols_and_long_texts_are_cut() {
        assert_eq!(clean("a\u{1b}[31m\n\u{7f}"), "a␛[31m␊␡");
        assert_eq!(clean("a\u{202e}b\u{200b}"), "a\u{fffd}b\u{fffd}");
        assert_eq!(clean("Zürich ☕"), "Zürich ☕");
        assert_eq!(clean(&"x".repeat(CHARS_MAX + 1)).len(), CHARS_MAX);
    }
}
