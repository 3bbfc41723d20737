//! The out-of-orderness of the runs that wrote the stored rows, as far as it is known.

use evt_core::error::{Error, Result};
use evt_core::op::window::watermark::OutOfOrderness;
use evt_store::progress::KeptProgress;
use std::collections::BTreeSet;

/// The metrics whose out-of-orderness is known, as the run had it that wrote their rows: an event that is late in this
/// run was late in that one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum KnownBounds {
    /// All metrics.
    #[default]
    All,
    /// These: the store has kept it for them.
    Of(BTreeSet<String>),
}

impl KnownBounds {
    /// Whether that of a metric is known.
    pub fn has(&self, metric: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(metrics) => metrics.contains(metric),
        }
    }
}

/// What a correction does with stored rows whose events are late in it.
#[derive(Clone, Debug, Default)]
pub(super) struct LateRules {
    /// Other rows than those of these metrics stay as they are.
    pub known: KnownBounds,
    /// `--keep-late`.
    pub keeps_late: bool,
}

/// The out-of-orderness that a store keeps for metrics.
#[derive(Clone, Debug)]
pub(super) struct KeptBound {
    pub bound: OutOfOrderness,
    pub metrics: BTreeSet<String>,
}

impl KeptBound {
    /// Returns that of all these metrics; `None` if nothing is kept. Errors: exit status 2 if two differ.
    pub fn of(kept: &[KeptProgress]) -> Result<Option<Self>> {
        let bound_of = |kept: &KeptProgress| OutOfOrderness::parse(kept.metric.out_of_orderness.as_deref()?).ok();
        let mut all = kept.iter().filter_map(|kept| Some((kept, bound_of(kept)?)));
        let Some((first, bound)) = all.next() else { return Ok(None) };
        let mut metrics = BTreeSet::from([first.metric.metric.clone()]);
        for (other, its) in all {
            if its != bound {
                let shown = |kept: &KeptProgress, bound| {
                    format!("{} of pipeline {} was written with {bound}", kept.metric.metric, kept.pipeline)
                };
                return Err(Error::usage(format!(
                    "{}, {}; --out-of-orderness says which one is right, --only selects metrics",
                    shown(first, bound),
                    shown(other, its)
                )));
            }
            metrics.insert(other.metric.metric.clone());
        }
        Ok(Some(Self { bound, metrics }))
    }
    /// Checks that it is that of the metrics file. Errors: exit status 2.
    pub fn check(&self, key: OutOfOrderness, file: &str) -> Result<()> {
        let Self { bound, metrics } = self;
        if *bound == key {
            return Ok(());
        }
        let metrics = Vec::from_iter(metrics.iter().map(String::as_str)).join(", ");
        Err(Error::usage(format!(
            "{file}: out_of_orderness is {key}, but the run that wrote {metrics} had {bound}; --out-of-orderness says which one \
             is right"
        )))
    }
}
