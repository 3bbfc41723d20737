//! A query as it is evaluated: parsed, checked, with the selectors that it needs.
//!
//! `build.rs` makes it from the parsed text, and refuses what is not supported; `node.rs` has its parts,
//! `selector.rs` its selectors.

mod build;
pub(crate) mod node;
pub(crate) mod selector;

use crate::error::Result;
use crate::range::QueryRange;
use crate::series::Selection;
use node::Node;
use selector::Selector;

/// A query.
#[derive(Debug)]
pub struct Query {
    pub(crate) root: Node,
    pub(crate) selectors: Vec<Selector>,
}

impl Query {
    /// Parses a query and checks it. Errors: the text is no PromQL, or has what is not supported.
    pub fn parse(text: &str) -> Result<Self> {
        let build::Plan { root, selectors } = build::plan(text)?;
        Ok(Self { root, selectors })
    }

    /// Returns what the query needs to be evaluated over a range, in the order in which
    /// [`evaluate`](crate::evaluate::evaluate) takes it.
    pub fn selections(&self, range: &QueryRange) -> Vec<Selection> {
        let selection = |selector: &Selector| Selection {
            matchers: selector.matchers.clone(),
            first: selector.instant(range.start(), range),
            last: selector.instant(range.last(), range),
            range: selector.range,
        };
        self.selectors.iter().map(selection).collect()
    }
}

#[cfg(test)]
mod tests;
