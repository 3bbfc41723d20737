//! Compares cells that count late events with a naive model that knows only the rule.

use super::*;
use crate::backfill::MetricScope;
use crate::kind::Kind;
use crate::op::late_rows;
use crate::op::window::spec;
use crate::time::SECOND;
use arrow::array::{StringArray, TimestampMicrosecondArray};
use proptest::prelude::*;
use std::sync::Arc;

const METRICS: &str = "[[metric]]\nname = 'w'\naggregate = 'sum(v)'\nby = ['k']\nwhere = 'v > 0'\n\
                       size = '10s'\nslide = '5s'\nlateness = '3s'";
/// In seconds.
pub const OUT_OF_ORDERNESS: i64 = 2;

/// Event time and stream time (s), key and value.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub time: i64,
    pub stream_time: i64,
    pub key: u8,
    pub value: i64,
}

/// Makes events of steps (seconds ahead and behind, key, value), stamped as one stream.
pub fn events(steps: Vec<(i64, i64, u8, i64)>) -> Vec<Event> {
    let (mut now, mut events) = (0, vec![]);
    for (ahead, behind, key, value) in steps {
        let time = (now + ahead - behind).max(0);
        now = now.max(time) + ahead;
        let stream_time = now.max(time);
        events.push(Event { time, stream_time, key, value });
    }
    events
}

pub fn batch(events: &[Event]) -> RecordBatch {
    let properties: Vec<String> =
        events.iter().map(|event| format!(r#"{{"k":"{}","v":{}}}"#, event.key, event.value)).collect();
    let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
    let made = crate::test_events::events(&properties);
    let mut columns = made.columns().to_vec();
    let instants = |of: fn(&Event) -> i64| -> ArrayRef {
        let times: Vec<i64> = events.iter().map(|event| of(event) * SECOND).collect();
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
    };
    columns[column::EVENT_TIME] = instants(|event| event.time);
    columns[column::STREAM_TIME] = instants(|event| event.stream_time);
    columns[column::PROPERTIES] = Arc::new(StringArray::from(properties));
    RecordBatch::try_new(Kind::Event.schema(), columns).unwrap()
}

/// The windows (start, end) of an instant, in seconds.
fn windows(time: i64) -> Vec<(i64, i64)> {
    (-20..1000)
        .step_by(5)
        .map(|start| (start, start + 10))
        .filter(|(start, end)| (*start..*end).contains(&time))
        .collect()
}

fn is_late(event: &Event, end: i64) -> bool {
    event.stream_time - OUT_OF_ORDERNESS >= end + 3
}

/// The naive model: the sum and the number of events of each cell that a late event names, by start, end and key of the
/// cell.
fn naive(events: &[Event], late: &[Event]) -> BTreeMap<(i64, i64, u8), (i64, u64)> {
    let mut named: BTreeMap<(i64, i64, u8), i64> = BTreeMap::new();
    for event in late.iter().filter(|event| event.value > 0) {
        // An event that is late by no stamps of its own names all of its windows.
        let any = windows(event.time).iter().any(|(_, end)| is_late(event, *end));
        for (start, end) in windows(event.time).into_iter().filter(|(_, end)| !any || is_late(event, *end)) {
            let until = named.entry((start, end, event.key)).or_insert(event.stream_time);
            *until = event.stream_time.max(*until);
        }
    }
    let mut cells = BTreeMap::new();
    for ((start, end, key), until) in named {
        let counts = |event: &&Event| {
            let inside = event.key == key && event.value > 0 && windows(event.time).contains(&(start, end));
            inside && (!is_late(event, end) || event.stream_time <= until)
        };
        let counted: Vec<&Event> = events.iter().filter(counts).collect();
        let sum = counted.iter().map(|event| event.value).sum();
        cells.insert((start, end, key), (sum, counted.len() as u64));
    }
    cells
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_named_cell_counts_what_live_counts_and_the_late_events_up_to_those_that_named_it(
        steps in prop::collection::vec((0i64..8, 0i64..60, 0u8..2, -1i64..9), 1..60),
        read in prop::collection::vec(any::<bool>(), 60),
        split in any::<prop::sample::Index>(),
    ) {
        let events = events(steps);
        let late: Vec<Event> = events.iter().zip(read).filter(|(_, read)| *read).map(|(event, _)| *event).collect();
        let wanted = naive(&events, &late);

        let spec = spec::file(METRICS).unwrap();
        let scope = Scope { metrics: spec.metrics.iter().map(MetricScope::of).collect(), ..Scope::default() };
        let mut cells = LateCells::new(spec, OUT_OF_ORDERNESS * SECOND);
        if !late.is_empty() {
            let rows: Vec<late_rows::Row> =
                (0..late.len()).map(|row| late_rows::Row { row, metrics: vec![0], partial: false }).collect();
            let rows = late_rows::batch(&batch(&late), &rows, &["w"]).unwrap();
            let found = cells.name(&rows, &scope, &MetricNames::from(["w".into()])).unwrap();
            for (row, event) in late.iter().enumerate() {
                prop_assert_eq!(found.named[row], event.value > 0);
                prop_assert_eq!(found.rejected.iter().any(|rejected| rejected.row == row), event.value <= 0);
            }
        }
        let (one, two) = events.split_at(split.index(events.len()));
        for part in [two, one] {
            cells.on_batch(&batch(part), &BatchOutcome::default()).unwrap();
        }
        let taken = cells.take("w", i64::MAX);
        prop_assert!(cells.is_empty());
        let mut got = BTreeMap::new();
        for (cell, content) in taken {
            let key = cell.key.dimensions.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u8>().unwrap();
            let content = content.map_or((0, 0), |content| (content.value.unwrap() as i64, content.rows as u64));
            got.insert((cell.key.start / SECOND, cell.key.end / SECOND, key), content);
        }
        prop_assert_eq!(got, wanted);
    }
}

/// Looking for each of the windows of each row would take minutes.
#[test]
fn a_row_in_very_many_windows_costs_no_more_than_the_named_ones_among_them() {
    let spec =
        spec::file("[[metric]]\nname = 'w'\naggregate = 'sum(v)'\nby = ['k']\nsize = '1d'\nslide = '1s'\n").unwrap();
    let mut cells = LateCells::new(spec, 0);
    let day = 86_400;
    let key = CellKey { end: day * SECOND, start: 0, metric: "w".into(), dimensions: r#"{"k":"1"}"#.to_owned() };
    // An end off the grid is that of no window.
    let off = CellKey { end: day * SECOND + 1, start: 1, ..key.clone() };
    for key in [key, off] {
        cells.add(&LateCell { key, late_until: i64::MIN });
    }
    let event = |at: i64| Event { time: at * 5, stream_time: at * 5, key: 1, value: 1 };
    let events: Vec<Event> = (0..20_000).map(event).collect();
    let began = std::time::Instant::now();
    cells.on_batch(&batch(&events), &BatchOutcome::default()).unwrap();
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    let taken = cells.take("w", i64::MAX);
    let sums: Vec<Option<f64>> =
        taken.into_iter().map(|(_, content)| content.and_then(|content| content.value)).collect();
    assert_eq!(sums, [Some((day / 5) as f64), None]);
}
