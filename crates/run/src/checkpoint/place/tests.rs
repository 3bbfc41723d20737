//! A checkpoint in a bucket keeps the contract of one in a directory.

use super::{CheckpointPlace, Claim};
use crate::bucket::address::BucketAddress;
use crate::bucket::fake::{FakeFault, FakeS3};
use crate::checkpoint::epoch::Epoch;
use crate::checkpoint::last_stages;
use crate::checkpoint::log::{Complete, EpochPart, LogEntry, StageEpoch, Start};
use crate::client::Caller;
use crate::storage::disk::Disk;
use evt_core::ErrorKind;
use std::io::Write;

fn start() -> LogEntry {
    LogEntry::Start(Start {
        checkpoint: "x".to_owned(),
        restored: None,
        at: String::new(),
        host: String::new(),
        pid: 1,
        version: String::new(),
        recorded_as: None,
        followed: vec![],
    })
}

/// Returns an epoch of one stage with these parts.
fn complete(epoch: Epoch, parts: &[EpochPart]) -> Complete {
    let stage = StageEpoch {
        stage: "1-evt-window".to_owned(),
        version: String::new(),
        began: None,
        fingerprint: None,
        watermark: None,
        outputs: vec![],
        parts: parts.to_vec(),
    };
    Complete { epoch, at: String::new(), stages: vec![stage], branches: vec![] }
}

fn open(server: &FakeS3) -> CheckpointPlace {
    let address = BucketAddress::parse(&server.uri("&retry=2s"), &Caller::default()).unwrap();
    CheckpointPlace::bucket(address, &Disk::default()).unwrap()
}

/// Runs a test with both kinds of places.
fn with_places(test: impl Fn(&CheckpointPlace)) {
    let dir = tempfile::tempdir().unwrap();
    test(&CheckpointPlace::directory(dir.path().join("ckpt"), &Disk::default()));
    test(&open(&FakeS3::new(|_, _| None)));
    // Some answers to writes are lost.
    test(&open(&FakeS3::new(|request, before| {
        let is_hit = before == 0 && request.starts_with("PUT") && request.ends_with(['1', 'd', 'n']);
        is_hit.then_some(FakeFault::LoseAnswer)
    })));
}

#[test]
fn an_entry_is_created_once_and_never_behind_a_later_one() {
    with_places(|place| {
        place.files.create().unwrap();
        assert!(place.entries().unwrap().is_empty());
        for number in 1..=101 {
            assert!(place.put(number, &start()).unwrap());
            assert!(!place.put(number, &start()).unwrap());
        }
        let epochs = [(1, 1), (1, 2), (3, 1), (10, 1)].map(|(run, number)| Epoch { run, number });
        for epoch in epochs {
            let part = place.local().write_part(epoch, "1-a.state", b"").unwrap();
            place.sync_epoch(epoch, &[part]).unwrap();
        }
        place.remove(epochs[1], 100, &[]).unwrap();
        let left = epochs.map(|epoch| place.has_epoch(epoch).unwrap());
        assert_eq!(left, [false, true, true, true], "epochs of a newer run stay");
        assert_eq!(place.entries().unwrap(), [1, 100, 101]);
        assert!(place.entry(1).unwrap().is_some() && place.entry(2).unwrap().is_none());
        assert_eq!(place.read_entries(&[1, 2, 101]).unwrap().len(), 2);
        assert!(!place.put(2, &start()).unwrap(), "the number of a removed entry");
        assert!(place.put(102, &start()).unwrap());
        for number in 103..=152 {
            assert!(place.put(number, &start()).unwrap());
        }
        place.remove(epochs[1], 151, &[]).unwrap();
        assert_eq!(place.entries().unwrap(), [1, 151, 152]);
    });
}

#[test]
fn the_last_stages_of_a_run_are_known_until_its_epochs_are_removed() {
    with_places(|place| {
        place.files.create().unwrap();
        for run in [1, 2] {
            assert!(matches!(place.claim(run, "end", "1-a 2-b").unwrap(), Claim::Made(_)));
        }
        for number in [1, 5] {
            place.remove(Epoch { run: 2, number }, 0, &[]).unwrap();
            assert_eq!(place.claimed(1, "end").unwrap(), None);
            assert_eq!(place.claimed(2, "end").unwrap().as_deref(), Some("1-a 2-b"));
        }
        place.remove(Epoch { run: 3, number: 1 }, 0, &[]).unwrap();
        assert_eq!(place.claimed(2, "end").unwrap(), None);
    });
}

#[test]
fn what_keeps_an_epoch_from_being_complete_is_named() {
    with_places(|place| {
        place.files.create().unwrap();
        let epoch = Epoch { run: 7, number: 2 };
        let missing = |ends| last_stages::missing(place, epoch, ends).unwrap();
        assert!(missing(1).starts_with("0 of 1 last stages have begun"), "{}", missing(1));
        place.claim(7, "end", "1-evt-ingest 2-evt-window 3-evt-sink").unwrap();
        assert!(missing(2).starts_with("1 of 2 last stages have begun"), "{}", missing(2));
        place.claim(7, "end-2", "1-evt-ingest 2-evt-sink-raw").unwrap();
        let part = place.local().write_part(epoch, "1-evt-ingest.positions", b"[]").unwrap();
        place.sync_epoch(epoch, &[part]).unwrap();
        for stage in ["1-evt-ingest", "2-evt-sink-raw"] {
            place.put_note(epoch, &format!("{stage}.json"), b"{}").unwrap();
        }
        assert_eq!(missing(2), "it is not saved by 2-evt-window, 3-evt-sink");
    });
}

#[test]
fn notes_and_the_last_stage_are_written_once_and_read() {
    with_places(|place| {
        place.files.create().unwrap();
        let epoch = Epoch { run: 3, number: 2 };
        let part = place.local().write_part(epoch, "1-a.positions", b"[]").unwrap();
        place.sync_epoch(epoch, &[part]).unwrap();
        assert_eq!(place.note(epoch, "1-a.positions").unwrap().unwrap(), b"[]");
        assert_eq!(place.note(epoch, "1-a.json").unwrap(), None);
        place.put_note(epoch, "1-a.json", b"{}").unwrap();
        assert_eq!(place.note(epoch, "1-a.json").unwrap().unwrap(), b"{}");
        assert_eq!(place.own_note(epoch, "1-a.json").unwrap().unwrap(), b"{}");
        assert!(!place.is_committed(epoch, "1-a").unwrap());
        place.set_committed(epoch, "1-a").unwrap();
        assert!(place.is_committed(epoch, "1-a").unwrap() && place.has_epoch(epoch).unwrap());
        let claim = place.claim(3, "end", "1-a 2-b").unwrap();
        let Claim::Made(lock) = claim else { panic!("{claim:?}") };
        for other in ["1-a 2-b", "1-a 2-c"] {
            let claim = place.claim(3, "end", other).unwrap();
            assert!(matches!(&claim, Claim::Taken(path) if path == "1-a 2-b"), "{claim:?}");
        }
        // Only a directory has locks.
        let released = |suffix| place.files.released(3, suffix).unwrap();
        assert!(released("end").is_empty() && released("other").is_empty());
        let has_lock = lock.is_some();
        drop(lock);
        assert_eq!(released("end"), Vec::from_iter(has_lock.then_some("end")));
        assert_eq!(place.claimed(3, "end").unwrap().unwrap(), "1-a 2-b");
        assert_eq!(place.claimed(3, "end-2").unwrap(), None);
    });
}

#[test]
fn a_part_is_read_by_another_process_and_damage_is_found() {
    let server = FakeS3::new(|_, _| None);
    let (writer, reader) = (open(&server), open(&server));
    writer.files.create().unwrap();
    let epoch = Epoch { run: 1, number: 1 };
    let part = writer.local().write_part(epoch, "1-a.state", b"0123456789").unwrap();
    assert!(server.state().objects.is_empty(), "parts are uploaded when the epoch ends");
    writer.sync_epoch(epoch, std::slice::from_ref(&part)).unwrap();
    assert_eq!(writer.own_note(epoch, "1-a.rejected-to-0").unwrap(), None);
    reader.files.verify(epoch, &part).unwrap();
    assert_eq!(reader.local().read_part(epoch, "1-a.state").unwrap(), b"0123456789");
    let key = "a/epochs/1-1/1-a.state";
    for bytes in [Some(&b"0123456788"[..]), Some(b"01234"), None] {
        server.state().objects.remove(key);
        server.state().objects.extend(bytes.map(|bytes| (key.to_owned(), bytes.to_vec())));
        let error = open(&server).files.verify(epoch, &part).unwrap_err();
        let is_named = error.to_string().starts_with("s3://bucket/a/epochs/1-1/1-a.state: expected ");
        assert!(error.kind() == ErrorKind::Corrupt && is_named, "{error}");
    }
}

/// A file of state is uploaded once, whatever the number of epochs and runs that need it, and is gone with the last of
/// them.
#[test]
fn a_file_of_state_is_one_object_of_all_epochs() {
    let server = FakeS3::new(|_, _| None);
    let first = open(&server);
    first.files.create().unwrap();
    let epochs = [(1, 1), (1, 2), (3, 1)].map(|(run, number)| Epoch { run, number });
    let (mut file, _) = first.local().create_state(epochs[0].run, "state-1-1").unwrap();
    file.write_all(b"gigabytes").unwrap();
    let part = first.local().link_part(epochs[0], "state-1-1", None).unwrap();
    first.sync_epoch(epochs[0], std::slice::from_ref(&part)).unwrap();
    let again = first.local().link_part(epochs[1], "state-1-1", Some(&part)).unwrap();
    assert_eq!(again, part);
    first.sync_epoch(epochs[1], &[again]).unwrap();
    first.release(epochs[0]).unwrap();
    // What a killed run has left.
    first.put_note(epochs[0], "1-a.state", b"").unwrap();
    server.state().objects.insert("a/state/state-1-2".to_owned(), vec![]);

    let second = open(&server);
    assert!(second.put(3, &start()).unwrap());
    second.clear(3, &[complete(epochs[1], std::slice::from_ref(&part))]).unwrap();
    assert_eq!(server.state().objects.keys().collect::<Vec<_>>(), ["a/log/3", "a/state/state-1-1"]);
    second.files.verify(epochs[1], &part).unwrap();
    let path = second.local().restore_state(epochs[2].run, epochs[1], "state-1-1").unwrap();
    second.release(epochs[1]).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"gigabytes");
    let kept = second.local().link_part(epochs[2], "state-1-1", None).unwrap();
    second.sync_epoch(epochs[2], std::slice::from_ref(&kept)).unwrap();
    assert_eq!(kept, part);
    let puts = |request: &&String| request.starts_with("PUT /a/state/");
    assert_eq!(server.state().requests.iter().filter(puts).count(), 1, "it is uploaded once");
    let state = ["state-1-1".to_owned()];
    second.remove(epochs[2], 0, &state).unwrap();
    assert_eq!(server.state().objects.keys().collect::<Vec<_>>(), ["a/log/3"]);
}

#[test]
fn a_run_that_was_stopped_before_it_clears_removes_nothing_of_a_newer_run() {
    let server = FakeS3::new(|_, _| None);
    let old = open(&server);
    old.files.create().unwrap();
    assert!(old.put(1, &start()).unwrap() && open(&server).put(2, &start()).unwrap());
    server.state().objects.insert("a/state/state-2-1".to_owned(), vec![]);
    assert_eq!(old.clear(1, &[]).unwrap_err().kind(), ErrorKind::Fenced);
    // A file that is made after the check is that of a newer run, too.
    server.state().objects.insert("a/state/state-1-1".to_owned(), vec![]);
    open(&server).clear(2, &[]).unwrap();
    assert_eq!(server.state().objects.keys().collect::<Vec<_>>(), ["a/log/1", "a/log/2", "a/state/state-2-1"]);
}

#[test]
fn a_prefix_with_other_objects_and_a_server_that_replaces_entries_are_refused() {
    let server = FakeS3::new(|_, _| None);
    server.state().objects.insert("a/notes.txt".to_owned(), vec![]);
    let error = open(&server).files.create().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Config && error.to_string().contains("found s3://bucket/a/notes.txt"),
        "{error}"
    );
    // A server that does not know If-None-Match answers with success.
    let server = FakeS3::new(|request, _| request.starts_with("PUT").then_some(FakeFault::Status(200)));
    let error = open(&server).put(1, &start()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("If-None-Match"), "{error}");
}
