//! The handoff of one camera at full speed under the thread sanitizer (`make tsan`): reader,
//! publisher, a thread that requests copies, and the memory controller, which frees idle buffers.

#[allow(dead_code)]
#[path = "../src/handoff/mailbox.rs"]
mod mailbox;
#[path = "../src/handoff/peek.rs"]
mod peek;
#[path = "../src/handoff/pool.rs"]
mod pool;

mod sync {
    pub(super) use crossbeam_utils::sync::Unparker;
    pub(super) use parking_lot::Mutex;
}

use crossbeam_utils::sync::Parker;
use mailbox::mailbox;
use peek::{Peek, PollWaker};
use pool::{BUFFERS_PER_CAMERA, Buffer, Pool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Some seconds under the sanitizer.
const FRAMES: u64 = 300_000;

fn main() {
    let pool = Pool::new();
    let parker = Parker::new();
    let (tx, rx) = mailbox::<Buffer>(parker.unparker().clone());
    let waker = Arc::new(PollWaker::new().unwrap());
    let peek = Arc::new(Peek::new(Arc::clone(&waker)));
    let over = Arc::new(AtomicBool::new(false));

    let reader = {
        let (pool, peek) = (pool.clone(), Arc::clone(&peek));
        thread::spawn(move || {
            let mut displaced = 0;
            for n in 1..=FRAMES {
                let mut frame = pool.take();
                let picture = n.to_ne_bytes();
                frame.storage(64)[..8].copy_from_slice(&picture);
                frame.mark(0, 8);
                peek.offer(|| number(&frame));
                displaced += u64::from(tx.put(frame).is_some());
            }
            // Main drops it after the join, since std's Arc synchronises by a fence, which the
            // sanitizer does not support.
            (displaced, tx)
        })
    };
    let publisher = thread::spawn(move || {
        let (mut taken, mut last) = (0, 0);
        while last < FRAMES {
            if let Some(frame) = rx.take() {
                assert!(number(&frame) > last);
                last = number(&frame);
                taken += 1;
            } else {
                assert!(!rx.closed(), "the reader ended");
                parker.park();
            }
        }
        (taken, rx)
    });
    let looker = {
        let (peek, over) = (Arc::clone(&peek), Arc::clone(&over));
        thread::spawn(move || {
            let (mut seen, mut last) = (0_u64, 0);
            while !over.load(Ordering::Relaxed) {
                peek.want();
                let tick = Timespec {
                    tv_sec: 0,
                    tv_nsec: 1_000_000,
                };
                let _ = poll(&mut [PollFd::new(&*waker, PollFlags::IN)], Some(&tick));
                waker.clear();
                if let Some(n) = peek.take() {
                    assert!(n > last);
                    (last, seen) = (n, seen + 1);
                }
            }
            seen
        })
    };
    let reliever = {
        let (pool, over) = (pool.clone(), Arc::clone(&over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                pool.release_idle();
                thread::yield_now();
            }
        })
    };

    let (displaced, tx) = reader.join().unwrap();
    let (taken, rx) = publisher.join().unwrap();
    over.store(true, Ordering::Relaxed);
    let seen = looker.join().unwrap();
    reliever.join().unwrap();
    drop((tx, rx));
    assert_eq!(taken + displaced, FRAMES);
    assert_eq!(pool.idle(), BUFFERS_PER_CAMERA);
    println!("{FRAMES} frames: {taken} taken, {displaced} displaced, {seen} looked at");
}

fn number(frame: &Buffer) -> u64 {
    frame.picture().try_into().map_or(0, u64::from_ne_bytes)
}
