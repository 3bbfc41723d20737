//! Percent-encodes names in paths and options: `%XX` for every byte with a meaning there.

/// Escapes a name as one part of a path.
pub fn escaped(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => part.push(char::from(byte)),
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}

/// Decodes `%XX`; `None` if the result is not UTF-8 or an escape is malformed.
pub fn unescaped(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (vec![], text.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (hex, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_part_of_a_path_and_comes_back() {
        for name in ["click", "a/b", "grüße", "%2F", "a b\n?#&", ""] {
            let part = escaped(name);
            assert!(part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte)), "{part}");
            assert_eq!(unescaped(&part).as_deref(), Some(name));
        }
        for text in ["%", "%2", "%zz", "%FF"] {
            assert_eq!(unescaped(text), None, "{text}");
        }
    }
}
