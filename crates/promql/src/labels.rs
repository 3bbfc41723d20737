//! Sets of labels, the names of labels, and matchers.

use crate::error::{QueryError, Result};
use regex::Regex;
use std::collections::BTreeMap;
use std::fmt;

/// The label with the name of a metric.
pub const NAME: &str = "__name__";

/// Labels with their values, in the order of their names. No value is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSet(Vec<LabelValue>);

/// A label and its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelValue {
    /// The name of the label.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl LabelSet {
    /// Makes a set. A label without a text is none; of several with one name the last is taken.
    pub fn new<N: Into<String>, V: Into<String>>(labels: impl IntoIterator<Item = (N, V)>) -> Self {
        let sorted: BTreeMap<String, String> =
            labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let labels = sorted.into_iter().filter(|(_, value)| !value.is_empty());
        Self(labels.map(|(name, value)| LabelValue { name, value }).collect())
    }

    /// Returns the labels, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &LabelValue> {
        self.0.iter()
    }

    /// Returns the value of a label; an empty text if it has none.
    pub fn value(&self, name: &str) -> &str {
        let found = self.0.binary_search_by(|label| label.name.as_str().cmp(name));
        found.ok().and_then(|at| self.0.get(at)).map_or("", |label| &label.value)
    }

    /// Returns the labels whose names fit.
    pub fn filtered(&self, mut fits: impl FnMut(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|label| fits(&label.name)).cloned().collect())
    }

    /// Returns them without the name of the metric.
    pub fn without_name(&self) -> Self {
        self.filtered(|name| name != NAME)
    }
}

impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, LabelValue { name, value }) in self.0.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if at > 0 { ", " } else { "" })?;
        }
        f.write_str("}")
    }
}

/// Returns the name of the label of a dimension: characters that a label cannot have become `_`.
pub fn label_name(dimension: &str) -> String {
    let fits = |at: usize, char: char| char == '_' || char.is_ascii_alphabetic() || at > 0 && char.is_ascii_digit();
    let name: String =
        dimension.chars().enumerate().map(|(at, char)| if fits(at, char) { char } else { '_' }).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

/// Returns the names of the labels of dimensions, in their order. Errors: two dimensions have one label.
pub fn label_names<'a>(dimensions: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>> {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    let mut names = vec![];
    for dimension in dimensions {
        let name = label_name(dimension);
        if let Some(other) = known.insert(name.clone(), dimension).filter(|other| *other != dimension) {
            let message = format!("the dimensions '{other}' and '{dimension}' have the same label {name}");
            return Err(QueryError::bad_data(message));
        }
        names.push(name);
    }
    Ok(names)
}

/// How a matcher compares a value.
#[derive(Clone, Debug)]
enum Comparison {
    Equal(String),
    NotEqual(String),
    Like(Regex),
    Unlike(Regex),
}

/// A matcher of a label. A label that is missing has an empty text.
#[derive(Clone, Debug)]
pub struct LabelMatcher {
    name: String,
    comparison: Comparison,
}

impl LabelMatcher {
    /// Makes a matcher of one value.
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), comparison: Comparison::Equal(value.to_owned()) }
    }

    /// Makes a matcher of every other value.
    pub fn not_equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), comparison: Comparison::NotEqual(value.to_owned()) }
    }

    /// Makes a matcher of the values that a pattern matches whole; with `like` false of the others. Errors: it is no
    /// pattern.
    pub fn pattern(name: &str, pattern: &str, like: bool) -> Result<Self> {
        let wrong = |error: &regex::Error| {
            let error = error.to_string();
            QueryError::bad_data(format!("{name}: invalid pattern {pattern:?}: {}", error.lines().last().unwrap_or("")))
        };
        let regex = Regex::new(&format!("^(?s:{pattern})$")).map_err(|error| wrong(&error))?;
        let comparison = if like { Comparison::Like(regex) } else { Comparison::Unlike(regex) };
        Ok(Self { name: name.to_owned(), comparison })
    }

    /// Returns the name of its label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the only value that it matches, if it is such a matcher.
    pub fn only_value(&self) -> Option<&str> {
        match &self.comparison {
            Comparison::Equal(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it matches a value.
    pub fn matches(&self, value: &str) -> bool {
        match &self.comparison {
            Comparison::Equal(wanted) => wanted == value,
            Comparison::NotEqual(other) => other != value,
            Comparison::Like(pattern) => pattern.is_match(value),
            Comparison::Unlike(pattern) => !pattern.is_match(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_a_label_cannot_have_become_underscores_and_two_of_one_name_are_refused() {
        assert_eq!(label_names(["a b", "9x", "x9", "é"]).unwrap(), ["a_b", "_x", "x9", "_"]);
        let error = label_names(["a b", "a-b"]).unwrap_err().to_string();
        assert_eq!(error, "the dimensions 'a b' and 'a-b' have the same label a_b");
    }

    #[test]
    fn a_matcher_compares_whole_values_and_a_missing_label_is_an_empty_text() {
        let labels = LabelSet::new([("b", "2"), ("a", "xyz"), ("c", "")]);
        assert_eq!((labels.to_string(), labels.value("c")), ("{a=\"xyz\", b=\"2\"}".to_owned(), ""));
        let like = |pattern: &str| LabelMatcher::pattern("a", pattern, true).unwrap().matches(labels.value("a"));
        assert_eq!([like("y"), like("x.z"), like("x|xyz"), like(".*")], [false, true, true, true]);
        assert!(LabelMatcher::equal("d", "").matches(labels.value("d")));
        assert!(!LabelMatcher::not_equal("a", "xyz").matches("xyz"));
        let error = LabelMatcher::pattern("a", "(", true).unwrap_err().to_string();
        assert!(error.starts_with("a: invalid pattern \"(\""), "{error}");
    }
}
