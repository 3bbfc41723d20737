//! Makes the plan of a query from its text.

use super::node::{Aggregate, BinaryNode, BinaryOperator, EachFunction, Grouping, Node, OverTime};
use super::selector::{FixedInstant, Selector};
use crate::error::{QueryError, Result};
use crate::labels::{LabelMatcher, LabelSet, NAME};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::token::{
    T_ADD, T_AVG, T_BOTTOMK, T_COUNT, T_DIV, T_EQLC, T_GTE, T_GTR, T_LSS, T_LTE, T_MAX, T_MIN, T_MOD, T_MUL, T_NEQ,
    T_POW, T_SUB, T_SUM, T_TOPK,
};
use promql_parser::parser::{
    AggregateExpr, AtModifier, BinModifier, BinaryExpr, Call, Expr, LabelModifier, Offset, VectorMatchCardinality,
    VectorSelector, parse,
};
use std::time::{Duration, SystemTime};

/// Maximum bytes of a query, so that its depth is bounded.
const BYTES_MAX: usize = 16 << 10;
/// Maximum depth of a query.
const DEPTH_MAX: usize = 100;

/// A query that was checked.
pub struct Plan {
    /// Its outermost part.
    pub root: Node,
    /// Its selectors, by their indexes in the parts.
    pub selectors: Vec<Selector>,
}

/// Parses and checks a query.
pub fn plan(text: &str) -> Result<Plan> {
    if text.len() > BYTES_MAX {
        return Err(QueryError::bad_data(format!(
            "expected a query of at most {BYTES_MAX} bytes, found {}",
            text.len()
        )));
    }
    let nested = text.bytes().try_fold(0usize, |depth, byte| match byte {
        b'(' | b'-' | b'+' => (depth < 4 * DEPTH_MAX).then_some(depth + 1),
        b')' => Some(depth.saturating_sub(1)),
        _ => Some(depth),
    });
    if nested.is_none() {
        return Err(too_deep());
    }
    let expr = parse(text).map_err(|error| QueryError::bad_data(format!("parse error: {error}")))?;
    let mut builder = Builder { selectors: vec![], depth: 0 };
    let root = builder.node(&expr)?;
    Ok(Plan { root, selectors: builder.selectors })
}

fn too_deep() -> QueryError {
    QueryError::bad_data("the query is nested too deeply")
}

fn unsupported(what: &str) -> QueryError {
    QueryError::bad_data(format!("{what} is not supported here"))
}

/// Builds the parts of a query.
struct Builder {
    selectors: Vec<Selector>,
    depth: usize,
}

impl Builder {
    fn node(&mut self, expr: &Expr) -> Result<Node> {
        if self.depth >= DEPTH_MAX {
            return Err(too_deep());
        }
        self.depth += 1;
        let node = self.shallow(expr);
        self.depth -= 1;
        node
    }

    fn boxed(&mut self, expr: &Expr) -> Result<Box<Node>> {
        self.node(expr).map(Box::new)
    }

    fn shallow(&mut self, expr: &Expr) -> Result<Node> {
        match expr {
            Expr::NumberLiteral(number) => Ok(Node::Number(number.val)),
            Expr::Paren(paren) => self.node(&paren.expr),
            Expr::Unary(unary) => Ok(Node::Each(EachFunction::Negate, self.boxed(&unary.expr)?, vec![])),
            Expr::VectorSelector(selector) => Ok(Node::Instant(self.select(selector, None, false)?)),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Call(call) => self.call(call),
            Expr::Subquery(_) => Err(unsupported("a subquery")),
            Expr::MatrixSelector(_) => {
                Err(QueryError::bad_data("a range such as [5m] is the argument of a function: sum_over_time(m[5m])"))
            }
            Expr::StringLiteral(_) => Err(unsupported("a text as a query")),
            Expr::Extension(_) => Err(unsupported("an extension")),
        }
    }

    /// Adds a selector; returns its index.
    fn select(&mut self, selector: &VectorSelector, range: Option<Duration>, adds_up: bool) -> Result<usize> {
        if !selector.matchers.or_matchers.is_empty() {
            return Err(unsupported("'or' between matchers"));
        }
        let name = selector.name.iter().map(|name| Ok(LabelMatcher::equal(NAME, name)));
        let matchers = name.chain(selector.matchers.matchers.iter().map(matcher)).collect::<Result<_>>()?;
        let offset = match &selector.offset {
            None => 0,
            Some(Offset::Pos(offset)) => millis(*offset)?,
            Some(Offset::Neg(offset)) => -millis(*offset)?,
        };
        let at = selector.at.as_ref().map(fixed).transpose()?;
        let range = range.map(millis).transpose()?;
        self.selectors.push(Selector { matchers, offset, at, range, adds_up });
        Ok(self.selectors.len() - 1)
    }

    fn aggregate(&mut self, expr: &AggregateExpr) -> Result<Node> {
        let AggregateExpr { op, expr: arg, param, modifier } = expr;
        let grouping = match modifier {
            None => Grouping::Of(vec![]),
            Some(modifier) => grouping(modifier),
        };
        let aggregate = match op.id() {
            T_SUM => Aggregate::Sum,
            T_AVG => Aggregate::Average,
            T_MIN => Aggregate::Least,
            T_MAX => Aggregate::Greatest,
            T_COUNT => Aggregate::Count,
            T_TOPK | T_BOTTOMK => {
                let Some(param) = param else {
                    return Err(QueryError::bad_data(format!("{op}: expected a number first")));
                };
                let (count, greatest) = (self.scalar(param, &op.to_string())?, op.id() == T_TOPK);
                let arg = self.vector(arg, &op.to_string())?;
                return Ok(Node::Rank { greatest, count: Box::new(count), grouping, arg: Box::new(arg) });
            }
            _ => return Err(unsupported(&format!("the aggregation {op}"))),
        };
        let arg = self.vector(arg, &op.to_string())?;
        Ok(Node::Aggregate(aggregate, grouping, Box::new(arg)))
    }

    /// Builds an argument that is a number.
    fn scalar(&mut self, expr: &Expr, of: &str) -> Result<Node> {
        let node = self.node(expr)?;
        if node.is_scalar() {
            Ok(node)
        } else {
            Err(QueryError::bad_data(format!("{of}: expected a number, found samples")))
        }
    }

    /// Builds an argument that is a set of samples.
    fn vector(&mut self, expr: &Expr, of: &str) -> Result<Node> {
        let node = self.node(expr)?;
        if node.is_scalar() {
            Err(QueryError::bad_data(format!("{of}: expected samples, found a number")))
        } else {
            Ok(node)
        }
    }

    fn binary(&mut self, expr: &BinaryExpr) -> Result<Node> {
        let BinaryExpr { op, lhs, rhs, modifier } = expr;
        let operator = match op.id() {
            T_ADD => BinaryOperator::Add,
            T_SUB => BinaryOperator::Subtract,
            T_MUL => BinaryOperator::Multiply,
            T_DIV => BinaryOperator::Divide,
            T_MOD => BinaryOperator::Modulo,
            T_POW => BinaryOperator::Power,
            T_EQLC => BinaryOperator::Equal,
            T_NEQ => BinaryOperator::NotEqual,
            T_GTR => BinaryOperator::Greater,
            T_LSS => BinaryOperator::Less,
            T_GTE => BinaryOperator::GreaterOrEqual,
            T_LTE => BinaryOperator::LessOrEqual,
            _ => return Err(unsupported(&format!("the operator {op}"))),
        };
        let modifier = modifier.clone().unwrap_or_default();
        let BinModifier { card, matching, return_bool, fill_values } = &modifier;
        match card {
            VectorMatchCardinality::OneToOne => {}
            VectorMatchCardinality::ManyToOne(_) => return Err(unsupported("group_left")),
            VectorMatchCardinality::OneToMany(_) => return Err(unsupported("group_right")),
            VectorMatchCardinality::ManyToMany => return Err(unsupported(&format!("the operator {op}"))),
        }
        if fill_values.lhs.is_some() || fill_values.rhs.is_some() {
            return Err(unsupported("fill"));
        }
        let matching = matching.as_ref().map_or(Grouping::Without(vec![]), grouping);
        let (left, right) = (self.node(lhs)?, self.node(rhs)?);
        if operator.compares() && left.is_scalar() && right.is_scalar() && !return_bool {
            return Err(QueryError::bad_data("parse error: comparisons between scalars must use BOOL modifier"));
        }
        Ok(Node::Binary(Box::new(BinaryNode { operator, returns_bool: *return_bool, matching, left, right })))
    }

    fn call(&mut self, call: &Call) -> Result<Node> {
        let name = call.func.name;
        let args: Vec<&Expr> = call.args.args.iter().map(AsRef::as_ref).collect();
        if let Some(function) = over_time(name) {
            return self.over_time(function, name, &args);
        }
        match (name, &args[..]) {
            ("time", []) => Ok(Node::Time),
            ("vector", [arg]) => Ok(Node::Vector(Box::new(self.scalar(arg, name)?))),
            ("scalar", [arg]) => Ok(Node::Scalar(Box::new(self.vector(arg, name)?))),
            ("sort" | "sort_desc", [arg]) => {
                Ok(Node::Sort { arg: Box::new(self.vector(arg, name)?), descends: name == "sort_desc" })
            }
            ("absent", [arg]) => {
                let labels = absent_labels(arg);
                Ok(Node::Absent(Box::new(self.vector(arg, name)?), labels))
            }
            ("abs", [arg]) => self.each(EachFunction::Absolute, name, arg, &[]),
            ("round", [arg, rest @ ..]) => self.each(EachFunction::Round, name, arg, rest),
            ("clamp", [arg, rest @ ..]) => self.each(EachFunction::Clamp, name, arg, rest),
            ("clamp_min", [arg, rest @ ..]) => self.each(EachFunction::ClampLeast, name, arg, rest),
            ("clamp_max", [arg, rest @ ..]) => self.each(EachFunction::ClampGreatest, name, arg, rest),
            ("rate" | "increase" | "irate" | "delta", _) => Err(QueryError::bad_data(format!(
                "{name} is for counters that only grow, and a window has a value of its own; the sum per second is \
                 sum_over_time(m[5m]) / 300"
            ))),
            _ => Err(unsupported(&format!("the function {name}"))),
        }
    }

    fn each(&mut self, function: EachFunction, name: &str, arg: &Expr, rest: &[&Expr]) -> Result<Node> {
        let arg = Box::new(self.vector(arg, name)?);
        let rest = rest.iter().map(|expr| self.scalar(expr, name)).collect::<Result<_>>()?;
        Ok(Node::Each(function, arg, rest))
    }

    fn over_time(&mut self, function: OverTime, name: &str, args: &[&Expr]) -> Result<Node> {
        match args {
            [Expr::MatrixSelector(matrix)] => {
                let selector = self.select(&matrix.vs, Some(matrix.range), function == OverTime::Sum)?;
                Ok(Node::OverTime(function, selector))
            }
            [Expr::Paren(paren)] => self.over_time(function, name, &[&paren.expr]),
            [Expr::Subquery(_)] => Err(unsupported("a subquery")),
            _ => Err(QueryError::bad_data(format!("{name}: expected a range such as m[5m]"))),
        }
    }
}

/// Returns the function of a range that has a name.
fn over_time(name: &str) -> Option<OverTime> {
    Some(match name {
        "sum_over_time" => OverTime::Sum,
        "avg_over_time" => OverTime::Average,
        "min_over_time" => OverTime::Least,
        "max_over_time" => OverTime::Greatest,
        "count_over_time" => OverTime::Count,
        "last_over_time" => OverTime::Last,
        "present_over_time" => OverTime::Present,
        _ => return None,
    })
}

fn grouping(modifier: &LabelModifier) -> Grouping {
    match modifier {
        LabelModifier::Include(labels) => Grouping::Of(labels.labels.clone()),
        LabelModifier::Exclude(labels) => Grouping::Without(labels.labels.clone()),
    }
}

fn matcher(matcher: &Matcher) -> Result<LabelMatcher> {
    let Matcher { op, name, value } = matcher;
    match op {
        MatchOp::Equal => Ok(LabelMatcher::equal(name, value)),
        MatchOp::NotEqual => Ok(LabelMatcher::not_equal(name, value)),
        MatchOp::Re(_) => LabelMatcher::pattern(name, value, true),
        MatchOp::NotRe(_) => LabelMatcher::pattern(name, value, false),
    }
}

/// Returns the labels of the sample of `absent`: those of which a selector names one value.
fn absent_labels(expr: &Expr) -> LabelSet {
    let selector = match expr {
        Expr::VectorSelector(selector) => selector,
        Expr::Paren(paren) => return absent_labels(&paren.expr),
        _ => return LabelSet::default(),
    };
    let matchers = &selector.matchers.matchers;
    let is_single = |matcher: &&Matcher| {
        let same = matchers.iter().filter(|other| other.name == matcher.name).count();
        matches!(matcher.op, MatchOp::Equal) && matcher.name != NAME && same == 1
    };
    LabelSet::new(matchers.iter().filter(is_single).map(|matcher| (&*matcher.name, &*matcher.value)))
}

fn fixed(at: &AtModifier) -> Result<FixedInstant> {
    Ok(match at {
        AtModifier::Start => FixedInstant::Start,
        AtModifier::End => FixedInstant::End,
        AtModifier::At(time) => FixedInstant::At(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => millis(after)?,
            Err(before) => -millis(before.duration())?,
        }),
    })
}

fn millis(duration: Duration) -> Result<i64> {
    i64::try_from(duration.as_millis()).map_err(|_| QueryError::bad_data("a duration is too long"))
}
