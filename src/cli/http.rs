//! Flags of the HTTP server, and of when a request is acknowledged and where it is stored until then.

use super::args::MapArgs;
use super::check::CheckReport;
use super::values::{parse_count, parse_registry, path};
use clap::{Args, ValueEnum};
use evt_core::error::{Error, Result};
use evt_core::kind::event::column;
use evt_core::mapping::{self, KeepRaw, Projection};
use evt_core::op::validate::{self, SubjectOf, Validator};
use evt_core::parse::size;
use evt_core::schema::subject::Schemas;
use evt_core::time::{MINUTE, parse_duration};
use evt_http::address::Address;
use evt_http::server::limits::descriptors::ConnectionLimit;
use evt_http::server::limits::timeouts::ConnectionTimeouts;
use evt_http::server::{Logged, ServerOptions, Tls};
use evt_http::validate::{OpenSchemas, ValidationOptions};
use evt_http::{BodyLimits, IntakeOptions};
use evt_run::client::Caller;
use evt_run::input::spool::ORIGIN;
use evt_run::registry::place;
use evt_run::run::Run;
use evt_run::spool::ack::{Ack, AckFlags};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Default maximum distance of an event ahead of its arrival over HTTP (µs).
const MAX_FUTURE: i64 = 5 * MINUTE;
/// Maximum number of threads: the stage loop and the spool need CPUs too.
const THREADS_MAX: usize = 8;
/// Columns with an event's position, which only the server sets.
const POSITION: [&str; 3] = ["origin", "partition", "offset"];

/// Flags of a server of HTTP, whatever it serves.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct ServerArgs {
    /// Accept only requests with a token from FILE, which is reloaded on SIGHUP
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Accept requests without a token
    #[arg(long)]
    anonymous: bool,
    /// Read the certificate chain for https:// from a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Read the private key of the certificate from a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Limit the number of open connections
    #[arg(long, value_name = "N", default_value = "4096", value_parser = parse_connections)]
    max_connections: usize,
    /// Close connections that are idle this long between requests
    #[arg(long, value_name = "DURATION", default_value = "75s", value_parser = timeout)]
    idle_timeout: Duration,
    /// Limit the time to receive the head of a request; for the first one it begins with the connection
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout)]
    head_timeout: Duration,
    /// Limit the time to receive a request body, and then the time to store it
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout)]
    request_timeout: Duration,
    /// Log one line per request
    #[arg(long)]
    log_requests: bool,
}

impl ServerArgs {
    /// Returns the options of a server at `address`.
    pub fn options(&self, address: &Address) -> ServerOptions {
        ServerOptions {
            address: address.clone(),
            tls: self.tls_cert.clone().zip(self.tls_key.clone()).map(|(certificate, key)| Tls { certificate, key }),
            tokens: self.tokens.clone(),
            anonymous: self.anonymous,
            takes_basic: false,
            hosts: None,
            connections: ConnectionLimit::of_flag(self.max_connections),
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
            timeouts: ConnectionTimeouts { idle: self.idle_timeout, head: self.head_timeout, whole: Duration::MAX },
            request_time: self.request_timeout,
            log: if self.log_requests { Logged::Requests } else { Logged::Problems },
        }
    }

    /// Returns the flags that are given, of those without a default.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let flags = [
            ("--tokens", self.tokens.is_some()),
            ("--anonymous", self.anonymous),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--log-requests", self.log_requests),
        ];
        flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

/// Flags of an input `http://HOST:PORT`: those of its server, and of the events that it takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Limit events per second over all tokens
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<NonZeroU32>,
    /// Validate events against this directory or registry of schemas before answering
    #[arg(long, value_name = "DIR|URL", value_parser = parse_registry)]
    schemas: Option<String>,
    /// Take the subject from a column or path, or use TEXT for all events (=TEXT)
    #[arg(long, value_name = "PATH|=TEXT", default_value = "event_type")]
    subject: SubjectOf,
    /// Reject properties that the schema does not define
    #[arg(long)]
    no_extra_fields: bool,
    /// Limit the size of a request body, compressed and decompressed
    #[arg(long, value_name = "SIZE", default_value = "10MiB", value_parser = size::parse_buffer)]
    max_body: usize,
    /// Limit the memory of all request bodies being processed
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size::parse_buffer)]
    max_pending: usize,
}

impl HttpArgs {
    /// Refuses flags of the HTTP server if there is none.
    pub fn check_unused(&self) -> Result<()> {
        // EVT_SCHEMAS may be meant for evt-validate in the same pipe.
        let schemas = self.schemas.is_some() && std::env::var("EVT_SCHEMAS").ok() != self.schemas;
        let rate = self.rate.map(|_| "--rate");
        match self.server.given().chain(rate).next() {
            Some(flag) => Err(Error::usage(format!("{flag} requires an input http://HOST:PORT"))),
            None if schemas => {
                let remedy = "use evt-validate --schemas for other inputs";
                Err(Error::usage(format!("--schemas requires an input http://HOST:PORT; {remedy}")))
            }
            None => Ok(()),
        }
    }

    /// Returns the options of the server whose records are mapped by `mapping`.
    pub fn options(
        &self,
        address: &Address,
        map: &MapArgs,
        mapping: &mapping::Options,
        run: &Run,
    ) -> Result<evt_http::Options> {
        if let Some((name, _)) = map.field.iter().chain(&map.set).find(|(name, _)| POSITION.contains(&name.as_str())) {
            return Err(Error::usage(format!("{name}: the HTTP server sets this column, it cannot be mapped")));
        }
        // Without schemas only the columns of the answer are read.
        let columns = 1 << column::EVENT_ID | 1 << column::SOURCE;
        let mut of_answer = mapping::Options { keep_raw: KeepRaw::No, ..mapping.clone() };
        of_answer.reads.columns = self.schemas.is_none().then_some(Projection { columns, dictionaries: 0 });
        let registry = self.schemas.as_ref().map(|text| place::server_for_clients(text, &run.caller()));
        let registry = registry.transpose()?.flatten();
        let events = IntakeOptions {
            rate: self.rate,
            limits: BodyLimits { bytes: self.max_body, ratio: run.ratio_max },
            memory: self.max_pending,
            validation: ValidationOptions {
                mapping: of_answer,
                origin: map.origin.clone().unwrap_or_else(|| ORIGIN.to_owned()),
                record_max: run.record_max,
                limits: vec![],
                whole: mapping.clone(),
                schemas: self.open_schemas(registry.is_some(), run.caller()),
                registry,
            },
        };
        Ok(evt_http::Options { server: self.server.options(address), events })
    }

    /// Checks that the resources of the flags are available.
    pub fn check(&self, findings: &mut CheckReport) {
        self.schemas.iter().for_each(|schemas| findings.schemas_of(schemas, &self.subject));
    }

    fn open_schemas(&self, has_registry: bool, caller: Caller) -> Option<Box<OpenSchemas>> {
        let dir = self.schemas.clone()?;
        let options = validate::Options { subject: self.subject.clone(), closed: self.no_extra_fields };
        Some(Box::new(move || {
            let schemas: Option<Box<dyn Schemas + Send>> = match has_registry {
                true => None,
                false => Some(Box::new(place::directory(&dir, &caller)?)),
            };
            Ok((Validator::new(options.clone()), schemas))
        }))
    }
}

/// Returns the mapping of records over HTTP: stamped at arrival, with required source and event type.
pub fn over_http(mut mapping: mapping::Options) -> mapping::Options {
    mapping.stamped_at_arrival = true;
    mapping.max_future.get_or_insert(MAX_FUTURE);
    for name in ["source", "event_type"] {
        if !mapping.require.iter().any(|required| required == name) {
            mapping.require.push(name.to_owned());
        }
    }
    mapping
}

fn parse_rate(text: &str) -> Result<NonZeroU32, String> {
    let rate = u32::try_from(parse_count::<u64>(text)?).ok().and_then(NonZeroU32::new);
    rate.ok_or_else(|| "expected a rate between 1 and 4G events per second".to_owned())
}

fn parse_connections(text: &str) -> Result<usize, String> {
    let count = usize::try_from(parse_count::<u64>(text)?).ok();
    count.filter(|count| (1..=1_000_000).contains(count)).ok_or_else(|| "expected a number between 1 and 1M".to_owned())
}

fn timeout(text: &str) -> Result<Duration, String> {
    let micros = parse_duration(text).map_err(|error| error.to_string())?;
    let time = u64::try_from(micros).ok().map(Duration::from_micros);
    time.filter(|time| !time.is_zero()).ok_or_else(|| "expected a duration longer than 0".to_owned())
}

/// `--ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AckArg {
    /// When the outputs have stored it
    Output,
    /// When it is in memory; a crash loses it
    Memory,
}

/// The flags that set where requests are stored until the outputs have their events, and when they are acknowledged.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Acknowledgement")]
pub struct AckArgs {
    /// Store requests in DIR and acknowledge them once they are on disk
    #[arg(long, value_name = "DIR", value_parser = path())]
    spool: Option<PathBuf>,
    /// Limit the size of the spool [default: 4GiB]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    spool_max: Option<u64>,
    /// Treat an event whose event_id arrives again within this time as a duplicate
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    dedup: Option<i64>,
    /// Choose when to acknowledge events without a spool [default: output]
    #[arg(long, value_name = "WHEN")]
    ack: Option<AckArg>,
}

impl AckArgs {
    /// Returns the flags for the source.
    pub fn flags(&self) -> AckFlags {
        let ack = self.ack.map(|ack| match ack {
            AckArg::Output => Ack::Output,
            AckArg::Memory => Ack::Memory,
        });
        AckFlags { spool: self.spool.clone(), spool_max: self.spool_max, dedup: self.dedup, ack }
    }
}
