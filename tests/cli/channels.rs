//! The file of channels: its faults, its example, its manual.

use crate::harness::{Dir, ROOT};
use evt::ErrorKind;
use evt::notify::channels::Channels;

#[test]
fn a_fault_of_the_file_names_its_line_its_channel_and_its_key() {
    let dir = Dir::new("channels");
    let good = "[[channel]]\nname = \"a\"\n";
    let key = "routing_key = \"0123456789abcdef0123456789abcdef\"\n";
    for (text, expected) in [
        (String::new(), "channels.toml:1: expected 1 to 100 [[channel]], found 0"),
        ("[chanel]\n".to_owned(), "channels.toml:1: unknown key 'chanel'; expected [[channel]]"),
        ("[[channel]]\nrouting_key = \"abc".to_owned(), "channels.toml:2: expected TOML with [[channel]]"),
        ("[[channel]]\ntype = \"slack\"\n".to_owned(), "channels.toml:1: channel: name: missing"),
        (
            format!("{good}type = \"pager\"\n"),
            "channels.toml:3: channel 'a': type: expected one of pagerduty slack webhook smtp exec, found 'pager'",
        ),
        (format!("{good}type = \"pagerduty\"\n"), "channels.toml:1: channel 'a': routing_key: missing"),
        (
            format!("{good}type = \"pagerduty\"\nrouting_key = \"abc\"\n"),
            "channels.toml:4: channel 'a': routing_key: expected the 32 letters and digits of an Events API v2 key",
        ),
        (
            format!("{good}type = \"pagerduty\"\nrouting_key = \"{{env:EVT_NO_SUCH_KEY}}\"\n"),
            "channels.toml:4: channel 'a': routing_key: {env:EVT_NO_SUCH_KEY}: the variable EVT_NO_SUCH_KEY is not set",
        ),
        (
            format!("{good}type = \"pagerduty\"\n{key}timout = \"3s\"\n"),
            "channels.toml:5: channel 'a': unknown key 'timout'; did you mean timeout?",
        ),
        (
            format!("{good}type = \"pagerduty\"\n{key}headers = {{}}\n"),
            "channels.toml:5: channel 'a': unknown key 'headers'; expected one of ca name rate retry routing_key source timeout type url",
        ),
        (
            format!("{good}type = \"pagerduty\"\n{key}rate = \"5 per hour\"\n"),
            "channels.toml:5: channel 'a': rate: expected COUNT/s, COUNT/m or COUNT/h, found '5 per hour'",
        ),
        (
            format!("{good}type = \"webhook\"\nurl = \"hooks.example.org\"\n"),
            "channels.toml:4: channel 'a': url: expected http://HOST[:PORT][/PATH] or https://…",
        ),
        (
            format!("{good}type = \"webhook\"\nurl = \"http://h\"\nheaders = {{ \"a b\" = \"c\" }}\n"),
            "channels.toml:5: channel 'a': headers: a b: not the name of a header",
        ),
        (
            format!("{good}type = \"webhook\"\nurl = \"http://h\"\ntimeout = \"0s\"\n"),
            "channels.toml:5: channel 'a': timeout: expected a duration longer than 0, found '0s'",
        ),
        (
            format!("{good}type = \"webhook\"\nurl = \"http://h\"\ntimeout = 3\n"),
            "channels.toml:5: channel 'a': timeout: expected a string",
        ),
        (
            format!("{good}type = \"smtp\"\nserver = \"m:0\"\nfrom = \"a@b.c\"\nto = \"d@e.f\"\n"),
            "channels.toml:4: channel 'a': server: expected HOST[:PORT]",
        ),
        (
            format!("{good}type = \"smtp\"\nserver = \"m\"\nfrom = \"a@b.c\"\nto = []\n"),
            "channels.toml:6: channel 'a': to: expected at least one address",
        ),
        (
            format!("{good}type = \"smtp\"\nserver = \"m\"\nuser = \"u\"\nfrom = \"a@b.c\"\nto = \"d@e.f\"\n"),
            "channels.toml:1: channel 'a': password: missing: user requires it",
        ),
        (
            format!(
                "{good}type = \"smtp\"\nserver = \"m\"\nuser = \"u\"\npassword = \"long-secret\"\ntls = \"none\"\nfrom = \"a@b.c\"\nto = \"d@e.f\"\n"
            ),
            "channels.toml:7: channel 'a': tls: expected starttls or tls: a password is not sent in plain text",
        ),
        (
            format!("{good}type = \"exec\"\n"),
            "channels.toml:1: channel 'a': command: expected the program and its arguments",
        ),
        (
            format!("{good}type = \"exec\"\ncommand = \"true\"\n{good}type = \"exec\"\ncommand = \"true\"\n"),
            "channels.toml:5: channel 'a': duplicate name",
        ),
    ] {
        dir.write("channels.toml", &text);
        let error = Channels::read(&dir.path("channels.toml")).err().unwrap_or_else(|| panic!("valid: {text}"));
        let path = dir.path("channels.toml").display().to_string();
        assert_eq!(error.to_string().replace(&path, "channels.toml"), expected, "{text}");
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
    }
    dir.write("channels.toml", format!("{good}type = \"smtp\"\nserver = \"m\"\nfrom = \"nobody\"\nto = \"d@e.f\"\n"));
    let error = Channels::read(&dir.path("channels.toml")).err().expect("an invalid address").to_string();
    assert!(error.contains(":5: channel 'a': from: expected NAME <USER@HOST>, found 'nobody'"), "{error}");
    let error = Channels::read(&dir.path("none.toml")).err().expect("no file");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn the_example_is_valid() {
    let dir = Dir::new("example");
    let text = std::fs::read_to_string(format!("{}/examples/alerts/channels.toml", ROOT)).expect("it is there");
    let text = text
        .replace("{env:PAGERDUTY_ROUTING_KEY}", &"k".repeat(32))
        .replace("{env:SLACK_WEBHOOK_URL}", "https://hooks.slack.com/services/T/B/x");
    dir.write("channels.toml", text.replace("{env:STATUS_TOKEN}", "t").replace("{env:SMTP_PASSWORD}", "p"));
    let channels = Channels::read(&dir.path("channels.toml")).expect("valid");
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
        let error = Channels::read(&dir.path("channels.toml")).err().expect("an unknown key").to_string();
        let (_, keys) = error.split_once("expected one of ").expect("the keys");
        for key in keys.split(' ') {
            let is_there = [format!(".B {key}\n"), format!(".BR {key} ,"), format!("\" {key}\"\n")];
            assert!(is_there.iter().any(|line| page.contains(line)), "evt-channels(5): {name} has no {key}");
        }
    }
}
