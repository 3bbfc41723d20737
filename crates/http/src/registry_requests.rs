//! Queries a schema registry: HTTP requests with the same query share one query, and the number of concurrent queries
//! is bounded.
//!
//! A request waits without a thread. A query has a thread for one attempt, bounded by the registry's timeouts. A
//! request whose query exceeds the limit fails at once.

use evt_core::error::{Error, ErrorKind};
use evt_run::registry::confluent::Confluent;
use evt_run::registry::confluent::recall::{Question, Recalled};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

/// Maximum number of concurrent queries.
const QUERIES_MAX: usize = 64;
/// The registry counts as unreachable if a query has been open for this time and no query has been answered since that
/// query began.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// Why a query has no answer.
#[derive(Clone, Debug)]
pub enum QueryError {
    /// There are too many concurrent queries.
    Busy,
    /// The registry is unreachable, or its answer is invalid.
    Failed(Arc<Error>),
    /// The deadline has passed.
    Timeout,
}

type QueryResult = Result<Recalled, QueryError>;

/// The queries of a server to its registry.
#[derive(Clone)]
pub struct RegistryRequests {
    /// The registry.
    pub registry: Arc<Confluent>,
    state: Arc<Mutex<State>>,
}

/// The queries in progress, and whether the last ones reached the registry.
#[derive(Default)]
struct State {
    open: HashMap<Question, Open>,
    /// When the registry last answered.
    answered: Option<Instant>,
    /// Whether the last query to end failed because the registry was unreachable.
    failed: bool,
}

/// A query in progress.
struct Open {
    since: Instant,
    outcome: watch::Receiver<Option<QueryResult>>,
}

impl RegistryRequests {
    /// Makes the queries to a registry; none is in progress yet.
    pub fn new(registry: Arc<Confluent>) -> Self {
        Self { registry, state: Arc::default() }
    }

    /// Sends a query, or waits for the answer of the same query of another request, until `deadline`.
    pub async fn query(&self, question: &Question, deadline: Instant) -> QueryResult {
        let mut outcome = self.join(question).ok_or(QueryError::Busy)?;
        let answered = outcome.wait_for(Option::is_some);
        match timeout_at(deadline, answered).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(QueryError::Timeout)),
            _ => Err(QueryError::Timeout),
        }
    }

    /// Whether the registry answers. If not, sends a query that detects when the registry is reachable again.
    pub fn is_answered(&self) -> bool {
        let is_silent = {
            let state = self.state();
            let silent = |open: &Open| {
                open.since.elapsed() >= SILENT_AFTER && state.answered.is_none_or(|answered| answered < open.since)
            };
            state.failed || state.open.values().any(silent)
        };
        if is_silent {
            self.join(&Question::Check);
        }
        !is_silent
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the future outcome of a query, which is sent unless it is in progress; `None` if too many queries are in
    /// progress.
    fn join(&self, question: &Question) -> Option<watch::Receiver<Option<QueryResult>>> {
        let mut state = self.state();
        if let Some(open) = state.open.get(question) {
            return Some(open.outcome.clone());
        }
        // The check of the registry is exempt from the limit.
        if state.open.len() >= QUERIES_MAX && *question != Question::Check {
            return None;
        }
        let (sender, outcome) = watch::channel(None);
        state.open.insert(question.clone(), Open { since: Instant::now(), outcome: outcome.clone() });
        drop(state);
        let (queries, question) = (self.clone(), question.clone());
        spawn_blocking(move || {
            let answer = question.answer(&queries.registry);
            queries.note(&question, &answer);
            let outcome = answer.map_err(|error| QueryError::Failed(Arc::new(error)));
            sender.send_replace(Some(outcome));
        });
        Some(outcome)
    }

    /// Notes the end of a query.
    fn note(&self, question: &Question, answer: &evt_core::error::Result<Recalled>) {
        let mut state = self.state();
        state.open.remove(question);
        // An invalid answer shows a reachable registry too.
        state.failed = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
        if !state.failed {
            state.answered = Some(Instant::now());
        }
    }
}
