//! Compares windows with a naive model that judges each row for each window by the rules alone, for any stream, batch
//! split, interleaving of partitions, and restart from a snapshot.

use super::metric::Emit;
use super::*;
use super::{spec, watermark};
use crate::frame::{PartitionState, State};
use crate::kind::Kind;
use crate::parallel::{Backwards, Parallelism};
use crate::test_cases::cases;
use crate::time::SECOND;
use arrow::array::{
    ArrayRef, DictionaryArray, FixedSizeBinaryArray, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One event: partition, time (s), key, value.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) partition: u8,
    pub(super) time: i64,
    pub(super) key: u8,
    pub(super) value: i32,
}

/// (name, start, end, dimensions), in seconds.
pub(super) type Key = (String, i64, i64, String);

/// The result of a run: the last row per natural key, and the late rows (row in the stream, metric, half).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcomes {
    pub(super) rows: BTreeMap<Key, (Option<f64>, u64)>,
    pub(super) late: Vec<(usize, usize, bool)>,
    pub(super) counts: Vec<MetricCounts>,
}

pub(super) fn options(toml: &str, out_of_orderness: i64, emit: Emit) -> Options {
    let spec = spec::file(toml).unwrap();
    let watermark = watermark::Options {
        out_of_orderness: Some(out_of_orderness * SECOND),
        explicit: false,
        new_partitions: false,
    };
    Options {
        leaves: spec.leaves,
        metrics: spec.metrics,
        watermark,
        emit,
        memory: None,
        parallelism: Parallelism::of(Arc::new(Backwards)),
    }
}

/// Returns the stream time of each event: the largest time so far in its partition.
pub(super) fn stream_times(events: &[Event]) -> Vec<i64> {
    let mut largest: BTreeMap<u8, i64> = BTreeMap::new();
    events
        .iter()
        .map(|event| {
            *largest.entry(event.partition).and_modify(|time| *time = event.time.max(*time)).or_insert(event.time)
        })
        .collect()
}

/// Writes a value. Some have so many digits that sums read the texts of their batch.
fn written(value: i32) -> String {
    if value % 4 == 0 { format!("{value}.00000000000000000000") } else { value.to_string() }
}

pub(super) fn batch(events: &[Event], stream_times: &[i64]) -> RecordBatch {
    let rows = events.len();
    let instants =
        |values: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) };
    let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows])) };
    let origin: DictionaryArray<Int32Type> = vec!["f"; rows].into_iter().collect();
    let names: Vec<String> = events.iter().map(|event| event.partition.to_string()).collect();
    let partition: DictionaryArray<Int32Type> = names.iter().map(String::as_str).collect();
    let properties: StringArray =
        events.iter().map(|event| Some(format!(r#"{{"k":"{}","v":{}}}"#, event.key, written(event.value)))).collect();
    let none: Vec<Option<i64>> = vec![None; rows];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(vec![[0u8; 16]; rows].into_iter()).unwrap()),
        same("s"),
        same("t"),
        Arc::new(StringArray::from(vec![None::<&str>; rows])),
        Arc::new(properties),
        Arc::new(TimestampMicrosecondArray::from(none.clone()).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(none.clone()).with_timezone("UTC")),
        instants(vec![0; rows]),
        instants(events.iter().map(|event| event.time * SECOND).collect()),
        Arc::new(origin),
        Arc::new(partition),
        Arc::new(Int64Array::from(vec![0; rows])),
        instants(stream_times.iter().map(|time| time * SECOND).collect()),
        Arc::new(Int64Array::from(none)),
    ];
    RecordBatch::try_new(Kind::Event.schema(), columns).unwrap()
}

pub(super) fn announce(window: &mut Window, partitions: u8) {
    let partitions = (0..partitions)
        .map(|name| PartitionState {
            input: 0,
            origin: "f".into(),
            partition: name.to_string(),
            stream_time: None,
            state: State::Live,
        })
        .collect();
    window.on_progress(&Progress { partitions, complete: true, ..Progress::default() }).unwrap();
}

pub(super) fn collect(outcomes: &mut Outcomes, row: &Row<'_>) -> Result<()> {
    let key = (row.name.to_owned(), row.start / SECOND, row.end / SECOND, row.dimensions.to_owned());
    if row.retracted {
        outcomes.rows.remove(&key);
    } else {
        outcomes.rows.insert(key, (row.value, row.rows));
    }
    Ok(())
}

/// Runs the operator over `events` in batches that end at `splits`; with `cut`, saves and restores it before each
/// batch.
pub(super) fn run(make: &dyn Fn() -> Options, events: &[Event], splits: &[usize], cut: bool) -> Outcomes {
    let mut window = Window::new(make());
    announce(&mut window, 3);
    let times = stream_times(events);
    let mut outcomes = Outcomes::default();
    let mut counts = vec![MetricCounts::default(); window.metrics().len()];
    let mut start = 0;
    for end in splits.iter().copied().chain([events.len()]).filter(|end| *end <= events.len()) {
        if end <= start {
            continue;
        }
        if cut {
            add(&mut counts, &window.counts());
            window.files().unwrap();
            let saved = window.snapshot();
            assert_eq!(saved, window.snapshot(), "a snapshot changes nothing");
            window = Window::restore(make(), &saved).unwrap();
            assert_eq!(saved, window.snapshot(), "what is restored saves the same");
        }
        let outcome = window.on_batch(&batch(&events[start..end], &times[start..end]), 0).unwrap();
        assert!(outcome.failed.is_empty());
        outcomes.late.extend(outcome.late.iter().map(|l| (start + l.row as usize, l.metric as usize, l.half)));
        let seen = outcome.counted + outcome.late_rows + outcome.filtered;
        assert_eq!(seen, (end - start) as u64, "one outcome each");
        window.fire(&mut |row| collect(&mut outcomes, row)).unwrap();
        start = end;
    }
    window.on_exhausted(&mut |row| collect(&mut outcomes, row)).unwrap();
    assert_eq!(window.held(), 0);
    add(&mut counts, &window.counts());
    outcomes.counts = counts;
    outcomes
}

fn add(sums: &mut [MetricCounts], counts: &[MetricCounts]) {
    for (sum, counts) in sums.iter_mut().zip(counts) {
        sum.counted += counts.counted;
        sum.late += counts.late;
        sum.filtered += counts.filtered;
        sum.half_late += counts.half_late;
        sum.late_idle += counts.late_idle;
        sum.partial += counts.partial;
        sum.bound_needed = sum.bound_needed.max(counts.bound_needed);
    }
}

/// Sliding windows of one metric, in the unit of the event times.
struct SlidingWindows {
    size: i64,
    slide: i64,
    lateness: i64,
}

/// The naive model of sliding windows: every window of every row, judged by the row alone.
fn naive(events: &[Event], windows: &SlidingWindows, out_of_orderness: i64) -> Outcomes {
    let SlidingWindows { size, slide, lateness } = *windows;
    let times = stream_times(events);
    let mut outcomes = Outcomes { counts: vec![MetricCounts::default()], ..Outcomes::default() };
    for (row, (event, stream_time)) in events.iter().zip(times).enumerate() {
        let (mut inside, mut counted) = (0, 0);
        let first = (event.time - size).div_euclid(slide) * slide;
        for start in (0..=size / slide + 2).map(|k| first + k * slide) {
            if !(start..start + size).contains(&event.time) {
                continue;
            }
            inside += 1;
            if stream_time - out_of_orderness < start + size + lateness {
                counted += 1;
                let key = ("m".to_owned(), start, start + size, format!(r#"{{"k":"{}"}}"#, event.key));
                let sum = outcomes.rows.entry(key).or_insert((Some(0.0), 0));
                *sum = (sum.0.map(|total| total + f64::from(event.value)), sum.1 + 1);
            }
        }
        let counts = &mut outcomes.counts[0];
        match (inside, counted) {
            (0, _) => counts.filtered += 1,
            (_, 0) => {
                counts.late += 1;
                outcomes.late.push((row, 0, false));
            }
            _ => {
                counts.counted += 1;
                if counted < inside {
                    counts.half_late += 1;
                    outcomes.late.push((row, 0, true));
                }
            }
        }
    }
    outcomes
}

pub(super) fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..3u8, -60..60i64, 0..3u8, -9..9i32).prop_map(|(partition, jitter, key, value)| Event {
        partition,
        time: jitter,
        key,
        value,
    });
    proptest::collection::vec(event, 0..60).prop_map(|mut events| {
        // Times mostly increase, with jitter, also before 1970.
        events.iter_mut().enumerate().for_each(|(at, event)| event.time = event.time / 3 + 4 * at as i64 - 60);
        events
    })
}

pub(super) fn splits() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..60usize, 0..12).prop_map(|mut splits| {
        splits.sort_unstable();
        splits
    })
}

fn check<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    check_cases(300, strategy, test);
}

/// Checks this many cases, in proportion to those of other properties; returns how many.
pub(super) fn check_cases<S: Strategy>(
    usual: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> usize {
    let config = cases(usual);
    let count = config.cases as usize;
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(config, random).run(strategy, test).unwrap();
    count
}

fn without_needed(mut outcomes: Outcomes) -> Outcomes {
    outcomes.counts.iter_mut().for_each(|counts| counts.bound_needed = 0);
    outcomes
}

#[test]
fn sliding_windows_equal_the_naive_model_half_late_rows_included() {
    for (size, slide, lateness) in [(10, 10, 0), (10, 5, 0), (7, 5, 3), (3, 10, 0), (12, 3, 20), (30, 30, 15)] {
        let windows = SlidingWindows { size, slide, lateness };
        let toml = format!(
            "[[metric]]\nname='m'\naggregate='sum(v)'\nby=['k']\nsize='{size}s'\nslide='{slide}s'\nlateness='{lateness}s'"
        );
        check(&(events(), splits(), 0..25i64), |(events, splits, bound)| {
            let make = || options(&toml, bound, Emit::Panes);
            let got = run(&make, &events, &splits, false);
            prop_assert_eq!(without_needed(got), naive(&events, &windows, bound));
            Ok(())
        });
    }
}

pub(super) const MANY: &str = "[[metric]]\nname='tumbling'\naggregate='sum(v)'\nby=['k']\nsize='10s'\n\
    [[metric]]\nname='sliding'\naggregate='stddev(v)'\nsize='12s'\nslide='5s'\nlateness='7s'\n\
    [[metric]]\nname='distinct'\naggregate='approx_distinct(k)'\nsize='20s'\nwhere='v > 0'\nlateness='3s'\n\
    [[metric]]\nname='session'\naggregate='count(*)'\nby=['partition','k']\ngap='6s'\nlateness='4s'\n\
    [[metric]]\nname='month'\naggregate='sum(v)'\nby=['k']\nsize='1mo'\nlateness='5s'";

#[test]
fn results_and_late_rows_are_the_same_for_any_batch_split_and_cut() {
    for emit in [Emit::Panes, Emit::Final] {
        check(&(events(), splits(), splits(), 0..25i64), |(events, first, second, bound)| {
            let make = || options(MANY, bound, emit);
            let whole = run(&make, &events, &first, false);
            prop_assert_eq!(&run(&make, &events, &second, false), &whole);
            prop_assert_eq!(&run(&make, &events, &second, true), &whole);
            Ok(())
        });
    }
}

#[test]
fn results_are_the_same_for_any_interleaving_of_partitions() {
    check(&(events(), splits(), 0..25i64, any::<u64>()), |(events, splits, bound, seed)| {
        let make = || options(MANY, bound, Emit::Panes);
        let whole = run(&make, &events, &splits, false);
        let order = interleave(&events, seed);
        let shuffled: Vec<Event> = order.iter().map(|at| events[*at].clone()).collect();
        let mut got = run(&make, &shuffled, &splits, false);
        got.late.iter_mut().for_each(|late| late.0 = order[late.0]);
        got.late.sort_unstable();
        prop_assert_eq!(&got.rows, &whole.rows);
        prop_assert_eq!(&got.late, &whole.late);
        Ok(())
    });
}

/// Returns another order of the same events that keeps each partition's own.
fn interleave(events: &[Event], mut seed: u64) -> Vec<usize> {
    let mut queues: Vec<std::collections::VecDeque<usize>> = vec![Default::default(); 3];
    events.iter().enumerate().for_each(|(at, event)| queues[usize::from(event.partition)].push_back(at));
    let mut order = vec![];
    while order.len() < events.len() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let partition = (seed >> 33) as usize % 3;
        order.extend(queues[partition].pop_front());
    }
    order
}

#[test]
fn rows_leave_in_the_order_of_due_time_window_end_metric_and_dimensions() {
    let make = || options(MANY, 5, Emit::Panes);
    let events: Vec<Event> =
        (0..50).map(|at| Event { partition: 0, time: at * 3, key: (at % 3) as u8, value: 1 }).collect();
    let mut window = Window::new(make());
    window.on_batch(&batch(&events, &stream_times(&events)), 0).unwrap();
    let mut keys = vec![];
    window
        .on_exhausted(&mut |row| {
            keys.push((row.end, row.name.to_owned(), row.dimensions.to_owned(), row.start));
            Ok(())
        })
        .unwrap();
    let mut sorted = keys.clone();
    // An event at the end of a session belongs to it, so a session is due after its end.
    sorted.sort_by_key(|(end, name, dimensions, start)| {
        (end + i64::from(name == "session"), *end, name.clone(), dimensions.clone(), *start)
    });
    assert!(keys.len() > 40);
    assert_eq!(keys, sorted);
}

#[test]
fn nothing_fires_before_every_partition_is_known_and_has_begun() {
    let make = || options(MANY, 0, Emit::Panes);
    let mut window = Window::new(make());
    let events: Vec<Event> = (0..50).map(|at| Event { partition: 0, time: at * 10, key: 0, value: 1 }).collect();
    let fired = std::cell::Cell::new(0);
    let count = |_: &Row<'_>| {
        fired.set(fired.get() + 1);
        Ok(())
    };
    announce(&mut window, 2);
    window.on_batch(&batch(&events, &stream_times(&events)), 0).unwrap();
    window.fire(&mut { count }).unwrap();
    assert_eq!((fired.get(), window.watermark().get()), (0, None));
    let other = [Event { partition: 1, time: 100, key: 0, value: 1 }];
    window.on_batch(&batch(&other, &[100]), 0).unwrap();
    window.fire(&mut { count }).unwrap();
    assert_eq!(window.watermark().get(), Some(100 * SECOND));
    assert!(fired.get() > 0);
    assert!(window.held() > 0);
}

#[test]
fn a_value_of_the_wrong_type_fails_for_the_metric_that_reads_it_and_only_where_it_is_asked() {
    let toml =
        "[[metric]]\nname='all'\nsize='1m'\n[[metric]]\nname='some'\nsize='1m'\naggregate='sum(k)'\nwhere='v > 5'";
    let mut window = Window::new(options(toml, 0, Emit::Panes));
    let mut events: Vec<Event> = (0..3).map(|at| Event { partition: 0, time: at, key: 1, value: 9 }).collect();
    events[1].value = 1;
    let mut rows = batch(&events, &stream_times(&events));
    let texts = vec![r#"{"k":"x","v":9}"#, r#"{"k":"x","v":1}"#, r#"{"k":"3","v":"n/a"}"#];
    let mut columns = rows.columns().to_vec();
    columns[column::PROPERTIES] = Arc::new(StringArray::from(texts));
    rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let outcome = window.on_batch(&rows, 0).unwrap();
    assert_eq!(outcome.failed.keys().collect::<Vec<_>>(), [&0, &2]);
    assert!(outcome.failed[&2].message.contains("v: expected a number, found \"n/a\""), "{:?}", outcome.failed);
    assert!(outcome.failed.values().all(|failed| failed.metrics == [1] && failed.is_partial), "{:?}", outcome.failed);
    assert_eq!((outcome.counted, outcome.dead, outcome.filtered), (3, 0, 0));
    let counts = window.counts();
    assert_eq!((counts[0].counted, counts[0].failed), (3, 0));
    assert_eq!((counts[1].counted, counts[1].filtered, counts[1].failed), (0, 1, 2));
}

#[test]
fn a_metric_that_begins_later_leaves_out_windows_it_saw_a_part_of() {
    let old = "[[metric]]\nname='old'\nsize='10s'";
    let both = "[[metric]]\nname='old'\nsize='10s'\n[[metric]]\nname='new'\nsize='10s'";
    let event = |time| Event { partition: 0, time, key: 0, value: 1 };
    let mut window = Window::new(options(old, 0, Emit::Panes));
    window.on_batch(&batch(&[event(3)], &[3]), 0).unwrap();
    let saved = window.snapshot();
    let mut window = Window::restore(options(both, 0, Emit::Panes), &saved).unwrap();
    window.on_batch(&batch(&[event(5), event(12)], &[5, 12]), 0).unwrap();
    let mut outcomes = Outcomes::default();
    window.on_exhausted(&mut |row| collect(&mut outcomes, row)).unwrap();
    let names: Vec<(&str, i64, u64)> =
        outcomes.rows.iter().map(|((name, start, ..), (_, rows))| (name.as_str(), *start, *rows)).collect();
    assert_eq!(names, [("new", 10, 1), ("old", 0, 2), ("old", 10, 1)]);
    assert_eq!(window.counts()[1].partial, 1);
}

/// Windows of so many slices that tree nodes sum them, late rows and refires included.
#[test]
fn windows_of_many_slices_equal_the_naive_model_and_so_they_do_after_a_cut() {
    for (size, slide, lateness) in [(100, 1, 0), (64, 1, 5), (41, 2, 0), (90, 4, 30)] {
        let windows = SlidingWindows { size, slide, lateness };
        let toml = format!(
            "[[metric]]\nname='m'\naggregate='sum(v)'\nby=['k']\nsize='{size}s'\nslide='{slide}s'\nlateness='{lateness}s'"
        );
        check_cases(50, &(events(), splits(), 0..25i64), |(events, splits, bound)| {
            let make = || options(&toml, bound, Emit::Panes);
            let naive = naive(&events, &windows, bound);
            prop_assert_eq!(&without_needed(run(&make, &events, &splits, false)), &naive);
            prop_assert_eq!(&without_needed(run(&make, &events, &splits, true)), &naive);
            Ok(())
        });
    }
}

#[test]
fn days_of_utc_equal_windows_of_24_hours_for_any_batch_split_and_cut() {
    for (emit, lateness) in [(Emit::Panes, "0s"), (Emit::Panes, "5h"), (Emit::Final, "5h")] {
        let metric = |zone| {
            format!(
                "[[metric]]\nname='m'\naggregate='rate(*)'\nby=['k']\nsize='1d'\nlateness='{lateness}'\n{zone}\n\
                 [[metric]]\nname='n'\naggregate='sum(v)'\nsize='1d'\nlateness='1h'\n{zone}"
            )
        };
        let (days, lengths) = (metric("zone='UTC'"), metric(""));
        check_cases(60, &(events(), splits(), splits(), 0..25i64), |(mut events, first, second, bound)| {
            events.iter_mut().for_each(|event| event.time *= 3_000);
            let expected = run(&|| options(&lengths, bound * 3_000, emit), &events, &first, false);
            let make = || options(&days, bound * 3_000, emit);
            prop_assert_eq!(&run(&make, &events, &first, false), &expected);
            prop_assert_eq!(&run(&make, &events, &second, true), &expected);
            Ok(())
        });
    }
}

pub(super) const WIDE: &str = "[defaults]\nsize='90s'\nslide='1s'\nlateness='15s'\n[[metric]]\nname='spread'\naggregate='stddev(v)'\n\
    [[metric]]\nname='p90'\naggregate='approx_percentile(v, 0.9)'\nby=['k']\n\
    [[metric]]\nname='distinct'\naggregate='approx_distinct(v)'\nsize='61s'\nslide='2s'";

#[test]
fn wide_windows_are_the_same_for_any_batch_split_and_cut() {
    for emit in [Emit::Panes, Emit::Final] {
        check_cases(50, &(events(), splits(), splits(), 0..25i64), |(events, first, second, bound)| {
            let make = || options(WIDE, bound, emit);
            let whole = run(&make, &events, &first, false);
            prop_assert_eq!(&run(&make, &events, &second, false), &whole);
            prop_assert_eq!(&run(&make, &events, &second, true), &whole);
            Ok(())
        });
    }
}
