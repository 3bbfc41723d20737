//! The location of a store, a bucket or a registry: what its URI says.

use super::outage::{OutageLimit, RetryPolicy, Timeouts};
use super::{Caller, tls};
use evt_core::error::{Error, Result};
use evt_core::time::{SECOND, parse_duration};
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The parts of a URI such as `sqlite:PATH?OPTION=VALUE&…`.
#[derive(Clone, Debug, Default)]
pub struct Location {
    /// The scheme as given.
    pub scheme: String,
    /// Whether `//` followed the scheme.
    pub slashes: bool,
    /// Whether the path names a server, so that it may begin with `USER:PASSWORD@`.
    pub is_remote: bool,
    /// The part between the scheme and the options.
    pub path: String,
    /// The options. Stores check them: an unknown one is exit status 2 with a list of the known ones.
    pub options: BTreeMap<String, String>,
    /// The run that uses it.
    pub caller: Caller,
}

/// Whether two URIs are the same, whichever runs use them.
impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        let Self { scheme, slashes, path, options, .. } = self;
        (scheme, slashes, path, options) == (&other.scheme, &other.slashes, &other.path, &other.options)
    }
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

    /// Returns the value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Parses the timeouts of a server among the options. Errors: exit status 2 for a value that is not a duration
    /// longer than 0.
    pub fn timeouts(&self) -> Result<Timeouts> {
        let option = |name: &str, usual: i64| {
            let micros = self.option(name).map_or(Ok(usual), parse_duration)?;
            match u64::try_from(micros) {
                Ok(micros) if micros > 0 => Ok(Duration::from_micros(micros)),
                _ => Err(Error::usage(format!("{self}: {name}: expected a duration longer than 0"))),
            }
        };
        Ok(Timeouts {
            connect: option("connect", 10 * SECOND)?,
            timeout: option("timeout", 30 * SECOND)?,
            retry: match self.options.get("retry") {
                None => OutageLimit::Usual,
                Some(text) => OutageLimit::parse(text).map_err(|error| error.at(format!("{self}: retry")))?,
            },
            stop: self.caller.stop.clone(),
        })
    }

    /// Returns the retries of requests to its server, which has answered before. Errors: those of the timeouts.
    pub fn retries(&self) -> Result<RetryPolicy> {
        Ok(RetryPolicy::new(self.to_string(), self.timeouts()?, self.caller.console.clone()))
    }

    /// Configures TLS with the certificates of the PEM file that the option `option` names, else with the machine's.
    ///
    /// Errors: exit status 78 if the file cannot be read or has no certificate.
    pub fn tls_config(&self, option: &str) -> Result<ClientConfig> {
        let path = self.option(option);
        tls::client_config(path)
            .map_err(|cause| Error::config(format!("{self}: {option}={}", path.unwrap_or_default())).because(cause))
    }
}

/// Formats it as given, without options and password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, if self.slashes { "//" } else { "" })?;
        let secrets = &self.caller.console.secrets;
        let path = secrets.written(&self.path);
        let (who, rest) = path.rsplit_once('@').filter(|_| self.is_remote).unwrap_or(("", &path));
        match who.split_once(':') {
            Some((user, _)) => write!(f, "{}:***@{}", secrets.named(user), secrets.named(rest)),
            // Redis ignores a user without a password: it is a password without its colon.
            None if !who.is_empty() && self.scheme.starts_with("redis") => write!(f, "***@{}", secrets.named(rest)),
            None => f.write_str(&secrets.named(&path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::error::ErrorKind;

    fn timeouts(options: &[(&str, &str)]) -> Result<Timeouts> {
        let pairs = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Location { options: pairs.collect(), ..Location::default() }.timeouts()
    }

    #[test]
    fn a_password_before_a_server_is_not_shown_and_a_file_keeps_its_name() {
        for (slashes, is_remote, path, shown) in [
            (true, true, "u:pw@h/d", "x://u:***@h/d"),
            (false, true, "u:pw@h/d", "x:u:***@h/d"),
            (false, true, ":p@w@h", "x::***@h"),
            (false, true, "/u:pw@h/d", "x:/u:***@h/d"),
            (true, true, "u@h:1/d", "x://u@h:1/d"),
            (false, false, "a:b@c.db", "x:a:b@c.db"),
        ] {
            let (scheme, path) = ("x".to_owned(), path.to_owned());
            let location = Location { scheme, slashes, is_remote, path, ..Location::default() };
            assert_eq!(location.to_string(), shown);
        }
    }

    #[test]
    fn waits_are_durations_longer_than_nothing() {
        let said = timeouts(&[("timeout", "1m30s")]).unwrap();
        assert_eq!((said.connect, said.timeout), (Duration::from_secs(10), Duration::from_secs(90)));
        assert_eq!(said.retry.limit(false), Some(Duration::from_secs(30)));
        assert_eq!(said.retry.limit(true), Some(Duration::from_secs(300)));
        assert_eq!(timeouts(&[("retry", "3s")]).unwrap().retry.limit(false), Some(Duration::from_secs(3)));
        assert_eq!(timeouts(&[("retry", "forever")]).unwrap().retry.limit(true), None);
        for value in ["0s", "-1s", "7", ""] {
            assert_eq!(timeouts(&[("retry", value)]).err().unwrap().kind(), ErrorKind::Usage, "{value}");
        }
    }
}
