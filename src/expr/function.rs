//! The functions of expressions, in one table from which `--help` and evt-metrics(5) list them.

use super::node::{Literal, Node};
use super::value::ValueKind::{Bool, Number, Text, Time};
use super::value::cast::canonical;
use super::value::{Value, ValueKind};
use crate::error::{Error, Result};
use crate::time::calendar::{civil_from_days, days_from_civil};
use crate::time::{DAY, HOUR, MINUTE, SECOND};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray, StringBuilder};
use arrow::compute::{contains, ends_with, starts_with};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::error::ArrowError;
use std::sync::Arc;

/// Checks an argument; returns why it is refused.
type Check = fn(&Node) -> Result<(), String>;

/// A function of its arguments, row by row; NULL if an argument is NULL.
#[derive(Debug)]
pub struct Function {
    /// Its name, lower case.
    pub name: &'static str,
    /// Its arguments and its result, for the manual.
    pub usage: &'static str,
    /// Types of its arguments.
    pub(super) args: &'static [ValueKind],
    /// Number of arguments at the end that are optional.
    pub(super) optional: usize,
    /// Type of its result.
    pub(super) result: ValueKind,
    /// The check of the first argument.
    pub(super) check: Option<Check>,
    /// Computes the result of the arguments; all have equal lengths unless all are scalars.
    pub(super) call: fn(&[Value]) -> Result<ArrayRef>,
}

/// Every function, in the order of the manual. `coalesce`, `cast` and `try_cast` are syntax.
pub const FUNCTIONS: &[Function] = &[
    simple("lower", "(text): lower case", &[Text], Text, |args| Ok(texts(&args[0], |text| text.to_lowercase().into()))),
    simple("upper", "(text): upper case", &[Text], Text, |args| Ok(texts(&args[0], |text| text.to_uppercase().into()))),
    simple("trim", "(text): without white space at both ends", &[Text], Text, |args| {
        Ok(texts(&args[0], |text| text.trim().into()))
    }),
    simple("length", "(text): number of characters", &[Text], Number, |args| {
        let lengths =
            args[0].array().as_string::<i32>().iter().map(|text| text.map(|text| text.chars().count() as f64));
        Ok(Arc::new(lengths.collect::<Float64Array>()))
    }),
    Function {
        name: "substr",
        usage: "(text, first[, count]): characters from position first (counted from 1), at most count",
        args: &[Text, Number, Number],
        optional: 1,
        result: Text,
        check: None,
        call: substr,
    },
    simple("starts_with", "(text, start)", &[Text, Text], Bool, |args| searched(args, starts_with)),
    simple("ends_with", "(text, end)", &[Text, Text], Bool, |args| searched(args, ends_with)),
    simple("contains", "(text, part)", &[Text, Text], Bool, |args| searched(args, contains)),
    simple("abs", "(number): absolute value", &[Number], Number, |args| Ok(numbers(&args[0], f64::abs))),
    simple("round", "(number): nearest integer; halves are rounded away from 0", &[Number], Number, |args| {
        Ok(numbers(&args[0], f64::round))
    }),
    simple("floor", "(number): greatest integer not above it", &[Number], Number, |args| {
        Ok(numbers(&args[0], f64::floor))
    }),
    simple("ceil", "(number): least integer not below it", &[Number], Number, |args| Ok(numbers(&args[0], f64::ceil))),
    Function {
        name: "date_trunc",
        usage: "(unit, instant): start of the second, minute, hour, day, week (from Monday), month or year of the instant, in UTC",
        args: &[Text, Time],
        optional: 0,
        result: Time,
        check: Some(is_unit),
        call: date_trunc,
    },
];

const fn simple(
    name: &'static str,
    usage: &'static str,
    args: &'static [ValueKind],
    result: ValueKind,
    call: fn(&[Value]) -> Result<ArrayRef>,
) -> Function {
    Function { name, usage, args, optional: 0, result, check: None, call }
}

fn numbers(value: &Value, f: fn(f64) -> f64) -> ArrayRef {
    Arc::new(value.array().as_primitive::<Float64Type>().unary::<_, Float64Type>(|number| canonical(f(number))))
}

fn texts(value: &Value, f: impl for<'a> Fn(&'a str) -> std::borrow::Cow<'a, str>) -> ArrayRef {
    let values = value.array().as_string::<i32>();
    let mut builder = StringBuilder::with_capacity(values.len(), values.value_data().len());
    for text in values {
        builder.append_option(text.map(&f));
    }
    Arc::new(builder.finish())
}

type Search = fn(&dyn arrow::array::Datum, &dyn arrow::array::Datum) -> Result<BooleanArray, ArrowError>;

fn searched(args: &[Value], search: Search) -> Result<ArrayRef> {
    Ok(Arc::new(search(&args[0], &args[1])?))
}

/// Returns the characters `first` to `first + count − 1`, counted from 1; positions outside the text are skipped.
fn substr(args: &[Value]) -> Result<ArrayRef> {
    let rows = args.iter().map(Value::rows).max().unwrap_or(0);
    let args = args.iter().map(|arg| arg.full(rows)).collect::<Result<Vec<_>>>()?;
    let (text, first) = (args[0].as_string::<i32>(), args[1].as_primitive::<Float64Type>());
    let count = args.get(2).map(|count| count.as_primitive::<Float64Type>());
    let row = |row: usize| {
        if text.is_null(row) || first.is_null(row) || count.is_some_and(|count| count.is_null(row)) {
            return None;
        }
        let start = first.value(row).trunc() - 1.0;
        let end = count.map_or(f64::INFINITY, |count| start + count.value(row).trunc());
        // A float to usize cast saturates: below 0 is 0.
        let (start, end) = (start as usize, end as usize);
        Some(text.value(row).chars().skip(start).take(end.saturating_sub(start)).collect::<String>())
    };
    Ok(Arc::new((0..rows).map(row).collect::<StringArray>()))
}

const UNITS: [&str; 7] = ["second", "minute", "hour", "day", "week", "month", "year"];

fn is_unit(node: &Node) -> Result<(), String> {
    match node {
        Node::Literal(Literal::Text(unit)) if UNITS.contains(&unit.as_str()) => Ok(()),
        other => Err(format!("expected a unit of date_trunc ('{}'), found {other}", UNITS.join("' '"))),
    }
}

fn date_trunc(args: &[Value]) -> Result<ArrayRef> {
    let unit = args[0].array().as_string::<i32>().value(0);
    let fixed = |size: i64| move |micros: i64| micros.div_euclid(size) * size;
    let instants: &Int64Array = args[1].array().as_primitive();
    let truncated = match unit {
        "second" => instants.unary::<_, Int64Type>(fixed(SECOND)),
        "minute" => instants.unary(fixed(MINUTE)),
        "hour" => instants.unary(fixed(HOUR)),
        "day" => instants.unary(fixed(DAY)),
        // 1970-01-01 was a Thursday.
        "week" => instants.unary(|micros| ((micros.div_euclid(DAY) + 3).div_euclid(7) * 7 - 3) * DAY),
        "month" => instants.unary(|micros| date_start(micros, |(year, month)| (year, month))),
        "year" => instants.unary(|micros| date_start(micros, |(year, _)| (year, 1))),
        other => return Err(Error::broken(format!("date_trunc to a {other}"))),
    };
    Ok(Arc::new(truncated))
}

fn date_start(micros: i64, start: fn((i64, i64)) -> (i64, i64)) -> i64 {
    let (year, month, _) = civil_from_days(micros.div_euclid(DAY));
    let (year, month) = start((year, month));
    days_from_civil(year, month, 1) * DAY
}
