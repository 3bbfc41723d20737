//! Names of time zones.

use chrono_tz::{TZ_VARIANTS, Tz};
use strsim::levenshtein;

/// The number of letters by which a name may differ from the one that is proposed for it.
const NEAR: usize = 2;

/// Parses the name of a zone of the IANA database.
///
/// Errors: what was expected and found, and a zone with nearly this name.
pub fn parse_zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| {
        let near = near_zone(name).map_or_else(String::new, |zone| format!("; did you mean {zone}?"));
        format!("expected an IANA time zone like Europe/Zurich, found '{name}'{near}")
    })
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
    let zones = TZ_VARIANTS.iter().map(|zone| zone.name());
    zones.min_by_key(|zone| (distance(zone), zone.len())).filter(|zone| distance(zone) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_zone_proposes_the_nearest_one() {
        let proposal = |name: &str| parse_zone(name).unwrap_err().rsplit_once("; ").map(|(_, near)| near.to_owned());
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
        assert_eq!(parse_zone("UTC"), Ok(Tz::UTC));
    }
}
