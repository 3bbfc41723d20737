//! Writes pieces of bytes in calls of a good size.

use std::io::{IoSlice, Write};

/// Maximum bytes of one write call to a part or a locked file. The page cache allocates pages of the size of the call,
/// and large pages are expensive to allocate. System CPU seconds per million records of evt-validate: 0.63 with calls
/// of 128 KiB and 0.72 with 1 MiB; in another measurement 0.41 with 64 KiB and 0.46 with 128 KiB; 0.79 with 8 KiB.
pub const CALL_BYTES: usize = 64 << 10;

/// Writes all pieces, in calls of at most `call_bytes` bytes.
pub fn write_all(out: &mut impl Write, pieces: &[&[u8]], call_bytes: usize) -> std::io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        pieces.iter().flat_map(|piece| piece.chunks(call_bytes)).map(IoSlice::new).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let mut bytes = 0usize;
        let fits = |slice: &&IoSlice<'_>| {
            bytes = bytes.saturating_add(slice.len());
            bytes <= call_bytes
        };
        let count = rest.iter().take_while(fits).count();
        match out.write_vectored(&rest[..count]) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
