//! The origin of a record, and the metadata around its payload: key, headers, arrival time.

use crate::kind::headers::Headers;
use crate::mapping::{Arrival, Wrapping};

/// The input and the partition of a record, with the record's metadata.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    /// The input's name.
    pub name: &'a str,
    /// The number of the partition in the stamper.
    pub partition: u32,
    /// The metadata around the payload; `None` for files and pipes.
    pub wrapper: Option<Wrapper<'a>>,
}

/// The metadata of a record of a topic or of an HTTP request. Borrowed: [`Wrapping`] is the owned form.
#[derive(Clone, Copy)]
pub struct Wrapper<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a dyn Headers,
    /// When it arrived at the broker or the HTTP server, if known.
    pub arrival: Option<Arrival>,
}

impl Wrapper<'_> {
    /// Copies it, for a record that waits for its verdict.
    pub(super) fn keep(&self) -> Box<Wrapping> {
        let mut headers = vec![];
        self.headers.each(&mut |name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        Box::new(Wrapping { key: self.key.map(<[u8]>::to_vec), headers, arrival: self.arrival })
    }
}

impl Headers for Wrapping {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.headers.iter().for_each(|(name, value)| show(name, value.as_deref()));
    }
}
