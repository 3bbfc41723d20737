//! Sorts the rows of a stream by a column or by a value below one.
//!
//! Rows are sorted in memory. With a limit the sorter keeps about as many rows as it returns. It ends the run rather
//! than use more than [`BYTES_MAX`] for them. Values of a path sort with numbers before other text, in both directions.
//! A text in quotes, as all are in CSV, is a number if expressions read it as one. NULL is last. Rows with the same
//! value stay in the order of the input.

use super::selection::{Name, Selection, SelectionFlag, parse_names};
use crate::error::{Error, Result};
use crate::expr::text_number;
use crate::json::scan::number_end;
use crate::json::text::unescape;
use crate::kind::is_json;
use crate::parse::excerpt::brief;
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Builder, RecordBatch, StringBuilder, UInt32Array,
};
use arrow::compute::{SortColumn, SortOptions, concat, interleave_record_batch, lexsort_to_indices};
use arrow::datatypes::Schema;
use std::sync::Arc;

/// Maximum bytes of the rows that are held.
const BYTES_MAX: usize = 1 << 30;
/// The rows of a returned batch, and the least number of rows that are held before some are left out.
const ROWS: usize = 8192;

/// A column or a path that rows are sorted by, and the direction.
pub struct SortKey {
    selection: Selection,
    /// Whether the values are JSON.
    is_json: bool,
    descending: bool,
}

impl SortKey {
    /// Parses `NAME`, or `-NAME` for descending order, for rows of this schema.
    ///
    /// Errors: exit status 2 if there is no such column.
    pub fn parse(text: &str, schema: &Schema) -> Result<Self> {
        let (name, descending) = Self::named(text)?;
        let selection = Selection::try_new(std::slice::from_ref(&name), schema, SelectionFlag::Sort)?;
        let is_json = is_json(selection.schema().field(0));
        let selection = selection.warning(vec![name.label.clone()], false);
        Ok(Self { selection, is_json, descending })
    }

    /// Returns the name, which may be that of no column, and whether the order is descending.
    ///
    /// Errors: exit status 2 if it is not one name.
    pub fn named(text: &str) -> Result<(Name, bool)> {
        let (descending, text) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        let names =
            parse_names(text).map_err(|_| Error::usage(format!("--sort: expected a name, found {}", brief(text))))?;
        match <[Name; 1]>::try_from(names) {
            Ok([name]) if name.is_all() => Err(Error::usage("--sort: expected one name, found *")),
            Ok([name]) => Ok((name, descending)),
            Err(_) => Err(Error::usage(format!("--sort: expected one name, found {}", brief(text)))),
        }
    }

    /// Returns the values that the rows of a batch are compared by, the first ones first.
    fn values(&mut self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let column = self.selection.apply(batch)?.column(0).clone();
        Ok(if self.is_json { numbers_and_texts(&column) } else { vec![column] })
    }

    /// Returns the order of rows with these values; of equal rows the first one is first.
    fn order(&self, values: Vec<ArrayRef>, limit: Option<usize>) -> Result<UInt32Array> {
        let rows = values.first().map_or(0, |values| values.len());
        let numbers: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..rows as u32));
        let options = Some(SortOptions { descending: self.descending, nulls_first: false });
        let column = |(values, options)| SortColumn { values, options };
        let columns: Vec<SortColumn> =
            values.into_iter().map(|values| (values, options)).chain([(numbers, None)]).map(column).collect();
        Ok(lexsort_to_indices(&columns, limit)?)
    }
}

/// The least integer beyond which not each integer is a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Splits JSON values into numbers, what orders integers that are one double, and other text.
fn numbers_and_texts(values: &ArrayRef) -> Vec<ArrayRef> {
    let (mut numbers, mut texts) = (Float64Builder::new(), StringBuilder::new());
    let mut integers: Vec<Option<i128>> = vec![];
    let values = values.as_string_opt::<i32>();
    for value in values.into_iter().flatten() {
        let text = value.map(|value| match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
            Some(text) => unescape(text),
            None => value.into(),
        });
        let number = text.as_deref().and_then(|text| text_number(text).or_else(|| beyond_doubles(text)));
        let integer = |number: f64| match number.abs() < EXACT_MAX {
            true => 0,
            // A double beyond the range of integers is the greatest of them.
            false => text.as_deref().and_then(|text| text.trim().parse().ok()).unwrap_or(number as i128),
        };
        integers.push(number.map(integer));
        numbers.append_option(number);
        texts.append_option(text.filter(|_| number.is_none()));
    }
    vec![Arc::new(numbers.finish()), Arc::new(Decimal128Array::from(integers)), Arc::new(texts.finish())]
}

/// Reads a JSON number that no double is near, such as 1e400. In an expression it is no number; here it is infinite.
fn beyond_doubles(text: &str) -> Option<f64> {
    let number = if number_end(text.as_bytes(), 0) == Some(text.len()) { text.parse().ok() } else { None };
    number.filter(|number: &f64| number.is_infinite())
}

/// Returns the bytes of the values of an array. Those of its buffers would count more than once: the columns of a frame
/// share the buffer of the frame.
fn bytes(array: &ArrayRef) -> usize {
    array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
}

/// Takes rows in any order.
pub struct Sorter {
    key: SortKey,
    /// The number of rows that are returned; `None`: all.
    limit: Option<usize>,
    held: Vec<RecordBatch>,
    /// The values of the rows, for each batch.
    values: Vec<Vec<ArrayRef>>,
    rows: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Sorter {
    /// Makes a sorter that returns the first `limit` rows in the order of `key`, or all.
    pub fn new(key: SortKey, limit: Option<u64>) -> Self {
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Self { key, limit, held: vec![], values: vec![], rows: 0, bytes: 0, bytes_max: BYTES_MAX }
    }

    /// Takes rows.
    ///
    /// Errors: exit status 2 if they need too much memory.
    pub fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.hold(batch)?;
        let is_large = self.bytes > self.bytes_max;
        let is_surplus = |limit: usize| self.rows >= limit.saturating_mul(2).max(ROWS) || is_large && self.rows > limit;
        if self.limit.is_some_and(is_surplus) {
            let first = self.take()?;
            first.into_iter().try_for_each(|batch| self.hold(batch))?;
        }
        if self.bytes <= self.bytes_max {
            return Ok(());
        }
        let remedy = match self.limit {
            None => "use --head N for the first rows, or --where and --since for fewer",
            Some(_) => "use --head with a lower number",
        };
        Err(Error::usage(format!(
            "--sort: expected rows of at most {} MiB in memory, found more after {} rows; {remedy}",
            self.bytes_max >> 20,
            self.rows
        )))
    }

    /// Returns a line if no row had the name.
    pub fn warning(&self) -> Option<String> {
        self.key.selection.warnings().into_iter().next()
    }

    fn hold(&mut self, batch: RecordBatch) -> Result<()> {
        let values = self.key.values(&batch)?;
        self.rows += batch.num_rows();
        self.bytes += batch.columns().iter().chain(&values).map(bytes).sum::<usize>();
        self.held.push(batch);
        self.values.push(values);
        Ok(())
    }

    /// Returns the first rows in order; none are held afterwards.
    pub fn take(&mut self) -> Result<Vec<RecordBatch>> {
        let (held, values) = (std::mem::take(&mut self.held), std::mem::take(&mut self.values));
        (self.rows, self.bytes) = (0, 0);
        let Some(first) = values.first() else { return Ok(vec![]) };
        let all = |at: usize| concat(&values.iter().map(|values| values[at].as_ref()).collect::<Vec<_>>());
        let order = self.key.order((0..first.len()).map(all).collect::<std::result::Result<_, _>>()?, self.limit)?;
        let places: Vec<(usize, usize)> =
            held.iter().enumerate().flat_map(|(at, batch)| (0..batch.num_rows()).map(move |row| (at, row))).collect();
        let order: Vec<(usize, usize)> = order.values().iter().map(|row| places[*row as usize]).collect();
        let batches: Vec<&RecordBatch> = held.iter().collect();
        order.chunks(ROWS).map(|part| Ok(interleave_record_batch(&batches, part)?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_events::events;
    use proptest::prelude::*;

    #[test]
    fn rows_that_need_too_much_memory_name_the_flags_that_leave_rows_out() {
        // The rows are one array in memory, which counts each time.
        let text = format!("{{\"n\":\"{}\"}}", "x".repeat(64 << 20));
        let batch = events(&[&text]);
        let mut sorter = Sorter::new(SortKey::parse("source", &batch.schema()).unwrap(), None);
        let error = (0..20).find_map(|_| sorter.push(batch.clone()).err()).expect("it is too much").to_string();
        let words = [
            "--sort: expected rows of at most 1024 MiB in memory, found more after 16 rows; ",
            "use --head N for the first rows, or --where and --since for fewer",
        ];
        assert_eq!(error, words.concat());
    }

    #[test]
    fn rows_that_share_a_buffer_count_once() {
        let texts: Vec<String> =
            (0..100).map(|at| format!("{{\"v\":{at},\"n\":\"{}\"}}", "x".repeat(64 << 10))).collect();
        let batch = events(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let mut sorter = Sorter::new(SortKey::parse("v", &batch.schema()).unwrap(), None);
        sorter.bytes_max = 8 << 20;
        (0..100).for_each(|at| sorter.push(batch.slice(at, 1)).unwrap());
        assert_eq!(sorter.take().unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 100);
    }

    #[test]
    fn wide_rows_beyond_the_limit_are_left_out_before_they_need_too_much_memory() {
        let sort = |limit: u64| {
            let at = |at: u64| events(&[&format!("{{\"v\":{},\"n\":\"{}\"}}", at * 7 % 100, "x".repeat(64 << 10))]);
            let mut sorter = Sorter::new(SortKey::parse("-v", &at(0).schema()).unwrap(), Some(limit));
            sorter.bytes_max = 4 << 20;
            (0..100).try_for_each(|n| sorter.push(at(n)))?;
            sorter.take()
        };
        let top = sort(3).unwrap();
        let texts = top.iter().flat_map(|batch| batch["properties"].as_string::<i32>().iter().flatten());
        assert_eq!(texts.map(|text| &text[..7]).collect::<Vec<_>>(), ["{\"v\":99", "{\"v\":98", "{\"v\":97"]);
        let error = sort(90).unwrap_err().to_string();
        assert!(error.starts_with("--sort: expected rows of at most 4 MiB in memory, found more after "), "{error}");
        assert!(error.ends_with(" rows; use --head with a lower number"), "{error}");
    }

    fn sorted(texts: &[String], cut: usize, name: &str, limit: Option<u64>) -> Vec<String> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let batch = events(&texts);
        let mut sorter = Sorter::new(SortKey::parse(name, &batch.schema()).unwrap(), limit);
        for start in (0..texts.len()).step_by(cut) {
            sorter.push(batch.slice(start, cut.min(texts.len() - start))).unwrap();
        }
        let rows = sorter.take().unwrap();
        let text = |batch: &RecordBatch| {
            batch["properties"].as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
        };
        rows.iter().flat_map(text).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..Default::default() })]
        #[test]
        fn rows_are_in_the_order_of_a_stable_sort_and_those_beyond_the_limit_are_left_out(
            values in proptest::collection::vec(proptest::option::of(-5i64..5), 1..60),
            cut in 1usize..9,
            limit in proptest::option::of(0u64..30),
            descending in any::<bool>(),
        ) {
            let text = |(at, value): (usize, &Option<i64>)| match value {
                Some(value) => format!("{{\"n\":{at},\"v\":{value}}}"),
                None => format!("{{\"n\":{at}}}"),
            };
            let texts: Vec<String> = values.iter().enumerate().map(text).collect();
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by_key(|at| match values[*at] {
                None => (true, 0),
                Some(value) => (false, if descending { -value } else { value }),
            });
            order.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
            let expected: Vec<String> = order.iter().map(|at| texts[*at].clone()).collect();
            prop_assert_eq!(sorted(&texts, cut, if descending { "-v" } else { "v" }, limit), expected);
        }
    }

    #[test]
    fn only_about_twice_as_many_rows_as_the_limit_are_held() {
        let texts: Vec<String> = (0..ROWS).map(|at| format!("{{\"v\":{}}}", (at * 7919) % ROWS)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let batch = events(&texts);
        let mut sorter = Sorter::new(SortKey::parse("-v", &batch.schema()).unwrap(), Some(3));
        for _ in 0..4 {
            sorter.push(batch.clone()).unwrap();
            assert!(sorter.rows <= ROWS, "{}", sorter.rows);
        }
        let top = sorter.take().unwrap();
        let greatest = format!("{{\"v\":{}}}", ROWS - 1);
        assert!(top[0]["properties"].as_string::<i32>().iter().eq([Some(greatest.as_str()); 3]));
    }

    #[test]
    fn numbers_come_before_text_also_in_quotes_and_null_is_last() {
        let values = ["\"b\"", "10", "\"9\"", "null", "\"-1.5\"", "true", "\"a\"", "1e1", "\"\""];
        let texts: Vec<String> = values.iter().map(|value| format!("{{\"v\":{value}}}")).collect();
        let order = |name: &str| {
            sorted(&texts, 4, name, None)
                .iter()
                .map(|text| text[5..text.len() - 1].to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(order("v"), r#""-1.5" "9" 10 1e1 "" "a" "b" true null"#);
        assert_eq!(order("-v"), r#"10 1e1 "9" "-1.5" true "b" "a" "" null"#);
    }

    #[test]
    fn quoted_numbers_are_those_of_expressions() {
        // In the order of their numbers, then of their texts.
        let values = [
            "\"-1e400\"",
            "\"-.5e1\"",
            "-1",
            "\"+.5\"",
            "\" 3\"",
            "\"\\t+5 \"",
            "\"007\"",
            "\"8.\"",
            "\"+9007199254740992\"",
            "\" 9007199254740993 \"",
            "\"009007199254740994\"",
            "1e400",
            "\"+\"",
            "\"0x9\"",
            "\"1_0\"",
            "\"Infinity\"",
            "\"NaN\"",
            "\"\u{661}\"",
        ];
        let text = |value: &str| format!("{{\"v\":{value}}}");
        let expected: Vec<String> = values.iter().map(|value| text(value)).collect();
        let mixed: Vec<String> = (0..values.len()).map(|at| text(values[at * 7 % values.len()])).collect();
        assert_eq!(sorted(&mixed, 4, "v", None), expected);
    }
}
