//! `--top`: of each window, only the rows of the keys with the greatest values leave.

use evt_core::error::{Error, Result};
use evt_core::kind;
use evt_core::op::window::metric::{Metric, Shape};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

/// Keys that are ranked together: those of metrics with the same dimensions, windows and lateness.
struct Ranking {
    /// The index of the metric whose value ranks the keys.
    by: usize,
    lateness: i64,
}

/// A window of a ranking, in the order in which windows leave (µs).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RankedWindow {
    fires: i64,
    end: i64,
    start: i64,
    ranking: usize,
}

/// Rows of one window whose keys have not been ranked.
struct UnrankedWindow {
    window: RankedWindow,
    keys: HashMap<String, KeyRows>,
    /// The place of the last row's metric.
    last_place: usize,
    /// The dimensions of the last row.
    last_dimensions: String,
}

/// The row of a metric.
#[derive(Clone, Copy)]
struct MetricResult {
    /// The index of the metric.
    metric: usize,
    value: Option<f64>,
    /// The number of events.
    rows: u64,
}

/// The rows of a key in a window.
#[derive(Default)]
struct KeyRows {
    dimensions: String,
    rank: Option<f64>,
    results: Vec<MetricResult>,
}

/// The numbers of keys and events that are not among the first keys of their windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OmittedKeys {
    /// Keys, once for each window.
    pub keys: u64,
    /// Events of these keys, once for each window.
    pub events: u64,
}

/// The order of the rows of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By the names of metrics, then by rank.
    Metrics,
    /// By rank.
    Keys,
}

/// The first keys of each window.
pub struct Top {
    keys: usize,
    names: Vec<String>,
    /// The place of each metric in the order of names.
    places: Vec<usize>,
    /// The ranking of each metric.
    members: Vec<usize>,
    rankings: Vec<Ranking>,
    /// For each ranking the part of a window that comes. The rows of a part are in the order of metrics, then of
    /// dimensions.
    coming: Vec<Option<UnrankedWindow>>,
    /// The first keys of the parts that came before.
    first: BTreeMap<RankedWindow, Vec<KeyRows>>,
    left_out: OmittedKeys,
}

impl KeyRows {
    /// Compares by rank: greater values first, NULL last, then by dimensions.
    fn compare(&self, other: &Self) -> Ordering {
        let by_value = match (self.rank, other.rank) {
            // The two zeros are one value.
            (Some(own), Some(other)) => (other + 0.0).total_cmp(&(own + 0.0)),
            (own, other) => other.is_some().cmp(&own.is_some()),
        };
        by_value.then_with(|| self.dimensions.cmp(&other.dimensions))
    }

    /// Returns the events of the key: those of the metric that counts most of them.
    fn events(&self) -> u64 {
        self.results.iter().map(|result| result.rows).max().unwrap_or(0)
    }
}

impl Top {
    /// Keeps `keys` keys of each window, ranked by the metric `of`, or by the first metric of those that share their
    /// keys and windows.
    ///
    /// Errors: exit status 2 if there is no such metric, or if windows have one key (sessions).
    pub fn new(keys: usize, of: Option<&str>, metrics: &[Metric]) -> Result<Self> {
        let names: Vec<String> = metrics.iter().map(|metric| metric.name.clone()).collect();
        if let Some(of) = of.filter(|of| !names.iter().any(|name| name == of)) {
            return Err(Error::usage(format!("--of: expected one of {}, found {of}", names.join(", "))));
        }
        let (mut members, mut rankings): (Vec<usize>, Vec<Ranking>) = (vec![], vec![]);
        for (index, metric) in metrics.iter().enumerate() {
            if matches!(metric.shape, Shape::Session { .. }) {
                return Err(Error::usage(format!(
                    "--top ranks the keys of a window; each key has sessions of its own, found {}",
                    metric.name
                )));
            }
            let is_same = |ranking: &Ranking| {
                let other = &metrics[ranking.by];
                (other.shape, other.lateness) == (metric.shape, metric.lateness)
                    && other.by.iter().map(|by| &by.text).eq(metric.by.iter().map(|by| &by.text))
            };
            let ranking = rankings.iter().position(is_same).unwrap_or(rankings.len());
            match rankings.get_mut(ranking) {
                None => rankings.push(Ranking { by: index, lateness: metric.lateness }),
                Some(known) if of == Some(metric.name.as_str()) => known.by = index,
                Some(_) => {}
            }
            members.push(ranking);
        }
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_unstable_by_key(|metric| &names[*metric]);
        let mut places = vec![0; names.len()];
        order.iter().enumerate().for_each(|(place, metric)| places[*metric] = place);
        let coming = rankings.iter().map(|_| None).collect();
        let (first, left_out) = (BTreeMap::new(), OmittedKeys::default());
        Ok(Self { keys, names, places, members, rankings, coming, first, left_out })
    }

    /// Takes a row of a window that fires. The rows of one window may come in several parts (ranges of keys), each with
    /// all rows of its keys.
    pub fn push(&mut self, row: &kind::metric::Row<'_>) -> Result<()> {
        let Some(metric) = self.names.iter().position(|name| name == row.name) else {
            return Err(Error::broken(format!("a row of an unknown metric {}", row.name)));
        };
        let at = self.members[metric];
        let Ranking { by, lateness } = self.rankings[at];
        let fires = row.end.saturating_add(lateness);
        let window = RankedWindow { fires, end: row.end, start: row.start, ranking: at };
        let place = self.places[metric];
        let is_next = |coming: &UnrankedWindow| {
            coming.window != window || (place, row.dimensions) < (coming.last_place, &coming.last_dimensions)
        };
        if self.coming[at].as_ref().is_some_and(is_next) {
            self.settle(at);
        }
        let none = || UnrankedWindow { window, keys: HashMap::new(), last_place: 0, last_dimensions: String::new() };
        let UnrankedWindow { keys, last_place, last_dimensions, .. } = self.coming[at].get_or_insert_with(none);
        *last_place = place;
        row.dimensions.clone_into(last_dimensions);
        if !keys.contains_key(row.dimensions) {
            let key = KeyRows { dimensions: row.dimensions.to_owned(), ..KeyRows::default() };
            keys.insert(row.dimensions.to_owned(), key);
        }
        if let Some(key) = keys.get_mut(row.dimensions) {
            if metric == by {
                key.rank = row.value;
            }
            key.results.push(MetricResult { metric, value: row.value, rows: row.rows });
        }
        Ok(())
    }

    /// Ranks the keys of the part that came with those of the same window that came before.
    fn settle(&mut self, ranking: usize) {
        let Some(UnrankedWindow { window, keys, .. }) = self.coming[ranking].take() else { return };
        let first = self.first.entry(window).or_default();
        first.extend(keys.into_values());
        first.sort_unstable_by(KeyRows::compare);
        for key in first.drain(self.keys.min(first.len())..) {
            self.left_out.keys += 1;
            self.left_out.events += key.events();
        }
    }

    /// Emits the rows of the first keys of all windows that came, by window; of equal metrics or keys the first key or
    /// metric first.
    pub fn finish(&mut self, order: Order, emit: &mut dyn FnMut(&kind::metric::Row<'_>) -> Result<()>) -> Result<()> {
        (0..self.rankings.len()).for_each(|ranking| self.settle(ranking));
        for (RankedWindow { start, end, .. }, keys) in std::mem::take(&mut self.first) {
            let mut rows: Vec<(&str, MetricResult)> = vec![];
            for KeyRows { dimensions, results, .. } in &keys {
                rows.extend(results.iter().map(|result| (dimensions.as_str(), *result)));
            }
            if order == Order::Metrics {
                // The sort is stable, so keys stay in the order of ranks.
                rows.sort_by_key(|(_, result)| self.places[result.metric]);
            }
            for (dimensions, MetricResult { metric, value, rows }) in rows {
                let name = &self.names[metric];
                emit(&kind::metric::Row {
                    name,
                    start,
                    end,
                    dimensions,
                    value,
                    rows,
                    revision: 0,
                    pane: 0,
                    retracted: false,
                })?;
            }
        }
        Ok(())
    }

    /// Returns the numbers of keys and events left out.
    pub fn left_out(&self) -> OmittedKeys {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::op::window::spec;
    use proptest::prelude::*;

    const METRICS: &str = "[defaults]\nsize = '1h'\nby = ['k']\n[[metric]]\nname = 'z'\n[[metric]]\nname = 'a'\n\
                           [[metric]]\nname = 'other'\nby = []\n";

    fn row<'a>(name: &'a str, dimensions: &'a str, value: Option<f64>, rows: u64) -> kind::metric::Row<'a> {
        kind::metric::Row {
            name,
            start: 0,
            end: 3_600_000_000,
            dimensions,
            value,
            rows,
            revision: 0,
            pane: 0,
            retracted: false,
        }
    }

    fn results(top: &mut Top) -> Vec<(String, String, Option<f64>)> {
        let mut found = vec![];
        let take = &mut |row: &kind::metric::Row<'_>| {
            found.push((row.name.to_owned(), row.dimensions.to_owned(), row.value));
            Ok(())
        };
        top.finish(Order::Metrics, take).unwrap();
        found
    }

    #[test]
    fn keys_are_ranked_by_one_metric_and_the_rows_of_all_follow() {
        let metrics = spec::file(METRICS).unwrap().metrics;
        let (mut top, mut values) = (Top::new(2, Some("a"), &metrics).unwrap(), vec![]);
        for (dimensions, a, z) in
            [("k1", Some(1.0), 9), ("k2", None, 8), ("k3", Some(f64::NAN), 1), ("k4", Some(1.0), 2)]
        {
            top.push(&row("a", dimensions, a, 1)).unwrap();
            values.push((dimensions, z));
        }
        // As in memory: the windows of metrics with other keys fire between those of the same keys.
        top.push(&row("other", "{}", Some(4.0), 4)).unwrap();
        for (dimensions, z) in values {
            top.push(&row("z", dimensions, Some(z as f64), z)).unwrap();
        }
        let found = results(&mut top);
        let found: Vec<_> = found.iter().map(|(name, dimensions, _)| (name.as_str(), dimensions.as_str())).collect();
        assert_eq!(found, [("a", "k3"), ("a", "k1"), ("z", "k3"), ("z", "k1"), ("other", "{}")]);
        assert_eq!(top.left_out(), OmittedKeys { keys: 2, events: 10 });
    }

    #[test]
    fn a_metric_that_is_not_there_and_sessions_are_refused() {
        let error = |text: &str, of| Top::new(1, of, &spec::file(text).unwrap().metrics).err().unwrap().to_string();
        assert!(error(METRICS, Some("b")).contains("--of: expected one of z, a, other, found b"));
        assert!(error("[[metric]]\ngap = '1h'", None).contains("each key has sessions of its own, found count(*)"));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 100,
            rng_algorithm: prop::test_runner::RngAlgorithm::ChaCha,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// In however many parts the keys of two windows come, the first ones are those of a sort of all.
        #[test]
        fn parts_of_windows_give_the_first_keys_of_all(
            keys in prop::collection::vec((prop::option::of(-3i8..3), 1u64..9, any::<bool>(), 0u8..3), 0..40),
            count in 1usize..6,
        ) {
            let metrics = spec::file("[[metric]]\nname = 'n'\nsize = '1h'\nby = ['k']").unwrap().metrics;
            let mut top = Top::new(count, None, &metrics).unwrap();
            let names: Vec<String> = (0..keys.len()).map(|at| format!("{at:02}")).collect();
            let mut parts: Vec<_> = keys.iter().zip(&names).collect();
            parts.sort_by_key(|((_, _, later, part), _)| (*part, *later));
            for ((value, rows, later, _), name) in parts {
                let start = i64::from(*later) * 3_600_000_000;
                let row = row("n", name, value.map(f64::from), *rows);
                top.push(&kind::metric::Row { start, end: start + 3_600_000_000, ..row }).unwrap();
            }
            let found: Vec<String> = results(&mut top).into_iter().map(|(_, dimensions, _)| dimensions).collect();
            let (mut wanted, mut events) = (vec![], 0);
            for window in [false, true] {
                let mut all: Vec<_> = keys.iter().zip(&names).filter(|((_, _, later, _), _)| *later == window).collect();
                all.sort_by_key(|((value, ..), name)| (value.is_none(), value.map(|value| -value), (*name).clone()));
                events += all.iter().skip(count).map(|((_, rows, ..), _)| *rows).sum::<u64>();
                wanted.extend(all.into_iter().take(count).map(|(_, name)| name.clone()));
            }
            prop_assert_eq!(top.left_out(), OmittedKeys { keys: (keys.len() - wanted.len()) as u64, events });
            prop_assert_eq!(found, wanted);
        }
    }
}
