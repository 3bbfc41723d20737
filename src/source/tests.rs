//! Tests of a source of files: the order of inputs, when partitions are announced, the end, and failures.

use super::*;
use evt_core::frame::Encoder;
use evt_core::mapping::TimeFrom;
use evt_run::clock::Clock;
use std::path::{Path, PathBuf};

fn run() -> Rc<Run> {
    Rc::new(Run::unwatched("evt-validate", Clock::Fixed(100_000_000)))
}

/// Writes a file of one event per second; returns its path.
fn file(dir: &Path, name: &str, events: u64) -> PathBuf {
    let line = |second| format!("{{\"server_timestamp\":\"2030-01-01T00:00:{second:02}Z\"}}\n");
    let path = dir.join(name);
    std::fs::write(&path, (0..events).map(line).collect::<String>()).unwrap();
    path
}

/// Writes the rows of a source as frames whose end is `how`, or that break off without one.
fn frames(from: &Path, to: &Path, how: Option<EndReason>) {
    let mut source = open(&[from], SourceOptions::default()).unwrap();
    let (mut encoder, mut bytes) = Encoder::new(source.schema());
    for item in items(&mut source).unwrap() {
        let pieces = match item {
            (_, Item::Batch(batch)) => encoder.batch(&batch).unwrap(),
            (_, Item::Control(control)) => encoder.control(&control).unwrap(),
            _ => vec![],
        };
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    }
    if let Some(how) = how {
        let end = Control::End(End { how, rows: encoder.rows(), verdict: 1 });
        encoder.control(&end).unwrap().iter().for_each(|piece| bytes.extend_from_slice(piece));
        bytes.extend(encoder.finish());
    }
    std::fs::write(to, bytes).unwrap();
}

fn salvaging(salvage: bool) -> SourceOptions {
    SourceOptions { needs: ToolNeeds { salvage, ..ToolNeeds::default() }, ..SourceOptions::default() }
}

fn open(paths: &[&Path], options: SourceOptions) -> Result<Source> {
    let inputs: Vec<Uri> = paths.iter().map(|path| Uri::parse(path, &Default::default()).unwrap()).collect();
    Source::open(&inputs, options, run())
}

/// Returns all items up to the end, each with the number of its input.
fn items(source: &mut Source) -> Result<Vec<(u32, Item)>> {
    let mut items = vec![];
    loop {
        match source.poll()? {
            Polled::Progress => {}
            Polled::Waiting(timeout) => source.wait(timeout)?,
            Polled::Item(QueuedItem { input, item }) => {
                let is_end = matches!(item, Item::End(_));
                items.push((input, item));
                if is_end {
                    return Ok(items);
                }
            }
        }
    }
}

/// Returns the rows of each input.
fn rows(items: &[(u32, Item)]) -> Vec<(u32, usize)> {
    let rows = |(input, item): &(u32, Item)| match item {
        Item::Batch(batch) => Some((*input, batch.num_rows())),
        _ => None,
    };
    items.iter().filter_map(rows).collect()
}

#[test]
fn files_are_read_in_their_order_and_a_batch_has_rows_of_one_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (file(dir.path(), "a.jsonl", 3), file(dir.path(), "b.jsonl", 2));
    let mut source = open(&[&first, &second], SourceOptions::default()).unwrap();
    let items = items(&mut source).unwrap();
    assert_eq!(rows(&items), [(0, 3), (1, 2)]);
    assert_eq!(source.counts(), Counts { taken: 5, out: 5, ..Counts::default() });
    let progress = |(_, item): &(u32, Item)| match item {
        Item::Control(Control::Progress(progress)) => Some(progress.clone()),
        _ => None,
    };
    let progress: Vec<_> = items.iter().filter_map(progress).collect();
    // Both partitions are known before the first row, so a window never fires before the second file was read.
    assert_eq!(progress[0].partitions.len(), 2);
    assert!(progress.iter().all(|progress| progress.complete));
    assert!(matches!(items.last(), Some((_, Item::End(End { how: EndReason::Exhausted, verdict: 0, .. })))));
}

#[test]
fn an_end_is_as_bad_as_that_of_the_worst_input() {
    let dir = tempfile::tempdir().unwrap();
    let (text, stopped, whole) = (file(dir.path(), "a", 3), dir.path().join("s.frames"), dir.path().join("w.frames"));
    frames(&text, &stopped, Some(EndReason::Stopped));
    frames(&text, &whole, Some(EndReason::Exhausted));
    let mut source = open(&[&stopped, &whole], SourceOptions::default()).unwrap();
    let items = items(&mut source).unwrap();
    assert_eq!(rows(&items), [(0, 3), (1, 3)]);
    assert!(matches!(items.last(), Some((_, Item::End(End { how: EndReason::Stopped, verdict: 1, .. })))));
    assert!(source.repeats_partitions(), "both name the partition of the same file");
    assert_eq!(source.proof(), EndProof::Proven);
}

#[test]
fn an_input_that_fails_gives_its_rows_before_the_error_only_if_it_is_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    let (text, torn) = (file(dir.path(), "a", 3), dir.path().join("torn.frames"));
    frames(&text, &torn, None);
    for salvage in [true, false] {
        let mut source = open(&[&torn], salvaging(salvage)).unwrap();
        let mut found = 0;
        let error = loop {
            match source.poll() {
                Ok(Polled::Item(QueuedItem { item: Item::Batch(batch), .. })) => found += batch.num_rows(),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(found, 3, "whole frames before the tear are rows");
    }
    let text = "{\"server_timestamp\":\"2030-01-01T00:00:00Z\"}\n".repeat(10);
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::none());
    std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let cut = dir.path().join("cut.jsonl.gz");
    std::fs::write(&cut, &packed[..packed.len() - 20]).unwrap();
    for (salvage, expected) in [(true, true), (false, false)] {
        let mut source = open(&[&cut], salvaging(salvage)).unwrap();
        let mut found = 0;
        while let Ok(polled) = source.poll() {
            if let Polled::Item(QueuedItem { item: Item::Batch(batch), .. }) = polled {
                found += batch.num_rows();
            }
        }
        assert_eq!(found > 0, expected, "{found} rows with salvage {salvage}");
    }
}

#[test]
fn two_raw_inputs_of_one_origin_are_an_error_and_a_record_without_a_time_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "a.jsonl", 1);
    let kind = |paths: &[&Path], options| open(paths, options).err().map(|error| error.kind());
    assert_eq!(kind(&[&path, &path], SourceOptions::default()), Some(ErrorKind::Usage));
    let untimed = dir.path().join("b.jsonl");
    std::fs::write(&untimed, "{\"a\":1}\n").unwrap();
    let mut source = open(&[&untimed], SourceOptions::default()).unwrap();
    assert_eq!(items(&mut source).unwrap_err().kind(), ErrorKind::Usage);
    let mut options = SourceOptions::default();
    options.records.mapping.time = TimeFrom::Arrival;
    let mut source = open(&[&untimed], options).unwrap();
    assert_eq!(rows(&items(&mut source).unwrap()), [(0, 1)]);
}

#[test]
fn the_file_that_a_tool_has_opened_is_read_although_another_one_has_its_name_now() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "a.jsonl", 3);
    let options = SourceOptions { opened: Some(std::fs::File::open(&path).unwrap()), ..SourceOptions::default() };
    std::fs::rename(&path, dir.path().join("a.jsonl.1")).unwrap();
    file(dir.path(), "a.jsonl", 5);
    assert_eq!(rows(&items(&mut open(&[&path], options).unwrap()).unwrap()), [(0, 3)]);
}
