//! The sizes of the chunks of a body, read before hyper has their bytes.
//!
//! Hyper shows a chunk only once its first byte has arrived, so a client could announce more than the limit of bodies,
//! send nothing, and be waited for. The watch reads the bytes of a connection beside hyper. It decides nothing but
//! that such a body is too large: it stops wherever it does not understand the bytes, and hyper then decides alone.

use memchr::memchr;

/// The watch over the chunk sizes of one request.
#[derive(Debug)]
pub struct ChunkWatch {
    /// Maximum bytes of a body.
    limit: u64,
    state: State,
    /// Bytes of all chunks so far, whether they have arrived or not.
    announced: u64,
    is_exceeded: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first line of a head: empty lines may precede it.
    Before,
    /// The first line. Anything else is the rest of a head that was read together with the request before it, or of the
    /// body of a request that was answered early; it is not watched.
    Method,
    Target,
    /// This many of its bytes were read.
    Version(usize),
    /// The other lines of the head. An empty line ends it.
    Head {
        is_line_empty: bool,
    },
    /// The digits of a size; the number so far.
    Size(u64),
    /// The rest of the line after the digits of this size.
    Extension(u64),
    /// A chunk and its line end, of which this many bytes are left.
    Chunk(u64),
    /// Anything else, up to the next head.
    Unwatched,
}

/// The version of a request, without its last digit.
const VERSION: &[u8] = b"HTTP/1.";

impl State {
    /// Whether the end of a head has not been found.
    fn is_head(self) -> bool {
        matches!(self, Self::Before | Self::Method | Self::Target | Self::Version(_) | Self::Head { .. })
    }

    /// Returns what follows a byte of the first line of a head.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Before, b'\r' | b'\n') => Self::Before,
            (Self::Before | Self::Method, _) if byte.is_ascii_alphabetic() => Self::Method,
            (Self::Method, b' ') => Self::Target,
            (Self::Target, b' ') => Self::Version(0),
            (Self::Target, _) if byte.is_ascii_graphic() => Self::Target,
            (Self::Version(read), _) if VERSION.get(read) == Some(&byte) => Self::Version(read + 1),
            (Self::Version(read), b'0' | b'1') if read == VERSION.len() => Self::Version(read + 1),
            (Self::Version(read), b'\r') if read > VERSION.len() => self,
            (Self::Version(read), b'\n') if read > VERSION.len() => Self::Head { is_line_empty: true },
            _ => Self::Unwatched,
        }
    }
}

impl ChunkWatch {
    /// Watches for bodies of more than `limit` bytes, from the first byte of a head on.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit as u64, state: State::Before, announced: 0, is_exceeded: false }
    }

    /// Whether the chunks of the present request exceed the limit together.
    pub fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }

    /// Starts with a head, whose first byte is the next one.
    pub fn restart(&mut self) {
        *self = Self { state: State::Before, announced: 0, is_exceeded: false, ..*self };
    }

    /// Stops the watch, now that hyper has read the head, if the body has no chunks or if this watch has not found the
    /// end of the head.
    pub fn begin(&mut self, is_chunked: bool) {
        if !is_chunked || self.state.is_head() {
            (self.state, self.is_exceeded) = (State::Unwatched, false);
        }
    }

    /// Reads the next bytes of the connection.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while let Some(&byte) = bytes.first() {
            let used = match self.state {
                State::Unwatched => return,
                State::Before | State::Method | State::Target | State::Version(_) => {
                    self.state = self.state.after(byte);
                    1
                }
                State::Head { is_line_empty } => {
                    let end = memchr(b'\n', bytes);
                    let line = &bytes[..end.unwrap_or(bytes.len())];
                    let is_line_empty = is_line_empty && line.iter().all(|byte| *byte == b'\r');
                    self.state = match end {
                        None => State::Head { is_line_empty },
                        Some(_) if is_line_empty => State::Size(0),
                        Some(_) => State::Head { is_line_empty: true },
                    };
                    end.map_or(bytes.len(), |end| end + 1)
                }
                State::Size(size) => {
                    self.state = match char::from(byte).to_digit(16) {
                        Some(digit) => State::Size(size.saturating_mul(16).saturating_add(digit.into())),
                        None if matches!(byte, b';' | b' ' | b'\t' | b'\r') => State::Extension(size),
                        None => State::Unwatched,
                    };
                    1
                }
                State::Extension(size) => match memchr(b'\n', bytes) {
                    None => bytes.len(),
                    Some(end) => {
                        self.announce(size);
                        end + 1
                    }
                },
                State::Chunk(left) => {
                    let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.state = match left - used as u64 {
                        0 => State::Size(0),
                        left => State::Chunk(left),
                    };
                    used
                }
            };
            bytes = &bytes[used..];
        }
    }

    /// Adds a chunk, of which nothing has been read yet. The chunk of 0 bytes is the last one.
    fn announce(&mut self, size: u64) {
        self.announced = self.announced.saturating_add(size);
        self.is_exceeded = self.announced > self.limit;
        self.state = match size {
            0 => State::Unwatched,
            _ if self.is_exceeded => State::Unwatched,
            _ => State::Chunk(size + 2),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_OF_CHUNKS: &str = "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";

    /// Returns whether the body exceeds 100 bytes, read in two pieces that are cut anywhere.
    fn exceeds(body: &str) -> bool {
        let text = format!("{HEAD_OF_CHUNKS}{body}");
        let found: Vec<bool> = (0..=text.len())
            .map(|cut| {
                let mut watch = ChunkWatch::new(100);
                watch.restart();
                watch.read(&text.as_bytes()[..cut]);
                if cut >= HEAD_OF_CHUNKS.len() {
                    watch.begin(true);
                }
                watch.read(&text.as_bytes()[cut..]);
                watch.begin(true);
                watch.is_exceeded()
            })
            .collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{body:?}: {found:?}");
        found[0]
    }

    #[test]
    fn the_sizes_of_chunks_are_added_wherever_reads_cut_them() {
        let chunk = |size: usize| format!("{size:X}\r\n{}\r\n", "\n\r\nff\r\n".repeat(size).split_at(size).0);
        for body in ["64\r\n".to_owned(), chunk(100) + "0\r\n\r\n", chunk(50) + &chunk(50) + "0;last\r\n\r\nffff\r\n"] {
            assert!(!exceeds(&body), "{body:?}");
        }
        let large = ["65", "0000065", "FFFFffffFFFFffff", "fffffffffffffffff", "65;name=value", "65 \t"];
        for size in large {
            assert!(exceeds(&format!("{size}\r\n")), "{size}");
            assert!(exceeds(&format!("{}{size}\r\n", chunk(1))), "{size}");
        }
        assert!(exceeds(&(chunk(50) + &chunk(50) + "1\r\n")));
        for wrong in ["", "65", "65\r", "x\r\nffff\r\n", "-1\r\nffff\r\n", "\u{1}"] {
            assert!(!exceeds(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_body_without_chunks_and_one_whose_head_was_not_watched_whole_are_not_judged() {
        let mut watch = ChunkWatch::new(100);
        watch.restart();
        watch.read(b"POST / HTTP/1.1\r\ncontent-length: 6\r\n\r\nffff\r\n");
        watch.begin(false);
        assert!(!watch.is_exceeded());
        watch.read(b"ffff\r\n");
        assert!(!watch.is_exceeded());
        // The rest of a head that was read together with the request before it, or of the body of a request that was
        // answered early.
        let rests = [
            "",
            "\n",
            "\r\n",
            "\n\r\n",
            "\r\n\r\n",
            "/1.1\r\nhost: h\r\n\r\n",
            "0\r\n\r\n",
            "host: a /b HTTP/1.1\r\n\r\n",
            "10\r\n[\r\n\r\nfffffff\r\n",
        ];
        for rest in rests {
            watch.restart();
            watch.read(format!("{rest}c\r\n{{\"v\":\r\n\r\n1}}\r\n77777777\r\n").as_bytes());
            watch.begin(true);
            watch.read(b"\r\n\r\nffff\r\n");
            assert!(!watch.is_exceeded(), "{rest:?}");
        }
        for before in ["", "\n", "\r\n", "\r\n\r\n\n"] {
            watch.restart();
            watch.read(format!("{before}{HEAD_OF_CHUNKS}").as_bytes());
            watch.begin(true);
            watch.read(b"ffff\r\n");
            assert!(watch.is_exceeded(), "{before:?}");
        }
    }
}
