//! Tests that only PostgreSQL needs: lost connections, keys too long for an index, tables of a newer evt.

use super::*;
use crate::Notice;
use crate::RowsToWrite;
use crate::conformance::Bench;
use crate::sample::{as_text, metrics, rows};
use arrow::array::{ArrayRef, StringArray};
use evt_core::error::ErrorKind;
use std::sync::Arc;

fn sql(bench: &Bench, sql: &str) -> Vec<String> {
    let server = PostgresServer::try_new(&bench.location).unwrap();
    let link = server.connect().ok().unwrap();
    let rows = link.wait(async { Ok(link.client.simple_query(sql).await?) }).ok().unwrap();
    let first = |message: &tokio_postgres::SimpleQueryMessage| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    rows.iter().filter_map(first).collect()
}

#[test]
fn what_a_run_has_taken_back_stays_so_though_its_connection_ends() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let (pipeline, run) = ("p".to_owned(), "run".to_owned());
    let options = OpenOptions {
        up: evt_run::metrics::ServerStatus::default(),
        pipeline,
        run,
        epochs: false,
        is_at_once: false,
        clock: Arc::new(|| 0),
        disk: Default::default(),
        parallelism: Default::default(),
    };
    let mut sink = Box::new(Postgres::open(&bench.location, &options).unwrap());
    sink.write(Kind::Metric, &metrics(&[(3, 0, 5, false), (4, 0, 5, false)])).unwrap();
    sink.write(Kind::Metric, &metrics(&[(3, 0, 5, true)])).unwrap();
    sink.session.link = None;
    sink.write(Kind::Metric, &metrics(&[(3, 0, 5, false), (3, 0, 4, false)])).unwrap();
    let outcome = sink.finish().unwrap();
    assert_eq!((outcome.counts.inserted, outcome.counts.deleted, outcome.counts.stale), (2, 1, 2));
    assert_eq!(bench.table(Kind::Metric), as_text(&[metrics(&[(4, 0, 5, false)])]));
    assert_eq!(sql(&bench, "SELECT count(*) FROM metric_retractions"), ["0"]);
}

#[test]
fn a_row_that_replaces_another_runs_is_named() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    bench.run(Kind::Metric, &[metrics(&[(3, 0, 5, false)])]);
    let mut other = bench.open_as("other", false).unwrap();
    other.write(Kind::Metric, &metrics(&[(3, 0, 7, false), (4, 0, 7, false)])).unwrap();
    let notices = other.finish().unwrap().notices;
    let [Notice { text, fails: false }] = &notices[..] else { panic!("{notices:?}") };
    assert!(text.starts_with("replaced 1 row of another run"), "{text}");
    assert!(text.ends_with("rows 5 before, 7 now"), "{text}");
}

#[test]
fn keys_the_index_cannot_hold_come_back_and_the_others_stay() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let good = rows(Kind::Event, 0, 64);
    let mut columns = good.columns().to_vec();
    // Digits of hashes do not compress.
    let long: String = (0..400u64).map(|n| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()))).collect();
    let users = (0..64).map(|row| Some(if row == 5 { "a\0b" } else { "u" }));
    columns[3] = Arc::new(users.collect::<StringArray>()) as ArrayRef;
    let origins = (0..64).map(|row| if row % 20 == 19 { long.as_str() } else { "o" });
    columns[9] = Arc::new(origins.collect::<arrow::array::DictionaryArray<arrow::datatypes::Int32Type>>());
    let batch = RecordBatch::try_new(good.schema(), columns).unwrap();
    let mut sink = bench.open();
    let rejected = sink.write(Kind::Event, &batch).unwrap();
    assert_eq!(rejected.iter().map(|rejected| rejected.row).collect::<Vec<_>>(), [5, 19, 39, 59]);
    assert!(rejected[0].fault.message.contains("user_id"), "{}", rejected[0].fault.message);
    assert!(rejected[1].fault.message.contains("index row size"), "{}", rejected[1].fault.message);
    sink.counts().check().unwrap();
    assert_eq!(bench.table(Kind::Event), as_text(&[evt_core::kind::dead::without(&batch, &rejected).unwrap()]));
}

#[test]
fn tables_of_a_newer_evt_are_left_alone_and_pending_steps_are_named() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let pending = check(&bench.location, CheckScope::Rows(RowsToWrite::default())).unwrap().unwrap();
    assert!(pending.starts_with("pending migrations: 001_metrics, ") && pending.ends_with("013_metric_progress"));
    assert_eq!(
        (STORE.reader.tables)(&bench.location).err().unwrap().kind(),
        ErrorKind::Usage,
        "looking makes no tables"
    );
    bench.run(Kind::Event, &[]);
    assert_eq!(check(&bench.location, CheckScope::Rows(RowsToWrite::default())).unwrap(), None);
    sql(&bench, "INSERT INTO evt_migrations VALUES ('999_future', now())");
    for error in
        [check(&bench.location, CheckScope::Rows(RowsToWrite::default())).err(), bench.open_as("run", false).err()]
    {
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("newer evt (migration 999_future)"), "{error}");
    }
}

/// Makes the tables as step 006 left them.
fn make_old_tables(bench: &Bench) {
    let schema = bench.location.options["schema"].clone();
    let steps = [
        ("001_metrics", include_str!("migrations/001_metrics.sql")),
        ("002_events", include_str!("migrations/002_events.sql")),
        ("003_dead_letters", include_str!("migrations/003_dead_letters.sql")),
        ("004_alerts", include_str!("migrations/004_alerts.sql")),
        ("005_checkpoints", include_str!("migrations/005_checkpoints.sql")),
        ("006_letter_lengths", include_str!("migrations/006_letter_lengths.sql")),
    ];
    sql(bench, &format!("CREATE SCHEMA IF NOT EXISTS {schema}"));
    sql(bench, "CREATE TABLE evt_migrations (name TEXT PRIMARY KEY, taken_at TIMESTAMPTZ NOT NULL)");
    for (name, step) in steps {
        sql(bench, step);
        sql(bench, &format!("INSERT INTO evt_migrations VALUES ('{name}', now())"));
    }
}

#[test]
fn epochs_of_older_versions_move_to_a_table_of_another_name() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    make_old_tables(&bench);
    sql(
        &bench,
        "INSERT INTO pipeline_checkpoints VALUES ('id/to-0', NULL, NULL, NULL, 7, 3, now()), ('id/late', 1, 2, now(), NULL, NULL, NULL)",
    );
    bench.run(Kind::Event, &[]);
    let epochs = "SELECT output || ' ' || run || ' ' || epoch FROM checkpoint_epochs";
    assert_eq!(sql(&bench, epochs), ["id/to-0 7 3"]);
    assert_eq!(sql(&bench, "SELECT topic FROM pipeline_checkpoints"), [""; 0]);
}

#[test]
fn alerts_without_ids_keep_their_columns() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    make_old_tables(&bench);
    sql(
        &bench,
        "INSERT INTO alerts VALUES
            ('r', 'firing', 0.5, '2024-01-15T10:00:00Z', '2024-01-15T10:01:00Z', '2024-01-15T10:01:00Z'),
            ('r', 'resolved', NULL, '2024-01-15T10:05:00Z', '2024-01-15T10:06:00Z', '2024-01-15T10:01:00Z'),
            ('r', 'firing', 'NaN', '2024-01-15T10:02:00Z', '2024-01-15T10:03:00Z', '2024-01-15T10:01:00Z'),
            ('q', 'firing', 1, '2024-01-15T10:00:00Z', '2024-01-15T10:01:00Z', '2024-01-15T10:01:00Z')",
    );
    bench.run(Kind::Alert, &[rows(Kind::Alert, 0, 10)]);
    assert_eq!(check(&bench.location, CheckScope::Rows(RowsToWrite::default())).unwrap(), None);
    let old =
        "SELECT right(alert_id::text, 2) || ' ' || right(rule_id::text, 2) || ' ' || rule || ' ' || state || ' ' ||
        coalesce(value::text, '-') || ' ' || to_char(at AT TIME ZONE 'UTC', 'HH24:MI') FROM alerts
        WHERE alert_id::text LIKE '00000000-%' ORDER BY 1";
    assert_eq!(
        sql(&bench, old),
        ["01 01 q firing 1 10:01", "02 02 r firing 0.5 10:01", "02 02 r resolved - 10:06", "03 02 r firing NaN 10:03"]
    );
    assert_eq!(bench.table(Kind::Alert).len(), 14);
}

#[test]
fn two_runs_that_write_the_same_keys_at_once_end_like_one() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let write = |rows: i64| {
        let mut sink = bench.open_as(&format!("run {rows}"), false).unwrap();
        let keys: Vec<i64> = if rows % 2 == 0 { (0..300).collect() } else { (0..300).rev().collect() };
        for chunk in keys.chunks(50) {
            let panes: Vec<_> = chunk.iter().map(|key| (*key, 0, rows, false)).collect();
            assert!(sink.write(Kind::Metric, &metrics(&panes)).unwrap().is_empty());
        }
        sink.finish().unwrap().counts.check().unwrap();
    };
    std::thread::scope(|scope| {
        (1..=4).for_each(|rows| _ = scope.spawn(move || write(rows)));
    });
    let last: Vec<_> = (0..300).map(|key| (key, 0, 4, false)).collect();
    assert_eq!(bench.table(Kind::Metric), as_text(&[metrics(&last)]));
}

#[test]
fn dimensions_that_are_not_canonical_come_back() {
    for (text, held) in [
        (r#"{"a":"1","b":null}"#, true),
        (r#"{"\uD83D\uDE00":"x"}"#, false),
        (r#"{"b":"1","a":"2"}"#, false),
        (r#"{"a":1}"#, false),
        (r#"{"a":1e400}"#, false),
        (r#"{"a":"\u0000"}"#, false),
        (r#"["a"]"#, false),
        ("", false),
    ] {
        let canonical = cell::canonical_dimensions(text);
        assert_eq!(canonical.as_deref() == Some(text), held, "{text}");
    }
}

#[test]
fn the_ledger_of_replays_does_what_a_naive_one_does() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    assert!(database::ledger_to_read(&bench.location).unwrap().is_none());
    crate::ledger_conformance::check(&mut || database::ledger(&bench.location).unwrap(), 1);
    assert!(database::ledger_to_read(&bench.location).unwrap().is_some());
}
