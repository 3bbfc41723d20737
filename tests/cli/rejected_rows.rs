//! Rows that an index, a constraint or a trigger of the user rejects: each is a dead letter, and the others are stored.

use crate::harness::{Dir, Run};
use crate::servers::{postgres, psql};
use rusqlite::Connection;

/// A database with tables of evt, to which a user adds.
struct Database {
    /// The URI of the output, quoted for a shell.
    to: String,
    /// URI and schema; `None` for SQLite.
    server: Option<(String, String)>,
}

impl Database {
    /// SQLite and, if there is a server, PostgreSQL.
    fn all() -> Vec<Self> {
        [Some(Self { to: "sqlite:u.db".to_owned(), server: None }), Self::postgres()].into_iter().flatten().collect()
    }

    fn postgres() -> Option<Self> {
        postgres().map(|(to, uri, schema)| Self { to: format!("'{to}'"), server: Some((uri, schema)) })
    }

    /// Runs statements of the user, those for SQLite or for PostgreSQL.
    fn change(&self, dir: &Dir, sqlite: &str, postgres: &str) {
        match &self.server {
            Some((uri, schema)) => _ = psql(dir, uri, schema, postgres),
            None => Connection::open(dir.path("u.db")).expect("a database").execute_batch(sqlite).expect("SQL"),
        }
    }

    fn number(&self, dir: &Dir, sql: &str) -> i64 {
        match &self.server {
            Some((uri, schema)) => psql(dir, uri, schema, sql).trim().parse().expect("a number"),
            None => {
                let db = Connection::open(dir.path("u.db")).expect("a database");
                db.query_row(sql, [], |row| row.get(0)).expect("a number")
            }
        }
    }
}

/// Writes lines of events, each of an order.
fn write_orders(dir: &Dir, name: &str, orders: impl Iterator<Item = u32>) {
    let line = |(second, order): (usize, u32)| {
        let time = format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60);
        format!(
            "{{\"event_time\":\"{time}\",\"source\":\"s\",\"event_type\":\"t\",\"order\":\"A{order}\",\"n\":{order}}}\n"
        )
    };
    dir.write(name, orders.enumerate().map(line).collect::<String>());
}

#[track_caller]
fn assert_letters(dir: &Dir, name: &str, count: usize, cause: &str) {
    let letters = dir.rows(name);
    assert_eq!(letters.len(), count, "{letters:?}");
    for letter in letters {
        assert_eq!(letter["error_type"], "SinkError", "{letter}");
        assert!(letter["error_message"].as_str().is_some_and(|message| message.contains(cause)), "{letter}");
    }
}

#[track_caller]
fn assert_counts(run: &Run, counts: &str) {
    let is_told = |line: &str| line.ends_with(counts) || line.ends_with(&format!("{counts}; end not proven"));
    assert!(run.stderr().lines().any(is_told), "{counts}: {run}");
}

const ONE_ORDER: [&str; 2] = [
    "CREATE UNIQUE INDEX one_order ON raw_events (source, json_extract(properties, '$.order'))",
    "CREATE UNIQUE INDEX one_order ON raw_events (source, ((properties::jsonb) ->> 'order'))",
];

#[test]
fn rows_that_an_index_of_the_user_rejects_are_letters_and_not_counted_as_unchanged() {
    for database in Database::all() {
        let dir = Dir::new("user-index");
        let to = &database.to;
        write_orders(&dir, "u.jsonl", (1..7).map(|n| n % 3));
        dir.shell(&format!("head -1 u.jsonl > one.jsonl; evt-ingest -q one.jsonl --origin u.jsonl --to {to}"))
            .succeeds();
        database.change(&dir, ONE_ORDER[0], ONE_ORDER[1]);
        let run = dir.shell(&format!("evt-ingest u.jsonl --dlq d.jsonl --to {to}")).succeeds();
        assert_counts(&run, "in 6 inserted 2 unchanged 1 dead 3");
        assert_letters(&dir, "d.jsonl", 3, "one_order");
        assert_eq!(database.number(&dir, "SELECT count(*) FROM raw_events"), 3);
        // The server checks the key after the index now.
        let keys = "ALTER TABLE raw_events DROP CONSTRAINT raw_events_pkey,
            ADD CONSTRAINT raw_events_pkey PRIMARY KEY (origin, \"partition\", \"offset\", event_id)";
        database.change(&dir, "", keys);
        for flags in ["--dlq again.jsonl", "--checkpoint state --dlq epoch.jsonl"] {
            let run = dir.shell(&format!("evt-ingest u.jsonl {flags} --to {to}")).succeeds();
            assert_counts(&run, "in 6 unchanged 3 dead 3");
        }
        assert_letters(&dir, "again.jsonl", 3, "one_order");
        assert_letters(&dir, "epoch.jsonl", 3, "one_order");
        let run = dir.shell(&format!("evt-ingest u.jsonl --to {to}")).ends_with(1);
        assert_counts(&run, "in 6 unchanged 3 dropped 3");
        assert_eq!(database.number(&dir, "SELECT count(*) FROM raw_events"), 3);
    }
}

#[test]
fn metrics_that_an_index_of_the_user_rejects_are_letters() {
    for database in Database::all() {
        let dir = Dir::new("user-index-metrics");
        let to = &database.to;
        // Windows with 1, 2, 1, 2 and 3 events.
        let seconds = [0, 10, 11, 20, 30, 31, 40, 41, 42];
        let line = |second| format!("{{\"event_time\":\"2026-01-01T00:00:{second:02}Z\"}}\n");
        dir.write("e.jsonl", seconds.map(line).concat());
        dir.shell(&format!("evt-window -q e.jsonl --size 10s --to m.frames && evt-sink -q m.frames --to {to}"))
            .succeeds();
        let index = "DELETE FROM aggregated_metrics; CREATE UNIQUE INDEX one_value ON aggregated_metrics (value)";
        database.change(&dir, index, index);
        for (flags, counts) in
            [("--dlq d.jsonl", "in 5 inserted 3 dead 2"), ("--dlq again.jsonl", "in 5 unchanged 3 dead 2")]
        {
            let run = dir.shell(&format!("evt-sink m.frames {flags} --to {to}")).succeeds();
            assert_counts(&run, counts);
        }
        assert_letters(&dir, "d.jsonl", 2, "value");
        assert_eq!(database.number(&dir, "SELECT count(*) FROM aggregated_metrics"), 3);
    }
}

/// What a trigger does with an event whose `n` is odd.
fn trigger(sqlite: &str, postgres: &str) -> [String; 2] {
    [
        format!(
            "CREATE TRIGGER odd BEFORE INSERT ON raw_events WHEN json_extract(NEW.properties, '$.n') % 2 = 1
            BEGIN SELECT {sqlite}; END"
        ),
        format!(
            "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (NEW.properties ->> 'n')::INT % 2 = 1 THEN {postgres}; END IF; RETURN NEW; END $$;
            CREATE TRIGGER odd BEFORE INSERT ON raw_events FOR EACH ROW EXECUTE FUNCTION odd()"
        ),
    ]
}

#[test]
fn rows_that_a_trigger_rejects_or_leaves_out_are_letters_and_the_others_are_stored() {
    let rejections = [
        (trigger("RAISE(ABORT, 'odd order')", "RAISE EXCEPTION 'odd order'"), "odd order"),
        (trigger("RAISE(IGNORE)", "RETURN NULL"), "a trigger of raw_events did not store the row"),
    ];
    for ([sqlite, postgres], cause) in &rejections {
        for database in Database::all() {
            let dir = Dir::new("user-trigger");
            let to = &database.to;
            write_orders(&dir, "u.jsonl", 0..40);
            write_orders(&dir, "more.jsonl", 100..140);
            dir.write("none.jsonl", "");
            dir.shell(&format!("evt-ingest -q none.jsonl -f jsonl --to {to}")).stays_calm();
            database.change(&dir, sqlite, postgres);
            for (name, flags, counts) in [
                ("first.jsonl", "u.jsonl", "in 40 inserted 20 dead 20"),
                ("again.jsonl", "u.jsonl", "in 40 unchanged 20 dead 20"),
                ("epoch.jsonl", "u.jsonl more.jsonl --checkpoint state", "in 80 inserted 20 unchanged 20 dead 40"),
            ] {
                let run = dir.shell(&format!("evt-ingest {flags} --dlq {name} --to {to}")).succeeds();
                assert_counts(&run, counts);
                assert_letters(&dir, name, if name == "epoch.jsonl" { 40 } else { 20 }, cause);
            }
            assert_eq!(database.number(&dir, "SELECT count(*) FROM raw_events"), 40);
        }
    }
}

#[test]
fn a_trigger_that_rolls_the_transaction_back_ends_the_run() {
    let dir = Dir::new("user-rollback");
    write_orders(&dir, "u.jsonl", 0..4);
    dir.write("none.jsonl", "");
    dir.shell("evt-ingest -q none.jsonl -f jsonl --to sqlite:u.db").stays_calm();
    let database = Database { to: String::new(), server: None };
    let [rollback, _] = trigger("RAISE(ROLLBACK, 'odd order')", "");
    database.change(&dir, &rollback, "");
    let run = dir.shell("evt-ingest u.jsonl --dlq d.jsonl --to sqlite:u.db").ends_with(74);
    assert!(run.stderr().contains("sqlite:u.db: cannot write: odd order"), "{run}");
    assert_eq!(database.number(&dir, "SELECT count(*) FROM raw_events"), 0);
}

/// The old way to partition a table: a trigger that stores the rows in a table that inherits.
#[test]
fn rows_that_a_trigger_stores_in_a_table_that_inherits_are_no_letters() {
    let Some(database) = Database::postgres() else { return };
    let dir = Dir::new("user-partitions");
    write_orders(&dir, "u.jsonl", 0..40);
    dir.write("none.jsonl", "");
    let to = &database.to;
    dir.shell(&format!("evt-ingest -q none.jsonl -f jsonl --to {to}")).stays_calm();
    let [_, odd] = trigger("", "INSERT INTO odd_events SELECT NEW.*; RETURN NULL");
    database.change(&dir, "", &format!("CREATE TABLE odd_events () INHERITS (raw_events); {odd}"));
    let run = dir.shell(&format!("evt-ingest u.jsonl --to {to}")).succeeds();
    assert_counts(&run, "in 40 inserted 20 unchanged 20");
    assert_eq!(database.number(&dir, "SELECT count(*) FROM raw_events"), 40);
    assert_eq!(database.number(&dir, "SELECT count(*) FROM odd_events"), 20);
}

#[test]
fn copies_are_unchanged_in_a_run_that_began_before_another_one_made_ids_unique() {
    let Some(database) = Database::postgres() else { return };
    let dir = Dir::new("key-of-another-run");
    let event = |n: u32| {
        let id = format!("00000000-0000-4000-8000-{n:012}");
        format!(
            "{{\"event_id\":\"{id}\",\"event_time\":\"2026-01-01T00:00:00Z\",\"event_type\":\"t\",\"source\":\"s\"}}\n"
        )
    };
    dir.write("a.jsonl", (0..10).map(event).collect::<String>());
    dir.write("b.jsonl", (5..15).map(event).collect::<String>());
    let (uri, schema) = database.server.as_ref().expect("a server");
    let to = database.to.trim_matches('\'');
    let line = format!(
        "count() {{ psql --no-psqlrc -qAt '{uri}' -c 'SELECT count(*) FROM {schema}.raw_events' 2>/dev/null; }}
        {{ cat a.jsonl; until [ -e unique ]; do sleep 0.05; done; cat b.jsonl; }} | evt-ingest -f jsonl --to '{to}' & run=$!
        until [[ $(count) == 10 ]]; do sleep 0.05; done
        evt-ingest -q a.jsonl --to '{to}&key=event_id' && touch unique; wait $run"
    );
    let run = dir.shell(&line).succeeds();
    assert_counts(&run, "in 20 inserted 15 unchanged 5");
}

/// The table of a user has a key with the usual name, as the tables of evt have.
#[test]
fn rows_whose_trigger_violates_the_key_of_another_table_are_letters() {
    let Some(database) = Database::postgres() else { return };
    let dir = Dir::new("user-trigger-key");
    let to = &database.to;
    write_orders(&dir, "u.jsonl", [1, 2, 3, 2, 4, 5].into_iter());
    write_orders(&dir, "more.jsonl", [11, 12, 2, 13].into_iter());
    dir.write("none.jsonl", "");
    dir.shell(&format!("evt-ingest -q none.jsonl -f jsonl --to {to}")).stays_calm();
    let orders = "CREATE TABLE orders (id TEXT PRIMARY KEY);
        CREATE FUNCTION place() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO orders VALUES (NEW.properties ->> 'order'); RETURN NEW; END $$;
        CREATE TRIGGER place AFTER INSERT ON raw_events FOR EACH ROW EXECUTE FUNCTION place()";
    database.change(&dir, "", orders);
    for (flags, letters, counts) in [
        ("u.jsonl", "d.jsonl", "in 6 inserted 5 dead 1"),
        ("more.jsonl --checkpoint state", "epoch.jsonl", "in 4 inserted 3 dead 1"),
    ] {
        let run = dir.shell(&format!("evt-ingest {flags} --dlq {letters} --to {to}")).succeeds();
        assert_counts(&run, counts);
        assert_letters(&dir, letters, 1, "orders_pkey");
    }
    assert_eq!(database.number(&dir, "SELECT count(*) FROM raw_events"), 8);
}

/// A row that another program has written: its id is not derived from its key.
#[test]
fn metrics_whose_key_is_stored_with_another_id_are_letters() {
    let Some(database) = Database::postgres() else { return };
    let dir = Dir::new("user-metric-id");
    let to = &database.to;
    let line = |second| format!("{{\"event_time\":\"2026-01-01T00:00:{second:02}Z\"}}\n");
    dir.write("e.jsonl", [0, 10, 11, 20, 30, 31, 40, 41, 42].map(line).concat());
    let job = format!("evt-window -q e.jsonl --size 10s --at-end fire --late null: --to {to}");
    dir.shell(&job).succeeds();
    let foreign = "UPDATE aggregated_metrics SET metric_id = gen_random_uuid()
        WHERE window_start IN ('2026-01-01T00:00:10Z', '2026-01-01T00:00:40Z')";
    database.change(&dir, "", foreign);
    for (flags, letters) in [("", "d.jsonl"), ("--checkpoint state", "epoch.jsonl")] {
        dir.shell(&format!("{job} --dlq {letters} {flags}")).succeeds();
        assert_letters(&dir, letters, 2, "aggregated_metrics_key");
    }
    assert_eq!(database.number(&dir, "SELECT count(*) FROM aggregated_metrics"), 5);
}

/// The second batch fails as in a deadlock, once; the first one has rows that differ from the stored ones.
#[test]
fn rows_of_an_epoch_that_is_repeated_are_counted_once() {
    let Some(database) = Database::postgres() else { return };
    let dir = Dir::new("repeated-epoch");
    let to = &database.to;
    write_orders(&dir, "u.jsonl", 0..40);
    write_orders(&dir, "more.jsonl", 100..140);
    dir.shell(&format!("evt-ingest -q u.jsonl --to {to}")).succeeds();
    let fails_once = "UPDATE raw_events SET user_id = 'other' WHERE \"offset\" <= 2;
        CREATE SEQUENCE attempts;
        CREATE FUNCTION fails_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (NEW.properties ->> 'n')::INT >= 100 AND nextval('attempts') = 1 THEN
            RAISE EXCEPTION 'not now' USING ERRCODE = 'deadlock_detected';
        END IF; RETURN NEW; END $$;
        CREATE TRIGGER fails_once BEFORE INSERT ON raw_events FOR EACH ROW EXECUTE FUNCTION fails_once()";
    database.change(&dir, "", fails_once);
    let run = dir.shell(&format!("evt-ingest u.jsonl more.jsonl --checkpoint state --to {to}")).ends_with(1);
    let differ = database.number(&dir, "SELECT count(*) FROM raw_events WHERE user_id = 'other'");
    assert!(run.stderr().contains(&format!("conflict: {differ} rows differ")), "{run}");
    assert!(database.number(&dir, "SELECT last_value FROM attempts") > 40, "the epoch was not repeated");
    assert_eq!(database.number(&dir, "SELECT count(*) FROM raw_events"), 80);
}
