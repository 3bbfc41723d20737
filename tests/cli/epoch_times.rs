//! Seconds since 1970 as the text of a time.

use crate::harness::Dir;

#[test]
fn seconds_since_1970_are_the_same_instant_in_every_time_zone() {
    let dir = Dir::new("epoch-times");
    for (format, value, wanted) in [
        ("%s", r#""1768471200""#, "2026-01-15T10:00:00.000000Z"),
        ("%s", "1768471200", "2026-01-15T10:00:00.000000Z"),
        ("%s%.f", r#""1768471200.25""#, "2026-01-15T10:00:00.250000Z"),
        ("%s", r#""-5""#, "1969-12-31T23:59:55.000000Z"),
        ("%s", "-5", "1969-12-31T23:59:55.000000Z"),
        ("%s%.f", r#""-5.25""#, "1969-12-31T23:59:54.750000Z"),
        ("@%s", r#""@+1768471200""#, "2026-01-15T10:00:00.000000Z"),
        // An hour that clocks in New York show twice.
        ("%s", r#""1793514600""#, "2026-11-01T06:30:00.000000Z"),
        ("%F %T", r#""2026-01-15 05:00:00""#, "2026-01-15T10:00:00.000000Z"),
    ] {
        dir.write("in.jsonl", format!("{{\"t\":{value}}}\n"));
        let args =
            ["in.jsonl", "-o", "jsonl", "--time", "t", "--time-format", format, "--time-zone", "America/New_York"];
        let run = dir.run("evt-ingest", &args).succeeds();
        assert_eq!(run.rows()[0]["event_time"], wanted, "{format} {value}");
        assert!(!run.stderr().contains("twice"), "{run}");
    }
}
