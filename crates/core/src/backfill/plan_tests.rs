//! Compares sessions that count late events with a naive model, and with a run that knows no lateness.

use super::*;
use crate::backfill::late_cells::tests::{Event, OUT_OF_ORDERNESS, batch, events};
use crate::backfill::{LateCells, MetricNames, MetricScope};
use crate::op::late_rows;
use crate::op::window::metric::Emit;
use crate::op::window::spec::{Spec, file};
use crate::op::window::{Options, Window, watermark};
use crate::time::SECOND;
use proptest::prelude::*;
use std::collections::BTreeSet;

const GAP: i64 = 5;
const LATENESS: i64 = 3;
const METRICS: &str =
    "[[metric]]\nname = 's'\naggregate = 'sum(v)'\nby = ['k']\nwhere = 'v > 0'\ngap = '5s'\nlateness = '3s'";

/// Sum and number of events, by start (s), end (s) and key.
type Sessions = BTreeMap<(i64, i64, u8), (i64, i64)>;

/// A session of the naive model: start, end and its events.
type Naive = (i64, i64, Vec<Event>);

fn overlap(one: &Naive, other: &Naive) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}

fn merged(one: Naive, other: Naive) -> Naive {
    (one.0.min(other.0), one.1.max(other.1), [one.2, other.2].concat())
}

/// Adds an event to the sessions of its key that are alive; returns whether it is not late.
fn add(list: &mut Vec<Naive>, event: Event, is_alive: impl Fn(i64) -> bool) -> bool {
    let mut session = (event.time, event.time + GAP, vec![event]);
    let mut found = false;
    while let Some(at) = list.iter().position(|one| is_alive(one.1) && overlap(one, &session)) {
        session = merged(session, list.swap_remove(at));
        found = true;
    }
    let counts = found || is_alive(session.1);
    if counts {
        list.push(session);
    }
    counts
}

fn show(key: u8, sessions: &[Naive]) -> Sessions {
    let sum = |events: &[Event]| events.iter().map(|event| event.value).sum();
    sessions.iter().map(|(start, end, events)| ((*start, *end, key), (sum(events), events.len() as i64))).collect()
}

/// Returns the sessions of a key by the rule of the live run, and its late events.
fn live(events: &[Event], key: u8) -> (Vec<Naive>, Vec<Event>) {
    let (mut list, mut late) = (vec![], vec![]);
    for event in events.iter().filter(|event| event.key == key && event.value > 0) {
        let bound = event.stream_time - OUT_OF_ORDERNESS;
        if !add(&mut list, *event, |end| bound <= end + LATENESS) {
            late.push(*event);
        }
    }
    (list, late)
}

/// Returns the sessions of a key that contain an instant of `named`, and those of the live run that do not overlap
/// them.
fn naive(events: &[Event], key: u8, named: &[Event]) -> (Vec<Naive>, Vec<Naive>) {
    let (list, late) = live(events, key);
    let until = |event: &Event| {
        let same = named.iter().filter(|one| one.key == key && one.time == event.time);
        same.map(|one| one.stream_time).max()
    };
    let mut all = vec![];
    for (_, _, events) in &list {
        events.iter().for_each(|event| _ = add(&mut all, *event, |_| true));
    }
    for event in late.iter().filter(|event| until(event) >= Some(event.stream_time)) {
        add(&mut all, *event, |_| true);
    }
    let contains = |one: &Naive| named.iter().any(|event| event.key == key && (one.0..=one.1).contains(&event.time));
    let right: Vec<Naive> = all.into_iter().filter(contains).collect();
    let others = list.into_iter().filter(|one| !right.iter().any(|other| overlap(one, other))).collect();
    (right, others)
}

fn spec() -> Spec {
    file(METRICS).unwrap()
}

/// Runs the operator; returns its cells, and calls `each` with the outcome of each batch.
fn run(
    parts: &[&[Event]],
    out_of_orderness: Option<i64>,
    mut each: impl FnMut(&arrow::array::RecordBatch, &crate::op::window::BatchOutcome),
) -> BTreeMap<CellKey, CellContent> {
    let Spec { leaves, metrics, .. } = spec();
    let watermark = watermark::Options { out_of_orderness, explicit: false, new_partitions: false };
    let mut window = Window::new(Options {
        leaves,
        metrics,
        watermark,
        emit: Emit::Final,
        memory: None,
        parallelism: Default::default(),
    });
    window.hold();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let batch = batch(part);
        let outcome = window.on_batch(&batch, 0).unwrap();
        each(&batch, &outcome);
    }
    let mut cells = BTreeMap::new();
    let emit = &mut |row: &crate::kind::metric::Row<'_>| {
        let dimensions = row.dimensions.to_owned();
        let key = CellKey { end: row.end, start: row.start, metric: row.name.into(), dimensions };
        cells.insert(key, CellContent { value: row.value, rows: row.rows as i64 });
        Ok(())
    };
    window.on_exhausted(emit).unwrap();
    cells
}

fn shown(cells: &BTreeMap<CellKey, CellContent>) -> Sessions {
    let show = |(key, content): (&CellKey, &CellContent)| {
        let name = key.dimensions.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u8>().unwrap();
        ((key.start / SECOND, key.end / SECOND, name), (content.value.unwrap() as i64, content.rows))
    };
    cells.iter().map(show).collect()
}

/// Names the instants of late events, and counts the parts; returns the right cells by the rule of the live run as
/// well.
fn counted(parts: &[&[Event]], named: &[Event], is_removed: bool) -> (LateCells, BTreeMap<CellKey, CellContent>) {
    let scope = scope();
    let mut late = LateCells::new(spec(), OUT_OF_ORDERNESS * SECOND);
    if !named.is_empty() {
        let rows: Vec<late_rows::Row> =
            (0..named.len()).map(|row| late_rows::Row { row, metrics: vec![0], partial: false }).collect();
        let rows = late_rows::batch(&batch(named), &rows, &["s"]).unwrap();
        let mut read = LateCells::new(spec(), OUT_OF_ORDERNESS * SECOND);
        let found = read.name(&rows, &scope, &MetricNames::from(["s".into()])).unwrap();
        assert_eq!(found.named, vec![true; named.len()]);
        match is_removed {
            false => late = read,
            true => read.take_sessions().iter().flat_map(|session| &session.names).for_each(|cell| {
                late.add_name(cell, NameOrigin::Removed);
            }),
        }
    }
    let cells = run(parts, Some(OUT_OF_ORDERNESS * SECOND), |batch, outcome| late.on_batch(batch, outcome).unwrap());
    (late, cells)
}

fn scope() -> Scope {
    Scope { metrics: spec().metrics.iter().map(MetricScope::of).collect(), ..Scope::default() }
}

fn plan(late: &mut LateCells, watermark: i64, only_late: bool) -> SessionPlan {
    let step = StepScope { scope: &scope(), watermark, is_of_step: &|_| true, only_late };
    SessionPlan::new(late.take_sessions(), &step)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sessions_with_named_instants_know_no_lateness_and_the_others_are_those_of_live(
        steps in prop::collection::vec((0i64..8, 0i64..60, 0u8..2, -1i64..9), 1..60),
        read in prop::collection::vec(any::<bool>(), 60),
        all in any::<bool>(),
        split in any::<prop::sample::Index>(),
    ) {
        let events = events(steps);
        let late: Vec<Event> = [0, 1].iter().flat_map(|key| live(&events, *key).1).collect();
        let named: Vec<Event> = late.iter().zip(read).filter(|(_, read)| *read || all).map(|(event, _)| *event).collect();
        let (one, two) = events.split_at(split.index(events.len()));

        // The right cells are those of the naive model.
        let (mut corrected, mut others) = (Sessions::new(), Sessions::new());
        for key in [0, 1] {
            let (right, rest) = naive(&events, key, &named);
            corrected.append(&mut show(key, &right));
            others.append(&mut show(key, &rest));
        }
        let wanted: Sessions = corrected.clone().into_iter().chain(others.clone()).collect();
        let (mut cells, mut right) = counted(&[one, two], &named, false);
        let by_live = right.clone();
        let mut step = plan(&mut cells, i64::MAX, false);
        step.replace(&mut right);
        prop_assert!(cells.is_empty());
        prop_assert_eq!(shown(&right), wanted);
        let names: BTreeSet<_> = named.iter().map(|event| (event.time, event.key)).collect();
        prop_assert_eq!((step.kept.len(), step.open, step.outside), (names.len(), 0, 0));

        // Only late events: nothing else is compared.
        let compared = |step: &SessionPlan, key: &CellKey| step.compares(key).unwrap_or(false);
        let only: BTreeMap<_, _> = right.iter().filter(|(key, _)| compared(&step, key)).map(|(key, cell)| (key.clone(), *cell)).collect();
        prop_assert_eq!(shown(&only), corrected.clone());
        for (key, _) in shown(&by_live).iter().filter(|(key, _)| !others.contains_key(key)) {
            let found = by_live.keys().find(|one| shown(&BTreeMap::from([((*one).clone(), by_live[one])])).contains_key(key));
            prop_assert_eq!(step.compares(found.unwrap()), Some(true), "what is replaced is compared, and so retracted");
        }

        // A run that knows no lateness has the same sessions, if all late events were read.
        if all {
            let without = shown(&run(&[&events], None, |_, _| {}));
            for (key, session) in &corrected {
                prop_assert_eq!(without.get(key), Some(session));
            }
        }

        // Without the names the rule of the live run applies again.
        let (mut cells, mut right) = counted(&[one, two], &named, true);
        let mut step = plan(&mut cells, i64::MAX, false);
        step.replace(&mut right);
        prop_assert_eq!((&right, step.to_remove.len(), step.kept.len()), (&by_live, names.len(), 0));

        // Sessions that are open stay as they are, whole.
        let (mut cells, mut right) = counted(&[one, two], &named, false);
        let watermark = events.iter().map(|event| event.time).max().unwrap_or(0) / 2;
        let closed = |end: i64| end + LATENESS < watermark;
        let mut step = plan(&mut cells, watermark * SECOND, false);
        step.replace(&mut right);
        let left: Sessions = corrected.iter().filter(|((_, end, _), _)| closed(*end)).map(|(k, v)| (*k, *v)).chain(others).collect();
        prop_assert_eq!(shown(&right), left);
    }
}
