//! Stores that get rows before their epoch is complete: a process is killed at each step, and the next one repeats what
//! follows its epoch, with other panes or the same.

use super::conformance::{Bench, Rows};
use super::sample::{START, as_text};
use crate::{ALL, Sink, Visibility};
use arrow::array::RecordBatch;
use evt_core::ErrorKind;
use evt_core::kind::Kind;
use evt_core::kind::metric::{Builder, Row};
use evt_core::time::calendar::MINUTE;
use evt_run::checkpoint::epoch::Epoch;

/// Every reachable store that can write rows at once.
fn stores() -> impl Iterator<Item = Bench> {
    let stores = ALL.iter().filter(|store| store.visibility != Visibility::AtEnd);
    stores.filter_map(|store| if store.is_remote() { Bench::on_server(store) } else { Some(Bench::new(store)) })
}

/// Opens a store as a process of a run with a checkpoint.
fn open(bench: &Bench) -> Box<dyn Sink> {
    bench.open_with(|options| {
        options.run = "checkpoint/1-evt-window".to_owned();
        options.epochs = true;
        options.is_at_once = true;
    })
}

/// Makes one row: the metric, the minutes of its window, and its number of events, which is negative in a retraction.
fn row(name: &str, (start, end): (i64, i64), rows: i64) -> RecordBatch {
    let (start, end) = (START + start * MINUTE, START + end * MINUTE);
    let mut builder = Builder::default();
    let (value, retracted) = (Some(rows.abs() as f64), rows < 0);
    let row = Row {
        name,
        start,
        end,
        dimensions: r#"{"user_id":"ada"}"#,
        value,
        rows: rows.unsigned_abs(),
        revision: 0,
        pane: 0,
        retracted,
    };
    builder.push(&row).unwrap();
    builder.finish(Kind::Metric.schema()).unwrap()
}

/// Rows of a file or a topic, in which a session replaces two others, and one grows without moving; and a window that
/// fires twice.
fn recorded() -> Vec<RecordBatch> {
    let visit = |window, rows| row("visits", window, rows);
    vec![
        visit((0, 10), 3),
        visit((20, 30), 2),
        row("hours", (0, 10), 1),
        row("hours", (0, 60), 4),
        visit((0, 10), -3),
        visit((20, 30), -2),
        visit((0, 40), 6),
        visit((50, 60), 1),
        visit((50, 60), 2),
        row("hours", (0, 60), 7),
    ]
}

/// The rows that are stored of these in the end.
fn results() -> Vec<RecordBatch> {
    vec![row("hours", (0, 10), 1), row("hours", (0, 60), 7), row("visits", (0, 40), 6), row("visits", (50, 60), 2)]
}

fn write(sink: &mut dyn Sink, rows: &[RecordBatch]) {
    for row in rows {
        assert!(sink.write(Kind::Metric, row).unwrap().is_empty());
        sink.counts().check().unwrap();
    }
}

#[test]
fn whatever_a_killed_process_has_written_the_next_one_leaves_each_window_once() {
    let early = || vec![row("hours", (0, 60), 4), row("hours", (0, 10), 1), row("hours", (0, 60), 7)];
    let last = || vec![row("hours", (0, 10), 1), row("hours", (0, 60), 7)];
    let cases = [("recorded", recorded(), recorded(), results()), ("last", early(), last(), last())];
    for (panes, before, again, expected) in cases {
        let expected = as_text(&expected);
        for step in 0..=before.len() {
            for bench in stores() {
                let mut killed = open(&bench);
                write(&mut *killed, &before[..step]);
                drop(killed);
                let mut next = open(&bench);
                write(&mut *next, &again);
                next.settle().unwrap();
                next.commit(Epoch { run: 2, number: 1 }, &mut Rows::new(Kind::Metric, vec![])).unwrap();
                let outcome = next.finish().unwrap();
                let context = format!("{}, {step} rows before, {panes} panes", bench.location);
                assert_eq!(bench.table(Kind::Metric), expected, "{context}");
                assert!(outcome.notices.iter().all(|notice| !notice.fails), "{context}: {:?}", outcome.notices);
            }
        }
    }
}

/// The rows of an old process are guarded; at its next barrier it learns that it has been replaced.
#[test]
fn an_old_process_repeats_rows_and_is_fenced_at_its_next_epoch() {
    for bench in stores() {
        let (mut old, mut new) = (open(&bench), open(&bench));
        write(&mut *new, &recorded());
        new.commit(Epoch { run: 2, number: 1 }, &mut Rows::new(Kind::Metric, vec![])).unwrap();
        write(&mut *old, &recorded());
        let fenced = old.commit(Epoch { run: 1, number: 9 }, &mut Rows::new(Kind::Metric, vec![]));
        assert_eq!(fenced.unwrap_err().kind(), ErrorKind::Fenced, "{}", bench.location);
        assert_eq!(bench.table(Kind::Metric), as_text(&results()), "{}", bench.location);
        assert_eq!(open(&bench).committed().unwrap(), Some(Epoch { run: 2, number: 1 }));
    }
}
