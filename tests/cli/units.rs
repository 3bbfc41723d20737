//! When systemd starts the units again, computed from their files by the rules of systemd.service(5) and
//! systemd.unit(5).

use crate::harness::{Dir, ROOT};
use crate::services::{DELAYS, EVENT};
use std::path::Path;
use std::time::Duration;

/// How long `--check` waits for servers: 10 s, and 2 s for a client that exceeds them.
const CHECK: Duration = Duration::from_secs(12);
/// When systemd ends a start that is not complete (DefaultTimeoutStartSec=).
const START_MAX: Duration = Duration::from_secs(90);
/// Signals that systemd calls clean: HUP, INT, PIPE and TERM.
const CLEAN: [(i32, &str); 4] = [(1, "SIGHUP"), (2, "SIGINT"), (13, "SIGPIPE"), (15, "SIGTERM")];
/// A day: longer than any server is away.
const OUTAGE: Duration = Duration::from_secs(86_400);

/// How a process ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Exit(i32),
    Signal(i32),
}

/// The settings of a unit, as one version of systemd reads them.
struct ServiceUnit {
    name: String,
    settings: Vec<(String, String)>,
}

impl ServiceUnit {
    fn value(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn words(&self, key: &str) -> Vec<&str> {
        self.value(key).unwrap_or_default().split(' ').filter(|word| !word.is_empty()).collect()
    }

    fn span(&self, key: &str) -> Option<Duration> {
        let text = self.value(key)?;
        let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
        let seconds = number("min").map(|minutes| minutes * 60).or_else(|| number("s")).or_else(|| text.parse().ok());
        Some(Duration::from_secs(seconds.unwrap_or_else(|| panic!("{}: {key}={text}", self.name))))
    }

    /// Whether systemd starts it again after this end, which nobody asked systemd for.
    fn is_started_again(&self, ended: Ended) -> bool {
        let name = match ended {
            Ended::Exit(status) => status.to_string(),
            Ended::Signal(number) => {
                CLEAN.iter().find(|clean| clean.0 == number).map_or_else(String::new, |clean| clean.1.to_owned())
            }
        };
        let lists = |key: &str| self.words(key).contains(&name.as_str());
        if lists("RestartPreventExitStatus") || lists("RestartForceExitStatus") {
            return !lists("RestartPreventExitStatus");
        }
        assert_eq!(self.value("Restart"), Some("on-failure"), "{}", self.name);
        let is_clean = match ended {
            Ended::Exit(status) => status == 0,
            Ended::Signal(_) => !name.is_empty(),
        };
        !is_clean && !lists("SuccessExitStatus")
    }

    /// The delay before restart `number`, from 1 (`service_restart_usec_next` of systemd).
    fn delay(&self, number: u32) -> Duration {
        let least = self.span("RestartSec").expect("it is set");
        let steps = self.value("RestartSteps").map_or(0, |steps| steps.parse().expect("a number"));
        let most = self.span("RestartMaxDelaySec").unwrap_or(least);
        match steps {
            0 => least,
            steps if number > steps => most,
            steps => {
                let growth = most.as_secs_f64() / least.as_secs_f64();
                least.mul_f64(growth.powf(f64::from(number - 1) / f64::from(steps)))
            }
        }
    }

    /// When starts begin, from 0 to the end of the outage, if each takes `start` and fails. They end early if systemd
    /// gives up.
    fn starts(&self, start: Duration) -> Vec<Duration> {
        // systemd's defaults.
        let interval = self.span("StartLimitIntervalSec").unwrap_or(Duration::from_secs(10));
        let burst = self.value("StartLimitBurst").map_or(5, |burst| burst.parse().expect("a number"));
        let (mut begun, mut now) = (vec![], Duration::ZERO);
        for number in 1.. {
            let recent = begun.iter().rev().take_while(|at| now - **at < interval).count();
            if now > OUTAGE || recent >= burst && !interval.is_zero() {
                break;
            }
            begun.push(now);
            now += start + self.delay(number);
        }
        begun
    }
}

/// The units that run all the time, as systemd since 254 reads them, and as older ones do with `before-254.conf`.
fn units() -> Vec<ServiceUnit> {
    let systemd = Path::new(ROOT).join("systemd");
    let read = |path: &Path| std::fs::read_to_string(path).expect("text");
    let settings = |text: &str, knows_delays: bool| -> Vec<(String, String)> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let known = lines.filter(|line| knows_delays || !DELAYS.iter().any(|key| line.starts_with(key)));
        known.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let older = settings(&read(&systemd.join("before-254.conf")), false);
    let mut units = vec![];
    for entry in std::fs::read_dir(&systemd).expect("it is there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = if name.ends_with(".service") { read(&path) } else { continue };
        if !text.contains("Type=oneshot") {
            let older = [settings(&text, false), older.clone()].concat();
            units.push(ServiceUnit { name: format!("{name}, systemd 252"), settings: older });
            units.push(ServiceUnit { name, settings: settings(&text, true) });
        }
    }
    assert!(units.len() >= 12, "{}", units.len());
    units
}

#[test]
fn a_unit_stays_down_only_after_an_end_that_another_start_would_repeat() {
    for unit in units() {
        let exits = (0..256).map(Ended::Exit).filter(|ended| !unit.is_started_again(*ended));
        let exits: Vec<i32> = exits.map(|ended| if let Ended::Exit(status) = ended { status } else { -1 }).collect();
        assert_eq!(exits, [0, 1, 2, 78], "{}", unit.name);
        let signals: Vec<i32> = (1..65).filter(|number| !unit.is_started_again(Ended::Signal(*number))).collect();
        assert_eq!(signals, [0; 0], "{}", unit.name);
    }
}

#[test]
fn a_server_that_is_away_for_a_day_puts_no_unit_down() {
    for unit in units() {
        // The shortest start is that of a fault that needs no server, such as 65; the longest is ended by systemd.
        for start in [Duration::ZERO, CHECK + Duration::from_secs(30), CHECK + START_MAX] {
            let begun = unit.starts(start);
            let last = *begun.last().expect("there is a first one");
            let longest = begun.windows(2).map(|two| two[1] - two[0]).max().expect("there are several");
            let (next, delay) = (last + longest, longest - start);
            assert!(next > OUTAGE, "{}: the last start at {last:?}, each of {start:?}", unit.name);
            assert!(delay <= Duration::from_secs(31), "{}: {delay:?} until the next start", unit.name);
            let (first, later) = (unit.delay(1), unit.delay(100));
            match unit.name.contains("252") {
                true => assert_eq!((first, later), (later, Duration::from_secs(30)), "{}", unit.name),
                false => assert!(first < unit.delay(2) && unit.delay(2) < later, "{}", unit.name),
            }
        }
    }
}

/// The units start again after the exit status with which a run ends whose server is away.
#[test]
fn a_run_whose_server_stays_away_ends_so_that_its_unit_starts_again() {
    let dir = Dir::new("units-away");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    let units = units();
    for line in [
        "evt-ingest e.jsonl --dlq null: --to 'postgres://u@127.0.0.1:1/d?retry=300ms'",
        "evt-window e.jsonl --size 1m --late null: --dlq null: --to 'redis://127.0.0.1:1?retry=300ms'",
        "evt-ingest e.jsonl --dlq null: --to 'kafka://127.0.0.1:1/t?wait=300ms'",
        "evt-validate e.jsonl --dlq null: --to null: --schemas 'http://127.0.0.1:1?retry=300ms'",
    ] {
        let run = dir.shell(line).ends_with(69);
        let again = units.iter().filter(|unit| unit.is_started_again(Ended::Exit(run.status())));
        assert_eq!(again.count(), units.len(), "{run}");
    }
}
