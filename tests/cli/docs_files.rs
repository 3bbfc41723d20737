//! Files and lines of README and man pages that need no server: configuration, metrics, channels, tokens, crontabs,
//! services.

use crate::documents::{blocks, read};
use crate::harness::{Dir, ROOT};
use crate::listener::{Listener, event};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The only block of a section.
fn block(document: &str, section: &str) -> String {
    let [block] = blocks(document, section).try_into().expect("one block");
    block
}

/// The command of a line of crontab(5), in which a % is a line break unless it is `\%`.
pub fn of_cron(line: &str) -> String {
    let command = line.splitn(6, ' ').nth(5).unwrap_or_else(|| panic!("five fields and a command: {line}"));
    assert!(!command.replace("\\%", "").contains('%'), "a line break: {line}");
    command.replace("\\%", "%")
}

#[test]
fn the_file_of_metrics_gives_the_revenue_of_each_country() {
    let dir = Dir::new("page-metrics");
    dir.write("metrics.toml", block("man/evt-metrics.5", "DESCRIPTION"));
    dir.shell("evt-gen -q --events 3k --rate 20 --seed 7 > events.jsonl").succeeds();
    let checked = dir.run("evt-window", &["-m", "metrics.toml", "--check"]).succeeds().text();
    assert!(checked.contains("revenue") && checked.contains("sum(amount)"), "{checked}");
    let line = "evt-window -q -m metrics.toml events.jsonl --out-of-orderness all -o jsonl";
    let (mut found, mut expected) = (BTreeMap::<String, f64>::new(), BTreeMap::<String, f64>::new());
    for row in dir.shell(line).succeeds().rows() {
        assert_eq!(row["metric_name"], "revenue");
        *found.entry(row["dimensions"]["country"].to_string()).or_default() += row["value"].as_f64().expect("a sum");
    }
    for event in dir.rows("events.jsonl").iter().filter(|event| event["event_type"] == "purchase") {
        let of_event = &event["properties"];
        *expected.entry(of_event["country"].to_string()).or_default() += of_event["amount"].as_f64().expect("a price");
    }
    assert!(found.len() > 5 && found.keys().eq(expected.keys()), "{found:?} {expected:?}");
    for (country, sum) in &found {
        assert!((sum - expected[country]).abs() < 1e-6, "{country}: {sum} {}", expected[country]);
    }
}

#[test]
fn the_configuration_is_that_of_a_pipe() {
    let dir = Dir::new("page-configuration");
    dir.write("evt.toml", block("man/evt.7", "CONFIGURATION"));
    dir.shell("evt-gen -q --events 2k --rate 20 --seed 7 --malformed 1% > events.jsonl").succeeds();
    let pipe =
        "export EVT_CONFIG=evt.toml; evt-ingest -q events.jsonl | evt-window -q --out-of-orderness all | evt-sink -q";
    dir.shell(pipe).succeeds();
    let letters = dir.rows("dead.jsonl").len();
    assert!(letters > 5, "{letters}");
    for store in ["sqlite:metrics.db?table=aggregated_metrics", "parquet:lake/metrics"] {
        let rows = dir.run("evt-view", &["-q", "-o", "jsonl", store]).succeeds().rows();
        let counted: i64 = rows.iter().map(|row| row["rows"].as_i64().expect("a count")).sum();
        assert_eq!(usize::try_from(counted).expect("a count"), 2_000 - letters, "{store}");
        let dimensions = rows[0]["dimensions"].as_object().expect("dimensions");
        assert!(dimensions.keys().eq(["country", "event_type"]), "{dimensions:?}");
    }
}

#[test]
fn the_file_of_channels_is_valid() {
    let dir = Dir::new("page-channels");
    let file = block("man/evt-channels.5", "DESCRIPTION").replace("{file:/etc/evt/", "{file:etc/evt/");
    dir.write("channels.toml", file);
    dir.write("etc/evt/smtp.password", "a-long-password\n");
    let rule = block("man/evt-rules.5", "DESCRIPTION");
    dir.write("rules.toml", format!("{rule}notification_channel = \"oncall,mail\"\n"));
    let check = "evt-alert --check --rules rules.toml --notify channels.toml --state alerts.db";
    let run = dir.shell(&format!("PAGERDUTY_ROUTING_KEY={} {check}", "k".repeat(32))).succeeds();
    for line in ["rule error_share: ready\n", "channel 'oncall': ready\n", "channel 'mail': ready\n"] {
        assert!(run.text().contains(line), "{run}");
    }
    let run = dir.shell(&format!("unset PAGERDUTY_ROUTING_KEY; {check}")).ends_with(78);
    assert!(run.stderr().contains("PAGERDUTY_ROUTING_KEY"), "{run}");
}

#[test]
fn the_rule_of_a_silent_source_ends_a_day_later() {
    let dir = Dir::new("page-sparse");
    dir.write("rules.toml", block("man/evt-rules.5", "SPARSE DATA"));
    let of = |source: &str, count: u32| {
        format!("[[test.series]]\nevery = \"1m\"\ncount = {count}\nset = {{ source = \"{source}\" }}\n")
    };
    let fires = |at: &str, firing: &str| format!("[[test.expect]]\nat = \"{at}\"\nfiring = [{firing}]\n");
    // The last row of `ios` is an hour after the first one.
    let alert = "{ rule = \"source_silent\", dimensions = { source = \"ios\" }, since = \"65m\" }";
    let test = format!("[[test]]\nname = \"silence\"\n{}{}", of("web", 2000), of("ios", 61));
    let expected = [fires("3899s", ""), fires("65m", alert), fires("89999s", alert), fires("25h", "")];
    dir.write("test.toml", test + &expected.concat());
    dir.run("evt-alert", &["test", "rules.toml", "test.toml"]).succeeds();
}

#[test]
fn the_registry_has_the_layout_of_its_page() {
    let dir = Dir::new("page-registry");
    let (mut levels, mut versions) = (String::new(), vec![]);
    for line in block("man/evt-registry.5", "DESCRIPTION").lines() {
        let (path, told) = line.split_at(line.find(' ').unwrap_or(line.len()));
        match path {
            "" | "schemas/levels.toml" => levels += &format!("{}\n", told.trim()),
            _ => versions.push(path.to_owned()),
        }
    }
    dir.write("schemas/levels.toml", levels);
    assert_eq!(versions.len(), 3, "{versions:?}");
    for path in versions {
        let purchase =
            path.strip_prefix("schemas/purchase/").map(|version| read(&format!("examples/schemas/purchase/{version}")));
        dir.write(&path, purchase.unwrap_or_else(|| read("examples/schemas/click/1.avsc")));
    }
    let listed = dir.run("evt-schema", &["list", "--schemas", "schemas"]).succeeds().text();
    assert_eq!(listed, "purchase FULL_TRANSITIVE 1 2\nrepo/push BACKWARD 1\n");
}

#[test]
fn the_job_of_each_day_carries_open_windows_over() {
    let dir = Dir::new("page-jobs");
    let [day, end] = blocks("man/evt-checkpoint.5", "EXAMPLE").try_into().expect("two");
    dir.write("metrics.toml", "[[metric]]\nname = \"events\"\nsize = \"1h\"\n");
    // Each file ends within an hour that the next one continues.
    dir.shell(
        "evt-gen -q --events 3k --rate 0.02 --seed 5 --start 2026-01-05T00:00:00Z > all.jsonl \
         && head -n 1400 all.jsonl > 2026-01-05.jsonl && tail -n +1401 all.jsonl > 2026-01-06.jsonl",
    )
    .succeeds();
    for date in ["2026-01-05", "2026-01-06", "2026-01-06"] {
        dir.shell(&format!("date() {{ [[ $* == +%F ]] && echo {date}; }}; {day}")).succeeds();
    }
    let stored = || {
        let rows = dir.shell("evt-view -q -o jsonl 'sqlite:m.db?table=aggregated_metrics'").succeeds().rows();
        rows.iter().map(|row| row["rows"].as_i64().expect("a count")).sum::<i64>()
    };
    let before = stored();
    assert!(before < 3_000, "{before}: the last window is open");
    dir.shell(&end).succeeds();
    let late = dir.shell("cat late.jsonl 2> /dev/null | wc -l").text().trim().parse::<i64>().expect("a count");
    assert_eq!(stored() + late, 3_000);
}

#[test]
fn the_line_of_cron_mails_alerts_of_a_log_that_grows() {
    let dir = Dir::new("page-cron");
    let line = block("man/about/evt-alert", "");
    let line = of_cron(line.trim()).replace("/etc/", "etc/").replace("/var/", "var/");
    dir.write("etc/evt/rules.toml", block("man/evt-rules.5", "DESCRIPTION"));
    let events = |minute: usize, kind: &str| {
        let event = |second: usize| {
            let time = format!("2026-01-05T10:{minute:02}:{second:02}Z");
            format!("{{\"source\":\"web\",\"event_type\":\"{kind}\",\"server_timestamp\":\"{time}\"}}\n")
        };
        (0..60).map(event).collect::<String>()
    };
    let (calm, faulty) = ((0..5).map(|minute| events(minute, "view")).collect::<String>(), |end| {
        (5..end).map(|minute| events(minute, "error")).collect::<String>()
    });
    dir.shell("mkdir -p var/lib/evt").succeeds();
    for (log, fires) in [(calm.clone(), 0), (format!("{calm}{}", faulty(8)), 1), (format!("{calm}{}", faulty(9)), 0)] {
        dir.write("var/log/shop/events.jsonl", log);
        let run = dir.shell(&line);
        assert_eq!(run.rows().iter().filter(|row| row["state"] == "firing").count(), fires, "{run}");
    }
}

#[test]
fn each_path_of_the_http_server_answers() {
    let dir = Dir::new("page-paths");
    let listener = Listener::open(&dir, &["--to", "out.jsonl"]);
    let [paths, _] = blocks("man/about/evt-ingest", "").try_into().expect("two");
    let mut asked = 0;
    for line in paths.lines().filter(|line| !line.starts_with(' ')) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().expect("a path")) {
            (Some("POST"), "/v1/events") => {
                for said in
                    ["{\"events\":[...]}", "one event,", "one event per line (application/x-ndjson)", "gzip, zstd"]
                {
                    assert!(line.contains(said), "{line}");
                }
                let (one, many) = (event(1, "s"), format!("{{\"events\":[{},{}]}}", event(2, "s"), event(3, "s")));
                let lines = format!("{}\n{}\n", event(4, "s"), event(5, "s"));
                assert_eq!(listener.json(&one).status, 200);
                assert_eq!(listener.json(&many).json()["accepted"], 2);
                let ndjson = [("content-type", "application/x-ndjson")];
                assert_eq!(listener.post(&ndjson, lines.as_bytes()).json()["accepted"], 2);
                for program in ["gzip", "zstd"] {
                    dir.write("body", &one);
                    let body = dir.shell(&format!("{program} -c body")).succeeds();
                    let headers = [("content-type", "application/json"), ("content-encoding", program)];
                    assert_eq!(listener.post(&headers, body.stdout()).status, 200, "{program}");
                }
            }
            (Some("GET"), path) => {
                let answer = listener.get(path);
                assert_eq!(answer.status, 200, "{path}");
                assert!(path != "/metrics" || answer.body.contains("evt_events_total{"), "{answer:?}");
            }
            (method, path) => panic!("{method:?} {path}: no test"),
        }
        asked += 1;
    }
    assert_eq!(asked, 4);
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 7);
}

#[test]
fn the_file_of_tokens_is_valid() {
    let dir = Dir::new("page-tokens");
    let [_, file] = blocks("man/about/evt-ingest", "").try_into().expect("two");
    let (secret, elided) = ("secret-of-ios", "sha256 = \"...\"");
    assert!(file.contains(elided) && file.contains("or secret = \"...\"\n"), "{file}");
    let hex: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    for written in [format!("sha256 = \"{hex}\""), format!("secret = \"{secret}\"")] {
        dir.write("tokens.toml", file.replace(elided, &written));
        let listener = Listener::open(&dir, &["--tokens", "tokens.toml", "--to", "null:"]);
        let status = |bearer: &str, source: &str| {
            let bearer = format!("Bearer {bearer}");
            let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
            listener.post(&headers, event(1, source).as_bytes()).status
        };
        assert_eq!([status(secret, "ios"), status(secret, "web"), status("other", "ios")], [200, 403, 401]);
        listener.stop();
    }
}

/// The programs of systemd are replaced by one that knows the units that are installed.
#[test]
fn the_lines_that_install_services_install_all_that_these_need() {
    let dir = Dir::new("page-services");
    let lines = block("README.md", "As services");
    let (lines, last) = lines.trim_end().rsplit_once('\n').expect("lines");
    // The passwords that a person types are on standard input.
    let lines = lines.replace("/dev/stdin", "<(echo a-long-password)").replace(" /etc/", " $ROOT/etc/");
    dir.write(
        "bin/systemctl",
        "#!/bin/bash\nset -e\nfor word; do [[ $word == evt-* ]] || continue\n\
         test -f \"$ROOT/etc/systemd/system/$word.service\" && echo \"$1 $word\"; done\n",
    );
    let run = dir.shell(&format!(
        "chmod +x bin/systemctl; export ROOT=$PWD PATH=$PWD/bin:$PATH; mkdir -p etc/systemd/system; cd {ROOT} && set -e\n{lines}"
    ));
    let run = run.succeeds();
    for unit in
        ["enable evt-ingest", "enable evt-validate", "enable evt-window", "enable evt-sink", "status evt-window"]
    {
        assert!(run.text().contains(unit), "{run}");
    }
    // Every file that the units and the configuration name is there, but for those that a comment leaves to the reader.
    let named = dir.shell(
        "grep -hv '^#' etc/evt/*.toml etc/systemd/system/evt-{ingest,validate,window,sink,alert}.service | grep -o '/etc/evt/[a-z./_-]*' | sort -u",
    );
    let mut found = 0;
    for path in named.succeeds().text().lines() {
        let is_left = lines.contains(&format!("with $ROOT{path}"));
        assert!(is_left || dir.path(&path[1..]).exists(), "{path} is not installed by:\n{lines}");
        found += 1;
    }
    assert!(found > 4, "{found}");
    // The last line asks a tool with the flag of the configuration.
    let config = String::from_utf8(dir.bytes("etc/evt/evt.toml")).expect("text");
    let section = config.split("[evt-window]\n").nth(1).expect("a section");
    assert!(
        section.starts_with("prometheus = \":9183\"\n") && last.contains("curl -s localhost:9183/metrics"),
        "{last}"
    );
    // The system chooses the port, and the run says which one it is.
    let window = "evt-window -f jsonl --size 1m --late null: -o jsonl --prometheus 127.0.0.1:0";
    let asked = last.replace("localhost:9183/metrics", "$url");
    dir.shell(&format!(
        "evt-gen -q --events 100 --rate 1 > events.jsonl; mkfifo pipe; {window} < pipe > rows.jsonl 2> said & exec 3> pipe
         cat events.jsonl >&3
         until url=$(grep -o 'http://[^/]*/metrics' said)
         do kill -0 $! || exit 1; done
         until {asked}
         do kill -0 $! || exit 1; done; exec 3>&-; wait $!"
    ))
    .succeeds();
}
