//! Compatibility: whether data written with one schema can be read with another.
//!
//! The rules are Avro's schema resolution as registries apply it: names of records, enums and fixed are compared
//! without namespace, a reader's aliases count, logical types do not. Types may be recursive, so the verdict is the
//! greatest fixed point: every pair of types that has to be compared (the types *meet*) is assumed compatible until a
//! rule refutes it, and rules are applied again until nothing changes. A second walk collects the reasons, each pair
//! once.
//!
//! A decoder requires less ([`Demand::Some`]): it reads what can be read. A writer's union then needs one readable
//! branch, and an enum no common symbol; the rest are faults of single values.

use super::schema::{AvroType, Field, NodeId, Schema, SchemaFault, TypeName};
use crate::counts::counted;
use std::collections::{HashMap, HashSet};

/// Returns every reason why `reader` cannot read all data written with `writer`; empty if it can.
pub fn check(reader: &Schema, writer: &Schema) -> Vec<SchemaFault> {
    Comparison::new(reader, writer, Demand::All).reasons()
}

/// A reader's type and the writer's type with which it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair {
    reader: NodeId,
    writer: NodeId,
}

/// A pair of parts of two types.
struct PartPair {
    /// Its step of the path.
    step: String,
    pair: Pair,
}

/// The condition under which a pair is compatible.
enum Rule {
    /// Always.
    Yes,
    /// Never.
    No(Why),
    /// All of these pairs must be compatible, and `faults`, whose paths are steps, empty.
    All { faults: Vec<SchemaFault>, pairs: Vec<PartPair> },
    /// One of these pairs must be compatible.
    Any(Vec<Pair>),
}

/// Why a pair is never compatible; formatted on demand.
enum Why {
    Renamed,
    Size,
    Symbols,
    Types,
}

/// How much of a writer's data must be readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// All that the schema allows.
    All,
    /// Some of it.
    Some,
}

/// The comparison of a reader's and a writer's schema, type by type.
pub struct Comparison<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    demand: Demand,
    /// The rules of the pairs that meet, without branches of a union that are never compatible.
    rules: HashMap<Pair, Rule>,
    refuted: HashSet<Pair>,
}

impl<'a> Comparison<'a> {
    /// Compares two schemas.
    pub fn new(reader: &'a Schema, writer: &'a Schema, demand: Demand) -> Self {
        let mut comparison = Self { reader, writer, demand, rules: HashMap::new(), refuted: HashSet::new() };
        comparison.gather(Pair { reader: reader.root(), writer: writer.root() });
        comparison.refute();
        comparison
    }

    /// Whether the reader's type reads the writer's; false for types that do not meet.
    pub fn reads(&self, reader: NodeId, writer: NodeId) -> bool {
        !self.is_refuted(Pair { reader, writer })
    }

    /// Returns every reason why the reader's outermost type does not read the writer's.
    pub fn reasons(&self) -> Vec<SchemaFault> {
        let mut report = Report { comparison: self, reported: HashSet::new(), found: vec![] };
        let pair = Pair { reader: self.reader.root(), writer: self.writer.root() };
        report.explain(pair, &self.reader.title());
        report.found
    }

    /// Finds the rule of every pair that meets.
    fn gather(&mut self, first: Pair) {
        let mut open = vec![first];
        while let Some(pair) = open.pop() {
            if self.rules.contains_key(&pair) {
                continue;
            }
            let rule = self.rule(pair);
            match &rule {
                Rule::Yes | Rule::No(_) => {}
                Rule::All { pairs, .. } => open.extend(pairs.iter().map(|part| part.pair)),
                Rule::Any(pairs) => open.extend(pairs),
            }
            self.rules.insert(pair, rule);
        }
    }

    /// Refutes every pair whose rule does not hold, then the pairs that relied on it, and so on.
    fn refute(&mut self) {
        let mut dependents: HashMap<Pair, Vec<Pair>> = HashMap::new();
        let mut open = vec![];
        for (pair, rule) in &self.rules {
            match rule {
                Rule::Yes | Rule::No(_) => {}
                Rule::All { pairs, .. } => {
                    pairs.iter().for_each(|part| dependents.entry(part.pair).or_default().push(*pair))
                }
                Rule::Any(pairs) => pairs.iter().for_each(|on| dependents.entry(*on).or_default().push(*pair)),
            }
            if self.is_broken(rule) {
                open.push(*pair);
            }
        }
        while let Some(pair) = open.pop() {
            if self.refuted.insert(pair) {
                let broken = |pair: &&Pair| self.rules.get(pair).is_some_and(|rule| self.is_broken(rule));
                open.extend(dependents.get(&pair).into_iter().flatten().filter(broken));
            }
        }
    }

    fn is_broken(&self, rule: &Rule) -> bool {
        let holds = |pair: &Pair| !self.refuted.contains(pair);
        match rule {
            Rule::Yes => false,
            Rule::No(_) => true,
            Rule::All { faults, pairs } => !faults.is_empty() || !pairs.iter().all(|part| holds(&part.pair)),
            Rule::Any(pairs) => !pairs.iter().any(holds),
        }
    }

    /// Whether a pair that meets is not compatible; a pair without a rule never is.
    fn is_refuted(&self, pair: Pair) -> bool {
        self.refuted.contains(&pair) || !self.rules.contains_key(&pair)
    }

    fn rule(&self, pair: Pair) -> Rule {
        use AvroType::*;
        let Pair { reader: r, writer: w } = pair;
        let item = |step: &str, reader: &NodeId, writer: &NodeId| {
            let pair = Pair { reader: *reader, writer: *writer };
            Rule::All { faults: vec![], pairs: vec![PartPair { step: step.to_owned(), pair }] }
        };
        match (&self.reader.node(r).avro_type, &self.writer.node(w).avro_type) {
            (_, Union(branches)) if self.demand == Demand::Some => {
                Rule::Any(branches.iter().map(|branch| Pair { writer: *branch, ..pair }).collect())
            }
            (_, Union(branches)) => {
                let step = |branch: &NodeId| PartPair { step: "".to_owned(), pair: Pair { writer: *branch, ..pair } };
                Rule::All { faults: vec![], pairs: branches.iter().map(step).collect() }
            }
            (Union(branches), _) => {
                let pairs = branches.iter().map(|branch| Pair { reader: *branch, ..pair });
                Rule::Any(pairs.filter(|pair| !matches!(self.rule(*pair), Rule::No(_))).collect())
            }
            (Null, Null) | (Boolean, Boolean) | (Int, Int) | (String | Bytes, String | Bytes) => Rule::Yes,
            (Long, Int | Long) | (Float, Int | Long | Float) | (Double, Int | Long | Float | Double) => Rule::Yes,
            (Array(r), Array(w)) => item("[]", r, w),
            (Map(r), Map(w)) => item("{}", r, w),
            (Fixed { name: r, .. }, Fixed { name: w, .. }) | (Enum { name: r, .. }, Enum { name: w, .. })
                if !answers_to(r, w) =>
            {
                Rule::No(Why::Renamed)
            }
            (Record { name: r, .. }, Record { name: w, .. }) if !answers_to(r, w) => Rule::No(Why::Renamed),
            (Fixed { size: r, .. }, Fixed { size: w, .. }) if r != w => Rule::No(Why::Size),
            (Fixed { .. }, Fixed { .. }) => Rule::Yes,
            (Enum { symbols: r, default, .. }, Enum { symbols: w, .. }) => {
                let is_readable = default.is_some() || self.demand == Demand::Some || unknown(r, w).is_empty();
                if is_readable { Rule::Yes } else { Rule::No(Why::Symbols) }
            }
            (Record { fields: r, .. }, Record { fields: w, .. }) => fields(r, w),
            _ => Rule::No(Why::Types),
        }
    }

    /// Formats why a pair is never compatible.
    fn words(&self, pair: Pair, why: &Why) -> String {
        use AvroType::*;
        let Pair { reader: r, writer: w } = pair;
        match (why, &self.reader.node(r).avro_type, &self.writer.node(w).avro_type) {
            (Why::Renamed, r, w) => {
                let (r, w) = (name_of(r), name_of(w));
                format!("the writer's name is {w}, the reader's {r}, and no alias matches")
            }
            (Why::Size, Fixed { size: r, .. }, Fixed { size: w, .. }) => {
                format!("the writer's size is {}, the reader's {r}", counted(*w, ["byte", "bytes"]))
            }
            (Why::Symbols, Enum { symbols: r, .. }, Enum { symbols: w, .. }) => {
                format!("the reader has neither the symbols {} nor a default", unknown(r, w).join(", "))
            }
            _ => format!("a {} cannot be read as {}", self.writer.describe(w), self.reader.describe(r)),
        }
    }
}

fn answers_to(reader: &TypeName, writer: &TypeName) -> bool {
    let short = |alias: &String| alias.rsplit('.').next() == Some(writer.short.as_str());
    reader.short == writer.short || reader.aliases.iter().any(short)
}

/// Returns the writer's symbols that the reader lacks.
fn unknown<'a>(reader: &[String], writer: &'a [String]) -> Vec<&'a str> {
    let known: HashSet<&str> = reader.iter().map(String::as_str).collect();
    writer.iter().map(String::as_str).filter(|symbol| !known.contains(symbol)).collect()
}

/// Returns the name of a type, or its word if it has none.
fn name_of(avro_type: &AvroType) -> &str {
    avro_type.name().map_or_else(|| avro_type.word(), |name| &name.short)
}

fn fields(reader: &[Field], writer: &[Field]) -> Rule {
    let (mut faults, mut pairs) = (vec![], vec![]);
    let step = |field: &Field| format!(".{}", field.name);
    let written: HashMap<&str, &Field> = writer.iter().map(|field| (field.name.as_str(), field)).collect();
    for field in reader {
        match field.find(&written) {
            Some(written) => {
                pairs.push(PartPair { step: step(field), pair: Pair { reader: field.node, writer: written.node } })
            }
            None if field.default.is_some() => {}
            None => faults.push(SchemaFault {
                path: step(field),
                why: "the writer has no such field, and the field has no default".into(),
            }),
        }
    }
    Rule::All { faults, pairs }
}

struct Report<'a> {
    comparison: &'a Comparison<'a>,
    reported: HashSet<Pair>,
    found: Vec<SchemaFault>,
}

impl Report<'_> {
    /// Collects why `pair` at `path` is not compatible, if it is not.
    fn explain(&mut self, pair: Pair, path: &str) {
        if !self.comparison.is_refuted(pair) || !self.reported.insert(pair) {
            return;
        }
        match self.comparison.rule(pair) {
            Rule::Yes => {}
            Rule::No(why) => self.push(path.to_owned(), self.comparison.words(pair, &why)),
            Rule::All { faults, pairs } => {
                for SchemaFault { path: step, why } in faults {
                    self.push(format!("{path}{step}"), why);
                }
                for PartPair { step, pair: inner } in pairs {
                    self.explain(inner, &format!("{path}{step}"));
                }
            }
            Rule::Any(pairs) => self.explain_union(pair, &pairs, path),
        }
    }

    /// Explains why no branch of the reader's union reads the writer's type: with the reasons of the branch that was
    /// meant, if one can be found. For a writer's union: with the reasons of all branches.
    fn explain_union(&mut self, pair: Pair, pairs: &[Pair], path: &str) {
        let Pair { reader: r, writer: w } = pair;
        let Comparison { reader, writer, .. } = self.comparison;
        if let AvroType::Union(_) = &writer.node(w).avro_type {
            return pairs.iter().for_each(|pair| self.explain(*pair, path));
        }
        let AvroType::Union(branches) = &reader.node(r).avro_type else { return };
        let wanted = writer.describe(w);
        match branches.iter().find(|branch| reader.describe(**branch) == wanted) {
            Some(branch) => self.explain(Pair { reader: *branch, ..pair }, path),
            None => self.push(path.to_owned(), format!("no branch of the reader's union reads {}", writer.describe(w))),
        }
    }

    fn push(&mut self, path: String, why: String) {
        self.found.push(SchemaFault { path, why });
    }
}

#[cfg(test)]
#[path = "compat_tests.rs"]
mod tests;
