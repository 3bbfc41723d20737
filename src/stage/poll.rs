//! Which feed of a stage is read next.

use super::feeds::Feeds;
use super::operator::FeedOperator;
use crate::error::Result;
use crate::run::Run;
use crate::source::Polled;

/// Polls the open feeds until one has an item or has progressed; returns its number. If none has anything to read,
/// returns the time after which one may have.
pub(super) fn poll(feeds: &mut Feeds, operator: Option<&mut dyn FeedOperator>) -> Result<(usize, Polled)> {
    let Some(operator) = operator else { return Ok((0, feeds.only().poll()?)) };
    let mut least = Run::TICK;
    for feed in feeds.in_order(|feed| operator.read_to(feed)) {
        let source = feeds.source(feed);
        operator.before_poll(feed, source)?;
        match source.poll()? {
            Polled::Waiting(timeout) => {
                least = least.min(timeout);
                operator.on_waiting(feed, source);
            }
            polled => return Ok((feed, polled)),
        }
    }
    Ok((0, Polled::Waiting(least)))
}
