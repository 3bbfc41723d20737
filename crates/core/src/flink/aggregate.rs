//! Aggregates in SQL: of Flink's windows, and as the texts that functions of windows take.

use super::expression::{Translator, may_be_nan};
use crate::expr::{Expr, ValueKind};
use crate::op::aggregate::{AggregateCall, TEXTS_MAX};

/// The arguments of an aggregate in SQL.
pub(super) struct Arguments {
    /// The name of the aggregate.
    pub(super) name: &'static str,
    /// The quantile, as it is written.
    pub(super) quantile: String,
    /// Its arguments.
    args: Vec<String>,
    /// The type of the first one: what is added may be texts of decimals.
    kind: ValueKind,
    /// Whether the first one may be NaN.
    may_be_nan: bool,
}

impl Arguments {
    /// Translates the arguments of a call. Returns why they cannot be.
    pub(super) fn of(call: &AggregateCall, translator: &mut Translator<'_>) -> Result<Self, String> {
        let name = call.definition().name;
        let (mut args, mut kind) = (vec![], ValueKind::Text);
        for (at, arg) in call.args().iter().enumerate() {
            let is_first = at == 0;
            let is_decimal = is_first && matches!(name, "sum" | "avg" | "stddev");
            let (arg, of) = if is_decimal { translator.decimals(arg)? } else { (translator.sql(arg)?, arg.kind()) };
            kind = if is_first { of } else { kind };
            args.push(arg);
        }
        let may_be_nan = call.args().first().is_some_and(|first: &Expr| may_be_nan(first.tree()));
        Ok(Self { name, quantile: call.quantile().to_string(), args, kind, may_be_nan })
    }

    /// Returns the value over the rows of a group of Flink, a DOUBLE.
    pub(super) fn value(&self, translator: &mut Translator<'_>) -> String {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let count = args.first().map_or_else(|| "COUNT(*)".to_owned(), |x| format!("COUNT({x})"));
        match (self.name, &args[..]) {
            ("sum", _) => translator.call("evt_sum", &args),
            ("avg", _) => translator.call("evt_avg", &args),
            ("stddev", _) => translator.call("evt_stddev", &args),
            ("min", _) if self.may_be_nan => translator.call("evt_min", &args),
            ("max", _) if self.may_be_nan => translator.call("evt_max", &args),
            ("min", [x]) => format!("MIN({x})"),
            ("max", [x]) => format!("MAX({x})"),
            ("first", _) => translator.call("evt_first", &args),
            ("last", _) => translator.call("evt_last", &args),
            ("count_distinct", [x]) => {
                let count = format!("COUNT(DISTINCT {x})");
                format!("CASE WHEN {count} <= {TEXTS_MAX} THEN CAST({count} AS DOUBLE) END")
            }
            ("approx_distinct", _) => translator.call("evt_approx_distinct", &args),
            ("approx_percentile", [x]) => {
                translator.call("evt_approx_percentile", &[x, &format!("'{}'", self.quantile)])
            }
            ("ratio", [condition, of]) => {
                let count = |condition: &str| format!("CAST(COUNT(*) FILTER (WHERE {condition}) AS DOUBLE)");
                format!("{} / NULLIF({}, 0E0)", count(condition), count(of))
            }
            // Below 2^53 both operands are exact, so the quotient is rounded once.
            ("rate", _) => {
                let length = "CAST(evt_micros(window_end) - evt_micros(window_start) AS DOUBLE)";
                format!("CAST({count} * 1000000 AS DOUBLE) / {length}")
            }
            _ => format!("CAST({count} AS DOUBLE)"),
        }
    }

    /// Returns the arguments as the two texts that functions of windows take.
    pub(super) fn texts(&self, translator: &mut Translator<'_>) -> (String, String) {
        let none = || "CAST(NULL AS STRING)".to_owned();
        let truth = |condition: &str| format!("CASE WHEN {condition} THEN 'true' END");
        match (self.name, &self.args[..]) {
            ("count" | "rate", []) => ("'true'".to_owned(), none()),
            ("count" | "rate", [x, ..]) => (truth(&format!("{x} IS NOT NULL")), none()),
            ("ratio", [condition, of]) => (truth(condition), truth(of)),
            ("first" | "last", [x, _, _, shown]) => (self.text(x, translator), shown.clone()),
            (_, [x, ..]) => (self.text(x, translator), none()),
            (_, []) => (none(), none()),
        }
    }

    fn text(&self, x: &str, translator: &mut Translator<'_>) -> String {
        match self.kind {
            ValueKind::Number => translator.call("evt_number_text", &[x]),
            _ => x.to_owned(),
        }
    }
}
