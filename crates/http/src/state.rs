//! What the requests of events share: the log, validators, memory, rates.

use super::answer::OutcomeCounts;
use super::body::{BodyLimits, MemoryBudget};
use super::registry_requests::RegistryRequests;
use super::server::ServerOptions;
use super::server::limits::metrics::{Counters, register};
use super::server::token::Rate;
use super::validate::{RequestValidator, ValidationOptions};
use evt_core::error::Result;
use evt_run::clock::Clock;
use evt_run::metrics;
use evt_run::spool::request::RequestLog;
use prometheus_client::registry::Registry;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// The configuration of a server that receives events.
pub struct Options {
    /// That of the server.
    pub server: ServerOptions,
    /// That of the events.
    pub events: IntakeOptions,
}

/// How events are received.
pub struct IntakeOptions {
    /// Events a second over all tokens.
    pub rate: Option<NonZeroU32>,
    /// Limits of each body.
    pub limits: BodyLimits,
    /// Maximum bytes of all bodies in progress.
    pub memory: usize,
    /// The options of the validation.
    pub validation: ValidationOptions,
}

/// How long the server is not ready after the log refused a request as unavailable.
const UNREADY: Duration = Duration::from_secs(5);
/// Maximum number of idle validators.
const VALIDATORS_MAX: usize = 64;

/// The state that the requests of events share.
pub struct Intake {
    pub(super) options: IntakeOptions,
    /// `None` once the server is closed: the spool ends when the last reference is dropped.
    log: RwLock<Option<Arc<dyn RequestLog>>>,
    pub(super) events: EventCounters,
    pub(super) rate: Rate,
    pub(super) memory: MemoryBudget,
    validators: Mutex<Vec<RequestValidator>>,
    /// The registry's queries, if it has the schemas.
    pub(super) queries: Option<RegistryRequests>,
    clock: Clock,
    /// Until when the log counts as unavailable (monotonic time, µs).
    unready_until: AtomicU64,
}

/// The number of events by outcome, as a metric. Clones share it.
#[derive(Clone)]
pub struct EventCounters(Counters);

impl EventCounters {
    /// Counts the events of a stored request.
    pub fn count(&self, counts: OutcomeCounts) {
        let OutcomeCounts { accepted, duplicate, rejected } = counts;
        for (outcome, count) in [("accepted", accepted), ("duplicate", duplicate), ("rejected", rejected)] {
            if count > 0 {
                self.0.get_or_create(&[("outcome", outcome.to_owned())]).inc_by(count as u64);
            }
        }
    }
}

impl Intake {
    /// Passes requests on to this log. Errors: faults of the schemas and of the flags of the mapping.
    pub fn new(
        options: IntakeOptions,
        log: Arc<dyn RequestLog>,
        clock: &Clock,
        registry: &mut Registry,
    ) -> Result<Self> {
        // Making a validator now reports faulty schemas or flags before the first request.
        let first = RequestValidator::new(&options.validation)?;
        Ok(Self {
            rate: Rate::new(options.rate),
            memory: MemoryBudget::new(options.memory),
            validators: Mutex::new(vec![first]),
            queries: options.validation.registry.clone().map(RegistryRequests::new),
            unready_until: AtomicU64::new(0),
            options,
            log: RwLock::new(Some(log)),
            events: EventCounters(register(registry, &metrics::HTTP_EVENTS, Counters::default())),
            clock: clock.clone(),
        })
    }

    /// Whether requests can be stored now, or why not.
    pub fn is_ready(&self) -> Result<(), &'static str> {
        if self.queries.as_ref().is_some_and(|queries| !queries.is_answered()) {
            return Err("the schema registry is unavailable");
        }
        let has_space = self.log().is_none_or(|log| log.has_space());
        match has_space && micros(self.clock.monotonic()) >= self.unready_until.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("requests cannot be stored at the moment"),
        }
    }

    /// Drops the log, so that the server stores no further requests.
    pub fn close_log(&self) {
        self.log.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Returns the log; `None` once the server is closed.
    pub fn log(&self) -> Option<Arc<dyn RequestLog>> {
        self.log.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes an idle validator for one request, or makes one.
    pub fn validator(&self) -> Result<RequestValidator> {
        let idle = self.validators.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| RequestValidator::new(&self.options.validation), Ok)
    }

    /// Puts back a validator after its request, for the next request.
    pub fn put_back(&self, validator: RequestValidator) {
        let mut idle = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < VALIDATORS_MAX {
            idle.push(validator);
        }
    }

    /// Notes whether the log was available for the last request.
    pub fn note_log(&self, is_available: bool) {
        let until = if is_available { Duration::ZERO } else { self.clock.monotonic() + UNREADY };
        self.unready_until.store(micros(until), Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
