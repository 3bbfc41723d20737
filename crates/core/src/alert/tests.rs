//! The engine gives the same alerts however its rows are split into batches, and after restarts at any instants.

use super::engine::{AlertEngine, EngineOptions, TimedRows};
use super::rules::{of_toml, resolve};
use super::running::{Instant, Transition, TransitionUse};
use super::snapshot;
use crate::format::row;
use crate::kind::Kind;
use crate::kind::alert::{Alert, AlertReason, AlertState};
use crate::test_cases::cases;
use crate::time::{SECOND, format_instant};
use arrow::array::RecordBatch;
use proptest::prelude::*;
use serde_json::json;

const START: i64 = 1_767_225_600 * SECOND;

const RULES: &str = "
[[rule]]
name = 'count'
aggregate = 'count(*)'
by = ['source']
condition = 'gt'
threshold = 3
window_seconds = 5
for = 2
keep_firing_for = 3

[[rule]]
name = 'silence'
aggregate = 'count(*)'
condition = 'lt'
threshold = 1
window_seconds = 3
keep_firing_for = 0

[[rule]]
name = 'sum'
aggregate = 'sum(amount)'
where = 'amount > 1'
by = ['source']
condition = 'ge'
threshold = 9
window_seconds = 5
no_data = true

[[rule]]
name = 'drop'
aggregate = 'count(*)'
condition = 'lt'
threshold = 0.6
compare = 4
window_seconds = 3

[[rule]]
name = 'score'
aggregate = 'max(amount)'
condition = 'gt'
window_seconds = 2
anomaly = { z = 1, baseline = 20, min = 3 }

[[rule]]
name = 'share'
aggregate = 'count(*)'
where = 'amount > 4'
share_of = 'event'
condition = 'gt'
threshold = 0.5
window_seconds = 4

[[rule]]
name = 'forgets'
aggregate = 'count(*)'
by = ['source']
condition = '<'
threshold = 2
window_seconds = 3
for = 33
forget_after = '2m'

[[rule]]
name = 'keeps'
aggregate = 'avg(amount)'
by = ['source']
condition = '>='
threshold = 2
window_seconds = 2
for = 9
null_as = 'keep'
forget_after = 50

[[rule]]
name = 'breaks'
aggregate = 'max(amount)'
where = 'amount > 1'
by = ['source']
condition = '>'
threshold = 3
window_seconds = 3
for = 5
null_as = 'breach'
";

const OPTIONS: EngineOptions = EngineOptions { max_groups: 100, since: None };

/// A row: its event time and its stream time (µs after the start), its amount and its source.
#[derive(Clone, Debug)]
struct Event {
    time: i64,
    stream_time: i64,
    amount: u8,
    source: &'static str,
}

fn engine(rules: &str) -> AlertEngine {
    limited(rules, OPTIONS)
}

fn limited(rules: &str, options: EngineOptions) -> AlertEngine {
    let set = resolve(of_toml(rules).unwrap(), None);
    assert!(set.bad.is_empty(), "{:?}", set.bad);
    let mut engine = AlertEngine::new(options);
    engine.set_rules(set.rules, START).unwrap();
    engine
}

fn batch(events: &[Event]) -> RecordBatch {
    let mut rows = row::Builder::new(Kind::Event);
    for (offset, event) in events.iter().enumerate() {
        let now = format_instant(START + event.time);
        let row = json!({
            "event_id": uuid::Uuid::from_u128(offset as u128).to_string(), "source": event.source, "event_type": "t",
            "properties": {"amount": event.amount}, "ingested_at": now, "event_time": now, "origin": "o", "partition": "0",
            "offset": offset, "stream_time": format_instant(START + event.stream_time),
        });
        rows.push(&row.to_string()).map_err(|fault| fault.message).unwrap();
    }
    rows.finish().unwrap()
}

fn add(engine: &mut AlertEngine, events: &[Event]) {
    add_batch(engine, &batch(events), events);
}

/// Adds the rows of these events.
fn add_batch(engine: &mut AlertEngine, batch: &RecordBatch, events: &[Event]) {
    let event_times: Vec<i64> = events.iter().map(|event| START + event.time).collect();
    let stream_times: Vec<i64> = events.iter().map(|event| START + event.stream_time).collect();
    let rows =
        TimedRows { kind: Kind::Event, batch, event_times: &event_times, stream_times: &stream_times, repeats: &[] };
    let taken = engine.add(&rows).unwrap();
    assert_eq!(taken.counted + taken.late + taken.filtered, events.len() as u64);
}

/// Runs to the end of the events; `cut` decides after each event whether it ends a batch, and `restarts` whether the
/// engine is restored then. Returns the rows as if none was caught up, which depends on the batches.
fn run(rules: &str, events: &[Event], cut: impl Fn(usize) -> bool, restarts: bool) -> Vec<Alert> {
    run_engine(engine(rules), events, cut, restarts)
}

fn run_engine(mut engine: AlertEngine, events: &[Event], cut: impl Fn(usize) -> bool, restarts: bool) -> Vec<Alert> {
    let options = engine.options;
    let rows = batch(events);
    let (mut from, mut alerts) = (0, vec![]);
    for at in 1..=events.len() {
        if at < events.len() && !cut(at) {
            continue;
        }
        add_batch(&mut engine, &rows.slice(from, at - from), &events[from..at]);
        from = at;
        engine.begin(START + events[0].stream_time);
        let clock = START + events[at - 1].stream_time;
        let rows = engine.advance(clock, clock).into_iter().filter(|one| one.purpose == TransitionUse::Row);
        alerts.extend(rows.map(|transition| Alert { caught_up: false, ..transition.alert }));
        if restarts {
            let saved = snapshot::save(&engine);
            engine = snapshot::restore(options, &saved).unwrap();
        }
    }
    alerts
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = (0i64..2_500_000, 0i64..6_000_000, prop::bool::weighted(0.2), 0u8..6, prop::bool::ANY);
    prop::collection::vec(one, 1..80).prop_map(|steps| {
        let mut now = 0;
        let event = |(step, late, is_late, amount, is_web): (i64, i64, bool, u8, bool)| {
            now += step;
            let time = if is_late { (now - late).max(0) } else { now };
            Event { time, stream_time: now, amount, source: if is_web { "web" } else { "ios" } }
        };
        steps.into_iter().map(event).collect()
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn alerts_depend_neither_on_batches_nor_on_restarts(events in events(), cuts in prop::collection::vec(any::<bool>(), 80)) {
        let whole = run(RULES, &events, |_| false, false);
        prop_assert_eq!(&run(RULES, &events, |at| cuts[at], false), &whole);
        prop_assert_eq!(&run(RULES, &events, |at| !cuts[at], true), &whole);
    }

    #[test]
    fn groups_that_were_gone_depend_neither_on_batches_nor_on_restarts(
        events in sparse_events(), cuts in prop::collection::vec(any::<bool>(), 40),
    ) {
        let rules = by_source();
        let whole = run(&rules, &events, |_| false, false);
        prop_assert_eq!(&run(&rules, &events, |at| cuts[at], false), &whole);
        prop_assert_eq!(&run(&rules, &events, |at| !cuts[at], true), &whole);
    }
}

/// Events of six sources, at most a few seconds apart.
fn many_sources() -> impl Strategy<Value = Vec<Event>> {
    let one = (0i64..4_000_000, prop::bool::weighted(0.1), prop::sample::select(vec!["a", "b", "c", "d", "e", "f"]));
    prop::collection::vec(one, 1..80).prop_map(|steps| {
        let mut now = 0;
        let event = |(step, is_pause, source): (i64, bool, &'static str)| {
            now += if is_pause { 20 * step } else { step };
            Event { time: now, stream_time: now, amount: 5, source }
        };
        steps.into_iter().map(event).collect()
    })
}

/// A rule that fires for each source with a row in a second, and makes it known for ten seconds.
const EACH: &str = "[[rule]]\nname = 'r'\naggregate = 'count(*)'\nby = ['source']\ncondition = 'ge'\nthreshold = 1\n\
                    window_seconds = 1\nkeep_firing_for = 0\n";

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn which_groups_are_beyond_the_limit_depends_neither_on_batches_nor_on_restarts(
        events in many_sources(), cuts in prop::collection::vec(any::<bool>(), 80), max_groups in 0usize..4,
    ) {
        let engine = || limited(EACH, EngineOptions { max_groups, ..OPTIONS });
        let whole = run_engine(engine(), &events, |_| false, false);
        prop_assert_eq!(&run_engine(engine(), &events, |at| cuts[at], false), &whole);
        prop_assert_eq!(&run_engine(engine(), &events, |_| true, true), &whole);
    }
}

/// Sources with one row each, `every` µs apart.
fn each_once(count: i64, every: i64) -> Vec<Event> {
    let event = |n: i64| {
        let source = Box::leak(format!("s{n:07}").into_boxed_str());
        Event { time: 1 + n * every, stream_time: 1 + n * every, amount: 5, source }
    };
    (0..count).map(event).collect()
}

#[test]
fn rows_that_wait_have_a_limit_of_groups_of_their_own_which_bounds_the_memory() {
    let mut engine = limited(EACH, EngineOptions { max_groups: 10, ..OPTIONS });
    let rejected = |engine: &AlertEngine| engine.rejected().first().map_or(0, |(_, rows)| *rows);
    // All of them are in one second, and none counts before it ends.
    let events = each_once(120_000, 1);
    for part in events.chunks(10_000) {
        add(&mut engine, part);
    }
    engine.begin(START);
    assert_eq!(rejected(&engine), 120_000 - 100_010);
    let fired = engine.advance(START + 2 * SECOND, START);
    assert_eq!((fired.len(), rejected(&engine)), (10, 120_000 - 10));
    // Only those that count stay.
    assert!(snapshot::save(&engine).len() < 10_000);
    // Further ones are others, once these are gone.
    engine.advance(START + 30 * SECOND, START);
    let later: Vec<Event> = each_once(20, 60 * SECOND)
        .iter()
        .map(|event| Event { time: event.time + 60 * SECOND, stream_time: event.stream_time + 60 * SECOND, ..*event })
        .collect();
    add(&mut engine, &later);
    let fired = engine.advance(START + 3000 * SECOND, START);
    assert_eq!((fired.len(), rejected(&engine)), (2 * 20, 120_000 - 10));
}

/// Evaluates every second of the events, whether or not anything can change.
fn run_each_second(events: &[Event], rules: &str) -> Vec<Transition> {
    let mut engine = engine(rules);
    add(&mut engine, events);
    engine.begin(START + events[0].stream_time);
    let mut transitions = vec![];
    let now = START + events.iter().map(|event| event.stream_time).max().unwrap();
    let (evaluated, last) = (engine.evaluated().unwrap(), (now - 1).div_euclid(SECOND));
    for g in evaluated + 1..=last {
        engine.evaluate(g, now, &mut transitions);
    }
    if last > evaluated {
        engine.page_waiting(Instant { g: last, now }, &mut transitions);
    }
    transitions
}

/// Returns the transitions of the same events if instants at which nothing can change are passed over.
fn run_at_once(events: &[Event], rules: &str) -> Vec<Transition> {
    let mut engine = engine(rules);
    add(&mut engine, events);
    engine.begin(START + events[0].stream_time);
    let last = START + events.iter().map(|event| event.stream_time).max().unwrap();
    engine.advance(last, last)
}

/// The rules with a comparison of each source over more than ten windows.
fn by_source() -> String {
    let rules = RULES
        .replace("[[rule]]\nname = 'drop'\n", "[[rule]]\nname = 'drop'\nby = ['source']\n")
        .replace("compare = 4\n", "compare = 37\nresolve_threshold = 0.9\nno_data = true\n");
    assert_ne!(rules, RULES);
    rules
}

/// Events with gaps of up to a minute, whose windows are empty for a long time.
fn sparse_events() -> impl Strategy<Value = Vec<Event>> {
    let one = (0i64..60_000_000, prop::bool::weighted(0.5), 0u8..6, prop::bool::ANY);
    prop::collection::vec(one, 1..40).prop_map(|steps| {
        let mut now = 0;
        let event = |(step, is_next, amount, is_web): (i64, bool, u8, bool)| {
            now += if is_next { step / 30 } else { step };
            Event { time: now, stream_time: now, amount, source: if is_web { "web" } else { "ios" } }
        };
        steps.into_iter().map(event).collect()
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn seconds_that_are_passed_over_would_have_changed_nothing(events in sparse_events()) {
        for rules in [RULES, &by_source()] {
            prop_assert_eq!(&run_at_once(&events, rules), &run_each_second(&events, rules));
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn the_alerts_of_a_rule_do_not_depend_on_groups_that_other_rules_keep(events in sparse_events()) {
        // Each rule has a view of its own if it is alone; together they share views.
        let rules = by_source().replace("window_seconds = 2", "window_seconds = 3").replace("baseline = 20", "baseline = 21");
        let whole = run(&rules, &events, |_| false, false);
        for rule in rules.split("[[rule]]").skip(1) {
            let rule = format!("[[rule]]{rule}");
            let alone = run(&rule, &events, |_| false, false);
            let name = rule.split('\'').nth(1).unwrap();
            let of_rule: Vec<Alert> = whole.iter().filter(|alert| alert.rule.name == name).cloned().collect();
            prop_assert_eq!(alone, of_rule);
        }
    }
}

#[test]
fn seconds_that_are_passed_over_change_nothing_in_the_page_of_an_alert_that_fired_behind_the_wall_clock() {
    // More than five minutes pass after the first instant: an alert of it is not paged before the last one.
    let rules = "[[rule]]\nname = 'r'\naggregate = 'count(*)'\ncondition = 'lt'\nthreshold = 9\nwindow_seconds = 1\n";
    let at = |time: i64| Event { time, stream_time: time, amount: 2, source: "ios" };
    let events = [0, 155_195_069, 306_000_001].map(at);
    let found = run_at_once(&events, rules);
    assert_eq!(found.iter().map(|one| one.purpose).collect::<Vec<_>>(), [TransitionUse::Row, TransitionUse::Page]);
    assert_eq!(found, run_each_second(&events, rules));
}

/// Events of one source every second.
fn steady(seconds: std::ops::Range<i64>) -> Vec<Event> {
    let at = |second: i64| Event { time: second * SECOND, stream_time: second * SECOND, amount: 5, source: "web" };
    seconds.map(at).collect()
}

fn states(transitions: &[Transition]) -> Vec<(i64, AlertState, AlertReason, TransitionUse)> {
    let line = |one: &Transition| ((one.alert.at - START) / SECOND, one.alert.state, one.alert.reason, one.purpose);
    transitions.iter().map(line).collect()
}

#[test]
fn what_fired_far_behind_the_wall_clock_is_a_page_once_the_clock_has_caught_up() {
    let rule = "[[rule]]\nname = 'r'\naggregate = 'count(*)'\ncondition = 'gt'\nthreshold = 3\nwindow_seconds = 5\nrepeat = 60\n";
    let mut engine = engine(rule);
    add(&mut engine, &steady(0..1000));
    engine.begin(START);
    let now = START + 1000 * SECOND;
    let behind = engine.advance(START + 600 * SECOND, now);
    assert_eq!(states(&behind), [(5, AlertState::Firing, AlertReason::Condition, TransitionUse::Row)]);
    assert!(behind[0].alert.caught_up);
    let page = engine.advance(START + 710 * SECOND, now);
    assert_eq!(states(&page), [(709, AlertState::Firing, AlertReason::Condition, TransitionUse::Page)]);
    let repeats = engine.advance(START + 900 * SECOND, now);
    let wanted = [769, 829, 889].map(|at| (at, AlertState::Firing, AlertReason::Condition, TransitionUse::Repeat));
    assert_eq!(states(&repeats), wanted);
}

#[test]
fn a_rule_is_evaluated_once_its_window_has_been_seen_whole_since_its_edit() {
    let rule = |window: i64, threshold: i64| {
        format!(
            "[[rule]]\nname = 'r'\naggregate = 'count(*)'\ncondition = 'gt'\nthreshold = {threshold}\nwindow_seconds = {window}\n"
        )
    };
    let mut engine = engine(&rule(10, 5));
    add(&mut engine, &steady(0..100));
    engine.begin(START);
    let first = engine.advance(START + 50 * SECOND, START);
    assert_eq!(states(&first), [(10, AlertState::Firing, AlertReason::Condition, TransitionUse::Row)]);
    // The rows up to 99 s were read before the edit.
    let set = resolve(of_toml(&rule(20, 5)).unwrap(), None);
    let edited = engine.set_rules(set.rules, START).unwrap();
    assert_eq!(states(&edited), [(50, AlertState::Resolved, AlertReason::RuleChanged, TransitionUse::Row)]);
    add(&mut engine, &steady(100..200));
    let second = engine.advance(START + 200 * SECOND, START);
    assert_eq!(states(&second), [(119, AlertState::Firing, AlertReason::Condition, TransitionUse::Row)]);
    // Another threshold keeps the state, and is applied at the next instant.
    let set = resolve(of_toml(&rule(20, 50)).unwrap(), None);
    assert!(engine.set_rules(set.rules, START).unwrap().is_empty());
    add(&mut engine, &steady(200..300));
    let third = engine.advance(START + 300 * SECOND, START);
    assert_eq!(states(&third), [(230, AlertState::Resolved, AlertReason::Condition, TransitionUse::Row)]);
}

#[test]
fn a_rule_that_compares_days_costs_nothing_between_daily_rows() {
    let day = 86_400 * SECOND;
    let rules = "
[[rule]]
name = 'drop'
aggregate = 'sum(amount)'
condition = 'lt'
threshold = 0.5
compare = '1d'
window_seconds = 86400

[[rule]]
name = 'score'
aggregate = 'sum(amount)'
condition = 'gt'
window_seconds = 86400
anomaly = { z = 3, baseline = '30d', min = 20 }
";
    let amount =
        |day: i64| if day % 100 == 50 { 1 } else { 40 + u8::from(day % 2 == 0) + 30 * u8::from(day % 100 == 90) };
    let event = |at: i64| Event { time: at * day, stream_time: at * day, amount: amount(at), source: "web" };
    let mut engine = engine(rules);
    add(&mut engine, &(0..20 * 365).map(event).collect::<Vec<_>>());
    engine.begin(START);
    let end = START + 20 * 365 * day;
    let alerts = engine.advance(end, end);
    let fired = |rule: &str| {
        let fired = |one: &&Transition| one.alert.rule.name == rule && one.alert.state == AlertState::Firing;
        alerts.iter().filter(fired).count()
    };
    assert_eq!((fired("drop"), fired("score")), (73, 73));
}

#[test]
fn an_instant_at_which_nothing_changes_costs_nothing() {
    let mut engine = engine(RULES);
    let far = 40 * 366 * 86_400 * SECOND;
    add(&mut engine, &[steady(0..10), vec![Event { time: far, stream_time: far, amount: 1, source: "web" }]].concat());
    engine.begin(START);
    let transitions = engine.advance(START + far, START + far);
    let last_of = |rule: &str| transitions.iter().rfind(|one| one.alert.rule.name == rule).map(|one| &one.alert);
    // Nine rows of `web`, the last one at 9 s.
    let forgotten = last_of("forgets").expect("it fires");
    assert_eq!((forgotten.reason, forgotten.at), (AlertReason::GroupGone, START + (9 + 120) * SECOND));
    for rule in ["sum", "breaks"] {
        let alert = last_of(rule).expect("it fires");
        assert_eq!((alert.state, alert.dimensions.as_str()), (AlertState::Firing, "{\"source\":\"web\"}"), "{rule}");
    }
    assert_eq!(engine.clock(), Some(START + far - SECOND));
}

#[test]
fn the_history_of_groups_that_are_gone_is_bounded_by_the_limit_of_groups() {
    let mut engine = engine(
        "[[rule]]\nname = 'r'\naggregate = 'count(*)'\nby = ['source']\ncompare = '1d'\ncondition = 'lt'\nthreshold = 1\n\
         window_seconds = 1\n",
    );
    // Each second has another source, which is gone ten seconds later.
    let event = |second: i64| {
        let (time, source) = (second * SECOND, Box::leak(format!("s{second}").into_boxed_str()));
        Event { time, stream_time: time, amount: 1, source }
    };
    let mut sizes = vec![];
    for from in (1000..4000).step_by(50) {
        add(&mut engine, &(from..from + 50).map(event).collect::<Vec<_>>());
        engine.begin(START + 1000 * SECOND);
        engine.advance(START + (from + 50) * SECOND, START);
        sizes.push(snapshot::save(&engine).len());
    }
    let [.., middle, _, _, _, _, _, _, _, _, _, _, last] = sizes[..] else { panic!("{sizes:?}") };
    assert_eq!(middle, last, "{sizes:?}");
    assert!(last > sizes[0], "{sizes:?}");
}

#[test]
fn windows_of_a_long_silence_are_no_earlier_values_whether_or_not_an_alert_keeps_the_group() {
    // Until 39 s one row and two rows alternate. The first nine seconds of the silence have the value 0, the others
    // none, so three rows at 70 s are 2.37 standard deviations above the mean. With 0 for all of them it were 2.69.
    let of = |second: i64, count: i64, source| {
        let event = Event { time: second * SECOND, stream_time: second * SECOND, amount: 5, source };
        vec![event; count as usize]
    };
    let rows = |second: i64| match second {
        0..40 => of(second, 1 + second % 2, "web"),
        70 => of(second, 3, "web"),
        _ => vec![],
    };
    let events: Vec<Event> = (0..75).flat_map(|second| [rows(second), of(second, 1, "ios")].concat()).collect();
    let silent = "[[rule]]\nname = 'silent'\naggregate = 'count(*)'\nby = 'source'\nwindow_seconds = 1\ncondition = '<'\n\
                  threshold = 1\n";
    for (z, keeper) in [(2.3, ""), (2.5, ""), (2.3, silent), (2.5, silent)] {
        let rule = format!(
            "{keeper}[[rule]]\nname = 'z'\naggregate = 'count(*)'\nby = 'source'\nwindow_seconds = 1\ncondition = '>'\n\
             anomaly = {{ z = {z}, baseline = 60, min = 20 }}\n"
        );
        let alerts = run(&rule, &events, |_| false, false);
        let fired: Vec<i64> = alerts.iter().filter(|one| one.rule.name == "z").map(|one| one.at).collect();
        let wanted = if z < 2.4 { vec![START + 70 * SECOND] } else { vec![] };
        assert_eq!(fired, wanted, "{z} {keeper}");
        assert_eq!(alerts.iter().any(|one| one.rule.name == "silent"), !keeper.is_empty());
    }
}

#[test]
fn a_rule_that_flaps_through_silent_years_is_evaluated_in_pieces_that_make_the_whole() {
    // Zero is below the threshold, and above the threshold of the resolve.
    let rules = "[[rule]]\nname = 'r'\naggregate = 'count(*)'\ncondition = 'lt'\nthreshold = 1\nresolve_threshold = -1\n\
                 keep_firing_for = 0\nwindow_seconds = 1\n";
    let mut engine = engine(rules);
    let far = 30_000 * SECOND;
    add(&mut engine, &[steady(0..10), vec![Event { time: far, stream_time: far, amount: 1, source: "web" }]].concat());
    engine.begin(START);
    let (clock, mut pieces) = (START + far, vec![]);
    while !engine.has_reached(clock) {
        pieces.push(engine.advance(clock, clock));
    }
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() < 10_100), "{}", pieces.len());
    let all: Vec<_> = pieces.concat().iter().map(|one| (one.alert.at, one.alert.state)).collect();
    assert!(all.is_sorted_by(|one, next| one.0 < next.0 && one.1 != next.1), "each second another state");
    assert_eq!(all.last().map(|last| last.0), Some(clock - SECOND));
}

/// The cost of a second is that of every group that fires, so a year of them would take minutes.
#[test]
fn what_repeats_costs_nothing_for_the_time_that_nobody_is_paged() {
    let rule = "[[rule]]\nname = 'r'\naggregate = 'count(*)'\ncondition = 'lt'\nthreshold = 100\nwindow_seconds = 5\nrepeat = 60\n";
    let mut engine = engine(rule);
    let far = 40 * 366 * 86_400 * SECOND;
    add(&mut engine, &[steady(0..30), vec![Event { time: far, stream_time: far, amount: 1, source: "web" }]].concat());
    engine.begin(START);
    let first = engine.advance(START + 20 * SECOND, START + 20 * SECOND);
    assert_eq!(states(&first), [(5, AlertState::Firing, AlertReason::Condition, TransitionUse::Row)]);
    let repeats = engine.advance(START + far, START + far);
    let last = far / SECOND;
    let at: Vec<i64> = states(&repeats).iter().map(|(at, ..)| *at).collect();
    assert_eq!(at, [last - 300, last - 240, last - 180, last - 120, last - 60]);
    assert!(repeats.iter().all(|one| one.purpose == TransitionUse::Repeat));
}
