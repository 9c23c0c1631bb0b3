//! The calendar: what the date functions give, in UTC.

/// A second, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    /// Proleptic Gregorian year.
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: u32,
    /// 1 to 31.
    pub(crate) day: u32,
    /// 0 to 23.
    pub(crate) hour: u32,
    /// 0 to 59.
    pub(crate) minute: u32,
    /// 0 to 59.
    pub(crate) second: u32,
    /// 0 is Sunday.
    pub(crate) weekday: u32,
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Unix time of the beginning of Go's calendar, negated: March 1 of the year -292277022400.
const GO_BEGIN: i64 = 9223372028741760000;

impl Date {
    /// The date of a Unix time. As in Go, what is before the beginning of its calendar wraps around to the end: NaN
    /// and infinities become such times.
    pub(crate) fn of_seconds(seconds: i64) -> Date {
        let since_begin = seconds.wrapping_add(GO_BEGIN).cast_unsigned();
        let begin_days = GO_BEGIN / 86_400;
        let (days, rest) = ((since_begin / 86_400) as i64 - begin_days, (since_begin % 86_400) as i64);
        // Years are counted from March here, so that the leap day is the last of its year; 719468 days lie between
        // that epoch and 1970. An era has 400 years.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Date {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u32,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u32,
            hour: (rest / 3600) as u32,
            minute: (rest % 3600 / 60) as u32,
            second: (rest % 60) as u32,
            weekday: (days + 4).rem_euclid(7) as u32,
        }
    }

    /// Days of the date's month.
    pub(crate) fn days_in_month(&self) -> u32 {
        match self.month {
            2 => 28 + u32::from(is_leap(self.year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// 1 to 366.
    pub(crate) fn day_of_year(&self) -> u32 {
        const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        BEFORE[self.month as usize - 1] + self.day + u32::from(self.month > 2 && is_leap(self.year))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_day_is_found() {
        let date = Date::of_seconds(1_709_210_096); // 2024-02-29T12:34:56Z, a Thursday
        assert_eq!((date.year, date.month, date.day), (2024, 2, 29));
        assert_eq!((date.hour, date.minute, date.second, date.weekday), (12, 34, 56, 4));
        assert_eq!((date.days_in_month(), date.day_of_year()), (29, 60));
    }

    #[test]
    fn times_before_the_epoch_have_dates_too() {
        let date = Date::of_seconds(-1);
        assert_eq!((date.year, date.month, date.day, date.second, date.weekday), (1969, 12, 31, 59, 3));
    }

    #[test]
    fn what_is_no_time_has_the_date_that_go_gives_it() {
        // Asked of a real Prometheus 3.5: month(NaN), day_of_year(+Inf), minute(-Inf).
        let date = Date::of_seconds(crate::number::to_int64(f64::NAN));
        assert_eq!((date.month, date.day_of_year(), date.hour, date.minute), (12, 339, 15, 30));
        let last = Date::of_seconds(i64::MAX);
        assert_eq!((last.year, last.month, last.day, last.second), (292_277_026_596, 12, 4, 7));
    }
}
