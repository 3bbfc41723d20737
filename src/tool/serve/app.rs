//! What requests share.

use super::catalog::Catalog;
use super::stores::{NoStore, ServedStores};
use evt_http::form::{Forms, Parameters};
use evt_http::server::token::Token;
use evt_http::server::{Reply, ServerState};
use hyper::http::request::Parts;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state that requests share.
pub struct ServeApp {
    /// The stores.
    pub stores: ServedStores,
    /// The metrics that they have.
    pub catalog: Catalog,
    /// `--max-windows`.
    pub max_windows: usize,
    /// `--lookback` (µs).
    pub lookback: Option<i64>,
    /// What the results of metrics of `-m` are called, if they cannot be added up, by the names of the metrics.
    pub not_additive: BTreeMap<String, &'static str>,
    /// The memory of forms in progress.
    pub forms: Forms,
}

/// The state of the server.
pub type State = ServerState<ServeApp>;

/// A request that may be answered.
pub struct Allowed {
    /// Its head.
    pub parts: Parts,
    /// Its parameters, those of a form included.
    pub parameters: Parameters,
    /// The parameter of its path.
    pub name: String,
    /// Its token.
    pub token: Arc<Token>,
}

/// Refuses a request that no store answers.
pub fn unavailable(NoStore { faults }: &NoStore) -> Reply {
    Reply::unavailable(&faults.join("; "))
}
