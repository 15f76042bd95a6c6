//! Time, in one place, so that tests can simulate it.
//!
//! There are two clocks. [`Instant`] is for every timeout and age: it does not jump when the
//! board's clock is set. Unix time is for what leaves the process, such as the capture time that a
//! consumer reads. A [`Stamp`] has both, taken together.

use jiff::Timestamp;
use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// For ages and timeouts.
    pub monotonic: Instant,
    /// Microseconds since 1970-01-01 UTC by the board's clock, for consumers.
    pub unix_us: i64,
}

impl Stamp {
    /// This moment.
    pub fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            unix_us: unix_us(),
        }
    }

    /// How long ago this was; zero for a moment in the future.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.monotonic)
    }
}

/// Microseconds since 1970-01-01 UTC; a clock set before 1970 counts as 1970.
pub fn unix_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        })
}

/// A time in UTC, Unix microseconds. Displayed as `2026-11-21T07:14:44.123Z` (RFC 3339), with the
/// number of digits that the format asks for. A time after the year 9999 is displayed as 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc(pub i64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        fmt::Display::fmt(&time, f)
    }
}

/// Microseconds from `origin` to `at`, for an atomic; never 0, so that 0 can mean "none".
pub fn micros_since(origin: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(origin).as_micros())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// Microseconds of monotonic time since the first call of this function; never 0. All threads count
/// from the same moment.
pub fn process_us(at: Instant) -> u64 {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    micros_since(*ORIGIN, at)
}

/// A span of time for people, at most two units: `0.3 s`, `12 s`, `3 min 20 s`, `2 h 5 min`,
/// `4 d 3 h`
pub fn span_text(seconds: f64) -> String {
    if seconds < 10.0 {
        let text = format!("{seconds:.1} s");
        return text.replace(".0 s", " s");
    }
    let seconds = seconds as u64;
    let two = |whole: u64, unit: &str, rest: u64, part: &str| match rest {
        0 => format!("{whole} {unit}"),
        rest => format!("{whole} {unit} {rest} {part}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_two_units_at_most() {
        for (seconds, text) in [
            (0.04, "0 s"),
            (0.25, "0.2 s"),
            (12.9, "12 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
            (90_000.0, "1 d 1 h"),
            (86_400.0, "1 d"),
        ] {
            assert_eq!(span_text(seconds), text);
        }
    }

    #[test]
    fn a_time_is_written_with_milliseconds_in_utc() {
        assert_eq!(
            format!("{:.3}", Utc(1_795_305_599_123_999)),
            "2026-11-21T23:59:59.123Z"
        );
        assert_eq!(
            format!("{:.3}", Utc(1_795_305_600_000_000)),
            "2026-11-22T00:00:00.000Z"
        );
        assert_eq!(format!("{:.3}", Utc(i64::MAX)), "1970-01-01T00:00:00.000Z");
    }
}
