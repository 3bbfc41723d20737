//! The temporary credentials of a role that the keys of a profile may take (AssumeRole).

use super::keys::{Hidden, Keys};
use crate::bucket::http::{BucketHttp, RequestFault};
use crate::client::outage::RetryError;
use evt_core::error::Error;
use evt_core::parse::query::escaped;
use evt_core::time::parse_instant;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::{CredentialProvider, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How long before their end credentials are fetched again (µs).
const MARGIN: i64 = 300_000_000;

/// A role, and whose keys take it.
#[derive(Clone, Debug)]
pub struct Role {
    /// The keys.
    pub keys: Keys,
    /// The name of the role.
    pub arn: String,
    /// The name of the session.
    pub session: String,
    /// What the owner of the role expects.
    pub external_id: Option<String>,
    /// The region.
    pub region: String,
    /// The server of the service STS.
    pub endpoint: String,
}

/// The credentials of a role, fetched again before they expire.
#[derive(Debug)]
pub struct RoleCredentials {
    role: Role,
    http: BucketHttp,
    known: Mutex<Option<Temporary>>,
}

#[derive(Debug)]
struct Temporary {
    credential: Arc<AwsCredential>,
    /// Their end (µs since 1970).
    until: i64,
}

impl RoleCredentials {
    /// Fetches nothing yet.
    pub fn new(role: Role, http: BucketHttp) -> Self {
        Self { role, http, known: Mutex::default() }
    }

    fn fetch(&self) -> Result<Temporary, RetryError> {
        let Role { keys, arn, session, external_id, region, endpoint } = &self.role;
        let mut form = vec![("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleArn", arn)];
        form.push(("RoleSessionName", session));
        form.extend(external_id.iter().map(|id| ("ExternalId", id.as_str())));
        let form = Vec::from_iter(form.iter().map(|(name, value)| format!("{name}={}", escaped(value)))).join("&");
        let wrong = |cause: String| RetryError::from(Error::config(format!("role {arn}")).because(cause));
        let mut request = HttpRequest::new(HttpRequestBody::from(form.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = format!("{}/", endpoint.trim_end_matches('/'))
            .parse()
            .map_err(|_| wrong(format!("expected a URL in AWS_ENDPOINT_URL_STS, found {endpoint}")))?;
        let form_type = http::HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(http::header::CONTENT_TYPE, form_type);
        let signer = AwsCredential {
            key_id: keys.access_key.clone(),
            secret_key: keys.secret_key.0.clone(),
            token: keys.session_token.as_ref().map(|Hidden(token)| token.clone()),
        };
        let authorizer = AwsAuthorizer::new(&signer, "sts", region);
        authorizer.try_authorize(&mut request, None).map_err(|error| wrong(error.to_string()))?;
        let answer = self.http.send(request.map(|_| form.into_bytes().into()));
        let answer = answer.map_err(RequestFault::into_retry_error)?;
        let xml = String::from_utf8_lossy(answer.body());
        let text = |name: &str| {
            let found = xml.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
            found.map(|(text, _)| text.to_owned()).ok_or_else(|| wrong(format!("expected {name}, found none")))
        };
        let expiration = text("Expiration")?;
        let until = parse_instant(&expiration);
        let until = until.ok_or_else(|| wrong(format!("expected a time, found {expiration}")))?;
        let (key_id, secret_key, token) = (text("AccessKeyId")?, text("SecretAccessKey")?, Some(text("SessionToken")?));
        Ok(Temporary { credential: Arc::new(AwsCredential { key_id, secret_key, token }), until })
    }
}

#[async_trait::async_trait]
impl CredentialProvider for RoleCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        // One request at a time fetches them; the others wait for it, and it is bounded.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        if let Some(found) = known.as_ref().filter(|known| known.until - MARGIN > now) {
            return Ok(found.credential.clone());
        }
        let fetched = self.fetch().map_err(|fault| RequestFault::from(fault).into_store_error())?;
        let credential = fetched.credential.clone();
        *known = Some(fetched);
        Ok(credential)
    }
}
