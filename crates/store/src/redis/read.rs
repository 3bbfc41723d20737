//! Reads metrics back, from names to series to windows to rows, and alerts from their index; without SCAN.

use crate::redis::address::RedisAddress;
use crate::redis::alert;
use crate::redis::key::{self, WindowKey};
use crate::redis::wire::{ErrorReply, Pipe, ServerClock, Wire, refused, text};
use crate::{ReadRequest, Tables, batches};
use ::redis::Value;
use arrow::array::RecordBatch;
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::metric;
use evt_core::time::parse_instant;
use evt_run::checkpoint::epoch::Batches;
use evt_run::client::Location;
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows per request, and maximum rows of a batch.
pub const PAGE: usize = 1024;

/// Counts the metrics, and the alerts if there are some: most databases have none, and a URI without a table then means
/// the metrics.
pub fn tables(location: &Location) -> Result<Tables> {
    let mut reader = Reader::open(location)?;
    let mut rows = 0;
    for name in reader.names()? {
        for page in reader.series(&name)?.chunks(PAGE) {
            rows += reader.count(page)?;
        }
    }
    let mut tables = vec![(Kind::Metric.table().to_owned(), rows)];
    let mut alerts = 0;
    for page in reader.alerts()?.chunks(PAGE) {
        alerts += reader.alert_rows(page)?.num_rows() as u64;
    }
    if alerts > 0 {
        tables.push((Kind::Alert.table().to_owned(), alerts));
    }
    Ok(tables)
}

/// Reads the metrics by name, dimensions and window, or the alerts by their keys. Rows that expire or are written
/// meanwhile may be included or not.
pub fn read(location: &Location, kind: Kind, _: ReadRequest) -> Result<Batches> {
    let mut reader = Reader::open(location)?;
    if kind == Kind::Alert {
        let mut keys = VecDeque::from(reader.alerts()?);
        return Ok(batches(move || {
            let page: Vec<String> = keys.drain(..keys.len().min(PAGE)).collect();
            if page.is_empty() { Ok(None) } else { reader.alert_rows(&page).map(Some) }
        }));
    }
    let names = reader.names()?.into();
    let mut pages = MetricPages { reader, names, series: VecDeque::new(), windows: VecDeque::new() };
    Ok(batches(move || pages.batch()))
}

/// One series: the metric, its dimensions, and the key of its windows.
#[derive(Clone)]
pub struct Series {
    name: Arc<str>,
    /// Its dimensions.
    pub dimensions: Arc<str>,
    windows: Arc<str>,
}

/// A connection for reading.
pub struct Reader {
    /// The server and its keys.
    pub address: RedisAddress,
    wire: Wire,
    clock: ServerClock,
    /// The server's clock when reading began (ms): members that have expired by then are left out.
    now: String,
}

impl Reader {
    /// Connects, and begins to read.
    pub fn open(location: &Location) -> Result<Self> {
        let address = RedisAddress::try_new(location)?;
        let open = || {
            let mut wire = address.server.connect()?;
            let clock = wire.clock()?;
            Ok((wire, clock))
        };
        let (wire, clock) = open().map_err(address.server.failed())?;
        let now = clock.now().to_string();
        Ok(Self { address, wire, clock, now })
    }

    /// Begins to read anew.
    pub fn begin(&mut self) {
        self.now = self.clock.now().to_string();
    }

    /// Returns the members of an index that have not expired, sorted.
    fn members(&mut self, key: &str) -> Result<Vec<String>> {
        let mut pipe = Pipe::default();
        push_members(key, &self.now, &mut pipe);
        let answers = self.query(&pipe)?;
        self.sorted(answers.first().unwrap_or(&Value::Nil))
    }

    /// Takes the members of an index from an answer, sorted.
    fn sorted(&self, answer: &Value) -> Result<Vec<String>> {
        let mut members = self.strings(answer)?;
        members.sort_unstable();
        Ok(members)
    }

    fn strings(&self, answer: &Value) -> Result<Vec<String>> {
        let Value::Array(values) = answer else { return Err(self.wire.strange("an index")) };
        values.iter().map(|value| text(value).map(str::to_owned).ok_or_else(|| self.foreign("an index"))).collect()
    }

    /// Makes the error for a value that evt did not write.
    pub fn foreign(&self, what: &str) -> Error {
        Error::corrupt(format!("{}: {what} has a value that evt did not write", self.address.server.shown))
    }

    /// Returns the names of the metrics, sorted.
    pub fn names(&mut self) -> Result<Vec<String>> {
        self.members(&self.address.keys.names())
    }

    /// Returns the series of a metric in the order of their dimensions.
    pub fn series(&mut self, name: &str) -> Result<Vec<Series>> {
        let members = self.members(&self.address.keys.series(name))?;
        self.series_of(name, members)
    }

    /// Returns the texts of the hash of how far metrics are, name after value, and the series of a metric, which are
    /// read after them.
    pub fn progress_and_series(&mut self, name: &str) -> Result<(Vec<String>, Vec<Series>)> {
        let mut pipe = Pipe::default();
        pipe.push(&["HGETALL", &self.address.keys.progress()]);
        push_members(&self.address.keys.series(name), &self.now, &mut pipe);
        let answers = self.query(&pipe)?;
        let [progress, members] = answers.as_slice() else { return Err(self.wire.strange("HGETALL")) };
        let (progress, members) = (self.strings(progress)?, self.sorted(members)?);
        Ok((progress, self.series_of(name, members)?))
    }

    fn series_of(&self, name: &str, members: Vec<String>) -> Result<Vec<Series>> {
        let name: Arc<str> = name.into();
        let mut series = Vec::with_capacity(members.len());
        for member in members {
            let (hash, dimensions) =
                member.split_once(':').ok_or_else(|| self.foreign(&self.address.keys.series(&name)))?;
            let windows = self.address.keys.windows(&name, hash).into();
            series.push(Series { name: name.clone(), dimensions: dimensions.into(), windows });
        }
        series.sort_unstable_by(|left, right| left.dimensions.cmp(&right.dimensions));
        Ok(series)
    }

    /// Returns the keys of the alerts.
    fn alerts(&mut self) -> Result<Vec<String>> {
        self.members(&self.address.keys.alerts())
    }

    /// Reads the rows of alerts that have not expired since the index was read.
    fn alert_rows(&mut self, keys: &[String]) -> Result<RecordBatch> {
        let answers = self.each(keys, |key, _, pipe| alert::fields(key, pipe))?;
        alert::read(&answers).map_err(|error| error.at(&self.address.server.shown))
    }

    /// Sends one command for each of `keys`; returns the answers.
    fn each(&mut self, keys: &[String], command: impl Fn(&str, &str, &mut Pipe)) -> Result<Vec<Value>> {
        let mut pipe = Pipe::default();
        keys.iter().for_each(|key| command(key, &self.now, &mut pipe));
        self.query(&pipe)
    }

    fn query(&mut self, pipe: &Pipe) -> Result<Vec<Value>> {
        let answers = self.wire.query(pipe).map_err(self.address.server.failed())?;
        let shown = &self.address.server.shown;
        let failed = |refusal: ErrorReply| refused(shown, &refusal).into_error(shown);
        answers.into_iter().map(|answer| answer.map_err(failed)).collect()
    }

    fn count(&mut self, series: &[Series]) -> Result<u64> {
        let keys: Vec<String> = series.iter().map(|series| series.windows.to_string()).collect();
        let count = |key: &str, now: &str, pipe: &mut Pipe| {
            pipe.push(&["ZCOUNT", key, &format!("({now}"), "+inf"]);
        };
        let answers = self.each(&keys, count)?;
        let number = |value: &Value| if let Value::Int(count) = value { u64::try_from(*count).ok() } else { None };
        answers.iter().map(|value| number(value).ok_or_else(|| self.wire.strange("ZCOUNT"))).sum()
    }

    /// Returns the windows of each of some series, in order.
    pub fn windows(&mut self, series: &[Series]) -> Result<Vec<Vec<WindowKey>>> {
        let keys: Vec<String> = series.iter().map(|series| series.windows.to_string()).collect();
        let answers = self.each(&keys, push_members)?;
        let mut found = Vec::with_capacity(answers.len());
        for (answer, series) in answers.iter().zip(series) {
            let windows = self.strings(answer)?;
            let windows = windows.iter().map(|member| key::parse_window(member));
            let mut windows = windows.collect::<Option<Vec<_>>>().ok_or_else(|| self.foreign(&series.windows))?;
            windows.sort_unstable();
            found.push(windows);
        }
        Ok(found)
    }

    /// Reads the rows of some windows, which `take` gets; those that have expired since the index was read are none.
    pub fn rows(
        &mut self,
        windows: &[SeriesWindow],
        mut take: impl FnMut(&SeriesWindow, metric::Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let row_key = |SeriesWindow { series, window }: &SeriesWindow| {
            format!("{}:{}", series.windows, key::window(window.start, window.end))
        };
        let keys: Vec<String> = windows.iter().map(row_key).collect();
        let [value, rows, revision, pane, window_end, dimensions] = FIELDS;
        let get = |key: &str, _: &str, pipe: &mut Pipe| {
            pipe.push(&["HMGET", key, value, rows, revision, pane, window_end, dimensions]);
        };
        let answers = self.each(&keys, get)?;
        for ((window, answer), key) in windows.iter().zip(&answers).zip(&keys) {
            let Value::Array(fields) = answer else { return Err(self.wire.strange("HMGET")) };
            if fields.iter().any(|field| *field != Value::Nil) {
                take(window, read_row(window, fields).ok_or_else(|| self.foreign(key))?)?;
            }
        }
        Ok(())
    }
}

/// Asks for the members of an index that have not expired at an instant (ms).
fn push_members(key: &str, now: &str, pipe: &mut Pipe) {
    pipe.push(&["ZRANGEBYSCORE", key, &format!("({now}"), "+inf"]);
}

/// One window of a series.
pub struct SeriesWindow {
    /// The series.
    pub series: Series,
    /// The window.
    pub window: WindowKey,
}

/// The fields of a row's hash, in the order of the request.
const FIELDS: [&str; 6] = ["value", "rows", "revision", "pane", "window_end", "dimensions"];

/// The rows of all metrics, page by page.
struct MetricPages {
    reader: Reader,
    names: VecDeque<String>,
    series: VecDeque<Series>,
    windows: VecDeque<SeriesWindow>,
}

impl MetricPages {
    /// Fills the queue of windows; returns false if there are no more.
    fn fill(&mut self) -> Result<bool> {
        while self.windows.len() < PAGE {
            if let Some(series) = self.series.pop_front() {
                let windows = self.reader.windows(std::slice::from_ref(&series))?.into_iter().flatten();
                self.windows.extend(windows.map(|window| SeriesWindow { series: series.clone(), window }));
            } else if let Some(name) = self.names.pop_front() {
                self.series = self.reader.series(&name)?.into();
            } else {
                break;
            }
        }
        Ok(!self.windows.is_empty())
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        while self.fill()? {
            let next: Vec<_> = self.windows.drain(..self.windows.len().min(PAGE)).collect();
            let mut rows = metric::Builder::default();
            self.reader.rows(&next, |_, row| rows.push(&row))?;
            if !rows.is_empty() {
                return rows.finish(Kind::Metric.schema()).map(Some);
            }
        }
        Ok(None)
    }
}

/// Reads the hash of a row.
fn read_row<'a>(of: &'a SeriesWindow, fields: &[Value]) -> Option<metric::Row<'a>> {
    let SeriesWindow { series, window: WindowKey { start, end } } = of;
    let [value, rows, revision, pane, window_end, dimensions] = fields else { return None };
    // A hash without these fields was not written by evt.
    parse_instant(text(window_end)?)?;
    text(dimensions)?;
    Some(metric::Row {
        name: &series.name,
        start: *start,
        end: *end,
        dimensions: &series.dimensions,
        value: if *value == Value::Nil { None } else { Some(text(value)?.parse().ok()?) },
        rows: text(rows)?.parse::<i64>().ok()?.cast_unsigned(),
        revision: text(revision)?.parse().ok()?,
        pane: text(pane)?.parse::<i32>().ok()?.cast_unsigned(),
        retracted: false,
    })
}
