//! The rules of a run: read from text or from rows of a table; an invalid rule is reported and the others stay.

use super::rule::{NamedMetric, RuleDefinition};
use super::series::Expressions;
use crate::error::{Error, Result};
use crate::expr::Leaves;
use crate::kind::alert::rule_id;
use crate::op::window::metric::Shape;
use crate::op::window::spec::Spec;
use serde_json::{Map, Value};
use std::ops::Range;
use toml::de::DeTable;
use uuid::Uuid;

/// The fields of one rule, as written.
pub type RuleText = Map<String, Value>;

/// A rule that cannot be used.
#[derive(Debug)]
pub struct BadRule {
    /// Its name, its id, or its number from 1.
    pub name: String,
    /// Its id, made from its name if it has none; `None` if neither is text.
    pub rule_id: Option<Uuid>,
    /// Its number from 1.
    pub number: usize,
    /// Its place: `FILE: line LINE`, or `FILE` if the line is not known; `None` for a row of a table.
    pub place: Option<String>,
    /// The reason why it cannot be used.
    pub error: Error,
}

impl BadRule {
    /// Returns the error with the place and the name of the rule.
    pub fn message(&self) -> String {
        let place = self.place.as_ref().map_or_else(String::new, |place| format!("{place}: "));
        format!("{place}rule {}: {}", self.name, self.error)
    }
}

/// The rules that can be used, and those that cannot.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// Good rules, in the order written.
    pub rules: Vec<RuleDefinition>,
    /// Bad rules, in the order written.
    pub bad: Vec<BadRule>,
}

/// Reads the `[[rule]]` tables of a TOML file.
///
/// Errors: exit status 78 if it is not such a file.
pub fn of_toml(text: &str) -> Result<Vec<RuleText>> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        Error::config(format!("line {line}: {}", error.message()))
    })?;
    of_json(serde_json::to_value(table).map_err(|error| Error::config("rules").because(error))?)
}

/// Returns the lines of a TOML file at which its rules begin.
pub fn lines_of_toml(text: &str) -> Vec<usize> {
    let line = |span: Range<usize>| 1 + text[..span.start].matches('\n').count();
    let Ok(table) = DeTable::parse(text) else { return vec![] };
    let rules = table.get_ref().get("rule").and_then(|rules| rules.get_ref().as_array());
    rules.into_iter().flat_map(|rules| rules.iter()).map(|rule| line(rule.span())).collect()
}

/// Reads a JSON array of rules, or an object with the array `rule`.
///
/// Errors: exit status 78 if it is neither.
pub fn of_json(value: Value) -> Result<Vec<RuleText>> {
    let items = match value {
        Value::Object(mut file) => {
            let rules = file.remove("rule");
            if let Some(name) = file.keys().next() {
                return Err(Error::config(format!("unknown field {name}; expected [[rule]]")));
            }
            rules.unwrap_or(Value::Array(vec![]))
        }
        other => other,
    };
    let Value::Array(items) = items else { return Err(Error::config("expected a list of rules: [[rule]]")) };
    let rules = items.into_iter().map(|item| match item {
        Value::Object(fields) => Ok(fields),
        other => Err(Error::config(format!("expected a rule, found {other}"))),
    });
    rules.collect()
}

/// Returns the aggregates of a metrics file for [`resolve`].
pub fn named(spec: &Spec) -> Vec<NamedMetric> {
    let metric = |metric: &crate::op::window::metric::Metric| NamedMetric {
        name: metric.name.clone(),
        aggregate: metric.call.text().to_owned(),
        filter: metric.filter.as_ref().map(|filter| filter.text().to_owned()),
        by: metric.by.iter().map(|by| by.text.clone()).collect(),
        is_session: matches!(metric.shape, Shape::Session { .. }),
    };
    spec.metrics.iter().map(metric).collect()
}

/// Resolves rules: names of metrics, expressions, and ids that occur twice. `metrics` is `None` without `-m`.
pub fn resolve(texts: Vec<RuleText>, metrics: Option<&[NamedMetric]>) -> RuleSet {
    let mut set = RuleSet::default();
    for (number, text) in (1..).zip(texts) {
        let word = |name: &str| text.get(name).and_then(Value::as_str).map(str::to_owned);
        let rule_id = word("rule_id").or_else(|| word("name")).map(|text| rule_id(&text));
        let name = word("name").or_else(|| word("rule_id")).unwrap_or_else(|| format!("number {number}"));
        let checked = RuleDefinition::parse(text, metrics).and_then(|rule| {
            Expressions::parse(&rule.measure, &mut Leaves::new(&rule.measure.input.schema()))?;
            let is_same = |other: &&RuleDefinition| other.rule.rule_id == rule.rule.rule_id;
            match set.rules.iter().find(is_same) {
                Some(other) => Err(Error::config(format!("duplicate rule_id, the one of rule {}", other.rule.name))),
                None => Ok(rule),
            }
        });
        match checked {
            Ok(rule) => set.rules.push(rule),
            Err(error) => set.bad.push(BadRule { name, rule_id, number, place: None, error }),
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> RuleSet {
        resolve(of_toml(text).unwrap(), None)
    }

    const GOOD: &str = "[[rule]]\nname = 'errors'\naggregate = 'count(*)'\nwhere = \"event_type = 'error'\"\nby = ['source']\n\
        condition = 'GREATER_THAN'\nthreshold = 5\nwindow_seconds = 60\nfor = '1m'\nnotification_channel = 'ops, mail'\n";

    #[test]
    fn a_rule_reads_back_as_written() {
        for more in
            ["", "share_of = 'event'\n", "compare = '2m'\n", "labels = { team = 'shop' }\nsummary = '{source}'\n"]
        {
            let set = set(&format!("{GOOD}{more}"));
            assert!(set.bad.is_empty(), "{:?}", set.bad);
            let Value::Object(fields) = set.rules[0].to_fields() else { panic!("an object") };
            assert_eq!(resolve(vec![fields], None).rules, set.rules);
        }
        let anomaly = GOOD.replace("threshold = 5\n", "anomaly = { z = 3, baseline = '1h', min = 30 }\n");
        let rules = set(&anomaly).rules;
        let Value::Object(fields) = rules[0].to_fields() else { panic!("an object") };
        assert_eq!(resolve(vec![fields], None).rules, rules);
        assert_eq!(rules[0].channels, ["ops", "mail"]);
    }

    #[test]
    fn a_bad_rule_is_named_and_the_others_go_on() {
        let rest = "condition = 'gt'\nthreshold = 1\nwindow_seconds = 60\n";
        for (text, why) in [
            ("[[rule]]\nname = 'a'\nmetric_name = 'x'\n", "needs the metrics file"),
            ("[[rule]]\nname = 'a'\naggregate = 'summe(x)'\n", "unknown aggregate summe"),
            ("[[rule]]\nname = 'a'\naggregate = 'count(*)'\nwhere = 'x >'\n", "x >"),
            ("[[rule]]\nname = 'a'\naggregate = 'count(*)'\nthresh = 1\n", "unknown field thresh"),
            ("[[rule]]\nname = 'a'\naggregate = 'count(*)'\ninput = 'late'\n", "expected event, dead or metric"),
            ("[[rule]]\nname = 'a'\naggregate = 'count(*)'\nfor = '90'\n", ""),
            ("[[rule]]\nname = 'a'\naggregate = 'count(*)'\nfor = '1500ms'\n", "expected whole seconds"),
            ("[[rule]]\nname = 'a'\naggregate = 'count(*)'\nenabled = true\nis_active = true\n", "found both"),
        ] {
            let found = set(&format!("{text}{rest}\n{GOOD}"));
            assert!(found.rules.iter().any(|rule| rule.rule.name == "errors"));
            match why {
                "" => assert!(found.bad.is_empty(), "{text}: {:?}", found.bad),
                why => {
                    assert_eq!(found.bad.len(), 1, "{text}");
                    assert_eq!(found.bad[0].name, "a");
                    assert!(found.bad[0].error.to_string().contains(why), "{text}: {}", found.bad[0].error);
                }
            }
        }
    }
}
