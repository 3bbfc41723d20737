//! Reads bodies and decompresses them by `content-encoding`, with limits for each and for all together.

use super::server::Reply;
use super::server::limits::metrics::HttpMetrics;
use super::server::limits::timeouts::Phase;
use flate2::bufread::MultiGzDecoder;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use hyper::{HeaderMap, StatusCode};
use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes per permit of a budget.
const UNIT: usize = 1 << 10;
/// Bytes decompressed between two checks of the limits.
const STEP: usize = 64 << 10;
/// Largest window of zstd that is accepted (2^23 is 8 MiB; `zstd --ultra` needs more).
const WINDOW_LOG_MAX: u32 = 23;
/// A body may decompress to this many bytes whatever its ratio is.
const ANY_RATIO_BYTES: usize = 1 << 20;
/// Timeout for the rest of a body that is not used.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The memory of all bodies in progress.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Semaphore>);

/// The memory of one body; released when dropped.
pub struct Reservation {
    budget: MemoryBudget,
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl MemoryBudget {
    /// Makes a budget of this many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Returns an empty reservation.
    pub fn reserve(&self) -> Reservation {
        Reservation { budget: self.clone(), permit: None, bytes: 0 }
    }
}

impl Reservation {
    /// Reserves `bytes` more bytes; 503 if there is not enough memory. The call does not wait, because two requests
    /// that wait for each other would never end.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Reply> {
        let before = self.bytes.div_ceil(UNIT);
        self.bytes = self.bytes.saturating_add(bytes);
        let more = u32::try_from(self.bytes.div_ceil(UNIT) - before).unwrap_or(u32::MAX);
        let Ok(permit) = self.budget.0.clone().try_acquire_many_owned(more) else {
            return Err(Reply::unavailable("too many pending bytes").closing());
        };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        Ok(())
    }
}

/// The limits of a body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Maximum bytes of one body, compressed or not.
    pub bytes: usize,
    /// Maximum ratio of its decompressed to its compressed size.
    pub ratio: u64,
}

/// The compression of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

impl Compression {
    /// Determines the compression from the headers; 415 if it is not supported.
    pub fn of(headers: &HeaderMap) -> Result<Self, Reply> {
        let mut all = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(value), None) = (all.next(), all.next()) else {
            return if headers.contains_key(CONTENT_ENCODING) { Err(unsupported()) } else { Ok(Compression::None) };
        };
        match value.to_str().map(str::to_ascii_lowercase).as_deref() {
            Ok("identity") => Ok(Compression::None),
            Ok("gzip" | "x-gzip") => Ok(Compression::Gzip),
            Ok("zstd") => Ok(Compression::Zstd),
            _ => Err(unsupported()),
        }
    }
}

#[cold]
fn unsupported() -> Reply {
    Reply::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-encoding: expected gzip, zstd or identity")
}

#[cold]
fn too_large(limit: usize) -> Reply {
    Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body exceeds {limit} bytes (--max-body)"))
}

/// A body that a client is sending.
pub struct Upload<'a> {
    /// The headers of its request.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: Incoming,
    /// When all of it must have arrived.
    pub deadline: Instant,
    /// The state of its connection.
    pub phase: &'a Phase,
}

/// Reads a body as received.
pub async fn read(
    upload: Upload<'_>,
    limits: BodyLimits,
    reservation: &mut Reservation,
    metrics: &HttpMetrics,
) -> Result<Vec<u8>, Reply> {
    let Upload { headers, mut body, deadline, phase } = upload;
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limits.bytes) {
        // A client that expects 100 Continue has not sent the body. To read the body would make the client send it.
        if !headers.contains_key(EXPECT) {
            drain(body, limits.bytes).await;
        }
        return Err(too_large(limits.bytes).closing());
    }
    let mut bytes = Vec::with_capacity(length.unwrap_or(0).min(ANY_RATIO_BYTES));
    loop {
        let arrived = match select(pin!(timeout_at(deadline, body.frame())), pin!(phase.exceeded())).await {
            Either::Left((arrived, _)) => Some(arrived),
            Either::Right(_) => None,
        };
        let frame = match arrived {
            Some(Ok(Some(Ok(frame)))) => frame,
            Some(Ok(None)) => return Ok(bytes),
            Some(Ok(Some(Err(_)))) => {
                return Err(Reply::refusal(StatusCode::BAD_REQUEST, "the body is incomplete").closing());
            }
            Some(Err(_)) => {
                return Err(Reply::refusal(StatusCode::REQUEST_TIMEOUT, "the body timed out").closing());
            }
            None => {
                drain(body, limits.bytes).await;
                return Err(too_large(limits.bytes).closing());
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        metrics.body_bytes.inc_by(data.len() as u64);
        if data.len() > limits.bytes - bytes.len() {
            drain(body, limits.bytes).await;
            return Err(too_large(limits.bytes).closing());
        }
        reservation.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
}

/// Reads the rest of the body for a short time, because a client that is still writing would lose the answer if the
/// connection were closed.
async fn drain(body: Incoming, most: usize) {
    let mut rest = Limited::new(body, most);
    let read = async { while rest.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    // The answer is sent in any case.
    let _ = timeout(DRAIN_TIMEOUT, read).await;
}

/// Decompresses a body.
pub fn unpack(
    compression: Compression,
    body: Vec<u8>,
    limits: BodyLimits,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Reply> {
    let packed = body.len();
    let mut reader: Box<dyn Read + '_> = match compression {
        Compression::None => return Ok(body),
        Compression::Gzip => Box::new(MultiGzDecoder::new(&body[..])),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(&body[..]).map_err(|_| corrupt())?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(|_| corrupt())?;
            Box::new(decoder)
        }
    };
    let grown = usize::try_from(limits.ratio).unwrap_or(usize::MAX).saturating_mul(packed);
    let most = limits.bytes.min(grown.max(ANY_RATIO_BYTES));
    let (mut bytes, mut end) = (vec![], 0);
    loop {
        // A read ends with a gzip member, even a small one, so the rest of the buffer is used before more is reserved.
        if end == bytes.len() {
            let step = STEP.min(most - end + 1);
            reservation.grow(step)?;
            bytes.resize(end + step, 0);
        }
        match reader.read(&mut bytes[end..]) {
            Ok(0) => {
                bytes.truncate(end);
                return Ok(bytes);
            }
            Ok(count) => end += count,
            Err(_) => return Err(corrupt()),
        }
        if end > most {
            let why = format!("the decompressed body exceeds {most} bytes (--max-body, --max-decompression-ratio)");
            return Err(Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &why));
        }
    }
}

/// Refuses a body that is still compressed, because the request has no Content-Encoding.
pub fn check_unpacked(body: &[u8]) -> Result<(), Reply> {
    const MAGICS: [(&[u8], &str); 2] = [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd")];
    match MAGICS.iter().find(|(magic, _)| body.starts_with(magic)) {
        None => Ok(()),
        Some((_, name)) => {
            let why = format!("the body is compressed; send the header content-encoding: {name}");
            Err(Reply::refusal(StatusCode::BAD_REQUEST, &why))
        }
    }
}

#[cold]
fn corrupt() -> Reply {
    Reply::refusal(StatusCode::BAD_REQUEST, "the body does not match content-encoding")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits { bytes: 8 << 20, ratio: 1000 };

    fn unpacked(compression: Compression, body: &[u8], limits: BodyLimits) -> Result<Vec<u8>, u16> {
        unpack(compression, body.to_vec(), limits, &mut MemoryBudget::new(64 << 20).reserve())
            .map_err(|reply| reply.status.as_u16())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = vec![];
        flate2::bufread::GzEncoder::new(bytes, flate2::Compression::best()).read_to_end(&mut packed).unwrap();
        packed
    }

    #[test]
    fn packed_bodies_come_out_whole_several_members_too() {
        let two = [gzip(b"ab"), gzip(b"c")].concat();
        assert_eq!(unpacked(Compression::Gzip, &two, LIMITS), Ok(b"abc".to_vec()));
        let two = [zstd::encode_all(&b"ab"[..], 1).unwrap(), zstd::encode_all(&b"c"[..], 1).unwrap()].concat();
        assert_eq!(unpacked(Compression::Zstd, &two, LIMITS), Ok(b"abc".to_vec()));
        assert_eq!(unpacked(Compression::None, b"abc", LIMITS), Ok(b"abc".to_vec()));
        let many = gzip(b"x").repeat(5000);
        let mut reservation = MemoryBudget::new(1 << 20).reserve();
        assert_eq!(unpack(Compression::Gzip, many, LIMITS, &mut reservation).map(|bytes| bytes.len()).ok(), Some(5000));
    }

    #[test]
    fn a_bomb_stops_at_the_bound_and_a_torn_one_is_refused() {
        let bomb = vec![0; 9 << 20];
        for (compression, body) in
            [(Compression::Gzip, gzip(&bomb)), (Compression::Zstd, zstd::encode_all(&bomb[..], 1).unwrap())]
        {
            assert_eq!(unpacked(compression, &body, LIMITS), Err(413));
            assert_eq!(unpacked(compression, &body, BodyLimits { bytes: 16 << 20, ratio: 2 }), Err(413));
            assert_eq!(
                unpacked(compression, &body[..body.len() - 5], BodyLimits { bytes: 16 << 20, ratio: 1 << 20 }),
                Err(400)
            );
            assert_eq!(unpacked(compression, b"plain", LIMITS), Err(400));
        }
    }

    #[test]
    fn all_reservations_together_are_bounded_and_come_back() {
        let budget = MemoryBudget::new(4 * UNIT);
        let (mut one, mut two) = (budget.reserve(), budget.reserve());
        one.grow(3 * UNIT).unwrap();
        two.grow(UNIT).unwrap();
        assert_eq!(two.grow(1).unwrap_err().status, 503);
        drop(one);
        assert!(budget.reserve().grow(3 * UNIT).is_ok());
    }
}
