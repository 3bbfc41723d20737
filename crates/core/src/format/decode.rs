//! Text in other encodings than UTF-8, converted while it is read.

use encoding_rs::{Decoder, DecoderResult, Encoding};

/// A byte that UTF-8 never has. It stands for bytes that are not text in the encoding, so that their record is a dead
/// letter.
const INVALID: u8 = 0xff;
/// Room for the longest output of one step of the decoder, and [`INVALID`].
const STEP: usize = 16;

/// Converts bytes of one encoding to UTF-8, chunk by chunk. A byte order mark is left out.
pub struct TextDecoder {
    /// `None` after the end of the input has been converted.
    decoder: Option<Decoder>,
    /// Bytes that were read and not converted yet: `start..`.
    bytes: Vec<u8>,
    start: usize,
    /// Whether no more bytes follow.
    is_last: bool,
    /// Converted bytes that did not fit into the buffer of the caller: `read..`.
    text: Vec<u8>,
    read: usize,
}

impl TextDecoder {
    /// Makes a decoder.
    pub fn new(encoding: &'static Encoding) -> Self {
        let decoder = Some(encoding.new_decoder());
        Self { decoder, bytes: vec![], start: 0, is_last: false, text: vec![], read: 0 }
    }

    /// Takes the next bytes; none mean that the input has ended.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.start));
        self.bytes.extend(bytes);
        self.is_last = bytes.is_empty();
    }

    /// Whether all that was pushed has been returned.
    pub fn is_drained(&self) -> bool {
        self.read == self.text.len() && self.start == self.bytes.len()
    }

    /// Whether the end of the input was pushed.
    pub fn has_ended(&self) -> bool {
        self.is_last
    }

    /// Writes converted text to `out`; returns the number of bytes, 0 if more must be pushed first.
    pub fn pull(&mut self, out: &mut [u8]) -> usize {
        if self.read == self.text.len() {
            self.convert();
        }
        let count = out.len().min(self.text.len() - self.read);
        out[..count].copy_from_slice(&self.text[self.read..self.read + count]);
        self.read += count;
        count
    }

    /// Converts all bytes that were pushed.
    fn convert(&mut self) {
        (self.read, self.text) = (0, std::mem::take(&mut self.text));
        self.text.clear();
        let Some(mut decoder) = self.decoder.take() else { return };
        if self.bytes.len() == self.start && !self.is_last {
            self.decoder = Some(decoder);
            return;
        }
        let mut written = 0;
        loop {
            self.text.resize(self.text.len().max(written) + self.bytes.len() - self.start + STEP, 0);
            let end = self.text.len() - 1;
            let bytes = &self.bytes[self.start..];
            let (result, read, count) =
                decoder.decode_to_utf8_without_replacement(bytes, &mut self.text[written..end], self.is_last);
            self.start += read;
            written += count;
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    self.text[written] = INVALID;
                    written += 1;
                }
            }
        }
        self.text.truncate(written);
        if !self.is_last {
            self.decoder = Some(decoder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Converts bytes that come in chunks of one size, into a buffer of another.
    fn decoded(encoding: &'static Encoding, bytes: &[u8], chunk: usize, buffer: usize) -> Vec<u8> {
        let mut decoder = TextDecoder::new(encoding);
        let (mut out, mut part) = (vec![], vec![0; buffer]);
        for bytes in bytes.chunks(chunk).chain([&[][..]]) {
            decoder.push(bytes);
            loop {
                let count = decoder.pull(&mut part);
                out.extend(&part[..count]);
                if count == 0 {
                    break;
                }
            }
        }
        out
    }

    #[test]
    fn text_is_the_same_however_it_is_cut() {
        let text = "Zürich – „ö“ 😀\n".repeat(30);
        let utf_16: Vec<u8> = "\u{feff}"
            .chars()
            .chain(text.chars())
            .flat_map(|c| c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>())
            .collect();
        for (chunk, buffer) in [(1, 1), (1, 50), (3, 7), (1000, 3), (100_000, 100_000)] {
            assert_eq!(decoded(encoding_rs::UTF_16LE, &utf_16, chunk, buffer), text.as_bytes(), "{chunk} {buffer}");
            let west = decoded(encoding_rs::WINDOWS_1252, b"Z\xfcrich \x80\n", chunk, buffer);
            assert_eq!(west, "Zürich €\n".as_bytes());
        }
    }

    #[test]
    fn bytes_that_are_no_text_become_a_byte_that_is_not_utf_8() {
        let lone = [b'a', 0, 0x00, 0xd8, b'b', 0, b'\n', 0];
        for chunk in [1, 2, 8] {
            assert_eq!(decoded(encoding_rs::UTF_16LE, &lone, chunk, 9), b"a\xffb\n");
        }
        assert_eq!(decoded(encoding_rs::UTF_16LE, b"a\0b", 2, 9), b"a\xff");
    }
}
