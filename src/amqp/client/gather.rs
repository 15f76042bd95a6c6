//! Batches confirms that come fast, as a network card reports many packets with one interrupt.
//!
//! With 50 cameras a confirm comes every 2 ms. Waking the I/O thread for each costs a fifth of what
//! a frame costs, and only the counters wait for them. So the thread pauses between two reads, but
//! never while a publisher waits for an answer.

use crate::amqp::lock::{Ordered, Rank};
use parking_lot::Condvar;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest pause, and so the longest delay of counters and measured latencies. A person does
/// not notice a tenth of a second; this is a tenth of that.
pub(super) const REST: Duration = Duration::from_millis(10);

/// With fewer answers per pause each is read as it comes, since a pause costs a wake-up too. Two
/// per pause are 200 per second.
const WORTH: u32 = 2;

/// Measures how fast answers come. Pure.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Option<Instant>,
    answers: u32,
    fast: bool,
}

impl Pace {
    /// `answers` have been read and no more are there. Returns whether they come fast enough to
    /// pause.
    pub(super) fn fast(&mut self, answers: u32, now: Instant) -> bool {
        self.answers += answers;
        let passed = self.since.map(|since| now.saturating_duration_since(since));
        if passed.is_none_or(|passed| passed >= REST) {
            self.fast = passed.is_some_and(|passed| passed * WORTH <= REST * self.answers);
            self.since = Some(now);
            self.answers = 0;
        }
        self.fast
    }
}

/// How many users of a connection wait for an answer.
#[derive(Debug)]
pub struct AnswerWaiters {
    count: Ordered<usize>,
    one_more: Condvar,
}

/// A user that waits for an answer until this is dropped.
#[derive(Debug)]
pub struct AnswerWaiter(Arc<AnswerWaiters>);

impl Default for AnswerWaiters {
    fn default() -> Self {
        Self {
            count: Ordered::new(Rank::AnswerWaiters, 0),
            one_more: Condvar::new(),
        }
    }
}

impl AnswerWaiters {
    /// Registers a user: answers are read as they come until it is dropped.
    pub fn wait(self: &Arc<Self>) -> AnswerWaiter {
        *self.count.lock() += 1;
        self.one_more.notify_one();
        AnswerWaiter(Arc::clone(self))
    }

    /// Pauses for at most `longest`, until a user starts to wait.
    pub(super) fn rest(&self, longest: Duration) {
        let mut count = self.count.lock();
        if *count == 0 {
            count.wait_for(&self.one_more, longest);
        }
    }
}

impl Drop for AnswerWaiter {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_fast_from_two_in_a_rest_and_until_they_are_fewer() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut at = start;
        let mut every = |pause: u32, answers| {
            at += REST / 10 * pause;
            pace.fast(answers, at)
        };
        assert!((0..100).all(|_| !every(6, 1)), "1.7 in a rest");
        assert!((0..10).any(|_| every(4, 1)), "2.5 in a rest");
        assert!((0..10).all(|_| every(10, 2)), "read together");
        assert!(!every(10, 1), "fewer");
        assert!(!every(1000, 4), "few in a long time");
    }

    #[test]
    fn nobody_who_waits_finds_it_asleep() {
        let hour = Duration::from_secs(3600);
        let waiters = Arc::new(AnswerWaiters::default());
        let first = std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| waiters.rest(hour));
            let first = waiters.wait();
            sleeper.join().unwrap();
            first
        });
        let second = waiters.wait();
        drop(first);
        waiters.rest(hour);
        drop(second);
        waiters.rest(Duration::ZERO);
    }
}
