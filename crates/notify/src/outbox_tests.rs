use super::*;
use evt_core::kind::alert::{AlertReason, AlertRule, rule_id};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The transition of the nth alert.
fn alert(n: i64, state: AlertState, caught_up: bool) -> Alert {
    let (labels, name) = (BTreeMap::new(), "r".to_owned());
    let rule = AlertRule { rule_id: rule_id("r"), name, severity: "info".to_owned(), threshold: None, labels };
    Alert {
        rule: Arc::new(rule),
        dimensions: "{}".to_owned(),
        state,
        reason: AlertReason::NoData,
        value: Some(f64::NEG_INFINITY),
        window_start: 0,
        window_end: 1,
        since: n,
        at: n + 1,
        summary: "\"a\"\nb".to_owned(),
        caught_up,
    }
}

/// A step of the engine or of the sender.
#[derive(Clone, Debug)]
enum Action {
    Fire {
        alert: i64,
        caught_up: bool,
    },
    Repeat(i64),
    Resolve(i64),
    /// The sender takes the next notification, and its attempt ends like this.
    Attempt(End),
    /// Time passes.
    Pass(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done(DeliveryOutcome),
    /// It is due again after this time.
    Again {
        after: i64,
        is_unclear: bool,
    },
    /// Recipient b still waits for it; it is due again after this time.
    Part {
        after: i64,
    },
    /// The process is killed before it stores the end.
    Killed,
}

fn action() -> impl Strategy<Value = Action> {
    let end = prop_oneof![
        4 => Just(End::Done(DeliveryOutcome::Sent)),
        1 => Just(End::Done(DeliveryOutcome::Refused)),
        1 => Just(End::Done(DeliveryOutcome::Expired)),
        2 => (0..5i64, any::<bool>()).prop_map(|(after, is_unclear)| End::Again { after, is_unclear }),
        2 => (0..5i64).prop_map(|after| End::Part { after }),
        1 => Just(End::Killed),
    ];
    prop_oneof![
        3 => (0..4i64, any::<bool>()).prop_map(|(alert, caught_up)| Action::Fire { alert, caught_up }),
        1 => (0..4i64).prop_map(Action::Repeat),
        2 => (0..4i64).prop_map(Action::Resolve),
        6 => end.prop_map(Action::Attempt),
        2 => (0..4i64).prop_map(Action::Pass),
    ]
}

/// A notification of the model.
#[derive(Clone, Debug)]
struct Entry {
    alert: i64,
    state: AlertState,
    repeat: i64,
    due_at: i64,
    is_unclear: bool,
    /// Whether all recipients but b have it.
    is_part: bool,
    outcome: Option<DeliveryOutcome>,
}

/// The outbox of one channel as a list.
#[derive(Default)]
struct Model(Vec<Entry>);

impl Model {
    fn of(&self, alert: i64, state: AlertState) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| entry.alert == alert && entry.state == state)
    }

    fn arrived(&self, alert: i64) -> bool {
        self.of(alert, AlertState::Firing).any(|entry| entry.outcome == Some(DeliveryOutcome::Sent) || entry.is_unclear)
    }

    fn add(&mut self, alert: i64, state: AlertState, repeat: i64) -> Enqueued {
        if self.of(alert, state).any(|entry| entry.repeat == repeat) {
            return Enqueued::Known;
        }
        self.0.push(Entry { alert, state, repeat, due_at: 0, is_unclear: false, is_part: false, outcome: None });
        Enqueued::Queued
    }

    fn fire(&mut self, alert: i64, caught_up: bool) -> Enqueued {
        if caught_up { Enqueued::NoPage } else { self.add(alert, AlertState::Firing, 0) }
    }

    fn repeat(&mut self, alert: i64) -> Enqueued {
        let firings: Vec<&Entry> = self.of(alert, AlertState::Firing).collect();
        match firings.iter().map(|entry| entry.repeat).max() {
            Some(last) if firings.iter().all(|entry| entry.outcome.is_some() || entry.is_part) => {
                self.add(alert, AlertState::Firing, last + 1)
            }
            _ => Enqueued::NoPage,
        }
    }

    fn resolve(&mut self, alert: i64) -> Enqueued {
        let is_due = self.of(alert, AlertState::Firing).any(|entry| entry.outcome.is_none());
        if is_due || self.arrived(alert) {
            return self.add(alert, AlertState::Resolved, 0);
        }
        let has_rows = self.of(alert, AlertState::Firing).next().is_some();
        if has_rows && self.add(alert, AlertState::Resolved, 0) == Enqueued::Queued {
            self.0.last_mut().into_iter().for_each(|entry| entry.outcome = Some(DeliveryOutcome::Skipped));
        }
        Enqueued::NoPage
    }

    /// Returns the earlier notifications of the same alert that are due.
    fn earlier(&self, at: usize) -> impl Iterator<Item = &Entry> {
        self.0[..at].iter().filter(move |entry| entry.alert == self.0[at].alert && entry.outcome.is_none())
    }

    /// Returns the indices of the notifications that wait for no earlier one.
    fn free(&self) -> impl Iterator<Item = usize> {
        let is_free = |at: &usize| {
            let entry = &self.0[*at];
            entry.outcome.is_none() && self.earlier(*at).all(|earlier| earlier.is_part && !entry.is_part)
        };
        (0..self.0.len()).filter(is_free)
    }

    /// Returns the index of the notification that is next.
    fn next(&self, now: i64) -> Option<usize> {
        self.free().filter(|at| self.0[*at].due_at <= now).min_by_key(|at| (self.0[*at].is_part, *at))
    }

    /// Returns the recipients of its next attempt.
    fn recipients(&self, at: usize) -> Recipients {
        let b = |is_in: bool| if is_in { vec!["b".to_owned()] } else { vec![] };
        Recipients { only: b(self.0[at].is_part), later: b(self.earlier(at).any(|entry| entry.is_part)) }
    }

    /// Returns when the next notification is due.
    fn later(&self) -> Option<i64> {
        self.free().map(|at| self.0[at].due_at).min()
    }
}

proptest! {
    // Each case commits some twenty transactions to a disk.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_outbox_is_a_list_with_an_order_per_alert(actions in prop::collection::vec(action(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut db = Connection::open(&path).unwrap();
        db.execute_batch("PRAGMA synchronous = OFF").unwrap();
        create_tables(&db).unwrap();
        create_tables(&db).unwrap();
        let (outbox, mut model, mut now) = (Outbox::open(&path, "c").unwrap(), Model::default(), 0);
        for action in actions {
            let tx = db.transaction().unwrap();
            let (found, expected) = match action {
                Action::Fire { alert: n, caught_up } => {
                    (enqueue(&tx, "c", &alert(n, AlertState::Firing, caught_up)), model.fire(n, caught_up))
                }
                Action::Repeat(n) => (enqueue_repeat(&tx, "c", &alert(n, AlertState::Firing, false)), model.repeat(n)),
                Action::Resolve(n) => (enqueue(&tx, "c", &alert(n, AlertState::Resolved, true)), model.resolve(n)),
                Action::Pass(time) => {
                    now += time;
                    continue;
                }
                Action::Attempt(end) => {
                    drop(tx);
                    attempt(&outbox, &mut model, now, end);
                    continue;
                }
            };
            prop_assert_eq!(found.unwrap(), expected);
            tx.commit().unwrap();
        }
        let due = model.0.iter().filter(|entry| entry.outcome.is_none()).count() as u64;
        let expected = if due == 0 { vec![] } else { vec![("c".to_owned(), due)] };
        prop_assert_eq!(outbox.due_by_channel().unwrap(), expected);
    }
}

/// Takes the next notification of both, compares them, and ends its attempt.
fn attempt(outbox: &Outbox, model: &mut Model, now: i64, end: End) {
    let (found, expected) = (outbox.next(now).unwrap(), model.next(now));
    let (due, at) = match (found, expected) {
        (Next::Due(due), Some(at)) => (due, at),
        (Next::Later(at), None) => {
            assert!(at > now);
            return assert_eq!(Some(at), model.later());
        }
        (Next::Idle, None) => return assert!(model.0.iter().all(|entry| entry.outcome.is_some())),
        (found, expected) => panic!("{found:?} {expected:?}"),
    };
    let firing_never_arrived = model.0[at].state == AlertState::Resolved && !model.arrived(model.0[at].alert);
    let notification = &due.notification;
    assert_eq!(notification.recipients, model.recipients(at));
    let entry = &mut model.0[at];
    assert_eq!(notification.alert, alert(entry.alert, entry.state, entry.state == AlertState::Resolved));
    assert_eq!((notification.repeat, due.firing_never_arrived), (entry.repeat, firing_never_arrived));
    if !firing_never_arrived {
        outbox.begin(&due).unwrap();
    }
    match end {
        _ if firing_never_arrived => {
            outbox.finish(&due, DeliveryOutcome::Skipped, now, None).unwrap();
            entry.outcome = Some(DeliveryOutcome::Skipped);
        }
        End::Done(outcome) => {
            if outcome == DeliveryOutcome::Expired {
                // The last attempt has failed.
                let failed = Retry { tried_at: now, due_at: now, cause: "why", is_unclear: false, waiting: &[] };
                outbox.retry(&due, &failed).unwrap();
            }
            outbox.finish(&due, outcome, now, Some("why")).unwrap();
            entry.outcome = Some(outcome);
        }
        End::Again { after, is_unclear } => {
            let due_at = now + after;
            outbox.retry(&due, &Retry { tried_at: now, due_at, cause: "why", is_unclear, waiting: &[] }).unwrap();
            (entry.due_at, entry.is_unclear) = (due_at, entry.is_unclear || is_unclear);
        }
        End::Part { after } => {
            let (due_at, waiting) = (now + after, [Missed { recipient: "b".to_owned(), cause: "full".to_owned() }]);
            let retry = Retry { tried_at: now, due_at, cause: "why", is_unclear: true, waiting: &waiting };
            outbox.retry(&due, &retry).unwrap();
            (entry.due_at, entry.is_unclear, entry.is_part) = (due_at, true, true);
        }
        End::Killed => entry.is_unclear = true,
    }
}

/// Opens a new state file, and the outbox of a channel.
fn open(dir: &Path) -> (Connection, Outbox) {
    let path = dir.join("state.db");
    let db = Connection::open(&path).unwrap();
    create_tables(&db).unwrap();
    (db, Outbox::open(&path, "c").unwrap())
}

#[test]
fn notifications_of_an_alert_that_ended_a_week_ago_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut db, outbox) = open(dir.path());
    let tx = db.transaction().unwrap();
    for (n, state) in [(0, AlertState::Firing), (0, AlertState::Resolved), (1, AlertState::Firing)] {
        assert_eq!(enqueue(&tx, "c", &alert(n, state, false)).unwrap(), Enqueued::Queued);
    }
    tx.commit().unwrap();
    for _ in 0..3 {
        let Next::Due(due) = outbox.next(0).unwrap() else { panic!("it is due") };
        outbox.finish(&due, DeliveryOutcome::Sent, DAY, None).unwrap();
    }
    let rows = || db.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, i64>(0)).unwrap();
    outbox.prune(8 * DAY).unwrap();
    assert_eq!(rows(), 3, "seven days have not passed");
    outbox.prune(8 * DAY + 1).unwrap();
    assert_eq!(rows(), 1, "the other alert still fires");
}

#[test]
fn notifications_that_did_not_arrive_are_deleted_too_and_so_are_those_of_channels_that_are_gone_and_old_repeats() {
    let dir = tempfile::tempdir().unwrap();
    let (mut db, outbox) = open(dir.path());
    let gone = Outbox::open(&dir.path().join("state.db"), "gone").unwrap();
    let finish = |outbox: &Outbox, outcome, at| {
        let Next::Due(due) = outbox.next(0).unwrap() else { panic!("it is due") };
        outbox.finish(&due, outcome, at, None).unwrap();
    };
    let rows = |db: &Connection| db.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, i64>(0)).unwrap();
    // Each alert fires and is resolved once the first notification has its outcome.
    for (n, outbox, outcome) in [
        (0, &outbox, DeliveryOutcome::Refused),
        (1, &outbox, DeliveryOutcome::Expired),
        (2, &gone, DeliveryOutcome::Sent),
    ] {
        let tx = db.transaction().unwrap();
        enqueue(&tx, &outbox.channel, &alert(n, AlertState::Firing, false)).unwrap();
        tx.commit().unwrap();
        finish(outbox, outcome, DAY);
        let tx = db.transaction().unwrap();
        enqueue_resolve(&tx, &alert(n, AlertState::Resolved, false)).unwrap();
        tx.commit().unwrap();
    }
    finish(&gone, DeliveryOutcome::Sent, DAY);
    assert!(matches!(outbox.next(0).unwrap(), Next::Idle), "a resolve whose firing did not arrive is not sent");
    // Alert 3 fires on: repeat 2 arrived last, repeat 4 is the last one.
    let outcomes = ["sent", "sent", "sent", "expired", "refused"];
    for (repeat, outcome) in outcomes.into_iter().enumerate() {
        let tx = db.transaction().unwrap();
        let alert = alert(3, AlertState::Firing, false);
        let done = if repeat == 0 { enqueue(&tx, "c", &alert) } else { enqueue_repeat(&tx, "c", &alert) };
        assert_eq!(done.unwrap(), Enqueued::Queued);
        tx.execute("UPDATE outbox SET outcome = ?1, done_at = ?2 WHERE outcome IS NULL", params![outcome, DAY])
            .unwrap();
        tx.commit().unwrap();
    }
    assert_eq!(rows(&db), 6 + 5);
    outbox.prune(Clock::System.now() + 8 * DAY).unwrap();
    let fires = alert(3, AlertState::Firing, false).id().to_string();
    let query = "SELECT group_concat(repeat) FROM (SELECT repeat FROM outbox WHERE alert_id = ?1 ORDER BY repeat)";
    assert_eq!(db.query_row(query, [fires], |row| row.get::<_, String>(0)).unwrap(), "0,2,4");
    assert_eq!(rows(&db), 3);
    // What is left still says that the alert was paged.
    let tx = db.transaction().unwrap();
    assert_eq!(enqueue_repeat(&tx, "c", &alert(3, AlertState::Firing, false)).unwrap(), Enqueued::Queued);
    assert_eq!(enqueue(&tx, "c", &alert(3, AlertState::Resolved, false)).unwrap(), Enqueued::Queued);
}

#[test]
fn a_row_that_cannot_be_read_is_refused_and_blocks_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (mut db, outbox) = open(dir.path());
    let tx = db.transaction().unwrap();
    for n in 0..2 {
        enqueue(&tx, "c", &alert(n, AlertState::Firing, false)).unwrap();
    }
    tx.execute("UPDATE outbox SET alert = '{\"a_column_of_tomorrow\":1}' WHERE id = 1", []).unwrap();
    tx.commit().unwrap();
    let Next::Unreadable(error) = outbox.next(0).unwrap() else { panic!("a foreign row") };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let Next::Due(due) = outbox.next(0).unwrap() else { panic!("the other one") };
    assert_eq!(due.id, 2);
}
