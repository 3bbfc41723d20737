//! A typed expression, ready to be evaluated.

use super::bind::{Binder, Findings};
use super::eval;
use super::leaf::Leaves;
use super::node::Node;
use super::parse::{is_part_of_name, parse, refused};
use super::read::{LeafBatch, Wrong};
use super::tree::Tree;
use super::value::{Dimension, ValueKind, Want};
use crate::error::Result;
use arrow::array::ArrayRef;

/// One typed expression over the leaves of the [`Leaves`] that parsed it.
#[derive(Clone, Debug)]
pub struct Expr {
    tree: Tree,
    kind: ValueKind,
    text: String,
    leaves: Vec<usize>,
    doubles: Vec<usize>,
    paths: Vec<String>,
    warnings: Vec<String>,
    has_strict_cast: bool,
}

impl Expr {
    /// Parses `text` and types it for its context; its leaves are added to `leaves`.
    ///
    /// Errors: exit status 78; the message has the text, the place and a remedy.
    pub fn parse(text: &str, want: Want, leaves: &mut Leaves) -> Result<Self> {
        Self::of(&parse(text)?, want, text, leaves)
    }

    /// Types `node`, a part of `text`.
    pub(crate) fn of(node: &Node, want: Want, text: &str, leaves: &mut Leaves) -> Result<Self> {
        let mut binder = Binder::new(leaves);
        let (tree, kind) = binder.root(node, want).map_err(|why| refused(text, &why))?;
        let Findings { leaves, doubles, paths, warnings, has_strict_cast } = binder.finish();
        Ok(Self { tree, kind, text: without_blanks(text), leaves, doubles, paths, warnings, has_strict_cast })
    }

    /// Returns the type of its values.
    pub fn kind(&self) -> ValueKind {
        self.kind
    }

    /// Returns the typed nodes.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the indexes of the leaves that it reads.
    pub(crate) fn leaves(&self) -> &[usize] {
        &self.leaves
    }

    /// Whether both are the same leaf, read in the same way, so that one array has the values of both.
    pub(crate) fn is_same_leaf(&self, other: &Self) -> bool {
        match (&self.tree, &other.tree) {
            (Tree::Leaf(leaf), Tree::Leaf(other)) | (Tree::Decimal(leaf), Tree::Decimal(other)) => leaf == other,
            _ => false,
        }
    }

    /// Returns the leaves whose values it uses otherwise than as decimals.
    pub(super) fn doubles(&self) -> &[usize] {
        &self.doubles
    }

    /// Returns its text without spaces, except those inside quotes and between words: the default name of a metric.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the names it reads, as written and in that order, each once.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Returns warnings about likely mistakes, one line each (`amount > '10'` compares text).
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Evaluates it for every row of `batch`; NULL if a leaf has the wrong type.
    ///
    /// Errors: exit status 70, which is a bug.
    pub fn eval(&self, batch: &LeafBatch) -> Result<ArrayRef> {
        eval::eval(&self.tree, batch)
    }

    /// Evaluates a dimension; a dictionary column stays a dictionary.
    pub fn dimension(&self, batch: &LeafBatch) -> Result<Dimension> {
        match self.tree {
            Tree::Leaf(leaf) if let Some(dictionary) = batch.dictionary(leaf) => {
                Ok(Dimension::Dictionary(dictionary.clone()))
            }
            _ => self.eval(batch).map(Dimension::Rows),
        }
    }

    /// Returns the rows in which a leaf of this expression has the wrong type or a cast fails: leaf by leaf, then cast
    /// by cast, each in the order of rows. An expression with casts that may fail is evaluated once more to find these
    /// rows; most expressions have none.
    pub fn wrong<'a>(&'a self, batch: &'a LeafBatch) -> impl Iterator<Item = Wrong<'a>> {
        let casts = match self.has_strict_cast {
            true => batch.failed_casts(|| eval::eval(&self.tree, batch)),
            false => vec![],
        };
        self.leaves.iter().flat_map(move |leaf| batch.wrong(*leaf)).chain(casts)
    }

    /// Returns the lines of `--check` about it: its leaves with their types, then its warnings.
    pub fn explain(&self, leaves: &Leaves) -> String {
        let mut out = String::new();
        for leaf in &self.leaves {
            out.push_str(&format!("  {}\n", leaves.describe(*leaf)));
        }
        for warning in &self.warnings {
            out.push_str(&format!("  warning: {warning}\n"));
        }
        out
    }
}

/// Returns `text` without spaces, except those inside quotes and one between two words or two minus signs (`a - -b`:
/// two in a row begin a comment).
pub(crate) fn without_blanks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let mut blank = false;
    for c in text.trim().chars() {
        if quote.is_none() && c.is_whitespace() {
            blank = true;
            continue;
        }
        let joins = |before: char| is_part_of_name(before) && is_part_of_name(c) || before == '-' && c == '-';
        if std::mem::take(&mut blank) && out.chars().next_back().is_some_and(joins) {
            out.push(' ');
        }
        quote = match quote {
            None if matches!(c, '\'' | '"') => Some(c),
            Some(open) if open == c => None,
            open => open,
        };
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_blanks_means_the_same_whatever_letters_its_names_have() {
        let same = |text: &str| {
            let node = |text: &str| parse(text).map_err(|error| error.to_string());
            assert_eq!(node(&without_blanks(text)).unwrap(), node(text).unwrap(), "{text}");
        };
        for c in (0..0x3000).filter_map(char::from_u32).filter(|c| is_part_of_name(*c)) {
            same(&format!("x{c} is null and not x{c} in (1, 2)"));
            if c.is_alphabetic() || c == '_' {
                same(&format!("not {c} is null and {c} between 1 and 2"));
            }
        }
        for sign in ["<", ">", "<=", ">=", "=", "<>", "!=", "+", "-", "*", "/", "%", "||"] {
            same(&format!("x {sign} - y"));
            same(&format!("x {sign} 'a b'"));
            same(&format!("x {sign} \"a b\""));
        }
    }
}
