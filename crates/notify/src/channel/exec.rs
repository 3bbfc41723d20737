//! A command: the row of the alert as one JSON line on its standard input, and the idempotency key in `EVT_ALERT_KEY`.
//!
//! Status 0 is a delivery; 64, 65 and 78 (sysexits: usage, data, configuration) refuse the notification permanently;
//! any other status, and a command that cannot be started, is a failure that is retried. A command that takes longer
//! than the timeout is killed with its process group.

use super::{Attempt, Notification, Transport, cut, one_line};
use crate::settings::Settings;
use evt_core::error::Result;
use evt_core::time::rounded;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Interval at which a running command is checked.
const POLL: Duration = Duration::from_millis(10);
/// Maximum bytes of its standard error in a message.
const SHOWN_MAX: u64 = 200;
/// Exit statuses with which the command refuses a notification permanently.
const REFUSALS: [i32; 3] = [64, 65, 78];

/// A command with its arguments.
pub struct Exec {
    command: Vec<String>,
    env: BTreeMap<String, String>,
    timeout: Duration,
}

impl Exec {
    /// Reads the channel's settings. Errors: exit status 78.
    pub fn read(settings: &Settings<'_>, timeout: Duration) -> Result<Self> {
        let (command, env) = (settings.texts("command")?, settings.pairs("env")?);
        if command.first().is_none_or(String::is_empty) {
            return Err(settings.fault("command", "expected the program and its arguments"));
        }
        if env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(settings.fault("env", "expected names of environment variables"));
        }
        Ok(Self { command, env, timeout })
    }

    fn start(&self, notification: &Notification, log: &File) -> std::io::Result<Child> {
        // A file, not a pipe: a command that does not read its input cannot block.
        let mut input = tempfile::tempfile()?;
        writeln!(input, "{}", notification.row)?;
        input.rewind()?;
        let (program, arguments) = self.command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        Command::new(program)
            .args(arguments)
            .envs(&self.env)
            .env("EVT_ALERT_KEY", notification.key())
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(log.try_clone()?)
            .process_group(0)
            .spawn()
    }

    /// Waits for a command; `None` if it was killed at the timeout.
    fn wait(&self, child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
        let begun = Instant::now();
        while begun.elapsed() < self.timeout {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(POLL);
        }
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // The command may have ended in the meantime.
            _ = kill_process_group(group, Signal::KILL);
        }
        child.wait()?;
        Ok(None)
    }
}

impl Transport for Exec {
    fn deliver(&mut self, notification: &Notification) -> Attempt {
        let failed = |error: std::io::Error| Attempt::unreachable(format!("cannot run {}: {error}", self.command[0]));
        let mut log = match tempfile::tempfile() {
            Ok(log) => log,
            Err(error) => return failed(error),
        };
        let mut child = match self.start(notification, &log) {
            Ok(child) => child,
            Err(error) => return failed(error),
        };
        let status = match self.wait(&mut child) {
            Ok(Some(status)) => status,
            Ok(None) => return Attempt::unclear(format!("killed after {}", rounded(self.timeout))),
            Err(error) => return Attempt::unclear(error),
        };
        if status.success() {
            return Attempt::Sent;
        }
        let mut said = vec![];
        _ = log.rewind().and_then(|()| (&log).take(SHOWN_MAX).read_to_end(&mut said));
        let said = cut(one_line(&String::from_utf8_lossy(&said)).trim(), SHOWN_MAX as usize);
        let cause = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        match status.code() {
            Some(code) if REFUSALS.contains(&code) => Attempt::Refused(cause),
            _ => Attempt::Failed { cause, after: None, is_unclear: true, is_of_receiver: false },
        }
    }
}
