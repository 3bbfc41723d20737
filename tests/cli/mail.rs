//! Notifications by mail, to a real server.

use crate::alert::{at, lines, rule, rules, series};
use crate::harness::{Dir, ended, eventually, python};
use crate::notify::{State, both, firing, resolved};
use crate::python_server::PythonServer;
use evt_core::kind::alert::Alert;
use evt_notify::sender::ChannelCounts;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

#[test]
fn mail_is_accepted_by_a_real_server() {
    let Some(python) = python() else { return };
    let mut state = State::new("smtp");
    let server = PythonServer::new(&state.dir, &python, "mail.py", &["mail.jsonl"]);
    let port = &server.port;
    let alert = Alert { summary: "Fehler in Köln\nüber 25 %".to_owned(), ..firing("errors", 0) };
    state.enqueue("mail", &[alert.clone(), resolved(&alert)]);
    let mail = |to: &str| {
        format!(
            "[[channel]]\nname = \"mail\"\ntype = \"smtp\"\nserver = \"localhost:{port}\"\ntls = \"none\"\n\
             from = \"evt <alerts@example.org>\"\nto = {to}\nrate = \"1000/s\"\ntimeout = \"2m\"\n"
        )
    };
    let counts = state.deliver(&mail(r#"["On Call <oncall@example.org>", "busy@example.org", "refuse@example.org"]"#));
    let failures = counts["mail"].failures;
    assert_eq!(counts["mail"], ChannelCounts { sent: 2, failures, ..ChannelCounts::default() }, "{}", state.said());
    assert!(matches!(failures, 1 | 2), "one, and the resolve waits if it comes before the retry: {}", state.said());
    let mails = state.dir.rows("mail.jsonl");
    let ids: Vec<String> = both(&alert).iter().map(|key| format!("<{key}@example.org>")).collect();
    for to in ["oncall@example.org", "busy@example.org"] {
        let got = mails.iter().filter(|mail| mail["to"].as_array().is_some_and(|all| all.contains(&json!(to))));
        assert_eq!(got.map(|mail| &mail["headers"]["message-id"]).collect::<Vec<_>>(), [&ids[0], &ids[1]], "{to}");
    }
    for mail in &mails {
        assert_eq!((&mail["defects"], &mail["headers"]["auto-submitted"]), (&json!([]), &json!("auto-generated")));
        let is_resolve = mail["headers"]["message-id"] == json!(ids[1]);
        assert_eq!(mail["headers"]["references"] == json!(ids[0]), is_resolve);
    }
    assert_eq!(mails[0]["headers"]["subject"], "[FIRING] errors: Fehler in Köln über 25 %");
    let waits = "sent, but not yet to all recipients: busy@example.org: transient error";
    assert!(state.said().contains(waits), "{}", state.said());
    assert!(mails[0]["text"].as_str().is_some_and(|text| text.contains("value: 0.25") && text.contains("team: shop")));
    assert!(
        state.said().contains("sent, but not to all recipients: refuse@example.org: permanent error"),
        "{}",
        state.said()
    );

    // All recipients are refused; then the connection ends after the text: the same message comes again.
    let (bad, cut) = (firing("bad", 1), firing("cut", 2));
    state.enqueue("mail", std::slice::from_ref(&bad));
    assert_eq!(state.deliver(&mail(r#""refuse@example.org""#))["mail"].refused, 1);
    state.enqueue("mail", std::slice::from_ref(&cut));
    let counts = state.deliver(&mail(r#""slow@example.org""#));
    assert_eq!((counts["mail"].sent, counts["mail"].failures), (1, 1), "{}", state.said());
    let mails = state.dir.rows("mail.jsonl").split_off(mails.len());
    let id = json!(format!("<{}@example.org>", both(&cut)[0]));
    assert_eq!(mails.iter().map(|mail| &mail["headers"]["message-id"]).collect::<Vec<_>>(), [&id, &id]);
}

/// Makes `cert.pem` and `key.pem`: the certificate of a server at localhost, not of an authority, whatever openssl's
/// configuration on this machine says.
pub fn certify(dir: &Dir) {
    let config = "[req]\ndistinguished_name = dn\nx509_extensions = of_server\n[dn]\n[of_server]\n\
                  subjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n";
    dir.write("openssl.cnf", config);
    let line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                -config openssl.cnf -keyout key.pem -out cert.pem";
    dir.shell(line).succeeds();
}

#[test]
fn mail_is_sent_over_tls_with_a_login() {
    let Some(python) = python() else { return };
    let mut state = State::new("smtps");
    certify(&state.dir);
    let server = PythonServer::new(&state.dir, &python, "mail.py", &["mail.jsonl", "cert.pem", "key.pem"]);
    let port = &server.port;
    let ca = state.dir.path("cert.pem").display().to_string();
    let mail = |ca: &str, password: &str| {
        format!(
            "[[channel]]\nname = \"mail\"\ntype = \"smtp\"\nserver = \"localhost:{port}\"\nuser = \"alerts\"\n\
             password = \"{password}\"\nfrom = \"alerts@example.org\"\nto = \"oncall@example.org\"\n\
             timeout = \"2m\"\nretry = \"100ms\"\n{ca}"
        )
    };
    let trusted = format!("ca = \"{ca}\"\n");
    state.enqueue("mail", &[firing("errors", 0)]);
    assert_eq!(
        state.deliver(&mail("", "s3cret-of-mail"))["mail"].expired,
        1,
        "an unknown certificate: {}",
        state.said()
    );
    state.enqueue("mail", &[firing("errors", 1)]);
    assert_eq!(state.deliver(&mail(&trusted, "wrong-password"))["mail"].refused, 1, "{}", state.said());
    state.enqueue("mail", &[firing("errors", 2)]);
    assert_eq!(state.deliver(&mail(&trusted, "s3cret-of-mail"))["mail"].sent, 1, "{}", state.said());
    assert_eq!(state.dir.rows("mail.jsonl")[0]["is_encrypted"], json!(true));
    assert!(!state.said().contains("s3cret") && !state.said().contains("wrong-password"), "{}", state.said());
}

/// Writes a rule whose alert fires from 10 s to 90 s, and a channel for two recipients, one of them full@.
fn with_a_full_mailbox(dir: &Dir, server: &PythonServer, more: &str) {
    let burst = json!({
        "where": "event_type = 'error'", "threshold": 10, "window_seconds": 10, "keep_firing_for": 0,
        "notification_channel": "mail",
    });
    dir.write("rules.json", rules(&[rule(&burst)]));
    dir.write("full", "");
    let port = &server.port;
    let channel = format!(
        "[[channel]]\nname = \"mail\"\ntype = \"smtp\"\nserver = \"localhost:{port}\"\ntls = \"none\"\n\
         from = \"alerts@example.org\"\nto = [\"oncall@example.org\", \"full@example.org\"]\n\
         rate = \"1000/s\"\ntimeout = \"2m\"\n{more}"
    );
    dir.write("channels.toml", channel);
}

/// Writes the events up to `end`; returns the arguments of a run at that time.
fn until(dir: &Dir, end: f64) -> Vec<String> {
    let errors = series(0.0, end.min(80.0), 0.5, &json!({"event_type": "error"}));
    dir.write("in.jsonl", lines(&[errors, series(0.0, end, 1.0, &json!({}))]));
    let (now, mut args) = (at(end), vec!["--once", "--rules", "rules.json", "--state", "alerts.db"]);
    args.extend(["--notify", "channels.toml", "--now", &now, "in.jsonl"]);
    args.into_iter().map(str::to_owned).collect()
}

/// Counts rows of the state file; 0 if it has none yet.
fn stored(dir: &Dir, query: &str) -> u32 {
    let db = Connection::open_with_flags(dir.path("alerts.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
    db.and_then(|db| db.query_row(query, [], |row| row.get(0))).unwrap_or_default()
}

/// The recipients and the state of each mail.
fn received(dir: &Dir) -> Vec<(Value, String)> {
    let mails = if dir.path("mail.jsonl").exists() { dir.rows("mail.jsonl") } else { vec![] };
    let state = |mail: &Value| {
        let subject = mail["headers"]["subject"].as_str().unwrap_or_default().to_owned();
        (mail["to"].clone(), subject.split(']').next().unwrap_or_default().replace('[', ""))
    };
    mails.iter().map(state).collect()
}

/// The runs are killed once the first mail of each notification is stored: the accepted recipient gets no mail twice.
#[test]
fn a_recipient_with_a_full_mailbox_keeps_no_mail_from_the_others_and_gets_it_later_over_kills() {
    let Some(python) = python() else { return };
    let dir = Dir::new("mail-full");
    let server = PythonServer::new(&dir, &python, "mail.py", &["mail.jsonl"]);
    with_a_full_mailbox(&dir, &server, "");
    let waiting = "SELECT count(*) FROM outbox_recipients";
    let (oncall, full) = (json!(["oncall@example.org"]), json!(["full@example.org"]));
    let mut expected = vec![];
    for (number, end, state) in [(1, 50.0, "FIRING"), (2, 120.0, "RESOLVED")] {
        let mut run = dir.command("evt-alert", &until(&dir, end)).spawn().expect("it starts");
        eventually("the mail is sent to the other recipient", || stored(&dir, waiting) == number);
        run.kill().expect("a child");
        ended("the run", &mut run);
        expected.push((oncall.clone(), state.to_owned()));
        assert_eq!(received(&dir), expected);
    }
    std::fs::remove_file(dir.path("full")).expect("it is there");
    let args = until(&dir, 120.0);
    eventually("all mails are sent", || {
        dir.run("evt-alert", &args);
        stored(&dir, "SELECT count(*) FROM outbox WHERE outcome = 'sent'") == 2
    });
    expected.extend([(full.clone(), "FIRING".to_owned()), (full, "RESOLVED".to_owned())]);
    assert_eq!(received(&dir), expected, "each recipient gets the firing before the resolve, and each once");
}

#[test]
fn a_recipient_whose_mailbox_stays_full_is_named_when_the_retries_end() {
    let Some(python) = python() else { return };
    let dir = Dir::new("mail-stays-full");
    let server = PythonServer::new(&dir, &python, "mail.py", &["mail.jsonl"]);
    with_a_full_mailbox(&dir, &server, "retry = \"8s\"\n");
    let (args, mut said) = (until(&dir, 50.0), String::new());
    eventually("the retries end", || {
        said += &dir.run("evt-alert", &args).stderr();
        stored(&dir, "SELECT count(*) FROM outbox WHERE outcome = 'sent'") == 1
    });
    let failure = "full@example.org: transient error (452): 4.2.2 mailbox full";
    let begun =
        format!("channel 'mail': sent, but not yet to all recipients: {failure}: retrying these alone for up to 8s");
    let over = format!(
        "channel 'mail': sent, but not to all recipients: given up after 8s (retry of the channel): {failure}\n"
    );
    assert!(said.contains(&begun) && said.contains(&over), "{said}");
    assert_eq!(received(&dir), [(json!(["oncall@example.org"]), "FIRING".to_owned())]);
}

/// A mail server that is slow: `delay` returns how long it waits before it answers a command, the text of a message or
/// the empty line of a new connection.
struct SlowServer {
    port: u16,
    is_over: Arc<AtomicBool>,
    texts: Arc<Mutex<Vec<String>>>,
    listener: JoinHandle<()>,
}

impl SlowServer {
    fn new(delay: impl Fn(&str) -> Duration + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (is_over, texts, delay) =
            (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default(), Arc::new(delay));
        let (over, log) = (is_over.clone(), texts.clone());
        let listener = std::thread::spawn(move || {
            let streams = listener.incoming().flatten().take_while(|_| !over.load(Ordering::SeqCst));
            let converse = |stream| {
                let (delay, log) = (delay.clone(), log.clone());
                // A client may leave at any time.
                std::thread::spawn(move || _ = converse_slowly(stream, &*delay, &log))
            };
            let conversations: Vec<_> = streams.map(converse).collect();
            conversations.into_iter().for_each(|conversation| conversation.join().expect("no panic"));
        });
        Self { port, is_over, texts, listener }
    }

    /// Waits until every client has left; returns the subjects that arrived.
    fn subjects(self) -> Vec<String> {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.listener.join().expect("no panic");
        let texts = self.texts.lock().expect("no panic");
        let subject =
            |text: &String| text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("").to_owned();
        texts.iter().map(subject).collect()
    }
}

fn converse_slowly(
    stream: TcpStream,
    delay: &dyn Fn(&str) -> Duration,
    texts: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let (mut lines, mut out) = (BufReader::new(stream.try_clone()?).lines(), stream);
    let (_open, never) = channel::<()>();
    let mut answer = |text: &str, answer: &str| {
        _ = never.recv_timeout(delay(text));
        out.write_all(answer.as_bytes())
    };
    answer("", "220 localhost\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        match line.as_str() {
            "DATA" => {
                answer("DATA", "354 the text, please\r\n")?;
                let mut text = String::new();
                loop {
                    // The connection ends before the text does: nothing has arrived.
                    let Some(line) = lines.next().transpose()? else { return Ok(()) };
                    match line.as_str() {
                        "." => break,
                        line => text += &format!("{line}\n"),
                    }
                }
                texts.lock().expect("no panic").push(text.clone());
                answer(&text, "250 it is mine\r\n")?;
            }
            "QUIT" => return answer("QUIT", "221 bye\r\n"),
            command => answer(command, "250 fine\r\n")?,
        }
    }
    Ok(())
}

/// A channel of the server with these lines.
fn slow_channel(server: &SlowServer, more: &str) -> String {
    format!(
        "[[channel]]\nname = \"mail\"\ntype = \"smtp\"\nserver = \"localhost:{}\"\ntls = \"none\"\n\
         from = \"alerts@example.org\"\nto = \"oncall@example.org\"\nrate = \"1000/s\"\n{more}",
        server.port
    )
}

/// The server takes 300 ms for each of five answers before the text: more than the timeout of the attempt, but less
/// than that for each command.
#[test]
fn a_mail_whose_attempt_timed_out_before_its_text_does_not_arrive_later() {
    let server = SlowServer::new(|_| Duration::from_millis(300));
    let mut state = State::new("smtp-too-slow");
    let alert = firing("errors", 0);
    state.enqueue("mail", &[alert.clone(), resolved(&alert)]);
    let counts = state.deliver(&slow_channel(&server, "timeout = \"1s\"\nretry = \"1s\"\n"));
    let failures = counts["mail"].failures;
    let expected = ChannelCounts { expired: 1, skipped: 1, failures, ..ChannelCounts::default() };
    assert_eq!(counts["mail"], expected, "{}", state.said());
    assert!(state.said().contains("no answer for 1s"), "{}", state.said());
    assert_eq!(server.subjects(), [""; 0], "each attempt was recorded as one that sent nothing");
}

#[test]
fn a_mail_whose_text_gets_no_answer_in_time_may_have_arrived_so_its_resolve_is_sent() {
    let is_firing = |text: &str| text.contains("[FIRING]");
    let server = SlowServer::new(move |text| Duration::from_secs(if is_firing(text) { 25 } else { 0 }));
    let mut state = State::new("smtp-slow-text");
    let alert = firing("errors", 0);
    state.enqueue("mail", &[alert.clone(), resolved(&alert)]);
    let counts = state.deliver(&slow_channel(&server, "timeout = \"15s\"\nretry = \"100ms\"\n"));
    let failures = counts["mail"].failures;
    let expected = ChannelCounts { expired: 1, sent: 1, failures, ..ChannelCounts::default() };
    assert_eq!(counts["mail"], expected, "{}", state.said());
    let subjects = server.subjects();
    let resolves: Vec<&String> = subjects.iter().filter(|subject| !is_firing(subject)).collect();
    assert_eq!(resolves, ["[RESOLVED] errors: errors of DE at 25 %"], "{subjects:?}");
    assert_eq!(subjects.last(), Some(resolves[0]), "{subjects:?}");
}

#[test]
fn a_mail_that_the_server_accepted_is_sent_once_although_it_does_not_answer_quit() {
    let server = SlowServer::new(|text| Duration::from_secs(if text == "QUIT" { 25 } else { 0 }));
    let mut state = State::new("smtp-no-quit");
    state.enqueue("mail", &[firing("errors", 0)]);
    let counts = state.deliver(&slow_channel(&server, "timeout = \"15s\"\n"));
    assert_eq!(counts["mail"], ChannelCounts { sent: 1, ..ChannelCounts::default() }, "{}", state.said());
    assert_eq!(server.subjects(), ["[FIRING] errors: errors of DE at 25 %"]);
}
