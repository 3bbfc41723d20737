//! Sets of labels, of which equal ones are one.

use crate::labels::LabelSet;
use crate::plan::node::Grouping;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// A set of labels. Two of one [`InternedLabels`] are equal if their places are.
#[derive(Clone, Debug)]
pub struct Interned(Rc<LabelSet>);

impl Interned {
    /// Returns what tells it from others.
    pub fn place(&self) -> usize {
        Rc::as_ptr(&self.0) as usize
    }

    /// Returns the labels.
    pub fn set(&self) -> &LabelSet {
        &self.0
    }
}

/// A sample: a value with its labels.
#[derive(Clone, Debug)]
pub struct LabelledValue {
    /// The labels.
    pub labels: Interned,
    /// The value.
    pub value: f64,
}

/// All sets of labels of an evaluation. None is dropped before the end, so that a place stands for one set.
#[derive(Default)]
pub struct InternedLabels {
    sets: HashSet<Rc<LabelSet>>,
    without_names: HashMap<usize, Interned>,
    /// The sets that were made of others, by the place of what has made them.
    derived: HashMap<Derivation, Interned>,
}

/// What a set is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DerivedFor {
    /// To group and to match samples.
    Group,
    /// For the result of a match.
    Result,
}

/// What made a set of another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Derivation {
    purpose: DerivedFor,
    by: usize,
    from: usize,
}

impl InternedLabels {
    /// Returns the set that equals these labels.
    pub fn intern(&mut self, labels: &LabelSet) -> Interned {
        if let Some(known) = self.sets.get(labels) {
            return Interned(known.clone());
        }
        let new = Rc::new(labels.clone());
        self.sets.insert(new.clone());
        Interned(new)
    }

    /// Returns a set without the name of the metric.
    pub fn without_name(&mut self, labels: &Interned) -> Interned {
        if let Some(known) = self.without_names.get(&labels.place()) {
            return known.clone();
        }
        let made = self.intern(&labels.set().without_name());
        self.without_names.insert(labels.place(), made.clone());
        made
    }

    /// Returns the set that `make` makes of another one; for the same purpose and the same `by`, which is a part of the
    /// query, it is made once.
    pub fn derive(
        &mut self,
        purpose: DerivedFor,
        by: &Grouping,
        labels: &Interned,
        make: impl FnOnce(&LabelSet) -> LabelSet,
    ) -> Interned {
        let derivation = Derivation { purpose, by: std::ptr::from_ref(by) as usize, from: labels.place() };
        if let Some(known) = self.derived.get(&derivation) {
            return known.clone();
        }
        let made = self.intern(&make(labels.set()));
        self.derived.insert(derivation, made.clone());
        made
    }
}
