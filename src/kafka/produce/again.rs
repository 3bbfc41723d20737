//! Sends messages again whose batch was too large for the brokers: each one alone, so that only those that are too large by
//! themselves are refused.

use super::limit::{self, CUT_HEADER, headers_size};
use super::{Body, Bounced, KafkaOutput, Outgoing, producer};
use crate::error::Result;
use crate::format::row;
use crate::frame::Frame;
use crate::kafka::client::Returned;
use crate::kafka::framing;
use crate::kafka::letter::{self, Letters};
use crate::kind::Kind;
use crate::kind::dead::Fault;
use crate::kind::headers::Headers as Shown;
use crate::kind::letters;
use arrow::array::RecordBatch;
use rdkafka::message::{Headers as _, OwnedHeaders};
use rdkafka::producer::Producer as _;

/// Prepares a returned message for sending.
fn outgoing(message: &Returned) -> Outgoing<'_> {
    let (key, headers) = (message.key.as_deref(), message.headers.clone());
    Outgoing { partition: Some(message.partition), key, value: &message.value, headers }
}

/// Returns the size of a batch that holds only this message.
fn size(message: &Returned) -> usize {
    let key = message.key.as_ref().map_or(0, Vec::len);
    limit::size(message.value.len(), key, headers_size(message.headers.as_ref()))
}

/// The headers of a message.
struct Around<'a>(Option<&'a OwnedHeaders>);

impl Shown for Around<'_> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.0.into_iter().flat_map(OwnedHeaders::iter).for_each(|header| show(header.key, header.value));
    }
}

impl KafkaOutput {
    /// Sends returned messages again, until each one is acknowledged or refused.
    pub(super) fn send_again(&mut self) -> Result<()> {
        let mut returned = self.producer.context().take_returned();
        if returned.is_empty() {
            return Ok(());
        }
        // The topic's limit may have changed.
        let learned = self.limit.learn(&self.address, &self.run, &self.topic)?;
        if learned.is_some() && learned != self.topic_limit {
            self.topic_limit = learned;
            self.acknowledged()?;
            returned.extend(self.producer.context().take_returned());
            self.producer = producer(&self.address, &self.run, &self.limit.settings(learned))?;
        }
        while let Some(message) = returned.pop_front() {
            if size(&message) <= self.limit.get() {
                self.queue(outgoing(&message))?;
                self.acknowledged()?;
                if self.producer.context().take_returned().is_empty() {
                    continue;
                }
            }
            for smaller in self.smaller(message)?.into_iter().rev() {
                returned.push_front(smaller);
            }
        }
        Ok(())
    }

    /// Splits or cuts a message that is too large by itself. Returns the messages to send in its place; none if its row is
    /// refused.
    fn smaller(&mut self, message: Returned) -> Result<Vec<Returned>> {
        let is_dead = Kind::of(&self.schema) == Some(Kind::Dead);
        let row = match &self.body {
            Body::Frames { .. } => rows_of(&message.value)?,
            Body::Letters => {
                let around = Around(message.headers.as_ref());
                read(Kind::Dead, &letter::to_json(&message.value, message.key.as_deref(), &around))?
            }
            Body::Objects { .. } => match (Kind::of(&self.schema), std::str::from_utf8(&message.value)) {
                (Some(kind), Ok(text)) => read(kind, text)?,
                _ => None,
            },
            Body::Avro { .. } => None,
        };
        match row {
            Some(rows) if rows.num_rows() > 1 => {
                let half = rows.num_rows() / 2;
                let halves = [rows.slice(0, half), rows.slice(half, rows.num_rows() - half)];
                halves.iter().map(|half| self.framed(message.partition, half)).collect()
            }
            Some(letter) if is_dead => {
                let size = size(&message);
                let most = self.topic_limit.filter(|most| *most < size).unwrap_or(size / 2);
                match letters::cut(&letter, size - most + CUT_HEADER)? {
                    Some(cut) => Ok(vec![self.letter(message.partition, &cut)?]),
                    None => Ok(self.give_up(Some(letter), message)),
                }
            }
            // A message of frames without rows is a control message.
            None if matches!(self.body, Body::Frames { .. }) => {
                self.leave_out(&self.fault_of(&message));
                Ok(vec![])
            }
            row => Ok(self.give_up(row, message)),
        }
    }

    fn framed(&self, partition: i32, rows: &RecordBatch) -> Result<Returned> {
        Ok(Returned { partition, key: None, value: framing::rows(&self.schema, rows)?, headers: None })
    }

    fn letter(&self, partition: i32, row: &RecordBatch) -> Result<Returned> {
        if let Body::Frames { .. } = self.body {
            return self.framed(partition, row);
        }
        let mut letters = Letters::new(row);
        let (key, value) = (letters.key(0).map(<[u8]>::to_vec), letters.payload(0).to_vec());
        Ok(Returned { partition, key, value, headers: Some(letters.headers(0)) })
    }

    fn fault_of(&self, message: &Returned) -> Fault {
        let (key, headers) = (message.key.as_ref().map_or(0, Vec::len), headers_size(message.headers.as_ref()));
        self.limit.fault(message.value.len(), key, headers)
    }

    /// Refuses the row of a message.
    fn give_up(&mut self, row: Option<RecordBatch>, message: Returned) -> Vec<Returned> {
        let fault = self.fault_of(&message);
        self.bounce(row, fault, message);
        vec![]
    }

    /// Records a row that was taken and is now refused.
    pub(super) fn bounce(&mut self, row: Option<RecordBatch>, fault: Fault, message: Returned) {
        let Returned { key, value: payload, headers, .. } = message;
        self.refused += 1;
        self.bounced.push(Bounced { row, fault, payload, key, headers, topic: self.topic.clone() });
    }
}

/// Returns the rows of a message of frames; `None` of a control message.
fn rows_of(value: &[u8]) -> Result<Option<RecordBatch>> {
    let rows = |frame| if let Frame::Batch(rows) = frame { Some(rows) } else { None };
    Ok(framing::frames(value)?.into_iter().find_map(rows))
}

/// Parses a JSON object as a row; `None` if it is not a row of this kind.
fn read(kind: Kind, object: &str) -> Result<Option<RecordBatch>> {
    let mut rows = row::Builder::new(kind);
    match rows.push(object) {
        Ok(()) => rows.finish().map(Some),
        Err(_) => Ok(None),
    }
}
