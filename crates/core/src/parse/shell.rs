//! Words of a shell, for commands in messages.

/// Returns a text as one word of a shell: in quotes, unless it has only characters without a meaning there.
pub fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_with_a_meaning_are_quoted() {
        assert_eq!((word("a.b/c-1_d").as_str(), word("a b").as_str()), ("a.b/c-1_d", "'a b'"));
        assert_eq!((word("it's").as_str(), word("").as_str(), word("é").as_str()), (r"'it'\''s'", "''", "'é'"));
    }
}
