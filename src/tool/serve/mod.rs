//! evt-serve: answers dashboards from the stores of metrics.
//!
//! ```text
//! request ─► evt_http::server ─► routes (token) ─┬─► v1          ─► stores ─► JSON, CSV
//!                                               └─► prometheus  ─► series ─► stores; evt_promql ─► JSON
//! ```
//!
//! - `app.rs`: what requests share; `routes.rs`: the table of routes, and who may ask.
//! - `v1.rs`: `/v1/metrics`; `prometheus.rs`: `/api/v1/…`, with the series of its queries in `series.rs`.
//! - `stores.rs`: the stores, asked in the order of preference; `catalog.rs`: the metrics that they have,
//!   `corrections.rs`: the corrections that they have seen.

mod app;
mod catalog;
mod corrections;
mod prometheus;
mod routes;
mod series;
mod stores;
mod v1;

use crate::cli::args::CommonArgs;
use crate::cli::check::CheckReport;
use crate::cli::http::ServerArgs;
use crate::cli::values::parse_positive;
use crate::cli::{Tool, Unit};
use crate::tool::metrics;
use crate::tool::serve::app::ServeApp;
use crate::tool::serve::catalog::Catalog;
use crate::tool::serve::stores::{FromStore, ServedStores, ServingTimes};
use crate::uri::Uri;
use clap::Parser;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::op::window::spec;
use evt_core::time::parse_duration;
use evt_http::address::Address;
use evt_http::form::Forms;
use evt_http::server::{Server, ServerOptions};
use evt_run::run::Run;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How long a store may take to answer.
const STORE_TIME: Duration = Duration::from_secs(10);

/// Answer dashboards and Grafana from stores of metrics
#[derive(Parser, Debug)]
pub struct Args {
    /// Listen at this address
    #[arg(value_name = "http://HOST:PORT", default_value = "http://127.0.0.1:8090")]
    address: String,
    /// Answer from this store (repeatable, in the order of preference); ?span=DURATION: only with windows that ended
    /// within it
    #[arg(long, value_name = "URI", required = true, help_heading = "Stores")]
    from: Vec<String>,
    /// Read how metrics are computed from FILE, to warn of sums that have no meaning (evt-metrics(5))
    #[arg(short, long, value_name = "FILE", help_heading = "Stores")]
    metrics: Option<String>,
    /// Read the names and dimensions of metrics, and the corrections of stores, again after DURATION
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_refresh, help_heading = "Stores")]
    refresh: Duration,
    /// Limit the number of windows of an answer
    #[arg(long, value_name = "N", default_value = "200000", value_parser = parse_positive::<usize>, help_heading = "Answers")]
    max_windows: usize,
    /// In PromQL, show a window for DURATION after its end [default: until the next one]
    #[arg(long, value_name = "DURATION", value_parser = parse_lookback, help_heading = "Answers")]
    lookback: Option<i64>,
    /// Answer requests for this host name, too, beside addresses and localhost (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "HTTP")]
    host: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn parse_refresh(text: &str) -> Result<Duration, String> {
    let micros = parse_duration(text).map_err(|error| error.to_string())?;
    u64::try_from(micros).map(Duration::from_micros).map_err(|_| "expected a duration of 0s or more".to_owned())
}

fn parse_lookback(text: &str) -> Result<i64, String> {
    let micros = parse_duration(text).map_err(|error| error.to_string())?;
    if micros > 0 { Ok(micros) } else { Err("expected a duration longer than 0s".to_owned()) }
}

impl Tool for Args {
    const NAME: &'static str = "evt-serve";
    const USUAL_FLAGS: &'static [&'static str] =
        &["from", "metrics", "max-windows", "host", "tokens", "anonymous", "tls-cert", "tls-key", "quiet", "check"];
    const NEGATIVE: &'static str = "Not used.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[(
        "Show that a database can be answered from.",
        "evt-serve http://127.0.0.1:8090 --from sqlite:metrics.db --check",
    )];

    const UNIT: Option<Unit> = Some(Unit {
        after: "",
        args: "http://127.0.0.1:8090 --from sqlite:/var/lib/evt/metrics.db",
        settings: "",
        calendar: None,
    });

    fn shows_metrics(&self) -> bool {
        true
    }

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        let options = self.options()?;
        let (stores, not_additive) = (self.stores(run)?, self.not_additive(run)?);
        for store in &stores {
            // A server may start later; a wrong path or option stays one.
            match (store.open)(&store.location) {
                Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error),
                _ => {}
            }
        }
        let times = ServingTimes { limit: STORE_TIME, refresh: self.refresh };
        let app = ServeApp {
            stores: ServedStores::new(stores, times, run.clock.clone(), run.console.clone()),
            catalog: Catalog::new(self.refresh, run.clock.clone()),
            max_windows: self.max_windows,
            lookback: self.lookback,
            not_additive,
            forms: Forms::default(),
        };
        let server = Server::open(options, run, |_| Ok(app))?;
        run.stop.wait_for_signal();
        server.drain();
        Ok(0)
    }

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        findings.take(self.not_additive(run));
        if let Some(options) = findings.take(self.options()) {
            findings.server(&options);
        }
        for store in findings.take(self.stores(run)).into_iter().flatten() {
            let name = store.location.to_string();
            let found = (store.open)(&store.location).and_then(|mut store| store.metrics());
            if findings.take(found).is_some() {
                findings.ready(name);
            }
        }
    }
}

impl Args {
    fn options(&self) -> Result<ServerOptions> {
        let expected = || Error::usage(format!("{}: expected http://HOST:PORT or https://HOST:PORT", self.address));
        let (scheme, rest) = self.address.split_once(':').ok_or_else(expected)?;
        if !matches!(scheme, "http" | "https") {
            return Err(expected());
        }
        let address = Address::parse(scheme, rest)?;
        Ok(ServerOptions { takes_basic: true, hosts: Some(self.host.clone()), ..self.server.options(&address) })
    }

    fn stores(&self, run: &Run) -> Result<Vec<FromStore>> {
        self.from.iter().map(|text| store(text, run)).collect()
    }

    /// Returns what the results of metrics that cannot be added up are called.
    fn not_additive(&self, run: &Run) -> Result<BTreeMap<String, &'static str>> {
        let Some(path) = &self.metrics else { return Ok(BTreeMap::new()) };
        let found = spec::file(&metrics::read(path, &run.caller())?);
        let spec = found.map_err(|error| error.at(metrics::shown(path).to_owned()))?;
        let named = |metric: &evt_core::op::window::metric::Metric| {
            Some((metric.name.clone(), metric.call.definition().not_additive?))
        };
        Ok(spec.metrics.iter().filter_map(named).collect())
    }
}

/// Parses a store of `--from`.
fn store(text: &str, run: &Run) -> Result<FromStore> {
    let (uri, span) = without_span(text)?;
    let expected = || Error::usage(format!("--from {text}: expected a store of metrics"));
    match Uri::parse(&uri, &run.caller())? {
        Uri::Store(store, mut location) => {
            let open = store.reader.serving.ok_or_else(expected)?;
            if store.is_remote() && store.options.contains(&"retry") {
                // A request does not wait for a server that is away; the next one asks again.
                location.options.entry("retry".to_owned()).or_insert_with(|| "1ms".to_owned());
            }
            Ok(FromStore { location, open, span })
        }
        _ => Err(expected()),
    }
}

/// Takes `span=DURATION` out of the options of a URI; returns it in µs.
fn without_span(text: &str) -> Result<(String, Option<i64>)> {
    let Some((before, options)) = text.split_once('?') else { return Ok((text.to_owned(), None)) };
    let mut span = None;
    let mut kept = vec![];
    for option in options.split('&') {
        match option.strip_prefix("span=") {
            None => kept.push(option),
            Some(duration) => {
                let micros = parse_duration(duration).map_err(|error| error.at(format!("--from {before}: span")))?;
                if micros <= 0 {
                    return Err(Error::usage(format!("--from {before}: span: expected a duration longer than 0s")));
                }
                span = Some(micros);
            }
        }
    }
    let uri = if kept.is_empty() { before.to_owned() } else { format!("{before}?{}", kept.join("&")) };
    Ok((uri, span))
}
