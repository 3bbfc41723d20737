//! `s3://BUCKET/PREFIX?OPTION=VALUE&…`, `gs://…` and `az://…`: where objects are, and whose they are.

use super::cloud::store::Cloud;
use super::cloud::{amazon, azure, google};
use super::parts::{AddressParts, CloudAddress};
use crate::client::{Caller, Location};
use evt_core::error::{Error, Result};
use evt_core::parse::query;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The schemes of addresses.
pub const SCHEMES: [&str; 3] = ["s3", "gs", "az"];

/// Objects of a bucket whose keys begin with a prefix.
#[derive(Clone, Debug)]
pub struct BucketAddress {
    /// The bucket and the prefix, with the options of timeouts and certificates.
    pub location: Location,
    /// The bucket; in Azure the container.
    pub bucket: String,
    /// The prefix of all keys; empty, or with a slash at its end.
    pub prefix: String,
    /// The scheme and the authority of the server.
    pub server: String,
    /// The kind of the server, and the credentials.
    pub cloud: Arc<dyn Cloud>,
    /// The address for other processes.
    pub shared: String,
}

impl BucketAddress {
    /// Parses an address. Settings that it does not name come from the environment and from the files of the cloud.
    ///
    /// Errors: exit status 2 for a wrong address or option, 78 if region, account or credentials are missing.
    pub fn parse(text: &str, caller: &Caller) -> Result<Self> {
        Self::parse_in(text, caller, &|name| std::env::var(name).ok())
    }

    /// Parses an address in an environment.
    pub fn parse_in(text: &str, caller: &Caller, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let secrets = &caller.console.secrets;
        let concealed = secrets.conceal(text)?;
        let (scheme, rest) = concealed.split_once("://").unwrap_or(("s3", &concealed));
        let (path, pairs) = query::split(rest);
        let written = BTreeMap::from_iter(pairs);
        let revealed = secrets.reveal(path);
        let (bucket, prefix) = revealed.split_once('/').unwrap_or((&revealed, ""));
        let location = Location {
            scheme: scheme.to_owned(),
            slashes: true,
            is_remote: true,
            path: path.trim_end_matches('/').to_owned(),
            options: written.iter().map(|(name, value)| (name.clone(), secrets.reveal(value))).collect(),
            caller: caller.clone(),
        };
        location.check_options(scheme, options(scheme))?;
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        let prefix = prefix.trim_matches('/');
        if bucket.len() < 3 || !bucket.bytes().all(is_name) {
            let expected = "expected the name of a bucket, at least 3 characters of a-z, 0-9, '.', '-' and '_'";
            return Err(Error::usage(format!("{location}: {expected}")));
        }
        if Path::parse(prefix).is_err() {
            return Err(Error::usage(format!(
                "{location}: expected {scheme}://BUCKET/PREFIX without empty parts, . and .."
            )));
        }
        let parts = AddressParts { bucket, location: &location, written, variable };
        let CloudAddress { cloud, server, written } = match scheme {
            "gs" => shared(google::parse(parts)?),
            "az" => shared(azure::parse(parts)?),
            _ => shared(amazon::parse(parts)?),
        };
        let options = Vec::from_iter(written.iter().map(|(name, value)| format!("{name}={value}"))).join("&");
        let mark = if options.is_empty() { "" } else { "?" };
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            server,
            cloud,
            shared: secrets.named(&format!("{scheme}://{}{mark}{options}", location.path)),
            location,
        })
    }
}

/// Formats it without options.
impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)
    }
}

fn shared(address: CloudAddress<impl Cloud + 'static>) -> CloudAddress<Arc<dyn Cloud>> {
    let CloudAddress { cloud, server, written } = address;
    CloudAddress { cloud: Arc::new(cloud), server, written }
}

/// Whether a text is the address of a bucket.
pub fn is_address(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

/// Returns the options of addresses with this scheme.
fn options(scheme: &str) -> &'static [&'static str] {
    match scheme {
        "gs" => &google::OPTIONS,
        "az" => &azure::OPTIONS,
        _ => &amazon::OPTIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::ErrorKind;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<BucketAddress> {
        let variable = |name: &str| variables.iter().find(|one| one.0 == name).map(|one| one.1.to_owned());
        BucketAddress::parse_in(text, &Caller::default(), &variable)
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ID"), ("AWS_SECRET_ACCESS_KEY", "hush-hush")];
    /// There is no machine whose role could have credentials.
    const ALONE: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

    #[test]
    fn a_bucket_of_amazon_is_a_host_and_another_server_has_it_in_the_path() {
        let amazon = [&KEYS[..], &[("AWS_REGION", "eu-central-1")]].concat();
        let found = parse("s3://my-bucket/a/b/", &amazon).unwrap();
        assert_eq!(found.server, "https://my-bucket.s3.eu-central-1.amazonaws.com");
        assert_eq!((found.bucket.as_str(), found.prefix.as_str()), ("my-bucket", "a/b/"));
        assert_eq!(found.to_string(), "s3://my-bucket/a/b");
        let dotted = parse("s3://my.bucket", &amazon).unwrap();
        assert_eq!(dotted.server, "https://s3.eu-central-1.amazonaws.com");
        let own = parse("s3://my-bucket/a?endpoint=http://127.0.0.1:9000/", &KEYS).unwrap();
        assert_eq!(own.server, "http://127.0.0.1:9000");
        let google = parse("gs://my-bucket/a", &[]).unwrap();
        assert_eq!(
            (google.server.as_str(), google.shared.as_str()),
            ("https://storage.googleapis.com", "gs://my-bucket/a")
        );
        let azure = parse("az://box/a?access_key={env:PATH}", &[("AZURE_STORAGE_ACCOUNT_NAME", "me")]).unwrap();
        assert_eq!(azure.server, "https://me.blob.core.windows.net");
        assert_eq!(azure.shared, "az://box/a?access_key={env:PATH}&account=me");
        let azurite = "az://box/a?account=me&endpoint=http://127.0.0.1:10000/me&access_key={env:PATH}";
        assert_eq!(parse(azurite, &[]).unwrap().server, "http://127.0.0.1:10000");
    }

    #[test]
    fn other_processes_get_the_server_and_no_secret() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "of-a-file\n").unwrap();
        let placeholder = format!("{{file:{}}}", secret.path().display());
        let text = format!("s3://my-bucket/a?access_key=ID2&secret_key={placeholder}&retry=1m");
        let variables = [&KEYS[..], &[("AWS_ENDPOINT_URL", "http://h:1"), ("AWS_SESSION_TOKEN", "other")]].concat();
        let found = parse(&text, &variables).unwrap();
        let shared = format!(
            "s3://my-bucket/a?access_key=ID2&endpoint=http://h:1&region=us-east-1&retry=1m&secret_key={placeholder}"
        );
        assert_eq!(found.shared, shared);
        assert_eq!(parse(&found.shared, &[]).unwrap().server, found.server);
        assert!(!format!("{:?}", found.cloud).contains("of-a-file"));
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
        let alone = [ALONE];
        for (text, variables, kind, words) in [
            ("s3://b/x", &KEYS[..], ErrorKind::Usage, "expected the name of a bucket, at least 3 characters"),
            ("s3://UPPER/x", &KEYS, ErrorKind::Usage, "expected the name of a bucket, at least 3 characters"),
            ("s3://bucket/../x", &KEYS, ErrorKind::Usage, "expected s3://BUCKET/PREFIX without empty parts"),
            ("s3://bucket/x?endpoint=host", &KEYS, ErrorKind::Usage, "endpoint: expected http://HOST"),
            ("s3://bucket/x?endpoint=http://u:p@h", &KEYS, ErrorKind::Usage, "endpoint: expected http://HOST"),
            ("s3://bucket/x?access_key=a&secret_key=b", &KEYS, ErrorKind::Usage, "found a secret in plain text"),
            ("s3://bucket/x?colour=red", &KEYS, ErrorKind::Usage, "unknown option 'colour'"),
            ("s3://bucket/x", &KEYS, ErrorKind::Config, "expected a region"),
            ("s3://bucket/x?region=r", &alone, ErrorKind::Config, "expected credentials"),
            ("s3://bucket/x?region=r", &KEYS[..1], ErrorKind::Config, "expected a secret"),
            ("gs://bucket/x?endpoint=host", &[], ErrorKind::Usage, "endpoint: expected http://HOST"),
            ("gs://bucket/x?region=r", &[], ErrorKind::Usage, "unknown option 'region'"),
            ("az://bucket/x", &[], ErrorKind::Config, "expected an account (account= or AZURE_STORAGE_ACCOUNT_NAME)"),
            ("az://bucket/x?account=a&access_key=k", &[], ErrorKind::Usage, "found a secret in plain text"),
        ] {
            let error = parse(text, variables).unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(words), "{text}: {error}");
        }
    }
}
