//! The parts of a state: some keys in some windows.

use super::ends::EndRange;

/// The part of a state that a snapshot includes. Sessions are selected by their keys only.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// Selects keys by their numbers.
    pub(crate) has_key: &'a dyn Fn(u32) -> bool,
    /// Selects windows by their ends, and the slices that they need.
    pub(crate) ends: EndRange,
}

/// The part of a saved state that a restore takes, as [`Part`].
#[derive(Clone, Copy)]
pub(crate) struct SavedPart<'a> {
    /// Selects keys by their bytes.
    pub(crate) has_key: &'a dyn Fn(&[u8]) -> bool,
    pub(crate) ends: EndRange,
}

impl Part<'_> {
    pub(crate) const ALL: Self = Self { has_key: &|_| true, ends: EndRange::ALL };
}

impl SavedPart<'_> {
    pub(crate) const ALL: Self = Self { has_key: &|_| true, ends: EndRange::ALL };
}
