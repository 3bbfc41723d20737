//! `s3://`: Amazon S3, and other servers that speak its protocol.

use super::keys::{Hidden, Keys};
use super::profile::{self, Profile, ProfileCredentials};
use super::role::{Role, RoleCredentials};
use super::store::{Cloud, CloudStore, one_attempt};
use crate::bucket::http::BucketHttp;
use crate::bucket::parts::{self, AddressParts, CloudAddress};
use evt_core::error::{Error, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use std::sync::Arc;

/// Options of an address.
pub const OPTIONS: [&str; 9] =
    ["endpoint", "region", "access_key", "secret_key", "session_token", "connect", "timeout", "retry", "ca"];
/// The credentials, in the message that they are missing.
pub const CREDENTIALS: &str = "credentials (AWS_ACCESS_KEY_ID, or access_key= and secret_key=)";
/// The endpoint that is Amazon's server, whatever the environment names.
const AMAZON: &str = "aws";

/// The settings of roles of machines that object_store reads, with the variables that have them.
const ROLES: [(&str, AmazonS3ConfigKey); 8] = [
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
];

/// A region with credentials.
#[derive(Clone, Debug)]
pub struct Amazon {
    /// The region of the server.
    pub region: String,
    /// Where requests go, with the bucket in the path; `None` for Amazon's server, which has it in its name.
    pub endpoint: Option<String>,
    /// Who signs.
    pub credentials: Credentials,
}

/// Where the credentials come from.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// The address, the environment or a profile.
    Keys(Keys),
    /// A role that a profile names.
    Role(Role),
    /// The role of the machine, of the container, or of a web identity.
    Machine(Vec<MachineSetting>),
}

/// A setting of the role of a machine.
#[derive(Clone, Debug)]
pub struct MachineSetting {
    key: AmazonS3ConfigKey,
    value: String,
}

/// Parses what an address, the environment and the shared files say. Errors: exit status 2 for a wrong endpoint or a
/// secret in plain text, 78 if region or credentials are missing.
pub fn parse(parts: AddressParts<'_>) -> Result<CloudAddress<Amazon>> {
    parts.check_secrets(&["secret_key", "session_token"])?;
    let endpoint = parts.value("endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    let endpoint = endpoint.filter(|endpoint| endpoint != AMAZON).map(|text| parts::endpoint(&text, false));
    let endpoint = endpoint.transpose().map_err(|fault| parts.at(Error::usage(format!("{fault} or aws"))))?;
    let region = parts.value("region", &["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let has_keys = parts.value("access_key", &["AWS_ACCESS_KEY_ID"]).is_some();
    let profile = match has_keys && (region.is_some() || endpoint.is_some()) {
        true => None,
        false => profile::find(parts.variable).map_err(|error| parts.at(error))?,
    };
    let region = region.or_else(|| profile.as_ref().and_then(|profile| profile.value("region").map(str::to_owned)));
    // Servers of one's own rarely have regions.
    let region = region.or_else(|| endpoint.as_ref().map(|_| "us-east-1".to_owned()));
    let region = region.ok_or_else(|| parts.missing("a region (region= or AWS_REGION)"))?;
    let credentials = credentials(&parts, profile, &region)?;
    // A certificate for `*.s3.…` does not cover a name with dots.
    let server = endpoint.clone().unwrap_or_else(|| match parts.bucket.contains('.') {
        true => format!("https://s3.{region}.amazonaws.com"),
        false => format!("https://{}.s3.{region}.amazonaws.com", parts.bucket),
    });
    let mut written = parts.written;
    written.insert("region".to_owned(), region.clone());
    // The environment of another process may name another server.
    written.entry("endpoint".to_owned()).or_insert_with(|| endpoint.clone().unwrap_or_else(|| AMAZON.to_owned()));
    Ok(CloudAddress { cloud: Amazon { region, endpoint, credentials }, server, written })
}

/// Finds the credentials: those of the address, then of the environment, of a web identity, of the shared files, and of
/// the machine.
fn credentials(parts: &AddressParts<'_>, profile: Option<Profile>, region: &str) -> Result<Credentials> {
    // A key of the address does not belong to a secret of the environment.
    let of_address = parts.written.contains_key("access_key") || parts.written.contains_key("secret_key");
    let value = |option: &str, name: &str| match of_address {
        true => parts.value(option, &[]),
        false => parts.value(option, &[name]),
    };
    let access_key = value("access_key", "AWS_ACCESS_KEY_ID");
    let secret_key = value("secret_key", "AWS_SECRET_ACCESS_KEY").map(Hidden);
    let session_token = value("session_token", "AWS_SESSION_TOKEN").map(Hidden);
    match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) => {
            return Ok(Credentials::Keys(Keys { access_key, secret_key, session_token }));
        }
        (Some(_), None) => {
            return Err(parts.missing("a secret (AWS_SECRET_ACCESS_KEY, or access_key= and secret_key=)"));
        }
        (None, Some(_)) => return Err(parts.missing(CREDENTIALS)),
        (None, None) => {}
    }
    let is_web_identity = parts.first(&["AWS_WEB_IDENTITY_TOKEN_FILE"]).is_some();
    if let Some(profile) = profile.filter(|_| !is_web_identity) {
        let found = profile.credentials(region, parts.variable);
        match found.map_err(|error| parts.at(error))? {
            Some(ProfileCredentials::Keys(keys)) => return Ok(Credentials::Keys(keys)),
            Some(ProfileCredentials::Role(role)) => return Ok(Credentials::Role(role)),
            None => {}
        }
    }
    let set =
        |(name, key): &(&str, AmazonS3ConfigKey)| Some(MachineSetting { key: *key, value: parts.first(&[name])? });
    let settings = Vec::from_iter(ROLES.iter().filter_map(set));
    let is_metadata_off = parts.first(&["AWS_EC2_METADATA_DISABLED"]).is_some_and(|text| text == "true");
    let has_container = parts.first(&["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]);
    match is_metadata_off && !is_web_identity && has_container.is_none() {
        true => Err(parts.missing(CREDENTIALS)),
        false => Ok(Credentials::Machine(settings)),
    }
}

impl Cloud for Amazon {
    fn connect(&self, bucket: &str, http: BucketHttp) -> object_store::Result<Arc<dyn CloudStore>> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&self.region)
            .with_retry(one_attempt())
            // A key that is missing is no fault, and not every server has the other request.
            .with_disable_bulk_delete(true)
            .with_virtual_hosted_style_request(self.endpoint.is_none() && !bucket.contains('.'))
            .with_http_connector(http.clone());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder = match &self.credentials {
            Credentials::Keys(keys) => {
                let builder = builder.with_access_key_id(&keys.access_key).with_secret_access_key(&keys.secret_key.0);
                keys.session_token.iter().fold(builder, |builder, token| builder.with_token(&token.0))
            }
            Credentials::Role(role) => builder.with_credentials(Arc::new(RoleCredentials::new(role.clone(), http))),
            Credentials::Machine(settings) => {
                settings.iter().fold(builder, |builder, setting| builder.with_config(setting.key, &setting.value))
            }
        };
        Ok(Arc::new(builder.build()?))
    }

    fn credentials(&self) -> &'static str {
        CREDENTIALS
    }

    fn fetches_credentials(&self) -> bool {
        !matches!(self.credentials, Credentials::Keys(_))
    }
}
