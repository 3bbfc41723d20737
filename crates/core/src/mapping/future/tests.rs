use super::judge::{Reach, Rest};
use super::{FutureCheck, HELD_BYTES, Judged, Lookahead, PendingLetter, PendingRecord, Record, RecordMeta};
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping::FutureVerdict;
use crate::time::{DAY, HOUR, MINUTE, SECOND};
use proptest::prelude::*;

const LIMIT: i64 = 5 * MINUTE;
const YEAR: i64 = 365 * DAY;
/// When all records are read.
const READ: i64 = 10 * YEAR;

fn held(partition: u32, offset: usize, event_time: i64) -> PendingRecord {
    let meta = RecordMeta::of_file("a", partition).at(offset as i64);
    let record = Record { text: "{}", raw: b"{}", meta, now: READ, verdict: FutureVerdict::Waits };
    PendingRecord::new(record, FutureCheck { partition, event_time, arrival: None })
}

fn letter(partition: u32, offset: usize) -> PendingLetter {
    let meta = RecordMeta::of_file("a", partition).at(offset as i64);
    let record = Record { text: "", raw: b"not json", meta, now: READ, verdict: FutureVerdict::Waits };
    PendingLetter::new(record, Fault::new(ErrorType::ParseError, "not JSON"))
}

/// Returns the partition and the offset of the records that wait no longer, and whether they are rows.
fn judged(waiting: &mut Lookahead) -> Vec<(u32, i64, bool)> {
    let judged = std::iter::from_fn(|| waiting.pop_judged());
    let found = |judged| match judged {
        Judged::Record(held, verdict) => (held.check.partition, held.offset(), verdict.is_ok()),
        Judged::Letter(letter) => (letter.meta.partition, letter.meta.offset, false),
    };
    judged.map(found).collect()
}

/// Returns whether each row of an input passes.
fn verdicts(times: &[i64], reach: Reach, rest: Rest) -> Vec<bool> {
    let mut waiting = Lookahead::new(LIMIT);
    let mut found = vec![];
    for (offset, time) in times.iter().enumerate() {
        waiting.push(held(0, offset, *time), reach);
        found.extend(judged(&mut waiting));
    }
    waiting.judge_all(rest);
    found.extend(judged(&mut waiting));
    assert!(found.iter().map(|(_, offset, _)| *offset as usize).eq(0..times.len()));
    assert_eq!((waiting.held(), waiting.bytes), (0, 0));
    found.into_iter().map(|(.., passes)| passes).collect()
}

/// Returns the rows of a file that are lost.
fn lost(times: &[i64]) -> Vec<usize> {
    let verdicts = verdicts(times, Reach::File, Rest::None);
    verdicts.iter().enumerate().filter(|(_, passes)| !**passes).map(|(row, _)| row).collect()
}

fn rows(count: usize, apart: i64) -> Vec<i64> {
    (0..count as i64).map(|row| row * apart).collect()
}

/// The rule as decision 322 has it, from all rows at once.
fn naive(times: &[i64], reach: Reach) -> Vec<bool> {
    let (depth, far) = if reach == Reach::File { (2001, 1000) } else { (101, 100) };
    let mut accepted: Vec<i64> = vec![];
    let (mut gaps, mut verdicts) = (vec![], vec![]);
    for (row, time) in times.iter().enumerate() {
        let mut window = times[row..times.len().min(row + depth)].to_vec();
        let count = window.len();
        let median = *window.select_nth_unstable(count / 2).1;
        let greatest = accepted.iter().max().copied();
        let within = |at: i64, ahead: i64| *time <= at + ahead;
        let passes = if times.len() - row > far {
            within(median, LIMIT) || greatest.is_some_and(|greatest| within(greatest, LIMIT))
        } else if let Some(greatest) = greatest {
            let gap = gaps.iter().rev().take(1_000).max().copied().unwrap_or(0);
            let span = greatest - accepted.iter().min().unwrap();
            let is_many = count > 100 || 4 * count >= accepted.len() || count > 10 && time - greatest <= span;
            within(greatest, LIMIT.max(10 * gap)) || is_many && within(median, LIMIT)
        } else {
            let least = *window.iter().min().unwrap();
            let ahead = if count > 100 { LIMIT } else { LIMIT.max(10 * (median - least)) };
            count <= 10 || within(median, ahead)
        };
        if passes {
            gaps.extend(greatest.map(|greatest| (time - greatest).max(0)));
            accepted.push(*time);
        }
        verdicts.push(passes);
    }
    verdicts
}

/// Rows apart by a duration, with gaps, late rows, wrong clocks and blocks in another order.
fn inputs() -> impl Strategy<Value = Vec<i64>> {
    let row = (0..400_u32, 0..5 * HOUR);
    (prop::collection::vec(row, 1..2600), prop_oneof![Just(SECOND), Just(MINUTE), Just(HOUR)], 1..1500_usize).prop_map(
        |(rows, apart, block)| {
            let mut clock = 0;
            let mut times: Vec<i64> = vec![];
            for (kind, distance) in rows {
                clock += apart;
                match kind {
                    0 => clock += distance,
                    1..8 => times.push(clock + distance * 10),
                    8..30 => times.push(clock - distance),
                    _ => times.push(clock),
                }
            }
            times.chunks_mut(block).step_by(3).for_each(<[i64]>::reverse);
            times
        },
    )
}

proptest! {
    #![proptest_config(crate::test_cases::cases(24))]

    #[test]
    fn each_row_has_the_verdict_of_the_rule(times in inputs()) {
        for reach in [Reach::File, Reach::Pipe] {
            prop_assert_eq!(verdicts(&times, reach, Rest::None), naive(&times, reach), "{:?}", reach);
        }
    }

    #[test]
    fn what_waits_is_bounded_and_nothing_is_lost(
        pushes in prop::collection::vec((0..40_u32, prop::option::weighted(0.8, 0..HOUR)), 1..3000),
        bytes_max in 2_000..60_000_usize, skew in 1..4_u32,
    ) {
        let run = || {
            let mut waiting = Lookahead::bounded(LIMIT, bytes_max);
            let mut found = vec![];
            for (offset, (partition, time)) in pushes.iter().enumerate() {
                let partition = partition / skew;
                match time {
                    Some(time) => waiting.push(held(partition, offset, *time), Reach::File),
                    None => waiting.push_letter(letter(partition, offset)),
                }
                found.extend(judged(&mut waiting));
                assert!(waiting.bytes <= bytes_max, "{} bytes", waiting.bytes);
                let sum: usize = waiting.partitions.values().flat_map(|one| &one.records).map(|held| held.bytes()).sum();
                assert_eq!(sum, waiting.bytes);
            }
            waiting.judge_all(Rest::None);
            found.extend(judged(&mut waiting));
            assert_eq!((waiting.held(), waiting.bytes), (0, 0));
            found
        };
        let found = run();
        prop_assert_eq!(&found, &run());
        for partition in 0..40 {
            let own = found.iter().filter(|one| one.0 == partition).map(|one| one.1 as usize);
            let pushed = pushes.iter().enumerate().filter(|(_, push)| push.0 / skew == partition);
            prop_assert!(own.eq(pushed.map(|(offset, _)| offset)));
        }
    }
}

#[test]
fn one_wrong_clock_is_lost_wherever_it_stands() {
    for count in [101, 500, 1_500, 10_000] {
        for wrong in [0, 1, count / 2, count - 101, count - 2, count - 1] {
            let mut times = rows(count, SECOND);
            times[wrong] += YEAR;
            assert_eq!(lost(&times), [wrong], "of {count}");
        }
    }
    // So is a burst.
    for (count, from, burst) in
        [(10_000, 5_000, 50), (10_000, 0, 50), (10_000, 9_950, 50), (10_000, 3_000, 900), (460, 200, 60)]
    {
        let mut times = rows(count, SECOND);
        times[from..from + burst].iter_mut().for_each(|time| *time += DAY);
        assert_eq!(lost(&times), Vec::from_iter(from..from + burst), "of {count}");
    }
}

#[test]
fn gaps_are_no_wrong_clocks() {
    for count in [1, 2, 3, 10, 150, 3_000] {
        assert_eq!(lost(&rows(count, HOUR)), [0; 0], "{count} rows");
    }
    for times in [[0, 1, 90], [0, 90, 91], [90, 0, 1], [5, 90, 1], [90, 5, 1]] {
        assert_eq!(lost(&times.map(|days| days * DAY)), [0; 0], "{times:?}");
    }
    // A night of ten hours, with one row before it that comes late.
    for (before, after) in [(3_000, 3_000), (1_000, 300), (1_000, 101), (1_000, 40), (20, 20), (12, 4), (50, 3_000)] {
        let mut times = rows(before + after, MINUTE);
        times[before..].iter_mut().for_each(|time| *time += 10 * HOUR);
        times.swap(before - 1, before);
        assert_eq!(lost(&times), [0; 0], "{before} rows, a night, {after} rows");
    }
    // The rows of one device after those of the other.
    let blocks: Vec<i64> = (0..6).flat_map(|_| rows(500, 10 * SECOND)).collect();
    assert_eq!(lost(&blocks), [0; 0]);
}

#[test]
fn the_last_row_after_a_gap_passes_if_gaps_were_seen() {
    let mut times = rows(500, MINUTE);
    times[250..].iter_mut().for_each(|time| *time += HOUR);
    let last = times[499];
    times.push(last + 10 * HOUR);
    assert_eq!(lost(&times), [0; 0]);
    times[500] += 2 * HOUR;
    assert_eq!(lost(&times), [500]);
    // A gap counts for a thousand rows.
    let last = times[499];
    times.truncate(500);
    times.extend(rows(800, MINUTE).iter().map(|time| last + MINUTE + time));
    let last = times[1299];
    times.push(last + 10 * HOUR);
    assert_eq!(lost(&times), [1300]);
}

#[test]
fn what_may_go_on_has_no_end() {
    let mut times = rows(1_000, SECOND);
    times.push(YEAR);
    for (reach, rest) in [(Reach::Live, Rest::None), (Reach::Live, Rest::Unknown), (Reach::File, Rest::Unknown)] {
        assert!(verdicts(&times, reach, rest).iter().all(|passes| *passes), "{reach:?} {rest:?}");
    }
    assert_eq!(verdicts(&times, Reach::Pipe, Rest::None).iter().filter(|passes| !**passes).count(), 1);
    // The rows that earlier runs have accepted count.
    let mut waiting = Lookahead::new(LIMIT);
    waiting.resume(0, 0);
    (0..20).for_each(|row| waiting.push(held(0, row, if row == 0 { YEAR } else { 0 }), Reach::File));
    waiting.judge_all(Rest::None);
    assert_eq!(judged(&mut waiting).iter().filter(|(.., passes)| !passes).count(), 1);
}

#[test]
fn where_few_rows_follow_a_live_record_is_not_later_than_its_reading() {
    for (reach, count, passes) in
        [(Reach::Live, 0, false), (Reach::Live, 1, false), (Reach::Live, 99, false), (Reach::Pipe, 0, true)]
    {
        let mut waiting = Lookahead::new(LIMIT);
        waiting.push(held(0, 0, READ + LIMIT + 1), reach);
        (1..=count).for_each(|row| waiting.push(held(0, row, READ + LIMIT), reach));
        waiting.judge_all(Rest::None);
        let found = judged(&mut waiting);
        assert_eq!((found[0].2, found[1..].iter().all(|one| one.2)), (passes, true), "{reach:?} {count}");
    }
    // Many rows that are as late are no wrong clock of one record.
    let mut waiting = Lookahead::new(LIMIT);
    (0..101).for_each(|row| waiting.push(held(0, row, 2 * READ), Reach::Live));
    assert_eq!(judged(&mut waiting), [(0, 0, true)]);
}

#[test]
fn a_faulty_record_waits_for_those_before_it_in_its_partition() {
    let mut waiting = Lookahead::new(LIMIT);
    waiting.push_letter(letter(0, 0));
    assert_eq!(judged(&mut waiting), [(0, 0, false)]);
    waiting.push(held(0, 1, 0), Reach::Live);
    waiting.push_letter(letter(0, 2));
    waiting.push_letter(letter(1, 0));
    assert_eq!(judged(&mut waiting), [(1, 0, false)]);
    assert_eq!(waiting.first(0).map(PendingRecord::offset), Some(1));
    waiting.judge_waited(i64::MAX);
    assert_eq!(judged(&mut waiting), [(0, 1, true), (0, 2, false)]);
    waiting.push(held(0, 3, 0), Reach::Live);
    waiting.push_letter(letter(0, 4));
    assert_eq!((waiting.forget(0), waiting.held(), waiting.bytes), (2, 0, 0));
}

#[test]
fn a_partition_that_has_ended_keeps_no_memory() {
    let mut waiting = Lookahead::new(LIMIT);
    assert_eq!(waiting.bytes_max, HELD_BYTES);
    for partition in 0..50 {
        (0..1_500).for_each(|row| waiting.push(held(partition, row, row as i64 * SECOND), Reach::File));
        waiting.judge_all(Rest::None);
        assert_eq!(judged(&mut waiting).len(), 1_500);
    }
    assert!(waiting.partitions.values().all(|one| one.records.capacity() == 0 && one.neighbours.capacity() < 100));
}
