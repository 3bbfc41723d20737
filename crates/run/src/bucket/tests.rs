//! The client against a server in memory whose faults a test chooses.

use super::address::BucketAddress;
use super::client::Bucket;
use super::fake::{FakeFault, FakeS3};
use super::upload::{Upload, upload};
use crate::client::Caller;
use crate::storage::{Objects, download};
use evt_core::ErrorKind;

fn bucket(server: &FakeS3, options: &str) -> Bucket {
    let address = BucketAddress::parse(&server.uri(options), &Caller::default()).unwrap();
    Bucket::try_new(address).unwrap()
}

#[test]
fn objects_are_written_read_listed_and_removed() {
    let server = FakeS3::new(|_, _| None);
    let bucket = bucket(&server, "");
    let keys: Vec<String> = (0..20).map(|number| format!("log/{number}")).collect();
    for key in &keys {
        bucket.put(key, key.as_bytes()).unwrap();
    }
    bucket.put("other", b"").unwrap();
    assert_eq!(bucket.list("log/").unwrap().len(), 20);
    assert_eq!(bucket.list("").unwrap().len(), 21);
    let found = bucket.get_all(&[keys.clone(), vec!["none".to_owned()]].concat()).unwrap();
    let expected = keys.iter().map(|key| Some(key.clone().into_bytes())).chain([None]);
    assert_eq!(found, expected.collect::<Vec<_>>());
    bucket.delete(&keys).unwrap();
    assert_eq!(bucket.list("").unwrap(), ["other"]);
    assert_eq!(server.state().objects.keys().collect::<Vec<_>>(), ["a/other"]);
}

#[test]
fn a_request_whose_answer_was_lost_is_not_taken_for_that_of_another_process() {
    for fault in [FakeFault::LoseAnswer, FakeFault::Drop, FakeFault::Status(500), FakeFault::Status(409)] {
        let server = FakeS3::new(move |request, before| (request.starts_with("PUT") && before < 2).then_some(fault));
        let bucket = bucket(&server, "");
        assert!(bucket.put_if_absent("log/1", b"ours").unwrap(), "{fault:?}");
        assert!(!bucket.put_if_absent("log/1", b"theirs").unwrap(), "{fault:?}");
        assert_eq!(server.state().objects["a/log/1"], b"ours");
    }
}

#[test]
fn a_server_that_hangs_or_refuses_ends_the_wait() {
    let server = FakeS3::new(|_, _| Some(FakeFault::Hang));
    let error = bucket(&server, "&timeout=100ms&retry=300ms").get("x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no response for 100ms") && error.to_string().contains("?retry="), "{error}");
    let secret = std::env::var("PATH").unwrap();
    for (status, kind, words) in [
        (403, ErrorKind::Config, "access denied: status 403: InternalError"),
        (301, ErrorKind::Config, "request refused: status 301"),
        (503, ErrorKind::Unavailable, "status 503"),
    ] {
        let server = FakeS3::new(move |_, _| Some(FakeFault::Status(status)));
        for error in [
            bucket(&server, "&retry=200ms").get("x").map(drop).unwrap_err(),
            bucket(&server, "&retry=200ms").delete(&["x".to_owned(), "y".to_owned()]).unwrap_err(),
        ] {
            assert!(error.kind() == kind && error.to_string().contains(words), "{status}: {error}");
            assert!(error.to_string().contains("s3://bucket/a") && !error.to_string().contains(&secret), "{error}");
        }
        if status != 503 {
            assert!(server.state().requests.len() <= 3, "such requests are not repeated");
        }
    }
}

/// Each of many requests would wait for its own timeout otherwise.
#[test]
fn a_server_that_stops_to_answer_ends_many_requests_as_it_ends_one() {
    let keys: Vec<String> = (0..400).map(|number| format!("{number}")).collect();
    for fault in [FakeFault::Hang, FakeFault::Status(503)] {
        let server = FakeS3::new(move |request, _| (!request.contains("/a/0")).then_some(fault));
        let error = bucket(&server, "&timeout=100ms&retry=300ms").get_all(&keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().starts_with("s3://bucket/a: unavailable for 300ms (?retry="), "{error}");
        let count = server.state().requests.len();
        // At most eight at once, and as many attempts as there are pauses of 50 ms or more.
        assert!(count <= 8 * 8, "{fault:?}: {count} requests");
    }
}

/// An outage is over once a request succeeds, whatever the others need.
#[test]
fn many_requests_of_which_each_fails_twice_succeed() {
    let server = FakeS3::new(|_, before| (before < 2).then_some(FakeFault::Status(500)));
    let keys: Vec<String> = (0..12).map(|number| format!("{number}")).collect();
    let found = bucket(&server, "&retry=1s").get_all(&keys).unwrap();
    assert_eq!(found, vec![None; 12]);
}

#[test]
fn files_are_uploaded_and_downloaded_and_large_ones_in_parts_of_which_each_is_repeated() {
    let server = FakeS3::new(|request, before| {
        let is_hit =
            request.contains("partNumber=2") || request.starts_with("PUT /a/small") || request.starts_with("GET");
        let fault = if request.starts_with("POST") { FakeFault::LoseAnswer } else { FakeFault::Drop };
        ((is_hit || request.contains("uploadId=u") && !request.contains("part")) && before == 0).then_some(fault)
    });
    let bucket = bucket(&server, "");
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..20u32 << 20).map(|at| (at >> 20) as u8).collect();
    for (name, bytes) in [("small", &b"abc"[..]), ("empty", b""), ("large", &large)] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let uploads = ["small", "empty", "large"].map(|key| Upload { key: key.to_owned(), path: dir.path().join(key) });
    upload(&bucket, &uploads).unwrap();
    let counted = |words: &str| server.state().requests.iter().filter(|request| request.contains(words)).count();
    assert_eq!([counted("partNumber=1"), counted("partNumber=2"), counted("partNumber=3")], [1, 2, 1]);
    for name in ["small", "empty", "large"] {
        let path = dir.path().join("again");
        assert!(download(&bucket, name, &path).unwrap());
        assert!(std::fs::read(path).unwrap() == std::fs::read(dir.path().join(name)).unwrap(), "{name}");
    }
    assert!(!download(&bucket, "none", &dir.path().join("none")).unwrap());
}

/// Another attempt does not mend a full disk of this machine.
#[test]
fn a_full_disk_while_an_object_is_downloaded_is_74_at_once() {
    let server = FakeS3::new(|_, _| None);
    server.state().objects.insert("a/big".to_owned(), vec![7; 300_000]);
    let bucket = bucket(&server, "&retry=1m");
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("big")).unwrap();
    let error = download(&bucket, "big", &dir.path().join("big")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(server.state().requests.len(), 1);
    let error = download(&bucket, "big", &dir.path().join("missing/big")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(download(&bucket, "big", &dir.path().join("other")).unwrap());
    assert_eq!(std::fs::read(dir.path().join("other")).unwrap().len(), 300_000);
}

/// Otherwise each range of an object would be all of it.
#[test]
fn a_server_without_ranges_is_refused() {
    let server = FakeS3::new(|request, _| request.starts_with("GET").then_some(FakeFault::Status(200)));
    let bucket = bucket(&server, "");
    let refused = |at| bucket.range("x", at).unwrap_err();
    for error in [refused(0..4), refused(1..1_000)] {
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("expected a range"), "{error}");
    }
    // The whole object is the range.
    assert!(bucket.range("x", 0..1_000).unwrap().unwrap().starts_with(b"<Error>"));
}
