//! Messages that advise an action which destroys or repeats data, or is hard to take back: a list of all of them,
//! each with the test that it is given when it is true, and tests that it is not given otherwise.

use crate::harness::{Dir, ROOT, ended, eventually, suspend};
use crate::kept_checkpoints::intent::{LEDGER, LINES, left};
use crate::listener::Listener;
use crate::servers::postgres;
use crate::services::EVENT;
use evt::output::file::once::OnceFile;
use evt_core::ErrorKind;
use evt_run::storage::disk::Disk;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Words of such an action.
const ACTIONS: &str = r"\brestore (it|both|them|the) |\bremove (it|them|the) |\bdelete (it|them|the) |\bdrop (it|them|the) |--overwrite\b|--restore n-\{|--take-over\b|\bmove (it|them|the) |\brepair the |\brecreate\b|\brename (it|the table)|\bshrink=ok\b|\bon_gap=continue\b|\(--at-end fire |--allow-partition-subset\b|\bend its transaction\b|\buse a new \w|\buse another (file|directory|database)|\bwithout this file\b|\bkill (it|the)\b";

/// Words of the messages, and the test of each: a file and a function.
const ADVICE: [(&str, &str, &str); 22] = [
    (
        "is older than this output, or another copy",
        "checkpoint_copies",
        "a_checkpoint_that_is_older_than_its_outputs_by_one_run_is_75_and_loses_no_rows",
    ),
    ("is damaged; --restore n-", "checkpoint_damage", "the_epoch_before_a_damaged_one_is_continued_on_request"),
    ("nothing was changed. If the last lines", "replay", "a_damaged_intent_changes_nothing"),
    ("it was truncated or replaced", HERE, "an_intent_is_to_be_removed_only_if_its_file_has_changed"),
    ("of the file is torn", HERE, "an_intent_is_to_be_removed_only_if_its_file_has_changed"),
    ("--overwrite replaces it", HERE, "overwrite_is_advised_where_it_replaces_the_file_that_is_named"),
    (" or --overwrite", HERE, "overwrite_is_advised_where_it_replaces_the_file_that_is_named"),
    ("use another file", HERE, "overwrite_is_advised_where_it_replaces_the_file_that_is_named"),
    ("move it and the files with smaller numbers", "spool", "damage_in_a_segment_that_is_delivered_names_a_way_on"),
    (
        "move it away if no run of evt wrote it",
        "repeats",
        "a_file_of_another_program_in_a_day_does_not_end_a_run_that_appends",
    ),
    (
        "move it out of the directory of the day",
        "repeats",
        "a_file_of_another_program_in_a_day_does_not_end_a_run_that_appends",
    ),
    ("remove the line, as tail", "recognise", "the_line_that_tells_excel_the_delimiter_is_no_header"),
    ("restore it, or move it away", "metric_progress", "a_damaged_record_of_a_lake_says_what_to_do"),
    ("remove the copies", "event_key", "an_event_that_two_files_hold_is_stored_once_and_counted_as_unchanged"),
    (
        "--take-over ends its correction",
        "backfill",
        "an_overlapping_correction_in_flight_is_refused_and_a_dead_one_is_ended_or_resumed",
    ),
    (
        "on_gap=continue",
        "checkpoint_topics",
        "a_recreated_topic_that_has_grown_beyond_the_position_is_not_read_from_the_middle",
    ),
    ("--at-end fire emits them", "losses", "windows_that_wait_for_the_end_are_held_where_the_input_was_told_to_stop"),
    (
        "shrink=ok replaces it anyway",
        "replace",
        "windows_of_a_part_of_their_events_do_not_replace_whole_windows_of_the_same_keys",
    ),
    ("--allow-partition-subset", "messages", "each_message_is_provoked_and_its_advice_works"),
    ("end its transaction", "alert_pages", "a_run_that_is_stopped_while_its_state_is_locked_says_what_to_do"),
    ("without this file all records are read again", HERE, "a_position_file_is_called_invalid_only_if_it_is"),
    ("; use another directory", HERE, "a_lake_of_another_kind_names_both_kinds"),
];
const HERE: &str = "costly_advice";

/// Words of messages that advise another command line or name, which loses nothing.
const HARMLESS: [&str; 6] = [
    ": expected a complete epoch that is kept",
    "rename it to",
    "remove it for rows of",
    "?mode=append|replace ?shrink=ok",
    "shrink=ok requires mode=replace",
    "`shrink=ok` skips the comparison",
];

/// The texts of string literals in code, without comments and tests.
fn literals(code: TokenStream, found: &mut Vec<String>) {
    let mut tokens = code.into_iter().peekable();
    let mut is_test = false;
    while let Some(token) = tokens.next() {
        match token {
            // An attribute: a comment, or the condition of what follows.
            TokenTree::Punct(sign) if sign.as_char() == '#' => {
                if let Some(TokenTree::Group(attribute)) = tokens
                    .next_if(|next| matches!(next, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket))
                {
                    is_test |= attribute.stream().to_string().replace(' ', "") == "cfg(test)";
                }
            }
            TokenTree::Group(group) => {
                if !(is_test && group.delimiter() == Delimiter::Brace) {
                    literals(group.stream(), found);
                }
                is_test &= group.delimiter() != Delimiter::Brace;
            }
            TokenTree::Punct(sign) if sign.as_char() == ';' => is_test = false,
            TokenTree::Literal(literal) => {
                found.extend(syn::parse_str::<syn::LitStr>(&literal.to_string()).map(|text| text.value()));
            }
            _ => {}
        }
    }
}

#[test]
fn every_message_that_advises_a_costly_action_is_listed_with_its_test() {
    let files =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard", "crates", "src"]).current_dir(ROOT).output();
    let files = String::from_utf8(files.expect("git is installed").stdout).expect("names are UTF-8");
    let actions = Regex::new(ACTIONS).expect("a pattern");
    let mut advising = vec![];
    for file in files.lines().filter(|file| file.ends_with(".rs") && !file.contains("test")) {
        let Ok(text) = std::fs::read_to_string(Path::new(ROOT).join(file)) else { continue };
        let mut found = vec![];
        literals(text.parse().expect("Rust"), &mut found);
        // Statements of SQL are no messages.
        let messages = found.into_iter().filter(|text| actions.is_match(text) && !text.contains(" FROM "));
        advising.extend(messages.map(|text| (file.to_owned(), text)));
    }
    assert!(advising.len() >= ADVICE.len() / 2, "{advising:?}");
    let listed = || ADVICE.iter().map(|(words, ..)| words).chain(&HARMLESS);
    let unlisted = advising.iter().filter(|(_, text)| !listed().any(|words| text.contains(words)));
    assert_eq!(unlisted.collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "add them to ADVICE, each with its test");
    for words in listed() {
        assert!(advising.iter().any(|(_, text)| text.contains(words)), "no message has: {words}");
    }
    for (_, file, name) in ADVICE {
        let tests = std::fs::read_to_string(Path::new(ROOT).join(format!("tests/cli/{file}.rs"))).expect("a file");
        assert!(tests.contains(&format!("#[test]\nfn {name}()")), "no test {name} in {file}.rs");
    }
}

/// Starts a run that follows a.jsonl.
fn follow(dir: &Dir, to: &str, log: &str) -> Child {
    let flags = "-q --dlq null: --checkpoint ck --checkpoint-every 20ms -f jsonl --follow a.jsonl --to";
    let mut command = dir.command("evt-ingest", &flags.split(' ').chain([to]).collect::<Vec<_>>());
    let stderr = File::create(dir.path(log)).expect("writable");
    command.stdin(Stdio::null()).stderr(stderr).spawn().expect("it starts")
}

/// The number of the last entry of the log.
fn last_entry(dir: &Dir) -> u64 {
    let names = std::fs::read_dir(dir.path("ck/log")).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).max().unwrap_or(0)
}

/// A run that is stopped after its entry in the log and before it opens its outputs, while another run commits an
/// epoch: nothing is wrong. It said that a backup was to be restored.
#[test]
fn a_run_that_was_replaced_while_it_was_suspended_says_so_and_advises_nothing() {
    let server = postgres().map(|(uri, ..)| uri);
    let outputs = ["o.jsonl", "o.csv", "sqlite:o.db", "sqlite:o.db?visible=now", "parquet:lake"].map(str::to_owned);
    for to in outputs.into_iter().chain(server) {
        let dir = Dir::new("replaced");
        dir.write("a.jsonl", "");
        let mut first = follow(&dir, &to, "first.log");
        eventually("the first run has begun", || last_entry(&dir) == 1);
        // Without rows it has no output open.
        suspend(&first);
        let mut second = follow(&dir, &to, "second.log");
        eventually("the second run has begun", || last_entry(&dir) == 2);
        dir.write("a.jsonl", format!("{EVENT}\n"));
        eventually("an epoch is complete", || last_entry(&dir) > 2);
        kill_process(Pid::from_child(&second), Signal::TERM).expect("it runs");
        assert_eq!(ended("the second run", &mut second), 143, "{to}");
        kill_process(Pid::from_child(&first), Signal::CONT).expect("it is stopped");
        assert_eq!(ended("the first run", &mut first), 75, "{to}");
        let said = String::from_utf8_lossy(&dir.bytes("first.log")).into_owned();
        assert!(said.contains("another run has written entry ") && !said.contains("backup"), "{to}: {said}");
    }
}

/// A run whose epoch a newer run has removed found it damaged, and advised `--restore`: while it reads a part (a
/// FIFO here), another run begins.
#[test]
fn an_epoch_that_another_run_has_removed_is_not_called_damaged() {
    let dir = Dir::new("removed-epoch");
    dir.write("a.jsonl", format!("{EVENT}\n"));
    let window = "evt-window -q a.jsonl --size 1m --late null: --to o.jsonl --checkpoint ck";
    dir.shell(window).succeeds();
    dir.shell(window).succeeds();
    let entries = last_entry(&dir);
    let state = "ck/epochs/3-1/1-evt-window.state";
    for is_replaced in [false, true] {
        dir.shell(&format!("rm -f {state}; mkfifo {state}")).succeeds();
        let run = dir.command("/bin/sh", &["-c", window]).stderr(Stdio::piped()).spawn().expect("it starts");
        // Opening returns when the run reads the part.
        let part = File::options().write(true).open(dir.path(state)).expect("a reader");
        if is_replaced {
            dir.write(&format!("ck/log/{}", entries + 1), dir.bytes(&format!("ck/log/{entries}")));
        }
        drop(part);
        let ended = run.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let wanted =
            if is_replaced { (Some(75), "another run has written entry") } else { (Some(65), "--restore n-1") };
        assert!(ended.status.code() == wanted.0 && said.contains(wanted.1), "{said}");
        assert_eq!(said.contains("--restore"), !is_replaced, "{said}");
    }
}

#[test]
fn an_intent_is_to_be_removed_only_if_its_file_has_changed() {
    let intent = format!("lines.jsonl.evt.{}", &LEDGER[..8]);
    let finish = |dir: &Dir| {
        let mut file = OnceFile::new(dir.path("lines.jsonl"), LEDGER, Disk::default());
        file.lock().and_then(|()| file.last_batch())
    };
    let dir = left();
    finish(&dir).expect("nothing is wrong");
    assert_eq!(dir.bytes("lines.jsonl"), LINES.as_bytes());
    for (lines, told) in [
        (LINES[..4].to_owned(), "it was truncated or replaced"),
        (format!("{}no JSON\n{{\"n\":9}}\n", &LINES[..19]), "of the file is torn, and other lines follow it"),
    ] {
        let dir = left();
        dir.write("lines.jsonl", &lines);
        let error = finish(&dir).expect_err("the file has changed");
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains(told), "{error}");
        assert!(error.to_string().contains("remove the intent"), "{error}");
        assert_eq!(dir.bytes("lines.jsonl"), lines.as_bytes());
    }
    // Another version of evt can finish its own.
    let dir = left();
    let other = String::from_utf8(dir.bytes(&intent)).expect("text").replace("\"evt_intent\":2", "\"evt_intent\":3");
    dir.write(&intent, &other);
    let error = finish(&dir).expect_err("another format");
    assert!(error.kind() == ErrorKind::Config && !error.to_string().contains("remove"), "{error}");
    assert!(error.to_string().contains("run the version of evt that wrote it"), "{error}");
}

/// `--overwrite` replaces files of `--to` only: advised for another output, it would replace a file that nobody meant.
#[test]
fn overwrite_is_advised_where_it_replaces_the_file_that_is_named() {
    let dir = Dir::new("overwrite");
    dir.write("e.jsonl", format!("{EVENT}\nno JSON\n"));
    dir.write("old.csv", "a,b\n1,2\n");
    dir.shell("evt-ingest -q e.jsonl --to old.parquet --dlq null:").succeeds();
    let advised = [
        "evt-ingest e.jsonl --dlq null: --to old.parquet",
        "evt-ingest e.jsonl --dlq null: --to old.csv",
        "evt-window e.jsonl --size 1m --late null: --dlq null: --to old.csv",
    ];
    for line in advised {
        let run = dir.shell(line).ends_with(2);
        assert!(run.stderr().contains("--overwrite"), "{run}");
    }
    let other = [
        "evt-ingest e.jsonl --to null: --dlq old.parquet",
        "evt-ingest e.jsonl --to null: --dlq old.csv",
        "evt-window e.jsonl --size 1m --to null: --dlq null: --late old.parquet",
        "evt-validate e.jsonl --to null: --dlq null: --dedup 1h --duplicates old.parquet",
        "evt-window e.jsonl --size 1m --late null: --dlq null: --checkpoint ck --to old.csv",
        "evt-window e.jsonl --size 1m --late null: --dlq null: --checkpoint ck2 --to old.parquet",
    ];
    let before = dir.bytes("old.parquet");
    for line in other {
        let run = dir.shell(line).ends_with(2);
        assert!(run.stderr().contains("use another file") && !run.stderr().contains("--overwrite"), "{run}");
    }
    assert!(dir.bytes("old.parquet") == before && dir.bytes("old.csv") == b"a,b\n1,2\n");
    dir.shell(&format!("{} --overwrite", advised[0])).succeeds();
    dir.shell(&format!("{} --overwrite", advised[1])).succeeds();
}

#[test]
fn a_position_file_is_called_invalid_only_if_it_is() {
    let dir = Dir::new("position");
    let flags = ["--spool", "spool", "--to", "o.jsonl", "--dlq", "null:"];
    let stopped = || {
        let listener = Listener::open(&dir, &flags);
        listener.signal(Signal::TERM);
        let (ended, said) = listener.wait();
        assert!(ended == 143 && !said.contains("position"), "{said}");
    };
    stopped();
    stopped();
    let whole = String::from_utf8(dir.bytes("spool/position")).expect("it is text");
    let digit = whole.find("\"offset\":").expect("an offset") + 12;
    let mut other = whole.clone();
    other.replace_range(digit..digit + 1, if &whole[digit..digit + 1] == "1" { "2" } else { "1" });
    let told = "spool/position: invalid position file; without this file all records are read again";
    for damaged in [b"{".to_vec(), other.into_bytes(), [b"\xc0", &whole.as_bytes()[1..]].concat(), vec![]] {
        dir.write("spool/position", damaged);
        let (ended, said) = Listener::start(&dir, "http://127.0.0.1:0", &flags).wait();
        assert!(ended == 65 && said.contains(told), "{said}");
        let check = dir.run("evt-ingest", &[&["http://127.0.0.1:0", "--check"][..], &flags].concat()).ends_with(65);
        assert!(check.stderr().contains(told), "{check}");
    }
    // An older evt wrote no checksum.
    let mut older: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&whole).expect("JSON");
    older.remove("crc32c").expect("a checksum");
    dir.write("spool/position", serde_json::to_vec(&older).expect("JSON"));
    stopped();
    dir.write("spool/position", "{");
    std::fs::remove_file(dir.path("spool/position")).expect("it is there");
    stopped();
}

#[test]
fn a_lake_of_another_kind_names_both_kinds() {
    let dir = Dir::new("lake-kinds");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    dir.shell("evt-ingest -q e.jsonl --to parquet:lake").succeeds();
    let run = dir.shell("evt-window -q e.jsonl --size 1m --late null: --to parquet:lake").ends_with(2);
    assert!(
        run.stderr().contains("expected aggregated_metrics, found raw_events")
            && run.stderr().contains("; use another directory"),
        "{run}"
    );
    dir.shell("evt-ingest -q e.jsonl --to parquet:lake").succeeds();
}
