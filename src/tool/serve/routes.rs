//! The table of routes. Every request for metrics has a token that may read.

use super::app::{Allowed, ServeApp, State};
use super::{prometheus, v1};
use evt_http::form::FORM_MAX;
use evt_http::server::token::Scope;
use evt_http::server::{Application, Call, Reply, Route, Served};
use hyper::StatusCode;
use std::sync::Arc;

impl Application for ServeApp {
    const ROUTES: &'static [Route<Self>] = &[
        Route { path: "/v1/metrics", method: "GET", serve: |state, call| answered(state, call, v1::list) },
        Route { path: "/v1/metrics/{}", method: "GET", serve: |state, call| answered(state, call, v1::metric) },
        Route { path: "/api/v1/query", method: "GET", serve: |state, call| answered(state, call, prometheus::query) },
        Route { path: "/api/v1/query", method: "POST", serve: |state, call| answered(state, call, prometheus::query) },
        Route {
            path: "/api/v1/query_range",
            method: "GET",
            serve: |state, call| answered(state, call, prometheus::query_range),
        },
        Route {
            path: "/api/v1/query_range",
            method: "POST",
            serve: |state, call| answered(state, call, prometheus::query_range),
        },
        Route { path: "/api/v1/series", method: "GET", serve: |state, call| answered(state, call, prometheus::series) },
        Route {
            path: "/api/v1/series",
            method: "POST",
            serve: |state, call| answered(state, call, prometheus::series),
        },
        Route { path: "/api/v1/labels", method: "GET", serve: |state, call| answered(state, call, prometheus::labels) },
        Route {
            path: "/api/v1/labels",
            method: "POST",
            serve: |state, call| answered(state, call, prometheus::labels),
        },
        Route {
            path: "/api/v1/label/{}/values",
            method: "GET",
            serve: |state, call| answered(state, call, prometheus::label_values),
        },
        Route {
            path: "/api/v1/metadata",
            method: "GET",
            serve: |state, call| answered(state, call, prometheus::metadata),
        },
        Route {
            path: "/api/v1/status/buildinfo",
            method: "GET",
            serve: |state, call| answered(state, call, prometheus::build_info),
        },
        Route::HEALTH,
        Route::READINESS,
        Route::METRICS,
    ];

    fn body_max(&self) -> usize {
        FORM_MAX
    }
}

/// Reads a request whose token may read metrics, and answers it.
fn answered<'a, F>(state: &'a Arc<State>, call: Call<'a>, answer: fn(&'a Arc<State>, Allowed) -> F) -> Served<'a>
where
    F: Future<Output = Result<Reply, Reply>> + Send + 'a,
{
    Box::pin(async move {
        let answered = async {
            let allowed = allow(state, call).await?;
            answer(state, allowed).await
        };
        match answered.await {
            Ok(reply) | Err(reply) => reply,
        }
    })
}

async fn allow(state: &State, call: Call<'_>) -> Result<Allowed, Reply> {
    let Call { request, phase, token: name, parameter, .. } = call;
    let (parts, body) = request.into_parts();
    let token = state.authorize(&parts.headers)?;
    name.push_str(&token.name);
    if !token.has(Scope::Read) {
        return Err(Reply::refusal(StatusCode::FORBIDDEN, "the token needs the scope read"));
    }
    let parameters = state.app.forms.parameters(state, &parts, body, phase).await?;
    Ok(Allowed { parts, parameters, name: parameter, token })
}
