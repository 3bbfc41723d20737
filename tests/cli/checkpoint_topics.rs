//! `--checkpoint` with topics as inputs: positions, groups, and runs that are killed.

use crate::broker::Bench;
use crate::checkpoint::{Job, OUTPUTS, assert_same, generated};
use crate::harness::{Draws, LONG_WAIT, ended, eventually, eventually_within};
use crate::kafka::record;
use rustix::process::{Pid, Signal, kill_process};

/// Outputs and an emit mode whose rows do not depend on the batches in which a topic is read.
fn flags() -> Vec<&'static str> {
    [&OUTPUTS[..], &["--emit", "final"]].concat()
}

/// Sends each line to one of three partitions.
fn produce<'a>(bench: &Bench, topic: &'a str, lines: impl Iterator<Item = (usize, &'a str)>) {
    bench.produce(lines.map(|(number, line)| record(topic, number as i32 % 3, line)));
}

/// Kills runs over an endless topic at positions that the seed determines, while `more` adds to the topic.
fn read_with_kills(job: &Job, uri: &str, draws: &mut Draws, mut more: impl FnMut()) -> u32 {
    let mut kills = 0;
    for turn in 0..8 {
        let mut run = job.start(&["-q", "--checkpoint-every", "20ms", uri]);
        let before = job.place.entries();
        let (epochs, mut polls) = (draws.below(4) as usize, draws.below(60));
        eventually_within(LONG_WAIT, "it completes some epochs", || {
            let has_all = job.place.entries() > before + epochs;
            polls = if has_all { polls.saturating_sub(1) } else { polls };
            has_all && polls == 0
        });
        run.kill().expect("killed");
        kills += u32::from(ended("the killed run", &mut run) == 137);
        if turn == 3 {
            more();
        }
    }
    kills
}

fn is_counted_once(name: &str, format: &str) {
    let Some(bench) = Bench::new(name) else { return };
    let mut draws = Draws::new();
    let topic = bench.topic("in", 3, &[]);
    let (calm, wild) = (Job::new(&format!("{name}-calm"), &flags()), Job::new(&format!("{name}-wild"), &flags()));
    let events = generated(&calm.dir, 20_000);
    let text = String::from_utf8_lossy(&events).into_owned();
    let lines: Vec<(usize, &str)> = text.lines().enumerate().collect();
    let add = |lines: &[(usize, &str)]| match format {
        "" => produce(&bench, &topic, lines.iter().copied()),
        _ => {
            let part: Vec<&str> = lines.iter().map(|(_, line)| *line).collect();
            bench.dir.write("part.jsonl", part.join("\n") + "\n");
            let to = bench.uri(&topic, format);
            bench.dir.run("evt-ingest", &["-q", "part.jsonl", "--dlq", "null:", "--to", &to]);
        }
    };
    let (first, second) = lines.split_at(12_000);
    add(first);
    let from = |job: &str, options: &str| {
        let format = if format.is_empty() { "" } else { "&format=frames" };
        bench.uri(&topic, &format!("?group={}-{job}{format}{options}", bench.prefix))
    };
    let kills = read_with_kills(&wild, &from("wild", ""), &mut draws, || add(second));
    wild.run(&["-q", "--at-end", "fire", &from("wild", "&end=latest")]).succeeds();
    calm.run(&["-q", "--at-end", "fire", &from("calm", "&end=latest")]).succeeds();
    assert!(kills >= 4, "{draws}: {kills} kills");
    let expected = calm.results();
    assert!(expected["m.db"].len() > 500 && expected["late.jsonl"].len() > 20, "{draws}");
    assert_eq!(expected["dead.jsonl"].len() > 50, format.is_empty());
    assert_same(&wild.results(), &expected, &draws.to_string());
}

#[test]
fn records_of_a_topic_are_counted_once_although_runs_are_killed() {
    is_counted_once("ckpt-records", "");
}

#[test]
fn frames_of_a_topic_are_counted_once_although_runs_are_killed() {
    is_counted_once("ckpt-frames", "?format=frames");
}

/// A job of cron over a topic: each run reads up to the present end. The group gets the positions of complete epochs.
#[test]
fn a_run_over_a_topic_continues_where_the_last_one_ended() {
    let Some(bench) = Bench::new("ckpt-continues") else { return };
    let topic = bench.topic("in", 3, &[]);
    let group = format!("{}-g", bench.prefix);
    let (calm, job) = (Job::new("topic-calm", &flags()), Job::new("topic-parts", &flags()));
    let text = String::from_utf8_lossy(&generated(&calm.dir, 6_000)).into_owned();
    let lines: Vec<(usize, &str)> = text.lines().enumerate().collect();
    let from = bench.uri(&topic, &format!("?group={group}&end=latest"));
    let mut read = 0;
    for part in [&lines[..1_000], &lines[1_000..1_000], &lines[1_000..4_000], &lines[4_000..]] {
        produce(&bench, &topic, part.iter().copied());
        let said = job.run(&[&from]).succeeds().stderr();
        assert!(said.contains(&format!("evt-window: in {} ", part.len())), "{said}");
        assert!(said.contains("held in the checkpoint") && !said.contains("commits nothing"), "{said}");
        read += part.len() as i64;
        let committed: i64 = bench.committed(&group, &topic, 3).iter().filter_map(|(offset, _)| *offset).sum();
        assert_eq!(committed, read, "the group has the positions of the last epoch");
    }
    let shown = job.dir.run("evt-view", &["state"]).succeeds().text();
    assert!(shown.contains(&format!("{topic}/2: read up to offset {}, stream time 20", lines.len() / 3)), "{shown}");
    job.run(&["-q", "--at-end", "fire", &from]).succeeds();
    calm.run(&["-q", "--at-end", "fire", &bench.uri(&topic, "?end=latest")]).succeeds();
    assert_same(&job.results(), &calm.results(), "in parts");
    let twice = job.run(&[&from, &bench.uri(&topic, "?end=latest")]).ends_with(2).stderr();
    assert!(twice.contains("expected each topic once"), "{twice}");
}

#[test]
fn a_run_that_is_stopped_fires_no_window_early() {
    let Some(bench) = Bench::new("ckpt-stopped") else { return };
    let topic = bench.topic("in", 3, &[]);
    let (calm, job) = (Job::new("stop-calm", &flags()), Job::new("stop-parts", &flags()));
    let text = String::from_utf8_lossy(&generated(&calm.dir, 9_000)).into_owned();
    let lines: Vec<(usize, &str)> = text.lines().enumerate().collect();
    for part in lines.chunks(3_000) {
        produce(&bench, &topic, part.iter().copied());
        let mut run = job.start(&["-q", "--checkpoint-every", "50ms", &bench.uri(&topic, "")]);
        let shown = || job.dir.run("evt-view", &["state"]).text();
        let last = part[part.len() - 1].0 / 3 + 1;
        let is_read = |shown: &str| {
            (0..3).all(|partition| shown.contains(&format!("{topic}/{partition}: read up to offset {last},")))
        };
        eventually("all records are in an epoch", || is_read(&shown()));
        kill_process(Pid::from_child(&run), Signal::TERM).expect("stopped");
        assert_eq!(ended("the stopped run", &mut run), 143);
    }
    let from = bench.uri(&topic, "?end=latest");
    job.run(&["-q", "--at-end", "fire", &from]).succeeds();
    calm.run(&["-q", "--at-end", "fire", &from]).succeeds();
    assert_same(&job.results(), &calm.results(), "stopped");
}

/// A topic that was deleted and created again has other records. Its length does not show that if it has grown beyond
/// the position, but its id does.
#[test]
fn a_recreated_topic_that_has_grown_beyond_the_position_is_not_read_from_the_middle() {
    let Some(bench) = Bench::new("ckpt-recreated") else { return };
    let topic = bench.topic("in", 1, &[]);
    let text = String::from_utf8_lossy(&generated(&bench.dir, 250)).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let produce = |lines: &[&str]| bench.produce(lines.iter().map(|line| record(&topic, 0, line)));
    let from = bench.uri(&topic, "?end=latest");
    let ingest = ["--checkpoint", "ingest", "--to", "rows.jsonl"];
    let window = ["--checkpoint", "window", "--time", "event_time", "--size", "1m", "--to", "sqlite:m.db"];
    let run = |tool: &str, flags: &[&str], uri: &str| bench.dir.run(tool, &[flags, &[uri]].concat());
    produce(&lines[..100]);
    for (tool, flags) in [("evt-ingest", &ingest[..]), ("evt-window", &window)] {
        let said = run(tool, flags, &from).stays_calm().stderr();
        assert!(said.contains(": in 100 "), "{said}");
    }
    produce(&lines[100..101]);
    let said = run("evt-ingest", &ingest, &from).succeeds().stderr();
    assert!(said.contains(": in 1 "), "the same topic continues: {said}");

    assert_eq!(bench.recreate("in"), topic);
    produce(&lines[100..]);
    for (tool, flags, position) in [("evt-ingest", &ingest[..], 101), ("evt-window", &window, 100)] {
        for _ in 0..2 {
            let said = run(tool, flags, &from).ends_with(65).stderr();
            let place = format!("{topic}/0@{position}: expected the topic with the id ");
            assert!(said.contains(&place), "{said}");
            assert!(said.contains(": the topic was recreated (on_gap=continue reads on)"), "{said}");
        }
        // evt-window counts events as late that are older than those of the earlier topic.
        let said = run(tool, flags, &format!("{from}&on_gap=continue")).stays_calm().stderr();
        assert!(said.contains("the topic was recreated; reading on at 0"), "{said}");
        assert!(said.contains(": in 150 "), "{said}");
        let said = run(tool, flags, &from).succeeds().stderr();
        assert!(said.contains(": in 0 "), "the next run continues the new topic: {said}");
    }
    assert_eq!(bench.dir.rows("rows.jsonl").len(), 251);
}

/// The topic began at its first record, whatever `start=` said.
#[test]
fn a_topic_that_is_added_to_a_checkpoint_starts_where_its_uri_says() {
    let Some(bench) = Bench::new("ckpt-added") else { return };
    let topics = ["t", "u"].map(|name| bench.topic(name, 1, &[]));
    let text = String::from_utf8_lossy(&generated(&bench.dir, 50)).into_owned();
    let produce = |topic: &str, from: usize, to: usize| {
        bench.produce(text.lines().skip(from).take(to - from).map(|line| record(topic, 0, line)));
    };
    let run = |topics: &str, options: &str| {
        let from = bench.uri(topics, options);
        let args = ["--checkpoint", "state", "--to", "rows.jsonl", &from];
        bench.dir.run("evt-ingest", &args).succeeds().stderr()
    };
    produce(&topics[0], 0, 10);
    assert!(run(&topics[0], "?end=latest").contains(": in 10 "));
    produce(&topics[0], 10, 13);
    produce(&topics[1], 13, 33);
    let said = run(&topics.join(","), "?start=latest&end=latest");
    assert!(said.contains(": in 3 "), "{said}");
    produce(&topics[1], 33, 35);
    let said = run(&topics.join(","), "?start=latest&end=latest");
    assert!(said.contains(": in 2 "), "the next run continues it: {said}");
}

/// The partitions of a topic have their stream times in the state under the number of their input.
#[test]
fn stream_times_stay_with_their_topics_whatever_inputs_a_later_run_has() {
    let Some(bench) = Bench::new("ckpt-renumbered") else { return };
    let (dir, [a, b, c]) = (&bench.dir, ["a", "b", "c"].map(|name| bench.topic(name, 1, &[])));
    let one = |topics: &str| bench.uri(topics, "?end=latest");
    let (both, [of_a, of_b, of_c]) = (one(&format!("{a},{b}")), [&a, &b, &c].map(|topic| one(topic)));
    // The inputs of each run.
    let cases: [(&str, &[&[&str]]); 6] = [
        ("swapped", &[&[&of_a, &of_b], &[&of_b, &of_a]]),
        ("added", &[&[&of_a, &of_b], &[&of_c, &of_b, &of_a]]),
        ("left-out", &[&[&of_a, &of_b], &[&of_b], &[&of_a, &of_b]]),
        ("split", &[&[&both], &[&of_a, &of_b]]),
        ("dropped", &[&[&both], &[&of_b]]),
        ("joined", &[&[&of_b, &of_a], &[&both]]),
    ];
    let send = |second: usize| {
        let time = |topic: usize| format!("2026-01-05T10:{:02}:{:02}Z", (second + topic) / 60, (second + topic) % 60);
        for (number, topic) in [&a, &b, &c].into_iter().enumerate() {
            let event = format!(r#"{{"source":"s","event_type":"t","server_timestamp":"{}"}}"#, time(number));
            bench.produce([record(topic, 0, &event)]);
        }
    };
    let mut states = vec![];
    for step in 0..3 {
        send(100 * (step + 1));
        for (name, runs) in cases {
            let Some(inputs) = runs.get(step) else { continue };
            let out = format!("{name}.jsonl");
            let flags =
                ["-q", "--checkpoint", name, "--size", "10s", "--agg", "c=count(*)", "--out-of-orderness", "0s"];
            dir.run("evt-window", &[&flags[..], inputs, &["--to", &out]].concat()).succeeds();
            if step + 1 == runs.len() {
                // The rows of the step before have been counted, and the watermark has passed their window.
                let last = dir.rows(&out).last().map(|row| row["window_end"].to_string());
                states.push((name, last, ["", "10:01:50", "10:03:30"][step]));
            }
        }
    }
    for (name, last, wanted) in states {
        assert!(last.as_ref().is_some_and(|last| last.contains(wanted)), "{name}: {last:?}, not {wanted}");
    }
}
