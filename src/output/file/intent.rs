//! The file beside a file that is appended to: what is to be appended, or was appended last.

use evt_core::error::{Error, Result};
use evt_run::storage::disk::failed;
use serde_json::{Value, json};
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// The first member of an intent: its format.
const FORMAT: u64 = 2;

/// The number of a batch. A batch of a ledger of replays has `number` alone; a batch of a checkpoint has the run and
/// the number of its epoch, and the piece of the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId {
    /// The run of the epoch.
    pub run: u64,
    /// The number of the epoch in its run, or of the batch.
    pub number: u64,
    /// The piece of the epoch.
    pub piece: u64,
}

impl BatchId {
    /// Returns the id of a batch of a ledger of replays.
    pub fn of_ledger(batch: i64) -> Self {
        Self { number: batch.cast_unsigned(), ..Self::default() }
    }

    /// Whether the batch is a piece of an epoch of a checkpoint, whose runs are numbered from 1.
    pub fn is_of_epoch(self) -> bool {
        self.run > 0
    }
}

/// A batch that is to be appended to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The ledger that numbers the batch.
    pub ledger: String,
    /// The number of the batch.
    pub batch: BatchId,
    /// Whether the batch is appended; its bytes are not kept then.
    pub is_done: bool,
    /// Bytes of the file before the batch.
    pub length: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Intent {
    fn checksum(&self) -> String {
        let mut digest = Xxh3::new();
        digest.update(self.ledger.as_bytes());
        let BatchId { run, number, piece } = self.batch;
        for part in [run, number, piece, u64::from(self.is_done)] {
            digest.update(&part.to_le_bytes());
        }
        digest.update(&self.length.to_le_bytes());
        digest.update(&self.bytes);
        format!("{:032x}", digest.digest128())
    }

    /// One line of JSON, then the bytes of the batch.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { ledger, batch: BatchId { run, number, piece }, is_done, length, bytes } = self;
        let (checksum, size) = (self.checksum(), bytes.len());
        let head = json!({
            "evt_intent": FORMAT, "ledger": ledger, "run": run, "batch": number, "piece": piece, "done": is_done,
            "length": length, "bytes": size, "checksum": checksum
        });
        let mut all = format!("{head}\n").into_bytes();
        all.extend_from_slice(bytes);
        all
    }

    /// Reads an intent. Errors: exit status 65 if it is damaged, 78 if another version of evt wrote it.
    pub fn read(path: &Path) -> Result<Self> {
        let all = std::fs::read(path).map_err(failed(path))?;
        let damaged = |what: &str| {
            let message = format!(
                "{}: {what}; nothing was changed. If the last lines of the file are whole, remove the intent: lines of its \
                 batch may then be appended twice",
                path.display()
            );
            Error::corrupt(message)
        };
        let end = memchr::memchr(b'\n', &all).ok_or_else(|| damaged("expected an intent, found no line"))?;
        let head: Value =
            serde_json::from_slice(&all[..end]).map_err(|_| damaged("expected an intent, found no JSON"))?;
        let number = |name: &str| head[name].as_u64();
        let found = number("evt_intent").ok_or_else(|| damaged("expected the members of an intent, found others"))?;
        if found != FORMAT {
            let message = format!("{}: expected an intent of format {FORMAT}, found {found}", path.display());
            return Err(Error::config(format!("{message}; run the version of evt that wrote it once more")));
        }
        let batch = number("run").zip(number("batch")).zip(number("piece"));
        let batch = batch.map(|((run, number), piece)| BatchId { run, number, piece });
        let fields = (head["ledger"].as_str(), batch, head["done"].as_bool(), number("length"));
        let (Some(ledger), Some(batch), Some(is_done), Some(length)) = fields else {
            return Err(damaged("expected the members of an intent, found others"));
        };
        let intent = Self { ledger: ledger.to_owned(), batch, is_done, length, bytes: all[end + 1..].to_vec() };
        let (expected, found) = (head["checksum"].as_str().unwrap_or_default(), intent.checksum());
        if expected != found {
            return Err(damaged(&format!("expected the checksum {expected}, found {found}")));
        }
        Ok(intent)
    }
}
