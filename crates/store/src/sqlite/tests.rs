use super::{STORE, database};
use crate::conformance::Bench;
use crate::ledger_conformance;
use crate::sample::{Pane, metrics, rows};
use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use evt_core::error::ErrorKind;
use evt_core::kind::Kind;
use evt_run::client::Location;
use rusqlite::Connection;
use std::sync::Arc;

fn bench() -> Bench {
    Bench::new(&STORE)
}

fn query<T: rusqlite::types::FromSql>(bench: &Bench, sql: &str) -> Vec<T> {
    let db = Connection::open(&bench.location.path).unwrap();
    let mut statement = db.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_reader_leaves_no_log_behind_whether_it_ends_or_stops_halfway() {
    let bench = bench();
    bench.run(Kind::Event, &[rows(Kind::Event, 0, 5000)]);
    assert_eq!((STORE.reader.tables)(&bench.location).unwrap().len(), Kind::ALL.len());
    assert_eq!(bench.table(Kind::Event).len(), 5000);
    (STORE.reader.read)(&bench.location, Kind::Event, Default::default()).unwrap().next().unwrap().unwrap();
    let beside = std::path::Path::new(&bench.location.path).parent().unwrap();
    assert_eq!(std::fs::read_dir(beside).unwrap().count(), 1, "the database alone");
}

#[test]
fn the_tables_have_the_columns_of_the_kinds_in_order() {
    let bench = bench();
    bench.run(Kind::Event, &[rows(Kind::Event, 0, 1)]);
    for kind in Kind::ALL {
        let found: Vec<String> = query(&bench, &format!("SELECT name FROM pragma_table_info('{}')", kind.table()));
        let schema = kind.schema();
        let mut expected: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        match kind {
            Kind::Metric => expected[evt_core::kind::metric::column::RETRACTED] = "run",
            // A later migration appends its column at the end.
            Kind::Dead => expected.insert(evt_core::kind::dead::column::ORIGINAL_LENGTH, "payload_hash"),
            _ => {}
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn cells_are_the_text_a_person_would_type() {
    let bench = bench();
    bench.run(Kind::Event, &[rows(Kind::Event, 0, 1)]);
    bench.run(Kind::Metric, &[metrics(&[(0, 0, 1, false), (1, 0, 1, false), (2, 0, 1, false), (3, 0, 1, false)])]);
    bench.run(Kind::Dead, &[rows(Kind::Dead, 2, 4)]);
    assert_eq!(query::<String>(&bench, "SELECT event_time FROM raw_events"), ["2024-01-15T00:00:00.000000Z"]);
    assert_eq!(query::<String>(&bench, "SELECT properties ->> 'n' || typeof(event_id) FROM raw_events"), ["0text"]);
    let values = "SELECT typeof(value) || ' ' || coalesce(value, '') FROM aggregated_metrics ORDER BY window_start";
    assert_eq!(query::<String>(&bench, values), ["text NaN", "null ", "real -Inf", "real 1.1"]);
    let payloads = "SELECT typeof(original_payload) || coalesce(headers, '') FROM dead_letters ORDER BY \"offset\"";
    let headers = r#"[{"key":"trace","value":"text"},{"key":"trace","value_hex":"fe01"}"#;
    let expected = [format!("text{headers}]"), format!(r#"blob{headers},{{"key":"trace"}}]"#)];
    assert_eq!(query::<String>(&bench, payloads), expected);
}

#[test]
fn rows_are_read_in_key_order_over_many_pages() {
    let bench = bench();
    let panes: Vec<Pane> = (0..5000).rev().map(|key| (key, 0, 1, false)).collect();
    bench.run(Kind::Metric, &[metrics(&panes)]);
    let batches = bench.read(Kind::Metric);
    assert!(batches.len() > 2 && batches.iter().all(|batch| batch.num_rows() <= 2048));
    let read = arrow::compute::concat_batches(&Kind::Metric.schema(), &batches).unwrap();
    let ascending: Vec<Pane> = panes.iter().rev().copied().collect();
    assert_eq!(read.column(2), metrics(&ascending).column(2));
}

#[test]
fn a_row_that_replaces_another_runs_is_named_and_a_replay_of_the_run_is_not() {
    let bench = bench();
    for (run, rows, notice) in [
        ("monday", 5, None),
        ("monday", 6, None),
        (
            "tuesday",
            9,
            Some(
                r#"replaced 2 rows of other runs (a metric row covers its whole window), first per minute 2024-01-15T00:00:00.000000Z {"country":"0"}: rows 6 before, 9 now"#,
            ),
        ),
        ("wednesday", 9, None),
    ] {
        let mut sink = bench.open_as(run, false).unwrap();
        sink.write(Kind::Metric, &metrics(&[(0, 0, rows, false), (1, 0, rows, false)])).unwrap();
        let notices = sink.finish().unwrap().notices;
        assert_eq!(
            notices.first().map(|notice| (notice.text.as_str(), notice.fails)),
            notice.map(|text| (text, false))
        );
    }
}

#[test]
fn a_letter_whose_replay_failed_again_says_how_often() {
    let bench = bench();
    let letter = rows(Kind::Dead, 0, 2);
    let mut columns = letter.columns().to_vec();
    columns[12] = Arc::new(Int32Array::from(vec![2, 1])) as ArrayRef;
    let again = RecordBatch::try_new(letter.schema(), columns).unwrap();
    bench.run(Kind::Dead, std::slice::from_ref(&letter));
    let counts = bench.run(Kind::Dead, std::slice::from_ref(&again)).counts;
    assert_eq!((counts.updated, counts.unchanged), (1, 1));
    assert_eq!(bench.run(Kind::Dead, &[letter]).counts.unchanged, 2, "fewer attempts are older news");
    assert_eq!(query::<i64>(&bench, "SELECT attempts FROM dead_letters ORDER BY \"offset\""), [2, 1]);
}

#[test]
fn a_file_another_run_has_locked_is_exit_75_and_one_line() {
    let bench = bench().with("wait", "20ms");
    let mut sink = bench.open();
    let other = Connection::open(&bench.location.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = sink.write(Kind::Event, &rows(Kind::Event, 0, 1)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(
        error.to_string().ends_with("another output of this run, has held the lock for 20ms (?wait= sets the limit)"),
        "{error}"
    );
    other.execute_batch("ROLLBACK").unwrap();
    sink.write(Kind::Event, &rows(Kind::Event, 0, 1)).unwrap();
    assert_eq!(sink.finish().unwrap().counts.inserted, 1);
}

#[test]
fn many_that_make_one_file_at_the_same_moment_all_write_to_it() {
    for _ in 0..20 {
        let (bench, start) = (bench(), std::sync::Barrier::new(6));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    start.wait();
                    bench.open().write(Kind::Event, &rows(Kind::Event, 0, 1)).map(|_| ()).unwrap();
                });
            }
        });
        assert_eq!(bench.table(Kind::Event).len(), 1);
    }
}

#[test]
fn what_cannot_be_a_store_is_rejected_with_its_exit_status() {
    let bench = bench();
    let open = || bench.open_as("run", false).err().unwrap();
    std::fs::write(&bench.location.path, "no database, but long enough to be taken for one".repeat(100)).unwrap();
    assert_eq!(open().kind(), ErrorKind::Corrupt);
    std::fs::remove_file(&bench.location.path).unwrap();
    std::fs::create_dir(&bench.location.path).unwrap();
    assert_eq!(open().kind(), ErrorKind::Io);
    std::fs::remove_dir(&bench.location.path).unwrap();
    assert_eq!((STORE.reader.tables)(&bench.location).err().unwrap().kind(), ErrorKind::Io, "reading makes no file");
    bench.run(Kind::Event, &[]);
    Connection::open(&bench.location.path).unwrap().execute("UPDATE evt_schema SET version = 99", []).unwrap();
    let error = open();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("newer evt"), "{error}");
}

#[test]
fn a_database_of_somebody_else_keeps_its_tables() {
    let bench = bench();
    let theirs = "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (7); PRAGMA user_version = 42";
    Connection::open(&bench.location.path).unwrap().execute_batch(theirs).unwrap();
    assert_eq!((STORE.reader.tables)(&bench.location).err().unwrap().kind(), ErrorKind::Usage);
    bench.run(Kind::Event, &[rows(Kind::Event, 0, 1)]);
    assert_eq!(
        query::<i64>(&bench, "SELECT x FROM theirs UNION ALL SELECT user_version FROM pragma_user_version"),
        [7, 42]
    );
}

#[test]
fn the_ledger_does_what_a_naive_one_does() {
    for seed in 1..6 {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("ledger.db").display().to_string();
        let location = Location { scheme: "sqlite".into(), path, ..Location::default() };
        assert!(database::ledger_to_read(&location).unwrap().is_none());
        ledger_conformance::check(&mut || database::ledger(&location).unwrap(), seed);
        assert!(database::ledger_to_read(&location).unwrap().is_some());
    }
}
