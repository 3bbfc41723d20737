//! `--time =EXPR`: an expression over the fields of a record gives its time.

use super::reader::{When, is_number};
use crate::error::{Error, Result};
use crate::expr::{Expr, LeafBatch, Leaves, ValueKind, Want};
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping::envelope::Value;
use crate::parse::excerpt::brief;
use crate::time::{Parser, is_in_calendar};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use std::sync::Arc;

/// The name of the value of the expression in messages.
const NAME: &str = "the time";

/// The expression, and how the fields of a record are read for it.
///
/// Each record is a batch of one row. That is slower than a path; the way of a record to a row needs its time.
#[derive(Debug)]
pub struct TimeExpr {
    /// The only column: the whole record, whose fields are the names of the expression.
    schema: SchemaRef,
    leaves: Leaves,
    expr: Expr,
}

impl TimeExpr {
    /// Parses the text after `=`.
    ///
    /// Errors: exit status 2 if it is not an expression, or one that is true or false.
    pub fn parse(text: &str) -> Result<Self> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("properties", DataType::Utf8, false)]));
        let mut leaves = Leaves::new(&schema);
        let usage = |error: Error| Error::usage(format!("--time ={}: {error}", brief(text)));
        let expr = Expr::parse(text, Want::Own, &mut leaves).map_err(usage)?;
        match expr.kind() {
            ValueKind::Bool => {
                Err(Error::usage(format!("--time ={}: expected a time, found true or false", brief(text))))
            }
            _ => Ok(Self { schema, leaves, expr }),
        }
    }

    /// Returns the instant (µs) that the expression gives for the JSON text of a record; `None` if it is NULL. A text
    /// and a number are read as those of a field.
    pub(in crate::mapping) fn read(
        &self,
        record: &str,
        when: &When,
        parser: &mut Parser,
    ) -> std::result::Result<Option<i64>, Fault> {
        let fault = |message: String| Fault::new(ErrorType::TimestampError, message);
        let (values, wrong) = self.eval(record).map_err(|error| fault(error.to_string()))?;
        if let Some(wrong) = wrong {
            return Err(fault(wrong));
        }
        if values.is_null(0) {
            return Ok(None);
        }
        let unreadable = |value: Value<'_>| super::unreadable(when, NAME, value);
        let read = |value: Value<'_>, parser: &mut Parser| when.read(value, parser).ok_or_else(|| unreadable(value));
        match self.expr.kind() {
            ValueKind::Text => read(Value::Plain(values.as_string::<i32>().value(0)), parser).map(Some),
            ValueKind::Number => {
                let number = values.as_primitive::<Float64Type>().value(0).to_string();
                read(Value::Other(&number), parser).map(Some)
            }
            ValueKind::Time | ValueKind::Bool => {
                let instant = values.as_primitive::<Int64Type>().value(0);
                match is_in_calendar(instant) {
                    true => Ok(Some(instant)),
                    false => Err(fault(format!("{NAME}: outside the years 1 to 9999"))),
                }
            }
        }
    }

    /// Whether the value for the JSON text of a record is a number, or a text that is one.
    pub(in crate::mapping) fn gives_number(&self, record: &str) -> bool {
        match self.expr.kind() {
            ValueKind::Number => true,
            ValueKind::Text => self.eval(record).is_ok_and(|(values, _)| is_number(values.as_string::<i32>().value(0))),
            ValueKind::Time | ValueKind::Bool => false,
        }
    }

    /// Evaluates the expression for a record; the text says why it fails.
    fn eval(&self, record: &str) -> Result<(ArrayRef, Option<String>)> {
        let batch = RecordBatch::try_new(self.schema.clone(), vec![Arc::new(StringArray::from(vec![record]))])?;
        let leaves = LeafBatch::read(&self.leaves, &batch)?;
        let wrong = self.expr.wrong(&leaves).next().map(|wrong| wrong.advice());
        Ok((self.expr.eval(&leaves)?, wrong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn read(expr: &str, record: &str) -> std::result::Result<Option<i64>, String> {
        let expr = TimeExpr::parse(expr).unwrap();
        expr.read(record, &When::default(), &mut Parser::default()).map_err(|fault| fault.message)
    }

    #[test]
    fn texts_numbers_and_instants_are_times() {
        let record =
            r#"{"Datum":"2026-03-01","Zeit":"10:00:00","s":1772359200,"us":"1772359200000000","n":null,"b":{"c":[7]}}"#;
        let ten = Ok(Some(1_772_359_200_000_000));
        for expr in [
            "Datum || ' ' || Zeit",
            "s",
            "s * 1000",
            "us",
            "cast(cast(s as double) as timestamp)",
            "case when n is null then s else 0 end",
            "coalesce(n, Datum || 'T' || Zeit || 'Z')",
        ] {
            assert_eq!(read(expr, record), ten, "{expr}");
        }
        assert_eq!(read("Datum", record), Ok(Some(1_772_323_200_000_000)));
        assert_eq!(read("n", record), Ok(None));
        assert_eq!(read("absent || Zeit", record), Ok(None));
    }

    #[test]
    fn what_is_no_time_says_why() {
        assert!(read("a || b", r#"{"a":"10:00","b":":00"}"#).unwrap_err().contains("the time: expected a time like"));
        assert!(read("a + 1", r#"{"a":"x"}"#).unwrap_err().contains("a: expected a number, found"));
        assert!(TimeExpr::parse("a > 1").unwrap_err().to_string().contains("expected a time, found true or false"));
        assert_eq!(TimeExpr::parse("a ||").unwrap_err().kind(), ErrorKind::Usage);
    }
}
