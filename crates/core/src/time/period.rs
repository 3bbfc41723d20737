//! Periods of the calendar: the days, weeks, months, quarters and years of a time zone.
//!
//! A period begins with the first instant at which the clocks of the zone show its first day or a later one. So periods
//! of one unit have no gaps and do not overlap: a day that the zone skips is none, and an hour that clocks repeat
//! across midnight belongs to the day that had begun. Periods end where the calendar does: the first one begins with
//! the year 1, UTC, and the last one ends with the year 9999.

use super::calendar::{CivilDate, DAY, EARLIEST, LATEST, civil_from_days, days_from_civil};
use super::iso::{local_of, start_of_day};
use super::zone::Zone;

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CalendarUnit {
    /// A day.
    Day,
    /// Seven days from Monday.
    Week,
    /// A month.
    Month,
    /// Three months from January, April, July or October.
    Quarter,
    /// A year.
    Year,
}

impl CalendarUnit {
    /// Returns the unit as the size of windows.
    pub fn text(self) -> &'static str {
        match self {
            Self::Day => "1d",
            Self::Week => "1w",
            Self::Month => "1mo",
            Self::Quarter => "1q",
            Self::Year => "1y",
        }
    }

    /// Returns the first day of the period that contains a day; days count from 1970-01-01.
    fn first_day(self, day: i64) -> i64 {
        let CivilDate { year, month, .. } = civil_from_days(day);
        match self {
            Self::Day => day,
            // 1970-01-01 was a Thursday.
            Self::Week => day - (day + 3).rem_euclid(7),
            Self::Month => days_from_civil(year, month, 1),
            Self::Quarter => days_from_civil(year, month - (month - 1) % 3, 1),
            Self::Year => days_from_civil(year, 1, 1),
        }
    }

    /// Returns the first day of the period after the one that begins with `first`.
    fn next(self, first: i64) -> i64 {
        let longest = match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 31,
            Self::Quarter => 92,
            Self::Year => 366,
        };
        self.first_day(first + longest)
    }

    /// Returns its plural.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Day => "days",
            Self::Week => "weeks",
            Self::Month => "months",
            Self::Quarter => "quarters",
            Self::Year => "years",
        }
    }
}

/// The periods of one unit in one time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Calendar {
    /// The unit.
    pub unit: CalendarUnit,
    /// The zone whose clocks show the days.
    pub zone: Zone,
}

impl Calendar {
    /// Returns the start and the end (µs) of the period that contains an instant (µs); an instant outside the calendar
    /// counts as its first or last one.
    pub fn period(self, instant: i64) -> (i64, i64) {
        let instant = instant.clamp(EARLIEST, LATEST);
        let day = local_of(instant, self.zone).div_euclid(DAY);
        let mut first = self.unit.first_day(day);
        let mut end = self.start(self.unit.next(first));
        // Clocks that were set back show a day again after the next one has begun.
        while end <= instant {
            first = self.unit.next(first);
            end = self.start(self.unit.next(first));
        }
        (self.start(first).max(EARLIEST), end.min(LATEST + 1))
    }

    /// Returns the first instant of a day, or of the next one that the zone has.
    fn start(self, mut day: i64) -> i64 {
        if self.zone == Zone::UTC {
            return day * DAY;
        }
        loop {
            match start_of_day(day * DAY, self.zone) {
                Some(start) => return start,
                None => day += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::calendar::{HOUR, SECOND};
    use super::*;
    use crate::time::{format_instant, parse_instant};

    fn calendar(unit: CalendarUnit, zone: &str) -> Calendar {
        Calendar { unit, zone: zone.parse().unwrap() }
    }

    /// Returns the first instant at which clocks show this day or a later one, by a search in steps of minutes and
    /// seconds.
    fn first_instant(day: i64, zone: Zone) -> i64 {
        let shows = |instant: &i64| local_of(*instant, zone).div_euclid(DAY) >= day;
        let from = day * DAY - 16 * HOUR;
        assert!(!shows(&from), "{zone}: day {day}");
        let minute = (0..).map(|n| from + n * 60 * SECOND).find(shows).unwrap();
        (0..=60).map(|n| minute - (60 - n) * SECOND).find(shows).unwrap()
    }

    #[test]
    fn days_begin_with_the_first_instant_that_clocks_show() {
        // Days around all changes of clocks, also those that skip a day or midnight, or repeat an hour across midnight.
        let zones = [
            ("Pacific/Apia", 1890..2025),
            ("America/Sao_Paulo", 1930..2020),
            ("Asia/Gaza", 1996..2040),
            ("Australia/Lord_Howe", 1980..2025),
            ("Europe/Zurich", 1935..2040),
            ("America/St_Johns", 1986..2012),
            ("Asia/Manila", 1840..1850),
            ("America/Juneau", 1865..1870),
            ("Africa/Monrovia", 1971..1974),
            ("America/Havana", 1990..2025),
        ];
        for (name, years) in zones {
            let zone: Zone = name.parse().unwrap();
            let days = days_from_civil(years.start, 1, 1)..days_from_civil(years.end, 1, 1);
            let offset = |day: i64| local_of(day * DAY, zone) - day * DAY;
            for day in days.filter(|day| offset(day - 1) != offset(day + 1)) {
                let calendar = Calendar { unit: CalendarUnit::Day, zone };
                let (start, next) = (first_instant(day, zone), first_instant(day + 1, zone));
                if start == next {
                    assert_ne!(calendar.period(start - 1), calendar.period(start), "{name} {day} is skipped");
                    continue;
                }
                for instant in [start, start.midpoint(next), next - 1] {
                    assert_eq!(calendar.period(instant), (start, next), "{name} {}", format_instant(instant));
                }
            }
        }
    }

    #[test]
    fn periods_of_all_zones_follow_each_other_without_gaps() {
        for zone in Zone::all() {
            for unit in [CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Quarter] {
                let calendar = Calendar { unit, zone };
                let mut at = parse_instant("2011-12-20T00:00:00Z").unwrap();
                let until = at + 40 * DAY;
                while at < until {
                    let (start, end) = calendar.period(at);
                    assert!(start <= at && at < end, "{zone} {}", format_instant(at));
                    assert_eq!((calendar.period(start), calendar.period(end - 1)), ((start, end), (start, end)));
                    assert_eq!(calendar.period(end).0, end);
                    at = end;
                }
            }
        }
    }

    #[test]
    fn a_period_has_the_length_that_the_clocks_give_it() {
        let shown = |unit, zone, instant| {
            let (start, end) = calendar(unit, zone).period(parse_instant(instant).unwrap());
            format!("{} {}", format_instant(start), format_instant(end)).replace(".000000Z", "Z")
        };
        use CalendarUnit::{Day, Month, Quarter, Week, Year};
        for (unit, zone, instant, expected) in [
            (Month, "UTC", "2024-02-29T23:59:59Z", "2024-02-01T00:00:00Z 2024-03-01T00:00:00Z"),
            (Quarter, "UTC", "2023-12-31T23:59:59Z", "2023-10-01T00:00:00Z 2024-01-01T00:00:00Z"),
            (Year, "UTC", "1969-07-20T20:17:00Z", "1969-01-01T00:00:00Z 1970-01-01T00:00:00Z"),
            (Week, "UTC", "2024-01-07T23:59:59Z", "2024-01-01T00:00:00Z 2024-01-08T00:00:00Z"),
            (Day, "Europe/Zurich", "2024-03-31T12:00:00Z", "2024-03-30T23:00:00Z 2024-03-31T22:00:00Z"),
            (Day, "Europe/Zurich", "2024-10-27T12:00:00Z", "2024-10-26T22:00:00Z 2024-10-27T23:00:00Z"),
            (Day, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z 2011-12-30T10:00:00Z"),
            (Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z 2011-12-31T10:00:00Z"),
            (Week, "Pacific/Apia", "2011-12-31T00:00:00Z", "2011-12-26T10:00:00Z 2012-01-01T10:00:00Z"),
            (Day, "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z 2018-11-05T02:00:00Z"),
            (Month, "Australia/Lord_Howe", "2024-10-06T00:00:00Z", "2024-09-30T13:30:00Z 2024-10-31T13:00:00Z"),
        ] {
            assert_eq!(shown(unit, zone, instant), expected, "{unit:?} {zone} {instant}");
        }
    }

    #[test]
    fn the_first_and_the_last_period_end_where_the_calendar_does() {
        for zone in ["UTC", "Asia/Tokyo", "America/New_York", "Pacific/Kiritimati"] {
            for unit in [CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month, CalendarUnit::Year] {
                let calendar = calendar(unit, zone);
                assert_eq!(calendar.period(EARLIEST).0, EARLIEST);
                assert_eq!(calendar.period(LATEST).1, LATEST + 1);
                assert_eq!(calendar.period(i64::MIN), calendar.period(EARLIEST));
                assert_eq!(calendar.period(i64::MAX), calendar.period(LATEST));
            }
        }
    }
}
