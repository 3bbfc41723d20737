//! What is remembered of requests, as time passes and as a spool is read back.

use super::*;
use crate::spool::request::IdempotencyKey;

/// Makes a request that arrives at `at` with one record of this id, and with the key `k`.
fn request(at: i64, id: u8, payload: &'static str) -> Request {
    let record = Record { event_id: Some([id; 16]), ..Record::new(payload.into()) };
    let key = Some(IdempotencyKey { text: "k".into(), body: 0 });
    Request { arrived_at: at, token: String::new(), headers: vec![], key, records: vec![record] }
}

fn judge(window: &mut DedupWindow, at: i64, id: u8, payload: &'static str) -> RecordOutcome {
    window.expire(at);
    window.outcome_of("", &request(at, id, payload).records[0], at)
}

#[test]
fn an_event_that_was_new_again_after_its_window_is_remembered_from_then_on() {
    // A spool that is read back has both; the last one with the payload of the first or with another.
    for payload in ["a", "b"] {
        // The second time the clock had gone back after a request that was refused.
        for again in [100, 99] {
            let mut window = DedupWindow::new(DedupLimits::of_window(100), 0);
            window.learn(&request(0, 1, "a"));
            window.learn(&request(again, 1, payload));
            for at in [again, again + 99] {
                assert_eq!(judge(&mut window, at, 1, payload), RecordOutcome::Duplicate, "{payload}, {again}, {at}");
            }
            assert_eq!(judge(&mut window, again + 100, 1, payload), RecordOutcome::New, "{payload}, {again}");
        }
    }
}

#[test]
fn an_event_that_could_not_be_written_is_not_remembered() {
    let mut window = DedupWindow::new(DedupLimits::of_window(100), 0);
    window.learn(&request(0, 1, "a"));
    assert_eq!(judge(&mut window, 1, 2, "b"), RecordOutcome::New);
    window.forget();
    assert_eq!(judge(&mut window, 2, 2, "b"), RecordOutcome::New);
    assert_eq!(judge(&mut window, 2, 1, "a"), RecordOutcome::Duplicate);
}

fn keys() -> IdempotencyKeys<u8> {
    IdempotencyKeys::new(100, 10, 0)
}

/// Returns where the last request with the key is stored.
fn place(keys: &mut IdempotencyKeys<u8>, at: i64) -> Option<u8> {
    keys.find(&request(at, 1, "a")).map(|earlier| earlier.place)
}

#[test]
fn a_key_that_is_used_again_is_remembered_for_its_whole_window() {
    // A spool that is read back enters both uses; so does a live one whose first request was removed for space.
    for again in [100, 50] {
        let mut keys = keys();
        keys.enter(&request(0, 1, "a"), 1, 0);
        keys.enter(&request(again, 1, "a"), 1, 1);
        for at in [again, 101, again + 99] {
            assert_eq!(place(&mut keys, at), Some(1), "{again}, {at}");
        }
        assert_eq!(place(&mut keys, again + 100), None, "{again}");
    }
}

#[test]
fn a_key_of_a_request_that_could_not_be_written_takes_no_space_and_does_not_shorten_its_next_use() {
    let mut keys = keys();
    keys.enter(&Request { key: Some(IdempotencyKey { text: "other".into(), body: 0 }), ..request(0, 1, "a") }, 1, 7);
    for at in 0..50 {
        keys.enter(&request(at, 1, "a"), 1, 0);
        keys.forget(&request(at, 1, "a"));
        assert_eq!(place(&mut keys, at), None);
    }
    keys.enter(&request(50, 1, "a"), 1, 1);
    assert_eq!(place(&mut keys, 149), Some(1));
    assert_eq!((keys.weight, keys.order.len(), keys.known.len()), (1, 1, 1));
    assert_eq!(place(&mut keys, 150), None);
}
