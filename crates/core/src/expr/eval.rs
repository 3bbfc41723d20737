//! Evaluates trees over the leaves of a batch with arrow's kernels. Constants stay scalars as long as possible.

use super::node::{Branch, Operator};
use super::read::LeafBatch;
use super::tree::Tree;
use super::value::Value;
use super::value::cast::{self, canonical};
use super::value::decimal::decimal_texts;
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, Float64Array, UInt32Array};
use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow::compute::kernels::{cmp, numeric, zip::zip};
use arrow::compute::{and_kleene, ilike, is_not_null, is_null, like, not, or_kleene, prep_null_mask_filter, take};
use arrow::datatypes::Float64Type;
use arrow::error::ArrowError;
use std::collections::HashSet;

/// Evaluates `tree` for every row.
pub(super) fn eval(tree: &Tree, batch: &LeafBatch) -> Result<ArrayRef> {
    let value = value(tree, batch)?;
    if value.scalar {
        return Ok(take(&value.array, &UInt32Array::from(vec![0; batch.num_rows()]), None)?);
    }
    Ok(value.array)
}

/// Evaluates `tree`. Chains of operators without parentheses nest by the hundred, so the stack frame of this recursive
/// function is kept small.
fn value(tree: &Tree, batch: &LeafBatch) -> Result<Value> {
    match tree {
        Tree::Binary(operator, left, right) => binary(*operator, &value(left, batch)?, &value(right, batch)?),
        _ => other_value(tree, batch),
    }
}

/// Evaluates a tree that is not a binary operator.
#[inline(never)]
fn other_value(tree: &Tree, batch: &LeafBatch) -> Result<Value> {
    match tree {
        Tree::Binary(..) => value(tree, batch),
        Tree::Leaf(leaf) => Ok(Value { array: batch.array(*leaf)?.clone(), scalar: false }),
        Tree::Decimal(leaf) => Ok(Value { array: batch.decimals(*leaf)?.clone(), scalar: false }),
        Tree::Constant(array) => Ok(Value { array: array.clone(), scalar: true }),
        Tree::Not(inner) => {
            let inner = value(inner, batch)?;
            Ok(Value::rows_of(not(inner.array.as_boolean())?, inner.scalar))
        }
        Tree::Negate(inner) => {
            let inner = value(inner, batch)?;
            let negated = inner.array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|x| canonical(-x));
            Ok(Value::rows_of(negated, inner.scalar))
        }
        Tree::IsNull { value: inner, negated } => {
            let inner = value(inner, batch)?;
            let nulls = if *negated { is_not_null(&inner.array)? } else { is_null(&inner.array)? };
            Ok(Value::rows_of(nulls, inner.scalar))
        }
        Tree::In { value: inner, list, negated } => within(&value(inner, batch)?, list, *negated, batch),
        Tree::InTexts { value: inner, list, negated } => Ok(within_texts(&value(inner, batch)?, list, *negated)),
        Tree::Between { value: inner, low, high, negated } => {
            let inner = value(inner, batch)?;
            let above = binary(Operator::GreaterEqual, &inner, &value(low, batch)?)?;
            let below = binary(Operator::LessEqual, &inner, &value(high, batch)?)?;
            negated_if(binary(Operator::And, &above, &below)?, *negated)
        }
        Tree::Like { value: inner, pattern, negated, any_case } => {
            let (inner, pattern) = (value(inner, batch)?, value(pattern, batch)?);
            let found = if *any_case { ilike(&inner, &pattern)? } else { like(&inner, &pattern)? };
            negated_if(Value::rows_of(found, inner.scalar && pattern.scalar), *negated)
        }
        Tree::Match { value: inner, pattern, negated } => {
            let inner = value(inner, batch)?;
            let texts = inner.array.as_string::<i32>().iter();
            let found = texts.map(|text| text.map(|text| pattern.is_match(text) != *negated)).collect::<BooleanArray>();
            Ok(Value::rows_of(found, inner.scalar))
        }
        Tree::Case { operand, branches, otherwise } => case(operand.as_deref(), branches, otherwise, batch),
        Tree::Coalesce(values) => coalesce(values, batch),
        Tree::Cast { value: inner, from, to, is_strict } => {
            let inner = value(inner, batch)?;
            let cast = Value { array: cast::cast(&inner.array, *from, *to)?, scalar: inner.scalar };
            if *is_strict {
                batch.note_failed(&inner, &cast.array, *to)?;
            }
            Ok(cast)
        }
        Tree::Call { function, args, pattern } => {
            let args = args.iter().map(|arg| value(arg, batch)).collect::<Result<Vec<_>>>()?;
            Ok(Value { array: function.call(&args, pattern.as_ref())?, scalar: args.iter().all(|arg| arg.scalar) })
        }
    }
}

fn negated_if(value: Value, negated: bool) -> Result<Value> {
    if !negated {
        return Ok(value);
    }
    Ok(Value::rows_of(not(value.array.as_boolean())?, value.scalar))
}

fn binary(operator: Operator, left: &Value, right: &Value) -> Result<Value> {
    let scalar = left.scalar && right.scalar;
    let compared = |kernel: fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError>| {
        Ok(Value::rows_of(kernel(left, right)?, scalar))
    };
    match operator {
        Operator::And => logic(left, right, and_kleene),
        Operator::Or => logic(left, right, or_kleene),
        Operator::Equal => compared(cmp::eq),
        Operator::NotEqual => compared(cmp::neq),
        Operator::Less => compared(cmp::lt),
        Operator::LessEqual => compared(cmp::lt_eq),
        Operator::Greater => compared(cmp::gt),
        Operator::GreaterEqual => compared(cmp::gt_eq),
        Operator::Add => computed(numeric::add(left, right)?, scalar),
        Operator::Subtract => computed(numeric::sub(left, right)?, scalar),
        Operator::Multiply => computed(numeric::mul(left, right)?, scalar),
        Operator::Divide => computed(numeric::div(left, right)?, scalar),
        Operator::Remainder => computed(numeric::rem(left, right)?, scalar),
        Operator::Concat => {
            let rows = length(left, right);
            let (left, right) = (left.full(rows)?, right.full(rows)?);
            Ok(Value::rows_of(concat_elements_utf8(left.as_string::<i32>(), right.as_string::<i32>())?, scalar))
        }
    }
}

/// Returns the number of rows of the result of two operands.
fn length(left: &Value, right: &Value) -> usize {
    if left.scalar { right.rows() } else { left.rows() }
}

type Logic = fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, ArrowError>;

fn logic(left: &Value, right: &Value, kernel: Logic) -> Result<Value> {
    let rows = length(left, right);
    Ok(Value::rows_of(kernel(&left.truth(rows)?, &right.truth(rows)?)?, left.scalar && right.scalar))
}

/// Wraps the result of arithmetic, with one NaN and without −0.
fn computed(array: ArrayRef, scalar: bool) -> Result<Value> {
    let numbers: Float64Array = array.as_primitive::<Float64Type>().clone();
    drop(array);
    let numbers = numbers.unary_mut(canonical).unwrap_or_else(|shared| shared.unary(canonical));
    Ok(Value::rows_of(numbers, scalar))
}

fn within(value: &Value, list: &[Tree], negated: bool, batch: &LeafBatch) -> Result<Value> {
    let mut found: Option<Value> = None;
    for item in list {
        let same = binary(Operator::Equal, value, &self::value(item, batch)?)?;
        found = Some(match found {
            Some(found) => binary(Operator::Or, &found, &same)?,
            None => same,
        });
    }
    let none = Value::rows_of(BooleanArray::from(vec![false]), true);
    negated_if(found.unwrap_or(none), negated)
}

fn within_texts(value: &Value, list: &HashSet<String>, negated: bool) -> Value {
    let texts = value.array.as_string::<i32>().iter();
    let found = texts.map(|text| text.map(|text| list.contains(text) != negated)).collect::<BooleanArray>();
    Value::rows_of(found, value.scalar)
}

fn case(operand: Option<&Tree>, branches: &[Branch<Tree>], otherwise: &Tree, batch: &LeafBatch) -> Result<Value> {
    let operand = operand.map(|operand| value(operand, batch)).transpose()?;
    let mut result = value(otherwise, batch)?;
    for Branch { condition, result: branch } in branches.iter().rev() {
        let test = value(condition, batch)?;
        let test = match &operand {
            Some(operand) => binary(Operator::Equal, operand, &test)?,
            None => test,
        };
        result = chosen(&test.truth(batch.num_rows())?, &value(branch, batch)?, &result)?;
    }
    Ok(result)
}

fn coalesce(values: &[Tree], batch: &LeafBatch) -> Result<Value> {
    let mut rest = values.iter().rev();
    let Some(last) = rest.next() else { unreachable!("the parser rejects coalesce without values") };
    let mut result = value(last, batch)?;
    for tree in rest {
        let first = value(tree, batch)?;
        let present = is_not_null(&first.full(batch.num_rows())?)?;
        result = chosen(&present, &first, &result)?;
    }
    Ok(result)
}

/// Selects `yes` where the test is true, else `no`; NULL is not true.
fn chosen(test: &BooleanArray, yes: &Value, no: &Value) -> Result<Value> {
    let test = if test.null_count() > 0 { &prep_null_mask_filter(test) } else { test };
    // Of two columns of decimals one may have texts, the other doubles.
    if yes.array.data_type() != no.array.data_type() {
        let texts = |value: &Value| Ok::<_, Error>(Value { array: decimal_texts(&value.array)?, scalar: value.scalar });
        return Ok(Value { array: zip(test, &texts(yes)?, &texts(no)?)?, scalar: false });
    }
    Ok(Value { array: zip(test, yes, no)?, scalar: false })
}
