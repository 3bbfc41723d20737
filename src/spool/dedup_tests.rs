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
    window.judge("", &request(at, id, payload).records[0], at)
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
