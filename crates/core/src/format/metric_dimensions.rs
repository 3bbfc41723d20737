//! Reads metrics whose dimensions are columns ([`super::metric_columns`]): a column that is not one of a metric's is a
//! dimension.
//!
//! An empty field is a dimension that is NULL, or one that the row's metric does not have: metrics with several `by`
//! share a file. The row's id tells which, because it is a digest of the dimensions. All dimensions that may be either
//! are tried: first those that rows before had, then by the number of nulls, from both ends, up to [`TRIES_MAX`]
//! combinations. A row that none of them fits is a fault.

use super::metric_columns::dimension_name;
use crate::expr::write_dimensions;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::metric::{COLUMNS, column, metric_id};
use crate::time::parse_instant;
use std::collections::HashSet;

/// Maximum combinations of NULL and absent dimensions that are tried for a row. Of 12 dimensions these are all
/// combinations; of more dimensions, those in which the fewest or the most are NULL.
const TRIES_MAX: usize = 4096;
/// Maximum sets of dimensions that are kept, one for each `by` of the file.
const KNOWN_MAX: usize = 64;

/// The columns of dimensions in a file of metrics.
pub struct DimensionReader {
    /// For each column of the file the name of its dimension, if it is one.
    names: Vec<Option<String>>,
    /// The columns of the id and of the other values of which the id is a digest.
    key: KeyColumns,
    /// A dimension that has two columns.
    duplicate: Option<String>,
    /// The sets of dimensions that rows had; the last one found is the first.
    known: Vec<Vec<bool>>,
}

/// The columns that identify a row.
struct KeyColumns {
    id: Option<usize>,
    name: Option<usize>,
    start: Option<usize>,
    end: Option<usize>,
}

/// The id of a row, and the values of which it is a digest, without the dimensions.
struct RowKey<'a> {
    id: [u8; 16],
    name: &'a str,
    start: i64,
    end: i64,
}

impl KeyColumns {
    /// Reads them; `None` if one is missing or wrong, which is a fault of the row anyway.
    fn read<'a>(&self, cells: &[Option<&'a str>]) -> Option<RowKey<'a>> {
        let text = |column: Option<usize>| *cells.get(column?)?;
        Some(RowKey {
            id: uuid::Uuid::try_parse(text(self.id)?).ok()?.into_bytes(),
            name: text(self.name)?,
            start: parse_instant(text(self.start)?)?,
            end: parse_instant(text(self.end)?)?,
        })
    }
}

impl DimensionReader {
    /// Creates the reader of a file with these columns; `None` if it has its dimensions as JSON.
    pub fn new(columns: &[&str]) -> Option<Self> {
        if columns.contains(&COLUMNS[column::DIMENSIONS]) {
            return None;
        }
        let dimension = |name: &&str| (!COLUMNS.contains(name)).then(|| dimension_name(name).to_owned());
        let names: Vec<Option<String>> = columns.iter().map(dimension).collect();
        let mut seen = HashSet::new();
        let duplicate = names.iter().flatten().find(|name| !seen.insert(name.as_str())).cloned();
        let at = |index: usize| columns.iter().position(|name| *name == COLUMNS[index]);
        let key = KeyColumns {
            id: at(column::METRIC_ID),
            name: at(column::METRIC_NAME),
            start: at(column::WINDOW_START),
            end: at(column::WINDOW_END),
        };
        Some(Self { names, key, duplicate, known: vec![] })
    }

    /// Whether a column of the file is a dimension.
    pub fn has(&self, column: usize) -> bool {
        self.names.get(column).is_some_and(Option::is_some)
    }

    /// Appends the dimensions of a row as canonical JSON. `cells` are all fields of the row; `None` is an empty one
    /// without quotes.
    pub fn write(&mut self, cells: &[Option<&str>], out: &mut String) -> Result<(), Fault> {
        let fault = |message: String| Err(Fault::new(ErrorType::EnvelopeError, message));
        if let Some(name) = &self.duplicate {
            return fault(format!("expected one column of the dimension '{name}', found two"));
        }
        let columns = self.names.iter().zip(cells).filter_map(|(name, cell)| Some((name.as_deref()?, *cell)));
        let (names, values): (Vec<&str>, Vec<Option<&str>>) = columns.unzip();
        let write = |has: &[bool], out: &mut String| {
            let of_row = || has.iter().enumerate().filter(|(_, has)| **has);
            let names: Vec<&str> = of_row().map(|(at, _)| names[at]).collect();
            let values: Vec<Option<&str>> = of_row().map(|(at, _)| values[at]).collect();
            write_dimensions(&names, &values, out);
        };
        let empty: Vec<usize> = (0..values.len()).filter(|at| values[*at].is_none()).collect();
        let all = vec![true; values.len()];
        let Some(key) = self.key.read(cells).filter(|_| !empty.is_empty()) else {
            write(&all, out);
            return Ok(());
        };
        let mut text = String::new();
        let mut fits = |has: &[bool]| {
            text.clear();
            write(has, &mut text);
            metric_id(key.name, key.start, key.end, &text) == key.id
        };
        // The values of a row belong to its metric.
        let could = |has: &[bool]| has.iter().zip(&values).all(|(has, value)| *has || value.is_none());
        let found = match self.known.iter().position(|has| could(has) && fits(has)) {
            Some(at) => {
                let has = self.known.remove(at);
                Some(has)
            }
            None => combinations(empty.len()).take(TRIES_MAX).find_map(|nulls| {
                let mut has = all.clone();
                empty.iter().enumerate().for_each(|(bit, at)| has[*at] = nulls >> bit & 1 == 1);
                fits(&has).then_some(has)
            }),
        };
        let Some(has) = found else {
            let id = uuid::Uuid::from_bytes(key.id);
            return fault(format!(
                "'metric_id': expected the id of the row with each empty dimension NULL or absent, found {id}"
            ));
        };
        write(&has, out);
        self.known.insert(0, has);
        self.known.truncate(KNOWN_MAX);
        Ok(())
    }
}

/// Returns sets of `count` elements as bits: those with none and all of them, one and all but one, and so on.
fn combinations(count: usize) -> impl Iterator<Item = u64> {
    // More dimensions than bits: the others are absent.
    let count = count.min(63) as u32;
    let sizes = (0..=count / 2).flat_map(move |few| [Some(few), Some(count - few).filter(|many| *many != few)]);
    sizes.flatten().flat_map(move |size| {
        let first = (1u64 << size) - 1;
        std::iter::successors(Some(first), move |set| next_of_size(*set)).take_while(move |set| *set < 1 << count)
    })
}

/// Returns the next greater set with as many elements.
fn next_of_size(set: u64) -> Option<u64> {
    let lowest = set & set.wrapping_neg();
    let ripple = set.checked_add(lowest).filter(|_| lowest > 0)?;
    Some(ripple | ((set ^ ripple) >> 2).checked_div(lowest)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::canonical_dimensions;
    use crate::format::csv;
    use crate::format::test_data::{build, encode, texts};
    use crate::kind::{Kind, metric, schema_of_metrics};
    use crate::test_cases::cases;
    use proptest::prelude::*;

    const FILE: [&str; 10] = [
        "metric_name",
        "window_start",
        "window_end",
        "a",
        "b",
        "dimensions.value",
        "value",
        "rows",
        "metric_id",
        "pane",
    ];

    /// Reads a row of metric `m` with these dimensions.
    fn read(reader: &mut DimensionReader, dimensions: &str, cells: [Option<&str>; 3]) -> Result<String, String> {
        let id = uuid::Uuid::from_bytes(metric_id("m", 0, 60_000_000, dimensions)).to_string();
        let [a, b, value] = cells;
        let (start, end) = (Some("1970-01-01T00:00:00Z"), Some("1970-01-01T00:01:00Z"));
        let cells = [Some("m"), start, end, a, b, value, None, Some("1"), Some(&id), Some("0")];
        let mut out = String::new();
        reader.write(&cells, &mut out).map(|()| out).map_err(|fault| fault.message)
    }

    #[test]
    fn the_id_of_a_row_tells_a_null_dimension_from_one_that_the_metric_lacks() {
        let mut reader = DimensionReader::new(&FILE).unwrap();
        for (dimensions, cells) in [
            ("{}", [None; 3]),
            (r#"{"a":null}"#, [None; 3]),
            (r#"{"a":null,"b":null,"value":null}"#, [None; 3]),
            (r#"{"b":null,"value":"1"}"#, [None, None, Some("1")]),
            (r#"{"value":"1"}"#, [None, None, Some("1")]),
            (r#"{"a":"","b":null}"#, [Some(""), None, None]),
            (r#"{"a":"x","b":"y","value":"z"}"#, [Some("x"), Some("y"), Some("z")]),
        ] {
            assert_eq!(read(&mut reader, dimensions, cells).as_deref(), Ok(dimensions));
            assert_eq!(canonical_dimensions(dimensions).as_deref(), Some(dimensions));
        }
        let wrong = read(&mut reader, r#"{"c":"1"}"#, [None; 3]).unwrap_err();
        assert!(wrong.starts_with("'metric_id': expected the id of the row with each empty dimension"), "{wrong}");
        assert!(reader.has(5) && !reader.has(6) && !reader.has(99));
    }

    #[test]
    fn a_dimension_with_two_columns_is_a_fault_and_json_needs_no_columns() {
        let mut columns = FILE;
        columns[4] = "value of a";
        columns[5] = "dimensions.a";
        let mut reader = DimensionReader::new(&columns).unwrap();
        let wrong = read(&mut reader, "{}", [None; 3]).unwrap_err();
        assert_eq!(wrong, "expected one column of the dimension 'a', found two");
        assert!(DimensionReader::new(&["metric_name", "window_start", "dimensions"]).is_none());
    }

    const NAMES: [&str; 6] = ["a", "value", "dimensions.a", "", "pro,perties", "dimensions"];
    const TEXTS: [&str; 6] = ["", "x", " ", "\"", "a,b\r\n", "\tü"];

    proptest! {
        #![proptest_config(cases(200))]

        #[test]
        fn metrics_come_back_from_csv_and_tsv(
            rows in prop::collection::vec(
                (0u8..64, prop::array::uniform6(prop::option::of(0..TEXTS.len())), prop::option::of(any::<f64>()), 0i64..3),
                1..20,
            ),
        ) {
            let names = NAMES.map(str::to_owned);
            let mut builder = metric::Builder::default();
            for (has, cells, value, hour) in &rows {
                let of_row = || (0..NAMES.len()).filter(|at| has >> at & 1 == 1);
                let texts: Vec<Option<&str>> = of_row().map(|at| cells[at].map(|text| TEXTS[text])).collect();
                let mut dimensions = String::new();
                write_dimensions(&of_row().map(|at| NAMES[at]).collect::<Vec<_>>(), &texts, &mut dimensions);
                let (start, value) = (hour * 3_600_000_000, value.filter(|value| !value.is_nan()));
                let (name, end, dimensions) = ("m,\"", start + 3_600_000_000, dimensions.as_str());
                let row = metric::Row { name, start, end, dimensions, value, rows: 7, revision: 1, pane: 2, retracted: *hour == 1 };
                builder.push(&row).unwrap();
            }
            let batch = builder.finish(schema_of_metrics(&names)).unwrap();
            for format in [&csv::CSV, &csv::TSV] {
                let bytes = encode(format, std::slice::from_ref(&batch));
                let back = build(Kind::Metric, &texts(format, &bytes).unwrap());
                prop_assert_eq!(back.columns(), batch.columns(), "{}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[test]
    fn all_sets_of_few_elements_are_tried_once() {
        for count in 0..=12 {
            let mut sets: Vec<u64> = combinations(count).collect();
            assert_eq!(sets.len(), 1 << count);
            sets.sort_unstable();
            sets.dedup();
            assert_eq!(sets.len(), 1 << count);
        }
        assert_eq!(combinations(200).take(3).collect::<Vec<_>>(), [0, (1 << 63) - 1, 1]);
        let few = combinations(18).take(TRIES_MAX).filter(|set| set.count_ones() <= 3).count();
        assert_eq!(few, 1 + 18 + 153 + 816);
    }
}
