//! Limits the rate of pictures that FFmpeg copies. Pure.

use std::time::Instant;

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
    use std::time::Duration;

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
}
