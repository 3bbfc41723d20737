//! The non-blocking connection to one broker. At most one request is unanswered at a time.

use super::wire::{self, LENGTH};
use evt_run::thread;
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
/// A connection that was not served for this long restarts its silence timeout.
const UNSERVED: Duration = Duration::from_secs(1);
/// Shortest and longest pause between attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// Maximum size of an answer in bytes: the same as librdkafka's.
const ANSWER_MAX: usize = 100_000_000;
/// A buffer of more bytes than this, which a long answer has filled, is freed.
const KEPT_MAX: usize = 16 << 20;

/// Bytes before the body of an answer: its length and its correlation id.
const HEAD: usize = LENGTH + 4;

/// A connection that never blocks.
pub trait Stream: Read + Write + Send {
    /// Returns the descriptor to poll; `None` for a connection that needs no polling.
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

    /// Begins to connect. The channel closes without a result if that is not possible now.
    fn connect(&self, host: &str, port: u16) -> Receiver<Connected>;

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
    fn connect(&self, host: &str, port: u16) -> Receiver<Connected> {
        let (sender, receiver) = sync_channel(1);
        let host = host.to_owned();
        // Without a thread the sender is dropped, which closes the channel.
        let _ = thread::spawn("connect", move || {
            let _ = sender.send(connect(&host, port));
        });
        receiver
    }

    fn wait(&self, interests: &mut [PollFd<'_>], timeout: Duration) {
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        // A signal may end it early, which is harmless.
        let _ = rustix::event::poll(interests, Some(&timeout));
    }
}

/// A whole answer.
pub struct Response {
    /// The answer; the buffer may be longer, so that it can be reused.
    buffer: Vec<u8>,
    size: usize,
    /// What [`Broker::fetch`] got with the request.
    pub kind: FetchKind,
    /// When the request was made: the answer shows the broker as it was then or later.
    pub asked_at: Instant,
}

impl Response {
    /// Returns its body.
    pub fn body(&self) -> &[u8] {
        &self.buffer[HEAD..self.size]
    }
}

/// A change of a connection.
pub enum BrokerEvent {
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

/// What a fetch was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchKind {
    /// A number of the caller.
    pub generation: u64,
    /// Whether it has the ids of topics.
    pub is_by_id: bool,
}

/// The request that has no answer yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    Nothing,
    Versions,
    /// A fetch.
    Records(FetchKind),
}

/// Bytes that are sent or received in parts.
#[derive(Default)]
struct Transfer {
    bytes: Vec<u8>,
    /// The number of bytes that have been sent or received.
    done: usize,
}

/// The connection to one broker.
pub struct Broker {
    host: String,
    port: u16,
    link: Link,
    unanswered: Request,
    /// Whether it supports fetch requests with the ids of topics.
    pub has_ids: bool,
    /// The request; `done` is the number of its bytes that were sent.
    request: Transfer,
    /// The answer including its length field; `done` is the number of its bytes that were received.
    incoming: Transfer,
    correlation: i32,
    served_at: Instant,
    /// When the last request was made.
    asked_at: Instant,
    /// When the last byte was received, or the request was sent.
    quiet_since: Instant,
    retry: Retry,
}

/// When to connect again.
struct Retry {
    /// The time of the next attempt.
    at: Instant,
    /// The pause after it, if it fails.
    pause: Duration,
}

impl Broker {
    /// Begins without a connection.
    pub fn new(host: &str, port: u16, now: Instant) -> Self {
        Self {
            host: host.to_owned(),
            port,
            link: Link::Down,
            unanswered: Request::Nothing,
            has_ids: false,
            request: Transfer::default(),
            incoming: Transfer::default(),
            correlation: 0,
            served_at: now,
            asked_at: now,
            quiet_since: now,
            retry: Retry { at: now, pause: Duration::ZERO },
        }
    }

    /// Whether it is the broker at this host and port.
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    /// Whether a request may be sent.
    pub fn is_free(&self) -> bool {
        self.is_up() && self.unanswered == Request::Nothing
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
        if matches!(self.link, Link::Down) && now >= self.retry.at {
            self.link = Link::Connecting(network.connect(&self.host, self.port));
        }
    }

    /// Sends a fetch request; `make` gets its correlation id. `kind` comes back with the answer.
    pub fn fetch(&mut self, now: Instant, kind: FetchKind, make: impl FnOnce(i32) -> Vec<u8>) -> Option<BrokerEvent> {
        let sent = self.send(Request::Records(kind), now, make);
        sent.err().map(|error| self.lose(&error, now))
    }

    fn send(&mut self, what: Request, now: Instant, make: impl FnOnce(i32) -> Vec<u8>) -> io::Result<()> {
        self.correlation = self.correlation.wrapping_add(1);
        self.request = Transfer { bytes: make(self.correlation), done: 0 };
        (self.unanswered, self.asked_at, self.quiet_since, self.incoming.done) = (what, now, now, 0);
        self.write()
    }

    /// Returns the events to poll its connection for: input, and output while a request is unsent. `None` without a
    /// connection.
    pub fn interest(&self) -> Option<PollFd<'_>> {
        let Link::Up(stream) = &self.link else { return None };
        let descriptor = stream.descriptor()?;
        let unsent = self.request.done < self.request.bytes.len();
        Some(PollFd::from_borrowed_fd(descriptor, if unsent { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }))
    }

    /// Advances as far as possible without waiting; `client` is the client id sent to the broker.
    pub fn serve(&mut self, now: Instant, client: &str) -> Option<BrokerEvent> {
        if now.saturating_duration_since(self.served_at) > UNSERVED {
            self.quiet_since = now;
        }
        self.served_at = now;
        self.advance(now, client).unwrap_or_else(|error| Some(self.lose(&error, now)))
    }

    /// Connects, writes and reads. Errors: the connection is lost.
    fn advance(&mut self, now: Instant, client: &str) -> io::Result<Option<BrokerEvent>> {
        match &self.link {
            Link::Down => return Ok(None),
            Link::Connecting(receiver) => match receiver.try_recv() {
                Ok(connected) => {
                    self.link = Link::Up(connected?);
                    self.send(Request::Versions, now, |number| wire::versions_request(number, client))?;
                }
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(io::Error::other("not connected")),
            },
            Link::Up(_) => self.write()?,
        }
        self.read(now)
    }

    fn write(&mut self) -> io::Result<()> {
        let Link::Up(stream) = &mut self.link else { return Ok(()) };
        let Transfer { bytes: request, done: sent } = &mut self.request;
        while *sent < request.len() {
            match stream.write(&request[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, now: Instant) -> io::Result<Option<BrokerEvent>> {
        loop {
            let needed = self.needed()?;
            let Transfer { bytes, done: filled } = &mut self.incoming;
            if *filled == needed && needed > LENGTH {
                return self.answered();
            }
            if bytes.len() < needed {
                bytes.resize(needed, 0);
            }
            let Link::Up(stream) = &mut self.link else { return Ok(None) };
            match stream.read(&mut bytes[*filled..needed]) {
                Ok(0) => return Err(io::Error::other("connection closed")),
                Ok(count) => (*filled, self.quiet_since) = (*filled + count, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match self.unanswered != Request::Nothing && now.saturating_duration_since(self.quiet_since) > SILENCE {
            true => Err(io::Error::other("no response")),
            false => Ok(None),
        }
    }

    /// Returns the size of the answer including its length field, or of that field while it is incomplete.
    fn needed(&self) -> io::Result<usize> {
        let Transfer { bytes, done: filled } = &self.incoming;
        match bytes.first_chunk::<LENGTH>().filter(|_| *filled >= LENGTH) {
            None => Ok(LENGTH),
            Some(length) => match usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX) {
                length @ 4..=ANSWER_MAX => Ok(LENGTH + length),
                length => Err(io::Error::other(format!("response of {length} bytes"))),
            },
        }
    }

    /// Handles a whole answer.
    fn answered(&mut self) -> io::Result<Option<BrokerEvent>> {
        let Transfer { bytes: buffer, done: size } = std::mem::take(&mut self.incoming);
        if buffer[LENGTH..HEAD] != self.correlation.to_be_bytes() {
            return Err(io::Error::other("response to another request"));
        }
        match std::mem::replace(&mut self.unanswered, Request::Nothing) {
            Request::Nothing => Err(io::Error::other("unexpected response")),
            Request::Versions => {
                let supported = wire::supported(&buffer[HEAD..size]).map_err(io::Error::other)?;
                self.has_ids = supported.by_id;
                Ok((!supported.by_name).then_some(BrokerEvent::Unsupported))
            }
            Request::Records(kind) => {
                self.retry.pause = Duration::ZERO;
                let asked_at = self.asked_at;
                Ok(Some(BrokerEvent::Answer(Response { buffer, size, kind, asked_at })))
            }
        }
    }

    /// Takes back the buffer of an answer, for the next one.
    pub fn recycle(&mut self, answer: Response) {
        if self.incoming.bytes.is_empty() && answer.buffer.len() <= KEPT_MAX {
            self.incoming.bytes = answer.buffer;
        }
    }

    /// Drops the connection and schedules the next attempt.
    fn lose(&mut self, why: &io::Error, now: Instant) -> BrokerEvent {
        (self.link, self.unanswered) = (Link::Down, Request::Nothing);
        (self.request, self.incoming.done) = (Transfer::default(), 0);
        let pause = self.retry.pause;
        self.retry = Retry { at: now + pause, pause: (pause * 2).clamp(PAUSES[0], PAUSES[1]) };
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
