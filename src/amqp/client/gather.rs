//! Answers that come fast are read together, as a network card tells of many packets by one interrupt.
//!
//! With 50 cameras a confirm comes every 2 ms. To wake the I/O thread for each cost a fifth of what a frame costs, and
//! nobody waits for the answer but the books. So it sleeps a little between two looks. Never while a
//! publisher waits for an answer.

use crate::amqp::lock::{Ordered, Rank};
use parking_lot::Condvar;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An answer lies unread for so long at most: what the books are late, and by how much the latency of a confirm is
/// measured too long. A tenth of what a person sees as at once.
pub(super) const REST: Duration = Duration::from_millis(10);

/// Fewer answers in that time, and each is read as it comes: to sleep is a wake-up as well. At two it is 200 frames/s.
const WORTH: u32 = 2;

/// How fast answers come; pure.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Option<Instant>,
    answers: u32,
    fast: bool,
}

impl Pace {
    /// So many answers have been read, and no more are there: whether they come fast.
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

/// How many wait for an answer of a connection's.
#[derive(Debug)]
pub struct AnswerWaiters {
    count: Ordered<usize>,
    one_more: Condvar,
}

/// Somebody waits for an answer until this is dropped.
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
    /// From now on answers are read as they come.
    pub fn wait(self: &Arc<Self>) -> AnswerWaiter {
        *self.count.lock() += 1;
        self.one_more.notify_one();
        AnswerWaiter(Arc::clone(self))
    }

    /// Sleeps while nobody waits, `longest` at most. Woken by the first who does.
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
