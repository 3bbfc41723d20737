//! Metrics of stores of files that evt-serve answers with: those of a lake, and of any store that has its rows in files
//! ([`ServedFiles`]).
//!
//! What a request needs is read from the files each time: of those of the days that it touches, and there of the row
//! groups. Nothing stays open between two requests, so that each sees the files of its time.

use crate::ReadRequest;
use crate::lake::correct::state_of;
use crate::lake::directory::{kept_metrics, root};
use crate::lake::read::file::{bits_of, check_kind};
use crate::lake::read::{kind_of, read_if_any};
use crate::progress::KeptProgress;
use crate::serving::{
    FoundWindows, LastWindows, MetricStanding, ServedMetrics, StoredCorrection, StoredMetric, WindowsRequest,
};
use arrow::array::RecordBatch;
use evt_core::error::{ErrorKind, Result};
use evt_core::kind::Kind;
use evt_core::kind::metric::{COLUMNS, MetricColumns, column};
use evt_core::kind::span::Span;
use evt_core::serve::answer::ServedWindow;
use evt_core::serve::request::{WantedValue, dimensions_of};
use evt_run::checkpoint::epoch::Batches;
use evt_run::client::Location;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// How often a request begins anew because days were replaced while it read them.
const ATTEMPTS: usize = 5;
/// Maximum number of dimensions that are known while rows are read.
const DIMENSIONS_MAX: usize = 1 << 16;

/// The metrics of a store of files, as they are at one time.
pub trait ServedFiles {
    /// Returns how far a metric is; it is called before the rows are read.
    fn standing(&self, metric: &str) -> Result<MetricStanding>;

    /// Returns the corrections that are known.
    fn corrections(&self) -> Result<Vec<StoredCorrection>>;

    /// Reads rows, of this time or a later one, as [`StoreReader::read`](crate::StoreReader::read).
    fn rows(&self, request: ReadRequest) -> Result<Batches>;
}

/// Opens the metrics of a store of files as they are now; `None` if it has none yet.
type OpenFiles = fn(&Location) -> Result<Option<Box<dyn ServedFiles>>>;

/// The metrics of a store of files.
pub struct FilesServing {
    location: Location,
    open: OpenFiles,
}

impl FilesServing {
    /// Answers with the metrics at a location. Errors: those of opening them.
    pub fn open(location: &Location, open: OpenFiles) -> Result<Box<dyn ServedMetrics>> {
        open(location)?;
        Ok(Box::new(Self { location: location.clone(), open }))
    }

    /// Reads the files of now, and again if a day was replaced meanwhile.
    fn read<T: Default>(&self, read: impl Fn(&dyn ServedFiles) -> Result<T>) -> Result<T> {
        let attempt = || (self.open)(&self.location)?.map_or_else(|| Ok(T::default()), |files| read(&*files));
        for _ in 1..ATTEMPTS {
            match attempt() {
                Err(error) if error.kind() == ErrorKind::Busy => {}
                done => return done,
            }
        }
        attempt()
    }
}

impl ServedMetrics for FilesServing {
    fn metrics(&mut self) -> Result<Vec<StoredMetric>> {
        self.read(metrics)
    }

    fn windows(&mut self, request: &WindowsRequest<'_>) -> Result<FoundWindows> {
        self.read(|files| {
            let standing = files.standing(request.metric)?;
            Ok(FoundWindows { standing, ..windows(files, request)? })
        })
    }

    fn corrections(&mut self) -> Result<Vec<StoredCorrection>> {
        self.read(|files| {
            let bounded = |correction: StoredCorrection| {
                let progress = files.standing(&correction.metric)?.progress;
                Ok(correction.until_watermark(&progress))
            };
            files.corrections()?.into_iter().map(bounded).collect()
        })
    }
}

/// Returns some columns as [`ReadRequest`] has them.
fn bits(columns: &[usize]) -> Result<Option<u32>> {
    bits_of(Kind::Metric, columns.iter().map(|index| COLUMNS[*index])).map(Some)
}

/// Dimensions of rows that were read.
#[derive(Default)]
struct KnownDimensions(HashMap<Arc<str>, bool>);

impl KnownDimensions {
    /// Returns dimensions that are `wanted`, shared between their rows.
    fn wanted(&mut self, text: &str, wanted: &BTreeMap<String, WantedValue>) -> Option<Arc<str>> {
        if let Some((known, is_wanted)) = self.0.get_key_value(text) {
            return is_wanted.then(|| known.clone());
        }
        if self.0.len() >= DIMENSIONS_MAX {
            self.0.clear();
        }
        let is_wanted = wanted.is_empty() || WantedValue::all(wanted, &dimensions_of(text));
        let text: Arc<str> = text.into();
        self.0.insert(text.clone(), is_wanted);
        is_wanted.then_some(text)
    }
}

/// Returns the metrics: a pass over all rows, of which the last windows of each are kept.
fn metrics(files: &dyn ServedFiles) -> Result<Vec<StoredMetric>> {
    use column::{DIMENSIONS, METRIC_NAME, RETRACTED, WINDOW_END, WINDOW_START};
    let columns = bits(&[METRIC_NAME, WINDOW_START, WINDOW_END, DIMENSIONS, RETRACTED])?;
    let mut last: BTreeMap<String, LastWindows> = BTreeMap::new();
    let (mut known, any) = (KnownDimensions::default(), BTreeMap::new());
    for batch in files.rows(ReadRequest { columns, ..ReadRequest::default() })? {
        let batch = batch?;
        let MetricColumns { names, starts, ends, dimensions, retracted, .. } = MetricColumns::try_new(&batch)?;
        for row in (0..batch.num_rows()).filter(|row| !retracted.value(*row)) {
            let name = names.value(row);
            if !last.contains_key(name) {
                last.insert(name.to_owned(), LastWindows::default());
            }
            let dimensions = || known.wanted(dimensions.value(row), &any).unwrap_or_default();
            if let Some(last) = last.get_mut(name) {
                last.add(starts.value(row), ends.value(row), dimensions);
            }
        }
    }
    Ok(last.into_iter().filter_map(|(name, last)| last.finish(&name)).collect())
}

/// Returns the windows of a request.
fn windows(files: &dyn ServedFiles, request: &WindowsRequest<'_>) -> Result<FoundWindows> {
    // A window that ends in time starts no later than it ends.
    let in_time = request.last_end.saturating_add(1);
    let until = request.starts.until.map_or(in_time, |until| until.min(in_time));
    let span = Span { since: request.starts.since, until: Some(until) };
    let columns: Vec<usize> = (column::METRIC_NAME..COLUMNS.len()).collect();
    let (mut found, mut known) = (FoundWindows::default(), KnownDimensions::default());
    for batch in files.rows(ReadRequest { span, columns: bits(&columns)?, ..ReadRequest::default() })? {
        add_windows(&batch?, request, &mut known, &mut found)?;
        if found.is_more {
            break;
        }
    }
    Ok(found)
}

/// Adds the requested windows of a batch.
fn add_windows(
    batch: &RecordBatch,
    request: &WindowsRequest<'_>,
    known: &mut KnownDimensions,
    found: &mut FoundWindows,
) -> Result<()> {
    let columns = MetricColumns::try_new(batch)?;
    for row in 0..batch.num_rows() {
        let (start, end) = (columns.starts.value(row), columns.ends.value(row));
        let is_wanted = columns.names.value(row) == request.metric
            && request.starts.contains(start)
            && end <= request.last_end
            && !columns.retracted.value(row);
        if !is_wanted {
            continue;
        }
        let Some(dimensions) = known.wanted(columns.dimensions.value(row), request.dimensions) else { continue };
        if found.windows.len() >= request.limit {
            found.is_more = true;
            break;
        }
        found.windows.push(ServedWindow {
            start,
            end,
            dimensions,
            value: columns.value(row),
            rows: columns.rows.value(row),
            revision: columns.revisions.value(row),
            pane: columns.panes.value(row),
            is_final: None,
        });
    }
    Ok(())
}

/// The metrics of a lake, which may have none yet.
struct LakeMetrics {
    root: PathBuf,
}

/// Opens the metrics of a lake to answer with. Errors: exit status 2 if its rows are of another kind.
pub fn open(location: &Location) -> Result<Box<dyn ServedMetrics>> {
    let directory = root(location)?;
    if let Some(found) = kind_of(&directory)? {
        check_kind(&directory, found, Kind::Metric)?;
    }
    FilesServing::open(location, |location| Ok(Some(Box::new(LakeMetrics { root: root(location)? }))))
}

impl ServedFiles for LakeMetrics {
    /// A run notes the watermark of a metric once its rows are visible, a correction its claim before its first step.
    fn standing(&self, metric: &str) -> Result<MetricStanding> {
        let mut progress = kept_metrics(&self.root, &[metric.to_owned()])?;
        // Which metrics a lake has only its rows say.
        if progress.is_empty() && kind_of(&self.root)?.is_some() {
            progress.push(KeptProgress::of_rows(metric));
        }
        Ok(MetricStanding { progress, corrections: state_of(&self.root)?.ranges_of(metric)?, kept_since: None })
    }

    fn corrections(&self) -> Result<Vec<StoredCorrection>> {
        state_of(&self.root)?.all()
    }

    fn rows(&self, request: ReadRequest) -> Result<Batches> {
        read_if_any(&self.root, Kind::Metric, request)
    }
}
