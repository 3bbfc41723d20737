//! Sends requests to a registry: every wait and every answer is bounded, and failures are classified by their remedy.

use super::reference::number;
use crate::client::Location;
use crate::client::https::HttpsClient;
use crate::client::outage::RetryError;
use evt_core::error::{Error, Result};
use evt_core::json::base64;
use evt_core::parse::port;
use evt_core::parse::query::unescaped;
use serde_json::{Value, json};
use ureq::http::{Request, Response};

/// Maximum bytes of a decompressed answer: a schema is at most 1 MiB, six times as much if JSON escapes all of it.
const BODY_MAX: u64 = 8 << 20;
/// The media type of the JSON of registries with Confluent's API.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// One registry.
pub struct Http {
    client: HttpsClient,
    base: String,
    authorization: Option<String>,
}

/// The answer of a registry: a success, or a meaningful refusal (404, 409, 422).
pub struct RegistryResponse {
    /// The status.
    pub status: u16,
    /// The body; null if it is not JSON.
    pub body: Value,
}

impl RegistryResponse {
    /// Whether it is a success.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether a subject, version or schema does not exist (40401, 40402, 40403). A path unknown to the registry has
    /// the bare 404.
    pub fn names_unknown(&self) -> bool {
        self.body.get("error_code").and_then(Value::as_u64).is_some_and(|code| code / 100 == 404)
    }

    /// Returns a number in the body.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.body.get(name).and_then(number)
    }

    /// Returns the registry's message, or the status.
    pub fn message(&self) -> String {
        match self.body.get("message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => format!("status {}", self.status),
        }
    }
}

impl Http {
    /// Makes the client of the registry at `location`.
    ///
    /// Errors: exit status 2 for an invalid address or option, 78 if its certificates cannot be read.
    pub fn try_new(location: &Location) -> Result<Self> {
        let (who, server) =
            location.path.rsplit_once('@').map_or((None, location.path.as_str()), |(who, server)| (Some(who), server));
        if server.contains('&') {
            return Err(Error::usage(format!("{location}: expected '?' before the first option, found '&'")));
        }
        let base = format!("{}://{}", location.scheme, server.trim_end_matches('/'));
        if server.starts_with('/') || server.is_empty() || Request::get(&base).body(()).is_err() {
            return Err(Error::usage(format!("{location}: expected http://[USER:PASSWORD@]HOST[:PORT][/BASE]")));
        }
        if !port::is_valid(server) {
            return Err(Error::usage(format!("{location}: {}", port::WRONG)));
        }
        let authorization = match (who, location.options.get("token")) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(Error::usage(format!("{location}: token= cannot be used with USER:PASSWORD@")));
            }
            (None, Some(token)) => Some(format!("Bearer {token}")),
            (Some(who), None) => Some(basic(who, location)?),
        };
        if authorization.as_ref().is_some_and(|text| text.bytes().any(|byte| byte.is_ascii_control())) {
            return Err(Error::usage(format!("{location}: token= contains a control character")));
        }
        let client = HttpsClient::try_new(location, base.starts_with("https:"))?;
        Ok(Self { client, base, authorization })
    }

    /// Posts a schema to a path, or gets what is there. `path` begins with a slash, its parts escaped.
    pub fn send(&self, path: &str, schema: Option<&str>) -> Result<RegistryResponse, RetryError> {
        let uri = format!("{}{path}", self.base);
        let (mut request, body) = match schema {
            Some(text) => {
                (Request::post(uri).header("content-type", MEDIA_TYPE), json!({ "schema": text }).to_string())
            }
            None => (Request::get(uri), String::new()),
        };
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let wrong = |error| Error::config(format!("{path}: invalid request")).because(error);
        let request = request.header("accept", MEDIA_TYPE).body(body).map_err(wrong)?;
        answer(&self.client.exchange(request, BODY_MAX)?)
    }
}

/// Classifies a response.
fn answer(response: &Response<Vec<u8>>) -> Result<RegistryResponse, RetryError> {
    let (status, bytes) = (response.status().as_u16(), response.body());
    if bytes.len() as u64 > BODY_MAX {
        let message = format!("the response exceeds {} MiB", BODY_MAX >> 20);
        return Err(Error::config(message).into());
    }
    let answer = RegistryResponse { status, body: serde_json::from_slice(bytes).unwrap_or(Value::Null) };
    match status {
        200..300 if answer.body.is_null() => Err(Error::config("expected a JSON response; check the base path").into()),
        200..300 | 404 | 409 | 422 => Ok(answer),
        300..=399 => {
            // A redirect is not followed, because another server's answer would count as this one's.
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            let to = location.map_or(String::new(), |location| format!(" to {location}"));
            Err(Error::config(format!("status {status}: redirects{to} are not followed")).into())
        }
        401 | 403 => Err(Error::config("access denied").because(answer.message()).into()),
        408 | 429 | 500.. => Err(RetryError::Transient(format!("status {status}"))),
        _ => Err(Error::config(format!("status {status}")).because(answer.message()).into()),
    }
}

fn basic(who: &str, location: &Location) -> Result<String> {
    let who = unescaped(who).ok_or_else(|| Error::usage(format!("{location}: user and password: bad % escapes")))?;
    let mut text = "Basic ".to_owned();
    base64::encode(who.as_bytes(), &mut text);
    Ok(text)
}
