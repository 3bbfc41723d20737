//! Gzip and zstd: the same bytes however they come, and never more than the bound lets out.

use super::cuts::{Cuts, chosen};
use evt_core::format::unpack::Unpacked;
use std::io::Read;

const RATIO_MAX: u64 = 10;
/// Bytes that an input of any size may decompress to.
const HARMLESS: u64 = 100 << 20;

/// Gives a reader's bytes in chunks.
struct Chunks<'a>(&'a [u8], Option<Cuts>);

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(self.0.len());
        let count = if most == 0 { 0 } else { self.1.as_mut().map_or(most, |cuts| cuts.next(most)) };
        self.0.read(&mut buffer[..count])
    }
}

/// The first byte decides how the rest is cut.
pub fn run(input: &[u8]) {
    let Some((seed, input)) = chosen(input) else { return };
    let whole = unpack(Chunks(input, None), 1 << 16, input.len());
    assert_eq!(unpack(Chunks(input, Some(Cuts::new(seed))), 1 + usize::from(seed) * 64, input.len()), whole);
    if !input.starts_with(&[0x1f, 0x8b]) && !input.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        assert_eq!(whole.1, Ok(true), "what is not packed passes");
    }
}

/// A digest of what came out, and how it ended: whether it is the input itself, or the error.
fn unpack(chunks: Chunks<'_>, size: usize, packed: usize) -> (u64, Result<bool, String>) {
    let input = chunks.0;
    let mut unpacked = Unpacked::new(chunks, RATIO_MAX);
    let (mut buffer, mut out, mut digest, mut same) = (vec![0; size], 0u64, 0u64, true);
    loop {
        match unpacked.read(&mut buffer) {
            Ok(0) => return (digest, Ok(same && out == input.len() as u64)),
            Ok(count) => {
                let start = usize::try_from(out).expect("a bounded number");
                same &= input.get(start..start + count) == Some(&buffer[..count]);
                for byte in &buffer[..count] {
                    digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                }
                out += count as u64;
                let most = HARMLESS.max(packed as u64 * (RATIO_MAX + 1)) + size as u64;
                assert!(out <= most, "{out} bytes of {packed}");
            }
            // How far the decoder is when it finds the fault depends on the chunks; what is wrong does not.
            Err(error) => return (0, Err(error.to_string().split(':').next().unwrap_or_default().to_owned())),
        }
    }
}
