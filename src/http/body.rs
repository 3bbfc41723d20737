//! Reads and decompresses bodies, with limits for each and for all together.

use super::answer::Reply;
use super::limits::meter::Meter;
use flate2::bufread::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use hyper::{HeaderMap, StatusCode};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::{Instant, timeout_at};

/// Bytes per permit of a room.
const UNIT: usize = 1 << 10;
/// Bytes decompressed between two checks of the limits.
const STEP: usize = 64 << 10;
/// Largest window of zstd that is accepted (2^23 is 8 MiB; `zstd --ultra` needs more).
const WINDOW_LOG_MAX: u32 = 23;
/// A body may decompress to this many bytes whatever the ratio.
const HARMLESS: usize = 1 << 20;
/// `Retry-After` of a request that was refused for lack of memory or by the keeper.
pub const SOON: Duration = Duration::from_secs(1);

/// The memory of all bodies in progress.
#[derive(Clone)]
pub struct Room(Arc<Semaphore>);

/// The memory of one body; released when dropped.
pub struct Share {
    room: Room,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Room {
    /// Makes a room of this many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Returns an empty share.
    pub fn share(&self) -> Share {
        Share { room: self.clone(), held: None, bytes: 0 }
    }
}

impl Share {
    /// Reserves `bytes` more. It does not wait, because two requests that wait for each other would never end; 503 if there is
    /// no more memory.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Reply> {
        let before = self.bytes.div_ceil(UNIT);
        self.bytes = self.bytes.saturating_add(bytes);
        let more = self.bytes.div_ceil(UNIT) - before;
        if more == 0 {
            return Ok(());
        }
        let permits = u32::try_from(more).unwrap_or(u32::MAX);
        match self.room.0.clone().try_acquire_many_owned(permits) {
            Ok(permit) => {
                match &mut self.held {
                    Some(held) => held.merge(permit),
                    None => self.held = Some(permit),
                }
                Ok(())
            }
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                Err(Reply::later(StatusCode::SERVICE_UNAVAILABLE, "too many pending bytes", SOON).closing())
            }
        }
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
pub enum Packing {
    /// None.
    None,
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

impl Packing {
    /// Determines the compression from the headers; 415 if it is not supported.
    pub fn of(headers: &HeaderMap) -> Result<Self, Reply> {
        let mut all = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(value), None) = (all.next(), all.next()) else {
            return if headers.contains_key(CONTENT_ENCODING) { Err(unknown()) } else { Ok(Packing::None) };
        };
        match value.to_str().map(str::to_ascii_lowercase).as_deref() {
            Ok("identity") => Ok(Packing::None),
            Ok("gzip" | "x-gzip") => Ok(Packing::Gzip),
            Ok("zstd") => Ok(Packing::Zstd),
            _ => Err(unknown()),
        }
    }
}

#[cold]
fn unknown() -> Reply {
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
}

/// Reads a body as received.
pub async fn read(upload: Upload<'_>, limits: BodyLimits, share: &mut Share, meter: &Meter) -> Result<Vec<u8>, Reply> {
    let Upload { headers, mut body, deadline } = upload;
    let told = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|told| told > limits.bytes) {
        // A client that expects 100 Continue has not sent the body; reading would make it send.
        if !headers.contains_key(EXPECT) {
            drain(body, limits.bytes).await;
        }
        return Err(too_large(limits.bytes).closing());
    }
    let mut bytes = Vec::with_capacity(told.unwrap_or(0).min(HARMLESS));
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(_))) => {
                return Err(Reply::refusal(StatusCode::BAD_REQUEST, "the body is incomplete").closing());
            }
            Err(_) => {
                return Err(Reply::refusal(StatusCode::REQUEST_TIMEOUT, "the body timed out").closing());
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        meter.body_bytes.inc_by(data.len() as u64);
        if data.len() > limits.bytes - bytes.len() {
            drain(body, limits.bytes).await;
            return Err(too_large(limits.bytes).closing());
        }
        share.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
}

/// Reads the rest for a moment: a client that is still writing would not read the answer if the connection were closed.
async fn drain(mut body: Incoming, most: usize) {
    let deadline = Instant::now() + SOON;
    let mut left = most;
    while !body.is_end_stream() {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => match left.checked_sub(frame.data_ref().map_or(0, |data| data.len())) {
                Some(rest) => left = rest,
                None => return,
            },
            _ => return,
        }
    }
}

/// Decompresses a body.
pub fn unpack(packing: Packing, body: Vec<u8>, limits: BodyLimits, share: &mut Share) -> Result<Vec<u8>, Reply> {
    let packed = body.len();
    let mut reader: Box<dyn Read + '_> = match packing {
        Packing::None => return Ok(body),
        Packing::Gzip => Box::new(MultiGzDecoder::new(&body[..])),
        Packing::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(&body[..]).map_err(|_| corrupt())?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(|_| corrupt())?;
            Box::new(decoder)
        }
    };
    let grown = usize::try_from(limits.ratio).unwrap_or(usize::MAX).saturating_mul(packed);
    let most = limits.bytes.min(grown.max(HARMLESS));
    let (mut bytes, mut end) = (vec![], 0);
    loop {
        // A small gzip member is a read of its own: use the rest of the buffer before reserving more.
        if end == bytes.len() {
            let step = STEP.min(most - end + 1);
            share.grow(step)?;
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

#[cold]
fn corrupt() -> Reply {
    Reply::refusal(StatusCode::BAD_REQUEST, "the body does not match content-encoding")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits { bytes: 8 << 20, ratio: 1000 };

    fn unpacked(packing: Packing, body: &[u8], limits: BodyLimits) -> Result<Vec<u8>, u16> {
        unpack(packing, body.to_vec(), limits, &mut Room::new(64 << 20).share()).map_err(|reply| reply.status.as_u16())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = vec![];
        flate2::bufread::GzEncoder::new(bytes, flate2::Compression::best()).read_to_end(&mut packed).unwrap();
        packed
    }

    #[test]
    fn packed_bodies_come_out_whole_several_members_too() {
        let two = [gzip(b"ab"), gzip(b"c")].concat();
        assert_eq!(unpacked(Packing::Gzip, &two, LIMITS), Ok(b"abc".to_vec()));
        let two = [zstd::encode_all(&b"ab"[..], 1).unwrap(), zstd::encode_all(&b"c"[..], 1).unwrap()].concat();
        assert_eq!(unpacked(Packing::Zstd, &two, LIMITS), Ok(b"abc".to_vec()));
        assert_eq!(unpacked(Packing::None, b"abc", LIMITS), Ok(b"abc".to_vec()));
        let many = gzip(b"x").repeat(5000);
        let mut share = Room::new(1 << 20).share();
        assert_eq!(unpack(Packing::Gzip, many, LIMITS, &mut share).map(|bytes| bytes.len()).ok(), Some(5000));
    }

    #[test]
    fn a_bomb_stops_at_the_bound_and_a_torn_one_is_refused() {
        let bomb = vec![0; 9 << 20];
        for (packing, body) in [(Packing::Gzip, gzip(&bomb)), (Packing::Zstd, zstd::encode_all(&bomb[..], 1).unwrap())]
        {
            assert_eq!(unpacked(packing, &body, LIMITS), Err(413));
            assert_eq!(unpacked(packing, &body, BodyLimits { bytes: 16 << 20, ratio: 2 }), Err(413));
            assert_eq!(
                unpacked(packing, &body[..body.len() - 5], BodyLimits { bytes: 16 << 20, ratio: 1 << 20 }),
                Err(400)
            );
            assert_eq!(unpacked(packing, b"plain", LIMITS), Err(400));
        }
    }

    #[test]
    fn all_shares_together_are_bounded_and_come_back() {
        let room = Room::new(4 * UNIT);
        let (mut one, mut two) = (room.share(), room.share());
        one.grow(3 * UNIT).unwrap();
        two.grow(UNIT).unwrap();
        assert_eq!(two.grow(1).unwrap_err().status, 503);
        drop(one);
        assert!(room.share().grow(3 * UNIT).is_ok());
    }
}
