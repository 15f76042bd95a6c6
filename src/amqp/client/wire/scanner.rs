//! Finds the frames in what amiquip writes, so that a message of ours goes between two of them.
//! Pure.

use crate::amqp::client::frame::{FRAME_START, METHOD};

/// amiquip first writes `AMQP` and a version instead of a frame.
const PROTOCOL_HEADER: usize = 8;

/// Follows the frames in what amiquip writes, in whatever pieces the socket takes it.
#[derive(Debug)]
pub(super) struct Scanner {
    /// The beginning of a frame, as far as it has come: type, channel, size, method, and what
    /// `TUNE_OK` says.
    start: [u8; FRAME_START + 4 + 6],
    seen: usize,
    /// Bytes of the frame that are still to come after that.
    rest: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            rest: PROTOCOL_HEADER,
            ..Self::at_frame()
        }
    }
}

impl Scanner {
    pub(super) fn at_frame() -> Self {
        Self {
            start: [0; FRAME_START + 4 + 6],
            seen: 0,
            rest: 0,
        }
    }

    pub(super) fn in_frame(&self) -> bool {
        self.seen > 0 || self.rest > 0
    }

    /// Calls `each` with channel, method and the first arguments of every method frame.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(u16, [u8; 4], &[u8])) {
        while let Some((first, others)) = bytes.split_first() {
            if self.rest > 0 {
                let (_, others) = bytes.split_at(self.rest.min(bytes.len()));
                self.rest -= bytes.len() - others.len();
                bytes = others;
                continue;
            }
            if let Some(place) = self.start.get_mut(self.seen) {
                *place = *first;
            }
            (self.seen, bytes) = (self.seen + 1, others);
            let [kind, c0, c1, s0, s1, s2, s3, payload @ ..] = &self.start;
            let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
            let known = size.min(payload.len());
            if self.seen >= FRAME_START && self.seen == FRAME_START + known {
                let payload = payload.get(..known).unwrap_or_default();
                if let (METHOD, Some((method, args))) = (*kind, payload.split_first_chunk()) {
                    each(u16::from_be_bytes([*c0, *c1]), *method, args);
                }
                (self.seen, self.rest) = (0, size - known + 1);
            }
        }
    }
}
