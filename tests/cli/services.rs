//! Tools as services: configuration, JSON on stderr, secrets, checks, notification of the service manager.

use crate::harness::{Dir, ROOT, Run, bin_dir, eventually, in_ci, status};
use crate::man::assert_file;
use evt::cli::{ToolRow, Unit};
use evt::tool;
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const EVENT: &str =
    r#"{"event_id":"00000000-0000-4000-8000-000000000001","event_type":"t","server_timestamp":"2024-01-15T10:00:01Z"}"#;

/// Runs a tool until its input ends; passes on the lines of its stderr as they arrive.
pub struct Running {
    pub child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    pub fn new(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, stderr }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).expect("text");
        line
    }

    /// The address that it reports.
    pub fn address(&mut self) -> String {
        let line = self.line();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        address.unwrap_or_else(|| panic!("no address: {line}")).to_owned()
    }

    pub fn give(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("it reads");
    }

    pub fn end(mut self) -> i32 {
        drop(self.child.stdin.take());
        let mut rest = vec![];
        self.child.stdout.take().expect("it is piped").read_to_end(&mut rest).expect("it ends");
        status(self.child.wait().expect("it ends"))
    }
}

#[test]
fn a_flag_beats_the_environment_beats_a_section_beats_the_top() {
    let dir = Dir::new("precedence");
    dir.write("e.jsonl", EVENT);
    dir.write("evt.toml", "pipeline = 'top'\nquiet = true\n[evt-sink]\npipeline = 'other'\n");
    dir.write(
        "own.toml",
        "pipeline = 'top'\n[evt-ingest]\npipeline = 'own'\nto = ['null:', 'a.jsonl']\nappend = true\n",
    );
    let pipeline = |config: &str, variable: Option<&str>, flags: &[&str]| {
        let mut args = vec!["e.jsonl", "--config", config, "--stats", "s.json"];
        args.extend(flags);
        let mut command = dir.command("evt-ingest", &args);
        variable.map(|value| command.env("EVT_PIPELINE", value));
        let run = crate::harness::Run::of(command.stdin(Stdio::null())).succeeds();
        let stats: Value = serde_json::from_slice(&dir.bytes("s.json")).expect("JSON");
        (stats["pipeline"].as_str().expect("a name").to_owned(), run.stderr())
    };
    assert_eq!(pipeline("evt.toml", None, &["--to", "null:"]), ("top".into(), String::new()));
    assert_eq!(pipeline("own.toml", None, &[]).0, "own");
    assert!(!dir.rows("a.jsonl").is_empty(), "a list is a flag that repeats");
    assert_eq!(pipeline("own.toml", Some("env"), &[]).0, "env");
    assert_eq!(pipeline("own.toml", Some("env"), &["--pipeline", "flag"]).0, "flag");
    let mut command = dir.command("evt-ingest", &["e.jsonl", "-o", "jsonl", "--stats", "s.json"]);
    crate::harness::Run::of(command.env("EVT_CONFIG", "evt.toml").stdin(Stdio::null())).succeeds();
    let stats: Value = serde_json::from_slice(&dir.bytes("s.json")).expect("JSON");
    assert_eq!(stats["pipeline"], "top");
}

#[test]
fn what_a_configuration_should_not_say_is_named_with_its_line() {
    let dir = Dir::new("config-faults");
    dir.write("e.jsonl", EVENT);
    for (text, told) in [
        ("quiet = true\npipelin = 'x'", "evt.toml:2: unknown key 'pipelin'; did you mean pipeline?"),
        ("[evt-sink]\n\nttll = '1h'", "evt.toml:3: unknown key 'ttll'; did you mean ttl?"),
        ("max-record = '7'", "evt.toml:1: max-record: invalid value '7'"),
        ("quiet = 'yes'", "evt.toml:1: quiet: expected true or false"),
        ("pipeline = ['a', 'b']", "evt.toml:1: pipeline: expected one value"),
        ("color = 'blue'", "evt.toml:1: color: invalid value 'blue'"),
        ("= 1", "evt.toml:1: "),
    ] {
        dir.write("evt.toml", text);
        let run = dir.run("evt-ingest", &["e.jsonl", "--config", "evt.toml", "--to", "null:"]).ends_with(78);
        assert!(run.stderr().contains(told), "{run}\n{told}");
        assert_eq!(run.stderr().lines().count(), 1, "{run}");
    }
    let run = dir.run("evt-ingest", &["e.jsonl", "--config", "none.toml"]).ends_with(78);
    assert!(run.stderr().contains("none.toml"), "{run}");
}

#[test]
fn settings_reach_the_flags_of_actions_and_what_they_require_is_there() {
    let dir = Dir::new("config-actions");
    dir.write("schemas/t/1.avsc", r#"{"type":"record","name":"t","fields":[]}"#);
    dir.write("evt.toml", "[evt-schema]\nschemas = 'schemas'\n");
    let run = dir.run("evt-schema", &["--config", "evt.toml", "list"]).succeeds();
    assert!(run.text().starts_with("t "), "{run}");
    let mut command = dir.command("evt-schema", &["list"]);
    let run = crate::harness::Run::of(command.env("EVT_SCHEMAS", "schemas").stdin(Stdio::null())).succeeds();
    assert!(run.text().starts_with("t "), "{run}");
}

/// Every line of stderr as a JSON object.
fn lines(stderr: &str) -> Vec<Value> {
    stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

#[test]
fn every_line_of_a_log_in_json_says_which_run_it_is_of() {
    let dir = Dir::new("log-json");
    dir.write("e.jsonl", format!("{EVENT}\nno JSON\n"));
    let args = ["e.jsonl", "--to", "null:", "--log-format", "json", "--pipeline", "p"];
    let mut command = dir.command("evt-ingest", &args);
    command.env("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").stdin(Stdio::null());
    let run = crate::harness::Run::of(&mut command).ends_with(1);
    let all = lines(&run.stderr());
    for line in &all {
        for field in ["time", "level", "tool", "run", "pipeline", "trace_id", "message"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        assert_eq!(
            (line["tool"].as_str(), line["pipeline"].as_str(), line["trace_id"].as_str()),
            (Some("evt-ingest"), Some("p"), Some("0af7651916cd43dd8448eb211c80319c")),
        );
    }
    assert!(all.iter().all(|line| line["run"] == all[0]["run"]));
    let faulty = all.iter().find(|line| line["level"] == "warn").expect("a record was no good");
    assert_eq!((faulty["origin"].as_str(), faulty["offset"].as_i64()), (Some("e.jsonl"), Some(2)));
    assert_eq!((faulty["position"].as_str(), faulty["error_type"].as_str()), (Some("e.jsonl:2"), Some("ParseError")));
    for (args, exit) in [
        (&["--no-such-flag", "--log-format", "json"][..], 2),
        (&["--log-format=json", "none.jsonl"][..], 74),
        (&["--log-format=json", "--config", "none.toml"][..], 78),
        (&["--log-format=json", "x:y", "--to", "mysql:z"][..], 2),
    ] {
        let run = dir.run("evt-ingest", args).ends_with(exit);
        let all = lines(&run.stderr());
        assert_eq!((all.len(), all[0]["level"].as_str()), (1, Some("error")), "{run}");
    }
}

#[test]
fn what_a_placeholder_stands_for_is_used_and_never_shown() {
    let dir = Dir::new("secrets");
    dir.write("e.jsonl", format!("{EVENT}\nno JSON\n"));
    dir.write("secret", "hidden-place\n");
    let place = format!("{{file:{}}}", dir.path("secret").display());
    let input = "{env:EVT_TEST_INPUT}.jsonl";
    let to = format!("sqlite:{place}.db");
    let dlq = format!("{place}.dead.jsonl");
    for format in ["text", "json"] {
        let args =
            [input, "--to", &to, "--to", "-", "-o", "jsonl", "--dlq", &dlq, "--stats", "s.json", "--report", "all"];
        let mut command = dir.command("evt-ingest", &args);
        command.args(["--log-format", format, "--prometheus", "m.prom"]).env("EVT_TEST_INPUT", "hidden-in");
        std::fs::copy(dir.path("e.jsonl"), dir.path("hidden-in.jsonl")).expect("it is there");
        let run = crate::harness::Run::of(command.stdin(Stdio::null())).succeeds();
        assert!(dir.path("hidden-place.db").exists() && dir.path("hidden-place.dead.jsonl").exists(), "{run}");
        let told = [run.stdout().to_vec(), run.stderr().into_bytes(), dir.bytes("s.json"), dir.bytes("m.prom")];
        for text in told.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) {
            assert!(!text.contains("hidden"), "{text}");
        }
        assert!(run.stderr().contains(input), "{run}");
        assert_eq!(run.rows()[0]["origin"], input);
    }
    // Also errors, of the system and of clients.
    for (uri, exit) in [
        (format!("{place}/x/y.jsonl"), 74),
        (format!("redis://u:{place}@127.0.0.1:1/0"), 69),
        (format!("postgres://{place}:{place}@127.0.0.1:1/{place}"), 69),
    ] {
        for flags in [&["--check"][..], &["--check", "--log-format", "json"][..]] {
            let mut args = vec!["--to", &uri];
            args.extend(flags);
            let run = dir.run("evt-sink", &args).ends_with(exit);
            assert!(!run.stderr().contains("hidden") && !run.text().contains("hidden"), "{run}");
        }
    }
    let run = dir.run("evt-ingest", &["e.jsonl", "--to", "redis://u:{env:EVT_NOT_THERE}@h/0"]).ends_with(78);
    assert!(run.stderr().contains("the variable EVT_NOT_THERE is not set"), "{run}");
    let run = dir.run("evt-ingest", &["e.jsonl", "--to", "sqlite:{file:none}/x"]).ends_with(78);
    assert!(run.stderr().contains("{file:none}"), "{run}");
}

#[test]
fn schemas_are_named_by_placeholders_too() {
    let dir = Dir::new("secret-schemas");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    dir.write("hidden-schemas/t/1.avsc", r#"{"type":"record","name":"t","fields":[{"name":"a","type":"int"}]}"#);
    dir.write("secret", "p@ss/w?rd&x=hidden\n");
    let ingest = || dir.run("evt-ingest", &["e.jsonl", "--to", "in.arrows"]).succeeds();
    ingest();
    let validate = |schemas: &str, more: &[&str]| {
        let mut command = dir.command("evt-validate", &["in.arrows", "--schemas", schemas, "--to", "null:"]);
        let command = command.args(more).env("EVT_TEST_PLACE", "hidden-schemas").stdin(Stdio::null());
        let run = crate::harness::Run::of(command);
        assert!(!run.stderr().contains("hidden") && !run.text().contains("hidden"), "{run}");
        run
    };
    let run = validate("{env:EVT_TEST_PLACE}", &["--dlq", "dead.jsonl"]).succeeds();
    assert!(run.stderr().contains("dead 1"), "{run}");
    assert!(validate("{env:EVT_TEST_PLACE}/none", &[]).ends_with(78).stderr().contains("{env:EVT_TEST_PLACE}/none"));
    assert!(validate("{env:EVT_NOT_THERE}", &[]).ends_with(78).stderr().contains("EVT_NOT_THERE is not set"));
    // The host follows the last @, so URL syntax in the password is part of the password.
    let run = validate("http://u:{file:secret}@127.0.0.1:1?timeout=1s&retry=1s", &["--check"]).ends_with(69);
    assert!(run.stderr().contains("127.0.0.1:1"), "{run}");
    let list = ["list", "--schemas", "http://u:{file:secret}@127.0.0.1:1?timeout=1s&retry=1s"];
    let run = dir.run("evt-schema", &list).ends_with(69);
    assert!(!run.stderr().contains("hidden") && run.stderr().contains("127.0.0.1:1"), "{run}");
}

#[test]
fn a_password_with_everything_that_is_syntax_opens_a_real_server() {
    let Ok(uri) = std::env::var("EVT_REDIS") else {
        assert!(!in_ci(), "EVT_REDIS is not set (scripts/services)");
        eprintln!("skipped: EVT_REDIS is not set (scripts/services)");
        return;
    };
    let dir = Dir::new("password");
    let password = "p@ss:w/o?r&d,#%41 {x}";
    let user = format!("evt-{}", std::process::id());
    dir.write("password", format!("{password}\n"));
    let acl = ["-u", &uri, "ACL", "SETUSER", &user, "on", &format!(">{password}"), "~*", "+@all"];
    dir.run("redis-cli", &acl).succeeds();
    let (_, place) = uri.split_once("//").expect("a URI");
    let to = format!("redis://{user}:{{file:password}}@{}", place.rsplit('@').next().expect("a host"));
    let run = dir.run("evt-sink", &["--check", "--to", &to]).succeeds();
    assert!(run.text().starts_with(&format!("redis://{user}:***@")), "{run}");
    dir.write("password", "p@ss:w/o");
    let run = dir.run("evt-sink", &["--check", "--to", &to]).ends_with(78);
    assert!(!run.stderr().contains("p@ss") && !run.stderr().contains("p%40ss"), "{run}");
    dir.run("redis-cli", &["-u", &uri, "ACL", "DELUSER", &user]).succeeds();
}

#[test]
fn a_check_looks_at_everything_and_touches_nothing() {
    let dir = Dir::new("check");
    dir.write("e.jsonl", EVENT);
    dir.write("schemas/t/1.avsc", r#"{"type":"record","name":"t","fields":[]}"#);
    dir.write("new.avsc", r#"{"type":"record","name":"t","fields":[]}"#);
    dir.write("tokens", "[[token]]\nname = \"a\"\nsecret = \"secret-of-a\"\n");
    for (tool, args, told) in [
        ("evt-ingest", &["e.jsonl", "--dlq", "d.jsonl"][..], "e.jsonl: ready\nd.jsonl: ready\n"),
        ("evt-validate", &["--schemas", "schemas", "e.jsonl"][..], "schemas: ready\ne.jsonl: ready\n"),
        (
            "evt-ingest",
            &["http://127.0.0.1:0", "--spool", "a/spool", "--dedup", "1h", "--to", "o.jsonl"][..],
            "a/spool: ready\nhttp://127.0.0.1:0: ready\no.jsonl: ready\n",
        ),
        (
            "evt-ingest",
            &["http://127.0.0.1:0", "--ack", "memory", "--tokens", "tokens"][..],
            "tokens: ready\nhttp://127.0.0.1:0: ready\n",
        ),
        ("evt-sink", &["--to", "sqlite:x.db", "--to", "x.parquet"][..], "sqlite:x.db: ready\nx.parquet: ready\n"),
        ("evt-view", &["e.jsonl", "--to", "null:"][..], "e.jsonl: ready\nnull:: ready\n"),
        ("evt-gen", &["--truth", "t.json"][..], "t.json: ready\n"),
        ("evt-schema", &["list", "--schemas", "schemas"][..], "schemas: ready\n"),
        (
            "evt-schema",
            &["register", "new.avsc", "--subject", "u", "--schemas", "schemas"][..],
            "new.avsc: ready\nschemas: ready\n",
        ),
    ] {
        let run = dir.run(tool, &[&["--check"], args].concat()).succeeds();
        assert_eq!(run.text(), told, "{run}");
    }
    let run = dir.run("evt-window", &["--check", "--size", "1m", "--late", "l.jsonl", "e.jsonl"]).succeeds();
    assert!(run.text().ends_with("e.jsonl: ready\nl.jsonl: ready\n"), "{run}");
    for made in ["a", "o.jsonl", "d.jsonl", "x.db", "x.parquet", "x.parquet.part", "t.json", "schemas/u", "l.jsonl"] {
        assert!(!dir.path(made).exists(), "{made} was made");
    }
    for (tool, args, exit) in [
        ("evt-ingest", &["none.jsonl"][..], 74),
        ("evt-ingest", &["e.jsonl", "--to", "none/x.jsonl"][..], 74),
        ("evt-ingest", &["e.jsonl", "--to", "mysql:x"][..], 2),
        ("evt-ingest", &["e.jsonl", "--time-format", "%Q%"][..], 2),
        ("evt-ingest", &["e.jsonl", "--to", "e.jsonl"][..], 2),
        ("evt-ingest", &["sqlite:none.db"][..], 74),
        ("evt-ingest", &["http://0.0.0.0:0", "--ack", "memory"][..], 2),
        ("evt-ingest", &["https://127.0.0.1:0", "--ack", "memory"][..], 2),
        ("evt-ingest", &["http://127.0.0.1:0"][..], 2),
        ("evt-ingest", &["http://127.0.0.1:0", "--dedup", "1h", "--to", "o.jsonl"][..], 2),
        ("evt-ingest", &["http://127.0.0.1:0", "--ack", "memory", "--tokens", "e.jsonl"][..], 78),
        ("evt-ingest", &["http://127.0.0.1:0", "--spool", "e.jsonl", "--to", "o.jsonl"][..], 74),
        ("evt-validate", &["--schemas", "none", "e.jsonl"][..], 78),
        ("evt-window", &["--size", "1m", "--agg", "sum(", "e.jsonl"][..], 78),
        ("evt-sink", &["--to", "postgres://u@127.0.0.1:1/d?retry=1s"][..], 69),
        ("evt-schema", &["list", "--schemas", "none"][..], 78),
        ("evt-gen", &["--truth", "none/t.json"][..], 74),
    ] {
        dir.run(tool, &[&["--check"], args].concat()).ends_with(exit);
    }
}

#[test]
fn a_manager_hears_when_the_service_is_ready_and_when_it_stops() {
    let dir = Dir::new("notify");
    let socket = UnixDatagram::bind(dir.path("notify")).expect("a socket");
    let mut command = dir.command("evt-ingest", &["-f", "jsonl", "-q", "--to", "out.jsonl"]);
    let mut running = Running::new(command.env("NOTIFY_SOCKET", dir.path("notify")));
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    // The service is ready before the first record arrives.
    while !heard.contains("READY=1\n") {
        let count = socket.recv(&mut buffer).expect("it tells");
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    running.give(format!("{EVENT}\n").as_bytes());
    while !heard.contains("STATUS=in ") {
        let count = socket.recv(&mut buffer).expect("it tells");
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(running.child.id()).expect("small")).expect("a process");
    eventually("it listens", || crate::harness::listens(&running.child));
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    while !heard.contains("STOPPING=1\n") {
        let count = socket.recv(&mut buffer).expect("it tells");
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert_eq!(running.end(), 143);
}

/// The stages behind the first one said it, although the server could not listen.
#[test]
fn a_pipeline_is_not_ready_before_its_first_stage() {
    let dir = Dir::new("notify-pipe");
    let socket = UnixDatagram::bind(dir.path("notify")).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound");
    let pipeline = format!("evt-ingest http://{address} --ack memory --dlq null: | evt-sink --to o.jsonl");
    let run = Run::of(dir.command("evt", &["pipe", &pipeline]).env("NOTIFY_SOCKET", dir.path("notify")));
    assert!(run.stderr().contains(&address.to_string()), "{run}");
    let mut buffer = [0; 4096];
    while let Ok(count) = socket.recv(&mut buffer) {
        let told = String::from_utf8_lossy(&buffer[..count]);
        assert!(!told.contains("READY=1"), "{told}");
    }
}

/// The parts of the template that a tool has that runs all the time, and those of one that a timer starts.
const RUNS_ALWAYS: [(&str, &str); 4] = [
    ("{limit}", "StartLimitIntervalSec=0\n"),
    ("{type}", "# Ready when inputs are open and every output has been looked at.\nType=notify\n"),
    (
        "{restart}",
        "# Down for good where a restart changes nothing: rows were lost (1), the command line (2), the configuration (78). After\n\
         # anything else it is started again, for ever: a server may be away for hours. The delay grows from 2 s to 30 s; systemd\n\
         # before 254 lacks RestartSteps= and RestartMaxDelaySec= and takes before-254.conf, every 30 s. systemd calls a process that\n\
         # one of the signals below has killed clean, and would leave it down.\n\
         Restart=on-failure\n\
         RestartForceExitStatus=SIGHUP SIGINT SIGPIPE SIGTERM\n\
         RestartPreventExitStatus=1 2 78\n\
         RestartSec=2s\n\
         RestartSteps=5\n\
         RestartMaxDelaySec=30s\n",
    ),
    ("{install}", "\n[Install]\nWantedBy=multi-user.target\n"),
];
const IS_STARTED_BY_A_TIMER: [(&str, &str); 4] = [
    ("{limit}", ""),
    (
        "{type}",
        "# The unit fails with the exit status of the tool; OnFailure= may name a unit that reports it.\nType=oneshot\n",
    ),
    ("{restart}", ""),
    ("{install}", ""),
];

#[test]
fn every_tool_that_is_a_service_has_its_unit() {
    let template =
        |name: &str| std::fs::read_to_string(Path::new(ROOT).join("systemd").join(name)).expect("it is there");
    let filled = |text: String, fields: &[(&str, &str)]| {
        fields.iter().fold(text, |text, (field, value)| text.replace(field, value))
    };
    for ToolRow { name, unit, command, .. } in tool::ALL {
        let Some(Unit { after, args, settings, calendar }) = unit else { continue };
        let about = command().get_about().map(ToString::to_string).unwrap_or_default();
        let parts = if calendar.is_some() { IS_STARTED_BY_A_TIMER } else { RUNS_ALWAYS };
        let after = ["network-online.target", after].join(" ");
        let fields = [
            ("{tool}", *name),
            ("{about}", &about),
            ("{after}", after.trim_end()),
            ("{args}", args),
            ("{settings}", settings),
        ];
        let text = filled(filled(template("unit.template"), &parts), &fields);
        assert_file(&format!("systemd/{name}.service"), text.as_bytes());
        if let Some(calendar) = calendar {
            let fields = [("{tool}", *name), ("{about}", &about), ("{calendar}", calendar)];
            assert_file(&format!("systemd/{name}.timer"), filled(template("timer.template"), &fields).as_bytes());
        }
    }
}

/// The keys that systemd has since version 254.
pub const DELAYS: [&str; 2] = ["RestartSteps=", "RestartMaxDelaySec="];

#[test]
fn the_units_are_what_systemd_takes() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        assert!(!in_ci(), "systemd-analyze must be there in CI (Debian: apt-get install systemd)");
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    };
    // systemd 252 (252.38-1~deb12u1)
    let version = String::from_utf8_lossy(&version.stdout).split(' ').nth(1).and_then(|number| number.parse().ok());
    let version: u32 = version.expect("a version");
    let dir = Dir::new("units");
    let mut names = vec![];
    for entry in std::fs::read_dir(Path::new(ROOT).join("systemd")).expect("it is there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with(".service") && !name.ends_with(".timer") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let always = ["RestartPreventExitStatus=1 2 78", "Restart=on-failure", "Type=notify"];
        let is_job = text.contains("Type=oneshot");
        let timer = Path::new(ROOT).join("systemd").join(name.replace(".service", ".timer"));
        assert!(!is_job || timer.exists(), "{name}: no timer starts it");
        let lines = ["IgnoreSIGPIPE=no", "ExecStartPre=-", "--check"];
        for line in lines.iter().chain(always.iter().filter(|_| !is_job)).filter(|_| name.ends_with(".service")) {
            assert!(text.contains(line), "{name}: no {line}");
        }
        // systemd-analyze checks that the programs exist.
        let text = text.replace("/usr/local/bin/", &format!("{}/", bin_dir().display()));
        // An older systemd ignores these two, and says so.
        let is_known = |line: &&str| version >= 254 || !DELAYS.iter().any(|key| line.starts_with(key));
        dir.write(&name, text.lines().filter(is_known).map(|line| format!("{line}\n")).collect::<String>());
        names.push(name);
    }
    assert!(names.len() >= 10, "{names:?}");
    let mut args = vec!["verify".to_owned(), "--man=no".to_owned(), "--recursive-errors=no".to_owned()];
    args.extend(names.iter().map(|name| format!("./{name}")));
    let run = dir.run("systemd-analyze", &args).succeeds();
    assert_eq!(run.stderr(), "", "{run}");
}

#[test]
fn the_configuration_of_the_units_is_one() {
    let dir = Dir::new("unit-config");
    let config = format!("{ROOT}/systemd/evt.toml");
    for tool in tool::ALL {
        // Help needs no server; evt checks the settings file first.
        dir.run(tool.name, &["--config", &config, "--help"]).succeeds();
    }
}

#[test]
fn the_channels_of_the_unit_are_valid_with_its_credential() {
    let dir = Dir::new("unit-channels");
    let text = std::fs::read_to_string(Path::new(ROOT).join("systemd/channels.toml")).expect("it is there");
    let place = "/run/credentials/evt-alert.service/pagerduty";
    assert!(text.contains(place), "{text}");
    let unit = std::fs::read_to_string(Path::new(ROOT).join("systemd/evt-alert.service")).expect("it is there");
    assert!(unit.contains("LoadCredential=pagerduty:") && unit.contains("--notify /etc/evt/channels.toml"), "{unit}");
    dir.write("key", "0123456789abcdef0123456789abcdef\n");
    dir.write("channels.toml", text.replace(place, &dir.path("key").display().to_string()));
    dir.write("in.jsonl", "");
    let rules = format!("{ROOT}/examples/alerts/rules.toml");
    let args = ["--check", "--rules", &rules, "--state", "alerts.db", "--notify", "channels.toml", "in.jsonl"];
    let run = dir.run("evt-alert", &args).succeeds();
    assert!(run.text().contains("channel 'oncall': ready\n"), "{run}");
}

/// The pipeline of a unit; `etc` replaces `/etc/evt`. Its check is of the same stages.
fn pipeline_text(unit: &str, etc: &Path) -> String {
    let text = std::fs::read_to_string(Path::new(ROOT).join("systemd").join(unit)).expect("it is there");
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}/usr/local/bin/evt pipe ")));
        line.unwrap_or_else(|| panic!("{unit}: no {key}")).trim_start_matches("--check ")
    };
    assert_eq!(of("ExecStart="), of("ExecStartPre=-"), "{unit}");
    let line = of("ExecStart=").trim_matches('\'');
    line.replace("$$", "$").replace("/etc/evt", etc.to_str().expect("it is text"))
}

/// Whether a stage of the pipeline, a thread of its process, runs.
fn is_running(pipeline: &Child, stage: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pipeline.id())).into_iter().flatten().flatten();
    let mut names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.any(|name| name.trim_end() == stage)
}

#[test]
fn the_status_of_the_pipeline_is_that_of_the_stage_with_a_lasting_fault() {
    let dir = Dir::new("pipeline-status");
    dir.write("in.jsonl", "{\"event_type\":\"x\",\"server_timestamp\":\"2026-01-05T10:00:00Z\"}\n");
    dir.shell(&format!("mkdir etc; cp -r {ROOT}/examples/schemas etc")).succeeds();
    let text = pipeline_text("evt-pipeline.service", &dir.path("etc"));
    let run = |raw: &str, text: &str| {
        let mut command = dir.command("evt", &["pipe", text]);
        command.env("RAW", raw).env("STORE", "sqlite:out.db").env("EVT_LOG_FORMAT", "json").stdin(Stdio::null());
        Run::of(&mut command)
    };
    // Without the file of the metrics.
    run("in.jsonl", &text).ends_with(78);
    // A server that is away hides that from the status, not from the log.
    let away = text.replace("$STORE", "postgres://evt@127.0.0.1:1/evt?retry=1s");
    let said = run("in.jsonl", &away).ends_with(69).stderr();
    let errors: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let errors = errors.iter().filter(|line| line["level"] == "error").filter_map(|line| line["tool"].as_str());
    assert_eq!(errors.collect::<Vec<_>>(), ["evt-window", "evt-sink"], "{said}");
    assert!(said.contains("metrics.toml: no such file"), "{said}");
    dir.write("etc/metrics.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\n");
    run("in.jsonl", &text.replace("evt-validate", "evt-validate --no-such-flag")).ends_with(2);
    run("in.jsonl", &text.replace("/schemas", "/no-schemas")).ends_with(78);
    // Rows are lost, and nothing else is wrong.
    dir.write("dead.jsonl", "no JSON\n");
    run("in.jsonl", &text.replace("$RAW", "dead.jsonl")).ends_with(1);
}

/// Starts the pipeline, and waits until it has stored rows; returns the end of its input, too.
fn pipeline(dir: &Dir, store: &str) -> (Child, File) {
    dir.write("etc/metrics.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\n");
    dir.shell(&format!(
        "mkfifo raw; cp -r {ROOT}/examples/schemas etc; evt-gen --events 20k --rate 10 --seed 4 -q > in.jsonl"
    ))
    .succeeds();
    let text = pipeline_text("evt-pipeline.service", &dir.path("etc"));
    let mut command = dir.command("evt", &["pipe", &text]);
    command.env("RAW", dir.path("raw")).env("STORE", store);
    let pipeline = command.stderr(File::create(dir.path("said")).expect("writable")).spawn().expect("it starts");
    let mut raw = OpenOptions::new().write(true).open(dir.path("raw")).expect("a stage reads it");
    let events = dir.bytes("in.jsonl");
    raw.write_all(&events[..events.len() / 2]).expect("it is read");
    let count = "SELECT count(*) FROM aggregated_metrics";
    eventually("windows are stored", || {
        let store = Connection::open_with_flags(dir.path("out.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        store.is_ok_and(|store| store.query_row(count, [], |row| row.get::<_, i64>(0)).is_ok_and(|n| n > 0))
    });
    (pipeline, raw)
}

#[test]
fn the_pipeline_ends_with_its_last_stage_when_it_is_stopped() {
    let dir = Dir::new("pipeline");
    let (mut process, mut raw) = pipeline(&dir, "sqlite:out.db?wait=2m");
    // While another process locks the store, the stage cannot write its rows and so cannot end.
    let other = Connection::open(dir.path("out.db")).expect("it opens");
    other.busy_timeout(Duration::from_secs(60)).expect("set");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody writes for long");
    let events = dir.bytes("in.jsonl");
    raw.write_all(&events[events.len() / 2..]).expect("all but a pipe's worth of it is read");
    kill_process(Pid::from_child(&process), Signal::TERM).expect("it is ours");
    eventually("the stage before it ends", || !is_running(&process, "evt-window"));
    assert!(is_running(&process, "evt-sink") && process.try_wait().expect("it is ours").is_none());
    other.execute_batch("ROLLBACK").expect("it was begun");
    assert_eq!(status(process.wait().expect("it is ours")), 143, "{:?}", String::from_utf8_lossy(&dir.bytes("said")));
    let said = String::from_utf8(dir.bytes("said")).expect("text");
    assert!(said.matches("stopped").count() >= 4 && !said.contains("torn"), "{said}");
}
