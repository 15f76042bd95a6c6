//! A copy of a camera's next frame, on request, for the HTTP thread.
//!
//! Without a request, a frame costs the reader one relaxed load. With one, the reader leaves one
//! copy here and signals it, however many clients wait for it. The reader never waits.

use super::sync::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The copy of one camera's frame, between its reader and the HTTP thread.
#[derive(Debug)]
pub struct Peek<T> {
    wanted: AtomicBool,
    copy: Mutex<Option<T>>,
    waker: Arc<PollWaker>,
}

impl<T> Peek<T> {
    /// Without a request. A copy that is left here is signalled with `waker`.
    pub fn new(waker: Arc<PollWaker>) -> Self {
        Self {
            wanted: AtomicBool::new(false),
            copy: Mutex::new(None),
            waker,
        }
    }

    /// For the reader: leaves a copy if one is requested.
    pub fn offer(&self, copy: impl FnOnce() -> T) {
        // Relaxed: a request that is seen one frame late gets the next frame.
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

    /// For the HTTP thread: requests a copy of the next frame.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Takes the copy, if there is one.
    pub fn take(&self) -> Option<T> {
        self.copy.lock().take()
    }
}

/// Wakes a thread that waits in `poll(2)`: an eventfd.
#[derive(Debug)]
pub struct PollWaker(OwnedFd);

impl PollWaker {
    /// Not readable at first.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// Makes it readable.
    pub fn wake(&self) {
        // Fails only if it is readable already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it not readable. To be called before the look at what it signals, or a signal could be
    /// lost.
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
