//! Messages that name a flag: a command that provokes each of them, its words, and the command that it advises.

use crate::harness::Dir;

/// A message.
struct Message {
    /// A part of the message with the flag.
    said: &'static str,
    /// The line of shell that provokes it.
    by: &'static str,
    /// The line that a reader types then, which succeeds without the message; empty if the message tells only what is
    /// wrong.
    advised: &'static str,
}

const fn message(said: &'static str, by: &'static str, advised: &'static str) -> Message {
    Message { said, by, advised }
}

/// The files of [`files`] are there.
const MESSAGES: &[Message] = &[
    message(
        "--time-year requires -f syslog",
        "evt-ingest syslog.txt -f logfmt --time-year 2026 --to null:",
        "evt-ingest syslog.txt -f syslog --time-year 2026 --to null:",
    ),
    message(
        "--kind: expected event, metric, dead, late or alert, found rows",
        "evt-view e.jsonl --kind rows",
        "evt-view e.jsonl --kind event",
    ),
    message(
        "--schemas requires an input http://HOST:PORT; use evt-validate --schemas for other inputs",
        "evt-ingest e.jsonl --schemas schemas --to null:",
        "evt-validate e.jsonl --schemas schemas --to null:",
    ),
    message(
        "a non-loopback listener needs --tokens FILE or --anonymous",
        "evt-ingest http://0.0.0.0:0 --to null:",
        "evt-ingest http://0.0.0.0:0 --anonymous --check --to null:",
    ),
    message(
        "--tls-cert requires https://127.0.0.1:0",
        "evt-ingest http://127.0.0.1:0 --tls-cert c --tls-key k --to null:",
        "",
    ),
    message("https:// requires --tls-cert and --tls-key", "evt-ingest https://127.0.0.1:0 --to null:", ""),
    message("--config no.toml: no such file or directory", "evt-ingest e.jsonl --config no.toml", ""),
    message("--prometheus 1.2.3.4:80: cannot assign", "evt-ingest e.jsonl --prometheus 1.2.3.4:80 --to null:", ""),
    message(
        "--explode: expected . or names like Records or a.b, found '.a.'; write --explode a",
        "evt-ingest lines.json --explode .a. --to null:",
        "evt-ingest lines.json --explode a --to null:",
    ),
    message(
        "; --explode a reads one that is there",
        "evt-ingest one.json --explode b --to null:",
        "evt-ingest one.json --explode a --to null:",
    ),
    message(
        "; --to rows.parquet names a file",
        "evt-ingest e.jsonl -o rows.parquet",
        "evt-ingest e.jsonl --to rows.parquet",
    ),
    message(
        "d is a date, and the time of day is in another field: --time \"=d || ' ' || z\" joins them, --time \"=d\" takes midnight",
        "printf 'd,z\n2026-03-01,10:00\n' > dz.csv; evt-ingest dz.csv --time d --to null:",
        "evt-ingest dz.csv --time \"=d || ' ' || z\" --to null:",
    ),
    message("--time =v > 1: expected a time, found true or false", "evt-ingest e.jsonl --time '=v > 1' --to null:", ""),
    message("--time =v +: ", "evt-ingest e.jsonl --time '=v +' --to null:", ""),
    message(
        "the event time is the field ts; --time ts says so, --time FIELD takes another",
        "printf '{\"ts\":1772323200}\n' > ts.jsonl; evt-ingest ts.jsonl --to null:",
        "evt-ingest ts.jsonl --time ts --to null:",
    ),
    message(
        "text in UTF-16; --encoding utf-16le reads it",
        "iconv -t utf-16 e.jsonl > u.jsonl; evt-ingest u.jsonl --to null:",
        "evt-ingest u.jsonl --encoding utf-16le --to null:",
    ),
    message(
        "found 1; in no unit it is from 1980 to 2100; --time-unit s|ms|us|ns|d with --min-time 1970-01-01 reads any number",
        "evt-ingest e.jsonl --time v --to null:",
        "evt-ingest e.jsonl --time v --time-unit s --min-time 1970-01-01 --to null:",
    ),
    message(
        "1970-01-01T00:00:01.000000Z of a number is before 1980; --min-time 1970-01-01 accepts it",
        "evt-ingest e.jsonl --time v --time-unit s --to null:",
        "evt-ingest e.jsonl --time v --time-unit s --min-time 1970-01-01 --to null:",
    ),
    message(
        "of a number is before 1980; --time-unit s may be right, --min-time 1970-01-01 accepts it",
        "echo '{\"t\":1772323200}' > unit.jsonl; evt-ingest unit.jsonl --time t --time-unit ms --to null:",
        "evt-ingest unit.jsonl --time t --time-unit s --to null:",
    ),
    message(
        "is before 2030-01-01T00:00:00.000000Z, the earliest time (--min-time)",
        "evt-ingest e.jsonl --min-time 2030-01-01 --to null:",
        "evt-ingest e.jsonl --min-time 1970-01-01 --to null:",
    ),
    message(
        "--min-time: expected an instant like 2024-01-15T10:00:00Z, found 'now'",
        "evt-ingest e.jsonl --min-time now --to null:",
        "evt-ingest e.jsonl --min-time 2024-01-15T10:00:00Z --to null:",
    ),
    message(
        "--time-zone: expected an IANA time zone",
        "evt-ingest e.jsonl --time-zone Europe/Zurick --to null:",
        "evt-ingest e.jsonl --time-zone Europe/Zurich --to null:",
    ),
    message(
        "use --time day --time-format '%d.%m.%Y'",
        "evt-ingest day.jsonl --to null:",
        "evt-ingest day.jsonl --time day --time-format '%d.%m.%Y' --to null:",
    ),
    message("use --time n", "evt-ingest number.jsonl --to null:", "evt-ingest number.jsonl --time n --to null:"),
    message(
        "several zones may have this abbreviation; --time-zone NAME says which one is meant",
        "printf 't,v\\n2026-03-01 10:00 CET,1\\n' > cet.csv; evt-ingest cet.csv --time t --time-format '%Y-%m-%d %H:%M %Z' --to null:",
        "evt-ingest cet.csv --time t --time-format '%Y-%m-%d %H:%M %Z' --time-zone Europe/Zurich --to null:",
    ),
    message(
        "--time-format '%a %b %e %H:%M:%S %Z %Y' --time-zone NAME reads it",
        "printf 't,v\\nSun Mar  1 10:00:00 CET 2026,1\\n' > date.csv; evt-ingest date.csv --time t --to null:",
        "evt-ingest date.csv --time t --time-format '%a %b %e %H:%M:%S %Z %Y' --time-zone Europe/Zurich --to null:",
    ),
    message(
        "--let v: expected NAME=EXPR, such as rate=bytes / 60",
        "evt-ingest e.jsonl --let v --to null:",
        "evt-ingest e.jsonl --let 'rate=v / 60' --to null:",
    ),
    message(
        r#"--let w: a: expected a number, found "x"; try_cast(a as double) is NULL then"#,
        "evt-ingest e.jsonl --let 'w=v/a' --to null:",
        "evt-ingest e.jsonl --let 'w=v/try_cast(a as double)' --to null:",
    ),
    message(
        "--let event_type: expected a new name, found the name of a column",
        "evt-ingest e.jsonl --let event_type=1 --to null:",
        "",
    ),
    message("--from e.jsonl: expected a store of metrics", "evt-serve http://127.0.0.1:0 --from e.jsonl", ""),
    message(
        "--from sqlite:m.db: span: expected a duration longer than 0s",
        "evt-serve http://127.0.0.1:0 --from 'sqlite:m.db?span=0s'",
        "",
    ),
    message(
        "--from sqlite:m.db: span: expected a duration like 90s, 1h30m",
        "evt-serve http://127.0.0.1:0 --from 'sqlite:m.db?span=soon'",
        "",
    ),
    message(
        "--let w: expected a property, found all properties",
        "evt-ingest e.jsonl --let w=properties --to null:",
        "",
    ),
    message(
        "--let w: expected different names, found it twice",
        "evt-ingest e.jsonl --let w=1 --let w=2 --to null:",
        "",
    ),
    message(
        "windows of 7d begin on Thursdays, as 1970 did; 1w with --window-zone UTC (zone in a metrics file), or --align 4d, begins them on Mondays",
        "evt-window e.jsonl --size 1w -o csv",
        "evt-window e.jsonl --size 1w --window-zone UTC -o csv",
    ),
    message(
        "or --align 4d, begins them on Mondays",
        "evt-window e.jsonl --size 2w -o csv",
        "evt-window e.jsonl --size 2w --align 4d -o csv",
    ),
    message(
        "align: expected a duration between -146400d and 146400d, found 106751991d",
        "evt-window e.jsonl --size 1d --align 106751991d -o csv",
        "evt-window e.jsonl --size 1d --align 146400d -o csv",
    ),
    message(
        "parquet:lake: roll: expected a size like 128MiB, a duration like 10m, or both like 128MiB,10m, found '10'",
        "evt-ingest e.jsonl --to 'parquet:lake?roll=10'",
        "evt-ingest e.jsonl --to 'parquet:lake?roll=128MiB,10m'",
    ),
    message(
        "further faulty records are counted in one line per minute (--report all reports each, --dlq FILE keeps them)",
        "for n in {1..99}; do echo broken; done > b.txt; evt-ingest b.txt -f jsonl --to null:",
        "evt-ingest b.txt -f jsonl --dlq d.jsonl --to null:",
    ),
    message(
        "x.jsonl: --checkpoint: --control cannot be used",
        "evt-window e.jsonl --checkpoint s --size 1m --control --to x.jsonl",
        "evt-window e.jsonl --checkpoint s --size 1m --to x.jsonl",
    ),
    message(
        "--checkpoint: expected a file that is appended to, found one that is replaced at the end of a run",
        "evt-window e.jsonl --checkpoint s --size 1m --to x.parquet",
        "",
    ),
    message("expected --rules FILE or URI", "evt-alert e.jsonl", "evt-alert e.jsonl --once --rules r.toml"),
    message(
        "kafka://localhost:1/x: --once needs an end (end=latest)",
        "evt-alert --once --rules r.toml kafka://localhost:1/x",
        "",
    ),
    message(
        "--rules kafka://h/x: expected a file, sqlite: or postgres:",
        "evt-alert e.jsonl --once --rules kafka://h/x",
        "",
    ),
    message("--lag: expected kafka://HOST:PORT/TOPIC?group=NAME, found e.jsonl", "evt-reconcile --lag e.jsonl", ""),
    message("--lag: kafka://localhost:1/x: expected group=NAME", "evt-reconcile --lag kafka://localhost:1/x", ""),
    message(
        "--plus: expected events in A and B, found metrics",
        "evt-window -q e.jsonl --size 1m --to sqlite:s.db; evt-reconcile s.db s.db --plus e.jsonl",
        "evt-reconcile s.db s.db",
    ),
    message("--only requires metrics, found events", "evt-reconcile --freshness e.jsonl --only n", ""),
    message(
        "-o prometheus: expected counts, found --ids",
        "evt-reconcile e.jsonl e.jsonl -o prometheus --ids",
        "evt-reconcile e.jsonl e.jsonl -o prometheus",
    ),
    message("--ttl requires an output that expires rows (redis://…)", "evt-sink e.jsonl --to s.db --ttl 1h", ""),
    message(
        "expected brokers, found user and password before them; set these in --kafka-config FILE",
        "evt-view kafka://u:geheim@h/x",
        "",
    ),
    message("expected one topic for an output; use --to for each", "evt-sink e.jsonl --to kafka://localhost:1/a,b", ""),
    message(
        "--columns a..b: expected names like a,repo.name",
        "evt-view e.jsonl --columns a..b",
        "evt-view e.jsonl --columns a,event_type",
    ),
    message(
        "--restore n-7: expected a complete epoch that is kept, found none",
        "evt-window -q --checkpoint s e.jsonl --size 1m --to x.jsonl; evt-window --checkpoint s --restore n-7 e.jsonl --size 1m --to x.jsonl",
        "evt-window --checkpoint s e.jsonl --size 1m --to x.jsonl",
    ),
    message(
        "--ends 2: expected stages behind standard output, found none",
        "evt-window --checkpoint s --ends 2 e.jsonl --size 1m --to x.jsonl",
        "evt-window --checkpoint s e.jsonl --size 1m --to x.jsonl",
    ),
    message(
        "--spool, --dedup and --ack require an input http://ADDR:PORT",
        "evt-ingest e.jsonl --spool spool --to x.jsonl",
        "",
    ),
    message(
        "--branch b: expected a pipe with a checkpoint, found one without",
        "evt-ingest e.jsonl -q | evt-window --branch b --size 1m -o csv",
        "",
    ),
    message(
        "jsonl has one record per line; --explode NAME reads the elements of an array in a document",
        "evt-ingest one.json -f json --to null:",
        "evt-ingest one.json --explode a --to null:",
    ),
    message(
        "-o raw: the rows have no raw records; evt-ingest --keep-raw adds them",
        "evt-ingest e.jsonl -q | evt-view -o raw",
        "evt-ingest e.jsonl -q --keep-raw | evt-view -o raw",
    ),
    message(
        "JSON over several lines; --explode a reads the elements of a",
        "evt-ingest lines.json --to null:",
        "evt-ingest lines.json --explode a --to null:",
    ),
    message(
        "--explode a reads the elements of that array as records",
        "evt-ingest one.json --to null:",
        "evt-ingest one.json --explode a --to null:",
    ),
    message(
        "expected no --columns and no --let",
        "evt-window e.jsonl -q --size 1m | evt-view --columns value -o svg",
        "evt-window e.jsonl -q --size 1m | evt-view -o svg",
    ),
    message(
        "--origin requires one topic, because partitions of several topics would have the same name",
        "evt-ingest kafka://localhost:1/a,b --origin x --to null:",
        "",
    ),
    message(
        r#"expected a UUID, found "5"; --hash-ids derives one"#,
        r#"echo '{"event_time":"2026-01-01T00:00:00Z","event_id":5}' > i.jsonl; evt-ingest i.jsonl --to null:"#,
        "evt-ingest i.jsonl --hash-ids --to null:",
    ),
    message(
        "windows are those of Europe/Zurich, but times without an offset were read in UTC; --time-zone Europe/Zurich reads them as local times",
        "evt-window t.jsonl --time t --size 1d --window-zone Europe/Zurich -o csv",
        "evt-window t.jsonl --time t --size 1d --window-zone Europe/Zurich --time-zone Europe/Zurich -o csv",
    ),
    message(
        "--describe requires -o table or -o jsonl",
        "evt-view e.jsonl --describe -o csv",
        "evt-view e.jsonl --describe -o table",
    ),
    message("--summary requires dead letters, found rows of kind event", "evt-view e.jsonl --summary", ""),
    message(
        "--top ranks the keys of a window; each key has sessions of its own, found count(*)",
        "evt-window e.jsonl --gap 5s --top 2 --by a -o csv",
        "",
    ),
    message(
        "--out-of-orderness all waits for the end of the input; it cannot be used with --idle-after",
        "evt-window e.jsonl --out-of-orderness all --idle-after 1s --size 1m -o csv",
        "evt-window e.jsonl --out-of-orderness all --size 1m -o csv",
    ),
    message(
        "--out-of-orderness all waits for the end of the input; it cannot be used with --control",
        "evt-window e.jsonl --out-of-orderness all --control --size 1m -o csv",
        "",
    ),
    message(
        "the header has other columns than these rows; use another file or --overwrite",
        "evt-view -q e.jsonl --columns v --to o.csv; evt-view e.jsonl --columns a --append --to o.csv",
        "evt-view e.jsonl --columns a --to o.csv --overwrite",
    ),
    message(
        "found sso_session; run: eval \"$(aws configure export-credentials --profile p --format env)\"",
        "printf '[profile p]\\nsso_session = s\\n' > aws; AWS_PROFILE=p AWS_CONFIG_FILE=aws evt-view 's3://bucket/x?region=r'",
        "",
    ),
    message(
        "--state: expected a file, a topic or a store, found objects",
        "AWS_ACCESS_KEY_ID=k AWS_SECRET_ACCESS_KEY=s AWS_REGION=r evt-alert s3://bucket/x --once --rules r.toml --state s",
        "",
    ),
    message(
        "use --to p.parquet instead of > p.parquet",
        "evt-ingest e.jsonl > p.parquet",
        "rm p.parquet; evt-ingest e.jsonl --to p.parquet",
    ),
    message(
        "if no key has rows in both, use --allow-partition-subset",
        "evt-window --size 1m 'kafka://localhost:1/x?partitions=0'",
        "",
    ),
    message(
        "no event_id is in both; set --origin to the origin in B, or --by position or id",
        "evt-ingest -q e.jsonl --origin z --to sqlite:s.db; evt-reconcile e.jsonl 's.db?table=raw_events'",
        "evt-reconcile e.jsonl 's.db?table=raw_events' --origin z",
    ),
    message(
        "expected --ledger URI, which records the replayed letters, or --dry-run",
        "evt-ingest -q mixed.jsonl --dlq d.jsonl --to null:; evt-replay d.jsonl --to x.jsonl",
        "evt-replay d.jsonl --patch \"set event_time = '2026-01-01'\" --to x.jsonl --ledger sqlite:l.db",
    ),
    message(
        "--wide: expected a file or stdout in csv, tsv, table, jsonl, parquet or arrow",
        "evt-window e.jsonl --size 1m --wide -o frames",
        "evt-window e.jsonl --size 1m --wide -o csv",
    ),
    message(
        "--wide cannot be used with --emit panes, because the metrics of a window are in one row when it is final",
        "evt-window e.jsonl --size 1m --wide --emit panes -o csv",
        "evt-window e.jsonl --size 1m --wide --emit final -o csv",
    ),
    message(
        "--top cannot be used with --emit panes, because the first keys of a window are known only when the window is final",
        "evt-window e.jsonl --size 1m --by a --top 1 --emit panes -o csv",
        "evt-window e.jsonl --size 1m --by a --top 1 --emit final -o csv",
    ),
    message(
        "--metrics FILE cannot be used with --agg, --by, --where, --size",
        "evt-window e.jsonl -m m.toml --size 1m -o csv",
        "evt-window e.jsonl -m m.toml -o csv",
    ),
    message(
        "expected --size DURATION, --gap DURATION or --metrics FILE",
        "evt-window e.jsonl -o csv",
        "evt-window e.jsonl --gap 5s -o csv",
    ),
    message(
        "zone (--window-zone): expected an IANA time zone like Europe/Zurich, found 'UT'",
        "evt-window e.jsonl --size 1d --window-zone UT -o csv",
        "evt-window e.jsonl --size 1d --window-zone Europe/Zurich -o csv",
    ),
    message(
        "--out-of-orderness all cannot be used with --checkpoint: it waits for the end of the input",
        "evt-window e.jsonl --checkpoint s --out-of-orderness all --size 1m --to x.jsonl",
        "",
    ),
    message(
        "--since: expected an instant like 2024-01-15",
        "evt-ingest e.jsonl --since gestern --to null:",
        "evt-ingest e.jsonl --since yesterday --to null:",
    ),
    message(
        "--until: expected an instant like 2024-01-15",
        "evt-ingest e.jsonl --until heute --to null:",
        "evt-ingest e.jsonl --until today --to null:",
    ),
    message(
        "--delimiter requires -f csv or tsv, found -f jsonl",
        "evt-ingest e.jsonl --delimiter ';' -f jsonl --to null:",
        "",
    ),
    message("--header: expected different names, found 'a' twice", "evt-ingest c.csv --header a,a --to null:", ""),
    message(
        "--header: expected names separated by commas, found 'a;b'",
        "evt-ingest c.csv --header 'a;b' --to null:",
        "",
    ),
    message(
        "--explode requires -f jsonl, found -f csv",
        "evt-ingest one.json --explode a -f csv --to null:",
        "evt-ingest one.json --explode a -f jsonl --to null:",
    ),
    message(
        "--explode reads files and standard input only",
        "evt-ingest kafka://localhost:1/x --explode a --to null:",
        "",
    ),
    message("--tokens requires an input http://HOST:PORT", "evt-ingest e.jsonl --tokens x --to null:", ""),
    message(
        "--time-format %Y reads a year, --time-unit s|ms|us|ns|d a number",
        r#"echo '{"year":2024}' > y.jsonl; evt-ingest y.jsonl --time year --to null:"#,
        "evt-ingest y.jsonl --time year --time-format %Y --to null:",
    ),
    message(
        "no field is a time (found a); --time arrival uses the clock of the run",
        r#"echo '{"a":"b"}' > y.jsonl; evt-ingest y.jsonl --to null:"#,
        "evt-ingest y.jsonl --time arrival --to null:",
    ),
    message(
        "--time-format %H.%M.%S.%f: .%f reads the digits as nanoseconds; use %.f for a fraction",
        "evt-ingest e.jsonl --time-format %H.%M.%S.%f --to null:",
        "",
    ),
    message(
        "nothing was compared (if the live run read none either, use --all-records)",
        "touch none.jsonl; evt-window -q e.jsonl -m m.toml --to sqlite:s.db; evt-backfill none.jsonl -m m.toml --to sqlite:s.db",
        "evt-backfill none.jsonl -m m.toml --to sqlite:s.db --all-records",
    ),
    message(
        "--since includes it, and --all-records if the input holds all records that the live run read",
        r#"evt-window -q e.jsonl -m m.toml --to sqlite:s.db; echo '{"event_time":"2026-01-02T00:00:00Z"}' > y.jsonl; evt-backfill y.jsonl -m m.toml --to sqlite:s.db"#,
        "evt-backfill y.jsonl -m m.toml --to sqlite:s.db --all-records",
    ),
    message(
        "--late FILE --late-partial keeps them",
        "evt-window -q tardy.jsonl --out-of-orderness 30s --size 10m --slide 1m -o csv",
        "",
    ),
    message(
        "the end: all windows have fired (--at-end fire)",
        "evt-window -q -m m.toml --checkpoint s --at-end fire e.jsonl --to x.jsonl; evt-view s",
        "",
    ),
    message(
        "expected no further rows after --at-end fire, which has ended all windows of the checkpoint; runs that continue use --at-end hold",
        "evt-window -q -m m.toml --checkpoint s --at-end fire e.jsonl --to x.jsonl; cp e.jsonl f.jsonl; head -n 1 e.jsonl | sed s/T00/T01/ >> f.jsonl; evt-window -m m.toml --checkpoint s f.jsonl --to x.jsonl",
        "evt-window -m m.toml --checkpoint other --at-end hold e.jsonl --to y.jsonl && evt-window -m m.toml --checkpoint other --at-end hold f.jsonl --to y.jsonl",
    ),
    message(
        "those of --columns, --let and --wide have types without it",
        "evt-view e.jsonl --columns v --to 'x.parquet?columns=auto'",
        "evt-view e.jsonl --columns v --to x.parquet",
    ),
    message(
        r#"lines of a log; -f 'regex:^(?<time>\S+ \S+) +(?<message>.*)' --time time reads them"#,
        r#"printf '2026-01-01 00:00:00.5 INFO a\n2026-01-01 00:00:01.5 INFO b c\n' > log.txt; evt-ingest log.txt --to null:"#,
        r#"evt-ingest log.txt -f 'regex:^(?<time>\S+ \S+) +(?<message>.*)' --time time --to null:"#,
    ),
    message(
        "lines of words; -f csv --delimiter ' ' reads them below a header",
        r#"printf 't n w\n2026-01-01 1 a\n2026-01-02 2 b\n' > words.txt; evt-ingest words.txt --to null:"#,
        "evt-ingest words.txt -f csv --delimiter ' ' --time t --to null:",
    ),
    message(
        "--truth-as http cannot be used with --max-future, which depends on the arrival",
        "evt-gen --events 10 --truth t.json --truth-as http --time client_timestamp --max-future 1h",
        "",
    ),
    message(
        "--field event_time: evt sets this column; --time FIELD selects the event time",
        "evt-ingest t.jsonl --field event_time=t --to null:",
        "evt-ingest t.jsonl --time t --to null:",
    ),
    message(
        "group= and --checkpoint cannot be used with flags that map rows to other partitions",
        "evt-window --checkpoint s 'kafka://localhost:1/x?group=g' --field partition=p --size 1m --to x.jsonl",
        "",
    ),
    message(
        "rule r: 1 row of a group beyond --max-groups was left out",
        "evt-alert --once --rules groups.toml --max-groups 2 e.jsonl",
        "evt-alert --once --rules groups.toml --max-groups 3 e.jsonl",
    ),
    message(
        "expected dead letters, found rows of kind event",
        "evt-ingest -q e.jsonl | evt-replay - --ledger sqlite:l.db --to x.jsonl",
        "",
    ),
    message(
        "the first rows have no time; their event_time is the clock of this run (set --time FIELD)",
        "evt-view t.jsonl",
        "evt-view t.jsonl --time t",
    ),
    message(
        "--out-of-orderness all cannot be used with the --checkpoint of the pipe: it waits for the end of the input",
        "evt-ingest -q --checkpoint s e.jsonl | evt-window --out-of-orderness all --size 1m --to x.jsonl",
        "evt-ingest -q e.jsonl | evt-window --out-of-orderness all --size 1m --to x.jsonl",
    ),
    message(
        "/nonexistent: state beyond --memory (TMPDIR): no such file or directory",
        "evt-gen -q --events 60k --users 50k | TMPDIR=/nonexistent evt-window -f jsonl --memory 8MiB --size 1h --by user_id,latency_ms --late null: -o csv > x.csv",
        "",
    ),
    message(
        "found no data; if its writer did not fail, -f jsonl reads it as empty text",
        ": | evt-sink --to null:",
        ": | evt-sink -f jsonl --to null:",
    ),
    message(
        "unexpected argument '--frobnicate' found (see evt-view --help)",
        "evt-view e.jsonl --frobnicate",
        "evt-view --help",
    ),
    message(
        "--let w: expected a number that JSON can hold, found inf",
        "evt-ingest e.jsonl --let w=v/0 --to null:",
        "",
    ),
    message(
        "--patch: w: expected a number that JSON can hold, found inf",
        r#"echo '{"event_time":"never","v":1}' >> e.jsonl; evt-ingest -q e.jsonl --dlq d.jsonl --to null:; evt-replay d.jsonl --patch 'set w = v/0' --dry-run"#,
        "",
    ),
    message(
        "the first line is longer than --max-record",
        r#"{ head -c 5000000 /dev/zero | tr '\0' a; printf '\nb\nc\n'; } > long.csv; evt-ingest long.csv --max-record 1KiB --to null:"#,
        "evt-ingest long.csv --max-record 8MiB --time arrival --to null:",
    ),
];

/// The words of the messages.
pub fn said() -> Vec<&'static str> {
    MESSAGES.iter().map(|message| message.said).collect()
}

/// Files that the commands read.
fn files(dir: &Dir) {
    let event = |second: usize| {
        let time = format!("2026-01-01T00:00:{second:02}Z");
        format!("{{\"event_time\":\"{time}\",\"event_type\":\"t\",\"v\":{second},\"a\":\"x\"}}\n")
    };
    dir.write("e.jsonl", (1..4).map(event).collect::<String>());
    dir.write("t.jsonl", "{\"t\":\"2026-01-01 00:00\",\"n\":1}\n");
    dir.write("day.jsonl", "{\"day\":\"31.12.2014\"}\n");
    dir.write("number.jsonl", "{\"n\":1442018818771}\n");
    dir.write("syslog.txt", "<34>Feb 28 10:00:00 h a: b\n<34>Feb 28 10:00:01 h a: c\n");
    dir.write("mixed.jsonl", format!("{}{{\"event_time\":\"never\"}}\n", event(1)));
    dir.write("lines.json", "{\n \"a\": [{\"event_time\":\"2026-01-01\"}]\n}\n");
    dir.write("one.json", "{\"a\": [{\"event_time\":\"2026-01-01\"}]}\n");
    dir.write("m.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\n");
    let rule = "aggregate = 'count(*)'\ncondition = 'gt'\nthreshold = 100\nwindow_seconds = 60\n";
    dir.write("r.toml", format!("[[rule]]\nname = 'r'\n{rule}"));
    dir.write("groups.toml", format!("[[rule]]\nname = 'r'\nby = ['v']\n{rule}"));
    let tardy = ["00:20:00", "00:11:30"].map(|time| format!("{{\"event_time\":\"2026-01-01T{time}Z\"}}\n"));
    dir.write("tardy.jsonl", tardy.concat());
    dir.write("schemas/t/1.avsc", r#"{"type":"record","name":"t","fields":[{"name":"v","type":"int"}]}"#);
}

#[test]
fn each_message_is_provoked_and_its_advice_works() {
    let mut faults = vec![];
    for Message { said, by, advised } in MESSAGES {
        let dir = Dir::new("message");
        files(&dir);
        let run = dir.shell(by).stays_calm();
        let told = format!("{}{}", run.text(), run.stderr());
        // No message shows the password of a command.
        if !told.contains(said) || told.contains("geheim") {
            faults.push(format!("{by}: expected \"{said}\"\n{run}"));
        }
        if !advised.is_empty() {
            let run = dir.shell(advised);
            let told = format!("{}{}", run.text(), run.stderr());
            if run.status() != 0 || told.contains(said) {
                faults.push(format!("{said}: its advice does not work: {advised}\n{run}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n\n"));
}
