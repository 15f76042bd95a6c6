//! The bytes from the broker on their way to amiquip, on its I/O thread: whole frames within `bounds.rs`,
//! and none that somebody else has heard (`answers.rs`).

use super::answers::{Heard, Listeners};
use super::bounds::{Bounds, Refusal};
use super::frame::{END, FRAME_OVERHEAD, HEARTBEAT};
use std::io::{self, Read};

/// Answers are 21 bytes each. Grows when a frame is larger, up to the largest that was agreed.
const ROOM: usize = 4096;

/// A whole heartbeat frame: on channel 0, without a payload.
const HEARTBEAT_FRAME: [u8; FRAME_OVERHEAD] = [HEARTBEAT, 0, 0, 0, 0, 0, 0, END];

/// What comes from the broker, sorted: answers to their listeners, the rest to amiquip.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// So many of them are read and not sorted yet: less than a frame.
    filled: usize,
    for_amiquip: Vec<u8>,
    given: usize,
    answers: u32,
    bounds: Bounds,
    refused: Option<Refusal>,
}

impl Incoming {
    /// How many answers were read since this was asked last.
    pub(super) fn take_answers(&mut self) -> u32 {
        std::mem::take(&mut self.answers)
    }

    /// From now on no frame is larger than so many bytes, as agreed with the broker.
    pub fn agree(&mut self, frame_max: usize) {
        self.bounds.agree(frame_max);
    }

    /// Why nothing is read any more, if the broker stepped over its bounds.
    pub fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }

    /// Bytes of memory that this holds.
    pub fn held(&self) -> usize {
        self.bytes.capacity() + self.for_amiquip.capacity()
    }

    /// For amiquip, as if it read `socket` itself: whole frames within their bounds.
    ///
    /// # Errors
    /// Those of `socket`, and [`io::ErrorKind::InvalidData`] once the broker has stepped over its bounds.
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
                // RabbitMQ closes a socket by a reset, also behind its TLS alert.
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
        // It ends a connection on which nothing comes, and RabbitMQ sends no heartbeat beside answers.
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
