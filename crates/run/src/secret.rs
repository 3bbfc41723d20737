//! Placeholders in URIs: `{env:NAME}` and `{file:PATH}` keep secrets out of command lines and of all output.
//!
//! The value of a placeholder must not be parsed: a password may contain `@`, `/` or `&`. So a URI is first
//! [concealed](Secrets::conceal) (each placeholder becomes a mark that no syntax contains), then parsed, and each part
//! is [revealed](Secrets::reveal) where it is used. Output shows the placeholder: [`Secrets::written`] knows the names
//! that were revealed as a whole, [`Secrets::hide`] replaces values in foreign text such as messages of libraries. The
//! console of a run has the run's secrets.

use evt_core::error::{Error, Result};
use evt_core::parse::query::escaped;
use std::borrow::Cow;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The first and last character of a mark, from a private-use plane.
const MARK: (char, char) = ('\u{F0000}', '\u{F0001}');
/// Maximum bytes of a secret in a file.
const FILE_MAX: u64 = 64 << 10;
/// Minimum bytes of a value that is replaced in foreign text: shorter ones would occur everywhere.
const HIDDEN_MIN: usize = 4;

/// Parts of the names of parameters whose values are secret.
const SECRETS: [&str; 7] = ["password", "passwd", "pwd", "secret", "token", "key.pem", "oauthbearer.config"];

/// A placeholder and its value.
struct KnownSecret {
    placeholder: String,
    value: String,
}

/// The values that a run has revealed; bounded by its command line and configuration.
#[derive(Default)]
struct Revealed {
    known: Vec<KnownSecret>,
    /// Names that were revealed as a whole, with the concealed text they came from.
    whole: Vec<(String, String)>,
    /// Parts of URIs with a password in plain text, each with the text that output shows in its place.
    passwords: Vec<(String, String)>,
}

/// The secrets of a run: what its placeholders stand for, and what its output hides. Clones share them; a mark of one
/// run means nothing to another.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Revealed>>);

impl Secrets {
    fn revealed(&self) -> MutexGuard<'_, Revealed> {
        // A thread that panicked while it held the lock can only have pushed, so the data is valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces every placeholder by a mark.
    ///
    /// Errors: exit status 78 if a variable or a file is missing.
    pub fn conceal(&self, text: &str) -> Result<String> {
        self.remember_password(text);
        let mut concealed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((start, end)) = find(rest) {
            let placeholder = &rest[start..end];
            let value = value(&placeholder[1..placeholder.len() - 1])?;
            concealed.push_str(&rest[..start]);
            concealed.push_str(&self.mark(placeholder, value));
            rest = &rest[end..];
        }
        concealed.push_str(rest);
        Ok(concealed)
    }

    /// Makes a value that a file has literally a secret: output shows `{NAME}` in its place.
    pub fn remember(&self, name: &str, value: &str) {
        let mut revealed = self.revealed();
        if !revealed.known.iter().any(|known| known.value == value) {
            revealed.known.push(KnownSecret { placeholder: format!("{{{name}}}"), value: value.to_owned() });
        }
    }

    /// Makes the passwords of a URI secrets, also if the scheme is unknown, mistyped or missing: that of
    /// `SCHEME://USER:PASSWORD@HOST`, and those of parameters such as `password=` and `secret_key=`. Output shows `***`
    /// in their place. A flag may precede the URI: `--to=URI`. Other texts have no effect.
    pub fn remember_password(&self, text: &str) {
        let uri = text.strip_prefix("--").and_then(|flag| flag.split_once('=')).map_or(text, |(_, value)| value);
        self.remember_parameters(uri);
        let Some((before, _)) = uri.rsplit_once('@') else { return self.remember_without_host(uri) };
        let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
        let colon = before.split_once(':').filter(|_| find(before).is_none());
        let who = match (before.split_once("//"), colon) {
            (Some((_, who)), _) => who,
            // `postgres:u:PASSWORD@h`
            (None, Some((scheme, who))) if is_word(scheme) && who.contains(':') => who,
            // `u:PASSWORD@h`
            (None, Some((user, password))) if is_word(user) && !password.contains(char::is_whitespace) => before,
            _ => return,
        };
        let after_user = find(who).filter(|(start, _)| *start == 0).map_or(0, |(_, end)| end);
        match who[after_user..].split_once(':') {
            Some((_, password)) => self.hide_password(":", password, "@"),
            // Redis takes a password without a user, which is often written without its colon.
            None if uri.to_ascii_lowercase().starts_with("redis") => self.hide_password("//", who, "@"),
            None => {}
        }
    }

    /// Remembers the password of `SCHEME://USER:PASSWORD/DATABASE`, in which the host was forgotten: what is at the
    /// place of a port and is no number.
    fn remember_without_host(&self, uri: &str) {
        let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let Some((_, rest)) = uri.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else { return };
        let hosts = rest.split(['/', '?']).next().unwrap_or_default();
        for host in hosts.split(',') {
            // An address of IPv6 has colons within its brackets.
            let (name, port) = match host.split_once("]:") {
                Some((address, port)) if host.starts_with('[') => (format!("{address}]"), port),
                _ if host.starts_with('[') => continue,
                _ => match host.split_once(':') {
                    Some((name, port)) => (name.to_owned(), port),
                    None => continue,
                },
            };
            if !port.bytes().all(|byte| byte.is_ascii_digit()) {
                self.hide_password(&format!("{name}:"), port, "");
            }
        }
    }

    /// Remembers the values of parameters whose names say that they are secret, whatever separates them.
    fn remember_parameters(&self, uri: &str) {
        // An expression is no URI.
        if uri.contains(['"', '\'']) {
            return;
        }
        // A comma separates parameters, too, or is in a value: the longer value is hidden first.
        let after_comma = uri.split_once('?').map(|(_, parameters)| parameters.split(['&', ';', ',']));
        for part in uri.split(['?', '&', ';']).skip(1).chain(after_comma.into_iter().flatten()) {
            let Some((name, value)) = part.split_once('=') else { continue };
            let lower = name.to_ascii_lowercase();
            if SECRETS.iter().any(|word| lower.contains(word)) {
                self.hide_password(&format!("{name}="), value, "");
            }
        }
    }

    /// Lets output show `***` for a password between these texts. A placeholder is no secret; its value is.
    fn hide_password(&self, before: &str, password: &str, after: &str) {
        if password.is_empty() || find(password) == Some((0, password.len())) {
            return;
        }
        let (form, mut revealed) = (format!("{before}{password}{after}"), self.revealed());
        if !revealed.passwords.iter().any(|(known, _)| *known == form) {
            revealed.passwords.push((form, format!("{before}***{after}")));
        }
    }

    fn mark(&self, placeholder: &str, value: String) -> String {
        let mut revealed = self.revealed();
        let found = revealed.known.iter().position(|known| known.placeholder == placeholder && known.value == value);
        let index = found.unwrap_or_else(|| {
            revealed.known.push(KnownSecret { placeholder: placeholder.to_owned(), value });
            revealed.known.len() - 1
        });
        format!("{}{index}{}", MARK.0, MARK.1)
    }

    /// Replaces the marks of a concealed part by their values.
    pub fn reveal(&self, text: &str) -> String {
        self.reveal_as(text, |value| value.to_owned())
    }

    /// Replaces the marks of a part of a URL by their percent-encoded values, so that nothing in them is syntax.
    pub fn reveal_encoded(&self, text: &str) -> String {
        self.reveal_as(text, escaped)
    }

    fn reveal_as(&self, text: &str, of: impl Fn(&str) -> String) -> String {
        if !text.contains(MARK.0) {
            return text.to_owned();
        }
        let mut revealed = self.revealed();
        let whole = replaced(text, &revealed.known, |known| of(&known.value));
        if !revealed.whole.iter().any(|(name, _)| *name == whole) {
            revealed.whole.push((whole.clone(), text.to_owned()));
        }
        whole
    }

    /// Returns the concealed text from which `name` was revealed; else the name itself.
    pub fn written<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let revealed = self.revealed();
        match revealed.whole.iter().find(|(whole, _)| whole == name) {
            Some((_, concealed)) => Cow::Owned(concealed.clone()),
            None => Cow::Borrowed(name),
        }
    }

    /// Returns concealed text with its placeholders.
    pub fn named(&self, concealed: &str) -> String {
        replaced(concealed, &self.revealed().known, |known| known.placeholder.clone())
    }

    /// Replaces marks and values by their placeholders, so that the text may be shown.
    pub fn hide(&self, text: &str) -> String {
        let revealed = self.revealed();
        let mut text = replaced(text, &revealed.known, |known| known.placeholder.clone());
        for (password, shown) in &revealed.passwords {
            text = text.replace(password, shown);
        }
        let mut known: Vec<&KnownSecret> =
            revealed.known.iter().filter(|known| known.value.len() >= HIDDEN_MIN).collect();
        // Longer values first, because one value may be part of another.
        known.sort_by_key(|known| std::cmp::Reverse(known.value.len()));
        for KnownSecret { placeholder, value } in known {
            for form in [value.clone(), escaped(value)] {
                text = text.replace(&form, placeholder);
            }
        }
        text
    }
}

/// Returns a text without its placeholders, whose values it does not read: what is left is syntax.
pub fn without_placeholders(text: &str) -> String {
    let mut syntax = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, end)) = find(rest) {
        syntax.push_str(&rest[..start]);
        rest = &rest[end..];
    }
    syntax + rest
}

/// Returns the range of the first placeholder.
fn find(text: &str) -> Option<(usize, usize)> {
    let starts = ["{env:", "{file:"].map(|start| text.find(start));
    let start = starts.into_iter().flatten().min()?;
    Some((start, start + text[start..].find('}')? + 1))
}

fn value(what: &str) -> Result<String> {
    match what.split_once(':') {
        Some(("env", name)) => {
            let missing = |why| Error::config(format!("{{env:{name}}}: the variable {name} {why}"));
            std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => missing("is not set"),
                std::env::VarError::NotUnicode(_) => missing("is not UTF-8"),
            })
        }
        Some((_, path)) => of_file(path),
        None => Err(Error::broken("a placeholder without a colon")),
    }
}

/// Returns the content of a file; removes one newline at its end.
fn of_file(path: &str) -> Result<String> {
    let failed = |why: String| Error::config(format!("{{file:{path}}}")).because(why);
    let file = std::fs::File::open(path).map_err(|error| failed(Error::io(path, &error).to_string()))?;
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > FILE_MAX {
        return Err(failed(format!("longer than {FILE_MAX} bytes; expected a secret")));
    }
    let trimmed = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(trimmed.unwrap_or(&text).to_owned())
}

/// Replaces every mark by the result of `of`.
fn replaced(text: &str, known: &[KnownSecret], of: impl Fn(&KnownSecret) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MARK.0) {
        let (index, after) = after.split_once(MARK.1).unwrap_or(("", after));
        out.push_str(before);
        out.push_str(&index.parse().ok().and_then(|index: usize| known.get(index)).map(&of).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let placeholder = format!("{{file:{}}}", file.path().display());
        (file, placeholder)
    }

    #[test]
    fn what_a_placeholder_stands_for_is_no_syntax_and_is_never_shown() {
        let (_file, placeholder) = secret("p@ss/w?rd&x=1\n");
        let secrets = Secrets::default();
        let concealed = secrets.conceal(&format!("u:{placeholder}@host/db")).unwrap();
        assert!(!concealed.contains("p@ss") && concealed.matches(['@', '/', '?', '&']).count() == 2, "{concealed}");
        assert_eq!(secrets.reveal(&concealed), "u:p@ss/w?rd&x=1@host/db");
        assert_eq!(secrets.reveal_encoded(&concealed), "u:p%40ss%2Fw%3Frd%26x%3D1@host/db");
        let shown = format!("u:{placeholder}@host/db");
        assert_eq!(secrets.hide(&concealed), shown);
        assert_eq!(secrets.hide("cannot reach u:p@ss/w?rd&x=1@host/db"), format!("cannot reach {shown}"));
        assert_eq!(secrets.named(&secrets.written("u:p%40ss%2Fw%3Frd%26x%3D1@host/db")), shown);
    }

    #[test]
    fn a_literal_secret_is_never_shown() {
        let secrets = Secrets::default();
        secrets.remember("routing_key", "literal-of-a-file");
        secrets.remember("password", "literal-of-a-file");
        assert_eq!(secrets.hide("refused literal-of-a-file"), "refused {routing_key}");
    }

    #[test]
    fn the_password_of_any_uri_is_never_shown() {
        let secrets = Secrets::default();
        for (uri, wanted) in [
            ("postgrez://u:first-pw@h/evt", "postgrez://u:***@h/evt"),
            ("--to=Redis://:p@2?x/y@h", "--to=Redis://:***@h"),
            ("postgres:u:third pw@h", "postgres:u:***@h"),
            ("postgres//u:fourth-pw@h/evt", "postgres//u:***@h/evt"),
            (" postgres ://u:fifth-pw@h/evt", " postgres ://u:***@h/evt"),
            ("//u:sixth-pw@h", "//u:***@h"),
            ("u:seventh-pw@h/evt", "u:***@h/evt"),
            ("s3:/b/x?access_key=id-9&secret_key=ninth-pw", "s3:/b/x?access_key=id-9&secret_key=***"),
            ("redis://15th-pw@h", "redis://***@h"),
            ("postgrez://u:16th-pw{env:U}@h/d", "postgrez://u:***@h/d"),
            ("htp://{env:U}:17th-pw@h/d", "htp://{env:U}:***@h/d"),
            ("postgres://[::1]:18th-pw/d", "postgres://[::1]:***/d"),
            ("logs//app-10:00:00.jsonl", "logs//app-10:00:00.jsonl"),
            ("url = 'http://h:x' and f('&token=b')", "url = 'http://h:x' and f('&token=b')"),
            ("kafak://h:9/t?rdkafka.sasl.password=tenth-pw", "kafak://h:9/t?rdkafka.sasl.password=***"),
            ("kafka://h/t;rdkafka.sasl.password=11th-pw", "kafka://h/t;rdkafka.sasl.password=***"),
            ("jdbc:x://h/d?user=u&Password=12th-pw", "jdbc:x://h/d?user=u&Password=***"),
            ("postgres://u:13th-pw/evt", "postgres://u:***/evt"),
            ("postgres://u:14th-pw%40h", "postgres://u:***"),
            ("kafka://a:9092,b:9093/t?format=x", "kafka://a:9092,b:9093/t?format=x"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
            ("postgrez://user@h:5432/evt", "postgrez://user@h:5432/evt"),
            ("a.jsonl:7 x@y", "a.jsonl:7 x@y"),
        ] {
            secrets.remember_password(uri);
            assert_eq!(secrets.hide(&format!("expected x, found '{uri}'")), format!("expected x, found '{wanted}'"));
        }
    }

    #[test]
    fn one_newline_at_the_end_of_a_file_is_no_part_of_it() {
        let secrets = Secrets::default();
        for (text, value) in [("s3cret", "s3cret"), ("s3cret\r\n", "s3cret"), ("s3cret\n\n", "s3cret\n")] {
            let (_file, placeholder) = secret(text);
            assert_eq!(secrets.reveal(&secrets.conceal(&placeholder).unwrap()), value);
        }
    }

    #[test]
    fn what_is_missing_is_named_and_a_fault_of_the_configuration() {
        let secrets = Secrets::default();
        for (text, named) in [("a{env:EVT_NO_SUCH}b", "EVT_NO_SUCH"), ("{file:/no/such/file}", "/no/such/file")] {
            let error = secrets.conceal(text).unwrap_err();
            assert_eq!(error.kind(), evt_core::ErrorKind::Config);
            assert!(error.to_string().contains(named), "{error}");
        }
        for text in ["plain", "{x}", "{env:open", "a{b}c"] {
            assert_eq!(secrets.conceal(text).unwrap(), text);
        }
    }

    #[test]
    fn a_run_hides_its_own_secrets_and_clones_of_them_are_one() {
        let (one, other) = (Secrets::default(), Secrets::default());
        one.clone().remember("password", "of-one-run");
        other.remember_password("redis://:of-another@h");
        let texts = ["sent of-one-run", "redis://:of-another@h"];
        assert_eq!(texts.map(|text| one.hide(text)), ["sent {password}", "redis://:of-another@h"]);
        assert_eq!(texts.map(|text| other.hide(text)), ["sent of-one-run", "redis://:***@h"]);
        let ((_file, first), (_other_file, second)) = (secret("first"), secret("second"));
        let marks = [one.conceal(&first).unwrap(), other.conceal(&second).unwrap()];
        assert_eq!([one.reveal(&marks[0]), other.reveal(&marks[1])], ["first", "second"]);
    }
}
