//! How many frames of a camera may be unconfirmed at once.
//!
//! The window bounds how old a frame can be when it arrives, since what was given to the connection
//! cannot be taken back. So it is as small as carries the camera's fps. By Little's law that is fps
//! x confirm latency, here with the *lowest* latency seen lately: a latency that our own queue
//! causes is no reason to queue more.

use crate::config::MaxInFlight;
use std::time::{Duration, Instant};

/// Below two, the broker would idle for a round trip after each frame.
const MIN: usize = 2;
/// Two seconds of frames at 15 fps. Beyond it the link is too slow, not the window too small.
pub const MAX: usize = 32;
/// "Lately" is one to two periods: long enough to meet a moment without a queue, short enough to
/// follow a link that changes.
const PERIOD: Duration = Duration::from_secs(5);
/// A confirm that took longer than this times the lowest latency waited in our own queue.
const QUEUED: f64 = 1.5;

/// The window of one camera on one channel. It grows only on a confirm.
#[derive(Debug)]
pub struct Window {
    limit: usize,
    auto: Option<Auto>,
}

#[derive(Debug)]
struct Auto {
    fps: f64,
    /// No growth if a lone frame takes longer than this: the link is too slow.
    longest: Duration,
    period_start: Option<Instant>,
    lowest: Option<Duration>,
    lowest_before: Option<Duration>,
    /// In this period every confirm found the window full, and a queue that kept it from growing.
    always_short: bool,
    /// When the limit last changed. Frames sent before tell nothing of the new one.
    changed: Option<Instant>,
}

impl Window {
    /// A window for `fps` frames/s; `max_age` is how old a frame may get.
    pub fn new(max_in_flight: MaxInFlight, fps: u32, max_age: Duration) -> Self {
        match max_in_flight {
            MaxInFlight::Fixed(limit) => Self { limit, auto: None },
            MaxInFlight::Auto => Self {
                limit: MIN,
                auto: Some(Auto {
                    fps: f64::from(fps),
                    longest: max_age,
                    period_start: None,
                    lowest: None,
                    lowest_before: None,
                    always_short: true,
                    changed: None,
                }),
            },
        }
    }

    /// Unconfirmed frames allowed now.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The broker confirms a frame that was `sent` then. `full` says whether the window was full
    /// until now.
    pub fn confirmed(&mut self, sent: Instant, full: bool, now: Instant) {
        let Some(auto) = &mut self.auto else { return };
        if auto.new_period(now) && std::mem::replace(&mut auto.always_short, true) {
            // Our own queue kept the window from growing, and yet the window was never enough: the
            // link is too slow. Start again from the minimum to measure it without a queue.
            self.limit = MIN;
            auto.lowest = None;
            auto.lowest_before = None;
            auto.changed = Some(now);
        }
        if auto.changed.is_some_and(|at| sent < at) {
            return;
        }
        let latency = now.saturating_duration_since(sent);
        let lowest = auto.learn(latency);
        let carries = auto.carries(lowest);
        let queued = latency > lowest.mul_f64(QUEUED) || lowest > auto.longest;
        auto.always_short &= full && carries > self.limit && queued;
        if carries < self.limit {
            self.limit = carries;
        } else if carries > self.limit && !queued {
            self.limit += 1;
            auto.changed = Some(now);
        }
    }
}

impl Auto {
    /// Starts a new period when the last one is over; returns whether it did.
    fn new_period(&mut self, now: Instant) -> bool {
        let start = *self.period_start.get_or_insert(now);
        if now.saturating_duration_since(start) < PERIOD {
            return false;
        }
        self.period_start = Some(now);
        self.lowest_before = self.lowest.take();
        true
    }

    /// Records a latency. Returns the lowest of this period and the one before.
    fn learn(&mut self, latency: Duration) -> Duration {
        let lowest = self.lowest.map_or(latency, |lowest| lowest.min(latency));
        self.lowest = Some(lowest);
        self.lowest_before
            .map_or(lowest, |before| before.min(lowest))
    }

    /// Little's law, and one more so that the next frame need not wait for a confirm.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped before"
    )]
    fn carries(&self, latency: Duration) -> usize {
        ((self.fps * latency.as_secs_f64()).ceil() + 1.0).clamp(MIN as f64, MAX as f64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A camera and a link in simulated time: the link takes `service` for each frame, one after
    /// the other, and `round_trip` beside it. Runs for `seconds`; returns the frames carried per
    /// second, the largest window and the age of the oldest frame at its confirm.
    fn simulate(
        window: &mut Window,
        start: Instant,
        seconds: u32,
        service: Duration,
        round_trip: Duration,
    ) -> (f64, usize, Duration) {
        let interval = Duration::from_secs_f64(1.0 / 15.0);
        let mut link_free = start;
        let mut unconfirmed: VecDeque<(Instant, Instant)> = VecDeque::new();
        let (mut carried, mut largest, mut oldest) = (0u32, 0, Duration::ZERO);
        for n in 0..seconds * 15 {
            let now = start + interval * n;
            let mut full = unconfirmed.len() >= window.limit();
            while let Some(&(sent, confirmed)) = unconfirmed.front().filter(|(_, at)| *at <= now) {
                unconfirmed.pop_front();
                window.confirmed(sent, full, confirmed);
                full = false;
                carried += 1;
                oldest = oldest.max(confirmed - sent);
            }
            if unconfirmed.len() < window.limit() {
                link_free = link_free.max(now) + service;
                unconfirmed.push_back((now, link_free + round_trip));
            }
            largest = largest.max(window.limit());
        }
        (f64::from(carried) / f64::from(seconds), largest, oldest)
    }

    const MS: Duration = Duration::from_millis(1);

    fn auto() -> Window {
        Window::new(MaxInFlight::Auto, 15, Duration::from_secs(1))
    }

    #[test]
    fn on_a_lan_it_stays_at_two() {
        let (fps, largest, _) = simulate(&mut auto(), Instant::now(), 60, MS, MS);
        assert!(fps > 14.9, "{fps}");
        assert_eq!(largest, 2);
    }

    #[test]
    fn towards_a_broker_200_ms_away_it_grows_to_carry_the_fps_and_shrinks_again() {
        let (start, mut window) = (Instant::now(), auto());
        let (fps, largest, _) = simulate(&mut window, start, 60, MS, 200 * MS);
        assert!(fps > 14.8, "{fps}");
        assert_eq!(largest, 5, "ceil(15 x 0.201) + 1");
        simulate(&mut window, start + Duration::from_secs(60), 11, MS, MS);
        assert_eq!(window.limit(), 2);
    }

    #[test]
    fn a_link_that_becomes_slow_is_followed_within_two_periods() {
        let (start, mut window) = (Instant::now(), auto());
        simulate(&mut window, start, 60, MS, MS);
        simulate(
            &mut window,
            start + Duration::from_secs(60),
            15,
            MS,
            200 * MS,
        );
        assert_eq!(window.limit(), 5);
    }

    #[test]
    fn a_link_without_the_bandwidth_makes_no_long_queue() {
        // 5 frames/s is all it carries: a larger window would only bring older pictures.
        let (fps, largest, oldest) = simulate(&mut auto(), Instant::now(), 300, 200 * MS, MS);
        assert!(fps > 4.9, "{fps}");
        assert!(largest <= 4, "{largest}");
        assert!(oldest < Duration::from_secs(1), "{oldest:?}");
    }

    #[test]
    fn without_confirms_it_never_grows_and_fixed_stays_fixed() {
        assert_eq!(auto().limit(), 2);
        let mut fixed = Window::new(MaxInFlight::Fixed(7), 15, MS);
        fixed.confirmed(
            Instant::now(),
            true,
            Instant::now() + Duration::from_secs(9),
        );
        assert_eq!(fixed.limit(), 7);
    }

    #[test]
    fn it_never_passes_32() {
        let mut window = Window::new(MaxInFlight::Auto, 60, Duration::from_secs(10));
        let start = Instant::now();
        for n in 0..10_000 {
            let now = start + n * 10 * MS;
            window.confirmed(now, true, now + Duration::from_secs(1));
        }
        assert_eq!(window.limit(), MAX);
    }
}
