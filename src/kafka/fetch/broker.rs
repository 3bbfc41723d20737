//! The non-blocking connection to one broker. At most one request is unanswered at a time.

use super::wire::{self, LENGTH};
use rustix::event::{PollFd, PollFlags};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// Timeout of connecting to one address.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection may be silent after a request before it counts as lost.
const SILENCE: Duration = Duration::from_secs(30);
/// Shortest and longest pause between attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// Maximum size of an answer in bytes: the same as librdkafka's.
const ANSWER_MAX: usize = 100_000_000;
/// A buffer that a long answer made longer than this is freed.
const KEPT_MAX: usize = 16 << 20;

/// Bytes before the body of an answer: its length and its correlation id.
const HEAD: usize = LENGTH + 4;

/// A whole answer: its buffer and its size. The buffer may be longer, so that it can be reused.
pub struct Answer(Vec<u8>, usize);

impl Answer {
    /// Returns its body.
    pub fn body(&self) -> &[u8] {
        &self.0[HEAD..self.1]
    }
}

/// A change of a connection.
pub enum Event {
    /// The connection is ready for requests.
    Ready,
    /// An answer has arrived.
    Answer(Answer),
    /// The connection is lost or cannot be made, for this reason.
    Lost(String),
    /// The broker does not support the requests sent here.
    Unfit,
}

/// The state of the TCP connection.
enum Link {
    Down,
    Connecting(Receiver<io::Result<TcpStream>>),
    Up(TcpStream),
}

/// The request that has no answer yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Versions,
    Records,
}

/// The connection to one broker.
pub struct Broker {
    address: (String, u16),
    link: Link,
    asked: Asked,
    /// The request, and how many of its bytes have been sent.
    request: (Vec<u8>, usize),
    /// The answer including its length field, and how many of its bytes have been received.
    incoming: (Vec<u8>, usize),
    correlation: i32,
    /// When the last byte was received, or the request was sent.
    quiet_since: Instant,
    /// The time of the next attempt to connect.
    call_at: Instant,
    pause: Duration,
}

impl Broker {
    /// Begins without a connection.
    pub fn new(address: (String, u16)) -> Self {
        let now = Instant::now();
        Self {
            address,
            link: Link::Down,
            asked: Asked::Nothing,
            request: (vec![], 0),
            incoming: (vec![], 0),
            correlation: 0,
            quiet_since: now,
            call_at: now,
            pause: Duration::ZERO,
        }
    }

    /// Returns its host and port.
    pub fn address(&self) -> &(String, u16) {
        &self.address
    }

    /// Whether a request may be sent.
    pub fn is_free(&self) -> bool {
        matches!(self.link, Link::Up(_)) && self.asked == Asked::Nothing
    }

    /// Whether it is connected.
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Whether it is connecting; [`Broker::interest`] has nothing to poll for that.
    pub fn is_called(&self) -> bool {
        matches!(self.link, Link::Connecting(_))
    }

    /// Begins to connect, if it is disconnected and an attempt is due.
    pub fn call(&mut self, now: Instant) {
        if !matches!(self.link, Link::Down) || now < self.call_at {
            return;
        }
        let (sender, receiver) = sync_channel(1);
        let address = self.address.clone();
        // Name resolution and distant hosts take time: connect on a thread of its own.
        let spawned = std::thread::Builder::new().name("connect".into()).spawn(move || {
            let _ = sender.send(connect(&address));
        });
        if spawned.is_ok() {
            self.link = Link::Connecting(receiver);
        }
    }

    /// Sends a fetch request; `make` gets its correlation id.
    pub fn ask(&mut self, now: Instant, make: impl FnOnce(i32) -> Vec<u8>) -> Option<Event> {
        self.send(Asked::Records, now, make)
    }

    fn send(&mut self, what: Asked, now: Instant, make: impl FnOnce(i32) -> Vec<u8>) -> Option<Event> {
        self.correlation = self.correlation.wrapping_add(1);
        self.request = (make(self.correlation), 0);
        (self.asked, self.quiet_since, self.incoming.1) = (what, now, 0);
        self.write()
    }

    /// Returns what to poll its connection for.
    pub fn interest(&self) -> Option<PollFd<'_>> {
        let Link::Up(stream) = &self.link else { return None };
        let unsent = self.request.1 < self.request.0.len();
        Some(PollFd::new(stream, if unsent { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }))
    }

    /// Restarts the silence timeout, after a time in which the connection was not read.
    pub fn listen_again(&mut self, now: Instant) {
        self.quiet_since = now;
    }

    /// Advances as far as possible without waiting; `client` is the client id sent to the broker.
    pub fn serve(&mut self, now: Instant, client: &str) -> Option<Event> {
        match &self.link {
            Link::Down => None,
            Link::Connecting(receiver) => match receiver.try_recv() {
                Ok(Ok(stream)) => {
                    self.link = Link::Up(stream);
                    self.send(Asked::Versions, now, |number| wire::ask_versions(number, client))
                }
                Ok(Err(error)) => Some(self.lose(&error.to_string())),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(self.lose("not connected")),
            },
            Link::Up(_) => self.write().or_else(|| self.read(now)),
        }
    }

    fn write(&mut self) -> Option<Event> {
        let Link::Up(stream) = &mut self.link else { return None };
        let (request, sent) = &mut self.request;
        while *sent < request.len() {
            match stream.write(&request[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(self.lose(&error.to_string())),
            }
        }
        None
    }

    fn read(&mut self, now: Instant) -> Option<Event> {
        loop {
            let needed = match self.needed() {
                Ok(needed) => needed,
                Err(why) => return Some(self.lose(&why)),
            };
            let (bytes, filled) = &mut self.incoming;
            if *filled == needed && needed > LENGTH {
                return Some(self.answered());
            }
            if bytes.len() < needed {
                bytes.resize(needed, 0);
            }
            let Link::Up(stream) = &mut self.link else { return None };
            match stream.read(&mut bytes[*filled..needed]) {
                Ok(0) => return Some(self.lose("connection closed")),
                Ok(count) => (*filled, self.quiet_since) = (*filled + count, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(self.lose(&error.to_string())),
            }
        }
        let waits = self.asked != Asked::Nothing && now.saturating_duration_since(self.quiet_since) > SILENCE;
        waits.then(|| self.lose("no response"))
    }

    /// Returns the size of the answer including its length field, or of that field while it is incomplete.
    fn needed(&self) -> Result<usize, String> {
        let (bytes, filled) = &self.incoming;
        match bytes.first_chunk::<LENGTH>().filter(|_| *filled >= LENGTH) {
            None => Ok(LENGTH),
            Some(length) => match usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX) {
                length @ 4..=ANSWER_MAX => Ok(LENGTH + length),
                length => Err(format!("response of {length} bytes")),
            },
        }
    }

    /// Handles a whole answer.
    fn answered(&mut self) -> Event {
        let (bytes, filled) = std::mem::take(&mut self.incoming);
        let asked = std::mem::replace(&mut self.asked, Asked::Nothing);
        if bytes[LENGTH..HEAD] != self.correlation.to_be_bytes() {
            return self.lose("response to another request");
        }
        let answer = Answer(bytes, filled);
        match asked {
            Asked::Nothing => self.lose("unexpected response"),
            Asked::Versions => match wire::understands(answer.body()) {
                Ok(true) => Event::Ready,
                Ok(false) => Event::Unfit,
                Err(error) => self.lose(&error.to_string()),
            },
            Asked::Records => {
                self.pause = Duration::ZERO;
                Event::Answer(answer)
            }
        }
    }

    /// Takes back the buffer of an answer, for the next one.
    pub fn recycle(&mut self, answer: Answer) {
        if self.incoming.0.is_empty() && answer.0.len() <= KEPT_MAX {
            self.incoming.0 = answer.0;
        }
    }

    /// Drops the connection and schedules the next attempt.
    fn lose(&mut self, why: &str) -> Event {
        (self.link, self.asked, self.request, self.incoming.1) = (Link::Down, Asked::Nothing, (vec![], 0), 0);
        self.call_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).clamp(PAUSES[0], PAUSES[1]);
        Event::Lost(format!("{}:{}: {why}", self.address.0, self.address.1))
    }
}

/// Tries to connect to all addresses of a host.
fn connect((host, port): &(String, u16)) -> io::Result<TcpStream> {
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in (host.as_str(), *port).to_socket_addrs()? {
        let connected = TcpStream::connect_timeout(&address, CONNECT).and_then(|stream| {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
