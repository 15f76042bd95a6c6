//! Tries every order in which the threads of the handoff can meet (`make loom`). It compiles the
//! source of the mailbox, the pool and the queue of video; only the synchronisation below them is a
//! model.
//!
//! The mutex and the parking are assumed to work as documented. An order that ends in a deadlock is
//! a failure, which loom prints.

#[allow(dead_code)]
#[path = "../src/handoff/gops.rs"]
mod gops;
#[allow(dead_code)]
#[path = "../src/handoff/mailbox.rs"]
mod mailbox;
#[allow(dead_code)]
#[path = "../src/handoff/pool.rs"]
mod pool;

mod orders;
#[allow(dead_code)]
mod sync;

use gops::{Gop, Placed, gops};
use mailbox::{MailboxReceiver, MailboxSender, mailbox};
use pool::{BUFFERS_PER_CAMERA, Buffer, Pool};
use std::time::{Duration, Instant};
use sync::Parker;

/// Waits for frames as the publisher does, until the reader has ended or `enough` says so.
fn publish<T>(parker: &Parker, rx: &MailboxReceiver<T>, mut enough: impl FnMut(T) -> bool) {
    loop {
        let closed = rx.closed();
        match rx.take() {
            Some(frame) => {
                if enough(frame) {
                    return;
                }
            }
            None if closed => return,
            None => parker.park(),
        }
    }
}

fn parker_and_mailbox<T>() -> (Parker, MailboxSender<T>, MailboxReceiver<T>) {
    let parker = Parker::new();
    let (tx, rx) = mailbox(parker.unparker().clone());
    (parker, tx, rx)
}

/// Each frame comes out once, taken or replaced, in order; the last one is taken.
fn nothing_is_lost_and_nothing_comes_twice() {
    let (parker, tx, rx) = parker_and_mailbox();
    let reader = loom::thread::spawn(move || (0..3).filter_map(|n| tx.put(n)).collect());
    let mut taken = Vec::new();
    publish(&parker, &rx, |n| {
        taken.push(n);
        false
    });
    let displaced: Vec<_> = reader.join().unwrap();
    assert!(taken.is_sorted() && displaced.is_sorted());
    assert_eq!(taken.last(), Some(&2));
    let mut all = [taken, displaced].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
}

/// A frame that waits wakes the publisher, although the reader runs on and puts no other frame.
fn no_wake_up_is_missed() {
    let (parker, tx, rx) = parker_and_mailbox();
    let publisher = loom::thread::spawn(move || publish(&parker, &rx, |n| n == 1));
    let _ = (tx.put(0), tx.put(1));
    publisher.join().unwrap();
    drop(tx);
}

/// A thread that waits only for the end sees it, and the last frame is still there.
fn the_end_is_seen() {
    let (parker, tx, rx) = parker_and_mailbox();
    let reader = loom::thread::spawn(move || tx.put(0));
    while !rx.closed() {
        parker.park();
    }
    assert_eq!(reader.join().unwrap(), None);
    assert_eq!(rx.take(), Some(0));
}

/// A frame keeps its bytes until it is published. Three buffers suffice: no other buffer is made,
/// and all return to the pool.
fn three_buffers_suffice() {
    let pool = warm_pool();
    let ring = pool.clone();
    let (parker, tx, rx) = parker_and_mailbox();
    let reader = loom::thread::spawn(move || {
        let mut buffer = ring.take();
        for n in 1..=3 {
            assert_eq!(buffer.storage(0).len(), 1, "a buffer that was there");
            fill(&mut buffer, n);
            drop(tx.put(buffer));
            buffer = ring.take();
        }
    });
    let mut last = 0;
    publish(&parker, &rx, |frame: Buffer| {
        let &[n] = frame.picture() else {
            panic!("no picture")
        };
        assert!(n > last);
        last = n;
        false
    });
    assert_eq!(last, 3);
    reader.join().unwrap();
    assert_eq!(pool.idle(), BUFFERS_PER_CAMERA);
}

/// Idle buffers are freed meanwhile: the pool is complete afterwards.
fn a_ring_that_is_relieved_stays_whole() {
    let pool = warm_pool();
    let (one, two) = (pool.clone(), pool.clone());
    let users = [one, two].map(|ring| {
        loom::thread::spawn(move || {
            let mut buffer = ring.take();
            fill(&mut buffer, 7);
            assert_eq!(buffer.picture(), [7]);
        })
    });
    pool.release_idle();
    for user in users {
        user.join().unwrap();
    }
    assert_eq!(pool.idle(), BUFFERS_PER_CAMERA);
}

/// Two GOPs of two units, and the first unit that leaves is reported broken meanwhile. Each unit
/// leaves or is dropped, what leaves can be decoded, and the end is seen.
fn video_that_breaks_can_be_decoded() {
    let parker = Parker::new();
    let (tx, rx) = gops(2, Duration::MAX, parker.unparker().clone());
    let reader = loom::thread::spawn(move || {
        let put = |n: u8| {
            let (key, since) = (n % 2 == 0, Instant::now());
            let gop = Gop {
                epoch: 1,
                number: i64::from(n / 2),
            };
            let unit = Placed {
                gop,
                key,
                since,
                unit: n,
            };
            tx.put(unit, &[n]).total()
        };
        (0..4).map(put).sum::<u64>()
    });
    let (mut left, mut dropped, mut bytes) = (vec![], 0, vec![]);
    loop {
        let closed = rx.closed();
        let (unit, drops) = rx.take(Instant::now(), &mut bytes);
        dropped += drops.total();
        match unit {
            Some(unit) => {
                assert_eq!(bytes, [unit.unit]);
                if left.is_empty() {
                    rx.broken(unit.gop);
                }
                left.push(unit.unit);
            }
            None if closed => break,
            None => parker.park(),
        }
    }
    assert_eq!(reader.join().unwrap() + dropped + left.len() as u64, 4);
    // Nothing follows of the GOP that was reported broken. The other one is whole.
    assert!([&[0, 2, 3][..], &[2]].contains(&&left[..]), "{left:?}");
}

fn warm_pool() -> Pool {
    let pool = Pool::new();
    let mut all = [(); BUFFERS_PER_CAMERA].map(|()| pool.take());
    all.iter_mut().for_each(|buffer| {
        buffer.storage(1);
    });
    drop(all);
    pool
}

fn fill(buffer: &mut Buffer, n: u8) {
    buffer.storage(1)[0] = n;
    buffer.mark(0, 1);
}

fn main() {
    // All orders of the mailbox alone. With the pool or the queue of video there are too many, so
    // only those with up to three preemptions (a thread is stopped although it could run).
    let models: [(&str, Option<usize>, fn()); 6] = [
        (
            "nothing is lost and nothing comes twice",
            None,
            nothing_is_lost_and_nothing_comes_twice,
        ),
        ("no wake-up is missed", None, no_wake_up_is_missed),
        ("the end is seen", None, the_end_is_seen),
        (
            "video that breaks can be decoded",
            Some(3),
            video_that_breaks_can_be_decoded,
        ),
        ("three buffers suffice", Some(3), three_buffers_suffice),
        (
            "a ring that is relieved stays whole",
            Some(3),
            a_ring_that_is_relieved_stays_whole,
        ),
    ];
    for (name, bound, model) in models {
        orders::try_all(name, bound, model);
    }
}
