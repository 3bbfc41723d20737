//! Mail over SMTP: one message to all recipients, its `Message-ID` is the idempotency key. Recipients with a temporary
//! refusal get the message later; the others do not wait for them, and do not get it again.
//!
//! The resolve and repeats refer to the message of the firing, so mail programs show an alert as one thread. Before the
//! text of the message is sent nothing has been delivered; if the connection is lost afterwards, the attempt is
//! unclear. A thread of its own speaks with the server. At the timeout the attempt ends without it, and [`FirstCaller`]
//! decides which of the two comes first: a thread that is too late never sends the text.

use super::{Attempt, Missed, Notification, Recipients, Transport, cut};
use crate::settings::Settings;
use evt_core::error::Result;
use evt_core::kind::alert::AlertState;
use evt_core::time::rounded;
use evt_run::client::tls::use_ring;
use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, SmtpConnection, TlsParameters, TlsParametersBuilder};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Severity;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Maximum characters of a subject.
const SUBJECT_MAX: usize = 200;
/// Authentication mechanisms in order of preference: evt uses the first one that the server offers.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
/// How much longer than the attempt a read may take: the attempt ends first, with a message of its own.
const GRACE: Duration = Duration::from_secs(1);

/// The encryption of the connection (`tls`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encryption {
    /// Plain text, then STARTTLS.
    StartTls,
    /// From the beginning.
    Tls,
    /// Not at all.
    None,
}

/// A mail server and how to log in.
struct Server {
    host: String,
    port: u16,
    encryption: Encryption,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    timeout: Duration,
}

/// A mail server with a sender and recipients.
pub struct Smtp {
    server: Arc<Server>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Smtp {
    /// Reads the channel's settings. Errors: exit status 78.
    pub fn read(settings: &Settings<'_>, timeout: Duration) -> Result<Self> {
        let address = |key: &str, text: &str| {
            let wrong = |error| settings.fault(key, format!("expected NAME <USER@HOST>, found '{text}': {error}"));
            text.parse::<Mailbox>().map_err(wrong)
        };
        let from = address("from", &settings.required("from")?)?;
        let to = settings.texts("to")?.iter().map(|text| address("to", text)).collect::<Result<Vec<_>>>()?;
        if to.is_empty() {
            return Err(settings.fault("to", "expected at least one address"));
        }
        Ok(Self { server: Arc::new(server(settings, timeout)?), from, to })
    }

    /// Returns the addresses that get a notification now, and the recipients that get it later.
    fn recipients(&self, notification: &Notification) -> (Vec<Address>, Vec<Missed>) {
        let Recipients { only, later } = &notification.recipients;
        let addresses = self.to.iter().map(|to| to.email.clone());
        let due = addresses.filter(|to| only.is_empty() || only.contains(&to.to_string()));
        let (later, now): (Vec<Address>, _) = due.partition(|to| later.contains(&to.to_string()));
        let missed = |to: Address| {
            let cause = "waits for an earlier notification of the alert".to_owned();
            Missed { recipient: to.to_string(), cause }
        };
        (now, later.into_iter().map(missed).collect())
    }

    /// Returns the text of a message.
    fn message(&self, notification: &Notification) -> Result<Vec<u8>, String> {
        let (domain, alert) = (self.from.email.domain(), &notification.alert);
        let first = format!("<{}.{}@{domain}>", alert.id(), AlertState::Firing.name());
        let own = format!("<{}@{domain}>", notification.key());
        let mut builder = MessageBuilder::new()
            .from(self.from.clone())
            .subject(cut(&notification.title(), SUBJECT_MAX))
            .message_id(Some(own.clone()))
            .header(ContentType::TEXT_PLAIN)
            // Out-of-office replies are not sent to such a message (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        if own != first {
            builder = builder.in_reply_to(first.clone()).references(first);
        }
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let facts = notification.facts().into_iter().map(|(name, fact)| format!("{name}: {fact}\n"));
        let labels = alert.rule.labels.iter().map(|(name, label)| format!("{name}: {label}\n"));
        let body: String = std::iter::once(notification.title() + "\n\n").chain(facts).chain(labels).collect();
        builder.body(body).map(|message| message.formatted()).map_err(|error| error.to_string())
    }
}

fn server(settings: &Settings<'_>, timeout: Duration) -> Result<Server> {
    let encryption = match settings.text("tls")?.as_deref() {
        None | Some("starttls") => Encryption::StartTls,
        Some("tls") => Encryption::Tls,
        Some("none") => Encryption::None,
        Some(other) => {
            return Err(settings.fault("tls", format!("expected starttls, tls or none, found '{other}'")));
        }
    };
    let port = match encryption {
        Encryption::StartTls => 587,
        Encryption::Tls => 465,
        Encryption::None => 25,
    };
    let name = settings.required("server")?;
    let (host, port) = match name.rsplit_once(':').filter(|(host, _)| !host.ends_with(':') && !host.is_empty()) {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
        None => (name.as_str(), Some(port)),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.filter(|_| !host.is_empty() && !host.contains(['/', '@', ' ']));
    let port = port.ok_or_else(|| settings.fault("server", "expected HOST[:PORT]"))?;
    let credentials = match (settings.text("user")?, settings.secret("password")?) {
        (Some(user), Some(password)) => Some(Credentials::new(user, password)),
        (None, None) => None,
        (Some(_), None) => return Err(settings.fault("password", "missing: user requires it")),
        (None, Some(_)) => return Err(settings.fault("user", "missing: password requires it")),
    };
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if encryption == Encryption::None && credentials.is_some() && !is_here {
        return Err(settings.fault("tls", "expected starttls or tls: a password is not sent in plain text"));
    }
    let ca = settings.text("ca")?;
    let tls = (encryption != Encryption::None).then(|| tls(settings, host, ca.as_deref())).transpose()?;
    Ok(Server { host: host.to_owned(), port, encryption, tls, credentials, timeout })
}

fn tls(settings: &Settings<'_>, host: &str, ca: Option<&str>) -> Result<TlsParameters> {
    use_ring();
    let mut builder = TlsParametersBuilder::new(host.to_owned());
    if let Some(path) = ca {
        let bytes = std::fs::read(path).map_err(|error| settings.fault("ca", error))?;
        let certificate = Certificate::from_pem(&bytes).map_err(|error| settings.fault("ca", error))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| settings.fault("ca", error))
}

/// The cause of a failed conversation with a server.
enum MailFailure {
    /// The server has answered with an error, or not answered.
    Smtp(lettre::transport::smtp::Error),
    /// The message or the connection cannot be made.
    Other(String),
}

impl From<lettre::transport::smtp::Error> for MailFailure {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        Self::Smtp(error)
    }
}

/// The delivery of one message.
struct Mailing {
    server: Arc<Server>,
    from: Address,
    to: Vec<Address>,
    message: Vec<u8>,
    /// When the attempt ends.
    deadline: Instant,
    turn: Arc<FirstCaller>,
}

/// Decides which comes first: the thread that begins to send the text, or the end of the attempt without the text.
#[derive(Default)]
struct FirstCaller(AtomicBool);

impl FirstCaller {
    /// Whether the caller is the first one.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Whether the thread or the attempt has taken the turn.
    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Mailing {
    /// Delivers the message to each recipient that the server accepts. The connection is still open afterwards.
    fn deliver(&self) -> Result<(MailAnswer, SmtpConnection), MailFailure> {
        let mut connection = self.connect()?;
        connection.command(Mail::new(Some(self.from.clone()), vec![]))?;
        let mut answer = MailAnswer::default();
        for to in &self.to {
            self.limit(&mut connection)?;
            let missed = |error: &dyn Display| Missed { recipient: to.to_string(), cause: error.to_string() };
            match connection.command(Rcpt::new(to.clone(), vec![])) {
                Ok(_) => answer.is_accepted = true,
                Err(error) if error.is_permanent() => answer.refused.push(missed(&error)),
                Err(error) if error.is_transient() && !is_closing(&error) => answer.waiting.push(missed(&error)),
                Err(error) => return Err(error.into()),
            }
        }
        if answer.is_accepted {
            self.limit(&mut connection)?;
            connection.command(Data)?;
            self.limit(&mut connection)?;
            if !self.turn.take() {
                return Err(self.late());
            }
            connection.message(&self.message)?;
        }
        Ok((answer, connection))
    }

    /// Connects, encrypts the connection and logs in.
    fn connect(&self) -> Result<SmtpConnection, MailFailure> {
        let Server { host, port, encryption, tls, credentials, timeout } = &*self.server;
        let hello = ClientId::default();
        let at_once = tls.as_ref().filter(|_| *encryption == Encryption::Tls);
        let limit = Some(*timeout + GRACE);
        let mut connection = SmtpConnection::connect((host.as_str(), *port), limit, &hello, at_once, None)?;
        if let (Encryption::StartTls, Some(tls)) = (encryption, tls) {
            if !connection.can_starttls() {
                return Err(MailFailure::Other("the server does not offer STARTTLS (tls=)".to_owned()));
            }
            self.limit(&mut connection)?;
            connection.starttls(tls, &hello)?;
        }
        if let Some(credentials) = credentials {
            self.limit(&mut connection)?;
            connection.auth(&MECHANISMS, credentials)?;
        }
        self.limit(&mut connection)?;
        Ok(connection)
    }

    /// Limits each read and write of the next command to the rest of the time and [`GRACE`]; fails if there is none.
    fn limit(&self, connection: &mut SmtpConnection) -> Result<(), MailFailure> {
        let rest = self.deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(self.late());
        }
        connection.set_timeout(Some(rest + GRACE)).map_err(|error| MailFailure::Other(error.to_string()))
    }

    fn late(&self) -> MailFailure {
        MailFailure::Other(no_answer(self.server.timeout))
    }
}

/// Returns the cause of an attempt that ended at its timeout.
fn no_answer(timeout: Duration) -> String {
    format!("no answer for {}", rounded(timeout))
}

/// The answer of a server to a message.
#[derive(Default)]
struct MailAnswer {
    /// Whether it has the message for at least one recipient.
    is_accepted: bool,
    /// The recipients with a permanent refusal (5xx).
    refused: Vec<Missed>,
    /// The recipients with a temporary one (4xx), and those that wait for an earlier message.
    waiting: Vec<Missed>,
}

impl MailAnswer {
    /// Returns the outcome of the attempt; `has_some`: some recipients got the message by an earlier attempt.
    fn outcome(self, has_some: bool) -> Attempt {
        let Self { is_accepted, refused, waiting } = self;
        match (is_accepted || has_some, refused.is_empty(), waiting.is_empty()) {
            (true, true, true) => Attempt::Sent,
            (true, ..) => Attempt::SentInPart { refused, waiting },
            (false, _, true) => Attempt::Refused(Missed::list(&refused)),
            // A server that accepts nobody is busy, so the next message waits, too.
            (false, ..) => Attempt::unreachable(Missed::list(&waiting)),
        }
    }
}

/// Whether a server ends the connection with this answer (421), so it concerns the server and not one recipient.
fn is_closing(error: &lettre::transport::smtp::Error) -> bool {
    error.status().is_some_and(|code| u16::from(code) == 421)
}

impl Transport for Smtp {
    fn deliver(&mut self, notification: &Notification) -> Attempt {
        let message = match self.message(notification) {
            Ok(message) => message,
            Err(cause) => return Attempt::Refused(cause),
        };
        let (to, later) = self.recipients(notification);
        let has_some = !notification.recipients.only.is_empty();
        if to.is_empty() {
            // The file of channels has changed: all recipients that are left in it have the message, or wait for an
            // earlier one.
            return MailAnswer { is_accepted: true, waiting: later, ..MailAnswer::default() }.outcome(has_some);
        }
        let (turn, timeout) = (Arc::<FirstCaller>::default(), self.server.timeout);
        let deadline = Instant::now() + timeout;
        let (server, from) = (self.server.clone(), self.from.email.clone());
        let mailing = Mailing { server, from, to, message, deadline, turn: turn.clone() };
        // The library bounds only each read. The conversation as a whole is bounded by the attempt, which can abandon
        // the thread.
        let (sender, receiver) = channel();
        let converse = move || match mailing.deliver() {
            Ok((answer, mut connection)) => {
                _ = sender.send(Ok(answer));
                // The message is delivered, whatever happens now.
                _ = mailing.limit(&mut connection).map(|()| connection.quit());
            }
            Err(failure) => _ = sender.send(Err(failure)),
        };
        if let Err(error) = std::thread::Builder::new().name("smtp".to_owned()).spawn(converse) {
            return Attempt::unreachable(error);
        }
        let rest = || deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(rest()) {
            Ok(Ok(mut answer)) => {
                // The next attempt begins once this conversation has ended, so that a server has one at a time.
                _ = receiver.recv_timeout(rest());
                answer.waiting.extend(later);
                answer.outcome(has_some)
            }
            Ok(Err(failure)) => classify(failure, turn.is_taken()),
            Err(_) if turn.take() => Attempt::unreachable(no_answer(timeout)),
            Err(_) => Attempt::unclear(no_answer(timeout)),
        }
    }
}

/// Classifies a failure: a permanent answer (5xx) is final, anything else may succeed later.
fn classify(failure: MailFailure, is_sent: bool) -> Attempt {
    let error = match failure {
        MailFailure::Smtp(error) => error,
        MailFailure::Other(cause) => return Attempt::unreachable(cause),
    };
    let cause = error.to_string();
    match error.status() {
        Some(status) if status.severity == Severity::PermanentNegativeCompletion => Attempt::Refused(cause),
        // An answer says that the message was not accepted.
        Some(_) => Attempt::unreachable(cause),
        None if is_sent => Attempt::unclear(cause),
        None => Attempt::unreachable(cause),
    }
}
