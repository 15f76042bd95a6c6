//! The earliest time at which the bytes in a pipe can have been written. Pure.
//!
//! A pipe does not record when its bytes were written. Two facts limit it: a byte was written after
//! each moment at which the pipe was empty; and, since the pipe holds at most its capacity, after
//! the byte one capacity ahead of it was read.

use crate::clock::Stamp;
use std::collections::VecDeque;
use std::time::Instant;

/// When bytes were read from a pipe, and when they were written at the earliest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// They were read then.
    pub read: Stamp,
    /// They were written after this.
    pub written_after: Instant,
}

impl Arrival {
    /// For bytes that are read at the moment at which they are written.
    pub fn now() -> Self {
        let read = Stamp::now();
        Self {
            read,
            written_after: read.monotonic,
        }
    }
}

/// Reads are noted this many times per capacity; the result may be too early by the time of one
/// part.
const NOTES: u64 = 8;

/// When the bytes that are read from a pipe were written at the earliest.
#[derive(Debug)]
pub struct Written {
    capacity: u64,
    read: u64,
    empty_at: Instant,
    /// Number of bytes read so far, and when; oldest first, at most [`NOTES`] + 1.
    readings: VecDeque<(u64, Instant)>,
}

impl Written {
    /// A pipe that is empty now and holds at most `capacity` bytes.
    pub fn new(capacity: usize, now: Instant) -> Self {
        Self {
            capacity: capacity as u64,
            read: 0,
            empty_at: now,
            readings: VecDeque::new(),
        }
    }

    /// The pipe was empty at `at`.
    pub fn empty(&mut self, at: Instant) {
        self.empty_at = self.empty_at.max(at);
    }

    /// `count` bytes were read. They were written after the returned moment.
    pub fn read(&mut self, count: usize, now: Instant) -> Instant {
        let first = self.read;
        self.read += count as u64;
        let mut after = self.empty_at;
        while let Some((read, at)) = self.readings.front().copied()
            && read + self.capacity <= first
        {
            self.empty_at = self.empty_at.max(at);
            after = after.max(at);
            self.readings.pop_front();
        }
        let noted = self.readings.back().map_or(0, |(read, _)| *read);
        if self.read - noted >= self.capacity / NOTES {
            self.readings.push_back((self.read, now));
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PIPE: usize = 1000;

    #[test]
    fn what_is_read_after_the_pipe_was_empty_was_written_since() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut written = Written::new(PIPE, start);
        assert_eq!(written.read(100, at(5)), start);
        written.empty(at(10));
        assert_eq!(written.read(100, at(15)), at(10));
        written.empty(at(7));
        assert_eq!(written.read(100, at(16)), at(10));
    }

    #[test]
    fn a_reader_that_stood_still_finds_a_pipe_full_of_old_bytes_and_no_more() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut written = Written::new(PIPE, start);
        written.empty(at(100));
        // The writer goes on as soon as there is room; how soon is known to an eighth of the pipe.
        for k in 0..12 {
            assert_eq!(written.read(100, at(20_000 + k)), at(100), "{k}");
        }
        for k in 12..20 {
            assert!(written.read(100, at(20_000 + k)) > at(100), "{k}");
        }
        let after = written.read(100, at(20_030));
        assert!(after >= at(20_000) && after < at(20_020));
    }

    #[test]
    fn a_pipe_that_is_always_full_holds_nothing_older_than_one_filling() {
        let start = Instant::now();
        let mut written = Written::new(PIPE, start);
        let mut oldest = Duration::ZERO;
        for k in 0..100_000u64 {
            let now = start + Duration::from_millis(k);
            let after = written.read(100, now);
            if k > 20 {
                oldest = oldest.max(now - after);
            }
            assert!(written.readings.len() <= NOTES as usize + 1);
        }
        // Ten readings fill it; the notes are up to two readings apart.
        assert!(oldest <= Duration::from_millis(13), "{oldest:?}");
    }
}
