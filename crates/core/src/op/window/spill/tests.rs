//! Compares windows whose state is in files with the same windows in memory, for any stream, batch split and bound.

use crate::kind::metric::Row;
use crate::op::state_storage::{MemoryBound, MemoryStorage};
use crate::op::window::metric::Emit;
use crate::op::window::tests::{
    Event, MANY, Outcomes, WIDE, announce, batch, check_cases, collect, events, options, run, splits, stream_times,
};
use crate::op::window::{Options, Window};
use proptest::prelude::*;

/// Bounds in bytes: every group is in files, the largest ones are, or state comes and goes.
const BOUNDS: [usize; 4] = [0, 600, 4_000, 40_000];

/// Windows that do not overlap, of few keys.
const FEW: &str = "[[metric]]\nname='n'\naggregate='sum(v)'\nsize='2s'\nlateness='9s'\n\
    [[metric]]\nname='m'\naggregate='max(v)'\nsize='2s'\nlateness='9s'\nwhere='v > 0'\n\
    [[metric]]\nname='gaps'\nby=['k']\nsize='3s'\nslide='5s'\nlateness='40s'\n\
    [[metric]]\nname='days'\naggregate='sum(v)'\nby=['k']\nsize='1mo'";

/// Windows that overlap, of few keys; a slide may not divide the size.
const HOPS: &str = "[[metric]]\nname='n'\naggregate='sum(v)'\nsize='3s'\nslide='1s'\nlateness='9s'\n\
    [[metric]]\nname='m'\naggregate='max(v)'\nsize='3s'\nslide='1s'\nlateness='9s'\nwhere='v > 0'\n\
    [[metric]]\nname='odd'\nby=['k']\nsize='5s'\nslide='2s'\nlateness='40s'\n\
    [[metric]]\nname='long'\naggregate='stddev(v)'\nsize='9s'\nslide='1s'";

fn bounded(options: Options, bytes: usize, storage: &MemoryStorage) -> Options {
    Options { memory: Some(MemoryBound { bytes, storage: Box::new(storage.clone()) }), ..options }
}

/// Events of more keys, some of which are far behind the stream time of their partition.
fn scattered() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..3u8, 0..200i64, 0..8u8, -9..9i32, 0..9u8);
    proptest::collection::vec(event, 0..100).prop_map(|events| {
        let place = |(at, (partition, back, key, value, late)): (usize, (u8, i64, u8, i32, u8))| {
            let back = if late == 0 { back } else { back / 20 };
            Event { partition, time: 2 * at as i64 - back, key, value }
        };
        events.into_iter().enumerate().map(place).collect()
    })
}

fn compare(
    toml: &str,
    emit: Emit,
    (events, splits): (&[Event], &[usize]),
    bound: i64,
    bytes: usize,
) -> Result<usize, TestCaseError> {
    let make = || options(toml, bound, emit);
    let storage = MemoryStorage::default();
    let expected: Outcomes = run(&make, events, splits, false);
    let found = run(&|| bounded(make(), bytes, &storage), events, splits, false);
    prop_assert_eq!(&found, &expected);
    let cut = run(&|| bounded(make(), bytes, &storage), events, splits, true);
    prop_assert_eq!(&cut, &expected, "saved and restored before each batch");
    let (written, left) = storage.files();
    prop_assert_eq!(left, 0, "no file is left");
    Ok(written)
}

#[test]
fn state_in_files_has_the_results_of_state_in_memory() {
    for (toml, usual) in [(MANY, 30), (WIDE, 15), (FEW, 40), (HOPS, 60)] {
        for emit in [Emit::Panes, Emit::Final] {
            let written = std::cell::Cell::new(0);
            let strategy = (prop_oneof![events(), scattered()], splits(), 0..25i64, prop::sample::select(&BOUNDS[..]));
            let cases = check_cases(usual, &strategy, |(events, splits, bound, bytes)| {
                written.set(written.get() + compare(toml, emit, (&events, &splits), bound, bytes)?);
                Ok(())
            });
            assert!(written.get() > cases, "{} files", written.get());
        }
    }
}

/// One partition has not begun, so nothing fires, and no state ends.
#[test]
fn state_in_memory_stays_within_its_bound_while_the_watermark_is_held() {
    let storage = MemoryStorage::default();
    let toml = "[[metric]]\nname='n'\nby=['k']\nsize='1d'\naggregate='sum(v)'\n\
        [[metric]]\nname='visits'\nby=['v']\ngap='20s'";
    let bytes = 100_000;
    let mut window = Window::new(bounded(options(toml, 5, Emit::Panes), bytes, &storage));
    for at in 0..120 {
        let events: Vec<Event> = (0..50)
            .map(|row| Event { partition: 0, time: at, key: (row % 7) as u8, value: (at * 50 + row) as i32 })
            .collect();
        window.on_batch(&batch(&events, &stream_times(&events)), 0).unwrap();
        window.fire(&mut |_| panic!("nothing fires")).unwrap();
        let size = window.size();
        assert!(size.memory <= 2 * bytes as u64, "batch {at}: {size:?}");
    }
    assert!(window.size().disk > bytes as u64, "{:?}", window.size());
    let mut rows = 0;
    window
        .on_exhausted(&mut |row| {
            rows += row.rows;
            Ok(())
        })
        .unwrap();
    assert_eq!(rows, 2 * 120 * 50);
}

/// Metrics of two groups that change: one ends, one begins, and one is defined in another way.
const CHANGING: [&str; 3] = [
    "[[metric]]\nname='a'\naggregate='sum(v)'\nby=['k']\nsize='10s'\n\
     [[metric]]\nname='b'\naggregate='count(*)'\nby=['k']\nsize='10s'\nwhere='v > 0'\n\
     [[metric]]\nname='s'\naggregate='sum(v)'\nby=['k']\ngap='6s'\nlateness='4s'",
    "[[metric]]\nname='c'\naggregate='min(v)'\nby=['k']\nsize='10s'\nwhere='v < 3'\n\
     [[metric]]\nname='b'\naggregate='count(*)'\nby=['k']\nsize='10s'\nwhere='v > 0'\n\
     [[metric]]\nname='t'\naggregate='approx_distinct(partition)'\nby=['k']\ngap='6s'\nlateness='4s'\n\
     [[metric]]\nname='s'\naggregate='sum(v)'\nby=['k']\ngap='6s'\nlateness='4s'",
    "[[metric]]\nname='s'\naggregate='max(v)'\nby=['k']\ngap='6s'\nlateness='4s'\n\
     [[metric]]\nname='b'\naggregate='count(*)'\nby=['k']\nsize='10s'\nwhere='v > 0'\n\
     [[metric]]\nname='a'\naggregate='sum(v)'\nby=['k']\nsize='10s'",
];

/// Settles and saves the state after each batch and restores it with the metrics of the next version.
fn run_changing(
    make: &dyn Fn(usize) -> Options,
    (events, splits): (&[Event], &[usize]),
    versions: &[usize],
) -> Outcomes {
    let version = |at: usize| versions[at % versions.len()];
    let mut window = Window::new(make(version(0)));
    announce(&mut window, 3);
    let times = stream_times(events);
    let (mut outcomes, mut start) = (Outcomes::default(), 0);
    for (at, end) in splits.iter().copied().chain([events.len()]).enumerate() {
        let end = end.min(events.len());
        if end <= start {
            continue;
        }
        if at > 0 {
            window.settle(&mut |row| collect(&mut outcomes, row)).unwrap();
            window.files().unwrap();
            window = Window::restore(make(version(at)), &window.snapshot()).unwrap();
        }
        let late = window.on_batch(&batch(&events[start..end], &times[start..end]), 0).unwrap().late;
        outcomes.late.extend(late.iter().map(|late| (start + late.row as usize, late.metric as usize, late.half)));
        window.fire(&mut |row| collect(&mut outcomes, row)).unwrap();
        start = end;
    }
    window.on_exhausted(&mut |row| collect(&mut outcomes, row)).unwrap();
    outcomes
}

#[test]
fn metrics_that_change_beside_others_in_files_have_the_results_of_those_in_memory() {
    let written = std::cell::Cell::new(0);
    let versions = proptest::collection::vec(0..CHANGING.len(), 1..5);
    let strategy = (scattered(), splits(), versions, 0..25i64, prop::sample::select(&BOUNDS[..]));
    let cases = check_cases(60, &strategy, |(events, splits, versions, bound, bytes)| {
        let make = |version: usize| options(CHANGING[version], bound, Emit::Panes);
        let storage = MemoryStorage::default();
        let expected = run_changing(&make, (&events, &splits), &versions);
        let found = run_changing(&|version| bounded(make(version), bytes, &storage), (&events, &splits), &versions);
        prop_assert_eq!(&found, &expected);
        let (files, left) = storage.files();
        prop_assert_eq!(left, 0, "no file is left");
        written.set(written.get() + files);
        Ok(())
    });
    assert!(written.get() > cases, "{} files", written.get());
}

/// Returns each row, in the order in which it was emitted. Unless `is_exhausted`, the run stops before the end.
fn emitted(make: &dyn Fn() -> Options, events: &[Event], splits: &[usize], is_exhausted: bool) -> Vec<String> {
    let mut window = Window::new(make());
    window.keep_order();
    announce(&mut window, 3);
    let (times, mut start) = (stream_times(events), 0);
    let mut rows = vec![];
    let mut push = |row: &Row<'_>| {
        rows.push(format!("{row:?}"));
        Ok(())
    };
    for end in splits.iter().copied().chain([events.len()]) {
        let end = end.min(events.len());
        if end <= start {
            continue;
        }
        window.on_batch(&batch(&events[start..end], &times[start..end]), 0).unwrap();
        window.fire(&mut push).unwrap();
        start = end;
    }
    if is_exhausted { window.on_exhausted(&mut push) } else { window.settle(&mut push) }.unwrap();
    rows
}

#[test]
fn final_rows_of_state_in_files_come_in_the_order_of_state_in_memory() {
    // Sessions of a long gap wait long for each other.
    let long = MANY.replace("gap='6s'", "gap='40s'");
    for toml in [MANY, WIDE, FEW, HOPS, &long] {
        let written = std::cell::Cell::new(0);
        let strategy = (
            (prop_oneof![events(), scattered()], splits()),
            prop_oneof![(0..25i64).prop_map(Some), Just(None)],
            prop::sample::select(&BOUNDS[..]),
            any::<bool>(),
        );
        let cases = check_cases(40, &strategy, |((events, splits), bound, bytes, is_exhausted)| {
            let make = || {
                let mut options = options(toml, bound.unwrap_or_default(), Emit::Final);
                options.watermark.out_of_orderness = options.watermark.out_of_orderness.filter(|_| bound.is_some());
                options
            };
            let storage = MemoryStorage::default();
            let found = emitted(&|| bounded(make(), bytes, &storage), &events, &splits, is_exhausted);
            prop_assert_eq!(found, emitted(&make, &events, &splits, is_exhausted));
            let (files, left) = storage.files();
            prop_assert_eq!(left, 0, "no file is left");
            written.set(written.get() + files);
            Ok(())
        });
        assert!(written.get() > cases * 3 / 4, "{} files", written.get());
    }
}

/// Logs are merged without firing, and the next firing has the rows that came with them.
#[test]
fn windows_in_files_fire_again_when_another_one_fires() {
    let storage = MemoryStorage::default();
    let toml = "[[metric]]\nname='n'\naggregate='count(*)'\nby=['k']\nsize='2s'\nlateness='1000s'";
    let mut window = Window::new(bounded(options(toml, 0, Emit::Panes), 0, &storage));
    announce(&mut window, 1);
    let mut rows = vec![];
    for (time, back) in [(1, 0), (4, 0), (5, 4), (5, 0), (7, 0)] {
        let event = |key| Event { partition: 0, time: time - back, key, value: 0 };
        let events: Vec<Event> = (0..4).map(event).collect();
        window.on_batch(&batch(&events, &[stream_times(&[Event { time, ..events[0] }])[0]; 4]), 0).unwrap();
        window
            .fire(&mut |row| {
                rows.push((time, row.start, row.pane, row.rows));
                Ok(())
            })
            .unwrap();
    }
    let again: Vec<_> = rows.iter().filter(|row| row.2 == 1).collect();
    assert_eq!((again.len(), again[0].0, again[0].3), (4, 7, 2), "{rows:?}");
}

#[test]
fn hops_of_one_key_are_divided_by_windows() {
    let storage = MemoryStorage::default();
    let toml = "[[metric]]\nname='n'\naggregate='sum(v)'\nsize='4s'\nslide='1s'";
    let mut all = options(toml, 0, Emit::Final);
    all.watermark.out_of_orderness = None;
    let mut window = Window::new(bounded(all, 600, &storage));
    announce(&mut window, 1);
    let event = |at: i64| Event { partition: 0, time: at * 7 % 400, key: 0, value: at as i32 };
    for at in 0..40 {
        let events: Vec<Event> = (at * 10..at * 10 + 10).map(event).collect();
        window.on_batch(&batch(&events, &stream_times(&events)), 0).unwrap();
        window.fire(&mut |_| panic!("all wait for the end")).unwrap();
    }
    let ranges = window.groups[0].state.ranges();
    assert!(ranges.len() > 8, "{ranges:?}");
    let mut rows = 0;
    window
        .on_exhausted(&mut |row| {
            rows += row.rows;
            Ok(())
        })
        .unwrap();
    assert_eq!(rows, 4 * 400);
}
