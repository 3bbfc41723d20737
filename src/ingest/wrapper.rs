//! Where a record comes from, and what surrounds its payload.

use crate::kind::headers::Headers;
use crate::mapping::{Arrival, Wrapping};

/// Where the records of an input come from.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    /// The input's name.
    pub name: &'a str,
    /// The number of its partition.
    pub partition: u32,
    /// What a record has around its payload, where the input has records of that sort.
    pub wrapper: Option<Wrapper<'a>>,
}

/// What surrounds the payload of a record of a topic or of a request.
#[derive(Clone, Copy)]
pub struct Wrapper<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a dyn Headers,
    /// When it arrived.
    pub arrival: Option<Arrival>,
}

impl Wrapper<'_> {
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
