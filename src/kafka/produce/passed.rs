//! Headers that are passed on from an input record to the message of its row.

use crate::kafka::letter;
use crate::kind::headers::HeaderRows;
use rdkafka::message::{Headers, OwnedHeaders};

/// Prefixes of headers that describe the encoding or the failure of the input record's value; they are wrong for the new value.
const OF_VALUE: [&str; 4] = ["__", "evt.", "ce_", "content-"];

fn is_of_value(name: &str) -> bool {
    let begins = |with: &&str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    OF_VALUE.iter().any(begins)
}

/// The headers of rows' records, converted for librdkafka; consecutive rows with the same headers share one conversion.
pub struct Passed<'a> {
    rows: Option<HeaderRows<'a>>,
    last: Option<(usize, Option<OwnedHeaders>)>,
}

impl<'a> Passed<'a> {
    /// Wraps the headers of these rows, if they have any.
    pub fn new(rows: Option<HeaderRows<'a>>) -> Self {
        Self { rows, last: None }
    }

    /// Returns the headers of a row; `None` if there are none to pass on.
    pub fn of(&mut self, row: usize) -> Option<OwnedHeaders> {
        let rows = self.rows?;
        let code = rows.code(row)?;
        if self.last.as_ref().is_none_or(|(last, _)| *last != code) {
            let made = letter::insert(OwnedHeaders::new(), &rows.get(code), |name| !is_of_value(name));
            self.last = Some((code, Some(made).filter(|made| made.count() > 0)));
        }
        self.last.as_ref().and_then(|(_, headers)| headers.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::headers::{self, CodedHeaders, Headers as Shown};
    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;
    use rdkafka::message::Header;
    use std::sync::Arc;

    struct Given<'a>(&'a [(&'a str, Option<&'a [u8]>)]);

    impl Shown for Given<'_> {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            self.0.iter().for_each(|(name, value)| show(name, *value));
        }
    }

    #[test]
    fn headers_pass_in_their_order_but_for_those_that_tell_of_the_value() {
        let some = Given(&[("a", Some(b"1")), ("__TypeId__", Some(b"x")), ("b", None), ("a", Some(b""))]);
        let told = Given(&[("content-type", Some(b"x")), ("CE_type", None), ("evt.stage", Some(b"x"))]);
        let mut coded = CodedHeaders::default();
        for row in [Some(&some), Some(&some), None, Some(&told), Some(&some)] {
            coded.push(row.map(|row| row as &dyn Shown)).unwrap();
        }
        let schema = Arc::new(Schema::new(vec![headers::field()]));
        let batch = RecordBatch::try_new(schema, vec![coded.finish().unwrap()]).unwrap();
        let mut passed = Passed::new(HeaderRows::of(&batch));
        let mut of = |row| {
            let pair = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
            passed.of(row).map(|headers| headers.iter().map(pair).collect::<Vec<_>>())
        };
        let wanted =
            Some(vec![("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None), ("a".to_owned(), Some(vec![]))]);
        assert_eq!([of(0), of(1), of(2), of(3), of(4)], [wanted.clone(), wanted.clone(), None, None, wanted]);
        assert!(Passed::new(None).of(0).is_none());
    }
}
