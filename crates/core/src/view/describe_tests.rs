use super::*;
use crate::format::row;
use crate::view::describe_text::report;
use proptest::prelude::*;

/// Events given by partition, event time (s), stream time (s) and properties.
fn events(rows: &[(&str, i64, i64, &str)]) -> RecordBatch {
    let mut builder = row::Builder::new(Kind::Event);
    let text = |seconds: i64| crate::time::format_instant(seconds * 1_000_000);
    for (partition, time, stream, properties) in rows {
        let (time, stream) = (text(*time), text(*stream));
        let json = format!(
            "{{\"event_id\":\"00000000-0000-0000-0000-000000000000\",\"source\":\"s\",\"event_type\":\"t\",\
             \"properties\":{properties},\"ingested_at\":\"{time}\",\"event_time\":\"{time}\",\"origin\":\"o\",\
             \"partition\":\"{partition}\",\"offset\":1,\"stream_time\":\"{stream}\"}}"
        );
        builder.push(&json).unwrap();
    }
    builder.finish().unwrap()
}

fn described(batches: &[RecordBatch]) -> Description {
    let mut describe = Describe::try_new(Kind::Event, &Kind::Event.schema(), true).unwrap();
    batches.iter().for_each(|batch| describe.push(batch).unwrap());
    describe.finish()
}

#[test]
fn counts_range_rate_and_nulls_are_those_of_the_rows() {
    let rows = [("0", 0, 0, r#"{"a":1,"o":{"p":null,"q":2}}"#), ("0", 10, 10, r#"{"a":null}"#)];
    let description = described(&[events(&rows)]);
    let time = description.time.clone().unwrap();
    assert_eq!((description.rows, time.seconds, time.rows_per_second), (2, 10.0, Some(0.2)));
    let nulls = |name: &str| description.columns.iter().find(|column| column.name == name).unwrap().nulls;
    assert_eq!((nulls("user_id"), nulls("source")), (2, 0));
    let paths = description.paths.as_ref().unwrap();
    let shares: Vec<_> = paths.most_frequent.iter().map(|path| (path.name.as_str(), path.null_share)).collect();
    assert_eq!(shares, [("a", 0.5), ("o.q", 0.5)]);
    assert_eq!(description.values[0].most_frequent, [("s".to_owned(), 2)]);
}

#[test]
fn disorder_is_told_by_partition_the_worst_first() {
    let rows = [("0", 5, 5, "{}"), ("1", 100, 100, "{}"), ("1", 40, 100, "{}"), ("0", 6, 6, "{}")];
    let disorder = described(&[events(&rows)]).disorder.unwrap();
    assert_eq!((disorder.total.out_of_order, disorder.total.out_of_order_share), (1, 0.25));
    assert_eq!((disorder.total.lateness_ms_p50, disorder.total.lateness_ms_max), (0.0, 60_000.0));
    let worst = &disorder.most_out_of_order[0];
    assert_eq!((worst.partition.as_str(), worst.lateness.rows), ("1", 2));
    assert_eq!(disorder.most_out_of_order[1].lateness.out_of_order, 0);
}

#[test]
fn partitions_beyond_the_bound_count_in_the_total() {
    let names: Vec<String> = (0..1_200).map(|at| at.to_string()).collect();
    let rows: Vec<_> = names.iter().map(|name| (name.as_str(), 0, 1, "{}")).collect();
    let disorder = described(&[events(&rows)]).disorder.unwrap();
    assert_eq!((disorder.partitions, disorder.total.rows, disorder.total.out_of_order), (1_000, 1_200, 1_200));
    assert_eq!(disorder.total.lateness_ms_p99, 1_000.0);
}

#[test]
fn many_different_values_are_estimated_and_no_memory_is_lost_to_them() {
    let properties: Vec<String> = (0..12_000).map(|at| format!("{{\"k{at}\":1}}")).collect();
    let rows: Vec<_> = properties.iter().map(|properties| ("0", 0, 0, properties.as_str())).collect();
    let paths = described(&[events(&rows)]).paths.unwrap();
    assert_eq!((paths.distinct, paths.more, paths.most_frequent.len()), (10_000, true, 50));
    let mut values = ValueCounts::try_new("user_id").unwrap();
    for chunk in (0..30_000).collect::<Vec<_>>().chunks(1_000) {
        let users: ArrayRef = Arc::new(chunk.iter().map(|at| Some(format!("u{at}"))).collect::<StringArray>());
        values.push(&RecordBatch::try_from_iter([("user_id", users)]).unwrap()).unwrap();
    }
    let values = values.finish();
    assert!(!values.exact && (28_000..32_000).contains(&values.distinct), "{}", values.distinct);
}

#[test]
fn nothing_at_all_is_described_too() {
    let description = described(&[]);
    assert_eq!((description.rows, description.time.clone()), (0, None));
    assert!(report(&description, Some(80)).starts_with("rows      0 of kind event\n"));
}

#[test]
fn the_report_names_disorder_in_durations_and_fits_the_terminal() {
    let rows = [("\\u001b[2J", 5, 5, "{}"), ("\\u001b[2J", 3, 5, "{}")];
    let text = report(&described(&[events(&rows)]), Some(70));
    assert!(text.contains("50.0% out of order in 1 partition\nlateness    0s (p50), 2s (p99), 2s (max)\n"), "{text}");
    use unicode_width::UnicodeWidthStr;
    assert!(text.lines().all(|line| line.width() <= 70), "{text}");
    assert!(!text.contains('\u{1b}'));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..Default::default() })]
    #[test]
    fn a_description_does_not_depend_on_how_rows_are_split(
        rows in proptest::collection::vec((0u8..4, 0i64..100, 0i64..50), 1..60),
        cut in 1usize..10,
    ) {
        let rows: Vec<(String, i64, i64)> = rows.into_iter().map(|(p, t, late)| (p.to_string(), t, t + late)).collect();
        let rows: Vec<(&str, i64, i64, &str)> = rows.iter().map(|(p, t, s)| (p.as_str(), *t, *s, "{\"a\":1}")).collect();
        let parts: Vec<RecordBatch> = rows.chunks(cut).map(events).collect();
        prop_assert_eq!(described(&parts), described(&[events(&rows)]));
    }
}
