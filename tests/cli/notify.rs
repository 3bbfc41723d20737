//! Notifications: receivers that accept, refuse, hang, drop the connection or ask for patience, and processes that are
//! killed.

use crate::harness::{Dir, Draws, LONG_WAIT, eventually, eventually_within};
use crate::receivers::{Posted, Receiver, Reply, pagerduty, slack};
use evt_core::kind::alert::{Alert, AlertReason, AlertRule, AlertState, rule_id};
use evt_notify::channels::Channels;
use evt_notify::outbox::{self, Enqueued};
use evt_notify::sender::{ChannelCounts, Sender};
use evt_run::console::{Colour, Console};
use rusqlite::Connection;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MINUTE: i64 = 60_000_000;
/// 2024-01-15T10:00:00Z.
const START: i64 = 1_705_312_800_000_000;

/// The firing of the nth alert of a rule.
pub fn firing(rule: &str, n: i64) -> Alert {
    let since = START + n * MINUTE;
    Alert {
        rule: Arc::new(AlertRule {
            rule_id: rule_id(rule),
            name: rule.to_owned(),
            severity: "critical".to_owned(),
            threshold: Some(0.01),
            labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        }),
        dimensions: r#"{"country":"DE"}"#.to_owned(),
        state: AlertState::Firing,
        reason: AlertReason::Condition,
        value: Some(0.25),
        window_start: since - MINUTE,
        window_end: since,
        since,
        at: since + MINUTE,
        summary: "errors of DE at 25 %".to_owned(),
        caught_up: false,
    }
}

/// The resolve of an alert.
pub fn resolved(firing: &Alert) -> Alert {
    Alert { state: AlertState::Resolved, value: None, at: firing.at + MINUTE, ..firing.clone() }
}

/// A state file with an outbox, and what the sender says.
pub struct State {
    pub dir: Dir,
    db: Connection,
    lines: Arc<Mutex<String>>,
}

impl State {
    pub fn new(name: &str) -> Self {
        let dir = Dir::new(name);
        let db = Connection::open(dir.path("state.db")).expect("a file");
        db.busy_timeout(Duration::from_secs(60)).expect("a timeout");
        db.execute_batch("PRAGMA journal_mode = WAL").expect("WAL");
        outbox::create_tables(&db).expect("tables");
        Self { dir, db, lines: Arc::default() }
    }

    pub fn enqueue(&mut self, channel: &str, alerts: &[Alert]) -> Vec<Enqueued> {
        let tx = self.db.transaction().expect("a transaction");
        let done = alerts.iter().map(|alert| outbox::enqueue(&tx, channel, alert).expect("written")).collect();
        tx.commit().expect("committed");
        done
    }

    fn repeat(&mut self, channel: &str, alert: &Alert) -> Enqueued {
        let tx = self.db.transaction().expect("a transaction");
        let done = outbox::enqueue_repeat(&tx, channel, alert).expect("written");
        tx.commit().expect("committed");
        done
    }

    fn sender(&self, channels: &str) -> Sender {
        self.dir.write("channels.toml", channels);
        let console = Console::new("test", Colour::Off).captured(&self.lines);
        let channels = Channels::read(&self.dir.path("channels.toml"), &console.secrets).expect("valid channels");
        Sender::start(channels, &self.dir.path("state.db"), &console).expect("it starts")
    }

    /// Delivers all that is due.
    pub fn deliver(&self, channels: &str) -> BTreeMap<String, ChannelCounts> {
        self.sender(channels).finish(Duration::from_secs(60)).expect("the outbox is readable")
    }

    pub fn said(&self) -> String {
        self.lines.lock().expect("no panic").clone()
    }

    /// Returns state and outcome of each notification in order.
    fn outcomes(&self) -> Vec<String> {
        let sql = "SELECT state || ' ' || coalesce(outcome, 'due') FROM outbox ORDER BY id";
        let mut statement = self.db.prepare(sql).expect("a table");
        statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("text")).collect()
    }
}

/// A channel with a long timeout: attempts fail because of the receiver, not because the machine is busy.
pub fn webhook(receiver: &Receiver, more: &str) -> String {
    let url = format!("{}/hook", receiver.base);
    format!("[[channel]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{url}\"\ntimeout = \"2m\"\n{more}\n")
}

fn keys(posted: &[Posted]) -> Vec<String> {
    posted.iter().map(|posted| posted.key().to_owned()).collect()
}

/// The keys of a firing and its resolve.
pub fn both(alert: &Alert) -> [String; 2] {
    ["firing", "resolved"].map(|state| format!("{}.{state}", alert.id()))
}

#[test]
fn events_of_pagerduty_have_its_published_shape() {
    let receiver = Receiver::new(|posted, _| pagerduty(posted));
    let mut state = State::new("pagerduty");
    let plain = firing("errors", 0);
    let long = Alert {
        summary: "😀<&>\n".repeat(2000),
        dimensions: json!({ "k": "x".repeat(600_000) }).to_string(),
        ..firing("a", 1)
    };
    let rule = AlertRule { severity: "whatever".to_owned(), threshold: None, ..(*plain.rule).clone() };
    let odd = Alert { rule: Arc::new(rule), value: Some(f64::NAN), summary: String::new(), ..firing("errors", 2) };
    state.enqueue("oncall", &[plain.clone(), resolved(&plain), long.clone(), resolved(&long), odd]);
    let key = "0123456789abcdef0123456789ABCDEF";
    let channels = format!(
        "[[channel]]\nname = \"oncall\"\ntype = \"pagerduty\"\nrouting_key = \"{key}\"\nurl = \"{}/v2/enqueue\"\n\
         timeout = \"2m\"\n",
        receiver.base
    );
    let counts = state.deliver(&channels);
    assert_eq!(counts["oncall"], ChannelCounts { sent: 5, ..ChannelCounts::default() }, "{}", state.said());
    let posted = receiver.posted();
    assert_eq!(keys(&posted)[..2], both(&plain));
    let event = &posted[0].body;
    let id = plain.id().to_string();
    assert_eq!(event["payload"]["summary"], "[FIRING] errors: errors of DE at 25 %");
    assert_eq!(event["payload"]["timestamp"], "2024-01-15T10:01:00.000000Z");
    assert_eq!(event["payload"]["custom_details"]["labels"], json!({"team": "shop"}));
    assert_eq!((&event["routing_key"], &event["dedup_key"]), (&json!(key), &json!(id)));
    assert_eq!(posted[1].body, json!({"routing_key": key, "event_action": "resolve", "dedup_key": id}));
    assert_eq!(posted[4].body["payload"]["severity"], "error");
    assert_eq!(posted[4].body["payload"]["summary"], r#"[FIRING] errors {"country":"DE"}"#);
}

#[test]
fn messages_to_slack_have_its_published_shape() {
    let receiver = Receiver::new(|posted, _| slack(posted));
    let mut state = State::new("slack");
    let plain = firing("errors", 0);
    let long = Alert {
        summary: "&<>😀".repeat(2000),
        dimensions: json!({ "k": "&".repeat(9000) }).to_string(),
        ..firing("a", 1)
    };
    state.enqueue("team", &[plain.clone(), resolved(&plain), long.clone(), resolved(&long)]);
    let url = format!("{}/services/T000/B000/secretsecret", receiver.base);
    let channel = format!("[[channel]]\nname = \"team\"\ntype = \"slack\"\nurl = \"{url}\"\ntimeout = \"2m\"\n");
    let counts = state.deliver(&channel);
    assert_eq!(counts["team"], ChannelCounts { sent: 4, ..ChannelCounts::default() }, "{}", state.said());
    let message = &receiver.posted()[0].body;
    assert_eq!(message["text"], "[FIRING] errors: errors of DE at 25 %");
    let fields = message["blocks"][1]["fields"].to_string();
    assert!(fields.contains("value: 0.25") && fields.contains("threshold: 0.01"), "{fields}");
    assert!(message["blocks"][2]["elements"].to_string().contains(&plain.id().to_string()));
}

#[test]
fn a_webhook_receives_the_row_with_its_key_and_headers() {
    let receiver = Receiver::new(|_, _| Reply::Status(204));
    let mut state = State::new("webhook");
    let alert = firing("errors", 0);
    state.enqueue("hook", &[alert.clone(), resolved(&alert)]);
    state.deliver(&webhook(&receiver, "headers = { authorization = \"Bearer abc\", x-team = \"shop\" }"));
    let posted = receiver.posted();
    assert_eq!(keys(&posted), both(&alert));
    assert_eq!((posted[0].path.as_str(), &posted[0].headers["authorization"]), ("/hook", &"Bearer abc".to_owned()));
    assert_eq!(posted[0].headers["content-type"], "application/json");
    let expected = json!({
        "alert_id": alert.id().to_string(), "rule_id": rule_id("errors").to_string(), "rule": "errors",
        "dimensions": {"country": "DE"}, "severity": "critical", "state": "firing", "reason": "condition", "value": 0.25,
        "threshold": 0.01, "window_start": "2024-01-15T09:59:00.000000Z", "window_end": "2024-01-15T10:00:00.000000Z",
        "since": "2024-01-15T10:00:00.000000Z", "at": "2024-01-15T10:01:00.000000Z", "labels": {"team": "shop"},
        "summary": "errors of DE at 25 %", "caught_up": false,
    });
    assert_eq!(posted[0].body, expected);
    assert_eq!((&posted[1].body["state"], posted[1].body.get("value")), (&json!("resolved"), None));
    assert_eq!(state.outcomes(), ["firing sent", "resolved sent"]);
}

#[test]
fn an_attempt_that_fails_is_repeated_under_its_key() {
    for failure in [Reply::Status(500), Reply::Status(503), Reply::Drop, Reply::Status(408)] {
        let shown = format!("{failure:?}");
        let receiver = Receiver::new(move |_, before| if before < 2 { failure.clone() } else { Reply::Status(200) });
        let mut state = State::new("fails");
        let alert = firing("errors", 0);
        state.enqueue("hook", std::slice::from_ref(&alert));
        let counts = state.deliver(&webhook(&receiver, ""));
        assert_eq!(counts["hook"], ChannelCounts { sent: 1, failures: 2, ..ChannelCounts::default() }, "{shown}");
        assert_eq!(keys(&receiver.posted()), vec![both(&alert)[0].clone(); 3], "{shown}");
        let said = state.said();
        assert!(
            said.contains("retrying for up to 1h (retry of the channel)") && said.contains("available again after"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}

#[test]
fn a_pause_ends_when_the_wall_time_is_set_back() {
    let receiver = Receiver::new(|_, _| Reply::Status(200));
    let mut state = State::new("set-back");
    state.enqueue("hook", &[firing("errors", 0), firing("errors", 1)]);
    // A year after the present time: the pause of an attempt before the clock was set back.
    let update = "UPDATE outbox SET attempts = 1, due_at = (unixepoch() + 31536000) * 1000000 WHERE id = 1";
    assert_eq!(state.db.execute(update, []).expect("a table"), 1);
    assert_eq!(state.deliver(&webhook(&receiver, ""))["hook"].sent, 2, "{}", state.said());
}

#[test]
fn a_receiver_that_asks_for_patience_gets_it() {
    for status in [429, 503] {
        let receiver = Receiver::new(move |_, before| match before {
            0 => Reply::With(status, "retry-after", "2".to_owned()),
            _ => Reply::Status(200),
        });
        let mut state = State::new("patience");
        state.enqueue("hook", &[firing("errors", 0), firing("errors", 1)]);
        assert_eq!(state.deliver(&webhook(&receiver, ""))["hook"].sent, 2);
        let posted = receiver.posted();
        assert_eq!(posted.len(), 3);
        let waited = posted[1].at - posted[0].at;
        assert!(waited >= Duration::from_millis(1990), "{status}: {waited:?}");
    }
}

#[test]
fn a_receiver_that_hangs_delays_no_other_channel() {
    let (hangs, works) = (Receiver::new(|_, _| Reply::Hang), Receiver::new(|_, _| Reply::Status(200)));
    let mut state = State::new("hangs");
    let channel = |name: &str, receiver: &Receiver, timeout: &str| {
        let url = &receiver.base;
        format!(
            "[[channel]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\ntimeout = \"{timeout}\"\n\
             rate = \"1000/s\"\n"
        )
    };
    let sender = state.sender(&(channel("a", &hangs, "3s") + &channel("b", &works, "2m")));
    for n in 0..20 {
        state.enqueue("a", &[firing("errors", n)]);
        state.enqueue("b", &[firing("errors", n)]);
        sender.wake();
    }
    eventually("the other channel is done", || sender.counts()["b"].sent == 20);
    assert_eq!(works.count(), 20);
    eventually("it has been tried", || sender.counts()["a"].failures > 0);
    let before = Instant::now();
    let counts = sender.finish(Duration::from_millis(300)).expect("readable");
    assert!(before.elapsed() < Duration::from_secs(30), "the limit is 300 ms: {:?}", before.elapsed());
    assert_eq!((counts["a"].sent, counts["a"].due, counts["b"].sent, counts["b"].due), (0, 20, 20, 0));
    assert!(state.said().contains("channel 'a': no answer for 3s: retrying"), "{}", state.said());
}

#[test]
fn a_refusal_is_reported_and_blocks_nothing_and_its_resolve_is_not_sent() {
    let receiver = Receiver::new(|posted, _| match posted.body["rule"].as_str() {
        Some("bad") => Reply::Says(400, json!("no such thing: token-that-is-secret")),
        _ => Reply::Status(200),
    });
    let mut state = State::new("refusal");
    let (bad, good) = (firing("bad", 0), firing("good", 0));
    state.enqueue("hook", &[bad.clone(), resolved(&bad), good.clone(), resolved(&good)]);
    let counts = state.deliver(&webhook(&receiver, "headers = { x-token = \"token-that-is-secret\" }"));
    assert_eq!(counts["hook"], ChannelCounts { sent: 2, refused: 1, skipped: 1, ..ChannelCounts::default() });
    assert_eq!(counts["hook"].lost(), 1);
    assert_eq!(keys(&receiver.posted()), [&both(&bad)[..1], &both(&good)].concat());
    assert_eq!(state.outcomes(), ["firing refused", "resolved skipped", "firing sent", "resolved sent"]);
    let said = state.said();
    let line = format!(
        "test: channel 'hook': firing of rule 'bad' {{\"country\":\"DE\"}} since 2024-01-15T10:00:00.000000Z (alert {}): \
         refused: status 400: \"no such thing: {{headers}}\"\n",
        bad.id()
    );
    assert_eq!(said, line);
    let cause: String =
        state.db.query_row("SELECT cause FROM outbox WHERE cause IS NOT NULL", [], |row| row.get(0)).expect("one");
    assert!(!cause.contains("token-that"), "{cause}");
    assert_eq!(state.enqueue("hook", &[resolved(&bad)]), [Enqueued::NoPage]);
}

/// A receiver may answer with 409 to what it has already.
#[test]
fn the_resolve_of_a_firing_that_arrived_before_a_kill_is_sent_although_the_repeated_firing_is_refused() {
    let receiver = Receiver::new(|posted, _| match posted.body["state"].as_str() {
        Some("firing") => Reply::Status(409),
        _ => Reply::Status(200),
    });
    let mut state = State::new("killed-attempt");
    let alert = firing("errors", 0);
    state.enqueue("hook", std::slice::from_ref(&alert));
    // What a killed process leaves of an attempt.
    let outbox = outbox::Outbox::open(&state.dir.path("state.db"), "hook").expect("it is there");
    let outbox::Next::Due(due) = outbox.next(1).expect("readable") else { panic!("it is due") };
    outbox.begin(&due).expect("writable");
    assert_eq!(state.deliver(&webhook(&receiver, ""))["hook"].refused, 1);
    assert_eq!(state.enqueue("hook", &[resolved(&alert)]), [Enqueued::Queued]);
    assert_eq!(state.deliver(&webhook(&receiver, ""))["hook"].sent, 1);
    assert_eq!(state.outcomes(), ["firing refused", "resolved sent"]);
}

/// Another run would send the notification again.
#[test]
fn a_run_that_fails_stores_the_outcome_of_the_attempt_under_way() {
    // It answers after a while.
    let receiver = Receiver::new(|_, _| {
        std::thread::park_timeout(Duration::from_secs(1));
        Reply::Status(200)
    });
    let mut state = State::new("failing-run");
    state.enqueue("hook", &[firing("errors", 0), firing("errors", 1)]);
    let sender = state.sender(&webhook(&receiver, ""));
    eventually("the attempt is under way", || receiver.count() == 1);
    drop(sender);
    assert_eq!((receiver.count(), state.outcomes()), (1, vec!["firing sent".to_owned(), "firing due".to_owned()]));
}

/// The third notification has its first attempt when the time is over that began with the run.
#[test]
fn a_later_run_retries_each_notification_for_the_whole_time_of_its_channel() {
    let receiver = Receiver::new(|_, before| if before == 2 { Reply::Status(500) } else { Reply::Status(200) });
    let mut state = State::new("later-run");
    state.enqueue("hook", &[firing("errors", 0), firing("errors", 1), firing("errors", 2)]);
    // An earlier run has tried all, long ago.
    let tried = "UPDATE outbox SET attempts = 1, tried_at = 1";
    assert_eq!(state.db.execute(tried, []).expect("a table"), 3);
    let counts = state.deliver(&webhook(&receiver, "retry = \"1s\"\nrate = \"1/s\""));
    assert_eq!((counts["hook"].sent, counts["hook"].expired), (3, 0), "{}", state.said());
}

/// The next run respects what the receiver has demanded, too.
#[test]
fn a_pause_that_the_receiver_demands_is_that_of_all_its_notifications_in_a_later_run() {
    let receiver = Receiver::new(|_, _| Reply::With(429, "retry-after", "600".to_owned()));
    let mut state = State::new("later-pause");
    state.enqueue("hook", &[firing("errors", 0), firing("errors", 1)]);
    for _ in 0..2 {
        let sender = state.sender(&webhook(&receiver, ""));
        eventually("the pause is stored", || {
            let later = "SELECT count(*) FROM outbox WHERE due_at > (unixepoch() + 500) * 1000000";
            state.db.query_row(later, [], |row| row.get::<_, i64>(0)).expect("a table") == 2
        });
        assert_eq!(sender.finish(Duration::from_millis(200)).expect("readable")["hook"].due, 2);
    }
    assert_eq!(receiver.count(), 1);
}

#[test]
fn a_resolve_never_overtakes_its_firing_and_other_alerts_do() {
    let slow = firing("slow", 0);
    let id = slow.id().to_string();
    let sent = AtomicUsize::new(0);
    let receiver = Receiver::new(move |posted, before| {
        let is_slow = posted.body["alert_id"] == json!(id);
        if is_slow && (before < 6 || sent.load(Ordering::SeqCst) < 4) {
            return Reply::Status(500);
        }
        sent.fetch_add(usize::from(!is_slow), Ordering::SeqCst);
        Reply::Status(200)
    });
    let mut state = State::new("order");
    let others: Vec<Alert> = (0..4).map(|n| firing("other", n)).collect();
    state.enqueue("hook", &[slow.clone(), resolved(&slow)]);
    state.enqueue("hook", &others);
    assert_eq!(state.deliver(&webhook(&receiver, "rate = \"1000/s\""))["hook"].sent, 6);
    let posted = keys(&receiver.posted());
    let at = |key: &str| posted.iter().rposition(|one| one == key).expect("it was sent");
    let [first, last] = [0, 1].map(|index| at(&both(&slow)[index]));
    assert!(first < last && posted.iter().filter(|key| **key == both(&slow)[1]).count() == 1, "{posted:?}");
    assert!(others.iter().all(|other| at(&both(other)[0]) < first), "{posted:?}");
}

#[test]
fn what_never_arrives_is_given_up_after_the_time_of_its_channel() {
    // The port of a client: nothing listens there, and no other program gets it while the connection is open.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
    let gone = client.local_addr().expect("an address");
    let hangs = Receiver::new(|_, _| Reply::Hang);
    for (url, timeout, cause, resolve) in [
        (format!("http://{gone}"), "1m", "refused", "resolved skipped"),
        // The receiver may have the firing: the resolve follows, and is given up as well.
        (hangs.base.clone(), "2s", "no answer for 2s", "resolved expired"),
    ] {
        let mut state = State::new("expired");
        let alert = firing("errors", 0);
        state.enqueue("hook", &[alert.clone(), resolved(&alert)]);
        let more = format!("timeout = \"{timeout}\"\nretry = \"3s\"\n");
        let counts =
            state.deliver(&format!("[[channel]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{url}\"\n{more}"));
        assert_eq!(state.outcomes(), ["firing expired", resolve], "{}", state.said());
        assert_eq!((counts["hook"].sent, counts["hook"].due), (0, 0));
        let said = state.said();
        assert!(said.contains("given up after 3s (retry of the channel)") && said.contains(cause), "{said}");
    }
}

#[test]
fn a_channel_sends_no_faster_than_its_rate() {
    let receiver = Receiver::new(|_, _| Reply::Status(200));
    let mut state = State::new("rate");
    state.enqueue("hook", &(0..8).map(|n| firing("errors", n)).collect::<Vec<_>>());
    // The rate counts from the first admission. The receiver notes a request some time after its admission.
    let start = Instant::now();
    state.deliver(&webhook(&receiver, "rate = \"4/s\""));
    let took = receiver.posted()[7].at - start;
    // Four at once, then one each quarter of a second.
    assert!(took >= Duration::from_millis(950), "{took:?}");
}

#[test]
fn what_is_no_page_is_not_enqueued() {
    let receiver = Receiver::new(|_, _| Reply::Status(200));
    let mut state = State::new("pages");
    let (alert, old) = (firing("errors", 0), Alert { caught_up: true, ..firing("errors", 1) });
    assert_eq!(state.enqueue("hook", &[old.clone(), resolved(&old)]), [Enqueued::NoPage, Enqueued::NoPage]);
    assert_eq!(state.repeat("hook", &old), Enqueued::NoPage);
    assert_eq!(state.enqueue("hook", &[alert.clone(), alert.clone()]), [Enqueued::Queued, Enqueued::Known]);
    assert_eq!(state.repeat("hook", &alert), Enqueued::NoPage, "the first one is still due");
    assert_eq!(state.enqueue("other", &[resolved(&alert)]), [Enqueued::NoPage], "the firing was not sent there");
    state.deliver(&webhook(&receiver, ""));
    assert_eq!(state.repeat("hook", &alert), Enqueued::Queued);
    // The alert clock has caught up, and it still fires.
    assert_eq!(state.enqueue("hook", &[Alert { caught_up: false, ..old.clone() }]), [Enqueued::Queued]);
    // The clock may be behind again when it ends.
    let ends = [Alert { caught_up: true, ..resolved(&old) }, resolved(&alert)];
    assert_eq!(state.enqueue("hook", &ends), [Enqueued::Queued, Enqueued::Queued]);
    state.deliver(&webhook(&receiver, ""));
    let (first, second) = (both(&alert), both(&old));
    let again = format!("{}.1", first[0]);
    assert_eq!(keys(&receiver.posted()), [&first[0], &again, &second[0], &second[1], &first[1]].map(String::clone));
}

#[test]
fn notifications_of_a_channel_that_is_gone_are_named_and_kept() {
    let receiver = Receiver::new(|_, _| Reply::Status(200));
    let mut state = State::new("gone");
    state.enqueue("old", &[firing("errors", 0), firing("errors", 1)]);
    let counts = state.deliver(&webhook(&receiver, ""));
    assert_eq!((counts["hook"].sent, counts["old"].due), (0, 2));
    assert_eq!(state.said(), "test: channel 'old' no longer exists; 2 notifications are due on it\n");
}

#[test]
fn a_command_receives_the_row_and_its_status_decides() {
    let mut state = State::new("exec");
    let alerts = ["good", "bad", "late", "hangs"].map(|rule| firing(rule, 0));
    state.enqueue("log", &alerts);
    let out = state.dir.path("out.jsonl");
    state.dir.write(
        "page.sh",
        format!(
            "row=$(cat); case $row in *bad*) echo no such person >&2; exit 65;; *hangs*) sleep 1000;;\n\
             *late*) [ -e {0}.seen ] || {{ touch {0}.seen; exit 75; }};; esac\n\
             echo \"$EVT_ALERT_KEY $PAGER $row\" >> {0}",
            out.display()
        ),
    );
    let script = state.dir.path("page.sh");
    let more = format!(
        "env = {{ PAGER = \"p1\" }}\ntimeout = \"10s\"\nretry = \"15s\"\ncommand = [\"sh\", \"{}\"]",
        script.display()
    );
    let counts = state.deliver(&format!("[[channel]]\nname = \"log\"\ntype = \"exec\"\n{more}\n"));
    assert_eq!(
        state.outcomes(),
        ["firing sent", "firing refused", "firing sent", "firing expired"],
        "{}",
        state.said()
    );
    assert_eq!((counts["log"].sent, counts["log"].refused, counts["log"].expired), (2, 1, 1));
    let text = String::from_utf8(state.dir.bytes("out.jsonl")).expect("text");
    // An attempt that got no processor for 10 s is repeated after others, so the line may be any one.
    let start = format!("{}.firing p1 {{\"alert_id\":", alerts[0].id());
    assert!(text.lines().any(|line| line.starts_with(&start)), "{text}");
    let said = state.said();
    assert!(said.contains("no such person") && said.contains("killed after 10s"), "{said}");
}

/// Transitions in the kill test: alerts, each with a firing and a resolve.
const ALERTS: i64 = 120;
const KILLED: &str = "EVT_TEST_KILLED_STATE";

/// The process that is killed: it writes transitions, one transaction each, where an earlier process stopped, and
/// delivers them.
#[test]
fn a_process_that_is_killed_loses_no_page_and_repeats_none_under_another_key() {
    if let Ok(dir) = std::env::var(KILLED) {
        return engine(std::path::Path::new(&dir));
    }
    let receiver = Receiver::new(|_, before| match before % 17 {
        3 => Reply::Drop,
        9 => Reply::Status(500),
        _ => Reply::Status(200),
    });
    let state = State::new("killed");
    state.db.execute_batch("CREATE TABLE progress (next INTEGER); INSERT INTO progress VALUES (0)").expect("a table");
    state.dir.write("channels.toml", webhook(&receiver, "rate = \"100000/s\""));
    let name = "notify::a_process_that_is_killed_loses_no_page_and_repeats_none_under_another_key";
    let start = || {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", name, "--nocapture"]).env(KILLED, state.dir.path(""));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let mut draws = Draws::new();
    let (kills, step) = (30, 2 * ALERTS as u64 / 30);
    for _ in 0..kills {
        let (mut engine, before) = (start(), receiver.count() as u64);
        let until = before + draws.below(2 * step);
        eventually_within(LONG_WAIT, "it delivers, or has delivered all", || {
            receiver.count() as u64 >= until || engine.try_wait().expect("a child").is_some()
        });
        // A little later, so that the kill comes at any point of an attempt.
        std::thread::park_timeout(Duration::from_micros(draws.below(5000)));
        engine.kill().expect("a child");
        engine.wait().expect("it ends");
    }
    assert!(start().wait().expect("it ends").success(), "{draws}");
    let posted = keys(&receiver.posted());
    let expected: BTreeSet<String> = (0..ALERTS).flat_map(|n| both(&firing("errors", n))).collect();
    assert_eq!(posted.iter().cloned().collect::<BTreeSet<_>>(), expected, "{draws}");
    for n in 0..ALERTS {
        let at = both(&firing("errors", n)).map(|key| posted.iter().position(|one| *one == key));
        assert!(at[0] < at[1], "{draws}: alert {n}");
    }
    // A repetition is an attempt that failed, or one that a kill has hidden.
    let failed = posted.len() * 2 / 17 + 2;
    assert!(posted.len() <= expected.len() + failed + kills, "{draws}: {} requests", posted.len());
    assert_eq!(state.outcomes().iter().filter(|outcome| outcome.ends_with(" sent")).count(), expected.len(), "{draws}");
    let check: String = state.db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a row");
    assert_eq!(check, "ok");
}

fn engine(dir: &std::path::Path) {
    let path = dir.join("state.db");
    let mut db = Connection::open(&path).expect("a file");
    db.busy_timeout(Duration::from_secs(60)).expect("a timeout");
    let channels = Channels::read(&dir.join("channels.toml"), &Default::default()).expect("valid");
    let sender = Sender::start(channels, &path, &Console::new("test", Colour::Off)).expect("it starts");
    loop {
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).expect("a transaction");
        let next: i64 = tx.query_row("SELECT next FROM progress", [], |row| row.get(0)).expect("a row");
        if next == 2 * ALERTS {
            break;
        }
        let alert = firing("errors", next / 2);
        let alert = if next % 2 == 0 { alert } else { resolved(&alert) };
        assert_eq!(outbox::enqueue(&tx, "hook", &alert).expect("written"), Enqueued::Queued);
        tx.execute("UPDATE progress SET next = next + 1", []).expect("written");
        tx.commit().expect("committed");
        sender.wake();
    }
    let counts = sender.finish(Duration::from_secs(60)).expect("readable");
    assert_eq!(counts["hook"].due, 0);
}

/// A sender that cannot write the outbox must not send the same notification again and again.
#[test]
fn an_outcome_that_cannot_be_stored_is_stored_before_the_next_attempt() {
    let receiver = Receiver::new(|_, _| Reply::Status(200));
    let mut state = State::new("locked");
    state.enqueue("hook", &[firing("errors", 0)]);
    state
        .db
        .execute_batch("CREATE TRIGGER full BEFORE UPDATE ON outbox BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        .expect("a trigger");
    let sender = state.sender(&webhook(&receiver, ""));
    eventually("it is reported", || state.said().contains("cannot write the outbox: disk full: retrying"));
    state.enqueue("hook", &[firing("errors", 1)]);
    sender.wake();
    state.db.execute_batch("DROP TRIGGER full").expect("a trigger");
    let counts = sender.finish(Duration::from_secs(60)).expect("readable");
    assert_eq!((counts["hook"].sent, receiver.count()), (2, 2));
    assert_eq!(state.said().lines().count(), 1, "{}", state.said());
}
