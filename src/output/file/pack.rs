//! Compression of files whose names end in `.gz` or `.zst`.

use flate2::write::GzEncoder;
use std::io::{Result, Write};
use std::path::Path;

/// The level of gzip: that of gzip(1).
const GZIP_LEVEL: u32 = 6;
/// The level of zstd: that of zstd(1).
const ZSTD_LEVEL: i32 = 3;

/// Compresses the bytes of one file.
pub enum Packer {
    /// gzip.
    Gzip(GzEncoder<Vec<u8>>),
    /// Zstandard.
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

/// Whether the name of a file says that its bytes are compressed.
pub fn is_packed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gz") || extension.eq_ignore_ascii_case("zst"))
}

impl Packer {
    /// Makes the packer of a file by its name; `None` if its bytes are not compressed.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        if !is_packed(path) {
            return Ok(None);
        }
        let is_gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        Ok(Some(match is_gzip {
            true => Self::Gzip(GzEncoder::new(vec![], flate2::Compression::new(GZIP_LEVEL))),
            false => {
                let mut encoder = zstd::Encoder::new(vec![], ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        }))
    }

    /// Compresses the pieces; returns the bytes that are ready.
    pub fn pack(&mut self, pieces: &[&[u8]]) -> Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => {
                pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Zstd(encoder) => {
                pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    /// Returns the last bytes.
    pub fn finish(self) -> Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}
