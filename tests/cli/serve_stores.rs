//! evt-serve with every kind of store, with hot and cold ones together, and while their servers are killed.

use crate::harness::{Dir, ROOT, Run};
use crate::serve::{DAY, fill, serve, windows, write_metrics};
use crate::servers::{postgres, redis, server};
use serde_json::Value;

/// What a server answers about the metrics: windows with how final they are, and series.
fn answers(dir: &Dir, store: &str) -> Vec<Value> {
    let server = serve(dir, &["--from", store]);
    let v1 = |metric: &str, rest: &str| {
        let answer = server.get(&format!("/v1/metrics/{metric}?{DAY}{rest}")).json();
        assert!(answer["windows"].as_array().is_some_and(|windows| !windows.is_empty()), "{store}: {answer}");
        serde_json::json!([answer["windows"], answer["watermark"]])
    };
    let api = |path: &str| server.get(&format!("/api/v1/{path}")).json()["data"].clone();
    let range = "start=1767571200&end=1767578400&step=60";
    let found = vec![
        v1("visits", ""),
        v1("visits", "&dimensions=country:,device:web"),
        v1("latency", ""),
        v1("sessions", "&dimensions=country:*"),
        api(&format!("query_range?query=sum+by+(country)(sum_over_time(visits[5m]))&{range}")),
        api(&format!("query_range?query=latency&{range}")),
        api(&format!("series?match[]=visits&{range}")),
        server.get("/v1/metrics").json(),
    ];
    server.stop();
    found
}

#[test]
fn every_store_gives_the_same_answers() {
    let dir = Dir::new("serve-every");
    fill(&dir, "m.db");
    let right = answers(&dir, "sqlite:m.db");
    let lakes = ["parquet:lake", "iceberg:warehouse/"].map(str::to_owned);
    let on_servers = [redis().map(|(uri, ..)| uri), postgres().map(|(uri, ..)| uri)];
    for store in lakes.into_iter().chain(on_servers.into_iter().flatten()) {
        write_metrics(&dir, &store);
        for (found, right) in answers(&dir, &store).iter().zip(&right) {
            assert_eq!(found, right, "{store}");
        }
    }
}

#[test]
fn an_emptied_redis_is_not_taken_for_silence() {
    let Some((uri, server, prefix)) = redis() else { return };
    let dir = Dir::new("serve-emptied");
    fill(&dir, "m.db");
    write_metrics(&dir, &uri);
    let own =
        serve(&dir, &["--from", &format!("{uri}&span=24h"), "--from", "sqlite:m.db", "--now", "2026-01-06T00:20:00Z"]);
    let ask = || own.get(&format!("/v1/metrics/visits?{DAY}")).json();
    let store = |answer: &Value, at: usize| answer["stores"][at]["store"].as_str().unwrap_or_default().to_owned();
    let whole = ask();
    assert!(store(&whole, 0).starts_with("redis://") && store(&whole, 1) == "sqlite:m.db", "{whole}");
    dir.shell(&format!("redis-cli -u {server} --scan --pattern '{prefix}*' | xargs redis-cli -u {server} DEL"))
        .succeeds();
    let emptied = ask();
    assert_eq!((store(&emptied, 0).as_str(), emptied["partial"].clone()), ("sqlite:m.db", Value::Null));
    assert_eq!(windows(&emptied), windows(&whole));
    // A run that begins anew is complete from then on.
    dir.shell("tail -n 3000 events.jsonl > tail.jsonl").succeeds();
    dir.shell(&format!("evt-window -q -m metrics.toml --out-of-orderness all tail.jsonl --to '{uri}'")).succeeds();
    own.stop();
}

/// Each server is killed and started again, and the answers of each time are kept.
const KILLS: &str = r#"
set -euo pipefail
services() { "$SERVICES" "$@" >&2; }
for store in "$EVT_REDIS" "$EVT_POSTGRES"; do
    evt-window -q -m metrics.toml --out-of-orderness all events.jsonl --to "$store"
done
evt-serve http://127.0.0.1:0 --from "$EVT_REDIS?span=24h" --from "$EVT_POSTGRES" --now 2026-01-06T00:20:00Z 2>log &
server=$!
trap 'kill $server' EXIT
until url=$(grep -o 'http://[0-9.:]*' log); do kill -0 $server; done
# Keeps an answer once it is as expected, at most five seconds later.
ask() {
    local end=$((SECONDS + 6))
    until curl -s -o "$1.json" -w '%{http_code}' "$url/v1/metrics/visits?$DAY" >"$1.status" && grep -q "$2" "$1.json"; do
        ((SECONDS < end))
    done
}
ask whole '"stores":.*redis.*postgres'
services kill redis
ask without-redis '"partial":true'
services start redis
ask redis-again '"corrections":0}'
services kill postgres
ask without-postgres '"partial":true'
services start postgres
ask postgres-again '"stores":.*postgres.*"corrections":0}'
services kill redis postgres
ask none error
services start redis postgres
ask both-again '"corrections":0}'
"#;

#[test]
fn servers_killed_under_requests_make_answers_partial_and_never_wrong() {
    if server("EVT_REDIS").is_none() || server("EVT_POSTGRES").is_none() {
        return;
    }
    let dir = Dir::new("serve-kills");
    fill(&dir, "m.db");
    dir.write("kills.sh", KILLS);
    let services = format!("{ROOT}/scripts/services");
    let mut command = dir.command(&services, &["run", "redis", "postgres", "--", "bash", "kills.sh"]);
    command.env("SERVICES", &services).env("DAY", DAY);
    command.envs(std::env::var_os("EVT_CACHE").map(|value| ("EVT_CACHE", value)));
    let run = Run::of(command.stdin(std::process::Stdio::null())).succeeds();
    let answer = |name: &str| -> Value {
        serde_json::from_slice(&dir.bytes(&format!("{name}.json")))
            .unwrap_or_else(|error| panic!("{name}: {error} {run}"))
    };
    let whole = answer("whole");
    let all = windows(&whole);
    assert!(all.len() > 500, "{}", all.len());
    for name in ["redis-again", "postgres-again", "both-again"] {
        assert_eq!((windows(&answer(name)), answer(name)["partial"].clone()), (all.clone(), Value::Null), "{name}");
    }
    // Postgres has everything; Redis only what its span leaves to it.
    assert_eq!(windows(&answer("without-redis")), all);
    let hot = windows(&answer("without-postgres"));
    let of_hot = |window: &Value| window["window_end"].as_str().is_some_and(|end| end > "2026-01-05T00:20:00.000000Z");
    assert_eq!(hot, all.iter().filter(|window| of_hot(window)).cloned().collect::<Vec<_>>());
    assert_eq!(dir.bytes("none.status"), b"503");
}
