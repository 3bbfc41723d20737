use super::*;
use crate::format::test_data::build;
use crate::kind::Kind;

fn metrics(names: &[&str]) -> RecordBatch {
    let row = |name: &&str| {
        let name = serde_json::to_string(name).unwrap();
        format!(
            "{{\"metric_id\":\"00000000-0000-0000-0000-000000000000\",\"metric_name\":{name},\
             \"window_start\":\"2024-01-15T10:00:00Z\",\"window_end\":\"2024-01-15T10:01:00Z\",\"dimensions\":{{}},\
             \"rows\":7,\"revision\":0,\"pane\":0,\"retracted\":false}}"
        )
    };
    let batch = build(Kind::Metric, &names.iter().map(row).collect::<Vec<_>>());
    batch.project(&[1, 2, 5, 6]).unwrap()
}

fn table(batches: &[RecordBatch], options: &EncodeOptions) -> String {
    let mut table = Table::try_new(&batches[0].schema(), options).unwrap();
    let mut out = vec![];
    for batch in batches {
        table.encode(batch, &mut out).unwrap();
    }
    table.finish(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn numbers_stand_at_the_right_null_is_a_dash_and_instants_lose_what_none_has() {
    let expected = "\
metric_name  window_start          value  rows
count        2024-01-15 10:00:00Z      -     7
größe        2024-01-15 10:00:00Z      -     7
";
    assert_eq!(table(&[metrics(&["count", "größe"])], &EncodeOptions::default()), expected);
}

#[test]
fn a_narrow_terminal_gets_shorter_cells_then_fewer_columns() {
    let narrow = |width| {
        table(&[metrics(&["a rather long name"])], &EncodeOptions { width: Some(width), ..EncodeOptions::default() })
    };
    let expected = "\
metric_name      window_st…  value  rows
a rather long …  …10:00:00Z      -     7
";
    assert_eq!(narrow(40), expected);
    for width in 1..80 {
        let text = narrow(width);
        assert!(text.lines().all(|line| line.width() <= width.max(14)), "{width}:\n{text}");
    }
    assert!(narrow(26).lines().next().unwrap().ends_with("…+2"), "{}", narrow(26));
}

#[test]
fn data_cannot_drive_the_terminal() {
    let text = table(&[metrics(&["\u{1b}[31mred\u{7}\n\u{9b}2J\u{202e}"])], &EncodeOptions::default());
    assert!(text.contains("␛[31mred␇␊\u{fffd}2J\u{fffd}"), "{text}");
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn wider_cells_that_come_late_widen_their_column_while_there_is_room() {
    let batches = [metrics(&["short"; SAMPLE_ROWS]), metrics(&["a name that is longer than the column", "short"])];
    let text = table(&batches, &EncodeOptions::default());
    assert_eq!(text.lines().filter(|line| line.starts_with("metric_name")).count(), 1);
    let lines: Vec<&str> = text.lines().collect();
    let [.., first, wide, after] = lines[..] else { panic!("{text}") };
    assert!(wide.starts_with("a name that is longer than the column  2024"), "{wide}");
    assert!(after.starts_with(&format!("{:<39}2024", "short")), "{after}");
    let full = EncodeOptions { width: Some(first.len()), ..EncodeOptions::default() };
    let text = table(&batches, &full);
    assert!(text.lines().nth(SAMPLE_ROWS + 1).unwrap().starts_with("a name tha…  2024"), "{text}");
}

#[test]
fn colour_is_asked_for() {
    let text = table(&[metrics(&["a"])], &EncodeOptions { color: true, ..EncodeOptions::default() });
    assert!(text.starts_with("\u{1b}[1mmetric_name"));
    assert!(table(&[metrics(&[])], &EncodeOptions::default()).starts_with("metric_name"));
}

#[test]
fn few_rows_shown_at_once_leave_room_for_wider_ones_and_the_last_column_takes_the_rest() {
    let mut table = Table::try_new(
        &metrics(&["a"]).project(&[0, 3]).unwrap().schema(),
        &EncodeOptions { width: Some(40), ..EncodeOptions::default() },
    )
    .unwrap();
    let mut out = vec![];
    for name in ["a", "a longer name"] {
        table.encode(&metrics(&[name]).project(&[0, 3]).unwrap(), &mut out).unwrap();
        table.flush(&mut out);
    }
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text, "metric_name       rows\na                    7\na longer name        7\n");
}
