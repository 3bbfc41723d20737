//! Which feed of a stage is read next, and reading without a stage.

use super::feeds::Feeds;
use super::operator::FeedOperator;
use crate::source::{self, Polled};
use evt_core::error::Result;
use evt_core::frame::End;
use evt_run::emit::Item;
use evt_run::run::Run;

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
                operator.on_waiting(feed, source)?;
            }
            polled => return Ok((feed, polled)),
        }
    }
    Ok((0, Polled::Waiting(least)))
}

/// Reads feeds to their ends without a stage: rows that are compared, or that decide what a stage reads. Calls `take`
/// after each poll, with the item if there is one. Waits for input.
pub fn read_to_end(
    feeds: &mut Feeds,
    run: &Run,
    take: &mut dyn FnMut(&mut source::Source, Option<Item>) -> Result<()>,
) -> Result<End> {
    loop {
        let (feed, item) = match poll(feeds, None)? {
            (feed, Polled::Item(sent)) => (feed, Some(sent.item)),
            (feed, Polled::Progress) => (feed, None),
            (_, Polled::Waiting(timeout)) => {
                feeds.wait(timeout, run)?;
                continue;
            }
        };
        let end = if let Some(Item::End(end)) = item { feeds.end(feed, end) } else { None };
        take(feeds.source(feed), item)?;
        if let Some(end) = end {
            return Ok(end);
        }
    }
}
