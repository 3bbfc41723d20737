//! The typing rule: every name gets the type ([`ValueKind`]) that its context requires.
//!
//! [`Binder::known`] returns the type that a node has by itself; [`Binder::bind`] builds the tree of a node for the
//! required type.

use super::function::{Call, FUNCTIONS, Function, regex};
use super::leaf::{LeafType, Leaves, ResolvedName};
use super::node::{Branch, Literal, Node, Operator, PathKey, hyphenated, path_text};
use super::tree::Tree;
use super::value::{ValueKind, Want, cast};
use crate::json::scan::number_end;
use crate::time::read_iso;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray, new_null_array};
use arrow::datatypes::DataType;
use std::sync::Arc;

/// Why an expression is refused; the caller adds the expression's text.
type Reason = String;
type Bound<T> = Result<T, Reason>;

/// The type of a node regardless of its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeType {
    /// No type: a property, or null.
    Nothing,
    /// A text constant. In a comparison with a Time it is an instant.
    Constant,
    /// This type.
    Kind(ValueKind),
}

impl NodeType {
    /// Returns the common type of two nodes, or their two types if these differ.
    fn join(self, other: NodeType) -> Result<NodeType, (ValueKind, ValueKind)> {
        match (self, other) {
            (NodeType::Nothing, known) | (known, NodeType::Nothing) => Ok(known),
            (NodeType::Constant, NodeType::Kind(ValueKind::Text | ValueKind::Time)) => Ok(other),
            (NodeType::Kind(ValueKind::Text | ValueKind::Time), NodeType::Constant) => Ok(self),
            (a, b) if a == b => Ok(a),
            (a, b) => Err((a.kind().unwrap_or(ValueKind::Text), b.kind().unwrap_or(ValueKind::Text))),
        }
    }

    fn kind(self) -> Option<ValueKind> {
        match self {
            NodeType::Nothing => None,
            NodeType::Constant => Some(ValueKind::Text),
            NodeType::Kind(kind) => Some(kind),
        }
    }
}

/// Types one expression and adds its leaves to those of the spec.
pub(super) struct Binder<'a> {
    leaves: &'a mut Leaves,
    used: Vec<usize>,
    doubles: Vec<usize>,
    paths: Vec<String>,
    warnings: Vec<String>,
    has_strict_cast: bool,
}

/// The leaves and the warnings that a binder has found in an expression.
pub(super) struct Findings {
    /// The leaves that it reads.
    pub(super) leaves: Vec<usize>,
    /// Those that it does not read as decimals.
    pub(super) doubles: Vec<usize>,
    /// Their names.
    pub(super) paths: Vec<String>,
    /// Likely mistakes.
    pub(super) warnings: Vec<String>,
    /// Whether a cast of a computed value may fail.
    pub(super) has_strict_cast: bool,
}

impl<'a> Binder<'a> {
    pub(super) fn new(leaves: &'a mut Leaves) -> Self {
        Self { leaves, used: vec![], doubles: vec![], paths: vec![], warnings: vec![], has_strict_cast: false }
    }

    /// Returns the leaves and the warnings found.
    pub(super) fn finish(self) -> Findings {
        let Self { used: leaves, doubles, paths, warnings, has_strict_cast, .. } = self;
        Findings { leaves, doubles, paths, warnings, has_strict_cast }
    }

    /// Binds the whole expression to the type that its context requires.
    pub(super) fn root(&mut self, node: &Node, want: Want) -> Bound<(Tree, ValueKind)> {
        match (want, node) {
            (Want::Kind(kind), _) => Ok((self.bind(node, kind)?, kind)),
            (Want::Decimal, _) => Ok((self.decimal(node)?, ValueKind::Number)),
            (Want::Presence, Node::Name(parts)) => Ok((self.presence(parts)?, ValueKind::Bool)),
            (Want::Presence | Want::Own, _) => self.by_itself(node),
            (Want::AsText, _) => Ok((self.as_text(node)?, ValueKind::Text)),
        }
    }

    /// Binds a node to its own type, or to text if it has none.
    fn by_itself(&mut self, node: &Node) -> Bound<(Tree, ValueKind)> {
        let kind = self.known(node)?.kind().unwrap_or(ValueKind::Text);
        Ok((self.bind(node, kind)?, kind))
    }

    /// Binds a node to numbers. A property keeps its decimal, also one that `case` or `coalesce` selects; what is
    /// computed or cast is a double.
    fn decimal(&mut self, node: &Node) -> Bound<Tree> {
        match node {
            Node::Name(parts) if self.known(node)? == NodeType::Nothing => {
                let leaf = self.used_leaf(parts, LeafType::Kind { kind: ValueKind::Number, lenient: false })?;
                self.leaves.keep_decimals(leaf);
                Ok(Tree::Decimal(leaf))
            }
            Node::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref(), &Self::decimal)
            }
            Node::Coalesce(values) => {
                Ok(Tree::Coalesce(values.iter().map(|value| self.decimal(value)).collect::<Bound<_>>()?))
            }
            _ => self.bind(node, ValueKind::Number),
        }
    }

    fn as_text(&mut self, node: &Node) -> Bound<Tree> {
        let (tree, kind) = self.by_itself(node)?;
        Ok(converted(tree, kind, ValueKind::Text))
    }

    fn known(&self, node: &Node) -> Bound<NodeType> {
        Ok(match node {
            Node::Name(parts) => match self.leaves.resolve(parts)? {
                ResolvedName::Column(_, kind) => NodeType::Kind(kind),
                ResolvedName::Path(_) => NodeType::Nothing,
            },
            Node::Literal(Literal::Null) => NodeType::Nothing,
            Node::Literal(Literal::Text(_)) => NodeType::Constant,
            Node::Literal(Literal::Number(_)) | Node::Negate(_) => NodeType::Kind(ValueKind::Number),
            Node::Literal(Literal::Time(_)) => NodeType::Kind(ValueKind::Time),
            Node::Binary(operator, ..) => NodeType::Kind(result_kind(*operator)),
            Node::Cast { kind, .. } => NodeType::Kind(*kind),
            Node::Case { branches, otherwise, .. } => {
                let results = branches.iter().map(|branch| &branch.result).chain(otherwise.as_deref());
                self.joined(&results.collect::<Vec<_>>())?
            }
            Node::Coalesce(values) => self.joined(&values.iter().collect::<Vec<_>>())?,
            Node::Call { name, .. } => NodeType::Kind(function(name)?.result),
            Node::Literal(Literal::Bool(_))
            | Node::Not(_)
            | Node::IsNull { .. }
            | Node::In { .. }
            | Node::Between { .. }
            | Node::Like { .. }
            | Node::Match { .. } => NodeType::Kind(ValueKind::Bool),
        })
    }

    /// Returns the common type of several nodes, or a refusal that shows the first two that differ.
    fn joined(&self, nodes: &[&Node]) -> Bound<NodeType> {
        let mut known = NodeType::Nothing;
        let mut from = None;
        for node in nodes {
            let next = self.known(node)?;
            known = known.join(next).map_err(|(a, b)| {
                let first = from.unwrap_or(*node);
                format!("{first} is {}, {node} is {}; {}", article(a), article(b), casts(first, node, a, b))
            })?;
            if known == next && next != NodeType::Nothing {
                from = Some(*node);
            }
        }
        Ok(known)
    }

    /// Returns the type in which nodes are compared with each other.
    fn compared(&self, nodes: &[&Node]) -> Bound<ValueKind> {
        self.joined(nodes)?.kind().ok_or_else(|| {
            let name = nodes.iter().find(|node| matches!(node, Node::Name(_))).or(nodes.first());
            let name = name.map_or(String::new(), ToString::to_string);
            let all = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            let casts = format!("cast({name} as double) or cast({name} as text)");
            format!("the type of {all} is unknown; use {casts}; a text constant is written '...'")
        })
    }

    /// Builds the tree of `node` with values of the type `want`.
    fn bind(&mut self, node: &Node, want: ValueKind) -> Bound<Tree> {
        if let Some(kind) = self.known(node)?.kind()
            && kind != want
            && !matches!(node, Node::Literal(Literal::Text(_)) | Node::Case { .. } | Node::Coalesce(_))
        {
            return Err(format!("expected {}, found {node}; {}", article(want), cast_hint(node, kind, want)));
        }
        match node {
            Node::Name(parts) => self.leaf(parts, LeafType::Kind { kind: want, lenient: false }),
            Node::Literal(literal) => constant(literal, want).map(Tree::Constant),
            Node::Not(value) => Ok(Tree::Not(self.boxed(value, ValueKind::Bool)?)),
            Node::Negate(value) => Ok(Tree::Negate(self.boxed(value, ValueKind::Number)?)),
            Node::Binary(operator, left, right) => self.binary(*operator, left, right),
            Node::IsNull { value, negated } => {
                let value = Box::new(match &**value {
                    Node::Name(parts) => self.presence(parts)?,
                    other => self.by_itself(other)?.0,
                });
                Ok(Tree::IsNull { value, negated: *negated })
            }
            Node::In { value, list, negated } => self.within(value, list, *negated),
            Node::Between { value, low, high, negated } => {
                let kind = self.compared(&[&**value, &**low, &**high])?;
                self.warn_of_text(kind, &[&**value, &**low, &**high]);
                let value = self.boxed(value, kind)?;
                let (low, high) = (self.boxed(low, kind)?, self.boxed(high, kind)?);
                Ok(Tree::Between { value, low, high, negated: *negated })
            }
            Node::Like { value, pattern, negated, any_case } => {
                let (value, pattern) = (self.boxed(value, ValueKind::Text)?, self.boxed(pattern, ValueKind::Text)?);
                Ok(Tree::Like { value, pattern, negated: *negated, any_case: *any_case })
            }
            Node::Match { value, pattern, negated } => {
                let (value, pattern) = (self.boxed(value, ValueKind::Text)?, regex(pattern)?);
                Ok(Tree::Match { value, pattern, negated: *negated })
            }
            Node::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref(), &|binder, node| binder.bind(node, want))
            }
            Node::Cast { value, kind, lenient } => self.cast(value, *kind, *lenient),
            Node::Coalesce(values) => Ok(Tree::Coalesce(self.all(values, want)?)),
            Node::Call { name, args } => self.call(name, args),
        }
    }

    fn boxed(&mut self, node: &Node, want: ValueKind) -> Bound<Box<Tree>> {
        self.bind(node, want).map(Box::new)
    }

    fn all(&mut self, nodes: &[Node], want: ValueKind) -> Bound<Vec<Tree>> {
        nodes.iter().map(|node| self.bind(node, want)).collect()
    }

    fn binary(&mut self, operator: Operator, left: &Node, right: &Node) -> Bound<Tree> {
        let is_comparison = operator.orders() || matches!(operator, Operator::Equal | Operator::NotEqual);
        let other = match (left, right) {
            (Node::Literal(Literal::Null), other) | (other, Node::Literal(Literal::Null)) => Some(other),
            _ => None,
        };
        if let (Some(other), Operator::Equal | Operator::NotEqual) = (other, operator) {
            let test = if operator == Operator::Equal { "is null" } else { "is not null" };
            return Err(format!("a comparison with null is never true; use {other} {test}"));
        }
        let kind = if is_comparison { self.compared(&[left, right])? } else { result_kind(operator) };
        if operator.orders() {
            self.warn_of_text(kind, &[left, right]);
        }
        Ok(Tree::Binary(operator, self.boxed(left, kind)?, self.boxed(right, kind)?))
    }

    fn within(&mut self, value: &Node, list: &[Node], negated: bool) -> Bound<Tree> {
        let nodes: Vec<&Node> = std::iter::once(value).chain(list).collect();
        let kind = self.compared(&nodes)?;
        let value = self.boxed(value, kind)?;
        let list = self.all(list, kind)?;
        if kind != ValueKind::Text {
            return Ok(Tree::In { value, list, negated });
        }
        let texts = list.iter().map(|item| match item {
            Tree::Constant(text) => text.as_string_opt::<i32>()?.iter().next()?.map(str::to_owned),
            _ => None,
        });
        match texts.collect() {
            Some(list) => Ok(Tree::InTexts { value, list, negated }),
            None => Ok(Tree::In { value, list, negated }),
        }
    }

    fn case(
        &mut self,
        operand: Option<&Node>,
        branches: &[Branch<Node>],
        otherwise: Option<&Node>,
        bind_result: &dyn Fn(&mut Self, &Node) -> Bound<Tree>,
    ) -> Bound<Tree> {
        let kind = match operand {
            None => ValueKind::Bool,
            Some(operand) => {
                let tests = branches.iter().map(|branch| &branch.condition);
                self.compared(&std::iter::once(operand).chain(tests).collect::<Vec<_>>())?
            }
        };
        let operand = operand.map(|operand| self.boxed(operand, kind)).transpose()?;
        let branches = branches.iter().map(|Branch { condition, result }| {
            Ok(Branch { condition: self.bind(condition, kind)?, result: bind_result(self, result)? })
        });
        let branches = branches.collect::<Bound<Vec<_>>>()?;
        let otherwise = Box::new(bind_result(self, otherwise.unwrap_or(&Node::Literal(Literal::Null)))?);
        Ok(Tree::Case { operand, branches, otherwise })
    }

    fn cast(&mut self, value: &Node, to: ValueKind, lenient: bool) -> Bound<Tree> {
        let known = self.known(value)?.kind();
        if let Node::Name(parts) = value
            && known.is_none_or(|from| cast::may_fail(from, to) && from == ValueKind::Text)
        {
            return self.leaf(parts, LeafType::Kind { kind: to, lenient });
        }
        let from = known.unwrap_or(to);
        if !cast::exists(from, to) {
            return Err(format!("{value} is {}, which cannot be cast to {}", article(from), article(to)));
        }
        let is_strict = cast::may_fail(from, to) && !lenient;
        self.has_strict_cast |= is_strict;
        match self.bind(value, from)? {
            tree if from == to => Ok(tree),
            tree => Ok(Tree::Cast { value: Box::new(tree), from, to, is_strict }),
        }
    }

    fn call(&mut self, name: &str, args: &[Node]) -> Bound<Tree> {
        let function = function(name)?;
        let fits = (function.args.len() - function.optional..=function.args.len()).contains(&args.len());
        if !fits {
            return Err(format!("expected {name}{}", function.usage));
        }
        if let Some(check) = function.check {
            check(args)?;
        }
        let pattern = match function.call {
            Call::OfValues(_) => None,
            Call::OfPattern(_) => args.get(1).map(regex).transpose()?,
        };
        let args = args.iter().zip(function.args).map(|(node, kind)| self.bind(node, *kind));
        Ok(Tree::Call { function, args: args.collect::<Bound<Vec<_>>>()?, pattern })
    }

    fn leaf(&mut self, steps: &[PathKey], leaf_type: LeafType) -> Bound<Tree> {
        let leaf = self.used_leaf(steps, leaf_type)?;
        if !self.doubles.contains(&leaf) {
            self.doubles.push(leaf);
        }
        Ok(Tree::Leaf(leaf))
    }

    /// Returns the leaf of a name, which the expression uses.
    fn used_leaf(&mut self, steps: &[PathKey], leaf_type: LeafType) -> Bound<usize> {
        let name = path_text(steps);
        let place = self.leaves.resolve(steps)?;
        let leaf = self.leaves.leaf(place, leaf_type, &name);
        if !self.used.contains(&leaf) {
            self.used.push(leaf);
        }
        if !self.paths.contains(&name) {
            self.paths.push(name);
        }
        Ok(leaf)
    }

    fn presence(&mut self, parts: &[PathKey]) -> Bound<Tree> {
        self.leaf(parts, LeafType::Presence)
    }

    /// Warns if texts are ordered and one is a quoted number, because text order differs from numeric order.
    fn warn_of_text(&mut self, kind: ValueKind, nodes: &[&Node]) {
        for node in nodes {
            if let (ValueKind::Text, Node::Literal(Literal::Text(text))) = (kind, node)
                && number_end(text.as_bytes(), 0) == Some(text.len())
            {
                let names = nodes.iter().find(|node| matches!(node, Node::Name(_))).map_or(node, |name| name);
                self.warnings.push(format!("{names} is compared with '{text}' as text; without quotes it is a number"));
                return;
            }
        }
    }
}

fn result_kind(operator: Operator) -> ValueKind {
    match operator {
        Operator::Concat => ValueKind::Text,
        Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
            ValueKind::Number
        }
        _ => ValueKind::Bool,
    }
}

/// Returns the name of a type with its article.
pub(super) fn article(kind: ValueKind) -> String {
    match kind {
        ValueKind::Text => "text".to_owned(),
        ValueKind::Time => "an instant".to_owned(),
        other => format!("a {}", other.name()),
    }
}

/// Suggests casts for two nodes of different types: the one that is not text to text, or the text to the type of the
/// other.
fn casts(first: &Node, second: &Node, a: ValueKind, b: ValueKind) -> String {
    match (a, b) {
        (ValueKind::Text, b) => format!("use {} or {}", say(first, b), say(second, ValueKind::Text)),
        (a, ValueKind::Text) => format!("use {} or {}", say(first, ValueKind::Text), say(second, a)),
        (_, b) => format!("use {}", say(first, b)),
    }
}

fn cast_hint(node: &Node, from: ValueKind, to: ValueKind) -> String {
    if let Some(hint) = hyphenated(node) {
        return hint;
    }
    match cast::exists(from, to) {
        true => format!("use {}", say(node, to)),
        false => "use a comparison".to_owned(),
    }
}

fn say(node: &Node, kind: ValueKind) -> String {
    format!("cast({node} as {})", kind.cast_name())
}

fn function(name: &str) -> Bound<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name).ok_or_else(|| {
        let names = FUNCTIONS.iter().map(|function| function.name).collect::<Vec<_>>().join(" ");
        format!("unknown function {name}; expected one of coalesce {names}")
    })
}

fn converted(tree: Tree, from: ValueKind, to: ValueKind) -> Tree {
    if from == to { tree } else { Tree::Cast { value: Box::new(tree), from, to, is_strict: false } }
}

/// Builds an array of one value.
fn constant(literal: &Literal, want: ValueKind) -> Bound<ArrayRef> {
    Ok(match (literal, want) {
        (Literal::Null, _) => new_null_array(&array_type(want), 1),
        (Literal::Number(number), _) => Arc::new(Float64Array::from(vec![cast::canonical(*number)])),
        (Literal::Bool(truth), _) => Arc::new(BooleanArray::from(vec![*truth])),
        (Literal::Time(micros), _) => Arc::new(Int64Array::from(vec![*micros])),
        (Literal::Text(text), ValueKind::Text) => Arc::new(StringArray::from(vec![text.as_str()])),
        (Literal::Text(text), ValueKind::Time) => match read_iso(text, None).ok() {
            Some(micros) => Arc::new(Int64Array::from(vec![micros])),
            None => return Err(format!("expected a time like 2024-01-15T10:00:00Z or 2024-01-15, found '{text}'")),
        },
        (Literal::Text(text), want) => {
            let want = article(want);
            return Err(format!("expected {want}, found the text '{text}'; write it without quotes"));
        }
    })
}

/// Returns the Arrow type in which values of a type are evaluated.
pub(super) fn array_type(kind: ValueKind) -> DataType {
    match kind {
        ValueKind::Number => DataType::Float64,
        ValueKind::Text => DataType::Utf8,
        ValueKind::Bool => DataType::Boolean,
        ValueKind::Time => DataType::Int64,
    }
}
