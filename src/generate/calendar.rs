//! Days, weekdays and months of a time in milliseconds. The bank's clock is UTC.

pub(super) const SECOND_MS: i64 = 1000;
pub(super) const MINUTE_MS: i64 = 60 * SECOND_MS;
pub(super) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// Days since 1970-01-01.
pub(super) fn day(ms: i64) -> i64 {
    ms.div_euclid(DAY_MS)
}

/// 0 is Monday; 1970-01-01 was a Thursday.
pub(super) fn weekday(day: i64) -> usize {
    usize::try_from((day + 3).rem_euclid(7)).expect("a remainder of 7 is small")
}

/// Hours since midnight, with minutes as a fraction.
pub(super) fn hour(ms: i64) -> f64 {
    super::random::real(ms.rem_euclid(DAY_MS)) / super::random::real(HOUR_MS)
}

/// (year, month from 1, day of the month from 1) in the Gregorian calendar, counted in years that begin in March.
pub(super) fn date(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_month)
}

/// Days since the last time that a day of the month (1 to 28) came, 0 on the day itself.
pub(super) fn days_since_monthly(day: i64, day_of_month: i64) -> i64 {
    let (_, _, today) = date(day);
    if today >= day_of_month {
        return today - day_of_month;
    }
    let (_, _, last_of_previous_month) = date(day - today);
    today + last_of_previous_month - day_of_month
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_454), (2026, 1, 1));
        assert_eq!((weekday(0), weekday(20_454)), (3, 3)); // both Thursdays
        assert!((hour(20_454 * DAY_MS + 90 * MINUTE_MS) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn a_salary_day_is_found_across_months() {
        assert_eq!(days_since_monthly(20_454, 1), 0);
        assert_eq!(days_since_monthly(20_454, 25), 7); // since 25 December
        assert_eq!(days_since_monthly(20_454 + 30, 25), 6); // 31 January
    }
}
