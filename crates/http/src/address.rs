//! `http://HOST:PORT`: the address of a listener for events.

use evt_core::error::{Error, Result};
use std::fmt;
use std::net::SocketAddr;

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether it serves TLS.
    pub tls: bool,
    /// `HOST:PORT`.
    pub host: String,
}

impl Address {
    /// Parses the part of the URI after `http:` or `https:`. Errors: exit status 2 without host and port, or with a
    /// path.
    pub fn parse(scheme: &str, rest: &str) -> Result<Self> {
        let tls = scheme == "https";
        let host = rest.strip_prefix("//").map(|host| host.strip_suffix('/').unwrap_or(host));
        let wanted = || Error::usage(format!("{scheme}:{rest}: expected {scheme}://HOST:PORT"));
        let host = host.filter(|host| !host.contains(['/', '?', '#', '@'])).ok_or_else(wanted)?;
        match host.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self { tls, host: host.to_owned() })
            }
            _ => Err(wanted()),
        }
    }

    /// Returns its URI with the bound address.
    pub fn at(&self, bound: SocketAddr) -> String {
        format!("{}://{bound}", self.scheme())
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_has_a_host_and_a_port_and_no_path() {
        let shown = |text: &str| {
            let (scheme, rest) = text.split_once(':').unwrap();
            Address::parse(scheme, rest).map(|address| address.to_string())
        };
        assert_eq!(shown("http://127.0.0.1:8080/").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(shown("https://[::1]:0").unwrap(), "https://[::1]:0");
        for text in
            ["http:", "http://", "http://host", "http://:80", "http://h:x", "http://h:1/v1", "http://u@h:1", "http:h:1"]
        {
            assert!(shown(text).is_err(), "{text}");
        }
    }
}
