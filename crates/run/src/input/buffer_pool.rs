//! Read buffers that are shared with the rows made of their bytes.
//!
//! ```text
//! buffer ─ share ─► rows ─ reclaim ─┬─ no row holds it ─► buffer, as it was
//!                                    └─ rows hold it ────► shared; reused once the last of them is dropped
//! ```
//!
//! A row refers to a range of a shared buffer instead of copying its record. Copying took a fifth of the CPU time of
//! evt-validate with records of 517 bytes that it passes on unchanged.

use arrow::buffer::Buffer;
use std::collections::VecDeque;

/// Maximum bytes of shared buffers that are kept for reuse: as many as two batches of rows hold, and as the records
/// that several threads map. A new one costs its memory to be cleared.
const KEPT_BYTES: usize = 16 << 20;

/// The current read buffer, and those that rows hold.
pub struct BufferPool {
    /// The current read buffer; empty while it is shared.
    pub buffer: Vec<u8>,
    /// Buffers that rows held when they came back, the oldest first.
    shared: VecDeque<Buffer>,
    /// Their bytes.
    kept: usize,
}

impl BufferPool {
    /// Makes a pool of buffers of `length` bytes.
    pub fn new(length: usize) -> Self {
        Self { buffer: vec![0; length], shared: VecDeque::new(), kept: 0 }
    }

    /// Shares the read buffer. Nothing can be read before [`BufferPool::reclaim`].
    pub fn share(&mut self) -> Buffer {
        Buffer::from_vec(std::mem::take(&mut self.buffer))
    }

    /// Takes back a shared buffer, whose unread bytes are at `rest`. If rows hold the buffer, another one of its length
    /// replaces it, so that the lengths of reads do not depend on it, and the unread bytes are copied there. Returns
    /// where the unread bytes start in the current buffer.
    pub fn reclaim(&mut self, shared: Buffer, rest: std::ops::Range<usize>) -> usize {
        match shared.into_vec::<u8>() {
            Ok(buffer) => {
                self.buffer = buffer;
                rest.start
            }
            Err(held) => {
                let mut next = self.another();
                let rest = &held[rest];
                next.resize(held.len(), 0);
                next[..rest.len()].copy_from_slice(rest);
                self.buffer = next;
                self.kept += held.len();
                self.shared.push_back(held);
                while self.kept > KEPT_BYTES {
                    self.kept -= self.shared.pop_back().map_or(self.kept, |dropped| dropped.len());
                }
                0
            }
        }
    }

    /// Returns the oldest shared buffer if no row holds it any more, else a new, empty one.
    fn another(&mut self) -> Vec<u8> {
        match self.shared.pop_front().map(Buffer::into_vec) {
            Some(Ok(buffer)) => {
                self.kept -= buffer.len();
                buffer
            }
            Some(Err(held)) => {
                self.shared.push_front(held);
                vec![]
            }
            None => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_comes_back_as_it_was() {
        let mut pool = BufferPool::new(8);
        pool.buffer.copy_from_slice(b"abcdefgh");
        let place = pool.buffer.as_ptr();
        let shared = pool.share();
        assert_eq!(pool.reclaim(shared, 3..8), 3);
        assert_eq!((pool.buffer.as_ptr(), &pool.buffer[..]), (place, &b"abcdefgh"[..]));
    }

    #[test]
    fn what_is_held_stays_and_its_rest_moves_on() {
        let length = KEPT_BYTES / 12;
        let mut pool = BufferPool::new(length);
        let mut held = vec![];
        for round in 0..36 {
            pool.buffer.fill(round);
            let shared = pool.share();
            held.push((round, shared.slice(1)));
            assert_eq!(pool.reclaim(shared, length - 2..length), 0);
            assert_eq!((pool.buffer.len(), &pool.buffer[..2]), (length, &[round; 2][..]));
        }
        assert!(held.iter().all(|(round, bytes)| bytes.iter().all(|byte| byte == round)));
        assert_eq!(pool.shared.len(), 12);
        let first = pool.shared[0].as_ptr();
        held.clear();
        let shared = pool.share();
        let _held = shared.clone();
        pool.reclaim(shared, 0..0);
        assert_eq!(pool.buffer.as_ptr(), first, "one that is free again is used again");
    }
}
