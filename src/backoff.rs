//! Growing delays between attempts, spread at random.
//!
//! Without the spread, a hundred cameras behind one switch would reconnect at the same moments
//! after it comes back. The idea is from Marc Brooker, "Exponential Backoff And Jitter", AWS
//! Architecture Blog, 2015.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// No delay is shorter, whatever the settings: a retry loop without a delay spins a core.
const SHORTEST: Duration = Duration::from_millis(1);

/// All delays are spread by a fifth either way: enough to pull apart the cameras of one switch, too
/// little to be taken for another backoff.
pub const JITTER: f64 = 0.2;

/// Delays that grow from `initial` to `max` by `multiplier`, each spread by `jitter`.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    multiplier: f64,
    jitter: f64,
    attempts: u32,
}

impl Backoff {
    /// `jitter` is a fraction of the delay: 0.2 spreads it evenly over 80 % to 120 %. A multiplier
    /// below 1 counts as 1, a jitter outside 0 to 1 as the nearer of the two.
    pub fn new(initial: Duration, max: Duration, multiplier: f64, jitter: f64) -> Self {
        Self {
            initial,
            max,
            multiplier: multiplier.max(1.0),
            jitter: jitter.clamp(0.0, 1.0),
            attempts: 0,
        }
    }

    /// The next delay. `random` is from 0 to 1, see [`random`]; never 0, never above `max`.
    pub fn next(&mut self, random: f64) -> Duration {
        let exponent = i32::try_from(self.attempts).unwrap_or(i32::MAX);
        self.attempts = self.attempts.saturating_add(1);
        // Capped so that the spread ends at `max`. Capping what was spread would put half of
        // all cameras at exactly `max`: in step again.
        let cap = self.max.as_secs_f64() / (1.0 + self.jitter);
        let middle = (self.initial.as_secs_f64() * self.multiplier.powi(exponent)).min(cap);
        let spread = 1.0 + self.jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        Duration::try_from_secs_f64(middle * spread)
            .unwrap_or(self.max)
            .min(self.max)
            .max(SHORTEST)
    }

    /// Starts again from `initial`.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many delays were given since the start or the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// A random number, at least 0 and below 1. For spreading, not for secrets.
pub fn random() -> f64 {
    // Every RandomState of std has keys of its own: enough, and no crate more.
    let bits = RandomState::new().build_hasher().finish();
    // An f64 holds 53 bits exactly.
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_doubles_up_to_the_most() {
        let mut backoff = Backoff::new(5 * SECOND, 60 * SECOND, 2.0, 0.0);
        let delays: Vec<_> = (0..6).map(|_| backoff.next(0.5).as_secs()).collect();
        assert_eq!(delays, [5, 10, 20, 40, 60, 60]);
        assert_eq!(backoff.attempts(), 6);
        backoff.reset();
        assert_eq!((backoff.attempts(), backoff.next(0.5)), (0, 5 * SECOND));
    }

    #[test]
    fn the_spread_is_even_around_the_middle() {
        for (random, millis) in [(0.0, 4000), (0.25, 4500), (0.5, 5000), (1.0, 6000)] {
            let mut backoff = Backoff::new(5 * SECOND, 60 * SECOND, 2.0, 0.2);
            assert_eq!(backoff.next(random), Duration::from_millis(millis));
        }
    }

    #[test]
    fn cameras_at_the_longest_delay_are_still_spread() {
        let at_most = |random| {
            let mut backoff = Backoff::new(60 * SECOND, 60 * SECOND, 2.0, 0.2);
            backoff.next(random)
        };
        assert_eq!(at_most(1.0), 60 * SECOND);
        assert!(at_most(0.9) < at_most(1.0), "not all at the same moment");
        assert!(at_most(0.0) >= 39 * SECOND);
    }

    #[test]
    fn it_never_runs_out_of_numbers() {
        let mut backoff = Backoff::new(5 * SECOND, 300 * SECOND, 2.0, 0.2);
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.next(1.0), 300 * SECOND);
        assert_eq!(backoff.attempts(), u32::MAX);
    }

    #[test]
    fn random_numbers_differ_and_are_in_range() {
        let mut numbers: Vec<_> = (0..1000).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = numbers.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        assert!(numbers.len() > 990);
    }

    proptest! {
        #[test]
        fn whatever_the_settings_a_delay_is_in_range(
            initial in any::<Duration>(), max in any::<Duration>(), multiplier in any::<f64>(),
            jitter in any::<f64>(), random in any::<f64>(), attempts in any::<u32>(),
        ) {
            let mut backoff = Backoff::new(initial, max, multiplier, jitter);
            backoff.attempts = attempts;
            let delay = backoff.next(random);
            prop_assert!(delay >= SHORTEST && delay <= max.max(SHORTEST), "{:?}", delay);
        }
    }
}
