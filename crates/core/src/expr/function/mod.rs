//! The functions of expressions, in one table from which `--help` and evt-metrics(5) list them; `text.rs` has those of
//! texts.
//!
//! ```text
//! name(a, b) ─► Function (row of the table) ─► check of literal arguments ─► casts of arguments to `args`
//!                     │                                                              │ arrays of one batch
//!                     └────► usage, about ─► --help, evt-metrics(5)                  ▼
//!                                                                        function, row by row ─► array of its result
//! ```

mod text;

pub(in crate::expr) use text::regex;

use crate::error::{Error, Result};
use crate::expr::node::{Literal, Node};
use crate::expr::value::ValueKind::{Bool, Number, Text, Time};
use crate::expr::value::cast::canonical;
use crate::expr::value::{Value, ValueKind};
use crate::time::calendar::{CivilDate, civil_from_days, days_from_civil};
use crate::time::{DAY, HOUR, MINUTE, SECOND};
use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::compute::{contains, ends_with, starts_with};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::error::ArrowError;
use regex::Regex;
use std::sync::Arc;

/// Checks the arguments; returns why they are refused.
type Check = fn(&[Node]) -> Result<(), String>;

/// A function of its arguments, row by row; NULL if an argument is NULL.
#[derive(Debug)]
pub struct Function {
    /// Its name, lower case.
    pub name: &'static str,
    /// Its arguments and its result, for the manual.
    pub usage: &'static str,
    /// Types of its arguments.
    pub(in crate::expr) args: &'static [ValueKind],
    /// Number of arguments at the end that are optional.
    pub(in crate::expr) optional: usize,
    /// Type of its result.
    pub(in crate::expr) result: ValueKind,
    /// The check of arguments that must be constants.
    pub(in crate::expr) check: Option<Check>,
    /// Computes the result of the arguments; all have equal lengths unless all are scalars.
    pub(in crate::expr) call: Call,
}

/// The code that computes the result of a function.
#[derive(Clone, Copy, Debug)]
pub(in crate::expr) enum Call {
    /// It gets the values of the arguments.
    OfValues(fn(&[Value]) -> Result<ArrayRef>),
    /// It gets a compiled regular expression, too: the second argument, which must be constant.
    OfPattern(fn(&[Value], &Regex) -> Result<ArrayRef>),
}

impl Function {
    /// Computes the result of the arguments.
    ///
    /// Errors: exit status 70, which is a bug.
    pub(in crate::expr) fn call(&self, args: &[Value], pattern: Option<&Regex>) -> Result<ArrayRef> {
        match (self.call, pattern) {
            (Call::OfValues(call), _) => call(args),
            (Call::OfPattern(call), Some(pattern)) => call(args, pattern),
            (Call::OfPattern(_), None) => Err(Error::broken(format!("{} without its pattern", self.name))),
        }
    }
}

/// Every function, in the order of the manual. `coalesce`, `cast` and `try_cast` are syntax.
pub const FUNCTIONS: &[Function] = &[
    simple("lower", "(text): lower case", &[Text], Text, |args| {
        Ok(text::cased(&args[0], text::lower, str::to_lowercase))
    }),
    simple("upper", "(text): upper case", &[Text], Text, |args| {
        Ok(text::cased(&args[0], text::upper, str::to_uppercase))
    }),
    simple("trim", "(text): the text without white space at both ends", &[Text], Text, |args| {
        let texts = args[0].array().as_string::<i32>().iter();
        Ok(Arc::new(texts.map(|text| text.map(str::trim)).collect::<StringArray>()))
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
        call: Call::OfValues(text::substr),
    },
    simple(
        "split_part",
        "(text, separator, number): part with this number, from 1, or from -1 at the end; empty text if there is none",
        &[Text, Text, Number],
        Text,
        text::split_part,
    ),
    simple(
        "replace",
        "(text, from, to): each `from` in the text replaced by `to`: cast(replace(price, ',', '.') as double)",
        &[Text, Text, Text],
        Text,
        text::replace,
    ),
    Function {
        name: "regexp_extract",
        usage: "(text, pattern[, group]): first match of a constant regular expression, or of a group in it; empty text if nothing matches",
        args: &[Text, Text, Number],
        optional: 1,
        result: Text,
        check: Some(text::check_group),
        call: Call::OfPattern(text::regexp_extract),
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
        usage: "(unit, instant): start of the second, minute, hour, day, week (from Monday), month, quarter or year of the instant, in UTC",
        args: &[Text, Time],
        optional: 0,
        result: Time,
        check: Some(check_unit),
        call: Call::OfValues(date_trunc),
    },
];

const fn simple(
    name: &'static str,
    usage: &'static str,
    args: &'static [ValueKind],
    result: ValueKind,
    call: fn(&[Value]) -> Result<ArrayRef>,
) -> Function {
    Function { name, usage, args, optional: 0, result, check: None, call: Call::OfValues(call) }
}

fn numbers(value: &Value, f: fn(f64) -> f64) -> ArrayRef {
    Arc::new(value.array().as_primitive::<Float64Type>().unary::<_, Float64Type>(|number| canonical(f(number))))
}

type Search = fn(&dyn arrow::array::Datum, &dyn arrow::array::Datum) -> Result<BooleanArray, ArrowError>;

fn searched(args: &[Value], search: Search) -> Result<ArrayRef> {
    Ok(Arc::new(search(&args[0], &args[1])?))
}

const UNITS: [&str; 8] = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"];

fn check_unit(args: &[Node]) -> Result<(), String> {
    match args.first() {
        Some(Node::Literal(Literal::Text(unit))) if UNITS.contains(&unit.as_str()) => Ok(()),
        Some(other) => Err(format!("expected a unit of date_trunc ('{}'), found {other}", UNITS.join("' '"))),
        None => Ok(()),
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
        "quarter" => instants.unary(|micros| date_start(micros, |(year, month)| (year, (month - 1) / 3 * 3 + 1))),
        "year" => instants.unary(|micros| date_start(micros, |(year, _)| (year, 1))),
        other => return Err(Error::broken(format!("date_trunc to a {other}"))),
    };
    Ok(Arc::new(truncated))
}

fn date_start(micros: i64, start: fn((i64, i64)) -> (i64, i64)) -> i64 {
    let CivilDate { year, month, .. } = civil_from_days(micros.div_euclid(DAY));
    let (year, month) = start((year, month));
    days_from_civil(year, month, 1) * DAY
}

#[cfg(test)]
mod tests;
