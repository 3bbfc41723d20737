//! A buffer that is read into and then lent, as it is, to the rows made of what it holds.
//!
//! What rows keep of a record is then a range and no copy: of evt-validate's work on records of 517 bytes that are passed
//! on as they came a fifth was copying them. A buffer that rows hold is read into again when the last of them is gone.

use arrow::buffer::Buffer;
use std::collections::VecDeque;

/// Buffers that come back are kept up to this many: about what two batches of rows hold.
const KEPT: usize = 12;

/// The buffer that is read into, and those that rows hold.
pub struct BufferPool {
    /// What is read into; empty while it is lent.
    pub buffer: Vec<u8>,
    length: usize,
    lent: VecDeque<Buffer>,
}

impl BufferPool {
    /// Buffers of `length` bytes.
    pub fn new(length: usize) -> Self {
        Self { buffer: vec![0; length], length, lent: VecDeque::new() }
    }

    /// Gives the buffer out; nothing is read until it is back.
    pub fn lend(&mut self) -> Buffer {
        Buffer::from_vec(std::mem::take(&mut self.buffer))
    }

    /// Takes back what was lent. Where rows hold it, another buffer takes its place, with what stands at `rest` moved
    /// there; where that starts in the buffer that is read into now.
    pub fn take_back(&mut self, lent: Buffer, rest: std::ops::Range<usize>) -> usize {
        match lent.into_vec::<u8>() {
            Ok(buffer) => {
                self.buffer = buffer;
                rest.start
            }
            Err(held) => {
                let mut next = self.another();
                let rest = &held[rest];
                next.resize(self.length.max(rest.len()), 0);
                next[..rest.len()].copy_from_slice(rest);
                self.buffer = next;
                self.lent.push_back(held);
                self.lent.truncate(KEPT);
                0
            }
        }
    }

    /// The buffer lent first, if it is free again, else a new one.
    fn another(&mut self) -> Vec<u8> {
        match self.lent.pop_front().map(Buffer::into_vec) {
            Some(Ok(buffer)) => buffer,
            Some(Err(held)) => {
                self.lent.push_front(held);
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
        let lent = pool.lend();
        assert_eq!(pool.take_back(lent, 3..8), 3);
        assert_eq!((pool.buffer.as_ptr(), &pool.buffer[..]), (place, &b"abcdefgh"[..]));
    }

    #[test]
    fn what_is_held_stays_and_its_rest_moves_on() {
        let mut pool = BufferPool::new(8);
        let mut held = vec![];
        for round in 0..3 * KEPT as u8 {
            pool.buffer.fill(round);
            let lent = pool.lend();
            held.push((round, lent.slice(1)));
            assert_eq!(pool.take_back(lent, 6..8), 0);
            assert_eq!((pool.buffer.len(), &pool.buffer[..2]), (8, &[round; 2][..]));
        }
        assert!(held.iter().all(|(round, bytes)| bytes.iter().all(|byte| byte == round)));
        assert_eq!(pool.lent.len(), KEPT);
        let first = pool.lent[0].as_ptr();
        held.clear();
        let lent = pool.lend();
        let _held = lent.clone();
        pool.take_back(lent, 0..0);
        assert_eq!(pool.buffer.as_ptr(), first, "one that is free again is used again");
    }
}
