//! The few values of answers in XML.

/// Returns the texts of all elements with this name, which have no elements and no attributes.
pub fn texts(xml: &str, name: &str) -> Vec<String> {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let found = xml.split(&start).skip(1).filter_map(|rest| rest.split_once(&end));
    found.map(|(text, _)| unescaped(text)).collect()
}

/// Returns the text of the first such element.
pub fn text(xml: &str, name: &str) -> Option<String> {
    texts(xml, name).into_iter().next()
}

/// Replaces references to characters.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once(';').unwrap_or((piece, ""));
        let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => digits.parse().ok(),
        });
        match name {
            "amp" => out.push('&'),
            "lt" => out.push('<'),
            "gt" => out.push('>'),
            "quot" => out.push('"'),
            "apos" => out.push('\''),
            _ => out.extend(number.and_then(char::from_u32)),
        }
        out.push_str(rest);
    }
    out
}

/// Replaces the characters that are syntax in a text.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_and_unescaped() {
        let xml = "<R><Key>a&amp;b</Key><X><Key>c&#13;&#x2F;&quot;</Key></X><Next>t</Next></R>";
        assert_eq!(texts(xml, "Key"), ["a&b", "c\r/\""]);
        assert_eq!(text(xml, "Next").as_deref(), Some("t"));
        assert_eq!(text(xml, "None"), None);
        assert_eq!(texts(&format!("<K>{}</K>", escaped("<a & b>")), "K"), ["<a & b>"]);
    }
}
