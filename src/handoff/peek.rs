//! The peephole: whoever wants to see a camera's next frame gets a copy of it.
//!
//! While nobody looks, a frame costs the reader one relaxed load. When somebody waits, the reader makes
//! one copy, however many wait, leaves it here and wakes the one who shows it; it never waits itself.

use super::sync::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One camera's peephole, between its reader and the one thread that shows copies to others.
#[derive(Debug)]
pub struct Peek<T> {
    wanted: AtomicBool,
    copy: Mutex<Option<T>>,
    waker: Arc<PollWaker>,
}

impl<T> Peek<T> {
    /// One that nobody looks through; a copy that is left in it is told with `waker`.
    pub fn new(waker: Arc<PollWaker>) -> Self {
        Self {
            wanted: AtomicBool::new(false),
            copy: Mutex::new(None),
            waker,
        }
    }

    /// For the reader: leaves a copy if one is wanted.
    pub fn offer(&self, copy: impl FnOnce() -> T) {
        // Relaxed: a wish that is seen a frame later is fulfilled a frame later.
        if self.wanted.load(Ordering::Relaxed) {
            self.leave(copy());
        }
    }

    #[cold]
    fn leave(&self, copy: T) {
        *self.copy.lock() = Some(copy);
        self.wanted.store(false, Ordering::Release);
        self.waker.wake();
    }

    /// For whoever shows it: the next frame is wanted.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// The copy that was left, if any.
    pub fn take(&self) -> Option<T> {
        self.copy.lock().take()
    }
}

/// Wakes a thread that waits in `poll(2)`.
#[derive(Debug)]
pub struct PollWaker(OwnedFd);

impl PollWaker {
    /// One that wakes nobody yet.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// Readable from now on.
    pub fn wake(&self) {
        // Fails only when it is readable already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Not readable again. To be called before looking for the copies, or one could be missed.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for PollWaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn wakes(waker: &PollWaker) -> bool {
        let mut fds = [PollFd::new(waker, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn a_copy_is_made_once_and_only_when_wanted() {
        let waker = Arc::new(PollWaker::new().unwrap());
        let peek = Peek::new(Arc::clone(&waker));
        peek.offer(|| -> u32 { panic!("nobody looks") });
        peek.want();
        peek.want();
        peek.offer(|| 2);
        peek.offer(|| panic!("one was enough"));
        assert!(wakes(&waker));
        waker.clear();
        assert!(!wakes(&waker));
        assert_eq!((peek.take(), peek.take()), (Some(2), None));
        peek.want();
        peek.offer(|| 3);
        peek.want();
        peek.offer(|| 4);
        assert_eq!(peek.take(), Some(4), "the newest");
    }
}
