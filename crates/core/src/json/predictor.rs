//! Predicts keys: most records of a stream have the same keys in the same order, so after each key the predictor
//! expects the key that followed it last time, or else the one that followed it before: some records have a key that
//! others lack.
//!
//! Comparing sixteen bytes with the prediction is cheaper than finding the end and the meaning of a key. Measured in
//! evt-validate's walk over objects of eight members, two of them needed: 1,390 instructions per event instead of 2,070
//! (callgrind; checking columns once per batch is part of the difference).

use wide::u8x16;

/// Maximum number of remembered keys: one per bit of a word.
const KEYS_MAX: usize = 64;
/// Maximum bytes of a remembered key, with its quotes and colon.
const KEY_BYTES_MAX: usize = 64;
/// Number of bytes compared at once.
const HEAD: usize = 16;

/// The mark of a key without a meaning.
pub const UNMARKED: u32 = u32::MAX;

/// The state of a walk: the last key, and the expected next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCursor {
    at: usize,
    next: usize,
}

/// The index of a key that is not remembered.
const NOWHERE: usize = usize::MAX;
/// The state after a key that is not remembered.
const LOST: KeyCursor = KeyCursor { at: NOWHERE, next: NOWHERE };

impl KeyCursor {
    /// Returns a bit that identifies the last key among all remembered ones.
    #[inline(always)]
    pub fn bit(self) -> u64 {
        1 << (self.at % KEYS_MAX)
    }

    /// Whether the last key is remembered.
    pub fn is_known(self) -> bool {
        self.at != NOWHERE
    }
}

/// A key that was predicted correctly.
#[derive(Clone, Copy, Debug)]
pub struct PredictedKey {
    /// The state after it.
    pub cursor: KeyCursor,
    /// Its mark.
    pub mark: u32,
    /// Index after its colon.
    pub end: usize,
}

/// The remembered keys, each with the one that followed it last. The first represents the start of an object.
#[derive(Clone, Debug, Default)]
pub struct KeyPredictor {
    keys: Vec<WrittenKey>,
}

/// One key as written: `"name":`.
#[derive(Clone, Debug)]
struct WrittenKey {
    /// Its first bytes; `mask` has ones for each of them.
    head: u8x16,
    mask: u8x16,
    /// Its last bytes, if it is longer.
    tail: u8x16,
    /// The bytes between the two.
    rest: Box<[u8]>,
    length: usize,
    mark: u32,
    /// The key that followed it last, and the one before that.
    next: usize,
    other: usize,
}

impl WrittenKey {
    fn new(written: &[u8], mark: u32) -> Self {
        let length = written.len();
        let (head, rest) = written.split_at(length.min(HEAD));
        let (mut first, mut mask) = ([0; HEAD], [0; HEAD]);
        first[..head.len()].copy_from_slice(head);
        mask[..head.len()].fill(u8::MAX);
        let tail = u8x16::from(written.last_chunk::<HEAD>().copied().unwrap_or_default());
        let rest = rest[..rest.len().saturating_sub(HEAD)].into();
        let (head, mask) = (u8x16::from(first), u8x16::from(mask));
        Self { head, mask, tail, rest, length, mark, next: NOWHERE, other: NOWHERE }
    }

    #[inline(always)]
    fn is_at(&self, bytes: &[u8], p: usize) -> bool {
        let Some(head) = bytes.get(p..).and_then(<[u8]>::first_chunk::<HEAD>) else { return false };
        is_equal(u8x16::from(*head) & self.mask, self.head) && (self.length <= HEAD || self.is_longer_at(bytes, p))
    }
}

impl WrittenKey {
    /// Whether the bytes after its first ones match as well.
    #[inline(always)]
    fn is_longer_at(&self, bytes: &[u8], p: usize) -> bool {
        let Some(tail) = bytes.get(p + self.length - HEAD..).and_then(<[u8]>::first_chunk::<HEAD>) else {
            return false;
        };
        is_equal(u8x16::from(*tail), self.tail) && (self.rest.is_empty() || bytes[p + HEAD..].starts_with(&self.rest))
    }

    /// Whether both are the same key.
    fn is(&self, other: &WrittenKey) -> bool {
        self.length == other.length
            && is_equal(self.head, other.head)
            && is_equal(self.tail, other.tail)
            && self.rest == other.rest
    }
}

#[inline(always)]
fn is_equal(one: u8x16, other: u8x16) -> bool {
    one.simd_eq(other).to_bitmask() == 0xffff
}

impl KeyPredictor {
    /// Returns the state before the first key.
    #[inline(always)]
    pub fn start(&self) -> KeyCursor {
        KeyCursor { at: 0, next: self.keys.first().map_or(NOWHERE, |start| start.next) }
    }

    /// Returns the expected key if it is at `p` (where its opening quote would be).
    #[inline(always)]
    pub fn expect(&mut self, bytes: &[u8], p: usize, cursor: KeyCursor) -> Option<PredictedKey> {
        match self.found(bytes, p, cursor.next) {
            Some(found) => Some(found),
            None => self.expect_other(bytes, p, cursor),
        }
    }

    /// Returns the key that followed before, if it is at `p`; from now on it is the expected one.
    #[inline(never)]
    fn expect_other(&mut self, bytes: &[u8], p: usize, cursor: KeyCursor) -> Option<PredictedKey> {
        let found = self.found(bytes, p, self.keys.get(cursor.at)?.other)?;
        let before = &mut self.keys[cursor.at];
        std::mem::swap(&mut before.next, &mut before.other);
        Some(found)
    }

    /// Returns the remembered key `at` if it is at `p`.
    #[inline(always)]
    fn found(&self, bytes: &[u8], p: usize, at: usize) -> Option<PredictedKey> {
        let key = self.keys.get(at)?;
        let cursor = KeyCursor { at, next: key.next };
        key.is_at(bytes, p).then_some(PredictedKey { cursor, mark: key.mark, end: p + key.length })
    }

    /// Remembers a key that was not predicted: `written` is all of it from quote to colon, without white space and
    /// escapes. Returns the state after it.
    #[inline(never)]
    pub fn learn(&mut self, cursor: KeyCursor, written: &[u8], mark: u32) -> KeyCursor {
        if self.keys.is_empty() {
            self.keys.push(WrittenKey::new(b"", UNMARKED));
        }
        let key = WrittenKey::new(written, mark);
        let found = match self.keys.iter().position(|known| known.is(&key)) {
            Some(found) => found,
            None if self.keys.len() < KEYS_MAX && written.len() <= KEY_BYTES_MAX => {
                self.keys.push(key);
                self.keys.len() - 1
            }
            None => return LOST,
        };
        if let Some(before) = self.keys.get_mut(cursor.at) {
            before.other = std::mem::replace(&mut before.next, found);
        }
        KeyCursor { at: found, next: self.keys[found].next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(predictor: &mut KeyPredictor, keys: &[&str]) -> usize {
        let (mut cursor, mut foretold) = (predictor.start(), 0);
        for key in keys {
            let text = format!("{key}1234567890123456");
            let mark = key.len() as u32;
            cursor = match predictor.expect(text.as_bytes(), 0, cursor) {
                Some(step) => {
                    assert_eq!((step.end, step.mark), (key.len(), mark));
                    foretold += 1;
                    step.cursor
                }
                None => predictor.learn(cursor, key.as_bytes(), mark),
            };
        }
        foretold
    }

    #[test]
    fn what_followed_once_is_expected_again() {
        let mut predictor = KeyPredictor::default();
        let keys = ["\"a\":", "\"a_longer_name_than_sixteen\":", "\"a_longer_name_than_others\":", "\"b\":"];
        assert_eq!(walk(&mut predictor, &keys), 0);
        assert_eq!(walk(&mut predictor, &keys), 4);
        assert_eq!(walk(&mut predictor, &["\"a\":", "\"b\":"]), 1);
        assert_eq!(walk(&mut predictor, &["\"b\":", "\"a\":"]), 0);
    }

    #[test]
    fn a_key_that_some_records_lack_is_expected_with_and_without_it() {
        let mut predictor = KeyPredictor::default();
        let (with, without) = (["\"a\":", "\"b\":", "\"c\":"], ["\"a\":", "\"c\":"]);
        assert_eq!([walk(&mut predictor, &with), walk(&mut predictor, &without)], [0, 1]);
        for _ in 0..3 {
            assert_eq!([walk(&mut predictor, &with), walk(&mut predictor, &without)], [3, 2]);
        }
        assert_eq!(walk(&mut predictor, &["\"a\":", "\"a\":"]), 1, "a third successor");
    }

    #[test]
    fn a_key_that_differs_in_one_byte_is_another() {
        for length in 1..=KEY_BYTES_MAX {
            let key: Vec<u8> = (0..length).map(|at| b'a' + (at % 26) as u8).collect();
            let mut predictor = KeyPredictor::default();
            predictor.learn(predictor.start(), &key, 7);
            let padded = |key: &[u8]| [key, &[b' '; HEAD]].concat();
            let step = predictor.expect(&padded(&key), 0, predictor.start());
            assert_eq!(step.map(|step| (step.mark, step.end)), Some((7, length)));
            for at in 0..length {
                let mut other = key.clone();
                other[at] ^= 0x20;
                assert!(predictor.expect(&padded(&other), 0, predictor.start()).is_none(), "{length} {at}");
                let cursor = predictor.learn(predictor.start(), &other, 8);
                assert_ne!(cursor.at, 1, "{length} {at}");
                predictor = KeyPredictor::default();
                predictor.learn(predictor.start(), &key, 7);
            }
        }
    }

    #[test]
    fn a_key_near_the_end_of_the_text_is_not_expected_but_known() {
        let mut predictor = KeyPredictor::default();
        walk(&mut predictor, &["\"a\":"]);
        assert!(predictor.expect(b"\"a\":1}", 0, predictor.start()).is_none());
        assert!(predictor.expect(b"", 3, predictor.start()).is_none());
        assert_eq!(predictor.learn(predictor.start(), b"\"a\":", 4), KeyCursor { at: 1, next: NOWHERE });
    }

    #[test]
    fn more_keys_than_fit_are_lost_without_harm() {
        let mut predictor = KeyPredictor::default();
        let names: Vec<String> = (0..200).map(|n| format!("\"key{n}\":")).collect();
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(walk(&mut predictor, &keys), 0);
        assert_eq!(walk(&mut predictor, &keys), KEYS_MAX - 1);
        assert_eq!(predictor.keys.len(), KEYS_MAX);
    }
}
