//! Decompression of batches: gzip, snappy, lz4 and zstd as Kafka's producers write them, up to [`MAX`] bytes.

use evt_core::error::{Error, Result};
use evt_core::parse::bytes::Cursor;
use std::io::{self, Read};

/// Maximum size of a decompressed batch in bytes: as long as librdkafka's longest answer.
pub const MAX: usize = 100_000_000;

/// The number of the last known compression.
pub const LAST: i16 = 4;

/// The header that Java's snappy library writes before its blocks: a magic and two versions.
const SNAPPY_MARK: &[u8] = b"\x82SNAPPY\0";
const SNAPPY_HEAD: usize = SNAPPY_MARK.len() + 8;

/// Decompresses a batch into `unpacked`, which is emptied first. Errors: exit status 65 if the batch is corrupt or
/// longer than [`MAX`] bytes, or if its compression is unknown.
pub fn unpack(compression: i16, packed: &[u8], unpacked: &mut Vec<u8>) -> Result<()> {
    unpacked.clear();
    let done = match compression {
        1 => read(flate2::read::MultiGzDecoder::new(packed), unpacked),
        2 => snappy(packed, unpacked),
        3 => read(lz4_flex::frame::FrameDecoder::new(packed), unpacked),
        LAST => zstd::stream::read::Decoder::new(packed).and_then(|decoder| read(decoder, unpacked)),
        _ => Err(io::Error::other("unknown compression")),
    };
    done.map_err(|error| Error::corrupt("a batch of records cannot be decompressed").because(error))
}

fn read(decoder: impl Read, unpacked: &mut Vec<u8>) -> io::Result<()> {
    let count = decoder.take(MAX as u64 + 1).read_to_end(unpacked)?;
    if count > MAX { Err(too_long()) } else { Ok(()) }
}

#[cold]
fn too_long() -> io::Error {
    io::Error::other(format!("more than {MAX} bytes"))
}

/// Decompresses one block, or a sequence of blocks of Java's library, each with its length before it.
fn snappy(packed: &[u8], unpacked: &mut Vec<u8>) -> io::Result<()> {
    if !packed.starts_with(SNAPPY_MARK) {
        return block(packed, unpacked);
    }
    let mut cursor = Cursor::new(packed.get(SNAPPY_HEAD..).ok_or(io::ErrorKind::UnexpectedEof)?);
    while let Some(length) = cursor.be::<u32>() {
        let packed = usize::try_from(length).ok().and_then(|length| cursor.take(length));
        block(packed.ok_or(io::ErrorKind::UnexpectedEof)?, unpacked)?;
    }
    if cursor.rest().is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn block(packed: &[u8], unpacked: &mut Vec<u8>) -> io::Result<()> {
    let (start, length) = (unpacked.len(), snap::raw::decompress_len(packed)?);
    if length > MAX - start {
        return Err(too_long());
    }
    unpacked.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(packed, &mut unpacked[start..])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_gzip::gzip;
    use std::io::Write;

    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(vec![]);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn snappy_of_java(blocks: &[&[u8]]) -> Vec<u8> {
        let mut bytes = SNAPPY_MARK.to_vec();
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        for block in blocks {
            let packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
            bytes.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
            bytes.extend(packed);
        }
        bytes
    }

    #[test]
    fn every_compression_comes_back_and_is_refused_when_it_is_cut() {
        let text = b"some text, some text, some text".repeat(50);
        let all = [
            (1, gzip(&text)),
            (2, snap::raw::Encoder::new().compress_vec(&text).unwrap()),
            (2, snappy_of_java(&[&text[..400], &text[400..]])),
            (3, lz4(&text)),
            (4, zstd::encode_all(text.as_slice(), 1).unwrap()),
        ];
        let mut unpacked = vec![1, 2, 3];
        for (compression, packed) in all {
            unpack(compression, &packed, &mut unpacked).unwrap();
            assert!(unpacked == text, "{compression}");
            let cut = unpack(compression, &packed[..packed.len() - 9], &mut unpacked);
            assert!(cut.is_err(), "{compression}: {} bytes", unpacked.len());
        }
        assert!(unpack(5, &text, &mut unpacked).is_err());
    }

    #[test]
    fn a_batch_that_grows_without_end_is_refused_before_it_has() {
        let zeros = vec![0; MAX + 1];
        let mut unpacked = vec![];
        for (compression, packed) in
            [(1, gzip(&zeros)), (3, lz4(&zeros)), (4, zstd::encode_all(zeros.as_slice(), 1).unwrap())]
        {
            let error = unpack(compression, &packed, &mut unpacked).unwrap_err();
            assert!(error.to_string().contains("more than"), "{error}");
        }
        let half = vec![0; MAX / 2 + 1];
        let error = unpack(2, &snappy_of_java(&[&half, &half]), &mut unpacked).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
        assert!(unpack(2, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], &mut unpacked).is_err());
    }
}
