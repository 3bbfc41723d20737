//! `--follow` with `--checkpoint`: which files a run finds again, and which it takes for those that had the name meanwhile.

use crate::follow_checkpoint::Log;
use crate::harness::{Draws, eventually};

/// Flags of runs whose epochs are short.
const FLAGS: [&str; 6] = ["-f", "jsonl", "--time", "t", "--checkpoint-every", "5ms"];

#[test]
fn names_in_directories_that_are_missing_at_a_restart_keep_their_own_positions() {
    let mut log = Log::new("followed-no-directories", Draws::new());
    let names = ["one/app.log", "two/app.log"];
    log.dir.shell("mkdir one two").succeeds();
    log.write(names[0], 30);
    log.write(names[1], 7);
    let run = log.follow_names(&names, &FLAGS);
    log.is_read();
    run.killed();
    log.dir.shell("mv one one.away; mv two two.away").succeeds();
    let run = log.follow_names(&names, &FLAGS);
    for (name, lines) in [(names[0], 30), (names[1], 7)] {
        let gone = format!("{name}: the file that was read up to line {lines} is gone; records may be lost");
        eventually("each name is told", || log.said().contains(&gone));
    }
    log.dir.shell("mkdir two").succeeds();
    log.write(names[1], 3);
    log.is_read();
    run.killed();
    let rows = log.dir.rows("out.jsonl");
    let own = rows.iter().filter(|row| row["origin"] == names[1]).filter_map(|row| row["offset"].as_u64());
    assert!(own.eq(1..=10), "{}", log.said());
}
