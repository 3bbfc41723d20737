//! A thread that owns a connection: commands are packed into one buffer, answers are read one by one, and every wait is
//! bounded.

use crate::redis::connection::{RedisConnection, TOO_MANY_CLIENTS};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::time::rounded;
use evt_run::client::Location;
use evt_run::client::outage::{RetryError, Timeouts};
use evt_run::stop::Stop;
use evt_run::thread;
use redis::{Cmd, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult, Value};
use rustls::ClientConfig;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Encoded commands.
#[derive(Default)]
pub struct Pipe {
    bytes: Vec<u8>,
    commands: usize,
    /// The command that is being encoded.
    command: Cmd,
}

impl Pipe {
    /// Appends a command.
    pub fn push(&mut self, words: &[&str]) {
        self.command.clear();
        self.command.arg(words).write_packed_command(&mut self.bytes);
        self.commands += 1;
    }

    /// Returns the number of commands.
    pub fn len(&self) -> usize {
        self.commands
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Clears it, keeping its capacity.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.commands = 0;
    }
}

/// One answer: a value, or an error reply to that command.
pub type Answer = Result<Value, ErrorReply>;

/// An error reply to one command.
#[derive(Clone, Debug)]
pub struct ErrorReply {
    /// The error code: `WRONGTYPE`, `NOSCRIPT`, …
    pub code: String,
    /// The whole text.
    pub text: String,
}

impl ErrorReply {
    /// Whether the same command may succeed later, on this server or its successor.
    fn passes(&self) -> bool {
        const PASSING: [&str; 11] = [
            "LOADING",
            "BUSY",
            "TRYAGAIN",
            "CLUSTERDOWN",
            "MASTERDOWN",
            "READONLY",
            "OOM",
            "MISCONF",
            "NOREPLICAS",
            "NOSCRIPT",
            "UNBLOCKED",
        ];
        PASSING.contains(&self.code.as_str()) || self.text.contains(TOO_MANY_CLIENTS)
    }

    /// Whether it is about the user or the address.
    fn is_config(&self) -> bool {
        // Redis 7.0 has no code for a command of a script that the user may not run, and 7.2 has another text.
        let without_code = ["The user executing the script can't", "ACL failure in script", "DB index is out of range"];
        ["NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "MOVED", "ASK", "CROSSSLOT"].contains(&self.code.as_str())
            || without_code.iter().any(|text| self.text.contains(text))
    }

    /// Whether the rights of the user or the state of the server cause the error, not the arguments of the command.
    pub fn is_about_server(&self) -> bool {
        self.is_config() || self.passes() && self.code != "NOSCRIPT"
    }
}

/// A server and its timeouts.
pub struct RedisServer {
    info: ConnectionInfo,
    /// The configuration of TLS, if the connection uses it.
    tls: Option<Arc<ClientConfig>>,
    /// Its timeouts.
    pub timeouts: Timeouts,
    /// The URI without secrets.
    pub shown: String,
}

impl RedisServer {
    /// Parses a location. Errors: exit status 2 if it names no server, 78 if the certificate cannot be read.
    pub fn try_new(location: &Location) -> Result<Self> {
        let timeouts = location.timeouts()?;
        let wrong = || Error::usage(format!("{location}: expected redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]"));
        if location.path.contains('#') {
            return Err(wrong().because("expected no fragment"));
        }
        let uses_tls = location.scheme == "rediss";
        if !uses_tls && location.options.contains_key("ca") {
            return Err(Error::usage(format!("{location}: ca requires rediss://, which uses TLS")));
        }
        // The scheme rediss is an error in the crate, because its TLS is not compiled.
        let info = format!("redis://{}", location.path).into_connection_info();
        let info = info.map_err(|error| wrong().because(error.category()))?;
        let tls = uses_tls.then(|| location.tls_config("ca")).transpose()?;
        Ok(Self { info, tls: tls.map(Arc::new), timeouts, shown: location.to_string() })
    }

    /// Converts the failure of a single attempt.
    pub fn failed(&self) -> impl Fn(RetryError) -> Error {
        |failure| failure.into_error(&self.shown)
    }

    /// Connects, authenticates, and checks that the server answers.
    pub fn connect(&self) -> Result<Wire, RetryError> {
        let ((calls, called), (sender, answers)) = (channel(), channel());
        let (info, tls, timeouts) = (self.info.clone(), self.tls.clone(), self.timeouts.clone());
        let converse = move || {
            let (first, connection) = match RedisConnection::open(&info, tls.as_ref(), &timeouts) {
                Ok(connection) => (Ok(vec![]), Some(connection)),
                Err(error) => (Err(error), None),
            };
            if sender.send(first).is_ok()
                && let Some(connection) = connection
            {
                serve(connection, &called, &sender);
            }
        };
        thread::spawn("redis", converse)?;
        let Timeouts { connect, timeout, ref stop, .. } = self.timeouts;
        let mut wire = Wire { calls, answers, shown: self.shown.clone(), timeout: connect, stop: stop.clone() };
        wire.take()?;
        wire.timeout = timeout;
        Ok(wire)
    }
}

/// A request to the thread that owns the connection.
enum ConnectionRequest {
    /// Send these bytes; only a failure is answered.
    Send(Vec<u8>),
    /// Receive this many answers.
    Receive(usize),
}

/// Serves calls until one fails or the callers are gone.
fn serve(
    mut connection: RedisConnection,
    called: &Receiver<ConnectionRequest>,
    answers: &Sender<RedisResult<Vec<Value>>>,
) {
    for call in called {
        let done = match call {
            ConnectionRequest::Send(bytes) => match connection.send(&bytes) {
                Ok(()) => continue,
                Err(error) => Err(error),
            },
            ConnectionRequest::Receive(count) => (0..count).map(|_| connection.receive()).collect(),
        };
        let has_failed = done.is_err();
        if answers.send(done).is_err() || has_failed {
            return;
        }
    }
}

/// Classifies an error of the connection, or one that concerns all commands.
fn trouble(shown: &str, error: &RedisError, waited: Duration) -> RetryError {
    if error.is_timeout() {
        return RetryError::Transient(format!("no response for {}", rounded(waited)));
    }
    match error.code() {
        Some(code) => {
            let text = format!("{code} {}", error.detail().unwrap_or_default());
            refused(shown, &ErrorReply { code: code.to_owned(), text })
        }
        None if error.kind() == redis::ErrorKind::AuthenticationFailed => {
            RetryError::Permanent(Error::config(format!("{shown}: wrong user or password")))
        }
        // A failed handshake is an I/O error; a wrong certificate is permanent.
        None if error.to_string().contains("certificate") => {
            RetryError::Permanent(Error::config(format!("{shown}: TLS")).because(io_cause(error)))
        }
        None if error.is_io_error() => RetryError::Transient(io_cause(error)),
        None => RetryError::Permanent(Error::failed(format!("{shown}: failed")).because(error)),
    }
}

/// Returns the operating system's message without Rust's "(os error 111)".
fn io_cause(error: &RedisError) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Classifies an error reply that does not concern one row.
pub fn refused(shown: &str, refusal: &ErrorReply) -> RetryError {
    if refusal.passes() {
        return RetryError::Transient(refusal.text.clone());
    }
    let kind = if refusal.is_config() { ErrorKind::Config } else { ErrorKind::Io };
    let mut cause = refusal.text.clone();
    if matches!(refusal.code.as_str(), "MOVED" | "ASK") {
        cause.push_str(": a cluster of several nodes is not supported");
    }
    RetryError::Permanent(Error::new(kind, format!("{shown}: rejected")).because(cause))
}

/// An open connection. After a failure it must be dropped, because answers may still arrive. A thread of its own waits
/// on the socket, so that a signal can bound the wait.
pub struct Wire {
    calls: Sender<ConnectionRequest>,
    answers: Receiver<RedisResult<Vec<Value>>>,
    shown: String,
    timeout: Duration,
    stop: Stop,
}

impl Wire {
    /// Sends the commands in `pipe`; answers must be received in the same order.
    pub fn send(&mut self, pipe: &Pipe) -> Result<(), RetryError> {
        match self.calls.send(ConnectionRequest::Send(pipe.bytes.clone())) {
            Ok(()) => Ok(()),
            // The thread has ended after an earlier failure.
            Err(_) => self.take().map(|_| ()),
        }
    }

    /// Receives the thread's next answer.
    fn take(&mut self) -> Result<Vec<Value>, RetryError> {
        match self.stop.server_wait().receive(&self.answers, Duration::MAX) {
            Ok(answered) => answered.map_err(|error| trouble(&self.shown, &error, self.timeout)),
            Err(_) => Err(RetryError::Transient("no response".to_owned())),
        }
    }

    /// Receives the answers to the next `count` commands.
    pub fn receive(&mut self, count: usize) -> Result<Vec<Answer>, RetryError> {
        // If the thread has ended, its last answer holds the reason.
        let _ = self.calls.send(ConnectionRequest::Receive(count));
        let answer = |value| match value {
            Value::ServerError(error) => {
                let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
                Err(ErrorReply { code: error.code().to_owned(), text: text.trim_end().to_owned() })
            }
            value => Ok(value),
        };
        Ok(self.take()?.into_iter().map(answer).collect())
    }

    /// Sends the commands in `pipe` and receives an answer for each.
    pub fn query(&mut self, pipe: &Pipe) -> Result<Vec<Answer>, RetryError> {
        self.send(pipe)?;
        self.receive(pipe.len())
    }

    /// Sends one command and returns its answer; an error reply is an error.
    pub fn call(&mut self, words: &[&str]) -> Result<Value, RetryError> {
        let mut pipe = Pipe::default();
        pipe.push(words);
        let answer = self.query(&pipe)?.pop().unwrap_or(Ok(Value::Nil));
        answer.map_err(|refusal| refused(&self.shown, &refusal))
    }

    /// Reads the server's clock.
    pub fn clock(&mut self) -> Result<ServerClock, RetryError> {
        let Value::Array(parts) = self.call(&["TIME"])? else { return Err(self.strange("TIME").into()) };
        let part = |index: usize| parts.get(index).and_then(text).and_then(|text| text.parse::<i64>().ok());
        match (part(0), part(1)) {
            (Some(seconds), Some(micros)) => {
                let millis = seconds.saturating_mul(1000).saturating_add(micros / 1000);
                Ok(ServerClock { millis, read: Instant::now() })
            }
            _ => Err(self.strange("TIME").into()),
        }
    }

    /// Makes the error for an answer that Redis never gives.
    pub fn strange(&self, command: &str) -> Error {
        Error::failed(format!("{}: {command}: unexpected reply", self.shown))
    }
}

/// The time of a server's clock, and when it was read.
pub struct ServerClock {
    millis: i64,
    read: Instant,
}

impl ServerClock {
    /// Returns its present time in milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.millis.saturating_add(i64::try_from(self.read.elapsed().as_millis()).unwrap_or(0))
    }
}

/// Returns the text of a string answer.
pub fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
