//! Bearer tokens: which clients may send events, for which sources, and at what rate; and what they may ask evt-serve.
//!
//! ```toml
//! [[token]]
//! name = "ios-app"              # used in logs and metrics
//! sha256 = "9f86d0…"            # of the secret, in hex; or secret = "…"
//! sources = ["ios"]             # without it: every source
//! rate = 5000                   # events a second, also the most in one request; without it: any
//! scopes = ["read"]             # evt-serve: read, rules, admin; without it: read
//! metrics = ["visits", "eu_*"]  # evt-serve: names, * is any text; without it: every metric
//! ```
//!
//! Only digests are kept in memory. A secret is compared with all of them, each in constant time. No secret is ever
//! written to an output.

use evt_core::error::{Error, Result};
use evt_core::parse::hex::unhex;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Maximum number of tokens: every request is compared with each.
const TOKENS_MAX: usize = 10_000;

/// The identity of a client.
pub struct Token {
    /// Its name; empty for anonymous requests.
    pub name: String,
    digest: [u8; 32],
    sources: Option<Vec<String>>,
    scopes: Vec<Scope>,
    metrics: Option<Vec<String>>,
    /// Its rate.
    pub rate: Rate,
}

/// What a token may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To read metrics and alerts.
    Read,
    /// To change rules of alerts, too.
    Rules,
    /// To do everything.
    Admin,
}

/// The tokens of a file.
#[derive(Default)]
pub struct Tokens(pub Vec<Arc<Token>>);

/// The contents of a file of tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    #[serde(default)]
    token: Vec<TokenEntry>,
}

/// One `[[token]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    secret: Option<String>,
    sha256: Option<String>,
    sources: Option<Vec<String>>,
    rate: Option<NonZeroU32>,
    scopes: Option<Vec<Scope>>,
    metrics: Option<Vec<String>>,
}

impl Tokens {
    /// Reads a file of tokens. Errors: exit status 78 if it is invalid.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(&shown, &error))?;
        Self::parse(&text).map_err(|error| error.at(shown))
    }

    fn parse(text: &str) -> Result<Self> {
        // The parser's message quotes a line that may hold a secret: report only the position.
        let file: TokensFile = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
            let form = "expected [[token]] with name, secret or sha256, sources, rate, scopes, metrics";
            Error::config(format!("line {line}: {form}"))
        })?;
        if file.token.is_empty() || file.token.len() > TOKENS_MAX {
            let count = file.token.len();
            return Err(Error::config(format!("expected 1 to {TOKENS_MAX} tokens, found {count}")));
        }
        let mut tokens: Vec<Arc<Token>> = vec![];
        for entry in file.token {
            let token = Token::new(entry)?;
            if tokens.iter().any(|other| other.name == token.name || other.digest == token.digest) {
                return Err(Error::config(format!("duplicate token '{}'", token.name)));
            }
            tokens.push(Arc::new(token));
        }
        Ok(Self(tokens))
    }

    /// Finds the token with this secret. It compares the secret with all tokens, so that its duration does not depend
    /// on which token matches.
    pub fn find(&self, secret: &[u8]) -> Option<&Arc<Token>> {
        let digest: [u8; 32] = Sha256::digest(secret).into();
        let is_it = |token: &Arc<Token>| bool::from(token.digest.ct_eq(&digest));
        self.0.iter().fold(None, |found, token| if is_it(token) { Some(token) } else { found })
    }
}

impl Token {
    /// Returns the identity of requests without a token: it allows every source, has no rate of its own, and may read
    /// every metric.
    pub fn anonymous() -> Self {
        let (name, digest, scopes) = (String::new(), [0; 32], vec![Scope::Read]);
        Self { name, digest, sources: None, scopes, metrics: None, rate: Rate::new(None) }
    }

    fn new(entry: TokenEntry) -> Result<Self> {
        let TokenEntry { name, secret, sha256, sources, rate, scopes, metrics } = entry;
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(Error::config("expected a token name of 1 to 64 characters"));
        }
        let digest = match (&secret, &sha256) {
            (Some(secret), None) if secret.len() >= 8 => Sha256::digest(secret.as_bytes()).into(),
            (None, Some(hex)) => parse_digest(hex)
                .ok_or_else(|| Error::config(format!("token '{name}': expected a sha256 of 64 hexadecimal digits")))?,
            (Some(_), None) => {
                return Err(Error::config(format!("token '{name}': expected a secret of at least 8 characters")));
            }
            _ => return Err(Error::config(format!("token '{name}': expected either secret or sha256"))),
        };
        let scopes = scopes.unwrap_or_else(|| vec![Scope::Read]);
        Ok(Self { name, digest, sources, scopes, metrics, rate: Rate::new(rate) })
    }

    /// Whether it is for this: a token to change rules may read, and one to do everything may do both.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|own| *own as u8 >= scope as u8)
    }

    /// Whether it may know of a metric.
    pub fn shows(&self, metric: &str) -> bool {
        self.metrics.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, metric)))
    }

    /// Whether it may send events of this source.
    pub fn allows(&self, source: &[u8]) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.iter().any(|one| one.as_bytes() == source))
    }
}

/// Whether a pattern matches a whole text; `*` is any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // The first place of each part leaves the most for the others.
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

fn parse_digest(hex: &str) -> Option<[u8; 32]> {
    unhex(hex)?.try_into().ok()
}

/// Why events exceed a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The events are within the rate after this time.
    For(Duration),
    /// The events are never within the rate: a request may have at most this many events.
    Always(u32),
}

/// A rate in events a second; the burst is one second's worth.
pub struct Rate(Option<(DefaultDirectRateLimiter, u32)>);

impl Rate {
    /// Makes a rate of this many events a second; without a number there is no limit.
    pub fn new(rate: Option<NonZeroU32>) -> Self {
        Self(rate.map(|rate| (RateLimiter::direct(Quota::per_second(rate)), rate.get())))
    }

    /// Takes `events` events off the quota of the rate, all or none. Errors: the time to wait, or the maximum number of
    /// events in a request, if there are more.
    pub fn take(&self, events: usize) -> Result<(), Denied> {
        let Some((limiter, most)) = &self.0 else { return Ok(()) };
        let Some(events) = NonZeroU32::new(u32::try_from(events).unwrap_or(u32::MAX)) else { return Ok(()) };
        match limiter.check_n(events) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(Denied::For(until.wait_time_from(DefaultClock::default().now()))),
            Err(_) => Err(Denied::Always(*most)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 of `test-secret`.
    const DIGEST: &str = "9caf06bb4436cdbfa20af9121a626bc1093c4f54b31c0fa937957856135345b6";

    #[test]
    fn a_token_is_found_by_its_secret_whether_the_file_has_it_or_its_digest() {
        let text = format!(
            "[[token]]\nname = \"a\"\nsha256 = \"{DIGEST}\"\nsources = [\"ios\"]\n[[token]]\nname = \"b\"\nsecret = \"other-secret\""
        );
        let tokens = Tokens::parse(&text).unwrap();
        let a = tokens.find(b"test-secret").unwrap();
        assert_eq!((a.name.as_str(), a.allows(b"ios"), a.allows(b"web")), ("a", true, false));
        let b = tokens.find(b"other-secret").unwrap();
        assert_eq!((b.name.as_str(), b.allows(b"web")), ("b", true));
        assert!(tokens.find(b"test-secre").is_none() && tokens.find(b"").is_none());
    }

    #[test]
    fn a_token_has_scopes_and_sees_metrics_of_patterns() {
        let text = "[[token]]\nname = 'a'\nsecret = 'one-secret'\n[[token]]\nname = 'b'\nsecret = 'other-secret'\n\
                    scopes = ['rules']\nmetrics = ['visits', 'eu_*', '*.p*9']";
        let tokens = Tokens::parse(text).unwrap();
        let (a, b) = (tokens.find(b"one-secret").unwrap(), tokens.find(b"other-secret").unwrap());
        let scopes = |token: &Token| [Scope::Read, Scope::Rules, Scope::Admin].map(|scope| token.has(scope));
        assert_eq!((scopes(a), scopes(b)), ([true, false, false], [true, true, false]));
        assert!(a.shows("anything") && Token::anonymous().has(Scope::Read) && !Token::anonymous().has(Scope::Rules));
        let shown =
            ["visits", "eu_", "eu_x", "l.p99", "l.p9", "visits2", "u_x", "l.p98", "p99", ""].map(|m| b.shows(m));
        assert_eq!(shown, [true, true, true, true, true, false, false, false, false, false]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_without_a_secret() {
        for (text, why) in [
            ("", "found 0"),
            ("[[token]]\nname = \"a\"", "either secret or sha256"),
            ("[[token]]\nname = \"a\"\nsecret = \"hush\"", "at least 8"),
            ("[[token]]\nname = \"a\"\nsecret = \"hush hush hush", "line 3: expected [[token]]"),
            ("[[token]]\nname = \"a\"\nsecrets = \"hush hush hush\"", "line 3: expected [[token]]"),
            ("[[token]]\nname = \"a\"\nsha256 = \"hush\"", "64 hexadecimal"),
            ("[[token]]\nname = \"\"\nsecret = \"hush hush\"", "a token name"),
            ("[[token]]\nname=\"a\"\nsecret=\"hush hush\"\n[[token]]\nname=\"a\"\nsecret=\"hush hush 2\"", "duplicate"),
        ] {
            let error = Tokens::parse(text).err().unwrap().to_string();
            assert!(error.contains(why) && !error.contains("hush"), "{text}: {error}");
        }
    }

    #[test]
    fn a_rate_lets_a_second_s_worth_pass_at_once_and_names_the_wait() {
        let rate = Rate::new(NonZeroU32::new(10));
        assert_eq!(rate.take(11), Err(Denied::Always(10)));
        assert_eq!(rate.take(10), Ok(()));
        let Err(Denied::For(wait)) = rate.take(10) else { panic!("it must wait") };
        assert!(wait > Duration::from_millis(500) && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(rate.take(0), Ok(()));
        assert_eq!(Rate::new(None).take(usize::MAX), Ok(()));
    }
}
