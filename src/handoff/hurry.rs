//! Whether frames come faster than threads wake up.
//!
//! A camera has at least 16 ms between two frames, and both threads sleep in between. If frames
//! come within the time that a wake-up takes, most of them would be overwritten although no thread
//! is busy. So while they do, reader and publisher stay awake between frames, for a short time.

use std::time::{Duration, Instant};

/// Frames closer than this make the threads stay awake, for at most as long after each. Several
/// times the 50 to 100 µs that a wake-up takes. A camera sends at most 60 frames/s; this is 2,000.
const SOON: Duration = Duration::from_micros(500);

/// The frames that one thread has seen.
#[derive(Debug, Default)]
pub struct Hurry {
    last: Option<Instant>,
    until: Option<Instant>,
}

impl Hurry {
    /// A frame passes at `now`.
    pub fn frame(&mut self, now: Instant) {
        let soon = |last| now.saturating_duration_since(last) < SOON;
        self.until = self.last.is_some_and(soon).then(|| now + SOON);
        self.last = Some(now);
    }

    /// Whether to stay awake. Reads the clock only after two close frames.
    pub fn lasts(&self, now: impl FnOnce() -> Instant) -> bool {
        self.until.is_some_and(|until| now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_frames_close_together_make_a_hurry_that_ends_by_itself() {
        let (mut hurry, start) = (Hurry::default(), Instant::now());
        let after = |part: u32| start + SOON * part / 10;
        hurry.frame(start);
        assert!(!hurry.lasts(|| panic!("one frame is no hurry")));
        hurry.frame(after(9));
        assert!(hurry.lasts(|| after(18)));
        assert!(!hurry.lasts(|| after(19)), "the next frame is late");
        hurry.frame(after(19));
        assert!(!hurry.lasts(|| panic!("no longer in a hurry")));
    }
}
