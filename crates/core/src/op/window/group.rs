//! The state of a group of metrics: in memory, or in files once it is too large.

use super::firing::{Shard, WatermarkFiring, delay};
use super::key;
use super::metric::Emit;
use super::outcome::BatchOutcome;
use super::running::{Bounds, MetricView, MetricWindows};
#[cfg(test)]
use super::shape::ends::EndRange;
use super::spill::{Arrivals, GroupFiles, RowSorter, SavedLayouts, Spilled};
use crate::error::Result;
use crate::expr::Dimension;
use crate::op::snapshot::Writer;
use crate::op::state_storage::StateSize;
use crate::parallel::Parallelism;
use arrow::array::BinaryArray;
use std::sync::Arc;

/// A group with fewer keys and fewer slices stays in memory: its state cannot be split.
const PARTS_LEAST: usize = if cfg!(test) { 1 } else { 256 };

/// The state of a group.
#[derive(Default)]
pub(crate) struct GroupState {
    /// The state in memory, or what is known of the windows in files.
    pub(crate) shard: Shard,
    spilled: Option<Spilled>,
    /// The keys of the current batch, if the state is in files.
    keys: Option<BinaryArray>,
}

/// The state of a group in memory, and the indexes of its metrics.
pub(crate) struct GroupShard<'a> {
    pub(crate) metrics: &'a [usize],
    pub(crate) shard: &'a mut Shard,
}

/// Rows of a batch from which on they are added to several groups at the same time.
const PARALLEL_ROWS: usize = if cfg!(test) { 1 } else { 256 };

/// Adds the rows of a batch to the slots of each group. `views` are those of all metrics.
pub(crate) fn add(
    groups: Vec<GroupShard<'_>>,
    views: &Arc<Vec<MetricView>>,
    bounds: &Bounds,
    parallelism: &Parallelism,
    outcome: &mut BatchOutcome,
) -> Result<()> {
    let rows = outcome.is_counted.len();
    if !parallelism.is_any() || groups.len() == 1 || rows < PARALLEL_ROWS {
        for GroupShard { metrics, shard } in groups {
            shard.add(metrics.iter().map(|metric| &views[*metric]), bounds, outcome);
        }
        return Ok(());
    }
    let (parts, places): (Vec<_>, Vec<_>) =
        groups.into_iter().map(|group| ((std::mem::take(group.shard), group.metrics.to_vec()), group.shard)).unzip();
    let (views, bounds) = (views.clone(), *bounds);
    let add = move |(mut shard, metrics): (Shard, Vec<usize>)| {
        let mut outcome = BatchOutcome::of_rows(rows);
        shard.add(metrics.iter().map(|metric| &views[*metric]), &bounds, &mut outcome);
        (shard, outcome)
    };
    for (place, (shard, of_group)) in places.into_iter().zip(parallelism.map(parts, add)?) {
        *place = shard;
        outcome.merge(of_group);
    }
    Ok(())
}

impl GroupState {
    /// Whether the state is in files.
    pub(crate) fn is_spilled(&self) -> bool {
        self.spilled.is_some()
    }

    /// Returns the window ends of each range in files with state.
    #[cfg(test)]
    pub(crate) fn ranges(&self) -> Vec<EndRange> {
        self.spilled.iter().flat_map(Spilled::each_ends).collect()
    }

    /// Whether the state can move into files.
    pub(crate) fn can_spill(&self) -> bool {
        self.spilled.is_none() && self.shard.group.keys.count().max(self.shard.divisible_slices()) >= PARTS_LEAST
    }

    /// Returns the approximate bytes in memory.
    pub(crate) fn allocated(&mut self) -> usize {
        self.shard.allocated() + self.spilled.as_ref().map_or(0, Spilled::allocated)
    }

    /// Adds the keys and the bytes of the state to a size.
    pub(crate) fn add_to(&mut self, size: &mut StateSize) {
        size.keys += self.shard.group.keys.count() as u64;
        size.memory += self.allocated() as u64;
        if let Some(spilled) = &self.spilled {
            size.keys += spilled.keys();
            size.disk += spilled.disk();
        }
    }

    /// Finds the keys of the rows of a batch.
    pub(crate) fn take_keys(&mut self, dimensions: &[Dimension], rows: usize) -> Result<()> {
        let group = &mut self.shard.group;
        if self.spilled.is_none() {
            return group.keys.ids(dimensions, rows, &mut group.ids);
        }
        group.ids.clear();
        group.ids.resize(rows, 0);
        self.keys = Some(key::encode(dimensions, rows)?);
        Ok(())
    }

    /// Takes the rows of a batch that were kept for the state in files.
    pub(crate) fn push(
        &mut self,
        views: Vec<&MetricView>,
        bounds: &Bounds,
        context: &mut GroupFiles<'_>,
        outcome: &mut BatchOutcome,
    ) -> Result<()> {
        match (&mut self.spilled, &self.keys) {
            (Some(spilled), Some(keys)) => {
                spilled.push(&mut Arrivals { keys, views, bounds, outcome }, &mut self.shard, context)
            }
            _ => Ok(()),
        }
    }

    /// Moves the state into files. `fired` is the watermark up to which windows have fired.
    pub(crate) fn spill(&mut self, context: &mut GroupFiles<'_>, emit: Emit, fired: Option<i64>) -> Result<()> {
        let spilled = Spilled::begin(&mut self.shard, context)?;
        let mut left = Shard::new(context.members.each());
        let metrics = context.members.each();
        for ((running, metric), before) in left.running.iter_mut().zip(metrics).zip(&mut self.shard.running) {
            running.windows = MetricWindows::Spilled(before.spilled(delay(emit, metric), fired));
            (running.counts, running.since) = (before.counts, before.since);
        }
        (self.shard, self.spilled) = (left, Some(spilled));
        Ok(())
    }

    /// Whether windows whose state is in files fire or close at this watermark.
    pub(crate) fn is_due(&self, watermark: i64) -> bool {
        self.spilled.is_some() && self.shard.spilled().any(|spilled| spilled.is_due(watermark))
    }

    /// Whether such windows must not wait for more of them to be due.
    pub(crate) fn is_overdue(&self, watermark: i64) -> bool {
        self.spilled.is_some() && self.shard.spilled().any(|spilled| spilled.is_overdue(watermark))
    }

    /// Whether such windows are due, or there are sessions, whose number is known once they are read.
    pub(crate) fn settles(&self, watermark: i64) -> bool {
        self.is_due(watermark) || self.shard.has_spilled_sessions()
    }

    /// Fires the due windows whose state is in files. State that has become small returns to memory.
    pub(crate) fn fire(
        &mut self,
        context: &mut GroupFiles<'_>,
        firing: &WatermarkFiring<'_>,
        sorter: &mut RowSorter,
    ) -> Result<()> {
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        spilled.fire(&mut self.shard, context, firing, sorter)?;
        self.shard.spilled_mut().for_each(|spilled| spilled.on_fired(firing.watermark));
        if spilled.is_small(context) {
            let mut state = spilled.collect(context.members)?;
            for (running, before) in state.running.iter_mut().zip(&self.shard.running) {
                (running.counts, running.since) = (before.counts, before.since);
            }
            (self.shard, self.spilled, self.keys) = (state, None, None);
        }
        Ok(())
    }

    /// Merges long logs into the saved states.
    pub(crate) fn merge_logs(&mut self, context: &mut GroupFiles<'_>) -> Result<()> {
        self.spilled.as_mut().map_or(Ok(()), |spilled| spilled.merge_logs(&mut self.shard, context))
    }

    /// Reads all sessions in files, so that their number and their next end are exact.
    pub(crate) fn read_sessions(&mut self, context: &mut GroupFiles<'_>) -> Result<()> {
        match &mut self.spilled {
            Some(spilled) if self.shard.has_spilled_sessions() => spilled.read_all(&mut self.shard, context),
            _ => Ok(()),
        }
    }

    /// Writes the rows that wait for a log, and returns the names of all files.
    pub(crate) fn files(&mut self, context: &mut GroupFiles<'_>) -> Result<Vec<String>> {
        let Some(spilled) = &mut self.spilled else { return Ok(vec![]) };
        spilled.flush(context)?;
        Ok(spilled.files().into_keys().map(str::to_owned).collect())
    }

    /// Saves the references to the files of the state, if it is in files; no row may wait for a log.
    pub(crate) fn snapshot_files(&self) -> Option<Vec<u8>> {
        let mut out = Writer::default();
        self.spilled.as_ref()?.snapshot(&mut out);
        Some(out.finish())
    }

    /// Restores the references that [`GroupState::snapshot_files`] saved. The caller then restores each metric from its
    /// own snapshot. `places` and `layouts` are those of [`Spilled::restore`].
    pub(crate) fn restore_files(
        &mut self,
        context: &mut GroupFiles<'_>,
        emit: Emit,
        saved: &[u8],
        places: Vec<Option<usize>>,
        layouts: SavedLayouts,
    ) -> Result<()> {
        let mut spilled = Spilled::restore(context, saved, places, layouts)?;
        for (running, metric) in self.shard.running.iter_mut().zip(context.members.each()) {
            running.windows = MetricWindows::Spilled(running.spilled(delay(emit, metric), None));
        }
        spilled.fit(&mut self.shard, context)?;
        self.spilled = Some(spilled);
        Ok(())
    }
}
