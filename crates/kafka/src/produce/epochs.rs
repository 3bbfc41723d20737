//! A topic that gets the rows of complete epochs: one transaction for each epoch.

use super::KafkaOutput;
use super::limit::Limit;
use super::producer::rejected_in_transaction;
use super::requests;
use super::transaction::{TransactionEnd, TransactionOwner, Transactions};
use crate::client::Topics;
use arrow::datatypes::SchemaRef;
use evt_core::counts::SinkCounts;
use evt_core::error::Result;
use evt_core::kind::Kind;
use evt_core::kind::headers::{self, HeaderRows};
use evt_run::checkpoint::epoch::{Epoch, EpochFaults, EpochRows};
use evt_run::client::outage::trying_again;
use evt_run::metrics::ServerStatus;
use std::time::Duration;

/// Time in which the records of an epoch must be written. Brokers allow 15 minutes by default.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Pause before a transaction is repeated.
const PAUSE: Duration = Duration::from_millis(200);

/// An open topic for the rows of epochs.
pub struct EpochTopic {
    output: KafkaOutput,
    transactions: Transactions,
    /// The last epoch, if this run has committed it.
    last: Option<Epoch>,
    /// Whether brokers rejected a record that the known limits allow, so that each record is sent alone.
    sends_alone: bool,
}

impl EpochTopic {
    /// Opens the topic for rows of `schema`, and fences the producers of earlier runs. `key` is that of its epochs.
    pub fn open(topics: &Topics, limit: Limit, up: ServerStatus, schema: &SchemaRef, key: &str) -> Result<Self> {
        let owner = TransactionOwner {
            group: format!("evt.{}", key.replace('/', ".")),
            successor: "another run with this checkpoint has begun, or brokers have ended a transaction that took too long",
            timeout: TIMEOUT,
        };
        let transactions = Transactions::new(topics, owner)?;
        let output = KafkaOutput::with(transactions.producer(up)?, limit, schema)?;
        requests::init(&output.producer)?;
        Ok(Self { output, transactions, last: None, sends_alone: false })
    }

    /// Returns the epoch that was committed last.
    pub fn committed(&self) -> Result<Option<Epoch>> {
        self.transactions.committed()
    }

    /// Writes the rows of an epoch in one transaction, unless it is committed; retries for as long as the URI says.
    ///
    /// Errors: exit status 75 if a later epoch is committed or another run has begun, 69 if brokers do not answer.
    pub fn commit(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<()> {
        let Topics { address, run } = self.output.producer.topics.clone();
        // Another run that commits fences this one, so that brokers need not be asked after the first epoch. They do
        // not answer while a transaction holds the offset.
        let committed = match self.last.take() {
            None => self.transactions.committed()?,
            last => last,
        };
        if !epoch.is_due(committed, &address)? {
            return Ok(());
        }
        let (start, wait) = (run.clock.monotonic(), run.stop.server_wait());
        let limit = wait.limit(address.options.wait.limit(true));
        let mut is_reported = false;
        loop {
            let TransactionEnd::Aborted(error) = self.transact(epoch, rows)? else {
                self.last = Some(epoch);
                return Ok(());
            };
            let is_known = self.learn_limit()?;
            if wait.is_over() || limit.is_some_and(|limit| run.clock.monotonic().saturating_sub(start) > limit) {
                return Err(error);
            }
            if !is_known && !std::mem::replace(&mut is_reported, true) {
                run.console.say(format!("{error}: {}", trying_again(limit, "wait")));
            }
            wait.pause(PAUSE);
        }
    }

    /// Does one transaction with the rows of an epoch.
    fn transact(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<TransactionEnd> {
        let (taken, rejected_rows) = (self.output.taken, self.output.rejected_rows);
        requests::begin(&self.output.producer)?;
        let queued = self.queue(rows);
        let end = self.transactions.end(&self.output.producer, epoch, queued);
        if !matches!(end, Ok(TransactionEnd::Committed)) {
            (self.output.taken, self.output.rejected_rows) = (taken, rejected_rows);
        }
        end
    }

    /// Queues the rows of an epoch, and keeps those that are too large or do not fit the schema.
    fn queue(&mut self, rows: &mut dyn EpochRows) -> Result<()> {
        let mut rejected = EpochFaults::default();
        for batch in rows.batches()? {
            let batch = batch?;
            let bare = headers::without(&batch)?;
            let rejected_here = self.output.queue_rows(bare.as_ref().unwrap_or(&batch), HeaderRows::of(&batch))?;
            rejected.add_batch(rejected_here, batch.num_rows());
            self.output.producer.check()?;
        }
        rows.keep_rejected(rejected)
    }

    /// Learns from records that brokers have returned: queries the limits of the topic, and later lowers the limit
    /// below a record that was too large alone, or requires a key if a record without one was invalid alone. Returns
    /// whether brokers have returned records.
    ///
    /// Errors: exit status 69 if brokers reject a record with a key as invalid, because the epoch could never be
    /// committed.
    fn learn_limit(&mut self) -> Result<bool> {
        let output = &mut self.output;
        let returned = output.producer.take_returned();
        if returned.is_empty() {
            return Ok(false);
        }
        if self.sends_alone {
            for one in &returned {
                match (one.is_invalid, &one.record.key) {
                    (false, _) => output.limit.lower_below(one.record.size()),
                    (true, None) => output.limit.require_key(),
                    (true, Some(_)) => return Err(rejected_in_transaction(one)),
                }
            }
        } else {
            output.limit.learn(&output.producer.topics)?;
            output.limit.apply_topic_limit();
        }
        output.limit.check_format(&output.producer.topics.address, output.kind == Some(Kind::Dead))?;
        self.sends_alone = true;
        let mut sizes = output.limit.settings();
        sizes.iter_mut().filter(|(name, _)| *name == "batch.size").for_each(|(_, size)| *size = "1".to_owned());
        output.producer.set_sizes(&sizes)?;
        requests::init(&output.producer).map(|()| true)
    }

    /// Takes the events of the producer.
    pub fn tick(&mut self) -> Result<()> {
        self.output.producer.check()
    }

    /// Ends the output; every epoch is committed. Returns the counts.
    pub fn finish(self) -> Result<SinkCounts> {
        self.output.finish()
    }
}
