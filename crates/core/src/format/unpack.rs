//! Decompresses gzip and zstd, detected by their first bytes; several members or frames in a row are one input.
//!
//! Input that ends early is torn; input that continues with other bytes is corrupt, because an end is never assumed.
//! The end of a growing file is none: reading continues there, also within a member or frame ([`Unpacked::growing`]).
//! Zeros after the last gzip member are padding, as tapes and block devices leave it. A decompression bomb is stopped
//! once more than 100 MiB came out and the ratio exceeds the bound.

use crate::decompression::check;
use crate::error::{Error, Result};
use flate2::bufread::GzDecoder;
use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

/// Suffixes of compressed files.
pub const SUFFIXES: [&str; 2] = [".gz", ".zst"];

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The bytes of `R`, decompressed if they are compressed.
pub struct Unpacked<R: Read> {
    state: State<R>,
    ratio_max: u64,
    out: u64,
    /// Whether more bytes may follow the present end.
    grows: bool,
}

enum State<R: Read> {
    /// The format is not known yet. The bytes read so far are kept, because a reader may have fewer now than the
    /// detection needs.
    Unread(R, Vec<u8>),
    Plain(Source<R>),
    Gzip(Box<Members<BufReader<Source<R>>>>),
    Zstd(Box<Frames<BufReader<Source<R>>>>),
    Ended,
}

/// The members of gzip, one after another.
struct Members<B> {
    /// `None` only while the next member starts.
    member: Option<GzDecoder<B>>,
    padded: bool,
    /// Whether the present member has not ended.
    is_within: bool,
}

impl<B: BufRead> Members<B> {
    fn new(packed: B) -> Self {
        Self { member: Some(GzDecoder::new(packed)), padded: false, is_within: true }
    }

    /// Starts the next member; false at the end of input.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            let Some(member) = &mut self.member else { return Ok(false) };
            let rest = member.get_mut().fill_buf()?;
            match rest.iter().position(|byte| *byte != 0) {
                _ if rest.is_empty() => return Ok(false),
                Some(0) if self.padded => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "expected zero padding, found other bytes"));
                }
                Some(0) if rest[0] != GZIP[0] => {
                    let why = "expected the end, zero padding or another member, found other bytes";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                Some(0) => {
                    self.member = self.member.take().map(|member| GzDecoder::new(member.into_inner()));
                    return Ok(true);
                }
                zeros => {
                    let zeros = zeros.unwrap_or(rest.len());
                    member.get_mut().consume(zeros);
                    self.padded = true;
                }
            }
        }
    }
}

impl<B: BufRead> Read for Members<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let count = if self.is_within { member.read(buffer)? } else { 0 };
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.is_within = false;
            if !self.advance()? {
                return Ok(0);
            }
            self.is_within = true;
        }
    }
}

/// The frames of zstd, one after another.
struct Frames<B: BufRead> {
    place: FramePlace<B>,
    /// Whether a decoder ends with its frame, so that a place between frames is known. Otherwise one decoder reads all
    /// frames, which is faster if they are short.
    one_by_one: bool,
}

enum FramePlace<B: BufRead> {
    Within(zstd::Decoder<'static, B>),
    /// Between frames, or at the end.
    Between(B),
    /// Only while the next frame starts.
    Moving,
}

impl<B: BufRead> Frames<B> {
    fn packed(&mut self) -> Option<&mut B> {
        match &mut self.place {
            FramePlace::Within(decoder) => Some(decoder.get_mut()),
            FramePlace::Between(packed) => Some(packed),
            FramePlace::Moving => None,
        }
    }
}

impl<B: BufRead> Read for Frames<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.place {
                FramePlace::Within(decoder) => {
                    let count = decoder.read(buffer)?;
                    if count > 0 || buffer.is_empty() {
                        return Ok(count);
                    }
                    if let FramePlace::Within(decoder) = std::mem::replace(&mut self.place, FramePlace::Moving) {
                        self.place = FramePlace::Between(decoder.finish());
                    }
                }
                FramePlace::Between(packed) => {
                    if packed.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    if let FramePlace::Between(packed) = std::mem::replace(&mut self.place, FramePlace::Moving) {
                        let decoder = zstd::Decoder::with_buffer(packed)?;
                        self.place = FramePlace::Within(if self.one_by_one { decoder.single_frame() } else { decoder });
                    }
                }
                FramePlace::Moving => return Ok(0),
            }
        }
    }
}

/// The compressed bytes: those read for detection, then the rest. Counts them, and keeps an error of the reader, as
/// opposed to one of the decoder.
struct Source<R> {
    first: Vec<u8>,
    inner: R,
    read: u64,
    error: Option<io::Error>,
    grows: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.first.is_empty() {
            let n = self.first.len().min(buffer.len());
            buffer[..n].copy_from_slice(&self.first[..n]);
            self.first.drain(..n);
            self.read += n as u64;
            return Ok(n);
        }
        match read(&mut self.inner, buffer) {
            // A decoder takes 0 for the end, and continues after this error.
            Ok(0) if self.grows => Err(io::ErrorKind::WouldBlock.into()),
            Ok(n) => {
                self.read += n as u64;
                // A decoder may have retried after the error.
                self.error = None;
                Ok(n)
            }
            Err(error) => {
                let seen = io::Error::from(error.kind());
                self.error = Some(error);
                Err(seen)
            }
        }
    }
}

/// Reads, and retries if a signal interrupts.
fn read(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl<R: Read> Unpacked<R> {
    /// Creates a reader of `inner`; `ratio_max` bounds the decompressed bytes per compressed byte.
    pub fn new(inner: R, ratio_max: u64) -> Self {
        Self { state: State::Unread(inner, vec![]), ratio_max, out: 0, grows: false }
    }

    /// Reads a file that may grow behind its present end: a read there returns 0, and the next one continues.
    pub fn growing(self) -> Self {
        Self { grows: true, ..self }
    }

    /// Whether the bytes so far end within a member or frame; false for bytes that are not compressed.
    pub fn is_torn(&self) -> bool {
        match &self.state {
            State::Unread(_, first) => !first.is_empty(),
            State::Gzip(members) => members.is_within,
            State::Zstd(frames) => matches!(frames.place, FramePlace::Within(_)),
            State::Plain(_) | State::Ended => false,
        }
    }

    /// Reads into `buffer`; 0 is the end. Fails with the reader's own error, or as corrupt if the compressed data is.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if matches!(self.state, State::Unread(..)) {
            self.detect()?;
        }
        let (done, source, name) = match &mut self.state {
            State::Plain(source) => (source.read(buffer), source, ""),
            State::Gzip(members) => {
                let done = members.read(buffer);
                let Some(member) = &mut members.member else { return Ok(0) };
                (done, member.get_mut().get_mut(), "gzip")
            }
            State::Zstd(frames) => {
                let done = frames.read(buffer);
                let Some(packed) = frames.packed() else { return Ok(0) };
                (done, packed.get_mut(), "zstd")
            }
            State::Unread(..) | State::Ended => return Ok(0),
        };
        let is_at_end = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        if self.grows && source.error.is_none() && done.as_ref().is_err_and(is_at_end) {
            return Ok(0);
        }
        let n = done.map_err(|error| match source.error.take() {
            Some(error) => Error::io("cannot read", &error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Error::corrupt(format!("truncated {name} data")),
            None => Error::corrupt(format!("corrupt {name} data")).because(error),
        })?;
        self.out += n as u64;
        if !name.is_empty() {
            check(name, source.read, self.out, self.ratio_max)?;
        }
        Ok(n)
    }

    /// Reads as many bytes as the detection needs.
    fn detect(&mut self) -> Result<()> {
        let State::Unread(inner, first) = &mut self.state else { return Ok(()) };
        while [GZIP, ZSTD].iter().any(|magic| magic.len() > first.len() && magic.starts_with(first)) {
            let mut byte = [0];
            match read(inner, &mut byte).map_err(|error| Error::io("cannot read", &error))? {
                0 if self.grows => return Ok(()),
                0 => break,
                _ => first.push(byte[0]),
            }
        }
        let State::Unread(inner, first) = std::mem::replace(&mut self.state, State::Ended) else { return Ok(()) };
        let (gzip, zstd) = (first == GZIP, first == ZSTD);
        let grows = self.grows;
        let source = Source { first, inner, read: 0, error: None, grows };
        self.state = if gzip {
            State::Gzip(Box::new(Members::new(BufReader::with_capacity(128 << 10, source))))
        } else if zstd {
            let place = FramePlace::Between(BufReader::with_capacity(128 << 10, source));
            State::Zstd(Box::new(Frames { place, one_by_one: grows }))
        } else {
            State::Plain(source)
        };
        Ok(())
    }

    /// Returns the number of bytes that were read of it so far.
    pub fn bytes(&self) -> u64 {
        self.out
    }

    /// Whether the input is compressed; known after the first read.
    pub fn is_packed(&self) -> bool {
        matches!(self.state, State::Gzip(_) | State::Zstd(_))
    }
}

/// Reads a file from a place on, without use of the position of its handle.
pub struct FileFrom<F> {
    file: F,
    at: u64,
}

impl<F: Borrow<File>> FileFrom<F> {
    /// Begins at a byte.
    pub fn new(file: F, at: u64) -> Self {
        Self { file, at }
    }
}

impl<F: Borrow<File>> Read for FileFrom<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.borrow().read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompression::{ANY_RATIO_BYTES, RATIO_MAX};
    use crate::test_gzip::gzip;

    fn unpack(packed: &[u8], ratio_max: u64) -> Result<Vec<u8>> {
        let mut unpacked = Unpacked::new(packed, ratio_max);
        let (mut out, mut buffer) = (vec![], vec![0; 1 << 16]);
        loop {
            match unpacked.read(&mut buffer)? {
                0 => return Ok(out),
                n => out.extend_from_slice(&buffer[..n]),
            }
        }
    }

    #[test]
    fn several_members_and_frames_are_one_input_and_plain_bytes_pass() {
        let two = [gzip(b"one\n"), gzip(b"two\n")].concat();
        assert_eq!(unpack(&two, RATIO_MAX).unwrap(), b"one\ntwo\n");
        let two = [zstd::encode_all(&b"one\n"[..], 1).unwrap(), zstd::encode_all(&b"two\n"[..], 1).unwrap()].concat();
        assert_eq!(unpack(&two, RATIO_MAX).unwrap(), b"one\ntwo\n");
        for plain in [&b""[..], b"\x1f", b"\x1f\x8a", b"(\xb5/", b"{}\n"] {
            assert_eq!(unpack(plain, RATIO_MAX).unwrap(), plain);
        }
    }

    #[test]
    fn input_cut_at_any_byte_is_corrupt() {
        let text = b"some text that repeats, some text that repeats".repeat(3);
        for packed in [gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            let magic = if packed.starts_with(GZIP) { 2 } else { 4 };
            for end in magic..packed.len() {
                let error = unpack(&packed[..end], RATIO_MAX).unwrap_err();
                assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{end}: {error}");
                assert!(error.to_string().contains("truncated "), "{end}: {error}");
            }
        }
    }

    #[test]
    fn what_follows_the_end_is_corrupt() {
        for packed in [gzip(b"text"), zstd::encode_all(&b"text"[..], 1).unwrap()] {
            let error = unpack(&[&packed[..], b"garbage that is no member"].concat(), RATIO_MAX).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{error}");
        }
    }

    #[test]
    fn zeros_behind_gzip_are_padding_and_nothing_may_follow_them() {
        for zeros in [1, 511, 300_000] {
            let padded = [gzip(b"one\n"), gzip(b"two\n"), vec![0; zeros]].concat();
            assert_eq!(unpack(&padded, RATIO_MAX).unwrap(), b"one\ntwo\n");
            for behind in [gzip(b"three\n"), b"x".to_vec()] {
                unpack(&[&padded[..], &behind].concat(), RATIO_MAX).unwrap_err();
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_and_the_message_names_the_way_out() {
        let bomb = zstd::encode_all(io::repeat(0).take(ANY_RATIO_BYTES + (1 << 20)), 1).unwrap();
        let error = unpack(&bomb, RATIO_MAX).unwrap_err();
        assert!(error.to_string().contains("--max-decompression-ratio"), "{error}");
        assert_eq!(unpack(&bomb, u64::MAX).unwrap().len() as u64, ANY_RATIO_BYTES + (1 << 20));
    }

    #[test]
    fn a_reader_that_has_nothing_for_now_loses_nothing() {
        struct Hesitant<'a>(&'a [u8], bool);
        impl Read for Hesitant<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(&mut buffer[..1]) }
            }
        }
        let mut unpacked = Unpacked::new(Hesitant(b"\x1f\x8a{}", false), RATIO_MAX);
        let (mut out, mut buffer) = (vec![], [0; 8]);
        while out.len() < 4 {
            if let Ok(count) = unpacked.read(&mut buffer) {
                assert_ne!(count, 0, "no end before the end");
                out.extend_from_slice(&buffer[..count]);
            }
        }
        assert_eq!(out, b"\x1f\x8a{}");
    }

    #[test]
    fn an_error_of_the_reader_is_not_one_of_the_packing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk on fire"))
            }
        }
        let packed = gzip(b"text");
        let mut unpacked = Unpacked::new(packed[..8].chain(Broken), RATIO_MAX);
        let error = unpacked.read(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Io);
        assert!(error.to_string().contains("disk on fire"), "{error}");
    }
}
