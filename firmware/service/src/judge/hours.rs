//! Hours of the week in which a rule acts, by the board's local time.
//!
//! Pure: the wall clock and the time zone are passed in. Nothing else in the rules looks at the
//! wall clock, so that holds and cooldowns do not care when it jumps.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// 2025-01-01T00:00:00Z: a clock that shows less has not been set since a board without a
/// battery was switched on.
const LEAST: i64 = 1_735_689_600;

/// Days as they are written, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// From one minute of a day to before another, maybe of the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    from: u16,
    until: u16,
}

impl Window {
    /// Reads `HH:MM-HH:MM`; the end may be `24:00`, or before the start for the next day.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let two = |digits: &str| {
                (digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit()))
                    .then(|| digits.parse())
            };
            let (hour, minute): (u16, u16) = (two(hour)?.ok()?, two(minute)?.ok()?);
            (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
        };
        let (from, until) = text.split_once('-')?;
        let (from, until) = (minute(from.trim())?, minute(until.trim())?);
        (from != until && from < DAY).then_some(Self { from, until })
    }
}

/// Windows on some days of the week. A window over midnight belongs to the day it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hours {
    windows: Vec<Window>,
    /// Bit 0 is Monday.
    days: u8,
}

impl Hours {
    /// No windows mean the whole day, no days the whole week.
    ///
    /// # Errors
    /// `None` for a day that is not one of mon, tue, wed, thu, fri, sat, sun.
    pub(crate) fn new<'a>(windows: Vec<Window>, days: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let bit = |day| DAYS.iter().position(|known| *known == day).map(|index| 1 << index);
        let days = days.into_iter().try_fold(0, |days: u8, day| Some(days | bit(day)?))?;
        let windows = if windows.is_empty() { vec![Window { from: 0, until: DAY }] } else { windows };
        Some(Self { windows, days: if days == 0 { 0x7f } else { days } })
    }

    /// Whether this moment is in a window. Never while the clock has not been set.
    pub(crate) fn contains(&self, wall: SystemTime, zone: &TimeZone) -> bool {
        let Ok(moment) = Timestamp::try_from(wall) else { return false };
        if moment.as_second() < LEAST {
            return false;
        }
        let local = zone.to_datetime(moment);
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let today = local.weekday().to_monday_zero_offset().rem_euclid(7);
        let on = |day: i8| self.days & (1 << day.rem_euclid(7)) != 0;
        self.windows.iter().any(|window| {
            if window.from < window.until {
                on(today) && (window.from..window.until).contains(&minute)
            } else {
                on(today) && minute >= window.from || on(today - 1) && minute < window.until
            }
        })
    }
}

/// The board's time zone: `TZ`, else `/etc/localtime`, else UTC as its manual page says.
pub(crate) fn local_zone() -> TimeZone {
    TimeZone::try_system().unwrap_or_else(|error| {
        log::warn!("no local time zone, active hours are in UTC: {error}; see `timedatectl set-timezone`");
        TimeZone::UTC
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn hours(windows: &[&str], days: &[&str]) -> Hours {
        let windows = windows.iter().map(|text| Window::parse(text).unwrap()).collect();
        Hours::new(windows, days.iter().copied()).unwrap()
    }

    fn at(moment: &str) -> SystemTime {
        moment.parse::<Timestamp>().unwrap().into()
    }

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[test]
    fn windows_are_read_strictly() {
        for good in ["08:00-18:00", "22:00-06:00", "00:00-24:00", "23:59-00:00", "08:00 - 09:30"] {
            assert!(Window::parse(good).is_some(), "{good}");
        }
        for bad in [
            "8:00-9:00",
            "08:00",
            "08:00-08:00",
            "24:00-06:00",
            "08:60-09:00",
            "25:00-26:00",
            "+8:00-09:00",
            "",
        ] {
            assert_eq!(Window::parse(bad), None, "{bad}");
        }
        assert_eq!(Hours::new(vec![], ["mon", "monday"]), None);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_its_first_day() {
        let friday = hours(&["22:00-06:00"], &["fri"]);
        // 2026-01-02 was a Friday.
        let table = [
            ("2026-01-02T05:00:00Z", false),
            ("2026-01-02T21:59:59Z", false),
            ("2026-01-02T22:00:00Z", true),
            ("2026-01-03T05:59:59Z", true),
            ("2026-01-03T06:00:00Z", false),
            ("2026-01-03T22:00:00Z", false),
        ];
        for (moment, expected) in table {
            assert_eq!(friday.contains(at(moment), &TimeZone::UTC), expected, "{moment}");
        }
    }

    #[test]
    fn summer_time_skips_and_repeats_an_hour() {
        let night = hours(&["02:00-03:00"], &[]);
        let minutes = |from: &str| {
            let inside =
                |minute: &u64| night.contains(at(from) + Duration::from_secs(60 * minute), &berlin());
            (0..24 * 60).filter(inside).count()
        };
        assert_eq!(minutes("2026-03-27T23:00:00Z"), 60);
        assert_eq!(minutes("2026-03-28T23:00:00Z"), 0);
        assert_eq!(minutes("2026-10-24T22:00:00Z"), 120);
    }

    /// Failure table: clock jumping.
    #[test]
    fn a_clock_that_is_not_set_or_far_off_is_outside() {
        let always = hours(&[], &[]);
        assert!(always.contains(at("2026-05-05T12:00:00Z"), &berlin()));
        for wrong in [
            UNIX_EPOCH,
            UNIX_EPOCH - Duration::from_secs(1),
            at("2024-12-31T23:59:59Z"),
            UNIX_EPOCH + Duration::from_secs(1 << 40),
        ] {
            assert!(!always.contains(wrong, &berlin()), "{wrong:?}");
        }
    }

    proptest! {
        /// Against the definition: each window of each chosen day marks its minutes of the week.
        #[test]
        fn the_minutes_of_a_week_are_as_marked(
            windows in prop::collection::vec((0..DAY, 0..=DAY), 1..4), days in 1..0x80u8, minute in 0..7 * DAY
        ) {
            prop_assume!(windows.iter().all(|(from, until)| from != until));
            let mut marked = [false; 7 * DAY as usize];
            for day in (0..7).filter(|day| days & (1 << day) != 0) {
                for (from, until) in &windows {
                    let length = if until > from { until - from } else { until + DAY - from };
                    for offset in 0..length {
                        marked[(day * DAY + from + offset) as usize % marked.len()] = true;
                    }
                }
            }
            let windows = windows.iter().map(|&(from, until)| Window { from, until }).collect();
            let names = DAYS.iter().enumerate().filter(|(day, _)| days & (1 << day) != 0).map(|(_, name)| *name);
            let hours = Hours::new(windows, names).unwrap();
            // 2026-01-05 was a Monday.
            let moment = at("2026-01-05T00:00:00Z") + Duration::from_secs(60 * u64::from(minute));
            prop_assert_eq!(hours.contains(moment, &TimeZone::UTC), marked[minute as usize]);
        }
    }
}
