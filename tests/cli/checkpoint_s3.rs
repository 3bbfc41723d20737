//! A checkpoint in a bucket: what differs from one in a directory. The other tests of `--checkpoint` run with both.

use crate::bucket::{CheckpointLocation, Fault, Proxy};
use crate::checkpoint::{Job, OUTPUTS, assert_same, generated, ordered};
use crate::harness::{Dir, Draws, ended, eventually};
use evt_run::bucket::upload::{Upload, upload};
use evt_run::storage::{self, Objects};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A job in a bucket behind a proxy, and the results of an undisturbed one.
fn behind(name: &str, proxy: &Proxy, options: &str) -> Option<Job> {
    let dir = Dir::new(name);
    let place = CheckpointLocation::bucket(&dir)?.behind(proxy);
    let place = CheckpointLocation { name: place.name.replace("&retry=1m", options), ..place };
    Some(Job::in_place(dir, place, &OUTPUTS))
}

#[test]
fn a_server_that_fails_loses_answers_and_hangs_delays_epochs_and_loses_nothing() {
    if CheckpointLocation::bucket(&Dir::new("s3-probe")).is_none() {
        return;
    }
    let calm = Job::new("s3-faults-calm", &OUTPUTS);
    let events = generated(&calm.dir, 12_000);
    calm.dir.write("a.jsonl", &events);
    calm.run(&["-q", "--at-end", "fire", "a.jsonl"]).succeeds();
    let mut draws = Draws::new();
    let first = draws.below(7) as usize;
    let proxy = Proxy::new(move |_, number| match (number + first) % 7 {
        0 => Some(Fault::Fails),
        2 => Some(Fault::LosesAnswer),
        4 => Some(Fault::Cuts),
        5 if number % 5 == 0 => Some(Fault::Hangs),
        _ => None,
    });
    let job = behind("s3-faults", &proxy, "&timeout=2s&retry=1m").expect("a server");
    job.dir.write("a.jsonl", &events);
    let said = job.run(&["-q", "--checkpoint-every", "50ms", "--at-end", "fire", "a.jsonl"]).succeeds().stderr();
    assert!(said.contains(": retrying for up to 1m (?retry=)") && said.contains(": available again after "), "{said}");
    assert!(proxy.requests() > 30, "{draws}: {}", proxy.requests());
    assert_same(&job.results(), &calm.results(), &draws.to_string());
    let shown = job.view().succeeds().text();
    assert!(shown.contains(" 1 runs, ") && shown.contains("committed, verified"), "{shown}");
}

#[test]
fn a_server_that_stays_away_ends_the_run_with_69_and_the_next_run_goes_on() {
    if CheckpointLocation::bucket(&Dir::new("s3-probe")).is_none() {
        return;
    }
    let calm = Job::new("s3-away-calm", &OUTPUTS);
    let events = generated(&calm.dir, 60_000);
    calm.dir.write("a.jsonl", &events);
    calm.run(&["-q", "--at-end", "fire", "a.jsonl"]).succeeds();
    for fault in [Fault::Fails, Fault::Hangs] {
        // It goes away while the second epoch is written, and is back for the second run.
        let phase = Arc::new(AtomicUsize::new(0));
        let of_proxy = phase.clone();
        let proxy = Proxy::new(move |line, _| {
            if line.contains("/epochs/1-2/") {
                _ = of_proxy.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
            }
            (of_proxy.load(Ordering::Relaxed) == 1).then_some(fault)
        });
        let job = behind("s3-away", &proxy, "&timeout=200ms&retry=500ms").expect("a server");
        job.dir.write("a.jsonl", &events);
        let said = job.run(&["-q", "--checkpoint-every", "1ms", "a.jsonl"]).ends_with(69).stderr();
        assert!(said.contains("unavailable for 500ms (?retry= sets the limit)"), "{said}");
        assert!(!said.contains("evt-secret"), "{said}");
        phase.store(2, Ordering::Relaxed);
        // The server is back. It may be slow.
        let name = job.place.name.replace("&timeout=200ms&retry=500ms", "&retry=1m");
        let Job { dir, place, .. } = job;
        let job = Job::in_place(dir, CheckpointLocation { name, ..place }, &OUTPUTS);
        job.run(&["-q", "--at-end", "fire", "a.jsonl"]).succeeds();
        assert_same(&job.results(), &calm.results(), &format!("{fault:?}"));
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_server() {
    if CheckpointLocation::bucket(&Dir::new("s3-probe")).is_none() {
        return;
    }
    let proxy = Proxy::new(|_, _| Some(Fault::Hangs));
    let job = behind("s3-signal", &proxy, "&timeout=1h&retry=forever").expect("a server");
    job.dir.write("a.jsonl", ordered(0..5));
    let mut run = job.start(&["-q", "a.jsonl"]);
    eventually("it waits", || proxy.requests() > 0);
    kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
    let status = ended("the run", &mut run);
    assert!([69, 143].contains(&status), "{status}");
}

#[test]
fn what_a_bucket_needs_is_said_before_anything_is_read() {
    let dir = Dir::new("s3-wrong");
    let Some(place) = CheckpointLocation::bucket(&dir) else { return };
    dir.write("a.jsonl", ordered(0..2));
    // There is no machine whose role could have credentials.
    let run = |uri: &str| {
        let line =
            format!("AWS_EC2_METADATA_DISABLED=true evt-window --size 1m --checkpoint '{uri}' a.jsonl --late null:");
        dir.shell(&line)
    };
    dir.write("wrong.secret", "not-the-secret");
    for (uri, status, words) in [
        ("s3://x/y", 2, "expected the name of a bucket"),
        ("s3://evt-tests/y?secret_key=plain&access_key=a&region=r", 2, "found a secret in plain text"),
        ("s3://evt-tests/y?colour=red", 2, "unknown option 'colour'"),
        ("s3://evt-tests/y?region=r", 78, "expected credentials (AWS_ACCESS_KEY_ID"),
        (&place.name.replace("s3.secret", "wrong.secret"), 78, "access denied: status 403: SignatureDoesNotMatch"),
        (&place.name.replace("evt-tests", "evt-no-such"), 78, "expected a bucket, found none"),
    ] {
        let said = run(uri).ends_with(status).stderr();
        assert!(said.contains(words) && !said.contains("not-the-secret"), "{uri}: {said}");
    }
    // Without a checkpoint it is the name of an input.
    let said = dir.run("evt-view", &[&place.name]).ends_with(74).stderr();
    assert!(said.contains("expected an object, found none"), "{said}");
    assert!(!place.files.exists(), "nothing was written");
}

/// Later stages find the server in the stream, and take the credentials from their own environment.
#[test]
fn the_environment_names_server_and_credentials_and_streams_hold_no_secret() {
    let dir = Dir::new("s3-environment");
    let Some(place) = CheckpointLocation::bucket(&dir) else { return };
    let variable = |name: &str| std::env::var(name).expect("scripts/services sets it");
    dir.write("a.jsonl", ordered(0..5));
    let prefix = place.files.file_name().expect("a name").to_string_lossy().into_owned();
    let uri = format!("s3://evt-tests/{prefix}");
    let command = |tool: &str, args: &[&str]| {
        let mut command = dir.command(tool, args);
        command.env("AWS_ACCESS_KEY_ID", variable("EVT_S3_ACCESS_KEY"));
        command.env("AWS_SECRET_ACCESS_KEY", variable("EVT_S3_SECRET_KEY"));
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        command
    };
    let mut ingest = command("evt-ingest", &["-q", "--checkpoint", &uri, "a.jsonl"]);
    ingest.env("AWS_ENDPOINT_URL", variable("EVT_S3")).env("AWS_REGION", variable("EVT_S3_REGION"));
    let mut ingest = ingest.stdout(Stdio::piped()).spawn().expect("it starts");
    let tee = dir
        .command("tee", &["stream.arrows"])
        .stdin(ingest.stdout.take().expect("a pipe"))
        .stdout(Stdio::piped())
        .spawn();
    let mut tee = tee.expect("it starts");
    let mut window =
        command("evt-window", &["-q", "--size", "1m", "--at-end", "fire", "--late", "null:", "--to", "sqlite:m.db"]);
    let mut window = window.stdin(tee.stdout.take().expect("a pipe")).spawn().expect("it starts");
    assert_eq!([ended("window", &mut window), ended("tee", &mut tee), ended("ingest", &mut ingest)], [0; 3]);
    let stream = dir.bytes("stream.arrows");
    let has = |text: &str| memchr::memmem::find(&stream, text.as_bytes()).is_some();
    assert!(has(&format!("{uri}?endpoint={}&region=", variable("EVT_S3"))));
    assert!(!has(&variable("EVT_S3_SECRET_KEY")) && !has(&variable("EVT_S3_ACCESS_KEY")));
    let shown = dir.run("evt-view", &[&place.name]).succeeds().text();
    assert!(
        shown.contains("committed, verified") && shown.contains("2-evt-window: outputs: to-0 sqlite:m.db"),
        "{shown}"
    );
}

#[test]
fn a_large_object_is_written_in_parts() {
    let dir = Dir::new("s3-large");
    let Some(place) = CheckpointLocation::bucket(&dir) else { return };
    let bytes: Vec<u8> = (0..70u32 << 18).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    dir.write("large", &bytes);
    let client = place.client(&dir);
    let uploads = [Upload { key: "a b/large&".to_owned(), path: dir.path("large") }];
    upload(&client, &uploads).expect("uploaded");
    upload(&client, &uploads).expect("uploaded again");
    assert_eq!(client.list("a b/").expect("a list"), ["a b/large&"]);
    assert!(storage::download(&client, "a b/large&", &dir.path("again")).expect("downloaded"));
    assert!(dir.bytes("again") == bytes);
    client.delete(&["a b/large&".to_owned(), "none".to_owned()]).expect("removed");
    assert_eq!(client.any("").expect("a list"), None);
}
