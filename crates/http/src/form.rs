//! The parameters of a request: those of its query, and those of a form that is its body.

use super::body::{self, BodyLimits, Compression, MemoryBudget, Upload};
use super::server::limits::timeouts::Phase;
use super::server::{Application, Reply, ServerState};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

/// Maximum bytes of a form.
pub const FORM_MAX: usize = 1 << 20;
/// The memory of all forms in progress.
const PENDING_MAX: usize = 64 << 20;
/// Maximum number of parameters.
const PARAMETERS_MAX: usize = 1_000;

/// Parameters, in their order.
pub type Parameters = Vec<(String, String)>;

/// The memory of the forms in progress.
pub struct Forms(MemoryBudget);

impl Default for Forms {
    fn default() -> Self {
        Self(MemoryBudget::new(PENDING_MAX))
    }
}

impl Forms {
    /// Reads the parameters of a request, of its query and, if it is a POST, of its body. Refusals: 413 and 415 for
    /// other bodies, 408, and 422 for more than a thousand parameters.
    pub async fn parameters<A: Application>(
        &self,
        state: &ServerState<A>,
        parts: &Parts,
        body: Incoming,
        phase: &Phase,
    ) -> Result<Parameters, Reply> {
        let mut found = vec![];
        read(parts.uri.query().unwrap_or_default().as_bytes(), &mut found)?;
        if parts.method == Method::POST {
            check_type(&parts.headers)?;
            let compression = Compression::of(&parts.headers)?;
            let limits = BodyLimits { bytes: FORM_MAX, ratio: 1_000 };
            let deadline = Instant::now() + state.options.request_time;
            let upload = Upload { headers: &parts.headers, body, deadline, phase };
            let mut reservation = self.0.reserve();
            let bytes = body::read(upload, limits, &mut reservation, &state.metrics).await?;
            read(&body::unpack(compression, bytes, limits, &mut reservation)?, &mut found)?;
        }
        Ok(found)
    }
}

/// Reads parameters as a form writes them. Bytes that are not UTF-8 become U+FFFD, which no name has.
fn read(text: &[u8], found: &mut Parameters) -> Result<(), Reply> {
    for (name, value) in form_urlencoded::parse(text) {
        if found.len() == PARAMETERS_MAX {
            let why = format!("expected at most {PARAMETERS_MAX} parameters");
            return Err(Reply::refusal(StatusCode::UNPROCESSABLE_ENTITY, &why));
        }
        found.push((name.into_owned(), value.into_owned()));
    }
    Ok(())
}

fn check_type(headers: &HeaderMap) -> Result<(), Reply> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(());
    }
    let why = "content-type: expected application/x-www-form-urlencoded";
    Err(Reply::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, why).closing())
}
