//! Metrics of a server that evt-serve answers with, on one connection: how far a metric is and its series, then the
//! windows of each series, then the rows, each in pipelines.

use crate::progress::{KeptProgress, from_json};
use crate::redis::key::RedisKeys;
use crate::redis::read::{PAGE, Reader, Series, SeriesWindow};
use crate::serving::{FoundWindows, LastWindows, MetricStanding, ServedMetrics, StoredMetric, WindowsRequest};
use evt_core::error::Result;
use evt_core::serve::answer::ServedWindow;
use evt_core::serve::request::{WantedValue, dimensions_of};
use evt_core::time::MILLISECOND;
use evt_run::client::Location;

/// Series whose windows one pipeline reads: each may have thousands.
const SERIES_PAGE: usize = 64;

/// Opens the metrics of a server to answer with.
pub fn open(location: &Location) -> Result<Box<dyn ServedMetrics>> {
    Ok(Box::new(RedisServing { reader: Reader::open(location)? }))
}

/// The metrics of a server.
struct RedisServing {
    reader: Reader,
}

impl RedisServing {
    /// Returns what the server keeps of a metric, from the texts of the hash.
    fn progress(&self, texts: &[String], metric: &str) -> Result<Vec<KeptProgress>> {
        let key = self.reader.address.keys.progress();
        let mut kept = vec![];
        for pair in texts.chunks(2) {
            let [field, text] = pair else { return Err(self.reader.foreign(&key)) };
            let found = serde_json::from_str(text).ok().and_then(|json| from_json(&json));
            let (pipeline, found) =
                RedisKeys::pipeline_in(field).zip(found).ok_or_else(|| self.reader.foreign(&key))?;
            if found.metric == metric {
                kept.push(KeptProgress { pipeline, metric: found });
            }
        }
        kept.sort_by(|one, other| one.pipeline.cmp(&other.pipeline));
        Ok(kept)
    }

    /// Adds the rows of some windows to those that were found, up to the limit.
    fn add_rows(&mut self, windows: &[SeriesWindow], found: &mut FoundWindows, limit: usize) -> Result<()> {
        self.reader.rows(windows, |SeriesWindow { series, .. }, row| {
            if found.windows.len() >= limit {
                found.is_more = true;
                return Ok(());
            }
            found.windows.push(ServedWindow {
                start: row.start,
                end: row.end,
                dimensions: series.dimensions.clone(),
                value: row.value,
                rows: row.rows.cast_signed(),
                revision: row.revision,
                pane: row.pane.cast_signed(),
                is_final: None,
            });
            Ok(())
        })
    }

    /// Returns the requested windows of some series.
    fn found(&mut self, series: &[Series], request: &WindowsRequest<'_>) -> Result<FoundWindows> {
        let WindowsRequest { starts, last_end, limit, .. } = *request;
        let (mut found, mut next) = (FoundWindows::default(), vec![]);
        for page in series.chunks(SERIES_PAGE) {
            for (series, windows) in page.iter().zip(self.reader.windows(page)?) {
                let wanted = windows.into_iter().filter(|one| starts.contains(one.start) && one.end <= last_end);
                next.extend(wanted.map(|window| SeriesWindow { series: series.clone(), window }));
            }
            let rest = next.split_off(next.len() / PAGE * PAGE);
            for page in std::mem::replace(&mut next, rest).chunks(PAGE) {
                self.add_rows(page, &mut found, limit)?;
                if found.is_more {
                    return Ok(found);
                }
            }
        }
        self.add_rows(&next, &mut found, limit)?;
        Ok(found)
    }
}

impl ServedMetrics for RedisServing {
    fn metrics(&mut self) -> Result<Vec<StoredMetric>> {
        self.reader.begin();
        let mut found = vec![];
        for name in self.reader.names()? {
            let mut last = LastWindows::default();
            for page in self.reader.series(&name)?.chunks(SERIES_PAGE) {
                for (series, windows) in page.iter().zip(self.reader.windows(page)?) {
                    // The last come first: the others are not kept.
                    windows
                        .iter()
                        .rev()
                        .for_each(|window| last.add(window.start, window.end, || series.dimensions.clone()));
                }
            }
            found.extend(last.finish(&name));
        }
        Ok(found)
    }

    /// A run keeps how far a metric is once the rows are written, so what is read first is of no later state than they.
    fn windows(&mut self, request: &WindowsRequest<'_>) -> Result<FoundWindows> {
        self.reader.begin();
        let (texts, series) = self.reader.progress_and_series(request.metric)?;
        let mut progress = self.progress(&texts, request.metric)?;
        if progress.is_empty() && !series.is_empty() {
            progress.push(KeptProgress::of_rows(request.metric));
        }
        let is_wanted = |series: &Series| WantedValue::all(request.dimensions, &dimensions_of(&series.dimensions));
        let series: Vec<Series> = series.into_iter().filter(is_wanted).collect();
        // Metrics in Redis are not corrected, and rows expire by the time of their write.
        let standing = MetricStanding { progress, corrections: vec![], kept_since: None };
        Ok(FoundWindows { standing, ..self.found(&series, request)? })
    }

    fn keeps(&self) -> Option<i64> {
        Some(self.reader.address.ttl.saturating_mul(MILLISECOND))
    }
}
