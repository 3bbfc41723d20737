//! Typed expressions as Flink's SQL. Functions that differ from those of Flink are in the jar; they begin with `evt_`.
//!
//! Numbers are DOUBLE, texts STRING, booleans BOOLEAN, and instants BIGINT: microseconds since 1970.

use super::pattern;
use super::text::{identifier, is_plain, number, text};
use crate::error::Result;
use crate::expr::{self, Branch, Expr, LeafType, Leaves, Operator, PathKey, Tree, ValueKind, path_text};
use crate::kind::event::{COLUMNS, column};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use std::collections::BTreeSet;

/// Translates the expressions of a job, and collects what they need.
pub(super) struct Translator<'a> {
    leaves: &'a Leaves,
    /// The properties that are read: the path and the name of its column.
    pub(super) properties: Vec<Property>,
    /// The columns of events that are read.
    pub(super) columns: BTreeSet<String>,
    /// The functions of the jar that are called.
    pub(super) functions: BTreeSet<&'static str>,
    /// Conditions under which the expressions since [`Translator::take_faults`] fail for a row.
    faults: Vec<String>,
    /// Whether an expression since [`Translator::take_changes_case`] changes the case of letters.
    changes_case: bool,
}

/// A property that a job reads.
pub(super) struct Property {
    path: Vec<PathKey>,
    /// The name of the column with its text.
    pub(super) column: String,
}

impl Property {
    /// Returns its path as a function of the jar reads it.
    pub(super) fn path(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                PathKey::Element(position) => out.push_str(&format!("[{position}]")),
                PathKey::Member(name) => {
                    out.push_str(if out.is_empty() { "" } else { "." });
                    match name.is_empty() || name.contains(['.', '[', '"']) {
                        true => out.push_str(&format!("\"{}\"", name.replace('"', "\"\""))),
                        false => out.push_str(name),
                    }
                }
            }
        }
        out
    }
}

/// A part of an expression in SQL, and its type; or why there is none.
pub(super) type Translated = Result<(String, ValueKind), String>;

impl<'a> Translator<'a> {
    pub(super) fn new(leaves: &'a Leaves) -> Self {
        Self {
            leaves,
            properties: vec![],
            columns: BTreeSet::new(),
            functions: BTreeSet::new(),
            faults: vec![],
            changes_case: false,
        }
    }

    /// Returns an expression in SQL.
    pub(super) fn sql(&mut self, expr: &Expr) -> Result<String, String> {
        // A leaf makes its row fail wherever it is, also one in a part that evaluation would skip.
        for leaf in expr.leaves() {
            self.leaf(*leaf)?;
        }
        Ok(self.tree(expr.tree())?.0)
    }

    /// Returns numbers in SQL, and their type: texts if it keeps the decimals of some property.
    pub(super) fn decimals(&mut self, expr: &Expr) -> Translated {
        for leaf in expr.leaves() {
            self.leaf(*leaf)?;
        }
        match has_decimals(expr.tree()) {
            true => Ok((self.decimal(expr.tree())?, ValueKind::Text)),
            false => self.tree(expr.tree()),
        }
    }

    /// Returns the condition under which an expression since the last call fails; `None` if none can.
    pub(super) fn take_faults(&mut self) -> Option<String> {
        let mut faults = std::mem::take(&mut self.faults);
        faults.sort();
        faults.dedup();
        (!faults.is_empty()).then(|| format!("({})", faults.join(" OR ")))
    }

    /// Whether an expression since the last call changes the case of letters.
    pub(super) fn take_changes_case(&mut self) -> bool {
        std::mem::take(&mut self.changes_case)
    }

    /// Returns the call of a function of the jar.
    pub(super) fn call(&mut self, name: &'static str, args: &[&str]) -> String {
        self.functions.insert(name);
        format!("{name}({})", args.join(", "))
    }

    /// Returns the column of a property.
    fn property(&mut self, path: &[PathKey]) -> String {
        let known = self.properties.iter().find(|known| known.path == path);
        let column = known.map(|known| known.column.clone()).unwrap_or_else(|| {
            let name = format!("properties.{}", path_text(path));
            let taken = |name: &str| self.properties.iter().any(|known| known.column == name);
            let column = match is_plain(&name) && !taken(&name) {
                true => name,
                false => format!("property.{}", self.properties.len() + 1),
            };
            self.properties.push(Property { path: path.to_vec(), column: column.clone() });
            column
        });
        identifier(&column)
    }

    /// Returns the text of what a leaf reads, and its type.
    fn read(&mut self, source: &expr::Source) -> (String, ValueKind) {
        match source {
            expr::Source::Path(_, path) => (self.property(path), ValueKind::Text),
            expr::Source::Column(index, kind) => {
                let (column, read) = match *index {
                    column::OFFSET => ("`offset`", "CAST(`offset` AS DOUBLE)"),
                    column::PARTITION => ("kafka_partition", "CAST(kafka_partition AS STRING)"),
                    column::SCHEMA_ID => ("`offset`", "CAST(NULL AS DOUBLE)"),
                    index => (COLUMNS[index], COLUMNS[index]),
                };
                self.columns.insert(column.to_owned());
                (read.to_owned(), *kind)
            }
        }
    }

    fn leaf(&mut self, leaf: usize) -> Translated {
        let leaf = self.leaves.get(leaf).clone();
        if let expr::Source::Column(column::INGESTED_AT, _) = leaf.source {
            return Err("ingested_at is the time at which evt-window reads a record; use server_timestamp".to_owned());
        }
        let (read, from) = self.read(&leaf.source);
        match leaf.leaf_type {
            LeafType::Presence => Ok((read, from)),
            LeafType::Kind { kind, lenient } => Ok((self.cast(read, from, kind, !lenient)?, kind)),
        }
    }

    fn cast(&mut self, value: String, from: ValueKind, to: ValueKind, is_strict: bool) -> Result<String, String> {
        use ValueKind::{Bool, Number, Text, Time};
        let may_fail = from == Text || (from, to) == (Number, Time);
        let cast = match (from, to) {
            _ if from == to => return Ok(value),
            (Text, Number) => self.call("evt_number", &[&value]),
            (Text, Bool) => self.call("evt_boolean", &[&value]),
            (Text, Time) => self.call("evt_instant", &[&value]),
            (Number, Text) => self.call("evt_number_text", &[&value]),
            (Bool, Text) => format!("CASE WHEN {value} THEN 'true' WHEN NOT {value} THEN 'false' END"),
            (Time, Text) => self.call("evt_instant_text", &[&value]),
            (Time, Number) => format!("(CAST({value} AS DOUBLE) / 1E6)"),
            (Number, Time) => self.call("evt_instant_of_seconds", &[&value]),
            (Bool, Number) => format!("CASE WHEN {value} THEN 1E0 WHEN NOT {value} THEN 0E0 END"),
            _ => return Err(format!("a cast from {} to {}", from.name(), to.name())),
        };
        if is_strict && may_fail {
            self.faults.push(format!("({value} IS NOT NULL AND {cast} IS NULL)"));
        }
        Ok(cast)
    }

    fn tree(&mut self, tree: &Tree) -> Translated {
        match tree {
            Tree::Leaf(leaf) | Tree::Decimal(leaf) => self.leaf(*leaf),
            Tree::Constant(value) => constant(value),
            Tree::Not(inner) => Ok((format!("(NOT {})", self.tree(inner)?.0), ValueKind::Bool)),
            Tree::Negate(inner) => Ok((format!("(-{})", self.tree(inner)?.0), ValueKind::Number)),
            Tree::Binary(operator, left, right) => self.binary(*operator, left, right),
            Tree::IsNull { value, negated } => {
                let not = if *negated { " NOT" } else { "" };
                Ok((format!("({} IS{not} NULL)", self.tree(value)?.0), ValueKind::Bool))
            }
            Tree::In { value, list, negated } => {
                let same = list.iter().map(|item| Ok(self.binary(Operator::Equal, value, item)?.0));
                let same = same.collect::<Result<Vec<_>, String>>()?.join(" OR ");
                Ok((negated_if(format!("({same})"), *negated), ValueKind::Bool))
            }
            Tree::InTexts { value, list, negated } => {
                let mut list: Vec<String> = list.iter().map(|item| text(item)).collect();
                list.sort();
                let not = if *negated { " NOT" } else { "" };
                Ok((format!("({}{not} IN ({}))", self.tree(value)?.0, list.join(", ")), ValueKind::Bool))
            }
            Tree::Between { value, low, high, negated } => {
                let low = self.binary(Operator::GreaterEqual, value, low)?.0;
                let high = self.binary(Operator::LessEqual, value, high)?.0;
                Ok((negated_if(format!("({low} AND {high})"), *negated), ValueKind::Bool))
            }
            Tree::Like { value, pattern, negated, any_case } => self.like(value, pattern, *negated, *any_case),
            Tree::Match { value, pattern, negated } => {
                let java = text(&pattern::of_java(pattern.as_str())?);
                let value = self.tree(value)?.0;
                Ok((negated_if(self.call("evt_matches", &[&value, &java]), *negated), ValueKind::Bool))
            }
            Tree::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise, &mut Self::tree)
            }
            Tree::Coalesce(values) => {
                let values = values.iter().map(|value| self.tree(value)).collect::<Result<Vec<_>, _>>()?;
                let kind = values.first().map_or(ValueKind::Text, |(_, kind)| *kind);
                let values: Vec<String> = values.into_iter().map(|(value, _)| value).collect();
                Ok((format!("COALESCE({})", values.join(", ")), kind))
            }
            Tree::Cast { value, from, to, is_strict } => {
                let value = self.tree(value)?.0;
                Ok((self.cast(value, *from, *to, *is_strict)?, *to))
            }
            Tree::Call { function, args, pattern } => {
                let pattern = pattern.as_ref().map(|pattern| pattern::of_java(pattern.as_str())).transpose()?;
                self.function(function.name, args, pattern)
            }
        }
    }

    /// Returns numbers as texts: the decimals of properties, and the shortest texts of doubles.
    fn decimal(&mut self, tree: &Tree) -> Result<String, String> {
        match tree {
            Tree::Decimal(leaf) => {
                // The number is read, too, because the row fails if there is none.
                self.leaf(*leaf)?;
                let source = self.leaves.get(*leaf).source.clone();
                Ok(self.read(&source).0)
            }
            Tree::Coalesce(values) => {
                let values = values.iter().map(|value| self.decimal(value)).collect::<Result<Vec<_>, _>>()?;
                Ok(format!("COALESCE({})", values.join(", ")))
            }
            Tree::Case { operand, branches, otherwise } => {
                let decimal = &mut |this: &mut Self, tree: &Tree| Ok((this.decimal(tree)?, ValueKind::Text));
                Ok(self.case(operand.as_deref(), branches, otherwise, decimal)?.0)
            }
            _ => {
                let value = self.tree(tree)?.0;
                Ok(self.call("evt_number_text", &[&value]))
            }
        }
    }

    fn case(
        &mut self,
        operand: Option<&Tree>,
        branches: &[Branch<Tree>],
        otherwise: &Tree,
        result: &mut dyn FnMut(&mut Self, &Tree) -> Translated,
    ) -> Translated {
        let mut out = String::from("CASE");
        for branch in branches {
            let test = match operand {
                Some(operand) => self.binary(Operator::Equal, operand, &branch.condition)?.0,
                None => self.tree(&branch.condition)?.0,
            };
            out.push_str(&format!(" WHEN {test} THEN {}", result(self, &branch.result)?.0));
        }
        let (otherwise, kind) = result(self, otherwise)?;
        Ok((format!("{out} ELSE {otherwise} END"), kind))
    }

    fn binary(&mut self, operator: Operator, left: &Tree, right: &Tree) -> Translated {
        let may_be_nan = may_be_nan(left) || may_be_nan(right);
        let is_computed = !matches!(right, Tree::Leaf(_) | Tree::Constant(_));
        let ((left, kind), (right, _)) = (self.tree(left)?, self.tree(right)?);
        let sign = operator.sign().to_uppercase();
        Ok(match operator {
            Operator::And | Operator::Or => (format!("({left} {sign} {right})"), ValueKind::Bool),
            Operator::Concat => (format!("({left} || {right})"), ValueKind::Text),
            Operator::Remainder => (self.call("evt_remainder", &[&left, &right]), ValueKind::Number),
            // 1/0 and 1/-0 differ, and evt has no -0.
            Operator::Divide if is_computed => {
                let right = self.call("evt_canonical", &[&right]);
                (format!("({left} / {right})"), ValueKind::Number)
            }
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide => {
                (format!("({left} {sign} {right})"), ValueKind::Number)
            }
            _ if kind == ValueKind::Number && may_be_nan => {
                (format!("({} {sign} 0)", self.call("evt_compare", &[&left, &right])), ValueKind::Bool)
            }
            _ if kind == ValueKind::Bool && operator.orders() => {
                (format!("(CAST({left} AS INT) {sign} CAST({right} AS INT))"), ValueKind::Bool)
            }
            _ => (format!("({left} {sign} {right})"), ValueKind::Bool),
        })
    }

    fn like(&mut self, value: &Tree, pattern: &Tree, negated: bool, any_case: bool) -> Translated {
        let Tree::Constant(constant) = pattern else {
            return Err("like with a pattern that is not a constant".to_owned());
        };
        if any_case {
            return Err("ilike; use lower(x) like 'pattern'".to_owned());
        }
        let value = self.tree(value)?.0;
        let Some(pattern) = constant.as_string_opt::<i32>().filter(|texts| texts.is_valid(0)) else {
            return Ok(("CAST(NULL AS BOOLEAN)".to_owned(), ValueKind::Bool));
        };
        let pattern = pattern.value(0);
        let like = match pattern.contains('\\') {
            false => format!("({value} LIKE {})", text(pattern)),
            true => self.call("evt_matches", &[&value, &text(&pattern::of_like(pattern))]),
        };
        Ok((negated_if(like, negated), ValueKind::Bool))
    }

    fn function(&mut self, name: &str, args: &[Tree], pattern: Option<String>) -> Translated {
        use ValueKind::{Bool, Number, Text, Time};
        let args = args.iter().map(|arg| Ok(self.tree(arg)?.0)).collect::<Result<Vec<String>, String>>()?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.changes_case |= matches!(name, "lower" | "upper");
        Ok(match (name, &args[..]) {
            ("lower", _) => (self.call("evt_lower", &args), Text),
            ("upper", _) => (self.call("evt_upper", &args), Text),
            ("trim", _) => (self.call("evt_trim", &args), Text),
            ("substr", _) => (self.call("evt_substr", &args), Text),
            ("split_part", _) => (self.call("evt_split_part", &args), Text),
            ("replace", _) => (self.call("evt_replace", &args), Text),
            ("round", _) => (self.call("evt_round", &args), Number),
            ("date_trunc", _) => (self.call("evt_date_trunc", &args), Time),
            ("length", [value]) => (format!("CAST(CHAR_LENGTH({value}) AS DOUBLE)"), Number),
            ("starts_with", [value, start]) => (format!("STARTSWITH({value}, {start})"), Bool),
            ("ends_with", [value, end]) => (format!("ENDSWITH({value}, {end})"), Bool),
            ("contains", [value, part]) => (format!("(POSITION({part} IN {value}) > 0)"), Bool),
            ("abs" | "floor" | "ceil", [value]) => (format!("{}({value})", name.to_uppercase()), Number),
            ("regexp_extract", [value, _, group @ ..]) => {
                let pattern = text(&pattern.unwrap_or_default());
                let group = format!("CAST({} AS INT)", group.first().unwrap_or(&"0"));
                (self.call("evt_regexp_extract", &[value, &pattern, &group]), Text)
            }
            _ => return Err(format!("the function {name}")),
        })
    }
}

/// Whether some part keeps the decimals of a property.
fn has_decimals(tree: &Tree) -> bool {
    match tree {
        Tree::Decimal(_) => true,
        Tree::Coalesce(values) => values.iter().any(has_decimals),
        Tree::Case { branches, otherwise, .. } => {
            has_decimals(otherwise) || branches.iter().any(|branch| has_decimals(&branch.result))
        }
        _ => false,
    }
}

/// Whether a number may be NaN, which Flink compares in another way. Properties and constants cannot.
pub(super) fn may_be_nan(tree: &Tree) -> bool {
    !matches!(tree, Tree::Leaf(_) | Tree::Decimal(_) | Tree::Constant(_))
}

fn negated_if(condition: String, negated: bool) -> String {
    if negated { format!("(NOT {condition})") } else { condition }
}

fn constant(value: &ArrayRef) -> Translated {
    let is_null = value.is_null(0);
    Ok(match value.data_type() {
        DataType::Float64 if is_null => ("CAST(NULL AS DOUBLE)".to_owned(), ValueKind::Number),
        DataType::Float64 => (number(value.as_primitive::<Float64Type>().value(0)), ValueKind::Number),
        DataType::Boolean if is_null => ("CAST(NULL AS BOOLEAN)".to_owned(), ValueKind::Bool),
        DataType::Boolean => (value.as_boolean().value(0).to_string().to_uppercase(), ValueKind::Bool),
        DataType::Int64 if is_null => ("CAST(NULL AS BIGINT)".to_owned(), ValueKind::Time),
        DataType::Int64 => (format!("CAST({} AS BIGINT)", value.as_primitive::<Int64Type>().value(0)), ValueKind::Time),
        DataType::Utf8 if is_null => ("CAST(NULL AS STRING)".to_owned(), ValueKind::Text),
        DataType::Utf8 => (text(value.as_string::<i32>().value(0)), ValueKind::Text),
        other => return Err(format!("a constant of the type {other}")),
    })
}
