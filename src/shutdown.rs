//! The order to stop. A thread can sleep until it comes, or poll a descriptor.

use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A one-way switch. A sleeping thread is woken by its condition variable, a thread in `poll(2)` by
/// its descriptor, which becomes readable and stays so: a thread that polls later sees it too.
#[derive(Debug)]
pub struct Stop {
    requested: Mutex<bool>,
    changed: Condvar,
    event: OwnedFd,
}

impl Stop {
    /// A switch that is not thrown yet.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            requested: Mutex::new(false),
            changed: Condvar::new(),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        }))
    }

    /// Throws the switch. Wakes everyone who waits on it.
    pub fn request(&self) {
        *self.requested.lock() = true;
        self.changed.notify_all();
        // Can only fail when the counter is full, and then it is readable already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Whether it was thrown.
    pub fn requested(&self) -> bool {
        *self.requested.lock()
    }

    /// Sleeps for `duration`, or until the switch is thrown; returns whether it was.
    pub fn sleep(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        let mut requested = self.requested.lock();
        while !*requested {
            if self.changed.wait_until(&mut requested, until).timed_out() {
                break;
            }
        }
        *requested
    }
}

impl AsFd for Stop {
    /// Readable once the switch was thrown. For `poll(2)` only: it is never read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_is_woken_by_the_request() {
        let stop = Stop::new().unwrap();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| stop.sleep(Duration::from_secs(3600)));
            stop.request();
            assert!(sleeper.join().unwrap());
        });
        assert!(stop.requested());
    }

    #[test]
    fn without_a_request_a_sleep_ends_by_itself() {
        let stop = Stop::new().unwrap();
        assert!(!stop.sleep(Duration::from_millis(1)));
    }
}
