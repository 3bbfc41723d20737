//! The out-of-orderness of the runs that wrote the stored rows, as far as it is known.

use evt_core::error::{Error, Result};
use evt_core::op::window::metric::Metric;
use evt_core::op::window::watermark::{self, OutOfOrderness};
use evt_store::progress::KeptProgress;
use std::collections::BTreeSet;

/// The metrics whose out-of-orderness is known, as the run had it that wrote their rows: an event that is late in this
/// run was late in that one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum KnownBounds {
    /// All metrics.
    #[default]
    All,
    /// All but these.
    AllBut(BTreeSet<String>),
}

impl KnownBounds {
    /// Whether that of a metric is known.
    pub fn has(&self, metric: &str) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(metrics) => !metrics.contains(metric),
        }
    }
}

/// What a correction does with stored rows whose events are late in it.
#[derive(Clone, Debug, Default)]
pub(super) struct LateRules {
    /// Rows of other metrics are neither lowered nor retracted.
    pub known: KnownBounds,
    /// `--keep-late`.
    pub keeps_late: bool,
}

/// What a store keeps of the out-of-orderness of metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptBounds {
    /// That of the metrics of which it is known, with one of these.
    bound: Option<(OutOfOrderness, String)>,
    /// Metrics whose rows are of several runs with different ones, or of other windows.
    mixed: BTreeSet<String>,
    /// Metrics that have rows about which nothing is kept.
    unrecorded: BTreeSet<String>,
    /// Metrics without rows.
    new: BTreeSet<String>,
}

impl KeptBounds {
    /// Returns that of these metrics. `key` is that of the metrics file. Errors: exit status 2 if two are known, one
    /// that is not that of the file, or one that would change the rows of metrics of which nothing is known.
    pub fn of<'a>(
        metrics: impl Iterator<Item = &'a Metric>,
        kept: &[KeptProgress],
        key: Option<OutOfOrderness>,
    ) -> Result<Self> {
        let mut found = Self::default();
        for metric in metrics {
            let progress = metric.progress(None);
            let bound = |kept: &KeptProgress| {
                let text = kept.metric.out_of_orderness.as_deref().filter(|_| kept.metric.has_windows_of(&progress))?;
                OutOfOrderness::parse(text).ok()
            };
            let of_metric = Vec::from_iter(kept.iter().filter(|kept| kept.metric.metric == metric.name));
            let name = metric.name.clone();
            match of_metric.iter().find(|kept| bound(kept).is_none()) {
                _ if of_metric.is_empty() => _ = found.new.insert(name),
                Some(unknown) if unknown.pipeline.is_empty() => _ = found.unrecorded.insert(name),
                Some(_) => _ = found.mixed.insert(name),
                None => {
                    for kept in of_metric {
                        let bound = bound(kept).ok_or_else(|| Error::broken("a bound that is none"))?;
                        found.add(bound, format!("{name} of pipeline {}", kept.pipeline))?;
                    }
                }
            }
        }
        let Some((bound, what)) = &found.bound else { return Ok(found) };
        if let Some(key) = key.filter(|key| key != bound) {
            return Err(Error::usage(format!(
                "the metrics file has out_of_orderness {key}, but {what} was written with {bound}; {ADVICE}"
            )));
        }
        // With another bound than the default, more events would be late or not late for them.
        let unknown = found.unknown(key.is_some()).into_iter().next();
        match unknown.filter(|_| key.is_none() && bound.0 != Some(watermark::LIVE)) {
            Some(unknown) => Err(Error::usage(format!(
                "{what} was written with {bound}, and nothing says with which {unknown} was written; {ADVICE}, \
                 --only selects metrics"
            ))),
            None => Ok(found),
        }
    }

    fn add(&mut self, bound: OutOfOrderness, what: String) -> Result<()> {
        match &self.bound {
            Some((other, of)) if *other != bound => Err(Error::usage(format!(
                "{of} was written with {other}, {what} was written with {bound}; {ADVICE}, --only selects metrics"
            ))),
            Some(_) => Ok(()),
            None => {
                self.bound = Some((bound, what));
                Ok(())
            }
        }
    }

    /// Returns the bound that the store keeps.
    pub fn bound(&self) -> Option<OutOfOrderness> {
        self.bound.as_ref().map(|(bound, _)| *bound)
    }

    /// Returns the metrics of whose rows no bound is known; that of the metrics file counts for rows without a record.
    pub fn unknown(&self, has_key: bool) -> BTreeSet<String> {
        let unrecorded = self.unrecorded.iter().filter(|_| !has_key);
        // Without any bound, nothing says that the rows which this run adds are right.
        let new = self.new.iter().filter(|_| !has_key && self.bound.is_none());
        self.mixed.iter().chain(unrecorded).chain(new).cloned().collect()
    }

    /// Returns the line that names the bound which the store keeps.
    pub fn line(&self) -> Option<String> {
        self.bound.as_ref().map(|(bound, what)| format!("--out-of-orderness {bound}, with which {what} was written"))
    }
}

const ADVICE: &str = "--out-of-orderness says which one is right";
