//! The circuit breaker: a camera that fails again and again is left alone for a while.
//!
//! ```text
//!                 max_failures sessions failed in a row
//!        Closed ────────────────────────────────────────► Open ◄──┐
//!          ▲                                               │      │ the trial session ended
//!          │ half_open_successes frames       backoff over │      │ before: the next longer
//!          │ in the trial session                          ▼      │ backoff
//!          └─────────────────────────────────────────── HalfOpen ─┘
//! ```
//!
//! A session fails when it brings frames for less than 3 s. One that brings them for longer
//! ends the row of failures, however it ends: many cameras hang up every few seconds or minutes, and
//! the next session follows after 0.5 s.
//!
//! Closing forgets the failures but not how long the backoff was: a camera that breaks down right
//! after each trial waits longer and longer. Only `reset_timeout` of frames, in one session or in
//! several without a failure between them, forgets that too. Between two sessions of a closed
//! breaker there is a short delay, which grows with the failures.
//!
//! Nothing here looks at a clock or makes a random number: the caller brings both.

use crate::backoff::{Backoff, JITTER};
use crate::config::CircuitBreaker;
use std::time::{Duration, Instant};

/// Delay after the first failed session of a closed breaker: short, as most cameras that hang up
/// are back at once, and long enough for a camera to notice that the old session is gone.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// A session that brought frames for so long is no failure. Shorter than the sessions of cameras that
/// hang up every 5 s. Long enough that a camera which flaps faster is left alone: at this length
/// FFmpeg is started once in 3.5 s, which takes 2 % of one processor.
const STEADY: Duration = Duration::from_secs(3);

/// How fast the delays of a closed breaker grow.
const RETRY_MULTIPLIER: f64 = 2.0;

/// State as the metrics show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Sessions are made.
    Closed = 0,
    /// One trial session is under way.
    HalfOpen = 1,
    /// No session is made until the backoff is over.
    Open = 2,
}

/// Whether a session may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Begin.
    Go,
    /// Begin; how this session goes decides whether the breaker closes.
    Trial,
    /// Not yet: ask again after so long, which is never 0.
    Wait(Duration),
}

/// One camera's breaker.
#[derive(Debug)]
pub struct Breaker {
    config: CircuitBreaker,
    phase: Phase,
    /// Failed sessions in a row since it last closed.
    failures: u32,
    /// Delays while closed.
    retry: Backoff,
    /// Delays while open. Its count of attempts is the level that outlives a close.
    backoff: Backoff,
    /// The running session's first and newest frame.
    frames: Option<(Instant, Instant)>,
    /// How long earlier sessions brought frames since the last failure.
    steady_before: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed { pause: Option<Pause> },
    Open { pause: Pause },
    HalfOpen { frames: u32 },
}

/// A stretch of time, kept as two parts because an `Instant` cannot be moved by any `Duration`.
#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Instant,
    length: Duration,
}

impl Pause {
    fn left(&self, now: Instant) -> Option<Duration> {
        self.length
            .checked_sub(now.saturating_duration_since(self.since))
            .filter(|left| !left.is_zero())
    }
}

impl Breaker {
    /// A closed breaker.
    pub fn new(config: &CircuitBreaker) -> Self {
        let longest_retry = config.initial_backoff;
        Self {
            config: config.clone(),
            phase: Phase::Closed { pause: None },
            failures: 0,
            retry: Backoff::new(FIRST_RETRY, longest_retry, RETRY_MULTIPLIER, JITTER),
            backoff: Backoff::new(
                config.initial_backoff,
                config.max_backoff,
                config.backoff_multiplier,
                JITTER,
            ),
            frames: None,
            steady_before: Duration::ZERO,
        }
    }

    /// To be asked before every session. One that ends by shutdown is reported to nobody.
    pub fn before_session(&mut self, now: Instant) -> Decision {
        self.frames = None;
        match self.phase {
            Phase::Closed { pause } => match pause.and_then(|pause| pause.left(now)) {
                Some(left) => Decision::Wait(left),
                None => Decision::Go,
            },
            Phase::Open { pause } => match pause.left(now) {
                Some(left) => Decision::Wait(left),
                None => self.begin_trial(),
            },
            // The last trial ended without a verdict.
            Phase::HalfOpen { .. } => self.begin_trial(),
        }
    }

    fn begin_trial(&mut self) -> Decision {
        self.phase = Phase::HalfOpen { frames: 0 };
        Decision::Trial
    }

    /// A frame came.
    pub fn on_frame(&mut self, now: Instant) {
        let first = self.frames.map_or(now, |(first, _)| first);
        self.frames = Some((first, now));
        if let Phase::HalfOpen { frames } = &mut self.phase {
            *frames = frames.saturating_add(1);
            if *frames >= self.config.half_open_successes {
                self.phase = Phase::Closed { pause: None };
                self.forget_failures();
            }
        }
        let healthy = self.steady_before.saturating_add(self.frames_for());
        if self.state() == State::Closed && healthy >= self.config.reset_timeout {
            self.forget_failures();
            self.backoff.reset();
        }
    }

    /// From the running session's first frame to its newest. What comes after the newest is not
    /// counted: a camera that sends one frame and hangs was not steady.
    fn frames_for(&self) -> Duration {
        self.frames.map_or(Duration::ZERO, |(first, newest)| {
            newest.saturating_duration_since(first)
        })
    }

    fn forget_failures(&mut self) {
        self.failures = 0;
        self.retry.reset();
    }

    /// A session ended other than by shutdown. `random` is from 0 to 1 and spreads the delay.
    pub fn session_ended(&mut self, now: Instant, random: f64) {
        let frames_for = self.frames_for();
        let steady = frames_for >= STEADY;
        self.frames = None;
        self.steady_before = if steady {
            self.steady_before.saturating_add(frames_for)
        } else {
            Duration::ZERO
        };
        match self.phase {
            Phase::Closed { .. } => {
                if steady {
                    self.forget_failures();
                } else {
                    self.failures = self.failures.saturating_add(1);
                }
                if self.config.enabled && self.failures >= self.config.max_failures {
                    self.open(now, random);
                } else {
                    let length = self.retry.next(random);
                    let pause = Some(Pause { since: now, length });
                    self.phase = Phase::Closed { pause };
                }
            }
            Phase::HalfOpen { .. } => self.open(now, random),
            // No session was let through, so none can have failed.
            Phase::Open { .. } => {}
        }
    }

    fn open(&mut self, now: Instant, random: f64) {
        let length = self.backoff.next(random);
        let pause = Pause { since: now, length };
        self.phase = Phase::Open { pause };
    }

    /// State as the metrics show it.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Open { .. } => State::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIDDLE: f64 = 0.5;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// The contract's defaults.
    fn config() -> CircuitBreaker {
        CircuitBreaker {
            enabled: true,
            max_failures: 5,
            half_open_successes: 3,
            initial_backoff: secs(5),
            max_backoff: secs(300),
            backoff_multiplier: 2.0,
            reset_timeout: secs(30),
        }
    }

    /// A breaker with a clock that only the test moves.
    struct Bench {
        breaker: Breaker,
        now: Instant,
    }

    impl Bench {
        fn new(config: &CircuitBreaker) -> Self {
            Self {
                breaker: Breaker::new(config),
                now: Instant::now(),
            }
        }

        /// Waits as told until a session is let through; how long that took, and was it a trial.
        fn begin(&mut self) -> (Duration, bool) {
            match self.breaker.before_session(self.now) {
                Decision::Go => (Duration::ZERO, false),
                Decision::Trial => (Duration::ZERO, true),
                Decision::Wait(wait) => {
                    assert!(wait > Duration::ZERO, "would spin");
                    let almost = self.now + wait - Duration::from_nanos(1);
                    assert!(matches!(
                        self.breaker.before_session(almost),
                        Decision::Wait(_)
                    ));
                    self.now += wait;
                    let (more, trial) = self.begin();
                    assert_eq!(more, Duration::ZERO, "one wait must do");
                    (wait, trial)
                }
            }
        }

        fn frames(&mut self, count: u32, apart: Duration) {
            for _ in 0..count {
                self.breaker.on_frame(self.now);
                self.now += apart;
            }
        }

        fn fail(&mut self) {
            self.breaker.session_ended(self.now, MIDDLE);
        }

        fn break_down(&mut self) {
            while self.breaker.state() != State::Open {
                self.begin();
                self.fail();
            }
        }
    }

    #[test]
    fn the_full_cycle_of_the_contract() {
        let mut bench = Bench::new(&config());
        assert_eq!(bench.begin(), (Duration::ZERO, false));

        // Five consecutive failed sessions open it; until then there are short growing delays.
        for millis in [500, 1000, 2000, 4000] {
            bench.fail();
            assert_eq!(bench.breaker.state(), State::Closed);
            assert_eq!(bench.begin(), (Duration::from_millis(millis), false));
        }
        bench.fail();
        assert_eq!(bench.breaker.state(), State::Open);

        // One trial session after the initial backoff; it ends before it brings three frames.
        assert_eq!(bench.begin(), (secs(5), true));
        assert_eq!(bench.breaker.state(), State::HalfOpen);
        bench.frames(2, Duration::ZERO);
        bench.fail();
        assert_eq!(bench.breaker.state(), State::Open);

        // The next backoff is longer; three frames close the breaker.
        assert_eq!(bench.begin(), (secs(10), true));
        bench.frames(2, Duration::ZERO);
        assert_eq!(bench.breaker.state(), State::HalfOpen);
        bench.frames(1, Duration::ZERO);
        assert_eq!(bench.breaker.state(), State::Closed);

        // Closing forgot the failures, not the level: five more, and twice as long again.
        for millis in [500, 1000, 2000, 4000] {
            bench.fail();
            assert_eq!(bench.begin(), (Duration::from_millis(millis), false));
        }
        bench.fail();
        assert_eq!(bench.begin(), (secs(20), true));

        // Healthy for the reset timeout forgets the level too.
        bench.frames(31, secs(1));
        bench.break_down();
        assert_eq!(bench.begin(), (secs(5), true));
    }

    /// What a camera shows that hangs up after `session` of pictures, when FFmpeg needs 300 ms to the
    /// first picture: seconds of picture a minute, over ten minutes.
    fn picture_a_minute(session: Duration) -> f64 {
        let interval = Duration::from_millis(100);
        let mut bench = Bench::new(&config());
        let (start, mut pictures) = (bench.now, Duration::ZERO);
        while bench.now < start + secs(600) {
            bench.begin();
            bench.now += Duration::from_millis(300);
            let before = bench.now;
            while bench.now < before + session {
                bench.frames(1, interval);
            }
            pictures += session;
            bench.fail();
        }
        60.0 * pictures.as_secs_f64() / (bench.now - start).as_secs_f64()
    }

    #[test]
    fn a_camera_that_hangs_up_after_a_while_is_called_again_at_once() {
        for (session, at_least) in [(5, 51.0), (10, 55.0), (25, 58.0)] {
            let shown = picture_a_minute(secs(session));
            assert!(shown >= at_least, "{session} s: {shown}");
        }
    }

    #[test]
    fn a_camera_that_delivers_one_frame_and_dies_is_left_alone() {
        for frames in [1, 2] {
            let mut bench = Bench::new(&config());
            let mut rests = vec![];
            for _ in 0..9 {
                let (wait, trial) = bench.begin();
                rests.push((wait.as_millis(), trial));
                bench.frames(frames, Duration::from_millis(66));
                // It hangs until the watchdog ends it: that is not time with frames.
                bench.now += secs(20);
                bench.fail();
            }
            let delays = [0, 500, 1000, 2000, 4000].map(|ms| (ms, false));
            let trials = [5, 10, 20, 40].map(|secs| (secs * 1000, true));
            assert_eq!(rests, [&delays[..], &trials[..]].concat());
        }
    }

    #[test]
    fn a_session_just_short_of_steady_is_a_failure() {
        for (frames, state) in [(30, State::Open), (31, State::Closed)] {
            let mut bench = Bench::new(&config());
            for _ in 0..5 {
                bench.begin();
                bench.frames(frames, STEADY / 30);
                bench.fail();
            }
            assert_eq!(bench.breaker.state(), state, "{frames} frames");
        }
    }

    #[test]
    fn sessions_without_frames_count_until_frames_came_for_the_reset_timeout() {
        let mut bench = Bench::new(&config());
        bench.break_down();
        // Two sessions of 12 s close the breaker, and are too little to forget the backoff.
        for _ in 0..2 {
            bench.begin();
            bench.frames(13, secs(1));
            bench.fail();
        }
        bench.break_down();
        assert_eq!(bench.begin(), (secs(10), true));
        // Three in a row are enough.
        bench.frames(13, secs(1));
        bench.fail();
        for _ in 0..2 {
            bench.begin();
            bench.frames(13, secs(1));
            bench.fail();
        }
        bench.break_down();
        assert_eq!(bench.begin(), (secs(5), true));
    }

    #[test]
    fn a_healthy_session_forgets_the_failures_before_it() {
        let mut bench = Bench::new(&config());
        for _ in 0..50 {
            for _ in 0..4 {
                bench.begin();
                bench.fail();
            }
            bench.begin();
            bench.frames(31, secs(1));
            assert_eq!(bench.breaker.state(), State::Closed);
        }
        bench.fail();
        assert_eq!(bench.begin().0, FIRST_RETRY);
    }

    #[test]
    fn disabled_it_never_opens_and_never_spins() {
        let mut bench = Bench::new(&CircuitBreaker {
            enabled: false,
            ..config()
        });
        for _ in 0..1000 {
            bench.begin();
            bench.fail();
            assert_eq!(bench.breaker.state(), State::Closed);
        }
        let (wait, _) = bench.begin();
        assert!((secs(4)..=secs(5)).contains(&wait), "{wait:?}");
    }

    #[test]
    fn a_trial_that_shutdown_ended_is_made_again() {
        let mut bench = Bench::new(&config());
        bench.break_down();
        bench.begin();
        bench.frames(2, Duration::ZERO);
        assert_eq!(bench.begin(), (Duration::ZERO, true));
        bench.frames(2, Duration::ZERO);
        assert_eq!(
            bench.breaker.state(),
            State::HalfOpen,
            "frames of two sessions do not add up"
        );
    }

    /// The Go program's breaker stayed open for ever and its loop spun a core.
    #[test]
    fn breaker_that_never_leaves_open_and_spins() {
        let mut bench = Bench::new(&config());
        let mut trials = 0;
        let mut longest = Duration::ZERO;
        for flap in 0..1000 {
            let (wait, trial) = bench.begin();
            assert!(wait <= secs(300), "{wait:?}");
            assert!(flap == 0 || trial || wait > Duration::ZERO);
            longest = longest.max(wait);
            trials += u32::from(trial);
            bench.frames(flap % 3, Duration::from_millis(66));
            bench.breaker.session_ended(bench.now, MIDDLE);
        }
        assert_eq!(trials, 1000 - 5, "after five failures each one is a trial");
        assert_eq!(longest, secs(300).div_f64(1.0 + JITTER));
    }

    /// The Go program never recorded a success: its breaker could not close.
    #[test]
    fn successes_never_recorded() {
        let mut bench = Bench::new(&config());
        for _ in 0..1000 {
            bench.break_down();
            assert!(bench.begin().1);
            bench.frames(3, Duration::from_millis(66));
            assert_eq!(bench.breaker.state(), State::Closed);
        }
    }

    #[test]
    fn a_backoff_longer_than_time_itself_does_not_overflow() {
        let mut bench = Bench::new(&CircuitBreaker {
            initial_backoff: Duration::MAX,
            max_backoff: Duration::MAX,
            max_failures: 1,
            ..config()
        });
        bench.begin();
        bench.fail();
        let decision = bench.breaker.before_session(bench.now);
        assert!(matches!(decision, Decision::Wait(wait) if wait > secs(1 << 40)));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Asked,
        Frame,
        Failed(f64),
        Passed(Duration),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            Just(Event::Asked),
            Just(Event::Frame),
            (0.0..=1.0f64).prop_map(Event::Failed),
            (0..400_000u64).prop_map(|ms| Event::Passed(Duration::from_millis(ms))),
        ];
        prop::collection::vec(event, 0..200)
    }

    proptest! {
        /// In any order, also one that makes no sense: once the longest backoff has passed, a
        /// session is let through, and an open breaker makes it a trial.
        #[test]
        fn time_always_leads_to_a_session(events in events(), enabled in any::<bool>()) {
            let mut bench = Bench::new(&CircuitBreaker { enabled, ..config() });
            for event in events {
                match event {
                    Event::Asked => {
                        if let Decision::Wait(wait) = bench.breaker.before_session(bench.now) {
                            prop_assert!(wait > Duration::ZERO && wait <= secs(300));
                        }
                    }
                    Event::Frame => bench.breaker.on_frame(bench.now),
                    Event::Failed(random) => bench.breaker.session_ended(bench.now, random),
                    Event::Passed(time) => bench.now += time,
                }
            }
            let expected = match bench.breaker.state() {
                State::Closed => Decision::Go,
                State::HalfOpen | State::Open => Decision::Trial,
            };
            let later = bench.now + secs(300);
            prop_assert_eq!(bench.breaker.before_session(later), expected);
        }
    }
}
