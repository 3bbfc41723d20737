//! The check of an input before a run: its topics, its range, and the settings of a member of its group.

use crate::address::{Bound, Options, TopicFormat};
use crate::client::Topics;
use crate::position::{self, OffsetSpan};
use crate::produce::limit::check_limits;
use crate::range::{self, PartitionCursor, ReadMode};
use crate::source::Cluster;
use evt_core::error::{Error, ErrorKind, Result};

/// The settings of brokers for the least and the greatest session timeout of a member.
const SESSION_LIMITS: [&str; 2] = ["group.min.session.timeout.ms", "group.max.session.timeout.ms"];

/// How a run begins to read topics, as far as it is known before.
#[derive(Clone, Copy, Debug)]
pub struct PlannedReading {
    /// The mode of reading.
    pub read_mode: ReadMode,
    /// Whether the members of its group may share the partitions.
    pub is_shared: bool,
    /// Whether earlier runs may have kept positions, so that `start=` need not count.
    pub has_positions: bool,
}

impl PlannedReading {
    /// Whether the group assigns the partitions of an address.
    pub fn subscribes(&self, options: &Options) -> bool {
        let whole = options.partitions.is_none() && options.end.is_none() && options.form != Some(TopicFormat::Frames);
        self.read_mode == ReadMode::Commit && self.is_shared && options.group.is_some() && whole
    }
}

/// Returns the faults of the topics that an address names, and of its range. Errors: exit status 69 if no broker
/// responds.
pub fn faults(cluster: &dyn Cluster, topics: &Topics, reading: PlannedReading) -> Result<Vec<Error>> {
    let (address, mut faults, mut all) = (&*topics.address, vec![], vec![]);
    for topic in 0..address.topics.len() {
        match range::cursors(cluster, address, topic) {
            Ok(found) => all.extend(found),
            // Unreachable brokers would fail every other topic too.
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) => faults.push(error),
        }
    }
    if faults.is_empty() {
        let found = range::check_bounds(cluster, address);
        let found = found.and_then(|()| check_start(cluster, topics, reading, &mut all));
        faults.extend(found.and_then(|()| check_session(topics, reading)).err());
    }
    Ok(faults)
}

/// Checks that partitions without a committed offset can be read from the offsets of `start=`. Errors: exit status 2 if
/// it has none for one of them, 65 if the partition does not have the offset.
fn check_start(
    cluster: &dyn Cluster,
    topics: &Topics,
    reading: PlannedReading,
    cursors: &mut [PartitionCursor],
) -> Result<()> {
    let options = &topics.address.options;
    let Some(start @ Bound::Offsets(_)) = options.start.as_ref().filter(|_| !reading.has_positions) else {
        return Ok(());
    };
    let has_group = options.group.is_some() && reading.read_mode.is_of_stage();
    let committed = if has_group {
        cluster.committed(&cursors.iter().map(|cursor| cursor.id).collect::<Vec<_>>())?
    } else {
        vec![]
    };
    for cursor in cursors.iter_mut().filter(|cursor| !committed.iter().any(|position| position.id == cursor.id)) {
        let at = position::offset_of(start, cursor.id, OffsetSpan::default(), None);
        cursor.next = at.ok_or_else(|| range::no_start(topics, cursor.id))?;
        if !options.skips_gaps {
            cursor.skip_gap(topics, cluster.extent(cursor.id)?)?;
        }
    }
    Ok(())
}

/// Checks that brokers accept the session of a member, as far as they tell. Errors: exit status 78.
fn check_session(topics: &Topics, reading: PlannedReading) -> Result<()> {
    match reading.subscribes(&topics.address.options) {
        true => check_limits(topics, "session.timeout.ms", SESSION_LIMITS),
        false => Ok(()),
    }
}
