//! The two pipes over which FFmpeg copies the camera's own stream: an index, and the bytes.
//!
//! A child gets no other descriptor than stdin, stdout and stderr. So FFmpeg opens the pipes by
//! their path below `/proc` of this process, which the same user may do.
//!
//! FFmpeg writes to both for each unit. Only one is waited for at a time, so that a unit costs one
//! wake-up: the bytes, whose line is there already in most cases, and the index only when bytes
//! have come before their line. Lines do not fill their pipe meanwhile: it holds hundreds.

use super::pipe::{Arrival, Written};
use crate::clock::Stamp;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

/// Wanted size of the pipe for the bytes: a whole keyframe of most cameras, so that FFmpeg need not
/// wait for us within one. What waits in it is old when this process was stopped, so it is no
/// larger.
const PIPE_BYTES: usize = 256 << 10;

/// Both pipes of one FFmpeg.
#[derive(Debug)]
pub struct Tap {
    index: OwnedFd,
    bytes: OwnedFd,
    /// FFmpeg's ends: of the index, and of the bytes. They stay open: the end of FFmpeg shows at
    /// its stdout.
    inlets: [OwnedFd; 2],
    written: Written,
    arrival: Arrival,
    /// The last poll found something to read.
    pub(super) ready: bool,
    waits_for: Pipe,
}

/// One of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pipe {
    Index,
    Bytes,
}

impl Tap {
    /// Two empty pipes.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let (index, index_inlet) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (bytes, bytes_inlet) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // Only our ends: FFmpeg opens its own.
        rustix::io::ioctl_fionbio(&index, true)?;
        rustix::io::ioctl_fionbio(&bytes, true)?;
        // Refused if the user's limit for pipes is reached; the pipe then stays at 64 KiB.
        let _ = rustix::pipe::fcntl_setpipe_size(&bytes, PIPE_BYTES);
        let capacity = rustix::pipe::fcntl_getpipe_size(&bytes).unwrap_or(PIPE_BYTES);
        let arrival = Arrival::now();
        Ok(Self {
            index,
            bytes,
            inlets: [index_inlet, bytes_inlet],
            written: Written::new(capacity, arrival.read.monotonic),
            arrival,
            ready: false,
            // Its header tells of a source that cannot be passed through and gives no bytes.
            waits_for: Pipe::Index,
        })
    }

    /// Where FFmpeg writes the index, and the bytes.
    pub fn paths(&self) -> [String; 2] {
        let process = std::process::id();
        let path = |inlet: &OwnedFd| format!("/proc/{process}/fd/{}", inlet.as_raw_fd());
        [path(&self.inlets[0]), path(&self.inlets[1])]
    }

    /// What to poll for.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        let pipe = match self.waits_for {
            Pipe::Index => &self.index,
            Pipe::Bytes => &self.bytes,
        };
        PollFd::new(pipe, PollFlags::IN)
    }

    /// The next poll is for this pipe.
    pub(super) fn wait_for(&mut self, pipe: Pipe) {
        self.waits_for = pipe;
    }

    /// What a poll that began at `before` found. If it `slept`, the pipe was empty then.
    pub(super) fn polled(&mut self, ready: bool, slept: bool, before: Instant) {
        self.ready = ready;
        if self.waits_for == Pipe::Bytes && (!ready || slept) {
            self.written.empty(before);
        }
    }

    /// Reads the index. Returns 0 if nothing is there.
    ///
    /// # Errors
    /// Those of the system.
    pub fn read_index(&mut self, into: &mut [u8]) -> io::Result<usize> {
        none_for_now(rustix::io::read(&self.index, into))
    }

    /// Reads the bytes. Returns 0 if nothing is there.
    ///
    /// # Errors
    /// Those of the system.
    pub fn read_bytes(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let before = Instant::now();
        let count = none_for_now(rustix::io::read(&self.bytes, into))?;
        if count == 0 {
            self.written.empty(before);
        } else {
            let read = Stamp::now();
            self.arrival = Arrival {
                read,
                written_after: self.written.read(count, read.monotonic),
            };
        }
        Ok(count)
    }

    /// Arrival of the bytes that were read last.
    pub fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        rustix::io::ioctl_fionread(&self.bytes).unwrap_or(0) == 0
    }
}

fn none_for_now(read: Result<usize, Errno>) -> io::Result<usize> {
    match read {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        read => Ok(read?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;

    #[test]
    fn what_another_writes_to_the_paths_arrives_and_when() {
        let mut tap = Tap::new().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(tap.read_index(&mut buffer).unwrap(), 0);
        let [index, bytes] = tap.paths();
        let open = |path| OpenOptions::new().write(true).open(path).unwrap();
        open(index).write_all(b"line").unwrap();
        assert_eq!(tap.read_index(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"line");
        assert!(tap.is_empty());
        let empty = Instant::now();
        assert_eq!(tap.read_bytes(&mut buffer).unwrap(), 0);
        open(bytes).write_all(b"unit").unwrap();
        assert!(!tap.is_empty());
        assert_eq!(tap.read_bytes(&mut buffer).unwrap(), 4);
        assert!(tap.arrival().written_after >= empty);
        assert!(tap.arrival().read.monotonic >= tap.arrival().written_after);
    }
}
