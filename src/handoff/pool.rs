//! A camera's pool of picture buffers.
//!
//! Three suffice: the reader fills one, one waits in the mailbox, the publisher sends one. A buffer
//! belongs to one camera, so pictures of two cameras cannot mix. Once the buffers have the size of
//! a picture, a frame costs no allocation.

use super::sync::Mutex;
use std::sync::Arc;

/// One is filled, one waits, one is published.
pub const BUFFERS_PER_CAMERA: usize = 3;

/// The pool: a stack of idle buffers. A clone is another handle to the same pool.
#[derive(Debug, Clone)]
pub struct Pool {
    /// The buffer that came back last is taken first: it is still in the processor's cache, and the
    /// third stays empty while two suffice. The lock is held only to move a pointer.
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl Pool {
    /// A pool of [`BUFFERS_PER_CAMERA`] empty buffers. They grow to what the camera needs.
    pub fn new() -> Self {
        Self {
            idle: Arc::new(Mutex::new(vec![Vec::new(); BUFFERS_PER_CAMERA])),
        }
    }

    /// Takes an idle buffer. If all are in use, which the handoff prevents, it is a new one that is
    /// freed after use: the pool does not grow.
    pub fn take(&self) -> Buffer {
        Buffer {
            bytes: self.idle.lock().pop().unwrap_or_default(),
            start: 0,
            end: 0,
            home: self.clone(),
        }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut idle = self.idle.lock();
        if idle.len() < BUFFERS_PER_CAMERA {
            idle.push(bytes);
        }
    }

    /// Frees the storage of the idle buffers; those in use keep theirs.
    pub fn release_idle(&self) {
        for bytes in &mut *self.idle.lock() {
            *bytes = Vec::new();
        }
    }

    /// How many buffers are idle.
    pub fn idle(&self) -> usize {
        self.idle.lock().len()
    }
}

/// One buffer of a pool. It returns to the pool when dropped.
///
/// Its storage is always initialised, so that FFmpeg's bytes are read directly into it. `start` and
/// `end` mark the picture inside, since one read also brings the part header in front of it.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    home: Pool,
}

impl Buffer {
    /// The marked picture.
    pub fn picture(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Marks the picture inside the storage.
    pub fn mark(&mut self, start: usize, end: usize) {
        debug_assert!(start <= end && end <= self.bytes.len());
        self.start = start;
        self.end = end;
    }

    /// Inserts `bytes` into the marked picture, in front of its byte `at`.
    pub fn insert(&mut self, at: usize, bytes: &[u8]) {
        let (place, end) = ((self.start + at).min(self.end), self.end);
        let behind = place + bytes.len();
        self.end = end + bytes.len();
        let storage = self.storage(end + bytes.len());
        storage.copy_within(place..end, behind);
        if let Some(gap) = storage.get_mut(place..behind) {
            gap.copy_from_slice(bytes);
        }
    }

    /// The whole storage, grown to at least `len` bytes.
    pub fn storage(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len {
            // `resize` alone may allocate twice as much.
            self.bytes.reserve_exact(len - self.bytes.len());
            self.bytes.resize(len, 0);
        }
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_holds_three_buffers_and_gets_each_back() {
        let pool = Pool::new();
        let held: Vec<_> = (0..BUFFERS_PER_CAMERA).map(|_| pool.take()).collect();
        assert_eq!(pool.idle(), 0);
        let one_too_many = pool.take();
        drop(held);
        drop(one_too_many);
        assert_eq!(pool.idle(), BUFFERS_PER_CAMERA, "the pool does not grow");
    }

    #[test]
    fn a_buffer_keeps_its_storage_when_recycled() {
        let pool = Pool::new();
        let mut first = pool.take();
        first.storage(1000);
        first.mark(0, 1000);
        drop(first);
        let mut again = pool.take();
        assert_eq!(again.storage(0).len(), 1000, "the one that is still warm");
        assert!(
            again.picture().is_empty(),
            "a recycled buffer must not show an old picture"
        );
        assert_eq!(pool.take().storage(0).len(), 0, "not touched so far");
    }

    #[test]
    fn bytes_are_inserted_into_the_picture() {
        let mut buffer = Pool::new().take();
        buffer.storage(9)[..9].copy_from_slice(b"head abcd");
        buffer.mark(5, 9);
        buffer.insert(2, b"12345678");
        assert_eq!(buffer.picture(), b"ab12345678cd");
        buffer.insert(99, b"!");
        assert_eq!(buffer.picture(), b"ab12345678cd!");
    }

    #[test]
    fn idle_buffers_can_be_freed_and_the_pool_stays_whole() {
        let pool = Pool::new();
        let mut busy = pool.take();
        busy.storage(1000);
        for mut buffer in [pool.take(), pool.take()] {
            buffer.storage(1000);
        }
        pool.release_idle();
        assert_eq!(busy.storage(0).len(), 1000);
        drop(busy);
        let held: Vec<_> = (0..BUFFERS_PER_CAMERA).map(|_| pool.take()).collect();
        assert_eq!(pool.idle(), 0);
        let sizes: usize = held.into_iter().map(|mut it| it.storage(0).len()).sum();
        assert_eq!(sizes, 1000, "only the one that was in use");
        assert_eq!(pool.idle(), BUFFERS_PER_CAMERA);
    }
}
