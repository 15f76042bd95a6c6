//! The circuit breaker: after several failures in a row, the next session of a camera waits longer.
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
//! A session fails when it brings frames for less than 3 s. One that brings them for longer ends
//! the row of failures, however it ends: many cameras hang up every few seconds or minutes, and the
//! next session follows after 0.5 s.
//!
//! Closing forgets the failures but not how long the backoff was: a camera that breaks down right
//! after each trial waits longer and longer. Only `reset_timeout` of frames, in one session or in
//! several without a failure between them, forgets that too. Between two sessions of a closed
//! breaker there is a short delay, which grows with the failures.
//!
//! Nothing here looks at a clock or makes a random number: the caller brings both.

#[cfg(test)]
mod tests;

use crate::backoff::{Backoff, JITTER};
use crate::config::CircuitBreaker;
use std::time::{Duration, Instant};

/// Delay after the first failed session of a closed breaker: short, as most cameras that hang up
/// are back at once, and long enough for a camera to notice that the old session is gone.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// A session that brought frames for this long is no failure. Shorter than the sessions of cameras
/// that hang up every 5 s. Long enough that the breaker opens for a camera that flaps faster: at
/// this length FFmpeg is started once in 3.5 s, which takes 2 % of one processor.
const STEADY: Duration = Duration::from_secs(3);

/// How fast the delays of a closed breaker grow.
const RETRY_MULTIPLIER: f64 = 2.0;

/// What the breaker is in, as the metrics show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerState {
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
    /// Not yet: ask again after this time, which is never 0.
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

    /// To be asked before every session. The end of a session by shutdown is not reported.
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
        if self.state() == BreakerState::Closed && healthy >= self.config.reset_timeout {
            self.forget_failures();
            self.backoff.reset();
        }
    }

    /// The time from the first frame of the running session to its newest. The time after the
    /// newest is not counted: a camera that sends one frame and hangs was not steady.
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

    /// What it is in, as the metrics show it.
    pub fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
            Phase::Open { .. } => BreakerState::Open,
        }
    }
}
