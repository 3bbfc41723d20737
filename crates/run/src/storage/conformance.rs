//! One contract for all implementations of [`Objects`]: a directory, on a disk that also fails, and a bucket, on a
//! server that also fails.

use super::directory::DirectoryObjects;
use super::disk::{Disk, DiskFault};
use super::{BLOCK, Objects, download};
use crate::bucket::address::BucketAddress;
use crate::bucket::client::Bucket;
use crate::bucket::fake::{FakeFault, FakeS3};
use crate::client::Caller;
use evt_core::ErrorKind;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::path::Path;

fn directory(root: &Path, disk: Disk) -> DirectoryObjects {
    for name in ["log", "epochs/1-1", "epochs/1-2", "epochs/11-1"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    DirectoryObjects::new(root.to_owned(), disk)
}

fn bucket(server: &FakeS3) -> Bucket {
    let address = BucketAddress::parse(&server.uri("&retry=2s"), &Caller::default()).unwrap();
    Bucket::try_new(address).unwrap()
}

/// Runs a test with all implementations.
fn with_objects(test: impl Fn(&dyn Objects)) {
    let dir = tempfile::tempdir().unwrap();
    test(&directory(dir.path(), Disk::default()));
    test(&bucket(&FakeS3::new(|_, _| None)));
    let google = FakeS3::new(|_, before| (before == 0).then_some(FakeFault::LoseAnswer));
    let address = google.google_uri(&dir.path().join("account.json"), "&retry=2s");
    let address = BucketAddress::parse(&address, &Caller::default()).unwrap();
    test(&Bucket::try_new(address).unwrap());
    // The first answer to each request is lost, or the server fails.
    test(&bucket(&FakeS3::new(|_, before| (before == 0).then_some(FakeFault::LoseAnswer))));
    test(&bucket(&FakeS3::new(|_, before| (before == 0).then_some(FakeFault::Status(503)))));
}

fn keys(of: &[&str]) -> Vec<String> {
    of.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn an_object_is_read_as_it_was_written_last() {
    with_objects(|objects| {
        assert_eq!(objects.get("log/1").unwrap(), None);
        for bytes in [&b"first"[..], b"", b"second, and longer"] {
            objects.put("log/1", bytes).unwrap();
            assert_eq!(objects.get("log/1").unwrap().unwrap(), bytes);
        }
        objects.put("log/2", b"2").unwrap();
        let found = objects.get_all(&keys(&["log/2", "none", "log/1"])).unwrap();
        assert_eq!(found, [Some(b"2".to_vec()), None, Some(b"second, and longer".to_vec())]);
        assert!(objects.get_all(&[]).unwrap().is_empty());
        assert!(objects.name("log/1").ends_with("/log/1"), "{}", objects.name("log/1"));
    });
}

#[test]
fn a_range_ends_with_its_object() {
    with_objects(|objects| {
        objects.put("log/1", b"0123456789").unwrap();
        objects.put("log/2", b"").unwrap();
        let whole = 0..u64::MAX >> 1;
        for (at, expected) in [
            (0..4, "0123"),
            (4..5, "4"),
            (8..12, "89"),
            (0..10, "0123456789"),
            (whole.clone(), "0123456789"),
            (3..3, ""),
            (10..11, ""),
            (1_000..2_000, ""),
        ] {
            assert_eq!(objects.range("log/1", at.clone()).unwrap().unwrap(), expected.as_bytes(), "{at:?}");
        }
        for at in [0..0, 0..4, 5..6, whole] {
            assert_eq!(objects.range("log/2", at.clone()).unwrap().unwrap(), b"", "{at:?}");
            assert_eq!(objects.range("none", at.clone()).unwrap(), None, "{at:?}");
        }
    });
}

#[test]
fn one_of_several_writers_makes_an_object() {
    with_objects(|objects| {
        assert!(objects.put_if_absent("log/1", b"ours").unwrap());
        assert!(!objects.put_if_absent("log/1", b"theirs").unwrap());
        assert_eq!(objects.get("log/1").unwrap().unwrap(), b"ours");
        objects.delete(&keys(&["log/1"])).unwrap();
        assert!(objects.put_if_absent("log/1", b"theirs").unwrap());
        for key in (2..8).map(|number| format!("log/{number}")) {
            let write = |writer: u32| {
                let bytes = format!("{writer} {}", objects.token().unwrap_or_default());
                objects.put_if_absent(&key, bytes.as_bytes()).unwrap().then_some(bytes)
            };
            let made: Vec<String> = std::thread::scope(|scope| {
                let writers = [0, 1, 2].map(|writer| scope.spawn(move || write(writer)));
                writers.into_iter().filter_map(|writer| writer.join().unwrap()).collect()
            });
            assert_eq!(made.len(), 1, "{made:?}");
            assert_eq!(objects.get(&key).unwrap().unwrap(), made[0].as_bytes());
        }
    });
}

#[test]
fn a_list_has_the_keys_of_its_prefix_in_order() {
    with_objects(|objects| {
        assert!(objects.list("").unwrap().is_empty() && objects.any("epochs/").unwrap().is_none());
        let all = keys(&["epochs/1-1/a", "epochs/1-1/b.json", "epochs/1-2/a", "epochs/11-1/a", "log/1", "log/10"]);
        for key in all.iter().chain(&keys(&["log/2", "log/9"])) {
            objects.put(key, key.as_bytes()).unwrap();
        }
        objects.delete(&keys(&["log/2", "log/9", "log/none", "none/1"])).unwrap();
        assert_eq!(objects.list("").unwrap(), all);
        for (start, expected) in [
            ("epochs/", &all[..4]),
            ("epochs/1-1/", &all[..2]),
            ("epochs/1-1", &all[..2]),
            ("epochs/1", &all[..4]),
            ("e", &all[..4]),
            ("log/1", &all[4..]),
            ("log/10", &all[5..]),
            ("log/2", &[]),
            ("none/", &[]),
        ] {
            assert_eq!(objects.list(start).unwrap(), expected, "{start}");
            assert_eq!(objects.any(start).unwrap().as_ref(), expected.first(), "{start}");
        }
    });
}

#[test]
fn an_object_of_any_length_is_downloaded_range_by_range() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let (server, root) = (FakeS3::new(|_, _| None), tempfile::tempdir().unwrap());
    for objects in [&bucket(&server) as &dyn Objects, &directory(root.path(), Disk::default())] {
        assert!(!download(objects, "log/1", &path).unwrap());
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            objects.put("log/1", &bytes).unwrap();
            assert!(download(objects, "log/1", &path).unwrap());
            assert!(std::fs::read(&path).unwrap() == bytes, "{length}");
        }
        let missing = dir.path().join("missing/file");
        assert_eq!(download(objects, "log/1", &missing).unwrap_err().kind(), ErrorKind::Io);
    }
}

/// After a crash at any operation of the disk an object is the old one or the new one, and no list has another file.
#[test]
fn a_write_that_a_crash_interrupts_leaves_the_old_object_or_the_new_one() {
    let mut seen = BTreeSet::new();
    for after in 0.. {
        let dir = tempfile::tempdir().unwrap();
        directory(dir.path(), Disk::default()).put("log/1", b"old").unwrap();
        let fault = DiskFault { after, torn: 2, errno: Errno::IO, is_lasting: true };
        let failing = directory(dir.path(), Disk::failing(fault));
        let written = failing.put("log/1", b"new").and_then(|()| failing.put_if_absent("log/2", b"made"));
        let later = directory(dir.path(), Disk::default());
        let left = [later.get("log/1").unwrap(), later.get("log/2").unwrap()];
        let left = left.map(|bytes| bytes.map(|bytes| String::from_utf8(bytes).unwrap()));
        assert!(["old", "new"].map(|text| Some(text.to_owned())).contains(&left[0]), "{after}: {left:?}");
        assert!(left[1].as_deref().is_none_or(|text| text == "made"), "{after}: {left:?}");
        let listed = keys(&["log/1", "log/2"]);
        assert_eq!(later.list("").unwrap(), listed[..1 + left.iter().skip(1).flatten().count()]);
        seen.insert(left.clone());
        // Repeating it is right.
        later.put("log/1", b"new").unwrap();
        assert_eq!(later.put_if_absent("log/2", b"again").unwrap(), left[1].is_none());
        match written {
            Ok(is_new) => {
                assert!(is_new && after > 8 && seen.len() == 3, "{after}: {seen:?}");
                break;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
        }
    }
}

/// An old run must not make anew what a newer one has removed.
#[test]
fn a_write_into_a_directory_that_is_missing_fails() {
    let dir = tempfile::tempdir().unwrap();
    let objects = directory(dir.path(), Disk::default());
    assert_eq!(objects.put("removed/1", b"").unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(objects.put_if_absent("removed/1", b"").unwrap_err().kind(), ErrorKind::Io);
    assert!(!dir.path().join("removed").exists());
}
