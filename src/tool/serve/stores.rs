//! The stores that answer: each with a few connections, asked in the order of preference.

use super::corrections::{OfStores, SeenCorrections, behind};
use evt_core::error::{Error, Result};
use evt_core::kind::span::Span;
use evt_core::serve::answer::{ServedWindow, StorePart};
use evt_core::serve::finality::MetricFinality;
use evt_core::serve::plan::{ServingPlan, ServingStore};
use evt_core::serve::request::WantedValue;
use evt_run::client::Location;
use evt_run::clock::Clock;
use evt_run::console::Console;
use evt_store::serving::{FoundWindows, MetricStanding, OpenServing, ServedMetrics, StoredMetric, WindowsRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Connections to a store.
const CONNECTIONS_MAX: usize = 8;
/// How long a store that failed is not asked again.
const AWAY: Duration = Duration::from_secs(1);
/// How often a store that is away is reported.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// A store of `--from`.
pub struct FromStore {
    /// Where it is.
    pub location: Location,
    /// How its metrics are opened.
    pub open: OpenServing,
    /// `?span=` (µs).
    pub span: Option<i64>,
}

/// The connections to a store.
struct Connections {
    store: FromStore,
    idle: Mutex<Vec<Box<dyn ServedMetrics>>>,
    permits: Arc<Semaphore>,
    fault: Mutex<LastFault>,
    clock: Clock,
}

/// The last fault of a store, in the monotonic time of the run.
#[derive(Default)]
struct LastFault {
    /// Until when the store is not asked, and why.
    away: Option<(Duration, String)>,
    /// When it was reported.
    reported: Option<Duration>,
}

/// The times of stores.
#[derive(Clone, Copy, Debug)]
pub struct ServingTimes {
    /// How long a request may wait for each store.
    pub limit: Duration,
    /// `--refresh`.
    pub refresh: Duration,
}

/// All stores.
pub struct ServedStores {
    stores: Vec<Arc<Connections>>,
    /// How long a request may wait for each store.
    limit: Duration,
    corrections: SeenCorrections,
    clock: Clock,
    console: Console,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The name of the metric.
    pub metric: String,
    /// Windows must lie whole in it.
    pub span: Span,
    /// What dimensions must have.
    pub dimensions: BTreeMap<String, WantedValue>,
    /// The length of the longest window that is looked for (µs).
    pub longest: i64,
    /// The maximum number of windows.
    pub limit: usize,
}

/// What the stores have found.
#[derive(Debug, Default)]
pub struct FoundInStores {
    /// The windows, in any order.
    pub windows: Vec<ServedWindow>,
    /// Whether there are more than were asked for.
    pub is_more: bool,
    /// Which store answered for which time.
    pub parts: Vec<StorePart>,
    /// The watermark of the first store that knows the metric (µs).
    pub watermark: Option<i64>,
    /// How many corrections are in flight.
    pub corrections: usize,
    /// The stores that did not answer.
    pub missing: Vec<String>,
    /// What the stores keep of the metric.
    pub standings: Vec<MetricStanding>,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct NoStore {
    /// The stores, each with its fault.
    pub faults: Vec<String>,
}

impl Connections {
    fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        self.store.location.to_string()
    }

    fn ended<T>(&self) -> Result<T> {
        Err(Error::broken(format!("{}: a thread that reads it has ended", self.name())))
    }

    /// Does work with a connection, in a thread for blocking work. Errors: those of the store, and of the time limit; a
    /// store that has failed is left alone for a second.
    async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        limit: Duration,
        work: impl FnOnce(&mut dyn ServedMetrics) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let now = self.clock.monotonic();
        if let Some((_, why)) = Self::lock(&self.fault).away.as_ref().filter(|(until, _)| now < *until) {
            return Err(Error::unavailable(why.clone()));
        }
        let of_task = self.clone();
        let answered = async {
            // The permits are never closed.
            let Ok(permit) = self.permits.clone().acquire_owned().await else { return self.ended() };
            let task = spawn_blocking(move || {
                let _permit = permit;
                let idle = Self::lock(&of_task.idle).pop();
                let mut store = idle.map_or_else(|| (of_task.store.open)(&of_task.store.location), Ok)?;
                let done = work(store.as_mut())?;
                // A connection that has failed is opened again.
                Self::lock(&of_task.idle).push(store);
                Ok(done)
            });
            task.await.unwrap_or_else(|_| self.ended())
        };
        let late = |_| Err(Error::unavailable(format!("{}: no answer within {}s", self.name(), limit.as_secs())));
        let done = timeout(limit, answered).await.unwrap_or_else(late);
        let mut fault = Self::lock(&self.fault);
        fault.away = done.as_ref().err().map(|error| (self.clock.monotonic() + AWAY, error.to_string()));
        done
    }
}

impl ServedStores {
    /// Makes them of `--from`, in the order of preference.
    pub fn new(stores: Vec<FromStore>, times: ServingTimes, clock: Clock, console: Console) -> Self {
        let connections = |store: FromStore| {
            Arc::new(Connections {
                store,
                idle: Mutex::default(),
                permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
                fault: Mutex::default(),
                clock: clock.clone(),
            })
        };
        let ServingTimes { limit, refresh } = times;
        let corrections = SeenCorrections::new(refresh, clock.clone());
        Self { stores: stores.into_iter().map(connections).collect(), limit, corrections, clock, console }
    }

    /// Reports a store that is away, at most once a minute.
    fn report(&self, connections: &Connections, error: &Error) {
        let now = self.clock.monotonic();
        let mut fault = Connections::lock(&connections.fault);
        if fault.reported.is_none_or(|reported| now >= reported + REPORT_EVERY) {
            fault.reported = Some(now);
            self.console.warn(format!("a store does not answer: {error}"));
        }
    }

    /// Returns the metrics of each store that answers. Errors: none does.
    pub async fn metrics(&self) -> Result<Vec<StoredMetric>, NoStore> {
        let (mut found, mut faults) = (vec![], vec![]);
        for connections in &self.stores {
            match connections.call(self.limit, |store| store.metrics()).await {
                Ok(metrics) => found.extend(metrics),
                Err(error) => {
                    self.report(connections, &error);
                    faults.push(error.to_string());
                }
            }
        }
        if faults.len() == self.stores.len() { Err(NoStore { faults }) } else { Ok(found) }
    }

    /// Returns the corrections that the stores behind the first one have seen lately. A store that does not answer has
    /// those that it had.
    async fn corrections(&self) -> Arc<OfStores> {
        if self.stores.len() < 2 {
            return Arc::default();
        }
        let turn = match self.corrections.fresh_or_turn().await {
            Ok(fresh) => return fresh,
            Err(turn) => turn,
        };
        let mut all: OfStores = vec![vec![]];
        for (at, connections) in self.stores.iter().enumerate().skip(1) {
            let read = connections.call(self.limit, |store| store.corrections()).await;
            all.push(read.unwrap_or_else(|error| {
                self.report(connections, &error);
                turn.last.get(at).cloned().unwrap_or_default()
            }));
        }
        let all = Arc::new(all);
        self.corrections.keep(turn, all.clone());
        all
    }

    /// Returns the windows of a request: each from the first store that has its time whole, as far as the stores
    /// answer. Errors: none that was asked does.
    pub async fn windows(&self, asked: &Asked) -> Result<FoundInStores, NoStore> {
        let now = self.clock.now();
        let corrections = self.corrections().await;
        let (mut found, mut faults) = (FoundInStores::default(), vec![]);
        let (mut known, last) = (vec![], self.stores.len().saturating_sub(1));
        let mut answered = 0;
        for (at, connections) in self.stores.iter().enumerate() {
            let corrected = behind(&corrections, at, &asked.metric);
            let own = ServingStore { corrected, ..ServingStore::default() };
            if part(asked, &known, own.clone(), now).is_none() {
                // The stores before it have everything.
                break;
            }
            let (of_task, before, span) = (asked.clone(), known.clone(), connections.store.span);
            let (of_store, is_last) = (own.clone(), at == last);
            let read = move |store: &mut dyn ServedMetrics| {
                // Behind the last store is no other: what it still has is shown.
                let keeps = span.or(if is_last { None } else { store.keeps() });
                let read = part(&of_task, &before, ServingStore { keeps, ..of_store }, now);
                read.map_or(Ok(None), |starts| read_part(store, &of_task, starts)).map(|read| (keeps, read))
            };
            let (keeps, read) = match connections.call(self.limit, read).await {
                Ok(read) => read,
                Err(error) => {
                    self.report(connections, &error);
                    faults.push(error.to_string());
                    found.missing.push(connections.name());
                    continue;
                }
            };
            answered += 1;
            let Some(ReadPart { starts, windows }) = read else {
                known.push(ServingStore { keeps, ..own });
                continue;
            };
            known.push(ServingStore { keeps, complete_since: complete_since(&windows.standing, is_last), ..own });
            let plan = ServingPlan::new(known.clone(), now);
            found.add(&connections.name(), &plan, asked, ReadPart { starts, windows });
            if found.windows.len() > asked.limit {
                found.is_more = true;
                break;
            }
        }
        if answered == 0 { Err(NoStore { faults }) } else { Ok(found) }
    }
}

/// What a store has found, and for which starts of windows.
struct ReadPart {
    starts: Span,
    windows: FoundWindows,
}

/// Returns the starts of the windows that a store answers for, behind those `before` it.
fn part(asked: &Asked, before: &[ServingStore], own: ServingStore, now: i64) -> Option<Span> {
    let (index, mut stores) = (before.len(), before.to_vec());
    stores.push(own);
    ServingPlan::new(stores, now).span_of(index, asked.span, asked.longest)
}

fn read_part(store: &mut dyn ServedMetrics, asked: &Asked, starts: Span) -> Result<Option<ReadPart>> {
    let request = WindowsRequest {
        metric: &asked.metric,
        starts,
        last_end: asked.span.until.unwrap_or(i64::MAX),
        dimensions: &asked.dimensions,
        limit: asked.limit,
    };
    Ok(Some(ReadPart { starts, windows: store.windows(&request)? }))
}

/// Returns the start since which a store has the windows of a metric whole (µs). One that keeps nothing about it may
/// have been emptied: only the last store, behind which is no other, is trusted then.
fn complete_since(standing: &MetricStanding, is_last: bool) -> Option<i64> {
    if is_last {
        return standing.kept_since;
    }
    let is_known = !standing.progress.is_empty() && standing.progress.iter().all(|kept| !kept.pipeline.is_empty());
    if !is_known {
        return Some(i64::MAX);
    }
    standing.progress.iter().filter_map(|kept| kept.metric.complete_since).max().max(standing.kept_since)
}

impl FoundInStores {
    /// Adds what the store of the last row of the plan has found.
    fn add(&mut self, name: &str, plan: &ServingPlan, asked: &Asked, read: ReadPart) {
        let ReadPart { starts, windows: FoundWindows { windows, is_more, standing } } = read;
        let index = plan.len().saturating_sub(1);
        let finality =
            MetricFinality::new(standing.progress.iter().map(|kept| &kept.metric), standing.corrections.clone());
        let whole_since = standing.progress.iter().filter_map(|kept| kept.metric.complete_since).max();
        let mut extent: Option<(i64, i64)> = None;
        for mut window in windows {
            let is_of_store = plan.store_of(window.start, window.end) == Some(index);
            if !is_of_store || !asked.span.holds(window.start, window.end) {
                continue;
            }
            // A window that began before the store was complete may lack events, and nobody knows how many.
            let is_whole = whole_since.is_none_or(|since| window.start >= since);
            window.is_final = if is_whole { finality.is_final(window.start, window.end) } else { None };
            let (first, last) = extent.unwrap_or((window.start, window.end));
            extent = Some((first.min(window.start), last.max(window.end)));
            self.windows.push(window);
        }
        self.is_more |= is_more;
        if let Some((first, last)) = extent {
            let since = starts.since.unwrap_or(first);
            let until = starts.until.map_or(last, |until| until.min(asked.span.until.unwrap_or(until)));
            self.parts.push(StorePart { store: name.to_owned(), since, until: until.max(last) });
        }
        if self.standings.iter().all(|earlier| earlier.progress.is_empty()) {
            self.watermark = finality.watermark();
        }
        self.corrections += standing.corrections.len();
        self.standings.push(standing);
    }

    /// Returns the texts of the sizes of the metric's windows, as far as the stores know them.
    pub fn sizes(&self) -> BTreeSet<&str> {
        let progress = self.standings.iter().flat_map(|standing| &standing.progress);
        progress.filter_map(|kept| kept.metric.size.as_deref()).collect()
    }
}
