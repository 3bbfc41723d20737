//! What stands around a record's payload.

use crate::kind::dead::Headers;
use crate::mapping::Arrival;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{Message, Timestamp};

/// Headers and time of a message.
pub struct Around<'a, 'b>(pub &'a BorrowedMessage<'b>);

impl Around<'_, '_> {
    /// When it arrived: a fact where the broker says so, else what the producer's clock said.
    pub fn arrival(&self) -> Option<Arrival> {
        let (millis, is_fact) = match self.0.timestamp() {
            Timestamp::NotAvailable => return None,
            Timestamp::CreateTime(millis) => (millis, false),
            Timestamp::LogAppendTime(millis) => (millis, true),
        };
        let at = millis.checked_mul(1000).filter(|at| (crate::time::EARLIEST..=crate::time::LATEST).contains(at))?;
        (millis >= 0).then_some(Arrival { at, is_fact })
    }
}

impl Headers for Around<'_, '_> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        for header in self.0.headers().into_iter().flat_map(|headers| headers.iter()) {
            show(header.key, header.value);
        }
    }
}
