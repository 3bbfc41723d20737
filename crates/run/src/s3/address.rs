//! `s3://BUCKET/PREFIX?OPTION=VALUE&…`: where objects are, and whose they are.

use super::sign::Signer;
use crate::client::Caller;
use crate::client::Location;
use evt_core::error::{Error, Result};
use evt_core::parse::{port, query};
use std::collections::BTreeMap;
use std::fmt;

/// The beginning of an address of a bucket.
pub const SCHEME: &str = "s3://";
/// The endpoint that is Amazon's server, whatever the environment names.
const AMAZON: &str = "aws";
/// Options of an address.
const OPTIONS: [&str; 9] =
    ["endpoint", "region", "access_key", "secret_key", "session_token", "connect", "timeout", "retry", "ca"];

/// Objects of a bucket whose keys begin with a prefix.
#[derive(Clone, Debug)]
pub struct S3Address {
    /// The bucket and the prefix, with the options of timeouts and certificates.
    pub location: Location,
    /// The scheme and the authority of the server.
    pub server: String,
    /// The authority: the value of the header `Host`.
    pub host: String,
    /// The path of the bucket: `/BUCKET`, or empty if the name of the host begins with it.
    pub bucket_path: String,
    /// The prefix of all keys; empty, or with a slash at its end.
    pub prefix: String,
    /// The credentials.
    pub signer: Signer,
    /// The address for other processes.
    pub shared: String,
}

impl S3Address {
    /// Parses an address. Settings that it does not name come from the environment: `AWS_ENDPOINT_URL`, `AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    ///
    /// Errors: exit status 2 for a wrong address or option, 78 if region or credentials are missing.
    pub fn parse(text: &str, caller: &Caller) -> Result<Self> {
        Self::parse_in(text, caller, |name| std::env::var(name).ok())
    }

    fn parse_in(text: &str, caller: &Caller, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let secrets = &caller.console.secrets;
        let concealed = secrets.conceal(text)?;
        let (path, pairs) = query::split(concealed.strip_prefix(SCHEME).unwrap_or(&concealed));
        let written = BTreeMap::from_iter(pairs);
        let revealed = secrets.reveal(path);
        let (bucket, prefix) = revealed.split_once('/').unwrap_or((&revealed, ""));
        let location = Location {
            scheme: "s3".to_owned(),
            slashes: true,
            is_remote: true,
            path: path.trim_end_matches('/').to_owned(),
            options: written.iter().map(|(name, value)| (name.clone(), secrets.reveal(value))).collect(),
            caller: caller.clone(),
        };
        location.check_options("s3", &OPTIONS)?;
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if bucket.len() < 3 || !bucket.bytes().all(is_name) || prefix.split('/').any(|part| part == "..") {
            return Err(Error::usage(format!("{location}: expected s3://BUCKET/PREFIX")));
        }
        for option in ["secret_key", "session_token"] {
            if written.get(option).is_some_and(|value| secrets.reveal(value) == *value) {
                let message = format!("{option}: expected {{env:NAME}} or {{file:PATH}}, found a secret in plain text");
                return Err(Error::usage(message).at(location.to_string()));
            }
        }
        let from = |option: &str, names: &[&str]| {
            let given = location.options.get(option).cloned();
            given.or_else(|| names.iter().find_map(|name| variable(name))).filter(|value| !value.is_empty())
        };
        let endpoint =
            from("endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]).filter(|endpoint| endpoint != AMAZON);
        let region = from("region", &["AWS_REGION", "AWS_DEFAULT_REGION"]);
        // Servers of one's own rarely have regions.
        let region = region.or_else(|| endpoint.as_ref().map(|_| "us-east-1".to_owned()));
        let missing = |what: &str| Error::config(format!("expected {what}, found none")).at(location.to_string());
        let region = region.ok_or_else(|| missing("a region (region= or AWS_REGION)"))?;
        // A key of the address does not belong to a secret of the environment.
        let of_address = written.contains_key("access_key") || written.contains_key("secret_key");
        let credential = |option: &str, name: &str| {
            let names = [name];
            from(option, if of_address { &[] } else { &names })
        };
        let signer = Signer {
            access_key: credential("access_key", "AWS_ACCESS_KEY_ID")
                .ok_or_else(|| missing("credentials (AWS_ACCESS_KEY_ID, or access_key= and secret_key=)"))?,
            secret_key: credential("secret_key", "AWS_SECRET_ACCESS_KEY")
                .ok_or_else(|| missing("a secret (AWS_SECRET_ACCESS_KEY, or access_key= and secret_key=)"))?,
            session_token: credential("session_token", "AWS_SESSION_TOKEN"),
            region: region.clone(),
        };
        let (server, bucket_path) =
            server(endpoint.as_deref(), &region, bucket).map_err(|error| error.at(location.to_string()))?;
        let host = server.split_once("://").map_or(String::new(), |(_, host)| host.to_owned());
        let prefix = prefix.trim_matches('/');
        let mut shared = written;
        shared.insert("region".to_owned(), region);
        // The environment of another process may name another server.
        shared.entry("endpoint".to_owned()).or_insert_with(|| endpoint.unwrap_or_else(|| AMAZON.to_owned()));
        let shared = Vec::from_iter(shared.iter().map(|(name, value)| format!("{name}={value}"))).join("&");
        Ok(Self {
            server,
            host,
            bucket_path,
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            signer,
            shared: secrets.named(&format!("{SCHEME}{}?{shared}", location.path)),
            location,
        })
    }
}

/// Formats it without options.
impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)
    }
}

/// Returns the server of a bucket, `http://HOST[:PORT]` or `https://HOST[:PORT]`, and the path of the bucket on it,
/// which is empty if the host is that of the bucket.
fn server(endpoint: Option<&str>, region: &str, bucket: &str) -> Result<(String, String)> {
    let Some(endpoint) = endpoint else {
        // A certificate for `*.s3.…` does not cover a name with dots.
        return Ok(match bucket.contains('.') {
            true => (format!("https://s3.{region}.amazonaws.com"), format!("/{bucket}")),
            false => (format!("https://{bucket}.s3.{region}.amazonaws.com"), String::new()),
        });
    };
    let endpoint = endpoint.trim_end_matches('/');
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    match host.filter(|host| !host.is_empty() && !host.contains(['/', '@', '?', '#', ' '])) {
        Some(host) if !port::is_valid(host) => Err(Error::usage(format!("endpoint: {}", port::WRONG))),
        Some(_) => Ok((endpoint.to_owned(), format!("/{bucket}"))),
        None => Err(Error::usage("endpoint: expected http://HOST[:PORT], https://HOST[:PORT] or aws")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::ErrorKind;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<S3Address> {
        let variable = |name: &str| variables.iter().find(|one| one.0 == name).map(|one| one.1.to_owned());
        S3Address::parse_in(text, &Caller::default(), variable)
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ID"), ("AWS_SECRET_ACCESS_KEY", "hush-hush")];

    #[test]
    fn a_bucket_of_amazon_is_a_host_and_another_server_has_it_in_the_path() {
        let amazon = [&KEYS[..], &[("AWS_REGION", "eu-central-1")]].concat();
        let found = parse("s3://my-bucket/a/b/", &amazon).unwrap();
        assert_eq!(found.server, "https://my-bucket.s3.eu-central-1.amazonaws.com");
        assert_eq!((found.bucket_path.as_str(), found.prefix.as_str()), ("", "a/b/"));
        assert_eq!(found.to_string(), "s3://my-bucket/a/b");
        let dotted = parse("s3://my.bucket", &amazon).unwrap();
        assert_eq!(dotted.server + &dotted.bucket_path, "https://s3.eu-central-1.amazonaws.com/my.bucket");
        let own = parse("s3://my-bucket/a?endpoint=http://127.0.0.1:9000/", &KEYS).unwrap();
        assert_eq!((own.server.as_str(), own.host.as_str()), ("http://127.0.0.1:9000", "127.0.0.1:9000"));
        assert_eq!((own.bucket_path.as_str(), own.signer.region.as_str()), ("/my-bucket", "us-east-1"));
    }

    #[test]
    fn other_processes_get_the_server_and_no_secret() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "of-a-file\n").unwrap();
        let placeholder = format!("{{file:{}}}", secret.path().display());
        let text = format!("s3://my-bucket/a?access_key=ID2&secret_key={placeholder}&retry=1m");
        let variables = [&KEYS[..], &[("AWS_ENDPOINT_URL", "http://h:1"), ("AWS_SESSION_TOKEN", "other")]].concat();
        let found = parse(&text, &variables).unwrap();
        assert_eq!(found.signer.secret_key, "of-a-file");
        assert_eq!(found.signer.session_token, None, "a token of other credentials");
        let shared = format!(
            "s3://my-bucket/a?access_key=ID2&endpoint=http://h:1&region=us-east-1&retry=1m&secret_key={placeholder}"
        );
        assert_eq!(found.shared, shared);
        let again = parse(&found.shared, &[]).unwrap();
        assert_eq!((&again.server, &again.signer.secret_key), (&found.server, &found.signer.secret_key));
        assert!(!format!("{:?}", found.signer).contains("of-a-file"));
    }

    #[test]
    fn other_processes_use_the_server_of_the_first_one_whatever_their_environment_names() {
        let amazon = [&KEYS[..], &[("AWS_REGION", "eu-central-1")]].concat();
        let found = parse("s3://my-bucket/a", &amazon).unwrap();
        assert_eq!(found.shared, "s3://my-bucket/a?endpoint=aws&region=eu-central-1");
        let elsewhere = [&KEYS[..], &[("AWS_ENDPOINT_URL", "http://h:1"), ("AWS_REGION", "r")]].concat();
        assert_eq!(parse(&found.shared, &elsewhere).unwrap().server, "https://my-bucket.s3.eu-central-1.amazonaws.com");

        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "http://h:2\n").unwrap();
        let endpoint = format!("{{file:{}}}", secret.path().display());
        let found = parse(&format!("s3://my-bucket/a?endpoint={endpoint}"), &elsewhere).unwrap();
        assert_eq!(found.server, "http://h:2");
        assert_eq!(found.shared, format!("s3://my-bucket/a?endpoint={endpoint}&region=r"));
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        for (text, variables, kind, words) in [
            ("s3://b/x", &KEYS[..], ErrorKind::Usage, "expected s3://BUCKET/PREFIX"),
            ("s3://UPPER/x", &KEYS, ErrorKind::Usage, "expected s3://BUCKET/PREFIX"),
            ("s3://bucket/../x", &KEYS, ErrorKind::Usage, "expected s3://BUCKET/PREFIX"),
            ("s3://bucket/x?endpoint=host", &KEYS, ErrorKind::Usage, "endpoint: expected http://HOST"),
            ("s3://bucket/x?endpoint=http://u:p@h", &KEYS, ErrorKind::Usage, "endpoint: expected http://HOST"),
            ("s3://bucket/x?access_key=a&secret_key=b", &KEYS, ErrorKind::Usage, "found a secret in plain text"),
            ("s3://bucket/x?colour=red", &KEYS, ErrorKind::Usage, "unknown option 'colour'"),
            ("s3://bucket/x", &KEYS, ErrorKind::Config, "expected a region"),
            ("s3://bucket/x?region=r", &[], ErrorKind::Config, "expected credentials"),
            ("s3://bucket/x?region=r", &KEYS[..1], ErrorKind::Config, "expected a secret"),
        ] {
            let error = parse(text, variables).unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(words), "{text}: {error}");
        }
    }
}
