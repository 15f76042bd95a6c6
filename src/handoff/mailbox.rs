//! The one-slot mailbox from reader to publisher: the newest frame wins.
//!
//! A mutex around one slot. The lock is held only to move a pointer. The receiver's thread parks
//! when it has nothing to do; a frame is one of the things that unpark it.

use super::sync::{Mutex, Unparker};
use std::sync::Arc;

/// Makes a mailbox whose receiver is woken by `waker`. It is closed when the sender is dropped.
pub fn mailbox<T>(waker: Unparker) -> (MailboxSender<T>, MailboxReceiver<T>) {
    let slot = Arc::new(Mutex::new(Slot {
        newest: None,
        closed: false,
    }));
    (
        MailboxSender {
            slot: Arc::clone(&slot),
            waker,
        },
        MailboxReceiver { slot },
    )
}

#[derive(Debug)]
struct Slot<T> {
    newest: Option<T>,
    closed: bool,
}

/// The reader's side.
#[derive(Debug)]
pub struct MailboxSender<T> {
    slot: Arc<Mutex<Slot<T>>>,
    waker: Unparker,
}

impl<T> MailboxSender<T> {
    /// Puts the newest value in and returns the one that it replaced. Does not wait.
    #[must_use = "a displaced frame must be counted"]
    pub fn put(&self, newest: T) -> Option<T> {
        let displaced = self.slot.lock().newest.replace(newest);
        // Otherwise the receiver was woken for the replaced value: it is about to take this one, or
        // has no room.
        if displaced.is_none() {
            self.waker.unpark();
        }
        displaced
    }

    /// Whether the last value still waits.
    pub fn waiting(&self) -> bool {
        self.slot.lock().newest.is_some()
    }
}

impl<T> Drop for MailboxSender<T> {
    fn drop(&mut self) {
        self.slot.lock().closed = true;
        self.waker.unpark();
    }
}

/// The publisher's side.
#[derive(Debug)]
pub struct MailboxReceiver<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> MailboxReceiver<T> {
    /// Takes the value that waits, if any.
    pub fn take(&self) -> Option<T> {
        self.slot.lock().newest.take()
    }

    /// Whether a value waits.
    pub fn waiting(&self) -> bool {
        self.slot.lock().newest.is_some()
    }

    /// Whether the sender is dropped. The last value may still wait.
    pub fn closed(&self) -> bool {
        self.slot.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_utils::sync::Parker;
    use proptest::prelude::*;

    #[test]
    fn the_newest_wins_and_the_displaced_comes_back() {
        let (tx, rx) = mailbox(Parker::new().unparker().clone());
        assert_eq!(tx.put(1), None);
        assert_eq!(tx.put(2), Some(1));
        assert!(tx.waiting());
        assert_eq!(rx.take(), Some(2));
        assert!(!tx.waiting());
        assert_eq!(rx.take(), None);
    }

    #[test]
    fn dropping_the_sender_wakes_the_receiver_and_keeps_the_last_frame() {
        let parker = Parker::new();
        let (tx, rx) = mailbox(parker.unparker().clone());
        assert_eq!(tx.put(1), None);
        parker.park();
        assert!(!rx.closed());
        drop(tx);
        parker.park();
        assert!(rx.closed());
        assert_eq!(rx.take(), Some(1));
    }

    proptest! {
        /// Whatever the interleaving of puts and takes: each value comes out exactly once, taken or
        /// displaced, in order.
        #[test]
        fn nothing_is_lost_and_nothing_comes_twice(puts in prop::collection::vec(any::<bool>(), 0..200)) {
            let (tx, rx) = mailbox(Parker::new().unparker().clone());
            let (mut next, mut out) = (0u32, Vec::new());
            for put in puts {
                if put {
                    out.extend(tx.put(next));
                    next += 1;
                } else {
                    out.extend(rx.take());
                }
            }
            out.extend(rx.take());
            prop_assert_eq!(out, (0..next).collect::<Vec<_>>());
        }
    }

    #[test]
    fn two_threads_lose_nothing_and_see_it_in_order() {
        const PUTS: u64 = 100_000;
        let parker = Parker::new();
        let (tx, rx) = mailbox(parker.unparker().clone());
        let (displaced, taken) = std::thread::scope(|scope| {
            let reader =
                scope.spawn(move || (0..PUTS).filter_map(|n| tx.put(n)).collect::<Vec<_>>());
            let publisher = scope.spawn(move || {
                let mut taken = Vec::new();
                loop {
                    // Read before the slot, since the last value is put in before the mailbox
                    // closes.
                    let closed = rx.closed();
                    match rx.take() {
                        Some(value) => taken.push(value),
                        None if closed => return taken,
                        None => parker.park(),
                    }
                }
            });
            (reader.join().unwrap(), publisher.join().unwrap())
        });
        assert!(taken.is_sorted() && displaced.is_sorted());
        let mut all = [taken, displaced].concat();
        all.sort_unstable();
        assert_eq!(all, (0..PUTS).collect::<Vec<_>>());
    }
}
