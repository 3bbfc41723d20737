//! What is to be made.

/// What to make. Shares are of all records, between 0 and 1, and add up to at most 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Records to make, faults and duplicates included.
    pub events: u64,
    /// What decides every byte.
    pub seed: u64,
    /// Records a second of event time.
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
    /// How far an event may lie behind its arrival, at most (µs); most lie nearer.
    pub disorder: i64,
    /// Share of records that come `late_by` behind the stream time of their partition, or up to twice as far.
    pub late: f64,
    /// How far the late ones lie behind, at least (µs).
    pub late_by: i64,
    /// Share of records that repeat a recent one byte for byte.
    pub duplicates: f64,
    /// Share of records whose client's clock is `future_by` ahead of the server's, or up to twice as far.
    pub future: f64,
    /// How far those clocks are ahead, at least (µs).
    pub future_by: i64,
    /// Share of records that are no events: [`defect::MALFORMED`].
    pub malformed: f64,
    /// Share of records that violate their schema: [`defect::INVALID`].
    pub invalid: f64,
    /// Share of records longer than 1 MiB.
    pub too_large: f64,
}
