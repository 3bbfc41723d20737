//! The port of a server in an address.

/// What a message says about a wrong port. It does not show the text, which may be a password without its host.
pub const WRONG: &str = "expected a port from 1 to 65535 behind the last ':' of the host";

/// Whether `server`, `HOST` or `HOST:PORT` with anything behind a `/`, has no port or one that exists. Clients would
/// connect to another port.
pub fn is_valid(server: &str) -> bool {
    let host = server.split('/').next().unwrap_or_default();
    // An address of IPv6 with a port is in brackets.
    let host = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    host.rsplit_once(':').is_none_or(|(_, port)| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_up_to_65535() {
        for server in ["h", "h:1", "h:65535", "[::1]", "[::1]:80", "h/a:b", "h:80/v1", "::1:9"] {
            assert!(is_valid(server), "{server}");
        }
        for server in ["h:", "h:x", "h:0", "h:-1", "h:+1", "h:65536", "h:8080x/a", "[::1]:x"] {
            assert!(!is_valid(server), "{server}");
        }
    }
}
