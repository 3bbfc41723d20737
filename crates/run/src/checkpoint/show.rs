//! The description of a checkpoint that evt-view shows: its epochs, verified, and the positions and the watermark of
//! the last one.

use super::log::{Complete, LogEntry, StageEpoch, Start};
use super::part::{POSITIONS, STATE, part_name};
use super::place::CheckpointPlace;
use super::{is_in_bucket, open_place};
use crate::run::Run;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::op::window;
use evt_core::time::format_instant;
use evt_core::time::rounded;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// Whether a path is that of a directory with a checkpoint, or of a bucket.
pub fn is_checkpoint(path: &Path) -> bool {
    is_in_bucket(path) || path.join("log/1").is_file() && path.join("epochs").is_dir()
}

/// Whether the address of a bucket is that of a checkpoint, and not of inputs. Errors: those of the server.
pub fn is_checkpoint_in_bucket(path: &Path, run: &Run) -> Result<bool> {
    Ok(open_place(path, run)?.files.objects().get("log/1")?.is_some())
}

/// What evt-view shows of a checkpoint.
pub struct CheckpointReport {
    /// The runs and epochs, and the positions of the last epoch.
    pub text: String,
    /// Whether no part of a kept epoch is damaged.
    pub is_sound: bool,
}

/// Reads a checkpoint and verifies the parts of its epochs.
///
/// Errors: exit status 65 if an entry of the log is damaged, 74 or 69 if it cannot be read, 78 if a bucket has none.
pub fn show(path: &Path, run: &Run) -> Result<CheckpointReport> {
    let place = open_place(path, run)?;
    let (mut starts, mut complete): (Vec<Start>, Vec<Complete>) = (vec![], vec![]);
    let numbers = place.entries()?;
    if numbers.is_empty() {
        return Err(Error::config("expected a checkpoint, found no entry log/1").at(&place.name));
    }
    for entry in place.read_entries(&numbers)? {
        match entry {
            LogEntry::Start(start) => starts.push(start),
            LogEntry::Complete(epoch) => complete.push(epoch),
        }
    }
    let id = starts.first().map_or("", |start| &start.checkpoint);
    let mut text = format!("checkpoint {id}: {} runs, {} complete epochs\n", starts.len(), complete.len());
    if let Some(Start { at, host, pid, version, .. }) = starts.last() {
        append(&mut text, format_args!("last run: began {at} on {host}, process {pid}, evt {version}\n"));
    }
    let mut kept = vec![];
    // Epochs are removed in their order.
    while let Some(one) = complete.pop() {
        if !place.has_epoch(one.epoch)? {
            break;
        }
        kept.insert(0, one);
    }
    let mut is_sound = true;
    for one @ Complete { epoch, at, stages, .. } in &kept {
        let took = one.duration().map_or(String::new(), |took| format!(" after {}", rounded(took)));
        let mut damage = None;
        for part in one.parts() {
            match place.files.verify(*epoch, part) {
                Err(error) if error.kind() == ErrorKind::Corrupt => damage = Some(error),
                verified => verified?,
            }
            if damage.is_some() {
                break;
            }
        }
        // The run that is under way may have removed the epoch meanwhile.
        if damage.is_some() && !place.has_epoch(*epoch)? {
            continue;
        }
        let bytes: u64 = one.parts().map(|part| part.bytes).sum();
        let mut is_committed = true;
        for stage in stages {
            is_committed &= place.is_committed(*epoch, &stage.stage)?;
        }
        let committed = if is_committed { "committed" } else { "not marked as committed" };
        let files = one.parts().count();
        let verified = damage.as_ref().map_or("verified".to_owned(), |error| format!("damaged: {error}"));
        is_sound &= damage.is_none();
        let line = format_args!("epoch {epoch}: {at}{took}, {bytes} bytes in {files} files, {committed}, {verified}\n");
        append(&mut text, line);
    }
    if let Some(last) = kept.last().filter(|_| is_sound) {
        show_last(&place, last, &mut text)?;
    }
    Ok(CheckpointReport { text, is_sound })
}

/// Describes the stages of an epoch: their outputs, the watermark and the positions.
fn show_last(place: &CheckpointPlace, last: &Complete, text: &mut String) -> Result<()> {
    for StageEpoch { stage, outputs, parts, fingerprint, .. } in &last.stages {
        let outputs: Vec<String> = outputs.iter().map(|output| format!("{} {}", output.key, output.uri)).collect();
        append(
            text,
            format_args!(
                "{stage}: outputs: {}{}\n",
                if outputs.is_empty() { "none".to_owned() } else { outputs.join(", ") },
                fingerprint.as_ref().map(|spec| format!("; fingerprint of its settings: {spec}")).unwrap_or_default()
            ),
        );
        let read = |name: &str| {
            let part = parts.iter().find(|part| part.name == part_name(stage, name));
            part.map(|part| place.local().read_part(last.epoch, &part.name)).transpose()
        };
        if let Some(state) = read(STATE)?.filter(|_| stage.contains("-evt-window")) {
            show_watermark(&state, text)?;
        }
        if let Some(positions) = read(POSITIONS)? {
            show_positions(&positions, text);
        }
    }
    Ok(())
}

fn show_watermark(state: &[u8], text: &mut String) -> Result<()> {
    let watermark = match window::saved_watermark(state)? {
        None => "none".to_owned(),
        Some(i64::MAX) => "the end: all windows have fired (--at-end fire)".to_owned(),
        Some(instant) => format_instant(instant),
    };
    append(text, format_args!("watermark: {watermark}\n"));
    Ok(())
}

fn show_positions(positions: &[u8], text: &mut String) {
    let positions: Value = serde_json::from_slice(positions).unwrap_or_default();
    let latest = |one: &Value| {
        let times = one["partitions"].as_array().into_iter().flatten().filter_map(|one| one["stream_time"].as_i64());
        times.max().map_or("none".to_owned(), format_instant)
    };
    for file in positions["files"].as_array().into_iter().flatten() {
        let time = latest(file);
        let (name, bytes) = (file["name"].as_str().unwrap_or_default(), &file["content"]["length"]);
        append(text, format_args!("{name}: {bytes} bytes, read up to record {}, stream time {time}\n", file["last"]));
    }
    for followed in positions["followed"].as_array().into_iter().flatten() {
        let (time, position) = (latest(followed), &followed["position"]);
        let (name, lines) = (followed["name"].as_str().unwrap_or_default(), &position["lines"]);
        append(text, format_args!("{name}: followed, read up to record {lines}, stream time {time}\n"));
        for file in position["open"].as_array().into_iter().flatten() {
            let (inode, bytes, line) = (&file["id"]["inode"], &file["content"]["length"], &file["line"]);
            append(text, format_args!("{name}: inode {inode}: {bytes} bytes, read up to line {line}\n"));
        }
    }
    if let Some(spool) = positions.get("spool") {
        let (origin, next) = (spool["origin"].as_str().unwrap_or_default(), &spool["next"]);
        let time = spool["stream_time"].as_i64().map_or("none".to_owned(), format_instant);
        append(text, format_args!("{origin}: spool, read up to offset {next}, stream time {time}\n"));
    }
    for topic in positions["topics"].as_array().into_iter().flatten() {
        let (name, partition, next) =
            (topic["topic"].as_str().unwrap_or_default(), &topic["partition"], &topic["next"]);
        let time = topic["stream_time"].as_i64().map_or("none".to_owned(), format_instant);
        append(text, format_args!("{name}/{partition}: read up to offset {next}, stream time {time}\n"));
    }
}

fn append(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(line);
}
