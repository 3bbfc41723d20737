//! The entries of a checkpoint's log, and what follows from them.
//!
//! Entry K is the K-th change of the checkpoint. A `start` entry begins run K; a `complete` entry names an epoch whose
//! parts are durable. Nothing in the log is ever changed, so the greatest entry decides which run is the newest.

use crate::checkpoint::epoch::Epoch;
use evt_core::error::{Error, Result};
use evt_core::time::parse_instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The version of the entries. A reader refuses others.
const VERSION: u32 = 1;

/// An entry as it is written: one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    evt_checkpoint: u32,
    /// The token by which the writer recognises its own entry after the response to a request was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(flatten)]
    entry: LogEntry,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEntry {
    /// A run begins; its number is that of the entry.
    Start(Start),
    /// An epoch is complete.
    Complete(Complete),
}

/// The beginning of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The id of the checkpoint, made by its first run.
    pub checkpoint: String,
    /// The epoch that the run restores; `None` for the first run, or if no epoch was complete.
    pub restored: Option<Epoch>,
    /// When it began (RFC 3339).
    pub at: String,
    /// The host of the run.
    pub host: String,
    /// The process id of the run.
    pub pid: u32,
    /// The version of evt.
    pub version: String,
    /// The number under which outputs record the run (`recorded.rs`); `None` in entries of older versions, whose
    /// outputs have the number of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_as: Option<u64>,
    /// Inputs that an earlier run has begun without a complete epoch: what `begun.rs` keeps of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub followed: Vec<serde_json::Value>,
}

/// A complete epoch: a run that restores it needs nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// The epoch.
    pub epoch: Epoch,
    /// When it became complete (RFC 3339).
    pub at: String,
    /// The outputs and files of each stage in this epoch, in the order of the pipe. Branches follow one another.
    pub stages: Vec<StageEpoch>,
    /// The names of the stages from the first one to each last one, if there are several last ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<Vec<String>>,
}

/// The outputs and files of one stage in an epoch. The stage writes this as a note before it passes the barrier on; a
/// last stage does so only if the run has several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageEpoch {
    /// The stage: its number in the pipe, from 1, and its tool.
    pub stage: String,
    /// The version of evt that runs it; empty in entries of older versions.
    #[serde(default)]
    pub version: String,
    /// When the stage began to end the epoch (RFC 3339); `None` in entries of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<String>,
    /// XXH3-128, hexadecimal, of the settings that its state depends on: metrics, spans and others. `None` without
    /// state, and in entries of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Its watermark (µs), `i64::MAX` once all windows have fired. `None` without windows, and in entries of older
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
    /// Its outputs, in the order of the command line.
    pub outputs: Vec<OutputName>,
    /// Its files.
    pub parts: Vec<EpochPart>,
}

impl Complete {
    /// Returns the names of the stages from the first one to each last one.
    pub fn branches(&self) -> Vec<Vec<String>> {
        match self.branches.is_empty() {
            true => vec![self.stages.iter().map(|stage| stage.stage.clone()).collect()],
            false => self.branches.clone(),
        }
    }

    /// Returns the time from the first stage's beginning to end the epoch to its entry; `None` if an entry of an older
    /// version does not have it, or a clock went back.
    pub fn duration(&self) -> Option<Duration> {
        let began = parse_instant(self.stages.first()?.began.as_deref()?)?;
        Some(Duration::from_micros(u64::try_from(parse_instant(&self.at)? - began).ok()?))
    }

    /// Returns the outputs that have rows in the epoch.
    pub fn outputs_with_rows(&self) -> impl Iterator<Item = &OutputName> {
        self.stages.iter().flat_map(|stage| {
            let has_rows = |output: &&OutputName| {
                let name = outbox_name(&stage.stage, &output.key);
                stage.parts.iter().any(|part| part.name == name)
            };
            stage.outputs.iter().filter(has_rows)
        })
    }

    /// Returns all files.
    pub fn parts(&self) -> impl Iterator<Item = &EpochPart> {
        self.stages.iter().flat_map(|stage| &stage.parts)
    }
}

/// Returns the key under which the target of an output records the epochs that it has.
pub fn target_key(checkpoint: &str, stage: &str, key: &str) -> String {
    format!("{checkpoint}/{stage}/{key}")
}

/// Returns the name of the part with the rows of an output.
pub fn outbox_name(stage: &str, key: &str) -> String {
    format!("{stage}.rows-{key}")
}

/// Returns the name of the note with the [`StageEpoch`] of a stage.
pub fn manifest_name(stage: &str) -> String {
    format!("{stage}.json")
}

/// A file of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochPart {
    /// Its name in the directory of the epoch.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// XXH3-128 of its bytes, hexadecimal.
    pub checksum: String,
}

/// An output of a stage: its flag, and what that flag names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputName {
    /// `to-0`, `to-1`, …, `late` or `dlq`.
    pub key: String,
    /// The URI, without secrets.
    pub uri: String,
}

impl LogEntry {
    /// Returns the entry as it is stored, with a token by which its writer recognises it.
    pub fn to_bytes(&self, token: Option<&str>) -> Result<Vec<u8>> {
        let line = Line { evt_checkpoint: VERSION, token: token.map(str::to_owned), entry: self.clone() };
        let mut bytes = serde_json::to_vec(&line).map_err(|error| Error::broken(format!("an entry: {error}")))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a stored entry. Errors: exit status 65 if it is damaged, 78 if a later version of evt wrote it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::corrupt("expected an entry in JSON").because(error))?;
        match value["evt_checkpoint"].as_u64() {
            Some(found) if found != u64::from(VERSION) => {
                return Err(Error::config(format!("expected an entry of version {VERSION}, found version {found}")));
            }
            _ => {}
        }
        let line: Line = serde_json::from_value(value)
            .map_err(|error| Error::corrupt("expected a start or complete").because(error))?;
        Ok(line.entry)
    }
}

/// Compares the outputs of a run with those of the epoch that it restores.
///
/// The target of an output records its epochs under the key of the output, so an output under another key than before
/// is an error. A new output under a former key begins without rows, so the epoch must be committed to the former
/// output.
///
/// Errors: exit status 78 if outputs have changed places, or if a former output is gone and not every output of the
/// stage has the epoch (`is_committed`).
pub fn check_output_names(former: &[OutputName], now: &[OutputName], is_committed: bool) -> Result<()> {
    for output in now {
        let same_key = former.iter().find(|other| other.key == output.key);
        if same_key.is_some_and(|other| other.uri == output.uri) {
            continue;
        }
        if let Some(other) = former.iter().find(|other| other.uri == output.uri && other.key != output.key) {
            return Err(Error::config(format!(
                "{}: expected output {}, as in the checkpoint, found output {}; give the outputs in their former order",
                output.uri, other.key, output.key
            )));
        }
    }
    if is_committed {
        return Ok(());
    }
    match former.iter().find(|other| !now.contains(other)) {
        None => Ok(()),
        Some(other) => Err(Error::config(format!(
            "the last epoch may not be committed to {} (output {}); start once with this output, then without it",
            other.uri, other.key
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::ErrorKind;

    fn names(uris: &[&str]) -> Vec<OutputName> {
        let name = |(at, uri): (usize, &&str)| OutputName { key: format!("to-{at}"), uri: (*uri).to_owned() };
        uris.iter().enumerate().map(name).collect()
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let start = Start {
            checkpoint: "7c9e".to_owned(),
            restored: Some(Epoch { run: 1, number: 4 }),
            at: "2026-01-01T00:00:00.000000Z".to_owned(),
            host: "a".to_owned(),
            pid: 7,
            version: "0.1.0".to_owned(),
            recorded_as: Some(1_767_225_600_000_000),
            followed: vec![serde_json::json!({"name": "app.log"})],
        };
        let part = EpochPart { name: "state".to_owned(), bytes: 3, checksum: "00".to_owned() };
        let complete = Complete {
            epoch: Epoch { run: 5, number: 1 },
            at: start.at.clone(),
            stages: vec![StageEpoch {
                stage: "1-evt-window".to_owned(),
                version: "0.1.0".to_owned(),
                began: Some("2026-01-01T00:00:00.000000Z".to_owned()),
                fingerprint: Some("5eed".to_owned()),
                watermark: Some(7),
                outputs: names(&["sqlite:m.db"]),
                parts: vec![part],
            }],
            branches: vec![],
        };
        for entry in [LogEntry::Start(start), LogEntry::Complete(complete)] {
            for token in [None, Some("5eed")] {
                assert_eq!(LogEntry::parse(&entry.to_bytes(token).unwrap()).unwrap(), entry);
            }
        }
    }

    #[test]
    fn a_damaged_entry_is_65_and_a_later_one_78() {
        for (bytes, expected) in [
            (&b""[..], ErrorKind::Corrupt),
            (b"{", ErrorKind::Corrupt),
            (b"{}", ErrorKind::Corrupt),
            (br#"{"evt_checkpoint":1,"other":{}}"#, ErrorKind::Corrupt),
            (br#"{"evt_checkpoint":2,"start":{}}"#, ErrorKind::Config),
        ] {
            assert_eq!(LogEntry::parse(bytes).unwrap_err().kind(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn outputs_may_be_replaced_after_a_commit_and_never_change_places() {
        let former = names(&["a", "b"]);
        let check = |now: &[&str], is_committed| check_output_names(&former, &names(now), is_committed);
        for now in [&["a", "b"][..], &["a", "b", "c"]] {
            check(now, false).unwrap();
        }
        for now in [&["a", "c"][..], &["a"], &[], &["c", "d"]] {
            check(now, true).unwrap();
            assert_eq!(check(now, false).unwrap_err().kind(), ErrorKind::Config, "{now:?}");
        }
        for (now, is_committed) in [(["b", "a"], true), (["b", "c"], true), (["c", "a"], false)] {
            let error = check(&now, is_committed).unwrap_err();
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains("former order"), "{error}");
        }
    }
}
