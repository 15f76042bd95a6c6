//! Time, in one place, so that a breaker's hour runs in a millisecond of a test.
//!
//! Two clocks are kept apart. [`Instant`] is for every time-out and age: it
//! never jumps when someone sets the board's clock. Unix time is for what leaves the process: the
//! capture time that a consumer reads. A [`Stamp`] carries both, taken together.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// For ages and time-outs.
    pub monotonic: Instant,
    /// Microseconds since 1970-01-01 UTC, as the board's clock had it. For consumers.
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

/// Microseconds from `origin` to `at`, as fits an atomic; never 0, so that 0 can mean "none".
pub fn micros_since(origin: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(origin).as_micros())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// Microseconds of monotonic time since the program first asked for it; never 0. All threads count
/// from the same moment.
pub fn process_us(at: Instant) -> u64 {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    micros_since(*ORIGIN, at)
}
