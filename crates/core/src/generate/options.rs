//! The options of the generator.

/// The options. Shares are of all records, between 0 and 1, and add up to at most 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Number of records, faults and duplicates included.
    pub events: u64,
    /// The seed, which determines every byte.
    pub seed: u64,
    /// Records per second of event time.
    pub rate: f64,
    /// The earliest event time of a record that is not late (µs).
    pub start: i64,
    /// Partitions; with more than one, each record has the field `shard` ("0", "1" …), which
    /// `--field partition=shard --partitions 0,1,…` maps.
    pub partitions: u32,
    /// Distinct users; one record in ten has none.
    pub users: u32,
    /// Distinct pages.
    pub pages: u32,
    /// Distinct countries.
    pub countries: u32,
    /// Distinct event types.
    pub event_types: u32,
    /// Zipf's exponent for all of these; 0 makes all equally likely.
    pub skew: f64,
    /// Versions of the schema, mixed; version 2 has one more property, `experiment`.
    pub schema_versions: u32,
    /// Maximum distance of an event behind its arrival (µs); most are closer.
    pub disorder: i64,
    /// Share of records that are `late_by` to twice `late_by` behind the stream time of their partition.
    pub late: f64,
    /// Minimum distance of late records behind stream time (µs).
    pub late_by: i64,
    /// Share of records that repeat a recent one byte for byte.
    pub duplicates: f64,
    /// Share of records whose client's clock is `future_by` to twice `future_by` ahead of the server's.
    pub future: f64,
    /// Minimum distance of those clocks ahead (µs).
    pub future_by: i64,
    /// Share of records that are not events: [`MALFORMED`](super::defect::MALFORMED).
    pub malformed: f64,
    /// Share of records that violate their schema: [`INVALID`](super::defect::INVALID).
    pub invalid: f64,
    /// Share of records longer than 1 MiB.
    pub too_large: f64,
}
