//! A view: the values of a series over one window, by group. Rules with the same series and window share it.

use super::rule::Lags;
use super::series::{Arrival, EventSeries};
use crate::error::Result;
use crate::expr::write_dimensions;
use crate::op::snapshot;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// A group is gone when it had no row in so many windows.
pub const WINDOWS_KNOWN: i64 = 10;

/// The value of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupValue {
    /// The value; `None` is NULL.
    pub value: Option<f64>,
    /// Rows in the window.
    pub rows: u64,
    /// The newest slice with a row; `i64::MIN` if there was none.
    pub last: i64,
    /// The dimensions as canonical JSON.
    pub dimensions: String,
    /// The values of the dimensions.
    pub values: Vec<Option<String>>,
    /// Whether it had no row in the last [`WINDOWS_KNOWN`] windows. Only the alerts of rules keep such a group.
    pub is_silent: bool,
    /// Earlier values, ascending by instant.
    history: History,
}

/// Earlier values of a group, ascending by instant.
type History = VecDeque<EarlierValue>;

/// The earlier values of a group that is gone.
#[derive(Debug)]
struct GoneHistory {
    /// Since when the group is gone.
    since: i64,
    /// The last one is NULL: a group that is gone has no value.
    history: History,
}

/// The value of a group from an instant on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct EarlierValue {
    from: i64,
    /// `None` is NULL.
    value: Option<f64>,
}

/// The key of a group that is gone, and since when.
struct GoneKey {
    since: i64,
    /// The bytes of the key. Its number would count against the limit of groups of the series.
    key: Vec<u8>,
}

impl GroupValue {
    /// Returns the value at an earlier instant, as it was evaluated then.
    pub fn at(&self, g: i64) -> Option<f64> {
        let after = self.history.partition_point(|earlier| earlier.from <= g);
        self.history.get(after.checked_sub(1)?)?.value
    }

    /// Notes at instant `g` that it had no row for so long that it has no value to compare with.
    fn fall_silent(&mut self, g: i64) {
        self.is_silent = true;
        if self.history.back().is_some_and(|last| last.value.is_some()) {
            self.history.push_back(EarlierValue { from: g, value: None });
        }
    }

    /// Notes a row in `slice`; returns whether it was silent.
    fn note_row(&mut self, slice: i64) -> bool {
        self.last = self.last.max(slice);
        let was_silent = std::mem::take(&mut self.is_silent);
        if was_silent {
            // As that of a new group: the next value is a change of NULL.
            self.value = None;
        }
        was_silent
    }

    /// Sets the value at instant `g`; returns whether it changed. `span` is how long earlier values are needed.
    fn set(&mut self, value: Option<f64>, g: i64, span: i64) -> bool {
        let same = |a: Option<f64>, b: Option<f64>| a.map(f64::to_bits) == b.map(f64::to_bits);
        let is_new = !same(self.value, value);
        self.value = value;
        if span > 0 && (is_new || self.history.is_empty()) {
            self.history.push_back(EarlierValue { from: g, value });
        }
        is_new
    }

    /// Drops the values that are older than `span` at instant `g`.
    fn forget(&mut self, g: i64, span: i64) {
        while self.history.get(1).is_some_and(|earlier| earlier.from <= g - span) {
            self.history.pop_front();
        }
    }
}

/// The groups that had no row in the last [`WINDOWS_KNOWN`] windows.
#[derive(Default)]
struct SilentGroups {
    keys: BTreeSet<u32>,
    /// Whether some are new since [`WindowView::forget_silent`].
    has_new: bool,
}

/// The values of one series over one window.
pub struct WindowView {
    /// The number of its series.
    pub series: usize,
    /// Length of the window (seconds).
    pub window: i64,
    /// The groups with rows in the last [`WINDOWS_KNOWN`] windows, and those that alerts keep; the group without
    /// dimensions is always among them.
    pub groups: BTreeMap<u32, GroupValue>,
    /// The names of the dimensions.
    pub by: Vec<String>,
    /// The lags of the earlier values that its rules need.
    lags: BTreeSet<Lags>,
    /// How long earlier values are needed (seconds).
    span: i64,
    /// Groups that may fall silent, by the instant.
    expiry: BTreeMap<i64, Vec<u32>>,
    /// The groups of `groups` that are silent.
    silent: SilentGroups,
    /// The earlier values of groups that are gone, by the bytes of their keys.
    gone: HashMap<Vec<u8>, GoneHistory>,
    /// The groups of `gone` in the order in which they became gone; some may have rows again.
    gone_order: VecDeque<GoneKey>,
    /// The value of a window without rows.
    empty: Option<f64>,
    /// The last instant at which a value changed.
    changed_at: i64,
}

impl WindowView {
    /// Makes a view of series number `number`.
    pub fn new(number: usize, series: &mut EventSeries, window: i64) -> Result<Self> {
        let by: Vec<String> = series.expressions.by.iter().map(|by| by.name.clone()).collect();
        let empty = series.empty_value(window);
        let mut groups = BTreeMap::new();
        if by.is_empty() {
            let only =
                GroupValue { value: empty, last: i64::MIN, dimensions: "{}".to_owned(), ..GroupValue::default() };
            groups.insert(series.key_of(&[])?, only);
        }
        Ok(Self {
            series: number,
            window,
            groups,
            by,
            lags: BTreeSet::new(),
            span: 0,
            expiry: BTreeMap::new(),
            silent: SilentGroups::default(),
            gone: HashMap::new(),
            gone_order: VecDeque::new(),
            empty,
            changed_at: i64::MIN,
        })
    }

    /// Returns the view as one of series number `number`.
    pub fn of_series(self, number: usize) -> Self {
        Self { series: number, ..self }
    }

    /// Keeps the earlier values at these lags from instant `g` on.
    pub fn set_lags(&mut self, lags: BTreeSet<Lags>, g: i64) {
        self.span = lags.iter().map(|lags| lags.span()).max().unwrap_or(0);
        self.lags = lags;
        if self.span == 0 {
            self.gone.clear();
            self.gone_order.clear();
            return self.groups.values_mut().for_each(|group| group.history.clear());
        }
        for group in self.groups.values_mut().filter(|group| group.history.is_empty()) {
            let value = group.value.filter(|_| !group.is_silent);
            group.history.push_back(EarlierValue { from: g, value });
        }
    }

    /// Releases its groups.
    pub fn close(&self, series: &mut EventSeries) {
        self.groups.keys().for_each(|key| series.release(*key));
    }

    /// Returns the first instant after `g` at which something may change.
    pub fn next(&self, series: &EventSeries, g: i64) -> Option<i64> {
        let leaves = series.slice_after(g - self.window).map(|slice| slice + self.window);
        let gone = self.expiry.keys().next().copied();
        let differs = self.span > 0 && self.changed_at.saturating_add(self.span) >= g;
        let earlier = if differs { self.next_earlier(g) } else { None };
        [leaves, gone, earlier].into_iter().flatten().min()
    }

    /// Returns the first instant after `g` at which the earlier value of a group at a lag is another one than before.
    fn next_earlier(&self, g: i64) -> Option<i64> {
        let mut next: Option<i64> = None;
        for group in self.groups.values() {
            for lag in self.lags.iter().flat_map(|lags| lags.each()) {
                let change = group.history.partition_point(|earlier| earlier.from <= g - lag);
                let Some(earlier) = group.history.get(change) else { continue };
                let at = earlier.from + lag;
                if at == g + 1 {
                    return Some(at);
                }
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        next
    }

    /// Evaluates instant `g`; `previous` is the one that was evaluated before. Returns the groups whose value or rows
    /// may have changed, ascending.
    pub fn evaluate(&mut self, series: &mut EventSeries, arrivals: &[Arrival], previous: i64, g: i64) -> Vec<u32> {
        let mut changed: BTreeSet<u32> = BTreeSet::new();
        for Arrival { key, slice } in arrivals {
            if self.arrive(series, *key, *slice, g) {
                changed.insert(*key);
            }
        }
        // Everything older than the window leaves it, even if instants were skipped.
        let left = series.groups_of(previous.saturating_sub(self.window).saturating_add(1)..g - self.window + 1);
        changed.extend(left.filter(|key| self.groups.contains_key(key)));
        let changed: Vec<u32> = changed.into_iter().collect();
        let sums = series.sums(g - self.window + 1..g + 1, &changed);
        for key in &changed {
            let (value, rows) = sums.get(key).copied().unwrap_or((self.empty, 0));
            let Some(group) = self.groups.get_mut(key) else { continue };
            group.rows = rows;
            if group.set(value, g, self.span) {
                self.changed_at = g;
            }
            group.forget(g, self.span);
        }
        self.fall_silent(g);
        changed
    }

    /// Notes rows of a group; returns whether the group is known.
    fn arrive(&mut self, series: &mut EventSeries, key: u32, slice: i64, g: i64) -> bool {
        // A row that was in no window of this view does not make its group known, whatever windows other rules have.
        let is_in_window = slice > g.saturating_sub(self.window);
        if let Some(group) = self.groups.get_mut(&key) {
            if is_in_window && group.note_row(slice) {
                self.silent.keys.remove(&key);
                self.expiry.entry(slice + WINDOWS_KNOWN * self.window).or_default().push(key);
            }
            return true;
        }
        if !is_in_window {
            return false;
        }
        series.retain(key);
        let values = series.values(key);
        let names: Vec<&str> = self.by.iter().map(String::as_str).collect();
        let texts: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
        let mut dimensions = String::new();
        write_dimensions(&names, &texts, &mut dimensions);
        let history = self.gone.remove(series.key_bytes(key)).map(|gone| gone.history).unwrap_or_default();
        self.groups.insert(key, GroupValue { last: slice, dimensions, values, history, ..GroupValue::default() });
        self.expiry.entry(slice + WINDOWS_KNOWN * self.window).or_default().push(key);
        true
    }

    /// Notes the groups that had no row in [`WINDOWS_KNOWN`] windows.
    fn fall_silent(&mut self, g: i64) {
        while let Some(entry) = self.expiry.first_entry().filter(|entry| *entry.key() <= g) {
            for key in entry.remove() {
                let Some(group) = self.groups.get_mut(&key) else { continue };
                let until = group.last + WINDOWS_KNOWN * self.window;
                if until > g {
                    self.expiry.entry(until).or_default().push(key);
                } else {
                    self.changed_at = g;
                    self.silent.keys.insert(key);
                    self.silent.has_new = true;
                    group.fall_silent(g);
                }
            }
        }
    }

    /// Returns the groups that are silent.
    pub fn silent(&self) -> &BTreeSet<u32> {
        &self.silent.keys
    }

    /// Whether groups fell silent since the last [`WindowView::forget_silent`].
    pub fn has_fallen_silent(&self) -> bool {
        self.silent.has_new
    }

    /// Removes the silent groups that no alert keeps; `kept` are the others.
    pub fn forget_silent(&mut self, series: &mut EventSeries, kept: BTreeSet<u32>, g: i64) {
        let silent = std::mem::replace(&mut self.silent, SilentGroups { keys: kept, has_new: false });
        for key in silent.keys {
            if self.silent.keys.contains(&key) {
                continue;
            }
            let Some(group) = self.groups.remove(&key) else { continue };
            if self.span > 0 {
                let gone = GoneHistory { since: g, history: group.history };
                self.keep_gone(series.key_bytes(key).to_vec(), gone);
            }
            series.release(key);
        }
    }

    /// Keeps the earlier values of a group that is gone, for its return.
    fn keep_gone(&mut self, key: Vec<u8>, gone: GoneHistory) {
        self.gone_order.push_back(GoneKey { since: gone.since, key: key.clone() });
        self.gone.insert(key, gone);
    }

    /// Forgets the earlier values that no lag reaches at instant `g`, and those beyond `max` groups: first those of the
    /// groups that have been gone for the longest time.
    pub fn forget_gone(&mut self, g: i64, max: usize) {
        while let Some(GoneKey { since, key }) =
            self.gone_order.pop_front_if(|first| first.since <= g - self.span || self.gone.len() > max)
        {
            // A group that came back and went again has a later place as well.
            if self.gone.get(&key).is_some_and(|gone| gone.since == since) {
                self.gone.remove(&key);
            }
        }
    }

    /// Saves the groups.
    pub fn save(&self, series: &EventSeries, out: &mut snapshot::Writer) {
        out.text(&series.identity);
        out.number(self.window);
        out.number(self.changed_at);
        out.count(self.groups.len());
        for (key, group) in &self.groups {
            out.bytes(series.key_bytes(*key));
            put_value(out, group.value);
            out.number(group.rows.try_into().unwrap_or(i64::MAX));
            out.number(group.last);
            put_history(out, &group.history);
        }
        let is_gone = |key: &&GoneKey| self.gone.get(&key.key).is_some_and(|gone| gone.since == key.since);
        out.count(self.gone.len());
        for GoneKey { since, key } in self.gone_order.iter().filter(is_gone) {
            out.bytes(key);
            out.number(*since);
            put_history(out, &self.gone[key].history);
        }
    }

    /// Restores groups that [`WindowView::save`] saved after identity and window. `has_gone`: groups that are gone
    /// follow.
    pub fn load(&mut self, series: &mut EventSeries, saved: &mut snapshot::Reader<'_>, has_gone: bool) -> Result<()> {
        self.changed_at = saved.number()?;
        for _ in 0..saved.count()? {
            let key = series.key_of(saved.bytes()?)?;
            let (value, rows, last) = (take_value(saved)?, saved.rows()?, saved.number()?);
            if !self.by.is_empty() {
                self.arrive(series, key, last, i64::MIN / 2);
            }
            series.release(key);
            let history = take_history(saved)?;
            if let Some(group) = self.groups.get_mut(&key) {
                (group.value, group.rows, group.last, group.history) = (value, rows, last, history);
            }
        }
        for _ in 0..if has_gone { saved.count()? } else { 0 } {
            let (key, since) = (saved.bytes()?.to_vec(), saved.number()?);
            self.keep_gone(key, GoneHistory { since, history: take_history(saved)? });
        }
        Ok(())
    }
}

fn put_history(out: &mut snapshot::Writer, history: &History) {
    out.count(history.len());
    for EarlierValue { from, value } in history {
        out.number(*from);
        put_value(out, *value);
    }
}

fn take_history(saved: &mut snapshot::Reader<'_>) -> Result<History> {
    let mut history = VecDeque::new();
    for _ in 0..saved.count()? {
        history.push_back(EarlierValue { from: saved.number()?, value: take_value(saved)? });
    }
    Ok(history)
}

/// Saves an optional value.
pub fn put_value(out: &mut snapshot::Writer, value: Option<f64>) {
    out.optional(value.map(|value| i64::from_ne_bytes(value.to_bits().to_ne_bytes())));
}

/// Reads a value that [`put_value`] saved.
pub fn take_value(saved: &mut snapshot::Reader<'_>) -> Result<Option<f64>> {
    Ok(saved.optional()?.map(|bits| f64::from_bits(u64::from_ne_bytes(bits.to_ne_bytes()))))
}
