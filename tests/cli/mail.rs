//! Notifications by mail, to a real server.

use crate::harness::{Dir, python};
use crate::notify::{State, both, firing, resolved};
use crate::python_server::PythonServer;
use evt::kind::alert::Alert;
use evt::notify::sender::ChannelCounts;
use serde_json::json;

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
    assert_eq!(counts["mail"], ChannelCounts { sent: 2, failures: 1, ..ChannelCounts::default() }, "{}", state.said());
    let mails = state.dir.rows("mail.jsonl");
    assert_eq!(mails.len(), 2);
    let ids: Vec<String> = both(&alert).iter().map(|key| format!("<{key}@example.org>")).collect();
    for (mail, id) in mails.iter().zip(&ids) {
        assert_eq!(mail["headers"]["message-id"], json!(id));
        assert_eq!(mail["to"], json!(["oncall@example.org", "busy@example.org"]));
        assert_eq!((&mail["defects"], &mail["headers"]["auto-submitted"]), (&json!([]), &json!("auto-generated")));
    }
    assert_eq!(mails[0]["headers"]["subject"], "[FIRING] errors: Fehler in Köln über 25 %");
    assert_eq!(mails[1]["headers"]["references"], json!(ids[0]));
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
    let mails = state.dir.rows("mail.jsonl");
    let id = json!(format!("<{}@example.org>", both(&cut)[0]));
    assert_eq!(mails[2..].iter().map(|mail| &mail["headers"]["message-id"]).collect::<Vec<_>>(), [&id, &id]);
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
