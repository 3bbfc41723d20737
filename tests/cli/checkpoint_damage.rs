//! `--checkpoint`: epochs that are damaged, and `--restore`.

use crate::checkpoint::{Job, OUTPUTS, assert_same, ordered, stored};

/// The flags of runs that end one epoch each, however long they take.
fn flags() -> Vec<&'static str> {
    [&OUTPUTS[..], &["--checkpoint-every", "1h"]].concat()
}

/// Changes one byte of a part.
fn damage(job: &Job, part: &str) {
    let path = job.place.files.join(part);
    let mut bytes = std::fs::read(&path).expect("the part");
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).expect("written");
}

#[test]
fn a_damaged_epoch_stops_the_run_and_changes_nothing() {
    for job in Job::in_all_places("damaged", &flags()) {
        job.dir.write("a.jsonl", ordered(0..5));
        job.dir.write("b.jsonl", ordered(5..10));
        job.run(&["-q", "a.jsonl"]).succeeds();
        let before = job.results();
        damage(&job, "epochs/1-1/1-evt-window.state");
        let said = job.view().ends_with(65).text();
        assert!(
            said.contains("epoch 1-1")
                && said.contains("damaged: ")
                && said.contains("/epochs/1-1/1-evt-window.state: expected the checksum"),
            "{said}"
        );
        let said = job.run(&["-q", "b.jsonl"]).ends_with(65).stderr();
        assert!(said.contains("/epochs/1-1/1-evt-window.state: expected the checksum"), "{said}");
        assert_same(&job.results(), &before, "after an error");
    }
}

/// A directory in the place of an entry is no run that was quicker.
#[test]
fn a_directory_in_the_place_of_an_entry_is_an_error_of_the_disk() {
    let job = Job::new("damaged-entry", &flags());
    job.dir.write("a.jsonl", ordered(0..5));
    job.run(&["-q", "a.jsonl"]).succeeds();
    let last = (1..).take_while(|entry| job.place.files.join(format!("log/{entry}")).exists()).last().expect("a log");
    std::fs::remove_file(job.place.files.join(format!("log/{last}"))).expect("an entry");
    std::fs::create_dir(job.place.files.join(format!("log/{last}"))).expect("it is free");
    for _ in 0..2 {
        let said = job.run(&["-q", "a.jsonl"]).ends_with(74).stderr();
        assert!(said.contains(&format!("/log/{last}: is a directory")), "{said}");
    }
}

/// The epochs of two runs. The second one is damaged: without it, the next run reads its file again.
#[test]
fn the_epoch_before_a_damaged_one_is_continued_on_request() {
    let job = Job::new("restore", &flags());
    let whole = Job::new("restore-whole", &flags());
    for (job, is_damaged) in [(&whole, false), (&job, true)] {
        for (name, minutes) in [("a.jsonl", 0..5), ("b.jsonl", 5..10), ("c.jsonl", 10..15)] {
            job.dir.write(name, ordered(minutes));
        }
        job.run(&["-q", "a.jsonl"]).succeeds();
        job.run(&["-q", "b.jsonl"]).succeeds();
        if is_damaged {
            damage(job, "epochs/3-1/1-evt-window.state");
            let said = job.run(&["-q", "c.jsonl"]).ends_with(65).stderr();
            let way = "epoch 3-1 is damaged; --restore n-1 continues 1-1; the rows after it are written a second time \
                       to to-1 rows.jsonl, to-2 rows.csv; keyed stores have each once: to-0 sqlite:m.db";
            assert!(said.contains("1-evt-window.state: expected the checksum") && said.contains(way), "{said}");
            let said = job.run(&["-q", "c.jsonl", "--restore", "n-2"]).ends_with(78).stderr();
            assert!(said.contains("--restore n-2: expected a complete epoch that is kept, found none"), "{said}");
            job.run(&["-q", "--restore", "n-1", "b.jsonl"]).succeeds();
        }
        job.run(&["-q", "--at-end", "fire", "c.jsonl"]).succeeds();
    }
    assert_eq!(stored(&job.dir), stored(&whole.dir), "a keyed store has each row once");
    // A file gets the rows of the damaged epoch a second time, and no other difference.
    let rows = |job: &Job| {
        let mut rows = job.dir.rows("rows.jsonl");
        rows.iter_mut().for_each(|row| drop(row.as_object_mut().map(|row| row.remove("run"))));
        rows.into_iter().map(|row| row.to_string()).collect::<Vec<_>>()
    };
    let (mut found, mut expected) = (rows(&job), rows(&whole));
    assert!(found.len() > expected.len());
    for rows in [&mut found, &mut expected] {
        rows.sort_unstable();
        rows.dedup();
    }
    assert_eq!(found, expected);
    for text in ["n", "1", "n-0", "n-x"] {
        let said = job.run(&["c.jsonl", "--restore", text]).ends_with(2).stderr();
        assert!(said.contains("expected n-1, the epoch before the last one"), "{said}");
    }
}
