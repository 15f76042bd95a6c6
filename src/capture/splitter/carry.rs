//! Keeps the bytes that a read returned beyond the end of its part.

use std::io::Read;

/// A surplus larger than this was left by an error; its memory is not kept.
pub(super) const CARRY_KEPT: usize = 256 * 1024;

/// What was read of the next part already.
#[derive(Debug, Default)]
pub(super) struct Carry {
    pub(super) bytes: Vec<u8>,
    /// How many of them were taken out again.
    pub(super) taken: usize,
}

impl Carry {
    /// Moves as much as there is, and as has room, into `space`.
    pub(super) fn take(&mut self, space: &mut [u8]) -> usize {
        let mut rest = self.bytes.get(self.taken..).unwrap_or_default();
        // A slice is a reader that never fails.
        let count = rest.read(space).unwrap_or_default();
        self.taken += count;
        if count == 0 {
            self.bytes.clear();
            self.bytes.shrink_to(CARRY_KEPT);
            self.taken = 0;
        }
        count
    }

    /// Takes back the bytes that were read last.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        // A read from the stream empties the carry: as long as it holds what was taken from it,
        // what comes back was taken from it too.
        match self.taken.checked_sub(bytes.len()) {
            Some(before) => self.taken = before,
            None => {
                self.bytes.clear();
                self.bytes.extend_from_slice(bytes);
                self.taken = 0;
            }
        }
    }
}
