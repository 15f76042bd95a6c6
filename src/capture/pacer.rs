//! Limits the rate of pictures that FFmpeg copies. Pure.

use std::time::{Duration, Instant};

/// While a camera is idle, all of the first pictures of a session pass for this long, as those that
/// are decoded do (`select_one_every` in `ffmpeg.rs`).
const AT_FIRST: Duration = Duration::from_secs(5);

/// Lets one picture in `every` pass, after the first ones.
#[derive(Debug)]
pub(super) struct OneEvery {
    every: Duration,
    first: Option<Instant>,
    passed: Option<Instant>,
}

impl OneEvery {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            first: None,
            passed: None,
        }
    }

    /// Whether the picture that came at `now` passes.
    pub(super) fn passes(&mut self, now: Instant) -> bool {
        let first = *self.first.get_or_insert(now);
        let due = |at| now.saturating_duration_since(at) >= self.every;
        let passes = now.saturating_duration_since(first) < AT_FIRST || self.passed.is_none_or(due);
        if passes {
            self.passed = Some(now);
        }
        passes
    }
}

/// Lets at most `fps` pictures a second pass, by the rule of FFmpeg's filter for pictures that it
/// decodes (`select` in `ffmpeg.rs`).
#[derive(Debug)]
pub(super) struct Pacer {
    fps: f64,
    /// Pictures that may pass now. Grows by `fps` a second.
    credit: f64,
    /// When the last picture came.
    last: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(fps: u32) -> Self {
        Self {
            fps: fps.into(),
            credit: 0.0,
            last: None,
        }
    }

    /// Whether the picture that came at `now` passes.
    pub(super) fn passes(&mut self, now: Instant) -> bool {
        // Half a second of it, so that a burst passes.
        let most = (self.fps / 2.0).max(2.0);
        let passed = self.last.replace(now).map_or(1.0, |last| {
            now.saturating_duration_since(last).as_secs_f64()
        });
        self.credit = (self.credit + self.fps * passed).min(most);
        let passes = self.credit >= 1.0;
        if passes {
            self.credit -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the pictures that come after these pauses, in milliseconds, pass.
    fn passing(fps: u32, pauses: impl IntoIterator<Item = u64>) -> u32 {
        let (mut pacer, mut now) = (Pacer::new(fps), Instant::now());
        let passes = pauses.into_iter().map(|pause| {
            now += Duration::from_millis(pause);
            u32::from(pacer.passes(now))
        });
        passes.sum()
    }

    #[test]
    fn a_fast_camera_is_thinned_to_the_rate() {
        // 25 a second for 60 s, and half a second more at the start.
        let pauses = || std::iter::repeat_n(40, 25 * 60);
        assert_eq!(passing(5, pauses()), 5 * 60 + 2);
        assert_eq!(passing(1, pauses()), 60);
        assert_eq!(passing(24, pauses()), 24 * 60 + 11);
    }

    #[test]
    fn a_camera_at_or_below_the_rate_loses_nothing_to_its_jitter() {
        let jitter = (0..900).map(|n| if n % 7 == 0 { 400 - 6 * 20 } else { 20 + n % 3 });
        assert_eq!(passing(15, std::iter::repeat_n(67, 900)), 900);
        assert_eq!(passing(20, jitter), 900);
    }

    #[test]
    fn what_comes_at_once_after_a_pause_is_thinned_to_half_a_second() {
        let burst = std::iter::once(10_000).chain(std::iter::repeat_n(0, 99));
        assert_eq!(passing(10, std::iter::once(0).chain(burst)), 1 + 5);
    }

    #[test]
    fn of_an_idle_camera_one_picture_in_ten_seconds_passes_after_the_first_ones() {
        let (mut pacer, start) = (OneEvery::new(Duration::from_secs(10)), Instant::now());
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let passed: Vec<_> = (0..300)
            .filter(|tenths| pacer.passes(at(*tenths)))
            .collect();
        let first: Vec<u32> = (0..50).collect();
        assert_eq!(passed, [&first[..], &[149, 249]].concat());
    }
}
