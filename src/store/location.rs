//! The location in a store's URI.

use crate::error::{Error, Result};
use crate::secret;
use std::collections::BTreeMap;
use std::fmt;

/// The parts of a store's URI: `sqlite:PATH?OPTION=VALUE&…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The scheme as given.
    pub scheme: String,
    /// Whether `//` followed the scheme.
    pub slashes: bool,
    /// The part between the scheme and the options.
    pub path: String,
    /// The options. Stores check them: an unknown one is exit status 2 with a list of the known ones.
    pub options: BTreeMap<String, String>,
}

impl Location {
    /// Checks that all options are among `known`. Errors: exit status 2.
    pub fn check_options(&self, scheme: &str, known: &[&str]) -> Result<()> {
        match self.options.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) if known.is_empty() => {
                Err(Error::usage(format!("{scheme}: expected no options, found '{name}'")))
            }
            Some(name) => {
                Err(Error::usage(format!("{scheme}: unknown option '{name}'; expected one of {}", known.join(" "))))
            }
        }
    }
}

/// Formats it as given, without options and password.
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
