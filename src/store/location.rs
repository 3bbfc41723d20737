//! What a URI of a store says.

use crate::error::{Error, Result};
use crate::secret;
use std::collections::BTreeMap;
use std::fmt;

/// What a URI of a store says after the scheme: `sqlite:PATH?OPTION=VALUE&…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The word before the colon, as it was given.
    pub scheme: String,
    /// Whether `//` stood behind it.
    pub slashes: bool,
    /// What stands between the scheme and the options.
    pub path: String,
    /// The options; an unknown one is exit 2 and names what exists.
    pub options: BTreeMap<String, String>,
}

impl Location {
    /// Refuses options that are not among `known`.
    pub fn check_options(&self, scheme: &str, known: &[&str]) -> Result<()> {
        match self.options.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) if known.is_empty() => Err(Error::usage(format!("{scheme}: takes no options, not '{name}'"))),
            Some(name) => Err(Error::usage(format!("{scheme}: unknown option '{name}': one of {}", known.join(" ")))),
        }
    }
}

/// As it was given, but for its options and a password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, if self.slashes { "//" } else { "" })?;
        let path = secret::written(&self.path);
        let (who, rest) = path.rsplit_once('@').filter(|_| self.slashes).unwrap_or(("", &path));
        match who.split_once(':') {
            Some((user, _)) => write!(f, "{}:***@{}", secret::named(user), secret::named(rest)),
            None => f.write_str(&secret::named(&path)),
        }
    }
}
