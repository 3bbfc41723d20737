//! What a tool implements to have a server: a table of routes, and the state that their requests share.

use super::limits::timeouts::Phase;
use super::reply::Reply;
use super::state::ServerState;
use super::trace::Trace;
use evt_run::metrics;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

/// What a server is for: the routes of a tool, and the state that their requests share.
pub trait Application: Sized + Send + Sync + 'static {
    /// Its routes. Every other path is refused with 404, every other method of their paths with 405.
    const ROUTES: &'static [Route<Self>];

    /// Returns the maximum bytes of a body.
    fn body_max(&self) -> usize {
        0
    }

    /// Whether requests can be served now, or why not.
    fn is_ready(&self) -> Result<(), &'static str> {
        Ok(())
    }

    /// Refuses a request that no route serves, with the reason.
    fn refusal(status: StatusCode, why: &str) -> Reply {
        Reply::refusal(status, why)
    }

    /// Ends, because no further request follows.
    fn end(&self) {}
}

/// A method of a path, and what serves it.
pub struct Route<A> {
    /// The path; one of its segments may be `{}`, for any text ([`Call::parameter`]).
    pub path: &'static str,
    /// The method. A route of `GET` serves `HEAD` too: hyper sends its response without the body.
    pub method: &'static str,
    /// Serves a request.
    pub serve: for<'a> fn(&'a Arc<ServerState<A>>, Call<'a>) -> Served<'a>,
}

impl<A: Application> Route<A> {
    /// `GET /healthz`: the process answers.
    pub const HEALTH: Self =
        Self { path: "/healthz", method: "GET", serve: |_, _| Box::pin(ready(Reply::text("ok\n".to_owned()))) };

    /// `GET /readyz`: whether the application is ready, and the server is not closed.
    pub const READINESS: Self = Self {
        path: "/readyz",
        method: "GET",
        serve: |state, _| {
            let found = if state.is_closed() { Err("draining") } else { state.app.is_ready() };
            Box::pin(ready(match found {
                Ok(()) => Reply::text("ready\n".to_owned()),
                Err(why) => Reply::refusal(StatusCode::SERVICE_UNAVAILABLE, why),
            }))
        },
    };

    /// `GET /metrics`: the metrics of the server, of the application and of the run.
    pub const METRICS: Self = Self {
        path: "/metrics",
        method: "GET",
        serve: |state, _| Box::pin(ready(Reply::metrics(metrics::text(&state.registry)))),
    };

    /// Returns the parameter of a path, as it is written there, if the route serves the path; empty without one.
    pub(super) fn parameter<'p>(&self, path: &'p str) -> Option<&'p str> {
        let Some((before, after)) = self.path.split_once("{}") else { return (self.path == path).then_some("") };
        let found = path.strip_prefix(before)?.strip_suffix(after)?;
        (!found.is_empty() && !found.contains('/')).then_some(found)
    }

    /// Returns the methods that it serves.
    pub(super) fn methods(&self) -> impl Iterator<Item = &'static str> + use<A> {
        [self.method].into_iter().chain((self.method == "GET").then_some("HEAD"))
    }
}

/// The future of a reply.
pub type Served<'a> = Pin<Box<dyn Future<Output = Reply> + Send + 'a>>;

/// A request that is served, and what the server knows of it.
pub struct Call<'a> {
    /// The request.
    pub request: Request<Incoming>,
    /// Its trace ids.
    pub trace: &'a Trace,
    /// The part of it that is being received.
    pub phase: &'a Phase,
    /// The name of its token, which the route stores for the log.
    pub token: &'a mut String,
    /// The parameter of its path, decoded; empty if the path has none.
    pub parameter: String,
}
