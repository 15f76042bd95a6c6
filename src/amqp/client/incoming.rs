//! The bytes from the broker, on amiquip's I/O thread: checks each frame against `bounds.rs`,
//! delivers answers (`answers.rs`), and passes the rest to amiquip.

use super::answers::{Heard, Listeners};
use super::bounds::{Bounds, Refusal};
use super::frame::{END, FRAME_OVERHEAD, HEARTBEAT};
use std::io::{self, Read};

/// First size of the buffer; a confirm has 21 bytes. It grows for a larger frame, up to the agreed
/// size.
const ROOM: usize = 4096;

/// A whole heartbeat frame: on channel 0, without a payload.
const HEARTBEAT_FRAME: [u8; FRAME_OVERHEAD] = [HEARTBEAT, 0, 0, 0, 0, 0, 0, END];

/// Reads and sorts what the broker sends.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// Bytes that are read and not sorted yet: less than a frame.
    filled: usize,
    for_amiquip: Vec<u8>,
    given: usize,
    answers: u32,
    bounds: Bounds,
    refused: Option<Refusal>,
}

impl Incoming {
    /// How many answers were read since the last call.
    pub(super) fn take_answers(&mut self) -> u32 {
        std::mem::take(&mut self.answers)
    }

    /// Sets the largest frame, as agreed with the broker, in bytes.
    pub fn agree(&mut self, frame_max: usize) {
        self.bounds.agree(frame_max);
    }

    /// Why reading has stopped, if the broker exceeded its bounds.
    pub fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }

    /// Memory that this holds, in bytes.
    pub fn held(&self) -> usize {
        self.bytes.capacity() + self.for_amiquip.capacity()
    }

    /// Reads for amiquip: whole frames from `socket`, within their bounds.
    ///
    /// # Errors
    /// Those of `socket`, and [`io::ErrorKind::InvalidData`] once the broker has stepped over its
    /// bounds.
    pub fn read(
        &mut self,
        socket: &mut (impl Read + ?Sized),
        listeners: &Listeners,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        while self.given == self.for_amiquip.len() {
            self.for_amiquip.clear();
            self.given = 0;
            if let Some(refusal) = &self.refused {
                return Err(io::Error::new(io::ErrorKind::InvalidData, refusal.clone()));
            }
            if self.filled == self.bytes.len() {
                let most = self.bounds.frame_max();
                let size = (self.filled * 2 + ROOM).min(most);
                self.bytes.reserve_exact(size.saturating_sub(self.filled));
                self.bytes.resize(size, 0);
            }
            let (unsorted, space) = self.bytes.split_at_mut(self.filled);
            match socket.read(space) {
                Ok(0) => match self.bounds.at_end(unsorted) {
                    Some(refusal) => self.refused = Some(refusal),
                    None => return Ok(0),
                },
                Ok(count) => {
                    self.filled += count;
                    self.sort(listeners);
                }
                // RabbitMQ closes a socket with a reset, also after its TLS alert.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    match self.bounds.at_end(unsorted) {
                        None | Some(Refusal::Cut) => return Err(error),
                        Some(refusal) => self.refused = Some(refusal),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        // A slice is a reader that never fails.
        let mut left = self.for_amiquip.get(self.given..).unwrap_or_default();
        let count = left.read(buf)?;
        self.given += count;
        Ok(count)
    }

    fn sort(&mut self, listeners: &Listeners) {
        let mut listening = listeners.0.lock();
        let mut rest = self.bytes.get(..self.filled).unwrap_or_default();
        let mut sorted = false;
        loop {
            match self.bounds.first(rest) {
                Ok(Some((frame, behind))) => {
                    match listening.hear(&frame) {
                        Heard::Answer => self.answers += 1,
                        Heard::Message => {}
                        Heard::Nothing => self.for_amiquip.extend_from_slice(frame.bytes),
                    }
                    sorted = true;
                    rest = behind;
                }
                Ok(None) => break,
                Err(refusal) => {
                    self.refused = Some(refusal);
                    break;
                }
            }
        }
        // amiquip ends a connection on which nothing comes, and RabbitMQ sends no heartbeats while
        // it sends answers.
        if sorted && self.for_amiquip.is_empty() {
            self.for_amiquip.extend(HEARTBEAT_FRAME);
        }
        let rest = self.filled - rest.len()..self.filled;
        self.filled = rest.len();
        self.bytes.copy_within(rest, 0);
    }
}

#[cfg(test)]
mod tests;
