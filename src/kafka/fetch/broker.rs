//! The non-blocking connection to one broker. At most one request is unanswered at a time.

use super::wire::{self, LENGTH};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::Timespec;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
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

/// A connection that never blocks.
pub trait Stream: Read + Write + Send {
    /// Returns what to poll; `None` for a connection that needs no polling.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

impl Stream for TcpStream {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// The result of an attempt to connect.
pub type Connected = io::Result<Box<dyn Stream>>;

/// The network and the clock.
pub trait Network {
    /// Returns the time.
    fn now(&self) -> Instant;

    /// Begins to connect; `None` if that is not possible now.
    fn connect(&self, host: &str, port: u16) -> Option<Receiver<Connected>>;

    /// Waits until a connection can be read or written, or `timeout` has passed.
    fn wait(&self, interests: &mut [PollFd<'_>], timeout: Duration);
}

/// TCP.
pub struct Tcp;

impl Network for Tcp {
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Name resolution and distant hosts take time: connects on a thread of its own.
    fn connect(&self, host: &str, port: u16) -> Option<Receiver<Connected>> {
        let (sender, receiver) = sync_channel(1);
        let host = host.to_owned();
        let spawned = std::thread::Builder::new().name("connect".into()).spawn(move || {
            let _ = sender.send(connect(&host, port));
        });
        spawned.is_ok().then_some(receiver)
    }

    fn wait(&self, interests: &mut [PollFd<'_>], timeout: Duration) {
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        // A signal may end it early, which is harmless.
        let _ = rustix::event::poll(interests, Some(&timeout));
    }
}

/// A whole answer: its buffer and its size. The buffer may be longer, so that it can be reused.
pub struct Response(Vec<u8>, usize);

impl Response {
    /// Returns its body.
    pub fn body(&self) -> &[u8] {
        &self.0[HEAD..self.1]
    }
}

/// A change of a connection.
pub enum BrokerEvent {
    /// The connection is ready for requests.
    Ready,
    /// An answer has arrived.
    Answer(Response),
    /// The connection is lost or cannot be made, for this reason.
    Lost(String),
    /// The broker does not support the requests sent here.
    Unsupported,
}

/// The state of the connection.
enum Link {
    Down,
    Connecting(Receiver<Connected>),
    Up(Box<dyn Stream>),
}

/// The request that has no answer yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    Nothing,
    Versions,
    Records,
}

/// The connection to one broker.
pub struct Broker {
    host: String,
    port: u16,
    link: Link,
    asked: Request,
    /// The request, and how many of its bytes have been sent.
    request: (Vec<u8>, usize),
    /// The answer including its length field, and how many of its bytes have been received.
    incoming: (Vec<u8>, usize),
    correlation: i32,
    /// When the last byte was received, or the request was sent.
    quiet_since: Instant,
    /// The time of the next attempt to connect.
    connect_at: Instant,
    pause: Duration,
}

impl Broker {
    /// Begins without a connection.
    pub fn new(host: &str, port: u16, now: Instant) -> Self {
        Self {
            host: host.to_owned(),
            port,
            link: Link::Down,
            asked: Request::Nothing,
            request: (vec![], 0),
            incoming: (vec![], 0),
            correlation: 0,
            quiet_since: now,
            connect_at: now,
            pause: Duration::ZERO,
        }
    }

    /// Whether it is the broker at this host and port.
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    /// Whether a request may be sent.
    pub fn is_free(&self) -> bool {
        matches!(self.link, Link::Up(_)) && self.asked == Request::Nothing
    }

    /// Whether it is connected.
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Whether it is connecting; [`Broker::interest`] has nothing to poll for that.
    pub fn is_connecting(&self) -> bool {
        matches!(self.link, Link::Connecting(_))
    }

    /// Begins to connect, if it is disconnected and an attempt is due.
    pub fn connect(&mut self, network: &dyn Network, now: Instant) {
        if matches!(self.link, Link::Down)
            && now >= self.connect_at
            && let Some(receiver) = network.connect(&self.host, self.port)
        {
            self.link = Link::Connecting(receiver);
        }
    }

    /// Sends a fetch request; `make` gets its correlation id.
    pub fn ask(&mut self, now: Instant, make: impl FnOnce(i32) -> Vec<u8>) -> Option<BrokerEvent> {
        self.send(Request::Records, now, make)
    }

    fn send(&mut self, what: Request, now: Instant, make: impl FnOnce(i32) -> Vec<u8>) -> Option<BrokerEvent> {
        self.correlation = self.correlation.wrapping_add(1);
        self.request = (make(self.correlation), 0);
        (self.asked, self.quiet_since, self.incoming.1) = (what, now, 0);
        self.write(now)
    }

    /// Returns what to poll its connection for.
    pub fn interest(&self) -> Option<PollFd<'_>> {
        let Link::Up(stream) = &self.link else { return None };
        let descriptor = stream.descriptor()?;
        let unsent = self.request.1 < self.request.0.len();
        Some(PollFd::from_borrowed_fd(descriptor, if unsent { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }))
    }

    /// Restarts the silence timeout, after a time in which the connection was not read.
    pub fn restart_timeout(&mut self, now: Instant) {
        self.quiet_since = now;
    }

    /// Advances as far as possible without waiting; `client` is the client id sent to the broker.
    pub fn serve(&mut self, now: Instant, client: &str) -> Option<BrokerEvent> {
        match &self.link {
            Link::Down => None,
            Link::Connecting(receiver) => match receiver.try_recv() {
                Ok(Ok(stream)) => {
                    self.link = Link::Up(stream);
                    self.send(Request::Versions, now, |number| wire::ask_versions(number, client))
                }
                Ok(Err(error)) => Some(self.lose(&error.to_string(), now)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(self.lose("not connected", now)),
            },
            Link::Up(_) => self.write(now).or_else(|| self.read(now)),
        }
    }

    fn write(&mut self, now: Instant) -> Option<BrokerEvent> {
        let Link::Up(stream) = &mut self.link else { return None };
        let (request, sent) = &mut self.request;
        while *sent < request.len() {
            match stream.write(&request[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(self.lose(&error.to_string(), now)),
            }
        }
        None
    }

    fn read(&mut self, now: Instant) -> Option<BrokerEvent> {
        loop {
            let needed = match self.needed() {
                Ok(needed) => needed,
                Err(why) => return Some(self.lose(&why, now)),
            };
            let (bytes, filled) = &mut self.incoming;
            if *filled == needed && needed > LENGTH {
                return Some(self.answered(now));
            }
            if bytes.len() < needed {
                bytes.resize(needed, 0);
            }
            let Link::Up(stream) = &mut self.link else { return None };
            match stream.read(&mut bytes[*filled..needed]) {
                Ok(0) => return Some(self.lose("connection closed", now)),
                Ok(count) => (*filled, self.quiet_since) = (*filled + count, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(self.lose(&error.to_string(), now)),
            }
        }
        let waits = self.asked != Request::Nothing && now.saturating_duration_since(self.quiet_since) > SILENCE;
        waits.then(|| self.lose("no response", now))
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
    fn answered(&mut self, now: Instant) -> BrokerEvent {
        let (bytes, filled) = std::mem::take(&mut self.incoming);
        let asked = std::mem::replace(&mut self.asked, Request::Nothing);
        if bytes[LENGTH..HEAD] != self.correlation.to_be_bytes() {
            return self.lose("response to another request", now);
        }
        let answer = Response(bytes, filled);
        match asked {
            Request::Nothing => self.lose("unexpected response", now),
            Request::Versions => match wire::understands(answer.body()) {
                Ok(true) => BrokerEvent::Ready,
                Ok(false) => BrokerEvent::Unsupported,
                Err(error) => self.lose(&error.to_string(), now),
            },
            Request::Records => {
                self.pause = Duration::ZERO;
                BrokerEvent::Answer(answer)
            }
        }
    }

    /// Takes back the buffer of an answer, for the next one.
    pub fn recycle(&mut self, answer: Response) {
        if self.incoming.0.is_empty() && answer.0.len() <= KEPT_MAX {
            self.incoming.0 = answer.0;
        }
    }

    /// Drops the connection and schedules the next attempt.
    fn lose(&mut self, why: &str, now: Instant) -> BrokerEvent {
        (self.link, self.asked, self.request, self.incoming.1) = (Link::Down, Request::Nothing, (vec![], 0), 0);
        self.connect_at = now + self.pause;
        self.pause = (self.pause * 2).clamp(PAUSES[0], PAUSES[1]);
        BrokerEvent::Lost(format!("{}:{}: {why}", self.host, self.port))
    }
}

/// Tries to connect to all addresses of a host.
fn connect(host: &str, port: u16) -> Connected {
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        let connected = TcpStream::connect_timeout(&address, CONNECT).and_then(|stream| {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => last = error,
        }
    }
    Err(last)
}
