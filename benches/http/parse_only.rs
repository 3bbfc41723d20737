//! The smallest axum server that reads a batch of events: what the HTTP listener is measured against.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Batch {
    events: Vec<Event>,
}

/// Some fields are there only to be parsed.
#[derive(Deserialize)]
#[allow(dead_code, reason = "what is parsed is not looked at")]
struct Event {
    event_id: String,
    source: String,
    event_type: String,
    properties: Box<RawValue>,
}

async fn events(body: Bytes) -> (StatusCode, String) {
    match serde_json::from_slice::<Batch>(&body) {
        Ok(batch) => (StatusCode::OK, format!("{{\"accepted\":{}}}\n", batch.events.len())),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
    }
}

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("listening on http://{}", listener.local_addr()?);
        axum::serve(listener, axum::Router::new().route("/v1/events", post(events))).await
    })
}
