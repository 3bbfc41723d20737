//! The judge against a naive model: sets of positions and ids, compared one by one.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Judges entries in their order; returns the findings and the number of rows that were not judged.
fn judged(rules: JudgeRules, mut entries: Vec<RowEntry>) -> (Vec<Finding>, u64) {
    let mut extent = UnitExtent::default();
    for entry in entries.iter().filter(|entry| entry.side == Side::A) {
        let position = if rules.by == MatchBy::Position { entry.key } else { entry.other };
        extent.add(RowPosition::of_key(position), entry.time());
    }
    entries.sort_unstable();
    let (mut judge, mut found) = (Judge::new(rules, extent), vec![]);
    let mut out = |one: Finding| {
        found.push(one);
        Ok(())
    };
    entries.into_iter().for_each(|entry| judge.push(entry, &mut out).unwrap());
    judge.finish(&mut out).unwrap();
    let not_judged = judge.not_judged;
    (found, not_judged)
}

fn entry(side: Side, offset: i64, id: u64) -> RowEntry {
    let key = RowPosition { partition: 0, offset }.key();
    RowEntry { key, side, flags: 0, other: [0, id], time: offset * 10, content: id }
}

fn outcomes(rules: JudgeRules, entries: Vec<RowEntry>) -> Vec<(UnitOutcome, i64)> {
    judged(rules, entries).0.iter().map(|found| (found.outcome, found.position.offset)).collect()
}

#[test]
fn each_unit_and_each_row_has_one_outcome() {
    use UnitOutcome::{Different, Double, Extra, InB, InFlight, InPlus, Missing};
    let unit = |offset| entry(Side::A, offset, 1);
    let row = |offset| entry(Side::B, offset, 1);
    let plus = |offset| entry(Side::Plus, offset, 1);
    let compares = JudgeRules { compares: true, ..JudgeRules::default() };
    let entries = vec![
        unit(1),
        row(1),
        unit(2),
        plus(2),
        unit(3),
        RowEntry { flags: IN_FLIGHT, ..unit(4) },
        unit(5),
        row(5),
        row(5),
        row(6),
        unit(7),
        RowEntry { content: 9, ..row(7) },
        row(8),
        plus(3000),
    ];
    let expected =
        [(InB, 1), (InPlus, 2), (Missing, 3), (InFlight, 4), (InB, 5), (Double, 5), (Extra, 6), (Different, 7)];
    let (found, not_judged) = judged(compares, entries);
    let found: Vec<_> = found.iter().map(|found| (found.outcome, found.position.offset)).collect();
    assert_eq!((found.as_slice(), not_judged), (expected.as_slice(), 1), "the row at 8 is behind the end of A");
}

#[test]
fn units_of_one_id_share_its_rows_and_those_of_equal_content_match_first() {
    use UnitOutcome::{Different, Duplicate, InB, InPlus, Missing};
    let unit = |offset, content, flags| RowEntry { content, flags, ..entry(Side::A, offset, 1).turned() };
    let row = |content| RowEntry { content, ..entry(Side::B, 100, 1).turned() };
    let by_id = JudgeRules { by: MatchBy::Id, compares: true, ..JudgeRules::default() };
    let entries = vec![unit(1, 5, 0), unit(2, 6, 0), row(6)];
    assert_eq!(outcomes(by_id.clone(), entries.clone()), [(InB, 2), (Missing, 1)]);
    let dedup = JudgeRules { dedup: true, ..by_id.clone() };
    assert_eq!(outcomes(dedup, entries), [(InB, 2), (Duplicate, 1)]);
    let entries = vec![unit(1, 5, IN_PLUS), unit(2, 5, 0), row(7)];
    assert_eq!(outcomes(by_id, entries), [(Different, 2), (InPlus, 1)], "the unit that is not in plus takes the row");
}

#[test]
fn a_row_of_a_record_that_was_rejected_is_double() {
    use UnitOutcome::{Double, InB, InPlus, Missing};
    let [unit, row] = [Side::A, Side::B].map(|side| move |offset| entry(side, offset, 1));
    let letter = |offset| RowEntry { flags: NOT_IN_B, ..entry(Side::Plus, offset, 1) };
    let entries = vec![
        unit(1),
        row(1),
        letter(1),
        unit(2),
        row(2),
        entry(Side::Plus, 2, 1),
        unit(3),
        letter(3),
        letter(3),
        unit(4),
    ];
    for compares in [false, true] {
        let rules = JudgeRules { compares, ..JudgeRules::default() };
        let expected = [(InPlus, 1), (Double, 1), (InB, 2), (InPlus, 3), (Missing, 4)];
        assert_eq!(outcomes(rules, entries.clone()), expected, "a late row at 2 may be in B");
    }
}

#[test]
fn a_row_before_the_first_record_of_its_partition_is_not_judged_by_its_id() {
    let units = [10, 11].map(|offset| entry(Side::A, offset, 1 + offset.unsigned_abs()).turned());
    // Its time is inside of A's, as that of a late event.
    let row = |offset| RowEntry { time: 105, ..entry(Side::B, offset, 99).turned() };
    for (offset, extra, not_judged) in [(9, 0, 1), (10, 1, 0)] {
        let entries = units.into_iter().chain([row(offset)]).collect();
        let (found, left) = judged(JudgeRules { by: MatchBy::Id, ..JudgeRules::default() }, entries);
        let found = found.iter().filter(|found| found.outcome == UnitOutcome::Extra).count();
        assert_eq!((found, left), (extra, not_judged), "offset {offset}");
    }
}

#[test]
fn a_range_of_time_selects_units_and_rows_without_a_unit() {
    use UnitOutcome::{Extra, Missing};
    let range = Span { since: Some(20), until: Some(40) };
    let entries = vec![
        entry(Side::A, 1, 1),
        entry(Side::A, 2, 1),
        entry(Side::B, 3, 1),
        entry(Side::A, 4, 1),
        // Its unit is outside of the range, so it is not an extra row.
        RowEntry { time: 30, ..entry(Side::B, 4, 1) },
        entry(Side::A, 5, 1),
    ];
    assert_eq!(outcomes(JudgeRules { range, ..JudgeRules::default() }, entries), [(Missing, 2), (Extra, 3)]);
}

#[test]
fn any_number_of_rows_of_one_key_is_counted() {
    let many = 3 * HELD_MAX;
    let mut entries: Vec<_> = (0..many).map(|_| entry(Side::B, 1, 1)).collect();
    entries.extend((0..HELD_MAX + 7).map(|_| entry(Side::A, 1, 1)));
    let found = outcomes(JudgeRules { compares: true, ..JudgeRules::default() }, entries);
    let count = |outcome| found.iter().filter(|found| found.0 == outcome).count();
    assert_eq!([count(UnitOutcome::InB), count(UnitOutcome::Double)], [HELD_MAX + 7, many - HELD_MAX - 7]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn counts_are_those_of_the_naive_model(
        rows in prop::collection::vec((0u8..4, 0i64..12, 0u64..3), 0..60),
        dedup in any::<bool>(),
    ) {
        for by in [MatchBy::Position, MatchBy::Id] {
            let entries: Vec<RowEntry> = rows.iter().map(|(side, offset, id)| {
                let (side, flags) = [(Side::A, 0), (Side::B, 0), (Side::Plus, 0), (Side::Plus, NOT_IN_B)][usize::from(*side)];
                let entry = RowEntry { flags, ..entry(side, *offset, *id) };
                if by == MatchBy::Id { entry.turned() } else { entry }
            }).collect();
            // Everything of one key, as numbers: plus, rows, units, and side outputs.
            let mut keys: BTreeMap<RowKey, [u64; 4]> = BTreeMap::new();
            entries.iter().for_each(|entry| {
                let at = if entry.flags & NOT_IN_B != 0 { 3 } else { entry.side as usize };
                keys.entry(entry.key).or_default()[at] += 1;
            });
            let mut expected = BTreeMap::new();
            let mut add = |outcome, count| *expected.entry(outcome).or_insert(0) += count;
            for [plus, rows, units, gone] in keys.into_values() {
                let gone = units.min(gone);
                let in_b = (units - gone).min(rows);
                let in_plus = (units - gone - in_b).min(plus);
                let left = units - gone - in_b - in_plus;
                let is_duplicate = dedup && by == MatchBy::Id && rows > 0;
                add(UnitOutcome::InB, in_b);
                add(UnitOutcome::InPlus, in_plus + gone);
                add(if is_duplicate { UnitOutcome::Duplicate } else { UnitOutcome::Missing }, left);
                add(if units > 0 { UnitOutcome::Double } else { UnitOutcome::Extra }, rows - in_b);
            }
            expected.retain(|_, count| *count > 0);
            let (found, not_judged) = judged(JudgeRules { by, dedup, ..JudgeRules::default() }, entries);
            let mut counts = BTreeMap::new();
            found.iter().for_each(|found| *counts.entry(found.outcome).or_insert(0) += 1);
            *counts.entry(UnitOutcome::Extra).or_insert(0) += not_judged;
            counts.retain(|_, count| *count > 0);
            prop_assert_eq!(counts, expected);
        }
    }
}
