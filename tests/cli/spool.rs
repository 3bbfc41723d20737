//! The flags that say who has an acknowledged event: what cannot be promised is refused before anything is read.

use crate::harness::Dir;

#[test]
fn a_promise_that_no_output_can_keep_is_refused_before_anything_is_made() {
    let dir = Dir::new("promise");
    dir.write("x.jsonl", "{}\n");
    for (args, why) in [
        ("--spool spool", "a spool into a pipe waits for checkpoints"),
        ("--spool spool --to rows.parquet", "rows.parquet cannot say that it has what was written"),
        ("--spool spool --to null: --dlq dead.parquet", "dead.parquet cannot say that it has what was written"),
        ("--ack output", "--ack memory"),
        ("--spool spool --ack memory --to null:", "when the spool has it"),
        ("--dedup 1h --to null:", "it needs --spool DIR"),
        ("--dedup 1h --ack memory", "it needs --spool DIR"),
        ("--spool-max 1GiB --to null:", "it needs --spool DIR"),
        ("--spool spool --to null:", "evt-ingest http://"),
        ("--ack memory", "evt-ingest http://"),
    ] {
        let args: Vec<&str> = args.split(' ').chain(["x.jsonl"]).collect();
        let run = dir.run("evt-ingest", &args).ends_with(2);
        assert!(run.stderr().contains(why), "{run}");
        assert!(run.stdout().is_empty() && !dir.path("spool").exists(), "{run}");
    }
}
