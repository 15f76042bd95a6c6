//! Whether frames come faster than threads wake up.
//!
//! A camera has 16 ms or more between two frames, and both threads sleep in between. But of frames that come within
//! the time that a wake-up takes, most would displace each other although nobody is busy. So while they do, reader and
//! publisher wait for each other awake, and never for long.

use std::time::{Duration, Instant};

/// Frames closer than this are in a hurry, and nobody stays awake for longer than this after one. Some wake-ups:
/// one took 50 to 100 µs where `make bench` was run. At 2,000 frames/s it is 30 times what a camera has.
const SOON: Duration = Duration::from_micros(500);

/// One thread's view of it.
#[derive(Debug, Default)]
pub struct Hurry {
    last: Option<Instant>,
    until: Option<Instant>,
}

impl Hurry {
    /// A frame passes now.
    pub fn frame(&mut self, now: Instant) {
        let soon = |last| now.saturating_duration_since(last) < SOON;
        self.until = self.last.is_some_and(soon).then(|| now + SOON);
        self.last = Some(now);
    }

    /// Whether it is worth to stay awake. Looks at the clock only in a hurry.
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
