//! The one-slot mailbox from reader to publisher: the newest frame wins.
//!
//! `crossbeam_channel` has no channel that overwrites, so this is a mutex around one slot, and a
//! bounded(1) crossbeam channel beside it as the waker: the publisher can wait in one `select!` on a
//! frame, a confirm and the connection. The lock is held for a pointer's move, never across a call.

use super::sync::{Mutex, Receiver, Sender, TrySendError, bounded};
use std::convert::Infallible;
use std::sync::Arc;

/// Makes a mailbox. The sender's end closes it when dropped.
pub fn mailbox<T>() -> (MailboxSender<T>, MailboxReceiver<T>) {
    let slot = Arc::new(Mutex::new(None));
    // One pending wake-up is enough: whoever wakes takes what is newest.
    let (wake, woken) = bounded(1);
    let (open, closed) = bounded(0);
    (
        MailboxSender {
            slot: Arc::clone(&slot),
            wake,
            _open: open,
        },
        MailboxReceiver {
            slot,
            woken,
            closed,
        },
    )
}

/// The reader's end.
#[derive(Debug)]
pub struct MailboxSender<T> {
    slot: Arc<Mutex<Option<T>>>,
    wake: Sender<()>,
    _open: Sender<Infallible>,
}

impl<T> MailboxSender<T> {
    /// Puts the newest in and hands back what it displaced. Never waits.
    #[must_use = "a displaced frame must be counted"]
    pub fn put(&self, newest: T) -> Option<T> {
        let displaced = self.slot.lock().replace(newest);
        match self.wake.try_send(()) {
            // Full: a wake-up is pending already. Disconnected: the receiver is gone, and what
            // waits is counted by whoever joins it.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => displaced,
        }
    }
}

/// The publisher's end.
#[derive(Debug)]
pub struct MailboxReceiver<T> {
    slot: Arc<Mutex<Option<T>>>,
    woken: Receiver<()>,
    closed: Receiver<Infallible>,
}

impl<T> MailboxReceiver<T> {
    /// What waits, if anything.
    pub fn take(&self) -> Option<T> {
        self.slot.lock().take()
    }

    /// Ready after a `put`, disconnected once the sender is gone: for `select!`. A wake-up may find
    /// the slot empty, because an earlier `take` got that frame already.
    pub fn woken(&self) -> &Receiver<()> {
        &self.woken
    }

    /// Never ready, but disconnected once the sender is gone: for a wait in which frames do not
    /// matter.
    pub fn closed(&self) -> &Receiver<Infallible> {
        &self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_newest_wins_and_the_displaced_comes_back() {
        let (tx, rx) = mailbox();
        assert_eq!(tx.put(1), None);
        assert_eq!(tx.put(2), Some(1));
        assert_eq!(rx.take(), Some(2));
        assert_eq!(rx.take(), None);
    }

    #[test]
    fn dropping_the_sender_wakes_the_receiver_and_keeps_the_last_frame() {
        let (tx, rx) = mailbox();
        assert_eq!(tx.put(1), None);
        drop(tx);
        assert!(rx.woken().recv().is_ok(), "the wake-up of the put");
        assert!(rx.woken().recv().is_err(), "then the close");
        assert_eq!(rx.take(), Some(1));
    }

    proptest! {
        /// Whatever the interleaving of puts and takes: each value comes out exactly once, taken or
        /// displaced, in order, and a waiting value always has a pending wake-up or was seen.
        #[test]
        fn nothing_is_lost_and_nothing_comes_twice(puts in prop::collection::vec(any::<bool>(), 0..200)) {
            let (tx, rx) = mailbox();
            let (mut next, mut out) = (0u32, Vec::new());
            for put in puts {
                if put {
                    out.extend(tx.put(next));
                    next += 1;
                    prop_assert!(!rx.woken().is_empty());
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
        let (tx, rx) = mailbox();
        let (displaced, taken) = std::thread::scope(|scope| {
            let reader =
                scope.spawn(move || (0..PUTS).filter_map(|n| tx.put(n)).collect::<Vec<_>>());
            let publisher = scope.spawn(move || {
                let mut taken = Vec::new();
                while rx.woken().recv().is_ok() {
                    taken.extend(rx.take());
                }
                taken.extend(rx.take());
                taken
            });
            (reader.join().unwrap(), publisher.join().unwrap())
        });
        assert!(taken.is_sorted() && displaced.is_sorted());
        let mut all = [taken, displaced].concat();
        all.sort_unstable();
        assert_eq!(all, (0..PUTS).collect::<Vec<_>>());
    }
}
