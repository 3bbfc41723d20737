//! What a tool implements to have a server: its routes, and the state that their requests share.

use super::limits::timeouts::Phase;
use super::reply::Reply;
use super::state::ServerState;
use super::trace::Trace;
use hyper::Request;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;

/// What a server is for: the routes of a tool, and the state that their requests share.
pub trait Application: Sized + Send + Sync + 'static {
    /// Its routes, beside those that every server has.
    const ROUTES: &'static [Route<Self>];

    /// Returns the maximum bytes of a body.
    fn body_max(&self) -> usize;

    /// Whether requests can be served now, or why not.
    fn is_ready(&self) -> Result<(), &'static str>;

    /// Ends, because no further request follows.
    fn end(&self);
}

/// A path, and what serves it.
pub struct Route<A> {
    /// The path.
    pub path: &'static str,
    /// The methods that it supports, as `Allow` lists them.
    pub methods: &'static str,
    /// Serves a request.
    pub serve: for<'a> fn(&'a Arc<ServerState<A>>, Call<'a>) -> Served<'a>,
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
}
