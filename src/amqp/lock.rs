//! The locks of a connection, and the order in which a thread takes several of them.
//!
//! A thread that holds one takes only those below it. Each [`Ordered`] lock knows its place. A
//! debug build panics if a thread takes a lock out of order, so every test checks the order.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// The places, from the first that is taken to the last.
#[derive(Debug, Clone, Copy)]
pub enum Rank {
    /// Of the socket (`client/wire.rs`): held while a message is sent, and while what amiquip wrote
    /// is looked at. Under it a listener hears that its channel has ended, and a publisher asks
    /// whether its frame still goes.
    WriteSide,
    /// Who listens on which channel (`client/answers.rs`): held while a listener is told.
    Listeners,
    /// The unconfirmed frames of one channel (`publish/in_flight.rs`).
    InFlight,
    /// Who sends next on a connection (`scheduler.rs`). Under it a publisher looks into its
    /// mailbox.
    Scheduler,
    /// How many wait for an answer (`client/gather.rs`).
    AnswerWaiters,
    /// What a link knows (`link.rs`). Nothing is taken under it but why it was cut.
    Link,
}

/// A mutex with a place in the order.
#[derive(Debug)]
pub struct Ordered<T> {
    rank: Rank,
    inner: Mutex<T>,
}

/// The lock, held.
#[derive(Debug)]
pub struct Guard<'a, T> {
    inner: MutexGuard<'a, T>,
    _held: Held,
}

impl<T> Ordered<T> {
    /// One of that place.
    pub fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            inner: Mutex::new(value),
        }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        let held = Held::new(self.rank);
        Guard {
            inner: self.inner.lock(),
            _held: held,
        }
    }

    /// The lock, if nobody has it.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(Guard {
            inner,
            _held: Held::new(self.rank),
        })
    }
}

impl<T> Guard<'_, T> {
    /// Gives the lock back until `condition` is notified.
    pub fn wait(&mut self, condition: &Condvar) {
        condition.wait(&mut self.inner);
    }

    /// The same for `longest` at most.
    pub fn wait_for(&mut self, condition: &Condvar, longest: Duration) {
        condition.wait_for(&mut self.inner, longest);
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(debug_assertions)]
use debug::Held;

#[cfg(not(debug_assertions))]
#[derive(Debug)]
struct Held;

#[cfg(not(debug_assertions))]
impl Held {
    fn new(_: Rank) -> Self {
        Self
    }
}

#[cfg(debug_assertions)]
mod debug {
    use super::Rank;
    use std::cell::Cell;

    thread_local! {
        /// A bit for each place of which this thread holds a lock.
        static HELD: Cell<u32> = const { Cell::new(0) };
    }

    /// Noted for this thread until it is dropped.
    #[derive(Debug)]
    pub(super) struct Held(u32);

    impl Held {
        pub(super) fn new(rank: Rank) -> Self {
            let bit = 1 << rank as u32;
            HELD.with(|held| {
                assert!(
                    held.get() < bit,
                    "the lock of rank {rank:?} is taken out of order: held are {:#b}",
                    held.get()
                );
                held.set(held.get() | bit);
            });
            Self(bit)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.with(|held| held.set(held.get() & !self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_in_order_and_given_back_in_any() {
        let first = Ordered::new(Rank::WriteSide, ());
        let last = Ordered::new(Rank::Link, ());
        let (held, other) = (first.lock(), last.lock());
        drop(held);
        drop(other);
        let _first = first.lock();
    }

    #[test]
    #[should_panic(expected = "the lock of rank InFlight is taken out of order")]
    fn a_lock_that_is_taken_out_of_order_is_found() {
        let first = Ordered::new(Rank::InFlight, ());
        let last = Ordered::new(Rank::Scheduler, ());
        let _held = last.lock();
        let _out_of_order = first.lock();
    }
}
