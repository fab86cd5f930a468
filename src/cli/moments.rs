//! Times on the command line and on the screen: `--since 10m`, `--since 2026-03-01T08:00Z`, and back to text. UTC.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::WrongUse;
use crate::telemetry::Clock;

const MUST: &str = "must be a time such as 2026-03-01T08:00:00Z or 2026-03-01, a span before now such as 90s, 10m, 2h or \
                    7d, or milliseconds since 1970";

/// A point in time, in milliseconds since the epoch: as [`point`], or a span before now (`90s`, `10m`, `2h`, `7d`).
pub(super) fn parse(flag: &str, text: &str, now_ms: i64) -> Result<i64, WrongUse> {
    let text = text.trim();
    read(text, now_ms).ok_or_else(|| WrongUse(format!("{flag} {text}: {MUST}")))
}

/// The same for clap, which names the flag itself.
pub(super) fn argument(text: &str) -> Result<i64, String> {
    read(text.trim(), Clock::start().wall_ms()).ok_or_else(|| MUST.to_owned())
}

fn read(text: &str, now_ms: i64) -> Option<i64> {
    match span_ms(text) {
        Some(ms) => now_ms.checked_sub(ms).filter(|ms| *ms >= 0),
        None => point(text),
    }
}

/// RFC 3339, a date or a date and a time (UTC), or milliseconds since the epoch; none before it.
pub(super) fn point(text: &str) -> Option<i64> {
    let found = if let Ok(timestamp) = text.parse::<Timestamp>() {
        Some(timestamp.as_millisecond())
    } else if let Ok(date) = text.parse::<DateTime>() {
        // A date alone is its midnight.
        TimeZone::UTC.to_timestamp(date).ok().map(Timestamp::as_millisecond)
    } else {
        text.parse::<i64>().ok()
    };
    found.filter(|ms| *ms >= 0)
}

pub(super) fn span_ms(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit_ms)
}

/// `2026-03-01T08:00:00.123Z`; a time that no calendar has is its milliseconds.
pub(super) fn text(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => format!("{ms} ms"),
    }
}

/// A length of time for people, short: `-` before one that is negative.
pub(super) fn span(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    match ms {
        0..1_000 => format!("{sign}{ms}ms"),
        1_000..60_000 => format!("{sign}{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{sign}{}m{:02}s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..172_800_000 => format!("{sign}{}h{:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{sign}{}d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let now = 1_800_000_000_000;
        let read = |text| parse("--since", text, now).map_err(|error| error.0);
        for same in ["2027-01-15T08:00:00Z", "2027-01-15T09:00:00+01:00", "2027-01-15T08:00", "0s", "1800000000000"] {
            assert_eq!(read(same), Ok(now), "{same}");
        }
        assert_eq!(point("2027-01-15T08:00:00Z"), Some(now));
        assert_eq!(point("90s"), None, "not without a now");
        assert_eq!(read("2027-01-15"), Ok(now - 8 * 3_600_000));
        assert_eq!(read("90s"), Ok(now - 90_000));
        assert_eq!(read("7d"), Ok(now - 7 * 86_400_000));
        for wrong in ["", "yesterday", "-5", "10 m", "99999999999d", "99999999999999999999", "1969-12-31"] {
            let text = read(wrong).unwrap_err();
            assert!(text.starts_with("--since") && text.contains("must be a time such as"), "{wrong}: {text}");
        }
    }

    #[test]
    fn and_said_again() {
        assert_eq!(text(1_800_000_000_123), "2027-01-15T08:00:00.123Z");
        assert_eq!(text(i64::MAX), "9223372036854775807 ms");
        let said = [0, 999, 1_250, 61_000, 7_260_000, -5_000, 200_000_000].map(span);
        assert_eq!(said, ["0ms", "999ms", "1.2s", "1m01s", "2h01m", "-5.0s", "2d"]);
    }
}
