//! Requests to a registry: every wait and every answer bounded, failures sorted by what may be done about them.

use crate::error::{Error, ErrorKind, Result};
use crate::json::base64;
use crate::registry::percent::unescaped;
use crate::store::Location;
use crate::store::remote::{Patience, Trouble, rounded, use_ring};
use serde_json::Value;
use std::io::Read;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Method, Request, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// An answer may take this much, unpacked: a schema is at most 1 MiB, six times as much where JSON escapes all of it.
const BODY_MAX: u64 = 8 << 20;
/// What registries of Confluent's kind call their JSON.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// One registry.
pub struct Http {
    agent: Agent,
    base: String,
    authorization: Option<String>,
    waited: Duration,
}

/// What a registry answered: a success, or a refusal that means something (404, 409, 422).
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What it says; null where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// Whether it is a success.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether a subject, a version or a schema is not there (40401, 40402, 40403): a path that no registry has is 404 alone.
    pub fn names_unknown(&self) -> bool {
        self.body.get("error_code").and_then(Value::as_u64).is_some_and(|code| code / 100 == 404)
    }

    /// What it says, for a message.
    pub fn message(&self) -> String {
        match self.body.get("message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => format!("status {}", self.status),
        }
    }
}

impl Http {
    /// What an address says; exit 2 where it names no server, 78 where its certificates cannot be read.
    pub fn try_new(location: &Location, patience: Patience) -> Result<Self> {
        let (who, server) =
            location.path.rsplit_once('@').map_or((None, location.path.as_str()), |(who, server)| (Some(who), server));
        let base = format!("{}://{}", location.scheme, server.trim_end_matches('/'));
        if server.starts_with('/') || server.is_empty() || Request::get(&base).body(()).is_err() {
            return Err(Error::usage(format!(
                "{location}: names no server: http://[USER:PASSWORD@]HOST[:PORT][/BASE]"
            )));
        }
        let authorization = match (who, location.options.get("token")) {
            (None, None) => None,
            (Some(_), Some(_)) => return Err(Error::usage(format!("{location}: token= or USER:PASSWORD@, not both"))),
            (None, Some(token)) => Some(format!("Bearer {token}")),
            (Some(who), None) => Some(basic(who, location)?),
        };
        if authorization.as_ref().is_some_and(|text| text.bytes().any(|byte| byte.is_ascii_control())) {
            return Err(Error::usage(format!("{location}: token= holds a control character")));
        }
        let waited = patience.connect + patience.timeout;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(patience.connect))
            .timeout_global(Some(waited))
            .user_agent("evt")
            .tls_config(tls(location)?)
            .build();
        Ok(Self { agent: config.into(), base, authorization, waited })
    }

    /// Asks once. `path` begins with a slash, its parts escaped.
    pub fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Trouble> {
        let uri = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&uri).header("accept", MEDIA_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        if body.is_some() {
            request = request.header("content-type", MEDIA_TYPE);
        }
        let wrong = |error| Error::config(format!("{path}: cannot be asked for")).because(error);
        let answered = match body {
            Some(body) => self.agent.run(request.body(body.to_string()).map_err(wrong)?),
            None => self.agent.run(request.body(()).map_err(wrong)?),
        };
        let response = answered.map_err(|error| self.classify(error))?;
        self.answer(response)
    }

    fn answer(&self, response: Response<ureq::Body>) -> Result<Answer, Trouble> {
        let status = response.status().as_u16();
        let mut bytes = vec![];
        let read = response.into_body().into_reader().take(BODY_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Trouble::Passing(error.to_string()))?;
        if bytes.len() as u64 > BODY_MAX {
            let message = format!("it answers with more than {} MiB", BODY_MAX >> 20);
            return Err(Error::new(ErrorKind::Config, message).into());
        }
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let answer = Answer { status, body };
        match status {
            200..300 if answer.body.is_null() => {
                Err(Error::config("its answer is no JSON: is the base path right?").into())
            }
            200..300 | 404 | 409 | 422 => Ok(answer),
            401 | 403 => Err(Error::config("not let in").because(answer.message()).into()),
            408 | 429 | 500.. => Err(Trouble::Passing(format!("it answers {status}"))),
            _ => Err(Error::config(format!("it answers {status}")).because(answer.message()).into()),
        }
    }

    /// What a failure without an answer means.
    fn classify(&self, error: ureq::Error) -> Trouble {
        match error {
            // How a certificate that is not to be trusted comes out of a handshake.
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
                Error::config("TLS").because(io).into()
            }
            ureq::Error::Io(io) => {
                Trouble::Passing(io.to_string().split(" (os error").next().unwrap_or_default().to_lowercase())
            }
            ureq::Error::Timeout(_) => Trouble::Passing(format!("no answer for {}", rounded(self.waited))),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
                Trouble::Passing(error.to_string())
            }
            error => Error::config("it cannot be asked").because(error).into(),
        }
    }
}

fn basic(who: &str, location: &Location) -> Result<String> {
    let who = unescaped(who).ok_or_else(|| Error::usage(format!("{location}: user and password: no % escapes")))?;
    let mut text = "Basic ".to_owned();
    base64::encode(who.as_bytes(), &mut text);
    Ok(text)
}

/// TLS that trusts the machine's certificates, or those of `?ca=`.
fn tls(location: &Location) -> Result<TlsConfig> {
    use_ring();
    let certificates = match location.options.get("ca") {
        None => {
            let native =
                if location.scheme == "https" { rustls_native_certs::load_native_certs().certs } else { vec![] };
            native.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
        }
        Some(path) => {
            let wrong = || Error::config(format!("{location}: ca={path}"));
            let bytes = std::fs::read(path).map_err(|error| wrong().because(error))?;
            let items = parse_pem(&bytes).collect::<Result<Vec<_>, _>>().map_err(|error| wrong().because(error))?;
            let certificate = |item| if let PemItem::Certificate(one) = item { Some(one) } else { None };
            let found: Vec<_> = items.into_iter().filter_map(certificate).collect();
            match found.is_empty() {
                true => return Err(wrong().because("it holds no certificate in PEM")),
                false => found,
            }
        }
    };
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}
