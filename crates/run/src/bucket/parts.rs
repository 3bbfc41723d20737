//! The parts of an address that all clouds have, and what a cloud makes of them.

use crate::client::Location;
use evt_core::error::{Error, Result};
use evt_core::parse::port;
use std::collections::BTreeMap;

/// The parts of an address that all clouds have.
pub struct AddressParts<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The options, with the values of placeholders.
    pub location: &'a Location,
    /// The options as they are written, which other processes get; a cloud adds what it takes from the environment.
    pub written: BTreeMap<String, String>,
    /// The environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// What a cloud makes of an address.
pub struct CloudAddress<T> {
    /// The kind of the server, and the credentials.
    pub cloud: T,
    /// The scheme and the authority of the server.
    pub server: String,
    /// The options for other processes.
    pub written: BTreeMap<String, String>,
}

impl AddressParts<'_> {
    /// Returns the value of an option or, without it, of the first of these variables that has one.
    pub fn value(&self, option: &str, variables: &[&str]) -> Option<String> {
        let given = self.location.options.get(option).cloned();
        given.or_else(|| self.first(variables)).filter(|value| !value.is_empty())
    }

    /// Returns the value of the first of these variables that has one.
    pub fn first(&self, variables: &[&str]) -> Option<String> {
        variables.iter().find_map(|name| (self.variable)(name)).filter(|value| !value.is_empty())
    }

    /// Adds the address to an error.
    pub fn at(&self, error: Error) -> Error {
        error.at(self.location.to_string())
    }

    /// Makes the error of a setting that is missing: exit status 78.
    pub fn missing(&self, what: &str) -> Error {
        self.at(Error::config(format!("expected {what}, found none")))
    }

    /// Checks that the values of these options are placeholders. Errors: exit status 2.
    pub fn check_secrets(&self, options: &[&str]) -> Result<()> {
        let secrets = &self.location.caller.console.secrets;
        for option in options {
            if self.written.get(*option).is_some_and(|value| secrets.reveal(value) == *value) {
                let message = format!("{option}: expected {{env:NAME}} or {{file:PATH}}, found a secret in plain text");
                return Err(self.at(Error::usage(message)));
            }
        }
        Ok(())
    }
}

/// Checks the value of `endpoint=`, `http://HOST[:PORT]` or https; a path may follow if `has_path`. Returns it without
/// a slash at its end.
pub fn endpoint(text: &str, has_path: bool) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let host = if has_path { rest.split('/').next().unwrap_or_default() } else { rest };
    match !host.is_empty() && !host.contains('/') && !rest.contains(['@', '?', '#', ' ']) {
        true if !port::is_valid(host) => Err(format!("endpoint: {}", port::WRONG)),
        true => Ok(text.to_owned()),
        false => Err("endpoint: expected http://HOST[:PORT] or https://HOST[:PORT]".to_owned()),
    }
}

/// Returns the scheme and the authority of a URL.
pub fn authority(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    format!("{scheme}://{}", rest.split('/').next().unwrap_or_default())
}
