//! Any bytes through the source of a stage and the operators behind it: detection, unpacking, control lines, every
//! format, windows, repeats; and the law of counts at the end.

use super::cuts::chosen;
use super::snapshot;
use evt::output::dead_letters::DeadLetters;
use evt::output::file::Overwrite;
use evt::output::{OutputPlan, OutputSpec};
use evt::source::{Polled, Source, SourceOptions};
use evt::uri::Uri;
use evt_core::format::{EncodeOptions, jsonl, to_read};
use evt_core::frame::Control;
use evt_core::kind::Kind;
use evt_core::mapping::{self, Provenance, TimeFrom};
use evt_core::op::dedup::Dedup;
use evt_core::op::window::Window;
use evt_run::clock::Clock;
use evt_run::emit::Item;
use evt_run::run::Run;
use std::io::{Seek, Write};
use std::rc::Rc;
use tempfile::NamedTempFile;

/// The values of `-f`; the last two detect the format.
const FORMATS: [&str; 8] = ["jsonl", "csv", "tsv", "clf", "avro", "syslog", "", ""];

thread_local! {
    static FILE: std::cell::RefCell<NamedTempFile> = std::cell::RefCell::new(NamedTempFile::new().expect("a file"));
}

/// The first byte chooses the format, whether control lines count, and where provenance comes from.
pub fn run(input: &[u8]) {
    let Some((flags, rest)) = chosen(input) else { return };
    let uri = FILE.with_borrow_mut(|file| -> std::io::Result<Uri> {
        file.as_file_mut().set_len(0)?;
        file.rewind()?;
        file.write_all(rest)?;
        Ok(Uri::File(file.path().into()))
    });
    let uri = uri.expect("a file");
    let clock = Clock::Fixed(1_700_000_000_000_000);
    let run = Rc::new(Run { record_max: 4096, ratio_max: 10, ..Run::unwatched("evt-fuzz", clock) });
    let spec = OutputSpec {
        format: None,
        terminal_format: &evt_core::format::jsonl::FORMAT,
        pipe_format: &evt_core::format::jsonl::FORMAT,
        is_named: true,
        quiet: true,
        is_check: false,
        overwrite: Overwrite::Off,
        control: false,
        encode: EncodeOptions::default(),
    };
    let output = OutputPlan::try_new("null:", &spec, &run).expect("nothing is opened");
    let mut dead = DeadLetters::new(run.clone(), Some(output));
    dead.open().expect("nothing is opened");
    let Ok(source) = Source::open(&[uri], options(flags), run) else { return };
    drain(source, &mut dead);
}

fn options(flags: u8) -> SourceOptions {
    let format = FORMATS[usize::from(flags) % FORMATS.len()];
    let provenance = if flags & 8 == 0 { Provenance::Keep } else { Provenance::Overwrite };
    let time = if flags & 16 == 0 { TimeFrom::Optional } else { TimeFrom::Default };
    let max_future = (flags & 32 != 0).then_some(60_000_000);
    let raw_only = flags & 64 != 0;
    let mut options = SourceOptions::default();
    options.records.mapping = mapping::Options { provenance, time, max_future, ..mapping::Options::default() };
    options.records.control = flags & 128 != 0;
    options.inputs.files.format = (!format.is_empty()).then(|| to_read(format).expect("a format"));
    options.inputs.files.raw_only = raw_only;
    options
}

fn drain(mut source: Source, dead: &mut DeadLetters) {
    let mut window = Window::new(snapshot::options());
    let mut dedup = Dedup::new(snapshot::span());
    let mut rows = 0;
    for _ in 0..4096 {
        let item = match source.poll() {
            Ok(Polled::Item(sent)) => sent.item,
            Ok(Polled::Progress | Polled::Waiting(_)) => continue,
            Err(_) => return,
        };
        match item {
            Item::Batch(batch) => {
                rows += batch.num_rows() as u64;
                let mut text = String::new();
                let mut objects = jsonl::Objects::try_new(&batch).expect("rows of a kind");
                (0..batch.num_rows().min(100)).for_each(|row| objects.write(row, &mut text));
                if source.kind() == Kind::Event && Kind::of(batch.schema_ref()) == Some(Kind::Event) {
                    let Ok(kept) = dedup.on_batch(&batch) else { return };
                    assert_eq!(kept.len(), batch.num_rows());
                    let Ok(outcome) = window.on_batch(&batch, 0) else { return };
                    let outcomes = outcome.counted + outcome.late_rows + outcome.filtered + outcome.dead;
                    assert_eq!(outcomes, batch.num_rows() as u64, "one outcome each");
                    window.fire(&mut |_| Ok(())).expect("results");
                }
            }
            Item::Control(Control::Progress(progress)) => {
                if window.on_progress(&progress).is_err() {
                    return;
                }
            }
            Item::Control(Control::Watermark(instant)) => window.on_explicit_watermark(instant),
            Item::Dead(letters) => dead.take(&letters).expect("letters"),
            Item::Control(_) | Item::Idle => {}
            Item::End(_) => {
                window.on_exhausted(&mut |_| Ok(())).expect("results");
                let counts = source.counts();
                assert_eq!(counts.out, rows);
                counts.check().expect("the law of counts");
                return;
            }
        }
    }
}
