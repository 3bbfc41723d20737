//! The file of channels: its faults, its example, its manual.

use crate::harness::{Dir, ROOT};
use evt_core::ErrorKind;
use evt_notify::channels::Channels;

/// The first two lines of a channel.
const NAMED: &str = "[[channel]]\nname = \"a\"\n";
/// A channel of each type.
const PAGERDUTY: &str = "type = \"pagerduty\"\nrouting_key = \"0123456789abcdef0123456789abcdef\"\n";
const WEBHOOK: &str = "type = \"webhook\"\nurl = \"http://h\"\n";
const SMTP: &str = "type = \"smtp\"\nserver = \"m\"\nfrom = \"a@b.c\"\nto = \"d@e.f\"\n";

/// Files after [`NAMED`], and their faults after `channel 'a': `, each with its line.
const FAULTS: [(&str, &str, usize, &str); 17] = [
    ("", "type = \"pager\"\n", 3, "type: expected one of pagerduty slack webhook smtp exec, found 'pager'"),
    ("", "type = \"pagerduty\"\n", 1, "routing_key: missing"),
    (
        "",
        "type = \"pagerduty\"\nrouting_key = \"abc\"\n",
        4,
        "routing_key: expected the 32 letters and digits of an Events API v2 key",
    ),
    (
        "",
        "type = \"pagerduty\"\nrouting_key = \"{env:EVT_NO_SUCH_KEY}\"\n",
        4,
        "routing_key: {env:EVT_NO_SUCH_KEY}: the variable EVT_NO_SUCH_KEY is not set",
    ),
    (PAGERDUTY, "timout = \"3s\"\n", 5, "unknown key 'timout'; did you mean timeout?"),
    (
        PAGERDUTY,
        "headers = {}\n",
        5,
        "unknown key 'headers'; expected one of ca name rate retry routing_key source timeout type url",
    ),
    (PAGERDUTY, "rate = \"5 a day\"\n", 5, "rate: expected COUNT/s, COUNT/m or COUNT/h, found '5 a day'"),
    ("", "type = \"slack\"\n", 1, "url: missing"),
    (
        "",
        "type = \"webhook\"\nurl = \"hooks.example.org\"\n",
        4,
        "url: expected http://HOST[:PORT][/PATH] or https://…",
    ),
    (WEBHOOK, "headers = { \"a b\" = \"c\" }\n", 5, "headers: expected the name of a header, found a b"),
    (WEBHOOK, "timeout = \"0s\"\n", 5, "timeout: expected a duration longer than 0, found '0s'"),
    (WEBHOOK, "timeout = 3\n", 5, "timeout: expected a string"),
    ("", "type = \"smtp\"\nfrom = \"a@b.c\"\nto = \"d@e.f\"\nserver = \"m:0\"\n", 6, "server: expected HOST[:PORT]"),
    ("", "type = \"smtp\"\nserver = \"m\"\nfrom = \"a@b.c\"\nto = []\n", 6, "to: expected at least one address"),
    (SMTP, "user = \"u\"\n", 1, "password: missing: user requires it"),
    (
        SMTP,
        "user = \"u\"\npassword = \"long-secret\"\ntls = \"none\"\n",
        9,
        "tls: expected starttls or tls: a password is not sent in plain text",
    ),
    ("", "type = \"exec\"\n", 1, "command: expected the program and its arguments"),
];

/// Reads a file of channels; returns its fault, with the bare name of the file.
fn fault(dir: &Dir, text: &str) -> String {
    dir.write("channels.toml", text);
    let path = dir.path("channels.toml");
    let error = Channels::read(&path, &Default::default()).err().unwrap_or_else(|| panic!("valid: {text}"));
    assert_eq!(error.kind(), ErrorKind::Config, "{text}");
    error.to_string().replace(&path.display().to_string(), "channels.toml")
}

#[test]
fn a_fault_of_a_channel_names_its_line_its_channel_and_its_key() {
    let dir = Dir::new("channels");
    for (before, text, line, expected) in FAULTS {
        let expected = format!("channels.toml:{line}: channel 'a': {expected}");
        assert_eq!(fault(&dir, &format!("{NAMED}{before}{text}")), expected);
    }
    let nobody = fault(&dir, &format!("{NAMED}{}", SMTP.replace("a@b.c", "nobody")));
    let expected = "channels.toml:5: channel 'a': from: expected NAME <USER@HOST>, found 'nobody'";
    assert!(nobody.starts_with(expected), "{nobody}");
}

#[test]
fn a_fault_of_the_file_names_its_line() {
    let dir = Dir::new("channels-file");
    let twice = format!("{NAMED}{WEBHOOK}{NAMED}{WEBHOOK}");
    for (text, expected) in [
        ("", "channels.toml:1: expected 1 to 100 [[channel]], found 0"),
        ("[chanel]\n", "channels.toml:1: unknown key 'chanel'; expected [[channel]]"),
        ("[channel]\n", "channels.toml:1: channel: expected [[channel]]"),
        ("[[channel]]\nrouting_key = \"abc", "channels.toml:2: expected TOML with [[channel]]"),
        ("[[channel]]\ntype = \"slack\"\n", "channels.toml:1: channel: name: missing"),
        (twice.as_str(), "channels.toml:5: channel 'a': duplicate name"),
    ] {
        assert_eq!(fault(&dir, text), expected);
    }
    let error = Channels::read(&dir.path("none.toml"), &Default::default()).err().expect("no file");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn the_example_is_valid() {
    let dir = Dir::new("example");
    let text = std::fs::read_to_string(format!("{ROOT}/examples/alerts/channels.toml")).expect("it is there");
    let text = text
        .replace("{env:PAGERDUTY_ROUTING_KEY}", &"k".repeat(32))
        .replace("{env:SLACK_WEBHOOK_URL}", "https://hooks.slack.com/services/T/B/x");
    dir.write("channels.toml", text.replace("{env:STATUS_TOKEN}", "t").replace("{env:SMTP_PASSWORD}", "p"));
    let channels = Channels::read(&dir.path("channels.toml"), &Default::default()).expect("valid");
    assert_eq!(channels.names().collect::<Vec<_>>(), ["oncall", "team", "status-page", "mail", "log"]);
}

#[test]
fn the_manual_lists_every_key() {
    let (dir, page) =
        (Dir::new("keys"), std::fs::read_to_string(format!("{ROOT}/man/evt-channels.5")).expect("it is there"));
    let address = "from = \"a@b.c\"\nto = \"d@e.f\"\n";
    for (name, settings) in [
        ("pagerduty", "routing_key = \"0123456789abcdef0123456789abcdef\"\n".to_owned()),
        ("slack", "url = \"https://hooks.slack.com/services/T/B/x\"\n".to_owned()),
        ("webhook", "url = \"http://h\"\n".to_owned()),
        ("smtp", format!("server = \"m\"\n{address}")),
        ("exec", "command = \"true\"\n".to_owned()),
    ] {
        let text = format!("[[channel]]\nname = \"a\"\ntype = \"{name}\"\n{settings}unheard_of_key = 1\n");
        dir.write("channels.toml", text);
        let error =
            Channels::read(&dir.path("channels.toml"), &Default::default()).err().expect("an unknown key").to_string();
        let (_, keys) = error.split_once("expected one of ").expect("the keys");
        for key in keys.split(' ') {
            let is_there = [format!(".B {key}\n"), format!(".BR {key} ,"), format!("\" {key}\"\n")];
            assert!(is_there.iter().any(|line| page.contains(line)), "evt-channels(5): {name} has no {key}");
        }
    }
}
