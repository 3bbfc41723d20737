//! A connection over TCP or TLS that is logged in. Each reply and each write has a timeout, and a signal does not end
//! it.
//!
//! The crate's own connection fails when a process is stopped and continued (SIGSTOP, SIGCONT, a frozen container):
//! Linux then interrupts the reads of sockets that have a timeout (EINTR, signal(7)). So evt uses only the crate's
//! encoder and parser (docs/decisions/263).

use evt_run::client::outage::Timeouts;
use redis::{Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Parser, RedisConnectionInfo, RedisError, RedisResult};
use redis::{Value, cmd};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The error that a server sends to a new client, before any command, if it already has `maxclients` clients.
pub const TOO_MANY_CLIENTS: &str = "max number of clients reached";

/// Maximum bytes of a reply. evt asks for numbers and for single rows.
const REPLY_MAX: usize = 16 << 20;

/// A socket that repeats a read or write which a signal interrupted. Its timeout then starts anew, so the time during
/// which the process was stopped does not count.
struct SteadySocket(TcpStream);

impl SteadySocket {
    fn repeat<T>(&mut self, mut call: impl FnMut(&mut TcpStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match call(&mut self.0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Read for SteadySocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.repeat(|socket| socket.read(buffer))
    }
}

impl Write for SteadySocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.repeat(|socket| socket.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.repeat(|socket| socket.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.repeat(Write::flush)
    }
}

/// The bytes of one reply. The time of all reads together is bounded, so that a server that sends a byte now and then
/// does not hold the run; so is their number, so that one that sends without end does not fill its memory.
struct Reply<'a> {
    stream: &'a mut dyn ByteStream,
    timeout: Duration,
    /// The time that the reads have taken so far. A read that took longer than the timeout is one during which the
    /// process was stopped, and does not count.
    spent: Duration,
    bytes: usize,
}

impl Read for Reply<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.spent >= self.timeout {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.bytes > REPLY_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a reply of more than {REPLY_MAX} bytes")));
        }
        let start = Instant::now();
        let count = self.stream.read(buffer)?;
        let took = start.elapsed();
        if took < self.timeout {
            self.spent += took;
        }
        self.bytes += count;
        Ok(count)
    }
}

/// The stream to a server: commands are written to it and replies read from it.
trait ByteStream: Read + Write + Send {}

impl<T: Read + Write + Send> ByteStream for T {}

/// A connection that is logged in and has selected its database.
pub struct RedisConnection {
    stream: Box<dyn ByteStream>,
    parser: Parser,
    /// The timeout of a reply.
    timeout: Duration,
}

impl RedisConnection {
    /// Connects, over TLS if `tls` is given, logs in, and waits for the first answer. `timeouts.connect` bounds the
    /// attempt at each address of the host and each reply and write of the login; `timeouts.timeout` bounds each later
    /// reply and write.
    pub fn open(info: &ConnectionInfo, tls: Option<&Arc<ClientConfig>>, timeouts: &Timeouts) -> RedisResult<Self> {
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err((ErrorKind::InvalidClientConfig, "expected a host").into());
        };
        let socket = connect(host, *port, timeouts.connect)?;
        socket.set_nodelay(true)?;
        let set_timeouts = |socket: &TcpStream, limit: Duration| {
            socket.set_read_timeout(Some(limit))?;
            socket.set_write_timeout(Some(limit))
        };
        set_timeouts(&socket, timeouts.connect)?;
        let settings = socket.try_clone()?;
        let stream: Box<dyn ByteStream> = match tls {
            None => Box::new(SteadySocket(socket)),
            Some(config) => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(session, SteadySocket(socket)))
            }
        };
        let mut connection = Self { stream, parser: Parser::new(), timeout: timeouts.connect };
        connection.log_in(info.redis_settings())?;
        set_timeouts(&settings, timeouts.timeout)?;
        connection.timeout = timeouts.timeout;
        Ok(connection)
    }

    fn log_in(&mut self, settings: &RedisConnectionInfo) -> RedisResult<()> {
        if let Some(password) = settings.password() {
            let mut login = cmd("AUTH");
            if let Some(user) = settings.username() {
                login.arg(user);
            }
            match self.ask(login.arg(password))?.extract_error() {
                Err(error) if is_about_the_login(&error) => {
                    return Err((ErrorKind::AuthenticationFailed, "AUTH is rejected").into());
                }
                answered => _ = answered?,
            }
        }
        if settings.db() != 0 {
            self.ask(cmd("SELECT").arg(settings.db()))?.extract_error()?;
        }
        match self.ask(&cmd("PING"))?.extract_error() {
            // An answer too: this user may do other things.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            answered => answered.map(drop),
        }
    }

    fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.send(&command.get_packed_command())?;
        self.receive()
    }

    /// Sends encoded commands.
    pub fn send(&mut self, commands: &[u8]) -> RedisResult<()> {
        self.stream.write_all(commands)?;
        Ok(self.stream.flush()?)
    }

    /// Receives the answer to one command; an error reply is a value.
    pub fn receive(&mut self) -> RedisResult<Value> {
        let reply = Reply { stream: &mut *self.stream, timeout: self.timeout, spent: Duration::ZERO, bytes: 0 };
        self.parser.parse_value(reply)
    }
}

/// Whether a server rejects this user and password, rather than every client.
fn is_about_the_login(error: &RedisError) -> bool {
    match error.code() {
        Some("WRONGPASS") => true,
        Some("ERR") => !error.detail().is_some_and(|detail| detail.contains(TOO_MANY_CLIENTS)),
        _ => false,
    }
}

/// Connects to the first address of the host that accepts the connection within `limit`. Errors: that of the last one.
fn connect(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
