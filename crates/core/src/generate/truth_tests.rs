use super::tests::{make, mixed, verdict};
use super::truth::{Rules, TimeField, Truth, TruthDimension, TruthReport};
use super::*;
use crate::kind::dead::ErrorType;
use crate::time::{MILLISECOND, parse_instant};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

fn report(lines: &[(Vec<u8>, Generated)], rules: Rules) -> TruthReport {
    let mut truth = Truth::new(rules).unwrap();
    for (line, made) in lines {
        truth.record(made, line.len() as u64 + 1);
    }
    truth.finish().unwrap()
}

/// The same results computed a second time, from the bytes alone: each row against every possible window.
#[derive(Default, Debug, PartialEq)]
struct Reread {
    dead: BTreeMap<&'static str, u64>,
    duplicate: u64,
    late: u64,
    filtered: u64,
    half_late: u64,
    counted: u64,
    windows: BTreeMap<(i64, Vec<Option<String>>), u64>,
}

fn reread(lines: &[(Vec<u8>, Generated)], rules: &Rules) -> Reread {
    let mut result = Reread::default();
    let mut stream_times: HashMap<String, i64> = HashMap::new();
    let mut ids: HashMap<(String, String), i64> = HashMap::new();
    for (line, _) in lines {
        let (value, invalid) = match verdict(line) {
            Err(ErrorType::SchemaValidationError) => (serde_json::from_slice::<Value>(line).unwrap(), true),
            Err(error_type) => {
                *result.dead.entry(error_type.name()).or_default() += 1;
                continue;
            }
            Ok(value) => (value, false),
        };
        let instant = |name: &str| parse_instant(value[name].as_str().unwrap()).unwrap();
        let time = match rules.time {
            TimeField::Server => instant("server_timestamp"),
            TimeField::Client => instant("client_timestamp"),
        };
        if rules.max_future.is_some_and(|most| time - instant("server_timestamp") > most) {
            *result.dead.entry("FutureTimestampError").or_default() += 1;
            continue;
        }
        let partition = if rules.sharded { value["shard"].to_string() } else { String::new() };
        let stream_time = *stream_times.entry(partition.clone()).and_modify(|t| *t = time.max(*t)).or_insert(time);
        if invalid && rules.validated {
            *result.dead.entry("SchemaValidationError").or_default() += 1;
            continue;
        }
        if let Some(within) = rules.dedup {
            let id = (partition, value["event_id"].to_string());
            if ids.insert(id, stream_time).is_some_and(|seen| stream_time - seen <= within) {
                result.duplicate += 1;
                continue;
            }
        }
        result.place(&value, time, stream_time, rules);
    }
    result
}

impl Reread {
    fn place(&mut self, value: &Value, time: i64, stream_time: i64, rules: &Rules) {
        let slide = rules.slide.unwrap_or(rules.size);
        let first = (time - rules.size).div_euclid(slide) - 1;
        let last = time.div_euclid(slide) + 1;
        let holds = |start: &i64| *start <= time && time < start + rules.size;
        let starts: Vec<i64> = (first..=last).map(|n| n * slide).filter(holds).collect();
        let open = |start: &i64| start + rules.size + rules.lateness > stream_time - rules.out_of_orderness;
        let counted: Vec<i64> = starts.iter().copied().filter(open).collect();
        let dimension = |dimension: &TruthDimension| {
            let name = dimension.name();
            value.get(name).unwrap_or_else(|| &value["properties"][name]).as_str().map(str::to_owned)
        };
        for start in &counted {
            *self.windows.entry((*start, rules.by.iter().map(dimension).collect())).or_default() += 1;
        }
        self.filtered += u64::from(starts.is_empty());
        self.late += u64::from(!starts.is_empty() && counted.is_empty());
        self.counted += u64::from(!counted.is_empty());
        self.half_late += u64::from(!counted.is_empty() && counted.len() < starts.len());
    }
}

/// Returns the parts of a report that a [`Reread`] has, too.
fn comparable(report: &TruthReport, rules: &Rules) -> Reread {
    let window = |row: &super::truth::WindowCount| {
        let key = rules.by.iter().map(|dimension| row.dimensions[dimension.name()].clone()).collect();
        ((parse_instant(&row.window_start).unwrap(), key), row.value)
    };
    Reread {
        dead: report.dead.clone(),
        duplicate: report.counts.duplicate,
        late: report.counts.late,
        filtered: report.counts.filtered,
        half_late: report.half_late,
        counted: report.counts.out,
        windows: report.windows.iter().map(window).collect(),
    }
}

#[test]
fn by_default_every_record_counts_in_one_window() {
    let lines = make(Options { events: 100_000, ..Options::default() });
    let report = report(&lines, Rules::default());
    assert_eq!((report.records, report.counts.out), (100_000, 100_000));
    assert_eq!(report.windows.iter().map(|row| row.value).sum::<u64>(), 100_000);
    assert_eq!((report.counts.late, report.counts.dead, report.counts.duplicate), (0, 0, 0));
    assert_eq!(report.bytes, lines.iter().map(|(line, _)| line.len() as u64 + 1).sum::<u64>());
}

#[test]
fn what_was_made_late_is_late_for_windows_of_a_minute_and_nothing_else_is() {
    for (partitions, sharded) in [(1, false), (3, false), (3, true)] {
        let lines = make(Options { partitions, ..mixed(50_000, 5) });
        let report = report(&lines, Rules { sharded, ..Rules::default() });
        assert_eq!(report.counts.late, report.made["late"]);
        assert!(report.counts.late > 2000);
    }
}

#[test]
fn with_dedup_a_duplicate_is_left_out_and_without_it_counts_twice() {
    let lines = make(mixed(20_000, 6));
    let twice = report(&lines, Rules::default());
    let once = report(&lines, Rules { dedup: Some(MINUTE), ..Rules::default() });
    assert_eq!(twice.counts.duplicate, 0);
    assert_eq!(once.counts.duplicate, once.made["duplicate"]);
    assert_eq!(once.counts.out + once.counts.duplicate, twice.counts.out);
}

#[test]
fn a_clock_ahead_is_dead_only_where_it_is_the_event_time_and_bounded() {
    let lines = make(mixed(20_000, 6));
    let client = Rules { time: TimeField::Client, max_future: Some(5 * MINUTE), ..Rules::default() };
    let bounded = report(&lines, client.clone());
    assert!(bounded.dead["FutureTimestampError"] >= bounded.made["future"]);
    let unbounded = report(&lines, Rules { max_future: None, ..client.clone() });
    assert!(unbounded.counts.late > 10 * bounded.counts.late, "one bad clock pushes the stream");
    let server = report(&lines, Rules { time: TimeField::Server, ..client });
    assert!(!server.dead.contains_key("FutureTimestampError"));
}

#[test]
fn the_law_at_its_edges_by_hand() {
    let (_, made) = make(Options { events: 1, ..Options::default() }).remove(0);
    let at = |seconds: i64| {
        let event = Event { server_timestamp: seconds * SECOND, ..made.event };
        (vec![b'x'; 9], Generated { event, ..made })
    };
    // The window [0 s, 60 s) is open while stream time − 30 s < 60 s: up to 89 s, not at 90 s.
    let tumbling = report(&[at(10), at(89), at(0), at(90), at(59), at(60)], Rules::default());
    assert_eq!((tumbling.counts.out, tumbling.counts.late), (5, 1));
    let values = |report: &TruthReport| report.windows.iter().map(|row| row.value).collect::<Vec<_>>();
    assert_eq!(values(&tumbling), [2, 3]);
    let lateness = report(&[at(90), at(59)], Rules { lateness: 1, ..Rules::default() });
    assert_eq!((lateness.counts.late, values(&lateness)), (0, vec![1, 1]));
    // A row at 59 s is in [0, 60) and [30, 90): at stream time 90 s only the second is open.
    let sliding = Rules { slide: Some(30 * SECOND), ..Rules::default() };
    let half = report(&[at(90), at(59)], sliding);
    assert_eq!((half.half_late, half.counts.out, values(&half)), (1, 2, vec![1, 1, 1]));
    let gaps = Rules { size: 10 * SECOND, slide: Some(MINUTE), ..Rules::default() };
    let outside = report(&[at(-51), at(-50), at(59), at(65)], gaps);
    assert_eq!((outside.counts.filtered, outside.counts.out, outside.counts.late), (2, 2, 0));
}

#[test]
fn a_faulty_record_moves_no_stream_time_but_one_against_its_schema_does() {
    let (_, clean) = make(Options { events: 1, ..Options::default() }).remove(0);
    let at = |seconds: i64, outcome: ExpectedOutcome| {
        let event = Event { server_timestamp: seconds * SECOND, ..clean.event };
        (vec![], Generated { outcome, event })
    };
    for (defect, late) in [(Defect::TimeUnreadable, 0), (Defect::PropertyText, 1)] {
        let lines =
            [at(0, ExpectedOutcome::Clean), at(500, ExpectedOutcome::Defective(defect)), at(1, ExpectedOutcome::Clean)];
        let report = report(&lines, Rules { validated: true, ..Rules::default() });
        assert_eq!((report.counts.dead, report.counts.late, report.counts.out), (1, late, 2 - late));
    }
}

#[test]
fn a_rule_out_of_its_range_is_refused() {
    for (size, slide) in [(0, None), (-1, None), (MINUTE, Some(0)), (MINUTE, Some(MILLISECOND))] {
        assert!(Truth::new(Rules { size, slide, ..Rules::default() }).is_err());
    }
    assert!("nothing".parse::<TruthDimension>().is_err());
    assert_eq!("user_id".parse::<TruthDimension>().unwrap(), TruthDimension::User);
}

#[test]
fn it_is_written_as_json_with_its_rules() {
    let lines = make(Options { events: 2000, ..Options::default() });
    let json = serde_json::to_value(report(&lines, Rules::default())).unwrap();
    assert_eq!(json["rules"]["out_of_orderness"], "30s");
    assert_eq!(json["counts"]["in"], 2000);
    assert_eq!(json["windows"][0]["window_start"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(json["windows"][0]["dimensions"].as_object().unwrap().len(), 1);
}

fn rules() -> impl Strategy<Value = Rules> {
    let dimensions = proptest::sample::subsequence(TruthDimension::ALL.to_vec(), 0..=3);
    let windows = (1..200i64, prop::option::of(1..200i64), 0..60i64, prop_oneof![Just(0), 0..60i64]);
    let reading = (any::<[bool; 3]>(), prop::option::of(0..5000i64), prop::option::of(0..10i64));
    (dimensions, windows, reading).prop_map(|(by, (size, slide, bound, lateness), (flags, future, dedup))| Rules {
        over_http: false,
        size: size * SECOND,
        slide: slide.map(|slide| slide * SECOND),
        by,
        out_of_orderness: bound * SECOND,
        lateness: lateness * SECOND,
        time: if flags[0] { TimeField::Client } else { TimeField::Server },
        max_future: future.map(|seconds| seconds * SECOND),
        dedup: dedup.map(|seconds| seconds * SECOND),
        validated: flags[1],
        sharded: flags[2],
    })
}

proptest! {
    #![proptest_config(crate::test_cases::cases(48))]
    #[test]
    fn the_truth_is_what_the_bytes_say_when_read_again(seed: u64, rate in 1.0..50.0, rules in rules()) {
        let lines = make(Options { rate, late_by: 20 * SECOND, ..mixed(800, seed) });
        let report = report(&lines, rules.clone());
        prop_assert_eq!(report.records, 800);
        prop_assert_eq!(report.counts.sum(), 800);
        prop_assert_eq!(report.counts.dead, report.dead.values().sum::<u64>());
        prop_assert_eq!(report.made.values().sum::<u64>(), 800);
        prop_assert_eq!(comparable(&report, &rules), reread(&lines, &rules));
    }
}
