//! Errors of queries.

use std::fmt;

/// Why a query has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryErrorKind {
    /// The text, a parameter, or something that is not supported (`bad_data`).
    BadData,
    /// The series do not fit the query (`execution`).
    Execution,
    /// No series can be read at the moment (`unavailable`).
    Unavailable,
}

/// An error of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    kind: QueryErrorKind,
    message: String,
}

/// The result of a step of a query.
pub type Result<T, E = QueryError> = std::result::Result<T, E>;

impl QueryError {
    /// Makes an error of the text or of a parameter.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self { kind: QueryErrorKind::BadData, message: message.into() }
    }

    /// Makes an error of the evaluation.
    pub fn execution(message: impl Into<String>) -> Self {
        Self { kind: QueryErrorKind::Execution, message: message.into() }
    }

    /// Makes an error of reading the series.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: QueryErrorKind::Unavailable, message: message.into() }
    }

    /// Returns its kind.
    pub fn kind(&self) -> QueryErrorKind {
        self.kind
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryError {}
