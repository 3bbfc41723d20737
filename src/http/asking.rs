//! Questions to a registry: each is asked once however many requests wait for its answer, and few at a time.
//!
//! A request waits without a thread. A question has one, for one attempt: the registry's timeouts bound it. Requests
//! that find no place for their question are answered at once.

use crate::error::{Error, ErrorKind};
use crate::registry::confluent::Confluent;
use crate::registry::confluent::recall::{Answer, Question};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

/// Questions that are asked at the same time at the most.
const QUESTIONS_MAX: usize = 64;
/// A registry that has left a question open for so long, and has answered none since, does not answer.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// Why a question has no answer.
#[derive(Clone, Debug)]
pub enum Unanswered {
    /// There are too many questions already.
    Busy,
    /// The registry does not answer, or not with what was asked for.
    Failed(Arc<Error>),
    /// The time is over.
    Late,
}

type Outcome = Result<Answer, Unanswered>;

/// Questions of a front door to its registry.
#[derive(Clone)]
pub struct Questions {
    registry: Arc<Confluent>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: HashMap<Question, Open>,
    /// When the registry last answered.
    answered: Option<Instant>,
    /// Whether the last question to end has got no answer.
    failed: bool,
}

/// A question on its way.
struct Open {
    since: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Questions {
    /// Questions to this registry; none is asked yet.
    pub fn new(registry: Arc<Confluent>) -> Self {
        Self { registry, state: Arc::default() }
    }

    /// The registry.
    pub fn registry(&self) -> Arc<Confluent> {
        self.registry.clone()
    }

    /// Asks a question, or waits with others for its answer, until `deadline`.
    pub async fn ask(&self, question: &Question, deadline: Instant) -> Outcome {
        let mut outcome = self.join(question).ok_or(Unanswered::Busy)?;
        let answered = outcome.wait_for(Option::is_some);
        match timeout_at(deadline, answered).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(Unanswered::Late)),
            _ => Err(Unanswered::Late),
        }
    }

    /// Whether the registry answers. Where it does not it is asked whether it is back.
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

    /// The outcome of a question to come; none where there is no place for it.
    fn join(&self, question: &Question) -> Option<watch::Receiver<Option<Outcome>>> {
        let mut state = self.state();
        if let Some(open) = state.open.get(question) {
            return Some(open.outcome.clone());
        }
        // There is always a place for one that finds out whether the others will be answered.
        if state.open.len() >= QUESTIONS_MAX && *question != Question::Check {
            return None;
        }
        let (sender, outcome) = watch::channel(None);
        state.open.insert(question.clone(), Open { since: Instant::now(), outcome: outcome.clone() });
        drop(state);
        let (questions, question) = (self.clone(), question.clone());
        spawn_blocking(move || {
            let answer = question.ask(&questions.registry);
            questions.note(&question, &answer);
            let outcome = answer.map_err(|error| Unanswered::Failed(Arc::new(error)));
            sender.send_replace(Some(outcome));
        });
        Some(outcome)
    }

    /// A question has ended.
    fn note(&self, question: &Question, answer: &crate::error::Result<Answer>) {
        let mut state = self.state();
        state.open.remove(question);
        // An answer that makes no sense is one.
        state.failed = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
        if !state.failed {
            state.answered = Some(Instant::now());
        }
    }
}
