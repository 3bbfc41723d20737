//! Names of inputs and outputs, wherever they are shown, have no password, however the URI is written.

use crate::harness::Dir;
use crate::services::EVENT;

/// Nothing listens at the port: the metrics name an output before its server has answered.
#[test]
fn no_form_of_a_uri_shows_its_password_in_metrics() {
    let dir = Dir::new("shown-names");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    // A URI that names no server is refused, after the metrics have its name.
    for (uri, shown, status) in [
        ("postgres://u:hush-pw@127.0.0.1:1/d", "postgres://u:***@127.0.0.1:1/d", 69),
        ("postgres:u:hush-pw@127.0.0.1:1/d", "postgres:u:***@127.0.0.1:1/d", 69),
        ("postgres:/u:hush-pw@127.0.0.1:1/d", "postgres:/u:***@127.0.0.1:1/d", 69),
        ("postgresql:/u:hush-pw@127.0.0.1:1/d", "postgresql:/u:***@127.0.0.1:1/d", 69),
        ("redis::hush-pw@127.0.0.1:1", "redis::***@127.0.0.1:1", 69),
        ("redis:/:hush-pw@127.0.0.1:1", "redis:/:***@127.0.0.1:1", 2),
        ("redis:hush-pw@127.0.0.1:1", "redis:***@127.0.0.1:1", 69),
        ("redis://hush-pw@127.0.0.1:1", "redis://***@127.0.0.1:1", 69),
    ] {
        let to = format!("{uri}?retry=100ms");
        let run = dir.run("evt-sink", &["e.jsonl", "--kind", "metric", "--to", &to, "--prometheus", "m.prom"]);
        let (run, metrics) = (run.ends_with(status), String::from_utf8(dir.bytes("m.prom")).expect("UTF-8"));
        assert!(metrics.contains(&format!("\"{shown}\"")), "{uri}: {metrics}");
        assert!(!metrics.contains("hush") && !run.stderr().contains("hush"), "{run} {metrics}");
    }
    // A colon and an at sign in the name of a file are no password.
    let args = ["-q", "e.jsonl", "--to", "sqlite:a:b@c.db", "--stats", "s.json"];
    dir.run("evt-sink", &args).succeeds();
    let stats = String::from_utf8(dir.bytes("s.json")).expect("UTF-8");
    assert!(stats.contains("\"sqlite:a:b@c.db\""), "{stats}");
}
